"""Profile intervals against lme4, and against the definition on dense matrices."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2, norm

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import InferenceError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
REFERENCE = json.loads((Path(__file__).parent / "reference" / "profiles.json").read_text())["cases"]


def limits(table):
    return table[["lower", "upper"]].to_numpy(float)


@pytest.mark.parametrize("case", REFERENCE)
def test_intervals_are_those_of_lme4(case):
    """1e-6 of a profile with ten times the points of lme4's default, whose spline is good to 2e-4."""
    own = REFERENCE[case]
    fit = lmm(own["formula"], datasets.load(case.partition("_")[0]))
    found = limits(fit.conf_int("profile", level=own["level"]))
    for key, tolerance in (("fine", 1e-6), ("confint", 2e-4)):
        expected = np.array([own[key]["lower"], own[key]["upper"]], float).T
        assert np.allclose(found, expected, rtol=tolerance), key


def test_a_variance_estimated_as_zero_has_an_interval():
    """Dyestuff2: the profile of the held standard deviation is that of the dense likelihood."""
    data = datasets.load("dyestuff2")
    fit = lmm("Yield ~ 1 + (1|Batch)", data)
    row = fit.profile("theta_").conf_int(0.95).iloc[0]
    assert row["estimate"] == row["lower"] == 0.0
    assert dense_rise(data, row["upper"]) == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6)


def dense_rise(data, sd):
    """Least -2 log-likelihood with the batch sd held, less the least of all (at zero)."""
    y = data["Yield"].to_numpy()
    same = np.equal.outer(data["Batch"].to_numpy(), data["Batch"].to_numpy()).astype(float)

    def deviance(log_s2, held):
        V = held**2 * same + np.exp(log_s2[0]) * np.eye(30)
        inverse = np.linalg.inv(V)
        mean = inverse.sum(axis=0) @ y / inverse.sum()
        return np.linalg.slogdet(V)[1] + (y - mean) @ inverse @ (y - mean)

    best = [minimize(deviance, [2.6], args=(held,), tol=1e-13).fun for held in (sd, 0.0)]
    return best[0] - best[1]


def test_levels_follow_each_other_and_zeta_is_their_quantile():
    profile = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy")).profile(level=0.5)
    narrow, wide = limits(profile.conf_int(0.5)), limits(profile.conf_int(0.999))
    assert np.all(wide[:, 0] < narrow[:, 0]) and np.all(narrow[:, 1] < wide[:, 1])
    points = profile.points
    ends = points[points["parameter"] == "sigma"].set_index("value")["zeta"]
    upper = wide[3, 1]
    nearest = ends.index[np.abs(ends.index - upper).argmin()]
    assert ends[nearest] == pytest.approx(norm.ppf(0.9995), abs=1e-3)


def test_a_linear_model_has_the_closed_form():
    """n log(1 + t2 / (n - p)) = q: the profile of a least squares coefficient."""
    data = datasets.load("sleepstudy")
    fit = lmm("Reaction ~ Days", data)
    row = fit.conf_int("profile", "Days").iloc[0]
    n, df = 180, 178
    t = np.sqrt(df * np.expm1(chi2.ppf(0.95, 1) / n))
    effects = fit.fixed_effects().set_index("term").loc["Days"]
    assert row["upper"] == pytest.approx(effects["estimate"] + t * effects["se"], rel=1e-8)
    assert row["lower"] == pytest.approx(effects["estimate"] - t * effects["se"], rel=1e-8)


def test_units_and_shifts_carry_over():
    data = datasets.load("sleepstudy")
    first = limits(lmm("Reaction ~ Days + (Days|Subject)", data).conf_int())
    moved = data.assign(Reaction=1e3 * data["Reaction"] - 7e4)
    second = limits(lmm("Reaction ~ Days + (Days|Subject)", moved).conf_int())
    factor = np.array([1e3, 1.0, 1e3, 1e3, 1e3, 1e3])[:, None]
    shift = np.array([0, 0, 0, 0, -7e4, 0])[:, None]
    assert np.allclose(second, first * factor + shift, rtol=1e-6)


