"""Correlated coefficients of which one alone varies: the sign that the correlation with another would take.

Any correlation gives the same T there, and along the standard deviation of another coefficient the deviance D
has the slope 2 S_ab sd_a rho, S = dD/dT. It is negative for one of the two signs of rho, so that a standard
deviation of zero is a minimum for the other sign only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.kernels.thresholds import BOUNDARY

# Standard deviations of the second coefficient to begin with, relative to the first where both columns have a
# mean square of one, and the correlation.
STEPS = (0.3, 0.1, 0.03, 0.01)
CORRELATION = 0.9


def one_alone_varies(term: EngineTerm, theta: np.ndarray) -> bool:
    """Whether of the standard deviations of a correlated structure one alone is not zero."""
    structure = term.structure
    if structure.n_theta <= structure.m or not np.any(structure.lower_bounds() == 0.0):
        return False
    sd = np.sort(np.sqrt(np.diag(structure.covariance(theta)) * term.column_scale))
    return bool(sd[-1] > BOUNDARY and sd[-2] <= BOUNDARY)


def starts_of_signs(term: EngineTerm, theta: np.ndarray, product: np.ndarray) -> Iterator[np.ndarray]:
    """theta with a second coefficient, by the sign that lowers the deviance, from far to near.

    Parameters
    ----------
    theta : (n_theta,)
        Where one coefficient a varies alone.
    product : (m, r)
        S Lambda. Only row a of Lambda is not zero, so that S_ba = product_b . Lambda_a / T_aa.
    """
    T, unit = term.structure.covariance(theta), np.sqrt(term.column_scale)
    a = int(np.argmax(np.diag(T) * unit**2))
    score = product @ term.structure.loadings(theta)[a] / T[a, a]
    pull = np.where(np.arange(score.size) == a, 0.0, np.abs(score) / unit)  # whatever the units of columns
    b = int(np.argmax(pull))
    if pull[b] == 0.0:
        return
    sd = np.sqrt(T[a, a])
    for step in STEPS:
        second = step * sd * unit[a] / unit[b]
        turned = np.zeros_like(T)
        turned[a, a], turned[b, b] = T[a, a], second**2
        turned[a, b] = turned[b, a] = -np.sign(score[b]) * CORRELATION * sd * second
        yield np.asarray(term.structure.theta_of(turned))
