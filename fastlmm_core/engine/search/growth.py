"""Variances that are zero: where they would grow to, and whether the deviance falls that way."""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.terms import EngineTerm

# Variance of a start away from zero, relative to the response's.
GROWN = 0.1


def growth_starts(term: EngineTerm, T: np.ndarray, S: np.ndarray, tiny: np.ndarray) -> list[np.ndarray]:
    """theta of the term with more variance, for each coefficient whose variance is `tiny` (m,).

    Where all are, the mixture of coefficients that S = dD/dT (m, m) wants most is one more.
    """
    directions = list(np.eye(term.m)[tiny])
    root = np.sqrt(term.column_scale)
    if tiny.all() and term.m > 1:
        directions.append(np.linalg.eigh(S / np.outer(root, root))[1][:, 0])
    moves = [direction / root for direction in directions]
    return [np.asarray(term.structure.theta_of(T + GROWN * np.outer(move, move))) for move in moves]


def growth_score(term: EngineTerm, T: np.ndarray, S: np.ndarray, start: np.ndarray) -> float:
    """Slope of the deviance D from T (m, m) towards the covariance at `start`, for a unit of variance.

    Of structures that tie variances to each other all of them grow, whatever S = dD/dT says of one.
    """
    move = term.structure.covariance(start) - T
    return float(np.sum(S * move) / np.abs(np.diag(move)).max())
