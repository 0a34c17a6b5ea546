"""Random terms as the engine takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.null_space import NullSpace
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.levels.base import LevelStructure
from fastlmm_core.structures.registry import make_coefficient_structure
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE


def coefficient_structure(term: Any) -> CoefficientStructure:
    """Covariance of the coefficients of a random term of the design."""
    return make_coefficient_structure(term.structure, len(term.columns), **dict(term.options))


# Size of the variance of a level, or its inverse, up to which coefficients keep the units of the user.
LARGEST_RELATION = 1e4


def unit_of_relation(size: float) -> float:
    """What takes coefficients to units in which their variances are of order one, where a relation is not.

    The search has theta of order one: 1e-12 of a curvature is rounding beside it. Ordinary sizes stay as they
    are, and so do their digits.

    Parameters
    ----------
    size : float
        Typical variance of a level of the relation.
    """
    ordinary = 1.0 / LARGEST_RELATION <= size <= LARGEST_RELATION or not 0.0 < size < np.inf
    return 1.0 if ordinary else float(2.0 ** -np.round(0.5 * np.log2(size)))


@dataclass(frozen=True)
class EngineTerm:
    """A random term as the engine takes it.

    Attributes
    ----------
    structure : CoefficientStructure
        Covariance of the m coefficients of a level, in the inside basis.
    levels : LevelStructure or None
        Precision of the levels; None for independent ones.
    matrices : tuple of (n, L) csr_array
        Incidence of every coefficient on the levels, inside basis.
    basis : (m, m) float64
        u_user = basis u_inside, T_user = basis T_inside basis'.
    root : (L_user, L) float64 or None
        u_user = root u for a relationship of low rank; None where the levels are the user's.
    null : NullSpace or None
        Polynomials that a spline leaves to the fixed part.
    response_square : (m,) float64 or None
        Mean square of the response's residuals where each coefficient acts; None for one.
    apart : bool
        Of a term that may, that factors and specific effects stand in nodes of their own.
    """

    structure: CoefficientStructure
    levels: LevelStructure | None
    matrices: tuple[sp.csr_array, ...]
    basis: np.ndarray
    root: np.ndarray | None = None
    null: NullSpace | None = None
    response_square: np.ndarray | None = None
    apart: bool = False

    @property
    def n_levels(self) -> int:
        return int(self.matrices[0].shape[1])

    @property
    def m(self) -> int:
        return len(self.matrices)

    @property
    def width(self) -> int:
        return int(self.structure.width)

    @property
    def n_level_theta(self) -> int:
        return 0 if self.levels is None else self.levels.n_theta

    @property
    def separate(self) -> bool:
        """Whether every coefficient of a level has a node of its own, beside one for what they share.

        So that a relation of L levels joins m groups of L instead of all m L, and an environment only what
        stands in it.
        """
        return self._divides and (self.apart or not self.may_stand_apart)

    @cached_property
    def may_stand_apart(self) -> bool:
        """Whether the order of elimination decides that: of factors of unrelated levels.

        In one node with the specific effects the second derivatives that the search takes from there cost
        nothing.
        """
        if not self.structure.shared_columns or self.levels is not None or not self._divides:
            return False
        return all(int(np.diff(M.indptr).max(initial=0)) < 2 for M in self.matrices)

    @cached_property
    def _divides(self) -> bool:
        """Coefficients that meet in no row, some of them shared by nothing."""
        if self.structure.shared_columns is None or self.m == 1:
            return False
        if np.any(self.basis - np.diag(np.diag(self.basis))):
            return False
        met = sum((np.diff(M.indptr) > 0).astype(np.int64) for M in self.matrices)
        return bool(np.max(met, initial=0) <= 1)

    @cached_property
    def column_scale(self) -> np.ndarray:
        """What makes a variance of each coefficient one of the response where it acts (m,).

        The mean square of its entries times the variance of a level, relative to the mean square of the
        response in their rows: traits in other units have variances of other sizes.
        """
        own = np.array([float(np.mean(M.data**2)) if M.nnz else 1.0 for M in self.matrices])
        own *= 1.0 if self.levels is None else self.levels.typical_size
        return own if self.response_square is None else own / self.response_square

    def for_response(self, e: np.ndarray) -> EngineTerm:
        """The same term beside the response whose residuals are e (n,)."""
        square = np.ones(self.m)
        for a, M in enumerate(self.matrices):
            weight = M.data**2
            rows = np.repeat(np.arange(M.shape[0]), np.diff(M.indptr))
            total = float(weight.sum())
            own = float(weight @ (e[rows] ** 2)) / total if total > 0.0 else 0.0
            if own > LEAST_SQUARE:  # the fixed part may leave nothing, as of an environment of one plot
                square[a] = own
        return replace(self, response_square=square)
