"""Random terms: the levels that group the rows, their relation, and what varies between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from fastlmm_core.design.at_levels import AtFactors, at_text, outside_at, split_at_levels
from fastlmm_core.design.coding.model_matrix import Coding, code_terms
from fastlmm_core.design.grouping import (
    Axis,
    is_units,
    product_labels,
)
from fastlmm_core.design.term_axes import TermData, read_axes
from fastlmm_core.design.values.bases import State
from fastlmm_core.design.values.evaluation import evaluate_factor
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import make_atom
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import DesignError
from fastlmm_core.formula.expressions import Node, deparse, label_of
from fastlmm_core.formula.functions import names_read
from fastlmm_core.formula.parts import RandomPart
from fastlmm_core.formula.structured_parts import GroupFactor
from fastlmm_core.limits import escaped
from fastlmm_core.structures.levels.relation import LevelRelation
from fastlmm_core.structures.registry import find_coefficient_structure

Layer = tuple[np.ndarray, np.ndarray]  # codes (n,) int32, -1 where a row is not in the term; values (n, m)


@dataclass(frozen=True, repr=False)
class RandomTerm(Displayed):
    """One random term ``STRUCT(terms | group)`` on the rows used.

    Attributes
    ----------
    group : str
        Label as lme4 writes it, ``"V:B"`` for ``(1|B/V)``; with ``at(site)`` the site in its place.
    columns : (m,) tuple of str
        ``"(Intercept)"``, ``"Days"``, ... as R names them.
    structure : str
        Canonical name of the covariance of the m coefficients: ``"us"``, ``"diag"``, ``"ar1"``, ...
    levels : (L,) ndarray of str
        Labels of the levels, ``"R1:B1"``: those that occur; of a relationship and of positions all.
    codes : (n,) int32
    values : (n, m) float64
        Of the first layer, which is the only one but for overlaid columns.
    group_variables : tuple of str
        Columns of the table that make the group, in the order of the labels.
    coding : Coding
        What turns a table into `values`.
    axes : tuple of Axis
        Factors of the levels, the first varying slowest.
    label : str
        The term as written, ``"(1 | at(site):rep)"``.
    at : str or None
        Level of ``at()`` this term belongs to; other rows have codes of -1.
    at_factors : tuple of (Node, tuple of str)
        Factors of ``at()`` with their levels.
    options : dict
        Of the structure.
    incidence : tuple of tuple of Node
        Columns left of the bar of ``vm(A)``, by coefficient.
    kept : (m,) int64 or None
        Coefficients that occur in the level of ``at()``, None for all.
    further_layers : tuple of Layer
    states : dict of str to dict
        What the expressions of the grouping variables remember of the data of the fit, by their text.
    taken_from : str
        The term with ``||`` this one is a part of; empty for other terms.
    """

    group: str
    columns: tuple[str, ...]
    structure: str
    levels: np.ndarray
    codes: np.ndarray
    values: np.ndarray
    group_variables: tuple[str, ...]
    coding: Coding
    axes: tuple[Axis, ...]
    label: str
    at: str | None = None
    at_factors: AtFactors = ()
    options: Mapping[str, int] = field(default_factory=dict)
    incidence: tuple[tuple[Node, ...], ...] = ()
    kept: np.ndarray | None = None
    further_layers: tuple[Layer, ...] = ()
    states: Mapping[str, State] = field(default_factory=dict)
    taken_from: str = ""

    is_spline = False

    def _shown(self) -> str:
        coefficients = ", ".join(self.columns[:4]) + (", ..." if len(self.columns) > 4 else "")
        return f"{self.label}: {self.structure} of {coefficients} on {len(self.levels):,} levels"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Codes and values whose sum the term is: one, or one for each column that gives the incidence."""
        return ((self.codes, self.values), *self.further_layers)

    @property
    def relation(self) -> LevelRelation | None:
        """Relation of the levels, None for independent ones."""
        if all(axis.kind == "id" for axis in self.axes):
            return None
        return LevelRelation(tuple(axis.level_factor() for axis in self.axes))

    @property
    def is_plain(self) -> bool:
        """Whether every row has an independent level, with an unstructured or diagonal covariance."""
        return (self.structure in ("us", "diag") and self.at is None and self.relation is None
                and not self.further_layers)  # fmt: skip

    def evaluate(self, newdata: Any) -> Layer:
        """Codes and values of the term on another table.

        Parameters
        ----------
        newdata : table of k rows

        Returns
        -------
        codes : (k,) int32
            -1 where the level did not occur in the data of the fit, or is missing.
        values : (k, m) float64
            Zero in rows of other levels of ``at()``, and of new units.

        Raises
        ------
        DataError
            When a column is not in `newdata`, or a factor inside the term has an unknown level.
        """
        return self.evaluate_layers(newdata)[0]

    def evaluate_layers(self, newdata: Any) -> tuple[Layer, ...]:
        """`evaluate` for every layer."""
        table = newdata if isinstance(newdata, Table) else Table(newdata)
        outside = self._outside(table)
        layers = []
        for values, columns in self._layer_values(table):
            cell = np.zeros(table.n, dtype=np.int64)
            known = np.ones(table.n, dtype=bool)
            for axis in () if self.is_of_units(table) else self.axes:
                codes = axis.codes(table, axis.nodes or columns, self.states)
                known &= codes >= 0
                cell = cell * axis.levels.size + codes
            if self.relation is not None:  # checks that are in no relationship
                known |= (values == 0.0).all(axis=1)
            codes = np.where(known, np.maximum(cell, 0), -1)
            layers.append(
                (np.where(outside, 0, codes).astype(np.int32), np.where(outside[:, None], 0.0, values))
            )
        return tuple(layers)

    def new_units(self, table: Table) -> Layer:
        """Codes -1 and the values (k, m) of rows as units of their own, of a term of units."""
        (values, _), *_ = self._layer_values(table)
        return np.full(table.n, -1, np.int32), values

    def missing_levels(self, table: Table) -> tuple[np.ndarray, ...]:
        """(k,) bool of every layer: rows that lack a column which the level is made of."""
        if self.is_of_units(table):
            return (np.zeros(table.n, dtype=bool),)
        out = []
        for _, columns in self._layer_values(table):
            nodes = [node for axis in self.axes for node in axis.nodes or columns]
            codes = [evaluate_factor(node, table, self.states[deparse(node)]).values for node in nodes]
            out.append(np.any([own < 0 for own in codes], axis=0))
        return tuple(out)

    def _layer_values(self, table: Table) -> list[tuple[np.ndarray, tuple[Node, ...]]]:
        if self.incidence:
            return [(np.tile(unit, (table.n, 1)), (node,)) for unit, node in incidence_units(self.incidence)]
        values = self.coding.dense(self.coding.read(table), table.n)
        return [(values if self.kept is None else values[:, self.kept], ())]

    def _outside(self, table: Table) -> np.ndarray:
        """(k,) bool: rows that the term says nothing about."""
        if self.is_of_units(table):
            return np.ones(table.n, dtype=bool)
        if self.at is None:
            return np.zeros(table.n, dtype=bool)
        return outside_at(self.at_factors, self.at, table, self.states)

    def is_of_units(self, table: Table) -> bool:
        """Whether its levels are the rows themselves, of which other tables have others."""
        return any(is_units(node, table.names) for axis in self.axes for node in axis.nodes)

    def columns_of_layer(self, layer: int) -> list[Node]:
        """Columns that the levels of a layer come from; those of an incidence have one layer each."""
        own = incidence_units(self.incidence)[layer][1:] if self.incidence else ()
        return [node for axis in self.axes for node in axis.nodes or own]

    def row_labels(self, newdata: Any, layer: int = 0) -> np.ndarray:
        """(k,) object: label of the level in every row of another table, None where it is missing."""
        table = newdata if isinstance(newdata, Table) else Table(newdata)
        nodes = self.columns_of_layer(layer)
        columns = [evaluate_factor(node, table, self.states[deparse(node)]) for node in nodes]
        labels = np.empty(table.n, dtype=object)
        for i in range(table.n):
            parts = [None if c.values[i] < 0 else (c.levels or ())[c.values[i]] for c in columns]
            labels[i] = None if None in parts else ":".join(str(part) for part in parts)
        return labels


