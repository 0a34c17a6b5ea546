"""A folder of results that survives a crash: parts written atomically, and a manifest of what is done."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.parquet import requires_pyarrow

MANIFEST = "manifest.json"
DONE = "done"


class PartStore:
    """Tables of a batch in a folder: ``<table>/part-000000.parquet``, then ``done/part-000000.json``.

    A part is written table by table under another name and renamed; its mark in ``done`` comes last. What has
    no mark is written again, under the same names, so that nothing is lost or doubled.

    Parameters
    ----------
    folder : path
    plan : BatchPlan
    """

    def __init__(self, folder: str | Path, plan: BatchPlan):
        self.folder = Path(folder)
        self.plan = plan

    def open(self, source: str, resume: bool) -> None:
        """Make the folder, or check that what it holds belongs to this plan and source.

        Raises
        ------
        OptionError
            When the folder holds results of another plan or source, or of this one with ``resume=False``.
        DataError
            When the folder cannot be used.
        """
        manifest = self.folder / MANIFEST
        described = {"plan": self.plan.describe(), "digest": self.plan.digest, "source": source}
        if manifest.is_file():
            self._compare(json.loads(manifest.read_text()), described, resume)
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()):
                raise OptionError(f"out='{self.folder}' is a folder with other files in it; name a new one")
            for name in (*self.plan.tables, DONE):
                (self.folder / name).mkdir(exist_ok=True)
        except OSError as err:
            raise DataError(f"out='{self.folder}' cannot be made: {err.strerror}") from err
        write_text(manifest, json.dumps(described, indent=1))

    def _compare(self, found: dict[str, Any], ours: dict[str, Any], resume: bool) -> None:
        if found.get("digest") != ours["digest"]:
            old = found.get("plan", {})
            names = [name for name, value in ours["plan"].items() if jsonable(value) != old.get(name)]
            raise OptionError(
                f"out='{self.folder}' holds the results of another plan (it differs in {', '.join(names)}); "
                "name a new folder"
            )
        if found.get("source") != ours["source"]:
            raise OptionError(f"out='{self.folder}' holds the results of other data; name a new folder")
        if not resume:
            words = f"out='{self.folder}' holds results of this plan; continue with resume=True (--resume)"
            raise OptionError(words)

    def done(self) -> dict[int, dict[str, Any]]:
        """Marks of the parts that are whole, by number."""
        return {
            int(path.stem.removeprefix("part-")): json.loads(path.read_text())
            for path in (self.folder / DONE).glob("part-*.json")
        }

    def write(self, part: int, rows: TableParts) -> dict[str, Any]:
        """Write a part and mark it; returns the mark."""
        name = f"part-{part:06d}"
        for table, frame in rows.join().items():
            target = self.folder / table / f"{name}.parquet"
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            write_parquet(frame, temporary)
            os.replace(temporary, target)
        mark = rows.outcomes()
        write_text(self.folder / DONE / f"{name}.json", json.dumps(mark))
        return mark

    def read(self, table: str) -> pd.DataFrame:
        """All whole parts of a table, in order."""
        parts = [self.folder / table / f"part-{k:06d}.parquet" for k in sorted(self.done())]
        frames = [pd.read_parquet(path) for path in parts]
        frames = [frame for frame in frames if len(frame)] or frames[:1]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def jsonable(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def write_text(target: Path, text: str) -> None:
    """Write a small file atomically and durably."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)


def write_parquet(frame: pd.DataFrame, target: Path) -> None:
    """Write a table durably.

    Raises
    ------
    DependencyError
        Without pyarrow.
    """
    with requires_pyarrow():
        import pyarrow as pa
        import pyarrow.parquet as pq
    with open(target, "wb") as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
        file.flush()
        os.fsync(file.fileno())
