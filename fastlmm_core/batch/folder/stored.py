"""The results of a batch read from their folder, without its data and without fitting anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from fastlmm_core.batch.folder.store import (
    AGAIN,
    MANIFEST,
    NOTES,
    PARTS,
    PartStore,
    read_marks,
    version_notes,
)
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.durable_files import read_signed
from fastlmm_core.errors import DataError
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.gate import public
from fastlmm_core.options import PATH

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredPlan:
    """What the manifest of a folder says of the plan whose results it holds.

    Attributes
    ----------
    described : dict
        ``BatchPlan.describe()`` as it came back from JSON.
    digest : str
    tables : tuple of str
        Those that the parts hold.
    """

    described: Mapping[str, Any]
    digest: str
    tables: tuple[str, ...]

    @property
    def formula(self) -> str:
        return str(self.described["formula"])

    @property
    def residual(self) -> str:
        return str(self.described.get("residual", UNITS))

    @property
    def name(self) -> str:
        return str(self.described.get("name", ""))

    @property
    def by(self) -> tuple[str, ...]:
        return tuple(self.described["by"])

    @property
    def traits(self) -> tuple[str, ...]:
        return tuple(self.described["traits"])

    @property
    def labels(self) -> tuple[str, ...]:
        """What the column `trait` says."""
        return self.traits or (self.formula.partition("~")[0].strip(),)

    @property
    def emmeans(self) -> tuple[str, ...]:
        return tuple(self.described["emmeans"])

    @property
    def covariances(self) -> bool:
        return bool(self.described.get("covariances"))

    @property
    def genotypes(self) -> str | None:
        return self.described.get("genotypes")

    @property
    def level(self) -> float:
        return float(self.described["level"])

    @cached_property
    def others(self) -> tuple[StoredPlan, ...]:
        own = self.described.get("others", ())
        return tuple(StoredPlan(other, self.digest, self.tables) for other in own)

    @property
    def models(self) -> tuple[StoredPlan, ...]:
        return (self, *self.others)


@public(folder=PATH)
def read_batch(folder: str | Path) -> BatchResult:
    """The results that ``fit_batch(..., out=folder)`` left, finished or not.

    Parameters
    ----------
    folder : path

    Returns
    -------
    BatchResult
        Its tables are read when they are asked for, each file checked against its checksum; `seconds` is that
        of the fits together. Of a batch that is not finished the log and `notes` say how many parts are
        missing.

    Raises
    ------
    DataError
        When the folder holds no results, none that are finished, or damaged files.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from fastlmm_core import datasets, fit_batch, read_batch
    >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
    >>> with TemporaryDirectory() as folder:
    ...     written = fit_batch(datasets.path("trials"), model, by="trial", out=folder, progress=False)
    ...     read_batch(folder).fits.shape == written.fits.shape
    True
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"'{folder}' is not a folder of results; name what fit_batch(out=) or --out wrote")
    manifest = read_signed(root / MANIFEST)
    if manifest is None:
        raise DataError(f"'{root / MANIFEST}' is missing or damaged: '{folder}' holds no results of a batch")
    marks = read_marks(root)
    tables = tuple(dict.fromkeys(name for mark in marks if mark for name in mark.get("tables", ())))
    if not tables:
        raise DataError(f"'{folder}' holds no finished part of its batch yet")
    plan = cast(BatchPlan, StoredPlan(manifest["plan"], str(manifest["digest"]), tables))
    store = PartStore(root, plan, str(manifest["source"]))
    fits = store.read("fits")
    missing = missing_parts(root, manifest.get(PARTS), len(marks))
    notes = (*manifest.get(NOTES, ()), *missing, *version_notes(root, marks))
    return BatchResult(plan, float(fits["seconds"].sum()), root, {"fits": fits}, store.read, notes)


def missing_parts(folder: Path, n_parts: int | None, done: int) -> tuple[str, ...]:
    """What there is to say of a batch of which some parts are not done; the number may be unknown."""
    if n_parts is None or done >= n_parts:
        return ()
    words = (
        f"the batch in '{folder}' is not finished: {n_parts - done} of its {n_parts} parts are missing, and "
        f"so are their trials; to go on, {AGAIN}"
    )
    logger.warning(words)
    return (words,)
