"""Visits and arms whose rows the fixed part explains, or that do not occur: their residual is not told."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import compare, lmm, prepare
from fastlmm_core.engine.search.starting_values import starting_values
from fastlmm_core.errors import ConfoundedWarning

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.RankDeficientWarning")


def visits(seed=1, n=24, seen=0.85):
    """`n` subjects in two arms at three visits, some of them missed."""
    rng = np.random.default_rng(seed)
    rows = [(f"s{i}", "ab"[i % 2], v, 10 + v + b + rng.normal())
            for i in range(n) for b in [rng.normal()] for v in (1, 2, 3) if rng.random() < seen]  # fmt: skip
    return pd.DataFrame(rows, columns=["s", "arm", "v", "y"])


def with_rows(data, *rows):
    return pd.concat([data, pd.DataFrame(rows, columns=data.columns)], ignore_index=True)


@pytest.mark.parametrize("structure", ["diag", "us", "hetar1", "cs"])
def test_a_visit_of_one_subject_leaves_the_others_alone(structure):
    data = visits()
    without = lmm("y ~ factor(v)", data, residual=f"{structure}(v | s)")
    with pytest.warns(ConfoundedWarning, match="explains the rows of '4' by themselves"):
        fit = lmm("y ~ factor(v)", with_rows(data, ("z", "a", 4, 14.0)), residual=f"{structure}(v | s)")
    assert fit.criterion == pytest.approx(without.criterion, abs=1e-6)
    for ddf in ("kenward-roger", "satterthwaite"):
        means, alone = (f.emmeans("v", ddf=ddf).to_frame().set_index("v") for f in (fit, without))
        np.testing.assert_allclose(means.loc[alone.index, ["se", "df"]], alone[["se", "df"]], rtol=1e-4)
        assert np.isnan(means["se"].iloc[-1])
    assert np.isnan(fit.anova()["F"][0]) and fit.npar == without.npar + 1  # a fixed effect more


@pytest.mark.parametrize("structure", ["homcs", "ar1"])
def test_one_variance_of_all_visits_is_told_by_the_others(structure):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfoundedWarning)
        fit = lmm("y ~ factor(v)", with_rows(visits(), ("z", "a", 4, 14.0)), residual=f"{structure}(v | s)")
    means = fit.emmeans("v").to_frame()
    assert (means["se"] > 0.0).all() and (means["df"] > 10.0).all()


@pytest.mark.parametrize("structure", ["homcs", "diag", "ar1"])
def test_an_arm_of_one_subject_leaves_the_others_alone(structure):
    """Fixed arms times visits explain its rows."""
    data = visits(seen=1.0)
    one = with_rows(data, *(("z", "c", v, 9.0 + v * v) for v in (1, 2, 3)))
    without = lmm("y ~ arm*factor(v)", data, residual=f"{structure}(v | s) | arm")
    with pytest.warns(ConfoundedWarning, match="explains the rows of 'c' by themselves"):
        fit = lmm("y ~ arm*factor(v)", one, residual=f"{structure}(v | s) | arm")
    means, alone = (f.emmeans("arm").to_frame().set_index("arm") for f in (fit, without))
    np.testing.assert_allclose(means.loc[["a", "b"], ["se", "df"]], alone[["se", "df"]], rtol=1e-4)
    assert np.isnan(means.loc["c", "se"])


def test_an_arm_of_one_row_begins_somewhere():
    """Its moments are zero."""
    one = with_rows(visits(seen=1.0), ("z", "c", 1, 9.0))
    with pytest.warns(ConfoundedWarning, match="'c'"):
        fit = lmm("y ~ arm + factor(v)", one, residual="us(v | s) | arm")
    means = fit.emmeans("arm").to_frame().set_index("arm")
    alone = lmm("y ~ arm + factor(v)", visits(seen=1.0), residual="us(v | s) | arm").emmeans("arm").to_frame()
    np.testing.assert_allclose(means.loc[["a", "b"], "se"], alone["se"], rtol=1e-4)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
def test_visits_that_do_not_occur_in_an_arm_are_no_parameters():
    """The arms by themselves have the same criterion, and the parameters are the sum of theirs."""
    data = visits(n=40, seen=1.0)
    data = data[(data["arm"] == "a") | (data["v"] < 3)]
    het, us = (lmm("y ~ arm*factor(v)", data, residual=f"{r}(v | s) | arm") for r in ("hetar1", "us"))
    arms = {arm: lmm("y ~ factor(v)", own, residual="us(v | s)") for arm, own in data.groupby("arm")}
    assert us.npar == sum(fit.npar for fit in arms.values()) == (3 + 6) + (2 + 3)
    assert us.criterion == pytest.approx(sum(fit.criterion for fit in arms.values()), abs=1e-6)
    assert compare(het, us)["df"][1] == us.npar - het.npar == (6 + 3) - (4 + 3)
    table = het.conf_int("wald").set_index("parameter")
    assert np.isnan(table.loc["Residual b: variance of 3", "lower"])
    assert any("no rows of '3 in b'" in str(w) for w in het.warnings)


@pytest.mark.parametrize("structure", ["diag", "us", "hetar1", "cs", "toep"])
@pytest.mark.parametrize("arms", ["", " | arm"])
def test_rounding_of_what_the_fixed_part_explains_begins_where_zero_does(structure, arms):
    """Which of the two is left of it is a matter of the processor."""
    one = with_rows(visits(seen=1.0), *(("z", "c", v, 9.0) for v in (1, 2, 4)))
    equations = prepare("y ~ arm*factor(v)", one, residual=f"{structure}(v | s){arms}").equations
    alone = one["arm"].eq("c") if arms else one["v"].eq(4)
    e = np.where(alone, 0.0, np.random.default_rng(3).normal(size=len(one)))
    rounding = np.where(alone, [1e-15, -2e-15, 1.5e-15] * (len(one) // 3), e)
    starts = [starting_values(equations.for_response(own), own) for own in (e, rounding)]
    np.testing.assert_array_equal(*starts)
    least = [equations.for_response(own).residual.least for own in (e, rounding)]
    np.testing.assert_array_equal(*least)


def one_late_row(seed):
    """Four visits of all subjects, a fifth of one of them."""
    rng = np.random.default_rng(seed)
    subject, visit = np.divmod(np.arange(60), 5)
    y = rng.normal(size=12)[subject] + rng.normal(size=60) * (1 + 0.2 * visit)
    table = pd.DataFrame({"s": "s" + pd.Series(subject).astype(str), "v": "v" + pd.Series(visit).astype(str)})
    table = table.assign(time=visit.astype(float), y=y)
    return table[(visit < 4) | (subject == 3)]


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
@pytest.mark.parametrize("structure", ["diag", "hetar1", "cs"])
def test_a_visit_with_a_single_row_is_named(structure):
    """Its variance was 0.02 where the others are 1 to 4, and nothing was said."""
    fit = lmm("y ~ 1", one_late_row(0), residual=f"{structure}(v | s)")
    assert fit.converged and not fit.singular
    assert [w.flag for w in fit.warnings] == ["confounded"]
    assert "the residual variance of 'v4' rests on a single row" in str(fit.warnings[0])


@pytest.mark.parametrize("structure", ["ar1", "homcs", "homdiag"])
def test_a_visit_that_shares_its_variance_is_none_of_these(structure):
    assert not lmm("y ~ 1", one_late_row(0), residual=f"{structure}(v | s)").warnings


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
def test_a_visit_that_the_fixed_part_explains_is_named_once():
    fit = lmm("y ~ v", one_late_row(0), residual="diag(v | s)")
    assert len(fit.warnings) == 1 and "by themselves" in str(fit.warnings[0])


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConfoundedWarning")
def test_a_group_of_one_row_is_named_unless_it_is_held():
    table = one_late_row(0)
    fit = lmm("y ~ 1", table, residual="units | v")
    assert "the residual variance of 'v4' rests on a single row" in str(fit.warnings[0])
    assert not lmm("y ~ 1", table, residual="units | v", fixed_parameters={"Residual": {"v4": 1.0}}).warnings
