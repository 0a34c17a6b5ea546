"""Genetic groups of unknown parents against dense equations: A* of Quaas (1988) and u = a + Q g."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg as la
from tabular import random_parents, tabular_A

from fastlmm_core import Covariance, Markers, Pedigree, SparseInverse, fit_batch, lmm, load, single_step
from fastlmm_core.errors import (
    ConfoundedWarning,
    DataError,
    DesignError,
    FormulaError,
    OptionError,
    PedigreeWarning,
    RankDeficientWarning,
)
from fastlmm_core.multi_environment.fitted_means import from_fit
from fastlmm_core.results.genotypes.fixed_levels import fixed_levels

GROUPS = ["G1", "G2", "G3"]
RATIO = 0.7
N, FOUNDERS = 60, 9


class Herd:
    """Parents with every unknown one in a group; A, Q, D and A* by dense recursion over individuals."""

    def __init__(self, seed, selfing=0.0, selfings=None):
        rng = np.random.default_rng(seed)
        self.sire, self.dam = random_parents(rng, N, FOUNDERS, selfing)
        self.selfings = selfings
        # -1, -2, -3: group 0, 1, 2
        for parents in (self.sire, self.dam):
            parents[parents < 0] = -1 - rng.integers(0, 3, int(np.sum(parents < 0)))
        unknown_as = [np.where(own < 0, -1, own) for own in (self.sire, self.dam)]
        self.A = tabular_A(*unknown_as, selfings)
        self.Q = np.zeros((N, 3))
        for i in range(N):
            for parent in (self.sire[i], self.dam[i]):
                self.Q[i] += 0.5 * (np.eye(3)[-1 - parent] if parent < 0 else self.Q[parent])
        self.names = [f"n{i}" for i in range(N)]
        self.order = rng.permutation(N)
        self.levels = [*GROUPS, *(self.names[i] for i in self.order)]

    def label(self, i):
        return GROUPS[-1 - i] if i < 0 else self.names[i]

    @property
    def table(self):
        own = {
            "id": [self.names[i] for i in self.order], "sire": [self.label(self.sire[i]) for i in self.order],
            "dam": [self.label(self.dam[i]) for i in self.order],
        }  # fmt: skip
        return own if self.selfings is None else {**own, "f": self.selfings[self.order]}

    def pedigree(self, **options):
        selfing = None if self.selfings is None else "f"
        given = {"groups": GROUPS, "group_variance": RATIO, "check_sex": False, "selfing": selfing, **options}
        return Pedigree(self.table, **given)

    def quaas(self):
        """A* (3 + N, 3 + N), groups first, animals as numbered: every animal adds its outer product."""
        out = np.zeros((3 + N, 3 + N))
        for i in range(N):
            variance = self.A[i, i]
            row = np.zeros(3 + N)
            row[3 + i] = 1.0
            known = [own for own in (self.sire[i], self.dam[i]) if own >= 0]
            for a in known:
                variance -= sum(0.25 * self.A[a, b] for b in known)
            for parent in (self.sire[i], self.dam[i]):
                row[3 + parent if parent >= 0 else -1 - parent] -= 0.5
            out += np.outer(row, row) / variance
        return out

    def total(self):
        """Covariance of groups and animals, in the order of the levels."""
        Q = np.vstack([np.eye(3), self.Q[self.order]])
        own = np.zeros((3 + N, 3 + N))
        own[3:, 3:] = self.A[np.ix_(self.order, self.order)]
        return own + RATIO * Q @ Q.T


@pytest.fixture(params=["crosses", "selfed", "lines"])
def herd(request):
    if request.param == "lines":
        return Herd(3, selfings=np.random.default_rng(1).integers(0, 4, N).astype(float))
    return Herd(1, selfing=0.2 if request.param == "selfed" else 0.0)


def test_relationships_with_groups_are_those_of_quaas(herd):
    pedigree, total = herd.pedigree(), herd.total()
    assert pedigree.levels == tuple(herd.levels) and pedigree.groups == tuple(GROUPS)
    np.testing.assert_allclose(pedigree.group_contributions(), herd.Q[herd.order], atol=1e-15)
    np.testing.assert_allclose(herd.Q.sum(axis=1), 1.0)
    at = np.concatenate([np.arange(3), 3 + herd.order])
    expected = herd.quaas()[np.ix_(at, at)]
    assert np.linalg.matrix_rank(expected) == N
    expected[:3, :3] += np.eye(3) / RATIO
    np.testing.assert_allclose(pedigree.precision().toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(pedigree.relationship(), total, atol=1e-13)
    np.testing.assert_allclose(pedigree.diagonal(), np.diag(total), atol=1e-13)
    np.testing.assert_allclose(pedigree.log_determinant(), np.linalg.slogdet(total)[1], rtol=1e-12)
    V = np.random.default_rng(0).normal(size=(3 + N, 2))
    np.testing.assert_allclose(pedigree.multiply(V), total @ V, atol=1e-12)
    # inbreeding is that of the individuals, whatever groups their ancestors are from
    A = herd.A[np.ix_(herd.order, herd.order)]
    np.testing.assert_allclose(pedigree.inbreeding(), np.diag(A) - 1.0, atol=1e-14)
    assert list(pedigree.inbreeding().index) == herd.levels[3:]
    np.testing.assert_allclose(pedigree.without_groups().relationship(), A, atol=1e-13)
    assert np.diag(A).max() > 1.1


def test_groups_of_their_own_rows_are_no_other_pedigree():
    herd = Herd(1)
    rows = pd.DataFrame(herd.table)
    heads = pd.DataFrame({"id": GROUPS[::-1], "sire": "", "dam": ""})
    with_rows = pd.concat([rows.iloc[:20], heads, rows.iloc[20:]])
    options = {"groups": GROUPS, "group_variance": RATIO, "check_sex": False}
    own = Pedigree(with_rows, **options)
    assert own.fingerprint() == Pedigree(rows, **options).fingerprint()
    assert own.fingerprint() != Pedigree(rows, **options | {"group_variance": 1.0}).fingerprint()
    codes = rows.replace({"G1": "1", "G2": "2", "G3": "3"})
    numbered = Pedigree(codes, **options | {"groups": [1, 2, 3]})
    np.testing.assert_array_equal(numbered.precision().toarray(), own.precision().toarray())


def records(herd, seed=5):
    """One or two records of the animals behind the founders, some of which have none."""
    rng = np.random.default_rng(seed)
    g = np.array([-4.0, 0.5, 6.0])
    u = np.linalg.cholesky(herd.A) @ rng.normal(size=N) + herd.Q @ g
    animals = np.concatenate([np.arange(12, 55), np.arange(20, 50)])
    sex = rng.integers(0, 2, animals.size)
    y = 10 + 0.8 * sex + u[animals] + rng.normal(size=animals.size)
    names = [herd.names[i] for i in animals]
    return pd.DataFrame({"animal": names, "sex": np.array(["F", "M"])[sex], "y": y}), animals


def dense_random(herd, frame, s2a, s2e):
    """Criterion, beta, u of groups and animals and PEV by the explicit form."""
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    W = np.zeros((len(frame), 3 + N))
    place = {name: i for i, name in enumerate(herd.levels)}
    W[np.arange(len(frame)), [place[name] for name in frame["animal"]]] = 1.0
    G = s2a * herd.total()
    V = W @ G @ W.T + s2e * np.eye(len(frame))
    inverse = np.linalg.inv(V)
    cov = np.linalg.inv(X.T @ inverse @ X)
    beta = cov @ X.T @ inverse @ frame["y"]
    r = frame["y"] - X @ beta
    P = inverse - inverse @ X @ cov @ X.T @ inverse
    u = G @ W.T @ inverse @ r
    pev = np.diag(G - G @ W.T @ P @ W @ G)
    size = len(frame) - 2
    logs = np.linalg.slogdet(V)[1] - np.linalg.slogdet(cov)[1]
    criterion = size * np.log(2 * np.pi) + logs + r @ inverse @ r
    return criterion, beta, u, pev, X, W


def test_a_model_with_random_groups_agrees_with_both_dense_forms():
    herd = Herd(2)
    frame, _ = records(herd)
    fit = lmm("y ~ sex + (1 | vm(animal, A))", frame, relationships={"A": herd.pedigree()})
    s2a, s2e = fit.variance_components["estimate"]
    assert s2a > 0.1 and s2e > 0.1
    criterion, beta, u, pev, X, W = dense_random(herd, frame, s2a, s2e)
    assert fit.criterion == pytest.approx(criterion, rel=1e-9)
    table = fit.blups()
    assert table["level"].tolist() == herd.levels
    np.testing.assert_allclose(fit.fixed_effects()["estimate"], beta, rtol=1e-7)
    np.testing.assert_allclose(table["estimate"], u, atol=1e-7)
    np.testing.assert_allclose(table["pev"], pev, rtol=1e-7)
    np.testing.assert_allclose(table["reliability"], 1.0 - pev / (s2a * np.diag(herd.total())), atol=1e-7)
    # an individual has its groups in it
    a = u[3:] - herd.Q[herd.order] @ u[:3]
    assert np.abs(a - table["estimate"].to_numpy()[3:]).max() > 0.1
    # Quaas: A* in the mixed model equations, with the ratio of the groups on their diagonal
    at = np.concatenate([np.arange(3), 3 + herd.order])
    star = herd.quaas()[np.ix_(at, at)]
    star[:3, :3] += np.eye(3) / RATIO
    M = np.hstack([X, W])
    C = M.T @ M / s2e
    C[2:, 2:] += star / s2a
    solved, inverse = np.linalg.solve(C, M.T @ frame["y"] / s2e), np.linalg.inv(C)
    np.testing.assert_allclose(table["estimate"], solved[2:], atol=1e-7)
    np.testing.assert_allclose(table["pev"], np.diag(inverse)[2:], rtol=1e-7)
    # the estimates are where the dense criterion is least
    for factor in (0.97, 1.03):
        assert dense_random(herd, frame, s2a * factor, s2e)[0] > criterion
        assert dense_random(herd, frame, s2a, s2e * factor)[0] > criterion


def dense_fixed(herd, frame, s2a, s2e):
    """Quaas' equations with the last group, which is confounded with the mean, at zero.

    The solution and the inverse for fixed effects, groups and animals, and the REML criterion.
    """
    W = group_incidence(herd, frame["animal"])
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    M = np.hstack([X, W])
    C = M.T @ M / s2e
    C[2:, 2:] += star_of(herd) / s2a
    kept = np.delete(np.arange(len(C)), 4)
    inverse = np.linalg.inv(C[np.ix_(kept, kept)])
    rhs = (M.T @ frame["y"] / s2e)[kept]
    solved = inverse @ rhs
    quadratic = frame["y"] @ frame["y"] / s2e - rhs @ solved
    logs = np.linalg.slogdet(C[np.ix_(kept, kept)])[1] + np.linalg.slogdet(s2a * herd.A)[1]
    size = len(frame) - 4
    return solved, inverse, size * np.log(2 * np.pi) + logs + len(frame) * np.log(s2e) + quadratic


def group_incidence(herd, labels):
    """Columns of groups and animals, in the order of the levels, for one column of labels."""
    place = {name: i for i, name in enumerate(herd.levels)}
    W = np.zeros((len(labels), 3 + N))
    W[np.arange(len(labels)), [place[name] for name in labels]] = 1.0
    return W


def star_of(herd):
    at = np.concatenate([np.arange(3), 3 + herd.order])
    return herd.quaas()[np.ix_(at, at)]


def test_fixed_groups_agree_with_the_equations_of_quaas():
    """A* itself: criterion, fixed effects, groups, u = a + Q g with its error, predictions and values."""
    herd = Herd(2)
    frame, _ = records(herd)
    pedigree = herd.pedigree(group_variance=None)
    assert pedigree.levels == tuple(herd.levels[3:]) and pedigree.groups == ()
    np.testing.assert_allclose(pedigree.group_shares, herd.Q[herd.order], atol=1e-15)
    with pytest.warns(RankDeficientWarning, match=r"'animal\.G3'"):
        fit = lmm("y ~ sex + (1 | vm(animal, A))", frame, relationships={"A": pedigree})
    s2a, s2e = fit.variance_components["estimate"]
    assert s2a > 0.1
    solved, inverse, criterion = dense_fixed(herd, frame, s2a, s2e)
    assert fit.criterion == pytest.approx(criterion, rel=1e-9)
    effects = fit.fixed_effects(ddf="satterthwaite")
    np.testing.assert_allclose(effects["estimate"], [*solved[:4], np.nan], rtol=1e-6)
    np.testing.assert_allclose(effects["se"], [*np.sqrt(np.diag(inverse)[:4]), np.nan], rtol=1e-6)
    for factor in (0.97, 1.03):
        assert dense_fixed(herd, frame, s2a * factor, s2e)[2] > criterion
        assert dense_fixed(herd, frame, s2a, s2e * factor)[2] > criterion
    table = fit.blups()
    assert table["level"].tolist() == herd.levels[3:]
    np.testing.assert_allclose(table["estimate"], solved[4:], atol=1e-6)
    np.testing.assert_allclose(table["pev"], np.diag(inverse)[4:], rtol=1e-6)
    ranef = fit.ranef()["vm(animal, A)"]["(Intercept)"]
    np.testing.assert_allclose(ranef, solved[4:], atol=1e-6)
    predicted = fit.predict(pd.DataFrame({"animal": herd.levels[3:], "sex": "F"}), se=True)
    K = np.zeros((N, 4 + N))
    K[:, 0], K[:, 4:] = 1.0, np.eye(N)
    np.testing.assert_allclose(predicted["prediction"], K @ solved, rtol=1e-7)
    np.testing.assert_allclose(predicted["se"], np.sqrt(np.diag(K @ inverse @ K.T)), rtol=1e-6)
    K[:, 1] = 0.5  # values are means over the sexes
    values = fit.genotype_values("vm(animal, A)").to_frame()
    assert values["animal"].tolist() == herd.levels[3:]
    np.testing.assert_allclose(values["estimate"], K @ solved, rtol=1e-7)
    np.testing.assert_allclose(values["se"], np.sqrt(np.diag(K @ inverse @ K.T)), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_fixed_groups_are_the_columns_that_anybody_can_write():
    """The explicit form: Q beside the plain pedigree, by REML and ML, in means and of fits in files."""
    herd = Herd(2)
    frame, _ = records(herd)
    pedigree = herd.pedigree(group_variance=None)
    shares = pedigree.group_contributions().add_prefix("animal.")
    written = frame.join(shares, on="animal")
    formula = "y ~ 0 + sex + (1 | vm(animal, A))"
    for reml in (True, False):
        fit = lmm(formula, frame, relationships={"A": pedigree}, reml=reml)
        explicit = lmm(
            f"{formula} + animal.G1 + animal.G2 + animal.G3", written, reml=reml,
            relationships={"A": pedigree.without_groups()},
        )  # fmt: skip
        assert fit.criterion == pytest.approx(explicit.criterion, rel=1e-12)
        pd.testing.assert_frame_equal(fit.fixed_effects(), explicit.fixed_effects())
        pd.testing.assert_frame_equal(fit.emmeans("sex").to_frame(), explicit.emmeans("sex").to_frame())
        a, u = (own.blups()["estimate"].to_numpy() for own in (explicit, fit))
        g = np.append(fit.beta[2:4], 0.0)
        np.testing.assert_allclose(u, a + shares.to_numpy() @ g, atol=1e-10)
        for definition in ("oakey", "delta_blup"):  # of a, within groups
            h2 = [own.heritability("vm(animal, A)", definition)[definition] for own in (fit, explicit)]
            assert h2[0] == pytest.approx(h2[1], rel=1e-9) and 0.0 < h2[0] < 1.0


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_fixed_groups_in_batches_files_and_single_steps(tmp_path):
    herd = Herd(2)
    frame, _ = records(herd)
    pedigree = herd.pedigree(group_variance=None)
    formula = "y ~ sex + (1 | vm(animal, A))"
    rng = np.random.default_rng(6)
    typed = [herd.names[i] for i in (20, 30, 41, 44, 50)]
    markers = Markers(pd.DataFrame(rng.integers(0, 3, (5, 30)), typed, [f"m{k}" for k in range(30)]))
    H = single_step(pedigree, markers, share=0.1)
    assert H.groups == () and H.levels == pedigree.levels
    plain = single_step(pedigree.without_groups(), markers, share=0.1)
    np.testing.assert_array_equal(H.precision().toarray(), plain.precision().toarray())
    assert len({own.fingerprint() for own in (H, plain, pedigree, pedigree.without_groups())}) == 4
    new = pd.DataFrame({"animal": herd.levels[3:], "sex": "M"})
    for own in (pedigree, H):
        fit = lmm(formula, frame, relationships={"A": own})
        np.testing.assert_allclose(own.group_shares, herd.Q[herd.order], atol=1e-15)
        fit.save(tmp_path / "fit")
        again = load(tmp_path / "fit")
        pd.testing.assert_frame_equal(again.blups(), fit.blups())
        pd.testing.assert_frame_equal(again.predict(new, se=True), fit.predict(new, se=True))
        twice = pd.concat([frame.assign(trial=t, y=frame["y"] + 3 * t) for t in (0, 1)])
        batch = fit_batch(
            twice, formula, by="trial", traits="y", relationships={"A": own}, blups="vm(animal, A)",
            progress=False,
        )  # fmt: skip
        found = batch.table("blups").query("trial == '1' or trial == 1")
        np.testing.assert_allclose(found["estimate"], fit.blups()["estimate"], atol=1e-5)
        np.testing.assert_allclose(found["se"], fit.blups()["se"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
@pytest.mark.parametrize("kind", ["traits", "maternal"])
def test_fixed_groups_of_several_coefficients(kind):
    """Each has groups of its own; dense equations of Quaas with A* times T^-1."""
    herd = Herd(2)
    frame, animals = records(herd)
    T, s2e = np.array([[1.2, -0.3], [-0.3, 0.6]]), 1.1
    labels = frame["animal"]
    if kind == "traits":
        frame["trait"] = np.array(["a", "b"])[np.arange(len(frame)) % 2]
        formula, group = "y ~ sex + us(0 + trait | vm(animal, A))", "vm(animal, A)"
        parts = [group_incidence(herd, labels) * (frame["trait"] == t).to_numpy()[:, None] for t in "ab"]
        columns = [f"{t}:animal.{g}" for g in GROUPS for t in ("traita", "traitb")]
    else:
        known = [i for i in range(len(frame)) if herd.dam[animals[i]] >= 0]
        frame = frame.iloc[known].reset_index(drop=True)
        frame["dam"] = [herd.names[herd.dam[animals[i]]] for i in known]
        formula, group = "y ~ sex + us(animal, dam | vm(A))", "vm(A)"
        parts = [group_incidence(herd, frame[c]) for c in ("animal", "dam")]
        columns = [f"{c}.{g}" for g in GROUPS for c in ("animal", "dam")]
    fit = lmm(formula, frame, relationships={"A": herd.pedigree(group_variance=None)},
              fixed_parameters={group: T.tolist(), "Residual": s2e})  # fmt: skip
    W = np.stack(parts, axis=2).reshape(len(frame), -1)  # level by level, its coefficients beside each other
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    M = np.hstack([X, W])
    C = M.T @ M / s2e
    C[2:, 2:] += np.kron(star_of(herd), np.linalg.inv(T))
    dropped = [2 + columns.index(name) for name in fit.design.dropped_columns]
    assert len(dropped) == (1 if kind == "traits" else 2)
    kept = np.delete(np.arange(len(C)), dropped)
    inverse = np.linalg.inv(C[np.ix_(kept, kept)])
    solved = inverse @ (M.T @ frame["y"] / s2e)[kept]
    p = len(kept) - 2 * N
    table = fit.blups()
    np.testing.assert_allclose(table["estimate"], solved[p:], atol=1e-7)
    np.testing.assert_allclose(table["pev"], np.diag(inverse)[p:], rtol=1e-7)
    estimates = fit.fixed_effects().set_index("term")["estimate"]
    own = dict(zip(["(Intercept)", "sexM", *columns], range(len(C)), strict=False))
    for name, value in zip(kept[:p], solved[:p], strict=True):
        term = next(key for key, at in own.items() if at == name)
        assert estimates[term] == pytest.approx(value, rel=1e-6, abs=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_fixed_groups_beside_a_singular_relationship():
    """F1 of doubled haploids: A has a root in place of an inverse, the errors are those of dense V."""
    names = [f"L{k}" for k in range(8)] + [f"F{k}" for k in range(12)]
    rows = {
        "id": names, "sire": ["N"] * 4 + ["S"] * 4 + [f"L{k % 4}" for k in range(12)],
        "dam": ["N"] * 4 + ["S"] * 4 + [f"L{4 + k % 3}" for k in range(12)],
        "dh": [np.inf] * 8 + [0.0] * 12,
    }  # fmt: skip
    pedigree = Pedigree(rows, selfing="dh", groups=["N", "S"])
    assert pedigree.root() is not None
    rng = np.random.default_rng(1)
    gen = np.array(names[2:] * 3)
    frame = pd.DataFrame({"gen": gen, "y": rng.normal(size=gen.size) + 2.0 * (gen > "L3")})
    fit = lmm("y ~ 1 + (1 | vm(gen, A))", frame, relationships={"A": pedigree},
              fixed_parameters={"vm(gen, A)": 0.8, "Residual": 0.5})  # fmt: skip
    Z = (gen[:, None] == np.array(names)).astype(float)
    A, Q = 0.8 * pedigree.without_groups().relationship().to_numpy(), pedigree.group_shares.to_numpy()[:, :1]
    X = np.column_stack([np.ones(gen.size), Z @ Q])
    inverse = np.linalg.inv(Z @ A @ Z.T + 0.5 * np.eye(gen.size))
    cov = np.linalg.inv(X.T @ inverse @ X)
    beta = cov @ X.T @ inverse @ frame["y"]
    left = A @ Z.T @ inverse
    K = np.column_stack([np.zeros(20), Q]) - left @ X
    np.testing.assert_allclose(fit.blups()["estimate"], K @ beta + left @ frame["y"], atol=1e-8)
    error = np.diag(K @ cov @ K.T + A - left @ Z @ A)
    np.testing.assert_allclose(fit.blups()["pev"], error, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_values_over_environments_hold_the_groups():
    """By environment, as a table of both, and as BLUEs, which hold them anyway."""
    herd = Herd(2)
    frame, _ = records(herd)
    rng = np.random.default_rng(3)
    trials = pd.concat([
        frame.assign(env=env, y=frame["y"] + k + rng.normal(size=len(frame)))
        for k, env in enumerate(["e1", "e2", "e3"])
    ])  # fmt: skip
    pedigree = herd.pedigree(group_variance=None)
    model = "y ~ env + sex + diag(0 + env | vm(animal, A))"
    fit = lmm(model, trials, relationships={"A": pedigree}, residual="units | env")
    values = fit.genotype_values("vm(animal, A)", by="env").to_frame()
    grid = values[["env", "animal"]]
    predicted = sum(fit.predict(grid.assign(sex=sex)) for sex in "FM") / 2
    np.testing.assert_allclose(values["estimate"], predicted, rtol=1e-10)
    both = from_fit(fit, "animal", "env")
    wide = values.pivot(index="animal", columns="env", values="estimate")
    wide = wide.loc[list(both.genotypes), list(both.environments)]
    np.testing.assert_allclose(both.means, wide, rtol=1e-10)
    frame["new"] = (frame["animal"] != "n20").astype(float)
    for formula in ("y ~ sex + (1 | vm(animal, A))", "y ~ sex + new + (0 + new | vm(animal, A))"):
        ours, plain = (
            lmm(formula, frame, relationships={"A": own}) for own in (pedigree, pedigree.without_groups())
        )
        found = [fixed_levels(own, 0).means("asymptotic").to_frame() for own in (ours, plain)]
        pd.testing.assert_frame_equal(*found, rtol=1e-8)
        assert np.isfinite(found[0]["estimate"]).all() and len(found[0]) == 43


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_individuals_whose_groups_are_not_known():
    herd = Herd(2)
    frame, _ = records(herd)
    pedigree = herd.pedigree(group_variance=None)
    fit = lmm("y ~ sex + (1 | vm(animal, A))", frame, relationships={"A": pedigree})
    new = {"animal": ["n20", "unknown"], "sex": ["F", "F"]}
    with pytest.raises(DataError, match=r"'unknown' of 'animal' .* groups are not known; columns 'ani"):
        fit.predict(new, allow_new_levels=True)
    parts = pedigree.group_shares.loc["n20"].tolist()
    shares = {f"animal.{g}": [own, x] for g, own, x in zip(GROUPS, parts, [0.25, 0.75, 0.0], strict=True)}
    own = fit.predict({**new, **shares}, allow_new_levels=True)
    assert own[0] == pytest.approx(fit.predict({"animal": ["n20"], "sex": ["F"]})[0], rel=1e-12)
    assert own[1] == pytest.approx(fit.beta[0] + 0.25 * fit.beta[2] + 0.75 * fit.beta[3], rel=1e-12)
    # an animal without a name, and a table without animals
    with pytest.raises(DataError, match="'animal' has no value in row 1"):
        fit.predict({"animal": [None], "sex": ["F"]}, random=False)
    nameless = {"animal": ["n20", None], "sex": ["F", "F"]}
    with pytest.raises(DataError, match=r"'animal' has no value in row 2, so that its genetic groups"):
        fit.predict(nameless, allow_new_levels=True)
    np.testing.assert_allclose(fit.predict({**nameless, **shares}, allow_new_levels=True), own, rtol=1e-12)
    with pytest.raises(DataError, match=r"new data: column 'animal' is not there, which tells the gen"):
        fit.predict({"sex": ["F"]}, random=False)
    unnamed = {name: [values[1]] for name, values in shares.items()}
    given = fit.predict({"sex": ["F"], **unnamed}, random=False)
    assert given[0] == pytest.approx(own[1], rel=1e-12)
    for wrong in ([parts[0] + 0.01, 0.25], ["a", "b"]):
        with pytest.raises(DataError, match=r"'animal\.G1' of the data is not what 'animal' has of the gen"):
            fit.predict({**new, **shares, "animal.G1": wrong}, allow_new_levels=True)
    with pytest.raises(DataError, match="levels of 'animal' are not in the relationship"):
        lmm("y ~ sex + (1 | vm(animal, A))", frame.replace({"animal": {"n20": "x"}}),
            relationships={"A": pedigree})  # fmt: skip


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
def test_a_group_that_the_data_hold_nothing_of_gives_no_values(tmp_path):
    """Its effect stood at zero, and individuals of it ranked among the others as from the group left out."""
    herd = Herd(2)
    frame, _ = records(herd)
    new = {"id": ["x", "z", "v"], "sire": ["G9", "x", "n20"], "dam": ["G9", "n3", "x"]}
    table = {name: [*own, *new[name]] for name, own in herd.table.items()}
    pedigree = Pedigree(table, groups=[*GROUPS, "G9"], check_sex=False)
    model = "y ~ sex + (1 | vm(animal, A))"
    fit = lmm(model, frame, relationships={"A": pedigree})
    words = "do not tell the effects of genetic groups that 'x', 'z', 'v' have a part of: no values"
    assert [words in str(own) for own in fit.warnings].count(True) == 1
    known = lmm(model, frame, relationships={"A": herd.pedigree(group_variance=None)})
    assert not any("do not tell" in str(own) for own in known.warnings)
    own = fit.blups().set_index("level")
    figures = ["estimate", "se", "pev", "reliability", "lower", "upper"]
    assert own.loc[["x", "z", "v"], figures].isna().all(axis=None)
    assert np.isnan(fit.ranef()["vm(animal, A)"].loc["z"]).all()
    pd.testing.assert_frame_equal(
        own.drop(["x", "z", "v"]), known.blups().set_index("level"), rtol=1e-6, atol=1e-8
    )
    assert np.isnan(fit.predict({"animal": ["z"], "sex": ["F"]})).all()
    values = fit.genotype_values("vm(animal, A)", average="sex")
    assert len(values) == N and "without 'x', 'z', 'v', whose genetic groups the data" in str(values)
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(load(tmp_path / "fit").blups(), fit.blups())


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_groups_that_always_go_together_are_not_told_apart():
    """Sires from S and dams from D: who has a half of both is compared, and who has other parts is not."""
    rng = np.random.default_rng(5)
    table = {"id": list("abcdefg"), "sire": list("SSSaaSa"), "dam": list("DDDbcSD")}
    pedigree = Pedigree(table, groups=["S", "D"], check_sex=False)
    frame = pd.DataFrame({"animal": np.repeat(list("abcde"), 8), "y": rng.normal(size=40)})
    with pytest.warns(ConfoundedWarning, match="genetic groups that 'f', 'g' have a part of"):
        fit = lmm("y ~ 1 + (1 | vm(animal, A))", frame, relationships={"A": pedigree},
                  fixed_parameters={"vm(animal, A)": 1.0, "Residual": 1.0})  # fmt: skip
    plain = lmm("y ~ 1 + (1 | vm(animal, A))", frame, relationships={"A": pedigree.without_groups()},
                fixed_parameters={"vm(animal, A)": 1.0, "Residual": 1.0})  # fmt: skip
    own, other = (each.blups().set_index("level")["estimate"] for each in (fit, plain))
    assert own[["f", "g"]].isna().all()
    np.testing.assert_allclose(own[list("abcde")], other[list("abcde")], atol=1e-10)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_groups_that_a_fixed_effect_goes_with_are_told():
    """Differences between individuals depend on which of the columns is dropped."""
    herd = Herd(2)
    frame, animals = records(herd)
    frame["part"] = herd.Q[animals, 0]
    pedigree = herd.pedigree(group_variance=None)
    words = "go with the genetic groups 'G1', 'G2', 'G3' of '(1 | vm(animal, A))'"
    with pytest.warns(ConfoundedWarning) as said:
        lmm("y ~ sex + part + (1 | vm(animal, A))", frame, relationships={"A": pedigree})
    assert any(words in str(own.message) for own in said)
    for model in ("y ~ sex + (1 | vm(animal, A))", "y ~ 0 + (1 | vm(animal, A))"):
        fit = lmm(model, frame, relationships={"A": pedigree})
        assert not any(isinstance(own, ConfoundedWarning) for own in fit.warnings)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
@pytest.mark.parametrize("formula", ["y ~ . + (1 | vm({}, A))", "y ~ sex + (1 | vm(factor({}), A))"])
def test_names_that_formulas_quote(formula, tmp_path):
    """Of columns and of groups, in a formula that is written and read again."""
    herd = Herd(2)
    frame, _ = records(herd)
    expected = lmm(
        "y ~ sex + (1 | vm(animal, A))", frame, relationships={"A": herd.pedigree(group_variance=None)}
    )
    names = {"G1": "1990", "G2": "A b", "G3": "x"}
    pedigree = Pedigree(pd.DataFrame(herd.table).replace(names), groups=[1990, "A b", "x"], check_sex=False)
    frame = frame.rename(columns={"animal": "my animal"})
    fit = lmm(formula.format("`my animal`"), frame, relationships={"A": pedigree})
    column = "factor(my animal)" if "factor" in formula else "my animal"
    assert fit.coef_names[2:] == tuple(f"{column}.{name}" for name in names.values())
    np.testing.assert_allclose(fit.blups()["estimate"], expected.blups()["estimate"], atol=1e-7)
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(load(tmp_path / "fit").blups(), fit.blups())
    np.testing.assert_allclose(load(tmp_path / "fit").predict(frame), fit.predict(), atol=1e-9)


def test_two_relationships_with_fixed_groups_of_the_same_individuals_are_refused():
    herd = Herd(2)
    frame, _ = records(herd)
    related = {name: herd.pedigree(group_variance=None) for name in "AB"}
    with pytest.raises(OptionError, match="'A' and 'B' both have fixed groups of 'animal'"):
        lmm("y ~ sex + (1 | vm(animal, A)) + (1 | vm(animal, B))", frame, relationships=related)


@pytest.mark.parametrize(
    ("formula", "error", "words"),
    [
        ("y ~ sex + (1 | sex:vm(animal, A))", OptionError, "go with the individuals of one column"),
        ("y ~ (1 | at(sex):vm(animal, A))", OptionError, "give the pedigree group_variance="),
        ("y ~ (1 | vm(animal, A):sex)", OptionError, r"random, or pedigree\.without_groups\(\) under a"),
        ("y ~ sex + us(animal, dam | vm(A))", DataError, "'G2' is one of its fixed genetic groups, which"),
        ("y ~ sex + us(animal + dam | vm(A))", OptionError, "go with the individuals of one column"),
        ("y ~ sex + animal.G1 + (1 | vm(animal, A))", DesignError, "no column 'animal.G2'.* or give all"),
        ("y ~ sex + (1 | vm(beast, A))", FormulaError, "'beast'"),
    ],
)
def test_models_that_fixed_groups_do_not_go_with(formula, error, words):
    herd = Herd(2)
    frame, animals = records(herd)
    single = "animal, dam" in formula
    frame["dam"] = ["G2" if single else herd.names[max(herd.dam[i], 0)] for i in animals]
    with pytest.raises(error, match=words):
        lmm(formula, frame, relationships={"A": herd.pedigree(group_variance=None)})


def test_every_door_gives_what_the_covariance_of_groups_and_animals_gives(tmp_path):
    """BLUPs, predictions, heritability, values of genotypes; batches, files."""
    herd = Herd(2)
    frame, _ = records(herd)
    formula = "y ~ sex + (1 | vm(animal, A))"
    fit = lmm(formula, frame, relationships={"A": herd.pedigree()})
    dense = lmm(formula, frame, relationships={"A": Covariance(herd.total(), herd.levels)})
    assert fit.criterion == pytest.approx(dense.criterion, rel=1e-9)
    pd.testing.assert_frame_equal(fit.blups(), dense.blups(), rtol=1e-5, atol=1e-5)
    new = pd.DataFrame({"animal": herd.levels[3:], "sex": "M"})
    ours, theirs = fit.predict(new, se=True), dense.predict(new, se=True)
    np.testing.assert_allclose(ours["prediction"], theirs["prediction"], rtol=1e-6)
    np.testing.assert_allclose(ours["se"], theirs["se"], rtol=1e-6)
    ours, theirs = (own.heritability("vm(animal, A)").to_frame() for own in (fit, dense))
    np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=1e-4, equal_nan=True)
    values = fit.genotype_values("vm(animal, A)")
    assert set(GROUPS).isdisjoint(values.to_frame()["animal"]) and len(values) == N
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(load(tmp_path / "fit").blups(), fit.blups())
    again = load(tmp_path / "fit").genotype_values("vm(animal, A)")
    pd.testing.assert_frame_equal(again.to_frame(), values.to_frame())
    twice = pd.concat([frame.assign(trial=t, y=frame["y"] + 3 * t) for t in (0, 1)])
    batch = fit_batch(
        twice, formula, by="trial", traits="y", relationships={"A": herd.pedigree()}, blups="vm(animal, A)",
        progress=False,
    )  # fmt: skip
    own = batch.table("blups").query("trial == '1' or trial == 1")
    np.testing.assert_allclose(own["estimate"], fit.blups()["estimate"], atol=1e-5)


def test_several_coefficients_have_groups_of_the_same_covariance():
    """Direct and maternal: g has the covariance T of the effects, in units of the ratio."""
    herd = Herd(2)
    frame, animals = records(herd)
    frame["dam"] = [herd.label(herd.dam[i]) for i in animals]
    assert frame["dam"].isin(GROUPS).any()
    T = np.array([[1.2, -0.3], [-0.3, 0.6]])
    held = {"vm(A)": T.tolist(), "Residual": 1.1}
    fit = lmm("y ~ sex + us(animal, dam | vm(A))", frame, relationships={"A": herd.pedigree()},
              fixed_parameters=held)  # fmt: skip
    place = {name: i for i, name in enumerate(herd.levels)}
    W = np.zeros((len(frame), 2 * (3 + N)))
    for c, column in enumerate(("animal", "dam")):
        W[np.arange(len(frame)), [2 * place[name] + c for name in frame[column]]] = 1.0
    G = np.kron(herd.total(), T)
    V = W @ G @ W.T + 1.1 * np.eye(len(frame))
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    cov = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    beta = cov @ X.T @ np.linalg.solve(V, frame["y"])
    u = G @ W.T @ np.linalg.solve(V, frame["y"] - X @ beta)
    np.testing.assert_allclose(fit.blups()["estimate"], u, atol=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")
def test_an_interaction_without_groups_beside_a_main_effect_that_has_them():
    herd = Herd(2)
    frame, animals = records(herd)
    frame["env"] = np.random.default_rng(3).choice(["E1", "E2"], len(frame))
    pedigree = herd.pedigree(group_variance=None)
    fit = lmm(
        "y ~ env + (1 | vm(animal, A)) + (1 | env:vm(animal, B))", frame,
        relationships={"A": pedigree, "B": pedigree.without_groups()},
        fixed_parameters={"vm(animal, A)": 1.2, "env:vm(animal, B)": 0.5, "Residual": 0.9},
    )  # fmt: skip
    Z = np.eye(N)[animals]
    same = frame["env"].to_numpy()[:, None] == frame["env"].to_numpy()
    V = (1.2 + 0.5 * same) * (Z @ herd.A @ Z.T) + 0.9 * np.eye(len(frame))
    X = np.column_stack([np.ones(len(frame)), frame["env"] == "E2", herd.Q[animals, :2]]).astype(float)
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, frame["y"]))
    a = 1.2 * herd.A @ Z.T @ np.linalg.solve(V, frame["y"] - X @ beta)
    own = fit.blups().query("group == 'vm(animal, A)'").set_index("level").loc[herd.names]
    np.testing.assert_allclose(own["estimate"], a + herd.Q[:, :2] @ beta[2:], atol=1e-8)


@pytest.mark.parametrize("variance", [RATIO, None])
def test_pruning_keeps_the_groups_of_those_who_stay(variance):
    herd = Herd(1)
    pedigree = herd.pedigree(group_variance=variance)
    named = [herd.names[i] for i in (14, 30, 58)]
    pruned = pedigree.pruned(named)
    kept = list(pruned.levels)
    assert pruned.size < pedigree.size and set(named) <= set(kept) <= set(pedigree.ancestors(named))
    np.testing.assert_allclose(pruned.relationship(), pedigree.relationship(kept), atol=1e-14)
    product = pruned.precision() @ pruned.relationship().to_numpy()
    np.testing.assert_allclose(product, np.eye(len(kept)), atol=1e-12)
    individuals = [name for name in kept if name not in GROUPS]
    shares = pedigree.group_contributions().loc[individuals]
    np.testing.assert_allclose(pruned.group_contributions(), shares[pruned.group_contributions().columns])
    assert np.allclose(pruned.group_contributions().sum(axis=1), 1.0)
    # a group with one offspring is no founder that an unknown parent stands for
    small = Pedigree({"id": ["a", "b"], "sire": ["G1", "G2"], "dam": ["G1", "G2"]}, groups=["G1", "G2"],
                     group_variance=3.0)  # fmt: skip
    assert small.pruned(["b"]).levels == ("G2", "b")
    assert small.pruned(["b"]).diagonal().tolist() == [3.0, 4.0]


def test_an_animal_that_is_not_in_the_pedigree_is_from_a_group_of_its_own():
    herd = Herd(1)
    assert herd.pedigree().unseen_variance == 1.0 + RATIO
    assert herd.pedigree().without_groups().unseen_variance == 1.0


def test_single_step_transforms_both_inverses():
    """H of a, then u = a + Q g: the inverse of the covariance of groups and animals, by dense algebra."""
    herd = Herd(4)
    rng = np.random.default_rng(6)
    typed = [herd.names[i] for i in (20, 30, 41, 44, 50)]
    markers = Markers(pd.DataFrame(rng.integers(0, 3, (5, 30)), typed, [f"m{k}" for k in range(30)]))
    pedigree = herd.pedigree()
    H = single_step(pedigree, markers, share=0.1)
    assert H.levels == pedigree.levels and H.groups == pedigree.groups
    plain = single_step(pedigree.without_groups(), markers, share=0.1)
    Q = np.vstack([np.eye(3), pedigree.group_contributions()])
    expected = la.block_diag(np.zeros((3, 3)), plain.relationship().to_numpy()) + RATIO * Q @ Q.T
    np.testing.assert_allclose(H.relationship(), expected, atol=1e-10)
    assert plain.groups == () and isinstance(H, SparseInverse)
    with pytest.raises(DataError, match="'G1' is not among the 60 levels"):
        single_step(pedigree, Covariance(np.eye(2), ["G1", "n3"]))


TABLE = {"id": ["a", "b", "c"], "sire": ["G1", "a", "b"], "dam": ["G1", "G2", ""]}


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"group_variance": 1.0}, OptionError, "name them as they stand for unknown parents"),
        ({"groups": [], "group_variance": 1.0}, OptionError, "name them as they stand"),
        ({"groups": ["G1", "G1"], "group_variance": 1.0}, OptionError, "has a name twice"),
        ({"groups": ["G1", "0"], "group_variance": 1.0}, OptionError, "'0', which is a code for an unknown"),
        ({"groups": ["G1", "G2"], "group_variance": 0.0}, OptionError, "group_variance"),
        ({"groups": ["G1", "G2", "G9"], "group_variance": 1.0}, DataError, "'G9' is nobody's parent"),
        ({"groups": ["G1", "G2", "c"], "group_variance": 1.0}, DataError, "'c' is nobody's parent"),
        ({"groups": ["G1", "b"], "group_variance": 1.0}, DataError, "'b' has parents of their own"),
    ],
)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.PedigreeWarning")
def test_wrong_groups_are_told(options, error, words):
    with pytest.raises(error, match=words):
        Pedigree(TABLE, **options)


def test_unknown_parents_in_no_group_are_told():
    with pytest.warns(PedigreeWarning, match="'c' has an unknown parent that is in none") as said:
        own = Pedigree(TABLE, groups=["G1", "G2"], group_variance=1.0)
    assert len(said) == 1  # groups are no founders without a row, and stand on both sides
    np.testing.assert_allclose(own.group_contributions().loc["c"], [0.25, 0.25])
