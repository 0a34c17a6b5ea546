"""Functions that look at the whole column and remember it: ``poly``, ``scale``, splines, and reductions.

What they found in the data of the fit (means, knots, coefficients) is kept by the text of the call, so that
predictions and marginal means use the same basis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlmm_core.design.splines.regression_splines import make_basis, warn_beyond
from fastlmm_core.design.values.columns import first_row
from fastlmm_core.errors import DataError, DependencyError

State = dict[str, dict[str, Any]]  # what poly(), scale(), ... remember of the data of the fit, by their text

_REDUCTIONS: dict[str, Callable[[np.ndarray], Any]] = {
    "mean": np.mean, "sum": np.sum, "min": np.min, "max": np.max, "median": np.median,
    "sd": lambda x: np.std(x, ddof=1), "var": lambda x: np.var(x, ddof=1), "length": lambda x: x.size,
}  # fmt: skip


def reduce_column(function: str, x: np.ndarray, settings: dict[str, Any], text: str, state: State) -> float:
    """One number of a column, ``mean(x)``: that of the data of the fit, also in predictions.

    Raises
    ------
    DataError
        Where values are missing and ``na.rm = TRUE`` is not given.
    """
    memory = state.setdefault(text, {})
    if not memory:
        x = np.ravel(x)
        missing = np.isnan(x)
        if missing.any() and function != "length":
            if settings.get("na.rm") is not True:
                raise DataError(f"'{text}': {int(missing.sum())} values are missing; write "
                                f"{text[:-1].split(',')[0]}, na.rm = TRUE)")  # fmt: skip
            x = x[~missing]
        if x.size < (2 if function in ("sd", "var") else 1):
            raise DataError(f"'{text}' has too few values")
        with np.errstate(all="ignore"):
            memory["value"] = float(_REDUCTIONS[function](x))
    return float(memory["value"])


def evaluate_basis(
    function: str, x: np.ndarray, settings: dict[str, Any], texts: tuple[str, str], state: State
) -> np.ndarray:
    """(n, k) columns of ``poly``, ``scale``, ``center``, ``bs``, ``ns``, ``cr`` or ``cc``.

    `texts` are those of the call and of its x.

    Raises
    ------
    DataError
        For infinite values and for settings that give no basis.
    """
    text, inner = texts
    if x.ndim != 1:
        raise DataError(f"'{text}' needs one column of numbers")
    if np.isinf(x).any():  # one such row would spoil the basis of all others
        raise DataError(f"'{inner}' in '{text}' has infinite values, {first_row(np.isinf(x), x)}; correct "
                        "such rows or leave them out")  # fmt: skip
    memory = state.setdefault(text, {})
    if function in ("scale", "center"):
        return _standardize(x, function, settings, text, memory)
    if function in ("bs", "ns"):
        if not memory:
            _check_spread(x, 1, text)
            memory["basis"] = make_basis(x, settings, function == "ns", text)
        warn_beyond(x, memory["basis"].ends[0], memory["basis"].ends[1], text)
        return np.asarray(memory["basis"].columns(x))
    return _formulaic(function, x, settings, text, memory)


def _formulaic(
    function: str, x: np.ndarray, settings: dict[str, Any], text: str, memory: dict[str, Any]
) -> np.ndarray:
    try:
        from formulaic.transforms import TRANSFORMS
    except ImportError as error:
        raise DependencyError("poly(), cr() and cc() need formulaic: pip install formulaic") from error
    first = "inner" not in memory
    inner = memory.setdefault("inner", {})
    options = {k: int(v) if isinstance(v, float) and k in ("df", "degree") and v.is_integer() else v
               for k, v in settings.items()}  # fmt: skip
    if first:
        degree = options.get("degree", 1) if function == "poly" else 1
        if not isinstance(degree, int) or degree < 1:
            raise DataError(f"'{text}': the degree must be a whole number, at least 1")
        _check_spread(x, degree, text)
    try:
        values = TRANSFORMS[function](x, **options, _state=inner)
        if hasattr(values, "keys"):
            values = np.column_stack([np.asarray(values[key], dtype=np.float64) for key in values])
    except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, np.linalg.LinAlgError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"'{text}' gives no basis: {reason}") from None
    if function == "cr" and "lower_bound" in inner:
        warn_beyond(x, inner["lower_bound"], inner["upper_bound"], text)
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[:, None] if numbers.ndim == 1 else numbers


def _check_spread(x: np.ndarray, degree: int, text: str) -> None:
    distinct = np.unique(x[~np.isnan(x)]).size
    if distinct <= degree:
        raise DataError(f"'{text}' needs more than {degree} distinct values, but the column has {distinct}")


def _standardize(
    x: np.ndarray, function: str, settings: dict[str, Any], text: str, memory: dict[str, Any]
) -> np.ndarray:
    """R's ``scale(x, center = TRUE, scale = TRUE)``; missing values stay missing."""
    if not memory:
        center, spread = settings.get("center", True), settings.get("scale", function == "scale")
        for name, value in (("center", center), ("scale", spread)):
            if (
                not isinstance(value, (bool, int, float))
                or value != value
                or (value == 0 and value is not False)
            ):
                raise DataError(f"'{text}': {name} must be TRUE, FALSE or a number")
        known = x[~np.isnan(x)]
        memory["center"] = float(known.mean()) if center is True else float(center)
        memory["scale"] = 1.0 if spread is False else float(spread)
        if spread is True:
            shifted = known - memory["center"]
            memory["scale"] = float(np.sqrt(np.sum(shifted**2) / max(known.size - 1, 1)))
    return np.asarray((x - memory["center"]) / memory["scale"])
