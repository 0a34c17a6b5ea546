"""A batch names covariates of whole numbers that its own formula uses as names of levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import fit_batch, read_batch


@pytest.fixture
def numbered() -> pd.DataFrame:
    """Trials whose genotypes, replicates and blocks are numbers."""
    frame = alpha_trials(3)
    return frame.assign(**{name: frame[name].str[1:].astype(int) for name in ("gen", "rep", "block")})


def notes_of(frame: pd.DataFrame, formula: str, **options: object) -> str:
    return "; ".join(fit_batch(frame, formula, by="trial", progress=False, **options).notes)


def test_means_of_numbered_genotypes_are_told(numbered: pd.DataFrame) -> None:
    """One row a trial, at the mean of the numbers, is no table of twelve genotypes."""
    batch = fit_batch(
        numbered, "yield ~ gen + (1|rep:block)", by="trial", emmeans="gen", progress=False
    )
    assert len(batch.emmeans) == 3
    words = "; ".join(batch.notes)
    assert "'gen' is a covariate" in words and "12 values" in words and "factor(gen)" in words
    assert "emmeans='gen'" in words


def test_replicates_that_also_group_are_told(numbered: pd.DataFrame) -> None:
    """`rep` is one slope in the fixed part and three levels in `rep:block`."""
    words = notes_of(numbered, "yield ~ rep + (1|rep:block) + (1|gen)")
    assert "'rep' is a covariate" in words and "factor(rep)" in words and "(1 | rep:block)" in words


@pytest.mark.parametrize(
    "formula",
    [
        "yield ~ factor(gen) + factor(rep) + (1|rep:block)",
        "yield ~ moisture + (1|gen) + (1|rep:block)",
        "yield ~ rep + (1|rep) + (1|gen)",  # a trend over the replicates and what departs from it
    ],
)
def test_nothing_is_said_of_factors_measurements_and_trends(numbered: pd.DataFrame, formula: str) -> None:
    assert "covariate" not in notes_of(numbered, formula)


def test_factors_and_text_are_no_covariates(numbered: pd.DataFrame) -> None:
    assert "covariate" not in notes_of(alpha_trials(3), "yield ~ gen + rep + (1|rep:block)", emmeans="gen")
    assert "covariate" not in notes_of(
        numbered, "yield ~ gen + rep + (1|rep:block)", emmeans="gen", factors=["gen", "rep"]
    )
    gone = numbered.astype({"rep": "float64"})
    gone.loc[0, "rep"] = np.nan
    assert "if its 3 values" in notes_of(gone, "yield ~ rep + (1|rep:block) + (1|gen)")


def test_notes_on_the_source_are_kept_with_the_results(numbered: pd.DataFrame, tmp_path: Path) -> None:
    """A report of a folder is made without the table that they are about."""
    options = {"by": "trial", "emmeans": "gen", "progress": False, "out": tmp_path / "results"}
    written = fit_batch(numbered, "yield ~ gen + (1|rep:block)", **options)
    assert written.notes and read_batch(tmp_path / "results").notes == written.notes
    again = fit_batch(numbered, "yield ~ gen + (1|rep:block)", **options)
    assert again.notes == written.notes == read_batch(tmp_path / "results").notes
