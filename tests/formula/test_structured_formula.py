"""Structures of coefficients, relations of levels and splines as formulas write them."""

import pickle

import pytest

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.parsing import parse_formula


def only(formula):
    (part,) = parse_formula(formula).random
    return part


@pytest.mark.parametrize(
    "text",
    [
        "(1 | gen)",
        "fa(0 + year | gen, k=2)",
        "(1 | at(site):rep:block)",
        "(1 | vm(gen, A))",
        "us(0 + trait | gen)",
        "us(calf, dam | vm(A))",
        "us(pig, mate1 + mate2 | vm(A))",
        "(1 | id(col):ar1(row))",
        "rr(0 + loc | gen, d=2)",
        "(1 | env:vm(gen, G))",
        "cs(0 + loc | vm(gen, G))",
        "ar1(0 + Occasion | Subject)",
        "cs(0 + e | g, hom=TRUE)",
        "(1 | ar1(row):ar1(col))",
    ],
)
def test_a_term_is_labelled_as_it_is_written(text):
    assert only(f"y ~ x + {text}").label == text
    assert only(f"y~x+{text.replace(' ', '')}").label == text


@pytest.mark.parametrize(
    ("text", "label", "segments", "degree", "order"),
    [
        ("spl(x)", "spl(x)", (20,), 3, 2),
        ("ps(x)", "ps(x)", (20,), 3, 2),
        ("ps(x, nseg=12, degree=2, pord=1)", "ps(x, nseg=12, degree=2, pord=1)", (12,), 2, 1),
        ("ps(row,col,nseg=(6,14))", "ps(row, col, nseg=(6, 14))", (6, 14), 3, 2),
        ("ps(row, col, nseg=c(6, 14))", "ps(row, col, nseg=c(6, 14))", (6, 14), 3, 2),
        ("ps(row, col, nseg=8)", "ps(row, col, nseg=8)", (8, 8), 3, 2),
    ],
)
def test_splines(text, label, segments, degree, order):
    parsed = parse_formula(f"y ~ x + {text} + (1 | g)")
    (spline,) = parsed.splines
    assert (spline.label, spline.n_segments, spline.degree, spline.order) == (label, segments, degree, order)
    assert [part.group for part in parsed.random] == ["g"]
    assert parsed.fixed.terms == (("x",),)
    assert not parsed.is_plain


@pytest.mark.parametrize(
    ("text", "structure", "options"),
    [
        ("un(0 + f | g)", "us", {}), ("csh(0 + f | g)", "cs", {}), ("toeph(0 + f | g)", "toep", {}),
        ("ar1h(0 + f | g)", "hetar1", {}), ("cs(0 + f | g, hom=TRUE)", "homcs", {}),
        ("cs(0 + f | g, hom=FALSE)", "cs", {}), ("diag(0 + f | g, hom=True)", "homdiag", {}),
        ("toep(0 + f | g, hom=T)", "homtoep", {}), ("ar1(0 + f | g, hom=FALSE)", "hetar1", {}),
        ("ar1(0 + f | g)", "ar1", {}), ("rr(0 + f | g)", "rr", {"d": 2}),
        ("fa(0 + f | g, k=3)", "fa", {"k": 3}),
        ("fa(0 + f | g, d=1)", "fa", {"k": 1}),
    ],
)  # fmt: skip
def test_names_aliases_and_options(text, structure, options):
    part = only(f"y ~ {text}")
    assert (part.structure, part.options, part.is_plain) == (structure, options, structure in ("us", "diag"))


def test_relations_of_levels():
    part = only("y ~ (1 | at(site):rep:ar1(col):vm(gen, G))")
    assert [kind.kind for kind in part.kinds] == ["at", "id", "ar1", "vm"]
    assert [node.name for node in part.factors] == ["site", "rep", "col", "gen"]
    assert part.kinds[-1].relationship == "G"
    nested = parse_formula("y ~ (1 | env/vm(gen, G))").random
    assert [(p.group, p.is_plain) for p in nested] == [("vm(gen, G):env", False), ("env", True)]


def test_columns_left_of_the_bar_of_a_relationship():
    part = only("y ~ us(pig, mate1 + mate2 | vm(A))")
    assert [[node.name for node in own] for own in part.incidence] == [["pig"], ["mate1", "mate2"]]
    assert part.factors == () and part.terms.atoms == {}
    assert only("y ~ (calf, dam | vm(A))").structure == "us"
    names = {node.name for node in parse_formula("y ~ us(calf, dam | vm(A))").expressions}
    assert names == {"calf", "dam"}  # A is no column


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ foo(0 + f | g)", "structure 'foo' is not known; allowed: .*'toep'"),
        ("y ~ us(0 + f | g, hom=TRUE)", "takes no options"),
        ("y ~ cs(0 + f | g, hom=2)", "must be TRUE or FALSE"),
        ("y ~ cs(0 + f | g, TRUE)", "options by name, such as hom=TRUE"),
        ("y ~ cs(0 + f | g, k=2)", "takes the option 'hom', not 'k'"),
        ("y ~ fa(0 + f | g, k=0)", "at least 1"),
        ("y ~ fa(0 + f | g, k=1.5)", "whole number"),
        ("y ~ fa(0 + f | g, k=n)", "an option is a number"),
        ("y ~ fa(0 + f | g, 2)", "options by name, such as k=2"),
        ("y ~ fa(k=2, 0 + f | g)", "stands after the bar"),
        ("y ~ fa(0 + f | g, d=2, k=2)", "one number of factors"),
        ("y ~ cs(0 + f || g)", "correlated"),
        ("y ~ us(a, b | g)", "joined by '\\+'"),
        ("y ~ us(1 | a, 1 | b)", "one bar"),
        ("y ~ us(1 + x | vm(A))", "columns with its levels"),
        ("y ~ (1 | vm(gen))", "left of the bar of 'vm\\(gen\\)'"),
        ("y ~ (1 | vm(gen, A, B))", "a factor and the name"),
        ("y ~ (1 | ar1(row, col))", "takes one factor"),
        ("y ~ (1 | ar1(log(x)))", "not a factor"),
        ("y ~ (1 | at(site))", "join it to a factor"),
        ("y ~ (1 | vm(gen, A, k=2))", "no options"),
        ("y ~ us(a | vm(A):vm(B))", "one vm"),
        ("y ~ ps(a, b, c)", "one variable or two"),
        ("y ~ spl(x, nseg=3)", "no option 'nseg'"),
        ("y ~ spl(x, 5)", "takes one variable"),
        ("y ~ ps(x, nseg=(3, 4))", "2 numbers does not go with 1"),
        ("y ~ ps(x, nseg=0)", "whole number of segments"),
        ("y ~ ps(x, nseg=1e9)", "1 to 10000"),
        ("y ~ ps(x, nseg=1e400)", "the number is too large"),
        ("y ~ ps(x, pord=5)", "pord=5"),
        ("y ~ ps(x, degree=0)", "degree=0"),
        ("y ~ ps(x):f", "a term of its own"),
        ("y ~ vm(gen, A)", "here \\(1 \\| vm\\(gen, A\\)\\)"),
        ("y ~ x - ps(x)", "cannot be subtracted"),
    ],
)
def test_mistakes_name_what_would_be_right(formula, words):
    with pytest.raises(FormulaError, match=words):
        parse_formula(formula)


def test_structured_formulas_travel_between_processes():
    parsed = parse_formula("y ~ x + fa(0 + f | g, k=2) + ps(x, nseg=5) + us(a, b | vm(A))")
    assert pickle.loads(pickle.dumps(parsed)) == parsed
