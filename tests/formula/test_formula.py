"""Term algebra, bars and the position of mistakes."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.expressions import Parser, deparse, number_text
from fastlmm_core.formula.parsing import parse_formula


def terms(formula):
    parsed = parse_formula(formula)
    return parsed.fixed.intercept, [":".join(t) for t in parsed.fixed.terms]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ 1", (True, [])),
        ("y ~ 0", (False, [])),
        ("y ~ a - 1 + b", (False, ["a", "b"])),
        ("y ~ -1 + a + 1", (True, ["a"])),
        ("y ~ a*b*c - a:b:c", (True, ["a", "b", "c", "a:b", "a:c", "b:c"])),
        ("y ~ (a + b + c)^2", (True, ["a", "b", "c", "a:b", "a:c", "b:c"])),
        ("y ~ (a + b)**5", (True, ["a", "b", "a:b"])),
        ("y ~ a/b/c", (True, ["a", "a:b", "a:b:c"])),
        ("y ~ (a + b)/c", (True, ["a", "b", "a:b:c"])),
        ("y ~ b:a + a + b", (True, ["a", "b", "b:a"])),
        ("y ~ b %in% a + a", (True, ["a", "b:a"])),
        ("y ~ a + a:a + a", (True, ["a"])),
        ("y ~ a*b - b", (True, ["a", "a:b"])),
        ("y ~ I(x^2)+log( x+1 )", (True, ["I(x^2)", "log(x + 1)"])),
        ("y ~ offset(o) + `a b`", (True, ["`a b`"])),
    ],
)
def test_term_algebra_is_that_of_r(formula, expected):
    assert terms(formula) == expected


@pytest.mark.parametrize(
    ("formula", "groups", "parts"),
    [
        ("y ~ (1|g)", ["g"], [(True, [])]),
        ("y ~ x + (x|g)", ["g"], [(True, ["x"])]),
        ("y ~ (0 + x|g)", ["g"], [(False, ["x"])]),
        ("y ~ (-1 + x|g)", ["g"], [(False, ["x"])]),
        ("y ~ (x || g)", ["g", "g"], [(True, []), (False, ["x"])]),
        ("y ~ (0 + x + z || g)", ["g", "g"], [(False, ["x"]), (False, ["z"])]),
        ("y ~ (1|a/b)", ["b:a", "a"], [(True, [])] * 2),
        ("y ~ (1|a/b/c)", ["c:b:a", "b:a", "a"], [(True, [])] * 3),
        ("y ~ (1|a:b) + (1|c)", ["a:b", "c"], [(True, [])] * 2),
        ("y ~ ((1|a))", ["a"], [(True, [])]),
    ],
)
def test_bars_are_those_of_lme4(formula, groups, parts):
    parsed = parse_formula(formula)
    assert [part.group for part in parsed.random] == groups
    assert [(p.terms.intercept, [":".join(t) for t in p.terms.terms]) for p in parsed.random] == parts


def test_structure_in_front_of_a_bar():
    assert [p.structure for p in parse_formula("y ~ diag(x|g) + (x|g)").random] == ["diag", "us"]


@pytest.mark.parametrize(
    ("formula", "position", "words"),
    [
        ("y ~ x + ", 8, "ends where a term is expected"),
        ("y ~ (x + (1|g)", 14, "to close '\\('"),
        ("y x", 2, "not expected here"),
        ("y ~ x + 1|g", 9, "in parentheses"),
        ("y ~ x $ z", 6, "not part of"),
        ("y ~ 'x", 4, "never closed"),
        ("y ~ logg(x)", 4, "nearest: 'log'"),
        ("y ~ 2*x", 4, "0 or 1"),
        ("y ~ x^0.5", 6, "whole number"),
        ("y ~ (1|a + b)", 9, "one random term for each"),
        ("y ~ (0|g)", 5, "is empty"),
        ("y ~ arx(x|g)", 4, "structure 'arx' is not known; allowed: 'ar1', 'cs', 'diag'"),
        ("y ~ x - (1|g)", 6, "cannot be subtracted"),
        ("y + x", 5, "'~' is missing"),
        ("y ~ a ~ b", 6, "one '~'"),
        ("y ~ I()", 4, "needs an argument"),
        ("y ~ a > b", 6, "wrap arithmetic"),
        ("y ~ (1|exp(a))", 7, "not a grouping factor"),
        ("", 0, "empty"),
    ],
)
def test_mistakes_are_shown_where_they_are(formula, position, words):
    with pytest.raises(FormulaError, match=words) as caught:
        parse_formula(formula)
    assert caught.value.position == position
    assert str(caught.value).endswith(f"(character {position + 1} of '{formula}')")


def test_formula_must_be_text():
    with pytest.raises(FormulaError, match="must be a string, not int"):
        parse_formula(3)


def test_parsing_is_cached_and_the_result_travels_between_processes():
    parsed = parse_formula("y ~ a*I(x^2) + (x||g)")
    assert parse_formula("y ~ a*I(x^2) + (x||g)") is parsed
    assert parse_formula(parsed) is parsed
    assert pickle.loads(pickle.dumps(parsed)) == parsed


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.5, "0.5"), (100000.0, "1e+05"), (123456.0, "123456"), (1e-5, "1e-05"),
                        (0.1 + 0.2, "0.3"), (2000.0, "2000"), (-3.25, "-3.25")],
)  # fmt: skip
def test_numbers_print_as_in_r(value, text):
    assert number_text(value) == text


LEAVES = st.sampled_from(["x", "y1", "2", "0.5", "a.b"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " * ", "/", "^", ":", " > "]), inner).map("".join),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"log({e})"),
        inner.map(lambda e: f"-{e}"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_printing_and_parsing_again_gives_the_same_tree(expression):
    tree = Parser(expression).parse()
    assert Parser(deparse(tree)).parse() == tree


@pytest.mark.parametrize("text", ["y ~ y + a", "y ~ a * y", "log(y) ~ a + log(y)"])
def test_a_response_on_the_right_hand_side_is_refused(text):
    with pytest.raises(FormulaError, match="is on the right-hand side too: leave it out there"):
        parse_formula(text)


def test_poly_of_two_columns_says_how_to_write_it():
    with pytest.raises(FormulaError, match=r"takes one column; .* as in \+ poly\(z, 2\) \(character 13"):
        parse_formula("y ~ poly(x, z, degree=2)")
