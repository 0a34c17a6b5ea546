"""Which columns of X depend on earlier ones, and how: R's choice, for dense and for large sparse X.

R's ``qr`` (LINPACK dqrdc2) drops a column whose residual after the columns kept before it is below 1e-7 of
its norm. Here the residual is compared with the norm of the *centred* column, so that a covariate far from
zero is judged by its spread; a floor near rounding keeps exact dependencies from slipping through.

The columns dropped are the lexicographically last set whose removal leaves full rank. They can be read from
any basis of the null space {b: X b = 0}: column j is dropped when some null vector has its last nonzero
entry in j. So the null space may be found in whatever order suits sparsity (`_null_sparse`), and is then
brought into echelon form from the bottom (`_echelon`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from fastlmm_core.kernels.thresholds import NULL_ROUNDING, RANK_FLOOR, RANK_TOLERANCE

DENSE_WORK = 2e7  # n p^2 below which a dense QR is cheaper than sparse set-up
DENSE_SUSPECT_WORK = 1e9  # n p^2 below which a dense QR is cheaper than looking at suspects one by one
SUSPECT = 1e-6  # pivot of the unit-norm Gram matrix below which a column is looked at explicitly
RIDGE = 1e-11
BLOCK = 128
# Residual of a unit-norm column below which ``engine.equations.near_dependence`` looks at it.
WEAK = 2e-4
# The same above which a column is independent by any rule here, and X'X has the digits to tell.
CLEAR = 1e-3


@dataclass(frozen=True)
class Rank:
    """Rank structure of an (n, p) matrix.

    Attributes
    ----------
    kept, dropped : (r,), (d,) int64
        Column numbers, increasing; r + d = p.
    null : (p, d) csc_array
        Column k is the null vector with entry 1 at ``dropped[k]`` and its other entries on kept columns.
    weak : (c,) int64
        Columns among those kept, by their place there, that may nearly depend on others.
    """

    kept: np.ndarray
    dropped: np.ndarray
    null: sp.csc_array
    weak: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def column_rank(X: sp.csc_array | np.ndarray) -> Rank:
    """Dependent columns of X in R's sense.

    Parameters
    ----------
    X : (n, p) csc_array, or an array where there are few columns

    Returns
    -------
    Rank
    """
    n, p = X.shape
    if isinstance(X, np.ndarray):
        return _rank_dense(X)
    if n * p * p <= DENSE_WORK:
        return _rank_dense(X.toarray())
    scale, tolerance = _sparse_norms(X)
    live = np.flatnonzero(scale > 0)
    scaled = sp.csc_array(X[:, live] if live.size < p else X, copy=True)
    scaled.data /= np.repeat(scale[live], np.diff(scaled.indptr))
    G = gram(scaled)
    _, pivots = _factor(sp.csc_array(G + RIDGE * sp.eye_array(live.size, format="csc")))
    suspects = np.flatnonzero(pivots < SUSPECT)
    if suspects.size and n * p * p <= DENSE_SUSPECT_WORK:
        return _rank_dense(X.toarray())
    if suspects.size or live.size < p:
        found = _assemble(_null_sparse(scaled, G, suspects, tolerance[live]), live, scale, p)
    else:
        found = full_rank(p)
    weak = np.flatnonzero(np.isin(found.kept, live[pivots < WEAK**2]))
    return replace(found, weak=weak) if weak.size else found


def _tolerances(norm: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """(p,) largest residual norm, relative to the column's norm, that counts as dependent."""
    ratio = np.divide(centred, norm, out=np.zeros_like(norm), where=norm > 0)
    return np.maximum(RANK_TOLERANCE * ratio, RANK_FLOOR)


def _rank_dense(A: np.ndarray) -> Rank:
    """`column_rank` of a dense (n, p) array."""
    n, p = A.shape
    if _clearly_independent(A):
        return full_rank(p)
    scale = np.sqrt(np.einsum("ij,ij->j", A, A))
    centred = A - A.mean(axis=0)
    tolerance = _tolerances(scale, np.sqrt(np.einsum("ij,ij->j", centred, centred)))
    safe = np.where(scale > 0, scale, 1.0)
    R = triangle_of(A / safe)
    pivots = np.abs(np.diag(R))
    if n >= p and (pivots > tolerance).all():
        weak = np.flatnonzero(pivots < WEAK)
        return replace(full_rank(p), weak=weak) if weak.size else full_rank(p)
    kept, null = _greedy(R, tolerance)
    weak = np.flatnonzero(np.abs(np.diag(triangle_of(R[:, kept]))) < WEAK)
    dropped = np.setdiff1d(np.arange(p), kept)
    null = null / safe[:, None]
    null /= null[dropped, np.arange(dropped.size)]
    return Rank(kept, dropped, sp.csc_array(null), weak)


