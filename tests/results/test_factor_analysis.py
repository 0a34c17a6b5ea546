"""The report of fa() and rr() against definitions computed densely, exact relations and invariances."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import compare_factors, lmm
from fastlmm_core.errors import DesignError, OptionError
from fastlmm_core.results.factor_analytic.factor_analysis import axis_slopes
from fastlmm_core.results.factor_analytic.factor_shares import factor_shares
from fastlmm_core.structures.coefficients.factor_loadings import principal_axes

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
GAMMA = np.array([[1.5, 0.6], [1.2, -0.7], [0.9, 0.8], [1.3, -0.2], [1.0, 0.1]])
LEVELS = [f"g{i:02d}" for i in range(30)]
ENVIRONMENTS = ["E1", "E2", "E3", "E4", "E5"]
RELATED = np.cov(np.random.default_rng(3).normal(size=(30, 45))) + 0.2 * np.eye(30)


def make_table(seed=7, related=False):
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(RELATED) if related else np.eye(30)
    u = root @ (rng.normal(size=(30, 2)) @ GAMMA.T + 0.5 * rng.normal(size=(30, 5)))
    rows = [(LEVELS[i], ENVIRONMENTS[j], 20 + j + u[i, j] + 0.7 * rng.normal())
            for i in range(30) for j in range(5) for _ in range(2)]  # fmt: skip
    return pd.DataFrame(rows, columns=["gen", "env", "y"])


TABLE = make_table()


@pytest.fixture(scope="module")
def two():
    return lmm("y ~ env + fa(0 + env | gen, k=2)", TABLE)


def dense_scores(table, fit, analysis, K):
    """Predictions of the factors and their error variances from V = Z (T x K) Z' + s2 I, all n x n."""
    n = len(table)
    gen = np.array([LEVELS.index(g) for g in table["gen"]])
    env = np.array([ENVIRONMENTS.index(e) for e in table["env"]])
    T = analysis.covariance.to_numpy()
    V = T[np.ix_(env, env)] * K[np.ix_(gen, gen)] + fit.sigma**2 * np.eye(n)
    X = np.eye(5)[env]
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    out = []
    for r in range(analysis.k):
        cov = K[:, gen] * analysis.gamma[env, r]  # Cov(factor r of every level, y), (L, n)
        out.append((cov @ P @ table["y"].to_numpy(), np.diag(K) - np.einsum("ln,nm,lm->l", cov, P, cov)))
    return out


@pytest.mark.parametrize("related", [False, True])
@pytest.mark.parametrize("term", ["fa({}, k=2)", "rr({}, d=2)"])
def test_scores_and_their_errors(term, related):
    table, K = make_table(related=related), RELATED if related else np.eye(30)
    bar = f"0 + env | {'vm(gen, A)' if related else 'gen'}"
    known = {"A": (RELATED, LEVELS)} if related else None
    fit = lmm(f"y ~ env + {term.format(bar)}", table, relationships=known)
    found = fit.factor_analysis()
    assert list(found.levels) == LEVELS and list(found.environments) == ENVIRONMENTS
    for r, (score, error) in enumerate(dense_scores(table, fit, found, K)):
        np.testing.assert_allclose(found.scores[f"F{r + 1}"], score, atol=1e-6)
        np.testing.assert_allclose(found.scores[f"se_F{r + 1}"], np.sqrt(error), rtol=1e-5)
    if found.structure == "rr":
        assert not found.specific.any()
        np.testing.assert_allclose(found.common_effects, found.effects, atol=1e-6)


def test_axes_are_principal_and_T_is_that_of_the_fit(two):
    found = two.factor_analysis()
    gram = found.gamma.T @ found.gamma
    assert abs(gram[0, 1]) < 1e-10 * gram[0, 0] and gram[0, 0] > gram[1, 1]
    assert (found.gamma.sum(axis=0) > 0).all()
    components = two.variance_components
    lower = components[components["group"] == "gen"]["estimate"].to_numpy()
    np.testing.assert_allclose(found.covariance.to_numpy()[np.tril_indices(5)], lower, rtol=1e-10)
    np.testing.assert_allclose(found.effects, two.ranef()["gen"].to_numpy(), rtol=1e-12)


