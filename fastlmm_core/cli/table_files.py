"""Tables of a command as files; pandas is imported by whoever has tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd


# Those of `table_formats.WRITERS`, which loads pandas.
FORMATS = ("csv", "parquet", "json", "arrow")


def check_format(arguments: argparse.Namespace) -> None:
    """Raises OptionError for a format of tables that are not written."""
    if arguments.format and not arguments.out:
        raise OptionError("--format belongs to --out DIR")


def write_tables(tables: dict[str, pd.DataFrame], folder: Path, form: str | None) -> list[Path]:
    """Write each table to `folder` in one of `FORMATS`, unrounded, each file whole or not at all, and say so.

    The format is csv where nobody said.

    Raises
    ------
    DataError
        When the folder or a file cannot be made.
    DependencyError
        For parquet and arrow without pyarrow.
    """
    from ..durable_files import place_file
    from ..table_formats import table_bytes
    from .strangers import written as written_to

    make_folder(folder)
    written, form = [], form or FORMATS[0]
    for name, frame in tables.items():
        target = folder / f"{name}.{form}"
        with written_to(target):
            place_file(target, table_bytes(frame, form))
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