def _clearly_independent(A: np.ndarray) -> bool:
    """Whether every column of A (n, p) keeps ``CLEAR`` of its norm beside those before it: most designs.

    The pivots of the Cholesky factor of A'A are those of the QR factorization of A, at a third of the time.
    """
    G = A.T @ A
    norm = np.sqrt(G.diagonal())
    if not norm.all():
        return False
    try:
        pivots = np.linalg.cholesky(G / (norm[:, None] * norm)).diagonal()
    except np.linalg.LinAlgError:
        return False
    return bool((pivots > CLEAR).all())


def triangle_of(A: np.ndarray) -> np.ndarray:
    """(min(n, p), p) R of the QR factorization of A, (n, p)."""
    return np.asarray(np.linalg.qr(A, mode="r")) if A.shape[1] else np.zeros((0, 0))


@lru_cache(maxsize=64)
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
        coefficients[np.abs(coefficients) < NULL_ROUNDING] = 0.0
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
    return norm, np.maximum(_tolerances(norm, np.sqrt(spread + zeros * mean**2)), 10 * RANK_FLOOR)


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


def _null_sparse(
    X: sp.csc_array, G: sp.csc_array, suspects: np.ndarray, tolerance: np.ndarray
) -> sp.csc_array:
    """(p, d) basis of the null space of X with unit-norm columns, G = X'X.

    A ridge of 1e-11 lets the Cholesky factorization pass dependent columns; their pivots show the
    `suspects`. The other columns form a well-conditioned basis, on which each suspect is regressed and
    judged by its residual.
    """
    p = X.shape[1]
    while suspects.size:
        base = np.setdiff1d(np.arange(p), suspects)
        solver, pivots = _factor(sp.csc_array(G[base][:, base])) if base.size else (None, np.ones(0))
        weak = base[pivots < SUSPECT * 1e-3]
        if not weak.size:
            return _judge(X, base, suspects, solver, tolerance)
        suspects = np.union1d(suspects, weak)
    return sp.csc_array((p, 0), dtype=np.float64)


def _judge(
    X: sp.csc_array, base: np.ndarray, suspects: np.ndarray, solver: object, tolerance: np.ndarray
) -> sp.csc_array:
    """Null vectors of X: regress the suspect columns on the base, then among their residuals.

    Returns
    -------
    (p, d) csc_array
    """
    p = X.shape[1]
    B = sp.csc_array(X[:, base])
    Bt = sp.csr_array(B.T)
    found: list[sp.csc_array] = []
    residuals: list[np.ndarray] = []
    loose: list[np.ndarray] = []  # suspects that are not spanned by the base alone, and their regressions
    regressions: list[np.ndarray] = []
    for start in range(0, suspects.size, BLOCK):
        block = suspects[start : start + BLOCK]
        E = X[:, block].toarray()
        coefficients = np.zeros((base.size, block.size))
        for _ in range(3 if base.size else 0):  # refinement makes the residual accurate to rounding
            step = solver.solve(Bt @ E)  # type: ignore[attr-defined]
            coefficients += step
            E -= B @ step
        far = np.sqrt(np.einsum("ij,ij->j", E, E)) > tolerance[block]
        found.append(_null_block(p, base, coefficients[:, ~far], block[~far], None))
        residuals.append(E[:, far])
        loose.append(block[far])
        regressions.append(coefficients[:, far])
    columns = np.concatenate(loose)
    if columns.size:
        R = triangle_of(np.concatenate(residuals, axis=1))
        among = _greedy(R, tolerance[columns])[1]
        found.append(_null_block(p, base, np.concatenate(regressions, axis=1) @ among, columns, among))
    return sp.csc_array(sp.hstack(found, format="csc"))


