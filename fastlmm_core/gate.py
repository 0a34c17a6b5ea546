"""The gate of the public functions: options are checked before work begins, only our errors leave."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from fastlmm_core.errors import (
    CodesWarning,
    DataError,
    DependencyError,
    ExtrapolationWarning,
    FastLMMError,
    FastLMMWarning,
    InternalError,
    LeftOutWarning,
    MemoryExhaustedError,
    NumericalError,
    OptionError,
    PedigreeWarning,
    RelationshipWarning,
    clipped,
    nearest_names,
)
from fastlmm_core.options import Kind, check
from fastlmm_core.other_names import option_words

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = str(Path(__file__).resolve().parent)
OUT_OF_MEMORY = (
    "the memory ran out; fit parts of the data, ask for fewer tables at once, or "
    "use a machine with more memory"
)
# Of relationships and means, which are made before a fit, and of predictions from one.
KEPT_BY_NO_FIT = (
    PedigreeWarning, RelationshipWarning, ExtrapolationWarning, LeftOutWarning, CodesWarning
)  # fmt: skip
# Who is told of them: of each thread its own.
_TELL: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)
_CALLERS_OWN = "_raised_by_the_caller"


def public(**kinds: Kind) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a door of the library.

    Its arguments are checked against `kinds` before it runs; every exception that leaves it is a
    `FastLMMError` (or the caller's own: an interrupt, a warning that is an error, what a callback raised).

    Parameters
    ----------
    **kinds : mapping
        Kind of value (`fastlmm_core.options`) by name of the argument. Arguments without a kind, such as
        tables and arrays, are checked where they are read.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = function.__qualname__.split(".")
        name = own[-2] if own[-1] == "__init__" else own[-1]
        positional = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        # in the order of the signature; then those of **options
        checked = {option: kinds[option] for option in (*signature.parameters, *kinds) if option in kinds}

        @functools.wraps(function)
        def door(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = {**dict(zip(positional, args, strict=False)), **kwargs}
                for option, kind in checked.items():
                    if option in given:
                        check(option, given[option], kind)
                return function(*args, **kwargs)
            except Exception as error:
                # only now, where something failed: binding costs more than all checks
                wrong = _wrong_call(name, signature, args, kwargs)
                if wrong is not None:
                    raise wrong from None
                ours = ours_of(error)
                if ours is error:
                    raise
                raise ours from error

        return door

    return decorate


def _wrong_call(name: str, signature: inspect.Signature, args: tuple, kwargs: dict) -> OptionError | None:
    """What is wrong with a call whose arguments do not fit the function; None when they do."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        known = [p for p in signature.parameters if p != "self"]
        for option in kwargs:
            if option not in known:
                words = option_words(name, option)
                hint = f"; here: {words}" if words else nearest_names(option, known)
                return OptionError(f"{name}() has no option '{option}'{hint}")
        return OptionError(f"{name}(): {error}")
    return None


def callers_own(callback: Callable[P, R]) -> Callable[P, R]:
    """A function of the caller whose exceptions leave the library as they are."""

    @functools.wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            setattr(error, _CALLERS_OWN, True)
            raise

    return call


def ours_of(error: Exception) -> Exception:
    """The error of this library that stands for `error`; `error` itself where nothing has to be said."""
    if isinstance(error, (FastLMMError, Warning, BrokenPipeError)) or getattr(error, _CALLERS_OWN, False):
        return error
    if isinstance(error, MemoryError):
        return MemoryExhaustedError(OUT_OF_MEMORY)
    if isinstance(error, RecursionError):
        return OptionError("the formula or an option is nested too deeply")
    if isinstance(error, (np.linalg.LinAlgError, FloatingPointError)):
        return NumericalError(f"the arithmetic broke down: {error}; look for columns of very different scale")
    if isinstance(error, UnicodeError):
        return DataError(f"a name or text is not valid Unicode: {error}")
    if isinstance(error, ImportError):
        return DependencyError(f"a library does not load: {error}")
    if isinstance(error, OSError):
        name = f"'{error.filename}': " if error.filename else ""
        return DataError(f"{name}{error.strerror or error}")
    return InternalError(_fault(error))


def _fault(error: Exception) -> str:
    """What to report of a fault of ours: the kind of error and the innermost line of this package."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(PACKAGE)]
    at = f" at {Path(own[-1].filename).relative_to(PACKAGE)}:{own[-1].lineno}" if own else ""
    return f"internal error{at}, please report it: {type(error).__name__}: {clipped(str(error), 200)}"


@contextmanager
def told_by(tell: Callable[[str], None]) -> Iterator[None]:
    """Warnings that a fit keeps and its summary says are silent; others of this library are told.

    For the doors whose users see no warnings of Python: the command line and requests.
    """
    token = _TELL.set(tell)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastLMMWarning)
            yield
    finally:
        _TELL.reset(token)


def warn_caller(warning: FastLMMWarning) -> None:
    """Issue a warning at the line outside this package that led here, or tell who asked to be told."""
    tell = _TELL.get()
    if tell is not None and isinstance(warning, KEPT_BY_NO_FIT):
        tell(str(warning))
        return
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(warning, stacklevel=level)
