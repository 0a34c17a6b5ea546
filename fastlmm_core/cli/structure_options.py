"""Options of both commands about covariance structures; nothing heavy is imported."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastlmm_core.cli.strangers import say_note
from fastlmm_core.errors import DataError, OptionError

FORMS = (
    "write NAME=FILE, or NAME=KIND:FILE with pedigree, covariance, inverse or markers, or "
    "NAME=single_step(pedigree=A, genomic=M) of two others"
)
# Options of a kind that are lists: of columns, of codes.
LISTS = ("columns", "missing", "groups")
OPTION_FORM = "write 'A=pedigree(selfing=COLUMN):FILE', 'M=markers(impute=mean, ridge=0.01):FILE'"


def add_structure_options(parser: argparse.ArgumentParser) -> None:
    """Describe them to a parser."""
    own = parser.add_argument_group("covariance structures (docs/formulas.md)")
    own.add_argument(
        "--residual", default="units", metavar="TEXT",
        help="of the residuals: 'units | env', 'us(visit | subject)', 'ar1(row):ar1(col) | env', ...",
    )  # fmt: skip
    own.add_argument(
        "--field-trend", metavar="TEXT",
        help="trend over the plots of a field: ps, ar1, or with its columns 'ps(range, bed)'; "
        "'ps | env' one for each environment (docs/field_trials.md)",
    )  # fmt: skip
    own.add_argument(
        "--relationship", action="append", default=[], metavar="NAME=[KIND:]FILE",
        help="what vm(gen, NAME) means: a file with a pedigree (id,sire,dam), a covariance (square, or "
        "row,col,value) or markers, found by looking at it; inverse:FILE for an inverse; "
        "'pedigree(selfing=COLUMN):FILE' and 'markers(impute=mean, centre=2p):FILE' say how it is read; "
        "'single_step(pedigree=A, genomic=M)' is H of two others that are given",
    )  # fmt: skip
    own.add_argument(
        "--hold", action="append", default=[], metavar="NAME=VALUE",
        help="hold a variance (Residual=40) or a covariance ('us(0 + x | g)=[[2,1],[1,3]]') at a value",
    )  # fmt: skip
    own.add_argument(
        "--start", action="append", default=[], metavar="NAME=VALUE",
        help="variance or covariance from which the search starts, written as --hold",
    )  # fmt: skip


def structures_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as `lmm` and `fit_batch` take it; kinds that were found are said in a note."""
    from fastlmm_core.reading.options import missing_codes, parse_codes

    missing = missing_codes(parse_codes(arguments.na)).added
    return {
        "residual": arguments.residual,
        "relationships": relationships_given(arguments.relationship, missing),
        "fixed_parameters": parameters_given(arguments.hold, "--hold") or None,
        "start": parameters_given(arguments.start, "--start") or None, "field_trend": arguments.field_trend,
    }  # fmt: skip


def check_relationships(
    structures: dict[str, Any], formulas: Any, arguments: argparse.Namespace, stage: str | None = None
) -> None:
    """Raises OptionError for a relationship that neither a formula nor that of a second stage names."""
    from fastlmm_core.batch.candidates import check_relationships_used, relationships_in
    from fastlmm_core.cli.strangers import limits_given
    from fastlmm_core.limits import Limits

    if structures["relationships"]:
        limits = Limits.of(limits_given(arguments.limit))
        named = relationships_in(formulas, arguments.residual, limits)
        named |= relationships_in(stage, None, limits) if stage else set()
        check_relationships_used(structures["relationships"], named)


def relationships_given(texts: list[str], missing: Sequence[str] = ()) -> dict[str, Any]:
    """{name: relationship} of the options ``--relationship name=file``; `missing` are codes of ``--na``.

    Raises
    ------
    OptionError
        For one without "=", or a name that is given twice.
    DataError
        For a file that is not there, or is none of the kinds.
    """
    from fastlmm_core.structures.relationships.given import (
        KINDS,
        SINGLE_STEP,
        found_kind,
        made_together,
        relationship_from_request,
    )

    specs: dict[str, Any] = {}
    for text in texts:
        name, equals, source = (part.strip() for part in text.partition("="))
        if not equals or not name or not source:
            raise OptionError(f"--relationship {text}: {FORMS}")
        if name in specs:
            raise OptionError(f"--relationship names '{name}' twice")
        kind, options, file = kind_and_options(name, source, KINDS, SINGLE_STEP)
        if kind == SINGLE_STEP:
            specs[name] = {**options, "type": kind}
            continue
        path = Path(file)
        if not path.is_file():
            raise DataError(f"--relationship {name}: there is no file '{path}'; {FORMS}")
        if kind is None:
            kind = found_kind(path, missing)
            say_note(f"'{path}' is read as {kind} (--relationship {name}=KIND:FILE says another)")
        specs[name] = {**options, "type": kind, "file": str(path)}
    return made_together(specs, lambda name, spec: relationship_from_request(name, spec, None, missing))


def kind_and_options(
    name: str, source: str, kinds: Sequence[str], joint: str = ""
) -> tuple[str | None, dict[str, Any], str]:
    """Kind, options and file of ``kind(option=value, ...):file``; kind None where only a file is named.

    The kind `joint`, which is made of others, has no file.

    Raises
    ------
    OptionError
        For an option without a value, or one given twice, and for a file where none is read.
    """
    found = re.fullmatch(rf"({'|'.join(kinds)})(?:\(([^)]*)\))?(?::(.+))?", source)
    if found is None or (found[3] is None and found[1] != joint):
        return None, {}, source
    if found[3] is not None and found[1] == joint:
        raise OptionError(f"--relationship {name}: {joint} has no file, it is made of two others; {FORMS}")
    options: dict[str, Any] = {}
    for part in filter(str.strip, (found[2] or "").split(",")):
        key, equals, value = (own.strip() for own in part.partition("="))
        if not equals or not key or not value:
            raise OptionError(f"--relationship {name}: '{part.strip()}' is no OPTION=VALUE; {OPTION_FORM}")
        if key in options:
            raise OptionError(f"--relationship {name} has '{key}' twice")
        is_list = key in LISTS or (key == "levels" and found[1] != "markers")  # of markers it is a column
        options[key] = value.split() if is_list else option_value(value)
    return found[1], options, found[3] or ""


def option_value(text: str) -> Any:
    """A number, true, false or null; any other text is itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, (bool, int, float)) else text


def parameters_given(texts: list[str], option: str) -> dict[str, Any]:
    """{name: value} of options ``--hold name=value``; a term may have "=" in its name, a value has none.

    Raises
    ------
    OptionError
        For one without a name or a value that is no number, matrix or object of numbers.
    """
    out: dict[str, Any] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.rpartition("="))
        if not name:
            raise OptionError(f"{option} {text}: write NAME=VALUE, for example {option} Residual=40")
        if name in out:
            raise OptionError(f"{option} names '{name}' twice")
        try:
            out[name] = json.loads(value)
        except (ValueError, RecursionError):
            raise OptionError(
                f"{option} {name}: '{value}' is neither a number nor a matrix such as [[2,1],[1,3]]"
            ) from None
    return out
