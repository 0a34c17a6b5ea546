"""A fit in a file answers as the fit did; a file that is damaged, foreign or of a later format is refused."""

from __future__ import annotations

import datetime
import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm, load, prepare
from fastlmm_core.errors import DataError, FastLMMWarning, OptionError
from fastlmm_core.reml import fitting

RNG = np.random.default_rng(8)


def table() -> pd.DataFrame:
    n = 120
    frame = pd.DataFrame({
        "g": RNG.choice(list("abcdefgh"), n), "h": RNG.choice(list("uvw"), n), "k": RNG.integers(1, 4, n),
        "x": RNG.normal(5.0, 2.0, n), "w": RNG.uniform(0.5, 2.0, n), "o": RNG.normal(size=n),
        "T": RNG.uniform(1.0, 2.0, n),
        "dose": pd.Categorical(RNG.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
    })  # fmt: skip
    effect = frame["g"].map(dict(zip("abcdefgh", RNG.normal(size=8), strict=True)))
    frame["y"] = 10.0 + effect + 0.3 * frame["x"] + (frame["h"] == "v") + frame["o"] + RNG.normal(size=n)
    frame.loc[[3, 17, 60], "y"] = np.nan
    frame.loc[44, "x"] = np.nan
    return frame.set_index(pd.Index([f"row {i}" for i in range(n)]))


TABLE = table()
OFFSET = np.where(np.arange(120) == 7, np.nan, TABLE["o"])  # which drops a row of its own
MODELS = {
    "random intercepts": ("y ~ h*x + (1|g)", {}),
    "random slopes": ("y ~ h + x + (x|g)", {}),
    "several terms": ("y ~ dose + (x||g) + (1|g:h)", {}),
    "maximum likelihood": ("y ~ h + (1|g)", {"reml": False}),
    "a linear model": ("log(y) ~ h*dose", {}),
    "weights and offset by name": ("y ~ h + (1|g)", {"weights": "w", "offset": "o"}),
    "weights and offset as numbers": ("y ~ h + (1|g)", {"weights": TABLE["w"], "offset": OFFSET}),
    "an offset that is computed": ("y ~ h + (1|g)", {"offset": "2 * o + log(T)"}),
    "an offset in the formula": ("y ~ h + offset(2 * o) + (1|g)", {}),
    "bases that look at dropped rows": ("y ~ poly(x, 2) + scale(T) + (1|g)", {}),
    "codings by name and by numbers": (
        "y ~ h + dose + (1|g)",
        {"contrasts": {"h": "contr.sum", "dose": np.array([[1.0, 0], [0, 1], [-1, -1]])}},
    ),
    "numbers as levels, a column named T": ("y ~ factor(k) + T + (1|g)", {}),
    "dependent columns": ("y ~ h + x + I(2 * x) + (1|g)", {}),
    "a variance of zero": ("x ~ h + (1|g) + (1|k)", {}),
}  # fmt: skip


def answers(fit) -> dict[str, object]:
    factor = next((name for name in ("h", "dose", "k") if name in fit.design.variables), None)
    out = {
        "summary": str(fit.summary()), "criterion": fit.criterion, "aic": fit.aic,
        "fixed": fit.fixed_effects(),
        "components": fit.variance_components, "anova": fit.anova(), "dropped": fit.n_dropped,
        "prediction": fit.predict(se=True), "fitted": np.asarray(fit.fitted), "residuals": fit.residuals,
        "frame": fit.design.frame, "warnings": [(type(w), str(w)) for w in fit.warnings],
        "converged": bool(fit.converged), "message": fit.convergence.message,
        "iterations": fit.convergence.iterations, "trace": fit.convergence.trace,
    }  # fmt: skip
    if factor is not None:
        name = "k" if factor == "k" else factor
        out["means"] = fit.emmeans(name).to_frame()
        out["pairs"] = fit.emmeans(name).contrast("pairwise").to_frame()
    if fit.design.random:
        out["blups"] = fit.blups()
    return out


def assert_same(left: dict[str, object], right: dict[str, object]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, right[name], rtol=1e-9, atol=1e-11, obj=name)
        elif isinstance(value, (float, np.ndarray)):
            np.testing.assert_allclose(value, right[name], rtol=1e-10, atol=1e-11, err_msg=name)
        else:
            assert value == right[name], name


def fitted(model: str):
    formula, options = MODELS[model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(formula, TABLE, **options)


@pytest.mark.parametrize("model", MODELS)
def test_a_loaded_fit_answers_as_the_saved_one(tmp_path, monkeypatch, model):
    fit = fitted(model)
    expected = answers(fit)
    fit.save(tmp_path / "a.fit")
    monkeypatch.setattr(fitting.optimizer, "minimize", None)  # nothing is searched
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warnings were said when the model was fitted
        loaded = load(tmp_path / "a.fit")
    assert_same(expected, answers(loaded))
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        again, before = loaded.refit(fit.response + 1.0), fit.refit(fit.response + 1.0)
    np.testing.assert_allclose(again.criterion, before.criterion, rtol=1e-9)
    loaded.save(tmp_path / "b.fit")
    assert_same(expected, answers(load(tmp_path / "b.fit")))


def test_a_refit_keeps_its_own_response_and_weights(tmp_path):
    prepared = prepare("y ~ h + (1|g)", TABLE, weights="w")
    y = 2.0 * prepared.design.y + np.arange(117) / 50.0
    fit = prepared.fit(y=y, weights=np.linspace(1.0, 2.0, y.size))
    fit.save(tmp_path / "a.fit")
    assert_same(answers(fit), answers(load(tmp_path / "a.fit")))


def test_a_refit_keeps_the_weights_of_the_fit():
    prepared = prepare("y ~ h + (1|g)", TABLE)
    fit = prepared.fit(weights=np.linspace(1.0, 9.0, prepared.design.n))
    again = fit.refit(fit.response)
    assert again.criterion == pytest.approx(fit.criterion, rel=1e-10)
    assert abs(prepared.fit().criterion - fit.criterion) > 1.0


def test_rows_that_are_called_by_numbers_are_called_so_again(tmp_path):
    fit = lmm("y ~ h + (1|g)", TABLE.set_axis(np.arange(120) / 2.0))
    fit.save(tmp_path / "a.fit")
    assert list(load(tmp_path / "a.fit").diagnostics()["row"]) == list(fit.diagnostics()["row"])


def test_a_dot_stands_for_the_same_columns(tmp_path):
    frame = TABLE[["y", "h", "x", "g", "w"]]
    fit = lmm("y ~ . + (1|g)", frame, weights="w")
    fit.save(tmp_path / "a.fit")
    assert_same(answers(fit), answers(load(tmp_path / "a.fit")))


def test_new_data_and_new_levels(tmp_path):
    fit = fitted("bases that look at dropped rows")
    fit.save(tmp_path / "a.fit")
    new = TABLE.dropna()[:5].assign(g=["a", "b", "new", "c", "d"])
    ours, theirs = (f.predict(new, allow_new_levels=True, se=True) for f in (load(tmp_path / "a.fit"), fit))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-10)


REFERENCE = Path(__file__).parent / "reference" / "oats.format-1.fit"


def test_a_file_of_format_1_stays_readable():
    """Written once, by version 0.1.0; the figures are those of a fit of today, and of lme4."""
    loaded = load(REFERENCE)
    fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    np.testing.assert_allclose(loaded.criterion, 529.0285, atol=5e-5)  # lme4 1.1.31
    pd.testing.assert_frame_equal(loaded.emmeans("V").to_frame(), fit.emmeans("V").to_frame(), rtol=1e-6)
    pd.testing.assert_frame_equal(loaded.blups(), fit.blups(), rtol=1e-4, atol=1e-5)


def rewritten(path: Path, change) -> None:
    """The file with its texts and arrays changed."""
    with zipfile.ZipFile(path) as file:
        texts = json.loads(file.read("fit.json"))
        arrays = dict(np.load(io.BytesIO(file.read("arrays.npz"))))
    change(texts, arrays)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("fit.json", json.dumps(texts))
        file.writestr("arrays.npz", packed.getvalue())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t, a: t.update(format=3), "has the format 3; this version, .*, reads 1 and 2"),
        (lambda t, a: t.pop("format"), "is not a fit that was saved"),
        (lambda t, a: t.pop("formula"), "is a damaged fit"),
        (lambda t, a: a.pop("theta"), "is a damaged fit"),
        (lambda t, a: a.update(theta=a["theta"] * 1.5), "does not come to its figures"),
        (lambda t, a: a.update(response=a["response"] * 1.001), "does not come to its figures"),
        (lambda t, a: a.update(figures=a["figures"][:-1]), "does not come to its figures"),
        (lambda t, a: t.update(formula="y ~ h + (1|none)"), "'none' is not in the data"),
        (lambda t, a: a.update(theta=np.array(["x"], dtype=object)), "is not a fit that was saved"),
    ],
)
def test_files_that_are_not_what_they_were(tmp_path, change, words):
    path = tmp_path / "a.fit"
    fitted("random intercepts").save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_cut_missing_and_foreign_files(tmp_path):
    path = tmp_path / "a.fit"
    fitted("random intercepts").save(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="is not a fit that was saved"):
            load(path)
    path.write_text("y,g\n1,a\n")
    with pytest.raises(DataError, match="is not a fit that was saved"):
        load(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load(tmp_path / "none.fit")
    with pytest.raises(DataError, match="cannot be written: No such file"):
        fitted("random intercepts").save(tmp_path / "none" / "a.fit")
    assert OptionError is not DataError and list(tmp_path.iterdir()) == [path]  # nothing half written


HOURS = pd.date_range("2024-03-30 20:15:00.000000001", periods=60, freq="h", tz="Europe/Berlin", name="time")


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2023-05-01", periods=60, freq="D", unit="s"),
        HOURS,
        pd.MultiIndex.from_product([list("abcdef"), range(10)], names=["block", "plot"]),
        pd.MultiIndex.from_arrays([HOURS, np.arange(60) / 4]),
        pd.RangeIndex(5, 65, name="plot"),
        pd.Index(np.arange(60) + 0.5),
    ],
    ids=["days", "hours of a zone", "two parts", "hours and numbers", "named", "numbers"],
)
def test_labels_of_rows_come_back_as_what_they_were(tmp_path, index):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.arange(60) % 10, "y": rng.normal(size=60)}, index=index)
    frame.iloc[3, 1] = np.nan
    fit = lmm("y ~ 1 + (1 | g)", frame)
    fit.save(tmp_path / "fit.flm")
    again = load(tmp_path / "fit.flm")
    pd.testing.assert_frame_equal(again.diagnostics(), fit.diagnostics())
    pd.testing.assert_index_equal(again.design.table.index, index.delete(3), exact="equiv")


def test_dates_in_a_zone_without_a_name_do_not_keep_a_fit_from_being_read(tmp_path):
    zone = datetime.timezone(datetime.timedelta(hours=2), "of the station")
    frame = pd.DataFrame({"g": np.arange(60) % 10, "y": np.random.default_rng(1).normal(size=60)})
    frame.index = pd.date_range("2024-05-01", periods=60, freq="h", tz=zone)
    fit = lmm("y ~ 1 + (1 | g)", frame)
    fit.save(tmp_path / "fit.flm")
    again = load(tmp_path / "fit.flm")
    assert again.criterion == fit.criterion
    assert list(again.design.table.index) == list(map(str, frame.index))
