"""Fronts that keep the few entries of their rows below, against dense matrices and CHOLMOD."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import lmm
from fastlmm_core.linalg import elimination, separator
from fastlmm_core.linalg.elimination import order_nodes
from fastlmm_core.linalg.separator import order_by_parts
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.linalg.symbolic import analyze


@pytest.fixture(autouse=True)
def small_systems(monkeypatch):
    """The orders of large systems for those that a dense inverse checks in no time."""
    monkeypatch.setattr(elimination, "SMALL_GRAPH", 0)
    monkeypatch.setattr(separator, "LARGE", 0.0)
    monkeypatch.setattr(separator, "LEAST_COLUMNS", 4)
    monkeypatch.setattr(separator, "LEAST_ROWS", 8)
    monkeypatch.setattr(separator, "CHEAPER_PART", 1e3)  # whether it saves time or not
    monkeypatch.setattr(separator, "CHEAPER", 1e3)


def trials(genotypes, environments, reps, block, share=1.0, seed=0):
    """Plots of environments with blocks, in which a share of the genotypes stands."""
    rng = np.random.default_rng(seed)
    rows = []
    for env in range(environments):
        grown = np.sort(rng.choice(genotypes, max(block, int(share * genotypes)), replace=False))
        for rep in range(reps):
            order = rng.permutation(grown)
            rows += [(g, env, rep, k // block) for k, g in enumerate(order)]
    data = pd.DataFrame(rows, columns=["gen", "env", "rep", "block"])
    data["y"] = rng.normal(size=genotypes)[data["gen"]] + rng.normal(size=len(data))
    return data.astype(dict.fromkeys(("gen", "env", "rep", "block"), str))


def equations(data):
    """Z'Z + I of genotypes, blocks, environments and interactions, (n, n) sparse, and the terms of rows."""
    names = (["gen"], ["env", "rep", "block"], ["env"], ["gen", "env"])
    n, parts, kind = len(data), [], []
    for number, own in enumerate(names):
        codes, levels = pd.factorize(data[own].agg("/".join, axis=1))
        parts.append(sp.csr_array((np.ones(n), (np.arange(n), codes))))
        kind += [number] * len(levels)
    Z = sp.hstack(parts)
    return sp.csc_array(Z.T @ Z + sp.eye_array(Z.shape[1])), np.array(kind)


def graph_of(C):
    """Strict lower triangle of the graph of C, and the sizes of its nodes."""
    below = sp.csc_array(sp.tril(C, -1))
    below.sort_indices()
    return below.indptr.astype(np.int64), below.indices.astype(np.int64), np.ones(C.shape[0], np.int64)


def in_order(C, perm):
    """C in an order, dense and as the pattern that a factor takes."""
    assert sorted(perm) == list(range(C.shape[0]))
    dense = C.toarray()[np.ix_(perm, perm)]
    lower = sp.csc_array(np.tril(dense))
    lower.sort_indices()
    return dense, lower, (lower.indptr.astype(np.int64), lower.indices.astype(np.int64))


def genotypes_last(data):
    """C with the genotypes at the end, by parts, and its sparse fronts."""
    C, kind = equations(data)
    perm = np.concatenate((np.flatnonzero(kind > 0)[::-1], np.flatnonzero(kind == 0)))
    perm, fronts, _ = order_by_parts(*graph_of(C), perm, np.zeros(kind.size, bool), kind)
    return *in_order(C, perm), fronts


