"""Fixed genetic groups: columns with the part of each group in the individuals of a random term.

With a relationship of fixed groups (1 | vm(animal, A)) stands for a in u = a + Q g. The columns of Z Q,
``animal.G1``, ``animal.G2``, ..., come into the fixed part; beside a mean one of them is left out, for the
rows of Q sum to one. A coefficient x of the term, of ``us(0 + trait | vm(animal, A))``, has its own:
x:animal.G1.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.grouping import codes_among
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import evaluate_factor
from fastlmm_core.design.values.table import Table
from fastlmm_core.errors import DataError, DesignError, OptionError, name_list
from fastlmm_core.formula.expressions import Name, Node, deparse, label_of
from fastlmm_core.formula.functions import names_read
from fastlmm_core.formula.parsing import ParsedFormula, parse_formula
from fastlmm_core.formula.parts import RandomPart

if TYPE_CHECKING:
    from fastlmm_core.design.random_terms import RandomTerm

# Of sums of squares of columns of size 1, below which a combination of them is zero.
NO_DATA = 1e-12
SAME = 1e-6  # to which a part of a group that a table has is that of the pedigree, written with fewer digits


@dataclass(frozen=True)
class GroupColumns:
    """Columns of fixed groups that the individuals in a column of a table stand for.

    Attributes
    ----------
    node : Node
        Column of the individuals.
    relationship : Relationship
    """

    node: Node
    relationship: Any

    @property
    def names(self) -> tuple[str, ...]:
        """``animal.G1``, a column of each group."""
        return tuple(f"{label_of(deparse(self.node))}.{group}" for group in self.relationship.group_shares)

    def add_to(self, table: Table, unknown: float | None) -> None:
        """Put the columns into a table that has the individuals.

        Individuals that are not in the relationship have what the table itself says, or `unknown`.

        Raises
        ------
        DataError
            For one of which nothing is known, where `unknown` is None, and for a column of such a name that
            holds something else.
        """
        absent = [name for name in names_read([self.node]) if name not in table.names]
        if absent and (unknown is not None or set(self.names) <= set(table.names)):
            return
        if absent:
            raise DataError(
                f"new data: column '{absent[0]}' is not there, which tells the genetic groups of the "
                f"individuals; columns {name_list(self.names)} may give what these have of each in its place"
            )
        individuals = evaluate_factor(self.node, table, {})
        place, missing = codes_among(individuals, self.relationship.levels), individuals.missing()
        known = place >= 0
        strange = np.flatnonzero(~known)
        if unknown is None and strange.size and not set(self.names) <= set(table.names):
            at, column = int(strange[0]), label_of(deparse(self.node))
            if missing[at]:
                who = f"'{column}' has no value in row {at + 1}"
            else:
                label = (individuals.levels or ())[individuals.values[at]]
                relation = self.relationship.name
                who = f"'{label}' of '{column}' is not among the levels of relationship '{relation}'"
            raise DataError(
                f"{who}, so that its genetic groups are not known; columns {name_list(self.names)} may give "
                "what it has of each"
            )
        for name, group in zip(self.names, self.relationship.group_shares, strict=True):
            values = np.full(table.n, np.nan if unknown is None else unknown)
            shares = self.relationship.group_shares[group].to_numpy()[place[known]]
            if name in table.names:
                given = table.column(name)
                if given.is_factor or (np.abs(given.values[known] - shares) > SAME).any():
                    raise DataError(
                        f"column '{name}' of the data is not what '{label_of(deparse(self.node))}' has of "
                        f"the genetic group '{group}' in relationship '{self.relationship.name}'; give the "
                        "column another name"
                    )
                values = np.array(given.values, dtype=np.float64)
            values[known] = shares
            if name not in table.names:
                values[missing] = np.nan
            table._columns[name] = Column(name, values, None)
            table.names[name] = None


def group_columns(parsed: ParsedFormula, relationships: Mapping[str, Any]) -> list[GroupColumns]:
    """Columns of the fixed groups of the relationships in the random terms of a formula.

    Raises
    ------
    OptionError
        For a term over something else beside the individuals, or with columns overlaid, and for two
        relationships that both have groups of the same individuals.
    """
    found = [own for part in parsed.random for own in _of_part(part, relationships)]
    first: dict[Node, Any] = {}
    for own in found:
        other = first.setdefault(own.node, own.relationship)
        if other is not own.relationship:
            raise OptionError(
                f"the relationships '{other.name}' and '{own.relationship.name}' both have fixed groups of "
                f"'{label_of(deparse(own.node))}'; one of them has to be without_groups()"
            )
    return found


def _of_part(part: RandomPart, relationships: Mapping[str, Any]) -> list[GroupColumns]:
    named = [relationships.get(str(kind.relationship)) for kind in part.kinds if kind.kind == "vm"]
    with_groups = [own for own in named if own is not None and own.group_shares is not None]
    if not with_groups:
        return []
    nodes = [columns[0] for columns in part.incidence] if part.incidence else list(part.factors)
    if len(part.kinds) > 1 or any(len(columns) > 1 for columns in part.incidence):
        raise OptionError(
            f"'{part.label}': fixed genetic groups go with the individuals of one column, vm(animal, "
            f"{with_groups[0].name}); here give the pedigree group_variance=, which makes its groups random, "
            "or pedigree.without_groups() under a name of its own, for a term that has none"
        )
    return [GroupColumns(node, with_groups[0]) for node in nodes]


def table_with(table: Table, columns: Sequence[GroupColumns], unknown: float | None) -> Table:
    """The table with columns of fixed groups beside its own."""
    if not columns:
        return table
    own = copy.copy(table)
    own._columns, own.names = dict(table._columns), dict.fromkeys(table.names)
    for each in columns:
        each.add_to(own, unknown)
    return own


def table_for(
    parsed: ParsedFormula, random: Sequence[Any], newdata: Any, unknown: float | None = None
) -> Table:
    """New data of a model, by its formula and random terms, with the columns of its fixed groups."""
    table = newdata if isinstance(newdata, Table) else Table(newdata)
    return table_with(table, _columns_in(parsed, random), unknown)


def _columns_in(parsed: ParsedFormula, random: Sequence[Any]) -> list[GroupColumns]:
    axes = [axis for term in random if not term.is_spline for axis in term.axes]
    related = {own.name: own for own in (axis.relationship for axis in axes) if own is not None}
    return group_columns(parsed, related)


def columns_of_individuals(
    parsed: ParsedFormula, random: Sequence[Any], name: str
) -> pd.DataFrame | None:  # fmt: skip
    """Columns of fixed groups, by individual, that belong to a column of the table; None without any."""
    for own in _columns_in(parsed, random):
        if isinstance(own.node, Name) and own.node.name == name:
            return own.relationship.group_shares.set_axis(list(own.names), axis=1)
    return None


def with_group_terms(
    parsed: ParsedFormula, relationships: Mapping[str, Any], names: Container[str]
) -> ParsedFormula:
    """The formula with the terms of fixed groups that a table with columns `names` has.

    Not with those of a column of which it has some itself.
    """
    there = {label_of(text) for text in parsed.fixed.atoms}
    added: dict[str, None] = {}
    for part in parsed.random:
        left: list[tuple[str, ...]] = [()] if part.incidence or part.terms.intercept else []
        left += [] if part.incidence else list(part.terms.terms)
        for own in _of_part(part, relationships):
            if there.isdisjoint(own.names) and own.names[0] in names:
                groups = [deparse(Name(0, name)) for name in own.names]
                added |= dict.fromkeys(":".join((*term, group)) for term in left for group in groups)
    if not added:
        return parsed
    whole = parse_formula(f"{parsed.text} + {' + '.join(added)}", parsed.limits)
    return replace(whole, response=parsed.response, open_trend=parsed.open_trend)


def without_group_terms(parsed: ParsedFormula, columns: pd.DataFrame | None) -> ParsedFormula:
    """The formula without the terms of some columns, as `columns_of_individuals` has them."""
    if columns is None:
        return parsed
    own = {text for text in parsed.fixed.atoms if label_of(text) in columns}
    terms = tuple(term for term in parsed.fixed.terms if own.isdisjoint(term))
    atoms = {text: node for text, node in parsed.fixed.atoms.items() if text not in own}
    return replace(parsed, fixed=replace(parsed.fixed, terms=terms, atoms=atoms))


def group_places(term: RandomTerm, names: Sequence[str]) -> tuple[Any, np.ndarray] | None:
    """Q (L, k) of a random term, and which fixed columns its groups are by coefficient (m, k).

    None for a term without fixed groups.

    Parameters
    ----------
    names : sequence of str
        Of all columns of the fixed part.

    Raises
    ------
    DesignError
        When the fixed part has no such columns.
    """
    related = [axis.relationship for axis in term.axes if axis.relationship is not None]
    if not related or related[0].group_shares is None:
        return None
    nodes = [columns[0] for columns in term.incidence] or [term.axes[0].nodes[0]] * len(term.columns)
    place = {name: j for j, name in enumerate(names)}
    out = np.empty((len(term.columns), related[0].group_shares.shape[1]), dtype=np.int64)
    for c, (column, node) in enumerate(zip(term.columns, nodes, strict=True)):
        for k, name in enumerate(GroupColumns(node, related[0]).names):
            plain = term.incidence or column == "(Intercept)"
            tried = [name] if plain else [f"{column}:{name}", f"{name}:{column}"]
            found = [place[own] for own in tried if own in place]
            if not found:
                raise DesignError(
                    f"'{term.label}': its relationship has fixed groups, and the fixed part no column "
                    f"{name_list(tried[:1])}; leave the columns of groups to the model, or give all of them"
                )
            out[c, k] = found[0]
    return related[0].group_shares.to_numpy(), out


def untold_levels(term: RandomTerm, names: Sequence[str], X: sp.csc_array) -> np.ndarray | None:
    """Levels (L, m) of a random term with parts of fixed groups that the data do not tell.

    A group has no descendants in the data, or there are always as many genes of one as of another. None
    without fixed groups.

    Parameters
    ----------
    names : sequence of str
        Of the columns of the fixed part X (n, p).
    """
    found = None if term.is_spline else group_places(term, names)
    if found is None:
        return None
    shares, places = found
    out = np.zeros((len(shares), len(places)), dtype=bool)
    for c, own in enumerate(places):
        part = X[:, own]
        norm = np.sqrt(np.asarray(part.power(2).sum(axis=0)).ravel())
        norm[norm == 0.0] = 1.0
        unit = part @ sp.diags_array(1.0 / norm)
        size, vectors = np.linalg.eigh((unit.T @ unit).toarray())
        rows = shares / norm
        lost = np.abs(rows @ vectors[:, size <= NO_DATA]).max(axis=1, initial=0.0)
        out[:, c] = lost > np.sqrt(NO_DATA) * np.linalg.norm(rows, axis=1)
    return out
