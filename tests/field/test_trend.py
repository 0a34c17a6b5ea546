"""Trend surfaces and sample variograms against dense predictions and all pairs of plots."""

import numpy as np
import pandas as pd
import pytest
from fields import incidence, made_field, penalized_factors, process_field, surface_factors

from fastlmm_core import lmm
from fastlmm_core.errors import DataError, OptionError


@pytest.fixture(scope="module")
def field():
    return made_field(lost=0.12)


def everywhere(field):
    """All positions of the field."""
    r, c = np.meshgrid(
        np.arange(1, field["row"].max() + 1), np.arange(1, field["col"].max() + 1), indexing="ij"
    )
    return pd.DataFrame({"row": r.ravel(), "col": c.ravel()})


def predicted(y, X, V, K, cross, prior):
    """K beta + u at g positions with its prediction error: Cov(u, y) is cross (g, n), Var(u) prior (g, g)."""
    Vi = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ Vi @ X)
    beta = phi @ X.T @ Vi @ y
    rest = K - cross @ Vi @ X
    variance = np.diag(prior - cross @ Vi @ cross.T + rest @ phi @ rest.T)
    return K @ beta + cross @ Vi @ (y - X @ beta), np.sqrt(variance)


def test_the_surface_is_the_dense_prediction(field):
    fit = lmm("yield ~ (1 | gen)", field, field_trend="ps")
    gen, row, col, first, second, residual = fit.variance_components["estimate"]
    grid = everywhere(field)
    both = pd.concat([field[["row", "col"]], grid], ignore_index=True)
    pairs, F = surface_factors(both, (5, 6))
    F = F / np.sqrt(pairs[0] / first + pairs[1] / second)
    n = len(field)
    seen, new = F[:n], F[n:] - F[:n].mean(axis=0)
    x = np.column_stack([both["row"], both["col"], both["row"] * both["col"]]).astype(float)
    X = np.column_stack([np.ones(n), x[:n]])
    K = np.column_stack([np.zeros(len(grid)), x[n:] - x[:n].mean(axis=0)])
    V = residual * np.eye(n) + seen @ seen.T
    for variance, name in ((gen, "gen"), (row, "row"), (col, "col")):
        V += variance * incidence(field[name]) @ incidence(field[name]).T
    value, se = predicted(field["yield"].to_numpy(), X, V, K, new @ seen.T, new @ new.T)
    table = fit.trend()
    assert list(table.columns) == ["row", "col", "trend", "se"]
    assert (table[["row", "col"]].to_numpy() == grid.to_numpy()).all()
    assert table["trend"].to_numpy() == pytest.approx(value, abs=1e-7)
    assert table["se"].to_numpy() == pytest.approx(se, abs=1e-7)
    assert list(fit.trend(se=False).columns) == ["row", "col", "trend"]
    observed = table.merge(field, on=["row", "col"])
    assert observed["trend"].mean() == pytest.approx(0.0, abs=1e-9)


def test_a_process_is_predicted_on_missing_plots():
    field = process_field(lost=0.12)
    fit = lmm("yield ~ row + (1 | gen)", field, field_trend="ar1(row, col, nugget=TRUE)")
    gen, process, residual = fit.variance_components["estimate"]
    rho = fit.solved.equations.terms[1].levels.natural(fit.solved.term_theta(1)[1])
    grid = everywhere(field)

    def correlation(a, b):
        away = [np.abs(np.subtract.outer(a[k].to_numpy(), b[k].to_numpy())) for k in ("row", "col")]
        return process * rho[0] ** away[0] * rho[1] ** away[1]

    X = np.column_stack([np.ones(len(field)), field["row"]])
    Z = incidence(field["gen"])
    V = gen * Z @ Z.T + correlation(field, field) + residual * np.eye(len(field))
    K = np.zeros((len(grid), 2))
    value, se = predicted(
        field["yield"].to_numpy(), X, V, K, correlation(grid, field), correlation(grid, grid)
    )
    table = fit.trend()
    assert (table[["row", "col"]].to_numpy() == grid.to_numpy()).all()
    assert table["trend"].to_numpy() == pytest.approx(value, abs=1e-7)
    assert table["se"].to_numpy() == pytest.approx(se, abs=1e-7)


def test_a_curve_beside_other_fixed_terms(field):
    """The polynomial that is the curve's own is in the trend, no other column is."""
    frame = field.assign(half=np.where(field["col"] > 6, "east", "west"))
    fit = lmm("yield ~ half + row + ps(row, nseg=4)", frame)
    variance, residual = fit.variance_components["estimate"]
    grid = pd.DataFrame({"row": np.arange(1, 10)})
    both = np.r_[frame["row"], grid["row"]].astype(float)
    d, F = penalized_factors(both, 4)
    F = F[:, d > 0] * np.sqrt(variance / d[d > 0])
    n = len(frame)
    seen, new = F[:n], F[n:] - F[:n].mean(axis=0)
    X = np.column_stack([np.ones(n), frame["half"] == "west", frame["row"]]).astype(float)
    K = np.column_stack([np.zeros(9), np.zeros(9), grid["row"] - frame["row"].mean()])
    V = residual * np.eye(n) + seen @ seen.T
    value, se = predicted(frame["yield"].to_numpy(), X, V, K, new @ seen.T, new @ new.T)
    table = fit.trend("ps(row, nseg=4)")
    assert table["trend"].to_numpy() == pytest.approx(value, abs=1e-7)
    assert table["se"].to_numpy() == pytest.approx(se, abs=1e-7)


