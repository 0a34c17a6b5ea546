"""`fastlmm run`: a JSON request document in, its answer out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fastlmm_core.cli.strangers import limits_given, written
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.limits import Limits
from fastlmm_core.request import SCHEMA, parse_request, run


def run_command(arguments: argparse.Namespace) -> int:
    """Answer the request document of `arguments.request`; always returns 0 (errors are raised)."""
    if arguments.schema:
        print(json.dumps(SCHEMA, indent=1))
        return 0
    if arguments.request is None:
        raise OptionError("name a request: a JSON file, or - for standard input")
    limits = Limits.of(limits_given(arguments.limit))
    request = _read_request(arguments.request, limits)
    answer = run(
        request, root=arguments.root, inline_only=arguments.inline_only, tables_root=arguments.tables_root,
        limits=limits,
    )  # fmt: skip
    text = json.dumps(answer, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if arguments.output:
        target = Path(arguments.output)
        with written(target):
            # a lone surrogate of a label is written as the escape that JSON has for it
            target.write_text(text, encoding="utf-8", errors="backslashreplace")
    else:
        sys.stdout.write(text)
    return 0


def _read_request(name: str, limits: Limits) -> Any:
    shown = "the request" if name == "-" else f"request '{name}'"
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(limits.file_size + 1)
        else:
            with Path(name).open("rb") as stream:
                raw = stream.read(limits.file_size + 1)
    except (OSError, ValueError) as err:
        raise DataError(f"{shown} cannot be read: {getattr(err, 'strerror', None) or err}") from err
    limits.check("file_size", len(raw), "the request has at least {} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise DataError(f"{shown} is not UTF-8 text (byte {err.start})") from err
    return parse_request(text, shown)
