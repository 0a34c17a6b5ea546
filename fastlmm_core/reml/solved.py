"""The equations at the estimates: what inference reads from them, and solves with them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.equations.assembly import apply_factor, apply_factor_transposed, multiply_symmetric
from fastlmm_core.kernels.search.score import divide_by_factors
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import (
    LOG_TWO_PI,
    Point,
    Response,
    degrees_of_freedom,
    n_leading,
    project_random,
    score_blocks,
)

# Columns of unknowns that are worked on at a time.
BLOCK_COLUMNS = 256


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
    unit : float
        y = unit times what is solved for: coefficients, beta and residuals are in this unit, sigma2 and r2 in
        its square (see ``Response``).
    sigma2, r2 : float
    user_sigma2 : float
        sigma2 in the units of y.
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
        self.unit = response.unit
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
    def user_sigma2(self) -> float:
        return self.sigma2 * self.unit * self.unit

    @property
    def beta(self) -> np.ndarray:
        """Inside fixed coefficients (p,)."""
        return self.coefficients[self.equations.layout.fixed_rows] + self.response.beta_start

    def random_effects(self, k: int) -> np.ndarray:
        """Inside conditional modes of term k, (L_k, m_k)."""
        return self.coefficients[self.equations.layout.random_rows[k]]

    def user_random_effects(self, k: int) -> np.ndarray:
        """Conditional modes of term k as the user wrote its coefficients, units of y, (L_k, m_k)."""
        return self.random_effects(k) @ self.equations.terms[k].basis.T * self.unit

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
            value += 2.0 * self.equations.coding.log_scale
        value += self.dof * (1.0 + LOG_TWO_PI + float(np.log(self.sigma2)))
        return value + 2.0 * self.dof * float(np.log(self.unit))

    @cached_property
    def trace_blocks(self) -> np.ndarray:
        """H_k = sum over levels of (Z_k' P Z_k)_aa (V^-1 in place of P for ML), (K, m, m)."""
        return trace_blocks_at(self.equations, self.factor, self.factors)

    @cached_property
    def inverse_subset(self) -> np.ndarray:
        """C^-1 on the pattern of C (all rows, also for ML)."""
        return self.factor.inverse_subset(self.equations.q + self.equations.p)

    def solve_fixed(self, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For rows K (r, p): Z' V^-1 X Phi K' (q + p, r; zero on fixed rows), Phi K' (p, r); V relative."""
        e = self.equations
        projected, solutions = np.empty((e.q + e.p, K.shape[0])), np.empty((e.p, K.shape[0]))
        for columns in column_blocks(K.shape[0]):
            right = np.zeros((e.q + e.p, columns.stop - columns.start))
            right[e.layout.fixed_rows] = K[columns].T
            own, natural = self._weighted_solution(right)
            projected[:, columns], solutions[:, columns] = own, natural[e.layout.fixed_rows]
        projected[e.layout.fixed_rows] = 0.0
        return projected, solutions

    def solve_functions(self, functions: sp.csc_array) -> tuple[np.ndarray, np.ndarray]:
        """For functions k (q + p, r) of the unknowns, random ones too: G F c - k and F c, c = C^-1 F' k.

        The first is zero on the fixed rows; k' F c is the covariance of prediction errors, relative V.
        """
        projected, natural = self._weighted_solution(functions.toarray())
        entries = functions.tocoo()
        projected[entries.row, entries.col] -= entries.data
        projected[self.equations.layout.fixed_rows] = 0.0
        return projected, natural

    def _weighted_solution(self, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G F c in the place of `right` (q + p, r), and F c, c = C^-1 F' right."""
        e = self.equations
        start, term = e.layout.start, e.layout.term
        apply_factor_transposed(start, term, self.factors, right, right)
        natural = self.factor.solve(right)
        apply_factor(start, term, self.factors, natural, natural)
        multiply_symmetric(e.G, e.indptr, e.indices, natural, right)
        return right, natural

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


def column_blocks(r: int) -> Iterator[slice]:
    """r columns in blocks: for thousands of them the arrays of a step are the memory of a fit."""
    for first in range(0, r, BLOCK_COLUMNS):
        yield slice(first, min(first + BLOCK_COLUMNS, r))


def trace_blocks_at(
    equations: MixedModelEquations, factor: CholeskyFactor, factors: np.ndarray
) -> np.ndarray:
    """H_k at factorized `factors`, (K, m, m)."""
    W = score_blocks(equations, factor, factors)
    H = np.zeros_like(W)
    divide_by_factors(W, factors, equations.sizes, H)
    return H
