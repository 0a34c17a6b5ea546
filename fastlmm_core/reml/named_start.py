"""A start of the search from covariances by the names of their terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlmm_core.design.parameter_names import named_covariances, within_reach
from fastlmm_core.errors import OptionError
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import Response

# What of the mean square about the fixed part a residual variance has that is not named.
RESIDUAL_SHARE = 0.5


def place_named(
    design: Any, e: MixedModelEquations, response: Response, given: Mapping[str, Any], theta: np.ndarray
) -> np.ndarray:
    """theta (n_theta,) with the parameters of the terms that `given` names, relative to the residual.

    Raises
    ------
    OptionError
        For a name that is no term, or a value that its structure cannot have.
    """
    named = named_covariances(design, given, "start")
    square = response.yy / e.n * response.unit**2
    residual = RESIDUAL_SHARE * square
    for one in named:
        if one.term < 0:
            if one.T.size != 1 or not one.T[0, 0] > 0.0:
                raise OptionError("start['Residual'] must be one positive variance")
            residual = float(within_reach(one.T / square)[0, 0]) * square
    out = theta.copy()
    for one in named:
        if one.term >= 0:
            layout = e.terms[one.term]
            own = within_reach(one.inside(layout.basis) / square) * (square / residual)
            out[e.theta_term == one.term] = one.theta(layout.structure.started, own)
    return out
