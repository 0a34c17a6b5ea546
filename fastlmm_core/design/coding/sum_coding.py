"""The exact map from any coding of a model's factors to sum-to-zero coding."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.coding.model_matrix import Coding, TermCoding

Function = tuple[
    sp.csr_array, bool
]  # (L, c) values on the levels; True: stands for the values minus their mean


class SumCodingMap:
    """The exact map M with beta_sum = M beta, from any full coding to sum-to-zero coding.

    Parameters
    ----------
    coding : Coding
        As fitted, p columns.
    differences : bool
        Use differences from the first level instead of the sum-to-zero coefficients: within each term an
        invertible recombination of the rows, so the same hypotheses, but sparse.

    Attributes
    ----------
    M : (p, p) csr_array or None
        None when a term is not marginal to the model (a constant would have to pass through a covariate).
    """

    def __init__(self, coding: Coding, differences: bool = False):
        self.coding = coding
        self.differences = differences
        self._by_set = {frozenset(term.atoms): i for i, term in enumerate(coding.terms)}
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        if coding.intercept:
            self._add(0, 0, sp.coo_array(np.ones((1, 1))))
        complete = all(self._push(i, self._own_functions(term), term.atoms, coding.starts[i])
                       for i, term in enumerate(coding.terms))  # fmt: skip
        self.M: sp.csr_array | None = None
        if complete and not self._blocks:  # no columns at all, y ~ 0
            self.M = sp.csr_array((0, 0))
        elif complete:
            data, rows, columns = (np.concatenate(part) for part in zip(*self._blocks, strict=True))
            self.M = sp.csr_array(sp.coo_array((data, (rows, columns)), shape=(coding.p, coding.p)))

    def _own_functions(self, term: TermCoding) -> dict[str, Function]:
        """The columns of a term's variables as functions: of the levels of a factor, identity for numbers."""
        functions = {}
        for text, full in zip(term.atoms, term.full, strict=True):
            atom = self.coding.atoms[text]
            if full or self._opaque(text):
                functions[text] = (sp.eye_array(atom.width(full), format="csr"), False)
            else:
                functions[text] = (atom.contrast.coding(len(atom.levels)), False)  # type: ignore[union-attr,arg-type]
        return functions

    def _opaque(self, text: str) -> bool:
        """Whether the variable's own columns are kept: numbers, and codings spanning less than all levels."""
        atom = self.coding.atoms[text]
        return atom.levels is None or atom.width(False) != len(atom.levels) - 1

    def _add(self, row: int, column: int, block: sp.coo_array) -> None:
        rows, columns = block.coords
        self._blocks.append((block.data, rows + row, columns + column))

    def _coefficients(self, function: Function) -> sp.csr_array:
        """(L - 1, c) sum-to-zero coefficients of the centred function, or differences from level 1."""
        values, _ = function
        shift = values[[0]] if self.differences else sp.csr_array(values.mean(axis=0)[None, :])
        rows = values[1:] if self.differences else values[:-1]
        if shift.count_nonzero() == 0:
            return rows
        return sp.csr_array(rows - sp.csr_array(np.ones((rows.shape[0], 1))) @ shift)

    def _push(
        self, target: int, functions: dict[str, Function], source: tuple[str, ...], column: int
    ) -> bool:
        """Express a product of functions in the sum coding of term `target` and of the terms below it.

        `functions` has every variable of the target, and every variable of `source`; one that has left the
        target is a constant, with one row.
        """
        term = self.coding.terms[target]
        coefficients: dict[str, sp.csr_array] = {}
        pending = dict(functions)
        for text, full in zip(term.atoms, term.full, strict=True):
            values, centred = pending[text]
            if full or self._opaque(text):
                coefficients[text] = _materialize((values, centred))
                continue
            if not centred:
                mean = sp.csr_array(values.mean(axis=0)[None, :])
                if abs(mean).max() > 1e-14 * abs(values).max():
                    lower = {**pending, text: (mean, False)}
                    if not self._descend(term, text, lower, source, column):
                        return False
            coefficients[text] = self._coefficients((values, centred))
            pending[text] = (values, True)
        self._store(term, target, coefficients, functions, source, column)
        return True

    def _store(
        self,
        term: TermCoding,
        target: int,
        coefficients: dict[str, sp.csr_array],
        functions: dict[str, Function],
        source: tuple[str, ...],
        column: int,
    ) -> None:
        """Add the block: rows run over the target's columns, columns over the source's, first variable
        fastest.

        A variable that has left the target contributes a (1, c) row, one that joined it an (L, 1) column.
        """
        joined = [t for t in term.atoms if t not in source]
        block = sp.coo_array(np.ones((1, 1)))
        order = [*source, *joined]
        for text in order:
            own = coefficients[text] if text in coefficients else functions[text][0]
            block = sp.coo_array(sp.kron(own, block))
        # rows run over `order`; the target may have its variables in another order
        inside = [t for t in order if t in coefficients]
        if inside != list(term.atoms):
            widths = [coefficients[t].shape[0] for t in inside]
            numbers = np.arange(block.shape[0]).reshape(widths[::-1])
            axes = [len(inside) - 1 - inside.index(t) for t in reversed(term.atoms)]
            place = np.empty(block.shape[0], dtype=np.int64)
            place[np.transpose(numbers, axes).ravel()] = np.arange(block.shape[0])
            block = sp.coo_array((block.data, (place[block.coords[0]], block.coords[1])), shape=block.shape)
        self._add(self.coding.starts[target], column, block)

    def _descend(
        self,
        term: TermCoding,
        left: str,
        functions: dict[str, Function],
        source: tuple[str, ...],
        column: int,
    ) -> bool:
        """Pass a function that is constant in `left` to the term without it, or one containing that."""
        rest = frozenset(term.atoms) - {left}
        if not rest and self.coding.intercept:
            block = sp.coo_array(np.ones((1, 1)))
            for text in source:
                block = sp.coo_array(sp.kron(functions[text][0], block))
            self._add(0, column, block)
            return True
        target = self._by_set.get(rest)
        if target is None:
            target = self._container(rest)
            if target is None:
                return False
            for text in self.coding.terms[target].atoms:
                if text not in rest:
                    ones = sp.csr_array(np.ones((len(self.coding.atoms[text].levels or ()), 1)))
                    functions = {**functions, text: (ones @ functions[text][0], False) if text in functions
                                 else (ones, False)}  # fmt: skip
        return self._push(target, functions, source, column)

    def _container(self, rest: frozenset[str]) -> int | None:
        """First term that spans the functions of `rest`: what it adds is coded by all levels."""
        for i, other in enumerate(self.coding.terms):
            extra = [(t, full) for t, full in zip(other.atoms, other.full, strict=True) if t not in rest]
            if rest <= set(other.atoms) and all(full and not self._opaque(t) for t, full in extra):
                return i
        return None


def _materialize(function: Function) -> sp.csr_array:
    values, centred = function
    if not centred:
        return values
    return sp.csr_array(values.toarray() - values.mean(axis=0))
