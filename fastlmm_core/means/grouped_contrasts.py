"""Contrasts within groups of the rows of a table, which may differ in size and in labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.means.contrast_families import ContrastFamily
from fastlmm_core.means.estimates import Estimates
from fastlmm_core.means.table_labels import group_codes, group_members, same_labels

Table = TypeVar("Table", bound=Estimates)
FamilyOf = Callable[[pd.DataFrame], tuple[ContrastFamily, dict[str, list[str]]]]


@dataclass(frozen=True)
class GroupedContrasts:
    """Contrasts of all groups.

    Attributes
    ----------
    weights : csr_array (c, r)
        On the rows of the table.
    labels : DataFrame (c, n_labels)
        Names of the contrasts, then the `by` columns.
    group : ndarray (c,) of int
        Group of each contrast, among all groups of the table.
    n_means : int
        Means of the largest group.
    means_of : ndarray (c,) of int or None
        Means of each contrast's group, None where all have `n_means`.
    kind, adjust : str
        Of the family.
    alone : int
        Groups of one mean, which have nothing to compare.
    """

    weights: sp.csr_array
    labels: pd.DataFrame
    group: NDArray[np.integer]
    n_means: int
    means_of: NDArray[np.integer] | None
    kind: str
    adjust: str
    alone: int


def grouped_contrasts(labels: pd.DataFrame, by: Sequence[str], family_of: FamilyOf) -> GroupedContrasts:
    """The family of every group of `by`.

    Parameters
    ----------
    labels : DataFrame (r, n_labels)
        Labels of the rows.
    by : sequence of str
    family_of : callable
        Gives the family and its label columns for the labels of one group.

    Raises
    ------
    OptionError
        As `family_of`.
    """
    members = group_members(labels, by)
    if same_labels(labels, by, members):
        family, columns = family_of(labels.iloc[members[0]])
        return repeated(family, columns, labels, by, np.array(members))
    return one_by_one(family_of, labels, by, members)


def repeated(
    family: ContrastFamily,
    columns: dict[str, list[str]],
    labels: pd.DataFrame,
    by: Sequence[str],
    members: NDArray[np.integer],
) -> GroupedContrasts:
    """One family for all groups (n_groups, k)."""
    n_groups, c = len(members), len(family.labels)
    C = sp.csr_array(family.coefficients)
    starts = np.add.outer(np.arange(n_groups) * C.nnz, C.indptr[1:]).ravel()
    A = sp.csr_array(
        (np.tile(C.data, n_groups), members[:, C.indices].ravel(), np.concatenate([[0], starts])),
        shape=(n_groups * c, len(labels)),
    )
    named = pd.DataFrame({name: values * n_groups for name, values in columns.items()})
    for name in by:
        named[name] = np.repeat(labels[name].to_numpy()[members[:, 0]], c)
    group = np.repeat(np.arange(n_groups), c)
    return GroupedContrasts(A, named, group, members.shape[1], None, family.kind, family.adjust, 0)


def one_by_one(
    family_of: FamilyOf, labels: pd.DataFrame, by: Sequence[str], members: Sequence[NDArray[np.integer]]
) -> GroupedContrasts:
    """A family for each group of two rows or more (for all of them where no group has two)."""
    sizes = np.array([rows.size for rows in members])
    used = [g for g in range(len(members)) if sizes[g] > 1] or list(range(len(members)))
    blocks, frames, groups = [], [], []
    for g in used:
        rows = members[g]
        family, columns = family_of(labels.iloc[rows])
        pick = sp.csr_array(
            (np.ones(rows.size), (np.arange(rows.size), rows)), shape=(rows.size, len(labels))
        )
        blocks.append(sp.csr_array(family.coefficients @ pick))
        frame = pd.DataFrame(columns)
        for name in by:
            frame[name] = labels[name].iloc[rows[0]]
        frames.append(frame)
        groups.append(np.full(len(frame), g))
    group = np.concatenate(groups)
    return GroupedContrasts(
        sp.csr_array(sp.vstack(blocks)), pd.concat(frames, ignore_index=True), group, int(sizes.max()),
        sizes[group], family.kind, family.adjust, len(members) - len(used),
    )  # fmt: skip


def regrouped(table: Table, by: tuple[str, ...]) -> Table:
    """The rows of a table with families by the label columns `by`.

    Pairs stay pairs only where the families are those they were.
    """
    if by == table.by:
        return table
    group = group_codes(table.labels, by)
    parts = pd.DataFrame({"new": group, "old": table.group}).drop_duplicates()
    kind = table.kind
    if kind == "pairs" and (parts["new"].duplicated().any() or parts["old"].duplicated().any()):
        kind = "contrast"
    n_means = table.n_means * int(np.bincount(parts["new"]).max(initial=1))
    return replace(table, by=by, group=group, kind=kind, n_means=n_means, means_of=None)
