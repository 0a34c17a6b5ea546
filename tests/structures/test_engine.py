"""The structured equations against dense V (n, n): criterion, gradient, informations, adjustments, BLUPs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.engine.equations.structured_equations import build_structured_equations
from fastlmm_core.engine.equations.terms import EngineTerm
from fastlmm_core.engine.information.direction_products import (
    average_matrix,
    covariance_gradients,
    weighted_form,
)
from fastlmm_core.engine.information.directions import chart_directions
from fastlmm_core.engine.information.expected_information import expected_by_rows, expected_by_unknowns
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.objective import average_information, evaluate, gradient_at
from fastlmm_core.engine.search.fitting import fit_structures
from fastlmm_core.engine.solution import StructuredResponse, StructuredSolution
from fastlmm_core.linalg import make_factor
from fastlmm_core.structures.levels.factors import AutoregressiveLevels, KnownLevels
from fastlmm_core.structures.levels.kronecker import KroneckerLevels
from fastlmm_core.structures.registry import make_coefficient_structure as structure
from fastlmm_core.structures.residuals.by_group import IndependentResiduals
from fastlmm_core.structures.residuals.field import FieldResiduals
from fastlmm_core.structures.residuals.known import KnownResiduals
from fastlmm_core.structures.residuals.visits_by_pattern import PatternResiduals
from fastlmm_core.structures.residuals.visits_in_series import SeriesResiduals
from fastlmm_core.structures.residuals.within_subject import Visits

N, ROWS, COLS, LINES = 96, 11, 10, 16


class Known:
    """A dense relationship of the lines."""

    def __init__(self, A):
        self.A, self.size = A, len(A)

    def log_determinant(self):
        return np.linalg.slogdet(self.A)[1]

    def precision(self):
        return sp.csc_array(np.linalg.inv(self.A))

    def multiply(self, V):
        return self.A @ V

    def diagonal(self):
        return np.diag(self.A)


def incidence(codes, size):
    used = np.flatnonzero(codes >= 0)
    return sp.csr_array((np.ones(used.size), (used, codes[used])), shape=(codes.size, size))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    subject = np.arange(N) // 4
    visit = np.tile(np.arange(4), N // 4) + rng.integers(0, 2, N // 4).repeat(4)
    return {
        "w": rng.uniform(0.5, 2.0, N), "cell": rng.permutation(ROWS * COLS)[:N],
        "gen": rng.integers(0, LINES, N),
        "env": rng.integers(0, 3, N), "subject": subject, "visit": visit, "arm": subject % 2,
        "X": sp.csc_array(np.column_stack([np.ones(N), rng.normal(size=N)])),
        "y": rng.normal(size=N) + rng.normal(size=LINES)[rng.integers(0, LINES, N)],
        "A": np.cov(rng.normal(size=(LINES, 40))), "omega": np.cov(rng.normal(size=(N, 3 * N))),
    }  # fmt: skip


def grid():
    return KroneckerLevels([AutoregressiveLevels(ROWS, "row"), AutoregressiveLevels(COLS, "col")])


def blocks_of(omega, sizes):
    """Blocks on the diagonal of a covariance, the rows of each spread over all: two dense ones, two small."""
    rows = np.split(np.random.default_rng(4).permutation(len(omega)), np.cumsum(sizes)[:-1])
    return [(own, omega[np.ix_(own, own)]) for own in rows]


RESIDUALS = {
    "units": lambda d: IndependentResiduals(d["w"], np.zeros(N, int), (None,)),
    "units | env": lambda d: IndependentResiduals(d["w"], d["env"], ("a", "b", "c")),
    "known": lambda d: KnownResiduals(d["w"], d["omega"]),
    "known by blocks": lambda d: KnownResiduals(d["w"], blocks_of(d["omega"], (40, 30, 20, 6))),
    "field": lambda d: FieldResiduals(d["w"], [grid()], d["cell"], np.zeros(N, int), (None,)),
    "us": lambda d: PatternResiduals(
        d["w"], Visits(d["subject"], d["visit"], np.zeros(N, int)), [structure("us", 5)], tuple("abcde"),
        (None,),
    ),
    "toep | arm": lambda d: PatternResiduals(
        d["w"], Visits(d["subject"], d["visit"], d["arm"]), [structure("toep", 5), structure("toep", 5)],
        tuple("abcde"), ("A", "B"),
    ),
    "series": lambda d: SeriesResiduals(
        d["w"], Visits(d["subject"], d["visit"], np.zeros(N, int)), [structure("ar1", 5)], tuple("abcde"),
        (None,),
    ),
    "series | arm": lambda d: SeriesResiduals(
        d["w"], Visits(d["subject"], d["visit"] + (d["visit"] > 2), d["arm"]),
        [structure("ar1", 6), structure("ar1", 6)], tuple("abcdef"), ("A", "B"),
    ),
}  # fmt: skip


def by_env(d):
    return tuple(incidence(np.where(d["env"] == k, d["gen"], -1), LINES) for k in range(3))


TERMS = {
    "none": lambda d: [],
    "iid": lambda d: [EngineTerm(structure("us", 1), None, (incidence(d["gen"], LINES),), np.eye(1))],
    "us": lambda d: [EngineTerm(structure("us", 3), None, by_env(d), np.eye(3))],
    "fa": lambda d: [EngineTerm(structure("fa", 3, k=1), None, by_env(d), np.eye(3))],
    "cs over A": lambda d: [EngineTerm(structure("cs", 3), KnownLevels(Known(d["A"])), by_env(d), np.eye(3))],
    "ar1:ar1": lambda d: [
        EngineTerm(structure("us", 1), grid(), (incidence(d["cell"], ROWS * COLS),), np.eye(1))
    ],
}  # fmt: skip


def dense_covariance(e, theta):
    """V (n, n) from the definition of every part."""
    rows = e.residual.n_rows
    V = e.residual.multiply_covariance(theta[e.slices[1]], np.eye(rows))[: e.n, : e.n].copy()
    for term, (own, level) in zip(e.terms, e.slices[0], strict=True):
        T = term.structure.covariance(theta[own])
        unit = np.eye(term.n_levels)
        K = unit if term.levels is None else term.levels.multiply_covariance(theta[level], unit)
        Z = [M.toarray()[: e.n] for M in term.matrices]
        V += sum(T[a, b] * Z[a] @ K @ Z[b].T for a in range(term.m) for b in range(term.m))
    return V


def fixed(e):
    return e.matrix[: e.n][:, e.natural.fixed].toarray()


def dense_projection(e, theta):
    V, X = dense_covariance(e, theta), fixed(e)
    V_inv = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    return V, V_inv, phi, V_inv - V_inv @ X @ phi @ X.T @ V_inv


def dense_deviance(e, theta, y):
    V, _, phi, P = dense_projection(e, theta)
    value = np.linalg.slogdet(V)[1] + y @ P @ y
    if e.fixed_last:
        return value + e.n * np.log(2 * np.pi)
    return value - np.linalg.slogdet(phi)[1] + (e.n - e.p) * np.log(2 * np.pi)


def start_of(e, y, rng):
    theta = rng.normal(size=e.n_theta) * 0.3 + 0.2
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        start = term.structure.start(0.7 * np.eye(term.m) + 0.2)
        theta[own] = start + 0.05 * rng.normal(size=start.size)
    own = e.slices[1]
    theta[own] = e.residual.start(y) + 0.05 * rng.normal(size=e.residual.n_theta)
    return theta


def padded(e, y):
    return np.concatenate([y, np.zeros(e.residual.n_missing)])


def case(data, residual, term, ml=False):
    e = build_structured_equations(data["X"], TERMS[term](data), RESIDUALS[residual](data), fixed_last=ml)
    return e, make_factor(e)


PAIRS = [(residual, term) for residual in RESIDUALS for term in TERMS]


@pytest.mark.parametrize(("residual", "term"), PAIRS)
@pytest.mark.parametrize("ml", [False, True])
def test_criterion_and_gradient(data, residual, term, ml):
    e, factor = case(data, residual, term, ml)
    theta = start_of(e, data["y"], np.random.default_rng(1))
    y = padded(e, data["y"])
    point = evaluate(e, factor, y, theta)
    assert point.deviance == pytest.approx(dense_deviance(e, theta, data["y"]), abs=1e-9)
    gradient, _ = gradient_at(e, factor, point)
    for t in range(e.n_theta):
        step = np.zeros(e.n_theta)
        step[t] = 1e-5
        ahead, behind = (dense_deviance(e, theta + s * step, data["y"]) for s in (1, -1))
        assert gradient[t] == pytest.approx((ahead - behind) / 2e-5, abs=2e-6)


def derivatives(e, theta):
    """dV of every parameter by central differences of the dense V."""
    out = []
    for t in range(e.n_theta):
        step = np.zeros(e.n_theta)
        step[t] = 1e-5
        out.append((dense_covariance(e, theta + step) - dense_covariance(e, theta - step)) / 2e-5)
    return out


@pytest.mark.parametrize(("residual", "term"), PAIRS)
def test_informations_and_kenward_roger(data, residual, term):
    e, factor = case(data, residual, term)
    theta = start_of(e, data["y"], np.random.default_rng(2))
    y = padded(e, data["y"])
    point = evaluate(e, factor, y, theta)
    _, V_inv, phi, P = dense_projection(e, theta)
    slopes = derivatives(e, theta)
    Py = P @ data["y"]
    average = np.array([[Py @ A @ P @ B @ Py for B in slopes] for A in slopes])
    scale = np.abs(average).max()
    np.testing.assert_allclose(average_information(e, factor, point), average, atol=1e-7 * scale)

    class Optimum:  # what a solution needs of a search that did not run
        pass

    Optimum.theta, Optimum.free, Optimum.point = theta, np.ones(e.n_theta, bool), point
    response = StructuredResponse(data["y"], np.zeros(e.p), data["y"], 1.0)
    solution = StructuredSolution(e, factor, response, Optimum, True)
    directions = chart_directions(solution)
    np.testing.assert_allclose(average_matrix(solution, directions), average, atol=1e-7 * scale)
    expected = np.array([[np.trace(P @ A @ P @ B) for B in slopes] for A in slopes])
    inference = StructureInference(solution, ())
    inference.__dict__["linear_directions"] = directions
    np.testing.assert_allclose(inference.expected, expected, atol=1e-6 * np.abs(expected).max())
    # by the unknowns and by the rows: two sizes of matrices, one information
    by_unknowns = expected_by_unknowns(solution, directions)
    assert (by_unknowns is None) == (residual.split()[0] in ("field", "series"))
    for found in (by_unknowns, expected_by_rows(solution, directions)):
        if found is not None:
            np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    K = np.array([[1.0, 0.3], [0.0, 1.0]])
    rows, phi_K = solution.solve_fixed(K)
    np.testing.assert_allclose(phi_K, phi @ K.T, atol=1e-10)
    U = V_inv @ fixed(e) @ phi @ K.T
    np.testing.assert_allclose(
        covariance_gradients(solution, directions, rows), [U.T @ A @ U for A in slopes], atol=1e-7
    )
    rng = np.random.default_rng(4)
    half = rng.normal(size=(e.n_theta, e.n_theta))
    weights = 0.01 * half @ half.T  # small enough for the residual to be told from the other directions
    wanted = sum(
        weights[i, j] * U.T @ slopes[i] @ P @ slopes[j] @ U
        for i in range(e.n_theta) for j in range(e.n_theta)
    )  # fmt: skip
    np.testing.assert_allclose(
        weighted_form(solution, directions, weights, rows), wanted, atol=1e-6 * np.abs(wanted).max() + 1e-14
    )


@pytest.mark.parametrize("term", [term for term in TERMS if term != "none"])
@pytest.mark.parametrize("residual", ["units", "units | env", "field", "us", "series | arm"])
def test_predictions_and_their_errors(data, residual, term):
    e, factor = case(data, residual, term)
    theta = start_of(e, data["y"], np.random.default_rng(5))
    point = evaluate(e, factor, padded(e, data["y"]), theta)
    _, _, _, P = dense_projection(e, theta)

    class Optimum:
        pass

    Optimum.theta, Optimum.free, Optimum.point = theta, np.ones(e.n_theta, bool), point
    response = StructuredResponse(data["y"], np.zeros(e.p), data["y"], 1.0)
    solution = StructuredSolution(e, factor, response, Optimum, True)
    own, level = e.slices[0][0]
    model = e.terms[0]
    T = model.structure.covariance(theta[own])
    unit = np.eye(model.n_levels)
    K = unit if model.levels is None else model.levels.multiply_covariance(theta[level], unit)
    Z = [M.toarray()[: e.n] for M in model.matrices]
    for a in range(model.m):
        C = sum(T[a, b] * K @ Z[b].T for b in range(model.m))  # Cov(u_a, y)
        np.testing.assert_allclose(solution.random_effects(0)[:, a], C @ P @ data["y"], atol=1e-8)
        pev = T[a, a] * np.diag(K) - np.einsum("ij,jk,ik->i", C, P, C)
        np.testing.assert_allclose(solution.prediction_error(0)[:, a], pev, atol=1e-8)


@pytest.mark.parametrize("term", ["iid", "us", "cs over A"])
def test_a_fit_ends_where_the_gradient_vanishes(data, term):
    e, factor = case(data, "units | env", term)
    y = data["y"] - data["y"].mean()
    found = fit_structures(e, factor, y / y.std())
    assert found.certified
    best = dense_deviance(e, found.theta, y / y.std())
    rng = np.random.default_rng(6)
    for _ in range(20):
        moved = found.theta + 0.02 * rng.normal(size=e.n_theta)
        assert dense_deviance(e, moved, y / y.std()) >= best - 1e-9


def test_levels_of_a_relationship_take_no_square_matrix():
    import tracemalloc
    from types import SimpleNamespace

    from fastlmm_core.engine.model_building import level_structure
    from fastlmm_core.structures.relationships import SparseInverse

    def relation(size):
        levels = [f"a{i}" for i in range(size)]
        known = SparseInverse(sp.csc_array(sp.eye_array(size)), levels)
        return SimpleNamespace(factors=(SimpleNamespace(kind="vm", levels=levels, relationship=known),))

    level_structure(relation(3))  # what loads and compiles does so before memory is looked at
    large = relation(5000)
    tracemalloc.start()
    found, root = level_structure(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.size == 5000 and root is None
    assert peak < 20e6
