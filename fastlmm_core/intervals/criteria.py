"""-2 log-likelihood with nothing profiled out, in the coordinates in which parameters are held.

Both engines, one question: the criterion at x, its gradient and its curvature, with the pieces that every
fit is made of. x is (theta, log sigma2) for a plain model and theta for one with structures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastlmm_core.engine import objective as structured
from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.search.curvature import without_rotations
from fastlmm_core.engine.search.kinks import correlation_charts, kinks, turned_starts
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.kernels.search.score import combine_score
from fastlmm_core.kernels.search.small_fit import LOG_TWO_PI
from fastlmm_core.linalg.factor import CholeskyFactor
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.objective import (
    Point,
    Response,
    degrees_of_freedom,
    evaluate,
    factors_at,
    score_statistics,
)
from fastlmm_core.structures.residuals.by_group import IndependentResiduals

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart


class Criterion(Protocol):
    """A criterion that the search of ``engine.search.driver`` minimises.

    Attributes
    ----------
    size : int
        Coordinates.
    dof : float
        Observations, for the rounding of the criterion.
    restless : (size,) bool
        Coordinates at zero of which the gradient vanishes by symmetry: a search that starts there stays.
    kinks : (size,) bool
        Standard deviations whose covariances with others, which are linear in them, give the criterion, even
        across zero, a kink there: a search has to stop at zero.
    interior : (size,) float64
        Values away from any bound, NaN for coordinates without one beside those at zero.
    correlations : (size,) bool
        Coordinates of correlations, which are infinite where these are 1 or -1.
    """

    size: int
    dof: float
    restless: np.ndarray
    kinks: np.ndarray
    interior: np.ndarray
    correlations: np.ndarray

    def turned(self, x: np.ndarray) -> list[np.ndarray]:
        """x (size,) with standard deviations off zero and correlations none, strong and negative beside them.

        There any correlation gives the same model; which of them lets a variance grow is not known.
        """

    def evaluate(self, x: np.ndarray) -> Any:
        """A point with the attributes `deviance` and `x`; inf where there is none."""

    def score(self, point: Any) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (size,) and curvature (size, size) at the point evaluated last."""


@dataclass(frozen=True)
class PlainPoint:
    """A point of the plain criterion; `inner` is that of the engine, which profiles sigma2 out."""

    x: np.ndarray
    deviance: float
    inner: Point


class PlainCriterion:
    """log|C| + dof (log 2 pi + tau) + r2 exp(-tau), tau = log sigma2."""

    def __init__(
        self, equations: MixedModelEquations, factor: CholeskyFactor, response: Response, reml: bool
    ):
        self.equations, self.factor, self.response, self.reml = equations, factor, response, reml
        self.size = equations.n_theta + 1
        self.dof = float(degrees_of_freedom(equations, reml))
        self.restless = np.append(equations.theta_row == equations.theta_col, False)
        self.interior = np.full(self.size, np.nan)
        self.kinks = self.correlations = np.zeros(self.size, bool)
        self._index = (equations.theta_term, equations.theta_row, equations.theta_col)

    def turned(self, x: np.ndarray) -> list[np.ndarray]:
        return []

    def evaluate(self, x: np.ndarray) -> PlainPoint:
        e, dof = self.equations, self.dof
        inner = evaluate(e, self.factor, self.response, factors_at(e, x[:-1]), self.reml)
        if not np.isfinite(inner.deviance):
            return PlainPoint(x, np.inf, inner)
        log_C = inner.deviance - dof * (1.0 + LOG_TWO_PI + np.log(inner.r2 / dof))
        return PlainPoint(x, log_C + dof * (LOG_TWO_PI + x[-1]) + inner.r2 * np.exp(-x[-1]), inner)

    def score(self, point: PlainPoint) -> tuple[np.ndarray, np.ndarray]:
        """The terms of ``combine_score`` at a free sigma2, with the row of tau beside them."""
        e, inner, sigma2 = self.equations, point.inner, float(np.exp(point.x[-1]))
        W, Q, D = score_statistics(e, self.factor, self.response, inner)
        term, row, column = self._index
        g, H, _ = combine_score(W, Q, D, inner.factors, e.sizes, *self._index, sigma2, np.inf)
        gradient, curvature = np.empty(self.size), np.empty((self.size, self.size))
        gradient[:-1], curvature[:-1, :-1] = g, H
        curvature[-1, -1] = inner.r2 / sigma2
        gradient[-1] = self.dof - curvature[-1, -1]
        a = 2.0 * (Q[term, row] * inner.factors[term, :, column]).sum(axis=1) / sigma2
        curvature[-1, :-1] = curvature[:-1, -1] = a
        return gradient, curvature


