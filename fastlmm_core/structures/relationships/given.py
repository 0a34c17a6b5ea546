"""Relationships as users give them: objects, tables, pairs of matrix and names, requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import (
    DataError,
    OptionError,
    RelationshipWarning,
    check_option,
    name_list,
    nearest_names,
)
from fastlmm_core.gate import warn_caller
from fastlmm_core.reading import level_label, read_options, read_table
from fastlmm_core.reading.source import Places
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.relationships.markers import LEAST_GENOTYPE, MOST_GENOTYPE, Markers
from fastlmm_core.structures.relationships.pedigree import Pedigree
from fastlmm_core.structures.relationships.pedigree_table import HEADINGS, MISSING_PARENT
from fastlmm_core.structures.relationships.single_step import single_step
from fastlmm_core.structures.relationships.sparse import SparseInverse
from fastlmm_core.structures.relationships.symmetric import (
    INVERSE,
    NUMBERED,
    has_names_in_front,
    is_inverse,
    is_triplets,
)

SINGLE_STEP = "single_step"
KINDS = ("pedigree", "covariance", "inverse", "markers", SINGLE_STEP)
# Keys of a single step that name the relationships it is made of.
PARTS = ("pedigree", "genomic")
# Keys of a request by kind; "coding" says how genotypes were written down and decides nothing.
KEYS = {
    "pedigree": ("columns", "missing", "selfing", "check_sex", "groups", "group_variance"),
    "covariance": ("levels", "matrix"),
    "inverse": ("levels", "matrix"),
    "markers": ("levels", "coding", "centre", "scale", "impute", "ridge", "missing"),
    SINGLE_STEP: (*PARTS, "share", "tune", "tau", "omega"),
}
# Codes of what is missing where an entry names none; a covariance has no gaps.
USUAL_CODES: dict[str, tuple[str, ...]] = {"pedigree": MISSING_PARENT, "markers": ()}


def made_together(
    given: Mapping[str, Any], make: Callable[[str, Any], Relationship]
) -> dict[str, Relationship]:
    """Relationships by name, each by `make`; those that are made of others, by their names, come last."""
    check_parts(given)
    made = {name: make(name, own) for name, own in given.items() if not is_single_step(own)}
    known = dict(made)
    for name, own in given.items():
        if is_single_step(own):
            made[name] = _single_step_of(name, own, known)
    return {name: made[name] for name in given}


def is_single_step(given: Any) -> bool:
    """Whether a value of ``relationships`` is a request for H^-1 of others among them."""
    return isinstance(given, Mapping) and given.get("type", given.get("kind")) == SINGLE_STEP


def made_of(given: Any) -> tuple[str, ...]:
    """Names of the relationships that one is made of, as it is asked for or as it was made."""
    if isinstance(given, Relationship):
        return given.made_of
    if not is_single_step(given):
        return ()
    return tuple(given[part] for part in PARTS if isinstance(given.get(part), str))


def check_parts(given: Mapping[str, Any]) -> None:
    """Raise OptionError for a single step whose parts are not named, not given or made of others."""
    names = [name for name, own in given.items() if not is_single_step(own)]
    for name, spec in given.items():
        if not is_single_step(spec):
            continue
        where = f"relationships['{name}']"
        _check_keys(where, spec, ("type", "kind", *KEYS[SINGLE_STEP]))
        for part in PARTS:
            own = spec.get(part)
            if not isinstance(own, str):
                raise OptionError(
                    f"{where} needs 'pedigree' and 'genomic', each the name of another relationship"
                    + ("" if own is None else f", not a {part} that is {type(own).__name__}")
                )
            if own not in names:
                near = nearest_names(own, names)
                raise OptionError(f"{where}.{part}: relationship '{own}' is not given{near}")


def _single_step_of(name: str, spec: Mapping[str, Any], known: Mapping[str, Any]) -> Relationship:
    where = f"relationships['{name}']"
    options = {key: spec[key] for key in KEYS[SINGLE_STEP] if spec.get(key) is not None and key not in PARTS}
    with _said_of(where, spec):
        H = single_step(known[spec["pedigree"]], known[spec["genomic"]], **options).named(name)
    H.made_of = made_of(spec)
    return H


def _check_keys(where: str, spec: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in spec:
        if key not in allowed:
            raise OptionError(f"{where} has the key '{key}'{nearest_names(str(key), allowed)}")


def as_relationship(name: str, given: Any) -> Relationship:
    """The relationship that a value of ``relationships={name: given}`` means.

    Parameters
    ----------
    name : str
        As the formula names it.
    given : Relationship, DataFrame, (matrix, levels), mapping or path
        A DataFrame is a pedigree, or a covariance when it is square with the same names as index (or in the
        first column) and columns or has the columns row, col, value. A matrix with its levels is a
        covariance, or an inverse when it is sparse, which a warning says. A mapping with a ``type`` is a
        request, any other a table of columns.

    Raises
    ------
    OptionError
        For anything else.
    DataError
        For what is wrong within.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise OptionError(
            f"relationships: the name {name!r} must be a word that a formula can hold, like 'A'"
        )
    with _said_of(f"relationships['{name}']", given):
        return _make(name, given).named(name)


