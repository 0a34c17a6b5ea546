"""The contract of a relationship between the levels of a factor."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import DataError, OptionError, name_list, nearest_names, shown
from fastlmm_core.gate import public
from fastlmm_core.reading import level_label
from fastlmm_core.structures.relationships.marker_effects import MarkerEffects

# Columns of A that are formed together.
COLUMN_BLOCK = 256


class Relationship(Displayed, ABC):
    """A known covariance matrix A of the levels of a factor, with their names.

    Where A has an inverse that is worth using, `precision` is it. Otherwise `root` is a matrix K with
    A = K K', and the levels are u = K s of independent s.

    Parameters
    ----------
    levels : sequence
        Names in the order of the rows of A.

    Attributes
    ----------
    name : str
        As `relationships` and the formula name it.
    levels : tuple of str
    dense : bool
        The precision has no zeros worth skipping: its levels are one clique.
    groups : tuple of str
        Levels that are no individuals: genetic groups of unknown parents that are random.
    group_shares : DataFrame or None
        Q of fixed genetic groups in u = a + Q g, with A that of a: a row a level, a column a group.
    markers : MarkerEffects or None
        Effects of the markers behind A.
    """

    name = "A"
    #: Levels that are no individuals: genetic groups of unknown parents that are random.
    groups: tuple[str, ...] = ()
    _group_shares: pd.DataFrame | None = None
    #: Names of the relationships that a request made it of.
    made_of: tuple[str, ...] = ()
    #: What else there is for levels that are not in it, behind what says so.
    elsewhere = ""

    @property
    def dense(self) -> bool:
        return False

    @property
    def markers(self) -> MarkerEffects | None:
        return None

    @property
    def group_shares(self) -> pd.DataFrame | None:
        """Q of fixed genetic groups, (L, k), by level and group."""
        return self._group_shares

    def __init__(self, levels: Sequence[Any]):
        self.levels = tuple(level_label(level) for level in levels)

    @property
    def size(self) -> int:
        return len(self.levels)

    def named(self, name: str) -> Relationship:
        """The same relationship under a name."""
        if name == self.name:  # what has been computed of it stays with one object
            return self
        twin = copy.copy(self)
        twin.name = name
        return twin

    @abstractmethod
    def precision(self) -> sp.csc_array:
        """A^-1, (L, L), both triangles.

        Raises
        ------
        DataError
            Where A is singular.
        """

    @abstractmethod
    def log_determinant(self) -> float:
        """``log |A|``; -inf where A is singular."""

    @abstractmethod
    def multiply(self, V: np.ndarray) -> np.ndarray:
        """A V for V (L, r)."""

    def covariance_among(self, kept: np.ndarray) -> np.ndarray:
        """A of the levels with the numbers `kept` alone (k, k).

        Examples
        --------
        >>> import numpy as np
        >>> from fastlmm_core import Covariance
        >>> Covariance([[1.0, 0.5], [0.5, 2.0]], levels=["a", "b"]).covariance_among(np.array([1]))
        array([[2.]])
        """
        unit = np.zeros((self.size, kept.size))
        unit[kept, np.arange(kept.size)] = 1.0
        own = np.asarray(self.multiply(unit))[kept]
        return 0.5 * (own + own.T)

    @abstractmethod
    def diagonal(self) -> np.ndarray:
        """A_ii, (L,): one plus the inbreeding coefficient for a pedigree.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.diagonal()
        array([1.  , 1.  , 1.  , 1.25])
        """

    @cached_property
    def unseen_variance(self) -> float:
        """A_ii of a level that is not in A, which is taken for one as those in it: their mean."""
        return float(np.mean(self.diagonal()))

    @abstractmethod
    def content(self) -> tuple[np.ndarray, ...]:
        """The arrays that A is made of."""

    def fingerprint(self) -> str:
        """Hash of the levels and of all that A is made of: the same for equal ones, in any process."""
        whole = hashlib.sha256("\0".join((type(self).__name__, *self.levels)).encode())
        for array in self.content():
            whole.update(f"{array.dtype.str}{array.shape}".encode())
            whole.update(np.ascontiguousarray(array).data)
        if self.group_shares is not None:
            whole.update("\0".join(self.group_shares.columns).encode())
            whole.update(np.ascontiguousarray(self.group_shares.to_numpy()).data)
        return whole.hexdigest()[:16]

    def root(self) -> np.ndarray | None:
        """K (L, d) with A = K K' where A is singular or of low rank, else None."""
        return None

    def inverse(self) -> sp.csc_array:
        """A^-1, (L, L), rows in the order of `levels`.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> family.inverse().shape
        (4, 4)
        """
        return self.precision()

    @public()
    def relationship(self, names: Iterable[Any] | None = None) -> pd.DataFrame:
        """A of some levels.

        Parameters
        ----------
        names : iterable of level names, optional
            All levels by default.

        Returns
        -------
        DataFrame
            Square, with the names as index and columns.

        Examples
        --------
        >>> from fastlmm_core import Pedigree
        >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
        >>> print(family.relationship(["a", "c", "d"]))
              a     c     d
        a  1.00  0.50  0.25
        c  0.50  1.00  0.75
        d  0.25  0.75  1.25
        """
        chosen = list(self.levels) if names is None else listed_names(names)
        places = self.locate(chosen, "relationship")
        out = np.empty((places.size, places.size))
        for start in range(0, places.size, COLUMN_BLOCK):
            part = places[start : start + COLUMN_BLOCK]
            units = np.zeros((self.size, part.size))
            units[part, np.arange(part.size)] = 1.0
            out[:, start : start + part.size] = self.multiply(units)[places]
        return pd.DataFrame(out, index=list(chosen), columns=list(chosen))

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.levels, dtype=object)

    def locate(self, names: Iterable[Any], where: str) -> np.ndarray:
        """Rows of A of some levels, (k,) int64.

        Parameters
        ----------
        names : iterable
            Levels, for example of a column of the data.
        where : str
            What holds them, for the message, for example ``"column 'calf'"``.

        Raises
        ------
        DataError
            Naming the levels that A does not have.
        """
        labels = listed_names(names)
        places = self._index.get_indexer(pd.Index(labels, dtype=object)).astype(np.int64)
        absent = [label for label, place in zip(labels, places.tolist(), strict=True) if place < 0]
        if absent:
            verb, hint = "is" if len(absent) == 1 else "are", self.misread(absent) or self._nearest(absent)
            raise DataError(
                f"{where}: {name_list(absent)} {verb} not among the {self.size} levels of relationship "
                f"'{self.name}'{hint}"
            )
        return places

    def _nearest(self, absent: list[str]) -> str:
        # the nearest of very many names would take seconds to find
        return nearest_names(absent[0], self.levels) if self.size <= 20_000 else ""

    def misread(self, absent: Sequence[str]) -> str:
        """How names that are not in A may have been read wrongly; nothing where there is no sign of it.

        Examples
        --------
        >>> from fastlmm_core import Covariance
        >>> Covariance([[1.0, 0.5], [0.5, 2.0]], levels=["01", "02"]).misread(["1"])
        "; it has '01': read names as text, so that leading zeros and spaces stay"
        """
        if self.group_shares is not None and absent[0] in self.group_shares.columns:
            return (
                f"; '{absent[0]}' is one of its fixed genetic groups, which are no individuals: random "
                "groups (group_variance=) are levels"
            )
        bare = absent[0].strip().lstrip("0")
        padded = next((level for level in self.levels if level.strip().lstrip("0") == bare), None)
        if padded is not None:
            return f"; it has '{padded}': read names as text, so that leading zeros and spaces stay"
        numbers = all(label.isdecimal() and 0 < int(label) <= self.size for label in absent)
        if numbers and not any(level.isdecimal() for level in self.levels):
            return f"; they look like row numbers, its levels are names such as {name_list(self.levels[:3])}"
        return ""


