"""Terms of ASReml, sommer, glmmTMB, brms, mgcv and nlme are refused with the term to write here.

Every such term is parsed here as well: what a message proposes has to be a formula.
"""

import re

import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.functions import FUNCTIONS
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.formula.residual import parse_residual
from fastlmm_core.other_names import COLUMNS, TERMS

TERMS_WRITTEN = [
    # aov
    ("Error(block/irrigation)", "(1 | block/irrigation)"),
    # ASReml
    ("fa(env, 2):gen", "fa(0 + env | gen, k=2)"),
    ("gen:fa(env, 2)", "fa(0 + env | gen, k=2)"),
    ("fa(env, 1):vm(gen, A)", "fa(0 + env | vm(gen, A), k=1)"),
    ("rr(env, 2):gen", "rr(0 + env | gen, d=2)"),
    ("us(env):gen", "us(0 + env | gen)"),
    ("corgh(env):id(gen)", "us(0 + env | gen)"),
    ("corh(env):gen", "cs(0 + env | gen)"),
    ("corv(env):gen", "homcs(0 + env | gen)"),
    ("diag(env):gen", "diag(0 + env | gen)"),
    ("idh(env):vm(gen, A)", "diag(0 + env | vm(gen, A))"),
    ("ar1h(time):id", "ar1h(0 + time | id)"),
    ("us(pol(x, 1)):gen", "us(1 + poly(x, 1) | gen)"),
    ("us(trait):vm(gen, A):rep", "us(0 + trait | vm(gen, A):rep)"),
    ("idv(gen)", "(1 | gen)"),
    ("ide(gen)", "(1 | gen)"),
    ("env:idv(gen)", "(1 | env:gen)"),
    ("vm(gen, G)", "(1 | vm(gen, G))"),
    ("env:vm(gen, G)", "(1 | env:vm(gen, G))"),
    ("ped(gen)", "(1 | vm(gen, A))"),
    ("ar1v(row):ar1(col)", "(1 | ar1(row):ar1(col))"),
    ("ar1(row):col", "(1 | ar1(row):col)"),
    ("at(env):rep", "(1 | at(env):rep)"),
    ("at(env):rep:block", "(1 | at(env):rep:block)"),
    ("at(env, 'a'):gen", '(0 + dummy(env, "a") | gen)'),
    ("at(env, c('a', 'b')):gen", '(0 + dummy(env, "a") | gen) + (0 + dummy(env, "b") | gen)'),
    ("dev(x)", "(1 | x)"),
    ("lin(x)", "x"),
    ("lin(x):gen", "x:gen"),
    ("lin(x):id(gen)", "(0 + x | gen)"),
    ("pol(x)", "poly(x, 1)"),
    ("leg(x, 3)", "poly(x, 3)"),
    ("con(env)", "C(env, contr.sum)"),
    # sommer, lme4breeding
    ("vsm(ism(gen))", "(1 | gen)"),
    ("vsm(ism(gen), Gu=A)", "(1 | vm(gen, A))"),
    ("vsm(usm(env), ism(gen))", "us(0 + env | gen)"),
    ("vsr(dsr(env), gen, Gu=A)", "diag(0 + env | vm(gen, A))"),
    ("spl2Dc(row, col)", "row*col + ps(row, col)"),
    # glmmTMB, brms, mgcv, SpATS
    ("fa(env, 2 | gen)", "fa(0 + env | gen, k=2)"),
    ("rr(env, 2 | vm(gen, A))", "rr(0 + env | vm(gen, A), d=2)"),
    ("us(1 + x | gen):env", "us(1 + x | gen:env)"),
    ("at(env):(1 | gen)", "(1 | at(env):gen)"),
    ("(x || gen):env", "(x || gen:env)"),
    ("propto(0 + env | gen, A)", "(1 | gen:vm(env, A))"),
    ("propto(0 + env | 1, A)", "(1 | vm(env, A))"),
    ("s(x)", "x + ps(x)"),
    ("s(x, k=10)", "x + ps(x, nseg=9)"),
    ("s(gen, bs='re')", "(1 | gen)"),
    ("te(row, col)", "row*col + ps(row, col)"),
    ("PSANOVA(row, col, nseg=c(5, 5))", "row*col + ps(row, col)"),
    # the same right of a bar
    ("(1 | us(env):gen)", "us(0 + env | gen)"),
    ("(1 | fa(env, 2):vm(gen, A))", "fa(0 + env | vm(gen, A), k=2)"),
    ("(1 | idv(gen))", "(1 | gen)"),
    ("(x | idv(gen):rep)", "(x | gen:rep)"),
    ("(1 | gr(gen, cov = K))", "(1 | vm(gen, K))"),
    ("(1 | at(env):spl(x))", "env*x + at(env):spl(x)"),
    ("(1 | vsm(usm(env), ism(gen)))", "us(0 + env | gen)"),
]  # fmt: skip


