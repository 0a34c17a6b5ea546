"""What must not change the inference: order of rows and levels, origin and unit of variables."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_designs import CASES, SINGULAR, case, fit_of

from fastlmm_core import lmm, prepare
from fastlmm_core.linalg.supernodal import SupernodalFactor

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
SCALES = [1e-8, 1e-4, 1e4, 1e8]


def table(fit, ddf="kenward-roger"):
    return fit.fixed_effects(ddf=ddf).set_index("term")


def components(fit):
    return fit.variance_components["estimate"].to_numpy()


def close_components(a, b, rtol):
    scale = np.abs(b).max()
    np.testing.assert_allclose(a / scale, b / scale, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in CASES if n != "empty_cells"])
def test_order_of_the_rows(name):
    c, fit = case(name), fit_of(name)
    other = lmm(c.formula, c.data.sample(frac=1, random_state=3), weights=c.weights)
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-10)
    close_components(components(other), components(fit), 1e-5)
    for column in ("estimate", "se", "df"):
        rtol = 1e-3 if name in SINGULAR and column == "df" else 2e-5
        np.testing.assert_allclose(table(other)[column], table(fit)[column], rtol=rtol, atol=1e-9)
    effects, reference = (f.blups().set_index(["group", "level", "term"]).sort_index() for f in (other, fit))
    np.testing.assert_allclose(effects["estimate"], reference["estimate"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["crossed_interaction", "nested", "slopes3", "slope_and_crossed"])
def test_names_and_order_of_random_levels(name):
    c, fit = case(name), fit_of(name)
    data = c.data.copy()
    r = np.random.default_rng(1)
    for column in ("g", "l", "rep", "block", "s", "i"):
        if column in data:
            levels = data[column].unique()
            data[column] = data[column].map(
                dict(zip(levels, r.permutation(len(levels)).astype(str), strict=True))
            )
    other = lmm(c.formula, data)
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-11)
    np.testing.assert_allclose(table(other)[["se", "df"]], table(fit)[["se", "df"]], rtol=1e-5)


def test_reference_level_of_a_fixed_factor():
    c, fit = case("crossed"), fit_of("crossed")
    data = c.data.assign(t=pd.Categorical(c.data["t"], categories=["T002", "T000", "T001"]))
    other = lmm(c.formula, data)
    a, b = table(fit).loc["tT002"], table(other).loc["tT000"]  # the same difference, turned round
    np.testing.assert_allclose(
        [b["estimate"], b["se"], b["df"]], [-a["estimate"], a["se"], a["df"]], rtol=1e-6
    )
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-10)


@pytest.mark.parametrize("shift", [-1e3, 1e6, 1e9])
def test_shift_of_the_response(shift):
    c, fit = case("slope_and_crossed"), fit_of("slope_and_crossed")
    other = lmm(c.formula, c.data.assign(y=c.data["y"] + shift))
    rtol = 1e-5 if abs(shift) < 1e8 else 1e-4  # y itself has lost digits by then
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-7)
    close_components(components(other), components(fit), rtol)
    np.testing.assert_allclose(table(other)["se"], table(fit)["se"], rtol=rtol)
    np.testing.assert_allclose(table(other)["estimate"].iloc[1], table(fit)["estimate"].iloc[1], rtol=1e-5)
    np.testing.assert_allclose(other.beta[0] - shift, fit.beta[0], rtol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "name", ["crossed", "slopes2", "slopes3", "weighted", "singular_scalar", "singular_correlation"]
)
def test_unit_of_the_response(name, scale):
    c, fit = case(name), fit_of(name)
    other = lmm(c.formula, c.data.assign(y=c.data["y"] * scale), weights=c.weights)
    assert other.converged
    assert other.singular == fit.singular
    np.testing.assert_allclose(other.theta, fit.theta, rtol=1e-4, atol=1e-5)
    for column in ("estimate", "se"):
        np.testing.assert_allclose(table(other)[column] / scale, table(fit)[column], rtol=1e-5)
    for ddf in ("kenward-roger", "satterthwaite"):
        np.testing.assert_allclose(table(other, ddf)["df"], table(fit, ddf)["df"], rtol=1e-4)
    n_free = fit.nobs - fit.rank
    np.testing.assert_allclose(other.criterion - 2 * n_free * np.log(scale), fit.criterion, rtol=1e-8)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "name", ["slopes2", "slopes3", "slopes_diagonal", "slope_and_crossed", "singular_correlation"]
)
def test_unit_of_a_covariate_with_random_slopes(name, scale):
    c, fit = case(name), fit_of(name)
    other = lmm(c.formula, c.data.assign(x=c.data["x"] * scale))
    assert other.converged
    assert other.singular == fit.singular
    unit = np.array([scale if term == "x" else 1.0 for term in table(fit).index])
    for column in ("estimate", "se"):
        np.testing.assert_allclose(table(other)[column] * unit, table(fit)[column], rtol=2e-5)
    for ddf in ("kenward-roger", "satterthwaite"):
        np.testing.assert_allclose(table(other, ddf)["df"], table(fit, ddf)["df"], rtol=1e-4)
    variances = fit.variance_components
    power = (variances["var1"] == "x").astype(int) + (variances["var2"] == "x").astype(int)
    power += ((variances["var1"] == "x") & variances["var2"].isna()).astype(int)
    close_components(components(other) * scale ** power.to_numpy(), components(fit), 1e-4)
    np.testing.assert_allclose(
        other.variance_components["sd_or_cor"][variances["var2"].notna()],
        variances["sd_or_cor"][variances["var2"].notna()], rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("shift", [100.0, 1e4, 1e6])
def test_origin_of_a_covariate_with_random_slopes(shift):
    """With a full covariance matrix the model does not change; at 1e6 the data have lost six digits."""
    c, fit = case("slopes2"), fit_of("slopes2")
    other = lmm(c.formula, c.data.assign(x=c.data["x"] + shift))
    assert other.converged
    np.testing.assert_allclose(other.criterion, fit.criterion, rtol=1e-8)
    np.testing.assert_allclose(table(other).loc["x", "se"], table(fit).loc["x", "se"], rtol=1e-5)
    np.testing.assert_allclose(table(other).loc["x", "df"], table(fit).loc["x", "df"], rtol=1e-4)
    np.testing.assert_allclose(other.fitted, fit.fitted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_everything_at_once(scale):
    """y in one unit, x in the other extreme."""
    c, fit = case("slopes2"), fit_of("slopes2")
    other = lmm(c.formula, c.data.assign(y=c.data["y"] * scale, x=c.data["x"] / scale))
    assert other.converged
    t = ["t", "df"]
    np.testing.assert_allclose(table(other)[t], table(fit)[t], rtol=1e-4)


def test_a_prepared_model_forgets_the_response():
    """Fits of several traits on one preparation equal fits made separately, in any order."""
    c = case("crossed")
    prepared = prepare(c.formula, c.data)
    r = np.random.default_rng(2)
    first = prepared.fit()
    other = r.normal(size=len(c.data)) + 1e3
    second = prepared.fit(y=other)
    third = first.refit(c.data["y"])
    np.testing.assert_array_equal(first.theta, third.theta)
    np.testing.assert_array_equal(first.beta, third.beta)
    direct = lmm(c.formula, c.data.assign(y=other))
    np.testing.assert_allclose(second.beta, direct.beta, rtol=1e-12)
    np.testing.assert_allclose(second.theta, direct.theta, rtol=1e-9, atol=1e-12)
    assert first.criterion == fit_of("crossed").criterion
    # earlier results keep their own factor
    np.testing.assert_array_equal(first.fixed_effects()["df"], third.fixed_effects()["df"])


@pytest.mark.parametrize("large", [False, True])
def test_threads_do_not_disturb_each_other(large):
    """Fits of many responses on one preparation at a time equal those one after another."""
    c = case("slope_and_crossed")
    prepared = prepare(c.formula, c.data)
    if large:
        e = prepared.equations
        prepared = replace(prepared, factor=SupernodalFactor(e.indptr, e.indices))
    r = np.random.default_rng(4)
    responses = [c.data["y"].to_numpy() + r.normal(size=len(c.data)) for _ in range(12)]

    def figures(y):
        fit = prepared.fit(y=y)
        return np.concatenate(
            [[fit.criterion], fit.theta, fit.fixed_effects()[["se", "df"]].to_numpy().ravel()]
        )

    alone = [figures(y) for y in responses]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(figures, responses))
    np.testing.assert_array_equal(alone, together)


def test_verbose_does_not_change_the_fit(capsys):
    c = case("slopes2")
    fit = lmm(c.formula, c.data, verbose=True)
    assert "deviance" in capsys.readouterr().out
    np.testing.assert_allclose(fit.criterion, fit_of("slopes2").criterion, rtol=1e-12)
    np.testing.assert_allclose(fit.theta, fit_of("slopes2").theta, rtol=1e-6)
