"""Joint tests of the rows of a table.

Figures of R 4.6 with emmeans 2.0.4 on nlme's Oats without the cell (Victory, 0.2 cwt):

    g <- lm(yield ~ V * N + B, Oats[...])
    test(contrast(emmeans(g, ~ N | V), list(q = c(1, -1, -1, 1), c = c(-1, 3, -3, 1))), joint = TRUE)
    test(pairs(emmeans(g, ~ N | V)), joint = TRUE)
    test(emmeans(g, ~ N | V), joint = TRUE)
"""

import warnings

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import OptionError

CURVE = {"quadratic": [1, -1, -1, 1], "cubic": [-1, 3, -3, 1]}


def oats(empty=True):
    data = datasets.load("oats")
    return data[~((data["V"] == "Victory") & (data["N"] == "N0.2cwt"))] if empty else data


@pytest.fixture(scope="module")
def means():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmm("Y ~ V*N + B", oats()).emmeans("~ N | V")


def test_contrasts_within_groups(means):
    found = means.contrast(CURVE).joint_test().to_frame()
    assert list(found["df_num"]) == [2, 2, 1] and list(found["status"]) == ["ok", "ok", "part"]
    np.testing.assert_allclose(found["F"], [0.204, 0.532, 0.931], atol=5e-4)
    np.testing.assert_allclose(found["p"], [0.8161220316, 0.5905988580, 0.3392634406], rtol=1e-8)


def test_dependent_rows_count_once(means):
    found = means.pairs().joint_test().to_frame()
    assert list(found["df_num"]) == [3, 3, 2] and set(found["df_den"]) == {50.0}
    np.testing.assert_allclose(found["p"], [9.587235013e-05, 7.263048554e-04, 1.160934091e-05], rtol=1e-8)


def test_means_themselves(means):
    found = means.joint_test().to_frame()
    assert list(found["df_num"]) == [4, 4, 3]
    np.testing.assert_allclose(found["F"], [253.614, 277.735, 237.119], atol=5e-4)


def test_the_test_of_a_term_with_kenward_roger():
    fit = lmm("Y ~ V*N + (1|B/V)", oats(empty=False))
    term = fit.anova().set_index("term").loc["N"]
    found = fit.emmeans("N").pairs().joint_test().to_frame().iloc[0]
    for name in ("df_num", "df_den", "F", "p"):
        assert found[name] == pytest.approx(term[name], rel=1e-9)


def test_the_offset_is_part_of_means_and_cancels_in_contrasts():
    data = oats(empty=False)
    more, five = data.assign(Y=data["Y"] + 5.0), np.full(len(data), 5.0)
    plain, raised = (lmm("Y ~ V*N + (1|B)", table).emmeans("V") for table in (data, more))
    offset = lmm("Y ~ V*N + (1|B)", more, offset=five).emmeans("V")

    def figure(table):
        return table.joint_test().to_frame()["F"][0]

    assert figure(offset.pairs()) == pytest.approx(figure(plain.pairs()))
    assert figure(offset) == pytest.approx(figure(raised)) != pytest.approx(figure(plain))


def test_rows_that_cancel_are_no_test():
    additive = lmm("Y ~ V + N + (1|B)", oats(empty=False)).emmeans("~ V * N")
    found = additive.contrast(interaction="consec").joint_test().to_frame().iloc[0]
    assert found["df_num"] == 0 and np.isnan(found["F"]) and found["status"] == "nothing to test"


def test_simple_each_says_what_to_ask_for(means):
    with pytest.raises(OptionError, match="simple='N', simple='V'"):
        means.contrast("pairwise", simple="each")


@pytest.mark.parametrize(("option", "words"), [("exclude", "emmeans\\(..., at="), ("offset", "test\\(null=")])
def test_options_of_emmeans_that_contrasts_do_not_have(means, option, words):
    with pytest.raises(OptionError, match=f"takes no option '{option}'; here: .*{words}"):
        means.contrast("trt.vs.ctrl", **{option: 1})
