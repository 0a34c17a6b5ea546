"""A table cut into trials: keys, row ranges, responses as one matrix, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.compiled.compilable import may_compile
from fastlmm_core.batch.keys import odd_keys, sort_by_trial
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.structures import PLAIN
from fastlmm_core.design.inputs import response_words
from fastlmm_core.design.values.columns import Column, infinite_words, read_column
from fastlmm_core.design.values.table import Table, frame_from_polars
from fastlmm_core.errors import DataError, name_list, nearest_names, shown
from fastlmm_core.reading.parquet import frame_from_arrow
from fastlmm_core.reading.source import Labels, Places, detached
from fastlmm_core.reading.tables import frame_of_columns

UNITS_PER_RUN = 256
ROWS_PER_RUN = 100_000
# The same where a fit takes a hundred times as long: progress is seen, and workers end together.
UNITS_PER_SLOW_RUN = 16
ROWS_PER_SLOW_RUN = 10_000


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
    models : tuple of TrialTable
        The same trials as each of several models reads them; `frame` has the columns of all, as they are.
    """

    plan: BatchPlan
    frame: pd.DataFrame
    keys: pd.DataFrame
    ptr: np.ndarray
    y: np.ndarray
    faults: dict[tuple[int, int], str]
    models: tuple[TrialTable, ...] = ()

    @property
    def n_trials(self) -> int:
        return self.ptr.size - 1

    @cached_property
    def nameless(self) -> np.ndarray:
        """Which of the trials (T,) bool have a key that is missing."""
        return np.asarray(self.keys.isna().any(axis=1))

    @property
    def n_units(self) -> int:
        """Trial x trait combinations; unit u is trial u // n_labels with trait u % n_labels."""
        return self.n_trials * len(self.plan.labels)

    def take(self, trials: np.ndarray) -> TrialTable:
        """Some of the trials (k,), in increasing order, as a table of their own."""
        if trials.size == self.n_trials:
            return self
        sizes = np.diff(self.ptr)[trials]
        ptr = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.repeat(self.ptr[trials] - ptr[:-1], sizes) + np.arange(ptr[-1])
        place = {int(trial): i for i, trial in enumerate(trials)}
        faults = {(place[t], k): words for (t, k), words in self.faults.items() if t in place}
        return replace(
            self, frame=self.frame.take(rows), keys=self.keys.take(trials), ptr=ptr,
            y=np.ascontiguousarray(self.y[:, rows]), faults=faults,
        )  # fmt: skip


    def between(self, low: int, high: int) -> TrialTable:
        """The trials low:high as a table that may travel, without the structures of its plan.

        What was found wrong with them, and the kind of each column, are those of the whole table.
        """
        first, last = int(self.ptr[low]), int(self.ptr[high])
        faults = {(t - low, k): words for (t, k), words in self.faults.items() if low <= t < high}
        frame = used_labels(detached(self.frame.iloc[first:last]))
        return TrialTable(
            replace(self.plan, structures=PLAIN, others=()), frame,
            self.keys.iloc[low:high], self.ptr[low : high + 1] - first,
            np.ascontiguousarray(self.y[:, first:last]), faults,
            tuple(own.between(low, high) for own in self.models),
        )  # fmt: skip

    def of_plan(self, plan: BatchPlan) -> TrialTable:
        """The table with the whole plan, where it has arrived."""
        models = tuple(replace(own, plan=p) for own, p in zip(self.models, plan.models, strict=False))
        return replace(self, plan=plan, models=models)


