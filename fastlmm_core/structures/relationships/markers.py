"""Relationships from genetic markers: G of VanRaden (2008) and its low-rank form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
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
from fastlmm_core.gate import public, warn_caller
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.options import ANY, NAME, either, list_of, one_of, optional
from fastlmm_core.reading import is_number_text, level_label, read_table
from fastlmm_core.structures.relationships.base import Relationship, checked_levels
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.relationships.marker_effects import MarkerEffects

# With fewer markers than this share of the levels their effects are the smaller system.
LOW_RANK = 0.6
FEWER_MARKERS = f"With ridge=0, markers that are fewer than {LOW_RANK} of the levels need no such matrix"
ABOVE_ZERO = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": float("inf")}
CENTRES = "'mean', '2p', None, a number, or one number for each of"
# Allele counts, also of polyploids and around zero; what lies outside, or apart from all others, is a code.
LEAST_GENOTYPE, MOST_GENOTYPE, GAP = -4.0, 8.0, 2.0
# What stands for a missing genotype among dosages, which are no whole numbers.
USUAL_CODES = (-999.0, -99.0, -9.0, 9.0, 99.0, 999.0)


class Markers(Relationship):
    """Genomic relationships G = Z Z'/c + ridge I of the rows of a marker table.

    Parameters
    ----------
    table : DataFrame, mapping of column name to values, or path
        One row per level and one numeric column per marker: allele counts 0, 1, 2 or -1, 0, 1, or 0 and 1 of
        inbred lines. A DataFrame with names in its index has markers only.
    levels : str, optional
        Column with the names of the levels; by default the first column, or the index where it has names.
    centre : {"mean", "2p", None}, number, or numbers by marker, default "mean"
        What is subtracted from every column: its mean; twice its allele frequency, which is the same of the
        table's own frequencies and checks that the columns are allele counts; nothing; or given values, such
        as twice the frequencies of a base population: a list in the order of the columns, or a Series or
        mapping with the names of the markers, in any order.
    scale : {"ncol", "sum2pq"} or number, default "ncol"
        The divisor c: the number of markers; the sum of 2 p (1 - p) (VanRaden's first method), p the
        frequencies that numbers given as `centre` are twice of, else the table's own; or a number.
    impute : {"mean", None}, default None
        Missing genotypes become the mean of their marker; without it they are an error.
    missing : list, optional
        Codes of missing genotypes beside the empty cell and NA, such as -9.
    ridge : float, default 0
        Added to the diagonal of G. It makes a singular G invertible and moves variance into independent
        effects of the levels: another model.

    Raises
    ------
    DataError
        For missing or repeated names, text, missing genotypes, genotypes that are not allele counts where
        frequencies are asked for.

    Notes
    -----
    With fewer markers than 0.6 of the levels, or a singular G, no inverse is formed: the levels are u = K s.

    Examples
    --------
    >>> from fastlmm_core import Markers
    >>> snps = {"gen": ["a", "b", "c"], "m1": [0, 1, 2], "m2": [2, 1, 1]}
    >>> print(Markers(snps).relationship())
              a         b         c
    a  0.722222 -0.111111 -0.611111
    b -0.111111  0.055556  0.055556
    c -0.611111  0.055556  0.555556
    """

    elsewhere = "; lines without markers join by single_step(pedigree, markers), or their rows are left out"

    @public(
        levels=optional(NAME), scale=either(ABOVE_ZERO, one_of(("ncol", "sum2pq"))),
        impute=optional(one_of(("mean",))), ridge={"type": "number", "minimum": 0},
        missing=list_of(ANY),
    )  # fmt: skip
    def __init__(
        self,
        table: Any,
        levels: str | None = None,
        *,
        centre: str | float | Sequence[float] | Mapping[str, float] | pd.Series | None = "mean",
        scale: str | float = "ncol",
        impute: str | None = None,
        ridge: float = 0.0,
        missing: Sequence[Any] = (),
    ):
        labels, names, genotypes = read_markers(table, levels, missing)
        super().__init__(labels)
        self.marker_names = names
        _tell_codes(genotypes, self.levels, names)
        counts = _impute(genotypes, self.levels, names, impute)
        centres = _centres(counts, names, centre)
        self.Z = np.ascontiguousarray(counts - centres)
        if not self.Z.any():
            raise DataError("no marker varies between the levels")
        given = centre is not None and not isinstance(centre, str)
        self.scale = _scale(counts, names, scale, centres if given else counts.mean(axis=0))
        self.ridge = float(ridge)

    @classmethod
    def of_centred(
        cls, Z: np.ndarray, levels: Sequence[str], names: Sequence[str], scale: float, ridge: float
    ) -> Markers:  # fmt: skip
        """G = Z Z' / scale + ridge I of centred genotypes Z (L, p)."""
        markers = cls.__new__(cls)
        Relationship.__init__(markers, levels)
        markers.marker_names, markers.Z = tuple(names), np.ascontiguousarray(Z)
        markers.scale, markers.ridge = scale, ridge
        return markers

    def _shown(self) -> str:
        return f"Markers: {self.size} levels, {len(self.marker_names)} markers"

    def misread(self, absent: Sequence[str]) -> str:
        """As of any relationship, and names that are those of the markers.

        Examples
        --------
        >>> from fastlmm_core import Markers
        >>> Markers({"snp": ["m1", "m2"], "g1": [0, 1], "g2": [2, 1]}).misread(["g1"])
        '; they are headings of its columns: a row is a level and a column a marker, transpose it'
        """
        if set(absent) <= set(self.marker_names):
            return "; they are headings of its columns: a row is a level and a column a marker, transpose it"
        return super().misread(absent)

    @property
    def low_rank(self) -> bool:
        """Whether levels stand for the markers themselves, without G."""
        return self.ridge == 0.0 and len(self.marker_names) < LOW_RANK * self.size

    @cached_property
    def covariance(self) -> Covariance:
        """G as a dense covariance."""
        # G, its mean with the transpose, its factor and inverse
        what = f"the relationship of {self.size:,} levels by {len(self.marker_names):,} markers"
        check_memory(4 * 8 * self.size**2, None, what, advice=FEWER_MARKERS)
        G = self.Z @ self.Z.T / self.scale
        G[np.diag_indices_from(G)] += self.ridge
        return Covariance(0.5 * (G + G.T), self.levels)

    @cached_property
    def markers(self) -> MarkerEffects:
        return MarkerEffects(self.marker_names, self.Z, self.scale, self.ridge, self.root())

    @property
    def dense(self) -> bool:
        return not self.low_rank and self.covariance.dense

    @cached_property
    def _precision(self) -> sp.csc_array:
        return self.covariance.named(self.name).precision()

    def precision(self) -> sp.csc_array:
        if self.low_rank:
            raise DataError(
                f"relationship '{self.name}' has no inverse: {len(self.marker_names)} markers of "
                f"{self.size} levels"
            )
        return self._precision

    def log_determinant(self) -> float:
        return -np.inf if self.low_rank else self.covariance.log_determinant()

    def multiply(self, V: np.ndarray) -> np.ndarray:
        return self.Z @ (self.Z.T @ V) / self.scale + self.ridge * np.asarray(V)

    def diagonal(self) -> np.ndarray:
        return np.einsum("ij,ij->i", self.Z, self.Z) / self.scale + self.ridge

    @cached_property
    def _low_rank_root(self) -> np.ndarray:
        return self.Z / np.sqrt(self.scale)

    def root(self) -> np.ndarray | None:
        return self._low_rank_root if self.low_rank else self.covariance.root()

    def content(self) -> tuple[np.ndarray, ...]:
        return (self.Z, np.array([self.scale, self.ridge]))


def read_markers(
    table: Any, levels: str | None, missing: Sequence[Any] = ()
) -> tuple[list[str], tuple[str, ...], np.ndarray]:
    """Names of levels, names of markers, genotypes (L, p) with NaN for those that are `missing`."""
    is_frame = isinstance(table, pd.DataFrame)
    frame = table if is_frame else read_table(table)
    if is_frame and levels is None and _has_names(frame.index):
        names = list(frame.index)
    else:
        column = str(frame.columns[0]) if levels is None else levels
        if column not in frame.columns:
            raise DataError(f"markers: there is no column '{column}'{nearest_names(column, frame.columns)}")
        if not is_frame and not isinstance(table, Mapping):
            frame = read_table(table, {column: {"type": "factor"}})
        names, frame = frame[column].tolist(), frame.drop(columns=column)
    labels = checked_levels(names, len(frame), "the marker table")
    if not frame.shape[1]:
        raise DataError("the marker table has no columns of markers")
    if len(missing):
        codes = {level_label(code).strip() for code in missing}
        frame = frame.mask(frame.isin([*codes, *(float(code) for code in codes if is_number_text(code))]))
    markers = tuple(str(name) for name in frame.columns)
    return labels, markers, _as_genotypes(frame, labels)


def _has_names(index: pd.Index) -> bool:
    """Whether an index holds names; a filter leaves whole numbers of row numbers, without a heading."""
    return index.name is not None or not pd.api.types.is_integer_dtype(index.dtype)


def _as_genotypes(frame: pd.DataFrame, labels: list[str]) -> np.ndarray:
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    if all(numeric):
        return frame.to_numpy(dtype=float, na_value=np.nan)
    out = np.empty(frame.shape)
    for k, name in enumerate(frame.columns):
        column = frame.iloc[:, k]
        plain = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
        out[:, k] = pd.to_numeric(plain, errors="coerce").to_numpy(float, na_value=np.nan)
        bad = np.flatnonzero(np.isnan(out[:, k]) & plain.notna().to_numpy())
        if bad.size:
            raise DataError(
                f"marker '{name}' of '{labels[bad[0]]}' holds '{plain.iloc[bad[0]]}'; genotypes are numbers, "
                "for example the count 0, 1, 2 of an allele"
            )
    return out


def _impute(
    genotypes: np.ndarray, levels: Sequence[str], names: Sequence[str], impute: str | None
) -> np.ndarray:
    infinite = np.argwhere(np.isinf(genotypes))
    if infinite.size:
        i, k = infinite[0]
        raise DataError(f"marker '{names[k]}' of '{levels[i]}' is infinite")
    missing = np.isnan(genotypes)
    if not missing.any():
        return genotypes
    if impute is None:
        i, k = np.argwhere(missing)[0]
        raise DataError(
            f"{int(missing.sum())} genotypes are missing, the first is marker '{names[k]}' of '{levels[i]}'; "
            "impute='mean' puts the mean of the marker there"
        )
    empty = missing.all(axis=0)
    if empty.any():
        raise DataError(
            f"markers {name_list(np.asarray(names)[empty])} have no genotype at all; leave them out"
        )
    return np.where(missing, np.nanmean(genotypes, axis=0), genotypes)


def _tell_codes(genotypes: np.ndarray, levels: Sequence[str], names: Sequence[str]) -> None:
    """A warning where the least or the largest genotype is a code of missing ones by its looks."""
    finite = np.isfinite(genotypes)
    low, high = genotypes.min(where=finite, initial=np.inf), genotypes.max(where=finite, initial=-np.inf)
    if low >= -1.0 and high <= low + 2.0:  # 0, 1, 2 or -1, 0, 1
        return
    values = np.unique(genotypes[finite])
    if np.array_equal(values, np.rint(values)):
        odd = _standing_apart(values)
    else:
        odd = [value for value in (low, high) if value in USUAL_CODES]
    for value in odd:
        found = np.argwhere(genotypes == value)
        i, k = found[0]
        others = values[~np.isin(values, odd)]
        count = "1 genotype is" if len(found) == 1 else f"{len(found)} genotypes are"
        warn_caller(RelationshipWarning(
            f"{count} {value:g}, the first is marker '{names[k]}' of "
            f"'{levels[i]}', and all others {others.min():g} to {others.max():g}; where {value:g} stands for "
            f"a missing genotype, missing=[{value:g}] says so"
        ))  # fmt: skip


def _standing_apart(values: np.ndarray) -> list[float]:
    """The least or the largest of sorted whole numbers (v,) where it is no allele count beside the others."""
    if values.size < 3:
        return []
    low, high = float(values[0]), float(values[-1])
    odd = []
    if low < LEAST_GENOTYPE or values[1] - low > GAP or (low, high) == (-1.0, 2.0):
        odd.append(low)
    if high > MOST_GENOTYPE or high - values[-2] > GAP:
        odd.append(high)
    return odd if len(odd) < values.size else []


def _check_counts(counts: np.ndarray, names: Sequence[str], option: str) -> float:
    """What makes a table of allele counts 0..2 or -1..1 counts from 0: 0 or 1.

    Raises
    ------
    DataError
        For any other table.
    """
    least, most = float(counts.min()), float(counts.max())
    shift = 1.0 if least < 0.0 else 0.0
    if least + shift < 0.0 or most + shift > 2.0:
        extreme = np.argmin(counts) if least + shift < 0.0 else np.argmax(counts)
        name = names[int(extreme % counts.shape[1])]
        raise DataError(
            f"{option} needs allele counts (0, 1, 2 or -1, 0, 1), but genotypes run from {least:g} to "
            f"{most:g}, for example those of marker '{name}'; missing= names codes of missing genotypes"
        )
    return shift


def _centres(
    counts: np.ndarray, names: Sequence[str],
    centre: str | float | Sequence[float] | Mapping[str, float] | pd.Series | None,
) -> np.ndarray:  # fmt: skip
    if centre is None:
        return np.zeros(counts.shape[1])
    if isinstance(centre, str):
        if check_option("centre", centre, ("mean", "2p")) == "2p":
            _check_counts(counts, names, "centre='2p'")
        return counts.mean(axis=0)
    if isinstance(centre, Mapping) or (isinstance(centre, pd.Series) and _has_names(centre.index)):
        centre = _by_name(centre, names)
    try:
        values = np.full(0, np.nan) if isinstance(centre, bool) else np.asarray(centre, dtype=float)
    except (TypeError, ValueError):
        values = np.full(0, np.nan)
    if values.shape not in ((), (counts.shape[1],)) or not np.isfinite(values).all():
        raise OptionError(f"centre must be {CENTRES} {counts.shape[1]} markers")
    return np.broadcast_to(values, counts.shape[1])


def _by_name(centre: Mapping[str, float] | pd.Series, names: Sequence[str]) -> list[Any]:
    """Values of a Series or mapping in the order of the markers."""
    given = {str(name): value for name, value in centre.items()}
    absent = [name for name in names if name not in given]
    if absent:
        raise OptionError(f"centre has no value for {name_list(absent)}; it needs all markers of the table")
    return [given[name] for name in names]


def _scale(counts: np.ndarray, names: Sequence[str], scale: str | float, centres: np.ndarray) -> float:
    """The divisor c; `centres` (p,) are twice the frequencies, or their difference to 1 where counts are."""
    if not isinstance(scale, str):
        return float(scale)
    if scale == "ncol":
        return float(counts.shape[1])
    shift = _check_counts(counts, names, "scale='sum2pq'")
    if shift == 0.0 and counts.max() == 1.0 and not np.any(counts % 1.0):
        warn_caller(RelationshipWarning(
            "scale='sum2pq' takes genotypes for allele counts, of which none is 2; those of inbred lines are "
            "0 and 2, or -1 and 1"
        ))  # fmt: skip
    p = 0.5 * (centres + shift)
    wrong = np.flatnonzero((p < 0.0) | (p > 1.0))
    if wrong.size:
        k = wrong[0]
        raise OptionError(
            f"scale='sum2pq' takes the numbers of centre= for twice the allele frequencies"
            f"{' less 1, as the counts are' if shift else ''}, {-shift:g} to {2.0 - shift:g}, but that of "
            f"marker '{names[k]}' is {centres[k]:g}; any other divisor is a number, scale="
        )
    value = float(np.sum(2.0 * p * (1.0 - p)))
    if value <= 0.0:
        raise DataError("scale='sum2pq' is 0: all its allele frequencies are 0 or 1")
    return value
