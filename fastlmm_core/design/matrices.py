"""The design of a model: everything a fit needs of a formula and a table (`building` makes it)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.design.coding.hypotheses import type1, type2, type3
from fastlmm_core.design.coding.model_matrix import Coding
from fastlmm_core.design.coding.rank import Rank
from fastlmm_core.design.group_columns import table_for, untold_levels
from fastlmm_core.design.offsets import Offset
from fastlmm_core.design.used_columns import UsedColumns
from fastlmm_core.design.values.columns import Column, first_row
from fastlmm_core.design.values.number_classes import points_of
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Atom
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import DataError, FastLMMWarning
from fastlmm_core.formula.expressions import Name
from fastlmm_core.formula.functions import is_factor_call
from fastlmm_core.formula.parts import ParsedFormula
from fastlmm_core.formula.residual import ResidualSpec
from fastlmm_core.kernels.thresholds import ESTIMABLE


@dataclass(frozen=True)
class Variable:
    """A column of the table that the fixed part reads.

    Attributes
    ----------
    name : str
    kind : str
        ``"factor"`` or ``"numeric"``.
    levels : tuple of str or None
        Levels that occur, in the order of the coding.
    mean : float or None
        Unweighted mean over the rows used, of a numeric column.
    points, point_of : tuple of float, (n,) int64, or None
        Of a numeric column whose levels or classes enter, see `points_of`.
    """

    name: str
    kind: str
    levels: tuple[str, ...] | None
    mean: float | None
    points: tuple[float, ...] | None = None
    point_of: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class FixedTerm:
    """A term of the fixed part.

    Attributes
    ----------
    label : str
        As R writes it, ``"V:N"``.
    variables : tuple of str
        Columns of the table it reads.
    columns : (k,) ndarray
        Its columns among the p_full columns.
    order : int
        Number of variables in the interaction.
    """

    label: str
    variables: tuple[str, ...]
    columns: np.ndarray
    order: int


@dataclass(frozen=True, repr=False)
class Design(Displayed):
    """Arrays and names of a model on the rows used.

    Attributes
    ----------
    formula : ParsedFormula
    response : str
        The response as R prints it.
    n, n_dropped : int
        Rows used, and rows left out because a value is missing.
    rows : (n,) int64
        Positions of the rows used in the table.
    y : (n,) float64 or None
        As given; the offset is not subtracted.
    X : (n, p) csc_array
        Kept columns of the fixed part, sorted.
    column_names : tuple of str
        All p_full columns, as R names them.
    kept : (p,) int64
        Positions of the columns of `X` among all columns.
    dropped_columns : tuple of str
        Columns that depend on earlier ones.
    weights, offset : (n,) float64 or None
    random : tuple of RandomTerm and SplineTerm
        In lme4's order where lme4 has all of them, else in that of the formula.
    terms : tuple of FixedTerm
        In R's order, without the intercept.
    coding : Coding
        What turns a table into the fixed part's columns.
    table : UsedColumns
        Columns of the data on these rows.
    residual : ResidualSpec
    warnings : tuple of FastLMMWarning
        What was read otherwise than a reader may think; every fit of it says so.
    """

    formula: ParsedFormula
    response: str
    n: int
    n_dropped: int
    rows: np.ndarray
    y: np.ndarray | None
    X: sp.csc_array
    column_names: tuple[str, ...]
    kept: np.ndarray
    dropped_columns: tuple[str, ...]
    weights: np.ndarray | None
    offset: np.ndarray | None
    random: tuple[Any, ...]
    terms: tuple[FixedTerm, ...]
    coding: Coding
    table: UsedColumns = field(repr=False)
    _rank: Rank = field(repr=False)
    _X_full: sp.csc_array = field(repr=False)
    _values: dict[str, np.ndarray] = field(repr=False)
    _offset: Offset = field(repr=False)
    residual: ResidualSpec = field(default_factory=ResidualSpec)
    warnings: tuple[FastLMMWarning, ...] = ()

    def _shown(self) -> str:
        lines = [str(self.formula), f"{self.n:,} rows"]
        lines[-1] += f", {self.n_dropped:,} with missing values left out" if self.n_dropped else ""
        lines[-1] += f"; {self.kept.size} of {len(self.column_names)} fixed columns kept"
        lines += [f"random: {term.label}, {len(term.levels):,} levels" for term in self.random]
        return "\n".join(lines if self.residual.is_plain else [*lines, f"residual: {self.residual.text}"])

    @property
    def is_plain(self) -> bool:
        """Whether lme4 1.x has the model: us and diag over independent levels, one residual variance."""
        return self.residual.is_plain and all(term.is_plain for term in self.random)

    @property
    def has_intercept(self) -> bool:
        return self.coding.intercept

    @property
    def weak_columns(self) -> np.ndarray:
        """Columns of `X` (c,) int64 that may nearly depend on others."""
        return self._rank.weak

    @property
    def index(self) -> Any:
        """Labels of the rows used: the pandas index, or their positions."""
        return self.rows if self.table.index is None else self.table.index

    @cached_property
    def null_basis(self) -> np.ndarray | None:
        """(p_full, d) basis of {b: X_full b = 0}, None when all columns are independent.

        Column k has 1 at the k-th dropped column and its other entries at kept columns.
        """
        return self._rank.null.toarray() if self._rank.dropped.size else None

    @property
    def null_space(self) -> sp.csc_array:
        """`null_basis` as a sparse matrix, with d = 0 columns for full rank."""
        return self._rank.null

    def estimable(self, K: Any, tolerance: float = ESTIMABLE) -> np.ndarray:
        """Which linear functions of the coefficients the data determine.

        Parameters
        ----------
        K : (r, p_full) array or sparse array
        tolerance : float
            Relative to the norms of the row and of the null vector, with X's columns scaled to norm 1.

        Returns
        -------
        (r,) bool
            Row k is estimable when it is orthogonal to every null vector (Searle 1971, section 5.4).
        """
        products, scale = self.null_products(K)
        if products.shape[1] == 0:
            return np.ones(scale.size, dtype=bool)
        return np.asarray(abs(products).max(axis=1).toarray().ravel() <= tolerance * scale)

    def null_products(self, K: Any) -> tuple[sp.csr_array, np.ndarray]:
        """Products of the rows of K with the null vectors, and the size they are judged against.

        Parameters
        ----------
        K : (r, p_full) array or sparse array

        Returns
        -------
        products : (r, d) csr_array
            K N; a row of zeros, relative to `scale`, is estimable.
        scale : (r,) float64
            Norm of the row times the largest norm of a null vector, in units of columns of norm 1, so that
            covariates of very different size do not blur the decision.
        """
        null = self._rank.null
        given = K if sp.issparse(K) else np.atleast_2d(np.asarray(K, dtype=np.float64))
        if null.shape[1] == 0:
            return sp.csr_array((given.shape[0], 0)), np.ones(given.shape[0])
        rows = sp.csr_array(given)
        norm = np.sqrt(np.asarray(self._X_full.power(2).sum(axis=0)).ravel())
        norm[norm == 0] = np.sqrt(self.n)
        scaled_rows, scaled_null = rows @ sp.diags_array(1.0 / norm), sp.diags_array(norm) @ null
        longest = scaled_null.power(2).sum(axis=0).max() ** 0.5
        size = longest * np.sqrt(np.asarray(scaled_rows.power(2).sum(axis=1)))
        return sp.csr_array(scaled_rows @ scaled_null), size

    @cached_property
    def untold_levels(self) -> list[np.ndarray | None]:
        """Of each random term, levels (L, m) with parts of fixed genetic groups that the data do not tell."""
        return [untold_levels(term, self.column_names, self._X_full) for term in self.random]

    @cached_property
    def variables(self) -> dict[str, Variable]:
        """Columns of the table that the fixed part and the offset read, by name."""
        return _variables(self.coding, self.table, self._offset.columns_read)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """(n rows) The columns of the fixed part and the grouping columns; factors as categoricals."""
        columns = {}
        # `units` are the rows themselves, where no column has that name
        groups = [v for term in self.random for v in term.group_variables if v in self.table.columns]
        slopes = [v for term in self.random for atom in term.coding.atoms.values() for v in atom.columns_read]
        for name in dict.fromkeys([*self.variables, *slopes, *groups]):
            own = self.variables.get(name)
            values, levels = self.table.used(name, None if own is None else own.kind)
            columns[name] = (
                values
                if levels is None
                else pd.Categorical.from_codes(values, pd.Index(levels, dtype=object))
            )
        return pd.DataFrame(columns, index=self.index if self.table.index is not None else None)

    def used_column(self, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """A variable of the fixed part on the rows used: (n,) numbers, or (n,) codes and their levels."""
        return self.table.used(name, self.variables[name].kind)

    def read_column(self, name: str) -> Column | None:
        """A column that the model reads, on the rows used, with all its levels; None for other columns."""
        column = self.table.columns.get(name)
        if column is None:
            return None
        rows = self.table.rows
        return replace(column, values=column.values if rows is None else column.values[rows])

    def level_codes(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """A column that the model reads as a factor: codes (n,) on the rows used, and the levels that occur.

        The levels of a grouping factor are these, as they stand in the table: "007" is not 7.
        """
        codes, levels = self.table.used(name, "factor")
        assert levels is not None
        return codes, levels

    def fixed_matrix(self, newdata: Any) -> sp.csr_array:
        """All p_full columns of the fixed part on other rows, coded as in the fit.

        Parameters
        ----------
        newdata : table of m rows, or Table
            Factor levels as labels; ``poly()`` and the like keep the basis of the fit.

        Returns
        -------
        (m, p_full) csr_array

        Raises
        ------
        DataError
            When a column is not in `newdata`, a level did not occur in the fit, or a value is missing.
        """
        values = self.coding.read(table := table_for(self.formula, self.random, newdata))
        for text, own in values.items():
            if (own < 0).any() if self.coding.atoms[text].is_factor else np.isnan(own).any():
                raise DataError(
                    f"'{text}' has missing values in the new data; fill them in or leave the rows out"
                )
        return sp.csr_array(self.coding.matrix(values, table.n))

    def offset_at(self, table: Table) -> np.ndarray | None:
        """(m,) offset on other rows, with the mean of what was given beside the formula; None without any."""
        if self.offset is None:
            return None
        rows = self.table.rows
        return self._offset.on_table(table) + self._offset.given_mean(rows)

    def new_offset(self, table: Table) -> np.ndarray:
        """(m,) offset of the formula on the rows of new data.

        Raises
        ------
        DataError
            When the model has an offset beside the formula, or a value is missing.
        """
        if self._offset.given:
            raise DataError("the model has an offset that the formula does not name: give offset=, the whole "
                            "offset of each row of the new data")  # fmt: skip
        values = self._offset.on_table(table)
        if np.isnan(values).any():
            raise DataError(f"the offset has no value in new data, {first_row(np.isnan(values), values)}; "
                            "fill in its columns or leave the rows out")  # fmt: skip
        return values

    def type1_hypotheses(self, weighted: bool = False) -> list[tuple[str, sp.csr_array]]:
        """Sequential hypotheses (label, K) with K (df, p_full); see `fastlmm_core.design.coding.hypotheses`.

        Parameters
        ----------
        weighted : bool
            The sequence is that of X'WX, as of a linear model; that of X'X is lmerTest's.
        """
        return type1(self.coding, self._weighted(weighted), self._rank)

    def type2_hypotheses(self, weighted: bool = False) -> list[tuple[str, sp.csr_array]]:
        """Each term after all that do not contain it: (label, K) with K (df, p_full); `weighted` as above."""
        return type2(self.coding, self._weighted(weighted), self._rank)

    def _weighted(self, weighted: bool) -> sp.csc_array:
        """The columns of the fixed part, their rows times the roots of the weights."""
        if not weighted or self.weights is None:
            return self._X_full
        return sp.csc_array(sp.diags_array(np.sqrt(self.weights)) @ self._X_full)

    def type3_hypotheses(self, marginal: bool = False) -> list[tuple[str, sp.csr_array]]:
        """Hypotheses in sum-to-zero coding: (label, K) with K (df, p_full).

        Parameters
        ----------
        marginal : bool
            With empty cells: False drops dependent columns first (lmerTest), True tests what the columns of
            the other terms cannot take over (``drop1``, for linear models).
        """
        return type3(self.coding, self._values, self._X_full, self._rank, marginal)


def _variables(coding: Coding, table: UsedColumns, others: tuple[str, ...]) -> dict[str, Variable]:
    """A numeric column that only enters through ``C()`` or ``factor()`` counts as a factor."""
    as_levels: dict[str, Atom] = {}
    as_number: dict[str, None] = {}
    names: dict[str, None] = {}
    for atom in coding.atoms.values():
        for name in atom.columns_read:
            names[name] = None
            if atom.is_factor and (is_factor_call(atom.node) or table.columns[name].is_factor):
                as_levels.setdefault(name, atom)
            else:
                as_number[name] = None
    out = {}
    for name in (*names, *(name for name in others if name not in names)):
        dates = table.columns[name].days is not None and name not in as_levels
        values, levels = table.used(name, "numeric" if dates else None)
        if levels is None and (name in as_number or name not in as_levels):
            points = points_of(coding.atoms.values(), name, values, name in as_levels)
            out[name] = Variable(name, "numeric", None, float(values.mean()), *points)
        else:
            values, levels = table.used(name, "factor")
            out[name] = Variable(name, "factor", _in_order(name, levels or (), as_levels.get(name)), None)
    return out


def _in_order(name: str, levels: tuple[str, ...], atom: Atom | None) -> tuple[str, ...]:
    """Levels of a column in the order in which a variable such as ``factor(x, levels = ...)`` has them."""
    if atom is None or isinstance(atom.node, Name) or len(atom.columns_read) > 1:
        return levels
    own = Column(name, np.arange(len(levels), dtype=np.int32), levels)
    codes = atom.read(Table.of({name: own}, len(levels)))
    return tuple(levels[i] for i in np.argsort(codes, kind="stable"))
