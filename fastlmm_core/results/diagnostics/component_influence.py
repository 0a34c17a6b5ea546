"""What leaving out rows or levels would do to the variance components, one step from the fit's equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.inference.component_deletion import (
    RemovedRows,
    ScoringModel,
    information_of_rest,
    is_determined,
    moved_response,
    score_of_rest,
)
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.results.components.component_rows import component_rows, interior_parameters
from fastlmm_core.results.components.variance_directions import VarianceDirections, variance_directions
from fastlmm_core.results.diagnostics.observation_rows import BLOCK, ObservationRows

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

# Numbers that the columns of a block of rows may hold together, for one parameter.
NUMBERS = 8_000_000


class ComponentInfluence:
    """One-step deletions of a fit; parameters that are held or at a bound stay where they are.

    Parameters
    ----------
    fit : FixedPart
    rows : ObservationRows
    """

    def __init__(self, fit: FixedPart, rows: ObservationRows):
        self.rows, self.reml = rows, fit.reml
        self.components = [row for row in component_rows(fit) if row.shown]
        self.directions: VarianceDirections = variance_directions(fit)
        solved, own = fit.solved, interior_parameters(fit)
        slopes = np.array([row.slope for row in self.components])
        flat = np.zeros((0, int(own.sum())))
        unit = 1.0  # of the parameters of a plain fit, which are variances
        if isinstance(solved, StructuredSolution):
            assert isinstance(fit._inference, StructureInference)
            slopes, flat = slopes[:, solved.free], fit._inference.flat_directions()[:, own]
        else:
            unit = rows.scale
        self.own, self.slopes = np.flatnonzero(own), unit * slopes[:, own]
        self.f = self._moved(np.asarray(rows.precision @ rows.residual)[:, None])[:, :, 0].T
        between = np.array([row.var2 is None for row in self.components]) & self.slopes.any(axis=1)
        limits = np.array([row.value for row in self.components])[between]
        information = self.f.T @ rows.project(self.f) if self.own.size else np.zeros((0, 0))
        self.model = ScoringModel(information, flat, self.slopes[between], limits, rows.scale)
        self.columns = [f"change_{row.label}" for row in self.components]

    def _moved(self, B: np.ndarray) -> np.ndarray:
        out = np.empty((self.own.size, *B.shape))
        for at, t in enumerate(self.own):
            out[at] = self.directions.multiply(int(t), B)
        return out

    def without(self, own: np.ndarray) -> np.ndarray:
        """Distance and changes of the components (1 + c,) without a set of rows (k,); NaN where none is."""
        t, n, k = self.own.size, self.rows.matrix.shape[0], own.size
        nothing = np.full(1 + len(self.components), np.nan)
        if k == self.rows.n:
            return nothing
        if not t:
            return np.zeros_like(nothing)
        check_memory(8 * (t + 3) * n * k, None, f"the influence of {k} rows on {t} variance parameters")
        D = np.zeros((n, k))
        D[own, np.arange(k)] = 1.0
        projected = self.rows.project(D)
        M = _symmetric(projected[own])
        if not is_determined(M, self.rows.precision.diagonal()[own]):
            return nothing
        moved = self._moved(projected)
        inner = projected.T @ moved
        removed = RemovedRows(
            M, np.linalg.solve(M, self.rows.projected[own]), projected, moved, inner,
            *self._of_trace(own, projected, inner),
        )  # fmt: skip
        h = moved_response(removed, self.f)
        return self._figures(removed, h, self.rows.project(h))

    def _of_trace(
        self, own: np.ndarray, projected: np.ndarray, inner: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """D'BD and D'B V_t B D; B = V^-1 for ML is P with what the fixed effects take."""
        if not self.reml:
            rows = self.rows
            weights = np.asarray(rows.precision @ (rows.matrix @ rows.fixed_columns))  # V^-1 X Phi
            taken = np.linalg.solve(rows.fixed_covariance, weights[own].T)
            projected = projected + weights @ taken
            inner = projected.T @ self._moved(projected)
        return _symmetric(projected[own]), inner

    def _figures(self, removed: RemovedRows, h: np.ndarray, projected: np.ndarray) -> np.ndarray:
        gradient = score_of_rest(removed, self.f, self.rows.scale)
        step = self.model.step(gradient, information_of_rest(removed, h, projected))
        return np.concatenate([[self.model.distance(step)], self.slopes @ step])

    def of_rows(self) -> np.ndarray:
        """The same without each row by itself (n, 1 + c)."""
        rows, t = self.rows, self.own.size
        out = np.zeros((rows.n, 1 + len(self.components)))
        if not t:
            return out
        size = max(1, min(BLOCK, NUMBERS // rows.matrix.shape[0]) // (t + 1))
        own = rows.precision.diagonal()
        for begin in range(0, rows.n, size):
            part = np.arange(begin, min(begin + size, rows.n))
            D = np.zeros((rows.matrix.shape[0], part.size))
            D[part, np.arange(part.size)] = 1.0
            projected = rows.project(D)
            moved = self._moved(projected)
            inner = projected.T @ moved
            traced, turned = self._of_trace(part, projected, inner)
            found: list[tuple[int, RemovedRows]] = []
            for j, i in enumerate(part.tolist()):
                M = projected[i : i + 1, j : j + 1]
                if not is_determined(M, own[i : i + 1]):
                    out[i] = np.nan
                    continue
                one = slice(j, j + 1)
                found.append((i, RemovedRows(
                    M, rows.projected[i : i + 1] / M[0], projected[:, one], moved[:, :, one],
                    inner[:, one, one], traced[one, one], turned[:, one, one],
                )))  # fmt: skip
            if found:
                h = np.hstack([moved_response(removed, self.f) for _, removed in found])
                side = rows.project(h)
                for at, (i, removed) in enumerate(found):
                    mine = slice(at * t, (at + 1) * t)
                    out[i] = self._figures(removed, h[:, mine], side[:, mine])
        return out

    def frame(self, figures: np.ndarray) -> pd.DataFrame:
        """Columns cooks_d_components and change_<component> of figures (r, 1 + c)."""
        return pd.DataFrame(figures, columns=["cooks_d_components", *self.columns])


def _symmetric(A: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (A + A.T))
