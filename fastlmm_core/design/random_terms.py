"""Random terms: the grouping factor's codes and what varies between its levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastlmm_core.design.bases import State
from fastlmm_core.design.coding import Coding, code_terms
from fastlmm_core.design.expressions import Node, deparse
from fastlmm_core.design.formula import RandomPart
from fastlmm_core.design.functions import columns_read
from fastlmm_core.design.table import Table, drop_unused
from fastlmm_core.design.variables import Raw, make_atom, read_factor
from fastlmm_core.errors import DesignError, name_list


@dataclass(frozen=True)
class RandomTerm:
    """One random term ``(terms | group)`` on the rows used.

    Attributes
    ----------
    group : str
        Label as lme4 writes it, ``"V:B"`` for ``(1|B/V)``.
    columns : (m,) tuple of str
        ``"(Intercept)"``, ``"Days"``, ... as R names them.
    structure : str
        ``"us"`` or ``"diag"``.
    levels : (L,) ndarray of str
        Labels of the levels that occur, ``"R1:B1"``.
    codes : (n,) int32
    values : (n, m) float64
    group_variables : tuple of str
        Columns of the table that make the group, in the order of the labels.
    coding : Coding
        What turns a table into `values`.
    factors : tuple of Node
        Expressions of the grouping variables.
    factor_levels : tuple of tuple of str
        Levels of each grouping variable.
    cells : (L,) int64
        Combined code of each level over the grouping variables, increasing.
    factor_states : tuple of dict
        What the expressions of the grouping variables remember of the data of the fit.
    """

    group: str
    columns: tuple[str, ...]
    structure: str
    levels: np.ndarray
    codes: np.ndarray
    values: np.ndarray
    group_variables: tuple[str, ...]
    coding: Coding
    factors: tuple[Node, ...]
    factor_levels: tuple[tuple[str, ...], ...]
    cells: np.ndarray
    factor_states: tuple[State, ...]

    def evaluate(self, newdata: Any) -> tuple[np.ndarray, np.ndarray]:
        """Codes and values of the term on another table.

        Parameters
        ----------
        newdata : table of k rows

        Returns
        -------
        codes : (k,) int32
            -1 where the level did not occur in the data of the fit, or is missing.
        values : (k, m) float64

        Raises
        ------
        DataError
            When a column is not in `newdata`, or a factor inside the term has an unknown level.
        """
        table = newdata if isinstance(newdata, Table) else Table(newdata)
        cell = np.zeros(table.n, dtype=np.int64)
        known = np.ones(table.n, dtype=bool)
        for node, levels, state in zip(self.factors, self.factor_levels, self.factor_states, strict=True):
            column = read_factor(node, table, state)
            assert column.levels is not None
            place = {level: i for i, level in enumerate(levels)}
            codes = np.array([*(place.get(level, -1) for level in column.levels), -1])[column.values]
            known &= codes >= 0
            cell = cell * len(levels) + codes
        at = np.minimum(np.searchsorted(self.cells, cell), self.cells.size - 1)
        known &= self.cells[at] == cell
        return np.where(known, at, -1).astype(np.int32), self.coding.dense(self.coding.read(table), table.n)


    def row_labels(self, newdata: Any) -> np.ndarray:
        """(k,) object: label of the level in every row of another table, None where it is missing."""
        table = newdata if isinstance(newdata, Table) else Table(newdata)
        columns = [read_factor(node, table, state)
                   for node, state in zip(self.factors, self.factor_states, strict=True)]  # fmt: skip
        labels = np.empty(table.n, dtype=object)
        for i in range(table.n):
            parts = [None if c.values[i] < 0 else (c.levels or ())[c.values[i]] for c in columns]
            labels[i] = None if None in parts else ":".join(str(part) for part in parts)
        return labels


def combine_factors(
    codes: list[np.ndarray], levels: list[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes, labels, cells) of the combinations that occur, the first factor varying slowest.

    Parameters
    ----------
    codes : list of (n,) int32
    levels : list of tuple of str

    Returns
    -------
    codes : (n,) int32
    labels : (L,) ndarray of str
    cells : (L,) int64
    """
    if len(codes) == 1:
        labels = np.array(levels[0], dtype=object)
        return codes[0], labels, np.arange(labels.size, dtype=np.int64)
    cell = codes[0].astype(np.int64)
    for own, names in zip(codes[1:], levels[1:], strict=True):
        cell = cell * len(names) + own
    cells, inverse = _occurring(cell, int(np.prod([len(names) for names in levels], dtype=object)))
    rest, parts = cells, []
    for names in reversed(levels):
        parts.append(np.array(names, dtype=object)[rest % len(names)])
        rest = rest // len(names)
    labels = parts.pop()
    while parts:
        labels = labels + ":" + parts.pop()
    return inverse.astype(np.int32), labels, cells