def incidence_units(incidence: tuple[tuple[Node, ...], ...]) -> list[tuple[np.ndarray, Node]]:
    """((m,) unit vector of its coefficient, column) of every column that gives an incidence."""
    units = np.eye(len(incidence))
    return [(units[a], node) for a, columns in enumerate(incidence) for node in columns]


def build_random_terms(part: RandomPart, data: TermData) -> list[RandomTerm]:
    """The random term of a bar, or one for each level of ``at()`` that occurs.

    Raises
    ------
    DesignError
        When a group has one level, or the structure more factors than there are coefficients.
    DataError
        When levels of the data are not in a relationship.
    """
    coding, dense = _linear_part(part, data)
    nodes = iter(part.factors)
    columns = [(kind, next(nodes) if kind.has_column else None) for kind in part.kinds]
    at_nodes = [node for kind, node in columns if kind.kind == "at" and node is not None]
    asked = [kind.levels for kind in part.kinds if kind.kind == "at"]
    grouping = [(kind, node) for kind, node in columns if kind.kind != "at"]
    if not at_nodes:
        return [_build(part, data, coding, dense, grouping, _rows_with_effects(part, dense), None, ())]
    at_factors, levels = split_at_levels(at_nodes, asked, data.groups, data.rows)
    return [
        _build(part, data, coding, dense, grouping, inside, label, at_factors) for label, inside in levels
    ]


