"""Responses of any scale and far from zero: the same model, or a refusal; never a silent zero."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import DataError, FastLMMWarning

RNG = np.random.default_rng(7)
N, GROUPS = 72, 12
TABLE = pd.DataFrame(
    {
        "g": np.repeat([f"g{k}" for k in range(GROUPS)], N // GROUPS),
        "t": np.tile(["a", "b", "c"], N // 3),
        "x": RNG.normal(size=N),
    }
)
TABLE["y"] = RNG.normal(size=N) + np.repeat(RNG.normal(size=GROUPS), N // GROUPS) + 0.5 * TABLE["x"]
FORMULAS = ("y ~ t + x + (1|g)", "y ~ t + (x|g)", "y ~ t + x")


def quiet(formula, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(formula, data, **options)


def dense_fixed_effects(y, theta):
    """Generalized least squares of y on (1, t, x) with V = I + theta^2 ZZ': beta, standard errors, sigma."""
    t = TABLE["t"].to_numpy()
    X = np.column_stack([np.ones(N), t == "b", t == "c", TABLE["x"]]).astype(float)
    Z = np.kron(np.eye(GROUPS), np.ones((N // GROUPS, 1)))
    V_inv = np.linalg.inv(np.eye(N) + theta**2 * Z @ Z.T)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    beta = phi @ X.T @ V_inv @ y
    rest = y - X @ beta
    sigma2 = rest @ V_inv @ rest / (N - 4)
    return beta, np.sqrt(sigma2 * np.diag(phi)), np.sqrt(sigma2)


def figures(fit, scale):
    """Everything a fit says, with what has the unit of the response divided by `scale` as often as it has."""
    mixed = bool(fit.design.random)
    tables = [fit.fixed_effects(ddf=ddf) for ddf in ("satterthwaite", "kenward-roger", "residual")]
    means = fit.emmeans("t")
    tables += [means.to_frame(), means.pairs().to_frame(), means.cld()]
    out = [np.asarray(table[["estimate", "se", "lower", "upper"]]) / scale for table in tables]
    out += [np.asarray(table["df"], float) for table in tables]
    out += [np.asarray(fit.anova(type=3, ddf=ddf)[["F", "p"]]) for ddf in ("satterthwaite", "kenward-roger")]
    out += [fit.joint_tests()[["df_den", "F", "p"]]]
    out += [fit.predict(se=True)[["prediction", "se"]] / scale, fit.fitted / scale, fit.residuals / scale]
    out += [fit.response / scale, np.array([fit.sigma]) / scale, fit.theta, fit.cov_beta / scale / scale]
    out += [np.array([fit.r_squared, fit.adj_r_squared])]
    components = fit.variance_components
    out += [np.asarray(components[["estimate", "se"]]) / scale / scale]
    if mixed:
        blups = fit.blups()
        out += [blups[["estimate", "se"]] / scale, blups[["pev", "condvar"]] / scale / scale]
        out += [blups["reliability"], fit.ranef()["g"] / scale]
    dof = N - fit.rank if mixed else N
    return [np.asarray(part, float) for part in out] + [np.array([fit.criterion - 2.0 * dof * np.log(scale)])]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("exponent", [-153, -120, -85, -41, 41, 77, 100, 150])
def test_every_figure_follows_the_scale_of_the_response(formula, exponent):
    scale = 10.0**exponent
    plain = quiet(formula, TABLE)
    scaled = quiet(formula, TABLE.assign(y=TABLE["y"] * scale))
    assert scaled.converged == plain.converged
    for mine, theirs in zip(figures(scaled, scale), figures(plain, 1.0), strict=True):
        size = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-9 * size)
    assert str(scaled.summary())


def test_a_power_of_two_changes_no_digit():
    plain = quiet(FORMULAS[0], TABLE.assign(y=TABLE["y"] * 2.0**160))
    scaled = quiet(FORMULAS[0], TABLE.assign(y=TABLE["y"] * 2.0**360))
    assert np.array_equal(scaled.beta, plain.beta * 2.0**200)
    assert np.array_equal(scaled.se, plain.se * 2.0**200)
    assert scaled.sigma == plain.sigma * 2.0**200


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-160, 1e155, 1e200, 1e306])
def test_variances_that_are_no_numbers_are_refused(formula, scale, reml):
    with pytest.raises(DataError, match=r"response is too (large|small).*other units"):
        quiet(formula, TABLE.assign(y=TABLE["y"] * scale), reml=reml)


@pytest.mark.parametrize("weight", [1e-60, 1e60])
def test_weights_count_in_the_scale(weight):
    data = TABLE.assign(w=1.0 + np.arange(N) % 3)
    plain = quiet(FORMULAS[2], data, weights="w")
    scaled = quiet(FORMULAS[2], data.assign(w=data["w"] * weight, y=data["y"] * 1e-60), weights="w")
    np.testing.assert_allclose(scaled.beta, plain.beta * 1e-60, rtol=1e-12)
    np.testing.assert_allclose(scaled.se, plain.se * 1e-60, rtol=1e-12)
    np.testing.assert_allclose(scaled.sigma, plain.sigma * 1e-60 * np.sqrt(weight), rtol=1e-12)


@pytest.mark.parametrize("formula", [FORMULAS[0], "y ~ 0 + t + x + (1|g)"])
@pytest.mark.parametrize("shift", [1e6, 1e10, 1e13, 1e15, -1e15])
def test_a_response_far_from_zero_has_the_variances_of_its_deviations(formula, shift):
    """The reference sees the deviations only, rounded as the shifted response is."""
    far = TABLE["y"].to_numpy() + shift
    fit = quiet(formula, TABLE.assign(y=far))
    assert fit.converged
    near = far - shift
    beta, se, sigma = dense_fixed_effects(near, fit.theta[0])
    np.testing.assert_allclose(fit.theta, quiet(FORMULAS[0], TABLE.assign(y=near)).theta, rtol=1e-6)
    np.testing.assert_allclose(fit.sigma, sigma, rtol=1e-8)
    np.testing.assert_allclose(fit.se[-1], se[-1], rtol=1e-8)
    np.testing.assert_allclose(fit.beta[-1], beta[-1], rtol=1e-7)
    np.testing.assert_allclose(fit.residuals.sum(), 0.0, atol=1e-10)


def test_a_response_that_is_all_rounding_is_refused():
    with pytest.raises(DataError, match="last digits only"):
        lmm(FORMULAS[0], TABLE.assign(y=TABLE["y"] + 1e16))


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e7, 1e11])
def test_what_the_fixed_part_explains_is_explained_wherever_it_lies(mean):
    """A perfect fit is one although the response is rounded where it stands."""
    slope = TABLE["x"].to_numpy()
    fit = quiet(FORMULAS[0], TABLE.assign(y=mean + 3.0 * slope))
    assert fit.sigma == 0.0
    np.testing.assert_allclose(fit.beta[[0, 3]], [mean, 3.0], rtol=1e-4, atol=1e-12)
