"""`report`: pages of a batch or of a fit on the disk, one trial at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from fastlmm_core.batch.folder.stored import read_batch
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.durable_files import place_file
from fastlmm_core.errors import DataError, OptionError, shown
from fastlmm_core.gate import public
from fastlmm_core.options import NAME, NAMES, PATH, SWITCH, TEXT, optional
from fastlmm_core.progress_bar import terminal_bar
from fastlmm_core.reports.content import batch_content, fit_content
from fastlmm_core.reports.html import GENERATOR
from fastlmm_core.reports.overview import overview_page
from fastlmm_core.reports.trial_page import trial_page
from fastlmm_core.results.fit import LMMFit

logger = logging.getLogger("fastlmm_core.reports")

INDEX, TRIALS = "index.html", "trials"


@public(path=PATH, genotypes=optional(NAME), plots=optional(NAMES), title=optional(TEXT), progress=SWITCH)
def report(
    source: Any, path: str | Path, *, genotypes: str | None = None, plots: str | Sequence[str] | None = None,
    data: pd.DataFrame | None = None, title: str | None = None, progress: bool = True,
) -> Path:  # fmt: skip
    """Write a report as HTML pages that open in any browser without a network.

    Of a batch an overview with every trial in one row, and a page for each trial: map of the field,
    residuals, values of the genotypes, variance components, heritability, warnings. What the batch was
    not asked for is not shown: ``fit_batch(..., genotypes="gen", plots=["row", "col"])`` gives all of it.

    Parameters
    ----------
    source : BatchResult, LMMFit or path
        Results of ``fit_batch``, the folder that they were written to, or a single fit.
    path : path
        Folder for the pages of a batch, ``index.html`` and ``trials/``; a file for those of a fit.
    genotypes : str, optional
        Grouping factor of the genotypes of a fit; a batch was asked for its own.
    plots : str or sequence of str, optional
        Columns that name the plots of a fit; see ``LMMFit.trial_summary``.
    data : DataFrame, optional
        The table of a fit, for columns that its model does not use.
    title : str, optional
        In place of "Trial report", or of the formula of a fit.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Path
        The page to open.

    Raises
    ------
    OptionError
        For anything else than results or a fit, or options of a fit beside a batch.
    DataError
        When the folder holds no results, or a page cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from fastlmm_core import datasets, fit_batch, report
    >>> fields = datasets.load("besag_field")
    >>> batch = fit_batch(fields, "yield ~ (1 | gen)", by="county", genotypes="gen", plots=True,
    ...                   field_trend="ps", progress=False)
    >>> report(batch, tempfile.mkdtemp()).name
    'index.html'
    """
    if isinstance(source, LMMFit):
        return _report_fit(source, Path(path), genotypes, plots, data, title)
    if genotypes is not None or plots is not None or data is not None:
        raise OptionError(
            "genotypes=, plots= and data= are for a fit; a batch is asked for them by fit_batch()"
        )
    if isinstance(source, str | Path):
        source = read_batch(source)
    if not isinstance(source, BatchResult):
        raise OptionError(
            f"source={shown(source)} is no result of fit_batch(), no folder of one and no fit of lmm()"
        )
    return _report_batch(source, Path(path), title, progress)


def _report_fit(
    fit: LMMFit, path: Path, genotypes: str | None, plots: str | Sequence[str] | None,
    data: pd.DataFrame | None, title: str | None,
) -> Path:  # fmt: skip
    if path.is_dir():
        path = path / INDEX
    unit = fit_content(fit, genotypes, plots, data)
    _make(path.parent)
    _write(path, trial_page(title or fit.formula, [unit]))
    return path


def _report_batch(result: BatchResult, folder: Path, title: str | None, progress: bool) -> Path:
    content = batch_content(result)
    names = content.names
    width = len(str(len(names)))
    files = [f"{n + 1:0{width}d}-{slug(name)}.html" for n, name in enumerate(names)]
    _make(folder / TRIALS)
    bar = terminal_bar(len(names), progress, logger, unit="trial")
    for n, name in enumerate(names):
        heading = " ".join(filter(None, (" ".join(result.plan.by), name)))
        units = list(content.units(n))
        _write(folder / TRIALS / files[n], trial_page(heading, units, navigation(files, names, n)))
        if bar is not None:
            bar.update(1)
    if bar is not None:
        bar.close()
    remove_others(folder / TRIALS, set(files))
    _write(folder / INDEX, overview_page(content, [f"{TRIALS}/{own}" for own in files], title))
    return folder / INDEX


def remove_others(folder: Path, kept: set[str]) -> None:
    """Take away pages of trials that an earlier report has left, and nothing else."""
    for path in folder.glob("*-*.html"):
        if path.name not in kept and path.is_file():
            with open(path, encoding="utf-8", errors="replace") as file:
                ours = GENERATOR in file.read(1000)
            if ours:
                path.unlink()


def navigation(files: list[str], names: list[str], n: int) -> str:
    """Links of a trial's page: the overview, the trial before and the one after."""
    parts = [f'<a href="../{INDEX}">\N{LEFTWARDS ARROW} All trials</a><span class="gap"></span>']
    for k, arrow in ((n - 1, "\N{LEFTWARDS ARROW} {}"), (n + 1, "{} \N{RIGHTWARDS ARROW}")):
        if 0 <= k < len(files):
            parts.append(f'<a href="{escape(files[k], quote=True)}">{arrow.format(escape(names[k]))}</a>')
    return f"<nav>{''.join(parts)}</nav>"


def slug(name: str) -> str:
    """The part of a file name that tells which trial it is, safe on every system."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "trial"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"folder '{folder}' for the report cannot be made: {err.strerror or err}") from err


def _write(path: Path, page: str) -> None:
    try:
        place_file(path, page.encode("utf-8", "replace"))
    except OSError as err:
        raise DataError(f"'{path}' cannot be written: {err.strerror or err}") from err
