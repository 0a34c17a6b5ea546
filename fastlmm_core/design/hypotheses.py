"""What an analysis of variance tests: rows K on the coefficients, for types I, II and III.

Type III is defined through sum-to-zero coding: with beta_sum = M beta, the hypothesis of a term is that its
coefficients beta_sum are zero (Searle 1971, Linear Models). M is exact algebra on the codings, not a
regression: a function of the levels of a factor is its unweighted mean plus a combination of the sum-to-zero
columns. When columns depend on each other, for example with empty cells, that definition is extended by
SAS's estimable functions (`_type3_goodnight`). Types I and II come from the triangular factor of X with its
terms in a suitable order (Goodnight 1980, "Tests of hypotheses in fixed effects linear models", Comm.
Statist. A9).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from fastlmm_core.design.coding import Coding, TermCoding
from fastlmm_core.design.rank import Rank, column_rank, gram, triangle_of
from fastlmm_core.errors import InferenceError

MAX_DENSE = 6000
# Beyond, the only term of a model is tested in the basis of its own columns.
MAX_BASIS = 1500


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
        if complete:
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


def term_columns(coding: Coding) -> list[np.ndarray]:
    """Column numbers of every term."""
    return [np.arange(a, a + w) for a, w in zip(coding.starts, coding.widths, strict=False)]


def type3(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, rank: Rank, marginal: bool = False
) -> list[tuple[str, sp.csr_array]]:
    """Type III hypotheses.

    Parameters
    ----------
    coding : Coding
        p_full columns.
    values : dict of str to ndarray
        Variables on the n rows used.
    X_full : (n, p_full) csc_array
    rank : Rank
        Of `X_full`.
    marginal : bool
        What a term means when X is dependent. False: SAS's estimable functions, as lmerTest. True: the term
        is tested by leaving out all its sum-coded columns beside all columns of the other terms, which gives
        up the degrees of freedom that the others can take over, as ``drop1``.

    Returns
    -------
    list of (label, (df, p_full) csr_array)
    """
    columns = term_columns(coding)
    if rank.dropped.size:
        K = (_type3_marginal if marginal else _type3_goodnight)(coding, values, X_full, columns)
    elif len(columns) == 1 and coding.intercept and 1 < columns[0].size <= MAX_BASIS:
        K = [_sequential_basis(coding, values, X_full, columns[0])]
    elif _all_on_top(coding):
        eye = sp.eye_array(coding.p, format="csr")
        K = [sp.csr_array(eye[c]) for c in columns]
    else:
        M = SumCodingMap(coding, differences=True).M
        if M is None:
            K = _type3_non_marginal(coding, values, X_full, columns)
        else:
            K = [sp.csr_array(M[c]) for c in columns]
    return [(term.label, _without_noise(k)) for term, k in zip(coding.terms, K, strict=True)]


def _sequential_basis(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: np.ndarray
) -> sp.csr_array:
    """Rows of the only term of a model: the triangular basis of its sequential hypothesis.

    The hypothesis is the one every basis spans, but Satterthwaite's denominator of several degrees of freedom
    depends on the basis; lmerTest takes this one, the unit upper triangle of X'X = U'DU in sum-to-zero
    coding.
    """
    M = SumCodingMap(coding).M
    if M is None:
        return sp.csr_array(sp.eye_array(coding.p, format="csr")[columns])
    X_sum = coding.with_sum_contrasts().matrix(values, X_full.shape[0])
    upper = la.cholesky((X_sum.T @ X_sum).toarray())
    unit = upper[columns] / np.diag(upper)[columns, None]
    return sp.csr_array(unit @ M.toarray())


def _without_noise(K: sp.csr_array) -> sp.csr_array:
    """K with entries that are rounding of zero removed."""
    if K.nnz:
        K.data[np.abs(K.data) < 1e-13 * np.abs(K.data).max()] = 0.0
        K.eliminate_zeros()
    return K


def _all_on_top(coding: Coding) -> bool:
    """Whether every term is a hypothesis as it stands: an intercept, and no variable in two terms."""
    variables = [text for term in coding.terms for text in term.atoms]
    return coding.intercept and len(set(variables)) == len(variables)


def _sum_map(mapping: SumCodingMap, X_full: sp.csc_array, X_sum: sp.csc_array) -> sp.csr_array:
    if mapping.M is not None:
        return mapping.M
    dense = X_sum.toarray()
    size = np.linalg.norm(dense, axis=0)
    size[size == 0] = 1.0
    solution = la.lstsq(dense / size, X_full.toarray(), lapack_driver="gelsy", cond=1e-11)[0]
    return sp.csr_array(solution / size[:, None])


def _type3_non_marginal(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: list[np.ndarray]
) -> list[sp.csr_array]:
    """Full-rank X whose sum coding the algebra does not reach: M by least squares."""
    _check_dense(coding)
    X_sum = coding.with_sum_contrasts().matrix(values, X_full.shape[0])
    M = _sum_map(SumCodingMap(coding), X_full, X_sum)
    return [sp.csr_array(M[c]) for c in columns]


def _type3_marginal(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: list[np.ndarray]
) -> list[sp.csr_array]:
    """Estimable functions of each term's sum-coded coefficients alone: what ``drop1`` tests."""
    _check_dense(coding)
    X_sum = coding.with_sum_contrasts().matrix(values, X_full.shape[0])
    M = _sum_map(SumCodingMap(coding), X_full, X_sum)
    rank = column_rank(X_sum)
    return [sp.csr_array(_estimable_rows(rank, c) @ M) for c in columns]


