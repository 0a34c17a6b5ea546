"""Supernodes of real equations, by us and by CHOLMOD; what every factor promises is in ``test_contract``."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from random_pattern import compress_lower, on_pattern, random_graph, random_spd
from scikit_sparse import needs_scikit_sparse

import fastlmm_core as fl
from fastlmm_core.linalg.cholmod import CholmodFactor
from fastlmm_core.linalg.ordered_factor import OrderedFactor
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml.objective import assemble_at, factors_at


def test_many_columns_go_through_in_blocks(monkeypatch):
    monkeypatch.setattr("fastlmm_core.linalg.panels.COLUMN_BLOCK", 4)
    adjacent = np.kron(random_graph(6, 7, 0.2), np.ones((17, 17), bool))
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
        gen = np.concatenate([rng.permutation(250) for _ in range(16)])
        env, rep, block = (part.ravel() for part in np.indices((8, 2, 250)))
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


@pytest.fixture(scope="module")
def inverse_and_log_determinant(trial_system):
    dense = trial_system[2]
    return np.linalg.inv(dense), np.linalg.slogdet(dense)[1]


@pytest.mark.compiled
@pytest.mark.parametrize("kind", [SupernodalFactor, pytest.param(CholmodFactor, marks=needs_scikit_sparse)])
def test_equations_of_trials(trial_system, inverse_and_log_determinant, kind):
    e, C, _ = trial_system
    inverse, log_determinant = inverse_and_log_determinant
    factor = kind(e.indptr, e.indices)
    assert factor.factorize(C)
    got = factor.inverse_subset(factor.size)
    np.testing.assert_allclose(got, on_pattern(e.indptr, e.indices, inverse), rtol=1e-8, atol=1e-12)
    right = np.random.default_rng(0).normal(size=(factor.size, 3))
    np.testing.assert_allclose(factor.solve(right), inverse @ right, rtol=1e-8, atol=1e-10)
    half = factor.solve_lower(right)
    np.testing.assert_allclose(half.T @ half, right.T @ inverse @ right, rtol=1e-9)
    np.testing.assert_allclose(factor.log_determinant(factor.size), log_determinant, rtol=1e-12)


@needs_scikit_sparse
@pytest.mark.compiled
def test_panels_are_those_of_cholmod(trial_system):
    """The same numbers of L, by another factorization."""
    e, C, _ = trial_system
    ours, theirs = SupernodalFactor(e.indptr, e.indices), CholmodFactor(e.indptr, e.indices)
    assert ours.factorize(C)
    assert theirs.factorize(C)
    nodes = ours.symbolic.nodes
    for s in range(nodes.above.size):
        panel = slice(nodes.panel_ptr[s], nodes.panel_ptr[s + 1])
        shape = (nodes.first[s + 1] - nodes.first[s], -1)
        a, b = (np.triu(factor.L[panel].reshape(shape)) for factor in (ours, theirs))
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


@pytest.mark.compiled
def test_one_matrix_in_an_order_of_its_own(trial_system):
    _, _, dense = trial_system
    right = np.random.default_rng(1).normal(size=(len(dense), 2))
    ordered = OrderedFactor.of(sp.csc_array(dense))
    for b in (right, right[:, 0]):
        np.testing.assert_allclose(ordered.solve(b), np.linalg.solve(dense, b), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ordered.log_determinant(), np.linalg.slogdet(dense)[1], rtol=1e-12)
    np.testing.assert_allclose(ordered.inverse_diagonal(), np.diag(np.linalg.inv(dense)), rtol=1e-9)
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        OrderedFactor.of(sp.csc_array(dense - 100 * np.eye(len(dense))))


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


@pytest.mark.compiled
def test_right_hand_sides_that_begin_late(trial_system):
    e, C, dense = trial_system
    factor = SupernodalFactor(e.indptr, e.indices)
    assert factor.factorize(C)
    right = np.zeros((len(dense), 4))
    right[e.layout.fixed_rows[:4], np.arange(e.layout.fixed_rows[:4].size)] = 1.0
    right[len(dense) // 2, 3] = 2.0
    expected = np.linalg.solve(np.linalg.cholesky(dense), right)
    np.testing.assert_allclose(factor.solve_lower(right), expected, rtol=1e-9, atol=1e-12)
