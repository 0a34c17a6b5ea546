"""Levels whose distance counts: text without an order is taken by the numbers in it, not by the alphabet."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm, load
from fastlmm_core.errors import DistanceWarning


@pytest.fixture
def field():
    rng = np.random.default_rng(3)
    row, col = np.divmod(np.arange(48), 4)
    y = rng.normal(size=48).cumsum()
    return pd.DataFrame({"row": row + 1, "col": col + 1, "y": y})


@pytest.fixture
def visits():
    rng = np.random.default_rng(4)
    subject, visit = np.divmod(np.arange(220), 11)
    y = rng.normal(size=(20, 11)).cumsum(axis=1).ravel()
    table = pd.DataFrame({"s": subject.astype(str), "v": visit + 1, "y": y})
    return table.sample(frac=0.8, random_state=1)


WRITTEN = [lambda x: x.astype(str), lambda x: "R" + x.astype(str), lambda x: "R" + x.astype(str) + "a2"]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("model", [("y ~ 1", "ar1(row):ar1(col)"), ("y ~ 1 + (1 | ar1(row):col)", "units")])
def test_positions_of_a_field(field, written, model):
    formula, residual = model
    numbers = lmm(formula, field, residual=residual)
    text = lmm(formula, field.assign(row=written(field["row"])), residual=residual)
    np.testing.assert_allclose(text.criterion, numbers.criterion, rtol=1e-12)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize(
    "model",
    [("y ~ 1", "ar1(v | s)"), ("y ~ 1", "homtoep(v | s)"), ("y ~ 1 + ar1(0 + v | s)", "units"),
     ("y ~ 1 + ar1(0 + factor(v) | s)", "units"), ("y ~ 1 + hetar1(0 + v | s)", "units")],
)  # fmt: skip
def test_visits_of_a_subject(visits, written, model):
    formula, residual = model
    ordered = lmm(formula, visits.assign(v=pd.Categorical(visits["v"], ordered=True)), residual=residual)
    text = lmm(formula, visits.assign(v=written(visits["v"])), residual=residual)
    np.testing.assert_allclose(text.criterion, ordered.criterion, rtol=1e-10)


def test_the_covariance_is_that_of_the_positions(visits):
    fit = lmm("y ~ 1 + ar1(0 + v | s)", visits.assign(v="V" + visits["v"].astype(str)))
    assert fit.design.random[0].columns == tuple(f"vV{i}" for i in range(1, 12))
    first, second = fit.variance_components["estimate"].to_numpy()[:2]
    lag = np.abs(np.subtract.outer(visits["v"].to_numpy(), visits["v"].to_numpy()))
    same = np.equal.outer(visits["s"].to_numpy(object), visits["s"].to_numpy(object))
    V = same * first * (second / first) ** lag + fit.sigma**2 * np.eye(len(visits))
    ones, y = np.ones(len(visits)), visits["y"].to_numpy()
    X_V, y_V = np.linalg.solve(V, np.column_stack([ones, y])).T
    beta = y @ X_V / (ones @ X_V)
    deviance = (
        np.linalg.slogdet(V)[1] + np.log(ones @ X_V) + (y - beta) @ (y_V - beta * X_V)
        + (len(visits) - 1) * np.log(2 * np.pi)
    )  # fmt: skip
    np.testing.assert_allclose(fit.criterion, deviance, rtol=1e-9)


def test_an_order_that_was_given_is_kept(field):
    shuffled = pd.Categorical(field["row"], categories=[3, 1, 2, *range(4, 13)])
    place = pd.Series(shuffled.codes, index=field.index)
    given = lmm("y ~ 1", field.assign(row=shuffled), residual="ar1(row):ar1(col)")
    wanted = lmm("y ~ 1", field.assign(row=place), residual="ar1(row):ar1(col)")
    np.testing.assert_allclose(given.criterion, wanted.criterion, rtol=1e-12)


def test_categories_in_the_order_of_the_alphabet_are_kept_with_a_word(field):
    text = pd.Categorical("R" + field["row"].astype(str))
    place = pd.Series(text.codes, index=field.index)
    with pytest.warns(DistanceWarning, match="'row'.*'R1', 'R10', 'R11', 'R12'"):
        given = lmm("y ~ 1", field.assign(row=text), residual="ar1(row):ar1(col)")
    wanted = lmm("y ~ 1", field.assign(row=place), residual="ar1(row):ar1(col)")
    np.testing.assert_allclose(given.criterion, wanted.criterion, rtol=1e-12)


def test_new_plots_are_placed_by_their_numbers(field):
    fit = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", field)
    text = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", field.assign(row="R" + field["row"].astype(str)))
    new = pd.DataFrame({"row": [2, 10], "col": [1, 3]})
    np.testing.assert_allclose(text.predict(new.assign(row=["R2", "R10"])), fit.predict(new), rtol=1e-9)


@pytest.mark.parametrize("kind", ["str", object, "category"])
@pytest.mark.parametrize("factors", [None, ["row"]])
@pytest.mark.parametrize(
    ("formula", "residual"),
    [("y ~ 1", "ar1(row):ar1(col)"), ("y ~ 1 + (1 | ar1(row):col)", "units"),
     ("y ~ 1 + ar1(0 + row | col)", "units")],
)  # fmt: skip
def test_every_trial_of_a_batch(field, kind, factors, formula, residual):
    """Text is placed by its numbers, whatever kind of column it is; categories have their own order."""
    trials = pd.concat([field.assign(trial=name, y=field["y"] * k) for name, k in (("a", 1), ("b", 2))])
    text = trials.assign(row=("R" + trials["row"].astype(str)).astype(kind))
    found = fit_batch(text, formula, by="trial", residual=residual, factors=factors).fits
    own = field
    if kind == "category":
        own = field.assign(row=pd.Categorical("R" + field["row"].astype(str)).codes)
    ordered = own.assign(row=pd.Categorical(own["row"], ordered=True))
    alone = lmm(formula, ordered, residual=residual)
    np.testing.assert_allclose(found["criterion"].iloc[0], alone.criterion, rtol=1e-9)
    assert found["message"].str.contains("alphabetical order").all() == (kind == "category")


def test_text_with_missing_cells_in_a_batch(field):
    field.loc[[5, 17], "row"] = np.nan
    text = field.assign(row=["R" + str(int(r)) if r == r else None for r in field["row"]], trial="a")
    alone = lmm("y ~ 1 + (1 | ar1(row):col)", field)
    for factors in (None, ["row"]):
        own = text.astype({"row": object})
        found = fit_batch(own, "y ~ 1 + (1 | ar1(row):col)", by="trial", factors=factors).fits.iloc[0]
        assert (found["n"], found["n_dropped"]) == (46, 2)
        np.testing.assert_allclose(found["criterion"], alone.criterion, rtol=1e-10)


def test_the_word_stays_with_the_fit(field, tmp_path):
    text = field.assign(row=pd.Categorical("R" + field["row"].astype(str)))
    with pytest.warns(DistanceWarning) as caught:
        fit = lmm("y ~ 1", text, residual="ar1(row):ar1(col)")
    assert [warning.filename for warning in caught] == [__file__]
    assert [warning.flag for warning in fit.warnings] == ["distance"]
    fit.save(tmp_path / "field.fit")
    assert [str(own) for own in load(tmp_path / "field.fit").warnings] == [str(fit.warnings[0])]
