"""Where the parameters of all terms sit in their factors Lambda, as kernels take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.kernels.equations.systems import Parameters
from fastlmm_core.structures.coefficients.entries import LoadingEntries


def theta_places(structures: Sequence[LoadingEntries]) -> Parameters:
    """Places of theta by term (K,), one term after another.

    ``kernels.trials.design.place_theta`` is the same for `us` and `diag`, without the interpreter.
    """
    places = [(k, row, col) for k, own in enumerate(structures) for row, col in own.positions]
    term, row, col = np.array(places, dtype=np.int64).reshape(-1, 3).T.copy()
    return Parameters(np.array([own.m for own in structures], dtype=np.int64), term, row, col)
