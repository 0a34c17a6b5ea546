"""Reading a request: strict JSON, the schema, and the files it may name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from fastlmm_core.errors import DataError, FastLMMError, OptionError, clipped, shown
from fastlmm_core.options import Kind, check
from fastlmm_core.request.schema import QUESTIONS, REQUEST, TRIALS

# How deep lists and objects of a request may stand in each other: far deeper than any question needs.
DEEPEST = 100


@dataclass(frozen=True)
class Reach:
    """Which files a request may name.

    Attributes
    ----------
    root : Path or None
        Folder that all of them must lie in, links followed; None for no such rule.
    inline_only : bool
        None are read.
    tables_root : Path or None
        Folder in which requests may have folders made for their tables; None where nothing is written.
    """

    root: Path | None = None
    inline_only: bool = False
    tables_root: Path | None = None

    @classmethod
    def of(cls, root: Any, inline_only: bool, tables_root: Any = None) -> Reach:
        """Raises OptionError when `root` or `tables_root` is no folder."""
        return cls(_folder("root", root), inline_only, _folder("tables_root", tables_root))

    def path(self, key: str, name: str) -> str:
        """The file that `name` at `key` of a request stands for.

        Raises
        ------
        DataError
            In the same words for a file that is not there and for one that may not be read: nothing is told
            about other files.
        """
        if self.inline_only:
            raise DataError(f"{key} must be an object of columns: this service reads no files")
        if self.root is None:
            return name
        try:
            path = (self.root / name).resolve()
            inside = path.is_relative_to(self.root) and path.is_file()
        except (OSError, ValueError):  # a name too long, a zero byte, a loop of links
            inside = False
        if not inside:
            raise DataError(f"{key}={shown(name)} is not a file of the folder that may be read")
        return str(path)

    def table_folder(self, name: str) -> Path:
        """The folder that ``tables.folder`` of a request stands for.

        Raises
        ------
        DataError
            Where nothing may be written, and for one that is not inside of the folder where it may.
        """
        if self.tables_root is None:
            raise DataError(
                "tables: nothing may be written here; whoever runs the request names a folder for it "
                "(--allow-tables of serve, --tables-root of run)"
            )
        try:
            path = (self.tables_root / name).resolve()
            inside = path != self.tables_root and path.is_relative_to(self.tables_root)
        except (OSError, ValueError, RuntimeError):  # a name too long, a zero byte, a loop of links
            inside = False
        if not inside:
            raise DataError(f"tables.folder={shown(name)} is not inside of the folder that may be written to")
        return path

    @property
    def hides(self) -> bool:
        """Where files lie is not told."""
        return self.root is not None or self.tables_root is not None

    def hidden(self, error: FastLMMError) -> FastLMMError:
        """The error without the folders' own places, which the sender of the request does not know."""
        text = str(error)
        for folder in (self.root, self.tables_root):
            if folder is not None and folder != folder.parent:
                place = r"(?<![\w./-])" + re.escape(str(folder))  # no part of a longer name
                text = re.sub(place + "/", "", text)
                text = re.sub(place + r"""(?=['"`]|$)""", ".", text)
        return error if text == str(error) else type(error)(text)


def _folder(option: str, given: Any) -> Path | None:
    if given is None:
        return None
    folder = Path(given).resolve()
    if not folder.is_dir():
        raise OptionError(f"{option}={shown(str(given))} is not a folder")
    return folder


def parse_request(text: str, name: str = "request") -> Any:
    """A request from its text: JSON as it is written down, without repeated keys, NaN or Infinity.

    Raises
    ------
    DataError
        Naming the place where it goes wrong.
    """
    try:
        request = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
        if text.count("[") + text.count("{") > DEEPEST and _is_deeper(request, DEEPEST):
            raise RecursionError  # Python 3.14 reads any depth, which nothing after it could walk
        return request
    except json.JSONDecodeError as error:
        place = f"(line {error.lineno}, column {error.colno})"
        raise DataError(f"{clipped(name, 100)} is not JSON: {error.msg} {place}") from error
    except RecursionError:
        raise DataError(f"{clipped(name, 100)} is nested too deeply") from None
    except DataError as error:
        raise DataError(f"{clipped(name, 100)} is not JSON: {error}") from None
    except ValueError:  # the interpreter refuses integers of more than 4,300 digits
        raise DataError(f"{clipped(name, 100)} holds a number with too many digits") from None


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects stand in each other more than `depth` deep."""
    level = [value]
    for _ in range(depth):
        inner = (own.values() if isinstance(own, dict) else own for own in level)
        level = [child for own in inner for child in own if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DataError(f"the key {shown(repeated)} stands twice in one object")
    return out


def _no_constant(text: str) -> NoReturn:
    raise DataError(f"{text} is not a number in JSON; write null where a value is missing")


def checked_request(request: Any) -> dict[str, Any]:
    """The keys of a request that are given, of the kinds of the schema, with `method`.

    Raises
    ------
    OptionError
        Naming the place, what stands there and what would be right.
    """
    return {"method": "REML", **_checked(request, REQUEST)}


def checked_trials(request: Any) -> dict[str, Any]:
    """Likewise those of a batch."""
    return {"method": "REML", **_checked(request, TRIALS)}


def checked_questions(request: Any) -> dict[str, Any]:
    """Likewise those of questions to a fit that is kept."""
    return _checked(request, QUESTIONS)


def _checked(request: Any, kind: Kind) -> dict[str, Any]:
    """The keys that are given."""
    if not isinstance(request, Mapping):
        raise OptionError(f"a request must be a JSON object, not {type(request).__name__}")
    table = request.get("data")
    if isinstance(table, pd.DataFrame):  # from Python; its columns are checked where they are read
        request = {**request, "data": {}}
    check("", request, kind)
    if isinstance(table, pd.DataFrame):
        request = {**request, "data": table}
    return {key: value for key, value in request.items() if value is not None}
