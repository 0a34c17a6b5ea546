"""Fits in files: what was read and what was estimated, in a format that any version can read.

A saved fit is a zip file with two members. ``fit.json`` (UTF-8) holds the texts:

- ``format``: the number of the format, 1; ``library``: the version that wrote it
- ``formula``, ``reml``; ``contrasts``: the codings asked for, null without any
- ``columns``: of each column the formula reads its name, and its levels where it is a factor
- ``offset``: null, a column, or "values" for numbers of its own
- ``index``: labels of the rows, null when they have none
- ``warnings``: class and message of each

``arrays.npz`` holds the numbers as NumPy arrays, none of which is pickled: ``column.<k>`` (N rows: numbers,
or codes of levels, -1 for missing), ``offset`` (N rows), ``weights`` and ``response`` (rows used), ``theta``
(parameters of the engine), ``optimum.*`` and ``certificate.*`` (how they were found), ``figures`` (criterion,
sigma and coefficients, against which a loaded fit is checked).

Loading builds the design again and solves the equations once at the saved parameters. Nothing is searched.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core._version import __version__
from fastlmm_core.design.columns import Column
from fastlmm_core.design.functions import columns_read
from fastlmm_core.durable_files import place_file
from fastlmm_core.errors import DataError, OptionError

if TYPE_CHECKING:
    from fastlmm_core.results.figures import FitFigures

FORMAT = 1
TEXTS, ARRAYS = "fit.json", "arrays.npz"
Arrays = dict[str, Any]


def save_fit(fit: FitFigures, path: str | Path) -> None:
    """Write a fit to a file, whole or not at all.

    Raises
    ------
    OptionError
        For a model whose structures the format does not describe.
    DataError
        When the file cannot be written.
    """
    design = fit.design
    if fit.structured:
        raise OptionError(
            "fits with covariance structures, relationships or splines cannot be saved; pickle keeps them"
        )
    columns = {name: design._table.columns[name] for name in _columns_of(fit)}
    arrays: Arrays = {f"column.{k}": column.values for k, column in enumerate(columns.values())}
    arrays |= {"response": fit.response, "theta": fit.solved.theta, "figures": figures_of(fit)}
    if design.weights is not None:
        arrays["weights"] = design.weights
    offset = fit.prepared.offset
    if offset is not None and not isinstance(offset, str):
        arrays["offset"] = np.asarray(offset, dtype=np.float64)
        offset = "values"
    arrays |= _fields("optimum", fit.optimum) | _fields("certificate", fit.certificate)
    texts = {
        "format": FORMAT, "library": __version__, "formula": fit.formula, "reml": fit.prepared.reml,
        "contrasts": _contrasts(fit.prepared.contrasts), "offset": offset,
        "index": _labels(design._table.index),
        "columns": [_described(column) for column in columns.values()],
        "warnings": [[type(warning).__name__, str(warning)] for warning in fit.warnings],
    }  # fmt: skip
    buffer, packed = io.BytesIO(), io.BytesIO()
    np.savez(packed, **arrays)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(TEXTS, json.dumps(texts, indent=1, ensure_ascii=True))
        file.writestr(ARRAYS, packed.getvalue())
    try:
        place_file(Path(path), buffer.getvalue())
    except OSError as err:
        raise DataError(f"'{path}' cannot be written: {err.strerror or err}") from err


def _columns_of(fit: FitFigures) -> list[str]:
    """Columns the formula reads, and that of the offset."""
    parsed = fit.design.formula
    nodes = [*parsed.expressions, *([] if parsed.response is None else [parsed.response])]
    names = dict.fromkeys(name.name for node in nodes for name in columns_read(node))
    if isinstance(fit.prepared.offset, str):
        names[fit.prepared.offset] = None
    return [name for name in names if name in fit.design._table.columns]


def figures_of(fit: FitFigures) -> np.ndarray:
    """Criterion, sigma and all coefficients; infinite criteria of perfect fits as missing."""
    figures = np.array([fit.criterion, fit.sigma, *fit.beta], dtype=np.float64)
    return np.where(np.isinf(figures), np.nan, figures)


def _described(column: Column) -> dict[str, Any]:
    """What a column has besides its values."""
    names = [own.name for own in dataclasses.fields(Column) if own.name != "values"]
    return {name: getattr(column, name) for name in names}


def _contrasts(given: Any) -> Any:
    """Codings by factor: names as they are, matrices as lists."""
    if given is None:
        return None
    return {str(k): v if isinstance(v, str) else np.asarray(v, float).tolist() for k, v in given.items()}


def _labels(index: Any) -> list[Any] | None:
    """Labels of rows: integers and texts as they are, others as text."""
    if index is None:
        return None
    return [label if isinstance(label, (int, str)) else str(label) for label in index.tolist()]


def _fields(name: str, result: Any) -> Arrays:
    """The numbers of a dataclass, as arrays; of the optimum without the factorized point."""
    own = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {f"{name}.{key}": np.asarray(value) for key, value in own.items() if key != "point"}
