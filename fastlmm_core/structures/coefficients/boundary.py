"""Words for a covariance matrix at the border of its space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A variance this small beside the largest is zero: standard deviations of 1e-4, as lme4 judges singular fits.
ZERO_VARIANCE = 1e-8
# A correlation this close to +1 or -1 is at its bound. A search in tanh or logit ends about 1e-6 before it.
BOUND_CORRELATION = 1e-5
# An eigenvalue of the correlation matrix below this means a lower rank.
ZERO_EIGENVALUE = 1e-8


def zero_variances(variances: np.ndarray, least: float | np.ndarray = 0.0) -> np.ndarray:
    """Which of `variances` (m,) are zero beside the largest and `least`, (m,) bool.

    With an array `least` the largest is the one in these units, one for each coefficient; where coefficients
    share variances, the smallest unit serves for all.
    """
    if isinstance(least, np.ndarray) and least.size != variances.size:
        least = float(least.min())
    unit = least if isinstance(least, np.ndarray) else 1.0
    largest = float(np.max(variances / unit))
    return variances <= ZERO_VARIANCE * np.maximum(largest * unit, least)


def describe_zero_variances(zero: np.ndarray, names: Sequence[str], kind: str = "variance") -> list[str]:
    """A phrase for each coefficient of `names` (m,) whose `zero` (m,) bool is set."""
    return [f"the {kind} of {name} is zero" for name, gone in zip(names, zero, strict=True) if gone]


def describe_boundary(
    covariance: np.ndarray, names: Sequence[str], least: float | np.ndarray = 0.0
) -> tuple[str, ...]:
    """Zero variances, correlations of +1 or -1, and else a lower rank, of an unrestricted T (m, m)."""
    variances = np.diag(covariance)
    zero = zero_variances(variances, least)
    words = describe_zero_variances(zero, names)
    kept = np.flatnonzero(~zero)
    if kept.size < 2:
        return tuple(words)
    sd = np.sqrt(variances[kept])
    R = covariance[np.ix_(kept, kept)] / np.outer(sd, sd)
    pairs = [(i, j) for j in range(kept.size) for i in range(j + 1, kept.size)]
    bound = [(i, j) for i, j in pairs if abs(R[i, j]) >= 1.0 - ZERO_EIGENVALUE]
    own = [name for name, gone in zip(names, zero, strict=True) if not gone]
    for i, j in bound:
        sign = "+1" if R[i, j] > 0 else "-1"
        words.append(f"the correlation of {own[j]} and {own[i]} is {sign}")
    rank = int(np.count_nonzero(np.linalg.eigvalsh(R) > ZERO_EIGENVALUE))
    if not bound and rank < kept.size:
        words.append(f"the covariance of {', '.join(own)} has rank {rank} of {kept.size}")
    return tuple(words)