def _rows_with_effects(part: RandomPart, dense: np.ndarray) -> np.ndarray | None:
    """Rows that a term over a relationship says something about, None for all.

    Checks beside new lines, 0 in ``(0 + new | vm(gen, G))``, need not be in the relationship.
    """
    if part.incidence or not any(kind.relationship is not None for kind in part.kinds):
        return None
    there = (dense != 0.0).any(axis=1)
    return None if there.all() or not there.any() else np.flatnonzero(there)


def _build(
    part: RandomPart, data: TermData, coding: Coding, dense: np.ndarray,
    grouping: list[tuple[GroupFactor, Node | None]], inside: np.ndarray | None, at: str | None,
    at_factors: AtFactors,
) -> RandomTerm:  # fmt: skip
    """The term on the rows `inside`, which are all of them without ``at()``."""
    units: list[tuple[np.ndarray | None, Node | None]] = [*incidence_units(part.incidence)] or [(None, None)]
    axes: tuple[Axis, ...] = ()
    found = []
    for unit, column in units:
        axes, codes = read_axes(grouping, column, data, data.on(inside))
        found.append((codes, unit))
    count = math.prod(axis.levels.size for axis in axes)
    data.limits.check("levels", count, f"grouping factor '{escaped(part.group)}' has {{}} levels")
    labels = axes[0].levels if len(axes) == 1 else product_labels(axes, part.group)
    columns: tuple[str, ...] = tuple(" + ".join(map(deparse, own)) for own in part.incidence)
    columns = columns or coding.column_names
    kept = None
    if at is not None and not part.incidence and not find_coefficient_structure(part.structure).by_distance:
        occurring = np.flatnonzero((dense[inside] != 0.0).any(axis=0))
        if occurring.size < len(columns):
            kept, columns = occurring, tuple(columns[j] for j in occurring)
            dense = dense[:, occurring]
    _check_factors(part, len(columns))
    layers = [_layer(codes, dense if unit is None else np.tile(unit, (data.n, 1)), inside, data.n)
              for codes, unit in found]  # fmt: skip
    nodes = [*part.factors, *(node for own in part.incidence for node in own)]
    variables = names_read(nodes)
    states = {text: raw.state for text, raw in data.groups.items()}
    for node in nodes:
        states.setdefault(deparse(node), {})
    group = part.group if at is None else _group_at(part.kinds, [node for node, _ in at_factors], at)
    # columns of a factor before || are independent as well
    structure = "diag" if part.taken_from and len(columns) > 1 else part.structure
    return RandomTerm(
        group, columns, structure, labels, *layers[0], variables, coding, axes, part.label, at,
        at_factors, part.options, part.incidence, kept, tuple(layers[1:]), states,
        part.taken_from,
    )  # fmt: skip


