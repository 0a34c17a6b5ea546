"""Families of tests that are drawn up anew: one of all groups, or by other label columns.

Figures of R 4.6 with emmeans 2.0.4, lme4 2.1.0 and pbkrtest 0.5.5, on nlme's Oats:

    m <- lmer(yield ~ V * N + (1 | B/V), Oats,
              control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-13)))
    p <- pairs(emmeans(m, ~ V | N))
    summary(p, by = NULL, adjust = "holm", infer = TRUE)         # and sidak, scheffe, mvt
    summary(p, by = "contrast", adjust = "scheffe", infer = TRUE)
    summary(emmeans(m, ~ V | N), by = NULL, adjust = "bonferroni", infer = TRUE)
"""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import OptionError

ROWS = [0, 2, 5]
P_OF_ALL = {
    "holm": [1.0, 1.0, 0.7432680047],
    "sidak": [0.9997426692, 0.8090846752, 0.5357274961],
    "scheffe": [0.9998536041, 0.9584259986, 0.8676570876],
    "mvt": [0.994357, 0.659324, 0.408907],
}
LOWER_OF_ALL = {
    "holm": [-36.78070217, -14.94736884, -11.28070217],
    "sidak": [-36.69157162, -14.85823829, -11.19157162],
    "scheffe": [-48.00744794, -26.17411461, -22.50744794],
    "mvt": [-35.911, -14.078, -10.411],
}


@pytest.fixture(scope="module")
def means():
    return lmm("Y ~ V*N + (1|B/V)", datasets.load("oats")).emmeans("~ V | N")


@pytest.mark.parametrize("adjust", list(P_OF_ALL))
def test_one_family_of_all_groups(means, adjust):
    table = means.pairs().with_options(by=None, adjust=adjust)
    rtol = 5e-4 if adjust == "mvt" else 2e-6  # R's mvt is of random points
    np.testing.assert_allclose(table.p[ROWS], P_OF_ALL[adjust], rtol=rtol)
    critical = (table.estimate[ROWS] - LOWER_OF_ALL[adjust]) / table.se[ROWS]
    np.testing.assert_allclose((table.estimate - table.lower)[ROWS] / table.se[ROWS], critical, rtol=2 * rtol)
    assert table.by == () and "N" in table.to_frame()


def test_families_by_another_column(means):
    table = means.pairs().with_options(by="contrast", adjust="scheffe")
    np.testing.assert_allclose(table.lower[ROWS[::2]], [-38.5167172621, -13.0167172621], rtol=2e-6)
    assert any("rank 4" in note for note in table.notes)


def test_limits_of_means_in_one_family(means):
    table = means.with_options(by=None, adjust="bonferroni")
    want = [49.6210056032, 68.1210056032, 59.2876722698]
    np.testing.assert_allclose(table.lower[[0, 3, 5]], want, rtol=2e-6)


def test_pairs_of_several_sets_are_no_set_of_pairs(means):
    pairs = means.pairs()
    assert pairs.adjust == "tukey" and pairs.with_options(by="N").adjust == "tukey"
    joined = pairs.with_options(by=None)
    assert joined.adjust == "sidak"
    assert any("tukey" in note for note in joined.notes)
    assert means.pairs().with_options(by="contrast").adjust == "sidak"


def test_an_unknown_column_is_named(means):
    with pytest.raises(OptionError, match="'B' is not a label column"):
        means.pairs().with_options(by="B")


def test_pairs_reversed(means):
    reverse, named = means.pairs(reverse=True), means.contrast("revpairwise")
    assert reverse.labels.equals(named.labels) and reverse.adjust == "tukey"
    np.testing.assert_array_equal(reverse.estimate, named.estimate)