@dataclass(frozen=True)
class FoldedPoint:
    """A point of the structured criterion, with the signs by which x was folded into the bounds."""

    x: np.ndarray
    deviance: float
    inner: structured.StructuredPoint
    sign: np.ndarray


class StructuredCriterion:
    """The criterion of the structured engine, continued evenly across bounds at zero.

    Parameters
    ----------
    y : (n,)
        Least squares residual in the units of the engine.
    theta : (n_theta,)
        Where the coordinates that are not free stay.
    free : (n_theta,) bool
        The coordinates.
    """

    def __init__(
        self, equations: StructuredEquations, factor: CholeskyFactor, y: np.ndarray, theta: np.ndarray,
        free: np.ndarray,
    ):  # fmt: skip
        self.equations, self.factor, self.theta, self.free = equations, factor, theta, free
        self.y = np.concatenate([y, np.zeros(equations.residual.n_missing)])
        self.size, self.dof = int(free.sum()), float(equations.n)
        self.bounded = equations.lower_bounds[free] == 0.0
        restless = equations.lower_bounds == 0.0
        interior = np.full(theta.size, np.nan)
        for term, (own, level) in zip(equations.terms, equations.slices[0], strict=True):
            restless[own.start + term.structure.roots] = True
            if term.levels is not None and term.levels.holds_variance:
                interior[level] = term.levels.start()
        if isinstance(equations.residual, IndependentResiduals):  # theta are its standard deviations
            restless[equations.slices[1]] = True
        self.restless, self.interior = restless[free], interior[free]
        self.correlations = correlation_charts(equations)[free]
        self.kinks = kinks(equations)[free]

    def turned(self, x: np.ndarray) -> list[np.ndarray]:
        theta = self.theta.copy()
        theta[self.free] = x
        return [moved[self.free] for moved in turned_starts(self.equations, theta)]

    def evaluate(self, x: np.ndarray) -> FoldedPoint:
        sign = np.where(self.bounded & (x < 0.0), -1.0, 1.0)
        theta = self.theta.copy()
        theta[self.free] = x * sign
        inner = structured.evaluate(self.equations, self.factor, self.y, theta)
        return FoldedPoint(x, inner.deviance, inner, sign)

    def score(self, point: FoldedPoint) -> tuple[np.ndarray, np.ndarray]:
        """Of the free coordinates, with rotations of loadings, in which nothing changes, taken out."""
        found = structured.score_at(self.equations, self.factor, point.inner)
        gradient, curvature = without_rotations(
            self.equations, point.inner.theta, found.gradient, found.curvature
        )
        own = curvature[np.ix_(self.free, self.free)]
        return gradient[self.free] * point.sign, own * np.outer(point.sign, point.sign)


def criterion_of(fit: RandomPart, reml: bool | None = None) -> tuple[Criterion, np.ndarray]:
    """The criterion that a fit minimises, and its coordinates at the estimates.

    Parameters
    ----------
    reml : bool, optional
        Default as the fit; False for a linear model, which has one fit for both.
    """
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        y = solved.response.residual / solved.response.scale
        structured = StructuredCriterion(solved.equations, solved.factor.copy(), y, solved.theta, solved.free)
        return structured, solved.theta[solved.free]
    restricted = fit.reml if reml is None else reml
    plain = PlainCriterion(solved.equations, solved.factor.copy(), solved.response, restricted)
    return plain, np.append(solved.theta, np.log(solved.r2 / plain.dof))
