"""Structured fits in files and pickles: the same answers in another process, whatever the structure."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import (
    Covariance,
    Markers,
    Pedigree,
    SparseInverse,
    datasets,
    fit_batch,
    lmm,
    load,
    second_stage,
)
from fastlmm_core.engine import model_fit
from fastlmm_core.errors import FastLMMWarning, OptionError
from fastlmm_core.structures.relationships import storing

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
LEVELS = [f"g{k:02d}" for k in range(16)]
RNG = np.random.default_rng(8)
COUNTS = pd.DataFrame(RNG.integers(0, 3, (16, 40)), LEVELS, [f"m{k}" for k in range(40)]).astype(float)
PARENTS = pd.DataFrame({
    "id": LEVELS, "sire": ["", "", "", "", *(LEVELS[k % 3] for k in range(12))],
    "dam": ["", "", "", "", *(LEVELS[3 + k % 4] if k > 4 else LEVELS[3] for k in range(12))],
})  # fmt: skip
DENSE = np.cov(COUNTS) + 0.3 * np.eye(16)
RELATED = {
    "P": Pedigree(PARENTS), "M": Markers(COUNTS, ridge=0.05), "W": Markers(COUNTS.iloc[:, :6]),
    "D": Covariance(DENSE, LEVELS), "S": SparseInverse(sp.csc_array(np.linalg.inv(DENSE)), LEVELS),

}  # fmt: skip


def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    u = np.linalg.cholesky(DENSE) @ rng.normal(size=16)
    rows = [
        (env, rep, LEVELS[i], k % 7 + 1, k // 7 + 1, rng.normal(), 0.5 + rng.random(),
         10 + u[i] + 0.2 * (k % 7) + rng.normal() * (1 if env == "E1" else 2))
        for env in ("E1", "E2") for rep in ("r1", "r2") for k, i in enumerate(rng.permutation(14))
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["env", "rep", "gen", "row", "col", "x", "w", "y"])
    frame["col"] += 2 * (frame["rep"] == "r2")
    frame.loc[[5, 30], "y"] = np.nan
    return frame


TABLE = table()
MODELS = {
    "pedigree": ("y ~ env + rep + (1 | vm(gen, P))", {}),
    "markers, by environment": ("y ~ env + us(0 + env | vm(gen, M))", {"residual": "units | env"}),
    "few markers": ("y ~ env + (1 | vm(gen, W))", {}),
    "covariance and inverse": ("y ~ env + (1 | vm(gen, D)) + (1 | env:vm(gen, S))", {}),
    "field": ("y ~ env + (1 | gen)", {"residual": "ar1(row):ar1(col) | env"}),
    "a trend": ("y ~ env + (1 | gen)", {"field_trend": "ps"}),
    "process in a term": ("y ~ env + (1 | ar1(row):env) + (1 | gen)", {}),
    "spline": ("y ~ env + row + offset(x) + (1 | gen) + ps(row)", {}),
    "a subject's visits": ("y ~ env + (1 | gen)", {"residual": "us(env | gen:rep)"}),
    "heterogeneous structures": ("y ~ env*rep + hetar1(0 + env | gen)", {"residual": "diag(rep | gen:env)"}),
    "factor analytic": ("y ~ env + fa(0 + env | gen, k=1)", {"residual": "units | env"}),
    "reduced rank by ML": ("y ~ env + rr(0 + env | gen, d=1)", {"reml": False}),
    "at": ("y ~ env + (1 | at(env):rep) + cs(0 + env | gen)", {"residual": "units | env"}),
    "held": ("y ~ env + (1 | gen)", {"fixed_parameters": {"gen": 1.5, "Residual": 2.0}}),
    "held in part": ("y ~ env + us(0 + env | gen)", {"fixed_parameters": {"gen": np.diag([1.0, 2.0])}}),
    "weights, CHOLMOD": ("y ~ env + (1 | vm(gen, P))", {"weights": "w", "factorization": "cholmod"}),
    "coding": ("y ~ env + (1 | vm(gen, D))", {"contrasts": {"env": "contr.sum"}}),
}  # fmt: skip


def fitted(model: str):
    formula, options = MODELS[model]
    return lmm(formula, TABLE, relationships=RELATED, **options)


def answers(fit) -> dict[str, object]:
    new = TABLE.head(6).assign(x=0.0)
    return {
        "summary": str(fit.summary()), "criterion": fit.criterion, "components": fit.variance_components,
        "fixed": fit.fixed_effects(), "means": fit.emmeans("env").to_frame(), "blups": fit.blups(),
        "prediction": fit.predict(se=True), "new": fit.predict(new, se=True), "residuals": fit.residuals,
        "trace": fit.convergence.trace, "converged": fit.converged,
    }  # fmt: skip


def assert_same(left, right, rtol) -> None:
    for name, value in left.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, right[name], rtol=rtol, atol=1e-9, obj=name)
        elif isinstance(value, (float, np.ndarray)):
            np.testing.assert_allclose(value, right[name], rtol=rtol, atol=1e-9, err_msg=name)
        else:
            assert value == right[name], name


@pytest.mark.parametrize("model", MODELS)
def test_a_loaded_fit_answers_as_the_saved_one(tmp_path, monkeypatch, model):
    fit = fitted(model)
    expected = answers(fit)
    fit.save(tmp_path / "a.fit")
    monkeypatch.setattr(model_fit, "fit_structures", None)  # nothing is searched
    loaded = load(tmp_path / "a.fit")
    assert_same(expected, answers(loaded), 1e-7)
    monkeypatch.undo()
    np.testing.assert_allclose(loaded.refit(fit.response).criterion, fit.criterion, rtol=1e-8)
    loaded.save(tmp_path / "b.fit")
    assert load(tmp_path / "b.fit").criterion == pytest.approx(fit.criterion, rel=1e-10)


@pytest.mark.parametrize("name", RELATED)
def test_a_relationship_comes_back_whole(name):
    own = RELATED[name].named(name)
    texts, arrays = storing.described(own)
    back = storing.restored(json.loads(json.dumps(texts)), arrays)
    assert (back.name, back.levels, type(back)) == (own.name, own.levels, type(own))
    assert back.fingerprint() == own.fingerprint()
    np.testing.assert_array_equal(back.multiply(np.eye(16)), own.multiply(np.eye(16)))


def test_marker_effects_of_a_loaded_fit(tmp_path):
    fit = lmm("y ~ env + (1 | vm(gen, W))", TABLE, relationships=RELATED)
    fit.save(tmp_path / "a.fit")
    pd.testing.assert_frame_equal(load(tmp_path / "a.fit").marker_effects(), fit.marker_effects(), rtol=1e-7)


def test_a_second_stage_is_saved_with_its_blocks(tmp_path):
    first = fit_batch(
        datasets.load("trials"), "yield ~ gen + (1|rep) + (1|rep:block)", by="trial", emmeans="gen",
        covariances=True, fixed=False,
    )  # fmt: skip
    fit = second_stage(first, "mean ~ 1 + (1|gen) + (1|trial) + (1|trial:gen)")
    fit.save(tmp_path / "a.fit")
    loaded = load(tmp_path / "a.fit")
    assert loaded.criterion == pytest.approx(fit.criterion, rel=1e-9)
    pd.testing.assert_frame_equal(loaded.blups(), fit.blups(), rtol=1e-6, atol=1e-8)


def test_a_relationship_of_another_class_is_refused(tmp_path):
    class Own(Covariance):
        pass

    fit = lmm("y ~ env + (1 | vm(gen, O))", TABLE, relationships={"O": Own(DENSE, LEVELS)})
    with pytest.raises(OptionError, match="of the class Own cannot be saved; pickle keeps the fit"):
        fit.save(tmp_path / "a.fit")
    assert not list(tmp_path.iterdir())


ELSEWHERE = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
things = pickle.load(open(sys.argv[1], "rb"))
out = {}
for name, (prepared, fit) in things.items():
    again = prepared.fit()
    tables = (fit.emmeans("env").to_frame(), fit.blups(), fit.predict(se=True))
    out[name] = (again.criterion, fit.criterion, *tables)
pickle.dump(out, open(sys.argv[2], "wb"))
"""


