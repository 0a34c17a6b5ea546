"""One random term over a dense relationship in a balanced design: an orthogonal change of basis.

Every row belongs to one coefficient of a level, such as its effect in an environment. The rows of a cell, a
level l in environment e, with weights w_i whose sum s_e is the same in all levels, are reflected so that one
of them holds sum_i w_i y_i / sqrt(s_e) and the others what varies within the cell; then the L rows of an
environment that stand for its cells are rotated by the eigenvectors of G = U diag(d) U'.  In the new rows,
and with u_e = U sqrt(d) v_e:

    y* = H y,   X* = H W^(1/2) X,   Z*_e = sqrt(s_e) sqrt(d) on one row of each v_e,   e* ~ N(0, R)

for a residual variance that may differ between environments.  These are the same equations in another basis:
C has a block of the coefficients of each level where the clique of all was, and an evaluation takes O(n p)
(Lippert et al. 2011, Nature Methods 8, 833-835, without repeated records; Thompson 1977, Biometrics 33,
497-504, for several traits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from fastlmm_core.engine.equations.terms import EngineTerm, coefficient_structure, unit_of_relation
from fastlmm_core.linalg.memory import check_memory

# Related effects below which their clique is as fast.
LEAST_LEVELS = 200
# Fixed columns up to which X* is worth being dense, and numbers that it may hold.
MOST_COLUMNS = 100
MOST_NUMBERS = 50_000_000
# Relative differences of the summed weights that are rounding.
EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class RowRotation:
    """H W^(1/2) and its inverse.

    Attributes
    ----------
    root : (n,) float64
        Roots of the weights.
    reflector : (m L, n) csr_array
        A row v of each cell, with I - v v' the reflection of its rows.
    first : (m, L) int64
        The row that stands for each cell.
    vectors : (L, L) float64
        U.
    """

    root: np.ndarray
    reflector: sp.csr_array
    first: np.ndarray
    vectors: np.ndarray

    def forward(self, B: np.ndarray) -> np.ndarray:
        """H W^(1/2) B for B (n,) or (n, k)."""
        scaled = (B.T * self.root).T
        out = scaled - self.reflector.T @ (self.reflector @ scaled)
        out[self.first] = self._turned(self.vectors.T, out[self.first])
        return np.asarray(out)

    @staticmethod
    def _turned(vectors: np.ndarray, B: np.ndarray) -> np.ndarray:
        """The rows of B (m, L) or (m, L, k) of every environment turned."""
        return np.asarray(B @ vectors.T if B.ndim == 2 else vectors @ B)

    def backward(self, B: np.ndarray) -> np.ndarray:
        """W^(-1/2) H' B."""
        turned = B.copy()
        turned[self.first] = self._turned(self.vectors, B[self.first])
        turned = turned - self.reflector.T @ (self.reflector @ turned)
        return np.asarray((turned.T / self.root).T)

    def weighted(self, B: np.ndarray) -> np.ndarray:
        """W^(1/2) H' B: what `forward` is the transpose of."""
        return ((self.backward(B)).T * self.root**2).T


@dataclass(frozen=True, eq=False)
class RotatedTerm:
    """The term in the new basis, and the rotation of its rows."""

    term: EngineTerm
    rotation: RowRotation
    log_weights: float


