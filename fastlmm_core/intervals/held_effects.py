"""The ML criterion with a fixed coefficient held: the model without its column, fitted to y - b x."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.least_squares import least_squares
from fastlmm_core.engine.equations.near_dependence import beyond_columns
from fastlmm_core.engine.equations.structured_equations import build_structured_equations
from fastlmm_core.engine.model_building import engine_residual, engine_term
from fastlmm_core.engine.search.fitting import fit_structures
from fastlmm_core.engine.search.kinks import AWAY
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.intervals.constrained import LARGEST_DECREMENT, HeldOptimum
from fastlmm_core.linalg import make_factor
from fastlmm_core.reml import optimizer
from fastlmm_core.reml.equations import build_equations
from fastlmm_core.reml.objective import LOG_TWO_PI, prepare_response

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

# Decrement at which a plain search ends.
TOLERANCE = 1e-9


class HeldEffect:
    """What both engines need: the design without the column, and the response.

    Of the column only what it adds to the others is taken from the response: the rest is theirs to fit, and
    of the square of a year all but the last digits.
    """

    def __init__(self, fit: RandomPart, j: int):
        self.design = design = fit.design
        X = sp.csc_array(design.X)
        self.X = sp.csc_array(X[:, np.delete(np.arange(X.shape[1]), j)])
        self.column = np.asarray(X[:, [j]].toarray()).ravel()
        weak = design.weak_columns
        self.weak = weak[weak != j] - (weak[weak != j] > j)
        self.has_intercept = bool(design.has_intercept) and j > 0
        self.y = fit.response if design.offset is None else fit.response - design.offset


class PlainHeldEffect(HeldEffect):
    """The least ML deviance of a plain model with the kept coefficient `j` held; coordinates are theta."""

    def __init__(self, fit: RandomPart, j: int):
        super().__init__(fit, j)
        design = self.design
        self.equations = build_equations(
            self.X, design.random, weights=design.weights, has_intercept=self.has_intercept, fixed_last=True,
            weak_columns=self.weak,
        )  # fmt: skip
        self.column = beyond_columns(self.equations.X_inside, self.column)
        self.factor = make_factor(self.equations)

    def solve(self, value: float, x: np.ndarray) -> HeldOptimum:
        """The optimum with the coefficient at `value`, from theta = x on."""
        e = self.equations
        response = prepare_response(e, self.y - value * self.column)
        in_units = 2.0 * e.n * float(np.log(response.unit))
        if not e.n_theta:
            deviance = e.n * (1.0 + LOG_TWO_PI + float(np.log(response.yy / e.n)))
            return HeldOptimum(x, deviance + in_units)
        theta = np.where((np.abs(x) < AWAY) & (e.theta_row == e.theta_col), AWAY, x)
        end = optimizer.minimize(e, self.factor, response, reml=False, theta=theta, tolerance=TOLERANCE)
        found = end.status in (0, 3) and end.decrement <= LARGEST_DECREMENT
        return HeldOptimum(end.theta, end.deviance + in_units if found else np.inf)


class StructuredHeldEffect(HeldEffect):
    """The same for a model with structures; coordinates are the engine's theta, in the units of the fit."""

    def __init__(self, fit: RandomPart, j: int):
        super().__init__(fit, j)
        design, solution = self.design, fit.solved
        assert isinstance(solution, StructuredSolution)
        terms = [engine_term(term, design.n, reduced=False) for term in design.random]
        self.equations = build_structured_equations(
            self.X, terms, engine_residual(design), has_intercept=self.has_intercept, fixed_last=True,
            weak_columns=self.weak,
        )  # fmt: skip
        self.column = beyond_columns(self.equations.X_inside, self.column)
        self.factor = make_factor(self.equations)
        self.scale = solution.response.scale
        self.equations = self.equations.for_response(solution.response.residual / self.scale)
        self.held = np.where(solution.free, np.nan, solution.theta)
        self.weights = np.ones(design.n) if design.weights is None else np.asarray(design.weights, float)

    def solve(self, value: float, x: np.ndarray) -> HeldOptimum:
        """The optimum with the coefficient at `value`, from theta = x on."""
        y = self.y - value * self.column
        _, y = least_squares(self.equations.X_inside, self.weights, y)
        found = fit_structures(self.equations, self.factor, y / self.scale, held=self.held, start=x)
        return HeldOptimum(found.theta, found.point.deviance if found.certified else np.inf)
