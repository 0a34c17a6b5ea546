"""A model for every trial: named by a column, the first that its design supports, or the best."""

import json

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Pedigree, fit_batch, lmm
from fastlmm_core.batch import fit_group, make_plan
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, FastLMMError, OptionError

ROWCOL = "yield ~ rep + (1 | gen) + (1 | row) + (1 | col)"
ALPHA = "yield ~ rep + (1 | gen) + (1 | rep:block)"
PLAIN = "yield ~ (1 | gen)"
NAMED = {"rowcol": ROWCOL, "alpha": ALPHA, "plain": PLAIN}


def trial(name, seed, **lost):
    """48 plots in two replicates of six blocks; `lost` sets columns to missing."""
    rng = np.random.default_rng(seed)
    rep = np.repeat(["R1", "R2"], 24)
    gen = np.concatenate([rng.permutation(24), rng.permutation(24)])
    plot = np.arange(48)
    frame = pd.DataFrame({
        "trial": name, "rep": rep, "block": [f"B{k}" for k in plot // 4 % 6], "row": plot // 8 + 1,
        "col": plot % 8 + 1, "gen": [f"g{i:02d}" for i in gen],
        "yield": 5 + rng.normal(size=24)[gen] + rng.normal(size=48),
        "height": 90 + 4 * rng.normal(size=24)[gen] + 3 * rng.normal(size=48),
    })  # fmt: skip
    frame["yield"] += rng.normal(size=6)[frame["row"] - 1] + rng.normal(size=12)[plot // 4]
    return frame.assign(**lost)


@pytest.fixture(scope="module")
def programme():
    """A row-column trial, an alpha design without positions, one of a single replicate without blocks."""
    single = trial("c", 3, row=np.nan, col=np.nan, block="B0", rep="R1")
    return pd.concat([trial("a", 1), trial("b", 2, row=np.nan, col=np.nan), single], ignore_index=True)


def of(programme, name):
    return programme[programme["trial"] == name].dropna(axis=1, how="all")


def test_the_first_that_is_supported(programme):
    result = fit_batch(programme, NAMED, by="trial", blups="gen")
    fits = result.fits
    assert list(fits["model"]) == ["rowcol", "alpha", "plain"]
    assert list(fits["status"]) == ["ok"] * 3
    assert fits["reason"][0] == "the first"
    assert fits["reason"][1].startswith("the first but for rowcol: data: ")
    assert "alpha: design: " in fits["reason"][2]
    for own in fits.itertuples():
        alone = lmm(NAMED[own.model], of(programme, own.trial))
        assert own.criterion == pytest.approx(alone.criterion, abs=1e-8)
        assert own.npar == alone.npar
        blups = result.blups[result.blups["trial"] == own.trial]
        assert blups["estimate"].to_numpy() == pytest.approx(alone.blups("gen")["estimate"], abs=1e-8)
    assert "3 formulas" in result.summary() and "1 of alpha" in result.summary()


def test_every_table_is_that_of_the_model_alone(programme):
    """Rows of other attempts leave nothing behind: each trial's tables are those of a batch of its model."""
    options = {"by": "trial", "traits": ["yield", "height"], "emmeans": "rep", "blups": "gen"}
    texts = {name: text.replace("yield ", "") for name, text in NAMED.items() if name != "plain"}
    both = programme[programme["trial"] != "c"]
    result = fit_batch(both, texts, **options)
    for name, model in (("a", "rowcol"), ("b", "alpha")):
        alone = fit_batch(of(both, name), texts[model], **options)
        for table in result.plan.tables:
            mine = result.table(table).query("trial == @name").reset_index(drop=True)
            mine = mine.dropna(axis=1, how="all").drop(
                columns=["model", "reason", "seconds"], errors="ignore"
            )
            other = alone.table(table).dropna(axis=1, how="all").drop(columns="seconds", errors="ignore")
            pd.testing.assert_frame_equal(mine[other.columns], other, rtol=1e-8, atol=1e-10)


def test_best_by_a_criterion(programme):
    both = programme[programme["trial"] != "c"]
    texts = {name: text.replace("rep + ", "") for name, text in NAMED.items()}
    for choose, reml in (("aic", True), ("bic", True), ("aic", False)):
        fits = fit_batch(both, texts, by="trial", choose=choose, reml=reml).fits
        for own in fits.itertuples():
            figures = {}
            for name, text in texts.items():
                try:
                    alone = lmm(text, of(both, own.trial), reml=reml)
                except FastLMMError:
                    continue
                figures[name] = getattr(alone, choose)
            assert own.model == min(figures, key=figures.get)
            assert own.reason.startswith(f"{choose} {figures[own.model]:.2f} ({own.model})")
        assert "rowcol: data: " in fits["reason"][1]


def test_criteria_of_other_plots_are_not_compared():
    frame = trial("a", 4)
    frame.loc[[3, 7], "col"] = np.nan
    texts = {"rowcol": "yield ~ (1 | gen) + (1 | row) + (1 | col)", "plain": PLAIN}
    fits = fit_batch(frame, texts, by="trial", choose="aic").fits
    assert fits["model"][0] == "plain" and fits["n"][0] == 48
    assert "rowcol: uses 46 plots only" in fits["reason"][0]


@pytest.mark.parametrize("also", ["", " + scale(height)"])  # the second by the general path
def test_as_many_plots_are_not_the_same_plots(also):
    """An outlier that only the second model loses would make it the better one."""
    frame = trial("a", 4).assign(x=np.arange(48.0) % 5, z=np.arange(48.0) % 7)
    frame.loc[0, "yield"] += 30
    frame.loc[0, "z"] = frame.loc[5, "x"] = np.nan
    texts = {name: f"yield ~ {name}{also} + (1 | gen)" for name in ("x", "z")}
    alone = {name: lmm(text, frame, reml=False) for name, text in texts.items()}
    assert alone["x"].nobs == alone["z"].nobs == 47 and alone["z"].aic < alone["x"].aic
    fits = fit_batch(frame, texts, by="trial", choose="aic", reml=False).fits
    assert fits["model"][0] == "x"
    assert fits["reason"][0] == f"aic {alone['x'].aic:.2f} (x); z: uses other 47 plots"
    texts["none"] = f"yield ~ rep{also} + (1 | gen)"  # it keeps all plots
    fits = fit_batch(frame, texts, by="trial", choose="aic", reml=False).fits
    assert fits["model"][0] == "none"
    assert fits["reason"][0].endswith("x: uses 47 plots only; z: uses 47 plots only")


@pytest.mark.parametrize("also", ["", " + scale(height)"])
def test_a_formula_without_the_means_asked_for_is_not_supported(also):
    frame = pd.concat([trial("a", 1), trial("b", 2)], ignore_index=True)
    frame["kind"] = np.where(frame["gen"] < "g12", "old", "new")
    frame["env"] = np.where(frame["block"] < "B3", "E1", "E2")
    empty = (frame["trial"] == "b") & (frame["kind"] == "new") & (frame["env"] == "E1")
    frame = frame[~empty]
    signs = {"cells": "*", "sums": "+"}
    texts = {name: f"yield ~ kind {sign} env{also} + (1 | gen)" for name, sign in signs.items()}
    for choose, reml in (("first", True), ("aic", False)):
        options = {"by": "trial", "emmeans": "kind", "choose": choose, "reml": reml}
        result = fit_batch(frame, texts, **options)
        assert result.fits["model"][1] == "sums" and (result.emmeans["status"] == "ok").all()
        assert "cells: means: 1 of those asked for are not estimable" in result.fits["reason"][1]
        assert "not estimable" not in result.fits["reason"][0]
        own = {name: texts["cells"] + more for name, more in (("cells", ""), ("more", " + (1 | rep)"))}
        lost = fit_batch(frame, own, **options)
        assert lost.fits["status"].tolist() == ["ok", "ok"]
        assert lost.fits["reason"][1].startswith("no formula makes all means estimable; ")
        assert not lost.fits["reason"][0].startswith("no formula")
        assert set(lost.emmeans["status"]) == {"ok", "not estimable"}


def test_a_column_names_the_formula(programme):
    names = programme["trial"].map({"a": "alpha", "b": "alpha", "c": "plain"})
    result = fit_batch(programme.assign(design=names), NAMED, by="trial", formula_column="design")
    assert list(result.fits["model"]) == ["alpha", "alpha", "plain"]
    assert set(result.fits["reason"]) == {"column 'design'"}
    for own in result.fits.itertuples():
        alone = lmm(NAMED[own.model], of(programme, own.trial))
        assert own.criterion == pytest.approx(alone.criterion, abs=1e-8)


@pytest.mark.parametrize("kind", ["text", "float", "Int64", "object", "category", "file", "labels of a file"])
def test_codes_of_formulas_are_what_stands_in_the_table(programme, tmp_path, kind):
    """A trial without a code fails alone, and makes no 1.0 of the others' 1."""
    models = {"1": ALPHA, "2": PLAIN}
    codes = programme["trial"].map({"a": 1.0, "b": 2.0})
    as_text = codes.map({1.0: "1", 2.0: "2"})
    whole = codes.astype("Int64")
    columns = {"text": as_text, "category": codes.astype("category")}
    columns |= {"object": whole.astype(object), "Int64": whole}
    frame = programme.assign(design=columns.get(kind, codes))
    options = {"by": "trial", "formula_column": "design"}
    if kind.endswith("file"):
        frame["design"] = as_text if kind == "file" else "0" + as_text
        frame.to_csv(tmp_path / "plots.csv", index=False)
        frame, models = tmp_path / "plots.csv", {frame["design"][0]: ALPHA, frame["design"][48]: PLAIN}
    for factors in (None, "design"):
        fits = fit_batch(frame, models, factors=factors, **options).fits
        assert fits["model"].tolist() == [*models, ""] and fits["status"].tolist() == ["ok", "ok", "data"]
        assert "names no model" in fits["message"][2]


def test_a_column_that_names_no_formula(programme):
    names = programme["trial"].map({"a": "rowcoll", "b": None, "c": "plain"})
    names[programme.index[-1]] = "alpha"
    fits = fit_batch(programme.assign(design=names), NAMED, by="trial", formula_column="design").fits
    assert list(fits["status"]) == ["data"] * 3
    assert "'rowcoll', which is none of the formulas; nearest: 'rowcol'" in fits["message"][0]
    assert "names no model" in fits["message"][1]
    assert "names several models, 'plain', 'alpha'" in fits["message"][2]
    # a formula is its own name in a list
    texts = programme["trial"].map({"a": ROWCOL, "b": ALPHA, "c": PLAIN})
    fits = fit_batch(programme.assign(f=texts), list(NAMED.values()), by="trial", formula_column="f").fits
    assert list(fits["model"]) == [ROWCOL, ALPHA, PLAIN]


def test_structures_of_their_own(programme):
    texts = {
        "spatial": {"formula": PLAIN, "field_trend": "ps"},
        "process": {"formula": PLAIN, "residual": "ar1(row):ar1(col)"},
        "plain": PLAIN,
    }
    fits = fit_batch(programme, texts, by="trial").fits
    assert list(fits["model"]) == ["spatial", "plain", "plain"]
    alone = lmm(PLAIN, of(programme, "a"), field_trend="ps")
    assert fits["criterion"][0] == pytest.approx(alone.criterion, abs=1e-8)
    best = fit_batch(programme, {k: texts[k] for k in ("process", "plain")}, by="trial", choose="aic").fits
    own = of(programme, "a")
    aic = {"process": lmm(PLAIN, own, residual="ar1(row):ar1(col)").aic, "plain": lmm(PLAIN, own).aic}
    assert best["model"][0] == min(aic, key=aic.get)


def test_none_is_supported(programme):
    short = programme[programme["trial"] == "c"]
    fits = fit_batch(short, {"rowcol": ROWCOL, "alpha": ALPHA}, by="trial").fits
    assert fits["model"][0] == "" and fits["status"][0] == "data"
    assert fits["reason"][0].startswith("none: rowcol: data: ") and "alpha: design: " in fits["reason"][0]


def test_traits_choose_for_themselves(programme):
    frame = programme.copy()
    frame.loc[frame["trial"] == "a", "height"] = np.where(
        frame["rep"][:48] == "R1", frame["height"][:48], np.nan
    )
    texts = {name: text.replace("yield ", "") for name, text in NAMED.items()} | {"mean": "~ 1"}
    fits = fit_batch(frame, texts, by="trial", traits=["yield", "height"]).fits
    model = {(own.trial, own.trait): own.model for own in fits.itertuples()}
    assert model["a", "yield"] == "rowcol" and model["a", "height"] == "mean"  # one replicate of it is left


def test_runs_folders_and_group_functions_agree(programme, tmp_path):
    many = pd.concat([programme.assign(trial=programme["trial"] + f"{i:03d}") for i in range(3)])
    options = {"by": "trial", "traits": ["yield", "height"], "blups": True}
    texts = {name: text.replace("yield ", "") for name, text in NAMED.items()}
    memory = fit_batch(many, texts, **options)
    folder = fit_batch(many, texts, out=tmp_path / "out", **options)
    again = fit_batch(many, texts, out=tmp_path / "out", **options)
    group = fit_group(many, make_plan(texts, **options))
    for table in memory.plan.tables:
        whole = memory.table(table).drop(columns="seconds", errors="ignore")
        for other in (folder.table(table), again.table(table), group[table]):
            pd.testing.assert_frame_equal(
                whole, other.drop(columns="seconds", errors="ignore"), check_dtype=False
            )
    with pytest.raises(OptionError, match="another plan"):
        fit_batch(many, {**texts, "plain": "~ rep"}, out=tmp_path / "out", **options)
    assert json.dumps(make_plan(texts, **options).describe())


def test_a_run_may_end_between_the_traits_of_a_trial(programme, monkeypatch):
    options = {"by": "trial", "traits": ["yield", "height"]}
    texts = {name: text.replace("yield ", "") for name, text in NAMED.items()}
    whole = fit_batch(programme, texts, **options).fits.drop(columns="seconds")
    monkeypatch.setattr("fastlmm_core.batch.trials.UNITS_PER_RUN", 1)
    parts = fit_batch(programme, texts, **options).fits.drop(columns="seconds")
    pd.testing.assert_frame_equal(whole, parts)


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        (NAMED, {"choose": "aic"}, "differ between fixed parts"),
        (NAMED, {"choose": "best"}, "allowed: 'first', 'aic', 'bic'"),
        (NAMED, {"choose": "aic", "formula_column": "trial"}, "leave one of them out"),
        (PLAIN, {"choose": "aic"}, "needs several formulas"),
        (PLAIN, {"formula_column": "design"}, "needs several formulas"),
        ([], {}, "formula= is empty"),
        ([PLAIN, PLAIN], {}, "stands there twice"),
        ([PLAIN, 3], {}, "a list holds formulas, not 3"),
        ({"a": PLAIN, "b": {"formula": PLAIN, "trend": "ps"}}, {}, "has no key 'trend'"),
        ({"a": PLAIN, "b": {"residual": "units"}}, {}, "must be a formula"),
        ({"a": PLAIN, "b": "height ~ (1 | gen)"}, {}, "different responses: height; yield"),
        (NAMED, {"blups": "plot"}, "blups='plot' is not a random term"),
        (NAMED, {"formula_column": "yield"}, "is a trait or a key"),
    ],
)
def test_refusals(programme, formula, options, words):
    with pytest.raises(OptionError, match=words):
        fit_batch(programme, formula, by="trial", **options)