def test_both_engines_agree():
    """A relationship that is the identity is the plain model."""
    data = datasets.load("penicillin")
    plain = lmm("diameter ~ 1 + (1|plate) + (1|sample)", data).conf_int()
    plates = sorted(data["plate"].unique())
    related = lmm("diameter ~ 1 + (1|vm(plate, I)) + (1|sample)", data,
                  relationships={"I": (np.eye(len(plates)), plates)}).conf_int()  # fmt: skip
    assert list(related["kind"]) == list(plain["kind"])
    assert np.allclose(limits(related), limits(plain), rtol=1e-6)


def test_an_autocorrelation_within_subjects_against_dense_matrices():
    data = datasets.load("sleepstudy")
    data = data[data["Days"] < 5]
    fit = lmm("Reaction ~ Days", data, residual="ar1(Days | Subject)")
    table = fit.conf_int().set_index("parameter")
    y, X = data["Reaction"].to_numpy(), np.column_stack([np.ones(len(data)), data["Days"]])
    day = data["Days"].to_numpy(float)
    same = np.equal.outer(data["Subject"].to_numpy(), data["Subject"].to_numpy())
    lag = np.abs(day[:, None] - day)

    def deviance(log_v, rho):
        V = np.exp(log_v[0]) * same * rho**lag
        inverse = np.linalg.inv(V)
        beta = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
        return np.linalg.slogdet(V)[1] + (y - X @ beta) @ inverse @ (y - X @ beta)

    rho = table[table["kind"] == "correlation"].iloc[0]
    least = minimize(lambda x: deviance([x[0]], x[1]), [7.0, 0.6], method="Nelder-Mead",
                     options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 2000}).fun  # fmt: skip
    for limit in (rho["lower"], rho["upper"]):
        held = minimize(deviance, [7.0], args=(limit,), tol=1e-13).fun
        assert held - least == pytest.approx(chi2.ppf(0.95, 1), rel=1e-5)


def test_parameters_that_are_held_have_no_interval():
    data = datasets.load("dyestuff")
    fit = lmm("Yield ~ 1 + (1|Batch)", data, fixed_parameters={"Residual": 2400.0})
    table = fit.conf_int()
    assert list(table["kind"]) == ["sd", "fixed"]
    y = data["Yield"].to_numpy()
    same = np.equal.outer(data["Batch"].to_numpy(), data["Batch"].to_numpy())

    def deviance(sd):
        V = sd**2 * same + 2400.0 * np.eye(30)
        inverse = np.linalg.inv(V)
        r = y - inverse.sum(axis=0) @ y / inverse.sum()
        return np.linalg.slogdet(V)[1] + r @ inverse @ r

    row = table.iloc[0]
    rise = deviance(row["upper"]) - deviance(row["estimate"])
    assert rise == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6)


def test_what_cannot_be_profiled_is_refused():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    with pytest.raises(OptionError, match=r"'sigmas', which is no parameter of the fit.*'sigma'"):
        fit.profile("sigmas")
    with pytest.raises(OptionError, match="method='normal' is not known; allowed: 'profile'"):
        fit.conf_int("normal")
    with pytest.raises(OptionError, match="method='wald' has no option 'seed'"):
        fit.conf_int("wald", seed=3)
    with pytest.raises(OptionError, match=r"level=1\.5 must lie above 0 and below 1"):
        fit.profile(level=1.5)


def test_wald_intervals_are_those_of_the_information():
    """One way analysis of variance, balanced: Var(log sigma2_hat) = 2 / df of the residual mean square."""
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    table = fit.conf_int("wald").set_index("parameter")
    low, high = fit.sigma * np.exp(np.array([-1, 1]) * norm.ppf(0.975) * np.sqrt(2.0 / 24) / 2)
    assert np.allclose(table.loc["sigma", ["lower", "upper"]].astype(float), [low, high], rtol=1e-8)
    effects = fit.fixed_effects().set_index("term").loc["(Intercept)"]
    assert table.loc["(Intercept)", "lower"] == effects["lower"]
    zero = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2")).conf_int("wald").iloc[0]
    assert zero["estimate"] == 0.0 and np.isnan(zero["lower"])


