"""The profile of one parameter followed from the estimate outwards, and where it reaches a height.

zeta(v) = sign(v - v_hat) sqrt(deviance(v) - deviance_hat) is nearly linear in v, so that v as a polynomial in
zeta through the points that are known says where the next one belongs.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastlmm_core.errors import NumericalError
from fastlmm_core.intervals.constrained import HeldOptimum
from fastlmm_core.intervals.parameters import Parameter

# Steps to the farthest height, points that a side may have, and points that a polynomial goes through.
STEPS = 2
MOST_POINTS = 40
DEGREE_POINTS = 4
START_POINTS = 3
# A height is reached within this; the polynomial through the point found has the rest of the digits.
NEAR_HEIGHT = 1e-3
# Growth of a step, and how often it is halved where the criterion has no value.
LARGEST_GROWTH = 4.0
HALVINGS = 10
# How near to a bound, in units of the standard error, the criterion is looked at for its value there.
BESIDE_BOUND = 1e-5
# A place so near to the end of its bracket, in units of that, is the end.
SAME_PLACE = 1e-4
# Heights nearer than this are one: of the rest the tolerance of the searches leaves no digit.
SAME_HEIGHT = 3e-4
# A correlation whose height is this near to the highest is level from there on.
LEVEL = 0.02
# A height this much above that of a line through the points beside it may be that of another optimum.
ASTRAY = 0.25
# A deviance this much below that of the fit says that the fit was not the optimum.
LARGEST_FALL = 1e-4


class LowerDeviance(NumericalError):
    """A profile came below the fit: coordinates x (d,) from which a better optimum is found."""

    def __init__(self, parameter: Parameter, fall: float, x: np.ndarray):
        super().__init__(
            f"the profile of {parameter.name} falls below the fit by {fall:.3g}: the fit is not the optimum"
        )
        self.fall, self.x = fall, x


@dataclass(frozen=True)
class ProfilePoint:
    """One held value: its place, signed root of the deviance above the least, and all coordinates there."""

    zeta: float
    value: float
    x: np.ndarray = field(repr=False)


@dataclass(eq=False)
class Trace:
    """The profile of one parameter.

    Attributes
    ----------
    parameter : Parameter
    solve : callable
        (value, x to start from, more of these) to the optimum with the parameter held there.
    best : ProfilePoint
        The estimate, zeta = 0.
    deviance : float
        At the estimate.
    se : float
        Standard error, or another first step.
    direction : (d,)
        dx / dvalue at the estimate.
    points : list of ProfilePoint
        In order of their values.
    ends : dict
        By side (-1, +1): the bound where the profile stays below every height asked for, NaN where it has
        no end.
    deviations : tuple of Trace
        Of the two standard deviations of a correlation: where one may be zero, so may be every correlation.
    estimate : float, optional
        What the fit has, where that is not the value of `best`: NaN for a correlation that it does not tell.
    failed : frozenset of int
        Sides on which a search ended at no optimum, so that the profile may go on.
    kinked : bool
        The criterion has kinks, and optima on both sides of them.
    """

    parameter: Parameter
    solve: Callable[..., HeldOptimum]
    best: ProfilePoint
    deviance: float
    se: float
    direction: np.ndarray
    points: list[ProfilePoint] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)
    deviations: tuple[Trace, ...] = ()
    estimate: float | None = None
    failed: frozenset[int] = frozenset()
    kinked: bool = False

    def __post_init__(self) -> None:
        self.points.append(self.best)

    def state(self) -> dict[str, Any]:
        """What is known of the profile, without the way to know more."""
        names = ("best", "deviance", "se", "direction", "points", "ends", "failed")
        return {name: getattr(self, name) for name in names}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same profile."""
        for name, value in state.items():
            setattr(self, name, value)

    def limit(self, side: int, height: float) -> float:
        """Value on a side (-1 or +1) at which \\|zeta\\| reaches `height`; the bound where it does not."""
        self.follow(side, height)
        if side in self.ends and abs(self._outermost(side).zeta) < height:
            if side in self.failed and np.isnan(self.ends[side]):
                raise NumericalError(f"the profile of {self.parameter.name} is not known up to its limit")
            return self.ends[side]
        for _ in range(MOST_POINTS):
            guess = self._value_at(side * height)
            nearest = min(self.points, key=lambda p: abs(p.zeta - side * height))
            if abs(nearest.zeta - side * height) <= NEAR_HEIGHT:
                return guess
            lo, hi = self._bracket(side * height)
            if min(guess - lo, hi - guess) < SAME_PLACE * (hi - lo):  # no step: level up to a kink
                guess = 0.5 * (lo + hi)
            if not self._add(guess) and not (np.isfinite(hi - lo) and self._add(0.5 * (lo + hi))):
                break
        raise NumericalError(f"the profile of {self.parameter.name} has no value near its limit")

    def follow(self, side: int, height: float) -> None:
        """Extend the profile to \\|zeta\\| >= `height`, or to where it ends."""
        bound = self.parameter.bounds[0 if side < 0 else 1]
        step = height / STEPS
        if self.best.value == bound:
            self.ends[side] = bound
        while side not in self.ends:
            outermost = self._outermost(side)
            if abs(outermost.zeta) >= height:
                return
            count = sum(side * (p.value - self.best.value) > 0.0 for p in self.points)
            if count >= MOST_POINTS:
                self.ends[side] = self._without_end(bound, height)
                return
            if abs(outermost.zeta) + LEVEL >= self._highest(height):
                self.ends[side] = bound
                return
            target = side * min(abs(outermost.zeta) + step, height * 1.02)
            value = self._ahead(side, target)
            beside = bound - side * BESIDE_BOUND * min(self.se, abs(bound - self.best.value) or self.se)
            if side * (value - beside) >= 0.0:
                # what the criterion is at the bound itself is its limit there
                value = beside
            if not self._add(value):
                self.ends[side] = self._without_end(bound, height)
                self.failed = self.failed | {side}
            outermost = self._outermost(side)
            if side * (outermost.value - beside) >= 0.0 and abs(outermost.zeta) < height:
                self.ends[side] = bound

    def _without_end(self, bound: float, height: float) -> float:
        """The bound where no value of a correlation can reach the height, else NaN."""
        return bound if self._highest(height) < height else np.nan

    def _highest(self, height: float) -> float:
        """|zeta| that no correlation exceeds, below `height`, else inf: that of a standard deviation of zero,
        beside which every correlation is as likely."""
        highest = np.inf
        for own in self.deviations:
            own.follow(-1, height)
            zeta = abs(own._outermost(-1).zeta)
            if own.ends.get(-1) == own.parameter.bounds[0] and zeta < height:
                highest = min(highest, zeta)
        return highest

    def _outermost(self, side: int) -> ProfilePoint:
        return self.points[0] if side < 0 else self.points[-1]

    def _ahead(self, side: int, zeta: float) -> float:
        """A value beyond the outermost point that should have `zeta`."""
        last = self._outermost(side)
        if last is self.best:
            return last.value + zeta * self.se
        before = self.points[1] if side < 0 else self.points[-2]
        step = abs(last.value - before.value)
        if side * (last.zeta - before.zeta) <= SAME_HEIGHT:  # level so far
            return last.value + side * LARGEST_GROWTH * step
        value = self._value_at(zeta)
        slope = (last.value - before.value) / (last.zeta - before.zeta)
        if side * (value - last.value) <= 0.1 * side * slope * (zeta - last.zeta):  # the polynomial turns
            value = last.value + slope * (zeta - last.zeta)
        return last.value + side * min(abs(value - last.value), LARGEST_GROWTH * step)

    def _value_at(self, zeta: float) -> float:
        """The polynomial through the nearest points at `zeta` (Neville), within the points beside it."""
        near: list[ProfilePoint] = []
        for point in sorted(self.points, key=lambda p: (abs(p.zeta - zeta), -abs(p.value - self.best.value))):
            if all(abs(point.zeta - other.zeta) > SAME_HEIGHT for other in near):  # once for each height
                near.append(point)
        near = near[:DEGREE_POINTS]
        value = float(interpolate(zeta, np.array([p.zeta for p in near]), np.array([p.value for p in near])))
        beside = self._beside(zeta)
        if beside is not None:
            inner, outer = beside
            if not min(inner.value, outer.value) <= value <= max(inner.value, outer.value):
                share = (zeta - inner.zeta) / (outer.zeta - inner.zeta)
                value = inner.value + share * (outer.value - inner.value)
        return value

    def _beside(self, zeta: float) -> tuple[ProfilePoint, ProfilePoint] | None:
        """The points between which the profile, from the estimate outwards, first has `zeta`."""
        side = 1 if zeta >= 0.0 else -1
        outwards = [p for p in self.points[::side] if side * (p.value - self.best.value) >= 0.0]
        above = next((k for k, p in enumerate(outwards) if abs(p.zeta) >= abs(zeta)), 0)
        return (outwards[above - 1], outwards[above]) if above else None

    def _bracket(self, zeta: float) -> tuple[float, float]:
        """Their values, the lower first; the whole line where there are none."""
        beside = self._beside(zeta)
        lo, hi = sorted(p.value for p in beside) if beside is not None else (-np.inf, np.inf)
        return lo, hi

    def _start(self, value: float) -> np.ndarray:
        """Coordinates at `value`: the tangent at the estimate, later the polynomial through what is near."""
        if len(self.points) < 3 and abs(value - self.best.value) <= 2.0 * self.se:
            return self.best.x + (value - self.best.value) * self.direction
        near = sorted(self.points, key=lambda p: abs(p.value - value))[:START_POINTS]
        return interpolate(value, np.array([p.value for p in near]), np.array([p.x for p in near]))

    def _add(self, value: float) -> bool:
        """Evaluate at a value, nearer to the points known where it has none; whether a point was added."""
        for _ in range(HALVINGS):
            nearest = min(self.points, key=lambda p: abs(p.value - value))
            if self.kinked:  # what is near may not say where it goes on
                found = self.solve(value, nearest.x, self._start(value))
            else:
                found = self.solve(value, self._start(value))
                if self._is_astray(value, found):
                    other = self.solve(value, nearest.x)
                    found = other if other.deviance < found.deviance else found
            rise = found.deviance - self.deviance
            if np.isfinite(rise):
                if rise < -LARGEST_FALL:
                    raise LowerDeviance(self.parameter, -rise, found.x)
                side = 1.0 if value > self.best.value else -1.0
                own = ProfilePoint(side * float(np.sqrt(max(rise, 0.0))), value, found.x)
                insort(self.points, own, key=lambda point: point.value)
                return True
            value = 0.5 * (value + nearest.value)
        return False

    def _is_astray(self, value: float, found: HeldOptimum) -> bool:
        """Whether an end is none, or higher than the line through the nearest points says."""
        rise = found.deviance - self.deviance
        if not np.isfinite(rise) or len(self.points) < 3:
            return not np.isfinite(rise)
        a, b = sorted(self.points, key=lambda p: abs(p.value - value))[:2]
        line = a.zeta + (value - a.value) * (b.zeta - a.zeta) / (b.value - a.value)
        return bool(np.sqrt(max(rise, 0.0)) > abs(line) + ASTRAY)


def interpolate(at: float, z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The polynomial through values v (k,) or (k, d) at places z (k,), at the place `at` (Neville)."""
    z = z - at
    for k in range(1, z.size):
        left, right = z[k:], z[:-k]
        if v.ndim > 1:
            left, right = left[:, None], right[:, None]
        v = (left * v[:-1] - right * v[1:]) / (left - right)
    return v[0]
