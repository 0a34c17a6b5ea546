"""The text of residual=, and what it is on the rows of a table."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError, DesignError, FormulaError, OptionError
from fastlmm_core.formula.residual import parse_residual


@pytest.mark.parametrize(
    ("text", "kind", "label", "columns"),
    [
        ("units", "units", "units", ()),
        ("units|env", "units", "units | env", ("env",)),
        ("units | env:year", "units", "units | env:year", ("env", "year")),
        ("us(visit|subject)", "within", "us(visit | subject)", ("visit", "subject")),
        ("cs(visit | subject) | arm", "within", "cs(visit | subject) | arm", ("visit", "arm", "subject")),
        ("toep(visit|site:subject, hom=TRUE)", "within", "toep(visit | site:subject, hom=TRUE)",
         ("visit", "site", "subject")),
        ("ar1(row):ar1(col)", "field", "ar1(row):ar1(col)", ("row", "col")),
        ("id(col):ar1(row) | env", "field", "id(col):ar1(row) | env", ("env", "col", "row")),
        ("vm(units, Omega)", "known", "vm(units, Omega)", ("units",)),
    ],
)  # fmt: skip
def test_texts(text, kind, label, columns):
    parsed = parse_residual(text)
    assert (parsed.kind, parsed.text, parsed.columns) == (kind, label, columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo(visit | subject)", "structure 'foo' is not known"),
        ("fa(visit | subject)", "structure of random terms"),
        ("us(visit || subject)", "write '\\|'"),
        ("us(a:b | subject)", "one factor varies"),
        ("us(1 | subject)", "stand factors joined by ':', not '1'"),
        ("us(visit | units)", "name the column of the subjects"),
        ("us(visit | subject", "to close"),
        ("row:col", "nothing that relates the rows"),
        ("at(env):ar1(row)", "here 'ar1\\(row\\) \\| env'"),
        ("vm(units, A):ar1(row)", "stands alone"),
        ("vm(units, A) | env", "stands alone"),
        ("", "is empty"),
    ],
)
def test_mistakes(text, words):
    with pytest.raises(FormulaError, match=words):
        parse_residual(text)


def test_a_residual_is_text():
    with pytest.raises(OptionError, match="must be a string"):
        parse_residual(3)


def plots():
    """A field with a row of plots missing in the middle, and a second one that starts elsewhere."""
    cells = [("E1", r, c) for r in (1, 2, 4) for c in (1, 2, 3)]
    cells += [("E2", r, c) for r in (5, 6) for c in (2, 3)]
    frame = pd.DataFrame(cells, columns=["env", "row", "col"])
    frame["gen"] = [f"G{i % 4}" for i in range(len(frame))]
    frame["y"] = np.arange(len(frame)) ** 2.0
    return frame


def test_a_field_has_the_used_range_of_its_declared_positions():
    frame = plots()
    spec = build_design("y ~ env", frame, residual="ar1(row):ar1(col) | env").residual
    assert [[(f.name, f.levels) for f in own] for own in spec.field_factors] == [
        [("row", ("1", "2", "3", "4")), ("col", ("1", "2", "3"))], [("row", ("5", "6")), ("col", ("2", "3"))],
    ]  # fmt: skip
    assert spec.field_codes[0].tolist() == [0] * 3 + [1] * 3 + [3] * 3 + [0, 0, 1, 1]
    assert spec.by[0] == "env" and spec.by[1] == ("E1", "E2")
    declared = frame.assign(row=pd.Categorical([f"r{r}" for r in frame["row"]], [f"r{i}" for i in range(9)]))
    same = build_design("y ~ env", declared, residual="ar1(row):ar1(col) | env").residual
    assert same.field_factors[0][0].levels == ("r1", "r2", "r3", "r4")


def test_two_plots_in_one_cell_are_named():
    frame = pd.concat([plots(), plots().iloc[[4]]])
    with pytest.raises(DataError, match="2 plots stand at row '2', col '2' in 'E1'"):
        build_design("y ~ env", frame, residual="ar1(row):ar1(col) | env")
    with pytest.raises(DataError, match=r"row '3', col '1'.*for several fields write '\| env'"):
        build_design("y ~ 1", plots().assign(row=3, col=1), residual="ar1(row):ar1(col)")
    frame = plots().assign(row=lambda d: np.where(d["row"] == 6, 9000, d["row"]))
    with pytest.raises(DesignError, match="4 plots in 'E2' lie in a grid of 8996"):
        build_design("y ~ env", frame, residual="ar1(row):ar1(col) | env")


def visits():
    frame = pd.DataFrame({"id": list("aaabbccc"), "visit": [1, 2, 3, 1, 3, 1, 2, 3.0]})
    frame["week"] = 4 * frame["visit"]
    frame["arm"] = ["P" if i in "ab" else "D" for i in frame["id"]]
    frame["y"] = np.arange(8) ** 2.0
    return frame


def test_subjects_and_visits():
    frame = visits()
    spec = build_design("y ~ 1", frame, residual="us(visit | id) | arm").residual
    assert (spec.structure, spec.positions, spec.subject_name) == ("us", ("1", "2", "3"), "id")
    assert spec.position_codes.tolist() == [0, 1, 2, 0, 2, 0, 1, 2]
    assert pd.factorize(spec.subject_codes)[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [spec.by[1][c] for c in spec.by[2]] == frame["arm"].tolist()
    crossover = frame.assign(arm=list("PDPDPDPD"))
    spec = build_design("y ~ 1", crossover, residual="us(visit | id) | arm").residual
    assert np.unique(spec.subject_codes).size == 6  # a subject in two arms is two


def test_two_rows_of_a_subject_at_one_visit_are_named():
    frame = pd.concat([visits(), visits().iloc[[3]]])
    with pytest.raises(DataError, match="subject 'b' of 'id' has 2 rows at 'visit' '1'"):
        build_design("y ~ 1", frame, residual="cs(visit | id)")


def test_numbers_are_positions_where_distance_counts():
    spec = build_design("y ~ 1", visits(), residual="ar1(week | id)").residual
    assert spec.positions == tuple(str(w) for w in range(4, 13))
    assert build_design("y ~ 1", visits(), residual="us(week | id)").residual.positions == ("4", "8", "12")
    with pytest.raises(DesignError, match=r"'5', '6', .* never occurs between the others"):
        build_design("y ~ 1", visits(), residual="toep(week | id)")
    with pytest.raises(DataError, match="whole numbers"):
        build_design("y ~ 1", visits().assign(week=lambda d: d["week"] / 8), residual="ar1(week | id)")


def test_missing_values_of_a_residual_drop_rows():
    frame = visits()
    frame.loc[2, "visit"] = np.nan
    assert build_design("y ~ 1", frame, residual="us(visit | id)").n == 7
    assert build_design("y ~ 1", frame).n == 8


def test_a_known_covariance_follows_its_names():
    frame = plots().assign(plot=lambda d: [f"p{i}" for i in range(len(d))])
    n = len(frame)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(n, n))
    omega = root @ root.T + n * np.eye(n)
    order = rng.permutation(n)
    named = (omega[np.ix_(order, order)], [f"p{i}" for i in order])
    frame.loc[2, "y"] = np.nan
    rows = np.delete(np.arange(n), 2)
    spec = build_design("y ~ 1", frame, residual="vm(plot, V)", relationships={"V": named}).residual
    assert np.allclose(spec.known_covariance(), omega[np.ix_(rows, rows)], atol=1e-9)
    numbered = (omega, [str(i + 1) for i in range(n)])
    spec = build_design("y ~ 1", frame, residual="vm(units, V)", relationships={"V": numbered}).residual
    assert np.allclose(spec.known_covariance(), omega[np.ix_(rows, rows)], atol=1e-9)
    with pytest.raises(DataError, match="must be the numbers of the rows"):
        build_design("y ~ 1", frame, residual="vm(units, V)", relationships={"V": named})
    with pytest.raises(DataError, match="has 13 rows and the data have 12"):
        build_design("y ~ 1", frame.iloc[:12], residual="vm(units, V)", relationships={"V": numbered})
    with pytest.raises(OptionError, match="'W' is not given"):
        build_design("y ~ 1", frame, residual="vm(units, W)", relationships={"V": numbered})


@pytest.mark.parametrize(
    ("formula", "residual", "words"),
    [
        ("y ~ (1 | id)", "us(visit | id)", "cannot be told apart"),
        ("y ~ (1 | id)", "homcs(visit | id)", "cannot be told apart"),
        ("y ~ us(0 + factor(visit) | id)", "us(visit | id)", "cannot be told apart"),
        ("y ~ (1 | units)", "toep(visit | id)", "confounded"),
    ],
)
def test_residuals_that_take_up_a_random_term(formula, residual, words):
    with pytest.raises(DesignError, match=words):
        build_design(formula, visits(), residual=residual)


@pytest.mark.parametrize(
    ("formula", "residual"), [("y ~ (1 | id)", "ar1(visit | id)"), ("y ~ (1 | units)", "ar1(visit | id)")]
)
def test_residuals_that_leave_room_for_a_random_term(formula, residual):
    assert build_design(formula, visits(), residual=residual).residual.kind == "within"


def test_a_residual_names_columns_that_are_there():
    with pytest.raises(FormulaError, match="column 'vist' is not in the data; nearest: 'visit'"):
        build_design("y ~ 1", visits(), residual="us(vist | id)")
