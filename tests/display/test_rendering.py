"""Rounding happens in printing only; text and HTML show the same cells."""

import re

import numpy as np
import pandas as pd
import pytest

from fastlmm_core.display.rendering import (
    Table,
    format_fixed,
    format_p,
    format_significant,
    shared_decimals,
)


@pytest.fixture
def means():
    return pd.DataFrame(
        {
            "K2O": ["36", "54"],
            "estimate": [7.916666666666667, 8.12],
            "se": [0.1206717, 0.1206717],
            "df": [8.0, 5.5712],
            "t": [65.6, np.nan],
            "p": [0.04711, 1e-9],
        }
    )


def test_the_frame_stays_unrounded(means):
    table = Table(means)
    str(table)
    pd.testing.assert_frame_equal(table.to_frame(), means)
    copied = table.to_frame()
    copied.loc[0, "estimate"] = 0
    assert table.frame.loc[0, "estimate"] == 7.916666666666667


def test_estimate_and_error_share_decimals(means):
    row = str(Table(means)).splitlines()[1]
    assert row.split() == ["36", "7.9167", "0.1207", "8.00", "65.600", "0.0471"]


def test_columns_line_up(means):
    lines = str(Table(means)).splitlines()
    ends = [[m.end() for m in re.finditer(r"\S+", line)] for line in lines]
    assert ends[0][1:] == ends[1][1:]


def test_html_has_the_cells_of_the_text(means):
    table = Table(means, "Means & more", ("<note>",))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table._repr_html_())
    text = [cell for line in str(table).splitlines()[2:4] for cell in line.split()]
    assert [c.replace("&lt;", "<") for c in cells if c] == text
    assert "Means &amp; more" in table._repr_html_() and "&lt;note&gt;" in table._repr_html_()
    assert " id=" not in table._repr_html_()


def test_blocks_by_a_column(means):
    table = Table(pd.concat([means, means], ignore_index=True).assign(N=["a", "a", "b", "b"]), by=("N",))
    text = str(table)
    assert text.count("K2O") == 2 and text.index("N = a:") < text.index("N = b:")
    assert "N" in table.to_frame().columns


@pytest.mark.parametrize(
    ("values", "titles"),
    [
        ([3.1197916666666665, 6.0], ["x = 3.11979:", "x = 6:"]),
        ([1000.00001, 1000.00002], ["x = 1000.00001:", "x = 1000.00002:"]),
    ],
)
def test_numbers_that_head_a_block_have_the_digits_that_tell_them_apart(means, values, titles):
    table = Table(means.assign(x=values), by=("x",))
    assert [line for line in str(table).splitlines() if line.startswith("x = ")] == titles


def test_hidden_columns_and_cut_rows(means):
    table = Table(means, hidden=("df",), max_rows=1)
    assert "df" not in str(table).splitlines()[0].split()
    assert "(1 more rows: .to_frame() shows all)" in str(table) and "54" not in str(table)
    assert "df" in table.to_frame().columns and len(table.to_frame()) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(253.6421, "253.6"), (4.464749, "4.465"), (0.654124, "0.6541"), (12345.6, "12346"), (np.nan, "NA")],
)
def test_significant_digits(value, text):
    assert format_significant(value, 4) == text


def test_p_and_missing():
    assert [format_p(p) for p in (0.18800, 0.00005, 0.0000499, 1.0, np.nan)] == [
        "0.1880", "0.0001", "<.0001", "1.0000", ""
    ]  # fmt: skip
    assert format_fixed(np.inf, 2) == "Inf" and format_fixed(-np.inf, 2) == "-Inf"
    assert format_fixed(-0.00001, 2) == "0.00"


def test_tiny_and_huge_figures_stay_readable():
    assert format_fixed(1.234e-12, 15) == "1.234e-12"
    assert format_fixed(9.87e12, 2) == "9.870e+12"
    assert shared_decimals(np.array([9.9996]), 4) == 2  # rounds to 10.00
    assert shared_decimals(np.array([1e-9, 2.0, 3.0]), 4) == 3


def test_infinite_df_is_shown_as_inf():
    table = Table(pd.DataFrame({"term": ["a"], "estimate": [1.0], "se": [0.5], "df": [np.inf]}))
    assert str(table).splitlines()[1].split()[-1] == "Inf"
