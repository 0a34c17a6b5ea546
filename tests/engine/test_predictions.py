"""Random effects, their variances, and predictions against dense formulas."""

import warnings

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseTerm
from random_designs import CASES, REGULAR, case, dense_of, fit_of
from scipy import stats

from fastlmm_core import lmm
from fastlmm_core.errors import DataError, FastLMMWarning, OptionError


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_blups(name, reml):
    fit, dense = fit_of(name, reml), dense_of(name, reml)
    table = fit.blups()
    scale = np.sqrt(np.diag(dense.prior)).max()
    np.testing.assert_allclose(table["estimate"], dense.u, rtol=1e-7, atol=1e-8 * scale)
    np.testing.assert_allclose(table["pev"], np.diag(dense.pev), rtol=1e-7, atol=1e-8 * scale**2)
    np.testing.assert_allclose(table["condvar"], np.diag(dense.condvar), rtol=1e-7, atol=1e-8 * scale**2)
    np.testing.assert_allclose(table["se"] ** 2, table["pev"], rtol=1e-12)
    prior = np.diag(dense.prior)
    positive = prior > 1e-12 * scale**2
    reliability = 1 - np.diag(dense.pev)[positive] / prior[positive]
    np.testing.assert_allclose(table["reliability"][positive], reliability, rtol=1e-6, atol=1e-7)
    assert np.all(table["pev"] >= table["condvar"] - 1e-10 * scale**2)


def test_table_of_blups():
    fit = fit_of("slope_and_crossed")
    table = fit.blups(level=0.9)
    assert list(table["group"].unique()) == ["s", "i"]
    assert len(table) == 14 * 2 + 11
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(table["upper"], table["estimate"] + z * table["se"])
    np.testing.assert_allclose(table["lower"], table["estimate"] - z * table["se"])
    only = fit.blups("i")
    assert set(only["group"]) == {"i"}
    modes = fit.ranef()
    assert list(modes["s"].columns) == ["(Intercept)", "x"]
    wide = table[table["group"] == "s"].pivot(index="level", columns="term", values="estimate")
    pd.testing.assert_frame_equal(
        modes["s"].sort_index(), wide[["(Intercept)", "x"]], check_names=False,
        check_index_type=False, check_column_type=False,
    )  # fmt: skip
    with pytest.raises(OptionError, match="'i'"):
        fit.blups("subject")


def test_terms_on_one_factor_are_joined():
    modes = fit_of("slopes_diagonal").ranef()
    assert list(modes) == ["s"]
    assert list(modes["s"].columns) == ["(Intercept)", "x"]


