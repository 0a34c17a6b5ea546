"""Errors and warnings, all under one root each, with machine-readable flags."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real


class FastLMMError(Exception):
    """Root of every error this library raises on purpose.

    Attributes
    ----------
    code : str
        Stable machine-readable name of the kind of error, e.g. ``"data"``.
    """

    code = "error"


class DataError(FastLMMError, ValueError):
    """The table cannot be used as it stands: a column, a level or a value is wrong."""

    code = "data"


class FormulaError(FastLMMError, ValueError):
    """The formula does not parse or names what does not exist.

    Parameters
    ----------
    message : str
        What is wrong and what would be right.
    formula : str, optional
        The formula as given.
    position : int, optional
        Zero-based index into `formula` where it goes wrong; shown with a caret.
    """

    code = "formula"

    def __init__(self, message: str, formula: str | None = None, position: int | None = None):
        self.formula = formula
        self.position = position
        if formula is not None and position is not None:
            message = f"{message}\n    {formula}\n    {' ' * position}^"
        super().__init__(message)


class OptionError(FastLMMError, ValueError):
    """An option has a value outside the allowed list."""

    code = "option"


class DesignError(FastLMMError, ValueError):
    """The model cannot be fitted to these data: confounded, too few rows, one level."""

    code = "design"


class InferenceError(FastLMMError, ValueError):
    """What is asked for is not defined for this fit (for example Kenward-Roger on an ML fit)."""

    code = "inference"


class MemoryForecastError(FastLMMError, MemoryError):
    """The computation is forecast not to fit in memory, and was not started.

    Attributes
    ----------
    needed, available : int
        Bytes.
    """

    code = "memory"

    def __init__(self, message: str, needed: int, available: int):
        self.needed = needed
        self.available = available
        super().__init__(message)


class DependencyError(FastLMMError, ImportError):
    """A library outside Python, or an optional extra, is missing; the message says how to install it."""

    code = "dependency"


class FastLMMWarning(UserWarning):
    """Root of the warnings; `flag` is the machine-readable name kept in ``fit.warnings``."""

    flag = "warning"


class SingularFitWarning(FastLMMWarning):
    """A variance is zero or a correlation is ±1 at the optimum."""

    flag = "singular"


class RankDeficientWarning(FastLMMWarning):
    """Columns of the fixed part depend on earlier ones and were dropped."""

    flag = "rank-deficient"


class ConfoundedWarning(FastLMMWarning):
    """A random term lies within the fixed part: the data say nothing about its variance."""

    flag = "confounded"


class NotConvergedWarning(FastLMMWarning):
    """The optimizer stopped before the gradient certified an optimum."""

    flag = "not-converged"


def name_list(names: Iterable[object], limit: int = 8) -> str:
    """Comma-separated quoted names for a message, cut after `limit`."""
    shown = [str(name) for name in names]
    text = ", ".join(f"'{name}'" for name in shown[:limit])
    return text + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def nearest_names(name: str, known: Iterable[object], limit: int = 3) -> str:
    """A hint "; nearest: 'a', 'b'" for a misspelt `name`, or the list of what is known."""
    names = [str(k) for k in known]
    plain: dict[str, list[str]] = {}
    for own in names:
        plain.setdefault(own.casefold(), []).append(own)
    found = difflib.get_close_matches(name.casefold(), plain, n=limit, cutoff=0.5)
    close = [own for key in found for own in plain[key]]
    return f"; nearest: {name_list(close)}" if close else f"; known: {name_list(names)}"


def check_option(option: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` when it is one of `allowed`.

    Raises
    ------
    OptionError
        Naming the option, the value and the allowed values.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise OptionError(f"{option}={value!r} is not known; allowed: {name_list(allowed, limit=40)}")
    return value


def check_level(level: object) -> float:
    """The confidence level as a number.

    Raises
    ------
    OptionError
        Unless it lies strictly between 0 and 1.
    """
    if not isinstance(level, Real) or not 0.0 < float(level) < 1.0:
        raise OptionError(f"level={level!r} must lie above 0 and below 1, for example 0.95")
    return float(level)