def test_criteria_of_other_codings_of_the_fixed_part_are_not_compared():
    """x has one value in a block: which of the columns is dropped goes with the order of the terms."""
    frame = trial("a", 4)
    frame["x"] = 50.0 * frame["block"].str[1:].astype(float) ** 2
    texts = ["yield ~ x + block + (1 | gen)", "yield ~ block + x + (1 | gen) + (1 | rep)"]
    one, other = (lmm(f"yield ~ {fixed} + (1 | gen)", frame) for fixed in ("x + block", "block + x"))
    assert abs(one.criterion - other.criterion) > 5
    with pytest.raises(OptionError, match="differ between orders of the terms of a fixed part"):
        fit_batch(frame, texts, by="trial", choose="aic")
    assert fit_batch(frame, texts, by="trial", choose="aic", reml=False).fits["status"][0] == "ok"


def test_fixed_genetic_groups_are_part_of_the_fixed_part():
    frame = trial("a", 4)
    lines = sorted(frame["gen"].unique())
    groups = ["N" if k % 2 else "S" for k in range(len(lines))]
    pedigree = Pedigree(pd.DataFrame({"id": lines, "sire": groups, "dam": groups}), groups=["N", "S"])
    options = {"by": "trial", "relationships": {"A": pedigree}}
    with pytest.raises(OptionError, match="differ between fixed parts"):
        fit_batch(frame, ["yield ~ (1 | vm(gen, A))", PLAIN], choose="aic", **options)
    texts = ["yield ~ (1 | vm(gen, A))", "yield ~ (1 | vm(gen, A)) + (1 | block)"]
    assert fit_batch(frame, texts, choose="aic", **options).fits["reason"][0].startswith("aic ")


