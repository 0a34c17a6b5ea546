"""Adjusted contrasts where cells hold no data: what is not estimable is no member of a family.

Reference: reference/empty_cells.json, written by reference/empty_cells.R (versions inside the file).
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import studentized_range

from fastlmm_core import datasets, fit_batch, lmm
from fastlmm_core.errors import RankDeficientWarning

CASES = json.loads((Path(__file__).parent / "reference" / "empty_cells.json").read_text())["cases"]
OUT = {("Victory", "N0.2cwt"), ("Marvellous", "N0.2cwt")}
TOLERANCE = {"dunnettx": 2e-3}  # emmeans searches its limits to 5e-4 in t


def table():
    oats = datasets.load("oats")
    return oats[[cell not in OUT for cell in zip(oats["V"], oats["N"], strict=True)]].reset_index(drop=True)


@cache
def fit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficientWarning)
        return lmm("Y ~ V*N + (1|B/V)", table())


def agrees(got, case):
    rtol = TOLERANCE.get(case["adjust"], 1e-5)
    for name in ("estimate", "se", "df", "p", "lower", "upper"):
        expected = np.array(case["rows"][name], dtype=float)
        # Beside rows without df R takes ptukey at whole df: zapsmall(c(35.02, Inf)) is c(35, Inf).
        own = 1e-3 if case["adjust"] == "tukey" and name == "p" else rtol
        np.testing.assert_allclose(got[name], expected, rtol=own, atol=1e-7, err_msg=name)


def name_of(case):
    return " ".join([case["specs"], case["method"], case["adjust"]])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_adjusted_figures_are_those_of_emmeans(case):
    means = fit().emmeans(case["specs"])
    got = means.contrast(case["method"], adjust=case["adjust"]).to_frame()
    assert (got["status"] != "ok").any() and (got["status"] == "ok").any()
    agrees(got, case)


@pytest.mark.parametrize("adjust", ["tukey", "sidak", "bonferroni", "dunnettx", "scheffe", "holm", "fdr"])
@pytest.mark.parametrize("specs", ["~ N | V", "~ N", "~ V*N"])
def test_streamed_pairs_are_of_the_same_families(specs, adjust):
    means = fit().emmeans(specs)
    got = pd.concat(means.stream_pairs(adjust=adjust, chunk=4, progress=False))
    pd.testing.assert_frame_equal(got, means.pairs(adjust=adjust).to_frame(), rtol=1e-10)


@pytest.mark.parametrize("case", [c for c in CASES if c["adjust"] in ("tukey", "dunnettx")], ids=name_of)
def test_batches_adjust_over_the_same_families(case):
    both = pd.concat([table().assign(trial="empty"), datasets.load("oats").assign(trial="whole")])
    asked = {"emmeans": [case["specs"]], "contrasts": case["method"]}
    found = fit_batch(both, "Y ~ V*N + (1|B/V)", by="trial", **asked)
    own = found.contrasts[found.contrasts["trial"] == "empty"]
    agrees(own, case)


def test_tukeys_p_values_are_of_the_means_that_can_be_compared():
    pairs = fit().emmeans("~ N").pairs()
    ok = pairs.to_frame()["status"] == "ok"
    expected = studentized_range.sf(np.sqrt(2.0) * np.abs(pairs.t[ok]), 3, pairs.df[ok])
    np.testing.assert_allclose(pairs.p[ok], expected, rtol=1e-6, atol=1e-9)


def test_notes_give_the_sizes_of_the_families():
    pairs = fit().emmeans("~ N | V").pairs()
    assert "P value adjustment: tukey method for comparing families of 3 to 4 estimates" in pairs.notes


def test_a_family_is_one_of_the_levels_that_can_be_compared():
    """Without the mean that has no figures the others are compared as with it."""
    pairs = fit().emmeans("~ N").pairs()
    alone = fit().emmeans("~ N", at={"N": [r for r, s in zip(*_states(), strict=True) if s == "ok"]}).pairs()
    ok = pairs.to_frame()["status"] == "ok"
    assert ok.sum() == len(alone)
    np.testing.assert_allclose(pairs.p[ok], alone.p, rtol=1e-10)
    np.testing.assert_allclose(pairs.upper[ok], alone.upper, rtol=1e-10)


def _states():
    means = fit().emmeans("~ N").to_frame()
    return means["N"], means["status"]


def plots_numbered_within_regions():
    rows = [(region, str(k + 1), b) for region, n in (("N", 3), ("S", 2)) for k in range(n) for b in range(4)]
    data = pd.DataFrame(rows, columns=["reg", "loc", "b"])
    return data.assign(y=np.sin(np.arange(len(data))) + 10.0)


def test_labels_that_return_in_each_group_are_named_where_means_lack_cells():
    data = plots_numbered_within_regions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbered, crossed = lmm("y ~ reg/loc", data), lmm("y ~ reg*loc", data)
    means = numbered.emmeans("reg")
    assert list(means.status) == ["ok", "not estimable"]
    assert any("Not all levels of 'loc' have rows in each reg" in note for note in means.notes)
    assert not any("levels of 'loc'" in note for note in crossed.emmeans("reg").notes)
    assert not any("levels of 'loc'" in note for note in numbered.emmeans("~ loc | reg").notes)
    # What the note says: own names, and R's emmeans 2.0.4 has the same figures for "reg/loc" itself.
    named = lmm("y ~ reg/place", data.assign(place=data["reg"] + data["loc"])).emmeans("reg")
    by_place = data.groupby(["reg", "loc"])["y"].mean().groupby("reg").mean()
    np.testing.assert_allclose(named.estimate, by_place, rtol=1e-12)
