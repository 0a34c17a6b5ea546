"""Residuals of plots in a field: a product of autoregressions over rows and columns, by environment.

The precision is that of the full grid of every environment; plots that are not there are unknowns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from fastlmm_core.structures.coefficients.partial_correlations import tanh_chart_at
from fastlmm_core.structures.last_theta import kept_at_last_theta
from fastlmm_core.structures.levels.base import turned_together
from fastlmm_core.structures.levels.kronecker import KroneckerLevels
from fastlmm_core.structures.residuals.base import (
    Charted,
    PieceEntries,
    ResidualGroup,
    ResidualStructure,
    block_names,
)


class FieldResiduals(ResidualStructure):
    """R = blockdiag over environments of sigma2 D^-1/2 (C_1 (x) C_2) D^-1/2, theta = (log sigma2, factors').

    Parameters
    ----------
    weights : (n,) float64
        Weights of the observed rows; missing plots have weight 1.
    grids : list of KroneckerLevels
        Correlation of the cells, by environment.
    cells : (n,) int64
        Cell of every row in the grid of its environment.
    codes : (n,) int64
        Environment of every row.
    levels : tuple
    """

    linear = False

    def __init__(
        self, weights: np.ndarray, grids: list[KroneckerLevels], cells: np.ndarray, codes: np.ndarray,
        levels: tuple[Any, ...],
    ):  # fmt: skip
        n = weights.size
        self.grids, self.levels = grids, levels
        self.first = np.cumsum([0, *(1 + g.n_theta for g in grids)])
        self.n_theta = int(self.first[-1])
        self.rows_of_cells, parts, piece, missing = [], [], 0, n
        self.first_piece = []
        for e, grid in enumerate(grids):
            rows = np.full(grid.size, -1, np.int64)
            mine = np.flatnonzero(codes == e)
            rows[cells[mine]] = mine
            empty = np.flatnonzero(rows < 0)
            rows[empty] = missing + np.arange(empty.size)
            missing += empty.size
            self.rows_of_cells.append(rows)
            self.first_piece.append(piece)
            for matrix in grid.pieces:
                coo = matrix.tocoo()
                i, j = rows[coo.row], rows[coo.col]
                keep = i >= j
                parts.append((i[keep], j[keep], np.full(int(keep.sum()), piece), coo.data[keep]))
                piece += 1
        self.n_rows, self.n_missing, self.n_pieces = missing, missing - n, piece
        self.root = np.sqrt(np.concatenate([weights, np.ones(self.n_missing)]))
        self.weighted = bool(np.any(weights != 1.0))
        self.log_weights = float(np.sum(np.log(weights)))
        row, column, number, value = (np.concatenate(x) for x in zip(*parts, strict=True))
        value = value * self.root[row] * self.root[column]
        self.entries = PieceEntries(
            row.astype(np.int64), column.astype(np.int64), number.astype(np.int64), value
        )

    def groups(self) -> list[ResidualGroup]:
        if len(self.grids) == 1:
            return []
        n = self.n_rows - self.n_missing
        return [
            ResidualGroup(level, np.sort(rows[rows < n]), slice(int(first), int(end)))
            for level, rows, (first, end) in zip(
                self.levels, self.rows_of_cells, pairwise(self.first), strict=True
            )
        ]

    def _own(self, theta: np.ndarray, e: int) -> tuple[float, np.ndarray]:
        own = theta[self.first[e] : self.first[e + 1]]
        return float(own[0]), own[1:]

    def beyond(self, theta: np.ndarray, e: int, steps: np.ndarray) -> tuple[float, np.ndarray]:
        """Variance of a plot of an environment, and correlations (k,) with plots `steps` (k, F) away."""
        log_variance, own = self._own(theta, e)
        return float(np.exp(log_variance)), self.grids[e].at_distance(own, steps)

    def start(self, moments: Any) -> np.ndarray:
        out = []
        for grid, rows in zip(self.grids, self.rows_of_cells, strict=True):
            seen = rows[rows < moments.size]
            mean_square = float(np.mean((moments * self.root[: moments.size])[seen] ** 2))
            out.append(np.r_[np.log(max(0.6 * mean_square, 0.02)), grid.start()])
        return np.concatenate(out)

    def autocorrelations(self) -> list[slice]:
        return [slice(int(first) + 1, int(end)) for first, end in pairwise(self.first)]

    def correlation_charts(self) -> np.ndarray:
        return ~np.isin(np.arange(self.n_theta), self.first)  # the first of every environment is a variance

    def charted(self) -> list[tuple[int, Charted]]:
        return [(0, self)]

    def chart_at(self, distance: float) -> float:
        """|x| of an autocorrelation that is so far from its bound."""
        return tanh_chart_at(distance)

    def other_signs(self, start: np.ndarray, strong: bool) -> list[np.ndarray]:
        others = [grid.other_starts() + (grid.strong_starts() if strong else []) for grid in self.grids]
        return turned_together(start, list(zip(self.autocorrelations(), others, strict=True)))

    def coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, jacobian = self._coefficients(theta)
        return c.copy(), jacobian.copy()

    def log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._log_determinant(theta)
        return value, gradient.copy()

    @kept_at_last_theta
    def _coefficients(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, jacobian = np.empty(self.n_pieces), np.zeros((self.n_theta, self.n_pieces))
        for e, grid in enumerate(self.grids):
            log_variance, own = self._own(theta, e)
            q, dq = grid.coefficients(own)
            at = slice(self.first_piece[e], self.first_piece[e] + q.size)
            c[at] = np.exp(-log_variance) * q
            jacobian[self.first[e], at] = -c[at]
            jacobian[self.first[e] + 1 : self.first[e + 1], at] = np.exp(-log_variance) * dq
        return c, jacobian

    @kept_at_last_theta
    def _log_determinant(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = -self.log_weights, np.zeros(self.n_theta)
        for e, grid in enumerate(self.grids):
            log_variance, own = self._own(theta, e)
            log, slope = grid.log_determinant(own)
            value += grid.size * log_variance - log
            gradient[self.first[e]] = grid.size
            gradient[self.first[e] + 1 : self.first[e + 1]] = -slope
        return value, gradient

    def second_derivatives(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        out = np.zeros((self.n_theta, self.n_theta))
        for e, grid in enumerate(self.grids):
            log_variance, own = self._own(theta, e)
            known = grid.second_coefficients(own)
            if known is None:
                return super().second_derivatives(theta, weights)
            q, dq = grid.coefficients(own)
            w = np.exp(-log_variance) * weights[self.first_piece[e] : self.first_piece[e] + q.size]
            first, rest = self.first[e], slice(self.first[e] + 1, self.first[e + 1])
            out[first, first] = w @ q
            out[first, rest] = out[rest, first] = -(dq @ w)
            out[rest, rest] = known[0] @ w - known[1]
        return out

    def multiply_covariance(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        out = np.empty_like(V)
        for e, (grid, rows) in enumerate(zip(self.grids, self.rows_of_cells, strict=True)):
            log_variance, own = self._own(theta, e)
            by_cell = np.take(V, rows, axis=0)
            if self.weighted:
                by_cell /= self.root[rows][:, None]
            moved = grid.multiply_covariance(own, by_cell)
            if self.weighted:
                moved /= self.root[rows][:, None]
            moved *= np.exp(log_variance)
            out[rows] = moved
        return out

    def natural(self, theta: np.ndarray) -> np.ndarray:
        parts = [np.r_[np.exp(v), g.natural(t)] for g, (v, t) in self._each(theta)]
        return np.concatenate(parts)

    def _each(self, theta: np.ndarray) -> list[tuple[KroneckerLevels, tuple[float, np.ndarray]]]:
        return [(grid, self._own(theta, e)) for e, grid in enumerate(self.grids)]

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        parts = [(np.exp(v), grid.natural_jacobian(t)) for grid, (v, t) in self._each(theta)]
        return block_diag(*(block for part in parts for block in part))

    def natural_names(self) -> tuple[str, ...]:
        names = []
        for head, grid in zip(block_names(self.levels), self.grids, strict=True):
            names += [head, *(f"{head}: rho({name})" for name in grid.natural_names())]
        return tuple(names)

    def held(self, variance: float, group: int = 0) -> float:
        return float(np.log(variance))

    def place_of_variance(self, group: int) -> int:
        return int(self.first[group])

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        out = theta.copy()
        out[self.first[:-1]] += np.log(factor)
        return out

    def multiply_second(self, theta: np.ndarray, weights: np.ndarray, V: np.ndarray) -> np.ndarray:
        raise NotImplementedError("second derivatives of a field's autoregressions")

    def variances(self, theta: np.ndarray) -> np.ndarray:
        n = self.n_rows - self.n_missing
        out = np.empty(self.n_rows)
        for e, rows in enumerate(self.rows_of_cells):
            out[rows] = np.exp(self._own(theta, e)[0])
        return out[:n] / self.root[:n] ** 2

    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        out = []
        for e, _ in enumerate(self.grids):
            slopes = np.zeros((self.n_theta, 1, 1))
            slopes[self.first[e]] = np.exp(self._own(theta, e)[0])
            out.append(slopes)
        return out

    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"at": level, "names": ["(Intercept)"], "T": np.array([[np.exp(v)]]), "n_par": 1 + grid.n_theta,
             "group_corr": dict(zip(grid.natural_names(), grid.natural(t), strict=True)), "struct": "homdiag"}
            for level, (grid, (v, t)) in zip(self.levels, self._each(theta), strict=True)
        ]  # fmt: skip