def _type3_goodnight(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: list[np.ndarray]
) -> list[sp.csr_array]:
    """Type III estimable functions when X is dependent (Goodnight 1976; SAS; lmerTest).

    With X the kept treatment-coded columns and D the overparametrized matrix of all level indicators, D = X
    G. The hypothesis of a term t is beta_t - B' beta_c = 0, where B regresses the columns t of G' on the
    columns c of the terms that contain t: its generating functions are made orthogonal to theirs.
    """
    _check_dense(coding)
    n = X_full.shape[0]
    treated = coding.with_treatment_contrasts()
    X_treated = X_full if treated is coding else treated.matrix(values, n)
    rank = column_rank(X_treated)
    X = sp.csc_array(X_treated[:, rank.kept])
    G = _coordinates(X, coding.with_all_levels().matrix(values, n))
    to_fitted = sp.csr_array(_coordinates(X, X_full))
    place = np.full(coding.p, -1)
    place[rank.kept] = np.arange(rank.kept.size)
    own = [place[c][place[c] >= 0] for c in columns]
    out = []
    for i, mine in enumerate(own):
        C = np.zeros((mine.size, rank.kept.size))
        C[np.arange(mine.size), mine] = 1.0
        above = [own[j] for j in range(len(own)) if contains(coding, i, j)]
        theirs = np.concatenate(above) if above else np.empty(0, dtype=np.int64)
        if theirs.size and mine.size:
            C[:, theirs] = -la.lstsq(G[theirs].T, G[mine].T, lapack_driver="gelsd", cond=1e-10)[0].T
        out.append(sp.csr_array(C) @ to_fitted)
    return out


def _check_dense(coding: Coding) -> None:
    if coding.p > MAX_DENSE:
        raise InferenceError("type III hypotheses of a model with dependent columns or non-marginal "
                             "terms are limited "
                             f"to {MAX_DENSE} columns, but there are {coding.p}")  # fmt: skip


def _coordinates(X: sp.csc_array, target: sp.csc_array) -> np.ndarray:
    """(r, k) coefficients of the columns of `target`, which X spans, on the r independent columns of X."""
    size = np.sqrt(np.asarray(X.power(2).sum(axis=0)).ravel())
    scaled = sp.csc_array(X @ sp.diags_array(1.0 / size))
    solver = splu(gram(scaled))
    solution = solver.solve((scaled.T @ target).toarray())
    solution += solver.solve(np.asarray(scaled.T @ (target.toarray() - scaled @ solution)))
    solution[np.abs(solution) < 1e-11 * max(1.0, np.abs(solution).max(initial=0.0))] = 0.0
    return np.asarray(solution / size[:, None])


