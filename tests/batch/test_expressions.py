"""Formulas with functions: compiled code takes those that look at one row at a time, with `lmm`'s figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials, close

from fastlmm_core import fit_batch, lmm
from fastlmm_core.batch import make_plan
from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.errors import FastLMMError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def numbered_trials() -> pd.DataFrame:
    """Entries, replicates and blocks as numbers; one trial lacks an entry, one a replicate."""
    frame = alpha_trials(6, seed=12)
    n = len(frame)
    frame = frame.assign(
        entry=frame["gen"].str[1:].astype(float) * 10.0,
        rep=frame["rep"].str[1:].astype(int),
        block=frame["block"].str[1:].astype(int),
        wet=frame["moisture"] > 14.0,
        shift=np.linspace(-1.0, 2.0, n) + 0.1 * frame["height"],
    )
    frame.loc[[3, 40, 77], "moisture"] = np.nan
    frame.loc[[10, 90, 91], "entry"] = np.nan
    frame.loc[[11, 55], "shift"] = np.nan
    frame.loc[[5, 60, 61, 130], "yield"] = np.nan
    frame.loc[[60, 62], "height"] = np.nan
    lost = (frame["trial"] == "T0002") & (frame["gen"] == "G00")
    lost |= (frame["trial"] == "T0003") & (frame["rep"] == 0)
    return frame[~lost].reset_index(drop=True)


NUMBERED = numbered_trials()
PAIRS = {"emmeans": "entry", "contrasts": "pairwise"}
MODELS = [
    (
        "yield ~ factor(entry) + (1|factor(block):factor(rep))",
        {"emmeans": "entry", "contrasts": "trt.vs.ctrl:50"},
    ),
    ("yield ~ factor(rep) + (1|factor(entry)) + (1|factor(rep):factor(block))", {"blups": True}),
    ("yield ~ as.factor(entry) + C(rep) + (1|rep:block)", {"emmeans": ["entry", "rep", "1"]}),
    ("yield ~ factor(rep) + log(moisture) + I(moisture^2) + (1|entry)", {"emmeans": ["rep", "1"]}),
    ("yield ~ factor(rep) * sqrt(moisture) + (1|entry)", {"emmeans": "rep", "contrasts": "pairwise"}),
    ("yield ~ 0 + factor(rep) + np.exp(-moisture/10) + (0 + log(moisture)|entry)", {"fixed": True}),
    ("yield ~ factor(rep) + (1 + I(moisture - 14)||entry)", {"blups": True, "emmeans": "rep"}),
    ("yield ~ I(moisture > 14) + factor(rep > 1) + wet + (1|entry)", {"blups": "entry"}),
    ("log(yield + 10) ~ factor(entry) + (1|rep:block)", PAIRS),
    ("sqrt(yield^2) ~ factor(rep) + (1|gen)", {"blups": "gen", "ddf": "satterthwaite", "emmeans": "rep"}),
    (
        "yield ~ factor(rep) + offset(shift) + (1|gen)",
        {"emmeans": "rep", "contrasts": "consec", "adjust": "holm"},
    ),
    ("log(yield + 10) ~ gen + offset(log(height) / 9) + offset(shift / 5)", {"emmeans": ["gen", "1"]}),
    (
        "yield ~ factor(entry) + offset(2 * shift) + (1|rep)",
        {"reml": False, "ddf": "asymptotic", "blups": True},
    ),
    (
        "yield ~ pmin(moisture, 15) + round(moisture, 1) + abs(shift) + (1|gen)",
        {"weights": "weight", "emmeans": "1"},
    ),
]


def expected_tables(fit, options) -> dict[str, pd.DataFrame]:
    """What `lmm` gives for the tables of a batch, by name and specification."""
    ddf = options.get("ddf") or fit.default_ddf
    out = {"fixed": fit.fixed_effects(ddf=ddf), "variance_components": fit.variance_components}
    if "blups" in options:
        out["blups"] = fit.blups(None if options["blups"] is True else options["blups"])
    specs = options.get("emmeans", [])
    for spec in [specs] if isinstance(specs, str) else specs:
        means = fit.emmeans(spec, ddf=ddf)
        out[f"emmeans {spec}"] = means.to_frame()
        if "contrasts" in options:
            family, _, control = options["contrasts"].partition(":")
            contrasts = means.contrast(family, ref=control or None, adjust=options.get("adjust"))
            out[f"contrasts {spec}"] = contrasts.to_frame()
    return out


def assert_tables_of_lmm(result, frame, formula, options) -> None:
    labels = result.plan.labels
    for (trial, trait), row in result.fits.set_index(["trial", "trait"]).iterrows():
        own = frame[frame["trial"] == trial]
        text = formula if len(labels) == 1 else f"{trait} {formula}"
        fit = lmm(text, own, reml=options.get("reml", True), weights=options.get("weights"))
        found = (row["n"], row["n_dropped"], row["rank"], row["status"])
        assert found == (fit.nobs, fit.n_dropped, fit.rank, "ok")
        assert row["message"] == "; ".join(str(w) for w in fit.warnings)
        np.testing.assert_allclose([row["criterion"], row["sigma"]], [fit.criterion, fit.sigma], rtol=1e-8)
        for name, table in expected_tables(fit, options).items():
            name, _, spec = name.partition(" ")
            got = result.table(name).query("trial == @trial and trait == @trait")
            if "spec" in got.columns:
                got = got[got["spec"] == spec][list(table.columns)]
            close(got.drop(columns=["trial", "trait"], errors="ignore"), table)


@pytest.mark.parametrize(("formula", "options"), MODELS, ids=[m[0] for m in MODELS])
def test_functions_of_one_row_are_compiled(formula, options, left_to_lmm):
    result = fit_batch(NUMBERED, formula, by="trial", workers=1, **options)
    assert left_to_lmm == []
    assert_tables_of_lmm(result, NUMBERED, formula, options)


def test_traits_with_their_own_missing_rows(left_to_lmm):
    options = {"emmeans": "entry", "contrasts": "trt.vs.ctrl:entry50", "blups": True}
    formula = "~ factor(entry) + sqrt(moisture) + offset(shift/3) + (1|factor(rep):block)"
    result = fit_batch(NUMBERED, formula, by="trial", traits=["yield", "height"], **options)
    assert left_to_lmm == []
    assert_tables_of_lmm(result, NUMBERED, formula, options)


# What looks at other rows of the trial, and means over another grid than one of factors.
GENERAL = [
    ("yield ~ rep + scale(moisture) + (1|gen)", {"blups": True}),
    ("yield ~ factor(rep) + I(poly(moisture, 2)) + (1|gen)", {"blups": True}),
    ("yield ~ C(rep, contr.sum) + (1|gen)", {"emmeans": "rep"}),
    ("center(yield) ~ factor(rep) + (1|gen)", {"emmeans": "rep"}),
    ("yield ~ I(moisture > 14) + factor(rep) + (1|gen)", {"emmeans": "rep"}),
    ("yield ~ I(moisture * (gen == 'G03')) + gen + (1|rep:block)", {"emmeans": "gen"}),
]


@pytest.mark.parametrize(("formula", "options"), GENERAL, ids=[m[0] for m in GENERAL])
def test_other_formulas_take_the_general_path(formula, options):
    table = collect_trials(NUMBERED, make_plan(formula, by="trial", **options))
    assert code_trials(table) is None
    assert_tables_of_lmm(fit_batch(NUMBERED, formula, by="trial", **options), NUMBERED, formula, options)


def spoiled(**values) -> pd.DataFrame:
    """One value of a column replaced in the second trial, and another left out in the row before it."""
    frame = NUMBERED.copy()
    row = frame.index[frame["trial"] == "T0001"][7]
    frame.loc[row - 1, "yield"] = np.nan
    for name, value in values.items():
        frame[name] = frame[name].astype(float)
        frame.loc[row, name] = value
    return frame


FAULTS = [
    ("yield ~ gen + log(moisture) + (1|rep)", {}, {"moisture": 0.0}),
    ("yield ~ gen + sqrt(moisture) + (1|rep)", {}, {"moisture": -1.0}),
    ("yield ~ gen + (0 + log(moisture)|rep)", {}, {"moisture": 0.0}),
    ("log(yield + 10) ~ gen + (1|rep)", {}, {"yield": -10.0}),
    ("log(yield + 10) ~ gen + (1|rep)", {}, {"yield": np.inf}),
    ("yield ~ gen + offset(log(shift)) + (1|rep)", {}, {"shift": -1.0}),
    ("yield ~ gen + offset(shift) + (1|rep)", {}, {"shift": -np.inf}),
    ("yield ~ gen + (1|rep)", {}, {"yield": np.inf}),
    ("yield ~ gen + moisture + (1|rep)", {}, {"moisture": np.inf}),
    ("yield ~ gen + moisture + (1|rep)", {}, {"moisture": -np.inf, "yield": np.nan}),
    ("yield ~ gen + (1|factor(rep))", {}, {"rep": np.inf}),
    ("yield ~ gen + (1|rep)", {"weights": "weight"}, {"weight": np.inf}),
    ("yield ~ gen + (1|rep)", {"weights": "weight"}, {"weight": 0.0}),
    ("yield ~ gen + (1|rep)", {"weights": "weight"}, {"weight": np.nan}),
]


@pytest.mark.parametrize(("formula", "options", "values"), FAULTS, ids=[f"{f} {v}" for f, _, v in FAULTS])
def test_a_value_that_cannot_be_used_fails_its_trial_only(formula, options, values, left_to_lmm):
    frame = spoiled(**values)
    if "log(shift)" in formula:
        frame["shift"] = frame["shift"].where(frame["trial"] == "T0001", frame["shift"].abs())
    with pytest.raises(FastLMMError) as error:
        lmm(formula, frame[frame["trial"] == "T0001"], **options)
    result = fit_batch(frame, formula, by="trial", emmeans="gen", workers=1, **options)
    assert left_to_lmm == [1]
    row = result.fits.iloc[1]
    words = str(error.value).splitlines()[0].removeprefix("offset(shift) must be numeric: ")
    assert (row["status"], row["message"]) == (error.value.code, words)
    good = frame[frame["trial"] != "T0001"]
    options = {"emmeans": "gen", **options}
    assert_tables_of_lmm(fit_batch(good, formula, by="trial", **options), good, formula, options)


def test_one_trait_that_is_infinite_leaves_the_others(left_to_lmm):
    frame = spoiled(height=np.inf)
    result = fit_batch(frame, "~ gen + (1|rep)", by="trial", traits=["yield", "height"], workers=1)
    assert left_to_lmm == [3]
    assert result.fits.set_index(["trial", "trait"]).loc["T0001", "status"].tolist() == ["ok", "data"]
    assert "the first in row 7 (counted from 0) is Inf" in result.fits["message"][3]


def test_rows_that_are_left_out_need_no_value_of_a_function(left_to_lmm):
    frame = spoiled(moisture=0.0)
    frame.loc[frame["moisture"] == 0.0, "gen"] = None
    formula = "yield ~ gen + log(moisture) + (1|rep)"
    result = fit_batch(frame, formula, by="trial", emmeans="gen")
    assert left_to_lmm == []
    assert_tables_of_lmm(result, frame, formula, {"emmeans": "gen"})


def test_a_function_without_a_value_at_the_mean(left_to_lmm):
    """1/x is finite in all rows of a trial, but not at the mean of x, where the means are taken."""
    frame = NUMBERED.assign(x=np.tile([-1.0, 1.0], len(NUMBERED))[: len(NUMBERED)])
    frame["x"] += np.where(frame["trial"] == "T0004", 0.0, 0.25)
    frame["yield"] = frame["yield"].fillna(5.0)
    frame["gen"] = np.where(frame.index % 3 == 0, "A", "B")
    formula = "yield ~ gen + I(1/x) + (1|entry)"
    result = fit_batch(frame, formula, by="trial", emmeans="gen", workers=1)
    assert left_to_lmm == [4]
    assert result.fits["status"].tolist() == ["ok"] * 4 + ["inference", "ok"]
    good = frame[frame["trial"] != "T0004"]
    got = fit_batch(good, formula, by="trial", emmeans="gen")
    assert_tables_of_lmm(got, good, formula, {"emmeans": "gen"})


def test_a_column_named_like_a_constant():
    frame = NUMBERED.rename(columns={"moisture": "T"})
    expected = fit_batch(NUMBERED, "yield ~ moisture + (1|gen)", by="trial").fits
    found = fit_batch(frame, "yield ~ T + (1|gen)", by="trial").fits
    np.testing.assert_allclose(found["criterion"], expected["criterion"], rtol=1e-12)


def test_factors_named_like_a_figure(left_to_lmm):
    frame = NUMBERED.rename(columns={"gen": "t", "rep": "p"})
    options = {"emmeans": ["t", "p"], "contrasts": "revpairwise"}
    formula = "yield ~ t + factor(p) + (1|p:block)"
    result = fit_batch(frame, formula, by="trial", **options)
    assert left_to_lmm == []
    assert_tables_of_lmm(result, frame, formula, options)