DESIGNS = {
    "guests": trials(140, 4, 2, 7),
    "three replicates": trials(130, 3, 3, 10, seed=1),
    "some genotypes": trials(150, 5, 2, 9, share=0.6, seed=2),
    "few of them": trials(60, 4, 2, 5, share=0.5, seed=3),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_everything_of_a_factor_is_that_of_a_dense_matrix(design):
    C, lower, pattern, fronts = genotypes_last(DESIGNS[design])
    n = len(C)
    factor = SupernodalFactor(*pattern, fronts)
    nodes = factor.symbolic.nodes
    assert nodes.sparse.sum() == len(fronts) == DESIGNS[design]["env"].nunique()
    assert nodes.guest[nodes.sparse].all() == (design in ("guests", "three replicates"))
    rng = np.random.default_rng(0)
    column = np.repeat(np.arange(n), np.diff(lower.indptr))
    for scale in (1.0, 3.0):  # the second time in the work arrays of the first
        values = np.where(lower.indices == column, scale * lower.data, lower.data)
        dense = np.zeros((n, n))
        dense[lower.indices, column] = values
        dense += np.tril(dense, -1).T
        assert factor.factorize(values)
        assert factor.log_determinant(n) == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
        inverse, B = np.linalg.inv(dense), rng.normal(size=(n, 5))
        np.testing.assert_allclose(factor.solve(B[:, 0]), inverse @ B[:, 0], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(factor.solve(B), inverse @ B, rtol=1e-9, atol=1e-11)
        L = np.linalg.cholesky(dense)
        np.testing.assert_allclose(factor.solve_lower(B), np.linalg.solve(L, B), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(factor.solve_lower(B[:, 1]), np.linalg.solve(L, B[:, 1]), atol=1e-11)
        order = rng.permutation(n)
        whole = np.empty((n, n))
        whole[np.ix_(order, order)] = inverse
        np.testing.assert_allclose(factor.inverse(np.argsort(order)), whole, rtol=1e-8, atol=1e-12)
        for lead in (n, n - 1, n - 30, int(fronts[0, 0]) + 3):
            part = np.zeros((n, n))
            part[:lead, :lead] = np.linalg.inv(dense[:lead, :lead])
            found = factor.inverse_subset(lead)
            np.testing.assert_allclose(found, part[lower.indices, column], rtol=1e-9, atol=1e-12)
            assert factor.log_determinant(lead) == pytest.approx(
                np.linalg.slogdet(dense[:lead, :lead])[1], rel=1e-12
            )


def test_a_matrix_that_is_not_positive_definite_has_no_factor():
    C, lower, pattern, fronts = genotypes_last(DESIGNS["guests"])
    factor = SupernodalFactor(*pattern, fronts)
    for value in (-1.0, np.nan):
        values = lower.data.copy()
        values[lower.indptr[fronts[1, 0] + 2]] = value
        assert not factor.factorize(values)
    assert factor.factorize(lower.data)
    np.testing.assert_allclose(factor.solve(C[:, 3]), np.eye(len(C))[3], atol=1e-10)


def test_nearly_singular_fronts_lose_no_more_digits_than_dense_ones():
    """Blocks and interactions without penalty: what an environment has in common is nearly in its blocks."""
    C, lower, pattern, fronts = genotypes_last(DESIGNS["guests"])
    column = np.repeat(np.arange(len(C)), np.diff(lower.indptr))
    genotypes = len(C) - 140
    values = lower.data - (1.0 - 1e-9) * ((lower.indices == column) & (column < genotypes))
    errors = []
    for own in (fronts, fronts[:0]):
        factor = SupernodalFactor(*pattern, own)
        assert factor.factorize(values)
        x = np.cos(np.arange(len(C)))
        full = sp.csc_array((values, lower.indices, lower.indptr), shape=C.shape)
        full = full + sp.tril(full, -1).T
        right = full @ x
        errors.append(np.abs(full @ factor.solve(right) - right).max() / np.abs(right).max())
    assert errors[0] < 20.0 * max(errors[1], 1e-15)


def test_parts_take_fewer_operations(monkeypatch):
    monkeypatch.undo()
    C, kind = equations(trials(1000, 8, 2, 10, seed=4))
    order = order_nodes(*graph_of(C), kind=kind)
    _, _, pattern = in_order(C, order.perm)
    sparse, dense = analyze(*pattern, order.fronts), analyze(*pattern)
    assert sparse.nodes.sparse.sum() == len(order.fronts) == 8
    assert not dense.nodes.sparse.any()
    assert sparse.flops < 0.7 * dense.flops
    assert sparse.nnz < dense.nnz and sparse.stored < dense.stored


def test_a_graph_that_would_fill_is_left_alone(monkeypatch):
    C, kind = equations(DESIGNS["guests"])
    order = order_nodes(*graph_of(C), kind=kind)
    monkeypatch.setattr(separator, "MOST_JOINED", 1e3)
    assert len(order.fronts) and not len(order_nodes(*graph_of(C), kind=kind).fronts)


def test_parts_of_one_node_each_have_no_front(monkeypatch):
    """Nothing is left of them, and what SciPy makes of nothing has indices of another type.

    For a second type Numba would compile the kernel anew.
    """
    types, choose = [], separator.choose_apart

    def record(indptr, indices, most):
        types.append((indptr.dtype, indices.dtype))
        return choose(indptr, indices, most)

    monkeypatch.setattr(separator, "choose_apart", record)
    edges = np.zeros((12, 12))
    edges[:10, 10:] = 1.0  # ten levels below two nodes of five coefficients
    below_ptr, below, size = graph_of(sp.csc_array(edges[::-1, ::-1]))
    size[:2] = 5
    kind = np.repeat([1, 0], [2, 10])
    assert order_by_parts(below_ptr, below, size, np.arange(12), kind > 1, kind) is None
    assert types == 2 * [(np.dtype(np.int64), np.dtype(np.int64))]


@pytest.mark.parametrize("hubs", [0, 1, 5, 31, 33])
def test_as_few_hubs_as_separate_are_taken_in(monkeypatch, hubs):
    """Nodes that meet all others, such as covariates, hide the parts; beyond 32 none are looked for."""
    searches, number = [], separator.number_parts

    def count(*arrays):
        searches.append(arrays)
        return number(*arrays)

    monkeypatch.setattr(separator, "number_parts", count)
    parts, size = 3, 40
    n = hubs + 4 + parts * size  # hubs, the separator, and the parts
    full = np.zeros((n, n))
    full[:hubs] = 1.0
    for k in range(parts):
        own = slice(hubs + 4 + k * size, hubs + 4 + (k + 1) * size)
        full[own, own] = 1.0
        full[hubs : hubs + 4, own] = 1.0
    lower = sp.csc_array(np.tril(np.maximum(full, full.T), -1))
    pattern = lower.indptr.astype(np.int64), lower.indices.astype(np.int64)
    given = np.zeros(n, bool)
    given[hubs : hubs + 4] = True
    degree = np.asarray((lower + lower.T).sum(axis=1)).astype(np.int64)
    found = separator._separate(*pattern, degree, given, np.ones(n, np.int64))
    assert len(searches) <= 8
    if hubs > 32:
        assert found is None
        return
    separates, part = found
    np.testing.assert_array_equal(np.flatnonzero(separates), np.arange(hubs + 4))
    assert part.max() == parts - 1


def test_fronts_that_save_nothing_are_dense(monkeypatch):
    _, _, pattern, fronts = genotypes_last(DESIGNS["guests"])
    monkeypatch.setattr(separator, "CHEAPER_PART", 0.0)
    assert not analyze(*pattern, fronts).nodes.sparse.any()


@pytest.mark.parametrize("data", [
    trials(300, 1, 2, 6),  # one environment
    trials(150, 2, 2, 5).assign(gen=lambda d: d["gen"] + d["env"]),  # that have nothing in common
])  # fmt: skip
def test_without_a_separator_the_order_stays(monkeypatch, data):
    monkeypatch.undo()
    monkeypatch.setattr(separator, "LARGE", 0.0)
    C, kind = equations(data)
    assert not len(order_nodes(*graph_of(C), kind=kind).fronts)


def two_programmes():
    """Trials of two breeding programmes that have nothing in common, and so two separators."""
    other = trials(60, 2, 2, 5, seed=7).assign(gen=lambda d: "b" + d["gen"], env=lambda d: "b" + d["env"])
    return pd.concat([trials(60, 2, 2, 5, seed=6), other], ignore_index=True)


def test_what_must_stand_at_the_end_does_where_the_separator_is_in_pieces():
    C, kind = equations(two_programmes())
    order = order_nodes(*graph_of(C), kind == 2, kind=kind)
    assert len(order.fronts) == 4
    assert (kind[order.perm[-4:]] == 2).all()


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_maximum_likelihood_does_not_depend_on_the_order(monkeypatch):
    """Its determinant is that of the leading block, without the fixed columns."""
    formula, data = "y ~ 0 + env + (1 | gen) + (1 | gen:env) + (1 | env:rep:block)", two_programmes()
    by_parts = lmm(formula, data, reml=False, factorization="supernodal")
    monkeypatch.setattr(separator, "LARGE", np.inf)
    other = lmm(formula, data, reml=False, factorization="supernodal")
    assert by_parts.criterion == pytest.approx(other.criterion, rel=1e-10)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("formula", [
    "y ~ env + (1 | gen) + (1 | gen:env) + (1 | env:rep:block)",
    "y ~ env + us(0 + env | gen) + (1 | env:rep:block)",
    "y ~ gen + (1 | gen:env) + (1 | env:rep) + (1 | env:rep:block)",
])  # fmt: skip
@pytest.mark.parametrize("residual", ["units", "units | env"])
def test_fits_are_those_of_cholmod_and_of_columns(formula, residual):
    pytest.importorskip("sksparse")
    data = trials(140, 3, 2, 7, share=0.9, seed=5)
    fits = [
        lmm(formula, data, residual=residual, factorization=kind)
        for kind in ("supernodal", "cholmod", "simplicial")
    ]
    assert fits[0].criterion == pytest.approx(fits[1].criterion, rel=1e-10)
    assert fits[0].criterion == pytest.approx(fits[2].criterion, rel=1e-10)
    for other in fits[1:]:
        pd.testing.assert_frame_equal(
            fits[0].variance_components, other.variance_components, rtol=1e-6, atol=1e-8
        )
        effects = [fit.fixed_effects().select_dtypes(float) for fit in (fits[0], other)]
        np.testing.assert_allclose(effects[0], effects[1], rtol=1e-6, atol=1e-7)