@contextmanager
def _said_of(where: str, given: Any) -> Iterator[None]:
    """Errors say of which relationship they are, and from which file it is."""
    try:
        yield
    except (DataError, OptionError) as error:
        if str(error).startswith("relationships"):
            raise
        file = given.get("file") if isinstance(given, Mapping) else given
        source = f" ('{Path(file).name}')" if isinstance(file, (str, Path)) else ""
        raise type(error)(f"{where}{source}: {error}") from None


def found_kind(path: str | Path, missing: Sequence[str] = ()) -> str:
    """A pedigree, a covariance, "markers" or "inverse": what a file holds, by its header and its columns.

    A covariance is square with the same names in the header and the first column, or has the columns row,
    col, value, an inverse where the values are headed so; a pedigree has the usual headings, or three
    columns of names; markers are more than three columns, numbers but for the first and cells of `missing`.
    ASReml's .giv is an inverse, its .grm a covariance.

    Raises
    ------
    DataError
        When it is none of these, or a covariance but for some of its names.
    """
    by_ending = NUMBERED.get(Path(path).suffix.lower())
    if by_ending is not None:
        return "inverse" if by_ending == INVERSE else "covariance"
    frame = read_table(path, options=read_options(na_values=list(missing) or None))
    if is_triplets(frame):
        return "inverse" if is_inverse(frame) else "covariance"
    headings = [str(name).strip().casefold() for name in frame.columns]
    if all(sum(name in usual for name in headings) == 1 for usual in HEADINGS):
        return "pedigree"
    width = len(headings) - 1
    names, across = _first_labels(frame), {str(name).strip() for name in frame.columns[1:]}
    if width == len(frame) and names == across:
        return "covariance"
    numbers = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes[1:]]
    if width > 2 and all(numbers):
        if 2 * len(names & across) > width:  # no marker is called like a line
            raise DataError(_almost_square(Path(path).name, names, across))
        return "markers"
    if width == 2 and not any(numbers):
        return "pedigree"
    raise DataError(
        f"'{Path(path).name}' is neither a pedigree (id, sire, dam), nor a covariance (square, or row, col, "
        "value), nor markers (a name and numbers in each row); say which of them it is meant to be"
    )


def _almost_square(file: str, names: set[str], across: set[str]) -> str:
    """What keeps a table whose headings are names of its rows from being a covariance."""
    rows, columns = sorted(names - across), sorted(across - names)
    said = [f"row {name_list(rows, 4)} without a column"] if rows else []
    said += [f"column {name_list(columns, 4)} without a row"] if columns else []
    return (
        f"'{file}' is a covariance by its headings, which are the names of its rows, but has "
        f"{' and '.join(said) or 'a name that is repeated'}; a covariance has the same names in both"
    )


def _first_labels(frame: pd.DataFrame) -> set[str]:
    """Labels of the first column as they stand in the file: 001 is not 1."""
    labels = Places.of(frame).labels(str(frame.columns[0]))
    known = [level_label(x) for x in frame.iloc[:, 0]] if labels is None else labels.levels
    return {label.strip() for label in known}


def _make(name: str, given: Any) -> Relationship:
    if isinstance(given, Relationship):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        matrix, levels = given
        if not sp.issparse(matrix):
            return Covariance(matrix, levels)
        warn_caller(RelationshipWarning(
            f"relationships['{name}']: a sparse matrix is taken for the inverse of a covariance; say which "
            "it is, SparseInverse(matrix, levels) or Covariance(matrix, levels)"
        ))  # fmt: skip
        return SparseInverse(matrix, levels)
    if isinstance(given, Mapping) and ("type" in given or "kind" in given) and "sire" not in given:
        return relationship_from_request(name, given)
    if isinstance(given, (str, Path)):
        return relationship_from_request(name, {"type": found_kind(given), "file": str(given)})
    if isinstance(given, Mapping):
        table = read_table(given)
        if is_inverse(table):
            return SparseInverse(given)
        return Covariance(given) if is_triplets(table) else Pedigree(given)
    if isinstance(given, pd.DataFrame):
        if is_inverse(given):
            return SparseInverse(given)
        return Covariance(given) if is_triplets(given) or _is_matrix(given) else Pedigree(given)
    hint = ""
    if sp.issparse(given) or isinstance(given, np.ndarray):
        hint = "; a matrix needs the names of its rows: (matrix, levels)"
    raise OptionError(
        f"relationships['{name}'] is of type {type(given).__name__}; give a Pedigree, Markers, a DataFrame "
        f"or (matrix, levels){hint}"
    )


