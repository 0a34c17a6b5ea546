"""Diagnostics against their definitions with n x n matrices: rows are really left out."""

import numpy as np
import pandas as pd
import pytest
from random_designs import related_lines

from fastlmm_core import Covariance, compare, datasets, lmm
from fastlmm_core.errors import DataError, InferenceError, OptionError
from fastlmm_core.results.components.structured_blocks import residual_blocks
from fastlmm_core.results.diagnostics import case_diagnostics

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def variances(fit):
    return fit.variance_components.set_index("group")["estimate"]


def indicator(values):
    return (np.asarray(values)[:, None] == np.unique(values)[None, :]).astype(float)


def alpha():
    data = datasets.load("john_alpha")
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", data)
    v = variances(fit)
    Z, B = indicator(data["gen"]), indicator(data["rep"] + data["block"])
    return fit, v["gen"] * Z @ Z.T + v["rep:block"] * B @ B.T, v["Residual"] * np.eye(72), data


def weighted_slopes():
    data = datasets.load("sleepstudy")
    w = np.random.default_rng(3).uniform(0.4, 3.0, len(data))
    fit = lmm("Reaction ~ Days + (Days|Subject)", data, weights=w)
    v = fit.variance_components["estimate"].to_numpy()
    T, days = np.array([[v[0], v[2]], [v[2], v[1]]]), data["Days"].to_numpy(float)
    z = np.column_stack([np.ones(len(data)), days])
    same = indicator(data["Subject"])
    return fit, (same @ same.T) * (z @ T @ z.T), np.diag(v[3] / w), data


def field():
    """Correlated residuals; a field with plots that are missing from it."""
    data = datasets.load("besag_field").query("county == 'C1'").drop(index=[5, 40]).reset_index(drop=True)
    fit = lmm("yield ~ rep + (1|gen)", data, residual="ar1(row):ar1(col)")
    block = residual_blocks(fit)[0]
    size, by_row, by_column = block.T[0, 0], *block.extra["group_corr"].values()
    row, column = data["row"].to_numpy(float), data["col"].to_numpy(float)
    R = size * by_row ** np.abs(row[:, None] - row) * by_column ** np.abs(column[:, None] - column)
    Z = indicator(data["gen"])
    return fit, variances(fit)["gen"] * Z @ Z.T, R, data


def related():
    """So many levels that the equations are those of rows turned into the relationship's own basis."""
    data, names, K = related_lines()
    fit = lmm("y ~ rep + (1 | vm(gen, K))", data, relationships={"K": Covariance(K, names)})
    v, Z = fit.variance_components["estimate"].to_numpy(), indicator(data["gen"])
    return fit, v[0] * Z @ K @ Z.T, v[1] * np.eye(420), data


def by_county():
    data = datasets.load("besag_field").groupby("county").head(40).reset_index(drop=True)
    fit = lmm("yield ~ county + (1|gen)", data, residual="units | county")
    sizes = {block.at: block.T[0, 0] for block in residual_blocks(fit)}
    Z, R = indicator(data["gen"]), np.diag(data["county"].map(sizes).to_numpy(float))
    return fit, variances(fit)["gen"] * Z @ Z.T, R, data


MODELS = {"alpha": alpha, "slopes": weighted_slopes, "field": field, "related": related, "county": by_county}


@pytest.fixture(params=list(MODELS), scope="module")
def dense(request):
    """The fit, X, y, the covariances of random effects and residuals, and the table."""
    fit, G, R, data = MODELS[request.param]()
    return fit, np.asarray(fit.design.X.toarray()), fit.response, G, R, data


def gls(X, y, V):
    """b and its covariance."""
    inverse = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ inverse @ X)
    return phi @ X.T @ inverse @ y, phi


def measures(X, y, V, left_out):
    """Of the deletion of rows, by deleting them: Cook's distance, MDFFITS, traces, determinants, b(D) - b."""
    b, phi = gls(X, y, V)
    keep = np.setdiff1d(np.arange(len(y)), left_out)
    less, phi_less = gls(X[keep], y[keep], V[np.ix_(keep, keep)])
    change, p = less - b, X.shape[1]
    return (
        change @ np.linalg.solve(phi, change) / p, change @ np.linalg.solve(phi_less, change) / p,
        np.trace(np.linalg.solve(phi, phi_less)) - p, np.linalg.det(phi_less) / np.linalg.det(phi), change,
    )  # fmt: skip


def projection(X, V):
    inverse = np.linalg.inv(V)
    return inverse - inverse @ X @ gls(X, np.zeros(len(V)), V)[1] @ X.T @ inverse


