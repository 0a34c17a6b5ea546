"""Fields too narrow for a surface, and several plots in one place; other surfaces may have ties."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.cli import main
from fastlmm_core.errors import DesignError, DistanceWarning


@pytest.fixture
def fields():
    """Two fields of 8 x 6 plots, 24 genotypes twice in each."""
    rng = np.random.default_rng(5)
    row, col = (part.ravel() for part in np.meshgrid(np.arange(1, 9), np.arange(1, 7)))
    frames = []
    for env in "AB":
        gen = rng.permutation(np.repeat(np.arange(24), 2))
        y = rng.normal(size=24)[gen] + np.sin(row / 2.0) + rng.normal(scale=0.5, size=48)
        frames.append(pd.DataFrame({"env": env, "row": row, "col": col, "gen": gen.astype(str), "y": y}))
    return pd.concat(frames, ignore_index=True)


def told(formula, table, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lmm(formula, table, **options)
    return [str(w.message) for w in caught if issubclass(w.category, DistanceWarning)]


def test_fields_on_top_of_each_other(fields):
    words = told("y ~ env + (1 | gen)", fields, field_trend="ps")
    assert len(words) == 1
    assert words[0].startswith("2 plots stand at row 1, col 1, and as many or others at 47 more positions: ")
    assert "field_trend='ps | env'" in words[0]
    renamed = fields.rename(columns={"row": "range", "col": "bed"})
    assert "field_trend='ps(range, bed) | env'" in told(
        "y ~ env + (1 | gen)", renamed, field_trend="ps(range, bed)"
    )[0]  # fmt: skip


def test_a_surface_for_every_field_has_one_plot_in_each_place(fields):
    assert not told("y ~ (1 | gen)", fields, field_trend="ps | env")
    twice = pd.concat([fields, fields[fields["env"] == "B"].iloc[[10]]], ignore_index=True)
    words = told("y ~ (1 | gen)", twice, field_trend="ps | env")
    place = fields[fields["env"] == "B"].iloc[10]
    assert len(words) == 1
    assert words[0].startswith(f"2 plots stand at row {place['row']}, col {place['col']}: 'at(env, B):ps(")
    assert "for several fields" not in words[0]


def test_plots_without_a_yield_stand_nowhere(fields):
    one = fields[fields["env"] == "A"]
    lost = pd.concat([one, one.iloc[[10]].assign(y=np.nan)], ignore_index=True)
    assert not told("y ~ (1 | gen)", lost, field_trend="ps")


def test_covariates_of_other_surfaces_may_have_ties(fields):
    assert not told("y ~ env + row*col + (1 | gen) + ps(row, col, nseg=(4, 3))", fields)


@pytest.mark.parametrize(
    ("line", "count", "words"),
    [("row", 1, "3 distinct values of row, but there is 1; for a trend along 'col' alone write col . ps"),
     ("col", 2, "3 distinct values of col, but there are 2; .* along 'row' alone write row . ps.row.")],
)  # fmt: skip
def test_a_field_of_a_line_or_two_has_no_surface(fields, line, count, words):
    narrow = fields[(fields["env"] == "A") & (fields[line] <= count)].copy()
    narrow["gen"] = [f"g{k % 3}" for k in range(len(narrow))]
    with pytest.raises(DesignError, match=words):
        lmm("y ~ (1 | gen)", narrow, field_trend="ps")


def test_a_summary_says_it_too(fields, tmp_path, capsys):
    """The command line shows no warnings of Python, but what stands below a summary."""
    fields.to_csv(tmp_path / "fields.csv", index=False)
    trend = ["--field-trend", "ps(row, col, nseg=(4, 3))"]
    code = main(["fit", str(tmp_path / "fields.csv"), "y ~ (1 | gen)", *trend])
    words = capsys.readouterr().out
    assert code == 0 and "2 plots stand at row 1, col 1" in words and "for several fields write" in words
