"""Helmert, normalized and weighted contrasts: coefficients, labels, options, and batches."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm
from fastlmm_core.errors import OptionError
from fastlmm_core.means.contrast_families import MeanLabels, contrast_family

MEANS = MeanLabels.of(["a", "b", "c", "d"])
WTS = np.array([1.0, 2.0, 3.0, 4.0])


def test_helmert_is_that_of_r():
    family = contrast_family("helmert", MEANS)
    assert family.labels == ("b vs earlier", "c vs earlier", "d vs earlier")
    expected = [[-1, 1, 0, 0], [-1, -1, 2, 0], [-1, -1, -1, 3]]
    np.testing.assert_array_equal(family.coefficients.toarray(), expected)


@pytest.mark.parametrize("name", ["eff", "poly", "helmert", "pairwise", "consec", "mean_chg"])
def test_normalized_contrasts_have_length_one(name):
    plain, scaled = contrast_family(name, MEANS), contrast_family("nrmlz", MEANS, family=name)
    rows = scaled.coefficients.toarray()
    np.testing.assert_allclose((rows**2).sum(axis=1), 1.0, rtol=1e-14)
    assert scaled.labels == plain.labels
    ratio = plain.coefficients.toarray() / np.where(rows == 0, 1.0, rows)
    assert all(np.ptp(r[p != 0]) < 1e-12 for r, p in zip(ratio, rows, strict=True))


@pytest.mark.parametrize(
    ("cmtype", "first", "last"),
    [  # by the definitions of Bretz, Hothorn & Westfall, with 1, 2, 3 and 4 observations
        ("GrandMean", [0.9, -0.2, -0.3, -0.4], [-0.1, -0.2, -0.3, 0.6]),
        ("AVE", [1, -2 / 9, -3 / 9, -4 / 9], [-1 / 6, -2 / 6, -3 / 6, 1]),
        ("Changepoint", [-1, 2 / 9, 3 / 9, 4 / 9], [-1 / 6, -2 / 6, -3 / 6, 1]),
        ("Williams", [-1, 0, 0, 1], [-1, 2 / 9, 3 / 9, 4 / 9]),
        ("Dunnett", [-1, 1, 0, 0], [-1, 0, 0, 1]),
        ("Sequen", [-1, 1, 0, 0], [0, 0, -1, 1]),
        ("Tukey", [-1, 1, 0, 0], [0, 0, -1, 1]),
    ],
)
def test_weighted_contrasts_have_their_definitions(cmtype, first, last):
    rows = contrast_family("wtcon", MEANS, wts=WTS, cmtype=cmtype).coefficients.toarray()
    np.testing.assert_allclose(rows[[0, -1]], [first, last], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(rows.sum(axis=1), 0.0, atol=1e-14)


def test_effects_take_weights():
    whole = contrast_family("eff", MEANS, wts=WTS).coefficients.toarray()
    np.testing.assert_allclose(whole, np.eye(4) - WTS / 10, atol=1e-15)
    without = contrast_family("del.eff", MEANS).coefficients.toarray()
    np.testing.assert_allclose(without, (np.eye(4) - 0.25) * 4 / 3, atol=1e-15)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("helmert", {"wts": WTS}, "takes no option 'wts'"), ("wtcon", {"wts": [1, 2]}, "wts must be 4"),
        ("wtcon", {"wts": [1, 2, 3, 0]}, "above zero"), ("wtcon", {"cmtype": "Marcus"}, "is not known"),
        ("nrmlz", {"family": "nrmlz"}, "must name the family"), ("nrmlz", {"family": "x"}, "is not known"),
        ("nrmlz", {"family": "eff", "ref": 2}, "no option 'ref'"), ("eff", {"wts": "many"}, "wts must be 4"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(method, options, words):
    with pytest.raises(OptionError, match=words):
        contrast_family(method, MEANS, **options)


def test_tables_and_batches_have_them():
    oats = datasets.load("oats")
    means = lmm("Y ~ V + N + (1|B)", oats).emmeans("V")
    m = means.estimate
    expected = [m[1] - m[0], 2 * m[2] - m[0] - m[1]]
    np.testing.assert_allclose(means.contrast("helmert").estimate, expected, rtol=1e-9)
    scaled = means.contrast("nrmlz", family="pairwise")
    np.testing.assert_allclose(scaled.t, means.contrast("pairwise").t, rtol=1e-9)
    table = pd.concat([oats.assign(trial="a"), oats.assign(trial="b")])
    asked = {"emmeans": "V", "contrasts": "helmert"}
    found = fit_batch(table, "Y ~ V + N + (1|B)", by="trial", progress=False, **asked)
    own = means.contrast("helmert")
    assert found.contrasts["contrast"].tolist() == own.labels["contrast"].tolist() * 2
    np.testing.assert_allclose(found.contrasts["estimate"][:2], own.estimate, rtol=1e-7)
    np.testing.assert_allclose(found.contrasts["p"][:2], own.p, rtol=1e-5)
