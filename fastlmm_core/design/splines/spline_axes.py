"""B-splines of one variable with their penalty: on equal segments, and with knots at the distinct values.

What the penalties are stands in ``penalized_splines``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class SplineAxis:
    """B-splines of one variable with their penalty.

    Attributes
    ----------
    knots : (k + degree + 1,) float64
        Increasing, `degree` of them beyond each end of the data.
    degree : int
    penalty : (k, k) csc_array
    null : (k, order) float64
        Coefficients of the polynomials that the penalty does not see.
    points : (m,) float64 or None
        Where the values of the smooth are orthogonal to these polynomials; None: its coefficients are.
    """

    knots: np.ndarray
    degree: int
    penalty: sp.csc_array
    null: np.ndarray
    points: np.ndarray | None = None

    @property
    def size(self) -> int:
        return self.null.shape[0]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value of the data."""
        return float(self.knots[self.degree]), float(self.knots[self.size])

    def basis(self, x: np.ndarray) -> sp.csr_array:
        """(n, k) values at x, beyond the data those of the outermost pieces (de Boor 1978, ch. X)."""
        p, t = self.degree, self.knots
        at = np.clip(np.searchsorted(t, x, side="right") - 1, p, self.size - 1)
        values = np.ones((x.size, 1))
        for j in range(1, p + 1):
            longer = np.zeros((x.size, j + 1))
            for r in range(j):
                low, high = t[at + 1 + r - j], t[at + 1 + r]
                share = values[:, r] / (high - low)
                longer[:, r] += share * (high - x)
                longer[:, r + 1] += share * (x - low)
            values = longer
        columns = at[:, None] - p + np.arange(p + 1)
        indptr = np.arange(x.size + 1) * (p + 1)
        return sp.csr_array((values.ravel(), columns.ravel(), indptr), shape=(x.size, self.size))

    @property
    def dropped(self) -> np.ndarray:
        """(order,) coefficients that are zero: as far apart as there are polynomials."""
        order = self.null.shape[1]
        return np.unique(np.round(np.linspace(0, self.size - 1, order)).astype(np.int64))

    def null_projection(self) -> tuple[np.ndarray, np.ndarray]:
        """N (k, order) and A (order, k) of the projection N A onto the polynomials, A N = I."""
        moved = self.null
        if self.points is not None:
            values = self.basis(self.points)
            moved = np.asarray(values.T @ (values @ moved))
        root = np.linalg.cholesky(self.null.T @ moved)
        return np.linalg.solve(root, self.null.T).T, np.linalg.solve(root, moved.T)

    def spectrum(self) -> tuple[np.ndarray, float]:
        """(k,) eigenvalues of the penalty, those of the null space 0, and log |N| of its dropped rows."""
        values = np.linalg.eigvalsh(self.penalty.toarray())
        values[: self.null.shape[1]] = 0.0
        orthonormal = np.linalg.qr(self.null)[0]
        return values, float(np.linalg.slogdet(orthonormal[self.dropped])[1])


def equal_segments(x: np.ndarray, n_segments: int, degree: int, order: int) -> SplineAxis:
    """B-splines on equal segments of [min, max], penalized by differences of their coefficients."""
    low, high = float(x.min()), float(x.max())
    step = (high - low) / n_segments
    knots = low + step * np.arange(-degree, n_segments + degree + 1)
    knots[n_segments + degree] = high
    return SplineAxis(knots, degree, *difference_penalty(n_segments + degree, order))


@lru_cache(maxsize=64)
def difference_penalty(k: int, order: int) -> tuple[sp.csc_array, np.ndarray]:
    """D'D (k, k) of differences of k coefficients, and the polynomials (k, order) it does not see.

    The trials of a batch ask for the same few again and again.
    """
    D = sp.csc_array(sp.eye_array(k))
    for _ in range(order):
        D = sp.csc_array(D[1:] - D[:-1])
    return sp.csc_array(D.T @ D), np.vander(np.linspace(-1.0, 1.0, k), order, increasing=True)


def smoothing_spline(x: np.ndarray) -> SplineAxis:
    """Cubic B-splines with knots at the distinct values, penalized by the integral of f''^2.

    f'' is linear between the knots, so that Simpson's rule integrates its square exactly.
    """
    inner = np.unique(x)
    h = np.diff(inner)
    before = inner[0] - h[0] * np.arange(3, 0, -1)
    after = inner[-1] + h[-1] * np.arange(1, 4)
    knots = np.concatenate([before, inner, after])
    k = inner.size + 2
    second = _second_derivatives(knots, k)  # (m, k) f'' at the knots
    left, right = second[:-1], second[1:]
    middle = (left + right) * 0.5
    weight = sp.diags_array(h / 6.0)
    penalty = left.T @ weight @ left + 4.0 * (middle.T @ weight @ middle) + right.T @ weight @ right
    greville = (knots[1 : k + 1] + knots[2 : k + 2] + knots[3 : k + 3]) / 3.0
    centre = 0.5 * (inner[0] + inner[-1])
    null = np.column_stack([np.ones(k), (greville - centre) / (inner[-1] - inner[0])])
    return SplineAxis(knots, 3, sp.csc_array(penalty), null, inner)


def _second_derivatives(knots: np.ndarray, k: int) -> sp.csr_array:
    """(m, k) f'' at the m data knots of cubic B-splines: linear B-splines of second divided differences."""
    first = sp.diags_array([-np.ones(k), np.ones(k - 1)], offsets=[0, 1], shape=(k - 1, k))
    slopes = sp.diags_array(3.0 / (knots[4 : k + 3] - knots[1:k])) @ first
    second = sp.diags_array([-np.ones(k - 1), np.ones(k - 2)], offsets=[0, 1], shape=(k - 2, k - 1))
    return sp.csr_array(sp.diags_array(2.0 / (knots[4 : k + 2] - knots[2:k])) @ second @ slopes)
