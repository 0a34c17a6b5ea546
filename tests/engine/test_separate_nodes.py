"""Coefficients with nodes of their own, and searches without effects that no row tells anything of.

The oracle is V, written out: lines in environments of which each has only some, related by a dense G.
"""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, prepare
from fastlmm_core.engine.equations import node_graph
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.engine.search.fitting import fit_structures
from fastlmm_core.structures.relationships import BlockCovariance

N_LINES, N_ENVIRONMENTS = 24, 4
RELATED = ["diag", "homdiag", "fa", "rr"]
TERMS = {
    "diag": "diag(0 + env | vm(gen, G))",
    "homdiag": "homdiag(0 + env | vm(gen, G))",
    "fa": "fa(0 + env | vm(gen, G), k=1)",
    "rr": "rr(0 + env | vm(gen, G), d=1)",
    "us": "us(0 + env | vm(gen, G))",
    "one": "(1 | vm(gen, G))",
    "by environment": "(1 | env:vm(gen, G))",
    "environments last": "(1 | vm(gen, G):env)",
}


@pytest.fixture(scope="module")
def relationship():
    root = np.random.default_rng(5).normal(size=(N_LINES, 40))
    names = [f"L{k:02d}" for k in range(N_LINES)]
    return pd.DataFrame(root @ root.T / 40.0, index=names, columns=names)


@pytest.fixture(scope="module")
def trials(relationship):
    """Two plots of 15 lines in each environment; three lines in none."""
    rng = np.random.default_rng(8)
    half = np.linalg.cholesky(relationship.to_numpy())
    common, own = half @ rng.normal(size=N_LINES), half @ rng.normal(size=(N_LINES, N_ENVIRONMENTS))
    value = np.outer(common, [1.0, 0.7, 1.3, 0.9]) + 0.7 * own
    rows = []
    for e in range(N_ENVIRONMENTS):
        for g in rng.choice(N_LINES - 3, 15, replace=False):
            rows += [(f"e{e}", f"L{g:02d}", 3.0 + 0.5 * e + value[g, e] + rng.normal()) for _ in range(2)]
    return pd.DataFrame(rows, columns=["env", "gen", "y"]).assign(
        blk=lambda t: [f"b{k % 6}" for k in t.index]
    )


def oracle(fit, trials, G):
    """Deviance, predictions and their error variances (L, m) from V at the estimates."""
    solved = fit.solved
    T, block = solved.covariance(0), float(solved.covariance(1)[0, 0])
    if fit.design.random[0].relation.size > N_LINES:  # one variance, of the lines in each environment
        T = T[0, 0] * np.eye(N_ENVIRONMENTS)
    gen = trials["gen"].str[1:].astype(int).to_numpy()
    env = trials["env"].str[1:].astype(int).to_numpy()
    columns = env if T.shape[0] > 1 else np.zeros(len(env), int)
    X = np.eye(env.max() + 1)[env]
    blk = pd.get_dummies(trials["blk"]).to_numpy(float)
    V = T[np.ix_(columns, columns)] * G[np.ix_(gen, gen)] + block * blk @ blk.T
    V += np.diag(solved.residual_sd**2)
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    P = inverse - inverse @ X @ np.linalg.solve(information, X.T @ inverse)
    y = trials["y"].to_numpy()
    n, p = X.shape
    deviance = np.linalg.slogdet(V)[1] + y @ P @ y + (n - p * fit.reml) * np.log(2.0 * np.pi)
    if fit.reml:  # of the columns of the fit, which has an intercept
        used = np.column_stack([np.ones(n), X[:, 1:]])
        deviance += np.linalg.slogdet(used.T @ inverse @ used)[1]
    effects, errors = np.empty((N_LINES, T.shape[0])), np.empty((N_LINES, T.shape[0]))
    for a in range(T.shape[0]):
        C = T[a, columns] * G[:, gen]
        effects[:, a] = C @ P @ y
        errors[:, a] = T[a, a] * np.diag(G) - np.einsum("ij,jk,ik->i", C, P, C)
    return deviance, effects, errors


def fitted(kind, trials, relationship, **options):
    formula = f"y ~ env + {TERMS[kind]} + (1 | blk)"
    return lmm(formula, trials, relationships={"G": relationship}, residual="units | env", **options)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("kind", list(TERMS))
