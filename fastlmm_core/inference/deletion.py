"""What deleting rows changes, at the variance parameters of the whole: a mean shift for each of them.

With a column d_i for every row i of a set, D = (d_i), the model without these rows is that with D among its
fixed columns.  For M = D'PD, r = D'Py and S the part of the fixed effects in C^-1 A' R^-1 D, exactly at these
parameters,

    b(D) - b         = -S M^-1 r
    Var(b(D))        = sigma2 (Phi + S M^-1 S'),        Var(b) = sigma2 Phi

(Christensen, Pearson & Johnson 1992, Technometrics 34, 38-45; Haslett & Dillane 2004, Biometrika 91, 131-143;
Demidenko & Stukel 2005, Statist. Med. 24, 893-909).  All measures follow from M, r and B = S' Phi^-1 S, which
are as large as the set, however many fixed effects there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

# Smallest eigenvalue of D'PD relative to D'R^-1 D below which the rows decide a fixed effect alone.
DETERMINED = 1e-10


@dataclass(frozen=True)
class Deletion:
    """Measures of the deletion of one set of rows.

    Attributes
    ----------
    shift : (k,) float64
        Estimates of the mean shifts: observed less predicted from all other rows.
    cooks_d : float
        (b(D) - b)' Var(b)^-1 (b(D) - b) / p.
    mdffits : float
        The same with Var(b(D)) (Belsley, Kuh & Welsch 1980).
    covtrace, covratio : float
        Trace of Var(b)^-1 Var(b(D)) less p, and its determinant.
    """

    shift: np.ndarray
    cooks_d: float
    mdffits: float
    covtrace: float
    covratio: float


NOTHING = Deletion(np.zeros(0), np.nan, np.nan, np.nan, np.nan)


def deletion(M: np.ndarray, r: np.ndarray, B: np.ndarray, own: np.ndarray, p: int, scale: float) -> Deletion:
    """Deletion of a set of k rows.

    Parameters
    ----------
    M, B : (k, k)
        D'PD and S' Phi^-1 S.
    r : (k,)
        D'Py.
    own : (k,)
        Diagonal of D'R^-1 D, what M is judged against.
    p : int
        Fixed effects.
    scale : float
        sigma2.

    Returns
    -------
    Deletion
        With NaN where the fixed effects are not estimable without the rows.
    """
    size = 1.0 / np.sqrt(own)
    if np.linalg.eigvalsh(M * np.outer(size, size))[0] <= DETERMINED:
        return NOTHING
    factor = cho_factor(M)
    shift = cho_solve(factor, r)
    ratio = cho_solve(factor, B)  # M^-1 B
    moved = B @ shift
    inside = moved - B @ np.linalg.solve(M + B, moved)
    unit = p * scale
    return Deletion(
        shift, float(shift @ moved) / unit, float(shift @ inside) / unit, float(np.trace(ratio)),
        float(np.linalg.det(np.eye(len(r)) + ratio)),
    )  # fmt: skip


def moved_estimates(change: np.ndarray, phi: np.ndarray, half: np.ndarray, scale: float) -> Deletion:
    """The same measures from the estimates without the rows themselves.

    Parameters
    ----------
    change : (p,)
        b(D) - b.
    phi : (p, p)
        Phi(D).
    half : (p, p)
        L, L L' = Phi.
    """
    inside = solve_triangular(half, solve_triangular(half, phi, lower=True).T, lower=True)
    values = np.linalg.eigvalsh(0.5 * (inside + inside.T))
    if not values[-1] < 1.0 / DETERMINED:
        return NOTHING
    step, unit = solve_triangular(half, change, lower=True), change.size * scale
    return Deletion(
        np.zeros(0), float(step @ step) / unit, float(change @ np.linalg.solve(phi, change)) / unit,
        float(np.sum(values - 1.0)), float(np.prod(values)),
    )  # fmt: skip


@dataclass(frozen=True)
class SingleDeletions:
    """The same for every row alone, (n,) each, NaN where a row decides a fixed effect alone."""

    shift: np.ndarray
    cooks_d: np.ndarray
    mdffits: np.ndarray
    covtrace: np.ndarray
    covratio: np.ndarray


def single_deletions(
    m: np.ndarray, r: np.ndarray, b: np.ndarray, own: np.ndarray, p: int, scale: float
) -> SingleDeletions:
    """Deletion of each of n rows by itself; as `deletion`, with its 1 x 1 matrices in (n,) arrays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = m <= DETERMINED * own
        shift = np.where(alone, np.nan, r / m)
        square, ratio = shift * shift * b / (p * scale), b / m
        return SingleDeletions(
            shift, square, square * m / (m + b), np.where(alone, np.nan, ratio),
            np.where(alone, np.nan, 1.0 + ratio),
        )  # fmt: skip
