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

from fastlmm_core.engine.search.driver import ABOVE, search
from fastlmm_core.engine.search.kinks import AWAY, grown, held_there, stopped
from fastlmm_core.intervals.criteria import Criterion
from fastlmm_core.intervals.parameters import Held

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
# Where a bound is left if the criterion is lower there, and the farthest coordinate that a search begins at.
BESIDE_PLATEAU, FARTHEST = 5.0, 20.0
# Times that a search leaves standard deviations of zero.
MOST_LEAVES = 4


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
    ended: np.ndarray


class Surface:
    """Coordinates phi (d - 1,) of h(x) = `value` near `x0`."""

    def __init__(self, held: Held, value: float, x0: np.ndarray):
        self.held, self.value, self.x0 = held, value, x0
        # a longer step of a logarithm passes zero, beyond which the variance grows again
        self.most = 1.0 if held.parameter.kind in ("sd", "sigma", "variance") else np.inf
        self.near = ON_SURFACE * (1.0 + abs(value))
        a = held.gradient(x0)
        size = float(np.linalg.norm(a))
        self.somewhere = isfinite(size) and size > 0.0
        self.normal = a / (size if self.somewhere else 1.0)
        # Householder's reflection that takes the normal to a unit vector leaves the basis beside it
        v = self.normal.copy()
        v[0] += 1.0 if v[0] >= 0.0 else -1.0
        self.tangent = (np.eye(v.size) - 2.0 * np.outer(v, v) / (v @ v))[:, 1:]

    def place(self, phi: np.ndarray) -> np.ndarray | None:
        """x on the surface; None where Newton's method does not reach it."""
        x = self.x0 + self.tangent @ phi
        if not self.somewhere:
            return None
        for _ in range(NEWTON_STEPS):
            gap = self.held.value(x) - self.value
            slope = float(self.held.gradient(x) @ self.normal)
            if not isfinite(gap) or not isfinite(slope) or slope == 0.0:
                return None
            if abs(gap) <= self.near:
                return x
            gap = min(max(gap, -self.most), self.most)
            x = x - min(max(gap / slope, -2.0), 2.0) * self.normal
        return None

    def multiplier(self, x: np.ndarray, g: np.ndarray) -> float:
        """Lagrange's: what the criterion gains along the normal for a unit of h."""
        return float(g @ self.normal) / float(self.held.gradient(x) @ self.normal)

    def turn(self, x: np.ndarray, g: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and curvature in phi from those in x."""
        a = self.held.gradient(x)
        along = float(a @ self.normal)
        J = self.tangent - np.outer(self.normal, a @ self.tangent) / along
        bend = self.multiplier(x, g)
        return J.T @ g, J.T @ (H - bend * self.held.curvature(x)) @ J


def minimize_held(criterion: Criterion, held: Held, value: float, *starts: np.ndarray) -> HeldOptimum:
    """The least criterion with h(x) = `value`, from x of the `starts` on.

    Where a correlation ran towards its bound, the best of several searches: there the gradient vanishes, so
    that one which was led too far ends at no optimum, leads those after it to the same end, and one that
    should leave the bound, or beside a variance of zero belongs to the other, does not. Where a standard
    deviation ended at zero, also one from all of them away from it.

    Parameters
    ----------
    value : float
        Of h, the inner scale of the parameter.
    """
    found = HeldOptimum(starts[0], np.inf)
    for start in starts:
        found = _searched(criterion, held, value, start, found)
    others, away = [], criterion.correlations & (np.abs(found.x) > PLATEAU)
    if away.any():
        side = np.sign(found.x)
        inside = (np.where(away, side * near, found.x) for near in (NEAR_PLATEAU, BESIDE_PLATEAU))
        others = [x for x in inside if _value_beside(criterion, held, value, x) < found.deviance][:1]
        others.append(np.where(away, -side * NEAR_PLATEAU, found.x))
    if np.isfinite(found.deviance):
        # standard deviations that left zero only with another correlation
        others += criterion.turned(found.x)
    for start in others:
        found = _searched(criterion, held, value, start, found)
    return found


def _value_beside(criterion: Criterion, held: Held, value: float, x: np.ndarray) -> float:
    """The criterion where the surface passes `x`."""
    at = Surface(held, value, x).place(np.zeros(x.size - 1))
    return np.inf if at is None else float(criterion.evaluate(at).deviance)


def _searched(
    criterion: Criterion, held: Held, value: float, x: np.ndarray, found: HeldOptimum
) -> HeldOptimum:
    """Where the search from `x` ends if that is below `found`; coordinates at zero begin off it."""
    x = np.where(criterion.correlations, np.clip(x, -FARTHEST, FARTHEST), x)
    # zero is stationary by symmetry whether or not it is optimal
    for away in AWAY * np.array([1.0, 0.1, 0.01, 0.0]):  # as far as the surface goes
        near = criterion.restless & (np.abs(x) < away)
        other = _searched_from(criterion, held, value, np.where(near, away, x), found.deviance)
        if other is None or other.deviance < found.deviance:
            return found if other is None else other
        if np.isfinite(other.deviance) or not (criterion.restless & (np.abs(x) < AWAY)).any():
            break
    return found


def _searched_from(
    criterion: Criterion, held: Held, value: float, x: np.ndarray, known: float
) -> HeldOptimum | None:
    """Where the search from `x` itself ends, after standard deviations of zero that should grow did.

    None where it would end above the deviance `known`.
    """
    best = HeldOptimum(x, np.inf)
    for _ in range(MOST_LEAVES):
        found, slope = _searched_within(criterion, held, value, x, known)
        if found is None:
            return None
        if not found.deviance < best.deviance:
            break
        best = found
        further = grown(found.x, criterion.kinks & (found.x == 0.0), slope)
        if further is None:
            break
        x = further
    return best


def _searched_within(
    criterion: Criterion, held: Held, value: float, x: np.ndarray, known: float
) -> tuple[HeldOptimum | None, np.ndarray]:
    """Where one search from `x` ends, and the slope (d,) of the criterion along the surface there.

    None where it would end above the deviance `known`.
    """
    surface = Surface(held, value, x)
    # one that is held itself is where the surface has it
    ending = criterion.kinks & (surface.normal == 0.0)
    nowhere = OnSurface(x, np.inf, None, ending)

    def evaluate(phi: np.ndarray) -> OnSurface:
        at = surface.place(phi)
        if at is None:
            return nowhere
        at, ended = stopped(at, ending)
        inner = criterion.evaluate(at)
        return OnSurface(at, float(inner.deviance), inner, ended)

    def score(point: OnSurface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        gradient, curvature = criterion.score(point.inner)
        slope = gradient - surface.multiplier(point.x, gradient) * held.gradient(point.x)
        return *surface.turn(point.x, *held_there(gradient, curvature, point.ended)), slope

    start = np.zeros(surface.tangent.shape[1])
    if not start.size:
        point = evaluate(start)
        return HeldOptimum(point.x, point.deviance), start
    end = search(
        evaluate, score, start, dof=criterion.dof, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS,
        known=known,
    )  # fmt: skip
    if end.status == ABOVE:
        return None, start
    found = end.status in (0, 3) and end.decrement <= LARGEST_DECREMENT
    return HeldOptimum(end.point.x, end.point.deviance if found else np.inf), end.extra
