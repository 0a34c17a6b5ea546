"""Options of both commands that say how a table is to be read; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any

FILES = "table: .csv, .tsv, .txt (also .gz, .zst), .xlsx, .parquet or .arrow, or a folder of text files"


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Describe them to a parser."""
    reader = parser.add_argument_group("how the table is read (found by looking at it; docs/reading.md)")
    reader.add_argument(
        "--factor", action="append", default=[], metavar="COLUMNS",
        help="take these columns as labels, as they are written: 007 and 7 are two levels",
    )  # fmt: skip
    reader.add_argument("--sep", metavar="CHAR", help="separator: ',' ';' '|' or tab")
    reader.add_argument("--decimal", metavar="CHAR", help="decimal sign: '.' or ','")
    reader.add_argument("--encoding", metavar="NAME", help="of the text: utf-8, latin-1, utf-16, ...")
    reader.add_argument(
        "--na", action="append", default=[], metavar="[COLUMN=]CODES",
        help="further codes of missing values (-9,x); with COLUMN= all codes of a column, so that gen= keeps "
        "NA as a label, and with = alone all codes of all columns",
    )  # fmt: skip
    reader.add_argument("--sheet", metavar="SHEET", help="sheet of a spreadsheet, by name or number")
    reader.add_argument("--skip", type=int, metavar="LINES", help="lines above the header")


def arguments_of_reader(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as `reading.read_options` takes it."""
    from fastlmm_core.reading import parse_codes

    names = ("sep", "decimal", "encoding", "sheet", "skip")
    options = {name: getattr(arguments, name) for name in names}
    return {**options, "na_values": parse_codes(arguments.na)}


def listed_names(values: list[str]) -> list[str]:
    """Names of columns given one by one or separated by commas."""
    return [name.strip() for value in values for name in value.split(",") if name.strip()]
