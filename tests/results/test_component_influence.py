"""One-step deletion of rows in the variance components: from n x n matrices of the rows left, and refits."""

import numpy as np
import pandas as pd
import pytest
from random_designs import related_lines

from fastlmm_core import Covariance, datasets, lmm
from fastlmm_core.results.components.structured_blocks import residual_blocks

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def indicator(values):
    return (np.asarray(values)[:, None] == np.unique(values)[None, :]).astype(float)


def same(values):
    Z = indicator(values)
    return Z @ Z.T


def components(fit):
    return fit.variance_components.set_index(["group", "var1", "var2"])["estimate"]


def linear(*parts):
    """V(parameters) = sum of parameters times parts."""
    return lambda phi: sum(value * part for value, part in zip(phi, parts, strict=True))


def alpha(reml):
    data = datasets.load("john_alpha")
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", data, reml=reml)
    names = ["var(gen)", "var(rep:block)", "var(Residual)"]
    parts = same(data["gen"]), same(data["rep"] + data["block"]), np.eye(72)
    values = [components(fit)[name].iloc[0] for name in ("gen", "rep:block", "Residual")]
    return fit, linear(*parts), np.array(values), names, data["gen"]


def weighted_slopes(reml):
    data = datasets.load("sleepstudy")
    w = np.random.default_rng(3).uniform(0.4, 3.0, len(data))
    fit = lmm("Reaction ~ Days + (Days|Subject)", data, weights=w, reml=reml)
    days, block = data["Days"].to_numpy(float), same(data["Subject"])
    parts = block, block * np.outer(days, days), block * (days[:, None] + days[None, :]), np.diag(1.0 / w)
    names = [f"{kind})" for kind in (
        "var(Subject", "var(Subject: Days", "cov(Subject: (Intercept), Days", "var(Residual"
    )]  # fmt: skip
    values = fit.variance_components["estimate"].to_numpy()
    return fit, linear(*parts), values, names, data["Subject"]


def by_county(reml):
    data = datasets.load("besag_field").groupby("county").head(30).reset_index(drop=True)
    fit = lmm("yield ~ county + (1|gen)", data, residual="units | county", reml=reml)
    sizes = {block.at: block.T[0, 0] for block in residual_blocks(fit)}
    parts = [np.diag((data["county"] == at).to_numpy(float)) for at in sizes]
    names = ["var(gen)", *(f"var(Residual|county: {at})" for at in sizes)]
    values = np.array([components(fit)["gen"].iloc[0], *sizes.values()])
    return fit, linear(same(data["gen"]), *parts), values, names, data["gen"]


def field(reml):
    """Correlated residuals, plots missing from the field, parameters that are no components."""
    data = datasets.load("besag_field").query("county == 'C1'").drop(index=[5, 40]).reset_index(drop=True)
    fit = lmm("yield ~ rep + (1|gen)", data, residual="ar1(row):ar1(col)", reml=reml)
    block = residual_blocks(fit)[0]
    row, column = data["row"].to_numpy(float), data["col"].to_numpy(float)
    gaps = np.abs(row[:, None] - row), np.abs(column[:, None] - column)
    G = same(data["gen"])

    def covariance(phi):
        return phi[0] * G + phi[1] * phi[2] ** gaps[0] * phi[3] ** gaps[1]

    values = np.array([components(fit)["gen"].iloc[0], block.T[0, 0], *block.extra["group_corr"].values()])
    return fit, covariance, values, ["var(gen)", "var(Residual)"], data["gen"]


def related(reml):
    """So many levels that the equations are those of rows turned into the relationship's own basis."""
    data, names, K = related_lines()
    fit = lmm("y ~ rep + (1 | vm(gen, K))", data, relationships={"K": Covariance(K, names)}, reml=reml)
    Z = indicator(data["gen"])
    values = fit.variance_components["estimate"].to_numpy()
    return fit, linear(Z @ K @ Z.T, np.eye(420)), values, ["var(vm(gen, K))", "var(Residual)"], data["gen"]


MODELS = {"alpha": alpha, "slopes": weighted_slopes, "county": by_county, "field": field, "related": related}


# Steps of the differences that are the derivatives of V: those of what is linear are exact at any step, and
# of the powers of autocorrelations to 1e-10.
STEPS = {"field": 1e-5}
TOLERANCES = {"field": 1e-8}


