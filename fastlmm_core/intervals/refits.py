"""Refits of one model to many responses: estimates of every parameter, by the code that fits batches.

A plain model of the size of a trial goes through the kernel of ``fit_batch``, without the interpreter and
without its lock; what that kernel leaves to the general path, and every other model, is fitted as by ``lmm``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.search.driver import TOLERANCE
from fastlmm_core.errors import FastLMMError, FastLMMWarning, OptionError
from fastlmm_core.intervals.parameters import Parameter, fixed_parameters, held_parameters
from fastlmm_core.kernels.equations.systems import TrialDesign
from fastlmm_core.kernels.outcomes import OK
from fastlmm_core.kernels.thresholds import BOUNDARY
from fastlmm_core.kernels.trials.design import LARGEST_GRAPH
from fastlmm_core.kernels.trials.equations import (
    build_small_equations,
    factorize_fixed,
    locate_fixed,
    separate_search,
)
from fastlmm_core.kernels.trials.refits import refit_responses
from fastlmm_core.reml.fitting import fit_equations
from fastlmm_core.reml.optimizer import MAX_ITERATIONS
from fastlmm_core.reml.solved import SolvedEquations

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart


@dataclass(frozen=True)
class Refits:
    """Estimates from many responses.

    Attributes
    ----------
    estimates : (k, r) float64
        A row a response, a column a parameter; NaN where the fit failed.
    singular, failed : (k,) bool
    """

    estimates: np.ndarray
    singular: np.ndarray
    failed: np.ndarray


class Refitter:
    """Fits one model to responses.

    Parameters
    ----------
    fit : RandomPart
    statistic : callable, optional
        Of a fit, an array (r,); default every variance parameter, sigma and the fixed coefficients.
    """

    def __init__(self, fit: RandomPart, statistic: Callable[[RandomPart], np.ndarray] | None = None):
        self.fit, self.statistic = fit, statistic

    @cached_property
    def parameters(self) -> list[Parameter]:
        """Names of the columns of the estimates."""
        if self.statistic is not None:
            return [Parameter(f"t{i + 1}", "statistic") for i in range(self.estimates.size)]
        return [*(h.parameter for h in held_parameters(self.fit)), *fixed_parameters(self.fit)]

    @cached_property
    def estimates(self) -> np.ndarray:
        """The parameters at the fit itself (r,)."""
        return self._of_fit(self.fit)

    def refit(self, Y: np.ndarray) -> Refits:
        """Estimates from every column of Y (n, k)."""
        return self._compiled(Y) if self.compiled else self._one_by_one(Y)

    @cached_property
    def compiled(self) -> bool:
        """Whether refits run in the kernel, on any number of threads."""
        return self.statistic is None and self._small is not None

    # ------------------------------------------------------------------------------------------ one by one
    def _one_by_one(self, Y: np.ndarray) -> Refits:
        k = Y.shape[1]
        estimates = np.full((k, len(self.parameters)), np.nan)
        prepared, weights = self.fit.prepared, self.fit.own_weights
        singular, failed = np.zeros(k, bool), np.zeros(k, bool)
        for j in range(k):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FastLMMWarning)
                    again = prepared.fit(y=Y[:, j], weights=weights)
            except FastLMMError:
                failed[j] = True
                continue
            failed[j] = not again.converged
            if not failed[j]:
                estimates[j], singular[j] = self._of_fit(again), again.singular
        return Refits(estimates, singular, failed)

    def _of_fit(self, fit: RandomPart) -> np.ndarray:
        if self.statistic is not None:
            return self._own_statistic(fit)
        if fit.structured:
            values = [h.outer(h.value(fit.solved.theta)) for h in held_parameters(fit)]
            return np.append(values, fit.beta[fit.design.kept])
        solved = fit.plain
        beta = solved.beta + 0.0
        return self._plain_estimates(
            solved.theta[None], np.array([solved.user_sigma2]), beta[None] * solved.unit
        )[0]

    def _own_statistic(self, fit: RandomPart) -> np.ndarray:
        assert self.statistic is not None
        found = self.statistic(fit)
        try:
            values = np.atleast_1d(np.asarray(found, float)).ravel()
        except (TypeError, ValueError):
            raise OptionError(
                f"statistic returned a {type(found).__name__}; a number or an array of numbers is needed"
            ) from None
        # a single number would be taken for every column
        if fit is not self.fit and values.size != self.estimates.size:
            raise OptionError(
                f"statistic returned {values.size} numbers from a refit and {self.estimates.size} from the "
                "fit itself; NaN stands for what a refit does not have"
            )
        return values

    def _plain_estimates(self, theta: np.ndarray, sigma2: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Parameters (k, r) of k plain fits: theta (k, t), sigma2 (k,) in units of y, inside beta (k, p)."""
        e, columns = self.fit.plain.equations, []
        for k, term in enumerate(e.terms):
            own = theta[:, e.theta_term == k]
            factors = np.zeros((theta.shape[0], term.m, term.m))
            for t, (row, column) in enumerate(term.structure.positions):
                factors[:, row, column] = own[:, t]
            loadings = term.basis @ factors
            T = sigma2[:, None, None] * (loadings @ np.swapaxes(loadings, 1, 2))
            for i, j in term.structure.positions:
                if i == j:
                    columns.append(np.sqrt(T[:, i, i]))
                else:
                    with np.errstate(divide="ignore", invalid="ignore"):
                        columns.append(T[:, i, j] / np.sqrt(T[:, i, i] * T[:, j, j]))
        return np.column_stack([*columns, np.sqrt(sigma2), (e.to_user @ beta.T).T])

    # -------------------------------------------------------------------------------------------- compiled
    @cached_property
    def _small(self) -> tuple | None:
        """What ``refit_responses`` takes of the design; None for models of the general path."""
        fit = self.fit
        if fit.structured or not fit.design.random:
            return None
        e, design = fit.plain.equations, fit.design
        if e.coding.separation is not None or e.layout.term.size > LARGEST_GRAPH:
            return None
        X = sp.csc_array(design.X)
        codes = np.array([term.codes for term in design.random], dtype=np.int64)
        counts = np.array([t.n_levels for t in e.terms], dtype=np.int64)
        terms = zip(design.random, e.terms, strict=True)
        inside = [np.asarray(term.values, float) @ own.basis for term, own in terms]
        status, equations = build_small_equations(
            X.indptr.astype(np.int32), X.indices.astype(np.int32), np.ascontiguousarray(X.data), codes,
            counts, np.hstack(inside), e.sizes, e.weights, bool(design.has_intercept), not fit.reml,
        )  # fmt: skip
        if status != OK:
            return None
        K = len(e.terms)
        status, work, L_fixed = factorize_fixed(equations, K)
        if status != OK:
            return None
        search, lead, log_lead = separate_search(equations, K, work)
        # every column was kept: no null vectors; the bases are those of the terms already
        own = TrialDesign(
            search, lead, log_lead, L_fixed, locate_fixed(equations, K), e.parameters, np.empty((K, 0, 0)),
            np.arange(e.p), np.empty((0, 0)), np.empty(0), e.p,
        )  # fmt: skip
        return equations, own, e.weights

    def _compiled(self, Y: np.ndarray) -> Refits:
        fit, e, small = self.fit, self.fit.plain.equations, self._small
        assert small is not None
        offset = 0.0 if fit.offset is None else fit.offset[:, None]
        rows = np.ascontiguousarray((Y - offset).T)
        k = rows.shape[0]
        status, figures = np.empty(k, np.int64), np.empty((k, 4))
        theta, beta = np.empty((k, e.n_theta)), np.empty((k, e.p))
        refit_responses(*small, rows, fit.reml, TOLERANCE, MAX_ITERATIONS, status, figures, theta, beta)
        sigma2, singular, failed = figures[:, 1], figures[:, 3] > 0.0, np.zeros(k, bool)
        for j in np.flatnonzero(status != OK):
            solved, failed[j] = self._general(rows[j])
            theta[j], sigma2[j], beta[j] = solved.theta, solved.user_sigma2, solved.beta * solved.unit
            singular[j] = bool(np.any(np.abs(solved.theta[e.theta_row == e.theta_col]) < BOUNDARY))
        estimates = self._plain_estimates(theta, sigma2, beta)
        estimates[failed] = np.nan
        return Refits(estimates, singular & ~failed, failed)

    def _general(self, y: np.ndarray) -> tuple[SolvedEquations, bool]:
        """The fit as ``lmm`` does it of a response less offset, and whether it found no optimum."""
        prepared = self.fit.prepared
        solved, _, certificate = fit_equations(
            self.fit.plain.equations, y, reml=self.fit.reml, factor=prepared.factor.copy()
        )
        return solved, not certificate.optimal
