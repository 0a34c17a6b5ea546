"""Contrasts that are zero whatever the coefficients: rounding is no estimate, and its error no error.

R's emmeans 2.0.4 gives 0, SE 0, limits 0 and no df for such rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastlmm_core import datasets, lmm

ARMS = np.repeat(["x", "y"], 90)


@pytest.fixture(scope="module")
def additive():
    return lmm("Y ~ V + N + (1|B/V)", datasets.load("oats"))


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
@pytest.mark.parametrize("families", [["pairwise", "poly"], ["eff", "helmert"], ["consec", "trt.vs.ctrl"]])
def test_interactions_of_an_additive_model_are_zero(additive, ddf, families):
    table = additive.emmeans("~ V*N", ddf=ddf).contrast(interaction=families)
    for figure in (table.estimate, table.se, table.lower, table.upper):
        np.testing.assert_array_equal(figure, 0.0)
    for figure in (table.df, table.t, table.p):
        assert np.isnan(figure).all()
    one_sided = table.test(side=">").to_frame()
    np.testing.assert_array_equal(one_sided["lower"], 0.0)


def test_slopes_of_a_common_line_do_not_differ():
    fit = lmm("Reaction ~ Days + (1|Subject)", datasets.load("sleepstudy").assign(arm=ARMS))
    common = lmm("Reaction ~ arm + Days + (1|Subject)", datasets.load("sleepstudy").assign(arm=ARMS))
    pair = common.emtrends("arm", "Days").pairs()
    assert pair.estimate[0] == pair.se[0] == pair.lower[0] == pair.upper[0] == 0.0
    assert fit.emtrends("~ 1", "Days").se[0] > 0.0


def test_what_does_not_cancel_stays(additive):
    """Differences of N within V are those of N, to the digits of their variance."""
    within = additive.emmeans("~ N | V").pairs()
    alone = additive.emmeans("N").pairs()
    np.testing.assert_allclose(within.se[:6], alone.se, rtol=1e-10)
    np.testing.assert_allclose(within.df[:6], alone.df, rtol=1e-8)
