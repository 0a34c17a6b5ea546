"""Which columns of X depend on earlier ones, and how: R's choice, for dense and for large sparse X.

R's ``qr`` (LINPACK dqrdc2) drops a column whose residual after the columns kept before it is below 1e-7 of its norm.
Here the residual is compared with the norm of the *centred* column, so that a covariate far from zero is judged by
its spread; a floor near rounding keeps exact dependencies from slipping through.

The columns dropped are the lexicographically last set whose removal leaves full rank. They can be read from any
basis of the null space {b: X b = 0}: column j is dropped when some null vector has its last nonzero entry in j.
So the null space may be found in whatever order suits sparsity (`_null_sparse`), and is then brought into echelon
form from the bottom (`_echelon`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from scipy.sparse.linalg import splu

TOLERANCE = 1e-7
FLOOR = 1e-13
DENSE_WORK = 2e7  # n p^2 below which a dense QR is cheaper than sparse set-up
SUSPECT = 1e-6  # pivot of the unit-norm Gram matrix below which a column is looked at explicitly
RIDGE = 1e-11
BLOCK = 128


@dataclass(frozen=True)
class Rank:
    """Rank structure of an (n, p) matrix.

    Attributes
    ----------
    kept, dropped : (r,), (d,) int64
        Column numbers, increasing; r + d = p.
    null : (p, d) csc_array
        Column k is the null vector with entry 1 at ``dropped[k]`` and its other entries on kept columns.
    """

    kept: np.ndarray
    dropped: np.ndarray
    null: sp.csc_array


def column_rank(X: sp.csc_array) -> Rank:
    """Dependent columns of X in R's sense.

    Parameters
    ----------
    X : (n, p) csc_array

    Returns
    -------
    Rank
    """
    n, p = X.shape
    if n * p * p <= DENSE_WORK:
        return _rank_dense(X.toarray())
    scale, tolerance = _sparse_norms(X)
    live = np.flatnonzero(scale > 0)
    scaled = sp.csc_array(X[:, live] @ sp.diags_array(1.0 / scale[live]))
    null = _null_sparse(scaled, tolerance[live])
    return _assemble(null, live, scale, p)


def _tolerances(norm: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """(p,) largest residual norm, relative to the column's norm, that counts as dependent."""
    ratio = np.divide(centred, norm, out=np.zeros_like(norm), where=norm > 0)
    return np.maximum(TOLERANCE * ratio, FLOOR)


def _rank_dense(A: np.ndarray) -> Rank:
    """`column_rank` of a dense (n, p) array."""
    n, p = A.shape
    scale = np.sqrt(np.einsum("ij,ij->j", A, A))
    centred = A - A.mean(axis=0)
    tolerance = _tolerances(scale, np.sqrt(np.einsum("ij,ij->j", centred, centred)))
    safe = np.where(scale > 0, scale, 1.0)
    R = np.linalg.qr(A / safe, mode="r") if p else np.zeros((0, 0))
    if n >= p and (np.abs(np.diag(R)) > tolerance).all():
        return full_rank(p)
    kept, null = _greedy(R, tolerance)
    dropped = np.setdiff1d(np.arange(p), kept)
    null = null / safe[:, None]
    null /= null[dropped, np.arange(dropped.size)]
    return Rank(kept, dropped, sp.csc_array(null))


def full_rank(p: int) -> Rank:
    """The structure of p independent columns."""
    return Rank(np.arange(p), np.empty(0, dtype=np.int64), sp.csc_array((p, 0), dtype=np.float64))


