"""A folder of results that survives crashes, full disks and other hands: every file is checked before use."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fastlmm_core._version import __version__
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.durable_files import checksum, is_temporary, place_file, read_signed, signed
from fastlmm_core.errors import DataError, OptionError, name_list
from fastlmm_core.table_formats import parquet_bytes

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DONE = "done"
PARTS = "parts"  # how many the batch has, in the manifest
NOTES = "notes"  # on the source, in the manifest
PART = re.compile(r"part-(\d{6,})\.(parquet|json)")
AGAIN = "run the same call again (the command with --resume)"


class PartStore:
    """Tables of a batch in a folder: ``<table>/part-000000.parquet``, then ``done/part-000000.json``.

    A part is written table by table under another name and renamed; its mark in ``done`` comes last, when
    files and folders are on the disk, and says of each table how many rows and which checksum it has.  What
    has no mark, or does not agree with it, is written again under the same name: nothing is lost or doubled.

    Parameters
    ----------
    folder : path
    plan : BatchPlan
    source : str
        Fingerprint of the data.
    """

    def __init__(self, folder: str | Path, plan: BatchPlan, source: str):
        self.folder = Path(folder)
        self.plan = plan
        self.source = source
        self.n_parts: int | None = None  # known once the source is divided

    # ------------------------------------------------------------- opening
    def open(self, resume: bool, notes: Iterable[str] = ()) -> None:
        """Make the folder, or check that what it holds belongs to this plan and source.

        Parameters
        ----------
        resume : bool
            Whether results of this plan may be there already.
        notes : iterable of str
            What reading the source has to say, for those who read the results without it.

        Raises
        ------
        OptionError
            When the folder holds results of another plan or source, of this one with ``resume=False``, or
            files of somebody else.
        DataError
            When the folder cannot be used.
        """
        described = {"plan": self.plan.describe(), "digest": self.plan.digest, "source": self.source}
        try:
            found = read_signed(self.folder / MANIFEST)
            if found is None:
                self._take_over(resume)
                self.folder.mkdir(parents=True, exist_ok=True)
                place_file(self.folder / MANIFEST, signed(described | {NOTES: list(notes)}))
            else:
                self._compare(found, described, resume)
                self._keep(NOTES, list(notes))
            for name in (*self.plan.tables, DONE):
                (self.folder / name).mkdir(exist_ok=True)
                remove_temporaries(self.folder / name)
            remove_temporaries(self.folder)
        except OSError as err:
            raise DataError(f"out='{self.folder}' cannot be used: {err.strerror or err}") from err

    def _compare(self, found: dict[str, Any], ours: dict[str, Any], resume: bool) -> None:
        if found.get("digest") != ours["digest"]:
            old = found.get("plan", {})
            new = jsonable(ours["plan"])
            names = [name for name in {**new, **old} if new.get(name) != old.get(name)]
            raise OptionError(
                f"out='{self.folder}' holds the results of another plan (it differs in {', '.join(names)}); "
                "name a new folder"
            )
        if found.get("source") != ours["source"]:
            raise OptionError(f"out='{self.folder}' holds the results of other data; name a new folder")
        if not resume:
            words = f"out='{self.folder}' holds results of this plan; continue with resume=True (--resume)"
            raise OptionError(words)

    def _take_over(self, resume: bool) -> None:
        """A folder without a whole manifest: a new one, or one whose marks are of this plan and source."""
        if not self.folder.exists():
            return
        names = {path.name for path in self.folder.iterdir() if not is_temporary(path.name)}
        marks = read_marks(self.folder)
        if any(mark is not None and not self._owns(mark) for mark in marks):
            raise OptionError(
                f"'{self.folder / MANIFEST}' is missing or damaged, and {DONE}/ has marks of another plan or "
                "other data; name a new folder"
            )
        foreign = sorted(names - {*self.plan.tables, DONE, MANIFEST})
        if foreign and not any(marks):
            raise OptionError(
                f"out='{self.folder}' is a folder with other files in it ({name_list(foreign, limit=3)}); "
                "name a new one"
            )
        if any(marks) and not resume:
            words = f"out='{self.folder}' holds results of this plan; continue with resume=True (--resume)"
            raise OptionError(words)
        if MANIFEST in names or any(marks):
            logger.warning("%s was missing or damaged, and is made again", self.folder / MANIFEST)

    def _owns(self, mark: dict[str, Any]) -> bool:
        return mark.get("plan") == self.plan.digest and mark.get("source") == self.source

    # --------------------------------------------------------- what is done
    def done(self, n_parts: int | None = None) -> dict[int, dict[str, Any]]:
        """Marks of the parts that are whole, by number; what is wrong with the others is logged.

        Parameters
        ----------
        n_parts : int, optional
            Parts of this batch.

        Raises
        ------
        OptionError
            When the folder holds files that this batch does not write.
        """
        self.n_parts = n_parts
        if n_parts is not None:
            self._keep_number_of_parts(n_parts)
        out: dict[int, dict[str, Any]] = {}
        for number in self._numbers():
            mark, fault = self._judge(number, self.plan.tables)
            if fault is None and mark is not None:
                out[number] = mark
            else:
                logger.warning("%s; part %d is made again", fault, number)
        return out

    def _keep_number_of_parts(self, n_parts: int) -> None:
        """Write to the manifest how many there are, so that readers know what is missing.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        try:
            self._keep(PARTS, n_parts)
        except OSError as err:
            raise DataError(f"out='{self.folder}' cannot be used: {err.strerror or err}") from err

    def _keep(self, name: str, value: Any) -> None:
        """Write a value to a manifest that is there."""
        path = self.folder / MANIFEST
        found = read_signed(path)
        if found is not None and found.get(name) != value:
            place_file(path, signed(found | {name: value}))

    def _numbers(self) -> list[int]:
        """Numbers of the marks; files beside them that could be taken for results are refused."""
        foreign = []
        for name in (*self.plan.tables, DONE):
            for path in sorted((self.folder / name).iterdir()):
                if is_temporary(path.name):  # of a process that is writing a part
                    continue
                kind = "json" if name == DONE else "parquet"
                match = PART.fullmatch(path.name)
                known = match and match[2] == kind and path.name == f"part-{int(match[1]):06d}.{kind}"
                beyond = self.n_parts is not None and match and int(match[1]) >= self.n_parts
                if not known or beyond:
                    foreign.append(f"{name}/{path.name}")
        if foreign:
            raise OptionError(
                f"out='{self.folder}' has files that are not of this batch: {name_list(foreign, limit=3)}; "
                "move them away"
            )
        return sorted(int(path.stem.removeprefix("part-")) for path in (self.folder / DONE).glob("part-*"))

    def _judge(self, number: int, tables: Iterable[str]) -> tuple[dict[str, Any] | None, str | None]:
        """The mark of a part, and what is wrong with it or with one of these tables."""
        path = self.folder / DONE / f"part-{number:06d}.json"
        mark = read_signed(path)
        if mark is None:
            return None, f"'{path}' is {'damaged' if path.exists() else 'missing'}"
        if not self._owns(mark) or mark.get("part") != number:
            return None, f"'{path}' is the mark of another part or another batch"
        for table in tables:
            try:
                self._whole_bytes(table, number, mark)
            except DataError as err:
                return None, str(err)
        return mark, None

    def _path(self, table: str, number: int) -> Path:
        return self.folder / table / f"part-{number:06d}.parquet"

    def _whole_bytes(self, table: str, number: int, mark: dict[str, Any]) -> bytes:
        """The file of a table, which is what the mark says.

        Raises
        ------
        DataError
            When it is missing, damaged or another one.
        """
        path = self._path(table, number)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"'{path}' is missing") from None
        except OSError as err:
            raise DataError(f"'{path}' cannot be read: {err.strerror}") from err
        if checksum(data) != mark["tables"].get(table, {}).get("sha256"):
            raise DataError(f"'{path}' is damaged, or not the file that was written")
        return data

    # ------------------------------------------------------ writing, reading
    def write(self, part: int, rows: TableParts) -> dict[str, Any]:
        """Write a part and mark it; returns the mark.

        A part that is whole already stays: Dask may give one to two workers, and times would differ.

        Raises
        ------
        DataError
            When a file cannot be written; what was done before stays.
        """
        found, fault = self._judge(part, self.plan.tables)
        if found is not None and fault is None:
            return found
        tables = {}
        try:
            for table, frame in rows.join().items():
                data = parquet_bytes(frame)
                place_file(self._path(table, part), data)
                tables[table] = {"rows": len(frame), "sha256": checksum(data)}
            mark = {
                **rows.outcomes(), "part": part, "plan": self.plan.digest, "source": self.source,
                "version": __version__, "tables": tables,
            }  # fmt: skip
            place_file(self.folder / DONE / f"part-{part:06d}.json", signed(mark))
        except OSError as err:
            raise DataError(
                f"part {part} cannot be written to '{self.folder}': {err.strerror or err}; what was done "
                f"before is kept: mend it, then {AGAIN}"
            ) from err
        return mark

    def read(self, table: str) -> pd.DataFrame:
        """All whole parts of a table, in order.

        Raises
        ------
        DataError
            When a file is not the one that was written.
        """
        frames = []
        try:
            numbers = self._numbers()
        except OSError as err:
            raise DataError(f"out='{self.folder}' cannot be read: {err.strerror}") from err
        for number in numbers if self.n_parts is None else range(self.n_parts):
            mark, fault = self._judge(number, ())
            if fault is not None or mark is None:
                raise DataError(f"{fault}; to make it again, {AGAIN}")
            try:
                frame = pd.read_parquet(io.BytesIO(self._whole_bytes(table, number, mark)))
            except DataError as err:
                raise DataError(f"{err}; to make it again, {AGAIN}") from err
            if len(frame) != mark["tables"][table]["rows"]:
                raise DataError(f"'{self._path(table, number)}' has {len(frame)} rows, not those of its mark")
            frames.append(frame)
        frames = [frame for frame in frames if len(frame)] or frames[:1]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def read_marks(folder: Path) -> list[dict[str, Any] | None]:
    """The marks of a folder in the order of its parts, None for damaged ones; files are not looked at."""
    return [read_signed(path) for path in sorted((folder / DONE).glob("part-*.json"))]


def version_notes(folder: Path, marks: Iterable[Mapping[str, Any] | None]) -> tuple[str, ...]:
    """What there is to say where not all parts of a folder were fitted by one version of this package."""
    versions = sorted({str(mark.get("version", "a version that is not recorded")) for mark in marks if mark})
    if len(versions) < 2:
        return ()
    words = (
        f"parts of '{folder}' were fitted by different versions of fastlmm_core ({', '.join(versions)}); for "
        "figures of one version, run the call with a new folder"
    )
    logger.warning(words)
    return (words,)


def jsonable(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.iterdir():
        if is_temporary(path.name):
            path.unlink(missing_ok=True)
