"""How the residuals within subjects are written: by patterns of visits, or as series."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.structures.residuals.visits_by_pattern import PatternResiduals, count_pieces
from fastlmm_core.structures.residuals.visits_in_series import SeriesResiduals
from fastlmm_core.structures.residuals.within_subject import Visits, WithinSubjectResiduals

# Entries of the inverses of all patterns from which on series are worth what they lack, the expected
# information of more rows than a dense matrix takes.
MANY_PIECES = 5_000


def residuals_of_visits(
    weights: np.ndarray, rows: Visits, structures: list[Any], visit_levels: tuple[str, ...],
    arm_levels: tuple[Any, ...],
) -> WithinSubjectResiduals:  # fmt: skip
    """The residuals of subjects as `WithinSubjectResiduals` takes them.

    Autoregressions of many visits, or of subjects each of which lacks others, have patterns without number.
    """
    in_series = all(structure.markov and structure.m > 1 for structure in structures)
    make = SeriesResiduals if in_series and count_pieces(rows) > MANY_PIECES else PatternResiduals
    return make(weights, rows, structures, visit_levels, arm_levels)
