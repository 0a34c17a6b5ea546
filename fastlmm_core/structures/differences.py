"""Second derivatives by differences of exact first ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Steps of the differences, in units of what a parameter is measured in.
DIFFERENCE = 1e-3


def differentiate(
    gradient: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, at: np.ndarray, unit: np.ndarray,
    fourth_order: bool = True,
) -> np.ndarray:  # fmt: skip
    """Symmetric matrix of second derivatives in the parameters `at`, (t, t).

    Parameters
    ----------
    gradient : callable
        From theta to the derivatives in the parameters `at` (t,).
    theta : (n_theta,)
    at : (t,) int
    unit : (t,)
        Change of every parameter that matters.
    fourth_order : bool
        Four gradients for each parameter, or two with an error of about a millionth.
    """
    H = np.zeros((at.size, at.size))
    for column, (t, h) in enumerate(zip(at, DIFFERENCE * unit, strict=True)):
        moved = []
        for steps in (1.0, -1.0, 2.0, -2.0) if fourth_order else (1.0, -1.0):
            near = theta.copy()
            near[t] += steps * h
            moved.append(gradient(near))
        if fourth_order:
            H[:, column] = (8.0 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / (12.0 * h)
        else:
            H[:, column] = (moved[0] - moved[1]) / (2.0 * h)
    return 0.5 * (H + H.T)
