"""How the variables of a linear part become columns: R's ``model.matrix``, built sparse.

A term is the product of its variables' columns, the first variable varying fastest. Whether a factor in a
term is coded by contrasts or by all its levels follows R (``TermCode`` in R's model.c, described in Chambers
& Hastie 1992, section 2.4.1): contrasts when the rest of the term lies inside an earlier term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.coding.contrasts import sum_to_zero, treatment
from fastlmm_core.design.coding.sparse_columns import (
    Block,
    dense_rows,
    indicator_columns,
    join_blocks,
    rowwise_product,
)
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Atom
from fastlmm_core.errors import DesignError
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.formula.parts import TermList

MAX_COLUMNS = 3_000_000


@dataclass(frozen=True)
class TermCoding:
    """A term: texts of its variables, and for each whether a factor is coded by all its levels."""

    atoms: tuple[str, ...]
    full: tuple[bool, ...]

    @property
    def label(self) -> str:
        return ":".join(label_of(text) for text in self.atoms)


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
            own = (self.atoms[text].width(full) for text, full in zip(term.atoms, term.full, strict=True))
            widths.append(math.prod(own))
        return widths

    @cached_property
    def starts(self) -> list[int]:
        """First column of each term, and one past the last column."""
        return list(accumulate(self.widths, initial=int(self.intercept)))

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
        return join_blocks(blocks, n, self.p)

    def _block(self, term: TermCoding, values: dict[str, np.ndarray], n: int) -> Block:
        plain = all(
            len(self.atoms[t].suffixes) == 1
            if not self.atoms[t].is_factor
            else full or self.atoms[t].contrast.kind == "treatment"  # type: ignore[union-attr]
            for t, full in zip(term.atoms, term.full, strict=True)
        )
        return self._indicator_block(term, values, n) if plain else self._product_block(term, values)

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
        return indicator_columns(place, weight, outside, stride)

    def _product_block(self, term: TermCoding, values: dict[str, np.ndarray]) -> Block:
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
