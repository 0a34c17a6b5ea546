"""Responses from resampled residuals and predictions of random effects, inflated to the estimated variances.

Predictions are shrunk: their empirical covariance S is smaller than the estimated T. They are centred and
multiplied by a matrix A with A S A' = T, then drawn with replacement, level by level with all coefficients of
a level together; residuals likewise (Carpenter, Goldstein & Rasbash 2003, J. R. Stat. Soc. C 52:431-443).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import InferenceError
from fastlmm_core.intervals.simulation import level_columns, marginal_mean
from fastlmm_core.structures.coefficients.unstructured import lower_factor

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

Draw = Callable[[int, np.random.Generator], np.ndarray]


def residual_draw(fit: RandomPart) -> Draw:
    """A function (k, generator) to responses (n, k).

    Raises
    ------
    InferenceError
        For a model with related levels or residuals, whose effects cannot be drawn one by one.
    """
    if fit.structured:
        raise InferenceError(
            "the residual bootstrap draws levels and residuals one by one, which related ones do not allow; "
            "use kind='parametric'"
        )
    solved = fit.plain
    pools = []
    for k, (random, term) in enumerate(zip(fit.design.random, solved.equations.terms, strict=True)):
        T = solved.user_sigma2 * solved.user_covariance(k)
        Z = level_columns(random.codes, np.asarray(random.values, float), term.n_levels)
        pools.append((Z, inflated(solved.user_random_effects(k), T)))
    root_w = np.ones(fit.nobs) if fit.weights is None else np.sqrt(fit.weights)
    residuals = inflated((fit.residuals * root_w)[:, None], np.array([[solved.user_sigma2]]))[:, 0]
    mean = marginal_mean(fit)

    def draw(count: int, rng: np.random.Generator) -> np.ndarray:
        out = np.empty((fit.nobs, count))
        for c in range(count):
            y = mean + rng.choice(residuals, fit.nobs) / root_w
            for Z, effects in pools:
                y = y + Z @ effects[rng.integers(0, len(effects), len(effects))].ravel()
            out[:, c] = y
        return out

    return draw


def inflated(effects: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Effects (L, m), centred and transformed so that their mean square is T (m, m).

    Directions in which all predictions are zero stay there.
    """
    centred = effects - effects.mean(axis=0)
    S = centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(S)
    varies = values > 1e-12 * max(float(np.trace(T)), 1e-300)
    inverse_root = (vectors[:, varies] / np.sqrt(values[varies])) @ vectors[:, varies].T
    return np.asarray(centred @ inverse_root @ lower_factor(T).T)
