"""Supernodal factor, solves and inverse subset against NumPy and CHOLMOD.

Calls BLAS through addresses, which only exists in compiled code: with NUMBA_DISABLE_JIT=1 this file is
skipped, the index maps are tested by ``test_supernodal_maps``.
"""

import os

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from random_pattern import compress_lower, eliminate_symbolically, on_pattern, random_graph, random_spd

import fastlmm_core as fl
from fastlmm_core.linalg.supernodal import SupernodalFactor, solver_of
from fastlmm_core.reml.objective import assemble_at, factors_at

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="BLAS by address needs compiled kernels"
)


def block_graph(seed, blocks, width, density):
    """Groups of columns with equal structure: wide supernodes."""
    return np.kron(random_graph(seed, blocks, density), np.ones((width, width), bool))


GRAPHS = {
    "one": random_graph(0, 1, 0.5),
    "sparse": random_graph(1, 30, 0.05),
    "medium": random_graph(2, 40, 0.15),
    "dense": random_graph(3, 25, 1.0),
    "diagonal": random_graph(4, 9, 0.0),
    "blocks of 3": block_graph(5, 12, 3, 0.15),
    "blocks of 17": block_graph(6, 7, 17, 0.2),
    "forest": np.kron(np.eye(4, dtype=bool), random_graph(7, 8, 0.4)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_method(name):
    """Factor, solves, determinant and inverse against NumPy, for leading blocks, after a refactorization."""
    adjacent = GRAPHS[name]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = SupernodalFactor(indptr, indices)
    assert factor.nnz == eliminate_symbolically(adjacent).sum()
    B = np.random.default_rng(0).normal(size=(len(adjacent), 2))
    for seed in (3, 4):
        C = random_spd(seed, adjacent)
        assert factor.factorize(on_pattern(indptr, indices, C))
        for right in (B, B[:, 0], B[:, :1]):
            np.testing.assert_allclose(factor.solve(right), np.linalg.solve(C, right), rtol=1e-9, atol=1e-12)
            half = np.linalg.solve(np.linalg.cholesky(C), right)
            np.testing.assert_allclose(factor.solve_lower(right), half, rtol=1e-9, atol=1e-12)
        for lead in {len(C), max(1, 2 * len(C) // 3), 1}:
            inverse = np.zeros_like(C)
            inverse[:lead, :lead] = np.linalg.inv(C[:lead, :lead])
            got = factor.inverse_subset(lead)
            np.testing.assert_allclose(got, on_pattern(indptr, indices, inverse), rtol=1e-9, atol=1e-12)
            expected = np.linalg.slogdet(C[:lead, :lead])[1]
            np.testing.assert_allclose(factor.log_determinant(lead), expected, rtol=1e-10, atol=1e-10)


def test_many_columns_go_through_in_blocks(monkeypatch):
    from fastlmm_core.linalg import supernodal

    monkeypatch.setattr(supernodal, "COLUMN_BLOCK", 4)
    adjacent = GRAPHS["blocks of 17"]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor, C = SupernodalFactor(indptr, indices), random_spd(1, adjacent)
    factor.factorize(on_pattern(indptr, indices, C))
    B = np.asfortranarray(np.random.default_rng(0).normal(size=(len(C), 11)))
    np.testing.assert_allclose(factor.solve(B), np.linalg.solve(C, B), rtol=1e-9, atol=1e-12)


FORMULAS = {
    "trials": "y ~ env + (1|gen) + (1|gen:env) + (1|env:block)",
    "crossed": "y ~ 1 + (1|gen) + (1|block)",
    "environments": "y ~ env + (1|gen) + (1|gen:env) + (1|env:rep) + (1|env:rep:block)",
}


@pytest.fixture(scope="module", params=list(FORMULAS))
def trial_system(request):
    """Merged chains below a wide front, hundreds of twigs of one front, and guests in a root."""
    rng = np.random.default_rng(3)
    if request.param == "environments":
        gen = np.concatenate([rng.permutation(250) for _ in range(10)])
        env, rep, block = (part.ravel() for part in np.indices((5, 2, 250)))
        frame = pd.DataFrame({"gen": gen, "env": env, "rep": rep, "block": block // 10})
    else:
        frame = pd.DataFrame({"gen": rng.integers(0, 400, 4000), "env": np.repeat(np.arange(8), 500)})
        frame["block"] = rng.integers(0, 40, 4000)
    frame = frame.astype(str)
    frame["y"] = rng.normal(size=len(frame))
    e = fl.prepare(FORMULAS[request.param], frame).equations
    C = assemble_at(e, factors_at(e, np.array([0.8, 0.5, 1.2, 0.7])[: e.n_theta]))
    symbolic = SupernodalFactor(e.indptr, e.indices).symbolic
    if request.param == "trials":
        width = np.diff(symbolic.nodes.first)
        assert 300 < width.max() < symbolic.nodes.first[-1] - 500
        assert symbolic.stored > symbolic.nnz
    elif request.param == "crossed":
        assert symbolic.nodes.twig.sum() > 300
    else:
        assert symbolic.nodes.guest.sum() > 2
    lower = sp.csc_matrix((C, e.indices, e.indptr), shape=(e.q + e.p, e.q + e.p))
    return e, C, (lower + sp.tril(lower, -1).T).toarray()


def test_equations_of_trials_against_cholmod_and_numpy(trial_system):
    from sksparse import cholmod

    e, C, dense = trial_system
    factor = SupernodalFactor(e.indptr, e.indices)
    assert factor.factorize(C)
    inverse = np.linalg.inv(dense)
    got = factor.inverse_subset(factor.size)
    np.testing.assert_allclose(got, on_pattern(e.indptr, e.indices, inverse), rtol=1e-8, atol=1e-12)
    right = np.random.default_rng(0).normal(size=(factor.size, 3))
    if hasattr(cholmod, "analyze"):
        other = cholmod.cholesky(sp.csc_matrix(dense))
        np.testing.assert_allclose(factor.solve(right), other.solve_A(right), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(factor.log_determinant(factor.size), other.logdet(), rtol=1e-12)
    half = factor.solve_lower(right)
    np.testing.assert_allclose(half.T @ half, right.T @ inverse @ right, rtol=1e-9)


def test_one_matrix_in_an_order_of_its_own(trial_system):
    _, _, dense = trial_system
    right = np.random.default_rng(1).normal(size=(len(dense), 2))
    solve = solver_of(sp.csc_array(dense))
    np.testing.assert_allclose(solve(right), np.linalg.solve(dense, right), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(solve(right[:, 0]), np.linalg.solve(dense, right[:, 0]), rtol=1e-9, atol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        solver_of(sp.csc_array(dense - 100 * np.eye(len(dense))))


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_in_any_order(seed):
    """Orders that are no postorders and roots of many children; no array is written past its end."""
    rng = np.random.default_rng(seed)
    adjacent = random_graph(seed, int(rng.integers(20, 160)), rng.uniform(0.01, 0.08))
    C = random_spd(seed, adjacent)
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = SupernodalFactor(indptr, indices)
    stack, panel = factor.symbolic.work_sizes
    guard = np.full(64, 7.5)
    whole = [np.concatenate((np.empty(size), guard)) for size in (stack, panel, factor.symbolic.stored)]
    factor._work = (whole[0][:stack], whole[1][:panel])
    factor.L = whole[2][: factor.symbolic.stored]
    assert factor.factorize(on_pattern(indptr, indices, C))
    got = factor.inverse_subset(factor.size)
    for array in whole:
        assert np.array_equal(array[-64:], guard)
    np.testing.assert_allclose(got, on_pattern(indptr, indices, np.linalg.inv(C)), rtol=1e-9, atol=1e-13)


def test_right_hand_sides_that_begin_late(trial_system):
    e, C, dense = trial_system
    factor = SupernodalFactor(e.indptr, e.indices)
    assert factor.factorize(C)
    right = np.zeros((len(dense), 4))
    right[e.layout.fixed_rows[:4], np.arange(e.layout.fixed_rows[:4].size)] = 1.0
    right[len(dense) // 2, 3] = 2.0
    expected = np.linalg.solve(np.linalg.cholesky(dense), right)
    np.testing.assert_allclose(factor.solve_lower(right), expected, rtol=1e-9, atol=1e-12)


def test_copy_keeps_its_own_values():
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    A, B = random_spd(5, adjacent), random_spd(6, adjacent)
    factor = SupernodalFactor(indptr, indices)
    factor.factorize(on_pattern(indptr, indices, A))
    twin = factor.copy()
    twin.factorize(on_pattern(indptr, indices, B))
    right = np.ones((len(A), 1))
    np.testing.assert_allclose(factor.solve(right), np.linalg.solve(A, right), rtol=1e-10)
    np.testing.assert_allclose(twin.solve(right), np.linalg.solve(B, right), rtol=1e-10)


def test_indefinite_matrix_is_reported():
    adjacent = GRAPHS["medium"]
    indptr, indices = compress_lower(np.tril(adjacent))
    factor = SupernodalFactor(indptr, indices)
    C = random_spd(7, adjacent)
    assert not factor.factorize(on_pattern(indptr, indices, C - 100 * np.eye(len(C))))
    for j in (0, len(C) - 1):
        unknown = C.copy()
        unknown[j, j] = np.nan
        assert not factor.factorize(on_pattern(indptr, indices, unknown))
    assert factor.factorize(on_pattern(indptr, indices, C))
