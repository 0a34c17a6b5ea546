"""Wrong input at the API: an error under one root that names what is wrong and what would be right."""

import numpy as np
import pandas as pd
import pytest
from random_designs import case, fit_of

from fastlmm_core import compare, datasets, errors, lmm, prepare
from fastlmm_core.errors import (
    DataError,
    DesignError,
    FastLMMError,
    FormulaError,
    InferenceError,
    OptionError,
)


@pytest.fixture
def data():
    return case("crossed").data.copy()


def test_one_root():
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    raised = [k for k in kinds if not issubclass(k, Warning)]
    assert len(raised) >= 7
    assert all(issubclass(k, FastLMMError) for k in raised)
    assert len({k.code for k in raised}) == len(raised)
    flags = [k.flag for k in kinds if issubclass(k, errors.FastLMMWarning)]
    assert len(set(flags)) == len(flags)


def refuses(kind, match, formula="y ~ t + (1|g)", *, data, **options):
    with pytest.raises(kind, match=match) as caught:
        lmm(formula, data, **options)
    assert isinstance(caught.value, FastLMMError)
    return str(caught.value)


@pytest.mark.parametrize("formula", ["y ~ tt + (1|g)", "y ~ t + (1|gg)", "yy ~ t + (1|g)", "y ~ t + (tt|g)"])
def test_unknown_columns_name_the_nearest(data, formula):
    message = refuses((DataError, FormulaError), "tt|gg|yy", formula, data=data)
    assert any(f"'{near}'" in message for near in "tgy")


def test_formulas_that_do_not_parse(data):
    for formula in ("y ~ t + (1|g", "y ~ t +* x", "y t", "y ~ ~ t", ""):
        with pytest.raises(FormulaError) as caught:
            lmm(formula, data)
        assert caught.value.position is not None or "'~'" in str(caught.value)


def test_no_rows(data):
    refuses(DataError, "no rows", data=data.iloc[:0])
    refuses(DataError, "missing", data=data.assign(y=np.nan))


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_response(data, bad):
    data.loc[4, "y"] = bad
    refuses(DataError, "infinite", data=data)


def test_response_of_labels(data):
    refuses(DataError, "y", data=data.assign(y="a"))
    refuses(DataError, "complex", data=data.assign(y=data["y"] + 1j))


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_weights_that_are_not_positive(data, bad):
    data["w"] = 1.0
    data.loc[3, "w"] = bad
    refuses(DataError, "w", data=data, weights="w")
    refuses(DataError, "weights", data=data, weights=data["w"].to_numpy())


def test_weights_of_wrong_kind(data):
    refuses(DataError, "nowhere", data=data, weights="nowhere")
    refuses(DataError, "239|240", data=data, weights=np.ones(239))
    missing = np.ones(240)
    missing[2] = np.nan
    try:  # a row without weight is dropped like any row with a missing value, or refused by name
        fit = lmm("y ~ t + (1|g)", data, weights=missing)
    except DataError as error:
        assert "weights" in str(error)
    else:
        assert fit.n_dropped == 1


