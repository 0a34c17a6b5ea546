"""Orders found through scikit-sparse: the installed version, and a stand-in with the signature of 0.5."""

import numpy as np
import pytest
import scipy.sparse as sp
from random_pattern import random_graph
from scikit_sparse import is_installed

from fastlmm_core.linalg import ordering
from fastlmm_core.linalg.ordering import find_order, judge_order, order_by_degree, order_graph
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


MODULES = {"installed": load_cholmod, "0.5": lambda: ArrayModule}


@pytest.fixture(params=MODULES)
def module(request):
    if request.param == "installed" and not is_installed():
        pytest.skip("scikit-sparse is not installed")
    return MODULES[request.param]()


def test_orders_are_permutations(module):
    matrix = sp.csc_matrix(np.tril(random_graph(2, 30, 0.12)).astype(float))
    assert sorted(find_order(module, matrix, "amd")) == list(range(30))
    metis = find_order(module, matrix, "metis")
    assert metis is None or sorted(metis) == list(range(30))


def test_a_method_that_is_not_installed_is_passed_over():
    assert find_order(ArrayModule, sp.csc_matrix(np.eye(3)), "metis") is None


def crossed(levels, n, seed=0):
    """Strict lower triangle of the graph of random factors that meet in n rows, and a constant."""
    r = np.random.default_rng(seed)
    rows = np.arange(n)
    parts = [sp.csr_array((np.ones(n), (rows, r.integers(0, k, n))), shape=(n, k)) for k in levels]
    Z = sp.hstack([*parts, np.ones((n, 1))])
    return sp.csc_array(sp.tril(Z.T @ Z, -1))


def grid(rows, columns):
    """That of a field with first-order processes along rows and columns."""
    near = [sp.diags_array([np.ones(k)] * 3, offsets=(-1, 0, 1), shape=(k, k)) for k in (rows, columns)]
    return sp.csc_array(sp.tril(sp.kron(*near), -1))


def trials(genotypes, environments, blocks, seed=0):
    """That of genotypes, genotypes in environments and blocks, in environments with all genotypes."""
    r = np.random.default_rng(seed)
    size = genotypes // blocks
    block = np.concatenate([r.permutation(genotypes) // size + blocks * e for e in range(environments)])
    gen, env = np.tile(np.arange(genotypes), environments), np.repeat(np.arange(environments), genotypes)
    codes = (env * genotypes + gen, block, gen, env)
    n = gen.size
    Z = sp.hstack([sp.csr_array((np.ones(n), (np.arange(n), c)), shape=(n, c.max() + 1)) for c in codes])
    return sp.csc_array(sp.tril(Z.T @ Z, -1))


GRAPHS = {
    "two crossed": crossed((1200, 700), 3000),
    "three crossed, few rows": crossed((900, 800, 700), 1800),
    "three crossed, many rows": crossed((900, 800, 700), 9000),
    "field": grid(40, 60),
    "trials": trials(240, 8, 24),
    "random": sp.csc_array(sp.tril(sp.csc_array(random_graph(3, 800, 0.004).astype(float)), -1)),
}


@pytest.mark.skipif(not is_installed(), reason="scikit-sparse is not installed")
@pytest.mark.parametrize("name", GRAPHS)
def test_as_little_work_as_by_cholmod(name, monkeypatch):
    """Our minimum degree within a tenth of CHOLMOD's, and the order kept never far from its best."""
    monkeypatch.setattr(ordering, "SEARCH_SECONDS", 0.0)  # these are so small that no search would pay
    graph = GRAPHS[name]
    matrix = sp.csc_matrix(graph + sp.eye_array(graph.shape[0], format="csc"))
    matrix.sort_indices()
    theirs = {method: find_order(load_cholmod(), matrix, method) for method in ("amd", "metis")}
    work = {m: judge_order(matrix, perm).flops for m, perm in theirs.items() if perm is not None}
    assert judge_order(matrix, order_by_degree(graph)).flops < 1.1 * work["amd"]
    assert judge_order(matrix, order_graph(graph)[0]).flops <= 1.1 * min(work.values())


@pytest.mark.skipif(not is_installed(), reason="scikit-sparse is not installed")
def test_dense_columns_do_not_decide_which_half_comes_first():
    """4,000 genotypes and 2,400 blocks in 6 environments: CHOLMOD's minimum degree counts the columns of
    environments in the degrees of genotypes and takes the blocks first; a third of the work is enough."""
    r = np.random.default_rng(0)
    block = np.concatenate([r.permutation(4000) // 10 + 400 * e for e in range(6)])
    gen, env, n = np.tile(np.arange(4000), 6), np.repeat(np.arange(6), 4000), 24000
    codes = (block, gen, env, env, env)
    Z = sp.hstack([sp.csr_array((np.ones(n), (np.arange(n), c)), shape=(n, c.max() + 1)) for c in codes])
    graph = sp.csc_array(sp.tril(Z.T @ Z, -1))
    matrix = sp.csc_matrix(graph + sp.eye_array(graph.shape[0], format="csc"))
    matrix.sort_indices()
    theirs = judge_order(matrix, find_order(load_cholmod(), matrix, "amd")).flops
    assert judge_order(matrix, order_by_degree(graph)).flops < 0.4 * theirs
