"""Genetic groups of unknown parents: their names, and their place among the individuals.

With groups u = a + Q g: a row of Q (n, k) holds the shares of an individual's genes that come from each
group, half the sum of those of its parents (Quaas 1988, J. Dairy Sci. 71:1338; Westell, Quaas & Van Vleck
1988, J. Dairy Sci. 71:1310). Fixed g are columns of the model beside A of a, see ``design.group_columns``.
Random g of the variance gamma times that of a makes the groups founders with the Mendelian variance gamma,
and everybody else has the variance that it has with unknown parents. So A of all is T D T' again, and its
inverse is A* of Quaas, plus 1 / gamma for the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastlmm_core.errors import DataError, OptionError, PedigreeWarning, name_list
from fastlmm_core.gate import warn_caller
from fastlmm_core.reading import level_label
from fastlmm_core.structures.relationships.pedigree_checks import in_other_spelling
from fastlmm_core.structures.relationships.pedigree_codes import ParentCodes
from fastlmm_core.structures.relationships.pedigree_kernels import find_generations


def read_groups(groups: Iterable[Any] | None, variance: float | None, unknown: set[str]) -> tuple[str, ...]:
    """Names of the groups, none without any.

    Raises
    ------
    OptionError
        For a variance without groups, and for a name that is repeated or a code of an unknown parent.
    """
    names = tuple(level_label(name) for name in groups or ())
    if not names and variance is not None:
        raise OptionError(
            "group_variance= is that of genetic groups: name them as they stand for unknown parents, "
            "groups=['G1', 'G2']"
        )
    if len(set(names)) < len(names):
        raise OptionError(f"groups={name_list(names)} has a name twice")
    for name in names:
        if name.strip() in unknown:
            raise OptionError(
                f"groups has '{name}', which is a code for an unknown parent; missing= says which codes are"
            )
    return names


def groups_first(codes: ParentCodes, groups: Sequence[str], variance: float | None) -> ParentCodes:
    """The pedigree with its genetic groups in front, known by their variances, which are inf of fixed ones.

    Raises
    ------
    DataError
        For a group that is nobody's parent, or that has parents.
    """
    place = {name: i for i, name in enumerate(codes.names)}
    is_parent = np.zeros(len(codes.names), bool)
    for parents in (codes.sire, codes.dam):
        is_parent[parents[parents >= 0]] = True
    unused = [name for name in groups if name not in place or not is_parent[place[name]]]
    if unused:
        verb = "is" if len(unused) == 1 else "are"
        hint = in_other_spelling(unused, codes.names)
        raise DataError(f"pedigree: of groups, {name_list(unused)} {verb} nobody's parent{hint}")
    at = np.array([place[name] for name in groups])
    descended = [name for name in groups if max(codes.sire[place[name]], codes.dam[place[name]]) >= 0]
    if descended:
        verb = "has" if len(descended) == 1 else "have"
        raise DataError(f"pedigree: of groups, {name_list(descended)} {verb} parents of their own")
    order = np.concatenate([at, np.setdiff1d(np.arange(len(codes.names)), at)])
    new = np.empty(order.size + 1, np.int32)
    new[order], new[-1] = np.arange(order.size), -1
    own = replace(
        codes, names=tuple(codes.names[i] for i in order.tolist()), sire=new[codes.sire][order],
        dam=new[codes.dam][order], selfings=codes.selfings[order], generation=codes.generation[order],
        group_variances=np.full(len(groups), np.inf if variance is None else float(variance)),
    )  # fmt: skip
    _tell_without_group(own)
    return own


def _tell_without_group(codes: ParentCodes) -> None:
    k = codes.group_variances.size
    left = np.flatnonzero((codes.sire < 0) | (codes.dam < 0))
    names = [codes.names[i] for i in left[left >= k].tolist()]
    if names:
        verb, word = ("has", "its") if len(names) == 1 else ("have", "their")
        warn_caller(PedigreeWarning(
            f"pedigree: {name_list(names)} {verb} an unknown parent that is in none of the groups; {word} "
            "genes from it are taken as those of a group whose effect is 0"
        ))  # fmt: skip


def ungrouped(codes: ParentCodes) -> ParentCodes:
    """The pedigree with groups as plain unknown parents."""
    k = codes.group_variances.size
    sire, dam = (np.maximum(own[k:] - k, -1).astype(np.int32) for own in (codes.sire, codes.dam))
    return replace(
        codes, names=codes.names[k:], sire=sire, dam=dam, selfings=codes.selfings[k:],
        generation=find_generations(sire, dam), group_variances=np.zeros(0),
    )  # fmt: skip


def of_variance(codes: ParentCodes, variance: float) -> ParentCodes:
    """The pedigree with another variance of its groups."""
    return replace(codes, group_variances=np.full(codes.group_variances.size, variance))
