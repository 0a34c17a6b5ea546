"""The deviance of one response over theta, and where a search for its minimum ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.objective import Score, StructuredPoint, evaluate
from fastlmm_core.engine.search.driver import SearchEnd
from fastlmm_core.kernels.thresholds import GROWTH, LARGEST_DECREMENT
from fastlmm_core.linalg.base import CholeskyFactor


@dataclass(frozen=True)
class StructuredOptimum:
    """The best end of the searches.

    Attributes
    ----------
    end : SearchEnd
        Over the free parameters.
    theta : (n_theta,)
        All parameters, variances at the boundary set to zero.
    free : (n_theta,) bool
    score : Score
        At the end of the search.
    point : StructuredPoint
        At `theta`; the factor holds it.
    smallest_boundary_score : float
    unbounded : bool
        The deviance falls without end as the residual's covariance becomes singular, or as an
        autocorrelation of levels tends to one.
    """

    end: SearchEnd
    theta: np.ndarray
    free: np.ndarray
    score: Score | None
    point: StructuredPoint
    smallest_boundary_score: float
    unbounded: bool = False

    @property
    def certified(self) -> bool:
        """Gradient and boundary scores agree that this is an optimum."""
        return (
            not self.unbounded
            and self.end.status in (0, 3)
            and self.end.decrement <= LARGEST_DECREMENT
            and self.smallest_boundary_score >= -GROWTH * 100
        )


class Criterion:
    """The deviance of one response. The factor holds the latest point, which is not computed again.

    Parameters
    ----------
    e : StructuredEquations
    factor : CholeskyFactor
        Nobody else may factorize with it.
    y : (n_rows,)
        Zeros at missing plots.
    """

    def __init__(self, e: StructuredEquations, factor: CholeskyFactor, y: np.ndarray):
        self.equations, self.factor, self.y = e, factor, y
        self._latest: StructuredPoint | None = None

    def at(self, theta: np.ndarray) -> StructuredPoint:
        """The point at theta, factorized."""
        if self._latest is None or not np.array_equal(self._latest.theta, theta):
            self._latest = None  # of the point before only the search keeps what it needs
            self._latest = evaluate(self.equations, self.factor, self.y, theta)
        return self._latest