def test_columns_are_the_same_for_every_method():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    tables = [fit.conf_int("profile"), fit.conf_int("wald"), fit.conf_int("bootstrap", n=60, seed=1)]
    for table in tables:
        assert isinstance(table, pd.DataFrame)
        assert list(table.columns) == [*"parameter kind group var1 var2 estimate lower upper method".split()]
        assert list(table["parameter"]) == ["sd(Batch: (Intercept))", "sigma", "(Intercept)"]
        assert list(table["group"]) == ["Batch", "Residual", None]


def test_a_spline_whose_variance_is_estimated_as_zero_against_dense_matrices():
    """The upper limit is where the dense likelihood, all others free, has risen by the quantile."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": np.tile(np.arange(12.0), 3)})
    data["y"] = 1.0 + 0.1 * data["x"] + rng.normal(size=36)
    fit = lmm("y ~ x + ps(x, nseg=6)", data, reml=False)
    row = fit.conf_int().iloc[0]
    assert row["estimate"] == row["lower"] == 0.0
    e = fit.solved.equations
    Q, basis = (
        e.terms[0].levels.precision(e.terms[0].levels.start()).toarray(),
        e.terms[0].matrices[0].toarray(),
    )
    K = basis @ np.linalg.solve(Q, basis.T) / e.terms[0].levels.natural(e.terms[0].levels.start())[0]
    X, y = np.column_stack([np.ones(36), data["x"]]), data["y"].to_numpy()

    def deviance(log_s2, variance):
        V = variance * K + np.exp(log_s2[0]) * np.eye(36)
        inverse = np.linalg.inv(V)
        r = y - X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
        return np.linalg.slogdet(V)[1] + r @ inverse @ r

    ends = [minimize(deviance, [0.0], args=(v,), tol=1e-12).fun for v in (row["upper"], 0.0)]
    assert ends[0] - ends[1] == pytest.approx(chi2.ppf(0.95, 1), rel=1e-5)


def environments(m, seed=4, specific=0.7):
    r = np.random.default_rng(seed)
    gamma = np.array([1.2, 1.0, 0.8, 1.1])[:m]
    u = r.normal(size=(36, 1)) * gamma + r.normal(size=(36, m)) * specific
    rows = [
        (f"e{e}", f"g{g:02d}", u[g, e] + e + r.normal())
        for e in range(m)
        for g in range(36)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["env", "gen", "y"])


@pytest.mark.parametrize("method", ["profile", "wald"])
def test_factors_enough_for_any_covariance_have_its_intervals(method):
    """fa and rr with as many factors as an unstructured covariance needs: one model in other coordinates."""
    for m, terms in (
        (3, ["fa(0 + env | gen, k=2)"]),
        (2, ["rr(0 + env | gen, d=2)", "fa(0 + env | gen, k=1)"]),
    ):
        data = environments(m)
        want = lmm("y ~ env + us(0 + env | gen)", data).conf_int(method, "theta_")
        for term in terms:
            found = lmm(f"y ~ env + {term}", data).conf_int(method, "theta_")
            assert list(found["parameter"]) == list(want["parameter"])
            np.testing.assert_allclose(limits(found), limits(want), rtol=2e-5)


def test_a_genetic_correlation_of_a_factor_model():
    """Its profile is the rise of a dense likelihood under the constraint; at +1 it is below the quantile."""
    data = environments(4)
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", data)
    profile = fit.profile("cor(gen: enve0, enve1)")
    row, last = profile.conf_int().iloc[0], profile.points.iloc[-1]
    assert row["upper"] == 1.0 and last["value"] > 0.99999
    rises = rises_of_a_factor_model(data, (0, 1), [row["lower"], last["value"]])
    np.testing.assert_allclose(rises, [chi2.ppf(0.95, 1), last["zeta"] ** 2], rtol=1e-5)
    one = lmm("y ~ env + rr(0 + env | gen, d=1)", data).profile("sd(gen: enve0)")
    assert one.names == ("sd(gen: enve0)",)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2)])
def test_specific_variances_of_zero_leave_it_where_a_correlation_is_held(one, other):
    """Zero is stationary for them by symmetry: searches that stay there make intervals too short, and one of
    a correlation of +1 (e1, e2) had no lower limit."""
    data = environments(4, seed=12, specific=np.array([0.7, 0.0, 0.0, 0.7]))
    fit = lmm("y ~ env + fa(0 + env | gen, k=1)", data)
    assert "specific variance of enve1 is zero" in str(fit.warnings)
    row = fit.conf_int(parameters=f"cor(gen: enve{one}, enve{other})").iloc[0]
    rise = rises_of_a_factor_model(data, (one, other), [row["lower"]])
    np.testing.assert_allclose(rise, chi2.ppf(0.95, 1), rtol=1e-5)


@pytest.mark.parametrize("seed", [3, 7])
def test_one_variance_of_zero_in_two_notations(seed):
    """homdiag(0 + env | gen) is (1 | gen:env): also the residual's limits, where the variance leaves zero."""
    r = np.random.default_rng(seed)
    rows = [(f"e{e}", f"g{g}", r.normal()) for e in range(3) for g in range(10) for _ in range(2)]
    data = pd.DataFrame(rows, columns=["env", "gen", "y"])
    plain, other = (
        lmm(f"y ~ env + {term}", data).conf_int(parameters="theta_").set_index("parameter")
        for term in ("(1 | gen:env)", "homdiag(0 + env | gen)")
    )
    assert plain["estimate"].iloc[0] == 0.0
    np.testing.assert_allclose(limits(other.loc[["sigma"]]), limits(plain.loc[["sigma"]]), rtol=1e-4)
    assert other["upper"].iloc[0] == pytest.approx(plain["upper"].iloc[0] ** 2, rel=1e-3)


