"""A batch gives the figures of `lmm` on each trial, whatever path a trial takes."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from trial_data import INCOMPLETE, alpha_trials, close, incomplete_plots, spoil

from fastlmm_core import fit_batch, lmm
from fastlmm_core.errors import (
    ConfoundedWarning,
    DataError,
    FormulaError,
    InferenceError,
    OptionError,
    SingularFitWarning,
)
from fastlmm_core.kernels.trials.units import unit_kernel

TRIALS = alpha_trials(6)
MODELS = [
    ("yield ~ gen + rep + (1|rep:block)", {"emmeans": "gen", "contrasts": "trt.vs.ctrl:G03"}),
    ("yield ~ rep + (1|gen) + (1|rep:block)", {"blups": True}),
    (
        "yield ~ gen + moisture + (1|rep/block)",
        {"weights": "weight", "emmeans": "gen", "contrasts": "pairwise"},
    ),
    ("yield ~ rep * moisture + (1 | gen)", {"emmeans": "rep", "contrasts": "eff", "ddf": "satterthwaite"}),
    ("yield ~ 0 + rep + (moisture | gen)", {"blups": "gen"}),
    ("yield ~ gen + (1|rep)", {"reml": False, "emmeans": ["gen", "~ 1"]}),
    ("log(yield) ~ poly(moisture, 2) + (1|gen)", {"blups": "gen"}),
    ("yield ~ gen + rep", {"emmeans": "gen"}),
    (
        "yield ~ gen + rep + (1|rep:block)",
        {"emmeans": "gen", "contrasts": "trt.vs.ctrl:G03", "ddf": "satterthwaite"},
    ),
    ("yield ~ rep + (moisture | gen)", {"emmeans": ["rep", "~ 1"], "ddf": "satterthwaite"}),
    ("yield ~ gen + rep + moisture + (1|rep:block)", {"emmeans": ["gen", "rep", "~ 1", "~ gen * rep"]}),
    ("yield ~ gen + rep", {"weights": "weight", "emmeans": "gen", "contrasts": "pairwise"}),
    ("yield ~ gen + (1|rep) + (1|rep:block)", {"blups": True}),
    ("yield ~ rep + (1|gen) + (1|rep:block)", {"blups": True, "reml": False, "ddf": "asymptotic"}),
]
# Formulas that run in compiled code; the trials that do not are those whose best correlation is one.
COMPILED = [MODELS[k] for k in (0, 1, 2, 5, 7, 8, 10, 11, 13)]


@pytest.mark.parametrize(("formula", "options"), MODELS, ids=[m[0] for m in MODELS])
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_tables_are_those_of_lmm(formula, options):
    result = fit_batch(TRIALS, formula, by="trial", workers=2, **options)
    assert list(result.fits["trial"]) == list(TRIALS["trial"].unique())
    for trial, own in TRIALS.groupby("trial"):
        fit = lmm(formula, own, reml=options.get("reml", True), weights=options.get("weights"))
        row = result.fits.set_index("trial").loc[trial]
        assert row["status"] == "ok"
        assert (row["n"], row["rank"], row["singular"]) == (fit.nobs, fit.rank, fit.singular)
        np.testing.assert_allclose([row["criterion"], row["sigma"]], [fit.criterion, fit.sigma], rtol=1e-8)
        ddf = options.get("ddf") or fit.default_ddf
        expected = {"fixed": fit.fixed_effects(ddf=ddf), "variance_components": fit.variance_components}
        if "blups" in options:
            expected["blups"] = fit.blups(None if options["blups"] is True else options["blups"])
        specs = options.get("emmeans", [])
        for spec in [specs] if isinstance(specs, str) else specs:
            means = fit.emmeans(spec, ddf=ddf)
            if not isinstance(specs, str):
                got = result.emmeans.query("trial == @trial and spec == @spec")
                close(got[list(means.to_frame().columns)], means.to_frame())
                continue
            expected["emmeans"] = means.to_frame()
            if "contrasts" in options:
                family, _, control = options["contrasts"].partition(":")
                expected["contrasts"] = means.contrast(family, ref=control or None).to_frame()
        for name, table in expected.items():
            got = result.table(name)
            close(got[got["trial"] == trial].drop(columns=["trial", "trait"]), table)


@pytest.mark.parametrize(
    ("ddf", "reml"), [("kenward-roger", True), ("satterthwaite", True), ("satterthwaite", False)]
)
@pytest.mark.parametrize("model", INCOMPLETE)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_whole_kernels_on_the_models_of_the_pieces(model, ddf, reml, left_to_lmm):
    """What test_compiled_pieces.py looks at piece by piece, uncompiled: all of it as it is compiled."""
    (formula, by), weights = INCOMPLETE[model], "w" if model == "weighted" else None
    frame = incomplete_plots()
    spec = "*".join(by)
    options = {"emmeans": spec, "contrasts": "pairwise", "blups": True, "ddf": ddf, "weights": weights}
    result = fit_batch(frame, formula, by="trial", reml=reml, **options)
    assert left_to_lmm == []
    fit = lmm(formula, frame, weights=weights, reml=reml)
    np.testing.assert_allclose(result.fits[["criterion", "sigma"]], [[fit.criterion, fit.sigma]], rtol=1e-9)
    means = fit.emmeans(list(by), ddf=ddf)
    expected = {
        "fixed": fit.fixed_effects(ddf=ddf), "variance_components": fit.variance_components,
        "emmeans": means.to_frame(), "contrasts": means.contrast("pairwise").to_frame(), "blups": fit.blups(),
    }  # fmt: skip
    for name, table in expected.items():
        close(result.table(name).drop(columns=["trial", "trait"]), table)


def test_traits_with_their_own_missing_values():
    frame = TRIALS.copy()
    frame.loc[::7, "yield"] = np.nan
    frame.loc[5:20, "height"] = np.nan
    formula = "~ gen + rep + (1|rep:block)"
    result = fit_batch(frame, formula, by="trial", traits=["yield", "height"], emmeans="gen")
    assert len(result.fits) == 12
    for (trial, trait), row in result.fits.set_index(["trial", "trait"]).iterrows():
        own = frame[frame["trial"] == trial]
        fit = lmm(f"{trait} {formula}", own)
        assert (row["n"], row["n_dropped"]) == (fit.nobs, fit.n_dropped)
        np.testing.assert_allclose(row["criterion"], fit.criterion, rtol=1e-8)
        got = result.emmeans.query("trial == @trial and trait == @trait").drop(columns=["trial", "trait"])
        close(got, fit.emmeans("gen").to_frame())


def test_every_bad_trial_is_a_row_and_the_others_are_untouched():
    good = alpha_trials(20, seed=4)
    bad, words = spoil(good)
    options = {"by": "trial", "emmeans": "gen", "contrasts": "trt.vs.ctrl:G00"}
    formula = "yield ~ gen + rep + (1|rep:block)"
    result = fit_batch(bad, formula, **options)
    assert len(result.fits) == 20
    failed = result.fits[result.fits["status"] != "ok"].set_index("trial")["message"]
    assert set(failed.index) == set(words)
    for trial, pattern in words.items():
        assert re.search(pattern, failed[trial]), failed[trial]
    reference = fit_batch(good[~good["trial"].isin(list(words))], formula, **options)
    for name in result.plan.tables:
        left = result.table(name)
        left = left[~left["trial"].isin(list(words))].reset_index(drop=True)
        close(left.drop(columns="seconds", errors="ignore"),
              reference.table(name).drop(columns="seconds", errors="ignore"), 1e-12)  # fmt: skip
    assert "20 fits" in result.summary()
    assert result.failures["units"].sum() == 7


@pytest.mark.parametrize("reml", [True, False])
def test_a_trial_without_residual_variance_does_not_end_the_batch(reml):
    """A constant response less its offset is fitted perfectly: sigma is rounding."""
    frame = TRIALS.copy()
    frame.loc[frame["trial"] == "T0001", "yield"] = 49.0
    formula = "sqrt(yield) ~ gen + offset(2*moisture) + (moisture|gen)"
    result = fit_batch(frame, formula, by="trial", reml=reml, ddf="asymptotic")
    assert list(result.fits["trial"]) == list(TRIALS["trial"].unique())
    assert result.fits["status"][1] in ("not-converged", "numerical")
    own = result.variance_components[result.variance_components["trial"] == "T0001"]
    assert own["se"].isna().all()


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_perfect_fits_have_the_figures_of_lmm():
    """No residual variance: what a search finds is rounding, so that all of it has to be of one path."""
    frame = alpha_trials(12, genotypes=6, reps=2, block_size=3, seed=5)
    frame["yield"] = 10.0 + frame["gen"].str[1:].astype(float) + 2.0 * frame["rep"].str[1:].astype(float)
    formula = "yield ~ rep + moisture + (1|gen)"
    fits = fit_batch(frame, formula, by="trial", fixed=False).fits.set_index("trial")
    for trial, own in frame.groupby("trial"):
        fit, row = lmm(formula, own), fits.loc[trial]
        np.testing.assert_allclose([row["criterion"], row["sigma"]], [fit.criterion, fit.sigma], rtol=1e-8)
        assert (row["converged"], row["status"] == "ok") == (fit.converged, fit.converged)


@pytest.mark.filterwarnings("error")
def test_a_constant_response_is_a_row_that_says_so():
    """As of a trial where nothing was scored: no noise of division by its variance, which is zero."""
    frame = TRIALS.assign(**{"yield": TRIALS["yield"].where(TRIALS["trial"] != "T0003", 5.0)})
    formulas = ("yield ~ gen + rep + (1|rep:block)", "yield ~ rep + (1|gen) + (1|rep:block)", "yield ~ gen")
    for formula in formulas:
        fits = fit_batch(frame, formula, by="trial").fits
        said = fits["message"].fillna("").str.contains("explains the response exactly: the residual variance")
        assert fits["trial"][said].tolist() == ["T0003"]
        assert fits["status"].eq("ok").all()
    with pytest.warns(SingularFitWarning, match="explains the response exactly"):
        assert lmm("yield ~ gen", frame[frame["trial"] == "T0003"]).sigma == 0.0


@pytest.mark.parametrize(
    "random", ["(1|rep) + (1|rep:block)", "(moisture||gen)", "(1|rep) + (1|gen) + (0 + moisture|gen)"]
)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_variances_have_the_same_columns_on_both_paths(random, monkeypatch):
    compiled = fit_batch(TRIALS, f"yield ~ 1 + {random}", by="trial").fits
    monkeypatch.setattr("fastlmm_core.batch.engines.jobs.code_trials", lambda table: None)
    general = fit_batch(TRIALS, f"yield ~ 1 + {random}", by="trial").fits
    left_out = ["seconds", "iterations", "message"]
    close(compiled.drop(columns=left_out), general.drop(columns=left_out))


@pytest.mark.parametrize("contrasts", ["pairwise", "eff", {"first - last": [1.0, 0.0, -1.0]}])
def test_a_trial_without_levels_of_a_compared_factor(contrasts):
    frame = TRIALS.assign(rep=TRIALS["rep"].where(TRIALS["trial"] != "T0003"))
    options = {"by": "trial", "emmeans": ["rep", "rep | gen"], "contrasts": contrasts}
    formula = "yield ~ rep + gen + (1|rep:block)"
    result = fit_batch(frame, formula, **options)
    assert result.fits["status"].tolist() == ["ok"] * 3 + ["data"] + ["ok"] * 2
    expected = fit_batch(frame[frame["trial"] != "T0003"], formula, **options)
    close(result.contrasts, expected.contrasts)


def test_trials_laid_out_alike_share_their_design():
    """Every second pair of trials has the layout of the first one, under other names of its levels."""
    layout = TRIALS[TRIALS["trial"] == "T0000"].reset_index(drop=True)
    frame = TRIALS.copy()
    for t, trial in enumerate(frame["trial"].unique()):
        own = frame.index[frame["trial"] == trial]
        if t % 3:
            frame.loc[own, ["gen", "rep", "block", "moisture"]] = layout[
                ["gen", "rep", "block", "moisture"]
            ].to_numpy()
            frame.loc[own, "gen"] += f"-{t}"
    frame.loc[frame.index[frame["trial"] == "T0002"][3], "moisture"] += 1.0
    formula = "yield ~ gen + rep + moisture + (1|rep:block)"
    result = fit_batch(frame, formula, by="trial", emmeans="gen")
    alone = [fit_batch(own, formula, by="trial", emmeans="gen") for _, own in frame.groupby("trial")]
    for name in result.plan.tables:
        expected = pd.concat([r.table(name) for r in alone], ignore_index=True)
        pd.testing.assert_frame_equal(
            result.table(name).drop(columns="seconds", errors="ignore"),
            expected.drop(columns="seconds", errors="ignore"), check_exact=True,
        )  # fmt: skip


def test_nothing_depends_on_workers_or_order():
    frame = alpha_trials(70, genotypes=6, block_size=3, seed=9)
    formula = "yield ~ gen + rep + (1|rep:block)"
    one = fit_batch(
        frame, formula, by="trial", traits=["yield", "height"], emmeans="gen", blups=True, workers=1
    )
    names = frame["trial"].unique()[::-1]
    turned = pd.concat([frame[frame["trial"] == name] for name in names])
    two = fit_batch(
        turned, formula, by="trial", traits=["yield", "height"], emmeans="gen", blups=True, workers=3
    )
    for name in one.plan.tables:
        pd.testing.assert_frame_equal(
            one.table(name).drop(columns="seconds", errors="ignore"),
            two.table(name).drop(columns="seconds", errors="ignore"), check_exact=True,
        )  # fmt: skip


def test_a_control_that_is_missing_in_one_trial_leaves_the_fit():
    frame = TRIALS[~((TRIALS["trial"] == "T0002") & (TRIALS["gen"] == "G00"))]
    result = fit_batch(
        frame, "yield ~ gen + (1|rep:block)", by="trial", emmeans="gen", contrasts="trt.vs.ctrl:G00"
    )
    row = result.fits.set_index("trial").loc["T0002"]
    assert row["status"] == "inference" and "G00" in row["message"] and row["sigma"] > 0
    assert (result.emmeans["trial"] == "T0002").sum() == 11
    assert not (result.contrasts["trial"] == "T0002").any()


def test_a_table_that_cannot_be_had_costs_no_other():
    """Contrasts with a control that a trial lacks; errors of effects beside a term within the fixed part."""
    frame = TRIALS[~((TRIALS["trial"] == "T0002") & (TRIALS["gen"] == "G00"))]
    frame = frame[frame["trial"].isin(["T0001", "T0002"])].assign(
        row=frame["rep"], col=frame.groupby(["trial", "rep"]).cumcount(), one=frame["rep"]
    )
    result = fit_batch(
        frame, "yield ~ gen + (1|rep:block)", by="trial", emmeans="gen", covariances=True,
        contrasts="trt.vs.ctrl:G00", plots=["row", "col"],
    )  # fmt: skip
    assert result.fits["status"].tolist() == ["ok", "inference"]
    own = frame[frame["trial"] == "T0002"]
    assert (result.plots["trial"] == "T0002").sum() == len(own)
    assert (result.covariances["trial"] == "T0002").sum() == 11
    within = fit_batch(
        frame, "yield ~ rep + (1|gen) + (1|one)", by="trial", genotypes="gen", plots=["row", "col"],
    )  # fmt: skip
    assert set(within.fits["status"]) == {"inference"} and not len(within.fixed)
    with pytest.warns(ConfoundedWarning, match="lies within the fixed part"):
        fit = lmm("yield ~ rep + (1|gen) + (1|one)", own)
    ours = within.heritabilities.query("trial == 'T0002'").drop(columns=["trial", "trait"])
    pd.testing.assert_frame_equal(
        ours.reset_index(drop=True), fit.heritability("gen").to_frame(), check_dtype=False
    )
    assert len(within.genotype_values) == frame.groupby("trial")["gen"].nunique().sum()
    assert len(within.plots) == len(frame)


@pytest.mark.parametrize(("formula", "options"), COMPILED, ids=[m[0] for m in COMPILED])
def test_common_plans_run_in_compiled_code(formula, options, left_to_lmm):
    fit_batch(TRIALS, formula, by="trial", **options)
    assert left_to_lmm == []


@pytest.mark.compiled
def test_weights_that_cannot_be_written_take_no_kernel_of_their_own():
    """Columns of pandas are often read-only, which is another type to Numba: a minute of compiling."""
    formula = "yield ~ gen + rep + (1|rep:block)"
    fit_batch(TRIALS, formula, by="trial", fixed=False)
    known = len(unit_kernel(False).signatures)
    weights = TRIALS["weight"].to_numpy().copy()
    weights.flags.writeable = False
    frame = TRIALS.assign(weight=pd.Series(weights, TRIALS.index, copy=False))
    assert not frame["weight"].to_numpy().flags.writeable
    fit_batch(frame, formula, by="trial", weights="weight", fixed=False)
    assert len(unit_kernel(False).signatures) == known


def with_treatments() -> pd.DataFrame:
    """Two treatments in turn; one trial without a genotype x treatment cell, one without a genotype."""
    twice = 2.0 * TRIALS["moisture"] - 1.0
    frame = TRIALS.assign(treatment=np.where(np.arange(len(TRIALS)) % 2, "N1", "N0"), twice=twice)
    lost = (frame["trial"] == "T0001") & (frame["gen"] == "G02") & (frame["treatment"] == "N0")
    lost |= (frame["trial"] == "T0003") & (frame["gen"] == "G05")
    return frame[~lost]


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_rank_deficient_trials(ddf, left_to_lmm):
    frame = with_treatments()
    formula = "yield ~ moisture + gen * treatment + rep + twice + (1|rep:block)"
    options = {"emmeans": ["gen", "treatment"], "contrasts": "pairwise", "ddf": ddf}
    result = fit_batch(frame, formula, by="trial", **options)
    assert left_to_lmm == []
    statuses = set()
    for trial, own in frame.groupby("trial"):
        fit = lmm(formula, own)
        row = result.fits.set_index("trial").loc[trial]
        assert (row["n"], row["rank"]) == (fit.nobs, fit.rank)
        assert row["message"] == "; ".join(str(w) for w in fit.warnings)
        np.testing.assert_allclose([row["criterion"], row["sigma"]], [fit.criterion, fit.sigma], rtol=1e-8)
        got = result.fixed[result.fixed["trial"] == trial].drop(columns=["trial", "trait"])
        close(got, fit.fixed_effects(ddf=ddf))
        for spec in ("gen", "treatment"):
            means = fit.emmeans(spec, ddf=ddf)
            for name, table in (("emmeans", means), ("contrasts", means.contrast("pairwise"))):
                expected = table.to_frame()
                got = result.table(name).query("trial == @trial and spec == @spec")
                close(got[list(expected.columns)], expected)
                statuses |= set(expected["status"])
    assert statuses == {"ok", "not estimable"}


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_nested_fixed_factors():
    frame = TRIALS.assign(family=np.where(TRIALS["gen"] < "G06", "A", "B"))
    formula = "yield ~ family + gen + rep + (1|rep:block)"
    result = fit_batch(frame, formula, by="trial", emmeans="gen")
    for trial, own in frame.groupby("trial"):
        expected = lmm(formula, own).emmeans("gen").to_frame()
        close(result.emmeans[result.emmeans["trial"] == trial].drop(columns=["trial", "trait"]), expected)


def test_requests_that_cannot_be_met():
    with pytest.raises(DataError, match="site"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="site")
    with pytest.raises(OptionError, match="by=0"):
        fit_batch(TRIALS.rename(columns={"trial": 0}), "yield ~ gen + (1|rep)", by=0)
    with pytest.raises(DataError, match="weights: column 'wieght'"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial", weights="wieght")
    with pytest.raises(OptionError, match="asks for nothing"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial", emmeans="gen", contrasts={})
    with pytest.raises(DataError, match="protein"):
        fit_batch(TRIALS, "~ gen + (1|rep)", by="trial", traits="protein")
    with pytest.raises(DataError, match="no rows"):
        fit_batch(TRIALS[:0], "yield ~ gen + (1|rep)", by="trial")
    with pytest.raises(FormulaError, match="response"):
        fit_batch(TRIALS, "~ gen + (1|rep)", by="trial")
    with pytest.raises(OptionError, match="emmeans"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial", contrasts="pairwise")
    with pytest.raises(OptionError, match="blocks"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial", blups="blocks")
    with pytest.raises(InferenceError, match="REML"):
        fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial", reml=False, ddf="kenward-roger")
    with pytest.raises(OptionError, match="no table 'blups'"):
        _ = fit_batch(TRIALS, "yield ~ gen + (1|rep)", by="trial").blups


def test_any_table_gives_the_same():
    pl = pytest.importorskip("polars")
    dd = pytest.importorskip("dask.dataframe")
    formula = "yield ~ gen + rep + (1|rep:block)"
    expected = fit_batch(TRIALS, formula, by="trial").fits
    coded = TRIALS.astype({"trial": "category", "gen": "category"})
    for source in (pl.from_pandas(TRIALS), dd.from_pandas(TRIALS, npartitions=3), coded, dict(TRIALS)):
        fits = fit_batch(source, formula, by="trial").fits
        np.testing.assert_allclose(fits["criterion"], expected["criterion"], rtol=1e-10)
    alone = fit_batch(TRIALS[TRIALS["trial"] == "T0001"], formula, by=None).fits
    assert list(alone.columns[:2]) == ["trait", "n"]
    np.testing.assert_allclose(alone["criterion"], expected["criterion"][1:2], rtol=1e-10)


def test_keys_that_are_named_like_columns_of_the_tables():
    frame = TRIALS.rename(columns={"trial": "group"}).assign(group_="S1")
    blups = fit_batch(frame, "yield ~ 1 + (1|gen)", by=["group", "group_"], blups=True).blups
    assert list(blups.columns[:4]) == ["group", "group_", "trait", "group__"]
    assert set(blups["group_"]) == {"S1"} and set(blups["group__"]) == {"gen"}


def test_levels_that_are_numbers_and_missing_keys():
    frame = TRIALS.assign(gen=TRIALS["gen"].str[1:].astype(int).astype(str))
    formula = "yield ~ gen + rep + (1|rep:block)"
    result = fit_batch(frame, formula, by="trial", emmeans="gen", contrasts="trt.vs.ctrl:3")
    fit = lmm(formula, frame[frame["trial"] == "T0000"])
    expected = fit.emmeans("gen").contrast("trt.vs.ctrl", ref="3").to_frame()
    got = result.contrasts[result.contrasts["trial"] == "T0000"].drop(columns=["trial", "trait"])
    close(got, expected)
    lost = fit_batch(frame.assign(trial=frame["trial"].where(frame.index < 150)), formula, by="trial").fits
    assert lost["status"].tolist()[-1] == "data" and "does not name the trial" in lost["message"].iloc[-1]
    assert lost["n"].sum() == len(frame)