def test_prepared_models_and_fits_pickle_to_another_process(tmp_path):
    fits = {model: fitted(model) for model in MODELS}
    for own in fits.values():
        own.emmeans("env")  # after a question as well as before any
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.write_bytes(pickle.dumps({model: (fit.prepared, fit) for model, fit in fits.items()}))
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(given), str(taken)], check=True, cwd=ROOT)
    found = pickle.loads(taken.read_bytes())
    for model, fit in fits.items():
        again, criterion, means, blups, prediction = found[model]
        assert criterion == fit.criterion, model
        assert again == pytest.approx(fit.criterion, rel=1e-9), model
        pd.testing.assert_frame_equal(means, fit.emmeans("env").to_frame(), check_exact=True)
        pd.testing.assert_frame_equal(blups, fit.blups(), check_exact=True)
        pd.testing.assert_frame_equal(prediction, fit.predict(se=True), check_exact=True)


@pytest.mark.parametrize("model", MODELS)
def test_questions_do_not_make_a_pickle_large(model):
    """A fit is its data, a pattern and two factors; tables that were asked for are little beside them."""
    fit = fitted(model)
    before = len(pickle.dumps(fit))
    answers(fit)
    assert len(pickle.dumps(fit)) < 1.5 * before


@pytest.mark.parametrize("formula, data, names", [
    ("Yield ~ 1 + (1|Batch)", "dyestuff", None),
    ("Reaction ~ Days + (Days|Subject)", "sleepstudy", ["sd(Subject: Days)", "Days"]),
])  # fmt: skip
def test_a_profile_pickles_and_goes_on(formula, data, names):
    fit = lmm(formula, datasets.load(data))
    own = fit.profile(names, level=0.9)
    back = pickle.loads(pickle.dumps(own))
    pd.testing.assert_frame_equal(back.points, own.points, check_exact=True)
    for level in (0.8, 0.99):  # within what is known, and beyond it
        pd.testing.assert_frame_equal(back.conf_int(level), own.conf_int(level), rtol=1e-9)


def test_a_structured_profile_pickles():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        own = fitted("held in part").profile(["sigma"], level=0.9)
    back = pickle.loads(pickle.dumps(own))
    pd.testing.assert_frame_equal(back.conf_int(0.95), own.conf_int(0.95), rtol=1e-9)


def test_positions_that_are_text_keep_their_order(tmp_path):
    rng = np.random.default_rng(3)
    row, col = np.divmod(np.arange(48), 4)
    table = pd.DataFrame(
        {"row": [f"R{i + 1}" for i in row], "col": col + 1, "y": rng.normal(size=48).cumsum()}
    )
    fit = lmm("y ~ 1", table, residual="ar1(row):ar1(col)")
    fit.save(tmp_path / "field.fit")
    again = load(tmp_path / "field.fit")
    assert again.criterion == fit.criterion
    assert again.refit(table["y"]).criterion == pytest.approx(fit.criterion, rel=1e-10)
