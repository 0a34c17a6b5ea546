"""B-splines and natural splines of one variable, with the knots and columns of R's ``bs`` and ``ns``.

De Boor (1978), A Practical Guide to Splines; Hastie & Tibshirani (1990), Generalized Additive Models, section
2.10. The basis is that of the fit on any data; beyond the boundary knots the outermost piece goes on, which
for a natural spline is a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.errors import DataError, ExtrapolationWarning
from fastlmm_core.formula.expressions import number_text
from fastlmm_core.gate import warn_caller

MAX_COLUMNS = 1000


@dataclass(frozen=True)
class SplineBasis:
    """A spline basis with its knots.

    Attributes
    ----------
    degree : int
    inner : (k,) float64
        Interior knots, increasing.
    ends : (2,) float64
        Boundary knots.
    natural : bool
        Zero second derivatives at the boundary knots.
    intercept : bool
        Whether the columns span the constant.
    """

    degree: int
    inner: np.ndarray
    ends: np.ndarray
    natural: bool
    intercept: bool

    @property
    def knots(self) -> np.ndarray:
        """All knots, the boundary ones repeated `degree` + 1 times."""
        low, high = self.ends
        return np.concatenate([[low] * (self.degree + 1), self.inner, [high] * (self.degree + 1)])

    def columns(self, x: np.ndarray) -> np.ndarray:
        """(n, k) columns at x (n,), NaN where x is missing."""
        known = ~np.isnan(x)
        values = self._at(x[known])
        out = np.full((x.size, values.shape[1]), np.nan)
        out[known] = values
        return out

    def _at(self, x: np.ndarray) -> np.ndarray:
        if not self.natural:
            return self._pieces(x)[:, 0 if self.intercept else 1 :]
        inside = np.clip(x, *self.ends)
        values = self._pieces(inside) + (x - inside)[:, None] * self._pieces(inside, 1)
        constraints = self._pieces(self.ends, 2)
        first = 0 if self.intercept else 1
        Q = np.linalg.qr(constraints[:, first:].T, mode="complete")[0]
        return np.asarray(values[:, first:] @ Q[:, 2:])

    def _pieces(self, x: np.ndarray, derivative: int = 0) -> np.ndarray:
        """(n, k + degree + 1) B-splines at x, or a derivative of them."""
        from scipy.interpolate import BSpline

        knots = self.knots
        identity = np.eye(knots.size - self.degree - 1)
        return np.asarray(BSpline(knots, identity, self.degree)(x, nu=derivative)).reshape(
            x.size, identity.shape[0]
        )


def make_basis(x: np.ndarray, settings: dict[str, Any], natural: bool, text: str) -> SplineBasis:
    """The basis that ``bs`` or ``ns`` asks for, its knots at quantiles of x when only `df` is given.

    Parameters
    ----------
    x : (n,) float64
        NaN where missing.
    settings : dict
        `df`, `knots`, `degree` (3), `intercept` (FALSE), `Boundary.knots` (the range of x).
    natural : bool
    text : str
        The call, for messages.

    Raises
    ------
    DataError
        For settings that give no basis.
    """
    known = x[~np.isnan(x)]
    degree = _whole(settings.get("degree", 3), "degree", text)
    intercept = settings.get("intercept", False) is True
    if known.size == 0 or not 1 <= degree <= 10:
        raise DataError(f"'{text}': " + ("the column has no values" if known.size == 0
                                         else f"the degree must be 1 to 10, not {degree}"))  # fmt: skip
    ends = np.sort(
        _listed(settings.get("Boundary.knots"), "Boundary.knots", text, [known.min(), known.max()])
    )
    if ends.size != 2 or ends[0] == ends[1]:
        raise DataError(f"'{text}' needs two different boundary knots; the column has the range "
                        f"{number_text(known.min())} to {number_text(known.max())}")  # fmt: skip
    inside = known[(known >= ends[0]) & (known <= ends[1])]
    given = settings.get("knots")
    if given is not None:
        inner = np.sort(_listed(given, "knots", text, []))
    else:
        inner = _knots_for(settings.get("df"), inside, 3 if natural else degree, natural, intercept, text)
    if inner.size and not (ends[0] < inner[0] and inner[-1] < ends[1]):
        raise DataError(f"'{text}': the knots must lie between the boundary knots {number_text(ends[0])} and "
                        f"{number_text(ends[1])}")  # fmt: skip
    return SplineBasis(3 if natural else degree, inner, ends, natural, intercept)


def _knots_for(df: Any, x: np.ndarray, degree: int, natural: bool, intercept: bool, text: str) -> np.ndarray:
    """Interior knots at quantiles of x, as many as `df` columns need."""
    fewest = (1 if natural else degree) + int(intercept)
    if df is None:
        return np.empty(0)
    df = _whole(df, "df", text)
    if not fewest <= df <= min(MAX_COLUMNS, max(np.unique(x).size, fewest)):
        raise DataError(f"'{text}': df must be at least {fewest} and at most the {np.unique(x).size} "
                        f"distinct values of the column, not {df}")  # fmt: skip
    return np.quantile(x, np.linspace(0.0, 1.0, df - fewest + 2)[1:-1])


def _whole(value: Any, name: str, text: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
        raise DataError(f"'{text}': {name} must be a whole number")
    return int(value)


def _listed(value: Any, name: str, text: str, default: list[float]) -> np.ndarray:
    items = default if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in items):
        raise DataError(f"'{text}': {name} must be finite numbers, for example {name} = c(2, 5)")
    return np.array(items, dtype=np.float64)


def warn_beyond(x: np.ndarray, low: float, high: float, text: str) -> None:
    """Say that values of x lie beyond the data of the fit, so that the basis is continued."""
    outside = (x < low) | (x > high)
    if outside.any():
        warn_caller(ExtrapolationWarning(
            f"'{text}' is continued beyond its boundary knots {number_text(low)} to {number_text(high)} for "
            f"{int(outside.sum())} of {x.size} values"
        ))  # fmt: skip