def listed_names(names: Any) -> list[str]:
    """Names of levels as text; one name alone is a list of one.

    Raises
    ------
    OptionError
        For anything else than names.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        names = [names]
    labels = list(names)
    if any(label is None or isinstance(label, (list, tuple, dict, set)) for label in labels):
        raise OptionError("names must be a list of names of levels")
    return [level_label(label) for label in labels]


def _is_empty(level: Any) -> bool:
    return (pd.api.types.is_scalar(level) and pd.isna(level)) or level_label(level).strip() == ""


def checked_levels(levels: Iterable[Any], size: int, what: str) -> list[str]:
    """Names of the rows of a matrix, checked.

    Raises
    ------
    DataError
        When their number is wrong, one is missing or one is repeated.
    """
    if isinstance(levels, (str, bytes)) or not isinstance(levels, Iterable):
        raise OptionError(f"levels={shown(levels)} must be a list of names")
    if isinstance(levels, (Set, Mapping)):
        given = type(levels).__name__
        raise OptionError(f"levels= must be a list of names in the order of the rows, not a {given}")
    levels = list(levels)
    if size == 0:
        raise DataError(f"{what} has no rows")
    labels = [level_label(level) for level in levels]
    if len(labels) != size:
        raise DataError(f"{what} has {size} rows but {len(labels)} level names")
    missing = [i + 1 for i, level in enumerate(levels) if _is_empty(level)]
    if missing:
        raise DataError(f"{what}: row {missing[0]} has no level name")
    if len(set(labels)) < len(labels):
        repeated = pd.Series(labels)
        raise DataError(f"{what} lists {name_list(repeated[repeated.duplicated()].unique())} more than once")
    return labels
