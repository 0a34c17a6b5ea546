"""Fixed columns that nearly depend on others, replaced inside by what they add.

With x = X_B c + s z, z orthogonal to the columns X_B, the equations in (X_B, z) are as well conditioned as
X_B itself, where those in (X_B, x) lose digits with the square of s.  The model is the same: beta = U^-1
beta_inside with a U that is the identity but for the columns replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.equations.columns import subtract_columns
from fastlmm_core.linalg.compressed import compressed
from fastlmm_core.linalg.ordered_factor import normal_solver

# Root mean square of what a column adds to others, in units of its own, below which it is replaced.
NEAR = 1e-4
# Coefficients of columns of mean square one that are rounding.
NEGLIGIBLE = 1e-14

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Separation:
    """The columns replaced.

    Attributes
    ----------
    replaced : (f,) int64
    added : (f,) float64
        Root mean square of what each of them adds, in units of its own.
    to_columns : (p, p) csc_array
        U^-1: coefficients of the columns as they were from those of the new ones.
    log_scale : float
        log |U|.
    """

    replaced: np.ndarray
    added: np.ndarray
    to_columns: sp.csc_array
    log_scale: float


def separate_columns(columns: Columns, candidates: np.ndarray, n: int) -> tuple[Columns, Separation | None]:
    """Replace those of the `candidates` that nearly depend on the other columns.

    Parameters
    ----------
    columns : (indptr, indices, data)
        Fixed columns (n, p) of mean square one and full rank, compressed.
    candidates : (c,) int64
        Increasing; the other columns are well conditioned.

    Returns
    -------
    columns, Separation or None
        The new columns, and None where there is nothing to replace.
    """
    X = sp.csc_array(columns[::-1], shape=(n, columns[0].size - 1))
    p = X.shape[1]
    base = np.setdiff1d(np.arange(p), candidates)
    found: list[tuple[int, np.ndarray, np.ndarray, float]] = []  # column, coefficients (p,), rest (n,), size
    solve = _solver(X[:, base])
    for j in candidates.tolist():
        x = X[:, [j]].toarray()[:, 0]
        c, rest = _regress(X[:, base], solve, x)
        coefficients = np.zeros(p)
        coefficients[base] = c
        for i, _, other, size in found:
            for _ in range(2):
                share = float(other @ rest) / (n * size * size)
                coefficients[i] += share * size
                rest = rest - share * other
        size = float(np.sqrt(rest @ rest / n))
        if size < NEAR:
            found.append((j, coefficients, rest, size))
        else:
            base = np.sort(np.append(base, j))
            solve = _solver(X[:, base])
    if not found:
        return columns, None
    return _replace(X, found)


def beyond_columns(B: sp.csc_array, x: np.ndarray) -> np.ndarray:
    """What x (n,) adds to well conditioned columns B (n, p): the rest of its regression on them."""
    unit = 2.0 ** np.round(np.log2(np.sqrt(x @ x / x.size)))  # a power of two rounds no digit of x
    return _regress(B, _solver(B), x / unit)[1] * unit


def _solver(B: sp.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """Solves B'B b = r."""
    return normal_solver(sp.csc_array(B.T @ B))


def _regress(
    B: sp.csc_array, solve: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(c, x - B c) of least squares, the residual in twice the precision of x (n,)."""
    parts = compressed(B)
    c, rest = np.zeros(B.shape[1]), x
    for _ in range(3):
        c = c + solve(B.T @ rest)
        c[np.abs(c) < NEGLIGIBLE] = 0.0
        rest = np.empty_like(x)
        subtract_columns(*parts, c, x, rest)
    return c, rest


def _replace(
    X: sp.csc_array, found: list[tuple[int, np.ndarray, np.ndarray, float]]
) -> tuple[Columns, Separation]:
    p = X.shape[1]
    replaced = np.array([j for j, *_ in found], dtype=np.int64)
    U = np.column_stack([coefficients for _, coefficients, _, _ in found])  # columns `replaced` of U
    sizes = np.array([size for *_, size in found])
    U[replaced, np.arange(replaced.size)] = sizes
    # U = [I C; 0 T] in the order (others, replaced)
    own = np.linalg.inv(U[replaced])
    U[replaced] = 0.0
    inverse = -U @ own
    inverse[replaced] = own
    others = np.setdiff1d(np.arange(p), replaced)
    row, col = np.nonzero(inverse)
    entries = np.concatenate((np.ones(others.size), inverse[row, col]))
    places = np.concatenate((others, row)), np.concatenate((others, replaced[col]))
    parts = [X[:, [j]] for j in range(p)]
    for j, _, rest, size in found:
        parts[j] = sp.csc_array(rest[:, None] / size)
    new = sp.csc_array(sp.hstack(parts, format="csc"))
    new.sort_indices()
    return (
        compressed(new),
        Separation(
            replaced, sizes, sp.csc_array((entries, places), shape=(p, p)), float(np.log(sizes).sum())
        ),
    )
