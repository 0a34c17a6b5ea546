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

from fastlmm_core.design.coding.model_matrix import Coding
from fastlmm_core.design.coding.rank import Rank, column_rank, gram, triangle_of
from fastlmm_core.design.coding.sum_coding import SumCodingMap
from fastlmm_core.errors import InferenceError

MAX_DENSE = 6000
# Beyond, the only term of a model is tested in the basis of its own columns.
MAX_BASIS = 1500


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
    else:
        # Differences from the first level, whatever the coding: Satterthwaite's denominator depends on the
        # basis, and lmerTest codes a model again by contr.treatment for type III.
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


def _sum_map(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array
) -> tuple[sp.csc_array, sp.csr_array]:
    """The part in sum-to-zero coding and M with beta_sum = M beta, by least squares where algebra fails."""
    _check_dense(coding)
    X_sum = coding.with_sum_contrasts().matrix(values, X_full.shape[0])
    exact = SumCodingMap(coding).M
    if exact is not None:
        return X_sum, exact
    dense = X_sum.toarray()
    size = np.linalg.norm(dense, axis=0)
    size[size == 0] = 1.0
    solution = la.lstsq(dense / size, X_full.toarray(), lapack_driver="gelsy", cond=1e-11)[0]
    return X_sum, sp.csr_array(solution / size[:, None])


def _type3_non_marginal(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: list[np.ndarray]
) -> list[sp.csr_array]:
    """Full-rank X whose sum coding the algebra does not reach: M by least squares."""
    _, M = _sum_map(coding, values, X_full)
    return [sp.csr_array(M[c]) for c in columns]


def _type3_marginal(
    coding: Coding, values: dict[str, np.ndarray], X_full: sp.csc_array, columns: list[np.ndarray]
) -> list[sp.csr_array]:
    """Estimable functions of each term's sum-coded coefficients alone: what ``drop1`` tests."""
    X_sum, M = _sum_map(coding, values, X_full)
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


def _triangle_rows(
    X_full: sp.csc_array, order: np.ndarray, wanted: np.ndarray, coefficients: bool = False
) -> np.ndarray:
    """Rows of the unit upper triangle U of X'X = U'DU for the `wanted` columns, in the given order.

    Any basis spans the same hypothesis, but Satterthwaite's denominator of several degrees of freedom depends
    on it; lmerTest takes this one (the rows of Doolittle's factor).

    Parameters
    ----------
    order : (p_full,) int64
        Order of the columns; dependent ones (later in that order) drop out.
    wanted : (k,) int64
    coefficients : bool
        The wanted columns are the last of the order, and their own coefficients (of those kept) the basis.

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
    places = np.flatnonzero(np.isin(order[own.kept], wanted))
    rows = np.eye(own.kept.size)[places] if coefficients else R[places]
    out = np.zeros((places.size, p))
    out[:, order[own.kept]] = rows
    if own.dropped.size:
        combination = -own.null.tocsr()[own.kept].toarray()
        out[:, order[own.dropped]] = rows @ combination
    return out


def type1(coding: Coding, X_full: sp.csc_array, rank: Rank) -> list[tuple[str, sp.csr_array]]:
    """Sequential hypotheses: each term after those before it. Arguments and result as in `type3`."""
    order = np.arange(coding.p)
    everything = _triangle_rows(X_full, order, order)
    place = np.full(coding.p, -1)
    place[rank.kept] = np.arange(rank.kept.size)
    out = []
    for term, columns in zip(coding.terms, term_columns(coding), strict=True):
        rows = place[columns]
        out.append((term.label, sp.csr_array(everything[rows[rows >= 0]])))
    return out


def type2(coding: Coding, X_full: sp.csc_array, rank: Rank) -> list[tuple[str, sp.csr_array]]:
    """Each term after all others that do not contain it. Arguments and result as in `type3`.

    Where nothing contains a term, that is its coefficients beside the columns of all others; they are its
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
        alone = len(columns) > 1 and not any(above)
        out.append((term.label, sp.csr_array(_triangle_rows(X_full, order, columns[i], alone))))
    return out
