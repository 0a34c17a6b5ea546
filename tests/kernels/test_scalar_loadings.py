"""Loadings of one coefficient on one pattern: the scalar loops are the block form."""

import numpy as np
import pytest

from fastlmm_core.kernels.equations.loadings import assemble_loadings, read_inverse


@pytest.fixture
def system():
    """Dense lower triangle of six nodes in three terms; the same loadings padded to blocks."""
    r = np.random.default_rng(0)
    start = np.arange(7)
    indptr = np.concatenate(([0], np.cumsum(np.arange(6, 0, -1)))).astype(np.int64)
    below = np.concatenate([np.arange(j + 1, 6) for j in range(6)]).astype(np.int64)
    below_ptr = indptr - start
    term = np.array([0, 0, 1, 0, 1, 2])
    loadings = r.normal(size=(3, 1, 1))
    padded = np.zeros((3, 2, 2))
    padded[:, :1, :1] = loadings
    rows = np.concatenate([np.arange(j, 6) for j in range(6)]).astype(np.int32)  # as a system has them
    sides = (start, indptr, rows), (start, indptr)
    return (below_ptr, below, term), sides, loadings, padded, r.normal(size=21), r.normal(size=21)


def test_assembly(system):
    graph, sides, loadings, padded, G, _ = system
    found, expected = np.ones(21), np.ones(21)
    assemble_loadings(G, graph, *sides, loadings, found)
    assemble_loadings(G, graph, *sides, padded, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_scores(system):
    graph, sides, loadings, padded, G, inverse = system
    found, expected = np.zeros((6, 1)), np.zeros((6, 2))
    read_inverse(G, inverse, graph, *sides, loadings, found, np.empty(0))
    read_inverse(G, inverse, graph, *sides, padded, expected, np.empty(0))
    term = graph[2]
    for k in range(3):
        np.testing.assert_allclose(found[term == k].sum(), expected[term == k, 0].sum(), rtol=1e-13)


def test_inverse(system):
    graph, sides, loadings, padded, G, inverse = system
    found, expected = np.ones(21), np.ones(21)
    read_inverse(G, inverse, graph, *sides, loadings, np.zeros((6, 1)), found)
    read_inverse(G, inverse, graph, *sides, padded, np.zeros((6, 2)), expected)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
