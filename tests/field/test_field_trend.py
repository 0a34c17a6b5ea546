"""`field_trend=`: the terms it stands for, by dense generalized least squares, and its doors."""

import json

import numpy as np
import pandas as pd
import pytest
from fields import dense_criterion, incidence, made_field, process_field, surface_factors

from fastlmm_core import fit_batch, lmm, prepare, run
from fastlmm_core.cli import main
from fastlmm_core.design.field_trend import add_field_trend
from fastlmm_core.errors import DesignError, FormulaError, OptionError

SPELLED = "yield ~ (1 | gen) + row*col + (1 | row) + (1 | col) + ps(row, col, nseg=(5, 6))"


@pytest.fixture(scope="module")
def field():
    return made_field(lost=0.1)


@pytest.fixture(scope="module")
def fit(field):
    return lmm("yield ~ (1 | gen)", field, field_trend="ps")


def dense_pieces(frame, segments):
    """X and, by parameter, what V is made of: gen, row, col; the surface comes from its two variances."""
    r, c = frame["row"].to_numpy(float), frame["col"].to_numpy(float)
    X = np.column_stack([np.ones(len(frame)), r, c, r * c])
    plain = [incidence(frame[name]) for name in ("gen", "row", "col")]
    return X, [Z @ Z.T for Z in plain], surface_factors(frame, segments)


def criterion_at(frame, pieces, values):
    X, products, (pairs, Z) = pieces
    *plain, first, second, residual = values
    V = residual * np.eye(len(frame)) + sum(v * own for v, own in zip(plain, products, strict=True))
    V += (Z / (pairs[0] / first + pairs[1] / second)) @ Z.T
    return dense_criterion(frame["yield"].to_numpy(), X, V)


def test_ps_is_the_dense_optimum(field, fit):
    pieces = dense_pieces(field, (5, 6))
    values = fit.variance_components["estimate"].to_numpy()
    assert fit.converged and values.size == 6
    best = criterion_at(field, pieces, values)
    assert fit.criterion == pytest.approx(best, abs=1e-7)
    for k in range(values.size):
        for factor in (0.8, 1.25):
            moved = values.copy()
            moved[k] *= factor
            assert criterion_at(field, pieces, moved) > best - 1e-9


def test_it_is_the_formula_that_it_writes(field, fit):
    spelled = lmm(SPELLED, field)
    assert spelled.criterion == pytest.approx(fit.criterion, abs=1e-9)
    assert str(fit.formula) == (
        "yield ~ (1 | gen) + row*col + (1 | row) + (1 | col) + ps(row, col, nseg=auto)"
    )
    assert "ps(row, col, nseg=auto): 5 x 6 segments." in str(fit.summary())


def test_segments_follow_positions_not_units(field, fit):
    metres = field.assign(row=3.0 + 1.5 * field["row"], col=0.25 * field["col"])
    moved = lmm("yield ~ (1 | gen)", metres, field_trend="ps")
    assert moved.design.random[-1].chosen_segments == fit.design.random[-1].chosen_segments == (5, 6)
    # the interaction of the new units holds the old one times their product, and |X'V^-1X| their squares
    scale = 2 * np.log(1.5 * 0.25 * (1.5 * 0.25))
    assert moved.criterion == pytest.approx(fit.criterion + scale, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("ps", "row*col + (1 | row) + (1 | col) + ps(row, col, nseg=auto)"),
        ("ps(range, `a b`)", "range*`a b` + (1 | range) + (1 | `a b`) + ps(range, `a b`, nseg=auto)"),
        ("ps(row, col, nseg=(10, 15), pord=1)",
         "row*col + (1 | row) + (1 | col) + ps(row, col, nseg=(10, 15), pord=1)"),
        ("ar1(range, bed, nugget=TRUE)", "(1 | ar1(range):ar1(bed))"),
        ("ar1(nugget=True)", "(1 | ar1(row):ar1(col))"),
    ],
)  # fmt: skip
def test_terms(text, formula):
    parsed, residual = add_field_trend("y ~ x", "units", text)
    assert (parsed.text, residual) == (f"y ~ x + {formula}", "units")


def test_terms_that_are_there_are_not_repeated():
    parsed, _ = add_field_trend("y ~ (1 | row) + row:col", "units", "ps")
    assert [part.group for part in parsed.random] == ["row", "col"]
    assert sorted(parsed.fixed.terms) == [("col",), ("row",), ("row", "col")]


