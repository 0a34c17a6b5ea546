"""C = F' G F and what is read from its inverse, for loadings with zeros and a G that is mostly empty."""

import numpy as np
import pytest

from fastlmm_core.kernels.equations.loadings import apply_loadings, assemble_loadings, read_inverse
from fastlmm_core.kernels.equations.slopes import contract_slopes, multiply_slopes

# Nodes of three terms, in elimination order: factor analytic (m = 3, r = 4), unstructured (2, 2),
# and scalars.
TERM = np.array([0, 2, 1, 0, 2, 1, 0])
M, R = np.array([3, 2, 1]), np.array([4, 2, 1])
BELOW = [[1, 2, 3, 4], [2, 4, 6], [3, 5], [4, 5, 6], [5], [6], []]


def lower_pattern(size):
    """First scalars of the nodes, of `size` scalars by term, and indptr, indices of full blocks of BELOW."""
    start = np.concatenate(([0], np.cumsum(size[TERM])))
    indptr, indices = [0], []
    for j, below in enumerate(BELOW):
        rows = np.concatenate([np.arange(start[i], start[i + 1]) for i in [j, *below]])
        for column in range(start[j], start[j + 1]):
            indices += [row for row in rows.tolist() if row >= column]
            indptr.append(len(indices))
    return start, np.array(indptr), np.array(indices, np.int32)  # as a system has them


def dense(indptr, indices, values):
    out = np.zeros((indptr.size - 1,) * 2)
    columns = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    out[indices, columns] = out[columns, indices] = values
    return out


@pytest.fixture(params=["full", "sparse"])
def system(request):
    r = np.random.default_rng(4)
    loadings = np.zeros((3, 3, 4))
    loadings[0] = np.column_stack([r.normal(size=3), np.diag(r.uniform(0.5, 1.0, 3))])
    loadings[1, :2, :2] = [[0.7, 0.0], [-0.4, 1.2]]
    loadings[2, 0, 0] = 0.8
    start, indptr, indices = lower_pattern(M)
    if request.param == "sparse":
        kept = r.uniform(size=indices.size) < 0.4
        kept[indptr[:-1]] = True
        indptr, indices = np.concatenate(([0], np.cumsum(kept)))[indptr], indices[kept]
    natural, spherical = (start, indptr, indices), lower_pattern(R)
    graph = np.cumsum([0, *map(len, BELOW)]), np.concatenate(BELOW).astype(np.int64), TERM
    F = np.zeros((start[-1], spherical[0][-1]))
    for j, k in enumerate(TERM):
        F[start[j] : start[j] + M[k], spherical[0][j] : spherical[0][j] + R[k]] = loadings[k, : M[k], : R[k]]
    G, C_inv = r.normal(size=indices.size), r.normal(size=spherical[2].size)
    return graph, natural, spherical, loadings, F, G, C_inv


def test_assembly(system):
    graph, natural, (start, indptr, indices), loadings, F, G, _ = system
    C = np.zeros(indices.size)
    assemble_loadings(G, graph, natural, (start, indptr), loadings, C)
    expected = F.T @ dense(*natural[1:], G) @ F
    columns = np.repeat(np.arange(start[-1]), np.diff(indptr))
    np.testing.assert_allclose(C, expected[indices, columns], atol=1e-13)


def test_inverse(system):
    graph, natural, spherical, loadings, F, G, C_inv = system
    W, found = np.zeros((F.shape[0], 4)), np.zeros(G.size)
    read_inverse(G, C_inv, graph, natural, spherical[:2], loadings, W, found)
    inverse = dense(*spherical[1:], C_inv)
    product = dense(*natural[1:], G) @ F @ inverse
    for j, k in enumerate(TERM):
        rows, columns = natural[0][j], spherical[0][j]
        expected = product[rows : rows + M[k], columns : columns + R[k]]
        np.testing.assert_allclose(W[rows : rows + M[k], : R[k]], expected, atol=1e-13)
    columns = np.repeat(np.arange(natural[0][-1]), np.diff(natural[1]))
    np.testing.assert_allclose(found, (F @ inverse @ F.T)[natural[2], columns], atol=1e-13)
    alone = np.zeros_like(W)
    read_inverse(G, C_inv, graph, natural, spherical[:2], loadings, alone, np.empty(0))
    np.testing.assert_array_equal(alone, W)


def test_products_with_loadings(system):
    _, natural, spherical, loadings, F, _, _ = system
    B = np.random.default_rng(1).normal(size=(F.shape[1], 3))
    out = np.empty((F.shape[0], 3))
    apply_loadings(TERM, natural[0], spherical[0], loadings, B, out)
    np.testing.assert_allclose(out, F @ B, atol=1e-14)
    back, turned = np.empty_like(B), np.ascontiguousarray(np.swapaxes(loadings, 1, 2))
    apply_loadings(TERM, spherical[0], natural[0], turned, out, back)
    np.testing.assert_allclose(back, F.T @ out, atol=1e-14)


def test_slopes(system):
    _, (_, indptr, indices), _, _, _, G, _ = system
    r = np.random.default_rng(2)
    H = np.where(r.uniform(size=(indptr.size - 1, 5)) < 0.5, r.normal(size=(indptr.size - 1, 5)), 0.0)
    rows, parameters = (own.copy() for own in np.nonzero(H))
    pointers = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(H)))))
    by_rows = pointers, parameters, H[rows, parameters]
    moved, form = np.empty_like(H), np.zeros((5, 5))
    multiply_slopes(G, indptr, indices, by_rows, moved)
    np.testing.assert_allclose(moved, dense(indptr, indices, G) @ H, atol=1e-13)
    contract_slopes(by_rows, moved, form)
    np.testing.assert_allclose(form, H.T @ moved, atol=1e-13)
