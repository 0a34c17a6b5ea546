"""What a fit with covariance structures can be asked: refits, comparisons, tests, predictions, a summary."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import chi2

from fastlmm_core import Pedigree, SparseInverse, compare, fit_batch, lmm, prepare
from fastlmm_core.errors import DataError, FastLMMWarning, NumericalError
from fastlmm_core.results.components.structured_blocks import residual_blocks

LEVELS = [*(f"g{i:02d}" for i in range(14)), "x1", "x2"]
MARKERS = np.random.default_rng(8).integers(0, 3, size=(16, 30)).astype(float)
A = np.cov(MARKERS) + 0.3 * np.eye(16)
RELATED = {"A": (A, LEVELS), "Q": SparseInverse(sp.csc_array(np.linalg.inv(A)), LEVELS)}
CASES = {
    "vm": ("env + rep + (1 | vm(gen, A))", {"relationships": RELATED, "residual": "units | env"}),
    "inverse": ("env + us(0 + env | vm(gen, Q))", {"relationships": RELATED}),
    "field": ("env + (1 | gen)", {"residual": "ar1(row):ar1(col) | env"}),
    "at": ("env + (1 | at(env):rep) + (1 | gen)", {"residual": "units | env"}),
    "levels": ("env + (1 | ar1(row):env) + (1 | gen)", {}),
    "spline": ("env + row + (1 | gen) + ps(row)", {}),
    "within": ("env + (1 | gen)", {"residual": "us(env | gen:rep)"}),
}
pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def make_table(seed=3):
    rng = np.random.default_rng(seed)
    u = np.linalg.cholesky(A) @ rng.normal(size=16)
    rows = []
    for env in ("E1", "E2"):
        plots = [(rep, i) for rep in ("r1", "r2") for i in rng.permutation(14)]
        trend = 0.4 * np.cumsum(rng.normal(size=7))
        rows += [(env, rep, LEVELS[i], k % 7 + 1, k // 7 + 1,
                  10 + u[i] + trend[k % 7] + rng.normal() * (1 if env == "E1" else 2))
                 for k, (rep, i) in enumerate(plots)]  # fmt: skip
    return pd.DataFrame(rows, columns=["env", "rep", "gen", "row", "col", "y"])


TABLE = make_table()


def fitted(case, y="y", table=TABLE, **more):
    terms, options = CASES[case]
    return lmm(f"{y} ~ {terms}", table, **(options | more))


@pytest.mark.parametrize("case", CASES)
def test_another_response_is_the_fit_of_a_table_with_it(case):
    other = make_table(seed=11)["y"].to_numpy()
    again = fitted(case).refit(other)
    afresh = fitted(case, table=TABLE.assign(y=other))
    assert again.criterion == pytest.approx(afresh.criterion, rel=1e-8)
    assert np.allclose(again.fixed_effects()["df"], afresh.fixed_effects()["df"], rtol=1e-5)
    terms, options = CASES[case]
    bare = prepare(f"~ {terms}", TABLE.drop(columns="y"), response=False, **options)
    assert bare.fit(y=other).criterion == pytest.approx(afresh.criterion, rel=1e-8)


@pytest.mark.parametrize("case", ["vm", "field", "at", "spline", "within"])
def test_weights_of_a_fit_are_those_of_its_preparation(case):
    weights = np.random.default_rng(5).uniform(0.5, 2.0, len(TABLE))
    terms, options = CASES[case]
    early = lmm(f"y ~ {terms}", TABLE, weights=weights, **options)
    late = prepare(f"y ~ {terms}", TABLE, **options).fit(weights=weights)
    assert late.criterion == pytest.approx(early.criterion, rel=1e-9)
    assert np.allclose(late.beta, early.beta, rtol=1e-6)


def test_nested_residuals_are_compared_by_reml():
    small = lmm("y ~ env + (1 | gen)", TABLE)
    middle = lmm("y ~ env + (1 | gen)", TABLE, residual="units | env")
    large = lmm("y ~ env + (1 | gen)", TABLE, residual="ar1(row):ar1(col) | env")
    assert [fit.npar - fit.rank for fit in (small, middle, large)] == [2, 3, 7]
    table = compare(small, middle, large)
    assert table["formula"].nunique() == 3  # the residual is named
    assert table["df"].iloc[1:].tolist() == [1, 4]
    gained = [small.criterion - middle.criterion, middle.criterion - large.criterion]
    assert table["chisq"].iloc[1:].tolist() == pytest.approx(gained, rel=1e-9)
    assert table["p"].iloc[1:].tolist() == pytest.approx(chi2.sf(gained, [1, 4]), rel=1e-9)


@pytest.mark.parametrize(
    "terms, count",
    [("us(0 + env | gen)", 3), ("cs(0 + env | gen)", 3), ("homcs(0 + env | gen)", 2),
     ("diag(0 + env | gen)", 2), ("(1 | at(env):rep)", 2), ("(1 | ar1(row):env)", 2),
     ("(1 | vm(gen, A))", 1)],
)  # fmt: skip
def test_variance_parameters_are_counted(terms, count):
    fit = lmm(f"y ~ env + {terms}", TABLE, relationships=RELATED)
    assert fit.npar == fit.rank + count + 1
    assert fit.aic == pytest.approx(fit.criterion + 2 * fit.npar)
    held = lmm(f"y ~ env + {terms}", TABLE, relationships=RELATED, fixed_parameters={"Residual": 2.0})
    assert held.npar == held.rank + count


@pytest.mark.parametrize("case", CASES)
def test_tests_of_terms_agree_with_those_of_coefficients(case):
    fit = fitted(case)
    for ddf in ("kenward-roger", "satterthwaite"):
        tests = fit.anova(type=3, ddf=ddf).set_index("term")
        row = fit.fixed_effects(ddf=ddf).set_index("term").loc["envE2"]
        assert tests.loc["env", "F"] == pytest.approx(row["t"] ** 2, rel=1e-6)
        assert tests.loc["env", "df_den"] == pytest.approx(row["df"], rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_predictions_of_the_data_are_the_fitted_values(case):
    fit = fitted(case)
    there = fit.predict(TABLE, se=True)
    assert np.allclose(there["prediction"], fit.fitted, rtol=1e-8)
    own = fit.predict(se=True)
    assert np.allclose(there["se"], own["se"], rtol=1e-8)
    assert (there["se"] > 0).all()


@pytest.mark.parametrize("case", ["vm", "at", "field"])
def test_standard_errors_of_predictions_are_those_of_dense_algebra(case):
    fit = fitted(case)
    env, gen = (pd.get_dummies(TABLE[name]).to_numpy(float) for name in ("env", "gen"))
    blocks = fit.term_variances
    if case == "vm":
        Z, G = np.hstack([gen, np.zeros((56, 2))]), blocks(0)[0] * A
    elif case == "field":
        Z, G = gen, blocks(0)[0] * np.eye(14)
    else:
        reps = pd.get_dummies(TABLE["rep"]).to_numpy(float)
        Z = np.hstack([env[:, [0]] * reps, env[:, [1]] * reps, gen])
        G = np.diag(np.repeat([float(blocks(k)[0]) for k in range(3)], [2, 2, 14]))
    R = residual_covariance(fit)
    X = fit.design.X.toarray()
    V_inv = np.linalg.inv(Z @ G @ Z.T + R)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    X_new, Z_new = X[:9], Z[:9]
    left = X_new - Z_new @ G @ Z.T @ V_inv @ X
    expected = left @ phi @ left.T + Z_new @ (G - G @ Z.T @ V_inv @ Z @ G) @ Z_new.T
    found = fit.predict(TABLE.head(9), se=True)["se"].to_numpy()
    assert np.allclose(found, np.sqrt(np.diag(expected)), rtol=1e-7)


def residual_covariance(fit):
    """R (n, n) of a residual by environment, from the blocks that a request's answer shows."""
    R = np.zeros((len(TABLE), len(TABLE)))
    for env, block in zip(("E1", "E2"), residual_blocks(fit), strict=True):
        rho = {"row": 0.0, "col": 0.0} | block.extra["group_corr"]
        here = np.flatnonzero(TABLE["env"] == env)
        row, col = TABLE["row"].to_numpy()[here], TABLE["col"].to_numpy()[here]
        powers = [np.power(rho[name], np.abs(x[:, None] - x)) for name, x in (("row", row), ("col", col))]
        R[np.ix_(here, here)] = block.T[0, 0] * powers[0] * powers[1]
    return R