def test_ar1_is_the_residual_and_the_nugget_a_term():
    field = process_field(lost=0.1)
    assert add_field_trend("y ~ x", "units", "ar1")[1] == "ar1(row):ar1(col)"
    n = len(field)
    gen = incidence(field["gen"])
    fit = lmm("yield ~ (1 | gen)", field, field_trend="ar1")
    block = {**fit.variance_components.set_index("component")["estimate"]}
    rho = list(fit.solved.equations.residual.natural(fit.solved.theta[fit.solved.equations.slices[1]]))[1:]
    away = [np.abs(x[:, None] - x) for x in (field["row"].to_numpy(), field["col"].to_numpy())]
    V = block["V1"] * gen @ gen.T + block["V2"] * rho[0] ** away[0] * rho[1] ** away[1]
    assert fit.criterion == pytest.approx(
        dense_criterion(field["yield"].to_numpy(), np.ones((n, 1)), V), abs=1e-7
    )
    both = lmm("yield ~ (1 | gen)", field, field_trend="ar1(row, col, nugget=TRUE)")
    assert both.criterion <= fit.criterion + 1e-6  # the residual alone is the nugget at zero


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spline", "'ps' or 'ar1'"),
        ("", "'ps' or 'ar1'"),
        ("ps + x", "'ps' or 'ar1'"),
        ("ps(row)", "ps\\(row, col\\)"),
        ("ps(row, row)", "names 'row' twice; .*'ps\\(row, col\\)'"),
        ("ar1(col, col)", "names 'col' twice; .*'ar1\\(row, col\\)'"),
        ("ps(log(row), col)", "ps\\(row, col\\)"),
        ("ps(row, col, nugget=TRUE)", "no option 'nugget'; it takes 'nseg'"),
        ("ar1(row, col, nugget=2)", "TRUE or FALSE"),
    ],
)
def test_refusals(field, text, words):
    with pytest.raises(OptionError, match=words):
        lmm("yield ~ 1", field, field_trend=text)


def test_one_residual(field):
    with pytest.raises(OptionError, match="nugget=TRUE"):
        lmm("yield ~ gen", field, field_trend="ar1", residual="units | row")
    with pytest.raises(OptionError, match="field_trend=3 must be a text"):
        lmm("yield ~ gen", field, field_trend=3)


def test_what_a_field_lacks(field):
    with pytest.raises(DesignError, match="3 distinct values of row, but there are 2"):
        lmm("yield ~ 1", field[field["row"] < 3], field_trend="ps")
    with pytest.raises(FormulaError, match="'range'"):
        lmm("yield ~ 1", field, field_trend="ps(range, col)")


def test_nseg_auto_of_one_variable_and_its_bounds():
    x = np.repeat(np.arange(200.0), 2)
    frame = pd.DataFrame({"x": x, "y": np.sin(x / 9) + np.random.default_rng(1).normal(size=x.size)})
    assert lmm("y ~ x + ps(x, nseg=auto)", frame).design.random[0].chosen_segments == (40,)
    few = frame[frame["x"] < 3]
    assert prepare("y ~ x + ps(x, nseg=auto)", few).design.random[0].chosen_segments == (2,)
    with pytest.raises(FormulaError):
        lmm("y ~ x + ps(x, nseg=many)", frame)


def test_every_trial_of_a_batch_has_its_own_segments(field):
    small = made_field(rows=7, cols=8, seed=2, genotypes=14)
    both = pd.concat([field.assign(trial="a"), small.assign(trial="b")], ignore_index=True)
    result = fit_batch(both, "yield ~ (1 | gen)", by="trial", field_trend="ps", blups="gen")
    assert list(result.fits["status"]) == ["ok", "ok"]
    for k, own in enumerate((field, small)):
        alone = lmm("yield ~ (1 | gen)", own, field_trend="ps")
        assert result.fits["criterion"][k] == pytest.approx(alone.criterion, abs=1e-8)
        edf = result.fits.filter(like="edf_ps").iloc[k].to_numpy(float)
        shown = alone.effective_dimensions["edf"].to_numpy()[-3:-1]
        assert edf == pytest.approx(shown, abs=1e-6)


