"""Columns of a design as sparse blocks, put together and multiplied row by row."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

Block = tuple[np.ndarray, np.ndarray, np.ndarray]  # data, indices, indptr of a CSC matrix


def indicator_columns(
    place: np.ndarray, weight: np.ndarray | None, outside: np.ndarray | None, width: int
) -> Block:
    """CSC block with entry (i, place_i) = weight_i for the rows not `outside`."""
    rows = None
    if outside is not None:
        rows = np.flatnonzero(~outside)
        place = place[rows]
    narrow = place.astype(np.int16) if width < 2**15 else place  # numpy sorts 16-bit keys by radix
    order = np.argsort(narrow, kind="stable")
    indices = (order if rows is None else rows[order]).astype(np.int32)
    data = np.ones(indices.size) if weight is None else weight[indices]
    indptr = np.zeros(width + 1, dtype=np.int64)
    np.cumsum(np.bincount(place, minlength=width), out=indptr[1:])
    return data, indices, indptr


def join_blocks(blocks: list[Block], n: int, p: int) -> sp.csc_array:
    """(n, p) matrix of the blocks side by side."""
    if not blocks:
        return sp.csc_array((n, p), dtype=np.float64)
    data = np.concatenate([b[0] for b in blocks])
    indices = np.concatenate([b[1] for b in blocks])
    offsets = np.cumsum([0, *(b[0].size for b in blocks)])
    indptr = np.concatenate([[0], *(b[2][1:] + o for b, o in zip(blocks, offsets[:-1], strict=True))])
    index_type = np.int32 if data.size < 2**31 - 1 else np.int64
    out = sp.csc_array(
        (data, indices.astype(index_type, copy=False), indptr.astype(index_type)), shape=(n, p)
    )
    out.has_sorted_indices = True
    return out


def dense_rows(values: np.ndarray) -> sp.csr_array:
    """(n, k) dense values as CSR with every entry stored."""
    n, k = values.shape
    return sp.csr_array((values.ravel(), np.tile(np.arange(k), n), np.arange(n + 1) * k), shape=(n, k))


def rowwise_product(left: sp.csr_array, right: sp.csr_array) -> sp.csr_array:
    """(n, a b) matrix with row i = kron(right_i, left_i): columns of `left` vary fastest."""
    n, a = left.shape
    b = right.shape[1]
    count_left, count_right = np.diff(left.indptr), np.diff(right.indptr)
    counts = count_left * count_right
    total = int(counts.sum())
    row = np.repeat(np.arange(n), counts)
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    i = left.indptr[row] + within % np.maximum(count_left[row], 1)
    j = right.indptr[row] + within // np.maximum(count_left[row], 1)
    columns = left.indices[i].astype(np.int64) + a * right.indices[j].astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_array((left.data[i] * right.data[j], columns, indptr), shape=(n, a * b))
