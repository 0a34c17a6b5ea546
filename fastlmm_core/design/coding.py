"""How the variables of a linear part become columns: R's ``model.matrix``, built sparse.

A term is the product of its variables' columns, the first variable varying fastest. Whether a factor in a
term is coded by contrasts or by all its levels follows R (``TermCode`` in R's model.c, described in Chambers
& Hastie 1992, section 2.4.1): contrasts when the rest of the term lies inside an earlier term.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.contrasts import Contrast, contrast_of, contrast_of_call, sum_to_zero, treatment
from fastlmm_core.design.evaluation import Numbers, State, evaluate, evaluate_numbers, missing_sources
from fastlmm_core.design.expressions import Call, Name, Node, is_factor_call, names_in
from fastlmm_core.design.formula import TermList
from fastlmm_core.design.table import Column, Table, as_factor, drop_unused
from fastlmm_core.errors import DataError, DesignError, name_list

MAX_COLUMNS = 3_000_000


@dataclass(frozen=True)
class Atom:
    """One variable of a formula, as coded for a fit: a column, ``C(x)``, ``log(x)``, ``poly(x, 2)``.

    Attributes
    ----------
    text : str
        As R prints it.
    node : Node
    levels : tuple of str or None
        Levels that occur, None for a numeric variable.
    contrast : Contrast or None
    suffixes : tuple of str
        (k,) Appended to `text` for the k columns of a numeric variable.
    state : dict
        What stateful functions remember of the data of the fit.
    """

    text: str
    node: Node
    levels: tuple[str, ...] | None
    contrast: Contrast | None
    suffixes: tuple[str, ...]
    state: State

    @property
    def is_factor(self) -> bool:
        return self.levels is not None

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Names of the table's columns the variable reads."""
        return tuple(dict.fromkeys(name.name for name in names_in(self.node)))

    def names(self, full: bool) -> list[str]:
        """Column names; for a factor by all levels (`full`) or by contrasts."""
        if self.levels is None:
            return [self.text + suffix for suffix in self.suffixes]
        assert self.contrast is not None
        return [self.text + suffix for suffix in (self.levels if full else self.contrast.suffixes)]

    def width(self, full: bool) -> int:
        if self.levels is None:
            return len(self.suffixes)
        assert self.contrast is not None
        return len(self.levels) if full else len(self.contrast.suffixes)

    def read(self, table: Table) -> np.ndarray:
        """Values on any table: (n,) int32 codes (-1 missing) or (n, k) float64.

        Raises
        ------
        DataError
            When a level did not occur in the data of the fit.
        """
        if self.levels is None:
            return evaluate_numbers(self.node, table, self.state).on_rows(None)
        column = read_factor(self.node, table, self.state)
        assert column.levels is not None
        if column.levels == self.levels:
            return column.values
        known = {level: i for i, level in enumerate(self.levels)}
        place = np.array([*(known.get(level, -2) for level in column.levels), -1], dtype=np.int32)
        codes = place[column.values]
        if (codes == -2).any():
            unknown = [column.levels[c] for c in np.unique(column.values[codes == -2])]
            raise DataError(
                f"'{self.text}' has the levels {name_list(unknown)}, which did not occur in the data of "
                f"the fit; "
                f"known: {name_list(self.levels)}"
            )
        return codes


def read_factor(node: Node, table: Table, state: State) -> Column:
    """The expression as a factor column: a column, ``C(...)``, ``factor(...)`` or a comparison."""
    if isinstance(node, Name):
        return as_factor(table.column(node.name))
    if is_factor_call(node):
        assert isinstance(node, Call)
        return read_factor(node.arguments[0][1], table, state)
    value = np.asarray(evaluate(node, table, state))
    if value.dtype == bool:  # NumPy compares missing values as False
        codes = np.where(missing_sources(node, table), -1, value).astype(np.int32)
        return Column("", codes, ("FALSE", "TRUE"))
    if value.dtype == object:
        levels = tuple(sorted({v for v in value if v is not None}))
        place = {v: i for i, v in enumerate(levels)}
        return Column("", np.array([place.get(v, -1) for v in value], dtype=np.int32), levels)
    return as_factor(Column("", evaluate_numbers(node, table, state).on_rows(None)[:, 0], None))


