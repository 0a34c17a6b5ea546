"""A name means the column: constants, functions and operators as names, in every door."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm, load
from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError, DesignError, FastLMMError, FormulaError, OptionError
from fastlmm_core.formula.functions import FUNCTIONS, columns_read
from fastlmm_core.formula.parsing import bind_formula, parse_formula


@pytest.fixture(scope="module")
def plots():
    """Plots whose columns have plain names; the tests give them other ones."""
    rng = np.random.default_rng(11)
    n = 96
    table = pd.DataFrame({
        "block": rng.integers(0, 8, n).astype(str), "gen": np.tile(list("abcd"), n // 4),
        "x": rng.uniform(1.0, 4.0, n), "z": rng.normal(size=n), "trial": np.repeat(["u", "v"], n // 2),
    })  # fmt: skip
    own = np.random.default_rng(12).normal(size=(2, 8))
    u = own[(table["trial"] == "v").astype(int), table["block"].astype(int)]
    table["y"] = 5 + np.log(table["x"]) + (table["gen"] == "b") + u + rng.normal(0, 0.4, n)
    return table


CONSTANT_NAMES = ["T", "F", "pi", "TRUE", "FALSE", "Inf", "NA", "NULL"]
OTHER_NAMES = ["log", "I", "poly", "c", "factor", "mean", "offset", "bs"]


@pytest.mark.parametrize("name", CONSTANT_NAMES + OTHER_NAMES)
def test_a_covariate_may_be_named_like_a_constant_or_function(plots, name):
    own, plain = plots.rename(columns={"x": name}), plots
    fit = lmm(f"y ~ gen*log({name}) + (1|block)", own)
    same = lmm("y ~ gen*log(x) + (1|block)", plain)
    np.testing.assert_allclose(fit.beta, same.beta, rtol=1e-10)
    for a, b in (
        (fit.emmeans("gen"), same.emmeans("gen")),
        (fit.emmeans("gen", at={name: [1.5]}), same.emmeans("gen", at={"x": [1.5]})),
        (fit.emtrends("gen", name), same.emtrends("gen", "x")),
    ):
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-9)
    tests, expected = fit.joint_tests(), same.joint_tests()
    assert tests["term"].tolist() == [t.replace("x", name) for t in expected["term"]]
    np.testing.assert_allclose(tests["F"], expected["F"], rtol=1e-7)


@pytest.mark.parametrize("name", CONSTANT_NAMES)
def test_a_factor_a_response_and_a_group_may_be_named_so(plots, name):
    fit = lmm(f"y ~ {name}*x + (1|block)", plots.rename(columns={"gen": name}))
    same = lmm("y ~ gen*x + (1|block)", plots)
    np.testing.assert_allclose(fit.emmeans(name).estimate, same.emmeans("gen").estimate, rtol=1e-10)
    group = lmm(f"y ~ x + (1|{name})", plots.rename(columns={"block": name}))
    assert group.criterion == pytest.approx(lmm("y ~ x + (1|block)", plots).criterion, rel=1e-12)
    scale = lmm(f"log({name}) ~ gen + (1|block)", plots.rename(columns={"y": name}))
    means, expected = (f.emmeans("gen").regrid() for f in (scale, lmm("log(y) ~ gen + (1|block)", plots)))
    np.testing.assert_allclose(means.estimate, expected.estimate, rtol=1e-10)


def test_a_constant_is_a_constant_where_no_column_has_its_name(plots):
    fit, same = lmm("y ~ I(x*pi) + I(z > T)", plots), lmm("y ~ I(x*3.141592653589793) + I(z > 1)", plots)
    np.testing.assert_allclose(fit.beta, same.beta, rtol=1e-10)
    with pytest.raises(FormulaError, match="column 'pi' is not in the data"):
        lmm("y ~ pi", plots)
    with pytest.raises(FormulaError, match="column 'T' is not in the data"):
        lmm("y ~ log(`T`)", plots)
    scaled = lmm("I(pi*y) ~ gen", plots).emmeans("gen").regrid()
    np.testing.assert_allclose(scaled.estimate, lmm("y ~ gen", plots).emmeans("gen").estimate, rtol=1e-10)


@pytest.mark.parametrize("name", ["T", "pi", "FALSE"])
def test_missing_values_of_such_a_column_drop_their_rows(plots, name):
    own = plots.rename(columns={"x": name})
    own.loc[[3, 40, 41], name] = np.nan
    fit = lmm(f"y ~ gen + I({name} > 2) + log({name}) + (1|block)", own)
    assert (fit.nobs, fit.n_dropped) == (93, 3)


@pytest.mark.parametrize("name", ["T", "F", "pi", "TRUE", "log"])
@pytest.mark.parametrize("response", ["y", "log(y)"])
def test_batches_read_such_columns_on_both_paths(plots, name, response, tmp_path):
    own = plots.rename(columns={"x": name})
    own.loc[5, name] = np.nan
    path = tmp_path / "table.csv"
    own.to_csv(path, index=False)
    for formula in (
        f"{response} ~ gen + log({name}) + (1|block)",
        f"{response} ~ gen + scale({name}) + (1|block)",
    ):
        for source in (own, path):
            found = fit_batch(source, formula, by="trial", emmeans="gen", progress=False)
            assert found.fits["status"].tolist() == ["ok", "ok"]
            for trial, part in own.groupby("trial"):
                fit = lmm(formula, part)
                row = found.fits[found.fits["trial"] == trial].iloc[0]
                assert (row["n"], row["criterion"]) == (fit.nobs, pytest.approx(fit.criterion, rel=1e-8))
                means = found.emmeans[found.emmeans["trial"] == trial]
                np.testing.assert_allclose(means["estimate"], fit.emmeans("gen").estimate, rtol=1e-7)


def test_a_batch_without_such_a_column_takes_the_constant(plots):
    found = fit_batch(plots, "y ~ I(x*pi) + (1|block)", by="trial", progress=False)
    alone = lmm("y ~ I(x*pi) + (1|block)", plots[plots["trial"] == "u"])
    assert found.fits["criterion"].iloc[0] == pytest.approx(alone.criterion, rel=1e-8)


def test_one_function_says_which_columns_are_read(plots):
    formula = parse_formula(
        "y ~ log(T, base = F) + C(gen, contr.sum) + ifelse(x > pi, z, NA) + bs(z, knots = c(T, 2))"
    )
    bound = bind_formula(formula, ["y", "T", "gen", "x", "z"])
    names = [name.name for node in bound.expressions for name in columns_read(node)]
    assert names == ["T", "gen", "x", "z", "z"]


# ------------------------------------------------------------------ backticks
ODD = ["a b", "x+z", "a*b", "p:q", "u|v", "l~r", "1st", "log(x)", "gewächs höhe", "n.°"]


@pytest.mark.parametrize("name", ODD)
def test_names_in_backticks_work_everywhere_and_are_shown_without(plots, name):
    own, quoted = plots.rename(columns={"gen": name, "block": f"{name}2"}), f"`{name}`"
    fit = lmm(f"y ~ {quoted}*x + (1|`{name}2`)", own)
    same = lmm("y ~ gen*x + (1|block)", plots)
    assert fit.coef_names == tuple(text.replace("gen", name) for text in same.coef_names)
    assert fit.anova()["term"].tolist() == [t.replace("gen", name) for t in same.anova()["term"]]
    assert [term.group for term in fit.design.random] == [f"{name}2"]
    expected = same.emmeans("gen")
    for specs in (quoted, f"~ {quoted}", [name], [quoted]):
        table = fit.emmeans(specs)
        assert list(table.labels.columns) == [name]
        np.testing.assert_allclose(table.estimate, expected.estimate, rtol=1e-10)
    by = fit.emmeans(f"~ x | {quoted}", at={"x": [1, 2]})
    assert by.by == (name,)
    np.testing.assert_allclose(fit.emmeans("x", by=quoted, at={"x": [1, 2]}).estimate, by.estimate)
    for group in (f"{name}2", f"`{name}2`"):
        np.testing.assert_allclose(fit.predict(own, random=group), same.predict(plots), rtol=1e-8)
        assert len(fit.blups(group)) == 8
    sums = lmm(f"y ~ {quoted} + (1|`{name}2`)", own, contrasts={name: "contr.sum"})
    np.testing.assert_allclose(
        sums.beta[0], expected.estimate.mean() + sums.beta[0] - expected.estimate.mean()
    )


def test_backticks_in_batches(plots):
    own = plots.rename(columns={"gen": "g:n", "x": "x+1"})
    for formula in ("y ~ `g:n`*`x+1` + (1|block)", "y ~ `g:n`*scale(`x+1`) + (1|block)"):
        found = fit_batch(own, formula, by="trial", emmeans="`g:n`", blups="block", progress=False)
        fit = lmm(formula, own[own["trial"] == "u"])
        part = found.fixed[found.fixed["trial"] == "u"]
        assert part["term"].tolist() == list(fit.coef_names)
        np.testing.assert_allclose(part["estimate"], fit.beta, rtol=1e-6)
        assert "g:n" in found.emmeans.columns


# ------------------------------------------------------------- closed calls
@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ log(x, where = x > 2)", "'log' has no argument 'where'; it takes 'x', 'base'"),
        ("y ~ exp(x, out = y)", "'exp' has no argument 'out'"),
        ("y ~ np.exp(x, dtype = z)", "'np.exp' has no argument 'dtype'"),
        ("y ~ sqrt(x, z)", "'sqrt' takes at most 1 argument"),
        ("y ~ abs(x, casting = 'unsafe')", "'abs' has no argument 'casting'"),
        ("y ~ factor(gen, level = c('a', 'b'))", "'factor' has no argument 'level'"),
        ("y ~ C(gen, contr.sum, foo = 2)", "'C' has no argument 'foo'"),
        ("y ~ poly(x, 2, simple = TRUE)", "'poly' has no argument 'simple'"),
        ("y ~ scale(x, centre = FALSE)", "'scale' has no argument 'centre'"),
        ("y ~ bs(x, df = z)", "df = z of 'bs' must be a constant"),
        ("y ~ log(x, x = z)", "at most|given twice|no argument|must be a constant"),
        ("y ~ ifelse(x > 2, 1)", "'ifelse' needs the argument 'no'"),
        ("y ~ factor(gen, levels = levels(gen))", "must be a constant"),
        ("log(y, out = y) ~ x", "'log' has no argument 'out'"),
        ("y ~ x + offset(log(x, where = z))", "'log' has no argument 'where'"),
        ("y ~ x + (1|factor(block, nope = 1))", "'factor' has no argument 'nope'"),
        ("y ~ I(log(x, subok = TRUE))", "'log' has no argument 'subok'"),
        ("y ~ c(x, z)", "function 'c' is not known"),
    ],
)
def test_arguments_that_a_function_does_not_take_are_refused(plots, formula, words):
    before = plots.copy()
    with pytest.raises(FormulaError, match=words):
        lmm(formula, plots)
    pd.testing.assert_frame_equal(plots, before)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_no_function_takes_an_argument_of_numpy(plots, function):
    for argument in ("out = y", "where = x > 2", "dtype = 'int'", "axis = 0", "foo = 1"):
        with pytest.raises(FormulaError, match=f"'{function}' has no argument"):
            build_design(f"y ~ {function}(x, {argument})", plots)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ bs(x, df = 2)", "df must be at least 3"),
        ("y ~ bs(x, df = 200)", "at most the 96 distinct values"),
        ("y ~ ns(x, knots = c(9, 12))", "between the boundary knots"),
        ("y ~ bs(x, degree = 2.5)", "degree must be a whole number"),
        ("y ~ bs(x, knots = c('a'))", "knots must be finite numbers"),
        ("y ~ bs(gen)", "needs numbers"),
        ("y ~ poly(x, 2.5)", "degree must be a whole number"),
        ("y ~ poly(x, 'a')", "degree must be a whole number"),
        ("y ~ cr(x, df = 1)", "gives no basis"),
        ("y ~ scale(x, center = 'a')", "center must be TRUE, FALSE or a number"),
        ("y ~ round(x, 'a')", "digits must be a finite number"),
        ("y ~ cut(x, 1)", "number of parts"),
        ("y ~ cut(x, c(1, 1, 2))", "different numbers"),
        ("y ~ factor(gen, levels = c('a', 'a'))", "'a' more than once"),
        ("y ~ factor(gen, labels = c('p', 'q'))", "has 2 labels for 4 levels"),
        ("y ~ factor(gen, levels = c('q', 'r'))", "all 96 rows have a missing value"),
        ("y ~ relevel(gen, ref = 'q')", "ref must be one of the levels"),
        ("y ~ dummy(gen, 'q')", "'q' is not a level"),
        ("y ~ I(gen + 1)", "needs numbers"),
        ("y ~ as.numeric(gen)", "convert the column"),
        ("y ~ C(gen, contr.treatment(base = 2, n = 3))", "has no argument 'n'"),
        ("y ~ C(gen, contr.sum(4))", "only contr.treatment takes one"),
        ("y ~ I(x - mean(z, na.rm = 'no')) + I(x - mean(w))", "write mean\\(w, na.rm = TRUE\\)"),
    ],
)
def test_wrong_settings_are_refused_in_our_words(plots, formula, words):
    table = plots.assign(w=plots["z"].where(plots["z"] > -1))
    with pytest.raises(FastLMMError, match=words):
        lmm(formula, table)


# ------------------------------------------------------------ ordered, dates
def test_ordered_categoricals_are_coded_by_polynomials(plots):
    levels = ["d", "b", "a", "c"]
    own = plots.assign(gen=pd.Categorical(plots["gen"], levels, ordered=True))
    text = "ordered(gen, levels = c('d', 'b', 'a', 'c'))"
    fit, same = lmm("y ~ gen*x + (1|block)", own), lmm(f"y ~ {text}*x + (1|block)", plots)
    assert fit.coef_names[1:4] == ("gen.L", "gen.Q", "gen.C")
    np.testing.assert_allclose(fit.beta, same.beta, rtol=1e-9)
    by_name = lmm("y ~ C(gen, contr.poly)*x + (1|block)", own)
    np.testing.assert_allclose(fit.beta, by_name.beta, rtol=1e-9)
    treated = lmm("y ~ gen*x + (1|block)", own, contrasts={"gen": "contr.treatment"})
    assert treated.coef_names[1:4] == ("genb", "gena", "genc")
    np.testing.assert_allclose(treated.emmeans("gen").estimate, fit.emmeans("gen").estimate, rtol=1e-9)
    unordered = lmm("y ~ gen*x + (1|block)", own.assign(gen=own["gen"].cat.as_unordered()))
    assert unordered.coef_names == treated.coef_names
    new = pd.DataFrame({"gen": ["a", "d"], "x": [2.0, 3.0], "block": ["1", "2"]})
    np.testing.assert_allclose(fit.predict(new), treated.predict(new), rtol=1e-7)
    places = lmm("y ~ as.numeric(gen) + (1|block)", own)
    by_hand = lmm("y ~ p + (1|block)", own.assign(p=own["gen"].cat.codes + 1.0))
    np.testing.assert_allclose(places.beta, by_hand.beta, rtol=1e-9)
    np.testing.assert_allclose(places.predict(new), by_hand.predict(new.assign(p=[3.0, 1.0])), rtol=1e-9)


def test_batches_code_ordered_factors_as_lmm_does(plots):
    own = plots.assign(gen=pd.Categorical(plots["gen"], ["d", "b", "a", "c"], ordered=True))
    gaps = plots.assign(w=plots["z"].where(plots["z"] > 0))
    for formula, table in (
        ("y ~ gen + (1|block)", own),
        ("y ~ ordered(gen, levels = c('d', 'b', 'a', 'c')) + (1|block)", plots),
        ("y ~ factor(gen, levels = c('c', 'b', 'a')) + (1|block)", plots),
        ("y ~ factor(gen, levels = c('c', 'b', 'a'), labels = c('C', 'B', 'A')) + (1|block)", plots),
        ("y ~ relevel(gen, ref = 'c') + (1|block)", plots),
        ("y ~ interaction(gen, half) + (1|block)", plots.assign(half=np.tile(list("ppppqqqq"), 12))),
        ("y ~ gen + ifelse(is.na(w), 0, w) + is.na(w) + (1|block)", gaps),
        ("y ~ gen + cut(x, c(0, 2, 3, 5)) + (1|block)", plots),
        ("y ~ gen + as.integer(x) + I(z - mean(z)) + (1|block)", plots),
    ):  # fmt: skip
        found = fit_batch(table, formula, by="trial", emmeans="gen", progress=False)
        for trial, part in table.groupby("trial"):
            fit = lmm(formula, part)
            fixed = found.fixed[found.fixed["trial"] == trial]
            assert fixed["term"].tolist() == list(fit.coef_names)
            np.testing.assert_allclose(fixed["estimate"], fit.beta, rtol=1e-6, atol=1e-9)
            means, rows = fit.emmeans("gen"), found.emmeans[found.emmeans["trial"] == trial]
            assert rows["gen"].tolist() == means.labels["gen"].tolist()
            np.testing.assert_allclose(rows["estimate"], means.estimate, rtol=1e-7)


@pytest.mark.parametrize("kind", ["datetime64[ns]", "date", "zone"])
def test_dates_are_numbers_by_as_numeric_and_factors_elsewhere(plots, kind):
    days = np.tile([18000.0, 18007.0, 18020.0], 32)
    stamps = pd.to_datetime(days, unit="D")
    dates = {"datetime64[ns]": stamps, "date": stamps.date, "zone": stamps.tz_localize("Europe/Berlin")}[kind]
    own = plots.assign(when=dates, days=days, label=stamps.strftime("%Y-%m-%d"))
    fit, same = lmm("y ~ gen + as.numeric(when) + (1|block)", own), lmm("y ~ gen + days + (1|block)", own)
    np.testing.assert_allclose(fit.beta, same.beta, rtol=1e-6)
    np.testing.assert_allclose(fit.emmeans("gen").estimate, same.emmeans("gen").estimate, rtol=1e-8)
    np.testing.assert_allclose(fit.predict(own), same.predict(own), rtol=1e-8)
    levels, texts = lmm("y ~ factor(when) + (1|block)", own), lmm("y ~ label + (1|block)", own)
    np.testing.assert_allclose(levels.beta, texts.beta, rtol=1e-9)
    assert levels.coef_names[1] == "factor(when)2019-04-21"
    assert lmm("y ~ x + (1|when)", own).criterion == pytest.approx(lmm("y ~ x + (1|label)", own).criterion)
    with pytest.raises(DataError, match=r"write as.numeric\(when\) for days or factor\(when\)"):
        lmm("y ~ when", own)
    found = fit_batch(own, "y ~ gen + as.numeric(when) + (1|block)", by="trial", progress=False)
    alone = lmm("y ~ gen + days + (1|block)", own[own["trial"] == "v"])
    assert found.fits["criterion"].iloc[1] == pytest.approx(alone.criterion, rel=1e-8)


@pytest.mark.parametrize("kind", [bool, "boolean", str, object])
def test_columns_of_truth_values_work_as_conditions_and_numbers(plots, kind):
    own = plots.assign(b=(plots["z"] > 0.3).astype(kind), h=(plots["z"] > 0.3).astype(float))
    for formula, same in (
        ("y ~ ifelse(b, x, -x)", "y ~ ifelse(h == 1, x, -x)"), ("y ~ I(b & x > 2)", "y ~ I(h == 1 & x > 2)"),
        ("y ~ I(x*b) + as.integer(b)", "y ~ I(x*h) + h"), ("y ~ I(!b)", "y ~ I(h == 0)"),
    ):  # fmt: skip
        np.testing.assert_allclose(lmm(formula, own).beta, lmm(same, own).beta, rtol=1e-9)


# --------------------------------------------------------------- terms
def test_the_dot_stands_for_the_other_columns(plots):
    own = plots[["y", "gen", "x", "z", "block"]]
    assert (
        build_design("y ~ . - block", own).column_names == build_design("y ~ gen + x + z", own).column_names
    )
    assert (
        build_design("log(y) ~ . + (1|block)", own).column_names
        == build_design("y ~ gen + x + z", own).column_names
    )
    assert (
        build_design("y ~ .^2 + (1|block)", own).column_names
        == build_design("y ~ (gen+x+z)^2", own).column_names
    )
    names = build_design("y ~ . + offset(x)", own.rename(columns={"z": "a b"})).column_names
    assert names[-3:-1] != () and "a b" in names
    found = fit_batch(plots, "y ~ . + (1|block)", by="trial", emmeans="gen", progress=False)
    alone = lmm("y ~ gen + x + z + (1|block)", plots[plots["trial"] == "u"])
    assert found.fits["criterion"].iloc[0] == pytest.approx(alone.criterion, rel=1e-8)
    with pytest.raises(OptionError, match="'q' is not in the fixed part"):
        fit_batch(plots, "y ~ . + (1|block)", by="trial", emmeans="q", progress=False)


def test_crossed_groups_and_dummies(plots):
    crossed = build_design("y ~ x + (1|block*gen)", plots)
    written = build_design("y ~ x + (1|block) + (1|gen) + (1|block:gen)", plots)
    assert [t.group for t in crossed.random] == [t.group for t in written.random]
    both = lmm("y ~ x + (1|interaction(block, gen))", plots)
    assert both.criterion == pytest.approx(lmm("y ~ x + (1|block:gen)", plots).criterion, rel=1e-10)
    dummy = lmm("y ~ x + (0 + dummy(gen, 'b')|block)", plots)
    hand = lmm("y ~ x + (0 + b|block)", plots.assign(b=(plots["gen"] == "b").astype(float)))
    assert dummy.criterion == pytest.approx(hand.criterion, rel=1e-10)
    assert dummy.design.random[0].columns == ('dummy(gen, "b")',)


def test_dummies_of_new_rows_are_those_of_the_fit(plots):
    """Rows of a part of the levels, where "all but the first" would be others."""
    for formula in ("y ~ dummy(gen) + (1|block)", "y ~ dummy(gen, 'b') + (1|block)"):
        fit = lmm(formula, plots)
        for level, own in plots.groupby("gen"):
            np.testing.assert_allclose(fit.predict(own), fit.fitted[plots["gen"] == level], rtol=1e-12)
    new = plots.head(1).assign(gen="new")
    assert lmm("y ~ dummy(gen, 'b') + (1|block)", plots).predict(new).size == 1
    with pytest.raises(DataError, match=r"'dummy\(gen\)': 'new' did not occur in the fit"):
        lmm("y ~ dummy(gen) + (1|block)", plots).predict(new)


def test_labels_of_a_grouping_factor_are_those_of_the_fit(plots):
    own = plots.assign(block=plots["block"].astype(int))
    fit = lmm("y ~ x + (1|factor(block, labels = c('a','b','c','d','e','f','g','h')))", own)
    few = own[own["block"] > 4].reset_index(drop=True)
    np.testing.assert_allclose(fit.predict(few), lmm("y ~ x + (1|block)", own).predict(few), rtol=1e-10)


def test_a_factor_without_rows_is_refused_with_its_name(plots):
    with pytest.raises(DesignError, match="has only the level 'a'"):
        lmm("y ~ factor(gen, levels = c('a', 'q'))", plots)


def test_columns_named_by_numbers(plots):
    """Pivoted tables have such names; a formula reads them in backticks."""
    plain = lmm("y ~ x + (1|block)", plots)
    numbered = lmm("y ~ `2020` + (1|block)", plots.rename(columns={"x": 2020}))
    assert numbered.criterion == pytest.approx(plain.criterion, rel=1e-12)
    assert numbered.predict().tolist() == pytest.approx(plain.predict().tolist())
    column = {2020: plots["x"].iloc[:3], "block": plots["block"].iloc[:3]}
    np.testing.assert_allclose(numbered.predict(column), plain.predict(plots.iloc[:3]), rtol=1e-12)


def test_values_of_a_kind_that_is_no_label(plots):
    months = pd.period_range("2020-01", periods=len(plots), freq="M")
    with pytest.raises(DataError, match=r"'m' holds values of type 'Period', .*astype"):
        lmm("y ~ m + (1|block)", plots.assign(m=months))


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        ("I(x*(1 - dummy(gen, 'b')))", lambda x, b, P: x * (1 - b)),
        ("I(x^dummy(gen, 'b'))", lambda x, b, P: x**b),
        ("I(poly(x, 1)*x)", lambda x, b, P: P[:, :1] * x[:, None]),
        ("I(x*poly(x, 2))", lambda x, b, P: P * x[:, None]),
        ("pmax(x, dummy(gen, 'b'))", lambda x, b, P: np.maximum(x, b)),
        ("ifelse(dummy(gen, 'b') == 1, x, 0)", lambda x, b, P: x * b),
    ],
)
def test_one_column_beside_another_is_taken_row_by_row(plots, text, by_hand):
    """(n,) beside (n, 1) would be n x n columns, each row times every other."""
    x, b = plots["x"].to_numpy(), (plots["gen"] == "b").to_numpy(float)
    P = build_design("y ~ poly(x, 2) + (1|block)", plots)._X_full.toarray()[:, 1:]
    design = build_design(f"y ~ {text} + (1|block)", plots)
    expected = by_hand(x, b, P).reshape(x.size, -1)
    np.testing.assert_allclose(design._X_full.toarray()[:, 1:], expected, atol=1e-12)
    few = design.fixed_matrix(plots.iloc[[3, 7]]).toarray()
    np.testing.assert_allclose(few, design._X_full.toarray()[[3, 7]], atol=1e-12)


def test_several_columns_have_no_order(plots):
    with pytest.raises(DataError, match="'>' does not go with 2 columns"):
        lmm("y ~ I(poly(x, 2) > x) + (1|block)", plots)
    with pytest.raises(DataError, match="takes one column in each place"):
        lmm("y ~ pmin(poly(x, 2), x) + (1|block)", plots)


@pytest.fixture(scope="module")
def strange_field():
    """A field of plots whose columns want backticks."""
    rng = np.random.default_rng(21)
    row, col = (a.ravel() for a in np.meshgrid(np.arange(8), np.arange(7), indexing="ij"))
    table = pd.DataFrame({"plot row": row, "1": col, "the gen": rng.integers(0, 9, row.size).astype(str)})
    table["a:b"] = np.where(rng.random(row.size) < 0.5, "low", "high")
    table["y"] = rng.normal(size=8).cumsum()[row] + rng.normal(size=row.size) + (table["a:b"] == "low")
    return table


def test_names_in_backticks_in_the_residual(strange_field, tmp_path):
    fit = lmm("y ~ `a:b`", strange_field, residual="ar1(`plot row`):ar1(`1`)")
    plain = strange_field.rename(columns={"plot row": "row", "1": "col", "a:b": "a"})
    same = lmm("y ~ a", plain, residual="ar1(row):ar1(col)")
    assert fit.criterion == pytest.approx(same.criterion, rel=1e-12)
    fit.save(tmp_path / "fit.npz")
    assert load(tmp_path / "fit.npz").criterion == fit.criterion
    new = strange_field.head(9)
    np.testing.assert_allclose(fit.predict(new, residual=True), same.predict(plain.head(9), residual=True))
    pd.testing.assert_frame_equal(fit.variogram(), same.variogram())
    assert fit.correlations().to_frame()["var1"].tolist() == ["plot row", "1"]
    of_groups = lmm("y ~ 1", strange_field, residual="units | `a:b`").variance_components
    assert of_groups["group"].tolist() == ["Residual|a:b"] * 2
    process = lmm("y ~ 1 + (1 | ar1(`plot row`):ar1(`1`))", strange_field, reml=False)
    assert process.trend()[["plot row", "1"]].to_numpy().dtype.kind == "i"


@pytest.mark.parametrize("test", ["F", "chisq"])
def test_terms_in_backticks_are_dropped_like_others(strange_field, test):
    fit = lmm("y ~ `a:b` + `plot row` + (1 | `the gen`)", strange_field)
    assert {"a:b", "plot row"} == set(fit.drop1(test)["term"]) - {"<none>"}
    spline = lmm("y ~ `a:b` + `plot row` + ps(`plot row`, nseg=4)", strange_field)
    assert ("plot row" in set(spline.drop1(test)["term"])) == (test == "F")


def test_a_factor_called_one_has_means(strange_field):
    table = strange_field.rename(columns={"1": "col", "a:b": "1"})
    fit = lmm("y ~ `1` + (1 | `the gen`)", table)
    for specs in ("~ `1`", ["`1`"]):
        assert fit.emmeans(specs).to_frame()["1"].tolist() == ["high", "low"]
    assert len(fit.emmeans("~ 1").to_frame()) == 1
