"""Information about the variance parameters from the mixed model equations, without any n x n matrix.

The natural parameters are the distinct elements t_j of every T_k (variances and covariances, inside basis)
and the residual; V = W^-1 + sum_j t_j V_j, V_j = Z_k (I (x) E_j) Z_k'.  With P the projection of relative V:

    expected E_ij = tr(P V_i P V_j),   average A_ij = y' P V_i P V_j P y / sigma2,   observed 2 A - E,

and the covariance of (sigma2 t, sigma2) is the inverse of that matrix over 2 sigma2^2 (Searle, Casella &
McCulloch 1992, ch. 6; Gilmour, Thompson & Cullis 1995).  The residual's row needs no work of its own
(``kernels.information.append_residual``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import check_option
from fastlmm_core.kernels.information import append_residual
from fastlmm_core.kernels.thresholds import COMBINATIONS, CONFOUNDED
from fastlmm_core.linalg.ordered import normal_solver
from fastlmm_core.linalg.probes import probing
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
    "untold_parameters",
    "untold_shares",
]

KINDS = ("expected", "observed", "average")


def traces(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """tr(P V_j) of every natural parameter (d,)."""
    return parameters.contract(solved.trace_blocks)


def confounded_coefficients(
    solved: SolvedEquations, parameters: NaturalParameters
) -> dict[int, tuple[int, ...]]:
    """Coefficients with a variance whose tr(P V_j) vanishes, by random term: columns within the span of X.

    Alone in the model with its prior variance t_j it would be the sum of g / (1 + t_j g), g = z'Wz of a
    level.
    """
    e = solved.equations
    found: dict[int, tuple[int, ...]] = {}
    for j, trace in enumerate(traces(solved, parameters)):
        k = int(parameters.term[j])
        a, b = np.argwhere(parameters.directions[j])[0]
        if a == b:
            own = e.G[e.indptr[e.layout.random_rows[k][:, a]]]
            if trace <= CONFOUNDED * float(np.sum(own / (1.0 + parameters.values[j] * own))):
                found[k] = (*found.get(k, ()), int(a))
    return found


class Confounded(NamedTuple):
    """Random terms within the fixed part, and coefficients within it of terms that have others.

    Terms whose basis joins a coefficient within the fixed part with others count as a whole.
    """

    terms: list[int]
    parts: dict[int, tuple[int, ...]]


def confounded(solved: SolvedEquations, parameters: NaturalParameters) -> Confounded:
    """What of the random part the restricted likelihood tells nothing of."""
    found, terms = confounded_coefficients(solved, parameters), solved.equations.terms
    whole = [k for k, inside in found.items() if len(inside) == terms[k].m or not _apart(solved, k)]
    return Confounded(whole, {k: own for k, own in found.items() if k not in whole})


def _apart(solved: SolvedEquations, k: int) -> bool:
    """Whether inside coefficients are the user's but for units."""
    basis = solved.equations.terms[k].basis
    return not np.any(basis - np.diag(np.diag(basis)))


def untold_parameters(parameters: NaturalParameters, parts: dict[int, tuple[int, ...]]) -> np.ndarray:
    """Variances and covariances (d,) bool of the coefficients of `parts`."""
    return np.array(
        [
            any(direction[a].any() or direction[:, a].any() for a in parts.get(int(k), ()))
            for k, direction in zip(parameters.term, parameters.directions, strict=True)
        ],
        dtype=bool,
    )


def untold_shares(solved: SolvedEquations, parts: dict[int, tuple[int, ...]]) -> np.ndarray:
    """M (p, c) of Z_a R = X M for the effects of `parts`, in the user's fixed effects.

    As ``engine.confounding.fixed_shares``: a few random combinations R of the levels stand for all.
    """
    e = solved.equations
    if not parts:
        return np.zeros((e.p, 0))
    lower = sp.csc_array((e.G, e.indices, e.indptr), shape=(e.q + e.p,) * 2)
    whole = sp.csc_array(lower + sp.tril(lower, -1).T)
    fixed = e.layout.fixed_rows
    rng, solve = probing(2), normal_solver(sp.csc_array(whole[:, fixed][fixed]))
    right = []
    for k, inside in parts.items():
        for a in inside:
            crossed = whole[:, e.layout.random_rows[k][:, a]][fixed]
            right.append(crossed @ rng.normal(size=(crossed.shape[1], COMBINATIONS)))
    return np.asarray(e.to_user @ solve(np.hstack(right)))


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
