"""Mixtures of chi-squares: the distribution of a likelihood ratio when variances of zero are tested.

A variance cannot be estimated below zero, so that under the hypothesis the ratio is zero about half the time.
With r unrestricted parameters beside the variances the weights w_i belong to chi-squares of r + i degrees of
freedom (Self & Liang 1987, J. Am. Stat. Assoc. 82:605-610; Stram & Lee 1994, Biometrics 50:1171-1177).
Weights of two and three variances depend on the correlations of their unrestricted estimates, as the share of
a normal vector in an orthant does (Kudo 1963, Biometrika 50:403-418).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.multiplicity.distributions import chi2_upper


@dataclass(frozen=True)
class Mixture:
    """Weights of chi-squares.

    Attributes
    ----------
    df : tuple of int
    weights : tuple of float
    """

    df: tuple[int, ...]
    weights: tuple[float, ...]

    def upper(self, x: float) -> float:
        """P(X >= x), 1 at zero."""
        if x <= 0.0:
            return 1.0
        return float(sum(w * chi2_upper(x, df) for df, w in zip(self.df, self.weights, strict=True) if df))

    def __str__(self) -> str:
        parts = zip(self.df, self.weights, strict=True)
        return " + ".join(f"{weight:.4g} chi2({df})" for df, weight in parts)


def one_variance(free: int) -> Mixture:
    """A variance tested together with `free` unrestricted parameters."""
    return Mixture((free, free + 1), (0.5, 0.5))


def several_variances(correlation: np.ndarray, free: int) -> Mixture | None:
    """Up to three variances, whose unrestricted estimates have this correlation (j, j); None for more."""
    j = len(correlation)
    if j == 1:
        return one_variance(free)
    if j > 3:
        return None
    df = tuple(range(free, free + j + 1))
    if j == 2:
        both = 0.25 + np.arcsin(np.clip(correlation[0, 1], -1, 1)) / (2.0 * np.pi)
        return Mixture(df, (0.5 - float(both), 0.5, float(both)))
    angles = [float(np.arccos(np.clip(correlation[a, b], -1, 1))) for a, b in ((0, 1), (0, 2), (1, 2))]
    precision = np.linalg.inv(correlation)
    scale = np.sqrt(np.diag(precision))
    partial = -precision / np.outer(scale, scale)
    given = [float(np.arccos(np.clip(partial[a, b], -1, 1))) for a, b in ((0, 1), (0, 2), (1, 2))]
    three = 0.5 - sum(angles) / (4.0 * np.pi)
    two = 0.75 - sum(given) / (4.0 * np.pi)
    return Mixture(df, (0.5 - two, 0.5 - three, two, three))