def test_residuals_over_their_own_errors(dense):
    fit, X, y, G, R, _ = dense
    table, P = fit.diagnostics(), projection(X, G + R)
    conditional, marginal = R @ P @ y, (G + R) @ P @ y
    np.testing.assert_allclose(table["residual"], conditional, atol=1e-6 * y.std())
    ratio = conditional / np.sqrt(np.diag(R @ P @ R))
    np.testing.assert_allclose(table["studentized"], ratio, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table["marginal"], marginal, atol=1e-6 * y.std())
    sd = np.sqrt(np.diag((G + R) @ P @ (G + R)))
    np.testing.assert_allclose(table["marginal_studentized"], marginal / sd, rtol=1e-5, atol=1e-6)


def test_leverage_is_the_diagonal_of_the_hat_matrix(dense):
    fit, X, _, G, R, _ = dense
    table, V = fit.diagnostics(), G + R
    np.testing.assert_allclose(table["leverage"], 1.0 - np.diag(R @ projection(X, V)), atol=1e-6)
    fixed = X @ gls(X, np.zeros(len(V)), V)[1] @ X.T @ np.linalg.inv(V)
    np.testing.assert_allclose(table["leverage_fixed"], np.diag(fixed), atol=1e-6)
    assert table["leverage_fixed"].sum() == pytest.approx(X.shape[1], abs=1e-8)
    edf = fit.effective_dimensions["edf"].iloc[:-1].sum()
    assert table["leverage"].sum() == pytest.approx(edf, abs=1e-6)


def test_a_row_left_out(dense):
    fit, X, y, G, R, _ = dense
    table = fit.diagnostics()
    for i in (0, 17, len(y) - 1):
        *figures, _ = measures(X, y, G + R, [i])
        own = table.loc[i, ["cooks_d", "mdffits", "covtrace", "covratio"]].to_numpy(float)
        np.testing.assert_allclose(own, figures, rtol=2e-5, atol=1e-9)
        # the shift is what the others predict less
        column = np.column_stack([X, np.eye(len(y))[i]])
        assert table["shift"].iloc[i] == pytest.approx(gls(column, y, G + R)[0][-1], rel=1e-5, abs=1e-6)


def test_levels_left_out(dense):
    fit, X, y, G, R, data = dense
    group = "Subject" if "Subject" in data else "gen"
    table = fit.influence(group, coefficients=True)
    for level in (table["level"].iloc[0], table["level"].iloc[-1]):
        own = table[table["level"] == level].iloc[0]
        *figures, change = measures(X, y, G + R, np.flatnonzero(data[group].astype(str) == level))
        np.testing.assert_allclose(
            own[["cooks_d", "mdffits", "covtrace", "covratio"]].to_numpy(float), figures, rtol=2e-5
        )
        changes = own[[f"change_{name}" for name in fit.coef_names]].to_numpy(float)
        np.testing.assert_allclose(changes, change, rtol=1e-4, atol=1e-6 * y.std())


def test_large_levels_are_left_out_of_the_equations(dense, monkeypatch):
    """Whichever is less work: the same figures from solves, and from equations without the rows."""
    fit, _, _, _, _, data = dense
    group = "Subject" if "Subject" in data else "gen"
    by_solves = fit.influence(group, coefficients=True)
    monkeypatch.setattr(case_diagnostics, "REFORM", -np.inf)
    anew = fit.influence(group, coefficients=True)
    for name in anew.columns[3:]:
        if name != "status":
            np.testing.assert_allclose(anew[name], by_solves[name], rtol=1e-6, atol=1e-8, err_msg=name)
    assert (anew["status"] == by_solves["status"]).all()


def test_levels_left_out_are_refits_at_held_parameters():
    data = datasets.load("john_alpha")
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", data)
    held = {group: float(value) for group, value in variances(fit).items()}
    table = fit.influence("gen", coefficients=True).set_index("level")
    for level in ("G03", "G20"):
        again = lmm(fit.formula, data[data["gen"] != level], fixed_parameters=held)
        changes = table.loc[level, [f"change_{name}" for name in fit.coef_names]].to_numpy(float)
        np.testing.assert_allclose(changes, again.beta - fit.beta, atol=1e-7)


def test_rows_that_decide_a_fixed_effect_are_named(monkeypatch):
    data = datasets.load("john_alpha")
    data["odd"] = (np.arange(len(data)) == 7).astype(float)
    fit = lmm("yield ~ rep + odd + (1|gen)", data)
    own = fit.diagnostics().iloc[7]
    assert own["status"] == "a fixed effect is not estimable without it"
    assert np.isnan(own["cooks_d"]) and np.isnan(own["shift"])
    assert fit.influence("rep")["status"].tolist()[1] == own["status"]
    monkeypatch.setattr(case_diagnostics, "REFORM", -np.inf)
    assert fit.influence("rep")["status"].tolist()[1] == own["status"]


