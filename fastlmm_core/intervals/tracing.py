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
# A deviance this much below that of the fit says that the fit was not the optimum.
LARGEST_FALL = 1e-4


@dataclass(frozen=True, order=True)
class ProfilePoint:
    """One held value: its place, signed root of the deviance above the least, and all coordinates there."""

    zeta: float
    value: float
    x: np.ndarray = field(compare=False, repr=False)


@dataclass(eq=False)
class Trace:
    """The profile of one parameter.

    Attributes
    ----------
    parameter : Parameter
    solve : callable
        (value, x to start from) to the optimum with the parameter held there.
    best : ProfilePoint
        The estimate, zeta = 0.
    deviance : float
        At the estimate.
    se : float
        Standard error, or another first step.
    direction : (d,)
        dx / dvalue at the estimate.
    points : list of ProfilePoint
        In order of zeta.
    ends : dict
        By side (-1, +1): the bound where the profile stays below every height asked for, NaN where it has
        no end.
    deviations : tuple of Trace
        Of the two standard deviations of a correlation: where one may be zero, so may be every correlation.
    """

    parameter: Parameter
    solve: Callable[[float, np.ndarray], HeldOptimum]
    best: ProfilePoint
    deviance: float
    se: float
    direction: np.ndarray
    points: list[ProfilePoint] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)
    deviations: tuple[Trace, ...] = ()

    def __post_init__(self) -> None:
        self.points.append(self.best)

    def state(self) -> dict[str, Any]:
        """What is known of the profile, without the way to know more."""
        names = ("best", "deviance", "se", "direction", "points", "ends")
        return {name: getattr(self, name) for name in names}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same profile."""
        for name, value in state.items():
            setattr(self, name, value)

    def limit(self, side: int, height: float) -> float:
        """Value on a side (-1 or +1) at which \\|zeta\\| reaches `height`; the bound where it does not."""
        self.follow(side, height)
        if side in self.ends and abs(self._outermost(side).zeta) < height:
            return self.ends[side]
        for _ in range(MOST_POINTS):
            guess = self._value_at(side * height)
            nearest = min(self.points, key=lambda p: abs(p.zeta - side * height))
            if abs(nearest.zeta - side * height) <= NEAR_HEIGHT:
                return guess
            if not self._add(guess):
                break
        raise NumericalError(f"the profile of {self.parameter.name} has no value near its limit")

    def follow(self, side: int, height: float) -> None:
        """Extend the profile to \\|zeta\\| >= `height`, or to where it ends."""
        bound = self.parameter.bounds[0 if side < 0 else 1]
        step = height / STEPS
        while side not in self.ends:
            outermost = self._outermost(side)
            if abs(outermost.zeta) >= height:
                return
            count = sum(p.zeta * side > 0.0 for p in self.points)
            if count >= MOST_POINTS:
                self.ends[side] = self._without_end(bound, height)
                return
            target = side * min(abs(outermost.zeta) + step, height * 1.02)
            value = self._ahead(side, target)
            beside = bound - side * BESIDE_BOUND * min(self.se, abs(bound - self.best.value) or self.se)
            if side * (value - beside) >= 0.0 or side * (outermost.value - beside) >= 0.0:
                # what the criterion is at the bound itself is its limit there
                if not self._add(beside) or abs(self._outermost(side).zeta) < height:
                    self.ends[side] = bound
                return
            if not self._add(value):
                self.ends[side] = self._without_end(bound, height)

    def _without_end(self, bound: float, height: float) -> float:
        """The bound where no value of a correlation can reach the height, else NaN."""
        for own in self.deviations:
            own.follow(-1, height)
            if own.ends.get(-1) == own.parameter.bounds[0] and abs(own._outermost(-1).zeta) < height:
                return bound
        return np.nan

    def _outermost(self, side: int) -> ProfilePoint:
        return self.points[0] if side < 0 else self.points[-1]

    def _ahead(self, side: int, zeta: float) -> float:
        """A value beyond the outermost point that should have `zeta`."""
        last = self._outermost(side)
        if last is self.best:
            return last.value + zeta * self.se
        before = self.points[1] if side < 0 else self.points[-2]
        step = abs(last.value - before.value)
        if last.zeta == before.zeta:  # level so far
            return last.value + side * LARGEST_GROWTH * step
        value = self._value_at(zeta)
        slope = (last.value - before.value) / (last.zeta - before.zeta)
        if side * (value - last.value) <= 0.1 * side * slope * (zeta - last.zeta):  # the polynomial turns
            value = last.value + slope * (zeta - last.zeta)
        return last.value + side * min(abs(value - last.value), LARGEST_GROWTH * step)

    def _value_at(self, zeta: float) -> float:
        """The polynomial through the nearest points at `zeta` (Neville), within the points beside it."""
        near = sorted(self.points, key=lambda p: abs(p.zeta - zeta))[:DEGREE_POINTS]
        value = float(interpolate(zeta, np.array([p.zeta for p in near]), np.array([p.value for p in near])))
        below = [p for p in self.points if p.zeta <= zeta]
        above = [p for p in self.points if p.zeta >= zeta]
        if below and above and not below[-1].value <= value <= above[0].value:
            lo, hi = below[-1], above[0]
            share = (zeta - lo.zeta) / (hi.zeta - lo.zeta) if hi.zeta > lo.zeta else 0.0
            value = lo.value + share * (hi.value - lo.value)
        return value

    def _start(self, value: float) -> np.ndarray:
        """Coordinates at `value`: the tangent at the estimate, later the polynomial through what is near."""
        if len(self.points) < 3 and abs(value - self.best.value) <= 2.0 * self.se:
            return self.best.x + (value - self.best.value) * self.direction
        near = sorted(self.points, key=lambda p: abs(p.value - value))[:START_POINTS]
        return interpolate(value, np.array([p.value for p in near]), np.array([p.x for p in near]))

    def _add(self, value: float) -> bool:
        """Evaluate at a value, nearer to the points known where it has none; whether a point was added."""
        for _ in range(HALVINGS):
            found = self.solve(value, self._start(value))
            rise = found.deviance - self.deviance
            if np.isfinite(rise):
                if rise < -LARGEST_FALL:
                    raise NumericalError(
                        f"the profile of {self.parameter.name} falls below the fit by {-rise:.3g}: the fit "
                        "is not the optimum"
                    )
                side = 1.0 if value > self.best.value else -1.0
                insort(self.points, ProfilePoint(side * float(np.sqrt(max(rise, 0.0))), value, found.x))
                return True
            nearest = min(self.points, key=lambda p: abs(p.value - value))
            value = 0.5 * (value + nearest.value)
        return False


def interpolate(at: float, z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The polynomial through values v (k,) or (k, d) at places z (k,), at the place `at` (Neville)."""
    z = z - at
    for k in range(1, z.size):
        left, right = z[k:], z[:-k]
        if v.ndim > 1:
            left, right = left[:, None], right[:, None]
        v = (left * v[:-1] - right * v[1:]) / (left - right)
    return v[0]