def rises_of_a_factor_model(data, pair, values):
    """By how much a dense likelihood of fa(k=1) in four environments rises where a correlation is held."""
    env = data["env"].str[1:].to_numpy(int)
    same = np.equal.outer(data["gen"].to_numpy(), data["gen"].to_numpy())
    X, y = np.eye(4)[env], data["y"].to_numpy()

    def covariance(x):
        return np.outer(x[:4], x[:4]) + np.diag(x[4:8] ** 2)

    def deviance(x):
        V = same * covariance(x)[np.ix_(env, env)] + x[8] ** 2 * np.eye(len(y))
        inner = np.linalg.inv(V)
        b = np.linalg.solve(X.T @ inner @ X, X.T @ inner @ y)
        return np.linalg.slogdet(V)[1] + (y - X @ b) @ inner @ (y - X @ b)

    def correlation(x):
        T, (i, j) = covariance(x), pair
        return T[i, j] / np.sqrt(T[i, i] * T[j, j])

    start, out = np.array([1.2, 1.0, 0.8, 1.1, 0.7, 0.7, 0.7, 0.7, 1.0]), []
    least = minimize(deviance, start, method="SLSQP", options={"ftol": 1e-10, "maxiter": 300})
    for limit in values:
        held = minimize(
            deviance, np.maximum(np.abs(least.x), 0.1), method="SLSQP",
            options={"ftol": 1e-10, "maxiter": 300},
            constraints={"type": "eq", "fun": lambda x, limit=limit: correlation(x) - limit},
        )  # fmt: skip
        out.append(held.fun - least.fun)
    return out