def test_a_column_outside_the_model_and_wrong_names():
    data = datasets.load("john_alpha")
    fit = lmm("yield ~ rep + (1|gen)", data)
    assert fit.influence("block", data=data)["n"].sum() == 72
    with pytest.raises(OptionError, match="group='bloc' is no grouping factor or column"):
        fit.influence("bloc")
    with pytest.raises(InferenceError, match="no fixed effects"):
        lmm("yield ~ 0 + (1|gen)", data).diagnostics()


def slope_of_fitted(fit, step):
    """sum_i d y_hat_i / d y_i by refits."""
    y, h, total = fit.response, step * fit.response.std(), 0.0
    for i in range(y.size):
        up, down = y.copy(), y.copy()
        up[i] += h
        down[i] -= h
        total += (fit.refit(up).fitted[i] - fit.refit(down).fitted[i]) / (2.0 * h)
    return total


@pytest.mark.parametrize("reml", [True, False])
def test_effective_degrees_of_freedom_are_the_derivative_of_the_fit(reml):
    """Greven & Kneib's correction is exact: refits to moved responses show it."""
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"), reml=reml)
    assert fit.conditional_aic().df - 1.0 == pytest.approx(slope_of_fitted(fit, 1e-3), abs=1e-5)


def test_the_same_with_correlated_slopes():
    fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    found = fit.conditional_aic()
    assert found.df - 1.0 == pytest.approx(slope_of_fitted(fit, 1e-3), abs=1e-5)
    assert found.loglik == pytest.approx(-824.51, abs=0.005)  # as cAIC4 prints it


def test_why_the_figure_is_not_that_of_cAIC4():
    """Greven & Kneib's formula in the covariances over sigma2, where dy'Ay/dy = 2 e is in full, and by half.

    cAIC4 1.1 (calculateGaussianBc) has e'W_j e e' / (2 y'e) in the derivative of the criterion, and prints
    31.30 for this model; with e'W_j e e' / (y'e) it is the derivative that refits have.
    """
    fit = lmm("Reaction ~ Days + (Days|Subject)", data := datasets.load("sleepstudy"))
    v, n = fit.variance_components["estimate"].to_numpy(), len(data)
    z = np.column_stack([np.ones(n), data["Days"]])
    same = indicator(data["Subject"]) @ indicator(data["Subject"]).T
    V = np.eye(n) + same * (z @ np.array([[v[0], v[2]], [v[2], v[1]]]) @ z.T) / v[3]
    A, X = projection(fit.design.X.toarray(), V), fit.design.X
    e, total = A @ fit.response, fit.response @ A @ fit.response
    W = [same * (z @ np.array(E) @ z.T) for E in ([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])]
    q = np.array([e @ own @ e for own in W])
    traces = np.array([[np.sum((W[k] @ A).T * (W[j] @ A)) for k in range(3)] for j in range(3)])
    B = np.array([[e @ W[k] @ A @ W[j] @ e for k in range(3)] for j in range(3)])
    B = B - total * traces / (2 * (n - X.shape[1])) - np.outer(q, q) / (2 * total)
    for factor, df in ((1.0, fit.conditional_aic().df), (2.0, 31.30)):
        C = np.array([e @ W[j] @ A - q[j] * e / (factor * total) for j in range(3)])
        moved = np.linalg.solve(B, C)
        found = n - np.trace(A) + sum(moved[j] @ A @ W[j] @ e for j in range(3)) + 1.0
        assert found == pytest.approx(df, abs=1e-5 if factor == 1.0 else 0.005)


@pytest.mark.slow
def test_the_same_with_a_correlated_field():
    data = datasets.load("besag_field").query("county == 'C1' and row < 7")
    fit = lmm("yield ~ (1|gen)", data, residual="ar1(row):ar1(col)")
    found = fit.conditional_aic()
    assert found.df - 3.0 == pytest.approx(slope_of_fitted(fit, 3e-3), abs=2e-3)


def test_a_variance_at_zero_adds_nothing():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    assert fit.singular
    found = fit.conditional_aic()
    assert found.rho == pytest.approx(1.0) and found.df == pytest.approx(2.0)


