"""Responses of any scale and far from zero: the same model, or a refusal; never a silent zero."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel, DenseTerm

from fastlmm_core import lmm
from fastlmm_core.batch import fit_batch
from fastlmm_core.errors import DataError, FastLMMWarning, NearDependenceWarning

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


def random_slopes(mean):
    """x a distance `mean` from zero, rounded there; `near` is the same x less its mean, exactly."""
    r = np.random.default_rng(4)
    x = mean + r.normal(0, 2, N)
    near, group = x - mean, np.repeat(np.arange(GROUPS), N // GROUPS)
    y = near + r.normal(0, 1, GROUPS)[group] + r.normal(0, 0.6, GROUPS)[group] * near + r.normal(0, 1, N)
    return TABLE.assign(x=x, near=near, y=y)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("mean", [1e4, 1e7, 1e9, -1e12])
def test_a_random_slope_on_a_covariate_far_from_zero(mean, reml):
    """Criterion, slopes and predictions are those of the centred covariate, by dense n x n formulas too."""
    data = random_slopes(mean)
    far, near = quiet("y ~ x + (x|g)", data, reml=reml), quiet("y ~ near + (near|g)", data, reml=reml)
    assert far.converged and near.converged
    G = near.sigma**2 * near.solved.user_covariance(0)
    columns = np.column_stack([np.ones(N), data["near"]])
    term = DenseTerm(np.repeat(np.arange(GROUPS), N // GROUPS), columns, GROUPS)
    dense = DenseModel(
        y=data["y"].to_numpy(),
        X=columns,
        terms=[term],
        weights=np.ones(N),
        G=[G],
        sigma2=near.sigma**2,
        reml=reml,
    )
    np.testing.assert_allclose([far.criterion, near.criterion], dense.criterion, rtol=1e-10)
    np.testing.assert_allclose(far.beta[1], dense.beta[1], rtol=1e-8)
    np.testing.assert_allclose(far.se[1], np.sqrt(dense.phi[1, 1]), rtol=1e-8)
    slopes = [fit.ranef()["g"].iloc[:, 1] for fit in (far, near)]
    np.testing.assert_allclose(*slopes, rtol=1e-6, atol=1e-8)
    variances = [fit.variance_components["estimate"].iloc[[1, 3]] for fit in (far, near)]
    np.testing.assert_allclose(*variances, rtol=1e-7)
    np.testing.assert_allclose(far.fitted, near.fitted, rtol=1e-7, atol=1e-8)
    summary = str(far.summary())
    assert "x" in summary and far.singular == near.singular


def test_a_far_random_slope_at_its_boundary():
    """The made table of 10 groups x 8 rows; 357.5272 is the criterion of the centred covariate."""
    data = pd.read_csv(Path(__file__).parent / "reference" / "far_covariate.csv")
    fit = quiet("y ~ x + (x|g)", data)
    assert abs(fit.criterion - 357.5272) < 5e-5
    assert fit.converged
    assert fit.singular_terms == ("the correlation of (Intercept) and x in g is -1",)


def test_batches_leave_far_covariates_to_the_fit_that_centres_them():
    data = random_slopes(1e9).assign(trial="one")
    fits = fit_batch(data, "y ~ x + (x|g)", by="trial", fixed=False).fits
    fit = quiet("y ~ x + (x|g)", data)
    np.testing.assert_allclose(
        fits[["criterion", "sigma"]].to_numpy()[0], [fit.criterion, fit.sigma], rtol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-160, 1e-120, 1e-85, 1e77, 1e120, 1e150, 1e200])
def test_one_trial_of_any_scale_does_not_stop_its_batch(scale):
    """It ends, with the figures of its scale or with the reason; the others are as they are alone."""
    trials = [
        TABLE.assign(trial=name, y=TABLE["y"] * own)
        for name, own in zip("abc", (1.0, scale, 2.0), strict=True)
    ]
    options = {"by": "trial", "emmeans": "t", "blups": True}
    fits = fit_batch(pd.concat(trials), "y ~ t + x + (1|g)", **options).fits.set_index("trial")
    assert fits["status"][["a", "c"]].tolist() == ["ok", "ok"]
    np.testing.assert_allclose(fits["sigma"]["c"], 2.0 * fits["sigma"]["a"], rtol=1e-9)
    if 1e-150 < scale < 1e153:
        assert fits["status"]["b"] == "ok"
        np.testing.assert_allclose(fits["sigma"]["b"], scale * fits["sigma"]["a"], rtol=1e-9)
    else:
        assert fits["status"]["b"] == "data"
        assert "other units" in fits["message"]["b"]


def nearly_collinear(added):
    """x2 = x1 + added z, and the z that this is exactly."""
    r = np.random.default_rng(9)
    x1 = r.normal(5, 1, N)
    x2 = x1 + added * r.normal(size=N)
    z = (x2 - x1) / added
    y = TABLE["y"] + x1 + 0.7 * z
    return TABLE.assign(x1=x1, x2=x2, z=z, y=y)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("added", [1e-3, 1e-5, 1e-6, 2e-7])
def test_nearly_collinear_columns_have_their_estimates(added, weights):
    """beta2 = beta_z / added and beta1 = beta_x1 - beta2 of the model in (x1, z), from dense matrices."""
    data = nearly_collinear(added).assign(w=1.0 + np.arange(N) % 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = lmm("y ~ t + x1 + x2 + (1|g)", data, weights=weights)
    assert fit.converged
    kinds = {warning.category for warning in caught}
    assert kinds == ({NearDependenceWarning} if added < 1e-4 else set())
    t = data["t"].to_numpy()
    X = np.column_stack([np.ones(N), t == "b", t == "c", data["x1"], data["z"]]).astype(float)
    w = np.ones(N) if weights is None else data["w"].to_numpy()
    V = np.diag(1.0 / w) + fit.theta[0] ** 2 * np.kron(np.eye(GROUPS), np.ones((N // GROUPS,) * 2))
    solved = np.linalg.solve(V, X)
    phi = np.linalg.inv(X.T @ solved)
    beta = phi @ solved.T @ data["y"].to_numpy()
    rest = data["y"].to_numpy() - X @ beta
    r2 = rest @ np.linalg.solve(V, rest)
    sigma2 = r2 / (N - 5)
    np.testing.assert_allclose(fit.sigma, np.sqrt(sigma2), rtol=1e-8)
    np.testing.assert_allclose(fit.beta[4], beta[4] / added, rtol=1e-7)
    np.testing.assert_allclose(fit.se[4], np.sqrt(sigma2 * phi[4, 4]) / added, rtol=1e-7)
    np.testing.assert_allclose(fit.beta[3] + fit.beta[4], beta[3], rtol=1e-5)
    log_determinants = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ solved)[1] + 2 * np.log(added)
    criterion = log_determinants + (N - 5) * (1 + np.log(2 * np.pi * sigma2))
    np.testing.assert_allclose(fit.criterion, criterion, rtol=1e-9)
    means = fit.emmeans("t").to_frame()
    K = np.tile(X.mean(axis=0), (3, 1))
    K[:, 1:3] = [[0, 0], [1, 0], [0, 1]]
    np.testing.assert_allclose(means["estimate"], K @ beta, rtol=1e-7)


def test_a_near_dependence_among_many_columns():
    """Levels of a factor and a covariate that is constant within them but for 1e-5."""
    r = np.random.default_rng(2)
    codes = np.repeat(np.arange(18), 4)
    z = r.normal(size=N)
    data = TABLE.assign(f=[f"f{k:02d}" for k in codes], x=3.0 * codes + 1e-5 * z)
    data["z"] = (data["x"] - 3.0 * codes) / 1e-5
    near, plain = quiet("y ~ f + x + (1|g)", data), quiet("y ~ f + z + (1|g)", data)
    assert near.converged
    np.testing.assert_allclose(
        [near.beta[-1] * 1e-5, near.se[-1] * 1e-5], [plain.beta[-1], plain.se[-1]], rtol=1e-6
    )
    np.testing.assert_allclose(near.sigma, plain.sigma, rtol=1e-7)
    np.testing.assert_allclose(near.fitted, plain.fitted, rtol=1e-6, atol=1e-7)


LEVELS = [f"g{k}" for k in range(GROUPS)]
OWN = np.random.default_rng(4).normal(size=(GROUPS, 40))
STRUCTURES = {
    "plain": ("(1|g)", {}),
    "variances": ("(1|g)", {"residual": "units | t"}),
    "process": ("(1|t)", {"residual": "ar1(place | g)"}),
    "eigenbasis": ("(1|vm(g, K))", {"relationships": {"K": (OWN @ OWN.T / 40, LEVELS)}}),
}


@pytest.mark.parametrize("base, power", [(2000, 2), (2000, 3), (1_000_000, 2)])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_powers_of_a_year_are_those_of_a_centred_one(structure, base, power):
    """All estimates agree that do not depend on the origin; a cubic lost 12 % of F without a word."""
    random, options = STRUCTURES[structure]
    place = np.tile(np.arange(N // GROUPS), GROUPS)
    centred = np.random.default_rng(1).integers(-5, 6, size=N).astype(float)
    data = TABLE.assign(c=centred, year=centred + base, place=place)
    data["y"] = data["y"] + 0.02 * centred**2
    found = []
    for name in ("c", "year"):
        terms = [name, *(f"I({name}^{k})" for k in range(2, power + 1))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(lmm(f"y ~ {' + '.join(terms)} + {random}", data, **options))
        near = any(warning.category is NearDependenceWarning for warning in caught)
        assert near == (name == "year" and (base, power) != (2000, 2))
    centre, year = found
    assert not year.dropped_columns
    np.testing.assert_allclose(year.beta[-1], centre.beta[-1], rtol=1e-6)
    np.testing.assert_allclose(year.se[-1], centre.se[-1], rtol=1e-7)
    np.testing.assert_allclose(year.criterion, centre.criterion, rtol=1e-9)
    np.testing.assert_allclose(
        year.variance_components["estimate"], centre.variance_components["estimate"], rtol=1e-6, atol=1e-9
    )
    tests = [fit.anova(ddf="satterthwaite").iloc[-1] for fit in found]
    np.testing.assert_allclose(tests[1]["F"], tests[0]["F"], rtol=1e-6)
    np.testing.assert_allclose(tests[1]["df_den"], tests[0]["df_den"], rtol=1e-4)


@pytest.mark.parametrize("formula", ["y ~ x + (1|g)", "y ~ t + (0 + x|g)", "y ~ t + (x|g)"])
@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e160, 1e300])
def test_covariates_without_squares_are_refused_in_one_line(formula, scale, capfd):
    data = TABLE.assign(x=TABLE["x"] * scale)
    with pytest.raises(DataError, match=r"column 'x' has values up to .*, whose squares are no numbers"):
        quiet(formula, data)
    fits = fit_batch(data.assign(trial="one"), formula, by="trial", fixed=False).fits
    assert fits["status"].tolist() == ["data"]
    printed = capfd.readouterr()
    assert "DLASCL" not in printed.out + printed.err  # LAPACK's own word on what it is given


@pytest.mark.parametrize("weight", [1e-100, 1e-30, 1e30, 1e200])
def test_weights_far_from_one_are_refused_beside_random_terms(weight, capfd):
    """Variance ratios out of reach: the search would call any place an optimum."""
    data = TABLE.assign(w=weight * (1.0 + np.arange(N) % 3), trial="one")
    with pytest.raises(DataError, match="divide them by their mean"):
        quiet(FORMULAS[0], data, weights="w")
    fits = fit_batch(data, FORMULAS[0], by="trial", weights="w").fits
    assert fits["status"].tolist() == ["data"]
    assert "DLASCL" not in capfd.readouterr().out


@pytest.mark.parametrize("weight", [1e-9, 1e9])
def test_weights_count_by_their_ratios(weight):
    data = TABLE.assign(w=1.0 + np.arange(N) % 3)
    plain = quiet(FORMULAS[0], data, weights="w")
    scaled = quiet(FORMULAS[0], data.assign(w=data["w"] * weight), weights="w")
    np.testing.assert_allclose(scaled.beta, plain.beta, rtol=1e-5)
    np.testing.assert_allclose(scaled.sigma, plain.sigma * np.sqrt(weight), rtol=1e-5)


def visits_in_units(unit, seed=3, subjects=20):
    """Three visits of `subjects` with a correlation of 0.8, the first one measured in another unit."""
    r = np.random.default_rng(seed)
    R = np.full((3, 3), 0.8) + 0.2 * np.eye(3)
    e = r.normal(size=(subjects, 3)) @ np.linalg.cholesky(R).T * [unit, 1.0, 1.0]
    return pd.DataFrame({
        "y": (e + np.arange(3)).ravel(), "visit": np.tile(list("abc"), subjects),
        "id": np.repeat([f"s{k:02d}" for k in range(subjects)], 3),
    })  # fmt: skip


@pytest.mark.parametrize("structure", ["cs", "us", "toep", "hetar1", "diag"])
def test_visits_in_units_far_apart(structure):
    """REML in other units of one visit: -2 l moves by 2 (n_a - p_a) log unit, the correlations stay."""
    expected = quiet("y ~ visit", visits_in_units(1.0), residual=f"{structure}(visit | id)")
    covariances = expected.variance_components
    for unit in (1e-2, 1e-4, 1e-6, 1e-7, 1e-8):
        fit = quiet("y ~ visit", visits_in_units(unit), residual=f"{structure}(visit | id)")
        assert fit.converged
        assert fit.criterion - 2 * 19 * np.log(unit) == pytest.approx(expected.criterion, abs=1e-5)
        rows = fit.variance_components
        for (_, own), (_, other) in zip(rows.iterrows(), covariances.iterrows(), strict=True):
            factor = unit if own["var1"] == "a" and pd.isna(own["var2"]) else 1.0
            assert own["sd_or_cor"] / factor == pytest.approx(other["sd_or_cor"], rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("slope, words", [(0.5, None), (0.05, "correlation of (Intercept) and x is -1")])
@pytest.mark.parametrize("base", [2000.0, 1e5, 1e6])
def test_slopes_far_from_zero_are_singular_where_those_of_the_centred_covariate_are(base, slope, words):
    """A variance of 0.38 was called zero beside that of an intercept a million away, 4e11."""
    rng, noise = np.random.default_rng(4), np.random.default_rng(1)
    g, c, u = rng.choice(10, 120), rng.integers(-5, 6, 120).astype(float), rng.normal(size=10)
    data = pd.DataFrame({"g": [f"g{k}" for k in g], "h": [f"h{k % 4}" for k in range(120)], "x": c + base})
    data["y"] = noise.normal(size=120) + noise.normal(size=10)[g] + slope * u[g] * c
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = lmm("y ~ h + x + (x | g)", data, residual="units | h")
        lmm("y ~ h + c + (c | g)", data.assign(c=c), residual="units | h")
    ours, centred = caught[: len(caught) // 2], caught[len(caught) // 2 :]
    assert len(ours) == len(centred) == (words is not None)
    assert fit.singular == (words is not None)
    for warning in ours:
        assert str(warning.message) == f"singular fit: the {words} in g"