def contains(coding: Coding, i: int, j: int) -> bool:
    """Whether term j contains term i (SAS): the same covariates, and all its factors and more."""
    atoms = coding.atoms
    low, high = set(coding.terms[i].atoms), set(coding.terms[j].atoms)
    return low < high and {t for t in low if not atoms[t].is_factor} == {
        t for t in high if not atoms[t].is_factor
    }


def _estimable_rows(rank: Rank, columns: np.ndarray) -> sp.csr_array:
    """Basis of the estimable functions of the coefficients in `columns` alone, (df, p)."""
    part = rank.null.tocsr()[columns].toarray()
    u, s, _ = np.linalg.svd(part, full_matrices=True)
    count = int((s > 1e-9 * max(1.0, s.max(initial=0.0))).sum())
    rows = u[:, count:].T
    spread = sp.csr_array((np.ones(columns.size), (np.arange(columns.size), columns)),
                          shape=(columns.size, rank.null.shape[0]))  # fmt: skip
    return sp.csr_array(rows) @ spread


def _triangle_rows(X_full: sp.csc_array, rank: Rank, order: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows of the unit upper triangle U of X'X = U'DU for the `wanted` columns, in the given order.

    Any basis spans the same hypothesis, but Satterthwaite's denominator of several degrees of freedom depends
    on it; lmerTest takes this one (the rows of Doolittle's factor).

    Parameters
    ----------
    order : (p_full,) int64
        Order of the columns; dependent ones (later in that order) drop out.
    wanted : (k,) int64

    Returns
    -------
    (df, p_full) ndarray
    """
    p = X_full.shape[1]
    if p > MAX_DENSE:
        raise InferenceError(
            f"type I and II hypotheses are limited to {MAX_DENSE} columns, but there are {p}"
        )
    ordered = sp.csc_array(X_full[:, order])
    own = column_rank(ordered)
    kept = ordered[:, own.kept]
    n = X_full.shape[0]
    if n * own.kept.size <= 50_000_000:
        R = triangle_of(kept.toarray())
    else:
        R = la.cholesky((kept.T @ kept).toarray(), lower=False)
    R = R / np.diag(R)[:, None]
    rows = np.flatnonzero(np.isin(order[own.kept], wanted))
    out = np.zeros((rows.size, p))
    out[:, order[own.kept]] = R[rows]
    if own.dropped.size:
        combination = -own.null.tocsr()[own.kept].toarray()
        out[:, order[own.dropped]] = R[rows] @ combination
    return out


def type1(coding: Coding, X_full: sp.csc_array, rank: Rank) -> list[tuple[str, sp.csr_array]]:
    """Sequential hypotheses: each term after those before it. Arguments and result as in `type3`."""
    order = np.arange(coding.p)
    everything = _triangle_rows(X_full, rank, order, order)
    place = np.full(coding.p, -1)
    place[rank.kept] = np.arange(rank.kept.size)
    out = []
    for term, columns in zip(coding.terms, term_columns(coding), strict=True):
        rows = place[columns]
        out.append((term.label, sp.csr_array(everything[rows[rows >= 0]])))
    return out


def type2(coding: Coding, X_full: sp.csc_array, rank: Rank) -> list[tuple[str, sp.csr_array]]:
    """Each term after all others that do not contain it. Arguments and result as in `type3`.

    Where nothing contains a term and all columns are independent, that is its coefficients; they are its
    basis, too, in lmerTest (see `_triangle_rows`), but for the only term of a model.
    """
    columns = term_columns(coding)
    eye = sp.eye_array(coding.p, format="csr")
    out = []
    for i, term in enumerate(coding.terms):
        above = [contains(coding, i, j) for j in range(len(columns))]
        if not any(above) and not rank.dropped.size and len(columns) > 1:
            out.append((term.label, sp.csr_array(eye[columns[i]])))
            continue
        before = [np.arange(int(coding.intercept))]
        before += [c for j, c in enumerate(columns) if j != i and not above[j]]
        after = [c for j, c in enumerate(columns) if above[j]]
        order = np.concatenate([*before, columns[i], *after])
        out.append((term.label, sp.csr_array(_triangle_rows(X_full, rank, order, columns[i]))))
    return out
