"""Pedigrees: inbreeding, A^-1 and products with A without ever forming A."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import DataError, name_list
from fastlmm_core.gate import public
from fastlmm_core.options import ANY, NAME, SCALAR, list_of, one_of, optional
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.pedigree_codes import ParentCodes
from fastlmm_core.structures.relationships.pedigree_groups import of_variance, ungrouped
from fastlmm_core.structures.relationships.pedigree_kernels import (
    fill_inbreeding,
    fill_inverse,
    find_generations,
    mark_ancestors,
    multiply_down,
    multiply_up,
    prune_ancestors,
)
from fastlmm_core.structures.relationships.pedigree_table import MISSING_PARENT, read_pedigree

# Below this an individual is taken as the mean of its parents: offspring of fully inbred lines.
NO_VARIANCE = 1e-12
GROUP_VARIANCE = {"type": "number", "exclusiveMinimum": 0, "examples": [1]}


class Pedigree(Relationship):
    """Additive relationships by descent.

    Parameters
    ----------
    table : DataFrame, mapping of column name to values, or path
        One row per individual, in any order.
    columns : (str, str, str), optional
        Columns of the individual and its two parents. By default the usual headings are looked for
        (``id``, ``sire``, ``dam``, ...), or the table has just these three columns in this order.
    missing : list, default ("", "NA", "0", ".", "*")
        What stands for an unknown parent beside empty cells. Unknown parents are unrelated and not inbred.
    selfing : str, optional
        Column with the number of generations of selfing between the cross and the individual, for inbred
        lines: 0 a plain cross, 4 an F5 line of an F1, ``inf`` doubled haploids.
    check_sex : {"warn", True, False}
        What happens when an individual is sire here and dam there: a warning, an error, or nothing (plants).
    groups : list, optional
        Genetic groups: names that stand in the columns of the parents for unknown ones, base populations by
        origin or year of birth. They have effects g, and individuals are u = a + Q g, with what they have of
        each group in a row of Q.
    group_variance : float, optional
        Makes g random, of so many times the variance of a. Without it g is fixed: columns that come into the
        fixed part of a model with ``vm(animal, A)``.

    Attributes
    ----------
    levels : tuple of str
        Parents without a row of their own, which become founders, and the individuals in the order of the
        table; in front of them genetic groups that are random.
    groups : tuple of str
        Those that are random, and so levels.
    group_shares : DataFrame or None
        Q of fixed groups, a row a level, a column a group.

    Raises
    ------
    DataError
        For rows without identifier, duplicates, own parents and loops, naming the individuals, and for groups
        that nobody descends from or that have parents.

    Notes
    -----
    A = T D T' with the Mendelian variances D, see ``pedigree_kernels``. A^-1 follows the rules of Henderson
    (1976) and Quaas (1976). Where all variance within a family is gone, as in the F1 of two inbred lines, A
    is singular and `root` stands for it. With random groups A is the covariance of groups and individuals,
    A_a + group_variance Q Q', and its inverse that of Quaas (1988), see ``pedigree_groups``.

    Examples
    --------
    >>> from fastlmm_core import Pedigree
    >>> ped = Pedigree({"id": ["a", "b", "c", "d"], "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
    >>> float(ped.inbreeding()["d"])
    0.25
    """

    @public(
        missing=list_of(ANY), selfing=optional(NAME), check_sex=one_of((True, False, "warn")),
        groups=optional(list_of(SCALAR)), group_variance=optional(GROUP_VARIANCE),
    )  # fmt: skip
    def __init__(
        self,
        table: Any,
        columns: Sequence[str] | None = None,
        *,
        missing: Sequence[Any] = MISSING_PARENT,
        selfing: str | None = None,
        check_sex: bool | str = "warn",
        groups: Sequence[Any] | None = None,
        group_variance: float | None = None,
    ):
        self._take_codes(
            read_pedigree(table, columns, missing, selfing, check_sex, groups, group_variance)
        )

    def _take_codes(self, codes: ParentCodes) -> None:
        self._fixed_groups: ParentCodes | None = None
        if np.isinf(codes.group_variances).any():
            self._fixed_groups = codes
            self._group_shares = self._twin(of_variance(codes, 1.0)).group_contributions()
            codes = ungrouped(codes)
        self.levels = codes.names
        self._sire, self._dam, self._selfings = codes.sire, codes.dam, codes.selfings
        self._generation, self._group_variances = codes.generation, codes.group_variances
        self.groups = codes.names[: codes.group_variances.size]
        # parents of whom relationships by descent come: groups are no individuals
        sire, dam = (np.where(own < len(self.groups), -1, own) for own in (codes.sire, codes.dam))
        self._known_sire, self._known_dam = sire.astype(np.int32), dam.astype(np.int32)
        both = (sire >= 0) & (dam >= 0)
        uses = np.bincount(sire[both], minlength=self.size) + np.bincount(dam[both], minlength=self.size)
        # the parent with more offspring shares its walks among them
        by_sire = uses[sire] >= uses[dam]
        self._common = np.where(both, np.where(by_sire, sire, dam), -1).astype(np.int32)
        self._other = np.where(both, np.where(by_sire, dam, sire), -1).astype(np.int32)
        self._order = np.lexsort((self._other, self._common, codes.generation)).astype(np.int32)

    def codes(self) -> dict[str, np.ndarray]:
        """Parents, generations of selfing and generations, each (n,), and variances of groups (k,).

        As `of_codes` takes them.
        """
        names = [own.name for own in fields(ParentCodes) if own.name != "names"]
        return {name: getattr(self._coded, name) for name in names}

    @property
    def _coded(self) -> ParentCodes:
        """What the pedigree was made of, with all its groups."""
        if self._fixed_groups is not None:
            return self._fixed_groups
        return ParentCodes(
            self.levels, self._sire, self._dam, self._selfings, self._generation, self._group_variances
        )

    @classmethod
    def of_codes(cls, names: tuple[str, ...], codes: Mapping[str, np.ndarray]) -> Pedigree:
        """A pedigree of checked codes."""
        pedigree = cls.__new__(cls)
        pedigree._take_codes(ParentCodes(names, **codes))
        return pedigree

    def content(self) -> tuple[np.ndarray, ...]:
        own = (self._sire, self._dam, self._selfings)
        return (*own, self._group_variances) if self.groups else own  # others are known by what they were

    def _shown(self) -> str:
        k = len(self.groups)
        founders = int(np.sum((self._known_sire < 0) & (self._known_dam < 0))) - k
        own = f"Pedigree of {self.size - k} individuals, {founders} founders"
        if self.group_shares is not None:
            return f"{own}, fixed groups {name_list(self.group_shares.columns)}"
        return f"{own}, {k} group{'s' * (k > 1)} of variance {self._group_variances[0]:g}" if k else own

    @cached_property
    def _diagonals(self) -> tuple[np.ndarray, np.ndarray]:
        """Inbreeding coefficients and Mendelian variances, (L,) each."""
        inbreeding, variance = np.empty(self.size), np.empty(self.size)
        fill_inbreeding(
            self._known_sire, self._known_dam, self._selfings, self._order, self._common, self._other,
            inbreeding, variance,
        )  # fmt: skip
        variance[variance <= NO_VARIANCE] = 0.0
        variance[: len(self.groups)] = self._group_variances
        return inbreeding, variance

    def inbreeding(self) -> pd.Series:
        """Inbreeding coefficients F, by individual; without genetic groups A_ii - 1.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.inbreeding().to_dict()
        {'a': 0.0, 'b': 0.0, 'c': 0.0, 'd': 0.25}
        """
        k = len(self.groups)
        return pd.Series(self._diagonals[0][k:], index=list(self.levels[k:]), name="inbreeding")

    def mendelian_variance(self) -> pd.Series:
        """Variance of each individual given its parents, and of each group: the diagonal of D.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.mendelian_variance().to_dict()
        {'a': 1.0, 'b': 1.0, 'c': 0.5, 'd': 0.5}
        """
        return pd.Series(self._diagonals[1], index=list(self.levels), name="mendelian_variance")

    @cached_property
    def _precision(self) -> sp.csc_array:
        variance = self._diagonals[1]
        if not variance.all():
            names = [self.levels[i] for i in np.flatnonzero(variance == 0.0).tolist()]
            raise DataError(
                f"relationship '{self.name}' has no inverse: {name_list(names)} cannot differ from the mean "
                "of fully inbred parents"
            )
        indptr, indices, data = fill_inverse(self._sire, self._dam, variance)
        return sp.csc_array((data, indices, indptr), shape=(self.size, self.size))

    def precision(self) -> sp.csc_array:
        return self._precision

    def log_determinant(self) -> float:
        with np.errstate(divide="ignore"):
            return float(np.sum(np.log(self._diagonals[1])))

    def multiply(self, V: np.ndarray) -> np.ndarray:
        out = np.array(V, dtype=float, order="C").reshape(self.size, -1)
        multiply_up(self._sire, self._dam, self._order, out)
        out *= self._diagonals[1][:, None]
        multiply_down(self._sire, self._dam, self._order, out)
        return out.reshape(np.shape(V))

    def diagonal(self) -> np.ndarray:
        out = 1.0 + self._diagonals[0]
        out[: len(self.groups)] = 0.0
        for group, variance in enumerate(self._group_variances.tolist()):
            out += variance * self._shares([group])[:, 0] ** 2  # one at a time: there may be many of both
        return out

    def _shares(self, groups: Sequence[int]) -> np.ndarray:
        """What all levels have of some groups, (L, r): columns of Q, below a unit for each group itself."""
        out = np.zeros((self.size, len(groups)))
        out[groups, np.arange(len(groups))] = 1.0
        multiply_down(self._sire, self._dam, self._order, out)
        return out

    @property
    def unseen_variance(self) -> float:  # type: ignore[override]
        """1: an individual without known parents is not inbred; with groups, and from one of its own."""
        return 1.0 + float(self._group_variances.max(initial=0.0))

    def group_contributions(self) -> pd.DataFrame:
        """Q: which part of the genes of each individual comes from which genetic group.

        Returns
        -------
        DataFrame
            A row an individual, a column a group. Rows sum to one where every unknown parent is in a group.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> table = {"id": ["a", "b", "c"], "sire": ["G1", "a", "b"], "dam": ["G1", "G2", "G2"]}
        >>> print(Pedigree(table, groups=["G1", "G2"]).group_contributions())
             G1    G2
        a  1.00  0.00
        b  0.50  0.50
        c  0.25  0.75
        """
        if self.group_shares is not None:
            return self.group_shares.copy()
        k = len(self.groups)
        shares = self._shares(range(k))[k:]
        return pd.DataFrame(shares, index=list(self.levels[k:]), columns=list(self.groups))

    def without_groups(self) -> Pedigree:
        """The pedigree with its genetic groups as plain unknown parents: A of a in u = a + Q g.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> table = {"id": ["a", "b", "c"], "sire": ["G1", "a", "b"], "dam": ["G1", "G2", "G2"]}
        >>> Pedigree(table, groups=["G1", "G2"]).without_groups()
        Pedigree of 3 individuals, 1 founders
        Next: .inbreeding(), .relationship(names), .pruned(names), lmm("y ~ 1 + (1 | vm(animal, A))", data,
        relationships={"A": A})
        """
        return self._twin(ungrouped(self._coded)) if self._coded.group_variances.size else self

    def _twin(self, codes: ParentCodes) -> Pedigree:
        """A pedigree of other codes under the same name."""
        twin = object.__new__(Pedigree)
        twin.name = self.name
        twin._take_codes(codes)
        return twin

    def root(self) -> np.ndarray | None:
        variance = self._diagonals[1]
        if variance.all():
            return None
        free = np.flatnonzero(variance)
        K = np.zeros((self.size, free.size))
        K[free, np.arange(free.size)] = np.sqrt(variance[free])
        multiply_down(self._sire, self._dam, self._order, K)
        return K

    @public()
    def ancestors(self, names: Iterable[Any]) -> list[str]:
        """The individuals named, all their ancestors and their groups, in the order of `levels`.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.ancestors(["c"])
        ['a', 'b', 'c']
        """
        kept = np.zeros(self.size, bool)
        kept[self.locate(names, "ancestors")] = True
        mark_ancestors(self._sire, self._dam, self._order, kept)
        return [self.levels[i] for i in np.flatnonzero(kept).tolist()]

    @public()
    def pruned(self, names: Iterable[Any]) -> Pedigree:
        """The pedigree without individuals that carry no information about those named.

        Those named, for example the animals with records, and their ancestors stay, except ancestors that
        link nobody: founders with one offspring. The relationships of all who stay are unchanged.

        Parameters
        ----------
        names : iterable
            Individuals that have to stay.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.pruned(["c"]).levels
        ('c',)
        """
        if self._fixed_groups is not None:  # links to groups stay as those to random ones do
            pruned = self._twin(of_variance(self._fixed_groups, 1.0)).pruned(names)
            return self._twin(of_variance(pruned._coded, np.inf)) if pruned.groups else pruned
        named = np.zeros(self.size, bool)
        named[self.locate(names, "pruned")] = True
        kept = named.copy()
        mark_ancestors(self._sire, self._dam, self._order, kept)
        sire, dam = self._sire.copy(), self._dam.copy()
        lasting = self._diagonals[0].copy()
        lasting[: len(self.groups)] = 1.0  # a plain unknown parent is no group with one offspring
        prune_ancestors(sire, dam, self._order, lasting, named, kept)
        place = np.append(np.cumsum(kept) - 1, -1).astype(np.int32)
        rows = np.flatnonzero(kept)
        sire, dam = place[sire[rows]], place[dam[rows]]
        return self._twin(ParentCodes(
            tuple(self.levels[i] for i in rows.tolist()), sire, dam, self._selfings[rows],
            find_generations(sire, dam), self._group_variances[kept[: len(self.groups)]],
        ))  # fmt: skip