def test_a_request(field, fit):
    columns = {name: field[name].tolist() for name in field.columns}
    answer = run({"data": columns, "formula": "yield ~ (1 | gen)", "field_trend": "ps"})
    assert answer["fit"]["criterion"] == pytest.approx(fit.criterion, abs=1e-9)
    assert json.dumps(answer)


def test_command_line(field, fit, tmp_path, capsys):
    path = tmp_path / "field.csv"
    field.to_csv(path, index=False)
    assert main(["fit", str(path), "yield ~ (1 | gen)", "--field-trend", "ps"]) == 0
    assert f"{fit.criterion:.1f}" in capsys.readouterr().out
    folder = tmp_path / "out"
    command = ["batch", str(path), "yield ~ (1 | gen)", "--by", "trial", "--field-trend", "ps", "--quiet"]
    field.assign(trial=1).to_csv(path, index=False)
    assert main([*command, "--out", str(folder)]) == 0
    fits = pd.read_parquet(folder / "fits")
    assert fits["criterion"][0] == pytest.approx(fit.criterion, abs=1e-8)


def test_effective_dimensions_are_traces(field, fit):
    X, products, (pairs, Z) = dense_pieces(field, (5, 6))
    gen, row, col, first, second, residual = fit.variance_components["estimate"]
    total = pairs[0] / first + pairs[1] / second
    surface = (Z / total) @ Z.T
    parts = [v * own for v, own in zip((gen, row, col), products, strict=True)]
    # d V / d log variance of either direction
    parts += [
        (Z * (own / variance / total**2)) @ Z.T for own, variance in zip(pairs, (first, second), strict=True)
    ]
    V = residual * np.eye(len(field)) + sum(parts[:3]) + surface
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    traces = [4.0, *(np.sum(P * part) for part in parts), residual * np.trace(P)]
    table = fit.effective_dimensions
    assert list(table["group"]) == [
        "fixed",
        "gen",
        "row",
        "col",
        *["ps(row, col, nseg=auto)"] * 2,
        "Residual",
    ]
    assert table["edf"].to_numpy() == pytest.approx(traces, abs=1e-7)
    assert table["edf"].sum() == pytest.approx(len(field))


@pytest.mark.parametrize("options", [{}, {"reml": False}, {"fixed_parameters": {"Residual": 0.3}}])
def test_effective_dimensions_of_plain_terms(field, options):
    """Both engines: tr(P V_k) of gen and of a random slope, P with the fixed part also for ML."""
    fit = lmm("yield ~ col + (1 | gen) + (1 + col | row)", field, **options)
    table = fit.variance_components
    by = {group: own["estimate"].to_numpy() for group, own in table.groupby("group", sort=False)}
    Z, slope = incidence(field["row"]), incidence(field["row"]) * field[["col"]].to_numpy(float)
    G = by["row"]
    gen = by["gen"][0] * incidence(field["gen"]) @ incidence(field["gen"]).T
    T = dict(zip(zip(table["var1"], table["var2"].fillna(""), strict=True), table["estimate"], strict=True))
    cov = T[("(Intercept)", "col")] if ("(Intercept)", "col") in T else T[("col", "(Intercept)")]
    own = table[(table["group"] == "row") & (table["var2"].isna() | (table["var2"] == ""))][
        "estimate"
    ].to_numpy()
    assert G.size == 3
    row = own[0] * Z @ Z.T + own[1] * slope @ slope.T + cov * (Z @ slope.T + slope @ Z.T)
    X = np.column_stack([np.ones(len(field)), field["col"]])
    R = fit.sigma**2 * np.eye(len(field))
    Vi = np.linalg.inv(gen + row + R)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    traces = [2.0, np.sum(P * gen), np.sum(P * row), np.sum(P * R)]
    assert fit.effective_dimensions["edf"].to_numpy() == pytest.approx(traces, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 3, 5, 9])
