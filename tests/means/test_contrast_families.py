"""Coefficients and labels of contrast families."""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import OptionError
from fastlmm_core.means.contrast_families import MeanLabels, contrast_family

ABC = MeanLabels.of(["A", "B", "C"])


def rows(method, means=ABC, **options):
    family = contrast_family(method, means, **options)
    return dict(zip(family.labels, family.coefficients.toarray().tolist(), strict=True))


def test_pairs():
    assert rows("pairwise") == {"A - B": [1, -1, 0], "A - C": [1, 0, -1], "B - C": [0, 1, -1]}
    assert rows("revpairwise") == {"B - A": [-1, 1, 0], "C - A": [-1, 0, 1], "C - B": [0, -1, 1]}


def test_comparisons_with_controls():
    assert rows("trt.vs.ctrl", ref="B") == {"A - B": [1, -1, 0], "C - B": [0, -1, 1]}
    assert rows("trt.vs.ctrlk") == {"A - C": [1, 0, -1], "B - C": [0, 1, -1]}
    assert rows("trt.vs.ctrl1", reverse=True) == {"A - B": [1, -1, 0], "A - C": [1, 0, -1]}
    assert rows("trt.vs.ctrl", ref=["A", 3]) == {"B - avg(A,C)": [-0.5, 1, -0.5]}


def test_consecutive_effects_and_changes():
    assert rows("consec") == {"B - A": [-1, 1, 0], "C - B": [0, -1, 1]}
    assert rows("consec", reverse=True) == {"A - B": [1, -1, 0], "B - C": [0, 1, -1]}
    np.testing.assert_allclose(rows("eff")["B effect"], [-1 / 3, 2 / 3, -1 / 3])
    np.testing.assert_allclose(rows("del.eff")["B effect"], [-0.5, 1, -0.5])
    assert rows("mean_chg") == {"A|B": [-1, 0.5, 0.5], "B|C": [-0.5, -0.5, 1]}


def test_labels_with_operators_get_parentheses():
    means = MeanLabels.of(["A-1", "B", "C/D"])
    assert list(rows("pairwise", means)) == ["(A-1) - B", "(A-1) - (C/D)", "B - (C/D)"]
    assert list(rows("trt.vs.ctrl", means, ref="C/D")) == ["(A-1) - (C/D)", "B - (C/D)"]


@pytest.mark.parametrize(
    ("k", "degree", "want"),
    [  # R package emmeans 1.8.4, poly.emmc(1:k)
        (3, 2, [1, -2, 1]),
        (4, 3, [-1, 3, -3, 1]),
        (5, 4, [1, -4, 6, -4, 1]),
        (6, 5, [-1, 5, -10, 10, -5, 1]),
        (7, 1, [-3, -2, -1, 0, 1, 2, 3]),
        (10, 2, [6, 2, -1, -3, -4, -4, -3, -1, 2, 6]),
    ],
)
def test_polynomials_are_those_of_emmeans(k, degree, want):
    coefficients = contrast_family("poly", MeanLabels.of([f"L{i}" for i in range(k)])).coefficients.toarray()
    np.testing.assert_array_equal(coefficients[degree - 1], want)


@pytest.mark.parametrize("k", [2, 3, 8, 15, 19, 25, 60])
def test_polynomials_are_whole_orthogonal_and_of_rising_degree(k):
    family = contrast_family("poly", MeanLabels.of([f"L{i}" for i in range(k)]))
    P = family.coefficients.toarray()
    assert P.shape == (min(6, k - 1), k)
    assert np.array_equal(P, np.round(P))
    gram = P @ P.T
    off = gram - np.diag(np.diag(gram))
    assert np.abs(off).max() <= 1e-12 * np.diag(gram).max()
    assert np.all(P[:, -1] > 0)
    for d, row in enumerate(P, start=1):
        assert np.abs(np.diff(row, n=d + 1)).max(initial=0.0) <= 1e-9 * np.abs(row).max()


def test_custom_contrasts():
    assert rows({"A vs rest": [1, -0.5, -0.5]}) == {"A vs rest": [1, -0.5, -0.5]}
    assert rows({"C less A": {"C": 1, "A": -1}}) == {"C less A": [-1, 0, 1]}
    assert rows([[1, -1, 0], [0, 1, -1]]) == {"c(1, -1, 0)": [1, -1, 0], "c(0, 1, -1)": [0, 1, -1]}


def test_custom_contrasts_show_their_tests_whatever_the_weights_sum_to():
    means = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats")).emmeans("N")
    table = means.contrast({"rounded": [-1, 0.33, 0.33, 0.33], "first": [-1, 1, 0, 0]})
    header = str(table).splitlines()[1].split()
    assert header == ["contrast", "estimate", "se", "df", "t", "p", "lower", "upper"]
    assert "t" not in str(means.contrast("identity")).splitlines()[1].split()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("pairwize", {}, "method='pairwize' is not known; allowed: 'pairwise'"),
        ({"a": [1, -1]}, {}, "contrast 'a' has 2 weights; 3 are needed"),
        ({"a": {"D": 1}}, {}, "contrast 'a': 'D' is not one of the means"),
        ("trt.vs.ctrl", {"ref": "Z"}, "ref='Z' is not one of the means"),
        ("trt.vs.ctrl", {"ref": 4}, "positions run from 1 to 3"),
        ("trt.vs.ctrl", {"ref": ["A", "B", "C"]}, "leave at least one"),
        ("pairwise", {"ref": "A"}, "takes no option 'ref'"),
    ],
)
def test_errors_name_what_is_wrong(method, options, message):
    with pytest.raises(OptionError) as error:
        contrast_family(method, ABC, **options)
    assert message in str(error.value)


def test_a_number_that_is_a_label_is_told_to_be_text():
    with pytest.raises(OptionError, match=r"ref=107: positions run from 1 to 2; the mean is ref='107'"):
        contrast_family("trt.vs.ctrl", MeanLabels.of(["101", "107"]), ref=107)


def test_one_mean_has_nothing_to_compare():
    with pytest.raises(OptionError, match="only one here"):
        contrast_family("pairwise", MeanLabels.of(["A"]))
