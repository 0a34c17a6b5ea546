"""Where the search for the covariance of the visits of a subject begins: moments of the residuals."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.structures.coefficients.moments import start_at
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE


def start_of_visits(structure: Any, total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """theta of the covariance of the visits of one arm.

    Parameters
    ----------
    total, count : (m, m)
        Sums of the products of two visits, and how many there are.
    """
    T = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    spread = np.diag(T)
    told = spread > LEAST_SQUARE  # not where the fixed part explains the rows, up to rounding
    default = float(spread[told].mean()) if np.any(told) else 1.0
    sd = np.sqrt(np.where(told, spread, default))
    apart = _start_of_gaps(structure, total, count, sd)
    if apart is not None:
        return apart
    values, vectors = np.linalg.eigh(np.where(count > 1, T, 0.0) / np.outer(sd, sd))
    if not values.max() > 0.0:  # of one subject, whom the fixed part explains, nothing is known
        values = np.ones_like(values)
    correlation = (vectors * np.maximum(values, 0.05 * values.max())) @ vectors.T
    unit = 1.0 / np.sqrt(np.diag(correlation))
    return start_at(structure, correlation * np.outer(unit, unit), sd)


def _start_of_gaps(structure: Any, total: np.ndarray, count: np.ndarray, sd: np.ndarray) -> np.ndarray | None:
    """Where a process over positions starts whose visits are mostly more than one apart, None for others.

    rho^lag is flat at rho = 0 from a lag of 3 on: a search that begins there ends there.
    """
    lags = np.abs(np.subtract.outer(np.arange(sd.size), np.arange(sd.size))).ravel()
    pairs = np.bincount(lags, weights=count.ravel())
    pairs[0] = 0.0
    lag = int(np.argmax(pairs))
    if lag < 2:
        return None
    products = np.bincount(lags, weights=(total / np.outer(sd, sd)).ravel())
    found: np.ndarray | None = structure.start_at_distance(sd, products[lag] / pairs[lag], lag)
    return found
