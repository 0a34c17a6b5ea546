"""Equations with their factor at one theta: what information and its approximations of df compute from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.objective import StructuredPoint, information_parts
from fastlmm_core.linalg.base import CholeskyFactor

# Coefficient of R^-1, in units of the response's mean square, whose square leaves half of the digits.
LARGE_PRECISION = 1e4


@dataclass(frozen=True, eq=False)
class FixedRows:
    """Rows K beta inside the equations: U = V^-1 X Phi K' and what follows from it.

    Attributes
    ----------
    matrix : (n_rows, q) csr_array
        W.
    spherical : (q', r)
        c_K = C^-1 F' k, with k (q, r) the rows as functions of the natural unknowns.
    natural : (q, r)
        F c_K: rows of U are R^-1 W of it.
    projected : (q, r)
        G F c_K - k = -P F c_K on the random natural scalars, zero elsewhere: Z' U, that of a spline in the
        basis of its definition, carried over to the coefficients kept. U' V_t U follows from it for all.
    """

    matrix: sp.csr_array
    spherical: np.ndarray
    natural: np.ndarray
    projected: np.ndarray

    @cached_property
    def rows(self) -> np.ndarray:
        """R U = W F c_K (n_rows, r)."""
        return np.asarray(self.matrix @ self.natural)

    @property
    def count(self) -> int:
        """r."""
        return int(self.natural.shape[1])


class FactorizedModel:
    """The model at a point.

    Parameters
    ----------
    equations : StructuredEquations
    factor : CholeskyFactor
        Holds the point.
    point : StructuredPoint
    free : (n_theta,) bool
        Parameters that are not held.
    reml : bool
    """

    def __init__(
        self, equations: StructuredEquations, factor: CholeskyFactor, point: StructuredPoint,
        free: np.ndarray, reml: bool,
    ):  # fmt: skip
        self.equations, self.factor, self.point = equations, factor, point
        self.theta, self.free, self.reml = point.theta, free, reml

    def term_theta(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the coefficients and of the levels of term k."""
        own, level = self.equations.slices[0][k]
        return self.theta[own], self.theta[level]

    @cached_property
    def information(self) -> tuple[np.ndarray, np.ndarray]:
        """Average information (n_theta, n_theta) in theta, and what of it is conditional on the effects."""
        return information_parts(self.equations, self.factor, self.point)

    @cached_property
    def residual_nearly_singular(self) -> bool:
        """R^-1 holds numbers so large that products with W' R^-1 W lose the digits that rows still have."""
        e = self.equations
        coefficients = e.residual.piece_coefficients(self.theta[e.slices[1]])
        return float(np.abs(coefficients).max()) > LARGE_PRECISION
