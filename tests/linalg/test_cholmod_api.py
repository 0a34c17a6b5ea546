"""Both interfaces of scikit-sparse behind the adapter: the installed one, and 0.5's through a stand-in."""

import os
import warnings

import array_cholmod
import numpy as np
import pytest
import scipy.sparse as sp
from random_pattern import compress_lower, eliminate_symbolically, on_pattern, random_graph, random_spd

from fastlmm_core.linalg import cholmod
from fastlmm_core.linalg.cholmod_api import ArrayInterface, choose_interface

INTERFACES = {"installed": cholmod._interface, "0.5": choose_interface(array_cholmod)}
ADJACENT = random_graph(2, 30, 0.12)


@pytest.fixture(params=list(INTERFACES))
def interface(request):
    return INTERFACES[request.param]


def lower_triangle(C):
    indptr, indices = compress_lower(np.tril(ADJACENT))
    data = on_pattern(indptr, indices, C)
    return sp.csc_matrix((data, indices, indptr.astype(np.int32)), shape=C.shape)


def test_the_version_is_recognized():
    assert isinstance(INTERFACES["0.5"], ArrayInterface)


def test_factorization(interface):
    """Values of two matrices in turn, one symbolic analysis."""
    found = interface.analyze(lower_triangle(random_spd(0, ADJACENT)))
    B = np.random.default_rng(0).normal(size=(30, 3))
    B.flags.writeable = False
    patterns = []
    for seed in (1, 2):
        C = random_spd(seed, ADJACENT)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert found.factorize(lower_triangle(C))
            L = found.lower()
            np.testing.assert_allclose(L.toarray(), np.linalg.cholesky(C), rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(found.solve(B), np.linalg.solve(C, B), rtol=1e-11)
            np.testing.assert_allclose(found.solve(B[:, 0]), np.linalg.solve(C, B[:, 0]), rtol=1e-11)
            half = np.linalg.solve(np.linalg.cholesky(C), B)
            np.testing.assert_allclose(found.solve_lower(B), half, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(found.log_determinant(), np.linalg.slogdet(C)[1], rtol=1e-12)
        assert L.has_sorted_indices
        assert L.data.flags.writeable
        patterns.append((L.indptr.tolist(), L.indices.tolist()))
    assert patterns[0] == patterns[1]
    assert np.all(L.toarray()[~eliminate_symbolically(ADJACENT)] == 0)


def test_zeros_in_the_values_leave_the_pattern(interface):
    """At a zero variance whole blocks of C are zero."""
    found = interface.analyze(lower_triangle(random_spd(0, ADJACENT)))
    found.factorize(lower_triangle(random_spd(1, ADJACENT)))
    before = found.lower()
    assert found.factorize(lower_triangle(np.eye(30)))
    after = found.lower()
    assert before.indices.tolist() == after.indices.tolist()
    np.testing.assert_array_equal(after.toarray(), np.eye(30))


def test_indefinite_matrix(interface):
    found = interface.analyze(lower_triangle(random_spd(0, ADJACENT)))
    C = random_spd(1, ADJACENT)
    assert not found.factorize(lower_triangle(C - 100 * np.eye(30)))
    assert found.factorize(lower_triangle(C))
    np.testing.assert_allclose(found.log_determinant(), np.linalg.slogdet(C)[1], rtol=1e-12)


def test_ill_conditioned_matrix_is_solved_without_a_warning(interface):
    scale = np.logspace(0, 10, 30)
    C = random_spd(1, ADJACENT) * scale * scale[:, None]
    found = interface.analyze(lower_triangle(C))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.factorize(lower_triangle(C))
        x = found.solve(scale)
    backward_error = np.abs(C @ x - scale) / (np.abs(C) @ np.abs(x))
    assert backward_error.max() < 1e-13


def test_copies_change_independently(interface):
    A, B = random_spd(1, ADJACENT), random_spd(2, ADJACENT)
    found = interface.analyze(lower_triangle(A))
    found.factorize(lower_triangle(A))
    twin = found.copy()
    twin.factorize(lower_triangle(B))
    right = np.ones(30)
    np.testing.assert_allclose(found.solve(right), np.linalg.solve(A, right), rtol=1e-11)
    np.testing.assert_allclose(twin.solve(right), np.linalg.solve(B, right), rtol=1e-11)


def test_one_matrix_in_cholmods_order(interface):
    C = random_spd(3, ADJACENT)
    solve = interface.factorize(sp.csc_matrix(C)).solve
    np.testing.assert_allclose(solve(np.ones(30)), np.linalg.solve(C, np.ones(30)), rtol=1e-11)


def test_orderings(interface):
    matrix = sp.csc_matrix(np.tril(ADJACENT).astype(float))
    assert sorted(interface.order(matrix, "amd")) == list(range(30))
    metis = interface.order(matrix, "metis")
    assert metis is None or sorted(metis) == list(range(30))


def test_a_method_that_is_not_installed_is_passed_over():
    assert INTERFACES["0.5"].order(sp.csc_matrix(np.eye(3)), "metis") is None


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="BLAS by address is compiled")
def test_fit_through_the_interface_of_0_5(monkeypatch):
    """The whole engine on it: order, factor, inverse subset, Kenward-Roger; one analysis for all steps."""
    from random_designs import case

    from fastlmm_core import prepare
    from fastlmm_core.linalg import elimination, factor

    c = case("crossed")
    reference = prepare(c.formula, c.data).fit()
    monkeypatch.setattr(elimination, "SMALL_GRAPH", 0)
    monkeypatch.setattr(factor, "SMALL_FLOPS", 0)
    monkeypatch.setattr(cholmod, "_interface", INTERFACES["0.5"])
    prepared = prepare(c.formula, c.data)
    assert isinstance(prepared.factor, cholmod.CholmodFactor)
    analyses = array_cholmod.CholeskyFactor.analyses
    fit = prepared.fit()
    assert array_cholmod.CholeskyFactor.analyses == analyses
    np.testing.assert_allclose(fit.criterion, reference.criterion, rtol=1e-11)
    np.testing.assert_allclose(fit.theta, reference.theta, rtol=1e-5)
    expected, got = (f.fixed_effects(ddf="kenward-roger") for f in (reference, fit))
    np.testing.assert_allclose(got[["se", "df"]], expected[["se", "df"]], rtol=1e-5)