def _group_at(kinds: tuple[GroupFactor, ...], nodes: list[Node], at: str) -> str:
    """Label of a grouping with the level in the call of ``at()``: ``"at(site, S1):rep"``."""
    first = next(i for i, kind in enumerate(kinds) if kind.kind == "at")
    inner = [label_of(deparse(node)) for node in nodes]
    names = [
        at_text(inner, at) if i == first else kind.text
        for i, kind in enumerate(kinds) if i == first or kind.kind != "at"
    ]  # fmt: skip
    return ":".join(names)


def _layer(codes: np.ndarray, values: np.ndarray, inside: np.ndarray | None, n: int) -> Layer:
    """Codes on all rows used; -1, and values of zero, outside of the term."""
    if inside is None:
        return codes.astype(np.int32, copy=False), values
    everywhere = np.full(n, -1, dtype=np.int32)
    everywhere[inside] = codes
    return everywhere, np.where(everywhere[:, None] >= 0, values, 0.0)


def _linear_part(part: RandomPart, data: TermData) -> tuple[Coding, np.ndarray]:
    """Coding of what varies between the levels, and its (n, m) values."""
    by_distance = find_coefficient_structure(part.structure).by_distance
    atoms, values = {}, {}
    for text, node in part.terms.atoms.items():
        raw = data.raw[text].by_distance() if by_distance else data.raw[text]
        atoms[text], values[text] = make_atom(text, node, raw, data.rows, data.contrasts)
    factors = {text for text, atom in atoms.items() if atom.is_factor}
    whole = part.whole or part.terms
    elsewhere = {text for text in whole.atoms if text not in atoms and data.raw[text].levels is not None}
    coded = code_terms(whole, factors | elsewhere)
    coding = Coding(part.terms.intercept, atoms, tuple(c for c in coded if c.atoms in part.terms.terms))
    data.limits.check("coefficients", coding.p, f"'{escaped(part.label)}' has {{}} coefficients")
    if by_distance and part.terms.atoms and not factors and coding.p == 1:
        text = next(iter(part.terms.atoms))
        raise DesignError(f"'{part.label}': '{text}' is numeric, so there is one coefficient and no distance "
                          f"between coefficients; write factor({text})")  # fmt: skip
    return coding, coding.dense(values, data.n)


def _check_factors(part: RandomPart, m: int) -> None:
    for option, count in part.options.items():
        if count > m:
            raise DesignError(f"'{part.label}': {option}={count} factors for {m} coefficients; at most {m}")


def order_terms(terms: Sequence[RandomTerm], plain: bool = True) -> tuple[RandomTerm, ...]:
    """lme4's order: the formula's when the numbers of levels never increase, else ``rev(order())``.

    Models that lme4 does not know (`plain` False) keep the order of the formula, by which their components
    are numbered V1, V2, ...
    """
    if not plain or not all(term.is_plain for term in terms):
        return tuple(terms)
    counts = [term.levels.size for term in terms]
    if all(a >= b for a, b in pairwise(counts)):
        return tuple(terms)
    return tuple(terms[i] for i in sorted(range(len(terms)), key=lambda i: (counts[i], i), reverse=True))
