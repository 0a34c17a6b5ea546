"""The estimator of scikit-learn: its own checks, and predictions beside those of the fit."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Markers, datasets, lmm

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from fastlmm_core.scikit_learn import MixedModelRegressor  # noqa: E402

SLEEP = datasets.load("sleepstudy")
X, Y = SLEEP[["Days", "Subject"]], SLEEP["Reaction"]
SLOPES = "Days + (Days | Subject)"

# Checks of scikit-learn that do not apply to the default estimator, a linear model of all columns.
NOT_APPLICABLE = {
    "check_sample_weight_equivalence_on_dense_data": "a weight of 2 is a precision here, not the row twice",
    "check_fit2d_1sample": "one row is refused, in words about the design instead of scikit-learn's",
}


def test_scikit_learns_own_checks():
    results = check_estimator(MixedModelRegressor(), on_fail=None)
    failed = {own["check_name"]: repr(own["exception"]) for own in results if own["status"] == "failed"}
    assert set(failed) <= set(NOT_APPLICABLE), failed
    assert sum(own["status"] == "passed" for own in results) > 30


def test_predictions_are_those_of_the_fit():
    fit = lmm("Reaction ~ Days + (Days | Subject)", SLEEP)
    model = MixedModelRegressor(SLOPES).fit(X, Y)
    assert model.model_.criterion == pytest.approx(fit.criterion, rel=1e-12)
    np.testing.assert_allclose(model.predict(X), fit.fitted, rtol=1e-10)
    np.testing.assert_allclose(
        MixedModelRegressor(SLOPES, random=False).fit(X, Y).predict(X), fit.predict(random=False), rtol=1e-10
    )
    new = pd.DataFrame({"Days": [3, 3], "Subject": ["nobody", "S308"]})
    population = fit.beta @ [1.0, 3.0]
    np.testing.assert_allclose(model.predict(new), [population, fit.fitted[3]], rtol=1e-10)
    assert list(model.feature_names_in_) == ["Days", "Subject"] and model.n_features_in_ == 2


def test_clone_parameters_and_pickle():
    model = MixedModelRegressor(SLOPES, reml=False)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(reml=True, formula="Days").get_params()["formula"] == "Days"
    fitted = clone(model).fit(X, Y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))


def test_cross_validation_within_and_between_subjects():
    """Slopes of subjects help where the subject is known; a new one gets the line of the population."""
    plots = KFold(5, shuffle=True, random_state=0)
    within = cross_val_score(MixedModelRegressor(SLOPES), X, Y, cv=plots).mean()
    line = cross_val_score(MixedModelRegressor("Days"), X, Y, cv=plots).mean()
    folds = GroupKFold(6)
    between = cross_val_score(MixedModelRegressor(SLOPES), X, Y, cv=folds, groups=X["Subject"])
    alone = cross_val_score(MixedModelRegressor("Days"), X, Y, cv=folds, groups=X["Subject"])
    # a balanced design: the line of the population is the least squares line
    np.testing.assert_allclose(between, alone, rtol=1e-6)
    assert within > line + 0.2


def test_search_over_formulas():
    formulas = ["1 + (1 | Subject)", SLOPES]
    search = GridSearchCV(MixedModelRegressor(), {"formula": formulas}, cv=4)
    shuffled = SLEEP.sample(frac=1.0, random_state=2)
    search.fit(shuffled[["Days", "Subject"]], shuffled["Reaction"])
    assert search.best_params_ == {"formula": SLOPES}


def test_relationships_predict_what_was_not_seen():
    rng = np.random.default_rng(4)
    counts = pd.DataFrame(
        rng.integers(0, 3, (60, 30)), [f"g{k}" for k in range(60)], [f"m{k}" for k in range(30)]
    )
    values = counts.to_numpy(float) @ rng.normal(size=30)
    table = pd.DataFrame({"gen": counts.index}).loc[:39]
    markers = Markers(counts.astype(float), ridge=0.01)
    model = MixedModelRegressor("(1 | vm(gen, G))", relationships={"G": markers})
    model.fit(table, values[:40] + rng.normal(size=40))
    unseen = model.predict(pd.DataFrame({"gen": counts.index[40:]}))
    assert np.corrcoef(unseen, values[40:])[0, 1] > 0.5


def test_weights_and_errors():
    w = np.linspace(0.5, 2.0, len(Y))
    weighted = MixedModelRegressor(SLOPES).fit(X, Y, sample_weight=w).model_
    assert weighted.criterion == pytest.approx(
        lmm("Reaction ~ Days + (Days|Subject)", SLEEP, weights=w).criterion
    )
    with pytest.raises(ValueError, match="write the formula without it"):
        MixedModelRegressor("Reaction ~ Days").fit(X, Y)
    with pytest.raises(ValueError, match="'none' is not in the data"):
        MixedModelRegressor("none").fit(X, Y)
    with pytest.raises(ValueError, match="weights has shape"):
        MixedModelRegressor(SLOPES).fit(X, Y, sample_weight=-1.0)


def test_missing_values_and_weights_that_are_none():
    new = pd.DataFrame({"Days": [3, 3, np.nan, 3], "Subject": ["S308", None, "S308", "nobody"]})
    model = MixedModelRegressor(SLOPES).fit(X, Y)
    assert np.isnan(model.predict(new)).tolist() == [False, True, True, False]
    alone = model.set_params(random=False).predict(new)  # of the population: the subject says nothing
    assert np.isnan(alone).tolist() == [False, False, True, False] and alone[0] == alone[1]
    for y in (Y.where(Y.index != 3), Y.where(Y.index != 3, np.inf)):
        with pytest.raises(ValueError, match="Input y contains"):
            model.fit(X, y)
    for wrong in (-2.0, np.nan):  # beside a weight of zero such rows were left out without a word
        w = np.ones(len(Y))
        w[:2] = 0.0, wrong
        with pytest.raises(ValueError, match="zero or positive: the first in row 1"):
            model.fit(X, Y, sample_weight=w)


def test_what_a_prediction_does_not_need_may_be_missing():
    """Beside a value of zero the level says nothing; of overlaid columns each says its own."""
    new = pd.DataFrame({"Days": [0, 2], "Subject": [None, None]})
    model = MixedModelRegressor("Days + (0 + Days | Subject)").fit(X, Y)
    assert np.isnan(model.predict(new)).tolist() == [False, True]
    rng, names = np.random.default_rng(3), [f"g{k}" for k in range(8)]
    pairs = pd.DataFrame(rng.choice(names, (120, 2)), columns=["dam", "calf"])
    A = pd.DataFrame(np.eye(8) + 0.1, names, names)
    own = MixedModelRegressor("us(dam + calf | vm(A))", relationships={"A": A})
    own.fit(pairs, pairs["dam"].map(dict(zip(names, rng.normal(size=8), strict=True))) + rng.normal(size=120))
    new = pd.DataFrame({"dam": ["g1", "g1", None, "none"], "calf": ["g2", None, "g2", "g2"]})
    assert np.isnan(own.predict(new)).tolist() == [False, True, True, False]


def test_tables_that_are_not_of_pandas():
    pyarrow = pytest.importorskip("pyarrow")
    given = pyarrow.Table.from_pandas(X)
    model = MixedModelRegressor(SLOPES).fit(given, Y)
    np.testing.assert_allclose(model.predict(given), model.model_.fitted, rtol=1e-10)


def test_the_page_prints_what_it_shows(monkeypatch):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    text = (root / "docs" / "scikit_learn.md").read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", text, re.S)
    assert len(blocks) >= 2
    for code, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "docs/scikit_learn.md", "exec"), names)
        assert out.getvalue().split() == printed.split()