def test_a_direction_that_is_straight_has_its_limit(seed):
    """A surface without curvature over rows: the search rests at the bound, a certified optimum."""
    rng = np.random.default_rng(seed)
    frame = made_field(rows=12, cols=16, seed=3, genotypes=48)
    r, c = frame["row"].to_numpy(float), frame["col"].to_numpy(float)
    frame["yield"] = 10 + 0.3 * r + (1 + 0.1 * r) * np.sin(c / 3) + 0.5 * rng.normal(size=len(frame))
    fit = lmm("yield ~ row*col + ps(row, col, nseg=auto)", frame)
    _, second, residual = fit.variance_components["estimate"]
    assert fit.converged and fit.optimum.iterations < 40
    assert fit.effective_dimensions["edf"][1] < 1e-3
    pairs, Z = surface_factors(frame, (6, 8))
    straight = pairs[0] == 0.0
    V = residual * np.eye(len(frame)) + second * (Z[:, straight] / pairs[1, straight]) @ Z[:, straight].T
    X = np.column_stack([np.ones(len(frame)), r, c, r * c])
    limit = dense_criterion(frame["yield"].to_numpy(), X, V)
    assert fit.criterion == pytest.approx(limit, abs=1e-4)


def test_positions_far_from_zero(field, fit):
    """Coordinates of thousands are as good as those from one on; of millions say what to do."""
    near = lmm("yield ~ (1 | gen)", field.assign(row=field["row"] + 5000), field_trend="ps")
    assert near.criterion == pytest.approx(fit.criterion, abs=1e-5)
    far = field.assign(row=field["row"] + 4_000_000, col=field["col"] + 500_000)
    with pytest.raises(DesignError, match="count row from another origin, row - 4000001 for example"):
        lmm("yield ~ (1 | gen)", far, field_trend="ps")


def test_figures_that_cannot_be_drawn_are_notes(field, tmp_path, capsys):
    """A variogram of a few plots stops neither the other figures nor the command."""
    own = pd.concat([field.assign(env="A"), field[field["row"] <= 3].assign(env="B"),
                     field.assign(env="C", **{"yield": -field["yield"]})])  # fmt: skip
    own[["env", "row", "col", "yield"]].to_csv(tmp_path / "f.csv", index=False)
    small = own[(own["env"] != "B") | (own["col"] <= 4)]
    small.to_csv(tmp_path / "f.csv", index=False)
    command = ["fit", str(tmp_path / "f.csv"), "yield ~ env", "--residual", "ar1(row):ar1(col) | env"]
    assert main([*command, "--plot", "--out", str(tmp_path / "o")]) == 0
    assert "no variogram_B.png: a variogram needs 30 pairs" in capsys.readouterr().err
    names = {path.name for path in (tmp_path / "o").glob("*.png")}
    assert {f"field_{env}.png" for env in "ABC"} | {"variogram_A.png", "variogram_C.png"} <= names


def test_a_direction_without_curves_has_no_standard_error():
    """Others are those of the model without it, from dense average and expected information."""
    field = made_field(8, 9, seed=3, lost=0.1)
    noise = 0.4 * np.random.default_rng(3).normal(size=len(field))
    y = 10 + np.sin(field["col"] / 1.7) + 0.05 * field["row"] * field["col"] + noise
    fit = lmm("yield ~ row*col + ps(row, col, nseg=(4, 5))", field.assign(**{"yield": y}))
    table = fit.variance_components
    _, size, sigma2 = table["estimate"]
    assert np.isnan(table["se"].iloc[0]) and table["estimate"].iloc[0] < 1e-6 * size
    penalties, Z = surface_factors(field, (4, 5))
    straight = penalties[0] < 1e-12  # along the rows, as all that is left of the surface is
    G = np.where(straight, size / np.where(straight, penalties[1], 1.0), 0.0)
    V_inv = np.linalg.inv((Z * G) @ Z.T + sigma2 * np.eye(len(field)))
    X = np.column_stack([np.ones(len(field)), field["row"], field["col"], field["row"] * field["col"]])
    P = V_inv - V_inv @ X @ np.linalg.solve(X.T @ V_inv @ X, X.T @ V_inv)
    slopes = [(Z * G / size) @ Z.T, np.eye(len(field))]
    Py = P @ y.to_numpy()
    for information, matrix in {
        "average": [[Py @ a @ P @ b @ Py for b in slopes] for a in slopes],
        "expected": [[np.sum((P @ a) * (P @ b).T) for b in slopes] for a in slopes],
    }.items():
        se = np.sqrt(np.diag(2.0 * np.linalg.inv(matrix)))
        found = [fit.vpredict(name, information=information).se for name in ("V2", "V3")]
        np.testing.assert_allclose(found, se, rtol=1e-5)
