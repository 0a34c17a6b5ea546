"""The folder that a request names for the tables of its answer: all of them are in it, or it is not there."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fastlmm_core.durable_files import place_file, sync_folder
from fastlmm_core.errors import DataError
from fastlmm_core.request.answer_tables import Place, apart
from fastlmm_core.table_formats import table_bytes

LONGEST_NAME = 100  # characters of a file's name without its ending


@dataclass(frozen=True)
class TableFolder:
    """Where the tables of one answer go.

    Attributes
    ----------
    path : Path
    name : str
        As the request wrote it; the answer names files by it.
    form : str
        Format of the files.
    replace : bool
        Files may be there: those of the same names are replaced, each by itself.
    """

    path: Path
    name: str
    form: str
    replace: bool

    @classmethod
    def of(cls, asked: Mapping[str, Any], path: Path) -> TableFolder:
        """The folder of a request's ``tables``, before work begins.

        Raises
        ------
        DataError
            Where something else is there already.
        DependencyError
            Without pyarrow for its format.
        """
        own = cls(path, asked["folder"], asked.get("format") or "parquet", bool(asked.get("replace")))
        table_bytes(pd.DataFrame({"x": [1.0]}), own.form)
        own._check_free()
        return own

    def _check_free(self) -> None:
        try:
            if self.path.exists() and not (self.path.is_dir() and (self.replace or self._is_empty())):
                raise DataError(self._taken())
        except OSError as error:
            raise self._refused(error) from None

    def _is_empty(self) -> bool:
        return next(self.path.iterdir(), None) is None

    def _taken(self) -> str:
        return f"{self._words()} is there already; name a new folder, or add replace: true"

    def _words(self) -> str:
        return f"tables.folder='{self.name}'"

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"{self._words()} cannot be written: {error.strerror or error}")

    def placed(self, sections: Mapping[str, Any]) -> dict[str, Any]:
        """The sections, whose tables are files now and named in their place.

        Raises
        ------
        DataError
            When they cannot be written; then none of them is there, except with `replace`.
        """
        temporary = self.path.with_name(f".{self.path.name[:LONGEST_NAME]}.{uuid.uuid4().hex}")
        target = self.path if self.replace else temporary
        try:
            target.mkdir(parents=True, exist_ok=self.replace)
            answer = self._written(sections, target)
            if not self.replace:
                self._put_in_place(temporary)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return answer

    def _written(self, sections: Mapping[str, Any], target: Path) -> dict[str, Any]:
        taken: set[str] = set()

        def write(place: Place, frame: pd.DataFrame) -> dict[str, Any]:
            file = f"{_file_name(place, taken)}.{self.form}"
            place_file(target / file, table_bytes(pd.DataFrame(frame), self.form))
            return {"file": f"{self.name.rstrip('/')}/{file}", "rows": len(frame),
                    "columns": [str(name) for name in frame.columns]}  # fmt: skip

        answer: dict[str, Any] = apart(sections, write)
        return answer

    def _put_in_place(self, temporary: Path) -> None:
        if self.path.is_dir() and os.name != "posix":  # where a rename never replaces, not even what is empty
            self.path.rmdir()
        try:
            temporary.rename(self.path)
        except OSError:
            if self.path.exists():  # another answer was faster
                raise DataError(self._taken()) from None
            raise
        sync_folder(self.path.parent)


def _file_name(place: Place, taken: set[str]) -> str:
    """A name for the table at a place of an answer: ``emmeans_0``, ``ranef_rep_block``; each stands once."""
    parts = [str(part) for part in place if part not in ("table", "tables")]
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", "_".join(parts))[:LONGEST_NAME].strip("_")
    name, number = safe, 1
    while name.lower() in taken:  # file systems that know no capitals
        number += 1
        name = f"{safe}_{number}"
    taken.add(name.lower())
    return name
