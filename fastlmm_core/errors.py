"""Errors and warnings, all under one root each, with machine-readable flags."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from itertools import islice
from numbers import Real
from typing import Any

LONGEST = 400  # characters of a message: what comes from a file or a stranger is never echoed at length
_EXCERPT = 60  # characters shown of one name, value or place in a formula
_COMPARED = 2_000  # names a misspelt one is compared with; more would take seconds


def visible(text: str) -> str:
    """`text` with all that does not print escaped: control characters, bidirectional marks, surrogates.

    A message goes to terminals and logs: there such characters move the cursor, start a new line or turn
    the order of what is read.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clipped(text: str, limit: int = LONGEST) -> str:
    """One printable line of at most `limit` characters; the middle of a longer one is left out."""
    if len(text) > 2 * limit:
        text = text[:limit] + text[-limit:]
    text = visible(text)
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 3]}...{text[-tail:]}"


def shown(value: object, limit: int = _EXCERPT) -> str:
    """What a message shows of a value: its ``repr``, short, also where that is huge or fails."""
    try:
        if value is None or isinstance(value, (str, bool, Real)):
            return clipped(repr(value[: 2 * limit] if isinstance(value, str) else value), limit)
        return clipped(reprlib.repr(value), limit)
    except Exception:  # an int of 5,000 digits, or somebody's own __repr__
        return f"a value of type {type(value).__name__}"


class FastLMMError(Exception):
    """Root of every error this library raises on purpose.

    The message is one line of printable characters, at most `LONGEST` of them.

    Attributes
    ----------
    code : str
        Stable machine-readable name of the kind of error, e.g. ``"data"``.
    """

    code = "error"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the finished message and the attributes; signatures differ, so `__init__` is not called."""
        return _restore_error, (type(self), self.args), self.__dict__

    def __init__(self, message: object = ""):
        super().__init__(clipped(str(message).strip()))


def _restore_error(kind: type[FastLMMError], args: tuple[Any, ...]) -> FastLMMError:
    return Exception.__new__(kind, *args)


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
        Zero-based index into `formula` where it goes wrong; the message counts from 1.
    """

    code = "formula"

    def __init__(self, message: str, formula: str | None = None, position: int | None = None):
        self.formula = formula
        self.position = position
        if formula is not None and position is not None:
            message = f"{clipped(message, 280)} (character {position + 1} of '{_around(formula, position)}')"
        super().__init__(message)


class OptionError(FastLMMError, ValueError):
    """An option has a value outside the allowed list."""

    code = "option"


class UnknownFitError(OptionError):
    """A question to a fit that a service does not keep, or no longer."""

    code = "unknown-fit"


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


class MemoryExhaustedError(FastLMMError, MemoryError):
    """The memory ran out although the forecast had allowed the computation."""

    code = "out-of-memory"


class LimitError(FastLMMError, ValueError):
    """A formula, table or file is larger than the limits allow; the message names the limit that is passed.

    The limits keep one request from a stranger from taking a whole machine; see ``limits=`` of `lmm`.
    """

    code = "limit"


class NumericalError(FastLMMError, ArithmeticError):
    """The arithmetic broke down on these numbers."""

    code = "numerical"


class InternalError(FastLMMError, RuntimeError):
    """A fault of this library: the message says where; the original error is its ``__cause__``."""

    code = "internal"


class ClusterError(FastLMMError, RuntimeError):
    """The scheduler or the workers of a cluster are gone; the message says how to go on."""

    code = "cluster"


class TimeLimitError(FastLMMError, RuntimeError):
    """A request took longer than the service allows, and was stopped."""

    code = "time"


class ServiceError(FastLMMError, RuntimeError):
    """A service cannot answer now: it is busy or stopping, or the process that worked on the request died."""

    code = "service"


class DependencyError(FastLMMError, ImportError):
    """A library outside Python, or an optional extra, is missing; the message says how to install it."""

    code = "dependency"


class FastLMMWarning(UserWarning):
    """Root of the warnings; `flag` is the machine-readable name kept in ``fit.warnings``."""

    flag = "warning"

    def __init__(self, message: object = ""):
        super().__init__(clipped(str(message).strip()))