def _null_block(
    p: int, base: np.ndarray, coefficients: np.ndarray, columns: np.ndarray, among: np.ndarray | None
) -> sp.csc_array:
    """(p, k) null vectors: -coefficients at `base`, and `among` (or the identity) at `columns`."""
    null = np.zeros((p, coefficients.shape[1]), order="F")
    null[base] = np.where(np.abs(coefficients) > NULL_ROUNDING, -coefficients, 0.0)
    if among is None:
        null[columns, np.arange(columns.size)] = 1.0
    else:
        null[columns] = among
    return sp.csc_array(null)


def _echelon(null: sp.csc_array) -> tuple[sp.csc_array, np.ndarray]:
    """Reduce a (p, d) null basis from the bottom, one connected part of its pattern at a time.

    Returns
    -------
    null : (p, d) csc_array
        Row ``pivots[k]`` is the k-th unit vector.
    pivots : (d,) int64
        The columns R drops, increasing.
    """
    p, d = null.shape
    pattern = sp.block_array([[None, null], [null.T, None]], format="csr")
    part = connected_components(pattern, directed=False)[1]
    data, rows, columns, pivots = [], [], [], []
    by_part = np.argsort(part[p:], kind="stable")
    cuts = np.flatnonzero(np.diff(part[p:][by_part])) + 1
    for members in np.split(by_part, cuts):
        own = sp.csc_array(null[:, members])
        support = np.unique(own.indices)
        dense = np.asfortranarray(own[support].toarray())
        pivots.append(support[_echelon_dense(dense)])
        i, j = np.nonzero(dense)
        data.append(dense[i, j])
        rows.append(support[i])
        columns.append(j + sum(c.size for c in pivots[:-1]))
    found = np.concatenate(pivots)
    order = np.argsort(found)
    triplets = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
    reduced = sp.csc_array(sp.coo_array(triplets, shape=(p, d)))
    return sp.csc_array(reduced[:, order]), found[order]


def _echelon_dense(null: np.ndarray) -> np.ndarray:
    """Reduce the (m, d) array in place from the bottom; returns the pivot row of each column."""
    m, d = null.shape
    pivots = np.full(d, -1, dtype=np.int64)

    def last_rows(columns: np.ndarray) -> np.ndarray:
        size = np.abs(null[:, columns])
        return m - 1 - np.argmax((size > 1e-8 * size.max(axis=0))[::-1], axis=0)

    last = last_rows(np.arange(d))
    for _ in range(d):
        row = int(last.max())
        candidates = np.flatnonzero(last == row)
        k = int(candidates[np.argmax(np.abs(null[row, candidates]))])
        null[:, k] /= null[row, k]
        null[row + 1 :, k] = 0.0
        others = np.flatnonzero(null[row])
        others = others[others != k]
        if others.size:
            null[:, others] -= np.outer(null[:, k], null[row, others])
            null[row, others] = 0.0
        pivots[k], last[k] = row, -1
        changed = candidates[candidates != k]
        if changed.size:
            last[changed] = last_rows(changed)
    null[np.abs(null) < NULL_ROUNDING] = 0.0
    return pivots


def _assemble(null: sp.csc_array, live: np.ndarray, scale: np.ndarray, p: int) -> Rank:
    """Rank of all p columns from the null basis of the `live` (nonzero) ones, scaled to unit norm."""
    empty = np.setdiff1d(np.arange(p), live)
    reduced, pivots = _echelon(null) if null.shape[1] else (null, np.empty(0, dtype=np.int64))
    # entry 1 at the dropped column in the units of X, too
    unscaled = sp.diags_array(1.0 / scale[live]) @ reduced @ sp.diags_array(scale[live][pivots])
    spread = sp.csr_array((np.ones(live.size), (live, np.arange(live.size))), shape=(p, live.size))
    units = sp.csc_array((np.ones(empty.size), (empty, np.arange(empty.size))), shape=(p, empty.size))
    both = sp.csc_array(sp.hstack([spread @ unscaled, units], format="csc"))
    dropped = np.concatenate([live[pivots], empty]).astype(np.int64)
    order = np.argsort(dropped)
    return Rank(np.setdiff1d(np.arange(p), dropped), dropped[order], sp.csc_array(both[:, order]))
