"""Tables of a command as files; pandas is imported by whoever has tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def write_tables(tables: dict[str, pd.DataFrame], folder: Path, form: str) -> list[Path]:
    """Write each table to `folder` as csv, parquet or json (records), unrounded, and say so.

    Raises
    ------
    DataError
        When the folder cannot be made.
    DependencyError
        For parquet without pyarrow.
    """
    make_folder(folder)
    written = []
    for name, frame in tables.items():
        target = folder / f"{name}.{form}"
        if form == "csv":
            frame.to_csv(target, index=False)
        elif form == "json":
            frame.to_json(target, orient="records", double_precision=15, indent=1)
        else:
            from ..reading.parquet import requires_pyarrow

            with requires_pyarrow():
                frame.to_parquet(target, index=False)
        written.append(target)
    print(f"\n{len(written)} tables written to {folder}/: {', '.join(path.name for path in written)}")
    return written


def make_folder(folder: Path) -> None:
    """Make a folder for what is written.

    Raises
    ------
    DataError
        When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"folder '{folder}' cannot be made: {err.strerror}") from err
