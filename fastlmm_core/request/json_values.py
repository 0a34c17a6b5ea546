"""Values of an answer in JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def records_of(table: Any) -> list[dict[str, Any]]:
    """Rows of a table by column."""
    frame = table if isinstance(table, pd.DataFrame) else table.to_frame()
    return [
        dict(zip(map(str, frame.columns), row, strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays as lists, NaN as None, infinity as "Inf"."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub" and np.isfinite(value).all():  # a covariance has thousands of elements
            return value.tolist()
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return None
        return number if math.isfinite(number) else ("Inf" if number > 0 else "-Inf")
    if pd.isna(value):
        return None
    return str(value)
