"""Tables as the bytes of a file: CSV, JSON records, Parquet, Arrow."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .reading.parquet import requires_pyarrow

LISTS: set[type] = {list, tuple, np.ndarray}  # cells that hold several values, such as rows of a covariance


def table_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """A table, without its index and unrounded, as a file of the format `form`, a key of `WRITERS`.

    Raises
    ------
    DependencyError
        For Parquet and Arrow without pyarrow.

    Examples
    --------
    >>> import pandas as pd
    >>> from fastlmm_core.table_formats import table_bytes
    >>> table_bytes(pd.DataFrame({"gen": ["G1"], "df": [float("inf")]}), "csv")
    b'gen,df\\nG1,inf\\n'
    """
    return WRITERS[form](frame)


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Comma separated, missing values empty, lists as JSON; a lone surrogate of a label is escaped."""
    lists = {
        name: [json.dumps([None if x != x else x for x in np.asarray(own).tolist()]) for own in frame[name]]
        for name in frame.columns
        if _kinds(frame[name]) & LISTS
    }
    text = frame.assign(**lists).to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8", "backslashreplace")


def json_bytes(frame: pd.DataFrame) -> bytes:
    """A list of records."""
    return frame.to_json(orient="records", double_precision=15, indent=1).encode("utf-8")


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file."""
    table = arrow_table(frame)
    with requires_pyarrow():
        import pyarrow.parquet as pq
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def arrow_bytes(frame: pd.DataFrame) -> bytes:
    """A table as an Arrow file (IPC; Feather is another name of it), not compressed: it can be mapped."""
    table = arrow_table(frame)
    with requires_pyarrow():
        import pyarrow as pa
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def arrow_table(frame: pd.DataFrame) -> Any:
    """The table of pyarrow; missing figures are null, and columns of labels of several kinds are text.

    Raises
    ------
    DependencyError
        Without pyarrow.
    """
    with requires_pyarrow():
        import pyarrow as pa
    mixed = {name: _as_text(frame[name]) for name in frame.columns if _is_mixed(_kinds(frame[name]))}
    return pa.Table.from_pandas(frame.assign(**mixed), preserve_index=False)


def _kinds(column: pd.Series) -> set[type]:
    """Types of the values of a column of objects, of which there are few; none for other columns."""
    return set(map(type, column)) - {type(None)} if column.dtype == object else set()


def _is_mixed(kinds: set[type]) -> bool:
    return len(kinds) > 1 and not kinds & LISTS


def _as_text(column: pd.Series) -> pd.Series:
    return column.map(str, na_action="ignore")


#: By the name of the format, which is also how files of it end.
WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": csv_bytes, "parquet": parquet_bytes, "json": json_bytes, "arrow": arrow_bytes,
}  # fmt: skip