@dataclass(frozen=True)
class Raw:
    """A variable on all N rows of the table, before rows with missing values are dropped.

    Attributes
    ----------
    values : Numbers or (N,) int32
        Numbers, or codes of a factor with -1 for missing.
    levels : tuple of str or None
        None for numbers.
    state : dict
        What stateful functions remember of the data.
    """

    values: Numbers | np.ndarray
    levels: tuple[str, ...] | None
    state: State

    def missing(self) -> np.ndarray:
        """(N,) bool."""
        return self.values.missing() if isinstance(self.values, Numbers) else self.values < 0

    def on_rows(self, rows: np.ndarray | None) -> np.ndarray:
        """(n,) codes or (n, k) numbers of the rows used (None: all of them); see `Numbers.on_rows`."""
        if isinstance(self.values, Numbers):
            return self.values.on_rows(rows)
        return self.values if rows is None else self.values[rows]


def read_raw(node: Node, table: Table) -> Raw:
    """Evaluate one variable: codes and levels for a factor, numbers otherwise."""
    state: State = {}
    if isinstance(node, Name):
        as_levels = table.column(node.name).is_factor
    else:
        as_levels = is_factor_call(node) or np.asarray(evaluate(node, table, state)).dtype in (bool, object)
    if as_levels:
        column = read_factor(node, table, state)
        return Raw(column.values, column.levels, state)
    return Raw(evaluate_numbers(node, table, state), None, state)


def make_atom(
    text: str, node: Node, raw: Raw, rows: np.ndarray | None, contrasts: Any
) -> tuple[Atom, np.ndarray]:
    """(Atom, values on the rows used); levels that do not occur there are dropped.

    Raises
    ------
    DataError
        Where numbers are infinite or not defined.
    DesignError
        For a factor with one level only.
    """
    values = raw.on_rows(rows)
    if raw.levels is None:
        k = values.shape[1]
        suffixes = ("",) if k == 1 and not _numbered(node) else tuple(str(i + 1) for i in range(k))
        return Atom(text, node, None, None, suffixes, raw.state), values
    codes, levels = drop_unused(values, raw.levels)
    if len(levels) < 2:
        raise DesignError(f"factor '{text}' has only the level {name_list(levels)} in the {codes.size} "
                          f"rows used; "
                          "leave it out of the fixed part")  # fmt: skip
    given = None if not contrasts else contrasts.get(text)
    contrast = (
        contrast_of_call(node, levels, given) if is_factor_call(node) else contrast_of(given, levels, text)
    )
    return Atom(text, node, levels, contrast, (), raw.state), codes


def _numbered(node: Node) -> bool:
    return isinstance(node, Call) and node.function in ("poly", "bs", "cr", "cc")


@dataclass(frozen=True)
class TermCoding:
    """A term: texts of its variables, and for each whether a factor is coded by all its levels."""

    atoms: tuple[str, ...]
    full: tuple[bool, ...]

    @property
    def label(self) -> str:
        return ":".join(self.atoms)


def code_terms(terms: TermList, factors: set[str]) -> tuple[TermCoding, ...]:
    """R's choice between contrasts and all levels, for every factor of every term."""
    coded: list[TermCoding] = []
    waiting = not terms.intercept  # without an intercept the first factor met takes all its levels
    earlier: list[set[str]] = []
    for term in terms.terms:
        full = []
        for text in term:
            rest = {other for other in term if other != text}
            by_contrasts = not rest or any(rest <= other for other in earlier)
            everything = text in factors and not by_contrasts
            if waiting and text in factors:
                everything, waiting = True, False
            full.append(everything)
        earlier.append(set(term))
        coded.append(TermCoding(term, tuple(full)))
    return tuple(coded)


