"""Orders found through scikit-sparse: the installed version, and a stand-in with the signature of 0.5."""

import numpy as np
import pytest
import scipy.sparse as sp
from random_pattern import eliminate_symbolically, random_graph

from fastlmm_core.kernels.ordering import find_parents
from fastlmm_core.linalg.ordering import _lower_rows, estimate_flops, find_order, order_graph
from fastlmm_core.linalg.suitesparse import load_cholmod


class ArrayModule:
    """What scikit-sparse 0.5 offers for an order: one class on csc_array, and an error for METIS left out."""

    class CholmodError(Exception):
        pass

    class CholeskyFactor:
        def __init__(self, A, *, lower=True, order=None):
            if not isinstance(A, sp.csc_array):
                raise TypeError("csc_array expected")
            if order == "metis":
                raise ArrayModule.CholmodError("CHOLMOD library is not installed or not found.")
            degree = np.asarray((A != 0).sum(axis=0) + (A != 0).sum(axis=1)).ravel()
            self.perm = np.argsort(degree, kind="stable").astype(np.int32)


@pytest.mark.parametrize("module", [load_cholmod(), ArrayModule], ids=["installed", "0.5"])
def test_orders_are_permutations(module):
    matrix = sp.csc_matrix(np.tril(random_graph(2, 30, 0.12)).astype(float))
    assert sorted(find_order(module, matrix, "amd")) == list(range(30))
    metis = find_order(module, matrix, "metis")
    assert metis is None or sorted(metis) == list(range(30))


def test_a_method_that_is_not_installed_is_passed_over():
    assert find_order(ArrayModule, sp.csc_matrix(np.eye(3)), "metis") is None


def test_order_is_a_permutation_with_little_fill():
    n = 200
    arrow = np.eye(n, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    perm, name = order_graph(sp.csc_array(np.tril(arrow, -1).astype(float)))
    assert sorted(perm) == list(range(n))
    assert eliminate_symbolically(arrow[np.ix_(perm, perm)]).sum() == 2 * n - 1
    assert name in ("amd", "metis")


@pytest.mark.parametrize("density", [0.01, 0.05])
def test_orders_are_postorders(density):
    """Every subtree is a run of columns, which is what makes supernodes wide."""
    adjacent = random_graph(4, 150, density)
    perm, _ = order_graph(sp.csc_array(np.tril(adjacent, -1).astype(float)))
    parent = find_parents(*_lower_rows(sp.csc_matrix(np.tril(adjacent).astype(float)), perm))
    size = np.ones(150, int)
    for j in range(150):
        if parent[j] >= 0:
            size[parent[j]] += size[j]
    for j in range(150):
        children = np.flatnonzero(parent == j)
        assert sorted(np.concatenate([np.arange(c - size[c] + 1, c + 1) for c in children] or [[]])) == list(
            range(j - size[j] + 1, j)
        )


def test_operations_are_counted_on_the_filled_pattern():
    adjacent = random_graph(5, 40, 0.1)
    perm = np.random.default_rng(0).permutation(40)
    counts = eliminate_symbolically(adjacent[np.ix_(perm, perm)]).sum(axis=0)
    ones = np.ones(40, np.int64)
    assert estimate_flops(sp.csc_matrix(np.tril(adjacent).astype(float)), perm, ones) == np.sum(counts**2)


def test_operations_of_nodes_that_stand_for_several_rows():
    size = np.random.default_rng(1).integers(1, 5, 30)
    groups = random_graph(6, 30, 0.1)
    rows = np.repeat(np.arange(30), size)
    adjacent = groups[np.ix_(rows, rows)]
    perm = np.random.default_rng(0).permutation(30)
    order = np.concatenate([np.flatnonzero(rows == j) for j in perm])
    counts = eliminate_symbolically(adjacent[np.ix_(order, order)]).sum(axis=0)
    assert estimate_flops(sp.csc_matrix(np.tril(groups).astype(float)), perm, size) == np.sum(counts**2)
