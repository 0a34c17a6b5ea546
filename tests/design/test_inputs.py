"""Tables of every kind, and clear refusals of what cannot be used."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError, DesignError, FormulaError, OptionError

N = 40


@pytest.fixture
def plain():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(size=N),
            "g": np.repeat(list("abcdefgh"), N // 8),
            "f": np.tile(["u", "v"], N // 2),
            "year": np.tile([1999, 2000, 2001, 2002], N // 4),
        }
    )


FORMULA = "y ~ f*x + C(year) + (x|g) + (1|year:f)"


@pytest.mark.parametrize(
    "convert",
    [
        lambda d: {name: d[name].tolist() for name in d},
        lambda d: {name: d[name].to_numpy() for name in d},
        lambda d: d.astype({"g": "category", "f": "category"}),
        lambda d: d.astype({"g": object, "f": object}),
        lambda d: d.convert_dtypes(),
        lambda d: d.convert_dtypes(dtype_backend="pyarrow"),
        pl.from_pandas,
        lambda d: pl.from_pandas(d).lazy(),
        lambda d: pl.from_pandas(d).with_columns(pl.col("f", "g").cast(pl.Categorical)),
        pa.Table.from_pandas,
        lambda d: pa.Table.from_pandas(d.astype({"g": "category"})),
        lambda d: d.set_index(np.arange(N)[::-1]),
    ],
)
def test_every_kind_of_table_gives_the_same_design(convert, plain):
    expected, got = build_design(FORMULA, plain), build_design(FORMULA, convert(plain))
    assert got.column_names == expected.column_names
    np.testing.assert_array_equal(got.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(got.y, expected.y)
    for mine, other in zip(got.random, expected.random, strict=True):
        assert (mine.group, mine.columns, list(mine.levels)) == (
            other.group,
            other.columns,
            list(other.levels),
        )
        np.testing.assert_array_equal(mine.codes, other.codes)
        np.testing.assert_array_equal(mine.values, other.values)


def test_booleans_are_factors_and_numbers_group_in_numeric_order(plain):
    table = plain.assign(late=plain["year"] > 2000, plot=np.repeat([10, 9, 100, 1], N // 4))
    design = build_design("y ~ late + (1|plot)", table)
    assert design.column_names == ("(Intercept)", "lateTrue")
    assert list(design.random[0].levels) == ["1", "9", "10", "100"]


def test_category_order_is_the_coding_order_and_unused_levels_go(plain):
    table = plain.assign(f=pd.Categorical(plain["f"], categories=["w", "v", "u"]))
    design = build_design("y ~ f", table)
    assert design.column_names == ("(Intercept)", "fu")
    assert design.variables["f"].levels == ("v", "u")


@pytest.mark.parametrize("kind", [None, "polars", "arrow"])
def test_missing_labels_and_numbers_drop_rows(plain, kind):
    table = plain.astype({"g": object, "x": object})
    table.loc[3, "g"] = None
    table.loc[5, "x"] = None
    table.loc[7, "y"] = np.nan
    table["x"] = table["x"].astype(float)
    given = {"polars": pl.from_pandas, "arrow": pa.Table.from_pandas, None: lambda d: d}[kind](table)
    design = build_design("y ~ x + (1|g)", given)
    assert design.n_dropped == 3
    assert sorted(set(range(N)) - set(design.rows.tolist())) == [3, 5, 7]


@pytest.mark.parametrize(
    ("formula", "position", "words"),
    [
        ("y ~ height", 4, "column 'height' is not in the data"),
        ("y ~ yeer + (1|g)", 4, "nearest: 'year'"),
        ("y ~ x + (slope|g)", 9, "column 'slope'"),
        ("y ~ x + (1|g:block)", 13, "column 'block'"),
        ("yy ~ x", 0, "column 'yy'"),
        ("y ~ log(xx + 1)", 8, "nearest: 'x'"),
        ("~ x", 0, "response is missing"),
    ],
)
def test_unknown_columns_are_shown_in_the_formula(formula, position, words, plain):
    with pytest.raises(FormulaError, match=words) as caught:
        build_design(formula, plain)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("formula", "change", "words"),
    [
        ("f ~ x", {}, "response must be numeric, but 'f' has the labels 'u', 'v'"),
        ("y ~ x", {"y": lambda d: np.where(d.x > 1, np.inf, d.y)}, "column 'y' has infinite values"),
        ("y ~ x", {"y": lambda d: d.y + 1j}, "'y' is complex"),
        ("y ~ x", {"x": lambda d: d.x + 1j}, "'x' is complex"),
        ("y ~ x", {"x": np.nan}, "all 40 rows have a missing value.*'x' alone is missing in 40"),
        ("y ~ x", {"x": lambda d: np.where(d.x > 1, np.inf, d.x)}, "'x' has infinite values"),
        ("y ~ log(x)", {"x": 0.0}, r"'log\(x\)' has infinite values"),
        ("y ~ f", {"f": pd.Series([True, "a"] * 20, dtype=object)}, "mixes values of types 'bool', 'str'"),
        ("y ~ x", {"x": pd.date_range("2020-01-01", periods=N)}, "holds dates"),
        ("y ~ log(f)", {}, r"'log\(f\)' needs numbers"),
        ("y ~ poly(year, 4)", {}, "more than 4 distinct values"),
        ("y ~ offset(f)", {}, r"offset\(f\) must be numeric"),
    ],
)
def test_unusable_values_are_named(formula, change, words, plain):
    with pytest.raises(DataError, match=words):
        build_design(formula, plain.assign(**change))


@pytest.mark.parametrize(
    ("formula", "change", "words"),
    [
        ("y ~ f", {"f": "a"}, "factor 'f' has only the level 'a'"),
        ("y ~ x + (1|g)", {"g": "a"}, "'g' has only the level 'a'.*at least two levels"),
        ("y ~ x + (1|g)", {"g": np.arange(N)}, "40 levels for 40 observations.*confounded"),
        ("y ~ x + (1|g:x)", {}, "'g:x' has 40 levels"),
        ("y ~ x + (x|g)", {"g": np.repeat(np.arange(20), 2)}, "20 x 2 = 40 random effects"),
        ("y ~ factor(g)", {"g": np.arange(N)}, "40 observations are not enough for the 40 independent"),
    ],
)
def test_models_that_the_rows_cannot_carry(formula, change, words, plain):
    with pytest.raises(DesignError, match=words):
        build_design(formula, plain.assign(**change))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("x", "must be positive and finite: .* are not"),
        ("w", "not a column of the data"),
        ("f", "must be numeric"),
        (np.ones(3), r"has shape \(3,\), but the data have 40 rows"),
        (np.zeros(N), "40 are not, the first in row 0 .* is 0"),
        (np.r_[np.ones(N - 1), np.nan], "1 are not, the first in row 39 .* is missing"),
        (np.r_[np.ones(N - 1), np.inf], "the first in row 39 .* is inf"),
        (["a"] * N, "must be a column name or numbers"),
    ],
)
def test_weights_must_be_positive_numbers(weights, words, plain):
    with pytest.raises(DataError, match=words):
        build_design("y ~ f", plain, weights=weights)


def test_weights_of_dropped_rows_do_not_matter(plain):
    table = plain.assign(w=np.arange(N, dtype=float))
    table.loc[0, "y"] = np.nan
    design = build_design("y ~ f", table, weights="w")
    np.testing.assert_array_equal(design.weights, np.arange(1.0, N))


def test_offsets_add_up_and_their_missing_values_drop_rows(plain):
    table = plain.assign(o=np.arange(N, dtype=float))
    table.loc[2, "o"] = np.nan
    design = build_design("y ~ f + offset(2*o)", table, offset=np.ones(N))
    assert design.n_dropped == 1
    np.testing.assert_array_equal(design.offset, 2 * np.delete(np.arange(N), 2) + 1)
    np.testing.assert_array_equal(design.y, np.delete(plain["y"].to_numpy(), 2))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame({"y": [], "x": []}), "have no rows"),
        ({"y": [1, 2, 3], "x": [1, 2]}, "differ in length: 'y' has 3, 'x' has 2"),
        ({"y": [1.0, 2.0], "x": "ab"}, "'x' must be a sequence"),
        ([1, 2], "type list is not supported"),
        (pd.DataFrame([[1.0, 2, 3]], columns=["y", "x", "x"]), "several columns named 'x'"),
        ({"y": np.ones((3, 2)), "x": np.ones(3)}, "must be one-dimensional"),
    ],
)
def test_tables_that_are_none(data, words):
    with pytest.raises(DataError, match=words):
        build_design("y ~ x", data)


@pytest.mark.parametrize(
    ("contrasts", "words"),
    [
        ({"f": "contr.foo"}, "'contr.foo' for 'f' are not known; allowed: 'contr.treatment'"),
        ({"q": "contr.sum"}, "contrasts name 'q'"),
        ({"x": "contr.sum"}, r"is numeric; write C\(x\)"),
        ({"f": np.ones((3, 1))}, r"have shape \(3, 1\)"),
        ({"f": "contr.treatment(w)"}, "reference level 'w' of 'f' does not occur; levels: 'u', 'v'"),
    ],
)
def test_contrasts_that_are_not_known(contrasts, words, plain):
    with pytest.raises(OptionError, match=words):
        build_design("y ~ x*f", plain, contrasts=contrasts)


def test_a_constant_response_and_one_without_a_response_are_fine(plain):
    assert build_design("y ~ x", plain.assign(y=1.0)).y.tolist() == [1.0] * N
    design = build_design("yield ~ x + (1|g)", plain, response=False)
    assert design.y is None and design.response == "yield"