@dataclass(frozen=True)
class Coding:
    """A linear part, ready to be turned into a matrix on any rows.

    Attributes
    ----------
    intercept : bool
    atoms : dict of str to Atom
    terms : tuple of TermCoding
    """

    intercept: bool
    atoms: dict[str, Atom]
    terms: tuple[TermCoding, ...]

    @cached_property
    def widths(self) -> list[int]:
        """Number of columns of each term."""
        widths = []
        for term in self.terms:
            width = 1
            for text, full in zip(term.atoms, term.full, strict=True):
                width *= self.atoms[text].width(full)
            widths.append(width)
        return widths

    @cached_property
    def starts(self) -> list[int]:
        """First column of each term, and one past the last column."""
        return np.cumsum([int(self.intercept), *self.widths]).tolist()

    @property
    def p(self) -> int:
        return self.starts[-1]

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """(p,) names as R writes them."""
        names = ["(Intercept)"] if self.intercept else []
        for term in self.terms:
            part = [""]
            for i, (text, full) in enumerate(zip(term.atoms, term.full, strict=True)):
                own = self.atoms[text].names(full)
                part = own if i == 0 else [f"{a}:{b}" for b in own for a in part]
            names += part
        return tuple(names)

    def matrix(self, values: dict[str, np.ndarray], n: int) -> sp.csc_array:
        """(n, p) matrix of the variables' values, sorted CSC.

        Raises
        ------
        DesignError
            When the terms would make millions of columns.
        """
        if self.p > MAX_COLUMNS:
            worst = self.terms[int(np.argmax(self.widths))].label
            raise DesignError(f"the fixed part has {self.p} columns, most of them from '{worst}'; "
                              "make factors with so many levels random")  # fmt: skip
        blocks = [(np.ones(n), np.arange(n, dtype=np.int32), np.array([0, n]))] if self.intercept else []
        blocks += [self._block(term, values, n) for term in self.terms]
        return _join(blocks, n, self.p)

    def _block(self, term: TermCoding, values: dict[str, np.ndarray], n: int) -> Block:
        plain = all(
            len(self.atoms[t].suffixes) == 1
            if not self.atoms[t].is_factor
            else full or self.atoms[t].contrast.kind == "treatment"  # type: ignore[union-attr]
            for t, full in zip(term.atoms, term.full, strict=True)
        )
        return self._indicator_block(term, values, n) if plain else self._product_block(term, values, n)

    def _indicator_block(self, term: TermCoding, values: dict[str, np.ndarray], n: int) -> Block:
        """Columns of a term whose factors are coded by indicators: at most one entry a row."""
        weight: np.ndarray | None = None
        place: np.ndarray | None = None
        outside: np.ndarray | None = None
        stride = 1
        for text, full in zip(term.atoms, term.full, strict=True):
            atom = self.atoms[text]
            if atom.levels is None:
                column = values[text][:, 0]
                weight = column if weight is None else weight * column
                continue
            codes = values[text].astype(np.int64)
            if not full:
                base = atom.contrast.base  # type: ignore[union-attr]
                reference = codes == base
                outside = reference if outside is None else outside | reference
                codes -= codes > base
            place = codes * stride if place is None else place + codes * stride
            stride *= atom.width(full)
        if place is None:
            data = np.ones(n) if weight is None else np.array(weight, dtype=np.float64)
            return data, np.arange(n, dtype=np.int32), np.array([0, n])
        return _sort_into_columns(place, weight, outside, stride)

    def _product_block(self, term: TermCoding, values: dict[str, np.ndarray], n: int) -> Block:
        """Columns of a term with any coding, as row-wise products of the variables' columns."""
        product: sp.csr_array | None = None
        for text, full in zip(term.atoms, term.full, strict=True):
            atom = self.atoms[text]
            if atom.levels is None:
                own = dense_rows(values[text])
            elif full:
                own = sp.eye_array(len(atom.levels), format="csr")[values[text]]
            else:
                own = atom.contrast.coding(len(atom.levels))[values[text]]  # type: ignore[union-attr]
            product = own if product is None else rowwise_product(product, own)
        assert product is not None
        block = sp.csc_array(product)
        block.sort_indices()
        return block.data, block.indices, block.indptr

    def dense(self, values: dict[str, np.ndarray], n: int) -> np.ndarray:
        """(n, p) dense matrix, for the few columns of a random term."""
        if all(
            not self.atoms[t].is_factor and len(self.atoms[t].suffixes) == 1
            for c in self.terms
            for t in c.atoms
        ):
            out = np.ones((n, self.p))
            for j, term in enumerate(self.terms, start=int(self.intercept)):
                for text in term.atoms:
                    out[:, j] *= values[text][:, 0]
            return out
        return self.matrix(values, n).toarray()

    def read(self, table: Table) -> dict[str, np.ndarray]:
        """Values of every variable on a table (see `Atom.read`)."""
        return {text: atom.read(table) for text, atom in self.atoms.items()}

    def with_sum_contrasts(self) -> Coding:
        """The terms with factors coded by ``contr.sum``, but for codings that span less than all levels."""
        atoms = {
            text: replace(atom, contrast=sum_to_zero(atom.levels))
            if atom.levels is not None and atom.width(False) == len(atom.levels) - 1
            else atom
            for text, atom in self.atoms.items()
        }
        return Coding(self.intercept, atoms, self.terms)

    def with_treatment_contrasts(self) -> Coding:
        """The same terms against the first level; `self` when that is how they are coded."""
        atoms = {
            text: replace(atom, contrast=treatment(atom.levels))
            if atom.levels is not None and atom.width(False) == len(atom.levels) - 1 and atom.contrast
            and (atom.contrast.kind, atom.contrast.base) != ("treatment", 0)
            else atom
            for text, atom in self.atoms.items()
        }  # fmt: skip
        same = all(atoms[text] is atom for text, atom in self.atoms.items())
        return self if same else Coding(self.intercept, atoms, self.terms)

    def with_all_levels(self) -> Coding:
        """The overparametrized part: every factor of every term by all its levels."""
        terms = tuple(
            TermCoding(t.atoms, tuple(self.atoms[a].is_factor for a in t.atoms)) for t in self.terms
        )
        return Coding(self.intercept, self.atoms, terms)


