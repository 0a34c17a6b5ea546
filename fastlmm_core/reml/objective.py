"""REML and ML deviance of the mixed model equations at a given theta, with score and average information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.errors import DataError
from fastlmm_core.kernels.equations.assembly import (
    accumulate_outer,
    accumulate_scalar_scores,
    accumulate_score_blocks,
    apply_factor,
    apply_factor_transposed,
    multiply_symmetric,
    scale_diagonal,
)
from fastlmm_core.kernels.equations.columns import subtract_columns
from fastlmm_core.kernels.search.score import (
    combine_score,
    fill_factors,
    form_working_vectors,
    prepare_information,
)
from fastlmm_core.kernels.search.small_fit import LOG_TWO_PI, assemble
from fastlmm_core.kernels.thresholds import EXPLAINED, LARGEST_SIZE
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.reml.equations import MixedModelEquations

# Share of the response's sum of squares below which residuals are computed in twice the precision.
CANCELLED = 1e-8
# Rounding of the responses themselves, in units of the relative precision.
ROUNDING = 2.0


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
    unit : float
        Power of two in whose units all of these are, so that no square under- or overflows; 1 for any y of
        ordinary size.
    explained : bool
        The fixed part leaves nothing but rounding.
    """

    rhs: np.ndarray
    yy: float
    beta_start: np.ndarray
    residual: np.ndarray
    unit: float = 1.0
    explained: bool = False


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
    assemble(equations.G, equations.penalty, equations.pattern, factors, C)
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

    Raises
    ------
    DataError
        When y is not constant but for its last digits, which the fixed part cannot be told from.
    """
    unit = unit_of_size(y, equations.weights)
    if unit != 1.0:
        y = y / unit
    w = equations.weights
    beta = np.zeros(equations.p)
    residual = y
    if equations.p:
        for _ in range(2):  # the second pass removes the rounding of the first
            beta = beta + equations.least_squares(residual)
            residual = y - equations.fixed_predictor(beta)
    yy, size = float(residual @ (w * residual)), float(y @ (w * y))
    explained = yy <= EXPLAINED * size
    if equations.p and yy <= CANCELLED * size:
        beta, residual = _refine_least_squares(equations, y, beta)
        yy = float(residual @ (w * residual))
        explained = _is_rounding(y, w, yy, size)
    return Response(
        rhs=equations.right_hand_side(residual), yy=yy, beta_start=beta, residual=residual, unit=unit,
        explained=explained,
    )  # fmt: skip


def unit_of_size(y: np.ndarray, weights: np.ndarray) -> float:
    """Power of two near the largest sqrt(w) |y| where fourth powers of it would under- or overflow; else 1.

    Dividing by it is exact.
    """
    largest = float(np.max(np.abs(y) * np.sqrt(weights), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest) or 1.0 / LARGEST_SIZE < largest < LARGEST_SIZE:
        return 1.0
    return float(2.0 ** (np.frexp(largest)[1] - 1))


def _refine_least_squares(
    equations: MixedModelEquations, y: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(beta (p,), residual (n,)) of the least squares fit with residuals in twice the precision.

    Where the mean of y is large beside what varies, y - X beta in the precision of y is the rounding of the
    mean.
    """
    residual = np.empty_like(y)
    for _ in range(3):
        subtract_columns(*equations.columns, beta, y, residual)
        beta = beta + equations.least_squares(residual)
    subtract_columns(*equations.columns, beta, y, residual)
    return beta, residual


def _is_rounding(y: np.ndarray, w: np.ndarray, yy: float, size: float) -> bool:
    """Whether residuals of weighted square `yy` are the rounding of a response that the fixed part explains.

    Raises
    ------
    DataError
        When all that varies in y is its own rounding.
    """
    away = y - y[0]
    spread = float(w @ (away - np.average(away, weights=w)) ** 2)
    if yy <= EXPLAINED * spread or spread == 0.0:
        return True
    rounding = (ROUNDING * np.finfo(float).eps) ** 2 * size
    if spread <= 4.0 * rounding:
        raise DataError(
            f"the response varies in its last digits only, around {np.average(y, weights=w):.6g}: what is "
            "left of it is rounding; subtract a constant from it before it is rounded"
        )
    return bool(yy <= rounding and spread > 1e4 * rounding)


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
    K, (start, term) = len(equations.terms), (equations.layout.start, equations.layout.term)
    W = np.zeros((K, equations.width, equations.width))
    G, indptr = equations.G, equations.indptr
    if equations.width == 1:
        scale = scale_diagonal(start, term, factors)
        accumulate_scalar_scores(G, C_inv, indptr, equations.indices, term, scale, K, W)
    else:
        accumulate_score_blocks(
            G, C_inv, indptr, equations.below_ptr, equations.below, start, term, factors, K, W
        )
    return W


def score_statistics(
    equations: MixedModelEquations, factor: CholeskyFactor, response: Response, point: Point
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, Q (K, m, m), D (n_theta, n_theta) at the factorized `point`.

    They are those of ``kernels.search.score.combine_score``.
    """
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
    return W, Q, D


def evaluate_score(
    equations: MixedModelEquations, factor: CholeskyFactor, response: Response, point: Point, reml: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient, curvature and S of ``kernels.search.score.combine_score`` at the factorized `point`."""
    W, Q, D = score_statistics(equations, factor, response, point)
    args = (equations.theta_term, equations.theta_row, equations.theta_col)
    dof = degrees_of_freedom(equations, reml)
    return combine_score(W, Q, D, point.factors, equations.sizes, *args, point.r2 / dof, float(dof))
