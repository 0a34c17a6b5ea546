"""Covariances of linear functions of the fixed effects: of all together, or of each alone if that is enough.

Variances of thousands of functions take solves with that many right-hand sides; their covariance matrix, its
derivatives and Kenward and Roger's adjustment take products of thousands by thousands beside them, and the
solutions of all at once. Tables of means need the former only, and so do as many contrasts of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.inference.row_covariances import row_quadratic
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.linalg.memory import check_memory

ParameterInference = VarianceParameterInference | StructureInference

# Functions from which on they are taken together only where that is asked for, and how many are at a time.
ROW_BLOCK = 256
# Rows for each coefficient from which on what is known of all coefficients is cheaper than a table's own.
SHARED = 0.5
# Variance that a function would have if nothing cancelled, relative to its own, up to which the covariance of
# the coefficients has the digits: five of them may be lost.
LARGEST_SHARE = 1e5
# Numbers up to which room is not asked for, and of all coefficients at most so many are found for a table's.
MOST_NUMBERS = 125_000_000


class Adjusting(NamedTuple):
    """How errors and df are found: arguments of ``linear_functions``."""

    ddf: str
    information: str
    second_derivatives: bool

    @property
    def uncertain(self) -> bool:
        """Whether the errors of the variance parameters enter."""
        return self.ddf in ("kenward-roger", "satterthwaite")


class Diagonals(NamedTuple):
    """Variances of r functions: adjusted (r,), unadjusted (r,) and derivatives of the latter (d + 1, r)."""

    adjusted: np.ndarray
    unadjusted: np.ndarray
    gradients: np.ndarray


@dataclass(frozen=True)
class JointCovariance:
    """Covariance matrices of r functions.

    Attributes
    ----------
    adjusted, unadjusted : (r, r)
        With and without Kenward and Roger's adjustment.
    gradients : (d + 1, r, r)
        Derivatives of `unadjusted` in the variance parameters.
    """

    adjusted: np.ndarray
    unadjusted: np.ndarray
    gradients: np.ndarray

    @property
    def joint(self) -> JointCovariance:
        return self

    @property
    def diagonals(self) -> Diagonals:
        gradients = np.einsum("iaa->ia", self.gradients)
        return Diagonals(np.diag(self.adjusted), np.diag(self.unadjusted), gradients)

    def diagonals_of(self, A: sp.csr_array) -> Diagonals:
        """Those of the functions A (c, r) of these, without any c x c matrix."""
        unadjusted = row_quadratic(A, self.unadjusted)
        adjusted = unadjusted if self.adjusted is self.unadjusted else row_quadratic(A, self.adjusted)
        gradients = np.array([row_quadratic(A, own) for own in self.gradients]).reshape(-1, A.shape[0])
        return Diagonals(adjusted, unadjusted, gradients)

    def combined(self, A: Any) -> JointCovariance:
        """That of the functions A (c, r) of these, an array or sparse."""

        def form(matrix: np.ndarray) -> np.ndarray:
            return np.asarray(A @ np.asarray(A @ matrix).T)  # the matrices are symmetric

        unadjusted = form(self.unadjusted)
        adjusted = unadjusted if self.adjusted is self.unadjusted else form(self.adjusted)
        gradients = np.zeros((len(self.gradients), *unadjusted.shape))
        for own, of in zip(gradients, self.gradients, strict=True):
            own[...] = form(of)
        return JointCovariance(adjusted, unadjusted, gradients)

    def rescaled(self, slope: np.ndarray) -> JointCovariance:
        """That of each function times its own factor (r,)."""
        both = np.outer(slope, slope)
        return JointCovariance(self.adjusted * both, self.unadjusted * both, self.gradients * both)


class DeferredCovariance:
    """Covariance matrices of the rows K (r, p) of kept coefficients, formed when they are asked for.

    What is pickled is their matrices.
    """

    def __init__(self, inference: ParameterInference, K: Any, adjusting: Adjusting):
        self.inference, self.K, self.adjusting = inference, K, adjusting

    @cached_property
    def joint(self) -> JointCovariance:
        return covariance_of_rows(self.inference, self.K, self.adjusting)

    @cached_property
    def diagonals(self) -> Diagonals:
        if "joint" in self.__dict__ or self.K.shape[0] <= ROW_BLOCK:
            return self.joint.diagonals
        parts = [
            covariance_of_rows(self.inference, self.K[first : first + ROW_BLOCK], self.adjusting).diagonals
            for first in range(0, self.K.shape[0], ROW_BLOCK)
        ]
        return Diagonals(*(np.concatenate(figures, axis=-1) for figures in zip(*parts, strict=True)))

    def diagonals_of(self, A: sp.csr_array) -> Diagonals:
        if "joint" in self.__dict__ or A.shape[0] > self.K.shape[0]:
            return self.joint.diagonals_of(A)
        return DeferredCovariance(self.inference, A @ self.K, self.adjusting).diagonals

    def rescaled(self, slope: np.ndarray) -> RescaledCovariance:
        return RescaledCovariance(self, slope)

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.joint
        return JointCovariance, (own.adjusted, own.unadjusted, own.gradients)


class RescaledCovariance:
    """Those of a `DeferredCovariance`, each function times its own factor (r,)."""

    def __init__(self, source: DeferredCovariance, slope: np.ndarray):
        self.source, self.slope = source, slope

    @cached_property
    def joint(self) -> JointCovariance:
        return self.source.joint.rescaled(self.slope)

    @cached_property
    def diagonals(self) -> Diagonals:
        return Diagonals(*(figures * self.slope**2 for figures in self.source.diagonals))

    def diagonals_of(self, A: sp.csr_array) -> Diagonals:
        return self.source.diagonals_of(sp.csr_array(A @ sp.diags_array(self.slope)))

    def rescaled(self, slope: np.ndarray) -> RescaledCovariance:
        return RescaledCovariance(self.source, self.slope * slope)


RowCovariances = JointCovariance | DeferredCovariance | RescaledCovariance


def covariances_of_rows(inference: ParameterInference, K: Any, adjusting: Adjusting) -> RowCovariances:
    """Of the rows K (r, p) of kept coefficients: at once where they are few."""
    make = DeferredCovariance if K.shape[0] > ROW_BLOCK else covariance_of_rows
    return make(inference, K, adjusting)


def covariance_of_rows(inference: ParameterInference, K: Any, adjusting: Adjusting) -> JointCovariance:
    """Of the rows K (r, p) of kept coefficients, an array or sparse, in the units of the response.

    Tables of about as many rows as there are coefficients are combinations of what is known of these, found
    once for all tables of a fit. Sizes and the rows alone decide, so that no figure depends on what was asked
    before.
    """
    r, p = K.shape
    if r == 0:  # a model without fixed effects, y ~ 0 + (1|g)
        d = len(inference.covariance(adjusting.ddf, adjusting.information)) if adjusting.uncertain else 0
        return JointCovariance(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((d, 0, 0)))
    _check_memory(inference, r, adjusting)
    inside = _sparse_where_it_is(K) @ inference.solved.equations.to_user
    if p <= ROW_BLOCK and r >= SHARED * p and _numbers(inference, p, adjusting) <= MOST_NUMBERS:
        known = inference.coefficient_covariances
        if adjusting not in known:
            known[adjusting] = _covariance_inside(inference, np.eye(p), adjusting)
        shared = known[adjusting].combined(inside)
        if not _cancels(inside, known[adjusting].unadjusted, shared.unadjusted):
            return shared
    return _covariance_inside(inference, inside.toarray() if sp.issparse(inside) else inside, adjusting)


def _cancels(K: Any, coefficients: np.ndarray, functions: np.ndarray) -> bool:
    """Whether variances of functions K (r, p) are small differences of what the coefficients have.

    So it is of means at a covariate far from zero without an intercept: ``0 + gen + year``.
    """
    largest = np.asarray(abs(K) @ np.sqrt(np.abs(coefficients.diagonal()))) ** 2
    return bool((largest > LARGEST_SHARE * np.abs(functions.diagonal())).any())


def _sparse_where_it_is(K: Any) -> Any:
    if sp.issparse(K) or np.count_nonzero(K) > 0.2 * K.size:
        return K
    return sp.csr_array(K)


def _covariance_inside(
    inference: ParameterInference, inside: np.ndarray, adjusting: Adjusting
) -> JointCovariance:
    """Of rows (r, p) in the coefficients of the equations, in the units of the response."""
    solved, r = inference.solved, inside.shape[0]
    ddf, information, second_derivatives = adjusting
    B: Any
    B, phi_K = solved.solve_fixed(inside)
    phi = inside @ phi_K
    phi = 0.5 * (phi + phi.T)
    unadjusted = solved.sigma2 * phi
    adjusted, gradients = unadjusted, np.zeros((0, r, r))
    if adjusting.uncertain:
        gradients = inference.gradients(ddf, information, B, phi)
        if ddf == "kenward-roger":
            adjusted = unadjusted + inference.adjustment(information, B, second_derivatives)
    square = solved.unit * solved.unit
    if square != 1.0:
        unadjusted, same = unadjusted * square, adjusted is unadjusted
        adjusted = unadjusted if same else adjusted * square
    return JointCovariance(adjusted, unadjusted, gradients)


def _numbers(inference: ParameterInference, r: int, adjusting: Adjusting) -> int:
    """How many numbers the covariance of r functions, its derivatives and what they are made of have."""
    derivatives = inference.n_parameters if adjusting.uncertain else 0
    return r * r * (derivatives + 4) + 4 * r * inference.n_rows


def _check_memory(inference: ParameterInference, r: int, adjusting: Adjusting) -> None:
    """Refuse joint inference on so many functions that their covariance and its derivatives will not fit."""
    needed = _numbers(inference, r, adjusting)
    if needed > MOST_NUMBERS:
        what = f"joint inference ({adjusting.ddf}) on {r} functions of the fixed effects"
        check_memory(8 * needed, None, what)