@pytest.mark.parametrize(("term", "here"), TERMS_WRITTEN, ids=[term for term, _ in TERMS_WRITTEN])
def test_the_message_is_the_term_to_write(term, here):
    with pytest.raises(FormulaError, match=rf": here {re.escape(here)}(;|,| \(character)") as caught:
        parse_formula(f"y ~ rep + {term}")
    assert caught.value.position >= len("y ~ rep + ")
    assert "\n" not in str(caught.value)
    parse_formula(f"y ~ rep + {here}")


@pytest.mark.parametrize(
    ("term", "also"),
    [
        ("at(env):rep", "in the fixed part env:rep"),
        ("at(env, 'a'):x", 'in the fixed part dummy(env, "a"):x'),
        ("ar1(row):ar1(col)", 'or residual="ar1(row):ar1(col)"'),
        ("at(env, 'a'):units", 'residual="units | env"'),
        ("idh(env):units", 'residual="units | env"'),
        ("units:us(trait)", 'residual="us(trait | subject)"'),
        ("dsum(~ units | env)", 'residual="units | env"'),
        ("gau(row + 0 | env)", "a covariance K of your own, vm(x, K)"),
        ("exp(row + 0 | env)", "a covariance K of your own, vm(x, K)"),
        ("ante(time, 1):id", "ar1, hetar1, toep or us"),
        ("grp(snp)", "Markers(table)"),
        ("mm(a, b)", "us(a + b | vm(A))"),
        ("str(~gen + gen:x, ~us(2):id(20))", "us(1 + x | gen)"),
        ("corgh(0 + env | gen)", "here it is 'us'"),
        ("idh(0 + env | gen)", "here it is 'diag'"),
        ("(1 + x | gen, k=2)", "fa(0 + x | group, k=2)"),
        ("rr(env | gen, 2)", "such as d=2"),
        ("spl(x, 10)", "ps(x, nseg=9)"),
        ("spl(x, k=10)", "ps(x, nseg=9)"),
        ("us(env):corh(rep):gen", "one structure left of a bar"),
    ],
)
def test_what_is_said_beside_it(term, also):
    with pytest.raises(FormulaError, match=re.escape(also)):
        parse_formula(f"y ~ {term}")


