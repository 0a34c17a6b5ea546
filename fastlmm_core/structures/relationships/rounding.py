"""Covariance matrices that are semidefinite but for the digits that their numbers were written with.

Numbers within half a unit of their last digit differ from the true ones by E with ||E||_F <= r =
(sum_ij unit_ij^2)^(1/2) / 2. Where the true matrix is semidefinite, the nearest such matrix in the Frobenius
norm (the given one with its negative eigenvalues at zero; Higham 1988, Linear Algebra Appl. 103:103) is no
farther: (sum of the squares of negative eigenvalues)^(1/2) <= r. More than that no rounding explains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Digits looked for; numbers with fewer were chosen, not rounded, and are taken as if they had the fewest.
DECIMALS = range(3, 13)
SIGNIFICANT = range(4, 14)
# Ulps that reading and scaling a number may cost.
ULPS = 8.0


def rounding_of(matrix: np.ndarray) -> tuple[float, str]:
    """The most by which rounding may have moved a matrix (L, L) in the Frobenius norm, and which it was.

    Of decimals, of significant digits and of single precision the one that moves most; 0 where none is it.

    Examples
    --------
    >>> import numpy as np
    >>> rounding_of(np.array([[1.0123, 0.3333], [0.3333, 1.0]]))
    (0.0001, '4 decimals')
    """
    found = [(0.5 * float(np.linalg.norm(units)), how) for units, how in last_units(matrix)]
    return max(found, default=(0.0, ""))


def last_units(values: np.ndarray, of: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, str]]:
    """Units of the last digit of numbers `of`, and how these are written, in every way that all `values` are.

    Examples
    --------
    >>> import numpy as np
    >>> for units, how in last_units(np.array([120.0123, 0.1])):
    ...     print(units, how)
    [0.0001 0.0001] 4 decimals
    [1.e-04 1.e-07] 7 significant digits
    """
    size, wanted = np.abs(values), np.abs(values if of is None else of)
    decimals = next((own for own in DECIMALS if _are_whole(size * 10.0**own)), None)
    if decimals is not None:
        yield np.full(wanted.shape, 10.0**-decimals), f"{decimals} decimals"
    exponent = _exponents(size)
    digits = next((own for own in SIGNIFICANT if _are_whole(size * 10.0 ** (own - 1 - exponent))), None)
    if digits is not None:
        units = np.where(wanted > 0.0, 10.0 ** (_exponents(wanted) + 1 - digits), 0.0)
        yield units, f"{digits} significant digits"
    with np.errstate(over="ignore"):
        single = bool((size.astype(np.float32) == size).all())
    if single:
        yield np.spacing(wanted.astype(np.float32)).astype(float), "single precision"


def _exponents(size: np.ndarray) -> np.ndarray:
    return np.floor(np.log10(np.where(size > 0.0, size, 1.0)))


def _are_whole(values: np.ndarray) -> bool:
    nearest = np.rint(values)
    return bool((np.abs(values - nearest) <= ULPS * np.finfo(float).eps * values).all())


def without_rounding(matrix: np.ndarray) -> tuple[np.ndarray, float, str]:
    """The nearest semidefinite matrix (L, L), the smallest eigenvalue of the given one, and its rounding.

    The matrix is empty where rounding does not explain the negative eigenvalues.
    """
    values, vectors = np.linalg.eigh(matrix)
    negative = values < 0.0
    most, how = rounding_of(matrix)
    if np.linalg.norm(values[negative]) > most:
        return np.zeros((0, 0)), float(values[0]), how
    nearest = matrix + (vectors[:, negative] * -values[negative]) @ vectors[:, negative].T
    return 0.5 * (nearest + nearest.T), float(values[0]), how
