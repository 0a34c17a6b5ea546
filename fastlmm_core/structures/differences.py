"""Second derivatives by differences of exact first ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Steps of the differences, in units of what a parameter is measured in (fourth order).
DIFFERENCE = 1e-3


def differentiate(
    gradient: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, at: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Symmetric matrix of second derivatives in the parameters `at`, (t, t).

    Parameters
    ----------
    gradient : callable
        From theta to the derivatives in the parameters `at` (t,).
    theta : (n_theta,)
    at : (t,) int
    unit : (t,)
        Change of every parameter that matters.
    """
    H = np.zeros((at.size, at.size))
    for column, (t, h) in enumerate(zip(at, DIFFERENCE * unit, strict=True)):
        moved = []
        for steps in (1.0, -1.0, 2.0, -2.0):
            near = theta.copy()
            near[t] += steps * h
            moved.append(gradient(near))
        H[:, column] = (8.0 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / (12.0 * h)
    return 0.5 * (H + H.T)
