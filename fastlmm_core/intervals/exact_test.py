"""The exact likelihood-ratio test of the one variance component of a model.

Under a variance of zero the (restricted) likelihood ratio of y = X beta + Z u + e has the distribution of

    sup over lambda >= 0 of  m log(1 + N / D) - sum_k log(1 + lambda xi_k)
    N = sum_k lambda mu_k / (1 + lambda mu_k) w_k^2,   D = sum_k w_k^2 / (1 + lambda mu_k) + sum_(k>K) w_k^2

with n - p independent standard normals w, and mu_k the eigenvalues of Z' (I - X (X'X)^-1 X') Z; m = n - p and
xi = mu for REML, m = n and xi those of Z'Z for ML (Crainiceanu & Ruppert 2004, J. R. Stat. Soc. B 66:165-185,
theorems 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.errors import InferenceError
from fastlmm_core.intervals.simulation import level_columns

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

# Levels up to which the eigenvalues are computed.
MOST_LEVELS = 5_000
# lambda times the mean eigenvalue on a logarithmic grid; between its points a parabola.
GRID = np.concatenate(
    [np.logspace(-5.0, -2.0, 13)[:-1], np.logspace(-2.0, 2.0, 61), np.logspace(2.0, 7.0, 16)[1:]]
)
# Draws at a time.
CHUNK = 4_000


@dataclass(frozen=True)
class Spectrum:
    """What the distribution depends on.

    Attributes
    ----------
    mu, xi : (K,) float64
        Eigenvalues above zero, those of the penalty in order.
    rest : int
        n - p - K: normals without an eigenvalue.
    m : int
    """

    mu: np.ndarray
    xi: np.ndarray
    rest: int
    m: int

    def simulate(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Likelihood ratios (draws,) under a variance of zero."""
        grid = GRID / self.mu.mean()
        scaled = self.mu[:, None] * grid
        penalty = np.log1p(self.xi[:, None] * grid).sum(axis=0)
        values, counts = np.unique(np.round(self.mu / self.mu.max(), 12), return_inverse=True)
        multiplicity = np.bincount(counts)
        first = np.array([np.flatnonzero(counts == k)[0] for k in range(values.size)])
        numerator, denominator = scaled[first] / (1.0 + scaled[first]), 1.0 / (1.0 + scaled[first])
        out = np.empty(draws)
        for at in range(0, draws, CHUNK):
            size = min(CHUNK, draws - at)
            squares = rng.chisquare(multiplicity, (size, values.size))
            rest = rng.chisquare(self.rest, (size, 1)) if self.rest else np.zeros((size, 1))
            ratio = squares @ numerator / (squares @ denominator + rest)
            out[at : at + size] = supremum(self.m * np.log1p(ratio) - penalty)
        return out


def supremum(values: np.ndarray) -> np.ndarray:
    """Largest of every row on the even steps of the grid, with the parabola through it, and zero."""
    at = np.clip(np.argmax(values, axis=1), 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, at + step] for step in (-1, 0, 1))
    x = np.log(GRID)
    h0, h1 = x[at] - x[at - 1], x[at + 1] - x[at]
    slope0, slope1 = (middle - left) / h0, (right - middle) / h1
    bend = (slope1 - slope0) / (h0 + h1)
    slope = (slope0 * h1 + slope1 * h0) / (h0 + h1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where((bend < 0.0) & (middle >= left) & (middle >= right), -0.25 * slope**2 / bend, 0.0)
    return np.maximum(np.maximum(middle + gain, values.max(axis=1)), 0.0)


def spectrum(fit: RandomPart) -> Spectrum:
    """The spectrum of a model with one random term of one coefficient.

    Raises
    ------
    InferenceError
        For any other model.
    """
    random = fit.design.random
    if fit.structured or len(random) != 1 or len(random[0].columns) != 1:
        raise InferenceError(
            "the exact test is of a model with one variance component beside the residual; use "
            "ranova(exact=False)"
        )
    levels = len(random[0].levels)
    if levels > MOST_LEVELS:
        raise InferenceError(
            f"the exact test takes the eigenvalues of {levels} levels; it is offered up to {MOST_LEVELS}"
        )
    root = np.ones(fit.nobs) if fit.weights is None else np.sqrt(fit.weights)
    Z = sp.csr_array(sp.diags_array(root) @ level_columns(random[0].codes, random[0].values, levels))
    equations = fit.plain.equations  # whose columns are centred and scaled: powers of a year are collinear
    X = sp.csr_array(sp.diags_array(root) @ equations.X_inside)
    whole, cross = (Z.T @ Z).toarray(), (X.T @ Z).toarray()
    projected = whole - cross.T @ equations.fixed_solver(cross) if fit.rank else whole
    mu = np.linalg.eigvalsh(0.5 * (projected + projected.T))[::-1]
    mu = mu[mu > 1e-10 * max(mu[0], 1e-300)]
    if not mu.size:
        raise InferenceError("the random term lies within the fixed part: there is no variance to test")
    xi = mu if fit.reml else np.linalg.eigvalsh(whole)[::-1]
    p = fit.rank
    return Spectrum(mu, xi[xi > 0.0], fit.nobs - p - mu.size, fit.nobs - p if fit.reml else fit.nobs)


def exact_p(fit: RandomPart, statistic: float, draws: int, seed: int | None) -> tuple[float, float]:
    """P(ratio >= statistic) with its Monte Carlo standard error; 1 at a statistic of zero."""
    found = spectrum(fit)
    if statistic <= 0.0:
        return 1.0, 0.0
    ratios = found.simulate(draws, np.random.default_rng(seed))
    p = (1.0 + float(np.sum(ratios >= statistic))) / (draws + 1.0)
    return p, float(np.sqrt(p * (1.0 - p) / draws))