def test_grouping_factors_that_cannot_be_fitted(data):
    refuses(DesignError, "one level|1 level|only the level", "y ~ t + (1|one)", data=data.assign(one="a"))
    message = refuses(
        DesignError, "each", "y ~ t + (1|each)", data=data.assign(each=np.arange(240).astype(str))
    )
    assert "residual" in message
    data["pair"] = (np.arange(240) // 2).astype(str)
    refuses(DesignError, "pair", "y ~ x + (1 + x|pair)", data=data.assign(x=np.arange(240.0)))


def test_more_columns_than_rows(data):
    refuses(DesignError, "observations", "y ~ u", data=data.iloc[:6].assign(u=list("abcdef")))


def test_columns_of_unusable_kinds(data):
    refuses(DataError, "t", data=data.assign(t=[object() for _ in range(240)]))
    refuses(DataError, "x", "y ~ x + (1|g)", data=data.assign(x=1j))
    refuses(DataError, "'t'", data=pd.concat([data, data[["t"]]], axis=1))


@pytest.mark.parametrize("value", ["REML", None, 1, "yes"])
def test_reml_is_true_or_false(data, value):
    refuses(OptionError, "True, False", data=data, reml=value)


def test_response_of_a_prepared_model(data):
    prepared = prepare("y ~ t + (1|g)", data)
    for bad, match in (
        (np.ones(239), "239"), (np.full(240, np.nan), "missing"),
        (np.append(np.inf, np.ones(239)), "infinite"),
        (["a"] * 240, "numeric"), (np.ones((240, 1)), "shape"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=match):
            prepared.fit(y=bad)
    empty = prepare("y ~ t + (1|g)", data.drop(columns="y"), response=False)
    with pytest.raises(DataError, match="y="):
        empty.fit()
    np.testing.assert_allclose(
        empty.fit(y=data["y"]).criterion, lmm("y ~ t + (1|g)", data).criterion, rtol=1e-12
    )


def test_methods_of_inference():
    fit = fit_of("crossed")
    for call in (fit.fixed_effects, fit.anova, lambda **o: fit.linear_functions(np.eye(3), **o)):
        with pytest.raises(OptionError, match="'kenward-roger', 'satterthwaite', 'residual', 'asymptotic'"):
            call(ddf="kr")
        with pytest.raises(OptionError, match="'expected', 'observed', 'average'"):
            call(information="hessian")
    with pytest.raises(OptionError, match="allowed: 1"):
        fit.anova(type=4)
    with pytest.raises(OptionError):
        fit.anova(type="III")


def test_kenward_roger_needs_reml():
    fit = fit_of("crossed", False)
    for call in (fit.fixed_effects, fit.anova):
        with pytest.raises(InferenceError, match="reml=True"):
            call(ddf="kenward-roger")
    with pytest.raises(InferenceError, match="reml=True"):
        fit.emmeans("t", ddf="kenward-roger")
    assert set(fit.fixed_effects()["ddf"]) == {"satterthwaite"}


def test_new_rows(data):
    fit = fit_of("crossed")
    with pytest.raises(DataError, match="'t'"):
        fit.predict(data[["g", "l"]])
    with pytest.raises(DataError, match="'g'"):
        fit.predict(data[["t", "l"]])
    unknown = data.iloc[:2].assign(t="T999")
    with pytest.raises(DataError, match="T999"):
        fit.predict(unknown)
    with pytest.raises(DataError, match="'g'"):
        fit.predict(data.iloc[:2].assign(g="nobody"))
    assert np.isfinite(fit.predict(data.iloc[:2].assign(g="nobody"), random=False)).all()


def test_means_of_what_is_no_factor():
    fit = fit_of("nested")
    with pytest.raises(FastLMMError, match="x"):
        fit.emmeans("x_")
    with pytest.raises(FastLMMError, match="rep"):
        fit.emmeans("rep")


def test_random_term_within_the_fixed_part(data):
    """Its variance is not in the data: no df follow from it, and no error of effects that hold it."""
    fit = lmm("y ~ t * l + (1|g) + (1|l)", data)
    for ddf in ("kenward-roger", "satterthwaite"):
        with pytest.raises(InferenceError, match=r"'l' cannot be estimated.*fixed part"):
            fit.fixed_effects(ddf=ddf)
    error = fit.fixed_effects(ddf="residual").set_index("term")["se"]
    without = lmm("y ~ t * l + (1|g)", data).fixed_effects(ddf="residual").set_index("term")["se"]
    of_l = [term == "(Intercept)" or ("l" in term and ":" not in term) for term in error.index]
    assert error[of_l].isna().all() and 1 < sum(of_l) < len(error)
    np.testing.assert_allclose(error[np.invert(of_l)], without[np.invert(of_l)], rtol=1e-6)


# ------------------------------------------------------------------ comparing fits
def test_likelihood_ratio(data):
    small, large = (lmm(f, data, reml=False) for f in ("y ~ 1 + (1|g) + (1|l)", "y ~ t + (1|g) + (1|l)"))
    table = compare(large, small)  # any order
    chisq = small.criterion - large.criterion
    np.testing.assert_allclose(table["chisq"].iloc[1], chisq, rtol=1e-12)
    assert table["df"].iloc[1] == 2
    from scipy.stats import chi2

    np.testing.assert_allclose(table["p"].iloc[1], chi2.sf(chisq, 2), rtol=1e-9)
    assert np.isnan(table["p"].iloc[0])


def test_reml_fits_compare_with_the_same_fixed_part_only(data):
    one, two = lmm("y ~ t + (1|g)", data), fit_of("crossed")
    table = compare(one, two)
    assert table["df"].iloc[1] == 1
    assert table["chisq"].iloc[1] > 0
    with pytest.raises(OptionError, match="reml=False"):
        compare(lmm("y ~ 1 + (1|g) + (1|l)", data), two)
    # the same space in other columns is the same fixed part
    recoded = lmm("y ~ 0 + t + (1|g) + (1|l)", data)
    np.testing.assert_allclose(recoded.fitted, two.fitted, rtol=1e-6)
    with pytest.raises(OptionError, match="reml=False"):
        compare(two, fit_of("crossed", False))


def test_reml_criteria_of_recoded_fixed_parts(data):
    """log |X'X| depends on the coding and the criterion on lme4's scale with it; the test must not."""
    plain, two = lmm("y ~ t + (1|g)", data), fit_of("crossed")
    recoded = lmm("y ~ t + (1|g)", data, contrasts={"t": "contr.sum"})
    assert abs(recoded.criterion - plain.criterion) > 0.1
    try:
        table = compare(recoded, two)
    except OptionError:
        return
    np.testing.assert_allclose(table["chisq"].iloc[1], compare(plain, two)["chisq"].iloc[1], rtol=1e-6)


def test_fits_of_other_observations(data):
    with pytest.raises(DesignError, match="observations"):
        compare(fit_of("crossed", False), lmm("y ~ 1 + (1|g)", data.iloc[:200], reml=False))
    with pytest.raises(DesignError, match="observations"):
        compare(fit_of("crossed", False), lmm("y ~ 1 + (1|g)", data.assign(y=data["y"] + 1), reml=False))
    with pytest.raises(OptionError, match="two fits"):
        compare(fit_of("crossed"))


def test_a_linear_model_compares_with_ml_fits(data):
    table = compare(lmm("y ~ t", data), lmm("y ~ t + (1|g)", data, reml=False))
    assert table["df"].iloc[1] == 1
    with pytest.raises(OptionError, match="reml=False"):
        compare(lmm("y ~ t", data), lmm("y ~ t + (1|g)", data))


def test_shipped_data_are_not_changed_by_fitting():
    data = datasets.load("sleepstudy")
    before = data.copy()
    lmm("Reaction ~ Days + (Days|Subject)", data)
    pd.testing.assert_frame_equal(data, before)
