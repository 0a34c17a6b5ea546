"""A saved fit read again: its design is built and its equations are solved; nothing is searched.

The format is that of ``fastlmm_core.results.saving``.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fastlmm_core import errors
from fastlmm_core._version import __version__
from fastlmm_core.api import Prepared, prepare_design
from fastlmm_core.design import build_design
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.table import Table
from fastlmm_core.engine.model_fit import solve_model
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError, FastLMMWarning
from fastlmm_core.gate import public
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.fitting import Certificate, solve_equations
from fastlmm_core.reml.optimizer import Optimum
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.results.row_labels import restored_labels
from fastlmm_core.results.saving import ARRAYS, FORMAT, STRUCTURED, TEXTS, Arrays, figures_of
from fastlmm_core.structures.relationships import Relationship
from fastlmm_core.structures.relationships.storing import restored

AGREEMENT = 1e-6  # relative, of the figures of a loaded fit with those that were saved


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

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    >>> from fastlmm_core import load
    >>> fit.save("dyestuff.fit")
    >>> load("dyestuff.fit").formula
    'Yield ~ 1 + (1|Batch)'
    """
    texts, arrays = _read(path)
    try:
        fit = _rebuild(texts, arrays)
    except (KeyError, TypeError, IndexError, AttributeError) as err:
        raise DataError(f"'{path}' is a damaged fit: {type(err).__name__} at {err}") from err
    with np.errstate(invalid="ignore"):
        ours, theirs = figures_of(fit), arrays["figures"]
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
            if found in (FORMAT, STRUCTURED):
                with np.load(io.BytesIO(file.read(ARRAYS)), allow_pickle=False) as arrays:
                    return texts, {name: arrays[name] for name in arrays.files}
    except OSError as err:
        raise DataError(f"'{path}' cannot be read: {err.strerror or err}") from err
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, zlib.error) as err:
        raise DataError(f"'{path}' is not a fit that was saved, or is damaged") from err
    raise DataError(
        f"'{path}' has the format {found!r}; this version, {__version__}, reads {FORMAT} and {STRUCTURED}"
    )


def _rebuild(texts: dict[str, Any], arrays: Arrays) -> LMMFit:
    """Design and equations anew, solved at the saved parameters."""
    columns = {
        own["name"]: Column(values=arrays[f"column.{k}"], **{name: _tuples(v) for name, v in own.items()})
        for k, own in enumerate(texts["columns"])
    }
    n = arrays["column.0"].size if columns else arrays["response"].size
    offset = arrays["offset"] if texts["offset"] == "values" else texts["offset"]
    contrasts = texts["contrasts"]
    structure = texts.get("structure", {})
    held = structure.get("fixed_parameters", {})
    design = build_design(
        texts["formula"], Table.of(columns, n), offset=offset, contrasts=contrasts,
        residual=structure.get("residual", "units"), relationships=_relationships(structure, arrays),
        held=held,
    )  # fmt: skip
    used = dataclasses.replace(design.table, index=restored_labels(texts))
    design = dataclasses.replace(design, weights=arrays.get("weights"), table=used)
    factorization = structure.get("factorization", "auto")
    prepared = prepare_design(
        design, texts["reml"], offset=offset, contrasts=contrasts, held=held, factorization=factorization
    )
    y = arrays["response"]
    solved = _solved(prepared, y if design.offset is None else y - design.offset, arrays)
    optimum = _restored("optimum", Optimum, arrays)
    certificate = _restored("certificate", Certificate, arrays)
    warnings = tuple(_warning(kind, words) for kind, words in texts["warnings"])
    return LMMFit(design, solved, optimum, certificate, warnings, dict(prepared.timings), prepared, y)


def _solved(
    prepared: Prepared, y: np.ndarray, arrays: Arrays
) -> SolvedEquations | StructuredSolution:  # fmt: skip
    """The equations solved at the saved parameters."""
    equations, factor, theta = prepared.equations, prepared.factor.copy(), arrays["theta"]
    if isinstance(equations, MixedModelEquations):
        return solve_equations(equations, y, theta, reml=prepared.reml, factor=factor)
    free = arrays["free"]
    if theta.shape != (equations.n_theta,) or free.shape != theta.shape:
        raise IndexError("theta")
    return solve_model(prepared.design, equations, factor, y, theta, free, reml=prepared.reml)


def _relationships(structure: dict[str, Any], arrays: Arrays) -> dict[str, Relationship]:
    """By name, from their texts and arrays."""
    out = {}
    for k, texts in enumerate(structure.get("relationships", ())):
        start = f"relationship.{k}."
        own = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
        out[texts["name"]] = restored(texts, own)
    return out


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _restored(name: str, kind: Any, arrays: Arrays) -> Any:
    """The dataclass whose numbers `_fields` gave."""
    known = {field.name for field in dataclasses.fields(kind)}
    own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
    return kind(**{key: v if v.ndim else v.item() for key, v in own.items() if key in known})


def _warning(kind: str, words: str) -> FastLMMWarning:
    """A warning by the name of its class; one that this version does not know as the root of them all."""
    known = getattr(errors, kind, None)
    return (known if isinstance(known, type) and issubclass(known, FastLMMWarning) else FastLMMWarning)(words)
