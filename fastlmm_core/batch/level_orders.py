"""One order of the levels of a categorical column whose Parquet files know some of them each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

LevelOrders = dict[str, pd.CategoricalDtype | None]


def level_orders(parts: Iterable[Any], schema: Any, names: Sequence[str]) -> LevelOrders:
    """The categories of the categorical ones of some columns, in an order that agrees with every row group.

    None where there is no such order.

    Parameters
    ----------
    parts : iterable of pyarrow dataset fragments
        The row groups; of each the categories are read, and one row.
    schema : pyarrow Schema
        Of the dataset.
    names : sequence of str
    """
    import pyarrow as pa

    found: dict[str, dict[tuple[Any, ...], None]] = {
        name: {} for name in names if pa.types.is_dictionary(schema.field(name).type)
    }
    for part in parts if found else ():
        row = part.scanner(schema=schema, columns=list(found)).head(1)
        for name, orders in found.items():
            orders |= {tuple(chunk.dictionary.to_pylist()): None for chunk in row.column(name).chunks}
    out: LevelOrders = {}
    for name, orders in found.items():
        merged = merged_order(orders)
        ordered = bool(schema.field(name).type.ordered)
        out[name] = None if merged is None else pd.CategoricalDtype(merged, ordered)
    return out


def merged_order(orders: Iterable[Sequence[Any]]) -> list[Any] | None:
    """All levels in an order that agrees with each of the given ones; None where these contradict each other.

    Of levels that none of them compares the smaller comes first: files with alphabetical orders give the
    alphabetical one (Kahn 1962, Commun. ACM 5:558, with a heap).
    """
    after: dict[Any, set[Any]] = {}
    for order in orders:
        for level in order:
            after.setdefault(level, set())
        for first, second in pairwise(order):
            after[first].add(second)
    before = dict.fromkeys(after, 0)
    for level in (second for seconds in after.values() for second in seconds):
        before[level] += 1
    free = [level for level, count in before.items() if not count]
    heapq.heapify(free)
    out = []
    while free:
        out.append(heapq.heappop(free))
        for second in after[out[-1]]:
            before[second] -= 1
            if not before[second]:
                heapq.heappush(free, second)
    return out if len(out) == len(after) else None


def in_orders(frame: pd.DataFrame, orders: Mapping[str, pd.CategoricalDtype | None]) -> pd.DataFrame:
    """A part of the rows with these orders of its levels; plain labels where there is none.

    Levels that a row group holds beyond its first dictionary come behind the others.
    """
    types: dict[str, Any] = {}
    for name, order in orders.items():
        types[name] = object
        if order is not None:
            beyond = frame[name].cat.categories.difference(order.categories)
            types[name] = pd.CategoricalDtype(order.categories.append(beyond), order.ordered)
    return frame.astype(types) if orders else frame


def order_notes(orders: Mapping[str, pd.CategoricalDtype | None]) -> tuple[str, ...]:
    """What a batch has to say of columns without a common order."""
    return tuple(
        f"column '{name}': the files order its levels in ways that contradict each other, so that it is read "
        "as text; give all files the same categories to keep their order"
        for name, order in orders.items() if order is None
    )  # fmt: skip
