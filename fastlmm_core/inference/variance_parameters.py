"""Covariance matrix of the variance parameters of a fit: the inverse of their information."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.engine.equations.confounding import Confounded, confounded_error
from fastlmm_core.errors import InferenceError
from fastlmm_core.inference import kenward_roger, satterthwaite
from fastlmm_core.inference.component_figures import invert_information, told_basis
from fastlmm_core.reml.information import (
    information_matrix,
    natural_parameters,
    untold_directions,
    untold_shares,
)

if TYPE_CHECKING:
    from fastlmm_core.reml.information import NaturalParameters
    from fastlmm_core.reml.solved import SolvedEquations


class VarianceParameterInference:
    """Covariance of the variance parameters by method, computed once per fit and shared by all tables.

    Parameters
    ----------
    solved : SolvedEquations
    groups : tuple of str
        Name of every random term, for messages.
    confounded : Confounded
        What of the random part lies within the fixed part.
    """

    def __init__(self, solved: SolvedEquations, groups: tuple[str, ...], confounded: Confounded):
        self.solved = solved
        self.groups = groups
        self.confounded = confounded
        self._covariances: dict[tuple[str, str], np.ndarray] = {}
        # Kept by ``joint_covariance`` for all tables of the fit.
        self.coefficient_covariances: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What is found again from the rest is not pickled: it may be larger than the fit."""
        return self.__dict__ | {"coefficient_covariances": {}}

    @cached_property
    def parameters(self) -> NaturalParameters:
        """Natural parameters of the fit."""
        return natural_parameters(self.solved)

    @cached_property
    def untold(self) -> np.ndarray:
        """Directions (j, d) of the parameters of which the data say nothing."""
        return untold_directions(self.parameters, self.confounded.parts)

    @cached_property
    def untold_shares(self) -> np.ndarray:
        """M (p, c) in the user's fixed effects: functions K with K M other than 0 have no known variance."""
        return untold_shares(self.solved, self.confounded.terms | self.confounded.parts)

    @property
    def n_rows(self) -> int:
        """Unknowns of the equations, for forecasts of memory."""
        return self.solved.equations.q + self.solved.equations.p

    @property
    def n_parameters(self) -> int:
        return self.parameters.size + 1

    def gradients(self, ddf: str, information: str, B: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """d(K Phi K') / d(sigma2 t, sigma2), (d + 1, r, r)."""
        return kenward_roger.covariance_gradients(self.solved, self.parameters, B, phi)

    def adjustment(self, information: str, B: np.ndarray, second_derivatives: bool = False) -> np.ndarray:
        """Kenward & Roger's Phi_A - Phi for the rows (r, r); V is linear, its second derivatives are zero."""
        weights = self.covariance("kenward-roger", information)
        return kenward_roger.covariance_adjustment(self.solved, self.parameters, B, weights)

    def covariance(self, ddf: str, information: str) -> np.ndarray:
        """Covariance of (sigma2 t, sigma2), (d + 1, d + 1).

        Raises
        ------
        InferenceError
            When the information is not positive definite, so that no degrees of freedom follow from it, or
            when a random term lies within the fixed part.
        """
        key = (ddf, information if ddf == "kenward-roger" else "")
        if key not in self._covariances:
            if self.confounded.terms:  # P Z_k = 0: what information is left is rounding
                raise confounded_error([self.groups[k] for k in self.confounded.terms])
            if self.solved.sigma2 <= 0.0:  # a perfect fit: nothing is left to learn a variance from
                value = np.full((self.parameters.size + 1,) * 2, np.nan)
            elif ddf == "satterthwaite":
                value = satterthwaite.parameter_covariance(self.solved, self.parameters, self.untold)
            else:
                value = self._inverse_information(information)
            self._covariances[key] = value
        return self._covariances[key]

    def _inverse_information(self, kind: str) -> np.ndarray:
        """Inverse of an information matrix, zero along directions of which the data say nothing."""
        natural = information_matrix(self.solved, self.parameters, kind)
        if not len(self.untold):
            return _invert(natural, kind)
        told = told_basis(self.untold)
        return told @ _invert(told.T @ natural @ told, kind) @ told.T


def _invert(information: np.ndarray, kind: str) -> np.ndarray:
    """Inverse of an information matrix, or why there is none."""
    if np.any(np.diag(information) <= 0.0):
        way = "use information='expected'" if kind != "expected" else "simplify the random part"
        raise InferenceError(
            f"the {kind} information about the variance parameters is not positive definite at this fit; "
            f"{way}"
        )
    inverse = invert_information(information[None])[0]
    if np.isnan(inverse).any():
        raise InferenceError(
            f"the {kind} information about the variance parameters is singular: two of them cannot be told "
            "apart in these data; simplify the random part"
        )
    return inverse
