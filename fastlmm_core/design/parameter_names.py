"""Variance parameters that a user gives by the names of their terms: to hold them, or to start from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.design.values.labels import coefficient_labels
from fastlmm_core.errors import OptionError, name_list, nearest_names

RESIDUAL = "Residual"
# Least and largest variance of a start, where the response about its fixed part has a mean square of one.
# Beyond them the deviance is so flat in what a search moves that its end would pass for an optimum.
SMALLEST_START, LARGEST_START = 1e-6, 1e4


@dataclass(frozen=True)
class NamedCovariance:
    """One value of one part of the model.

    Attributes
    ----------
    key : str
        The name as it was given.
    term : int
        Position among the random terms; -1 for the residual.
    at : str or None
        Level of the residual's ``|``; None for all of them.
    T : (m, m) float64
        In the user's coefficients and units.
    """

    key: str
    term: int
    at: str | None
    T: np.ndarray

    def inside(self, basis: np.ndarray) -> np.ndarray:
        """T of the coefficients u = basis u_inside.

        A matrix of another size stays as it is: the structure says which size is right.
        """
        back = np.linalg.inv(basis)
        return back @ self.T @ back.T if self.T.shape == back.shape else self.T

    def theta(self, place: Callable[[np.ndarray], Any], T: np.ndarray) -> np.ndarray:
        """What a structure's `place` makes of T (m, m), inside; what is wrong is said in the user's units."""
        try:
            return np.asarray(place(T))
        except OptionError as inside:
            told = inside
            try:
                place(self.T)
            except OptionError as given:
                told = given
            raise OptionError(f"'{self.key}': {told}") from None


def named_covariances(design: Any, given: Mapping[str, Any], option: str) -> list[NamedCovariance]:
    """Covariances by the terms they belong to.

    Parameters
    ----------
    given : mapping
        By term, ``{"vm(calf, A)": [[20.0]], "Residual": 40.0}``; by level of ``at()`` and of the residual's
        ``|``, ``{"at(site):rep": {"S1": 0.1}, "Residual": {"S1": 1.2}}``, also ``{"S1:rep": 0.1}`` and
        ``{"S1": {"Residual": 1.2, "rep": 0.1}}``.
        A key "note" is a remark.
    option : str
        Option that messages name.

    Raises
    ------
    OptionError
        For a name that is no term and no level, or a value that is no finite number or square matrix.
    """
    out: list[NamedCovariance] = []
    for key, value in given.items():
        if key == "note" and isinstance(value, str):
            continue
        out += _named(design, str(key), value, None, option)
    return out


def within_reach(T: np.ndarray, unit: np.ndarray | float = 1.0) -> np.ndarray:
    """T (m, m) of a start; where its largest variance is out of reach, the nearest multiple within it.

    Parameters
    ----------
    unit : (m,) or float
        Mean squares of the columns of the coefficients.
    """
    variances = np.diag(T)
    if np.ndim(unit) and np.shape(unit) != variances.shape:
        return T  # of another size than the structure, which says so
    largest = float(np.max(variances * unit))
    if not largest > 0.0:
        return T  # zero, which a structure moves inside, or wrong, which it says
    return np.asarray(T * (np.clip(largest, SMALLEST_START, LARGEST_START) / largest))


def _named(design: Any, key: str, value: Any, at: str | None, option: str) -> Iterator[NamedCovariance]:
    value = _by_name(value)
    head, _, level = key.rpartition("|")
    if level in _residual_levels(design) and head in _residual_names(design):  # as tables name it
        key, at = head, level
    residual, visits = key in _residual_names(design), tuple(map(str, design.residual.positions))
    bare = _without_blanks(key)
    found = [k for k, term in enumerate(design.random)
             if bare in map(_without_blanks, _names(term)) and at in (None, term.at)]  # fmt: skip
    own = [k for k in found if bare in map(_without_blanks, (design.random[k].group, design.random[k].label))]
    found = own or found  # of rep and at(env):rep the former
    found = found or [k for k, term in enumerate(design.random) if bare == _without_blanks(_in_level(term))]
    if isinstance(value, Mapping) and residual:
        for level, inner in value.items():
            _check_level(str(level), _residual_levels(design), option)
            yield NamedCovariance(key, -1, str(level), _matrix(option, key, inner, [visits]))
    elif residual:
        if at is not None:
            _check_level(at, _residual_levels(design), option)
        yield NamedCovariance(key, -1, at, _matrix(option, key, value, [visits]))
    elif found:
        labels = _labels(design, found)
        if len(labels) > 1:
            raise OptionError(f"{option} name '{key}', of which there are several terms; name one of them: "
                              f"{name_list(labels)}")  # fmt: skip
        for k, inner in _by_level(design, found, key, value, option):
            columns = tuple(design.random[k].columns)
            called = [columns, coefficient_labels(design.variables, columns)]
            if design.random[k].is_spline:
                inner = _of_directions(option, key, inner, tuple(design.random[k].names))
            yield NamedCovariance(key, k, None, _matrix(option, key, inner, called))
    elif isinstance(value, Mapping) and (key in _levels(design) or _is_heading(design, key, value)):
        inner_at = key if key in _levels(design) else at
        for name, inner in value.items():
            yield from _named(design, str(name), inner, inner_at, option)
    else:
        groups = [_names(term)[0] for term in design.random]
        several = {own for own in groups if len(_labels(design, _places(groups, own))) > 1}
        terms = zip(design.random, groups, strict=True)
        known = [term.label if own in several else own for term, own in terms]
        known = [*dict.fromkeys(known), RESIDUAL]
        raise OptionError(f"{option} name '{key}', which is no term of the model{nearest_names(key, known)}")


def _labels(design: Any, found: list[int]) -> list[str]:
    """Terms as written, those of all levels of ``at()`` once."""
    return list(dict.fromkeys(design.random[k].label for k in found))


def _places(groups: list[str], own: str) -> list[int]:
    return [k for k, other in enumerate(groups) if other == own]


def _by_level(
    design: Any, found: list[int], key: str, value: Any, option: str
) -> Iterator[tuple[int, Any]]:
    """The terms `found` with their values; a mapping has those of levels of ``at()``."""
    levels = [None if design.random[k].at is None else str(design.random[k].at) for k in found]
    if not isinstance(value, Mapping) or None in levels or _are_directions(design.random[found[0]], value):
        yield from ((k, value) for k in found)
        return
    for level, inner in value.items():
        if str(level) not in levels:
            words = name_list(list(dict.fromkeys(map(str, levels))))
            raise OptionError(
                f"{option}['{key}'] name level '{level}', which is not there; its levels: {words}"
            )
        yield from ((k, inner) for k, own in zip(found, levels, strict=True) if own == str(level))


def _by_name(value: Any) -> Any:
    """A series as a mapping: its labels say what each number is of, unless they just count."""
    if not isinstance(value, pd.Series):
        return value
    return value.to_dict() if _are_names(value.index) else value.to_numpy()


def _of_directions(option: str, key: str, value: Any, names: tuple[str, ...]) -> Any:
    """Variances of a spline in the order of its smoothing parameters, which a mapping names."""
    value = _by_name(value)
    if not isinstance(value, Mapping):
        return value
    given = {str(name): one for name, one in value.items()}
    if set(given) != set(names):
        raise OptionError(
            f"{option}['{key}'] name {name_list(list(given), 4)}; the variances of this spline are those of "
            f"{name_list(names, 4)}"
        )
    return [given[name] for name in names]


def _are_directions(term: Any, value: Mapping[str, Any]) -> bool:
    """Whether values are given by the smoothing parameters of a spline."""
    return bool(term.is_spline) and {str(name) for name in value} == set(term.names)


def _without_blanks(name: str) -> str:
    """Names of terms are compared so: (1|g) is (1 | g)."""
    return "".join(name.split())


def _names(term: Any) -> tuple[str, ...]:
    """What a term may be called: its group, its label, and its group without the level of at() or at()."""
    at, _, rest = term.group.partition("):")
    if not at.startswith("at(") or not rest:
        return term.group, term.label
    return term.group, term.label, f"{at.removesuffix(f', {term.at}')}):{rest}", rest


def _in_level(term: Any) -> str:
    """The other name of ``at(site, S1):rep``, ``S1:rep``; of terms without a level the only one."""
    return term.group if term.at is None else f"{term.at}:{_names(term)[-1]}"


def is_named(term: Any, names: Collection[str]) -> bool:
    """Whether a term is among those that are called so; values by level are those of their levels alone."""
    own = set(map(_without_blanks, (*_names(term), _in_level(term))))
    called = [name for name in names if _without_blanks(str(name)) in own]
    values = [_by_name(names[name]) if isinstance(names, Mapping) else None for name in called]
    return any(
        not isinstance(value, Mapping) or _are_directions(term, value) or str(term.at) in map(str, value)
        for value in values
    )


def _residual_names(design: Any) -> set[str]:
    by = design.residual.by
    return {RESIDUAL, design.residual.group, *([] if by is None else [f"{RESIDUAL}|{by[0]}"])}


def _residual_levels(design: Any) -> set[str]:
    return set() if design.residual.by is None else {str(level) for level in design.residual.by[1]}


def _levels(design: Any) -> set[str]:
    return _residual_levels(design) | {str(term.at) for term in design.random if term.at is not None}


def _is_heading(design: Any, key: str, value: Mapping[str, Any]) -> bool:
    """Whether all that stands below a name are levels: then the name is a heading over them.

    ``at(env):ps(row, col)`` is none, but a term that is not there.
    """
    return bool(value) and "):" not in key and {str(name) for name in value} <= _levels(design)


def _check_level(level: str, known: set[str], option: str) -> None:
    if level not in known:
        names = f"its levels: {name_list(sorted(known))}" if known else "it has one covariance for all rows"
        raise OptionError(f"{option} name level '{level}' of the residual, which is not there; {names}")


def _matrix(option: str, key: str, value: Any, called: Sequence[tuple[str, ...]]) -> np.ndarray:
    """(m, m) from a number or a matrix; of a table with labels in the order of the coefficients.

    Parameters
    ----------
    called : sequence of tuple of str
        What the coefficients may be called, in their order.
    """
    if isinstance(value, pd.DataFrame):
        value = _in_order(option, key, value, called)
    try:
        out = np.atleast_2d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        raise OptionError(f"{option}['{key}'] must be numbers, a variance or a covariance matrix") from None
    if not np.isfinite(out).all():
        raise OptionError(f"{option}['{key}'] holds a number that is not finite")
    return out


def has_labels(table: pd.DataFrame) -> bool:
    """Whether rows or columns of a matrix have names, other than their numbers."""
    return any(_are_names(labels) for labels in table.axes)


def _are_names(labels: pd.Index) -> bool:
    return list(labels) != list(range(len(labels)))


def _in_order(option: str, key: str, table: pd.DataFrame, called: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    rows, columns = (list(map(str, labels)) for labels in (table.index, table.columns))
    if not called[-1]:  # where there are no coefficients no matrix is right
        return table
    if not has_labels(table):
        if sorted(rows) == sorted(called[-1]) and rows != list(called[-1]):
            raise OptionError(
                f"{option}['{key}'] is a table whose labels may be levels or just numbers, and levels "
                f"come in the order {name_list(called[-1], 4)}; give the matrix in that order without "
                "labels, table.to_numpy()"
            )
        return table
    for names in called:
        if sorted(rows) == sorted(columns) == sorted(names):
            return table.iloc[[rows.index(name) for name in names], [columns.index(name) for name in names]]
    raise OptionError(
        f"{option}['{key}'] is a table whose rows are called {name_list(rows, 4)} and whose columns "
        f"{name_list(columns, 4)}; both must be the coefficients, {name_list(called[-1], 4)}"
    )