class SingularFitWarning(FastLMMWarning):
    """A variance is zero or a correlation is ±1 at the optimum."""

    flag = "singular"


class RankDeficientWarning(FastLMMWarning):
    """Columns of the fixed part depend on earlier ones and were dropped."""

    flag = "rank-deficient"


class ConfoundedWarning(FastLMMWarning):
    """The data say nothing of a variance, as of a random term within the fixed part, or hardly anything."""

    flag = "confounded"


class NearDependenceWarning(FastLMMWarning):
    """A column of the fixed part nearly depends on others: its estimate has fewer digits than its data."""

    flag = "near-dependence"


class NotConvergedWarning(FastLMMWarning):
    """The optimizer stopped before the gradient certified an optimum."""

    flag = "not-converged"


class PedigreeWarning(FastLMMWarning):
    """A pedigree was taken with an assumption: parents without a row are founders, one is sire and dam."""

    flag = "pedigree"


class RelationshipWarning(FastLMMWarning):
    """A relationship was taken with an assumption: a sparse matrix for an inverse."""

    flag = "relationship"


class ExtrapolationWarning(FastLMMWarning):
    """A spline is evaluated beyond its boundary knots, where it is continued."""

    flag = "extrapolation"


class DistanceWarning(FastLMMWarning):
    """Where distance counts: levels in alphabetical order, R10 before R2, coefficients that have none, plots
    in one place of a field under one surface, environments too narrow for a surface.
    """

    flag = "distance"


class SpellingWarning(FastLMMWarning):
    """Labels of a factor differ only in blanks, capitals or the encoding of a character: 'L1', 'l1' and 'L1 '
    are three levels, and so are two ways to write an umlaut.
    """

    flag = "spelling"


class LeftOutWarning(FastLMMWarning):
    """Trials of a batch gave no means, and a second stage goes on without them."""

    flag = "left-out"


class CodesWarning(FastLMMWarning):
    """Trials called by numbers are a covariate in a second stage: one slope over their numbers."""

    flag = "codes"


def nothing_of(what: str) -> DataError:
    """Why a batch has no table of `what`."""
    return DataError(f"no trial of the batch gave {what}; its table `fits` says why")


def name_list(names: Iterable[object], limit: int = 8) -> str:
    """Comma-separated quoted names for a message, cut after `limit`."""
    names = list(names)
    text = ", ".join(f"'{clipped(str(name), _EXCERPT)}'" for name in names[:limit])
    return text + (f" and {len(names) - limit} more" if len(names) > limit else "")


def nearest_names(name: str, known: Iterable[object], limit: int = 3) -> str:
    """A hint "; nearest: 'a', 'b'" for a misspelt `name`, or the list of what is known."""
    name, names = str(name), [str(k) for k in known]
    plain: dict[str, list[str]] = {}
    for own in islice(names, _COMPARED):
        plain.setdefault(own[:_EXCERPT].casefold(), []).append(own)
    found = difflib.get_close_matches(name[:_EXCERPT].casefold(), plain, n=limit, cutoff=0.5)
    close = [own for key in found for own in plain[key]]
    return f"; nearest: {name_list(close)}" if close else f"; known: {name_list(names)}"


def _around(formula: str, position: int) -> str:
    """The formula, or where it is long the part of it around `position`."""
    first = max(0, min(position - _EXCERPT // 2, len(formula) - _EXCERPT))
    part = clipped(formula[first : first + _EXCERPT], 2 * _EXCERPT)
    return f"{'...' if first else ''}{part}{'...' if first + _EXCERPT < len(formula) else ''}"


def check_option(option: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` when it is one of `allowed`.

    Raises
    ------
    OptionError
        Naming the option, the value and the allowed values.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise OptionError(f"{option}={shown(value)} is not known; allowed: {name_list(allowed, limit=40)}")
    return value


def check_level(level: object) -> float:
    """The confidence level as a number.

    Raises
    ------
    OptionError
        Unless it lies strictly between 0 and 1.
    """
    if not isinstance(level, Real) or not 0.0 < float(level) < 1.0:
        raise OptionError(f"level={shown(level)} must lie above 0 and below 1, for example 0.95")
    return float(level)