def test_a_level_without_data_is_predicted_with_its_uncertainty():
    fit = fitted("vm")
    row = TABLE.iloc[[0]].assign(gen="x1")
    found = fit.predict(row, se=True).iloc[0]
    fixed = fit.predict(row, random=False, se=True).iloc[0]
    blup = fit.blups().set_index("level").loc["x1"]
    assert found["prediction"] == pytest.approx(fixed["prediction"] + blup["estimate"], rel=1e-10)
    assert found["se"] > fixed["se"] * 0.5


@pytest.mark.parametrize("terms", ["(1 | vm(gen, K))", "us(0 + env | vm(gen, K))", "(1 | env:vm(gen, K))"])
def test_a_level_that_is_not_in_a_relationship_has_the_variance_of_those_in_it(terms):
    """Whatever the scale of the relationship: it was the component, which is that of a diagonal of 1."""
    row, found = TABLE.iloc[[0]].assign(gen="nobody"), []
    for scale in (1.0, 9.0):
        fit = lmm(f"y ~ env + {terms}", TABLE, relationships={"K": (A / scale, LEVELS)})
        found.append(fit.predict(row, se=True, allow_new_levels=True)["se"].iloc[0])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    own = fit.variance_components["estimate"].iloc[0] * np.diag(A / scale).mean()
    fixed = fit.predict(row, random=False, se=True)["se"].iloc[0]
    assert found[1] == pytest.approx(np.sqrt(fixed**2 + own), rel=1e-8)


