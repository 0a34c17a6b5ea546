"""Steps of the safeguarded Newton iteration on a small dense problem.

The caller evaluates deviance, gradient and curvature; these functions propose and judge steps, so that the
compiled small-system fit and the large-system fit share one method.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel


@kernel
def propose_step(gradient, hessian, radius):
    """Saddle-free Newton step inside a ball.

    Negative curvature enters by its absolute value (Dauphin et al. 2014): a maximum in a Cholesky parameter
    (a variance at zero whose score wants it to grow) repels the iteration instead of attracting it.

    Returns
    -------
    step : (d,) float64
    predicted : float
        Decrease of the quadratic model, >= 0.
    decrement : float
        g' |H|^-1 g of the unrestricted step, in units of the deviance.
    """
    values, vectors = np.linalg.eigh(hessian)
    d = gradient.size
    values = np.abs(values)
    floor = 1e-12 * max(values.max(), 1e-300)
    g = np.zeros(d)
    for k in range(d):
        values[k] = max(values[k], floor)
        for i in range(d):
            g[k] += vectors[i, k] * gradient[i]
    decrement = 0.0
    length = 0.0
    for k in range(d):
        decrement += g[k] * g[k] / values[k]
        length += (g[k] / values[k]) ** 2
    shift = 0.0
    if np.sqrt(length) > radius:
        # More's iteration for |step(shift)| = radius, monotone from the left
        for _ in range(50):
            length = 0.0
            slope = 0.0
            for k in range(d):
                s = g[k] / (values[k] + shift)
                length += s * s
                slope += s * s / (values[k] + shift)
            length = np.sqrt(length)
            if abs(length - radius) <= 1e-3 * radius:
                break
            shift += (length - radius) / radius * length * length / slope
            shift = max(shift, 0.0)
    step = np.zeros(d)
    predicted = 0.0
    for k in range(d):
        s = -g[k] / (values[k] + shift)
        predicted -= g[k] * s + 0.5 * values[k] * s * s
        for i in range(d):
            step[i] += vectors[i, k] * s
    return step, predicted, decrement


@kernel
def judge_step(actual, predicted, step_length, radius):
    """New trust radius, and whether the step is accepted, from the ratio of decreases."""
    ratio = actual / predicted if predicted > 0.0 else -1.0
    if not (ratio > 0.1):  # NaN included
        radius = min(0.35 * step_length, radius)
    elif ratio > 0.6 and step_length > 0.9 * radius:
        radius = 3.0 * radius
    return ratio > 1e-4, radius
