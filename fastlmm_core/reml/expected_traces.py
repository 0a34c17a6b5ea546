"""tr(P V_i P V_j) from the mixed model equations: Z'PZ where it is small, else derivatives of traces.

Three exact ways to a column of the matrix, and one that holds 1e-8:

* all of Z'PZ by q solves, for few random coefficients;
* the columns of one term by its own L_k m_k solves, for terms of few levels in a large system;
* differences of tr(P V_i), which the sparse inverse subset gives:
  d tr(P V_i) / d t_j = -tr(P V_i P V_j):
  two factorizations and inverse subsets a parameter, whatever the number of levels.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.reml.natural import NaturalParameters
from fastlmm_core.reml.objective import assemble_at
from fastlmm_core.reml.solved import SolvedEquations, trace_blocks_at
from fastlmm_core.structures.coefficients.unstructured import lower_factor

# Up to this many random coefficients Z'PZ is formed once, densely.
DENSE_RANDOM = 700
# A solve moves 4 nnz(L) numbers at a fraction of the speed of the dense blocks of a factorization.
SOLVE_PENALTY = 6.0
# Factorization with inverse subset, in operations of the factorization.
EVALUATION_COST = 3.0
# Above these operations one pair of differences has to do (1e-8 relative); below, a Richardson step makes it
# 1e-10.
SINGLE_DIFFERENCE = 1e9


def expected_traces(
    solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto"
) -> np.ndarray:
    """tr(P V_i P V_j) over the natural parameters (d, d), residual not included; V^-1 in place of P for ML.

    Parameters
    ----------
    method : {"auto", "dense", "solves", "differences"}
        "auto" takes the cheapest by a count of operations, term by term in a large system.

    Returns
    -------
    (d, d) float64
    """
    check_option("method", method, ("auto", "dense", "solves", "differences"))
    if method == "auto" and solved.equations.q <= DENSE_RANDOM:
        method = "dense"
    if method == "dense":
        return _dense(solved, parameters)
    by_solves = [k for k in range(len(solved.equations.terms)) if _solves_pay(solved, k, method)]
    return _by_columns(solved, parameters, by_solves)


def _solves_pay(solved: SolvedEquations, k: int, method: str) -> bool:
    if method != "auto":
        return method == "solves"
    term, factor = solved.equations.terms[k], solved.factor
    n_parameters = term.structure.natural_directions().shape[0]
    differences = 2.0 * n_parameters * EVALUATION_COST * factor.flops
    return solved.reml and SOLVE_PENALTY * 4.0 * factor.nnz * term.n_levels * term.m < differences


def _dense(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    M = dense_projection(solved)
    blocks = solved.equations.layout.random_rows
    offsets = np.cumsum([0] + [block.size for block in blocks])
    d = parameters.size
    out = np.empty((d, d))
    for k, own in enumerate(blocks):
        columns = M[:, offsets[k] : offsets[k + 1]]
        for h, other in enumerate(blocks):
            part = columns[offsets[h] : offsets[h + 1]].reshape(*other.shape, *own.shape)
            _contract(out, parameters, h, k, _level_products(part))
    return out


def _level_products(part: np.ndarray) -> np.ndarray:
    """Sum over levels of M[a i, b j] M[a i', b j'], (m_h, m_k, m_h, m_k), for `part` (L_h, m_h, L_k, m_k)."""
    L_h, m_h, L_k, m_k = part.shape
    flat = part.transpose(1, 3, 0, 2).reshape(m_h * m_k, L_h * L_k)
    return (flat @ flat.T).reshape(m_h, m_k, m_h, m_k)


def _contract(out: np.ndarray, parameters: NaturalParameters, h: int, k: int, products: np.ndarray) -> None:
    m_h, m_k = products.shape[:2]
    for i in np.flatnonzero(parameters.term == h):
        for j in np.flatnonzero(parameters.term == k):
            E, F = parameters.directions[i][:m_h, :m_h], parameters.directions[j][:m_k, :m_k]
            out[i, j] = np.einsum("ijkl,ik,jl->", products, E, F)


def dense_projection(solved: SolvedEquations) -> np.ndarray:
    """Z' P Z (q, q) with terms one after another, levels within terms (V^-1 in place of P for ML)."""
    e = solved.equations
    rows = np.concatenate([block.ravel() for block in e.layout.random_rows])
    X = np.zeros((e.q + e.p, e.q))
    X[rows, np.arange(e.q)] = 1.0
    M = solved.project(X)[rows]
    if not solved.reml:
        # P = V^-1 - V^-1 X Phi X' V^-1
        B, phi = solved.solve_fixed(np.eye(e.p))
        half = B[rows] @ lower_factor(np.linalg.inv(phi))
        M = M + half @ half.T
    return 0.5 * (M + M.T)