def test_an_animal_that_is_not_in_a_pedigree_is_not_inbred():
    lines = Pedigree({"id": LEVELS, "sire": [""] * 16, "dam": [""] * 16, "f": [np.inf] * 16}, selfing="f")
    fit = lmm("y ~ env + (1 | vm(gen, P))", TABLE, relationships={"P": lines})
    row = TABLE.iloc[[0]].assign(gen="nobody")
    variance = fit.predict(row, se=True, allow_new_levels=True)["se"].iloc[0] ** 2
    fixed = fit.predict(row, random=False, se=True)["se"].iloc[0]
    assert variance - fixed**2 == pytest.approx(fit.variance_components["estimate"].iloc[0], rel=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_fits_pickle(case):
    fit = fitted(case)
    str(fit.summary())
    twin = pickle.loads(pickle.dumps(fit))
    assert twin.criterion == fit.criterion
    assert np.array_equal(twin.blups()["estimate"], fit.blups()["estimate"])
    assert np.allclose(twin.predict(TABLE.head(4), se=True)["se"], fit.predict(TABLE.head(4), se=True)["se"])
    assert np.allclose(twin.refit(TABLE["y"]).beta, fit.beta, rtol=1e-6)


def test_the_summary_says_what_the_structures_are():
    text = str(fitted("field").summary())
    assert "Residual: ar1(row):ar1(col) | env" in text
    assert "Residual|env E2" in text
    assert "Autocorrelation in ar1(row):ar1(col) | env E1: row " in text
    text = str(fitted("inverse").summary())
    assert "Corr" in text and "vm(gen, Q)" in text
    fit = fitted("spline")
    assert "ps(row)" in str(fit.summary()) and "row, edf " in str(fit.summary())
    line = lmm("y ~ env + (1 | gen)", TABLE, residual="ar1(row | env:rep:col)")
    text = str(line.summary())
    assert "1 to 7" in text and ": neighbours " in text and "Corr" not in text
    held = str(lmm("y ~ env + (1 | gen)", TABLE, fixed_parameters={"gen": 1.0}).summary())
    assert "Held at given values: gen." in held
    assert "Residual:" not in held.split("\n\n")[0]


def test_a_correlation_at_its_bound_is_said_in_words():
    rng = np.random.default_rng(1)
    steps = np.where(np.arange(7) % 2, 1.0, -1.0)  # neighbours are opposites
    table = TABLE.assign(y=[10 + 3 * steps[row - 1] * (1 if env == "E1" else 2) + 0.5 * rng.normal()
                            for row, env in zip(TABLE["row"], TABLE["env"], strict=True)])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = lmm("y ~ env + (1 | ar1(row):env)", table)
    assert fit.singular
    assert "the autocorrelation of row in ar1(row):env is -1" in str(fit.summary())


def test_more_covariances_than_the_data_have_are_refused_by_every_door():
    few = TABLE[TABLE["env"] == "E1"]  # 28 covariances of seven rows in four columns
    with pytest.raises(NumericalError, match="fewer parameters"):
        lmm("y ~ 1 + (1 | gen)", few, residual="us(row | col)")
    row = fit_batch(TABLE, "y ~ 1 + (1 | gen)", by="env", residual="us(row | col)").fits.iloc[0]
    assert (row["status"], "fewer parameters" in row["message"]) == ("numerical", True)


def test_degrees_of_freedom_of_what_is_known_are_infinite():
    fit = lmm("y ~ env + (1 | gen)", TABLE, fixed_parameters={"Residual": 2.5})
    # every genotype is in both environments: their difference does not depend on the variance of genotypes
    row = fit.fixed_effects(ddf="satterthwaite").set_index("term").loc["envE2"]
    assert np.isinf(row["df"])
    assert row["se"] == pytest.approx(np.sqrt(2.5 * 2 / 28), rel=1e-9)


def test_an_environment_without_a_variance_is_not_predicted():
    """at() has a variance for every level of the fit; a row of another one has none, whatever is allowed."""
    rng = np.random.default_rng(8)
    lines = [f"g{i}" for i in range(9)]
    cells = pd.MultiIndex.from_product([lines, list("ab"), range(3)], names=["g", "e", "r"])
    table = cells.to_frame(index=False).assign(y=rng.normal(size=len(cells)))
    fit = lmm("y ~ 1 + (1 | at(e):g)", table)
    for allowed in (False, True):
        with pytest.raises(DataError, match=r"'e' has the levels 'q', for which at.e. has no parameters"):
            fit.predict({"g": ["g1"], "e": ["q"]}, se=True, allow_new_levels=allowed)
    np.testing.assert_allclose(fit.predict(table), fit.fitted, rtol=1e-12)
