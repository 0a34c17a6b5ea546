"""Every family of contrasts, within groups and over several factors, in compiled code as `lmm` has it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials, close

from fastlmm_core import fit_batch, lmm
from fastlmm_core.batch.compiled.contrasts import contrasts_among
from fastlmm_core.means import contrast_families
from fastlmm_core.means.contrast_families import MeanLabels, contrast_family

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def sown_trials() -> pd.DataFrame:
    """Two sowings and numbered doses; a genotype less in one trial, a genotype not sown late in another."""
    frame = alpha_trials(5, genotypes=6, reps=4, block_size=3, seed=21)
    n = np.arange(len(frame))
    frame = frame.assign(sowing=np.where(n % 2, "late", "early-mid"), dose=(n // 6 % 4) * 10)
    lost = (frame["trial"] == "T0001") & (frame["gen"] == "G02")
    lost |= (frame["trial"] == "T0003") & (frame["gen"] == "G04") & (frame["sowing"] == "late")
    return frame[~lost].reset_index(drop=True)


SOWN = sown_trials()
FAMILIES = [
    ("gen", {"contrasts": "eff"}),
    ("gen", {"contrasts": "del.eff", "adjust": "sidak"}),
    ("gen", {"contrasts": "identity"}),
    ("gen", {"contrasts": "mean_chg", "adjust": "holm"}),
    ("gen", {"contrasts": "revpairwise"}),
    ("dose", {"contrasts": "poly"}),
    ("dose", {"contrasts": "consec", "adjust": "bonferroni"}),
    ("dose", {"contrasts": "trt.vs.ctrlk"}),
    ("dose", {"contrasts": {"zero to rest": [3, -1, -1, -1], "ends": [0.5, -0.5, -0.5, 0.5]}}),
    ("dose", {"contrasts": {"first": [1, 0, 0, 0], "total": [1, 1, 1, 1]}}),
    ("gen | sowing", {"contrasts": "pairwise"}),
    ("gen | sowing", {"contrasts": "trt.vs.ctrl:G03"}),
    ("sowing | gen", {"contrasts": "eff", "ddf": "satterthwaite"}),
    ("gen * sowing", {"contrasts": "pairwise"}),
    ("sowing * gen", {"contrasts": "trt.vs.ctrl1"}),
]


def assert_contrasts_of_lmm(result, frame, formula, spec, options) -> None:
    family = options["contrasts"]
    family, _, control = (family, "", "") if isinstance(family, dict) else family.partition(":")
    for trial in result.fits["trial"]:
        fit = lmm(formula, frame[frame["trial"] == trial])
        means = fit.emmeans(f"~ {spec}", ddf=options.get("ddf", fit.default_ddf))
        contrasts = means.contrast(family, ref=control or None, adjust=options.get("adjust"))
        for name, table in (("emmeans", means), ("contrasts", contrasts)):
            got = result.table(name)
            close(got[got["trial"] == trial].drop(columns=["trial", "trait"]), table.to_frame())


@pytest.mark.parametrize(("spec", "options"), FAMILIES, ids=[f"{s} {o['contrasts']}" for s, o in FAMILIES])
@pytest.mark.parametrize("rest", ["(1|rep:block)", "offset(weight)"])
def test_contrasts_are_those_of_lmm(rest, spec, options, left_to_lmm):
    formula = f"yield ~ factor(dose) + gen * sowing + {rest}"
    options = options if "|" in rest else {**options, "ddf": "residual"}
    result = fit_batch(SOWN, formula, by="trial", emmeans=f"~ {spec}", workers=1, **options)
    assert left_to_lmm == []
    assert_contrasts_of_lmm(result, SOWN, formula, spec, options)


def test_contrasts_that_the_data_do_not_determine(left_to_lmm):
    """Genotypes that were not sown early, or late, in a trial have no contrasts there."""
    options = {"emmeans": "~ gen | sowing", "contrasts": "pairwise"}
    found = fit_batch(SOWN, "yield ~ gen * sowing", by="trial", **options).contrasts
    assert left_to_lmm == []
    own = found.query("trial == 'T0003' and sowing == 'late'")
    assert set(own["status"][own["contrast"].str.contains("G04")]) == {"not estimable"}
    assert set(found["status"][found["trial"] == "T0004"]) == {"ok"}


def test_weights_for_another_number_of_means(left_to_lmm):
    frame = SOWN[~((SOWN["trial"] == "T0002") & (SOWN["dose"] == 10))]
    weights = {"linear": [-3, -1, 1, 3]}
    formula = "yield ~ gen + factor(dose) + (1|block)"
    result = fit_batch(frame, formula, by="trial", emmeans="dose", contrasts=weights, workers=1)
    assert left_to_lmm == [2]
    assert result.fits["status"].tolist() == ["ok", "ok", "inference", "ok", "ok"]
    assert "4 weights; 3 are needed" in result.fits["message"][2]
    assert set(result.contrasts["trial"]) == set(SOWN["trial"]) - {"T0002"}


def test_groups_named_like_other_columns(left_to_lmm):
    frame = SOWN.rename(columns={"sowing": "contrast", "gen": "p"})
    formula = "yield ~ p * contrast + (1|rep:block)"
    options = {"contrasts": "pairwise"}
    for spec in ("p | contrast", "contrast | p"):
        result = fit_batch(frame, formula, by="trial", emmeans=f"~ {spec}", workers=1, **options)
        assert_contrasts_of_lmm(result, frame, formula, spec, options)
    assert left_to_lmm == []


@pytest.mark.parametrize("method", list(contrast_families.FAMILIES))
@pytest.mark.parametrize("k", [2, 3, 9])
def test_patterns_of_labels_give_the_labels(method, k):
    raw = [f"G{i}-{i % 3}" if i % 2 else f"G{i}" for i in range(k)]
    control = k - 1 if method == "trt.vs.ctrl" else -1
    found = contrasts_among(method, k, control)
    means = MeanLabels.of(raw)
    expected = contrast_family(method, means, ref=None if control < 0 else control + 1)
    texts = found.names or [
        "".join(a + b for a, b in zip(found.words, [*(means.shown[i] for i in row), ""], strict=True))
        for row in found.places
    ]
    assert tuple(texts) == expected.labels
    assert (found.size, found.kind, found.adjust) == (len(texts), expected.kind, expected.adjust)
