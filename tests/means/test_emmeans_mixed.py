"""Nested factors, back-transformed means and one-sided tests in mixed models against R's emmeans.

Reference: reference/emmeans_mixed.json, written by reference/emmeans_mixed.R (versions inside the file).
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import InferenceError, OptionError, RankDeficientWarning
from fastlmm_core.means.joint_tests import joint_tests

REFERENCE = json.loads((Path(__file__).parent / "reference" / "emmeans_mixed.json").read_text())
CASES = REFERENCE["cases"]
FIGURES = ("estimate", "se", "df", "t", "p", "lower", "upper")


@cache
def fit_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficientWarning)
        return lmm(REFERENCE["formulas"][name], pd.DataFrame(REFERENCE["data"]))


def table_of(case):
    """The table of one case, and the frame that R's figures belong to."""
    table = fit_of(case["fit"]).emmeans(case["specs"], **(case["means"] or {}))
    if case["contrast"]:
        table = table.contrast(**case["contrast"])
    if case["back"]:
        return table.back_transform()
    return table.test(**case["test"]) if case["test"] else table


@pytest.mark.parametrize("name", CASES)
def test_table_agrees_with_emmeans(name):
    want, got = pd.DataFrame(CASES[name]["table"]), table_of(CASES[name]).to_frame()
    labels = [column for column in want.columns if column not in FIGURES]
    shown = [c for c in got.columns if c not in (*FIGURES, "status", "null")]
    assert sorted(shown) == sorted(labels)
    # R's rows follow its own order of nested columns
    order = [want.sort_values(labels, kind="stable").index, got.sort_values(labels, kind="stable").index]
    want, got = want.loc[order[0]], got.loc[order[1]]
    for column in labels:
        assert got[column].tolist() == want[column].tolist()
    tolerance = {"rtol": 2e-5, "atol": 2e-6}  # R's optimum; dunnettx limits: its root finder stops at 5e-4
    for column in FIGURES:
        own = {"rtol": 5e-4} if column in ("lower", "upper") and "control" in name else tolerance
        theirs, ours = want[column].to_numpy(float), got[column].to_numpy(float)
        np.testing.assert_allclose(np.where(np.isfinite(ours), ours, np.nan), theirs, **own, err_msg=column)


@pytest.mark.parametrize("name", REFERENCE["joint"])
def test_joint_tests_of_nested_factors(name):
    want = pd.DataFrame(REFERENCE["joint"][name])
    got = joint_tests(fit_of(name), scaled=False)
    assert {frozenset(t.split(":")) for t in got["term"]} == {
        frozenset(t.split(":")) for t in want["model term"]
    }
    key = {frozenset(t.split(":")): i for i, t in enumerate(want["model term"])}
    want = want.iloc[[key[frozenset(t.split(":"))] for t in got["term"]]]
    assert got["df_num"].tolist() == want["df1"].tolist()
    np.testing.assert_allclose(got["F"], want["F.ratio"], atol=5.1e-4)  # emmeans rounds F
    np.testing.assert_allclose(got["p"], want["p.value"], rtol=1e-5)


def test_nested_factors_are_named():
    fit = fit_of("deep")
    notes = fit.emmeans("irr").notes
    assert "loc is nested in region" in notes
    assert "field is nested in loc, region" in notes
    # there is no other way to average a nested factor than within its groups, so that no remark warns of it
    assert not any("interaction" in note for note in fit_of("types").emmeans("type").notes)
    assert any("interaction irr:region" in note for note in fit_of("nested").emmeans("irr").notes)
    assert fit.emmeans("field").labels.columns.tolist() == ["field", "loc", "region"]


def test_mean_of_groups_of_unequal_size():
    """Equal weights: fields within locations, locations within regions, regions; each group counts as one."""
    fit = fit_of("deep")
    cells = fit.emmeans("field", at={"irr": "dry"}).to_frame()
    assert cells.groupby("loc").size().nunique() > 1
    by_hand = cells.groupby(["region", "loc"])["estimate"].mean().groupby("region").mean()
    got = fit.emmeans("region", at={"irr": "dry"}).to_frame().set_index("region")["estimate"]
    np.testing.assert_allclose(got[by_hand.index], by_hand, rtol=1e-10)
    overall = fit.emmeans("~ 1", at={"irr": "dry"}).estimate[0]
    np.testing.assert_allclose(overall, by_hand.mean(), rtol=1e-10)


def test_groups_of_different_means():
    """Each group is a family with labels and a size of its own; by=None makes one of all."""
    means = fit_of("types").emmeans("~ gen | type")
    within = means.pairs().to_frame()
    assert within["contrast"].tolist()[:2] == ["G1 - G2", "G3 - G4"]
    assert within["type"].tolist() == ["check"] + ["new"] * 6
    assert any("families of 2 to 4 estimates" in note for note in means.pairs().notes)
    assert len(means.pairs(by=None)) == 15
    alone = fit_of("types").emmeans("~ gen | type", at={"type": "new"}).pairs().to_frame()
    for column in FIGURES:
        np.testing.assert_allclose(within[column][1:], alone[column], rtol=1e-9)
    letters = means.cld()
    assert letters.groupby("type")["group"].apply(lambda g: set("".join(g)) >= {"a"}).all()
    assert means.comparison_intervals().lower.shape == (6,)
    same_size = fit_of("nested").emmeans("~ loc | region", at={"loc": ["L1", "L2", "L4", "L5"]}).pairs()
    assert same_size.labels["contrast"].tolist() == ["L1 - L2", "L4 - L5"]
    for streamed in (means, fit_of("nested").emmeans("~ loc | region", at={"loc": ["L1", "L2", "L4", "L5"]})):
        with pytest.raises(OptionError, match="at="):
            list(streamed.stream_pairs(progress=False))