@pytest.mark.parametrize("name", CASES)
def test_fitted_and_residuals(name):
    fit, dense = fit_of(name), dense_of(name)
    fitted = dense.X @ dense.beta + dense.Z @ dense.u
    np.testing.assert_allclose(fit.fitted, fitted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit.residuals, fit.design.y - fitted, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        fit.residuals_pearson, np.sqrt(dense.weights) * (fit.design.y - fitted), atol=1e-8
    )
    np.testing.assert_allclose(fit.predict(), fitted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit.predict(random=False), dense.X @ dense.beta, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", REGULAR)
def test_prediction_errors_on_new_rows(name):
    fit, dense, c = fit_of(name), dense_of(name), case(name)
    rows = c.data.sample(25, random_state=1).drop(columns="y").reset_index(drop=True)
    for column in rows.columns.intersection(["x", "z"]):
        rows[column] = rows[column] + 0.5
    new = fit.predict(rows, se=True)
    X = fit.design.fixed_matrix(rows).toarray()[:, fit.design.kept]
    Z = np.hstack(
        [DenseTerm(*term.evaluate(rows), n_levels=len(term.levels)).Z for term in fit.design.random]
    )
    np.testing.assert_allclose(new["prediction"], X @ dense.beta + Z @ dense.u, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(new["se"] ** 2, dense.prediction_variance(X, Z), rtol=1e-7)
    np.testing.assert_allclose(fit.predict(rows), new["prediction"])
    fixed = fit.predict(rows, random=False, se=True)
    np.testing.assert_allclose(fixed["se"] ** 2, dense.prediction_variance(X, 0 * Z), rtol=1e-7)


@pytest.mark.parametrize("name", REGULAR)
def test_many_rows_have_the_errors_of_few(name):
    """Rows of the data read C^-1 on its pattern; levels that never met, and few rows, take solves."""
    fit, dense, c = fit_of(name), dense_of(name), case(name)
    r = np.random.default_rng(3)
    known = c.data.iloc[r.integers(0, len(c.data), 200)].drop(columns="y").reset_index(drop=True)
    mixed = known.copy()
    for term in fit.design.random:
        for column in {variable for variable in term.group_variables if variable in mixed}:
            mixed[column] = r.permutation(mixed[column].to_numpy())
    rows = pd.concat([known, mixed], ignore_index=True)
    many = fit.predict(rows, allow_new_levels=True, se=True)
    parts = [rows[k : k + 50] for k in range(0, 400, 50)]
    few = pd.concat([fit.predict(own, allow_new_levels=True, se=True) for own in parts])
    pd.testing.assert_frame_equal(many, few.reset_index(drop=True), check_exact=False, rtol=1e-9)
    X = fit.design.fixed_matrix(known).toarray()[:, fit.design.kept]
    Z = np.hstack(
        [DenseTerm(*term.evaluate(known), n_levels=len(term.levels)).Z for term in fit.design.random]
    )
    np.testing.assert_allclose(many["se"][:200] ** 2, dense.prediction_variance(X, Z), rtol=1e-7)


def test_some_of_the_terms():
    fit, dense = fit_of("slope_and_crossed"), dense_of("slope_and_crossed")
    only = fit.predict(random=["i"], se=True)
    Z = np.hstack([0 * dense.terms[0].Z, dense.terms[1].Z])
    np.testing.assert_allclose(only["prediction"], dense.X @ dense.beta + Z @ dense.u, rtol=1e-9)
    np.testing.assert_allclose(only["se"] ** 2, dense.prediction_variance(dense.X, Z), rtol=1e-7)
    np.testing.assert_allclose(fit.predict(random=["s", "i"]), fit.predict(), rtol=1e-12)
    with pytest.raises(OptionError, match="'s'"):
        fit.predict(random=["subject"])


def test_a_new_unit_without_its_group_is_told_of_predictions_without_random_effects():
    fit, c = fit_of("slope_and_crossed"), case("slope_and_crossed")
    rows = c.data.iloc[:3].drop(columns="s")
    with pytest.raises(DataError, match=r"'s' of the random effects of 's' is not there.*random=False"):
        fit.predict(rows)
    assert np.isfinite(fit.predict(rows, random=False)).all()


def test_a_linear_model_has_no_groups_to_predict():
    rows = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "x": [0.0, 1.0, 2.0, 4.0]})
    with pytest.raises(OptionError, match="not a grouping factor of this model, which has no random"):
        lmm("y ~ x", rows).predict(rows, random=["g"])


def test_a_path_is_no_table_and_told_what_reads_files():
    with pytest.raises(DataError, match=r"str is not supported.*a file is read by pandas.read_csv"):
        lmm("y ~ x", "trial.csv")


def test_new_levels():
    fit, dense, c = fit_of("slope_and_crossed"), dense_of("slope_and_crossed"), case("slope_and_crossed")
    rows = c.data.iloc[:3].copy()
    rows.loc[rows.index[0], "s"] = "somebody else"
    with pytest.raises(DataError, match=r"'s'.*allow_new_levels"):
        fit.predict(rows)
    new = fit.predict(rows, allow_new_levels=True, se=True)
    X = fit.design.fixed_matrix(rows).toarray()
    Z = np.hstack([dense.terms[0].Z[:3], dense.terms[1].Z[:3]])
    Z[0, : 14 * 2] = 0.0
    np.testing.assert_allclose(new["prediction"], X @ dense.beta + Z @ dense.u, rtol=1e-9)
    z = np.array([1.0, rows["x"].iloc[0]])
    extra = np.array([z @ dense.G[0] @ z, 0, 0])
    np.testing.assert_allclose(new["se"] ** 2, dense.prediction_variance(X, Z) + extra, rtol=1e-7)


