"""Covariances of rows of linear functions: variances of sparse combinations, independent combinations."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

RANK_TOLERANCE = 1e-10  # of the largest eigenvalue


def independent_rows(cov: np.ndarray, unscaled: bool) -> np.ndarray:
    """Combinations (rank, r) of functions with covariance (r, r) that are uncorrelated and have a variance.

    The rank is that of the correlations, so that functions in units far apart all count. `unscaled` asks for
    the eigenvectors of the covariance itself, on which Satterthwaite's df depend; they are given up where
    the units are too far apart for them.
    """
    sd = np.sqrt(np.maximum(np.diag(cov), 0.0))
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0.0)
    values, vectors = np.linalg.eigh(cov * np.outer(scale, scale))
    keep = values > RANK_TOLERANCE * max(float(values.max(initial=0.0)), 1e-300)
    if unscaled:
        own, own_vectors = np.linalg.eigh(cov)
        own_keep = own > RANK_TOLERANCE * max(float(own.max(initial=0.0)), 1e-300)
        if own_keep.sum() == keep.sum():
            return np.asarray(own_vectors[:, own_keep].T)
    return np.asarray(vectors[:, keep].T * scale)


def row_quadratic(A: sp.csr_array, M: np.ndarray) -> np.ndarray:
    """a M a' of every sparse row a, streamed."""
    out = np.empty(A.shape[0])
    step = max(1, int(4e6 // max(1, M.shape[0])))
    for first in range(0, A.shape[0], step):
        rows = A[first : first + step]
        entries = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        width = int(np.diff(rows.indptr).max(initial=0))
        if width <= 4:
            out[first : first + step] = short_quadratic(rows, M, width)
        else:
            product = rows @ M
            out[first : first + step] = np.bincount(
                entries, rows.data * product[entries, rows.indices], minlength=rows.shape[0]
            )
    return out


def short_quadratic(rows: sp.csr_array, M: np.ndarray, width: int) -> np.ndarray:
    """a M a' where no row has more than `width` entries, without the product rows @ M."""
    count = np.diff(rows.indptr)
    index = np.zeros((rows.shape[0], width), np.int64)
    value = np.zeros((rows.shape[0], width))
    at = np.arange(rows.indices.size) - np.repeat(rows.indptr[:-1], count)
    row = np.repeat(np.arange(rows.shape[0]), count)
    index[row, at] = rows.indices
    value[row, at] = rows.data
    out = np.zeros(rows.shape[0])
    for s in range(width):
        for t in range(width):
            out += value[:, s] * value[:, t] * M[index[:, s], index[:, t]]
    return out