def test_figures_are_those_of_V(kind, reml, trials, relationship):
    fit = fitted(kind, trials, relationship, reml=reml)
    G = relationship.to_numpy()
    deviance, effects, errors = oracle(fit, trials, G)
    assert fit.criterion == pytest.approx(deviance, abs=1e-7)
    if "environment" in kind:
        table = fit.blups().query("group != 'blk'")
        place = table["level"].str.extract(r"(?P<gen>L\d+)").gen.str[1:].astype(int).to_numpy()
        env = table["level"].str.extract(r"(?P<env>e\d)").env.str[1:].astype(int).to_numpy()
        np.testing.assert_allclose(table["estimate"], effects[place, env], atol=1e-7)
        np.testing.assert_allclose(table["se"] ** 2, errors[place, env], atol=1e-7)
        return
    np.testing.assert_allclose(fit.solved.random_effects(0), effects, atol=1e-7)
    np.testing.assert_allclose(fit.solved.prediction_error(0), errors, atol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("kind", list(TERMS))
def test_the_search_leaves_out_what_no_row_tells_of(kind, trials, relationship):
    """The same optimum as with all levels in one node each, from equations that are smaller."""
    formula = f"y ~ env + {TERMS[kind]} + (1 | blk)"
    whole = prepare(formula, trials, relationships={"G": relationship}, residual="units | env").equations
    assert whole.observed is not None
    assert whole.observed.spherical.size < whole.spherical.size
    assert whole.observed.n_theta == whole.n_theta
    fit = fitted(kind, trials, relationship)
    everything = prepare(formula, trials, relationships={"G": relationship}, residual="units | env")
    everything.equations.__dict__["observed"] = None
    other = everything.fit()
    assert fit.criterion == pytest.approx(other.criterion, abs=1e-7)
    np.testing.assert_allclose(fit.solved.covariance(0), other.solved.covariance(0), atol=2e-4)
    np.testing.assert_allclose(fit.blups()["se"], other.blups()["se"], atol=2e-5)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("kind", RELATED)
def test_nodes_of_each_coefficient_make_less_fill(kind, trials, relationship, monkeypatch):
    formula = f"y ~ env + {TERMS[kind]} + (1 | blk)"
    apart = prepare(formula, trials, relationships={"G": relationship})
    monkeypatch.setattr(EngineTerm, "separate", False)
    together = prepare(formula, trials, relationships={"G": relationship})
    assert apart.factor.nnz < 0.7 * together.factor.nnz
    for prepared in (apart, together):
        prepared.equations.__dict__["observed"] = None
    monkeypatch.undo()
    one, other = apart.fit(), together.fit()
    assert one.criterion == pytest.approx(other.criterion, abs=1e-7)
    own, second = one.fixed_effects("satterthwaite"), other.fixed_effects("satterthwaite")
    np.testing.assert_allclose(own["se"], second["se"], rtol=1e-4)


def test_coefficients_that_meet_in_a_row_stay_together(trials, relationship):
    with_slope = trials.assign(x=np.linspace(-1.0, 1.0, len(trials)))
    prepared = prepare("y ~ env + diag(1 + x | vm(gen, G))", with_slope, relationships={"G": relationship})
    assert not prepared.equations.terms[0].separate


def test_unrelated_levels_have_nodes_of_their_own_too(trials):
    """A line meets the blocks of an environment with the effect of that environment alone."""
    prepared = prepare("y ~ env + diag(0 + env | gen) + (1 | blk)", trials, residual="units | env")
    assert prepared.equations.terms[0].separate
    e = prepared.equations
    assert fit_structures(e, prepared.factor, trials["y"].to_numpy() - trials["y"].mean()).certified


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_more_parameters_than_elements_of_T(trials, relationship):
    """Two environments tell too little of a factor and specific variances for these to be parts of a sum."""
    two = trials[trials["env"] < "e2"].reset_index(drop=True)
    whole = prepare(f"y ~ env + {TERMS['fa']}", two, relationships={"G": relationship}).equations
    assert whole.observed is not None and whole.observed.observed is None
    fit = fitted("fa", two, relationship)
    deviance, effects, errors = oracle(fit, two, relationship.to_numpy())
    assert fit.criterion == pytest.approx(deviance, abs=1e-7)
    np.testing.assert_allclose(fit.solved.random_effects(0), effects, atol=1e-7)
    np.testing.assert_allclose(fit.solved.prediction_error(0), errors, atol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("kind", RELATED)
def test_a_relationship_of_low_rank(kind, trials, relationship):
    """Errors of all levels, of which there are more than columns of the root."""
    root = relationship.to_numpy()[:, :14]
    singular = pd.DataFrame(root @ root.T, index=relationship.index, columns=relationship.index)
    fit = fitted(kind, trials, singular)
    assert fit.solved.equations.terms[0].n_levels == 14
    deviance, effects, errors = oracle(fit, trials, singular.to_numpy())
    assert fit.criterion == pytest.approx(deviance, abs=1e-7)
    np.testing.assert_allclose(fit.solved.random_effects(0), effects, atol=1e-7)
    np.testing.assert_allclose(fit.solved.prediction_error(0), errors, atol=1e-6)


def series(n_lines, n_environments, rows, columns, seed):
    """Lines in fields that have a trend along rows and columns, one factor with specific effects."""
    r = np.random.default_rng(seed)
    g, parts = r.normal(size=n_lines), []
    for k in range(n_environments):
        row, column = np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)
        line = r.permutation(np.resize(np.arange(n_lines), row.size))
        trend = np.cumsum(r.normal(0, 0.3, rows))[row] + np.cumsum(r.normal(0, 0.3, columns))[column]
        own = r.uniform(0.5, 1.5) * g + r.normal(0, 0.6, n_lines)
        parts.append(
            pd.DataFrame({"env": f"E{k}", "row": row, "col": column, "line": [f"L{j}" for j in line],
                          "y": 5 + own[line] + trend + r.normal(0, 0.5, row.size)})
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def joint_errors(data, seed):
    """Independent covariances of the rows of each environment, full within it."""
    r = np.random.default_rng(seed)
    sizes = data.groupby("env", sort=False).size()
    roots = [r.normal(size=(n, n)) / np.sqrt(n) for n in sizes]
    return BlockCovariance([0.2 * L @ L.T + 0.2 * np.eye(len(L)) for L in roots], list(data.index))


JOINED = {
    "means": ("y ~ env + fa(0 + env | line, k=1)", "vm(units, V)"),
    "fields": ("y ~ env + fa(0 + env | line, k=1)", "ar1(row):ar1(col) | env"),
    "splines": ("y ~ env*row*col + fa(0 + env | line, k=1) + at(env):ps(row, col, nseg=4)", "units | env"),
}


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("kind", JOINED)
def test_specific_effects_stand_apart_where_levels_meet(kind, reml, monkeypatch):
    """The same fit from fewer entries: whole levels have full blocks with all that they meet."""
    formula, residual = JOINED[kind]
    data = series(40, 4, 6, 10, seed=8)
    options = {"residual": residual, "reml": reml}
    if kind == "means":
        options["relationships"] = {"V": joint_errors(data, 5)}
    whole = prepare(formula, data, **options)
    assert not whole.equations.terms[0].separate  # too small to look for another order
    monkeypatch.setattr(node_graph, "LARGE", 0.0)
    apart = prepare(formula, data, **options)
    assert apart.equations.terms[0].separate
    assert apart.equations.order.operations < 0.3 * whole.equations.order.operations
    assert apart.equations.indices.size < 0.6 * whole.equations.indices.size
    one, other = apart.fit(), whole.fit()
    assert one.criterion == pytest.approx(other.criterion, abs=1e-7)
    np.testing.assert_allclose(one.solved.covariance(0), other.solved.covariance(0), atol=2e-4)
    for figure in ("estimate", "se"):
        np.testing.assert_allclose(one.blups("line")[figure], other.blups("line")[figure], atol=2e-4)
    ddf = "kenward-roger" if reml else "satterthwaite"
    own, second = one.emmeans("env", ddf=ddf).to_frame(), other.emmeans("env", ddf=ddf).to_frame()
    np.testing.assert_allclose(own["se"], second["se"], rtol=1e-4)
    np.testing.assert_allclose(own["df"], second["df"], rtol=2e-3)


@pytest.mark.parametrize("blocks", [2, 20])
def test_levels_that_meet_in_blocks_alone_stay_whole(blocks, monkeypatch):
    """Factors of all lines would be one dense block at the end."""
    data = series(150, 4, 15, 20, seed=3).assign(
        block=lambda d: d["env"] + (d["row"] * blocks // 15).astype(str)
    )
    monkeypatch.setattr(node_graph, "LARGE", 0.0)
    prepared = prepare("y ~ env + fa(0 + env | line, k=2) + (1 | block)", data)
    assert not prepared.equations.terms[0].separate
