"""Covariance of the variance parameters of a fit with any structures, and what inference derives from it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from fastlmm_core.engine.equations.confounding import confounded_error
from fastlmm_core.engine.factorized import FixedRows
from fastlmm_core.engine.information.direction_products import (
    Moved,
    average_matrix,
    covariance_gradients,
    curvature_form,
    weighted_form,
)
from fastlmm_core.engine.information.directions import (
    Direction,
    NaturalDirections,
    chart_directions,
    natural_directions,
)
from fastlmm_core.engine.information.expected_differences import expected_by_differences
from fastlmm_core.engine.information.expected_information import (
    DENSE_ROWS,
    DIFFERENCE_WORK,
    LARGE_WORK,
    expected_by_rows,
    expected_by_unknowns,
    most_unknowns,
)
from fastlmm_core.engine.information.second_derivatives import (
    at_bound,
    correlation_bounds,
    flat_rotations,
    invert_on_range,
    level_bounds,
    unmoved_parameters,
    zero_parameters,
    zero_pivots,
)
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, check_option

KINDS = ("expected", "observed", "average")


class StructureInference:
    """Covariance of the parameters by method, and the derivatives that go with it, computed once per fit.

    Parameters
    ----------
    solution : StructuredSolution
    groups : tuple of str
        Name of every random term, for messages.
    """

    def __init__(self, solution: StructuredSolution, groups: tuple[str, ...]):
        self.solution, self.groups = solution, groups
        self._covariances: dict[str, np.ndarray] = {}
        # Kept by ``joint_covariance`` for all tables of the fit.
        self.coefficient_covariances: dict[Any, Any] = {}
        self._latest: tuple[list[Direction], FixedRows, Moved] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What is found again from the rest is not pickled: it is larger than the fit."""
        return self.__dict__ | {"coefficient_covariances": {}, "_latest": None}

    @property
    def solved(self) -> StructuredSolution:
        return self.solution

    @cached_property
    def chart(self) -> list[Direction]:
        return chart_directions(self.solution)

    @cached_property
    def natural(self) -> NaturalDirections:
        return natural_directions(self.solution)

    @cached_property
    def linear_directions(self) -> list[Direction]:
        """Directions for the expected information: natural ones where all structures have them, else theta's.

        Natural parameters stay regular at a variance of zero, where theta's derivative vanishes; where
        covariances go with its root it is theta that does.
        """
        try:
            return self.natural.directions
        except InferenceError:
            return self.chart

    @cached_property
    def average_directions(self) -> list[Direction]:
        """Directions for the average information, as `linear_directions` where that tells of all parameters.

        A correlation of the residual or of levels at its bound it does not: what y says of a move beyond is
        chance, and by the nearly singular matrix rounding. It is known, as to the observed information.
        """
        place = self.solution.equations, self.solution.theta
        known = correlation_bounds(*place)[self.solution.free]
        return self.chart if known.any() else self.linear_directions

    @property
    def n_rows(self) -> int:
        """Unknowns of the equations, for forecasts of memory."""
        return max(self.solution.equations.spherical.size, self.solution.equations.residual.n_rows)

    @property
    def n_parameters(self) -> int:
        return int(self.solution.free.sum())

    def directions(self, ddf: str, information: str) -> list[Direction]:
        """Directions in which `covariance` is written."""
        if ddf == "satterthwaite" or information == "observed":
            return self.chart
        return self.average_directions if information == "average" else self.linear_directions

    def covariance(self, ddf: str, information: str) -> np.ndarray:
        """Covariance of the parameters of `directions`, (t, t).

        Raises
        ------
        InferenceError
            When a random term lies within the fixed part.
        """
        whole = self.solution.confounded.terms
        if whole:
            raise confounded_error([self.groups[k] for k in whole])
        kind = "observed" if ddf == "satterthwaite" else information
        if kind not in self._covariances:
            self._covariances[kind] = self._invert(kind)
        return self._covariances[kind]

    def _invert(self, kind: str) -> np.ndarray:
        check_option("information", kind, KINDS)
        if kind == "observed":
            matrix = self.solution.hessian
            flat = self.flat_directions()
            return 2.0 * invert_on_range(matrix, flat)
        if kind == "average":
            directions = self.average_directions
            return 2.0 * invert_on_range(average_matrix(self.solution, directions), self._flat_in(directions))
        return 2.0 * invert_on_range(self.expected, self._flat_in(self.linear_directions))

    @property
    def interior(self) -> np.ndarray:
        """Which of the free parameters, (t,), belong to no variance that is exactly zero."""
        return ~zero_parameters(self.solution.equations, self.solution.theta)[self.solution.free]

    def theta_covariance(self, kind: str) -> np.ndarray:
        """Covariance (n_theta, n_theta) by an information, zero for what is held and where a variance is."""
        solution = self.solution
        out = np.zeros((solution.theta.size,) * 2)
        inside = self.interior
        if not inside.any():
            return out
        if kind == "observed":
            matrix = solution.hessian
        elif kind == "average":
            matrix = solution.information[0][np.ix_(solution.free, solution.free)]
        elif self.linear_directions is self.chart:
            matrix = self.expected
        else:
            J = self.natural.jacobian
            matrix = J.T @ self.expected @ J
        known = zero_pivots(solution.equations, solution.theta)[solution.free]
        flat = np.vstack([self.flat_directions(), np.eye(known.size)[known]])[:, inside]
        places = np.flatnonzero(solution.free)[inside]
        out[np.ix_(places, places)] = 2.0 * invert_on_range(matrix[np.ix_(inside, inside)], flat)
        return out

    def _flat_in(self, directions: list[Direction]) -> np.ndarray:
        """Directions, in coordinates of these, of which the information tells nothing (j, t)."""
        if directions is self.chart:
            # a standard deviation of zero is known, however near to it the search has come
            place, at = (self.solution.equations, self.solution.theta), np.flatnonzero(self.solution.free)
            known = at_bound(*place, at) | zero_parameters(*place)[at]
            return np.vstack([self.flat_directions(), np.eye(at.size)[known]])
        J = self.natural.jacobian
        bounds = level_bounds(self.solution.equations, self.solution.theta)[self.solution.free]
        known = np.eye(len(J))[np.any(J[:, bounds] != 0.0, axis=1)]
        if not len(self.solution.untold_parameters):
            return known
        return np.vstack([self.flat_directions() @ J.T, known])

    @property
    def untold_shares(self) -> np.ndarray:
        """See ``StructuredSolution.untold_shares``."""
        return self.solution.untold_shares

    def flat_directions(self) -> np.ndarray:
        """Directions of the free parameters that leave the restricted likelihood as it is, (j, t)."""
        solution = self.solution
        place = solution.equations, solution.theta, np.flatnonzero(solution.free)
        untold = solution.untold_parameters[:, solution.free]
        return np.vstack([flat_rotations(*place), unmoved_parameters(*place), untold])

    @cached_property
    def expected(self) -> np.ndarray:
        """tr(P V_t P V_u) over `linear_directions`.

        Raises
        ------
        InferenceError
            For structures that are not linear in their parameters beyond `DENSE_ROWS` rows.
        """
        solution = self.solution
        if not self.n_parameters:  # all of them are held
            return np.zeros((0, 0))
        e, directions = solution.equations, self.linear_directions
        rows, unknowns = e.residual.n_rows, e.natural.size
        # of linear structures the expected information is twice the average less the observed one
        linear = solution.linear and directions is not self.chart
        work = float(min(rows, unknowns)) ** 3
        if linear and LARGE_WORK < work > DIFFERENCE_WORK * len(directions) * solution.factor.flops:
            return expected_by_differences(solution, self.natural)
        accurate = solution.residual_nearly_singular and rows <= DENSE_ROWS  # as `_rows_of` has it
        if unknowns <= min(rows, most_unknowns(len(directions))) and not accurate:
            found = expected_by_unknowns(solution, directions)
            if found is not None:
                return found
        if rows <= DENSE_ROWS:
            return expected_by_rows(solution, directions)
        if not linear:
            raise InferenceError(
                "the expected information of structures that are not linear in their parameters is not "
                f"available beyond {DENSE_ROWS} effects and rows, nor for fields or series of more; use "
                "information='observed'"
            )
        return expected_by_differences(solution, self.natural)

    def gradients(self, ddf: str, information: str, fixed: FixedRows, phi: np.ndarray) -> np.ndarray:
        """d(K Phi K') / dt (t, r, r), absolute scale."""
        directions = self.directions(ddf, information)
        moved = self._moved(directions, fixed)
        return self.solution.sigma2 * covariance_gradients(self.solution, directions, fixed, moved)

    def _moved(self, directions: list[Direction], fixed: FixedRows) -> Moved:
        """The directions at the projected side of the rows, kept for the next question about them."""
        known = self._latest
        if known is None or known[0] is not directions or known[1] is not fixed:
            known = self._latest = (directions, fixed, Moved(self.solution, directions, fixed.projected))
        return known[2]

    def adjustment(self, information: str, fixed: FixedRows, second_derivatives: bool = False) -> np.ndarray:
        """Kenward & Roger's Phi_A - Phi for the rows (r, r), absolute scale."""
        directions = self.directions("kenward-roger", information)
        W = self.covariance("kenward-roger", information)
        out = 2.0 * weighted_form(self.solution, directions, W, fixed, self._moved(directions, fixed))
        if second_derivatives:
            J = self.natural.jacobian
            natural = J @ W @ J.T if directions is self.chart else W
            out = out - 0.5 * curvature_form(self.solution, self.natural, natural, fixed)
        return self.solution.sigma2 * out