def test_variance_explained_by_definition(two):
    found = two.factor_analysis()
    variance = np.sum(found.gamma**2, axis=1) + found.specific
    want = 100 * found.gamma**2 / variance[:, None]
    np.testing.assert_allclose(found.explained[["F1", "F2"]], want, rtol=1e-12)
    np.testing.assert_allclose(found.explained["total"], 100 * (1 - found.specific / variance), rtol=1e-12)
    overall = 100 * np.sum(found.gamma**2) / variance.sum()
    assert found.percent_explained == pytest.approx(overall, rel=1e-12)


def test_performance_and_stability_by_definition(two):
    """Smith & Cullis (2018): OP at the mean loading; RMSD of common effects about the first regression."""
    found = two.factor_analysis()
    for i in range(30):
        common = found.gamma @ found.factor_scores[i]
        first = found.gamma[:, 0] * found.factor_scores[i, 0]
        row = found.performance.iloc[i]
        assert row["OP"] == pytest.approx(first.mean(), rel=1e-12)
        assert row["RMSD"] == pytest.approx(np.sqrt(np.mean((common - first) ** 2)), rel=1e-12)
    best = found.performance[found.performance["rank"] == 1]
    assert best["OP"].iloc[0] == found.performance["OP"].max()
    one = lmm("y ~ env + fa(0 + env | gen, k=1)", TABLE).factor_analysis()
    assert not one.performance["RMSD"].any()


