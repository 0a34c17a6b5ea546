"""Fits in files: what was read and what was estimated, in a format that any version can read.

A saved fit is a zip file with two members. ``fit.json`` (UTF-8) holds the texts:

- ``format``: 1, or 2 where there is a ``structure``; ``library``: the version that wrote it
- ``formula``, ``reml``; ``contrasts``: the codings asked for, null without any
- ``columns``: of each column the formula reads its name, and its levels where it is a factor
- ``offset``: null, a column, or "values" for numbers of its own
- ``index``: labels of the rows, null when they have none; ``rows``: what they were beside numbers and texts
- ``warnings``: class and message of each
- ``structure``: of a model with covariance structures ``residual``, ``relationships`` (name, kind, levels),
  ``fixed_parameters`` and ``factorization``

``arrays.npz`` holds the numbers as NumPy arrays, none of which is pickled: ``column.<k>`` (N rows: numbers,
or codes of levels, -1 for missing), ``offset`` (N rows), ``weights`` and ``response`` (rows used), ``theta``
(parameters of the engine), ``optimum.*`` and ``certificate.*`` (how they were found), ``figures`` (criterion,
sigma and coefficients, against which a loaded fit is checked); ``free`` (which parameters were estimated) and
``relationship.<k>.*`` of a structured model.

Loading builds the design again and solves the equations once at the saved parameters. Nothing is searched.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core._version import __version__
from fastlmm_core.design import Design
from fastlmm_core.design.inputs import option_columns
from fastlmm_core.design.values.columns import Column
from fastlmm_core.durable_files import place_file
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError
from fastlmm_core.formula.functions import columns_read
from fastlmm_core.formula.residual import parse_residual
from fastlmm_core.results.row_labels import described_labels
from fastlmm_core.structures.relationships import Relationship
from fastlmm_core.structures.relationships.storing import described

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

FORMAT, STRUCTURED = 1, 2
TEXTS, ARRAYS = "fit.json", "arrays.npz"
Arrays = dict[str, Any]


def save_fit(fit: FitFigures, path: str | Path) -> None:
    """Write a fit to a file, whole or not at all.

    Raises
    ------
    OptionError
        For a relationship of a class that is not of this library.
    DataError
        When the file cannot be written.
    """
    design = fit.design
    columns = {name: design.table.columns[name] for name in _columns_of(fit)}
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
        **described_labels(design.table.index),
        "columns": [_described(column, fit.structured) for column in columns.values()],
        "warnings": [[type(warning).__name__, str(warning)] for warning in fit.warnings],
    }  # fmt: skip
    if isinstance(fit.solved, StructuredSolution):
        texts |= {"format": STRUCTURED, "structure": _structure(fit, arrays)}
        arrays["free"] = fit.solved.free
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
    """Columns the formula reads, and those of the offset."""
    parsed = fit.design.formula
    nodes = [*parsed.expressions, *([] if parsed.response is None else [parsed.response])]
    nodes += parse_residual(fit.design.residual.text).expressions
    known = fit.design.table.columns
    names = dict.fromkeys(name.name for node in nodes for name in columns_read(node))
    if isinstance(fit.prepared.offset, str):
        names |= dict.fromkeys(option_columns(fit.prepared.offset, known))
    return [name for name in names if name in known]


def _structure(fit: FitFigures, arrays: Arrays) -> dict[str, Any]:
    """What a structured model is made of besides formula and columns; its matrices go to `arrays`."""
    related = []
    for k, own in enumerate(relationships_of(fit.design)):
        texts, matrices = described(own)
        related.append(texts)
        arrays |= {f"relationship.{k}.{name}": np.asarray(value) for name, value in matrices.items()}
    return {
        "residual": fit.design.residual.text, "relationships": related,
        "fixed_parameters": _held(fit.prepared.fixed_parameters),
        "factorization": fit.prepared.factorization,
    }  # fmt: skip


def relationships_of(design: Design) -> list[Relationship]:
    """The relationships that a design uses, each once."""
    own = [factor.relationship for term in design.random if term.relation for factor in term.relation.factors]
    known = {one.name: one for one in (*own, design.residual.relationship) if one is not None}
    return list(known.values())


def _held(value: Any) -> Any:
    """Held parameters as numbers, lists and objects."""
    if isinstance(value, Mapping):
        return {str(key): _held(own) for key, own in value.items()}
    return value if isinstance(value, str) else np.asarray(value, dtype=np.float64).tolist()


def figures_of(fit: FitFigures) -> np.ndarray:
    """Criterion, sigma and all coefficients; infinite criteria of perfect fits as missing."""
    figures = np.array([fit.criterion, fit.sigma, *fit.beta], dtype=np.float64)
    return np.where(np.isinf(figures), np.nan, figures)


def _described(column: Column, structured: bool) -> dict[str, Any]:
    """What a column has besides its values; how levels are ordered by distance, structures alone ask."""
    names = [own.name for own in dataclasses.fields(Column) if own.name not in ("values", "alphabetical")]
    texts = {name: getattr(column, name) for name in names}
    return {**texts, "alphabetical": True} if column.alphabetical and structured else texts


def _contrasts(given: Any) -> Any:
    """Codings by factor: names as they are, matrices as lists."""
    if given is None:
        return None
    return {str(k): v if isinstance(v, str) else np.asarray(v, float).tolist() for k, v in given.items()}


def _fields(name: str, result: Any) -> Arrays:
    """The numbers of a dataclass, as arrays; of the optimum without the factorized point."""
    own = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {f"{name}.{key}": np.asarray(value) for key, value in own.items() if key != "point"}