def _greedy(R: np.ndarray, tolerance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(kept, null) from the left: a column stays when its residual after those kept exceeds its tolerance.

    Parameters
    ----------
    R : (m, p) ndarray
    tolerance : (p,) ndarray
        Absolute bounds on the residual norms.

    Returns
    -------
    kept : (r,) int64
    null : (p, d) ndarray
        Null vectors with entry 1 at the dropped columns, in their order.
    """
    m, p = R.shape
    Q = np.empty((m, min(m, p)))
    kept: list[int] = []
    dropped: list[int] = []
    for j in range(p):
        basis = Q[:, : len(kept)]
        v = R[:, j].copy()
        for _ in range(2):
            v -= basis @ (basis.T @ v)
        size = float(np.linalg.norm(v))
        if size > tolerance[j] and len(kept) < m:
            Q[:, len(kept)] = v / size
            kept.append(j)
        else:
            dropped.append(j)
    null = np.zeros((p, len(dropped)))
    null[dropped, np.arange(len(dropped))] = 1.0
    if kept and dropped:
        basis = Q[:, : len(kept)]
        triangle = np.triu(basis.T @ R[:, kept])
        coefficients = la.solve_triangular(triangle, basis.T @ R[:, dropped])
        coefficients[np.abs(coefficients) < 1e-11] = 0.0
        null[kept] = -coefficients
    return np.array(kept, dtype=np.int64), null


def _sparse_norms(X: sp.csc_array) -> tuple[np.ndarray, np.ndarray]:
    """(p,) norms of the columns and their tolerances."""
    n, p = X.shape
    column = np.repeat(np.arange(p), np.diff(X.indptr))
    norm = np.sqrt(np.bincount(column, X.data**2, minlength=p))
    mean = np.bincount(column, X.data, minlength=p) / n
    spread = np.bincount(column, (X.data - mean[column]) ** 2, minlength=p)
    zeros = n - np.diff(X.indptr)
    return norm, np.maximum(_tolerances(norm, np.sqrt(spread + zeros * mean**2)), 10 * FLOOR)


def gram(X: sp.csc_array) -> sp.csc_array:
    """X'X, through dense blocks of rows when X is mostly filled."""
    n, p = X.shape
    if X.nnz < 0.2 * n * p or p > 20_000:
        return sp.csc_array(X.T @ X)
    rows = sp.csr_array(X)
    step = max(1, 8_000_000 // max(p, 1))
    total = np.zeros((p, p))
    for start in range(0, n, step):
        part = rows[start : start + step].toarray()
        total += part.T @ part
    return sp.csc_array(total)


def _factor(G: sp.csc_array) -> tuple[object, np.ndarray]:
    """(solver, pivots in the order of G's columns) of a symmetric positive (semi)definite G."""
    factor = splu(G, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    # perm_c[i] = j: column i of G is column j of the factored matrix
    return factor, np.abs(factor.U.diagonal())[factor.perm_c]


def _null_sparse(X: sp.csc_array, tolerance: np.ndarray) -> np.ndarray:
    """(p, d) dense basis of the null space of X with unit-norm columns.

    A ridge of 1e-11 lets the Cholesky factorization pass dependent columns; their pivots show them. The others
    form a well-conditioned basis, on which each suspect column is regressed and judged by its explicit residual.
    """
    p = X.shape[1]
    G = gram(X)
    _, pivots = _factor(sp.csc_array(G + RIDGE * sp.eye_array(p, format="csc")))
    suspects = np.flatnonzero(pivots < SUSPECT)
    while suspects.size:
        base = np.setdiff1d(np.arange(p), suspects)
        solver, pivots = _factor(sp.csc_array(G[base][:, base])) if base.size else (None, np.ones(0))
        weak = base[pivots < SUSPECT * 1e-3]
        if not weak.size:
            return _judge(X, base, suspects, solver, tolerance)
        suspects = np.union1d(suspects, weak)
    return np.zeros((p, 0))


def _judge(
    X: sp.csc_array, base: np.ndarray, suspects: np.ndarray, solver: object, tolerance: np.ndarray
) -> np.ndarray:
    """Null vectors of X: regress the suspect columns on the base, then among their residuals.

    Returns
    -------
    (p, d) ndarray
    """
    n, p = X.shape
    B = sp.csc_array(X[:, base])
    residuals: list[np.ndarray] = []
    loose: list[int] = []  # suspects that are not spanned by the base alone
    coefficients = np.zeros((base.size, suspects.size))
    for start in range(0, suspects.size, BLOCK):
        block = slice(start, start + BLOCK)
        E = X[:, suspects[block]].toarray()
        for _ in range(3 if base.size else 0):  # refinement makes the residual accurate to rounding
            step = solver.solve(B.T @ E)  # type: ignore[attr-defined]
            coefficients[:, block] += step
            E -= B @ step
        size = np.sqrt(np.einsum("ij,ij->j", E, E))
        far = np.flatnonzero(size > tolerance[suspects[block]])
        residuals.append(E[:, far])
        loose += (far + start).tolist()
    spanned = np.setdiff1d(np.arange(suspects.size), loose)
    null = np.zeros((p, spanned.size))
    null[base] = -coefficients[:, spanned]
    null[suspects[spanned], np.arange(spanned.size)] = 1.0
    if not loose:
        return null
    R = np.linalg.qr(np.concatenate(residuals, axis=1), mode="r")
    among = _greedy(R, tolerance[suspects[loose]])[1]
    more = np.zeros((p, among.shape[1]))
    more[suspects[loose]] = among
    more[base] = -coefficients[:, loose] @ among
    return np.concatenate([null, more], axis=1)


def _echelon(null: np.ndarray) -> np.ndarray:
    """Reduce the (p, d) null basis from the bottom; returns the d pivot rows (the columns R drops), increasing.

    Works in place: afterwards row ``pivot[k]`` of `null` is the k-th unit vector.
    """
    d = null.shape[1]
    pivots = np.empty(d, dtype=np.int64)
    for k in range(d - 1, -1, -1):
        size = np.abs(null[:, : k + 1])
        significant = size > 1e-8 * size.max(axis=0)
        row = null.shape[0] - 1 - int(np.argmax(significant.any(axis=1)[::-1]))
        pivot = int(np.argmax(size[row]))
        null[:, [pivot, k]] = null[:, [k, pivot]]
        null[:, k] /= null[row, k]
        others = np.flatnonzero(null[row] != 0)
        others = others[others != k]
        null[:, others] -= np.outer(null[:, k], null[row, others])
        null[row, others] = 0.0
        null[row + 1 :, k] = 0.0
        pivots[k] = row
    null[np.abs(null) < 1e-11] = 0.0
    return pivots


def _assemble(null: np.ndarray, live: np.ndarray, scale: np.ndarray, p: int) -> Rank:
    """Rank of all p columns from the null basis of the `live` (nonzero) ones, which were scaled to unit norm."""
    empty = np.setdiff1d(np.arange(p), live)
    pivots = live[_echelon(null)] if null.shape[1] else np.empty(0, dtype=np.int64)
    unscaled = null / scale[live, None]
    if pivots.size:
        place = np.searchsorted(live, pivots)
        unscaled /= unscaled[place, np.arange(pivots.size)]
    spread = sp.csc_array(
        (np.ones(live.size), (live, np.arange(live.size))), shape=(p, live.size)
    ) @ sp.csc_array(unscaled)  # fmt: skip
    units = sp.csc_array((np.ones(empty.size), (empty, np.arange(empty.size))), shape=(p, empty.size))
    both = sp.csc_array(sp.hstack([spread, units], format="csc"))
    dropped = np.concatenate([pivots, empty])
    order = np.argsort(dropped)
    return Rank(np.setdiff1d(np.arange(p), dropped), dropped[order].astype(np.int64), sp.csc_array(both[:, order]))