@pytest.mark.parametrize("seed", [28, 29, 32, 34, 37])
def test_correlations_at_their_bound_and_of_variances_that_may_be_zero(seed):
    """A limit is where the likelihood falls by the quantile; where a variance may be zero there is none."""
    r = np.random.default_rng(seed)
    line, u = np.repeat(np.arange(12), 4), r.normal(size=12)
    trait = np.tile([0, 1], 24)
    frame = pd.DataFrame({"line": line.astype(str), "trait": np.where(trait, "b", "a")})
    frame["y"] = u[line] * np.where(trait, 2.0, 1.0) + r.normal(0, 1.0, 48)
    fit = lmm("y ~ trait + us(0 + trait | line)", frame, residual="units | trait")
    row = fit.conf_int(parameters="cor(line: traita, traitb)").iloc[0]

    X = np.column_stack([np.ones(48), trait])
    y, same = frame["y"].to_numpy(), line[:, None] == line[None, :]

    def deviance(sd, rho):
        T = np.array([[sd[0] ** 2, rho * sd[0] * sd[1]], [rho * sd[0] * sd[1], sd[1] ** 2]])
        V = same * T[np.ix_(trait, trait)] + np.diag(sd[2:][trait] ** 2)
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
        return 2 * np.log(np.diag(L)).sum() + np.sum((b - A @ np.linalg.lstsq(A, b, rcond=None)[0]) ** 2)

    def least(rho):
        starts = ([0.7, 1.5, 1.0, 1.0], [0.02, 1.0, 1.1, 1.1], [0.7, 0.02, 1.1, 1.1])
        bounds = [(0, 10), (0, 10), (0.1, 10), (0.1, 10)]
        ends = [minimize(deviance, s, args=(rho,), bounds=bounds, options={"ftol": 1e-14}) for s in starts]
        return min(end.fun for end in ends)

    assert row["upper"] == 1.0
    best, quantile = least(row["estimate"]), chi2.ppf(0.95, 1)
    if row["lower"] == -1.0:
        assert max(least(rho) for rho in (-1.0, -0.7, -0.3)) - best < quantile
    else:
        assert least(row["lower"]) - best == pytest.approx(quantile, rel=1e-4)
    assert (row["lower"] == -1.0) == (seed in (28, 29))


def test_other_units_take_no_other_searches(monkeypatch):
    """Only correlations run to infinity at a bound: a large variance is no reason to search twice."""
    from fastlmm_core.intervals import constrained

    counts, searched = [], constrained._searched
    monkeypatch.setattr(constrained, "_searched", lambda *args: counts.append(1) or searched(*args))
    penicillin = datasets.load("penicillin")
    for factor in (1.0, 1000.0):
        table = penicillin.assign(diameter=factor * penicillin["diameter"])
        lmm("diameter ~ 1 + (1|plate) + (1|sample)", table).conf_int()
        counts.append(0)
    first = counts.index(0)
    assert first > 10 and abs(counts[first + 1 :].count(1) - first) <= 1