def test_the_default_is_the_surface(field):
    fit = lmm("yield ~ row*col + ps(col, nseg=4) + ps(row, col, nseg=(3, 4))", field)
    assert list(fit.trend().columns) == ["row", "col", "trend", "se"]
    assert list(fit.trend("ps(col, nseg=4)", se=False).columns) == ["col", "trend"]
    with pytest.raises(OptionError, match=r"nearest: 'ps\(col, nseg=4\)'"):
        fit.trend("ps(col, nseg=5)")


def test_models_without_a_trend(field):
    with pytest.raises(OptionError, match="no trend such as"):
        lmm("yield ~ (1 | gen)", field).trend()
    with pytest.raises(OptionError, match=r"fit\.residuals"):
        lmm("yield ~ (1 | gen)", field, field_trend="ar1").trend()
    with pytest.raises(OptionError, match="expressions"):
        lmm("yield ~ log(row) + ps(log(row), nseg=3)", field).trend()


def by_pairs(frame, e):
    """(row_lag, column_lag): [semivariance, pairs] by all pairs of plots."""
    found = {}
    r, c = frame["row"].to_numpy(), frame["col"].to_numpy()
    for a in range(len(e)):
        for b in range(a, len(e)):
            found.setdefault((abs(r[a] - r[b]), abs(c[a] - c[b])), []).append(0.5 * (e[a] - e[b]) ** 2)
    return {lag: (np.mean(own), len(own)) for lag, own in found.items()}


def test_the_variogram_is_over_all_pairs(field):
    fit = lmm("yield ~ (1 | gen)", field, field_trend="ps")
    table = fit.variogram()
    expected = by_pairs(field, fit.residuals)
    assert len(table) == len(expected)
    for own in table.itertuples():
        value, pairs = expected[own.row_lag, own.column_lag]
        assert own.semivariance == pytest.approx(value, abs=1e-10)
        assert own.pairs == pairs


def test_a_lost_row_still_counts(field):
    frame = field[field["row"] != 4].reset_index(drop=True)
    fit = lmm("yield ~ 1 + (1 | gen)", frame)
    table = fit.variogram("row", "col", data=frame)
    expected = by_pairs(frame, fit.residuals)
    assert {(own.row_lag, own.column_lag): own.pairs for own in table.itertuples()} == {
        lag: pairs for lag, (_, pairs) in expected.items()
    }
    feet = frame.assign(row=10 + 5 * frame["row"])  # numbers five apart are neighbours
    assert fit.variogram("row", "col", data=feet).equals(table)


def test_every_trial_has_its_variogram(field):
    small = made_field(rows=5, cols=6, seed=1)
    both = pd.concat([field.assign(env="b"), small.assign(env="a")], ignore_index=True)
    fit = lmm("yield ~ env + (1 | gen)", both, residual="ar1(row):ar1(col) | env")
    table = fit.variogram()
    again = lmm("yield ~ env + (1 | gen)", both).variogram("row", "col", by="env", data=both)
    assert (
        list(table.columns)
        == list(again.columns)
        == ["env", "row_lag", "column_lag", "semivariance", "pairs"]
    )
    assert table["pairs"].tolist() == again["pairs"].tolist()
    own = by_pairs(small, fit.residuals[len(field) :])
    for row in table[table["env"] == "a"].itertuples():
        assert row.semivariance == pytest.approx(own[row.row_lag, row.column_lag][0], abs=1e-10)


def test_positions_that_cannot_be_used(field):
    fit = lmm("yield ~ (1 | gen)", field)
    both = pd.concat([field, field], ignore_index=True)
    double = lmm("yield ~ (1 | gen)", both)
    with pytest.raises(OptionError, match="no positions of plots"):
        fit.variogram()
    with pytest.raises(OptionError, match="both row= and column="):
        fit.variogram("row")
    with pytest.raises(DataError, match="pass data="):
        fit.variogram("row", "col")
    with pytest.raises(DataError, match=r"2 plots stand at row 1, col 1; .* by="):
        double.variogram("row", "col", data=both)
    with pytest.raises(DataError, match="missing in 1 of the rows"):
        fit.variogram("row", "col", data=field.assign(row=field["row"].where(field.index != 3)))
    with pytest.raises(DataError, match="no positions"):
        fit.variogram("row", "col", data=field.assign(row=field["row"] * 10**7 + (field.index == 0)))
