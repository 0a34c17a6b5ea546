"""Connected parts of graphs beside a separator, against SciPy, and nodes apart by their definition."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from fastlmm_core.kernels.factor.graph_parts import choose_apart, number_parts


def graph(n, edges, seed):
    r = np.random.default_rng(seed)
    a, b = r.integers(0, n, edges), r.integers(0, n, edges)
    keep = a != b
    lower = sp.csc_array(
        (np.ones(keep.sum()), (np.maximum(a, b)[keep], np.minimum(a, b)[keep])), shape=(n, n)
    )  # fmt: skip
    lower.sum_duplicates()
    lower.sort_indices()
    return lower


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("n", "edges"), [(1, 0), (30, 0), (40, 25), (60, 60), (50, 400)])
def test_parts_are_the_connected_components(n, edges, seed):
    lower = graph(n, edges, seed)
    separates = np.random.default_rng(seed).random(n) < (0.3, 0.0, 1.0)[min(seed, 2)]
    part = number_parts(lower.indptr.astype(np.int64), lower.indices.astype(np.int64), separates)
    others = np.flatnonzero(~separates)
    assert (part[separates] == -1).all()
    if not others.size:
        return
    both = sp.csr_array(lower + lower.T)[others][:, others]
    _, expected = connected_components(both, directed=False)
    _, first = np.unique(expected, return_index=True)
    np.testing.assert_array_equal(part[others], np.argsort(np.argsort(first))[expected])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [0, 2, 9])
def test_nodes_apart_do_not_meet_and_have_few_neighbours(most, seed):
    lower = graph(60, 90, seed)
    both = sp.csr_array(lower + lower.T)
    degree = np.diff(both.indptr)
    chosen = choose_apart(both.indptr.astype(np.int64), both.indices.astype(np.int64), most)
    dense = both.toarray() > 0
    assert not dense[np.ix_(chosen, chosen)].any()
    assert (degree[chosen] <= most).all()
    # every other one of few neighbours meets one that is chosen
    left = ~chosen & (degree <= most)
    assert dense[np.ix_(left, chosen)].any(axis=1).all()
