"""What a fit is given besides its model: a response, starting values, somebody to tell of its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastlmm_core.design import Design
from fastlmm_core.design.inputs import check_index
from fastlmm_core.design.values.columns import first_row, plain_values
from fastlmm_core.errors import DataError, OptionError, shown
from fastlmm_core.gate import callers_own
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.named_start import place_named
from fastlmm_core.reml.objective import Response
from fastlmm_core.reml.optimizer import Progress


def row_values(name: str, given: Any, design: Design) -> np.ndarray:
    """Numbers for the rows used, from a vector of that length or of the length of the whole table.

    Raises
    ------
    DataError
        For another length or index, and for values that are missing or infinite.
    """
    check_index(name, given, design.table.index, design.rows)
    try:
        values = plain_values(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} is not numeric") from error
    if values.shape == (design.n + design.n_dropped,) and design.n_dropped:
        values = values[design.rows]
    if values.shape != (design.n,):
        raise DataError(f"{name} has shape {values.shape}; the model has {design.n} rows")
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{name} has {int(bad.sum())} missing or infinite values, {first_row(bad, values)}; prepare the "
            "model without those rows"
        )
    return values


def progress_listener(verbose: Any) -> Progress | None:
    """Who is told of every iteration."""
    if isinstance(verbose, bool | np.bool_):
        return print_progress if verbose else None
    if not callable(verbose):
        raise OptionError(f"verbose={shown(verbose)} must be True, False or a function")
    return callers_own(verbose)


def named_start(
    design: Design, equations: MixedModelEquations, start: Mapping[str, Any]
) -> Callable[[Response, np.ndarray], np.ndarray]:
    """From the response and its moments to theta, where a start names terms."""
    return lambda response, moments: place_named(design, equations, response, start, moments)


def starting_values(given: Any, n_theta: int) -> np.ndarray:
    """(n_theta,) float64; compiled code would read past a shorter vector."""
    try:
        theta = np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise OptionError("theta must be numbers, such as fit.solved.theta of an earlier fit") from None
    if theta.shape != (n_theta,) or not np.isfinite(theta).all():
        raise OptionError(f"theta must be {n_theta} finite numbers for this model, not {shown(given)}")
    return theta


def print_progress(
    iteration: int, deviance: float, decrement: float, theta: np.ndarray, seconds: float
) -> None:
    if iteration == 0:
        print(f"{'iteration':>9} {'deviance':>16} {'decrement':>11} {'seconds':>8}  theta")
    place = np.array2string(theta, precision=5)
    print(f"{iteration:9d} {deviance:16.6f} {decrement:11.3e} {seconds:8.2f}  {place}")