Block = tuple[np.ndarray, np.ndarray, np.ndarray]  # data, indices, indptr of a CSC matrix


def _sort_into_columns(
    place: np.ndarray, weight: np.ndarray | None, outside: np.ndarray | None, width: int
) -> Block:
    """CSC block with entry (i, place_i) = weight_i for the rows not `outside`."""
    rows = None
    if outside is not None:
        rows = np.flatnonzero(~outside)
        place = place[rows]
    narrow = place.astype(np.int16) if width < 2**15 else place  # numpy sorts 16-bit keys by radix
    order = np.argsort(narrow, kind="stable")
    indices = (order if rows is None else rows[order]).astype(np.int32)
    data = np.ones(indices.size) if weight is None else weight[indices]
    indptr = np.zeros(width + 1, dtype=np.int64)
    np.cumsum(np.bincount(place, minlength=width), out=indptr[1:])
    return data, indices, indptr


def _join(blocks: list[Block], n: int, p: int) -> sp.csc_array:
    if not blocks:
        return sp.csc_array((n, p), dtype=np.float64)
    data = np.concatenate([b[0] for b in blocks])
    indices = np.concatenate([b[1] for b in blocks])
    offsets = np.cumsum([0, *(b[0].size for b in blocks)])
    indptr = np.concatenate([[0], *(b[2][1:] + o for b, o in zip(blocks, offsets[:-1], strict=True))])
    index_type = np.int32 if data.size < 2**31 - 1 else np.int64
    out = sp.csc_array(
        (data, indices.astype(index_type, copy=False), indptr.astype(index_type)), shape=(n, p)
    )
    out.has_sorted_indices = True
    return out


def dense_rows(values: np.ndarray) -> sp.csr_array:
    """(n, k) dense values as CSR with every entry stored."""
    n, k = values.shape
    return sp.csr_array((values.ravel(), np.tile(np.arange(k), n), np.arange(n + 1) * k), shape=(n, k))


def rowwise_product(left: sp.csr_array, right: sp.csr_array) -> sp.csr_array:
    """(n, a b) matrix with row i = kron(right_i, left_i): columns of `left` vary fastest."""
    n, a = left.shape
    b = right.shape[1]
    count_left, count_right = np.diff(left.indptr), np.diff(right.indptr)
    counts = count_left * count_right
    total = int(counts.sum())
    row = np.repeat(np.arange(n), counts)
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    i = left.indptr[row] + within % np.maximum(count_left[row], 1)
    j = right.indptr[row] + within // np.maximum(count_left[row], 1)
    columns = left.indices[i].astype(np.int64) + a * right.indices[j].astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_array((left.data[i] * right.data[j], columns, indptr), shape=(n, a * b))