def _is_matrix(frame: pd.DataFrame) -> bool:
    """Whether a table is a covariance, with names as index or in the first column, or but for its names.

    Individuals, sires and dams as numbers are three columns, with headings that say so where there are more.
    """
    if has_names_in_front(frame) or set(map(str, frame.index)) == set(map(str, frame.columns)):
        return True
    numbers = all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes)
    headings = {str(name).strip().casefold() for name in frame.columns}
    is_pedigree = len(headings) < 4 or all(headings & set(usual) for usual in HEADINGS)
    return numbers and frame.shape[0] == frame.shape[1] and not is_pedigree


def relationship_from_request(
    name: str, spec: Any, root: str | Path | None = None, missing: Sequence[str] = ()
) -> Relationship:  # fmt: skip
    """The relationship of one entry of ``relationships`` in a request.

    Parameters
    ----------
    name : str
        As the formula names it.
    spec : mapping
        ``type`` (or ``kind``): ``pedigree``, ``covariance``, ``inverse`` or ``markers``; ``file`` or ``data``
        with the table, or ``levels`` and ``matrix``; and the options of the class of that name. (Of
        ``single_step``, whose parts are others, see `made_together`.)
    root : path, optional
        Folder that relative file names start from.
    missing : sequence of str
        Codes of missing values in files, beside those of the entry: unknown parents, genotypes of markers.
    """
    where = f"relationships['{name}']"
    if not isinstance(spec, Mapping):
        raise OptionError(f"{where} must be an object with a 'type', not {type(spec).__name__}")
    kind = spec.get("type", spec.get("kind"))
    if kind is None:
        raise OptionError(f"{where} has no 'type'; allowed: {name_list(KINDS)}")
    kind = check_option(f"{where}.type", kind, KINDS)
    if kind == SINGLE_STEP:
        raise OptionError(f"{where} is made of other relationships, which have to be given beside it")
    _check_keys(where, spec, ("type", "kind", "file", "data", *KEYS[kind]))
    options = {key: spec[key] for key in KEYS[kind] if spec.get(key) is not None and key != "coding"}
    if kind == "markers" and "centre" in spec:
        options["centre"] = spec["centre"]
    if isinstance(options.get("levels"), str):
        _read_level_note(where, kind, options)
    with _said_of(where, spec):
        source = _source(where, spec, root)
        if missing and kind in USUAL_CODES and isinstance(source, Path):
            own = [code for code in missing if kind == "pedigree" or not _may_be_genotype(code)]
            options["missing"] = [*options.get("missing", USUAL_CODES[kind]), *own]
        return _build(kind, source, options).named(name)


def _may_be_genotype(code: str) -> bool:
    """Whether a code of missing values of the data, such as 0, may be a genotype among markers."""
    try:
        return LEAST_GENOTYPE <= float(code) <= MOST_GENOTYPE
    except ValueError:
        return False


def _source(where: str, spec: Mapping[str, Any], root: str | Path | None) -> Any:
    given = [key for key in ("file", "data", "matrix") if spec.get(key) is not None]
    if len(given) != 1:
        raise OptionError(
            f"{where} needs one of 'file', 'data' and 'matrix'"
            + (f", not {name_list(given)} together" if given else "")
        )
    source = spec[given[0]]
    if isinstance(source, (str, Path)):
        return Path(root or "") / source
    return source


def _read_level_note(where: str, kind: str, options: dict[str, Any]) -> None:
    """ "levels" as text says where the names stand: what it says has to be what is read."""
    note = options["levels"]
    if kind == "markers":
        if note == "first column":
            del options["levels"]
        return  # else the name of a column
    if note.startswith("row numbers"):
        del options["levels"]
        return
    raise OptionError(f"{where}.levels must be a list of names")


def _build(kind: str, source: Any, options: dict[str, Any]) -> Relationship:
    if kind == "pedigree":
        return Pedigree(source, **options)
    if kind == "markers":
        return Markers(source, **options)
    options.pop("matrix", None)
    return (Covariance if kind == "covariance" else SparseInverse)(source, **options)