def score_and_information(X, y, V, derivatives, keep, reml):
    """Score and average information, both of the rows kept alone, by dense matrices."""
    X, y = X[keep], y[keep]
    inner = np.linalg.inv(V[np.ix_(keep, keep)])
    P = inner - inner @ X @ np.linalg.solve(X.T @ inner @ X, X.T @ inner)
    own = [derivative[np.ix_(keep, keep)] for derivative in derivatives]
    moved = np.array([derivative @ P @ y for derivative in own])
    traces = np.array([np.sum((P if reml else inner) * derivative) for derivative in own])
    score = 0.5 * (moved @ P @ y - traces)
    return score, 0.5 * moved @ P @ moved.T


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_a_step_of_scoring_of_the_rows_left(model, reml):
    """The score of all rows counts as zero, as at the exact optimum: what the search leaves is no change.

    That is little beside the standard errors of the parameters, but not beside the change that a row makes.
    """
    fit, covariance, phi, names, group = MODELS[model](reml)
    X, y = fit.design.X.toarray(), fit.response
    V, derivatives = covariance(phi), []
    for t in range(phi.size):
        h = STEPS.get(model, 0.1) * max(1.0, abs(phi[t])) * np.eye(phi.size)[t]
        derivatives.append((covariance(phi + h) - covariance(phi - h)) / (2.0 * h[t]))
    left, everything = score_and_information(X, y, V, derivatives, np.arange(y.size), reml)
    assert left @ np.linalg.solve(everything, left) < 1e-10
    rtol = TOLERANCES.get(model, 1e-9)
    columns = [f"change_{name}" for name in names]
    levels = fit.influence("Subject" if model == "slopes" else "gen", components=True).set_index("level")
    rows = fit.diagnostics(components=True)
    sets = {
        level: np.flatnonzero(group.astype(str) == level) for level in (levels.index[0], levels.index[-1])
    }
    sets |= {i: np.array([i]) for i in (0, 17, y.size - 1)}
    for name, gone in sets.items():
        kept = np.setdiff1d(np.arange(y.size), gone)
        score, information = score_and_information(X, y, V, derivatives, kept, reml)
        step = np.linalg.solve(information, score - left)
        own = levels.loc[name] if isinstance(name, str) else rows.loc[name]
        found = own[columns].to_numpy(float)
        size = np.abs(step[: len(names)]).max()
        np.testing.assert_allclose(found, step[: len(names)], rtol=rtol, atol=rtol * size, err_msg=str(name))
        distance = step @ everything @ step
        assert own["cooks_d_components"] == pytest.approx(distance, rel=rtol)


def test_near_refits_without_the_level():
    """Most of what refits do; the average information is not the curvature, and the change not small."""
    data = datasets.load("sleepstudy")
    fit = lmm("Reaction ~ Days + (Days|Subject)", data)
    table, before = fit.influence("Subject", components=True), components(fit)
    columns = ["var(Subject)", "var(Subject: Days)", "cov(Subject: (Intercept), Days)", "var(Residual)"]
    step = table[[f"change_{name}" for name in columns]].to_numpy()
    change = np.array([
        (components(lmm(fit.formula, data[data["Subject"] != level])) - before).to_numpy()
        for level in table["level"]
    ])  # fmt: skip
    for j in range(4):
        assert np.corrcoef(step[:, j], change[:, j])[0, 1] > 0.98
    mild = table["cooks_d_components"].to_numpy() < 0.1
    assert mild.sum() == 5
    assert (np.abs(step - change)[mild] <= 0.1 * np.abs(change[mild]).max(axis=0)).all()
    assert table["level"][table["cooks_d_components"].idxmax()] == "S332"


def test_no_variance_is_taken_below_zero():
    """One block apart makes the variance between blocks; without it there is none, and its refit says so."""
    r = np.random.default_rng(5)
    blocks = np.repeat(np.arange(8), 6)
    y = r.normal(0, 1, 48) + np.where(blocks == 2, 4.0, 0.0)
    data = pd.DataFrame({"y": y, "b": [f"b{b}" for b in blocks], "x": r.normal(0, 1, 48)})
    fit = lmm("y ~ x + (1|b)", data)
    own = fit.influence("b", components=True).set_index("level").loc["b2"]
    again = lmm("y ~ x + (1|b)", data[data["b"] != "b2"])
    assert components(again)["b"].iloc[0] == 0.0
    assert own["change_var(b)"] == pytest.approx(-components(fit)["b"].iloc[0], rel=1e-9)
    difference = components(again)["Residual"].iloc[0] - components(fit)["Residual"].iloc[0]
    assert own["change_var(Residual)"] == pytest.approx(difference, abs=0.05)


def test_components_that_do_not_move():
    data = datasets.load("john_alpha")
    held = lmm(
        "yield ~ rep + (1|gen) + (1|rep:block)", data,
        fixed_parameters={"gen": 0.1, "rep:block": 0.05, "Residual": 0.1},
    )  # fmt: skip
    table = held.influence("gen", components=True)
    assert (table[[c for c in table if c.startswith("change_")]].to_numpy() == 0.0).all()
    data["odd"] = (np.arange(72) == 7).astype(float)
    fit = lmm("yield ~ rep + odd + (1|gen)", data)
    own = fit.diagnostics(components=True)
    assert np.isnan(own["change_var(gen)"].iloc[7]) and own["change_var(gen)"].drop(index=7).notna().all()
    assert np.isnan(fit.influence("rep", components=True)["cooks_d_components"]).any()
