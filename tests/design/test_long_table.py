"""A wide table of several traits, made long."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, long_table
from fastlmm_core.errors import DataError, FastLMMError, OptionError

WIDE = pd.DataFrame({
    "plot": ["007", "12", "3"], "gen": pd.Categorical(["b", "a", "b"], ["b", "a", "c"], ordered=True),
    "x": [1.5, np.nan, 2.5], "yield": [5.0, 4.0, np.nan], "height": [90, 80, 70],
}, index=[9, 9, 4])  # fmt: skip


def test_every_value_keeps_its_row():
    long = long_table(WIDE, ["yield", "height"], id="plot")
    assert list(long.columns) == ["plot", "gen", "x", "trait", "value"]
    assert long["plot"].tolist() == ["007", "007", "12", "12", "3"]
    assert long["trait"].tolist() == ["yield", "height", "yield", "height", "height"]
    assert long["value"].tolist() == [5.0, 90.0, 4.0, 80.0, 70.0]
    assert list(long["trait"].cat.categories) == ["yield", "height"]
    assert long["gen"].dtype == WIDE["gen"].dtype
    assert long.index.tolist() == list(range(5))


def test_kept_rows_and_back_again():
    long = long_table(WIDE, ["height", "yield"], id="plot", trait="which", value="y", missing="keep")
    assert len(long) == 6
    back = long.pivot(index="plot", columns="which", values="y").loc[WIDE["plot"]]
    for trait in ("height", "yield"):
        np.testing.assert_array_equal(back[trait], WIDE[trait])


def test_rows_without_a_name_are_numbered():
    long = long_table(WIDE.drop(columns="plot"), ["yield", "height"])
    assert long["unit"].tolist() == ["1", "1", "2", "2", "3"]


@pytest.mark.parametrize("kind", ["dict", "polars", "pyarrow"])
def test_other_tables(kind):
    plain = {name: WIDE[name].tolist() for name in ("plot", "height")} | {"yield": [5.0, 4.0, None]}
    if kind == "polars":
        plain = pytest.importorskip("polars").DataFrame(plain)
    if kind == "pyarrow":
        plain = pytest.importorskip("pyarrow").table(plain)
    long = long_table(plain, ["yield", "height"], id="plot")
    pd.testing.assert_frame_equal(
        long, long_table(WIDE[["plot", "yield", "height"]], ["yield", "height"], id="plot"),
        check_dtype=False,
    )  # fmt: skip


def test_uncorrelated_traits_are_fits_of_their_own():
    """Diagonal covariances of both random terms and residuals: nothing is shared between the traits."""
    rng = np.random.default_rng(4)
    wide = pd.DataFrame({"line": np.repeat([f"g{i}" for i in range(12)], 4)})
    for trait in "ab":
        wide[trait] = rng.normal(size=12)[np.arange(48) // 4] + rng.normal(size=48)
    wide.loc[3, "a"] = np.nan
    long = long_table(wide, ["a", "b"])
    fit = lmm("value ~ 0 + trait + diag(0 + trait | line)", long, residual="diag(trait | unit)")
    single = [lmm(f"{trait} ~ 1 + (1 | line)", wide) for trait in "ab"]
    assert fit.criterion == pytest.approx(sum(one.criterion for one in single), abs=1e-6)
    np.testing.assert_allclose(fit.beta, [one.beta[0] for one in single], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"traits": []}, OptionError, "traits are missing"),
        ({"traits": ["yeild"]}, DataError, "'yeild' is not in the table; nearest: 'yield'"),
        ({"traits": ["yield", "yield"]}, OptionError, "twice"),
        ({"traits": ["gen"]}, DataError, "'gen' is not numeric"),
        ({"traits": ["yield"], "id": "gen"}, DataError, "'gen' names several rows 'b'"),
        ({"traits": ["yield"], "id": "x"}, DataError, "'x' has no name in row 2"),
        ({"traits": ["yield"], "id": "yield"}, OptionError, "both a trait and the id"),
        ({"traits": ["yield"], "trait": "gen"}, OptionError, "'gen' already; give trait= another"),
        ({"traits": ["yield"], "missing": "fill"}, OptionError, "missing"),
        ({"traits": "yield"}, OptionError, "traits"),
    ],
)
def test_wrong_calls(options, error, words):
    with pytest.raises(error, match=words):
        long_table(WIDE, **options)


def test_no_table():
    with pytest.raises(FastLMMError, match="not supported"):
        long_table([1, 2], ["yield"])
