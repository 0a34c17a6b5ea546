"""Information about the variance parameters from the mixed model equations, without any n x n matrix.

The natural parameters are the distinct elements t_j of every T_k (variances and covariances, inside basis) and
the residual; V = W^-1 + sum_j t_j V_j, V_j = Z_k (I (x) E_j) Z_k'.  With P the projection of relative V:

    expected E_ij = tr(P V_i P V_j),   average A_ij = y' P V_i P V_j P y / sigma2,   observed 2 A - E,

and the covariance of (sigma2 t, sigma2) is the inverse of that matrix over 2 sigma2^2 (Searle, Casella &
McCulloch 1992, ch. 6; Gilmour, Thompson & Cullis 1995).  The residual's row needs no work of its own:
P V P = P gives tr(P V_i P V_e) = tr(P V_i) - sum_j t_j tr(P V_i P V_j), and P V_e P y = P y - sum_j t_j P V_j P y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.covariance.unstructured import lower_factor
from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.reml.objective import assemble_at
from fastlmm_core.reml.solved import SolvedEquations, trace_blocks_at

KINDS = ("expected", "observed", "average")
# Up to this many random coefficients Z'PZ is formed once, densely.
DENSE_RANDOM = 700
# Rounding leaves about 1e-15 of a trace that is zero.
CONFOUNDED = 1e-11


@dataclass(frozen=True)
class NaturalParameters:
    """Distinct elements of the T_k.

    Attributes
    ----------
    term : (d,) int64
        Random term of each parameter.
    directions : (d, m, m) float64
        E_j, zero padded to the widest term.
    values : (d,) float64
        t_j.
    """

    term: np.ndarray
    directions: np.ndarray
    values: np.ndarray

    @property
    def size(self) -> int:
        return self.term.size


def natural_parameters(solved: SolvedEquations) -> NaturalParameters:
    """Natural parameters at the estimates."""
    e = solved.equations
    term, directions, values = [], [], []
    for k, layout in enumerate(e.terms):
        T = solved.relative_covariance(k)
        for direction in layout.structure.natural_directions():
            padded = np.zeros((e.width, e.width))
            padded[: layout.m, : layout.m] = direction
            row, col = np.argwhere(direction)[0]
            term.append(k)
            directions.append(padded)
            values.append(T[row, col])
    return NaturalParameters(
        np.array(term, dtype=np.int64), np.array(directions).reshape(-1, e.width, e.width), np.array(values, float)
    )


def apply_direction(solved: SolvedEquations, parameters: NaturalParameters, j: int, B: np.ndarray) -> np.ndarray:
    """(I (x) E_j) B on the levels of its term, zero elsewhere; B (q + p, r)."""
    layout = solved.equations.layout
    out = np.zeros_like(B)
    k = parameters.term[j]
    rows = layout.random_rows[k]
    m = rows.shape[1]
    direction = parameters.directions[j]
    for a in range(m):
        for b in range(m):
            if direction[a, b] != 0.0:
                out[rows[:, a]] += direction[a, b] * B[rows[:, b]]
    return out


def traces(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """tr(P V_j) of every natural parameter (d,)."""
    return _traces_of(solved.trace_blocks, parameters)


def _traces_of(H: np.ndarray, parameters: NaturalParameters) -> np.ndarray:
    return np.einsum("jab,jab->j", H[parameters.term], parameters.directions)


def confounded_terms(solved: SolvedEquations, parameters: NaturalParameters) -> list[int]:
    """Random terms with a variance whose tr(P V_j) vanishes: columns within the span of X.

    Alone in the model with its prior variance t_j it would be the sum of g / (1 + t_j g), g = z'Wz of a level.
    """
    e = solved.equations
    found = []
    for j, trace in enumerate(traces(solved, parameters)):
        k = int(parameters.term[j])
        a, b = np.argwhere(parameters.directions[j])[0]
        if a == b and k not in found:
            own = e.G[e.indptr[e.layout.random_rows[k][:, a]]]
            if trace <= CONFOUNDED * float(np.sum(own / (1.0 + parameters.values[j] * own))):
                found.append(k)
    return found


def expected_traces(solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto") -> np.ndarray:
    """tr(P V_i P V_j) over the natural parameters (d, d), residual not included.

    Parameters
    ----------
    method : {"auto", "dense", "differences"}
        "dense" forms Z'PZ by q solves; "differences" differentiates tr(P V_i) numerically through the sparse
        inverse subset, since d tr(P V_i) / d t_j = -tr(P V_i P V_j).  "auto" takes the cheaper.
    """
    check_option("method", method, ("auto", "dense", "differences"))
    if method == "auto":
        method = "dense" if solved.equations.q <= DENSE_RANDOM else "differences"
    if method == "dense":
        return _expected_dense(solved, parameters)
    return _expected_differences(solved, parameters)


def _expected_dense(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    M = dense_projection(solved)
    rows = [block for block in solved.equations.layout.random_rows]
    offsets = np.cumsum([0] + [block.size for block in rows])
    d = parameters.size
    out = np.empty((d, d))
    pairs: dict[tuple[int, int], np.ndarray] = {}
    for i in range(d):
        for j in range(i + 1):
            k, h = parameters.term[i], parameters.term[j]
            if (k, h) not in pairs:
                block = M[offsets[k] : offsets[k + 1], offsets[h] : offsets[h + 1]]
                block = block.reshape(rows[k].shape + rows[h].shape)
                # sum over levels of M[a i, b j] M[a i', b j'] for all coefficient pairs
                pairs[k, h] = np.einsum("aibj,akbl->ijkl", block, block, optimize=True)
            m, w = rows[k].shape[1], rows[h].shape[1]
            E, F = parameters.directions[i][:m, :m], parameters.directions[j][:w, :w]
            out[i, j] = out[j, i] = np.einsum("ijkl,ik,jl->", pairs[k, h], E, F)
    return out


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


def _expected_differences(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """Differences along rank-one directions, which stay positive semidefinite at a singular T too."""
    e = solved.equations
    d = parameters.size
    derivative: dict[tuple, np.ndarray] = {}

    def along(k: int, v: np.ndarray) -> np.ndarray:
        key = (k, *np.flatnonzero(v))
        if key not in derivative:
            derivative[key] = -_differentiate_traces(solved, parameters, k, v)
        return derivative[key]

    out = np.empty((d, d))
    for j in range(d):
        k = int(parameters.term[j])
        m = e.terms[k].m
        a, b = np.argwhere(parameters.directions[j])[0]
        unit = np.eye(m)
        if a == b:
            out[:, j] = along(k, unit[a])
        else:
            out[:, j] = along(k, unit[a] + unit[b]) - along(k, unit[a]) - along(k, unit[b])
    # leave the factor as it was found
    solved.factor.factorize(assemble_at(e, solved.factors))
    return 0.5 * (out + out.T)


def _differentiate_traces(solved, parameters, k, v) -> np.ndarray:
    """d tr(P V_i) / dh for T_k + h v v', all i."""
    T = solved.relative_covariance(k)
    mean_square = float(solved.equations.G[solved.equations.indptr[solved.equations.layout.random_rows[k][:, 0]]].mean())
    room = _room_below(T, v)
    scale = room + 1.0 / mean_square
    if room > 1e-2 * scale:
        # Richardson step of two central differences
        h = 1e-3 * scale
        coarse = (_traces_at(solved, parameters, k, v, h) - _traces_at(solved, parameters, k, v, -h)) / (2 * h)
        fine = (_traces_at(solved, parameters, k, v, h / 2) - _traces_at(solved, parameters, k, v, -h / 2)) / h
        return (4.0 * fine - coarse) / 3.0
    # forward formula of fifth order from the boundary
    h = 5e-3 * scale
    weights = np.array([-137 / 60, 5.0, -5.0, 10 / 3, -5 / 4, 1 / 5])
    return sum(w * _traces_at(solved, parameters, k, v, s * h) for s, w in enumerate(weights)) / h


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