def test_a_group_of_one_mean_has_nothing_to_compare():
    means = fit_of("types").emmeans("~ gen | type", at={"gen": ["G1", "G3", "G4", "G6"]})
    table = means.pairs()
    assert table.labels["contrast"].tolist() == ["G3 - G4", "G3 - G6", "G4 - G6"]
    assert "Groups of one mean, with nothing to compare: 1" in table.notes
    letters = means.cld()
    assert letters.set_index("gen")["group"]["G1"] == "a"
    assert len(letters) == 4
    with pytest.raises(OptionError, match="only one here"):
        fit_of("types").emmeans("~ gen | type", at={"gen": ["G1", "G3"]}).pairs()


def test_joint_tests_within_groups():
    """A nested factor is tested within each level of its group, by `by` as by the effect that holds both."""
    fit = fit_of("nested")
    by = joint_tests(fit, by="region", scaled=False)
    assert by.loc[by["term"] == "loc", "df_num"].tolist() == [1, 2, 1]
    means = fit.emmeans("loc").to_frame()
    for region, row in by[by["term"] == "loc"].set_index("region").iterrows():
        rows = np.flatnonzero(means["region"] == region)
        K = fit.emmeans("loc").K.toarray()
        functions = fit.linear_functions(np.diff(K[rows], axis=0))
        z = functions.estimate
        np.testing.assert_allclose(row["F"], z @ np.linalg.solve(functions.cov, z) / len(z), rtol=1e-8)


def test_a_model_of_full_rank_has_no_nesting():
    """Locations with one name per region are crossed labels: nothing is taken away from the user's grid."""
    data = pd.DataFrame(REFERENCE["data"])
    place = data.groupby("region")["loc"].transform(lambda x: x.rank(method="dense")).astype(int)
    data["place"] = np.minimum(place, 2).map("P{}".format)
    fit = lmm("y ~ region / place + (1 | gen)", data)
    assert fit.emmeans("place").labels.columns.tolist() == ["place"]
    assert not any("nested" in note for note in fit.emmeans("region").notes)


def test_regridded_means_by_the_delta_method():
    """Covariance D cov D, and the df of a difference from the derivatives of its own variance."""
    fit = fit_of("sqrt")
    means = fit.emmeans("irr")
    response = means.regrid()
    np.testing.assert_allclose(response.estimate, means.estimate**2, rtol=1e-12)
    np.testing.assert_allclose(response.se, 2.0 * means.estimate * means.se, rtol=1e-12)
    np.testing.assert_allclose(response.df, means.df, rtol=1e-10)
    D = np.diag(2.0 * means.estimate)
    differences = response.pairs()
    A = differences.weights.toarray()
    np.testing.assert_allclose(differences.estimate, A @ means.estimate**2, rtol=1e-10)
    np.testing.assert_allclose(differences.covariance(), A @ D @ means.covariance() @ D @ A.T, rtol=1e-9)
    same = fit.linear_functions(A @ D @ means.K.toarray())
    np.testing.assert_allclose(differences.df, same.df(), rtol=1e-9)
    np.testing.assert_allclose(differences.se, same.se(), rtol=1e-9)
    assert response.scale is None
    assert any("delta method" in note for note in response.notes)
    assert response.cld()["group"].str.len().gt(0).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: fit_of("crossed").emmeans("irr").back_transform(),
            OptionError,
            "no way back to the response",
        ),
        (lambda: fit_of("crossed").emmeans("irr").regrid(), OptionError, "no way back to the response"),
        (lambda: fit_of("sqrt").emmeans("irr").pairs().back_transform(), OptionError, "regrid"),
        (lambda: fit_of("sqrt").emmeans("irr").regrid().back_transform(), OptionError, "no way back"),
        (
            lambda: fit_of("log").emmeans("irr").contrast({"sum": [1, 1, 0]}).back_transform(),
            OptionError,
            "not differences",
        ),
        (lambda: fit_of("crossed").emmeans("irr").test(side="up"), OptionError, "side"),
        (lambda: fit_of("crossed").emmeans("irr").test(delta=-1), OptionError, "must not be negative"),
        (lambda: fit_of("crossed").emmeans("irr").test(null=np.inf), OptionError, "finite"),
        (
            lambda: fit_of("crossed").emmeans("irr").pairs(adjust="mvt").test(side=">"),
            InferenceError,
            "two-sided",
        ),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_tests_against_zero_are_the_table():
    for table in (fit_of("crossed").emmeans("irr").pairs(), fit_of("crossed").emmeans("irr")):
        got = table.test().to_frame()
        for column in FIGURES:
            np.testing.assert_allclose(got[column], table.to_frame()[column], rtol=1e-12)


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    table = fit_of("crossed").emmeans("irr").pairs(adjust="none")
    both = table.test(delta=4.0).to_frame()["p"]
    above = table.test(null=-4.0, side=">").to_frame()["p"]
    below = table.test(null=4.0, side="<").to_frame()["p"]
    np.testing.assert_allclose(both, np.maximum(above, below), rtol=1e-10)


def test_printed_tables_say_what_they_are():
    ratios = str(fit_of("log").emmeans("irr").pairs().back_transform())
    assert "ratios of y" in ratios and "dry / full" in ratios
    shifted = str(fit_of("shifted").emmeans("irr").pairs().back_transform())
    assert "ratios of y + 5" in shifted
    tested = str(fit_of("crossed").emmeans("irr").pairs().test(side=">", delta=1.0))
    assert (
        "Degrees of freedom: Kenward-Roger" in tested
        and "non-inferiority" in tested
        and "sidak was used" in tested
        and "right-tailed" in tested
    )
    assert "<table" in fit_of("log").emmeans("irr").back_transform()._repr_html_()
