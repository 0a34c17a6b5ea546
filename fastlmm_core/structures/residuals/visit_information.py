"""Information of the parameters of Sigma, summed over visit patterns in the matrices of all visits.

What ``kernels.equations.visit_scores`` sums serves every parameter at once. It has m^4 numbers for m visits,
so that it pays where parameters are many beside the visits, as of an unstructured Sigma.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.kernels.equations.visit_products import Patterns
from fastlmm_core.kernels.equations.visit_scores import fill_precision_products, sum_scaled_products

# Numbers that sums over patterns may take together.
PATTERN_NUMBERS = 2e6


def pays(patterns: Patterns, n_parameters: Sequence[int], m: int, q: int) -> bool:
    """Whether sums in the matrices of m visits take fewer operations than products by parameter.

    Parameters
    ----------
    n_parameters : by arm
    q : int
        Unknowns of the equations.
    """
    arms, t = len(n_parameters), max(n_parameters)
    if m**4 > PATTERN_NUMBERS or arms * m * m * q > PATTERN_NUMBERS:
        return False
    count = patterns.arm.size
    return (count + arms * t) * m <= 6 * t * count


def pair_sums(
    patterns: Patterns, arm: int, coefficients: np.ndarray, squares: np.ndarray, m: int
) -> np.ndarray:
    """sum_g R_g^-1 (x) R_g^-1 X_g R_g^-1 of the patterns of an arm, (m, m, m, m): (a, b) and (c, d)."""
    out, step = np.zeros((m * m, m * m)), max(1, int(PATTERN_NUMBERS / (m * m)))
    own = patterns.arm == arm
    for lo in range(0, own.size, step):
        hi = min(lo + step, own.size)
        if own[lo:hi].any():
            left, right = np.zeros((2, hi - lo, m * m))
            fill_precision_products(patterns, lo, hi, coefficients, squares, left, right)
            out += left[own[lo:hi]].T @ right[own[lo:hi]]
    return out.reshape(m, m, m, m)


def contracted_products(
    patterns: Patterns, slopes: Sequence[np.ndarray], coefficients: np.ndarray, squares: np.ndarray,
    matrix: tuple[np.ndarray, np.ndarray, np.ndarray], root: np.ndarray, E: np.ndarray, q: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """W' D_t E (q, t) and E' D_t R D_u E (t, t), D_t = dR^-1 of the slopes dSigma (t, m, m) by arm.

    Parameters
    ----------
    coefficients, squares : (pieces,)
        R_g^-1, and sums of E_s E_s'.
    matrix : compressed rows of W (n, q)
    root, E : (n,)
        Roots of the weights; residuals times them.
    """
    arms, m = len(slopes), slopes[0].shape[1]
    products = np.zeros((arms, m, m, q))
    sum_scaled_products(patterns, coefficients, matrix, root, E, products)
    ends = np.cumsum([0, *(len(own) for own in slopes)])
    sides, form = np.empty((q, ends[-1])), np.zeros((ends[-1], ends[-1]))
    for arm, own in enumerate(slopes):
        place, flat = slice(ends[arm], ends[arm + 1]), own.reshape(len(own), m * m)
        sides[:, place] = -(products[arm].reshape(m * m, q).T @ flat.T)
        # tr(S_t A S_u B) of pairs A (a, b) and B (c, d)
        pairs = pair_sums(patterns, arm, coefficients, squares, m).transpose(3, 0, 1, 2)
        form[place, place] = flat @ pairs.reshape(m * m, m * m) @ flat.T
    return sides, 0.5 * (form + form.T)
