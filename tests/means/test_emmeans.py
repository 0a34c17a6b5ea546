"""Means, slopes, contrasts and joint tests against R's emmeans on ordinary least squares.

Reference: reference/emmeans_ols.json, written by reference/emmeans_ols.R (versions inside the file).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_fit import DenseFit

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.means.emmeans import emmeans, emtrends
from fastlmm_core.means.joint_tests import joint_tests

REFERENCE = json.loads((Path(__file__).parent / "reference" / "emmeans_ols.json").read_text())
CASES = REFERENCE["cases"]
FIGURES = ("estimate", "se", "df", "t", "p", "lower", "upper")


def reference_data() -> pd.DataFrame:
    frame = pd.DataFrame(REFERENCE["data"])
    frame["n"] = pd.Categorical(frame["n"].astype(str), ["0", "50", "100"])
    return frame


@pytest.fixture(scope="module")
def fits():
    data = reference_data()
    return {
        name: DenseFit(formula, data, offset="o" if name == "offset" else None)
        for name, formula in REFERENCE["formulas"].items()
    }


def means_of(fits, case):
    options = dict(case["means"])
    specs = options.pop("specs")
    fit = fits[case["fit"]]
    if "var" in options:
        return emtrends(fit, specs, options.pop("var"), ddf="residual", delta=1e-5, **options)
    return emmeans(fit, specs, ddf="residual", **options)


def table_of(fits, case):
    table = means_of(fits, case)
    steps = case.get("contrast") or []
    for step in [steps] if isinstance(steps, dict) else steps:
        table = table.contrast(**step)
    return table


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("joint")])
def test_table_agrees_with_emmeans(fits, name):
    want = pd.DataFrame(CASES[name]["table"])
    got = table_of(fits, CASES[name]).to_frame()
    labels = [column for column in want.columns if column not in FIGURES]
    assert [column for column in got.columns if column not in (*FIGURES, "status")] == labels
    for column in labels:
        assert [str(v) for v in got[column]] == [str(v) for v in want[column]] or np.allclose(
            got[column].astype(float), want[column].astype(float)
        )
    # dunnettx limits: R's root finder stops at 5e-4; Tukey p: R's ptukey is good to about 1e-8
    for column in FIGURES:
        tolerance = 5e-4 if column in ("lower", "upper") and "control" in name else 2e-7
        np.testing.assert_allclose(
            got[column].to_numpy(float),
            want[column].to_numpy(float),
            rtol=tolerance,
            atol=tolerance,
            err_msg=column,
        )


@pytest.mark.parametrize(("name", "by"), [("joint", None), ("joint_by", "n")])
def test_joint_tests_agree_with_emmeans(fits, name, by):
    want = pd.DataFrame(CASES[name]["table"])
    got = joint_tests(fits["full"], by=by, scaled=False)
    want = want.set_index(["model term"] + ([by] if by else []))
    for row in got.to_dict("records"):
        ref = want.loc[(row["term"], row[by]) if by else row["term"]]
        assert row["df_num"] == ref["df1"]
        np.testing.assert_allclose(
            row["F"], ref["F.ratio"], atol=5.1e-4
        )  # emmeans rounds F to three decimals
        np.testing.assert_allclose(row["p"], ref["p.value"], atol=1e-8)
    assert len(got) == len(want)


def test_columns_of_the_frame(fits):
    """Labels are plain objects for factors and float64 for covariates, in the order of the specs."""
    table = emmeans(fits["full"], ["v", "x", "n"], at={"x": [2.0, 1.0], "n": ["100", "0"]}, ddf="residual")
    frame = table.to_frame()
    assert list(frame.columns) == ["v", "x", "n", *FIGURES, "status"]
    assert frame[["v", "n"]].dtypes.tolist() == [np.dtype(object)] * 2
    assert (frame.dtypes[["x", *FIGURES]] == np.float64).all()
    levels = list(dict.fromkeys(reference_data()["v"].sort_values()))
    k = len(levels)
    assert frame["v"].tolist() == levels * 4
    assert frame["x"].tolist() == ([2.0] * k + [1.0] * k) * 2
    assert frame["n"].tolist() == ["100"] * 2 * k + ["0"] * 2 * k


def test_counts_of_cells_follow_the_levels_asked_for(fits):
    """Weights come from the rows of the levels in `at`, in whatever order these are given."""
    data = reference_data()
    data = data[data["s"] == data["s"].iloc[0]]
    here = {"s": data["s"].iloc[0]}
    means = emmeans(fits["full"], "~ v", at={"n": ["100", "0"], **here}, weights="cells", ddf="residual")
    cells = emmeans(fits["full"], "~ v | n", at=here, ddf="residual").to_frame().set_index(["v", "n"])
    for v, got in zip(means.labels["v"], means.estimate, strict=True):
        count = {n: ((data["v"] == v) & (data["n"] == n)).sum() for n in ("0", "100")}
        want = sum(count[n] * cells["estimate"][v, n] for n in count) / sum(count.values())
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_slopes_are_derivatives():
    data = reference_data()
    fit = DenseFit("y ~ v * x + I(x^2) + n", data)
    names = list(fit.design.column_names)
    beta = dict(zip(names, fit.beta, strict=True))
    got = emtrends(fit, "~ v | x", "x", at={"x": [1.0, 9.0]}, ddf="residual").to_frame()
    for row in got.to_dict("records"):
        slope = beta["x"] + 2.0 * row["x"] * beta["I(x^2)"]
        slope += 0.0 if row["v"] == "A" else beta[f"v{row['v']}:x"]
        np.testing.assert_allclose(row["estimate"], slope, rtol=1e-10)


def test_slopes_of_a_cubic_are_derivatives(fits):
    fit, h = fits["cubic"], 1e-3
    at = {"x": [3.0 - h, 3.0 + h]}
    low, high = emmeans(fit, "~ x", at=at, ddf="residual").estimate
    slope = emtrends(fit, "~ x", "x", at={"x": 3.0}, ddf="residual").estimate[0]
    np.testing.assert_allclose(slope, (high - low) / (2.0 * h), rtol=1e-5)


def test_same_table_however_specs_are_written(fits):
    want = emmeans(fits["full"], "~ v | n", ddf="residual").to_frame()
    for specs, by in (("~v|n", None), ("v", "n"), (["v"], ["n"]), ("~ v", ["n"]), ("v | n", "n")):
        pd.testing.assert_frame_equal(emmeans(fits["full"], specs, by=by, ddf="residual").to_frame(), want)


def test_order_of_the_levels_and_rows_of_the_data_do_not_matter():
    data = reference_data()
    a = emmeans(DenseFit("y ~ v * n + s + x", data), "~ v", ddf="residual").to_frame()
    shuffled = data.sample(frac=1.0, random_state=1)
    shuffled["v"] = pd.Categorical(shuffled["v"], ["D", "C", "B-1", "A"])
    b = emmeans(DenseFit("y ~ n * v + s + x", shuffled), "~ v", ddf="residual").to_frame()
    b = b.set_index("v").loc[a["v"]].reset_index()
    np.testing.assert_allclose(a[list(FIGURES)], b[list(FIGURES)], rtol=1e-9, atol=1e-12)


def empty_cell_fit():
    data = reference_data()
    return DenseFit("y ~ v * n + s", data[~((data["v"] == "C") & (data["n"] == "50"))])


def test_means_without_data_are_not_estimable_and_say_so():
    table = emmeans(empty_cell_fit(), "~ v * n", ddf="residual")
    frame = table.to_frame().set_index(["v", "n"])
    assert frame.loc[("C", "50"), "status"] == "not estimable"
    assert frame.loc[("C", "50"), list(FIGURES)].isna().all()
    assert (frame["status"] == "ok").sum() == 11
    assert "1 of 12 rows are not estimable from these data" in table.notes
    pairs = table.contrast("pairwise", by="n").to_frame()
    assert (pairs["status"] == "not estimable").sum() == 3
    assert pairs.loc[pairs["status"] == "ok", "p"].notna().all()


def test_weights_by_cells_leave_empty_cells_out():
    fit = empty_cell_fit()
    equal = emmeans(fit, "~ v", ddf="residual").to_frame().set_index("v")
    cells = emmeans(fit, "~ v", weights="cells", ddf="residual").to_frame().set_index("v")
    assert equal.loc["C", "status"] == "not estimable"
    assert cells.loc["C", "status"] == "ok"
    full = emmeans(fit, "~ v * n", weights="cells", ddf="residual")
    assert list(full.to_frame()["status"]).count("not estimable") == 1
    assert np.isnan(full.contrast("pairwise", by="n").estimate).sum() == 3


@pytest.mark.parametrize("weights", ["cells", "flat"])
def test_weights_have_no_part_in_means_that_average_over_nothing(weights):
    """A cell without plots has the mean that the additive model predicts, as in R."""
    data = datasets.load("oats").query("not (V == 'Victory' and N == 'N0.4cwt')")
    fit = lmm("Y ~ V + N", data)
    means = fit.emmeans("~ V | N", weights=weights)
    np.testing.assert_allclose(means.estimate, fit.emmeans("~ V | N").estimate, rtol=1e-12)
    assert np.isfinite(means.pairs().p).all()
    blocks = lmm("Y ~ V + N + B", data).emmeans("~ V | N", weights=weights)
    assert np.isnan(blocks.estimate).sum() == 1


def test_table_is_frozen_and_printing_does_not_round_the_values(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual")
    before = table.to_frame().copy()
    text, html = str(table), table._repr_html_()
    pd.testing.assert_frame_equal(table.to_frame(), before)
    assert "Averaged over n, s with equal weights" in text and "Covariates held at x" in text
    assert "<table>" in html
    with pytest.raises(AttributeError):
        table.level = 0.5


def test_pairs_are_differences_of_the_means_and_sed_their_errors(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual")
    pairs = table.pairs()
    i, j = np.triu_indices(4, 1)
    np.testing.assert_allclose(pairs.estimate, table.estimate[i] - table.estimate[j], rtol=1e-9)
    sed = table.sed_matrix()
    np.testing.assert_allclose(sed[i, j], pairs.se)
    np.testing.assert_allclose(np.diag(sed), 0.0)
    cov = table.covariance()
    np.testing.assert_allclose(cov[i, i] + cov[j, j] - 2 * cov[i, j], pairs.se**2)
    summary = table.difference_errors()
    np.testing.assert_allclose(
        [summary.sed_mean, summary.sed_min, summary.sed_max],
        [pairs.se.mean(), pairs.se.min(), pairs.se.max()],
    )
    unadjusted = table.pairs(adjust="none")
    half = 0.5 * (unadjusted.upper - unadjusted.lower)
    np.testing.assert_allclose([summary.lsd_mean, summary.lsd_max], [half.mean(), half.max()])
    assert summary.n_pairs == 6 and list(summary.to_frame()["n_pairs"]) == [6]


def test_letters_agree_with_the_pairwise_p_values(fits):
    table = emmeans(fits["full"], "~ v | n", ddf="residual")
    for alpha in (0.05, 0.5, 0.9):
        shown = table.cld(alpha, adjust="none")
        pairs = table.pairs(adjust="none").to_frame()
        for level, block in shown.groupby("n"):
            assert block["estimate"].is_monotonic_increasing
            letters = dict(zip(block["v"], block["group"], strict=True))
            for row in pairs[pairs["n"] == level].to_dict("records"):
                left, right = row["contrast"].replace("(B-1)", "B-1").split(" - ")
                assert bool(set(letters[left]) & set(letters[right])) == (row["p"] >= alpha)


def test_comparison_intervals_overlap_where_means_do_not_differ(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual")
    for adjust in ("none", "tukey"):
        intervals = table.comparison_intervals(adjust=adjust)
        pairs = table.pairs(adjust=adjust)
        i, j = np.triu_indices(4, 1)
        apart = (intervals.lower[i] > intervals.upper[j]) | (intervals.lower[j] > intervals.upper[i])
        assert np.count_nonzero(apart != (pairs.p < 0.05)) == intervals.n_disagree
        np.testing.assert_allclose(0.5 * (intervals.lower + intervals.upper), table.estimate)


def test_factors_called_as_a_column_of_figures_is():
    data = reference_data().rename(columns={"v": "t", "n": "p"})
    means = emmeans(DenseFit("y ~ t + p", data), "t", by="p")
    frame = means.to_frame()
    assert list(frame.columns[:3]) == ["t_level", "p_level", "estimate"]
    assert frame.columns.is_unique
    assert "p_level = " in str(means)
    pairs = means.contrast("pairwise")
    assert pairs.to_frame().columns.is_unique
    assert set(pairs.to_frame()["p_level"]) == set(data["p"])


def test_level_and_adjustment_can_be_changed_later(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual").pairs()
    again = table.with_options(adjust="bonferroni", level=0.9)
    want = emmeans(fits["full"], "~ v", ddf="residual").pairs(adjust="bonferroni", level=0.9)
    pd.testing.assert_frame_equal(again.to_frame(), want.to_frame())
    assert again.adjust == "bonferroni" and again.level == 0.9


def test_adjusted_intervals_and_p_values_agree(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual")
    for adjust in ("none", "tukey", "sidak", "bonferroni", "scheffe", "mvt"):
        for level in (0.5, 0.9, 0.99):
            pairs = table.pairs(adjust=adjust, level=level)
            outside = (pairs.lower > 0) | (pairs.upper < 0)
            np.testing.assert_array_equal(outside, pairs.p < 1.0 - level)


def test_notes_say_what_was_done(fits):
    table = emmeans(fits["full"], "~ v", ddf="residual")
    assert "P value adjustment: tukey method for comparing a family of 4 estimates" in table.pairs().notes
    control = table.contrast("trt.vs.ctrl", adjust="tukey")
    assert control.adjust == "sidak"
    assert any("sidak was used for this family instead" in note for note in control.notes)
    holm = table.pairs(adjust="holm")
    assert "Confidence limits: bonferroni method for 6 estimates" in holm.notes
    assert "Averages over the interaction v:n" in " ".join(table.notes)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: emmeans(f, "~ w"), OptionError, "specs: 'w' is not a variable of the fixed part"),
        (lambda f: emmeans(f, "pairwise ~ v"), OptionError, ".contrast('pairwise')"),
        (
            lambda f: emmeans(f, "~ v", at={"z": 1}),
            OptionError,
            "at: 'z' is not a variable of the fixed part",
        ),
        (lambda f: emmeans(f, "~ v", at={"n": "75"}), DataError, "'75' is not a level of 'n'"),
        (lambda f: emmeans(f, "~ v", at={"n": ["50", "0", "50"]}), DataError, "'n' has '50' more than once"),
        (lambda f: emmeans(f, "~ v", at={"n": []}), DataError, "'n' needs at least one of its levels"),
        (lambda f: emmeans(f, "~ v", at={"x": "much"}), DataError, "'x' is numeric and needs numbers"),
        (
            lambda f: emmeans(f, "~ v", weights="even"),
            OptionError,
            "weights='even' is not known; allowed",
        ),
        (lambda f: emmeans(f, "~ v", weights=[1, 2]), OptionError, "6 finite numbers"),
        (lambda f: emmeans(f, "~ v", level=95), OptionError, "level=95 must lie above 0 and below 1"),
        (lambda f: emmeans(f, "~ v").contrast("tuckey"), OptionError, "method='tuckey' is not known"),
        (lambda f: emmeans(f, "~ v").pairs(adjust="tuckey").p, OptionError, "adjust='tuckey' is not known"),
        (lambda f: emmeans(f, "~ v").pairs(by="n"), OptionError, "by: 'n' is not a label column"),
        (lambda f: emmeans(f, "~ v").contrast({"a": [1, 2]}), OptionError, "has 2 weights; 4 are needed"),
        (lambda f: emmeans(f, "~ v").contrast("trt.vs.ctrl", ref="E"), OptionError, "ref='E'"),
        (
            lambda f: emmeans(f, "~ v * n").contrast(interaction=["eff"] * 3),
            OptionError,
            "are 2 factors",
        ),
        (lambda f: emmeans(f, "~ v").cld(alpha=5), OptionError, "alpha=5"),
        (lambda f: emtrends(f, "~ v", "n"), OptionError, "'n' is a factor"),
        (lambda f: emtrends(f, "~ v", "z"), OptionError, "'z' is not in the fixed part"),
        (lambda f: emtrends(f, "~ v", "x", delta=0), OptionError, "delta=0"),
        (lambda f: joint_tests(f, by="z"), OptionError, "by: 'z' is not in the fixed part"),
    ],
)
def test_errors_name_what_is_wrong(fits, call, error, message):
    with pytest.raises(error) as caught:
        call(fits["full"])
    assert message in str(caught.value)


def test_interaction_with_an_empty_cell_is_tested_by_its_estimable_part():
    fit = empty_cell_fit()
    data = reference_data()
    data = data[~((data["v"] == "C") & (data["n"] == "50"))]
    additive = DenseFit("y ~ v + n + s", data)

    def residual_sum(model):
        y, X = model.design.y, model.design.X.toarray()
        return float(np.sum((y - X @ model.beta[model.design.kept]) ** 2))

    lost = additive.df_residual - fit.df_residual
    error = residual_sum(fit) / fit.df_residual
    want = (residual_sum(additive) - residual_sum(fit)) / lost / error
    for scaled in (True, False):
        tests = joint_tests(fit, scaled=scaled).set_index("term")
        assert tests.loc["v:n", "df_num"] == lost == 5
        np.testing.assert_allclose(tests.loc["v:n", "F"], want, rtol=1e-9)
        assert tests.loc["v:n", "status"] == "part" and tests.loc["s", "status"] == "ok"


def test_means_of_a_random_factor_name_its_values():
    trial = datasets.load("john_alpha")
    names = sorted(trial["gen"].unique())
    G = pd.DataFrame(0.5 * (np.eye(24) + 1.0), names, names)
    for term, options in (("gen", {}), ("vm(gen, G)", {"relationships": {"G": G}})):
        for fixed in ("rep", "1"):
            fit = lmm(f"yield ~ {fixed} + (1 | {term})", trial, **options)
            message = f"specs: 'gen' is random in this model.*fit.genotype_values\\('{re.escape(term)}'\\)"
            with pytest.raises(OptionError, match=message):
                fit.emmeans("gen")
            assert len(fit.genotype_values(term).to_frame()) == 24
