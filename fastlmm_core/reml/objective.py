"""REML and ML deviance of the mixed model equations at a given theta, with score and average information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.kernels.assembly import (
    accumulate_outer,
    accumulate_score_blocks,
    apply_factor,
    apply_factor_transposed,
    multiply_symmetric,
)
from fastlmm_core.kernels.score import combine_score, fill_factors, form_working_vectors, prepare_information
from fastlmm_core.kernels.small_fit import LOG_TWO_PI, assemble
from fastlmm_core.linalg.factor import CholeskyFactor
from fastlmm_core.reml.equations import MixedModelEquations


@dataclass(frozen=True)
class Response:
    """What the equations need of one response.

    Attributes
    ----------
    rhs : (q + p, 1) float64
        [Z X]' W (y - X offset_beta), elimination order.
    yy : float
        (y - X offset_beta)' W (y - X offset_beta).
    beta_start : (p,) float64
        Inside coefficients already taken out of y (ordinary least squares), to keep r2 accurate.
    residual : (n,) float64
        y - X beta_start.
    """

    rhs: np.ndarray
    yy: float
    beta_start: np.ndarray
    residual: np.ndarray


@dataclass(frozen=True)
class Point:
    """A factorized point.

    Attributes
    ----------
    deviance, r2 : float
    factors : (K + 1, m, m)
    solution : (q + p, 1)
        C^-1 F' rhs, spherical coefficients.
    """

    deviance: float
    r2: float
    factors: np.ndarray
    solution: np.ndarray


def degrees_of_freedom(equations: MixedModelEquations, reml: bool) -> int:
    """n - p for REML, n for ML."""
    return equations.n - equations.p if reml else equations.n


def n_leading(equations: MixedModelEquations) -> int:
    """Rows whose determinant enters the criterion: all for REML, the random ones for ML."""
    return equations.q if equations.fixed_last else equations.q + equations.p


def assemble_at(equations: MixedModelEquations, factors: np.ndarray) -> np.ndarray:
    """Data of C at the factors, on the pattern of the equations."""
    C = np.empty(equations.indices.size)
    assemble(
        equations.G, equations.penalty, equations.indptr, equations.indices, equations.below_ptr,
        equations.below, equations.layout.start, equations.layout.term, factors, C,
    )  # fmt: skip
    return C


def factors_at(equations: MixedModelEquations, theta: np.ndarray) -> np.ndarray:
    """Lambda of every term at theta, (K + 1, m, m)."""
    factors = equations.empty_factors()
    fill_factors(theta, equations.theta_term, equations.theta_row, equations.theta_col, factors)
    return factors


def project_random(
    equations: MixedModelEquations, rhs: np.ndarray, factors: np.ndarray, solution: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Natural coefficients F s and q = [Z X]' W (r - [Z X] F s), both (q + p, r)."""
    start, term = equations.layout.start, equations.layout.term
    coefficients = np.empty_like(solution)
    apply_factor(start, term, factors, solution, coefficients)
    q = np.empty_like(solution)
    multiply_symmetric(equations.G, equations.indptr, equations.indices, coefficients, q)
    return coefficients, rhs - q


def prepare_response(equations: MixedModelEquations, y: np.ndarray) -> Response:
    """Take the least squares fit of the fixed part out of y (n,) and project the rest on [Z X].

    REML and the estimates do not change with it, while r2 loses the size of the mean, its largest
    cancellation.
    """
    beta = np.zeros(equations.p)
    residual = y
    if equations.p:
        for _ in range(2):  # the second pass removes the rounding of the first
            beta = beta + equations.least_squares(residual)
            residual = y - equations.fixed_predictor(beta)
    return Response(
        rhs=equations.right_hand_side(residual),
        yy=float(residual @ (equations.weights * residual)),
        beta_start=beta,
        residual=residual,
    )


def evaluate(
    equations: MixedModelEquations,
    factor: CholeskyFactor,
    response: Response,
    factors: np.ndarray,
    reml: bool,
) -> Point:
    """Factorize at `factors` and return deviance and solution; deviance inf where C is not positive definite.
    """
    if not factor.factorize(assemble_at(equations, factors)):
        return Point(np.inf, np.inf, factors, np.zeros_like(response.rhs))
    start, term = equations.layout.start, equations.layout.term
    right = np.empty_like(response.rhs)
    apply_factor_transposed(start, term, factors, response.rhs, right)
    solution = factor.solve(right)
    r2 = response.yy - float(right[:, 0] @ solution[:, 0])
    if not r2 > 0.0:
        return Point(np.inf, r2, factors, solution)
    dof = degrees_of_freedom(equations, reml)
    deviance = factor.log_determinant(n_leading(equations)) + dof * (1.0 + LOG_TWO_PI + np.log(r2 / dof))
    return Point(deviance, r2, factors, solution)


def score_blocks(equations: MixedModelEquations, factor: CholeskyFactor, factors: np.ndarray) -> np.ndarray:
    """W_k = H_k Lambda_k of every term, (K, m, m), from the inverse subset of the factorized C."""
    C_inv = factor.inverse_subset(n_leading(equations))
    K = len(equations.terms)
    W = np.zeros((K, equations.width, equations.width))
    accumulate_score_blocks(
        equations.G, C_inv, equations.indptr, equations.below_ptr, equations.below, equations.layout.start,
        equations.layout.term, factors, K, W,
    )  # fmt: skip
    return W


def evaluate_score(
    equations: MixedModelEquations, factor: CholeskyFactor, response: Response, point: Point, reml: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient, curvature and S of ``kernels.score.combine_score`` at the factorized `point`."""
    start, term = equations.layout.start, equations.layout.term
    K = len(equations.terms)
    _, q = project_random(equations, response.rhs, point.factors, point.solution)
    W = score_blocks(equations, factor, point.factors)
    Q = np.zeros_like(W)
    accumulate_outer(start, term, K, q[:, 0], q[:, 0], Q)
    X = np.empty((q.shape[0], equations.n_theta))
    args = (equations.theta_term, equations.theta_row, equations.theta_col)
    form_working_vectors(start, term, *args, point.factors, q[:, 0], X)
    B, D = prepare_information(
        equations.G, equations.indptr, equations.indices, start, term, point.factors, X
    )
    D -= B.T @ factor.solve(B)
    dof = degrees_of_freedom(equations, reml)
    return combine_score(W, Q, D, point.factors, equations.sizes, *args, point.r2 / dof, dof)
