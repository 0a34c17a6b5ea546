"""A table cut into trials: keys, row ranges, responses as one matrix, and what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.design.table import factorize_runs, infinite_words
from fastlmm_core.errors import DataError, nearest_names

UNITS_PER_RUN = 256
ROWS_PER_RUN = 100_000


@dataclass(frozen=True)
class TrialTable:
    """Rows of whole trials, sorted by trial; the order within a trial is the source's.

    Attributes
    ----------
    plan : BatchPlan
    frame : DataFrame (N rows)
        The columns of the plan.
    keys : DataFrame (T rows)
        Values of the `by` columns.
    ptr : (T + 1,) int64
        Rows of trial t are ptr[t]:ptr[t + 1].
    y : (n_traits, N) float64
        Responses, NaN where missing; no rows when the response is an expression.
    faults : dict of (trial, trait) to str
        Trials whose response holds something that is not a number, with the message.
    """

    plan: BatchPlan
    frame: pd.DataFrame
    keys: pd.DataFrame
    ptr: np.ndarray
    y: np.ndarray
    faults: dict[tuple[int, int], str]

    @property
    def n_trials(self) -> int:
        return self.ptr.size - 1

    @property
    def n_units(self) -> int:
        """Trial x trait combinations; unit u is trial u // n_labels with trait u % n_labels."""
        return self.n_trials * len(self.plan.labels)

    def slice(self, first: int, last: int) -> TrialTable:
        """The trials first:last as a table of their own."""
        lo, hi = int(self.ptr[first]), int(self.ptr[last])
        faults = {(t - first, k): words for (t, k), words in self.faults.items() if first <= t < last}
        return replace(
            self, frame=self.frame.iloc[lo:hi], keys=self.keys.iloc[first:last],
            ptr=self.ptr[first : last + 1] - lo, y=np.ascontiguousarray(self.y[:, lo:hi]), faults=faults,
        )  # fmt: skip


def collect_trials(table: Any, plan: BatchPlan) -> TrialTable:
    """Sort a table by trial and read the responses.

    Parameters
    ----------
    table : pandas, polars or pyarrow table, or dict of columns

    Raises
    ------
    DataError
        When a column of the plan is missing, or there are no rows.
    """
    frame = as_frame(table)
    plan = plan.on_columns(frame.columns)
    check_columns(plan, list(frame.columns))
    frame = frame[list(plan.columns)]
    if frame.empty:
        raise DataError("the data have no rows")
    order, keys, ptr = sort_by_trial(frame, plan.by)
    if order is not None:
        frame = frame.take(order)
    responses: list[np.ndarray] = []
    faults: dict[tuple[int, int], str] = {}
    for k, trait in enumerate(plan.traits):
        numbers, bad = read_numbers(frame[trait])
        responses.append(without_infinite(numbers, trait, ptr, range(k, k + 1), faults))
        for row in bad:
            trial = int(np.searchsorted(ptr, row, side="right")) - 1
            faults.setdefault(
                (trial, k),
                f"column '{trait}' must be numeric, but holds {frame[trait].iloc[row]!r}; correct it",
            )
    y = np.array(responses) if responses else np.empty((0, len(frame)))
    return TrialTable(plan, readable(frame, plan, ptr, faults), keys, ptr, y, faults)


def readable(
    frame: pd.DataFrame, plan: BatchPlan, ptr: np.ndarray, faults: dict[tuple[int, int], str]
) -> pd.DataFrame:
    """The table with columns of one kind and finite numbers; what cannot be used is noted in `faults`."""
    changed: dict[str, Any] = {}
    labels = range(len(plan.labels))
    for name in plan.explanatory:
        given = frame[name]
        values = one_kind(given, name, ptr, labels, faults) if given.dtype == object else given
        if holds_fractions(values):
            numbers = read_numbers(values)[0]
            finite = without_infinite(numbers, name, ptr, labels, faults)
            values = values if finite is numbers else pd.Series(finite, index=frame.index)
        if values is not given:
            changed[name] = values
    return frame.assign(**changed) if changed else frame


def holds_fractions(values: pd.Series) -> bool:
    """Whether a column may hold infinite numbers."""
    if values.dtype == object:
        return pd.api.types.infer_dtype(values, skipna=True) in ("floating", "mixed-integer-float", "decimal")
    return pd.api.types.is_float_dtype(values.dtype)


def without_infinite(
    values: np.ndarray, name: str, ptr: np.ndarray, labels: range, faults: dict[tuple[int, int], str]
) -> np.ndarray:
    """The (N,) numbers with infinite ones as missing; each makes its trial unusable: a note in `faults`."""
    infinite = np.isinf(values)
    if not infinite.any():
        return values
    for trial in np.unique(np.searchsorted(ptr, np.flatnonzero(infinite), side="right")) - 1:
        words = infinite_words(name, values[ptr[trial] : ptr[trial + 1]])
        for k in labels:
            faults.setdefault((int(trial), k), words)
    return np.where(infinite, np.nan, values)


