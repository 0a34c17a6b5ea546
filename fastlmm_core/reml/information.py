"""Information about the variance parameters from the mixed model equations, without any n x n matrix.

The natural parameters are the distinct elements t_j of every T_k (variances and covariances, inside basis)
and the residual; V = W^-1 + sum_j t_j V_j, V_j = Z_k (I (x) E_j) Z_k'.  With P the projection of relative V:

    expected E_ij = tr(P V_i P V_j),   average A_ij = y' P V_i P V_j P y / sigma2,   observed 2 A - E,

and the covariance of (sigma2 t, sigma2) is the inverse of that matrix over 2 sigma2^2 (Searle, Casella &
McCulloch 1992, ch. 6; Gilmour, Thompson & Cullis 1995).  The residual's row needs no work of its own
(``kernels.search.information.append_residual``).
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.confounding import Confounded, beside, fixed_shares, split_whole
from fastlmm_core.errors import check_option
from fastlmm_core.kernels.search.information import append_residual
from fastlmm_core.kernels.thresholds import FLAT, SINGULAR
from fastlmm_core.reml.expected_traces import expected_traces
from fastlmm_core.reml.natural import NaturalParameters, apply_direction, natural_parameters
from fastlmm_core.reml.solved import SolvedEquations

__all__ = [
    "KINDS",
    "NaturalParameters",
    "apply_direction",
    "average_matrix",
    "confounded",
    "expected_matrix",
    "information_matrix",
    "natural_parameters",
    "observed_theta_information",
    "traces",
    "untold_directions",
    "untold_shares",
]

KINDS = ("expected", "observed", "average")


def traces(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """tr(P V_j) of every natural parameter (d,)."""
    return parameters.contract(solved.trace_blocks)


def confounded(solved: SolvedEquations, curvature: float) -> Confounded:
    """What of the random part the restricted likelihood tells nothing of.

    Along such a direction it is flat, so that it is looked for only where the smallest `curvature` at the
    optimum is small.
    """
    if curvature >= FLAT or not solved.reml:
        return Confounded({}, {})
    return split_whole(solved.equations.within_fixed, solved.equations.terms)


def untold_directions(parameters: NaturalParameters, parts: dict[int, np.ndarray]) -> np.ndarray:
    """Directions (j, d) of the natural parameters that move T_k only in the spaces `parts` (m, c)."""
    out = [np.zeros((0, parameters.size))]
    for k, N in parts.items():
        mine, m = np.flatnonzero(parameters.term == k), len(N)
        M = beside(N)
        told = (M @ parameters.directions[mine, :m, :m] @ M.T).reshape(mine.size, -1)
        left, sizes, _ = np.linalg.svd(told)
        flat = np.zeros((mine.size, parameters.size))
        flat[:, mine] = left.T
        out.append(flat[np.count_nonzero(sizes > SINGULAR) :])
    return np.vstack(out)


def untold_shares(solved: SolvedEquations, within: dict[int, np.ndarray]) -> np.ndarray:
    """M (p, c) of the effects `within` X, in the user's fixed effects; see ``fixed_shares``."""
    e = solved.equations
    if not within:
        return np.zeros((e.p, 0))
    return np.asarray(e.to_user @ fixed_shares(e.regression, e.terms, e.effects_on_rows, within))


def average_matrix(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """y' P V_i P V_j P y / sigma2 over the natural parameters and, last, the residual (d + 1, d + 1)."""
    d = parameters.size
    q = solved.projected[:, None]
    F = np.hstack([apply_direction(solved, parameters, j, q) for j in range(d)] + [np.zeros((q.size, 0))])
    D = F.T @ solved.project(F)
    first = F.T @ solved.projected  # y' P V_i P y
    return np.asarray(append_residual(D, first, parameters.values, solved.r2) / solved.sigma2)


def expected_matrix(
    solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto"
) -> np.ndarray:
    """tr(P V_i P V_j) over the natural parameters and, last, the residual (d + 1, d + 1)."""
    d = parameters.size
    if method not in solved.expected:
        solved.expected[method] = expected_traces(solved, parameters, method) if d else np.zeros((0, 0))
    E = solved.expected[method]
    single = traces(solved, parameters) if d else np.zeros(0)
    return np.asarray(append_residual(E, single, parameters.values, float(solved.dof)))


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


def theta_jacobian(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """d t / d theta (d, n_theta)."""
    J = np.zeros((parameters.size, solved.equations.n_theta))
    for k, layout in enumerate(solved.equations.terms):
        at = np.flatnonzero(solved.equations.theta_term == k)
        jacobian = layout.structure.covariance_jacobian(solved.theta[at])
        for j in np.flatnonzero(parameters.term == k):
            row, col = np.argwhere(parameters.directions[j])[0]
            J[j, at] = jacobian[:, row, col]
    return J


def observed_theta_information(
    solved: SolvedEquations, parameters: NaturalParameters, method: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Hessian of the deviance in (theta, sigma2), and d(sigma2 t, sigma2) / d(theta, sigma2).

    The Hessian is exact: the observed information of the natural parameters, and the score times the second
    derivative of T.  A variance at zero has zero Jacobian there and drops out of what is derived from it, as
    in lmerTest (Kuznetsova, Brockhoff & Christensen 2017).
    """
    e, s2 = solved.equations, solved.sigma2
    d, n_theta = parameters.size, e.n_theta
    observed = 2.0 * average_matrix(solved, parameters) - expected_matrix(solved, parameters, method)
    J = theta_jacobian(solved, parameters)
    curvature = np.zeros((n_theta, n_theta))
    Q = np.zeros_like(solved.trace_blocks)
    for k, layout in enumerate(e.terms):
        rows = layout_rows(solved, k)
        Q[k, : layout.m, : layout.m] = rows.T @ rows
        at = np.flatnonzero(e.theta_term == k)
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
