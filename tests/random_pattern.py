"""Random [Z X] as node entries, and the same as dense matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.kernels.equations.crossproducts import expand_pattern, find_node_pattern, transpose_entries


@dataclass(frozen=True)
class Pattern:
    row_ptr: np.ndarray
    row_node: np.ndarray
    row_val: np.ndarray
    values: np.ndarray
    term: np.ndarray
    start: np.ndarray
    n_terms: int
    sizes: np.ndarray
    dense: np.ndarray  # [Z X] (n, q + p), columns in node order

    @property
    def n_nodes(self):
        return self.term.size

    @property
    def by_node(self):
        return transpose_entries(self.row_ptr, self.row_node, self.n_nodes)

    @property
    def below(self):
        return find_node_pattern(self.row_ptr, self.row_node, *self.by_node)

    @property
    def scalar(self):
        return expand_pattern(*self.below, self.start)


def random_pattern(seed, n=30, terms=((6, 1), (5, 2)), p=3):
    """`terms` are (levels, coefficients); nodes stand in random order, fixed columns among them."""
    r = np.random.default_rng(seed)
    first = np.cumsum([0] + [levels for levels, _ in terms])
    n_nodes = int(first[-1]) + p
    place = r.permutation(n_nodes)
    term, size = np.full(n_nodes, len(terms)), np.ones(n_nodes, np.int64)
    for k, (levels, m) in enumerate(terms):
        mine = place[first[k] : first[k] + levels]
        term[mine], size[mine] = k, m
    start = np.concatenate(([0], np.cumsum(size))).astype(np.int64)
    dense = np.zeros((n, start[-1]))
    row_ptr, row_node, row_val, values = [0], [], [0], []
    for i in range(n):
        entries = [
            (place[first[k] + r.integers(levels)], r.normal(size=m)) for k, (levels, m) in enumerate(terms)
        ]
        entries += [(place[first[-1] + j], r.normal(size=1)) for j in range(p) if j == 0 or r.random() < 0.6]
        for node, value in entries:
            row_node.append(node)
            values.extend(value)
            row_val.append(len(values))
            dense[i, start[node] : start[node + 1]] = value
        row_ptr.append(len(row_node))
    index = [np.array(a, np.int64) for a in (row_ptr, row_node, row_val)]
    sizes = np.array([m for _, m in terms], np.int64)
    return Pattern(*index, np.array(values), term.astype(np.int64), start, len(terms), sizes, dense)


def to_dense(indptr, indices, data, symmetric=True):
    """Dense matrix of a lower triangle in compressed columns."""
    n = indptr.size - 1
    out = np.zeros((n, n))
    for j in range(n):
        for t in range(indptr[j], indptr[j + 1]):
            out[indices[t], j] = data[t]
    return out + np.tril(out, -1).T if symmetric else out


def on_pattern(indptr, indices, matrix):
    """Data of the lower triangle of `matrix` on the pattern."""
    columns = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    return np.ascontiguousarray(matrix[indices, columns])


def eliminate_symbolically(adjacent):
    """Lower pattern, with diagonal, of the Cholesky factor of a boolean symmetric matrix by brute force."""
    A = adjacent.copy()
    n = len(A)
    for j in range(n):
        rows = np.flatnonzero(A[:, j] & (np.arange(n) > j))
        A[np.ix_(rows, rows)] = True
    return np.tril(A | np.eye(n, dtype=bool))


def random_spd(seed, adjacent):
    """Positive definite matrix with the nonzeros of `adjacent`."""
    r = np.random.default_rng(seed)
    A = np.tril(r.normal(size=adjacent.shape), -1) * adjacent
    A = A + A.T
    return A + np.diag(np.abs(A).sum(axis=1) + r.uniform(0.1, 1.0, len(A)))


def node_matrix(below_ptr, below):
    """Boolean symmetric adjacency of a node graph."""
    n = below_ptr.size - 1
    A = np.eye(n, dtype=bool)
    for j in range(n):
        rows = below[below_ptr[j] : below_ptr[j + 1]]
        A[rows, j] = A[j, rows] = True
    return A


def compress_lower(lower):
    """`indptr` int64, `indices` int32 of a boolean lower triangle with its diagonal."""
    columns = [np.flatnonzero(lower[:, j]) for j in range(len(lower))]
    indptr = np.concatenate(([0], np.cumsum([c.size for c in columns]))).astype(np.int64)
    return indptr, np.concatenate(columns).astype(np.int32)


def random_graph(seed, n, density):
    """Boolean symmetric adjacency with a full diagonal."""
    r = np.random.default_rng(seed)
    A = np.tril(r.random((n, n)) < density, -1)
    return A | A.T | np.eye(n, dtype=bool)
