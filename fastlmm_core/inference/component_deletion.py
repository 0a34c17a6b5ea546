"""What deleting rows changes in the variance parameters: one step of scoring from the estimates of the whole.

With P_D = P - P D (D'PD)^-1 D'P, the projection of the model without the rows of D (unit columns), the score
and the average information of the rows that are left are, at the estimates of all,

    s_t  = [y' P_D V_t P_D y - y' P V_t P y + tr((D'BD)^-1 D'B V_t B D)] / 2
    I_tu =  y' P_D V_t P_D V_u P_D y / 2

where B = P for REML and V^-1 for ML, and y'PV_tPy stands for the trace that it equals at a maximum. The step
is I^-1 s (Beckman, Nachtsheim & Cook 1987, Technometrics 29, 413-426; the average information of Gilmour,
Thompson & Cullis 1995, Biometrics 51, 1440-1450). Variances that it would make negative are held at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.engine.information.second_derivatives import invert_on_range
from fastlmm_core.inference.deletion import DETERMINED

# Part of a variance by which a step may fall below zero without being held there.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ScoringModel:
    """What all deletions of a fit share; parameters relative to `scale`, the variance that P is relative to.

    Attributes
    ----------
    information : (t, t)
        y' P V_t P V_u P y.
    flat : (j, t)
        Directions in which V does not change.
    variances, limits : (v, t) and (v,)
        Derivatives of the variances in the parameters, and the variances themselves.
    scale : float
    """

    information: np.ndarray
    flat: np.ndarray
    variances: np.ndarray
    limits: np.ndarray
    scale: float

    def step(self, gradient: np.ndarray, information: np.ndarray) -> np.ndarray:
        """The step (t,) that ascends by gradient (t,) and information (t, t), no variance below zero."""
        inverse = invert_on_range(information, self.flat)
        own, held = inverse @ gradient, np.zeros(len(self.limits), bool)
        while True:
            left = self.limits + self.variances @ own
            below = ~held & (left < -ROUNDING * self.limits)
            if not below.any():
                return own
            held[np.argmin(np.where(below, left / np.maximum(self.limits, 1e-300), np.inf))] = True
            rows = self.variances[held]
            free = inverse @ gradient
            # Lagrange: the least of the quadratic form among steps that end at zero
            across = rows @ inverse @ rows.T
            multiplier = np.linalg.lstsq(across, -self.limits[held] - rows @ free, rcond=None)[0]
            own = free + inverse @ rows.T @ multiplier
            if held.all():
                return own

    def distance(self, step: np.ndarray) -> float:
        """step' Var^-1 step, Var from the average information of all rows."""
        return 0.5 * float(step @ self.information @ step) / self.scale


@dataclass(frozen=True)
class RemovedRows:
    """Products of the rows that go, k of them, with everything relative to the scale.

    Attributes
    ----------
    M, shift : (k, k) and (k,)
        D'PD and its inverse times D'Py.
    projected : (n, k)
        P D.
    moved, inner : (t, n, k) and (t, k, k)
        V_t P D and D'P V_t P D.
    of_trace, moved_of_trace : (k, k) and (t, k, k)
        D'BD and D'B V_t B D.
    """

    M: np.ndarray
    shift: np.ndarray
    projected: np.ndarray
    moved: np.ndarray
    inner: np.ndarray
    of_trace: np.ndarray
    moved_of_trace: np.ndarray


def is_determined(M: np.ndarray, own: np.ndarray) -> bool:
    """Whether fixed effects are estimable without the rows: D'PD (k, k) beside D'R^-1 D, diagonal (k,)."""
    size = 1.0 / np.sqrt(own)
    return bool(np.linalg.eigvalsh(M * np.outer(size, size))[0] > DETERMINED)


def score_of_rest(rows: RemovedRows, f: np.ndarray, scale: float) -> np.ndarray:
    """2 s over the scale (t,), with f (n, t) = V_t P y."""
    quadratic = (rows.inner @ rows.shift) @ rows.shift
    cross = rows.shift @ (rows.projected.T @ f)
    traces = np.trace(np.linalg.solve(rows.of_trace, rows.moved_of_trace), axis1=1, axis2=2)
    return np.asarray(quadratic - 2.0 * cross + scale * traces)


def moved_response(rows: RemovedRows, f: np.ndarray) -> np.ndarray:
    """h_t = V_t P_D y (n, t)."""
    return f - (rows.moved @ rows.shift).T


def information_of_rest(rows: RemovedRows, h: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """h' P_D h (t, t), with P h (n, t)."""
    side = rows.projected.T @ h
    whole = h.T @ projected - side.T @ np.linalg.solve(rows.M, side)
    return 0.5 * (whole + whole.T)