def test_a_dot_is_compared_as_what_it_stands_for():
    frame = trial("a", 4)[["trial", "rep", "block", "gen", "yield"]]
    texts = ["yield ~ . + (1 | gen)", "yield ~ . + (1 | gen) + (1 | block)"]  # the second without block
    with pytest.raises(OptionError, match="differ between fixed parts"):
        fit_batch(frame, texts, by="trial", choose="aic")
    same = ["yield ~ . + (1 | gen)", "yield ~ rep + block + (1 | gen) + (1 | block:gen)"]
    assert fit_batch(frame, same, by="trial", choose="aic").fits["reason"][0].startswith("aic ")


def test_an_explained_response_is_comparable():
    """Criteria of minus infinity are figures, and the plots are the same."""
    frame = trial("a", 4, **{"yield": 5.0})
    fits = fit_batch(frame, [PLAIN, "yield ~ (1 | gen) + (1 | block)"], by="trial", choose="bic").fits
    assert fits["model"][0] == PLAIN and fits["status"][0] == "ok"
    assert fits["reason"][0] == f"bic -inf ({PLAIN}), -inf (yield ~ (1 | gen) + (1 | block))"


def test_columns_of_every_formula_are_needed(programme):
    with pytest.raises(DataError, match="formula: column 'col' is not in the data"):
        fit_batch(programme.drop(columns="col"), [ALPHA, ROWCOL], by="trial")
    with pytest.raises(DataError, match="formula_column: column 'design' is not in the data"):
        fit_batch(programme, NAMED, by="trial", formula_column="design")


def test_command_line(programme, tmp_path, capsys):
    path, out = tmp_path / "programme.csv", tmp_path / "out"
    programme.to_csv(path, index=False)
    named = [f"{name}: {text}" for name, text in NAMED.items()]
    assert main(["batch", str(path), *named, "--by", "trial", "--quiet", "--out", str(out)]) == 0
    assert "3 formulas" in capsys.readouterr().out
    assert list(pd.read_parquet(out / "fits")["model"]) == ["rowcol", "alpha", "plain"]
    lists = ["batch", str(path), ROWCOL.replace("rep + ", ""), PLAIN, "--by", "trial", "--quiet"]
    assert main([*lists, "--choose", "bic", "--out", str(tmp_path / "bic")]) == 0
    assert main([*lists[:2], "a: " + PLAIN, ALPHA, *lists[4:], "--out", str(tmp_path / "no")]) == 2
