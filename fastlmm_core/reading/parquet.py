"""Parquet files need pyarrow, which is an optional extra: one guard for all who read or write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from fastlmm_core.errors import DataError, DependencyError, LimitError
from fastlmm_core.limits import DEFAULT, Limits, escaped


@contextmanager
def requires_pyarrow() -> Iterator[None]:
    """Around imports of pyarrow, and calls of pandas that import it.

    Raises
    ------
    DependencyError
        When it is missing, or too old for pandas.
    """
    try:
        yield
    except ImportError as err:
        raise DependencyError(
            "Parquet needs pyarrow: pip install 'fastlmm_core[batch]', or pyarrow alone"
        ) from err


def read_parquet(path: Path, limits: Limits = DEFAULT) -> pd.DataFrame:
    """The table of a Parquet file.

    Raises
    ------
    DataError
        When it cannot be read.
    LimitError
        When it is larger than the limits allow.
    """
    with requires_pyarrow():
        import pyarrow.parquet as pq
    try:
        found = pq.read_metadata(path)
        packed = sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups))
        size = max(packed, 8 * found.num_rows * found.num_columns)  # runs of one value are packed to nothing
        limits.check("file_size", size, f"'{escaped(path.name)}' unpacks to {{}} bytes")
        return frame_from_arrow(pq.read_table(path))
    except LimitError:
        raise
    except Exception as err:  # pyarrow raises its own tree of errors for damaged files
        raise DataError(f"'{path}' is not a readable Parquet file: {err}") from err


def read_arrow(path: Path, limits: Limits = DEFAULT) -> pd.DataFrame:
    """The table of an Arrow file (Feather is another name of it) or stream.

    Raises
    ------
    DataError
        When it cannot be read.
    LimitError
        When it is larger than the limits allow; its batches are counted before they are put together.
    """
    with requires_pyarrow():
        import pyarrow as pa
    try:
        with pa.OSFile(str(path)) as file:
            batches, size = [], 0
            for batch in arrow_batches(file):
                batches.append(batch)
                size += max(batch.nbytes, 8 * batch.num_rows * batch.num_columns)
                limits.check("file_size", size, f"'{escaped(path.name)}' unpacks to at least {{}} bytes")
            return frame_from_arrow(pa.Table.from_batches(batches))
    except LimitError:
        raise
    except Exception as err:  # as above
        raise DataError(f"'{path}' is not a readable Arrow file: {err}") from err


def arrow_batches(file: Any) -> Iterator[Any]:
    """The record batches of a file or stream of Arrow's IPC format; a table without rows is one of them."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_stream(file)
        yield from reader
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)


def frame_from_arrow(table: Any) -> pd.DataFrame:
    """A pyarrow table as a DataFrame; whole numbers with missing ones among them stay whole.

    ``to_pandas`` would make float64 of them, in which 2**53 and 2**53 + 1 are one number.
    """
    frame = table.to_pandas()
    if frame.columns.is_unique:
        for name in frame.columns.intersection(table.column_names):
            frame[name] = exact_integers(table.column(name), frame[name])
    return frame


def exact_integers(column: Any, converted: pd.Series) -> pd.Series:
    """The converted column, or pandas' nullable integers where float64 was made of integers."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or not column.null_count:
        return converted
    dtype = {str(kind).lower(): kind for kind in NULLABLE}[str(column.type)]
    return pd.Series(column.to_pandas(types_mapper=lambda kind: dtype).array, index=converted.index)


NULLABLE = (
    pd.Int8Dtype(), pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype(),
    pd.UInt8Dtype(), pd.UInt16Dtype(), pd.UInt32Dtype(), pd.UInt64Dtype(),
)  # fmt: skip
