"""Pairwise differences of thousands of means: a chunk at a time, with a forecast of time and memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import InferenceError, OptionError, check_level
from fastlmm_core.inference.row_spaces import row_rank
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.means.contrast_families import MeanLabels, pair_labels, signed_pairs
from fastlmm_core.means.estimate_tables import ContrastTable, EstimateTable
from fastlmm_core.means.pair_memory import PAIR_BYTES
from fastlmm_core.means.table_labels import free_name, group_rows, row_labels, same_labels
from fastlmm_core.multiplicity.adjustments import STEPWISE, Family, check_adjust, stepwise_p
from fastlmm_core.multiplicity.distributions import t_two_sided
from fastlmm_core.progress_bar import terminal_bar
from fastlmm_core.reading.parquet import requires_pyarrow

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

logger = logging.getLogger("fastlmm_core.pairs")

CHUNK = 200_000
SAMPLE = 20_000
WHOLE_FAMILY_ONLY = ("mvt", "hommel")


@dataclass(frozen=True, repr=False)
class PairsForecast(Displayed):
    """What all pairs of a table of means would take.

    Attributes
    ----------
    n_means, n_groups, n_pairs : int
        Means, groups of `by`, and pairs within the groups.
    seconds : float
        Scaled up from a sample of this table's own pairs, timed now on this machine.
    memory_whole, memory_streamed : int
        Bytes of `pairs().to_frame()` and of `stream_pairs`, beyond what the table of means holds.
    """

    n_means: int
    n_groups: int
    n_pairs: int
    seconds: float
    memory_whole: int
    memory_streamed: int

    def _shown(self) -> str:
        return (
            f"{self.n_pairs:,} pairs of {self.n_means:,} means: about {self.seconds:.1f} s; "
            f"{self.memory_whole / 1e6:,.0f} MB as one table, {self.memory_streamed / 1e6:,.0f} MB streamed"
        )


@dataclass(frozen=True, eq=False, repr=False)
class PairChunk(ContrastTable):
    """Some of the pairs of each group, tested as members of the family of all pairs.

    Attributes
    ----------
    n_tests : ndarray (n_groups,) of int
        Estimable pairs of each whole family.
    rank : callable or None
        Rank of the whole family's coefficients, for Scheffé.
    stepwise : ndarray (c,) or None
        Adjusted p values that need the whole family's.
    """

    n_tests: Integers | None = None
    rank: Callable[[], Integers] | None = None
    stepwise: Floats | None = None

    @cached_property
    def family(self) -> Family:
        """The family of all pairs."""
        return Family(self.group, self.kind, self.n_means, self.rank, None, self.n_tests)

    @cached_property
    def p(self) -> Floats:
        """Two-sided p values (c,) with the adjustment over all pairs."""
        return super().p if self.stepwise is None else self.stepwise


@dataclass(frozen=True)
class PairSource:
    """All pairs within the groups of a table of means, numbered as `pairs()` has its rows.

    Attributes
    ----------
    table : EstimateTable
    members : ndarray (n_groups, k)
        Rows of the means of each group.
    shown : tuple of str
        Label of each mean within a group, (k,).
    adjust : str
    level : float
    """

    table: EstimateTable
    members: Integers
    shown: tuple[str, ...]
    adjust: str
    level: float

    @classmethod
    def of(cls, table: EstimateTable, adjust: str, level: float | None) -> PairSource:
        """Pairs of the means of `table` within its groups of `by`.

        Raises
        ------
        OptionError
            For an unknown adjustment or level, one mean only, or groups of different means.
        """
        _, members = group_rows(table.labels, table.by)
        if members.shape[1] < 2:
            raise OptionError("pairs compare means, and there is only one here in each group")
        if not same_labels(table.labels, table.by, list(members)):
            raise OptionError(
                f"the groups of by={list(table.by)!r} have different means; take them one at a time by at="
            )
        names = MeanLabels.of(row_labels(table.labels.iloc[members[0]], table.by))
        wanted = check_level(table.level if level is None else level)
        return cls(table, members, names.shown, check_adjust(adjust), wanted)

    @property
    def per_group(self) -> int:
        """Pairs of one group."""
        k = self.members.shape[1]
        return k * (k - 1) // 2

    @cached_property
    def estimable(self) -> Integers:
        """Estimable pairs of each group, (n_groups,)."""
        return np.array([self._estimable_among(rows) for rows in self.members])

    def _estimable_among(self, rows: Integers) -> int:
        """Estimable pairs of some means, which fall into classes within which every difference is."""
        table, n = self.table, 0
        while rows.size:
            A = signed_pairs(np.full(rows.size - 1, rows[0]), rows[1:], len(table))
            if table.weights is not None:
                A = sp.csr_array(A @ table.weights)
            same = table.functions.estimable_among(A) & (abs(A) @ table.undefined.astype(np.float64) == 0.0)
            alike = int(np.count_nonzero(same))
            n += alike * (alike + 1) // 2
            rows = rows[1:][~same]
        return n

    def __len__(self) -> int:
        return self.per_group * len(self.members)

    def positions(self, pair: Integers) -> tuple[Integers, Integers, Integers]:
        """Group and the two means within it, of pairs numbered by the rows of the upper triangle."""
        k = self.members.shape[1]
        group, rest = np.divmod(pair, self.per_group)
        start = np.concatenate([[0], np.cumsum(np.arange(k - 1, 0, -1))])  # first pair of each mean
        first = np.searchsorted(start, rest, side="right") - 1
        return group, first, first + 1 + rest - start[first]

    def chunk(self, group: Integers, first: Integers, second: Integers, labelled: bool = True) -> PairChunk:
        """The differences first - second of means within groups, (c,) each, with labels or none."""
        table = self.table
        plus, minus = self.members[group, first], self.members[group, second]
        A = signed_pairs(plus, minus, len(table))
        labels = self._labels(group, first, second) if labelled else pd.DataFrame(index=range(group.size))
        own = {f.name: getattr(table, f.name) for f in fields(EstimateTable)}
        own |= {
            "labels": labels, "weights": A if table.weights is None else sp.csr_array(A @ table.weights),
            "kind": "pairs", "n_means": self.members.shape[1], "adjust_asked": self.adjust,
            "level": self.level, "title": "Contrasts", "group": group,
        }  # fmt: skip
        return PairChunk(**own, n_tests=self.estimable, rank=self.ranks)

    def _labels(self, group: Integers, first: Integers, second: Integers) -> pd.DataFrame:
        by = self.table.labels[list(self.table.by)]
        labels = pd.DataFrame({free_name(self.table.by): pair_labels(first, second, self.shown)})
        for name in by:
            labels[name] = by[name].to_numpy()[self.members[group, 0]]
        return labels

    def errors(self) -> tuple[Floats, Floats]:
        """Standard error and df of every pair, (n_pairs,) each, and nothing else of them."""
        n = len(self)
        se, df = np.empty(n), np.empty(n)
        for first in range(0, n, CHUNK):
            pairs = np.arange(first, min(first + CHUNK, n))
            part = self.chunk(*self.positions(pairs), labelled=False)
            se[pairs], df[pairs] = part.se, part.df
        return se, df

    def numbered(self, first: int, last: int) -> PairChunk:
        """Pairs first to last - 1."""
        chunk = self.chunk(*self.positions(np.arange(first, min(last, len(self)))))
        return _renumbered(chunk, first)

    def ranks(self) -> Integers:
        """Rank of each group's coefficients: the differences span what k I - 11' spans."""
        k = self.members.shape[1]
        centre = np.eye(k) - 1.0 / k
        K = sp.csr_array(self.table.coefficients)
        products = (centre @ K[rows].toarray() for rows in self.members)
        return np.array([row_rank(x) for x in products])


def _renumbered(chunk: PairChunk, first: int) -> PairChunk:
    chunk.labels.index = pd.RangeIndex(first, first + len(chunk))
    return chunk


def forecast(source: PairSource, chunk: int = CHUNK) -> PairsForecast:
    """Time and memory of all pairs, from a sample spread over them."""
    n = len(source)
    sample = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64))
    source.chunk(*source.positions(sample[:2])).to_frame()  # tables of the studentized range are made once
    start = perf_counter()
    if n > len(source.table):
        source.table.covariance()  # formed once, whatever the number of pairs
    formed = perf_counter()
    source.chunk(*source.positions(sample)).to_frame()
    seconds = formed - start + (perf_counter() - formed) * n / sample.size
    held = 16 * n if source.adjust in STEPWISE else 0
    streamed = 2 * PAIR_BYTES * min(n, chunk) + held  # a frame is in use while the next is made
    return PairsForecast(len(source.table), len(source.members), n, seconds, PAIR_BYTES * n, streamed)


def stream(source: PairSource, chunk: int, progress: bool) -> Iterator[pd.DataFrame]:
    """Frames of up to `chunk` pairs in the order of `pairs()`.

    Raises
    ------
    InferenceError
        For mvt and hommel, which need the whole family at once.
    MemoryForecastError
        When even the chunks do not fit.
    OptionError
        For a `chunk` that is not a positive whole number.
    """
    if isinstance(chunk, bool) or not isinstance(chunk, (int, np.integer)) or chunk < 1:
        raise OptionError(f"chunk={chunk!r} must be a positive whole number of pairs")
    if source.adjust in WHOLE_FAMILY_ONLY:
        raise InferenceError(
            f"adjust='{source.adjust}' needs all pairs at once and cannot be streamed; use pairs(), or "
            "'tukey', 'holm', 'fdr' or another adjustment here"
        )
    expected = forecast(source, chunk)
    check_memory(
        expected.memory_streamed, None, f"streaming {expected.n_pairs:,} pairs", advice="Use a smaller chunk"
    )
    logger.info("%s", expected)
    return _frames(source, int(chunk), progress, expected)


def _frames(
    source: PairSource, chunk: int, progress: bool, expected: PairsForecast
) -> Iterator[pd.DataFrame]:
    n = len(source)
    stepwise = source.adjust in STEPWISE and source.per_group > 1
    bar = _bar(2 * n if stepwise else n, progress, expected)
    try:
        adjusted = _stepwise(source, chunk, bar) if stepwise else None
        for first in range(0, n, chunk):
            part = source.numbered(first, first + chunk)
            if adjusted is not None:
                object.__setattr__(part, "stepwise", adjusted[first : first + len(part)])
            frame = part.to_frame()
            bar(len(part))
            yield frame
    finally:
        bar(None)


def _stepwise(source: PairSource, chunk: int, bar: Callable[[int | None], None]) -> Floats:
    """Adjusted p values of all pairs; the unadjusted ones are the only figures held at once."""
    n, size = len(source), source.per_group
    raw = np.empty(n)
    for first in range(0, n, chunk):
        part = source.numbered(first, first + chunk)
        raw[first : first + len(part)] = t_two_sided(part.t, part.df)
        bar(len(part))
    for first in range(0, n, size):
        raw[first : first + size] = stepwise_p(raw[first : first + size], source.adjust)
    return raw


def _bar(total: int, wanted: bool, expected: PairsForecast) -> Callable[[int | None], None]:
    """Called with pairs done, or None at the end; a bar on a terminal that has tqdm, else nothing."""
    bar = terminal_bar(total, wanted, logger, heading=str(expected), unit="pair", unit_scale=True)

    def add(done: int | None) -> None:
        if bar is not None:
            bar.close() if done is None else bar.update(done)

    return add


def write_parquet(frames: Iterator[pd.DataFrame], path: str | Path) -> Path:
    """Write the frames as row groups of one Parquet file; a file that could not be finished is removed.

    Raises
    ------
    DependencyError
        Without pyarrow.
    """
    with requires_pyarrow():
        import pyarrow as pa
        import pyarrow.parquet as pq
    target = Path(path)
    partial = target.with_name(target.name + ".part")
    writer: Any = None
    try:
        for frame in frames:
            rows = pa.Table.from_pandas(frame, preserve_index=False, schema=writer and writer.schema)
            writer = writer or pq.ParquetWriter(partial, rows.schema)
            writer.write_table(rows)
        writer.close()
        partial.replace(target)
    except BaseException:
        if writer is not None:
            writer.close()
        partial.unlink(missing_ok=True)
        raise
    return target
