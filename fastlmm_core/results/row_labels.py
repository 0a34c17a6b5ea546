"""Labels of rows in JSON: texts that any version reads, and beside them what they were."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def described_labels(index: Any) -> dict[str, Any]:
    """``index``, labels as text where they are neither numbers nor text, and ``rows``, what they were.

    Of dates ``rows`` has ``unit`` and ``zone``, of labels with several parts ``parts``, a description of
    each; ``name`` where there is one. There is no ``rows`` where nothing needs to be said. Dates in a zone
    that its name does not bring back, such as a file of dateutil, are text.

    Examples
    --------
    >>> described_labels(pd.Index(["a", "b"]))
    {'index': ['a', 'b']}
    >>> described_labels(pd.date_range("2024-05-01", periods=1, name="day", unit="s"))
    {'index': ['2024-05-01 00:00:00'], 'rows': {'name': 'day', 'unit': 's', 'zone': None}}
    """
    if index is None:
        return {"index": None}
    rows: dict[str, Any] = {"name": index.name} if isinstance(index.name, (str, int)) else {}
    labels = [label if _is_kept(label) else str(label) for label in index.tolist()]
    if isinstance(index, pd.MultiIndex):
        rows["parts"] = [described_labels(index.get_level_values(k)) for k in range(index.nlevels)]
    elif isinstance(index, pd.DatetimeIndex) and _has_readable_zone(index):
        rows |= {"unit": index.unit, "zone": None if index.tz is None else str(index.tz)}
        labels = [str(label) for label in (index if index.tz is None else index.tz_convert("UTC"))]
    return {"index": labels} | ({"rows": rows} if rows else {})


def restored_labels(described: dict[str, Any]) -> Any:
    """The index that `described_labels` describes; None of none.

    Examples
    --------
    >>> days = pd.date_range("2024-05-01", periods=2, tz="Europe/Berlin", name="day")
    >>> restored_labels(described_labels(days)).equals(days)
    True
    """
    labels, rows = described["index"], described.get("rows", {})
    if labels is None:
        return None
    if "parts" in rows:
        parts = [restored_labels(part) for part in rows["parts"]]
        return pd.MultiIndex.from_arrays(parts, names=[part.name for part in parts])
    if "unit" in rows:
        days = pd.DatetimeIndex(pd.to_datetime(labels, format="ISO8601", utc=rows["zone"] is not None))
        days = days if rows["zone"] is None else days.tz_convert(rows["zone"])
        return days.as_unit(rows["unit"]).rename(rows.get("name"))
    return pd.Index(labels, name=rows.get("name"))


def _has_readable_zone(index: pd.DatetimeIndex) -> bool:
    """Whether dates have no time zone, or one that its name brings back: a file has nothing else of it."""
    try:
        return index.tz is None or bool(index[:0].tz_convert(str(index.tz)).tz is not None)
    except (KeyError, ValueError):
        return False


def _is_kept(label: Any) -> bool:
    """Whether JSON has labels of this kind: finite numbers and texts."""
    return isinstance(label, (int, str)) or (isinstance(label, float) and math.isfinite(label))