RESIDUALS = [
    ("~ units", "units"), ("idv(units)", "units"), ("~ idv(units)", "units"),
    ("dsum(~ units | env)", "units | env"), ("~ dsum(~ units | env)", "units | env"),
    ("dsum(~ ar1(row):ar1v(col) | env)", "ar1(row):ar1(col) | env"),
    ("dsum(~ id(subject):us(visit) | arm)", "us(visit | subject) | arm"),
    ("at(env):units", "units | env"), ("idh(env):units", "units | env"), ("1 | env", "units | env"),
    ("at(env):ar1(row):ar1(col)", "ar1(row):ar1(col) | env"),
    ("ar1v(row):ar1(col)", "ar1(row):ar1(col)"), ("ar1(row, col)", "ar1(row):ar1(col)"),
    ("idv(row):ar1(col)", "row:ar1(col)"),
    ("id(subject):us(visit)", "us(visit | subject)"), ("us(visit):subject", "us(visit | subject)"),
    ("units:us(trait)", "us(trait | subject)"), ("id(subject):corv(visit)", "homcs(visit | subject)"),
    ("id(subject):corh(visit)", "cs(visit | subject)"), ("corh(visit | subject)", "cs(visit | subject)"),
    ("vsm(dsm(env), ism(units))", "units | env"),
    ("us(0 + visit | subject)", "us(visit | subject)"), ("ar1(visit + 0 | subject)", "ar1(visit | subject)"),
    ("varIdent(~ 1 | env)", "units | env"), ("corAR1(~ visit | subject)", "ar1(visit | subject)"),
    ("corCompSymm(form = ~ 1 | subject)", "homcs(visit | subject)"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "here"), RESIDUALS, ids=[given for given, _ in RESIDUALS])
def test_the_message_is_the_residual_to_write(given, here):
    with pytest.raises(FormulaError, match=rf"as residual: here '{re.escape(here)}' \(character"):
        parse_residual(given)
    assert parse_residual(here).text == here


@pytest.mark.parametrize("text", ["toep(row):ar1(col)", "sar(row)", "foo(x)", "exp(row, col)", "corb(t):id"])
def test_a_residual_without_a_counterpart_is_still_refused(text):
    with pytest.raises(FormulaError, match="write units"):
        parse_residual(text)


@pytest.mark.parametrize("name", ["mv", "mu", "trait", "units"])
def test_columns_that_other_programs_make(name):
    data = {"y": [1.0, 2.0, 3.0], "gen": ["a", "b", "c"]}
    with pytest.raises(FormulaError, match=re.escape(f"column '{name}' is not in the data: {COLUMNS[name]}")):
        lmm(f"y ~ {name}", data)


def test_a_column_of_that_name_is_a_column():
    fit = lmm("y ~ mv", {"y": [1.0, 2.0, 4.0, 4.5], "mv": [0.0, 1.0, 2.0, 3.0]})
    assert fit.beta == pytest.approx([1.0, 1.25], abs=1e-12)


def test_responses_side_by_side():
    with pytest.raises(FormulaError, match=r"'cbind' is not known; here a row for every trait, long_table"):
        parse_formula("cbind(a, b) ~ x")


def test_functions_of_formulas_stay_what_they_are():
    """Names that both have, ``exp`` and ``C``, are the function wherever no bar stands in it."""
    assert {name for name in TERMS if name in FUNCTIONS} == {"exp"}
    assert [list(term) for term in parse_formula("y ~ exp(x):g").fixed.terms] == [["exp(x)", "g"]]


def test_a_truth_value_is_no_structure():
    assert [list(term) for term in parse_formula("y ~ I(a | b):g").fixed.terms] == [["I(a | b)", "g"]]


ARGUMENTS = [
    "x",
    "x, 2",
    "x, y",
    "x, 'a'",
    "x, c(1, 2)",
    "0 + x | g",
    "x, 2 | g",
    "k=1",
    "a=x",
    "x:y",
    "x | 1",
    "2",
]
AROUND = [
    "{}",
    "{}:gen",
    "gen:{}:x",
    "at(env):{}",
    "{}*gen",
    "(1 | {})",
    "(x | gen:{})",
    "(x || {})",
    "log({})",
    "vsm({})",
]


@pytest.mark.parametrize("name", [*TERMS, "us", "fa", "rr", "diag", "toep"])
def test_whatever_stands_in_them_is_a_formula_or_an_error_of_it(name):
    for arguments in ARGUMENTS:
        for around in AROUND:
            text = around.format(f"{name}({arguments})")
            for parse, given in ((parse_formula, f"y ~ {text}"), (parse_residual, text)):
                try:
                    parse(given)
                except FormulaError as error:
                    assert "{0}" not in str(error) and "{1}" not in str(error)