def _by_columns(solved: SolvedEquations, parameters: NaturalParameters, by_solves: list[int]) -> np.ndarray:
    """Columns of the terms in `by_solves` from solves, of the others from differences."""
    if by_solves and not solved.reml:
        raise InferenceError("solves for tr(P V_i P V_j) are for REML fits; use method='differences'")
    d = parameters.size
    out = np.empty((d, d))
    for k in by_solves:
        _solve_columns(solved, parameters, k, out)
    rest = [j for j in range(d) if parameters.term[j] not in by_solves]
    if rest:
        _difference_columns(solved, parameters, rest, out)
    for i in range(d):  # an exact column settles the row of an approximate one
        for j in rest:
            if i not in rest:
                out[i, j] = out[j, i]
    return 0.5 * (out + out.T)


def _solve_columns(
    solved: SolvedEquations, parameters: NaturalParameters, k: int, out: np.ndarray, block: int = 128
) -> None:
    e = solved.equations
    own = e.layout.random_rows[k]
    L, m = own.shape
    products = [np.zeros((rows.shape[1], m, rows.shape[1], m)) for rows in e.layout.random_rows]
    for first in range(0, L, max(1, block // m)):
        levels = own[first : first + max(1, block // m)]
        X = np.zeros((e.q + e.p, levels.size))
        X[levels.ravel(), np.arange(levels.size)] = 1.0
        M = solved.project(X)
        for h, rows in enumerate(e.layout.random_rows):
            products[h] += _level_products(M[rows].reshape(*rows.shape, *levels.shape))
    for h, product in enumerate(products):
        _contract(out, parameters, h, k, product)


def _difference_columns(
    solved: SolvedEquations, parameters: NaturalParameters, columns: list[int], out: np.ndarray
) -> None:
    """Differences along rank-one directions, which stay positive semidefinite at a singular T too."""
    e = solved.equations
    # the factor of the fit is read by every other question, of other threads too, and stays where it is
    nearby = solved.factor.copy()
    derivative: dict[tuple, np.ndarray] = {}

    def along(k: int, v: np.ndarray) -> np.ndarray:
        key = (k, *np.flatnonzero(v))
        if key not in derivative:
            derivative[key] = -_differentiate_traces(solved, nearby, parameters, k, v)
        return derivative[key]

    for j in columns:
        k = int(parameters.term[j])
        a, b = np.argwhere(parameters.directions[j])[0]
        unit = np.eye(e.terms[k].m)
        if a == b:
            out[:, j] = along(k, unit[a])
        else:
            out[:, j] = along(k, unit[a] + unit[b]) - along(k, unit[a]) - along(k, unit[b])


def _differentiate_traces(
    solved: SolvedEquations, factor: CholeskyFactor, parameters: NaturalParameters, k: int, v: np.ndarray
) -> np.ndarray:
    """d tr(P V_i) / dh for T_k + h v v', all i; the values of `factor` are overwritten."""
    T = solved.relative_covariance(k)
    e = solved.equations
    mean_square = float(e.G[e.indptr[e.layout.random_rows[k][:, 0]]].mean())
    room = _room_below(T, v)
    scale = room + 1.0 / mean_square

    def at(h: float) -> np.ndarray:
        return _traces_at(solved, factor, parameters, k, v, h)

    if room > 1e-2 * scale:
        if solved.factor.flops > SINGLE_DIFFERENCE:
            h = 1e-4 * scale
            return (at(h) - at(-h)) / (2.0 * h)
        h = 1e-3 * scale
        coarse, fine = (at(h) - at(-h)) / (2.0 * h), (at(h / 2) - at(-h / 2)) / h
        return (4.0 * fine - coarse) / 3.0
    # forward formula of fifth order from the boundary
    h = 5e-3 * scale
    weights = np.array([-137 / 60, 5.0, -5.0, 10 / 3, -5 / 4, 1 / 5])
    return np.sum([w * at(s * h) for s, w in enumerate(weights)], axis=0) / h


def _room_below(T: np.ndarray, v: np.ndarray) -> float:
    """Largest h for which T - h v v' stays positive semidefinite; 0 when v leaves the range of T."""
    values, vectors = np.linalg.eigh(T)
    keep = values > 1e-10 * max(values.max(), 1e-300)
    if values.max() <= 0.0:
        return 0.0
    parts = vectors.T @ v
    if np.any(np.abs(parts[~keep]) > 1e-8 * np.linalg.norm(v)):
        return 0.0
    return float(1.0 / np.sum(parts[keep] ** 2 / values[keep]))


def _traces_at(
    solved: SolvedEquations, factor: CholeskyFactor, parameters: NaturalParameters, k: int, v: np.ndarray,
    h: float,
) -> np.ndarray:  # fmt: skip
    e = solved.equations
    m = e.terms[k].m
    factors = solved.factors.copy()
    moved = lower_factor(solved.relative_covariance(k) + h * np.outer(v, v))
    tiny = solved.factors[k][:m, :m]
    moved[np.diag_indices(m)] = np.where(
        np.diag(moved) > 0, np.diag(moved), np.abs(np.diag(tiny)).clip(max=1e-10)
    )
    factors[k, :m, :m] = moved
    if not factor.factorize(assemble_at(e, factors)):
        raise InferenceError("the mixed model equations are not positive definite near the estimates")
    return parameters.contract(trace_blocks_at(e, factor, factors))
