"""Weighted sums of quadratic forms in P: products with the sparse matrices and half a solve."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.equations.assembly import multiply_symmetric, weigh_blocks
from fastlmm_core.reml.natural import NaturalParameters, mix_directions
from fastlmm_core.reml.solved import SolvedEquations, column_blocks

# Eigenvalues of weights of unit size, relative to the largest, that count as zero.
NEGLIGIBLE = 1e-15


def weighted_form(
    solved: SolvedEquations, parameters: NaturalParameters, weights: np.ndarray, B: np.ndarray
) -> np.ndarray:
    """sum_ij w_ij B_i' Z' P Z B_j (r, r), B_j = (I (x) E_j) B; relative P.

    Z' P Z is the random part of G - G F C^-1 F' G (see ``kernels.equations.assembly``).  That of G takes one
    product with B, the weights going into its blocks; that of the inverse is a sum of squares for every
    eigenvector of the weights, for which half a solve is enough.

    Parameters
    ----------
    weights : (d, d)
        Symmetric, of the natural parameters.
    B : (q + p, r)
        Zero on fixed rows.
    """
    e = solved.equations
    mixed_G = np.empty_like(e.G)
    weigh_blocks(
        e.G, e.indptr, e.below_ptr, e.below, e.layout.start, e.layout.term,
        block_weights(solved, parameters, weights), mixed_G,
    )  # fmt: skip
    form = np.empty((B.shape[1],) * 2)
    for columns in column_blocks(B.shape[1]):
        part = np.ascontiguousarray(B[:, columns])
        product = np.empty_like(part)
        multiply_symmetric(mixed_G, e.indptr, e.indices, part, product)
        fill_symmetric(form, columns, B[:, columns.start :].T @ product)
    values, vectors = weighted_directions(weights, np.diag(weights))
    half = np.empty_like(B)  # with B the memory of thousands of columns
    for a in range(values.size):
        for columns in column_blocks(B.shape[1]):
            mixed = mix_directions(solved, parameters, vectors[:, a], B[:, columns])
            product = np.empty_like(mixed)
            multiply_symmetric(e.G, e.indptr, e.indices, mixed, product)
            half[:, columns] = solved.half_solve(product)
        form -= values[a] * (half.T @ half)
    return form


def weighted_directions(weights: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values (k,) and vectors (t, k) with weights = vectors diag(values) vectors'.

    They are eigenvectors after scaling to diagonals of size one: what is negligible beside the largest is so
    in any units of the parameters, of which there are several where traits have their own.

    Parameters
    ----------
    weights : (t, t)
        Symmetric.
    sizes : (t,)
        Its diagonal, or that of a matrix from which it comes by differences: what these leave to rounding.
    """
    live = np.flatnonzero(weights.any(axis=1))
    scale = np.sqrt(np.maximum(np.abs(np.diag(weights)), NEGLIGIBLE * np.abs(sizes)))[live]
    scale = np.where(scale > 0.0, scale, 1.0)
    values, own = np.linalg.eigh(weights[np.ix_(live, live)] / np.outer(scale, scale))
    kept = np.abs(values) > NEGLIGIBLE * np.abs(values).max(initial=0.0)
    vectors = np.zeros((len(weights), int(kept.sum())))
    vectors[live] = scale[:, None] * own[:, kept]
    return values[kept], vectors


def block_weights(solved: SolvedEquations, parameters: NaturalParameters, weights: np.ndarray) -> np.ndarray:
    """sum_ij w_ij E_i (x) E_j by pairs of terms, as ``weigh_blocks`` takes it; zero for fixed columns."""
    n, m = len(solved.equations.terms) + 1, solved.equations.width
    out = np.zeros((n, m, m, n, m, m))
    for i, k in enumerate(parameters.term):
        for j, h in enumerate(parameters.term):
            out[k, :, :, h] += weights[i, j] * np.multiply.outer(
                parameters.directions[i], parameters.directions[j]
            )
    return out


def fill_symmetric(out: np.ndarray, columns: slice, part: np.ndarray) -> None:
    """Columns of a symmetric matrix (r, r) from their rows `columns.start` on, and the same rows."""
    first = columns.start
    out[first:, columns] = part
    out[columns, first:] = part.T
    own = out[columns, columns]
    own += own.T.copy()
    own *= 0.5
