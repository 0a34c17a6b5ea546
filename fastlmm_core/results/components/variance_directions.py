"""The derivatives V_t of the covariance of the response, applied to columns over its rows, in any model.

The parameters are those of the information about them: (sigma2 t, sigma2) of a plain fit, the free theta of a
structured one. Rows are those of ``ObservationRows``, and V_t is relative to its scale where theta is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.engine.information.direction_products import move_natural, residual_theta
from fastlmm_core.engine.information.directions import Direction
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.reml.natural import apply_direction, natural_parameters
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.diagnostics.observation_rows import natural_rows

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel


@dataclass(frozen=True)
class VarianceDirections:
    """dV of every parameter.

    Attributes
    ----------
    of_residual : (t,) bool
        Parameters of the residual: V_t = R_t.
    multiply : callable
        V_t B (n_rows, k) of parameter t and B (n_rows, k), zero at rows that are missing.
    """

    of_residual: np.ndarray
    multiply: Callable[[int, np.ndarray], np.ndarray]

    @property
    def size(self) -> int:
        return int(self.of_residual.size)

    def multiply_all(self, B: np.ndarray) -> np.ndarray:
        """V_t B of every parameter (t, n_rows, k)."""
        return np.array([self.multiply(t, B) for t in range(self.size)]).reshape(self.size, *B.shape)


def variance_directions(fit: FittedModel) -> VarianceDirections:
    """The directions of a fit at its estimates."""
    solved, inference = fit.solved, fit._inference
    if isinstance(solved, StructuredSolution):
        assert isinstance(inference, StructureInference)
        return _structured(solved, inference.chart)
    return _plain(solved)


def _plain(solved: SolvedEquations) -> VarianceDirections:
    """V = sum_j (sigma2 t_j) Z E_j Z' + sigma2 W^-1."""
    parameters, Z = natural_parameters(solved), natural_rows(solved.equations)
    weights = solved.equations.weights[:, None]

    def multiply(t: int, B: np.ndarray) -> np.ndarray:
        if t == parameters.size:
            return B / weights
        return np.asarray(Z @ apply_direction(solved, parameters, t, np.asarray(Z.T @ B)))

    return VarianceDirections(np.arange(parameters.size + 1) == parameters.size, multiply)


def _structured(solution: StructuredSolution, directions: list[Direction]) -> VarianceDirections:
    e, theta = solution.equations, residual_theta(solution)

    def inside(t: int, B: np.ndarray) -> np.ndarray:
        direction = directions[t]
        if direction.term >= 0:
            effects = np.asarray(e.matrix.T @ B)
            e.natural.leave_random(effects)
            return np.asarray(e.matrix @ move_natural(solution, direction, effects))
        assert direction.pieces is not None
        inner = e.row_precision.at(direction.pieces) @ e.residual.multiply_covariance(theta, B)
        return -e.residual.multiply_covariance(theta, np.asarray(inner))

    def multiply(t: int, B: np.ndarray) -> np.ndarray:
        turn = e.rotation
        if turn is None:
            return inside(t, B)
        return turn.backward(inside(t, turn.forward((B.T / turn.root**2).T)))

    return VarianceDirections(np.array([own.term < 0 for own in directions], bool), multiply)