def test_predictions_that_are_not_estimable():
    fit, c = fit_of("empty_cells"), case("empty_cells")
    rows = c.data.iloc[:2].copy()
    rows.loc[rows.index[1], ["A", "C"]] = ["A002", "C001"]  # an empty cell
    new = fit.predict(rows, se=True)
    assert new["status"].tolist() == ["ok", "not estimable"]
    assert np.isfinite(new["prediction"]).tolist() == [True, False]


def test_offsets():
    c = case("crossed")
    r = np.random.default_rng(0)
    offset = r.normal(0, 5, len(c.data))
    data = c.data.assign(shifted=c.data["y"] + offset, o=offset)
    fit, plain = lmm("shifted ~ t + (1|g) + (1|l)", data, offset="o"), fit_of("crossed")
    np.testing.assert_allclose(fit.criterion, plain.criterion, rtol=1e-10)
    np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-7)
    np.testing.assert_allclose(fit.fitted, plain.fitted + offset, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fit.response, data["shifted"], rtol=1e-10)
    with pytest.raises(DataError, match="offset"):
        fit.predict(data)
    np.testing.assert_allclose(fit.predict(data, offset=offset), fit.fitted, rtol=1e-8, atol=1e-8)
    with pytest.raises(OptionError, match="belongs to newdata"):  # it was left out without a word
        fit.predict(offset=offset)


@pytest.mark.parametrize(
    "part",
    ["x", "log(x + 9)", "scale(x)", "poly(x, 2)", "ns(x, 3)", "bs(x, 4)", "cr(x, 4)", "x + spl(x)",
     "factor(g)", "x + ps(x, nseg=4)", "ifelse(x > 0, 1, 0)", "x + diag(0 + x | h)", "x + (1 | ar1(t))"],
)  # fmt: skip
def test_no_rows_have_no_predictions(part):
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"g": np.arange(60) % 6, "h": np.arange(60) % 5, "t": np.arange(60) // 4})
    table["x"], table["y"] = rng.normal(size=(2, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = lmm(f"y ~ {part} + (1 | h)", table)
        assert fit.predict(table.iloc[:0]).shape == (0,)
        assert list(fit.predict(table.iloc[:0], se=True)) == ["prediction", "se", "status"]
        if "(x, 3)" in part or "(x, 4)" in part:
            with pytest.raises(DataError, match="missing"):
                fit.predict(table.iloc[:2].assign(x=np.nan))


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_other_rows_have_no_effects_of_units():
    """`units` are the rows of the fit, and no column that a table could lack."""
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"g": np.arange(60) % 6, "t": np.arange(60), "y": rng.normal(size=60).cumsum()})
    fit = lmm("y ~ 1 + (1 | g) + (1 | units)", table, residual="ar1(t)")
    new = fit.predict(table.iloc[:9], se=True)
    known = fit.predict(random=["g"], se=True)[:9]
    np.testing.assert_allclose(new[["prediction", "se"]], known[["prediction", "se"]], rtol=1e-9)


def test_unknown_levels_are_those_of_the_column_that_has_them():
    """Direct and social effects: a pig that is known beside a mate that is not."""
    r = np.random.default_rng(1)
    pigs = [f"p{i}" for i in range(12)]
    every = np.tile(pigs, 4)
    frame = pd.DataFrame({"pig": every, "mate": np.roll(every, 5), "y": r.normal(size=48)})
    known = pd.DataFrame(0.3 * np.ones((12, 12)) + 0.7 * np.eye(12), pigs, pigs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmm("y ~ us(pig, mate | vm(A))", frame, relationships={"A": known})
    with pytest.raises(DataError, match=r"in 'mate' the levels? 'stranger', which did not occur in the fit"):
        fit.predict(pd.DataFrame({"pig": ["p1", "p2"], "mate": ["stranger", "p3"]}))
    with pytest.raises(DataError, match=r"in 'pig' the levels? 'odd'"):
        fit.predict(pd.DataFrame({"pig": ["odd"], "mate": ["stranger"]}))