def used_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without the categories that none of its rows has."""
    changed = {
        str(name): frame[name].cat.remove_unused_categories()
        for name, kind in frame.dtypes.items() if isinstance(kind, pd.CategoricalDtype)
    }  # fmt: skip
    return frame.assign(**changed) if changed else frame


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
    if plan.others:
        return collect_models(frame, plan)
    frame = with_factors(frame[list(plan.columns)], plan)
    if frame.empty:
        raise DataError("the data have no rows")
    order, keys, ptr = sort_by_trial(frame, plan.by)
    if order is not None:
        frame = frame.take(order)
    faults: dict[tuple[int, int], str] = {}
    for name in plan.by:
        for row in odd_keys(frame[name]):
            trial = int(np.searchsorted(ptr, row, side="right")) - 1
            words = f"column '{name}' does not name the trial: it holds {shown(frame[name].iloc[row])}"
            for k in range(len(plan.labels)):
                faults.setdefault((trial, k), words)
    responses = [read_trait(frame, trait, ptr, k, faults) for k, trait in enumerate(plan.traits)]
    y = np.array(responses) if responses else np.empty((0, len(frame)))
    return TrialTable(plan, readable(frame, plan, ptr, faults), keys, ptr, y, faults)


def collect_models(frame: pd.DataFrame, plan: BatchPlan) -> TrialTable:
    """The trials as every model reads them: what one cannot use is no fault of the others."""
    frame = frame[list(plan.columns)]
    models = tuple(collect_trials(frame, own) for own in plan.models)
    order = sort_by_trial(frame, plan.by)[0]
    return replace(
        models[0], plan=plan, frame=frame if order is None else frame.take(order), faults={}, models=models
    )


def with_factors(frame: pd.DataFrame, plan: BatchPlan) -> pd.DataFrame:
    """The table with the factors of the plan, and columns of objects that are nothing else, as labels."""
    table = Table(frame)
    changed: dict[str, Any] = {}
    for name in plan.columns:
        values = frame[name]
        as_labels = name in plan.factors and not isinstance(values.dtype, pd.CategoricalDtype)
        if as_labels or (values.dtype == object and name in plan.label_columns):
            try:
                column = table.factor(name)
            except DataError:  # the trial that holds such a cell says so
                continue
            changed[name] = as_text_or_categories(column, plan)
    return frame.assign(**changed) if changed else frame


def read_trait(
    frame: pd.DataFrame, name: str, ptr: np.ndarray, trait: int, faults: dict[tuple[int, int], str]
) -> np.ndarray:
    """(N,) responses as `lmm` reads them, NaN where missing; what it refuses is a note for its trial."""
    values, labels = frame[name], range(trait, trait + 1)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return without_infinite(frame, name, values.to_numpy(dtype=np.float64), ptr, labels, faults)
    try:
        column = read_column(name, values)
        if not column.is_factor:
            return column.values
    except DataError:  # one of the trials has it
        pass
    return read_by_trial(frame, name, ptr, labels, faults, response_words)


def read_by_trial(
    frame: pd.DataFrame, name: str, ptr: np.ndarray, labels: range, faults: dict[tuple[int, int], str],
    refusal: Callable[[str, tuple[str, ...]], str],
) -> np.ndarray:  # fmt: skip
    """(N,) numbers, read trial by trial; `refusal` words what is wrong with one that has labels."""
    numbers = np.full(len(frame), np.nan)
    for trial, (lo, hi) in enumerate(pairwise(ptr.tolist())):
        part = frame.iloc[lo:hi]
        try:
            column = read_column(name, part[name], Places.of(part))
            if column.is_factor:
                raise DataError(refusal(name, column.levels or ()))
            numbers[lo:hi] = column.values
        except DataError as error:
            for k in labels:
                faults.setdefault((trial, k), str(error))
    return numbers


def readable(
    frame: pd.DataFrame, plan: BatchPlan, ptr: np.ndarray, faults: dict[tuple[int, int], str]
) -> pd.DataFrame:
    """The table with columns of one kind and finite numbers; what cannot be used is noted in `faults`."""
    changed: dict[str, Any] = {}
    labels = range(len(plan.labels))
    for name in plan.explanatory:
        values = frame[name]
        if values.dtype == object:
            changed[name] = one_kind(frame, name, plan, ptr, labels, faults)
        elif pd.api.types.is_float_dtype(values.dtype):
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            finite = without_infinite(frame, name, numbers, ptr, labels, faults)
            if finite is not numbers:
                changed[name] = finite
    return frame.assign(**changed) if changed else frame


def one_kind(
    frame: pd.DataFrame, name: str, plan: BatchPlan, ptr: np.ndarray, labels: range,
    faults: dict[tuple[int, int], str],
) -> Any:  # fmt: skip
    """A column of objects as what it is in the whole table, so that every trial has the same model.

    Where it is numeric but for some cells, their trials cannot be used: a note in `faults`.
    """
    try:
        column = read_column(name, frame[name], Places.of(frame))
    except DataError:
        return read_by_trial(frame, name, ptr, labels, faults, words_among_numbers)
    if column.is_factor and column.days is None:
        return as_text_or_categories(column, plan)
    return frame[name]


def as_text_or_categories(column: Column, plan: BatchPlan) -> Any:
    """The (N,) labels of a factor for the trials: categories, which the kernels take as they are.

    Text of which nobody gave the order stays text where a model may ask for the distance of its levels.
    """
    labels = Labels(column.values, column.levels or ())
    if not column.alphabetical or may_compile(plan):
        return labels.categories()
    words = np.array([*labels.levels, None], dtype=object)
    return pd.array(words[labels.codes], dtype="string")


def words_among_numbers(name: str, levels: tuple[str, ...]) -> str:
    """What is wrong with a trial in which a numeric column has labels."""
    return f"column '{name}' is numeric elsewhere, but holds {name_list(levels, 4)} here; correct it"


def without_infinite(
    frame: pd.DataFrame, name: str, values: np.ndarray, ptr: np.ndarray, labels: range,
    faults: dict[tuple[int, int], str],
) -> np.ndarray:  # fmt: skip
    """The (N,) numbers with infinite ones as missing; each makes its trial unusable: a note in `faults`."""
    infinite = np.isinf(values)
    if not infinite.any():
        return values
    for trial in np.unique(np.searchsorted(ptr, np.flatnonzero(infinite), side="right")) - 1:
        rows = slice(int(ptr[trial]), int(ptr[trial + 1]))
        words = infinite_words(name, values[rows], Places.of(frame.iloc[rows]))
        for k in labels:
            faults.setdefault((int(trial), k), words)
    return np.where(infinite, np.nan, values)


def as_frame(table: Any) -> pd.DataFrame:
    """Any supported table as a DataFrame.

    Raises
    ------
    DataError
        For a type that is not supported.
    """
    module = type(table).__module__.partition(".")[0]
    if isinstance(table, pd.DataFrame):
        frame = table
    elif module == "polars" and hasattr(table, "collect"):
        return as_frame(table.collect())
    elif module == "polars" and hasattr(table, "get_column"):
        frame = frame_from_polars(table)
    elif module == "pyarrow" and hasattr(table, "column_names"):
        frame = frame_from_arrow(table)
    elif hasattr(table, "to_pandas"):
        frame = table.to_pandas()
    elif isinstance(table, dict):
        frame = frame_of_columns(table)
    else:
        raise DataError(
            f"data of type {type(table).__name__} is not supported; pass a pandas, polars, pyarrow or Dask "
            "table, a dict of columns, or the path of a text or Parquet file or of a folder of them"
        )
    return frame


def check_columns(plan: BatchPlan, names: list[str]) -> None:
    """Raise DataError for a column of the plan that the source does not have."""
    for other in plan.others:
        check_columns(other, names)
    weights = (plan.weights,) if plan.weights else ()
    column = (plan.formula_column,) if plan.formula_column else ()
    residual = tuple(name for name in plan.structures.parsed.columns if name in plan.explanatory)
    options = (("by", plan.by), ("traits", plan.traits), ("weights", weights), ("residual", residual),
               ("formula", plan.explanatory), ("factors", plan.factors),
               ("formula_column", column),
               ("plots", plan.plots if isinstance(plan.plots, tuple) else ()))  # fmt: skip
    for option, wanted in options:
        for name in wanted:
            if name not in names:
                raise DataError(f"{option}: column '{name}' is not in the data{nearest_names(name, names)}")
            if names.count(name) > 1:
                raise DataError(f"{option}: the data have {names.count(name)} columns named '{name}'; names "
                                "of columns in use must be unique")  # fmt: skip


def unit_runs(table: TrialTable) -> list[tuple[int, int]]:
    """Consecutive units (first, last) that are worked on together, whatever the number of workers."""
    compiled = may_compile(table.plan)
    most_units = UNITS_PER_RUN if compiled else UNITS_PER_SLOW_RUN
    most_rows = ROWS_PER_RUN if compiled else ROWS_PER_SLOW_RUN
    sizes = np.repeat(np.diff(table.ptr), len(table.plan.labels))
    ends = np.cumsum(sizes)
    out, first = [], 0
    while first < sizes.size:
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + most_rows, side="right"))
        last = min(max(last, first + 1), first + most_units, sizes.size)
        out.append((first, last))
        first = last
    return out
