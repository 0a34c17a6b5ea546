"""Tables as the bytes of a file: CSV, JSON records, Parquet, Arrow."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError
from fastlmm_core.reading.parquet import requires_pyarrow

LISTS = (list, tuple, np.ndarray)  # cells that hold several values, such as rows of a covariance
# Kinds of values that have one type in a file; of others each type is a kind.
KINDS: dict[str, tuple[type, ...]] = {
    "truth": (bool, np.bool_), "number": (int, float, np.integer, np.floating), "text": (str,), "list": LISTS,
}  # fmt: skip


def table_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """A table, without its index and unrounded, as a file of the format `form`, a key of `WRITERS`.

    Raises
    ------
    DataError
        For columns of the same name, and for values that the format has no type for.
    DependencyError
        For Parquet and Arrow without pyarrow.

    Examples
    --------
    >>> import pandas as pd
    >>> from fastlmm_core.table_formats import table_bytes
    >>> table_bytes(pd.DataFrame({"gen": ["G1"], "df": [float("inf")]}), "csv")
    b'gen,df\\nG1,inf\\n'
    """
    names = pd.Index([str(name) for name in frame.columns])
    if not names.is_unique:
        twice = names[names.duplicated()][0]
        raise DataError(f"two columns of a table are named '{twice}'; rename one of them")
    return WRITERS[form](frame.set_axis(names, axis=1))


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Comma separated, missing values empty, lists as JSON; a lone surrogate of a label is escaped."""
    lists = {name: frame[name].map(_list_as_json) for name in frame.columns if "list" in _kinds(frame[name])}
    text = frame.assign(**lists).to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8", "backslashreplace")


def json_bytes(frame: pd.DataFrame) -> bytes:
    """A list of records; infinity as "Inf", as in answers, since JSON has no number for it."""
    numbers = {str(name): frame[name] for name in frame if pd.api.types.is_float_dtype(frame[name].dtype)}
    infinite = {
        name: column.astype(object).map(_nested) for name, column in numbers.items()
        if np.isinf(column.to_numpy(float, na_value=np.nan)).any()
    }  # fmt: skip
    frame = frame.assign(**infinite)
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
    """The table of pyarrow; missing values are null, and columns of labels of several kinds are text.

    Whole numbers among others are one kind with them; truth values are a kind of their own.

    Raises
    ------
    DataError
        Where the values of a column have no type there.
    DependencyError
        Without pyarrow.
    """
    with requires_pyarrow():
        import pyarrow as pa
    mixed = {name: _as_text(frame[name]) for name in frame.columns if _is_mixed(_kinds(frame[name]))}
    frame = frame.assign(**mixed)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(_untyped(frame, error)) from error


def _untyped(frame: pd.DataFrame, error: Exception) -> str:
    """What to say of the first column that is none of a file with types."""
    import pyarrow as pa

    for name in frame.columns:
        try:
            pa.Array.from_pandas(frame[name])
        except (pa.ArrowException, OverflowError) as own:
            return f"column '{name}' has no type in Parquet and Arrow files ({own.args[0]}); write csv"
    return f"the table cannot be a Parquet or Arrow file ({error}); write csv"


def _kinds(column: pd.Series) -> set[object]:
    """Kinds of the values of a column of objects or of its categories; none for other columns."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if values.dtype != object:
        return set()
    types = set(map(type, values)) - {type(None), type(pd.NA), type(pd.NaT)}
    floats = {own for own in types if issubclass(own, (float, np.floating))}
    if floats and not any(isinstance(own, tuple(floats)) and own == own for own in values):
        types -= floats  # all of them are NaN
    return {next((kind for kind, own in KINDS.items() if issubclass(t, own)), t) for t in types}


def _is_mixed(kinds: set[object]) -> bool:
    return len(kinds) > 1 and "list" not in kinds


def _as_text(column: pd.Series) -> pd.Series:
    return column.astype(object).map(str, na_action="ignore")


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value


def _list_as_json(cell: Any) -> Any:
    """A list as JSON, infinity as "Inf" as in answers; other cells as they are."""
    return json.dumps(_nested(cell), default=str) if isinstance(cell, LISTS) else cell


def _nested(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, LISTS):
        return [_nested(own) for own in value]
    if _is_missing(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return value


#: By the name of the format, which is also how files of it end.
WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": csv_bytes, "parquet": parquet_bytes, "json": json_bytes, "arrow": arrow_bytes,
}  # fmt: skip