def test_conditional_loglik_and_vaida_blanchard(dense):
    fit, X, y, G, R, _ = dense
    found = fit.conditional_aic("known")
    e = R @ projection(X, G + R) @ y
    loglik = -0.5 * (np.linalg.slogdet(2.0 * np.pi * R)[1] + e @ np.linalg.solve(R, e))
    rho = len(y) - np.trace(R @ projection(X, G + R))
    assert found.loglik == pytest.approx(loglik, rel=1e-7)
    assert found.rho == pytest.approx(rho, rel=1e-6)
    assert found.caic == pytest.approx(-2.0 * found.loglik + 2.0 * found.df)
    n, p = X.shape
    if np.ptp(np.linalg.eigvalsh(R)) < 1e-9 or fit.weights is not None:
        df = fit.conditional_aic("vaida-blanchard").df
        assert df == pytest.approx((n - p - 1) / (n - p - 2) * (rho + 1) + (p + 1) / (n - p - 2), rel=1e-6)
    else:
        with pytest.raises(InferenceError, match="one residual variance"):
            fit.conditional_aic("vaida-blanchard")


def test_the_linear_model_is_its_own_limit():
    """Without random effects the effective number of parameters is p + 1."""
    fit = lmm("yield ~ rep + gen", datasets.load("john_alpha"))
    assert fit.conditional_aic().df == pytest.approx(fit.rank + 1.0)


def test_compare_with_conditional_aic():
    data = datasets.load("oats")
    fits = [lmm(f"Y ~ V*N + (1|{group})", data) for group in ("B", "B/V")]
    table = compare(*fits, conditional=True)
    assert table["caic"].tolist() == [fit.conditional_aic().caic for fit in fits]
    pd.testing.assert_frame_equal(fits[1].compare(fits[0], conditional=True), table)
    assert (table["npar"] == [fit.npar for fit in fits]).all() and table["edf"].gt(12).all()


def test_half_normal_sizes_and_envelope():
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    table = fit.half_normal("gen", draws=400)
    blups = fit.blups("gen").set_index("level")
    sd = np.sqrt(variances(fit)["gen"] - blups["pev"])
    sizes = (blups["estimate"].abs() / sd)[table["level"]]
    np.testing.assert_allclose(table["size"], sizes)
    assert table["size"].is_monotonic_increasing and table["quantile"].is_monotonic_increasing
    assert (table["lower"] <= table["median"]).all() and (table["median"] <= table["upper"]).all()
    # standardized BLUPs of the model itself are half-normal: their median lies on the quantiles
    np.testing.assert_allclose(table["median"], table["quantile"], atol=0.12)
    assert not table["outside"].any()


@pytest.mark.parametrize("model", ["slopes", "related", "field"])
def test_drawn_effects_are_the_blups_of_drawn_responses(model):
    """At the variances of the fit the envelope comes from predictions that are linear in the response."""
    from fastlmm_core.results.diagnostics.half_normal import predicted_effects
    from fastlmm_core.results.diagnostics.observation_rows import observation_rows

    fit = MODELS[model]()[0]
    own = predicted_effects(fit, observation_rows(fit), 0, fit.response[:, None])[:, :, 0]
    np.testing.assert_allclose(own.ravel(), fit.blups(fit.design.random[0].group)["estimate"], atol=1e-8)


def test_a_wrong_level_leaves_the_envelope():
    data = datasets.load("john_alpha")
    data.loc[data["gen"] == "G05", "yield"] += 6.0
    table = lmm("yield ~ rep + (1|gen) + (1|rep:block)", data).half_normal("gen")
    assert table.iloc[-1][["level", "outside"]].tolist() == ["G05", True]


def test_no_effects_to_plot():
    with pytest.raises(InferenceError, match="estimated as zero"):
        lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2")).half_normal()
    with pytest.raises(OptionError, match="no random effects"):
        lmm("yield ~ rep", datasets.load("john_alpha")).half_normal()


def test_columns_of_another_table_are_refused():
    """Rows in another order stood beside the plots of others, and a shorter table was an internal error."""
    data = datasets.load("john_alpha").assign(row=np.arange(72) // 12, col=np.arange(72) % 12)
    data.loc[data.index[4], "yield"] = np.nan
    fit = lmm("yield ~ rep + (1|gen)", data)
    own = fit.influence("block", data=data)
    moved = data.rename(index=lambda label: f"r{label}")  # labels may be others, rows not
    np.testing.assert_array_equal(fit.influence("block", data=moved)["cooks_d"], own["cooks_d"])
    mixed = data.sample(frac=1.0, random_state=1)
    for wrong, words in ((mixed, "rows stand in another order: 'yield' in row"), (data[:30], "has 30 rows")):
        for ask in (
            lambda table: fit.influence("block", data=table),
            lambda table: fit.variogram("row", "col", data=table),
            lambda table: fit.trial_summary("gen", plots=["row", "col"], data=table),
        ):
            with pytest.raises(DataError, match=words):
                ask(wrong)
