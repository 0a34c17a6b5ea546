"""Steps of the safeguarded Newton iteration on a small dense problem.

The caller evaluates deviance, gradient and curvature; these functions propose and judge steps, so that the
compiled small-system fit and the large-system fit share one method.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.compile import kernel
from fastlmm_core.kernels.eigenvalues import diagonalize

# The secant correction starts where the iteration is near, a decrement below SECANT_BELOW in units of the
# deviance, and a step has not brought the decrement below SECANT_SLOW of the one before.
SECANT_BELOW = 1.0
SECANT_SLOW = 0.01
# Diagonal elements of the curvature further apart are scaled: eigenvalues have 1e-12 of the largest.
LARGEST_SPREAD = 1e8


@kernel
def measure_length(v):
    """Euclidean norm of v (d,)."""
    total = 0.0
    for k in range(v.size):
        total += v[k] * v[k]
    return np.sqrt(total)


@kernel
def measure_scales(hessian):
    """Weights (d,) of the parameters in the length of a step: 1, or more where the curvature is far apart.

    The standard deviation of a trait that is 10^-7 of another has 10^14 times the curvature, beside which the
    eigenvalues of all others are rounding. With these weights no diagonal element is more than LARGEST_SPREAD
    times the middle one, and nothing changes below that. Curvatures below 1, where theta is of order one, are
    those of directions without information and say nothing of the scale.
    """
    d = hessian.shape[0]
    sizes = np.empty(d)
    for k in range(d):
        sizes[k] = abs(hessian[k, k])
    largest = LARGEST_SPREAD * max(np.sort(sizes)[(d - 1) // 2], 1.0)
    weights = np.ones(d)
    for k in range(d):
        if sizes[k] > largest:
            weights[k] = np.sqrt(sizes[k] / largest)
    return weights


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
    d = gradient.size
    weights = measure_scales(hessian)
    scaled = np.empty((d, d))
    for a in range(d):
        for b in range(d):
            scaled[a, b] = hessian[a, b] / (weights[a] * weights[b])
    values, vectors = diagonalize(scaled)
    floor, least, widest = 1e-300, np.inf, 1.0
    for k in range(d):
        least, widest = min(least, values[k]), max(widest, weights[k])
        values[k] = abs(values[k])
        floor = max(floor, 1e-12 * values[k])
    g = np.zeros(d)
    for k in range(d):
        values[k] = max(values[k], floor)
        for i in range(d):
            g[k] += vectors[i, k] * (gradient[i] / weights[i])
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
            step[i] += vectors[i, k] * s / weights[i]
    if shift == 0.0 and least > floor and widest > 1.0:
        refine_newton_step(step, gradient, hessian, values, vectors, weights)
    return step, predicted, decrement


@kernel
def refine_newton_step(step, gradient, hessian, values, vectors, weights):
    """One step of refinement of H step = -gradient, in place, by the scaled eigenvalues and eigenvectors.

    Small eigenvalues have 1e-16 of the largest, LARGEST_SPREAD of the middle curvature: by these alone the
    step of a badly conditioned H has four digits.
    """
    d = step.size
    rest = gradient.copy()
    for i in range(d):
        for j in range(d):
            rest[i] += hessian[i, j] * step[j]
    for k in range(d):
        s = 0.0
        for i in range(d):
            s -= vectors[i, k] * rest[i] / weights[i]
        s /= values[k]
        for i in range(d):
            step[i] += vectors[i, k] * s / weights[i]


@kernel
def correct_curvature(correction, hessian, step, change):
    """Symmetric rank-one secant update of what the average information misses.

    (hessian + correction) step = change holds afterwards, with `hessian` (d, d) the average information at
    the new point and `change` (d,) the difference of the gradients.  The average information is close to the
    second derivative in well-informed models only; in others the correction turns its slow linear
    convergence into superlinear (structured secant method, Dennis & Schnabel 1996, ch. 10; SR1 with its
    usual safeguard, Nocedal & Wright 2006, section 6.2).
    """
    d = step.size
    rest = np.empty(d)
    inner = 0.0
    rest_square = 0.0
    step_square = 0.0
    for a in range(d):
        total = change[a]
        for b in range(d):
            total -= (hessian[a, b] + correction[a, b]) * step[b]
        rest[a] = total
        inner += total * step[a]
        rest_square += total * total
        step_square += step[a] * step[a]
    if abs(inner) > 1e-6 * np.sqrt(rest_square * step_square):
        for a in range(d):
            for b in range(d):
                correction[a, b] += rest[a] * rest[b] / inner


@kernel
def judge_step(actual, predicted, step_length, radius):
    """New trust radius, and whether the step is accepted, from the ratio of decreases."""
    ratio = actual / predicted if predicted > 0.0 else -1.0
    if not (ratio > 0.1):  # NaN included
        radius = min(0.35 * step_length, radius)
    elif ratio > 0.6 and step_length > 0.9 * radius:
        radius = 3.0 * radius
    return ratio > 1e-4, radius
