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
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core import errors
from fastlmm_core._version import __version__
from fastlmm_core.design import build_design
from fastlmm_core.design.functions import columns_read
from fastlmm_core.design.table import Column, Table
from fastlmm_core.durable_files import place_file
from fastlmm_core.errors import DataError, FastLMMWarning, OptionError
from fastlmm_core.gate import public
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.fitting import Certificate, solve_equations
from fastlmm_core.reml.optimizer import Optimum

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

FORMAT = 1
TEXTS, ARRAYS = "fit.json", "arrays.npz"
AGREEMENT = 1e-6  # relative, of the figures of a loaded fit with those that were saved
Arrays = dict[str, Any]


def save_fit(fit: LMMFit, path: str | Path) -> None:
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
    arrays |= {"response": fit.response, "theta": fit.solved.theta, "figures": _figures(fit)}
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


@public()
def load(path: str | Path) -> LMMFit:
    """The fit in a file of `LMMFit.save`: it answers every question as the one that was saved.

    Parameters
    ----------
    path : path

    Returns
    -------
    LMMFit

    Raises
    ------
    DataError
        When the file is missing, damaged, no saved fit, or of a later version; or when this version of the
        library does not come to the same figures.
    """
    texts, arrays = _read(path)
    try:
        fit = _rebuild(texts, arrays)
    except (KeyError, TypeError, IndexError, AttributeError) as err:
        raise DataError(f"'{path}' is a damaged fit: {type(err).__name__} at {err}") from err
    with np.errstate(invalid="ignore"):
        ours, theirs = _figures(fit), arrays["figures"]
        same = ours.shape == theirs.shape and np.allclose(ours, theirs, AGREEMENT, AGREEMENT, equal_nan=True)
    if not same:
        raise DataError(
            f"'{path}' was saved by version {texts['library']}, and this one, {__version__}, does not come "
            "to its figures; fit the model again"
        )
    return fit


def _read(path: str | Path) -> tuple[dict[str, Any], Arrays]:
    """The two members of a file."""
    try:
        with zipfile.ZipFile(path) as file:
            texts = json.loads(file.read(TEXTS))
            found = texts["format"]
            if found == FORMAT:
                with np.load(io.BytesIO(file.read(ARRAYS)), allow_pickle=False) as arrays:
                    return texts, {name: arrays[name] for name in arrays.files}
    except OSError as err:
        raise DataError(f"'{path}' cannot be read: {err.strerror or err}") from err
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, zlib.error) as err:
        raise DataError(f"'{path}' is not a fit that was saved, or is damaged") from err
    raise DataError(f"'{path}' has the format {found!r}; this version, {__version__}, reads {FORMAT}")


def _rebuild(texts: dict[str, Any], arrays: Arrays) -> LMMFit:
    """Design and equations anew, solved at the saved parameters."""
    from fastlmm_core.api import prepare_design
    from fastlmm_core.results.fit import LMMFit

    columns = {
        own["name"]: Column(values=arrays[f"column.{k}"], **{name: _tuples(v) for name, v in own.items()})
        for k, own in enumerate(texts["columns"])
    }
    n = arrays["column.0"].size if columns else arrays["response"].size
    offset = arrays["offset"] if texts["offset"] == "values" else texts["offset"]
    contrasts = texts["contrasts"]
    design = build_design(texts["formula"], Table.of(columns, n), offset=offset, contrasts=contrasts)
    index = texts["index"]
    used = dataclasses.replace(design._table, index=None if index is None else pd.Index(index))
    design = dataclasses.replace(design, weights=arrays.get("weights"), _table=used)
    prepared = prepare_design(design, texts["reml"], offset=offset, contrasts=contrasts)
    y = arrays["response"]
    target = y if design.offset is None else y - design.offset
    assert isinstance(prepared.equations, MixedModelEquations)
    solved = solve_equations(
        prepared.equations, target, arrays["theta"], reml=prepared.reml, factor=prepared.factor.copy()
    )
    optimum = _restored("optimum", Optimum, arrays)
    certificate = _restored("certificate", Certificate, arrays)
    warnings = tuple(_warning(kind, words) for kind, words in texts["warnings"])
    return LMMFit(design, solved, optimum, certificate, warnings, dict(prepared.timings), prepared, y)


def _columns_of(fit: LMMFit) -> list[str]:
    """Columns the formula reads, and that of the offset."""
    parsed = fit.design.formula
    nodes = [*parsed.expressions, *([] if parsed.response is None else [parsed.response])]
    names = dict.fromkeys(name.name for node in nodes for name in columns_read(node))
    if isinstance(fit.prepared.offset, str):
        names[fit.prepared.offset] = None
    return [name for name in names if name in fit.design._table.columns]


def _figures(fit: LMMFit) -> np.ndarray:
    """Criterion, sigma and all coefficients; infinite criteria of perfect fits as missing."""
    figures = np.array([fit.criterion, fit.sigma, *fit.beta], dtype=np.float64)
    return np.where(np.isinf(figures), np.nan, figures)


def _described(column: Column) -> dict[str, Any]:
    """What a column has besides its values."""
    names = [own.name for own in dataclasses.fields(Column) if own.name != "values"]
    return {name: getattr(column, name) for name in names}


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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


def _restored(name: str, kind: Any, arrays: Arrays) -> Any:
    """The dataclass whose numbers `_fields` gave."""
    known = {field.name for field in dataclasses.fields(kind)}
    own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
    return kind(**{key: v if v.ndim else v.item() for key, v in own.items() if key in known})


def _warning(kind: str, words: str) -> FastLMMWarning:
    """A warning by the name of its class; one that this version does not know as the root of them all."""
    known = getattr(errors, kind, None)
    return (known if isinstance(known, type) and issubclass(known, FastLMMWarning) else FastLMMWarning)(words)