def _occurring(cell: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`np.unique` with inverse of (n,) integers below `size`, by counting when that is cheap."""
    if size > 8 * cell.size + 1000:
        return np.unique(cell, return_inverse=True)
    seen = np.bincount(cell, minlength=size) > 0
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[cell]


def build_random_term(
    part: RandomPart,
    raw: dict[str, Raw],
    group_raw: dict[str, Raw],
    rows: np.ndarray | None,
    n: int,
    contrasts: Any,
) -> RandomTerm:
    """One random term from the variables read before.

    Parameters
    ----------
    part : RandomPart
    raw, group_raw : dict of str to Raw
        Variables of the linear parts and of the groupings, by their text.
    rows : (n,) int64 or None
        Rows used, None for all.
    n : int
        Number of rows used.
    contrasts : dict or None

    Raises
    ------
    DesignError
        When the group has one level, or as many levels or random effects as there are rows.
    """
    codes, levels = [], []
    for node in part.factors:
        own = group_raw[deparse(node)]
        assert own.levels is not None
        used, names = drop_unused(own.on_rows(rows), own.levels)
        codes.append(used)
        levels.append(names)
    group_codes, labels, cells = combine_factors(codes, levels)
    coding, values = _linear_part(part, raw, rows, contrasts)
    dense = coding.dense(values, n)
    _check_levels(part.group, coding.column_names, labels, n)
    variables = tuple(dict.fromkeys(name.name for node in part.factors for name in columns_read(node)))
    return RandomTerm(part.group, coding.column_names, part.structure, labels, group_codes, dense, variables,
                      coding, part.factors, tuple(levels), cells,
                      tuple(group_raw[deparse(node)].state for node in part.factors))  # fmt: skip


def _linear_part(
    part: RandomPart, raw: dict[str, Raw], rows: np.ndarray | None, contrasts: Any
) -> tuple[Coding, dict[str, np.ndarray]]:
    atoms, values = {}, {}
    for text, node in part.terms.atoms.items():
        atoms[text], values[text] = make_atom(text, node, raw[text], rows, contrasts)
    factors = {text for text, atom in atoms.items() if atom.is_factor}
    return Coding(part.terms.intercept, atoms, code_terms(part.terms, factors)), values


def _check_levels(group: str, columns: tuple[str, ...], labels: np.ndarray, n: int) -> None:
    """lme4's checks ``check.nlev.gtr.1``, ``check.nobs.vs.nlev`` and ``check.nobs.vs.nRE``."""
    count, width = labels.size, len(columns)
    if count < 2:
        raise DesignError(
            f"grouping factor '{group}' has only the level {name_list(labels)} in the {n} rows used; "
            "a random term needs at least two levels"
        )
    if count >= n:
        raise DesignError(
            f"grouping factor '{group}' has {count} levels for {n} observations: its effect would be "
            f"confounded "
            "with the residual; every grouping factor needs fewer levels than there are observations"
        )
    if count * width >= n:
        raise DesignError(
            f"the random term ({' + '.join(columns)} | {group}) has {count} x {width} = {count * width} "
            f"random "
            f"effects for {n} observations: its parameters and the residual variance cannot be told apart; "
            "use fewer random coefficients"
        )


def order_terms(terms: list[RandomTerm]) -> tuple[RandomTerm, ...]:
    """lme4's order: the formula's when the numbers of levels never increase, else ``rev(order())``."""
    counts = [term.levels.size for term in terms]
    if all(a >= b for a, b in pairwise(counts)):
        return tuple(terms)
    return tuple(terms[i] for i in sorted(range(len(terms)), key=lambda i: (counts[i], i), reverse=True))
