"""Nodes of the equations: the levels of the terms, whole or by coefficient, missing plots and fixed columns.

A node is what an elimination order moves. Its scalars have a full block in C with those of every node that it
meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastlmm_core.engine.equations.terms import EngineTerm


@dataclass(frozen=True)
class NodeGroup:
    """Nodes, one for each level of a term, that hold some of its scalars.

    Attributes
    ----------
    term : int
    n_levels : int
    coefficients : range
        Coefficients of the term that stand in the node or load on it.
    scalars : range
        Of those of a level, natural or spherical.
    """

    term: int
    n_levels: int
    coefficients: range
    scalars: range


def natural_groups(terms: Sequence[EngineTerm]) -> list[NodeGroup]:
    """Nodes of the natural scalars: of all coefficients of a level, or of each."""
    out = []
    for k, term in enumerate(terms):
        parts = [range(a, a + 1) for a in range(term.m)] if term.separate else [range(term.m)]
        out += [NodeGroup(k, term.n_levels, part, part) for part in parts]
    return out


def spherical_groups(terms: Sequence[EngineTerm]) -> list[NodeGroup]:
    """Nodes of the spherical scalars: of all columns of Lambda, or of those shared and of each other one."""
    out = []
    for k, term in enumerate(terms):
        L, whole, shared = term.n_levels, range(term.m), term.structure.shared_columns
        if not term.separate or shared is None:
            out.append(NodeGroup(k, L, whole, range(term.width)))
            continue
        if shared:
            out.append(NodeGroup(k, L, whole, range(shared)))
        if term.width > shared:
            out += [NodeGroup(k, L, range(a, a + 1), range(shared + a, shared + a + 1)) for a in whole]
    return out


class Nodes:
    """The nodes of a side in the order of the groups, then missing plots and fixed columns.

    Attributes
    ----------
    groups : list of NodeGroup
    first : (groups + 3,) int64
        First node of each group, of the missing plots and of the fixed columns, and the end.
    group : (N,) int64
        Group of each node; the last two are missing plots and fixed columns.
    size : (N,) int64
        Scalars of each node.
    """

    def __init__(self, groups: list[NodeGroup], n_missing: int, p: int):
        counts = np.array([own.n_levels for own in groups] + [n_missing, p], np.int64)
        self.groups = groups
        self.first = np.concatenate(([0], np.cumsum(counts)))
        self.group = np.repeat(np.arange(counts.size), counts)
        self.size = np.repeat(np.array([len(own.scalars) for own in groups] + [1, 1], np.int64), counts)

    def of_missing(self) -> slice:
        return slice(int(self.first[-3]), int(self.first[-2]))

    def of_fixed(self) -> slice:
        return slice(int(self.first[-2]), int(self.first[-1]))
