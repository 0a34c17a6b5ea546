"""Assembly of the equations, products with factors and score blocks against dense matrices."""

import numpy as np
import pytest
from random_pattern import on_pattern, random_pattern, to_dense

from fastlmm_core.kernels.equations.assembly import (
    accumulate_outer,
    accumulate_scalar_scores,
    accumulate_score_blocks,
    apply_factor,
    apply_factor_transposed,
    assemble_blocks,
    assemble_scalar,
    multiply_symmetric,
    scale_diagonal,
    weigh_blocks,
)

SHAPES = [
    {"terms": ((6, 1), (5, 1)), "p": 3},
    {"terms": ((6, 1), (5, 2)), "p": 3},
    {"terms": ((4, 3), (5, 2), (7, 1)), "p": 4},
    {"terms": ((5, 2), (4, 2)), "p": 0},
]


class System:
    """A random pattern with crossproducts, factors and a penalty on the diagonal blocks."""

    def __init__(self, seed, shape):
        self.pattern = random_pattern(seed, n=40, **shape)
        p = self.pattern
        r = np.random.default_rng(seed + 100)
        self.indptr, self.indices = p.scalar
        self.G = p.dense.T @ (r.uniform(0.5, 2, p.dense.shape[0])[:, None] * p.dense)
        width = int(p.sizes.max())
        self.factors = np.zeros((p.n_terms + 1, width, width))
        self.factors[-1, 0, 0] = 1.0
        for k, m in enumerate(p.sizes):
            self.factors[k, :m, :m] = np.tril(r.normal(size=(m, m)))
        size = p.start[-1]
        self.F, self.penalty = np.zeros((size, size)), np.zeros((size, size))
        for j in range(p.n_nodes):
            at = slice(p.start[j], p.start[j + 1])
            m = at.stop - at.start
            self.F[at, at] = self.factors[p.term[j], :m, :m]
            if p.term[j] < p.n_terms:
                block = r.normal(size=(m, m))
                self.penalty[at, at] = block @ block.T
        self.C_inv = r.normal(size=(size, size))
        self.C_inv = self.C_inv + self.C_inv.T

    def data(self, matrix):
        return on_pattern(self.indptr, self.indices, matrix)


@pytest.fixture(params=range(len(SHAPES)))
def system(request):
    return System(request.param, SHAPES[request.param])


def test_blocks_equal_the_dense_product(system):
    s, p = system, system.pattern
    C = np.full(s.indices.size, np.nan)
    assemble_blocks(s.data(s.G), s.data(s.penalty), s.indptr, *p.below, p.start, p.term, s.factors, C)
    np.testing.assert_allclose(to_dense(s.indptr, s.indices, C), s.F.T @ s.G @ s.F + s.penalty, atol=1e-10)


def test_scalar_kernel_equals_the_block_kernel():
    s = System(0, SHAPES[0])
    p = s.pattern
    C = np.empty(s.indices.size)
    scale = scale_diagonal(p.start, p.term, s.factors)
    np.testing.assert_array_equal(scale, np.diag(s.F))
    assemble_scalar(s.data(s.G), s.data(s.penalty), s.indptr, s.indices, scale, C)
    np.testing.assert_allclose(to_dense(s.indptr, s.indices, C), s.F.T @ s.G @ s.F + s.penalty, atol=1e-10)


def test_products(system):
    s, p = system, system.pattern
    B = np.random.default_rng(3).normal(size=(len(s.G), 3))
    out = np.empty_like(B)
    apply_factor(p.start, p.term, s.factors, B, out)
    np.testing.assert_allclose(out, s.F @ B, atol=1e-12)
    apply_factor_transposed(p.start, p.term, s.factors, B, out)
    np.testing.assert_allclose(out, s.F.T @ B, atol=1e-12)
    multiply_symmetric(s.data(s.G), s.indptr, s.indices, B, out)
    np.testing.assert_allclose(out, s.G @ B, atol=1e-11)


def test_weights_go_into_the_blocks(system):
    """sum over pairs of symmetric matrices E_i, one term each, of w_ij blockdiag(E_i) G blockdiag(E_j)."""
    s, p = system, system.pattern
    r = np.random.default_rng(5)
    width = s.factors.shape[1]
    owners = [k for k, m in enumerate(p.sizes) for _ in range(m)]
    weights = r.normal(size=(len(owners), len(owners)))
    weights += weights.T
    spread, directions = [], np.zeros((len(owners), width, width))
    for E, k in zip(directions, owners, strict=True):
        m = p.sizes[k]
        E[:m, :m] = r.normal(size=(m, m))
        E += E.T.copy()
        whole = np.zeros_like(s.G)
        for j in np.flatnonzero(p.term == k):
            at = slice(p.start[j], p.start[j + 1])
            whole[at, at] = E[:m, :m]
        spread.append(whole)
    pairs = np.zeros((p.n_terms + 1, width, width, p.n_terms + 1, width, width))
    expected = np.zeros_like(s.G)
    for i, k in enumerate(owners):
        for j, h in enumerate(owners):
            pairs[k, :, :, h] += weights[i, j] * np.multiply.outer(directions[i], directions[j])
            expected += weights[i, j] * spread[i] @ s.G @ spread[j]
    out = np.full(s.indices.size, np.nan)
    weigh_blocks(s.data(s.G), s.indptr, *p.below, p.start, p.term, pairs, out)
    np.testing.assert_allclose(to_dense(s.indptr, s.indices, out), expected, atol=1e-9)


def blocks_of(system, matrix):
    """Sum over the levels of every term of the diagonal blocks of `matrix`."""
    p = system.pattern
    out = np.zeros((p.n_terms, *system.factors.shape[1:]))
    for j in np.flatnonzero(p.term < p.n_terms):
        at = slice(p.start[j], p.start[j + 1])
        m = at.stop - at.start
        out[p.term[j], :m, :m] += matrix[at, at]
    return out


def test_score_blocks(system):
    """Only entries on the pattern of C enter, because G is zero elsewhere."""
    s, p = system, system.pattern
    W = np.full((p.n_terms, *s.factors.shape[1:]), np.nan)
    accumulate_score_blocks(
        s.data(s.G), s.data(s.C_inv), s.indptr, *p.below, p.start, p.term, s.factors, p.n_terms, W
    )
    np.testing.assert_allclose(W, blocks_of(s, s.G @ s.F @ s.C_inv), atol=1e-10)


def test_scalar_scores_equal_the_score_blocks():
    s = System(0, SHAPES[0])
    p, C_inv = s.pattern, s.data(s.C_inv)
    W, blocks = np.full((2, p.n_terms, 1, 1), np.nan)
    accumulate_scalar_scores(
        s.data(s.G), C_inv, s.indptr, s.indices, p.term, np.diag(s.F).copy(), p.n_terms, W
    )
    accumulate_score_blocks(
        s.data(s.G), C_inv, s.indptr, *p.below, p.start, p.term, s.factors, p.n_terms, blocks
    )
    np.testing.assert_allclose(W, blocks, atol=1e-10)


def test_outer_products_add_up(system):
    s, p = system, system.pattern
    r = np.random.default_rng(4)
    a, b = r.normal(size=(2, len(s.G)))
    Q = np.ones((p.n_terms, *s.factors.shape[1:]))
    accumulate_outer(p.start, p.term, p.n_terms, a, b, Q)
    np.testing.assert_allclose(Q, 1.0 + blocks_of(s, np.outer(a, b)), atol=1e-12)