def rotate_term(
    design: Any, G: np.ndarray, Z: Sequence[sp.csr_array], max_memory: int | float | str | None = None
) -> RotatedTerm | None:
    """The only random term of a design in its eigenbasis; None where that is another model or no gain.

    Parameters
    ----------
    G : (L, L) float64
        As `dense_relationship` gives it.
    Z : sequence of (n, L) csr_array
        Incidence of its m coefficients.
    max_memory : int, float or str, optional
        As of ``lmm``.
    """
    n, L, m = design.n, G.shape[0], len(Z)
    if m * L < LEAST_LEVELS or design.X.shape[1] > MOST_COLUMNS or n * design.X.shape[1] > MOST_NUMBERS:
        return None
    cells = _cells(Z)
    if cells is None or not _one_residual(design.residual, cells // L):
        return None
    w = np.ones(n) if design.weights is None else np.asarray(design.weights, float)
    sums = np.bincount(cells, w, minlength=m * L)
    by_coefficient = sums.reshape(m, L)
    least, most = by_coefficient.min(axis=1), by_coefficient.max(axis=1)
    if np.any(least <= 0.0) or np.any(most - least > EQUAL * most):
        return None
    # the vectors, the workspace and their product with the roots of the values
    check_memory(5 * G.nbytes, max_memory, f"the eigenbasis of a relationship of {L:,} levels")
    values, vectors = eigh(G, driver="evd", check_finite=False)
    root = np.sqrt(np.maximum(values, 0.0))
    first = np.full(m * L, n)
    np.minimum.at(first, cells, np.arange(n))
    reflector = _reflector(np.sqrt(w / sums[cells]), cells, first)
    first = first.reshape(m, L)
    unit = unit_of_relation(float(np.mean(values)))
    inside = tuple(
        sp.csr_array((unit * np.sqrt(own[0]) * root, (rows, np.arange(L))), shape=(n, L))
        for own, rows in zip(by_coefficient, first, strict=True)
    )
    term = EngineTerm(coefficient_structure(design.random[0]), None, inside, unit * np.eye(m), vectors * root)
    return RotatedTerm(term, RowRotation(np.sqrt(w), reflector, first, vectors), float(np.sum(np.log(w))))


def _cells(Z: Sequence[sp.csr_array]) -> np.ndarray | None:
    """Cell a L + l of every row (n,), of level l in coefficient a; None where a row is not of one cell."""
    n, L = Z[0].shape
    if sum(M.nnz for M in Z) != n:
        return None
    cells = np.full(n, -1, np.int64)
    for a, M in enumerate(Z):
        counts = np.diff(M.indptr)
        if np.any(counts > 1) or not np.all(M.data == 1.0):
            return None
        cells[counts == 1] = a * L + M.indices
    return cells if np.all(cells >= 0) else None


def _one_residual(residual: Any, coefficient: np.ndarray) -> bool:
    """Whether the rows of every coefficient (n,) share a residual variance."""
    if residual.kind != "units":
        return False
    if residual.by is None:
        return True
    group = np.asarray(residual.by[2], np.int64)
    first = np.full(int(coefficient.max()) + 1, -1)
    first[coefficient] = group
    return bool(np.all(first[coefficient] == group))


def dense_relationship(design: Any) -> np.ndarray | None:
    """G (L, L) of a model with one random term over it and independent residuals."""
    if len(design.random) != 1 or design.residual.kind != "units":
        return None
    term = design.random[0]
    if term.is_spline or term.relation is None:
        return None
    factors = term.relation.factors
    if len(factors) != 1 or factors[0].kind != "vm" or factors[0].relationship.root() is not None:
        return None
    relationship = factors[0].relationship
    matrix = getattr(getattr(relationship, "covariance", relationship), "matrix", None)
    return matrix if isinstance(matrix, np.ndarray) else None


def _reflector(share: np.ndarray, codes: np.ndarray, first: np.ndarray) -> sp.csr_array:
    """Rows v_l, v_l v_l' = 2 (a - e)(a - e)' / |a - e|^2, of the unit vectors a = `share` and e (first)."""
    n, L = codes.size, first.size
    difference = share.copy()
    difference[first] -= 1.0
    square = np.bincount(codes, difference**2, minlength=L)
    several = square > 0.0  # a single row is its own
    unit = np.sqrt(np.divide(2.0, square, out=np.zeros(L), where=several))
    return sp.csr_array((difference * unit[codes], (codes, np.arange(n))), shape=(L, n))
