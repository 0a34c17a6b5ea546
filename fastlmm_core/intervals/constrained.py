"""The criterion minimised with one parameter held: coordinates on the surface h(x) = value, and the search.

Near x0 the surface is written as x(phi) = x0 + N phi + n t(phi), with n the unit gradient of h at x0, N an
orthonormal basis of what is orthogonal to it, and t by Newton's method. With a = dh/dx at x

    dx/dphi = J = N - n (a'N) / (a'n),      d2t/dphi2 = -J' (d2h) J / (a'n)

so gradient and curvature of the criterion follow from those in x, and the same search serves that serves
every fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from fastlmm_core.engine.search.driver import search
from fastlmm_core.intervals.criteria import Criterion
from fastlmm_core.intervals.parameters import AWAY, Held

# Decrement at which a held search ends, and the largest that still counts as an optimum.
TOLERANCE = 1e-8
LARGEST_DECREMENT = 1e-5
MAX_ITERATIONS = 60
# Newton steps to the surface, and how near is on it.
NEWTON_STEPS = 30
ON_SURFACE = 1e-11
# Coordinate of a correlation beyond which nothing moves any more, 1 - tanh 8 is 2e-7, and where it is looked
# for again: at a correlation of 0.96.
PLATEAU, NEAR_PLATEAU = 8.0, 2.0
# A standard deviation this close to its bound of zero, where a search could not go on, is tried at zero, in
# turn with others that follow it.
NEAR_BOUND = 1e-2
MOST_AT_BOUND = 4


@dataclass(frozen=True)
class HeldOptimum:
    """The optimum with a parameter held.

    Attributes
    ----------
    x : (d,)
    deviance : float
        inf where the search did not end at an optimum.
    """

    x: np.ndarray
    deviance: float


@dataclass(frozen=True)
class OnSurface:
    """A point of the criterion with its place in phi."""

    x: np.ndarray
    deviance: float
    inner: Any


class Surface:
    """Coordinates phi (d - 1 - s,) of h(x) = `value` near `x0`, s coordinates `still` (d,) staying there."""

    def __init__(self, held: Held, value: float, x0: np.ndarray, still: np.ndarray):
        self.held, self.value, self.x0 = held, value, x0
        # a longer step of a logarithm passes zero, beyond which the variance grows again
        self.most = 1.0 if held.parameter.kind in ("sd", "sigma", "variance") else np.inf
        self.near = ON_SURFACE * (1.0 + abs(value))
        a = np.where(still, 0.0, held.gradient(x0))
        size = float(np.linalg.norm(a))
        self.somewhere = isfinite(size) and size > 0.0
        self.normal = a / (size if self.somewhere else 1.0)
        # Householder's reflection that takes the normal to a unit vector leaves the basis beside it
        v = self.normal[~still]
        v[0] += 1.0 if v[0] >= 0.0 else -1.0
        self.tangent = np.zeros((a.size, v.size - 1))
        self.tangent[~still] = (np.eye(v.size) - 2.0 * np.outer(v, v) / (v @ v))[:, 1:]

    def place(self, phi: np.ndarray) -> np.ndarray | None:
        """x on the surface; None where Newton's method does not reach it."""
        x = self.x0 + self.tangent @ phi
        if not self.somewhere:
            return None
        for _ in range(NEWTON_STEPS):
            gap = self.held.value(x) - self.value
            if abs(gap) <= self.near:
                return x
            gap = min(max(gap, -self.most), self.most)
            slope = float(self.held.gradient(x) @ self.normal)
            if not isfinite(gap) or not isfinite(slope) or slope == 0.0:
                return None
            x = x - min(max(gap / slope, -2.0), 2.0) * self.normal
        return None

    def turn(self, x: np.ndarray, g: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and curvature in phi from those in x."""
        a = self.held.gradient(x)
        along = float(a @ self.normal)
        J = self.tangent - np.outer(self.normal, a @ self.tangent) / along
        bend = float(g @ self.normal) / along
        return J.T @ g, J.T @ (H - bend * self.held.curvature(x)) @ J


def minimize_held(criterion: Criterion, held: Held, value: float, x: np.ndarray) -> HeldOptimum:
    """The least criterion with h(x) = `value`, from `x` on.

    Where a correlation ran towards its bound, the best of several searches: there the gradient vanishes, so
    that one which was led too far ends at no optimum, leads those after it to the same end, and one that
    should leave the bound, or beside a variance of zero belongs to the other, does not. Where a standard
    deviation ended at zero, also one from all of them away from it.

    Parameters
    ----------
    value : float
        Of h, the inner scale of the parameter.
    """
    found = _searched(criterion, held, value, x)
    starts, away = [], criterion.correlations & (np.abs(found.x) > PLATEAU)
    if away.any():
        near = np.sign(found.x) * NEAR_PLATEAU
        starts = [np.where(away, sign * near, found.x) for sign in (1.0, -1.0)]
    zero = criterion.kinks & (np.abs(found.x) < NEAR_BOUND)
    if zero.any() and np.isfinite(found.deviance):
        # standard deviations that left zero only with another correlation
        size = 0.5 * float(np.abs(found.x[criterion.kinks]).max())
        starts.append(np.where(zero, max(size, AWAY), np.where(criterion.correlations, 0.0, found.x)))
    for start in starts:
        other = _searched(criterion, held, value, start)
        found = other if other.deviance < found.deviance else found
    return found


def _searched(criterion: Criterion, held: Held, value: float, x: np.ndarray) -> HeldOptimum:
    """Where the search from `x` ends; coordinates at zero begin as far off it as the surface goes."""
    found = HeldOptimum(x, np.inf)
    # zero is stationary by symmetry whether or not it is optimal
    for away in AWAY * np.array([1.0, 0.1, 0.01, 0.0]):
        near = criterion.restless & (np.abs(x) < away)
        found = _searched_from(criterion, held, value, np.where(near, away, x))
        if np.isfinite(found.deviance) or not (criterion.restless & (np.abs(x) < AWAY)).any():
            break
    return found


def _searched_from(criterion: Criterion, held: Held, value: float, x: np.ndarray) -> HeldOptimum:
    """Where the search from `x` itself ends."""
    still = np.zeros(x.size, bool)
    for _ in range(MOST_AT_BOUND):
        found, certain = _searched_beside(criterion, held, value, x, still)
        near = criterion.kinks & ~still & (np.abs(found.x) < NEAR_BOUND)
        if certain or not np.isfinite(found.deviance) or not near.any():
            break
        # the criterion, even across the bound, has a kink there, beside which no search ends
        x, still = np.where(near, 0.0, found.x), still | near
        if still.all():
            break
    return found if certain else HeldOptimum(found.x, np.inf)


def _searched_beside(
    criterion: Criterion, held: Held, value: float, x: np.ndarray, still: np.ndarray
) -> tuple[HeldOptimum, bool]:
    """Where the search from `x` ends with the coordinates `still` (d,) there, and whether at an optimum."""
    surface = Surface(held, value, x, still)
    nowhere = OnSurface(x, np.inf, None)

    def evaluate(phi: np.ndarray) -> OnSurface:
        at = surface.place(phi)
        if at is None:
            return nowhere
        inner = criterion.evaluate(at)
        return OnSurface(at, float(inner.deviance), inner)

    def score(point: OnSurface) -> tuple[np.ndarray, np.ndarray, None]:
        return *surface.turn(point.x, *criterion.score(point.inner)), None

    start = np.zeros(surface.tangent.shape[1])
    if not start.size:
        point = evaluate(start)
        return HeldOptimum(point.x, point.deviance), True
    end = search(
        evaluate, score, start, dof=criterion.dof, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS
    )  # fmt: skip
    found = end.status in (0, 3) and end.decrement <= LARGEST_DECREMENT
    return HeldOptimum(end.point.x, end.point.deviance), found