@pytest.mark.parametrize(
    ("seed", "structure", "name"),
    [(4, "toep", "variance of enve2"), (0, "homtoep", "variance"), (8, "homtoep", "covariance at lag 1")],
)
def test_profiles_that_pass_a_partial_correlation_of_minus_one(seed, structure, name):
    """The least deviance with the parameter held at a limit is a quantile above the least of all."""
    rng = np.random.default_rng(seed)
    g, e, _ = (axis.ravel() for axis in np.indices((24, 3, 2)))
    truth = np.array([[1.0, 0.7, 0.2], [0.7, 1.2, 0.7], [0.2, 0.7, 0.8]])
    u = rng.multivariate_normal(np.zeros(3), truth, 24)
    x = rng.normal(size=g.size)
    y = 10 + e + x * 0.5 + u[g, e] + rng.normal(size=g.size) * np.array([0.8, 0.6, 0.7])[e]
    frame = pd.DataFrame({"gen": [f"g{k:02d}" for k in g], "env": [f"e{k}" for k in e], "x": x, "y": y})
    fit = lmm(f"y ~ env + x + {structure}(0 + env | gen)", frame, residual="units | env", reml=False)
    row = fit.conf_int(parameters=f"gen: {name}").iloc[0]

    X = np.column_stack([np.ones(g.size), e == 1, e == 2, x]).astype(float)
    same = g[:, None] == g

    def deviance(v, c, s):
        T = np.array([[v[0], c[0], c[2]], [c[0], v[1], c[1]], [c[2], c[1], v[2]]])
        if np.linalg.eigvalsh(T)[0] < -1e-9:
            return 1e6
        L = np.linalg.cholesky(same * T[np.ix_(e, e)] + np.diag(np.exp(s)[e]))
        A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
        return 2 * np.log(np.diag(L)).sum() + np.sum((b - A @ np.linalg.lstsq(A, b, rcond=None)[0]) ** 2)

    def function(z, held):  # log variances, a correlation and a partial one, residuals at the end
        if structure == "toep":
            v, r1 = np.insert(np.exp(z[:2]), int(name[-1]), held), np.tanh(z[2])
        else:
            v = np.full(3, held if name == "variance" else np.exp(z[0]))
            r1 = np.tanh(z[0]) if name == "variance" else held / v[0]
        r2 = r1**2 + np.tanh(z[-4]) * (1.0 - r1**2)
        return deviance(v, np.sqrt([v[0] * v[1], v[1] * v[2], v[0] * v[2]]) * [r1, r1, r2], z[-3:])

    def least(held):
        own = [0.1, 0.1, 0.9] if structure == "toep" else [0.9]
        return min(
            minimize(function, [*own, p, -0.7, -0.7, -0.7], (held,), method="BFGS", tol=1e-4).fun
            for p in (0.2, -1.0, -3.0)
        )

    best, quantile = least(row["estimate"]), chi2.ppf(0.95, 1)
    for limit in (row["lower"], row["upper"]):
        if limit > 0.0:
            assert least(limit) - best == pytest.approx(quantile, abs=2e-3)


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(3)
    row, col = (grid.ravel() for grid in np.meshgrid(range(8), range(9), indexing="ij"))
    roots = [
        np.linalg.cholesky(r ** np.abs(np.subtract.outer(np.arange(m), np.arange(m))))
        for r, m in ((0.9, 8), (0.3, 9))
    ]
    process = roots[0] @ rng.normal(size=(8, 9)) @ roots[1].T
    return pd.DataFrame({"row": row, "col": col, "y": 10 + process.ravel()})


@pytest.mark.parametrize(
    ("formula", "residual"), [("y ~ 1", "ar1(row):ar1(col)"), ("y ~ 1 + (1 | ar1(row):ar1(col))", "units")]
)
def test_wald_limits_of_autocorrelations_are_symmetric_in_the_angle(field, formula, residual):
    """arccos r +- z se, within -1 and 1; near the optimum as wide as the profile but for the information."""
    fit = lmm(formula, field, residual=residual, reml=False)
    table = fit.conf_int("wald")
    own = table[table["kind"] == "correlation"]
    assert len(own) == 2 and (own["upper"] < 1.0).all() and (own["lower"] > -1.0).all()
    angles = np.arccos(own[["upper", "estimate", "lower"]].to_numpy(float))
    np.testing.assert_allclose(angles[:, 1] - angles[:, 0], angles[:, 2] - angles[:, 1], rtol=1e-9)
    near = fit.conf_int("profile", level=0.05).set_index("parameter").loc[own["parameter"]]
    close = fit.conf_int("wald", level=0.05).set_index("parameter").loc[own["parameter"]]
    width, expected = (
        np.arccos(f["lower"].to_numpy(float)) - np.arccos(f["upper"].to_numpy(float)) for f in (close, near)
    )
    assert np.all(np.abs(width / expected - 1.0) < 0.15)  # average information beside the curvature


def test_a_nugget_of_zero_has_no_limits_and_no_conditional_likelihood(field):
    fit = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", field)
    assert fit.sigma == 0.0
    sigma = fit.conf_int("wald").set_index("parameter").loc["sigma"]
    assert sigma["estimate"] == 0.0 and np.isnan(sigma["lower"]) and np.isnan(sigma["upper"])
    with pytest.raises(InferenceError, match="the residual variance is zero"):
        fit.conditional_aic()
    alone = lmm("y ~ 1", field, residual="ar1(row):ar1(col)").conditional_aic()  # the same model
    assert np.isfinite(alone.caic)