def _traces_at(solved: SolvedEquations, parameters: NaturalParameters, k: int, v: np.ndarray, h: float) -> np.ndarray:
    e = solved.equations
    m = e.terms[k].m
    factors = solved.factors.copy()
    moved = lower_factor(solved.relative_covariance(k) + h * np.outer(v, v))
    tiny = solved.factors[k][:m, :m]
    moved[np.diag_indices(m)] = np.where(np.diag(moved) > 0, np.diag(moved), np.abs(np.diag(tiny)).clip(max=1e-10))
    factors[k, :m, :m] = moved
    if not solved.factor.factorize(assemble_at(e, factors)):
        raise InferenceError("the mixed model equations are not positive definite near the estimates")
    return _traces_of(trace_blocks_at(e, solved.factor, factors), parameters)


def average_matrix(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """y' P V_i P V_j P y / sigma2 over the natural parameters and, last, the residual (d + 1, d + 1)."""
    d = parameters.size
    q = solved.projected[:, None]
    F = np.hstack([apply_direction(solved, parameters, j, q) for j in range(d)] + [np.zeros((q.size, 0))])
    D = F.T @ solved.project(F)
    t = parameters.values
    first = F.T @ q  # y' P V_i P y
    out = np.empty((d + 1, d + 1))
    out[:d, :d] = D
    out[:d, d] = out[d, :d] = first[:, 0] - D @ t
    out[d, d] = solved.r2 - 2.0 * float(t @ first[:, 0]) + float(t @ D @ t)
    return out / solved.sigma2


def expected_matrix(solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto") -> np.ndarray:
    """tr(P V_i P V_j) over the natural parameters and, last, the residual (d + 1, d + 1)."""
    d = parameters.size
    E = expected_traces(solved, parameters, method) if d else np.zeros((0, 0))
    single = traces(solved, parameters) if d else np.zeros(0)
    t = parameters.values
    out = np.empty((d + 1, d + 1))
    out[:d, :d] = E
    out[:d, d] = out[d, :d] = single - E @ t
    out[d, d] = solved.dof - float(single @ t) - float(out[d, :d] @ t)
    return out


def information_matrix(
    solved: SolvedEquations, parameters: NaturalParameters, kind: str = "expected", method: str = "auto"
) -> np.ndarray:
    """Information about (sigma2 t, sigma2), (d + 1, d + 1).

    Parameters
    ----------
    kind : {"expected", "observed", "average"}
    method : see ``expected_traces``
    """
    check_option("information", kind, KINDS)
    if kind == "expected":
        matrix = expected_matrix(solved, parameters, method)
    elif kind == "average":
        matrix = average_matrix(solved, parameters)
    else:
        matrix = 2.0 * average_matrix(solved, parameters) - expected_matrix(solved, parameters, method)
    return matrix / (2.0 * solved.sigma2**2)


def observed_theta_information(solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto"):
    """Hessian of the deviance in (theta, sigma2), and d(sigma2 t, sigma2) / d(theta, sigma2).

    The Hessian is exact: the observed information of the natural parameters, and the score times the second
    derivative of T.  A variance at zero has zero Jacobian there and drops out of what is derived from it, as
    in lmerTest (Kuznetsova, Brockhoff & Christensen 2017).
    """
    e, s2 = solved.equations, solved.sigma2
    d, n_theta = parameters.size, e.n_theta
    observed = 2.0 * average_matrix(solved, parameters) - expected_matrix(solved, parameters, method)
    J = np.zeros((d, n_theta))
    curvature = np.zeros((n_theta, n_theta))
    Q = np.zeros_like(solved.trace_blocks)
    for k, layout in enumerate(e.terms):
        rows = layout_rows(solved, k)
        Q[k, : layout.m, : layout.m] = rows.T @ rows
        at = np.flatnonzero(e.theta_term == k)
        mine = np.flatnonzero(parameters.term == k)
        jacobian = layout.structure.covariance_jacobian(solved.theta[at])
        for j in mine:
            row, col = np.argwhere(parameters.directions[j])[0]
            J[j, at] = jacobian[:, row, col]
        S = (solved.trace_blocks[k] - Q[k] / s2)[: layout.m, : layout.m]
        second = layout.structure.covariance_hessian(solved.theta[at])
        curvature[np.ix_(at, at)] = np.einsum("stab,ab->st", second, S)
    H = np.zeros((n_theta + 1, n_theta + 1))
    H[:n_theta, :n_theta] = J.T @ observed[:d, :d] @ J + curvature
    quadratic = np.array([np.sum(Q[parameters.term[j]] * parameters.directions[j]) for j in range(d)])
    H[:n_theta, n_theta] = H[n_theta, :n_theta] = (quadratic @ J if d else np.zeros(0)) / s2**2
    H[n_theta, n_theta] = solved.dof / s2**2
    to_natural = np.zeros((d + 1, n_theta + 1))
    to_natural[:d, :n_theta] = s2 * J
    to_natural[:d, n_theta] = parameters.values
    to_natural[d, n_theta] = 1.0
    return H, to_natural


def layout_rows(solved: SolvedEquations, k: int) -> np.ndarray:
    """q = Z' P y of the levels of term k, (L_k, m_k)."""
    return solved.projected[solved.equations.layout.random_rows[k]]
