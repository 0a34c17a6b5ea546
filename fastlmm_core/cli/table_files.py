"""Tables of a command as files; pandas is imported by whoever has tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastlmm_core.errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd


RECORD = ".fastlmm_tables.json"
# Those of `table_formats.WRITERS`, which loads pandas.
FORMATS = ("csv", "parquet", "json", "arrow")


def check_format(arguments: argparse.Namespace) -> None:
    """Raises OptionError for a format of tables that are not written."""
    if arguments.format and not arguments.out:
        raise OptionError("--format belongs to --out DIR")


def write_tables(
    tables: dict[str, pd.DataFrame], folder: Path, form: str | None, command: str
) -> list[Path]:  # fmt: skip
    """Write each table to `folder` in one of `FORMATS`, unrounded, each file whole or not at all, and say so.

    The format is csv where nobody said. Tables that the same command wrote there before, which it does not
    write now in any format and nobody has changed since, are of another analysis and are removed; a note
    names them. `RECORD` keeps which these are, with their hashes.

    Raises
    ------
    DataError
        When the folder or a file cannot be made.
    DependencyError
        For parquet and arrow without pyarrow.
    """
    from fastlmm_core.cli.strangers import written as written_to
    from fastlmm_core.durable_files import place_file
    from fastlmm_core.table_formats import table_bytes

    make_folder(folder)
    written, form = [], form or FORMATS[0]
    for name, frame in tables.items():
        target = folder / f"{name}.{form}"
        with written_to(target):
            place_file(target, table_bytes(frame, form))
        written.append(target)
    with written_to(folder / RECORD):
        _drop_others(folder, command, [path.name for path in written])
    print(f"\n{len(written)} tables written to {folder}/: {', '.join(path.name for path in written)}")
    return written


def _drop_others(folder: Path, command: str, names: list[str]) -> None:
    """Remove what the command wrote before beside these names, and record them."""
    from fastlmm_core.cli.strangers import say_note
    from fastlmm_core.durable_files import checksum, place_file, read_signed, signed

    record = read_signed(folder / RECORD) or {}  # none yet, or damaged
    there = {name: told for name, told in record.get(command, {}).items() if (folder / name).is_file()}
    stems = {Path(name).stem for name in names}
    gone = [
        name for name, told in there.items()
        if Path(name).stem not in stems and checksum((folder / name).read_bytes()) == told
    ]  # fmt: skip
    for name in gone:
        (folder / name).unlink()
    if gone:
        say_note(f"removed from {folder}/ as tables of an earlier analysis: {', '.join(gone)}")
    kept = {name: told for name, told in there.items() if name not in gone}
    now = {name: checksum((folder / name).read_bytes()) for name in names}
    place_file(folder / RECORD, signed({**record, command: kept | now}))


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