@pytest.mark.parametrize("seed", [0, 3, 7, 13])
def test_wald_limits_of_little_known_correlations_hold_the_estimate(seed):
    """Ten rows: the reach is longer than the way to the bound, where the limit stays."""
    rng = np.random.default_rng(seed)
    process = np.cumsum(rng.normal(size=10)) * 0.5
    data = pd.DataFrame({"row": np.repeat(np.arange(10), 3)})
    data["y"] = process[data["row"]] + rng.normal(size=30)
    fit = lmm("y ~ 1 + (1 | ar1(row))", data)
    table = fit.conf_int("wald")
    own = table[table["kind"] == "correlation"].iloc[0]
    assert np.isnan(own["lower"]) or own["lower"] <= own["estimate"] <= own["upper"]
    said = any("the autocorrelation of row in ar1(row) is" in str(warning) for warning in fit.warnings)
    assert np.isnan(own["lower"]) == said  # the bound of the table is that of the words


@pytest.mark.parametrize("residual", ["units", "units | h"])
@pytest.mark.parametrize("base, power", [(2000, 3), (1_000_000, 2)])
def test_limits_of_coefficients_beside_powers_of_a_year(residual, base, power):
    """Those of the powers of the centred year: the columns left are nearly dependent, and so is the held."""
    rng = np.random.default_rng(3)
    g = rng.choice(8, 60)
    c = np.arange(60) % 10 - 4.0
    data = pd.DataFrame({"g": [f"g{k}" for k in g], "h": [f"h{k % 4}" for k in range(60)], "c": c})
    data = data.assign(year=c + base, z=rng.normal(size=60), y=rng.normal(size=60) + 0.3 * g + 0.02 * c**2)
    found = []
    for name in ("c", "year"):
        terms = ["z", name, *(f"I({name}^{k})" for k in range(2, power + 1))]
        fit = lmm(f"y ~ {' + '.join(terms)} + (1 | g)", data, residual=residual)
        found.append([limits(fit.conf_int(parameters=own)) for own in ("z", terms[-1])])
    assert np.allclose(found[1], found[0], rtol=1e-7)


def test_profiles_beside_a_nugget_of_zero(field):
    """Searches with another parameter held leave the bound, where its score is zero by its form.

    Limits of the autocorrelations were those of the model without a nugget, and its own were NaN.
    """
    table = field.drop(index=[5, 22, 31])
    fit = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", table, reml=False)
    assert fit.sigma == 0.0
    y = table["y"].to_numpy()
    places = [table[name].to_numpy() for name in ("row", "col")]
    apart = [np.abs(np.subtract.outer(own, own)) for own in places]

    def deviance(variance, row, col, nugget):
        V = variance * row ** apart[0] * col ** apart[1] + nugget * np.eye(len(y))
        solved = np.linalg.solve(V, np.column_stack([np.ones(len(y)), y]))
        rest = y - solved[:, 1].sum() / solved[:, 0].sum()
        fall = rest @ np.linalg.solve(V, rest)
        return np.linalg.slogdet(V)[1] + fall + len(y) * np.log(2 * np.pi)

    def least(name, limit):
        """Over all others, in log variance, atanh of the correlations and the root of the nugget."""
        inner = {"row": np.arctanh(limit), "col": np.arctanh(limit), "sigma": limit}[name]
        place = {"row": 1, "col": 2, "sigma": 3}[name]

        def held(x):
            z = np.insert(x, place, inner)
            return deviance(np.exp(z[0]), np.tanh(z[1]), np.tanh(z[2]), z[3] ** 2)

        starts = [np.delete([np.log(1.0), 1.0, 0.4, own], place) for own in (0.05, 0.5)]
        options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 4000}
        return min(minimize(held, x, method="Nelder-Mead", options=options).fun for x in starts)

    found = fit.conf_int("profile").set_index("parameter")
    sigma = found.loc["sigma"]
    assert sigma["estimate"] == sigma["lower"] == 0.0
    rows = [("sigma", sigma["upper"])]
    for name in ("row", "col"):
        own = found.loc[f"correlation(ar1(row):ar1(col): {name})"]
        rows += [(name, own["lower"]), (name, own["upper"])]
    for name, limit in rows:
        rise = least(name, limit) - fit.criterion
        assert rise == pytest.approx(chi2.ppf(0.95, 1), abs=1e-5), (name, limit)