def test_units_of_the_response(two):
    """In other units loadings are other, shares and scores are not."""
    other = lmm("y ~ env + fa(0 + env | gen, k=2)", TABLE.assign(y=1000 * TABLE["y"] - 5)).factor_analysis()
    found = two.factor_analysis()
    np.testing.assert_allclose(other.gamma, 1000 * found.gamma, rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(other.se_gamma, 1000 * found.se_gamma, rtol=1e-3)
    np.testing.assert_allclose(other.factor_scores, found.factor_scores, atol=1e-4)
    np.testing.assert_allclose(other.performance["OP"], 1000 * found.performance["OP"], rtol=1e-3, atol=0.05)


def test_the_order_of_environments_does_not_matter(two):
    turned = TABLE.assign(env=pd.Categorical(TABLE["env"], ENVIRONMENTS[::-1]))
    other = lmm("y ~ env + fa(0 + env | gen, k=2)", turned).factor_analysis()
    found = two.factor_analysis()
    assert list(other.environments) == ENVIRONMENTS[::-1]
    np.testing.assert_allclose(other.gamma[::-1], found.gamma, atol=1e-4)
    np.testing.assert_allclose(other.performance["OP"], found.performance["OP"], atol=1e-4)


@pytest.mark.parametrize("information", ["average", "observed"])
def test_errors_of_loadings_of_one_factor(information):
    """With three environments and one factor, gamma_1 = sqrt(T_12 T_13 / T_23): errors by another way."""
    table = TABLE[TABLE["env"].isin(["E1", "E2", "E3"])]
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", table)
    found = fit.factor_analysis(information=information).loadings
    products = ["V2*V4/V5", "V2*V5/V4", "V4*V5/V2"]
    for i, (product, own) in enumerate(zip(products, ["V1", "V3", "V6"], strict=True)):
        want = fit.vpredict(f"sqrt({product})", information)
        loading = found.loc[i, ["F1", "se_F1"]].astype(float)
        np.testing.assert_allclose(loading, [want.estimate, want.se], rtol=1e-6)
        rest = fit.vpredict(f"{own} - {product}", information)
        specific = found.loc[i, ["specific", "se_specific"]].astype(float)
        if specific["specific"] > 1e-6:
            np.testing.assert_allclose(specific, [rest.estimate, rest.se], rtol=1e-6)


def test_derivatives_of_principal_axes():
    rng = np.random.default_rng(5)
    move = rng.normal(size=(4, 5, 2))
    gamma = principal_axes(GAMMA)
    step = 1e-6
    for t in range(4):
        up, down = (principal_axes(gamma + s * move[t]) for s in (step, -step))
        np.testing.assert_allclose(
            axis_slopes(gamma, move)[:, t].reshape(5, 2), (up - down) / (2 * step), atol=1e-7
        )
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a rotation leaves the axes where they are
    np.testing.assert_allclose(axis_slopes(gamma, (gamma @ turn)[None]), 0.0, atol=1e-12)
    equal = np.eye(5)[:, :2]
    assert np.isnan(axis_slopes(equal, move)).all()


def test_more_factors_in_one_table(two):
    fits = [lmm(f"y ~ env + {term}", TABLE) for term in ("diag(0 + env | gen)", "fa(0 + env | gen, k=1)")]
    table = compare_factors(*fits, two)
    assert list(table["structure"]) == ["diag", "fa", "fa"] and list(table["k"])[1:] == [1, 2]
    assert table["explained"].iloc[2] == pytest.approx(two.factor_analysis().percent_explained)
    assert list(table["npar"]) == [fit.npar for fit in [*fits, two]]
    assert table["npar"].diff().iloc[2] == 4  # m - 1 further loadings, one rotation


def test_held_loadings_have_no_errors():
    T = GAMMA @ GAMMA.T + 0.25 * np.eye(5)
    held = lmm("y ~ env + fa(0 + env | gen, k=2)", TABLE, fixed_parameters={"gen": T.tolist()})
    found = held.factor_analysis()
    np.testing.assert_allclose(found.gamma, principal_axes(GAMMA), atol=1e-5)
    assert np.isnan(found.se_gamma).all() and np.isnan(found.se_specific).all()


def test_what_is_printed(two):
    found = two.factor_analysis("gen")
    text = str(found)
    assert text.startswith("Factor analysis of fa(0 + env | gen, k=2)")
    assert "10 of 30 levels shown" in text and "<table>" in found._repr_html_()
    assert found.order() == two.factor_analysis("fa(0 + env | gen, k=2)").order()


def test_terms_without_factors_are_refused(two):
    with pytest.raises(OptionError, match="no random term has factors"):
        lmm("y ~ env + (1 | gen)", TABLE).factor_analysis()
    with pytest.raises(OptionError, match="nearest: 'gen'"):
        two.factor_analysis("gem")


@pytest.mark.parametrize("information", ["average", "observed"])
def test_errors_of_shares_of_one_factor(information):
    """As for loadings: with three environments the shares are functions of the components."""
    table = TABLE[TABLE["env"].isin(["E1", "E2", "E3"])]
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", table)
    found = fit.factor_analysis(information=information)
    products = {"V1": "V2*V4/V5", "V3": "V2*V5/V4", "V6": "V4*V5/V2"}
    whole = fit.vpredict(f"100*({' + '.join(products.values())})/(V1 + V3 + V6)", information)
    factor = found.factors.iloc[0]
    np.testing.assert_allclose(
        factor[["percent", "se_percent"]].astype(float), [whole.estimate, whole.se], rtol=1e-6
    )
    np.testing.assert_allclose(factor["se_cumulative"], whole.se, rtol=1e-6)
    for (own, product), (_, row) in zip(products.items(), found.explained.iterrows(), strict=True):
        variance = fit.vpredict(own, information)
        np.testing.assert_allclose(row["se_variance"], variance.se, rtol=1e-6)
        want = fit.vpredict(f"100*{product}/{own}", information)
        if want.estimate < 99.99:
            np.testing.assert_allclose(
                row[["F1", "se_F1"]].astype(float), [want.estimate, want.se], rtol=1e-6
            )
            assert row["se_total"] == pytest.approx(want.se, rel=1e-6)
        else:
            assert np.isnan(row["se_total"])


def test_shares_of_two_factors_are_differentiated():
    """Along any move of the loadings and specific variances, by differences of the shares themselves."""
    rng = np.random.default_rng(6)
    gamma, psi = principal_axes(GAMMA), np.array([0.3, 0.5, 0.2, 0.4, 0.6])
    move, change, step = rng.normal(size=(3, 5, 2)), rng.normal(size=(5, 3)), 1e-6
    axes = axis_slopes(gamma, move).reshape(5, 2, 3)

    def shares(own, specific):
        found = factor_shares(
            own, np.zeros((5, 2, 1)), np.zeros((1, 5, 2)), specific, np.zeros((5, 1)), lambda s: s[:, 0]
        )
        return np.concatenate([found.percent, found.cumulative, found.by_environment.ravel(), found.total])

    for t in range(3):
        own = factor_shares(gamma, axes, move, psi, change, lambda slopes, t=t: slopes[:, t])
        slopes = np.concatenate(
            [own.se_percent, own.se_cumulative, own.se_by_environment.ravel(), own.se_total]
        )
        up, down = (
            shares(principal_axes(gamma + s * move[t]), psi + s * change[:, t]) for s in (step, -step)
        )
        np.testing.assert_allclose(slopes, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)


def heywood_table():
    rng = np.random.default_rng(12)
    u = rng.normal(size=(40, 1)) @ np.array([[1.4, 1.0, 0.9, 1.2]])
    u += rng.normal(size=(40, 4)) * np.array([0.0, 0.8, 0.7, 0.9])
    rows = [
        (f"g{i:02d}", f"E{j}", j + u[i, j] + 0.6 * rng.normal())
        for i in range(40)
        for j in range(4)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["gen", "env", "y"])


def test_a_specific_variance_of_zero_is_no_parameter_of_the_errors():
    """Average information of the loadings and the other specific variances, by n x n matrices."""
    table = heywood_table()
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", table)
    found = fit.factor_analysis()
    gamma, psi = found.gamma[:, 0], found.specific
    assert (psi < 1e-8).tolist() == [True, False, False, False]
    env = table["env"].str[1:].to_numpy(int)
    same = np.equal.outer(table["gen"].to_numpy(), table["gen"].to_numpy()).astype(float)
    moves = [np.outer(np.eye(4)[j], gamma) + np.outer(gamma, np.eye(4)[j]) for j in range(4)]
    moves += [np.diag(np.eye(4)[j]) for j in (1, 2, 3)]
    derivatives = [same * own[np.ix_(env, env)] for own in moves] + [np.eye(len(table))]
    T = np.outer(gamma, gamma) + np.diag(psi)
    V, X, y = (
        same * T[np.ix_(env, env)] + fit.sigma**2 * np.eye(len(table)),
        np.eye(4)[env],
        table["y"].to_numpy(),
    )
    inner = np.linalg.inv(V)
    P = inner - inner @ X @ np.linalg.solve(X.T @ inner @ X, X.T @ inner)
    f = np.array([derivative @ P @ y for derivative in derivatives])
    covariance = np.linalg.inv(0.5 * f @ P @ f.T)
    np.testing.assert_allclose(found.se_gamma[:, 0], np.sqrt(np.diag(covariance)[:4]), rtol=1e-3)
    assert np.isnan(found.se_specific[0])
    np.testing.assert_allclose(found.se_specific[1:], np.sqrt(np.diag(covariance)[4:7]), rtol=1e-3)
    table = fit.correlations("gen").to_frame()
    for (_, row), (j, i) in zip(
        table.iterrows(), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)], strict=True
    ):
        slopes = [
            own[i, j] / np.sqrt(T[i, i] * T[j, j])
            - 0.5 * row["estimate"] * (own[i, i] / T[i, i] + own[j, j] / T[j, j])
            for own in moves
        ]
        slope = np.array([*slopes, 0.0])
        assert row["se"] == pytest.approx(np.sqrt(slope @ covariance @ slope), rel=1e-3)
    observed = fit.correlations("gen", information="observed").to_frame()["se"]
    np.testing.assert_allclose(table["se"], observed, rtol=0.25)


