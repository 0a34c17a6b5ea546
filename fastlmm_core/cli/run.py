"""`fastlmm run`: a JSON request document in, its answer out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import DataError
from ..request import run


def run_command(arguments: argparse.Namespace) -> int:
    """Answer the request document of `arguments.request`; always returns 0 (errors are raised)."""
    answer = json.dumps(run(_read_request(arguments.request)), indent=1, ensure_ascii=False, allow_nan=False)
    if arguments.output:
        target = Path(arguments.output)
        if not target.parent.is_dir():
            raise DataError(f"folder '{target.parent}' for the answer does not exist")
        target.write_text(answer + "\n", encoding="utf-8")
    else:
        print(answer)
    return 0


def _read_request(name: str) -> dict[str, object]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as err:
        raise DataError(f"request '{name}' cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise DataError(f"request '{name}' is not UTF-8 text") from err
    try:
        return json.loads(text)
    except json.JSONDecodeError as err:
        raise DataError(
            f"request '{name}' is not JSON: {err.msg} (line {err.lineno}, column {err.colno})"
        ) from err
