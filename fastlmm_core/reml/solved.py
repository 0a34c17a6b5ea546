"""The equations at the optimum: estimates, boundary decisions, certificate, and solves for inference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastlmm_core.kernels.assembly import apply_factor, apply_factor_transposed, multiply_symmetric
from fastlmm_core.kernels.score import divide_by_factors, sum_squared_blocks
from fastlmm_core.linalg import make_factor
from fastlmm_core.linalg.factor import CholeskyFactor
from fastlmm_core.reml import optimizer
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import (
    LOG_TWO_PI,
    Point,
    Response,
    assemble_at,
    degrees_of_freedom,
    evaluate,
    factors_at,
    n_leading,
    project_random,
    score_blocks,
)

# A diagonal of Lambda below this (standardized coefficients) may be a boundary; the score decides.
BOUNDARY = 1e-4
# A curvature below minus this (relative to the largest) belongs to no minimum.
CURVATURE = 1e-6


@dataclass(frozen=True)
class Certificate:
    """Why the result is, or is not, an optimum.

    Attributes
    ----------
    optimal : bool
        Gradient, curvature and the scores of the variances at zero all agree.
    decrement : float
        Newton decrement g' H^-1 g in units of the deviance.
    gradient_norm : float
        Largest absolute component of the gradient in theta (standardized coefficients).
    smallest_curvature : float
        Smallest eigenvalue of the curvature used.
    smallest_boundary_score : float
        Smallest eigenvalue of the score of T_k on the null space of T_k; +inf when no T_k is singular.
    """

    optimal: bool
    decrement: float
    gradient_norm: float
    smallest_curvature: float
    smallest_boundary_score: float


class SolvedEquations:
    """The mixed model equations factorized at the estimates.

    All arrays are in the inside parametrisation (standardized columns and coefficients).

    Parameters
    ----------
    equations, factor, response, point
        `factor` holds the factorization at `point`.
    theta : (n_theta,) float64
    reml : bool

    Attributes
    ----------
    sigma2, r2, deviance : float
    coefficients : (q + p,) float64
        Natural u and beta in elimination order.
    projected : (q + p,) float64
        Z' P y on the random rows (relative V), zero on the fixed rows.
    """

    def __init__(
        self, equations: MixedModelEquations, factor: CholeskyFactor, response: Response, point: Point,
        theta: np.ndarray, reml: bool,
    ):  # fmt: skip
        self.equations = equations
        self.factor = factor
        self.response = response
        self.theta = theta
        self.factors = point.factors
        self.solution = point.solution
        self.reml = reml
        coefficients, q = project_random(equations, response.rhs, point.factors, point.solution)
        q[equations.layout.fixed_rows] = 0.0
        self.projected = q[:, 0]
        self.coefficients = coefficients[:, 0]
        self.residual = response.residual - equations.linear_predictor(self.coefficients)
        random = np.ones(self.coefficients.size, bool)
        random[equations.layout.fixed_rows] = False
        spherical = point.solution[random, 0]
        # the same r2 as the solve gives, without its cancellation
        self.r2 = float(equations.weights @ self.residual**2 + spherical @ spherical)
        self.dof = degrees_of_freedom(equations, reml)
        self.sigma2 = self.r2 / self.dof
        self.log_determinant = factor.log_determinant(n_leading(equations))
        # tr(P V_i P V_j) by method, the one expensive piece that Kenward-Roger and Satterthwaite share
        self.expected: dict[str, np.ndarray] = {}

    def leave_nothing(self) -> None:
        """The fixed part explains the response to rounding: residuals and variances are exact zeros."""
        self.residual = np.zeros_like(self.residual)
        for rows in self.equations.layout.random_rows:
            self.coefficients[rows] = 0.0
        self.r2 = self.sigma2 = 0.0

    @property
    def beta(self) -> np.ndarray:
        """Inside fixed coefficients (p,)."""
        return self.coefficients[self.equations.layout.fixed_rows] + self.response.beta_start

    def random_effects(self, k: int) -> np.ndarray:
        """Inside conditional modes of term k, (L_k, m_k)."""
        return self.coefficients[self.equations.layout.random_rows[k]]

    def relative_covariance(self, k: int) -> np.ndarray:
        """Inside T_k = Lambda_k Lambda_k', (m_k, m_k); exact zeros where theta is zero."""
        term = self.equations.terms[k]
        at = self.equations.theta_term == k
        return term.structure.covariance(self.theta[at])

    def user_covariance(self, k: int) -> np.ndarray:
        """T_k of the coefficients as the user wrote them."""
        basis = self.equations.terms[k].basis
        return basis @ self.relative_covariance(k) @ basis.T

    @cached_property
    def criterion(self) -> float:
        """-2 log-likelihood (restricted for REML, on lme4's scale)."""
        if self.r2 <= 0.0:
            return -np.inf
        value = self.log_determinant - self.equations.log_weights
        if self.reml:
            value += 2.0 * float(np.sum(np.log(self.equations.scale)))
        return value + self.dof * (1.0 + LOG_TWO_PI + float(np.log(self.sigma2)))

    @cached_property
    def trace_blocks(self) -> np.ndarray:
        """H_k = sum over levels of (Z_k' P Z_k)_aa (V^-1 in place of P for ML), (K, m, m)."""
        return trace_blocks_at(self.equations, self.factor, self.factors)

    @cached_property
    def inverse_subset(self) -> np.ndarray:
        """C^-1 on the pattern of C (all rows, also for ML)."""
        return self.factor.inverse_subset(self.equations.q + self.equations.p)

    def solve_fixed(self, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For rows K (r, p): Z' V^-1 X Phi K' (q + p, r; zero on fixed rows) and Phi K' (p, r); V relative.
        """
        e = self.equations
        rhs = np.zeros((e.q + e.p, K.shape[0]))
        rhs[e.layout.fixed_rows] = K.T
        solution = self.factor.solve(rhs)
        fixed = solution[e.layout.fixed_rows]
        apply_factor(e.layout.start, e.layout.term, self.factors, solution, solution)
        projected = rhs
        multiply_symmetric(e.G, e.indptr, e.indices, solution, projected)
        projected[e.layout.fixed_rows] = 0.0
        return projected, fixed

    def half_solve(self, GX: np.ndarray) -> np.ndarray:
        """L^-1 F' GX in the place of GX: for thousands of columns these arrays are the memory of a fit."""
        layout = self.equations.layout
        apply_factor_transposed(layout.start, layout.term, self.factors, GX, GX)
        return self.factor.solve_lower(GX, overwrite=True)

    def project(self, X: np.ndarray) -> np.ndarray:
        """Z' P Z X for X (q + p, r) with zero fixed rows; relative P, zero on fixed rows."""
        e = self.equations
        GX = np.empty_like(X)
        multiply_symmetric(e.G, e.indptr, e.indices, X, GX)
        right = np.empty_like(X)
        apply_factor_transposed(e.layout.start, e.layout.term, self.factors, GX, right)
        solution = self.factor.solve(right)
        apply_factor(e.layout.start, e.layout.term, self.factors, solution, right)
        multiply_symmetric(e.G, e.indptr, e.indices, right, solution)
        GX -= solution
        GX[e.layout.fixed_rows] = 0.0
        return GX


def trace_blocks_at(
    equations: MixedModelEquations, factor: CholeskyFactor, factors: np.ndarray
) -> np.ndarray:
    """H_k at factorized `factors`, (K, m, m)."""
    W = score_blocks(equations, factor, factors)
    H = np.zeros_like(W)
    divide_by_factors(W, factors, equations.sizes, H)
    return H


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


def fit_equations(
    equations: MixedModelEquations,
    y: np.ndarray,
    *,
    reml: bool,
    factor: CholeskyFactor | None = None,
    theta: np.ndarray | None = None,
    progress: optimizer.Progress | None = None,
) -> tuple[SolvedEquations, optimizer.Optimum, Certificate]:
    """Fit the variance parameters and solve.

    Parameters
    ----------
    y : (n,) float64
        Response less offset.
    factor : CholeskyFactor, optional
        Symbolic analysis to reuse.
    theta : (n_theta,), optional
        Starting values.
    """
    factor = factor or make_factor(equations)
    response = prepare_response(equations, y)
    explained = response.yy <= 1e-28 * float(y @ (equations.weights * y))
    if equations.n_theta == 0 or explained:
        return _solve_without_search(equations, factor, response, reml, explained)
    start = starting_values(equations, response) if theta is None else theta
    optimum = optimizer.minimize(equations, factor, response, reml=reml, theta=start, progress=progress)
    for _ in range(3):
        found = snap_boundary(equations, optimum)
        S = optimum.S
        boundary_score, direction = boundary_scores(equations, found, S)
        if direction is not None and boundary_score < -1e-6 * (1.0 + np.abs(S).max()):
            # a variance at zero whose score wants it to grow: leave the stationary point
            start = leave_boundary(equations, found, direction)
        elif np.linalg.eigvalsh(optimum.hessian)[0] < -CURVATURE * max(1.0, np.abs(optimum.hessian).max()):
            start = leave_saddle(optimum)
        else:
            break
        optimum = optimizer.minimize(equations, factor, response, reml=reml, theta=start, progress=progress)
    moved = not np.array_equal(found, optimum.theta)
    point = optimum.point
    if moved or point is None:
        point = evaluate(equations, factor, response, factors_at(equations, found), reml)
    solved = SolvedEquations(equations, factor, response, point, found, reml)
    factor.release()
    curvature = float(np.linalg.eigvalsh(optimum.hessian).min())
    gradient_norm = float(np.abs(optimum.gradient).max())
    optimal = (
        optimum.status in (0, 3)
        and optimum.decrement <= 1e-6
        and curvature >= -CURVATURE * max(1.0, float(np.abs(optimum.hessian).max()))
        and boundary_score >= -1e-6 * (1.0 + float(np.abs(optimum.S).max()))
        and (not moved or point.deviance <= optimum.deviance + 1e-7)
    )
    return solved, optimum, Certificate(optimal, optimum.decrement, gradient_norm, curvature, boundary_score)


def _solve_without_search(
    equations: MixedModelEquations, factor: CholeskyFactor, response: Response, reml: bool, explained: bool
) -> tuple[SolvedEquations, optimizer.Optimum, Certificate]:
    """No variance parameters, or nothing left to explain: every relative variance is zero."""
    theta = np.zeros(equations.n_theta)
    factors = factors_at(equations, theta)
    if not factor.factorize(assemble_at(equations, factors)):
        raise np.linalg.LinAlgError("X'WX is not positive definite")
    start, term = equations.layout.start, equations.layout.term
    right = np.empty_like(response.rhs)
    apply_factor_transposed(start, term, factors, response.rhs, right)
    point = Point(0.0, 0.0, factors, factor.solve(right))
    solved = SolvedEquations(equations, factor, response, point, theta, reml)
    if explained:
        solved.leave_nothing()
    d = theta.size
    empty = np.zeros((len(equations.terms), equations.width, equations.width))
    optimum = optimizer.Optimum(
        theta,
        0,
        solved.criterion,
        solved.r2,
        0.0,
        0,
        1,
        np.zeros(d),
        np.zeros((d, d)),
        empty,
        np.empty((0, 3 + d)),
    )
    return solved, optimum, Certificate(True, 0.0, 0.0, 0.0, np.inf)


def starting_values(equations: MixedModelEquations, response: Response) -> np.ndarray:
    """Starting theta (n_theta,) from moments: MINQUE with V proportional to I (Rao 1971).

    The sums of squares of Z_k' r, r the least squares residual, are equated to their expectations
    sum_h T_h tr(Z_k' Z_h Z_h' Z_k) + sigma2 tr(Z_k' Z_k), the fixed part neglected.  The coefficients
    are read off the cross-products.  Variances that come out small or negative start at a hundredth of the
    residual, never at zero, where the search could not start.
    """
    e, K = equations, len(equations.terms)
    width = e.width
    squares = np.zeros((K, width, K, width))
    layout = e.layout
    sum_squared_blocks(e.G, e.indptr, e.below_ptr, e.below, layout.start, layout.term, K, squares)
    used = np.concatenate([k * width + np.arange(t.m) for k, t in enumerate(e.terms)])
    d = used.size
    diagonal = np.concatenate([e.G[e.indptr[rows]].sum(axis=0) for rows in layout.random_rows])
    observed = np.concatenate([(response.rhs[rows, 0] ** 2).sum(axis=0) for rows in layout.random_rows])
    A = np.empty((d + 1, d + 1))
    A[:d, :d] = squares.reshape(K * width, K * width)[np.ix_(used, used)]
    A[:d, d] = A[d, :d] = diagonal
    A[d, d] = e.n
    b = np.append(observed, response.yy)
    scale = 1.0 / np.sqrt(np.diag(A))
    moments = scale * np.linalg.lstsq(A * np.outer(scale, scale), scale * b, rcond=1e-8)[0]
    residual = max(float(moments[d]), 0.05 * response.yy / e.n)
    ratio = np.clip(moments[:d] / residual, 0.01, 1e4)
    theta = np.concatenate([t.structure.start() for t in e.terms])
    theta[e.theta_row == e.theta_col] = np.sqrt(ratio)
    return theta


def snap_boundary(equations: MixedModelEquations, optimum: optimizer.Optimum) -> np.ndarray:
    """theta with the diagonals that sit at a boundary minimum set to exact zero.

    Near zero the curvature in theta is 2 S_cc plus an information that vanishes with theta; where the score
    S_cc carries most of it the deviance rises from zero on, and zero is the optimum.
    """
    theta = optimum.theta.copy()
    diagonal = np.flatnonzero(equations.theta_row == equations.theta_col)
    for t in diagonal:
        k, c = equations.theta_term[t], equations.theta_col[t]
        if abs(theta[t]) < BOUNDARY and 2.0 * optimum.S[k, c, c] > 0.5 * optimum.hessian[t, t]:
            column = (equations.theta_term == k) & (equations.theta_col == c)
            if np.all(np.abs(theta[column]) < BOUNDARY):
                theta[column] = 0.0
            else:
                theta[t] = 0.0
    return theta


def boundary_scores(
    equations: MixedModelEquations, theta: np.ndarray, S: np.ndarray
) -> tuple[float, tuple[int, np.ndarray] | None]:
    """Smallest eigenvalue of S_k on the null space of T_k over all terms, with its (term, vector)."""
    smallest, where = np.inf, None
    diagonal = equations.theta_row == equations.theta_col
    if np.all(np.abs(theta[diagonal]) > 1e-5):
        return smallest, where
    for k, term in enumerate(equations.terms):
        T = term.structure.covariance(theta[equations.theta_term == k])
        values, vectors = np.linalg.eigh(T)
        null = vectors[:, values <= 1e-12 * max(1.0, values.max())]
        if null.shape[1] == 0:
            continue
        if term.structure.name == "diag":
            null = np.eye(term.m)[:, np.diag(T) == 0]
            scores = np.diag(S[k, : term.m, : term.m])[np.diag(T) == 0]
            at = int(np.argmin(scores))
            value, vector = float(scores[at]), null[:, at]
        else:
            inner, rotation = np.linalg.eigh(null.T @ S[k, : term.m, : term.m] @ null)
            value, vector = float(inner[0]), null @ rotation[:, 0]
        if value < smallest:
            smallest, where = value, (k, vector)
    return smallest, where


def leave_saddle(optimum: optimizer.Optimum) -> np.ndarray:
    """theta moved downhill along the most negative curvature: a variance stuck close to zero starts again."""
    direction = np.linalg.eigh(optimum.hessian)[1][:, 0]
    return optimum.theta - 0.3 * direction * (1.0 if direction @ optimum.gradient >= 0.0 else -1.0)


def leave_boundary(
    equations: MixedModelEquations, theta: np.ndarray, direction: tuple[int, np.ndarray]
) -> np.ndarray:
    """theta of T_k + v v' / 10, the other terms unchanged."""
    k, vector = direction
    structure = equations.terms[k].structure
    at = equations.theta_term == k
    out = theta.copy()
    out[at] = structure.theta_of(structure.covariance(theta[at]) + 0.1 * np.outer(vector, vector))
    return out