def one_kind(
    values: pd.Series, name: str, ptr: np.ndarray, labels: range, faults: dict[tuple[int, int], str]
) -> pd.Series:
    """A column of numbers and text as what most of its values are, so that every trial has the same model.

    Among numbers a text that is none makes its trial unusable: a note in `faults`.
    """
    if pd.api.types.infer_dtype(values, skipna=True) not in ("mixed", "mixed-integer"):
        return values
    text = values.map(lambda value: isinstance(value, str)).to_numpy()
    present = values.notna().to_numpy()
    if 2 * int(text.sum()) >= int(present.sum()):
        return values.where(~present | text, values.astype(str))
    numbers, bad = read_numbers(values)
    for row in bad:
        trial = int(np.searchsorted(ptr, row, side="right")) - 1
        words = f"column '{name}' is numeric elsewhere, but holds {values.iloc[row]!r} here; correct it"
        for k in labels:
            faults.setdefault((trial, k), words)
    return pd.Series(numbers, index=values.index)


def as_frame(table: Any) -> pd.DataFrame:
    """Any supported table as a DataFrame.

    Raises
    ------
    DataError
        For a type that is not supported, or repeated column names.
    """
    if isinstance(table, pd.DataFrame):
        frame = table
    elif hasattr(table, "collect") and type(table).__module__.startswith("polars"):
        frame = table.collect().to_pandas()
    elif hasattr(table, "to_pandas"):
        frame = table.to_pandas()
    elif isinstance(table, dict):
        frame = pd.DataFrame(table)
    else:
        raise DataError(
            f"data of type {type(table).__name__} is not supported; pass a pandas, polars, pyarrow or Dask "
            "table, a dict of columns, or the path of a CSV or Parquet file or Parquet folder"
        )
    if not frame.columns.is_unique:
        raise DataError("the table has repeated column names; column names must be unique")
    return frame


def check_columns(plan: BatchPlan, names: list[str]) -> None:
    """Raise DataError for a column of the plan that the source does not have."""
    weights = (plan.weights,) if plan.weights else ()
    options = (("by", plan.by), ("traits", plan.traits), ("weights", weights), ("formula", plan.explanatory))
    for option, wanted in options:
        for name in wanted:
            if name not in names:
                raise DataError(f"{option}: column '{name}' is not in the data{nearest_names(name, names)}")


def sort_by_trial(
    frame: pd.DataFrame, by: tuple[str, ...]
) -> tuple[np.ndarray | None, pd.DataFrame, np.ndarray]:
    """(order of the rows or None when they are sorted, keys (T rows), ptr (T + 1,)).

    A missing key is a key of its own, so that no row is lost.
    """
    n = len(frame)
    if not by:
        return None, pd.DataFrame(index=range(1)), np.array([0, n], dtype=np.int64)
    code = np.zeros(n, dtype=np.int64)
    for name in by:
        own, size = ordered_codes(frame[name])
        code = code * size + own
        if code.size and code.max() > 2**40:
            code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    steps = np.diff(code)
    order = None
    if (steps < 0).any():
        order = np.argsort(code, kind="stable")
        steps = np.diff(code[order])
    first = np.concatenate(([0], np.flatnonzero(steps) + 1)).astype(np.int64) if n else np.empty(0, np.int64)
    keys = frame[list(by)].take(first if order is None else order[first]).reset_index(drop=True)
    return order, keys, np.append(first, n)


def ordered_codes(values: pd.Series) -> tuple[np.ndarray, int]:
    """(codes in the order of the values, number of codes); missing values come last."""
    codes, found = factorize_runs(values)
    try:
        order = np.argsort(np.asarray(found), kind="stable")
    except TypeError:  # numbers and text in one column
        order = np.argsort(np.array([str(value) for value in found]), kind="stable")
    place = np.empty(len(found) + 1, dtype=np.int64)
    place[order] = np.arange(len(found))
    place[-1] = len(found)
    return place[codes], len(found) + 1


def read_numbers(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """(numbers (N,) with NaN where missing, positions of what is neither a number nor missing)."""
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return values.to_numpy(dtype=np.float64), np.empty(0, np.int64)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if pd.api.types.is_bool_dtype(values.dtype) or values.dtype.kind in "cmM":
        return np.full(len(values), np.nan), np.arange(len(values))
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers, np.flatnonzero(np.isnan(numbers) & values.notna().to_numpy())


def unit_runs(table: TrialTable) -> list[tuple[int, int]]:
    """Consecutive units (first, last) that are worked on together, whatever the number of workers."""
    sizes = np.repeat(np.diff(table.ptr), len(table.plan.labels))
    ends = np.cumsum(sizes)
    out, first = [], 0
    while first < sizes.size:
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + ROWS_PER_RUN, side="right"))
        last = min(max(last, first + 1), first + UNITS_PER_RUN, sizes.size)
        out.append((first, last))
        first = last
    return out
