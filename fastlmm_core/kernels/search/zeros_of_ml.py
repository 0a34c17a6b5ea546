"""Variances that ML leaves at zero, where its deviance can have another minimum.

ML counts the degrees of freedom of the fixed part as data.  Where it takes many of them, as checks and blocks
of an augmented trial do, the deviance of ML can have one minimum with a variance at zero and one with a large
variance, and moments lead to either.  Of 717 models the search from moments missed the deeper minimum in 12,
by up to 17.5, each time with a variance at zero; beside relative variances of one it missed none.
"""

from __future__ import annotations

from fastlmm_core.kernels.compile import kernel

# Relative standard deviation below which the search is on its way to zero.
NEARLY_ZERO = 1e-3


@kernel
def reach_beside_zeros(theta, parameters, reml):
    """Relative standard deviation to search from a second time: 1.0 where theta (n_theta,) of ML has a
    variance at zero, else 0.0."""
    if reml:
        return 0.0
    for t in range(theta.size):
        if parameters.row[t] == parameters.col[t] and abs(theta[t]) < NEARLY_ZERO:
            return 1.0
    return 0.0
