"""Correlated coefficients of which one alone varies: the sign that the correlation with another would take.

Any correlation gives the same T there, and along the standard deviation of another coefficient the deviance D
has the slope 2 S_ab sd_a rho, S = dD/dT. It is negative for one of the two signs of rho, so that a standard
deviation of zero is a minimum for the other sign only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastlmm_core.engine.terms import EngineTerm

# Standard deviation, relative to that of the response, below which a coefficient does not vary.
ZERO = 1e-4
# Standard deviations of the second coefficient to begin with, relative to the first, and the correlation.
STEPS = (0.3, 0.1, 0.03, 0.01)
CORRELATION = 0.9


def one_alone_varies(term: EngineTerm, theta: np.ndarray) -> bool:
    """Whether of the standard deviations of a correlated structure one alone is not zero."""
    structure = term.structure
    if structure.n_theta <= structure.m or not np.any(structure.lower_bounds() == 0.0):
        return False
    sd = np.sort(np.sqrt(np.diag(structure.covariance(theta)) * term.column_scale))
    return bool(sd[-1] > ZERO and sd[-2] <= ZERO)


def turned_starts(term: EngineTerm, theta: np.ndarray, product: np.ndarray) -> Iterator[np.ndarray]:
    """theta with a second coefficient, by the sign that lowers the deviance, from far to near.

    Parameters
    ----------
    theta : (n_theta,)
        Where one coefficient a varies alone.
    product : (m, r)
        S Lambda. Only row a of Lambda is not zero, so that S_ba = product_b . Lambda_a / T_aa.
    """
    T = term.structure.covariance(theta)
    a = int(np.argmax(np.diag(T)))
    score = product @ term.structure.loadings(theta)[a] / T[a, a]
    pull = np.where(np.arange(score.size) == a, 0.0, np.abs(score))
    b = int(np.argmax(pull))
    if pull[b] == 0.0:
        return
    sd = np.sqrt(T[a, a])
    for step in STEPS:
        turned = np.zeros_like(T)
        turned[a, a], turned[b, b] = T[a, a], (step * sd) ** 2
        turned[a, b] = turned[b, a] = -np.sign(score[b]) * CORRELATION * step * T[a, a]
        yield np.asarray(term.structure.theta_of(turned))
