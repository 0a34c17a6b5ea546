"""A small system of visit patterns, and what the tests of their kernels compute it with."""

import numpy as np

from fastlmm_core.kernels.equations.visit_products import Patterns

SEEN = [np.array([0, 2, 3]), np.array([1]), np.array([3, 1, 0, 2])]
ARM = np.array([0, 1, 1])
SUBJECTS = [4, 3, 2]
N = 23


def visit_system():
    """Three patterns of four visits in two arms, their rows spread over a table; the roots of weights."""
    r = np.random.default_rng(5)
    sizes = np.array([seen.size for seen in SEEN])
    bounds = [sizes, sizes * SUBJECTS, sizes * (sizes + 1) // 2, sizes**2]
    seen_ptr, row_ptr, first, square = (np.concatenate(([0], np.cumsum(own))) for own in bounds)
    rows = r.permutation(N)
    patterns = Patterns(ARM, seen_ptr, np.concatenate(SEEN), row_ptr, rows, first, square)
    sigma = np.array([M @ M.T + np.eye(4) for M in r.normal(size=(2, 4, 4))])
    return patterns, sigma, r.uniform(0.5, 2.0, N), r


def each(patterns):
    """Pattern, its visits, rows (subjects, v), pieces."""
    for g, seen in enumerate(SEEN):
        rows = patterns.rows[patterns.row_ptr[g] : patterns.row_ptr[g + 1]].reshape(-1, seen.size)
        yield g, seen, rows, slice(patterns.first[g], patterns.first[g + 1])


def pack(M):
    return M[np.tril_indices(len(M))]


def unpack(values):
    v = int(np.sqrt(2 * values.size))
    out = np.zeros((v, v))
    out[np.tril_indices(v)] = values
    return out + np.tril(out, -1).T


def inverses(patterns, sigma):
    return [np.linalg.inv(sigma[ARM[g]][np.ix_(seen, seen)]) for g, seen, _, _ in each(patterns)]