def test_parameters_are_counted_up_to_those_of_an_unstructured_covariance():
    """Three environments have six variances and covariances, whatever the number of loadings."""
    table = TABLE[TABLE["env"].isin(["E1", "E2", "E3"])]
    us = lmm("y ~ env + us(0 + env | gen)", table)
    fits = {k: lmm(f"y ~ env + fa(0 + env | gen, k={k})", table) for k in (1, 2)}
    assert fits[1].npar == fits[2].npar == us.npar
    assert fits[2].criterion == pytest.approx(us.criterion, abs=1e-5)


@pytest.mark.parametrize("term", ["fa(0 + year | gen, k=1)", "rr(0 + year | gen, d=1)"])
def test_factors_of_numbers_are_refused(term):
    table = TABLE.assign(year=2018 + TABLE["env"].str[1:].astype(int))
    with pytest.raises(DesignError, match=r"the slope in 'year', which holds numbers.*write factor\(year\)"):
        lmm(f"y ~ factor(year) + {term}", table)
    named = lmm(f"y ~ factor(year) + {term.replace('year', 'factor(year)')}", table)
    letters = lmm(f"y ~ env + {term.replace('year', 'env')}", table)
    assert named.criterion == pytest.approx(letters.criterion, abs=1e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_effects_beside_the_factors_are_named():
    """Overall performance ranked the levels without their main effects, and did not say so."""
    words = "of the effects of 'fa(0 + env | gen, k=1)' alone; those of '(1 | gen)' are left out"
    both = lmm("y ~ env + (1 | gen) + fa(0 + env | gen, k=1)", TABLE).factor_analysis()
    assert words in str(both)
    assert "left out" not in str(lmm("y ~ env + fa(0 + env | gen, k=1)", TABLE).factor_analysis())
