"""The pairs (f, g) of the parameters of random terms, without what is zero in them.

A parameter of Lambda moves few of its entries: one, where theta are the entries.  So h_t = dF_t s, of
f_t = W h_t, has numbers only where the level's coefficient is in the rows of Lambda that t moves, and
g_t = dF_t' W' R^-1 e only in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fastlmm_core.engine.equations import StructuredEquations

# H (q, t) by rows: pointers (q + 1,), parameters, values.
RowSlopes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PriorSlopes:
    """The g_t of one term, a column for every parameter t and spherical coefficient c that it moves.

    Attributes
    ----------
    rows : (L, P) int64
        Spherical scalars.
    parameters, columns : (P,) int64
        t in theta, and c, ascending.
    values : (L, P)
    """

    rows: np.ndarray
    parameters: np.ndarray
    columns: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class TermSlopes:
    """Which parameters of a term move which rows and columns of Lambda, and how much.

    Attributes
    ----------
    jacobian : (t, m, r)
        dLambda.
    coefficients, parameters : (P,) int64
        a and t of the rows a that are moved, by a; t in theta.
    row_weights : (r, P)
        dLambda_t of the row.
    prior : PriorSlopes
        With values dLambda_t of the columns, (m, P).
    """

    jacobian: np.ndarray
    coefficients: np.ndarray
    parameters: np.ndarray
    row_weights: np.ndarray
    prior: PriorSlopes

    @classmethod
    def of(cls, jacobian: np.ndarray, rows: np.ndarray, first: int) -> TermSlopes:
        """For the spherical scalars (L, r) of the term, and its first parameter."""
        coefficient, parameter = np.nonzero(jacobian.any(axis=2).T)
        column, mover = np.nonzero(jacobian.any(axis=1).T)
        prior = PriorSlopes(rows[:, column], first + mover, column, jacobian[mover, :, column].T)
        weights = jacobian[parameter, coefficient].T
        return cls(jacobian, coefficient, first + parameter, weights, prior)


def term_slopes(e: StructuredEquations, theta: np.ndarray) -> dict[int, TermSlopes]:
    """Of the terms with parameters of Lambda; those whose dLambda is constant are kept."""
    known = e.__dict__.setdefault("_term_slopes", {})
    for k, (term, (own, _)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if term.structure.n_theta:
            jacobian = term.structure.loadings_jacobian(theta[own])
            if k not in known or known[k].jacobian is not jacobian:
                known[k] = TermSlopes.of(jacobian, e.spherical.rows[k], own.start)
    return dict(known)


def row_slopes(e: StructuredEquations, terms: dict[int, TermSlopes], s: np.ndarray) -> RowSlopes:
    """H (q, t) of h_t = dF_t s for the parameters of Lambda, for spherical s (q',)."""
    counts = np.zeros(e.natural.size + 1, np.int64)
    several = {k: np.bincount(own.coefficients, minlength=e.terms[k].m) for k, own in terms.items()}
    for k, count in several.items():
        counts[1 + e.natural.rows[k]] = count
    pointers = np.cumsum(counts)
    parameters, values = np.empty(pointers[-1], np.int64), np.empty(pointers[-1])
    for k, own in terms.items():
        within = np.arange(own.coefficients.size) - (np.cumsum(several[k]) - several[k])[own.coefficients]
        at = pointers[e.natural.rows[k][:, own.coefficients]] + within
        parameters[at], values[at] = own.parameters, s[e.spherical.rows[k]] @ own.row_weights
    return pointers, parameters, values


def prior_slopes(
    e: StructuredEquations, terms: dict[int, TermSlopes], theta: np.ndarray, s: np.ndarray, q: np.ndarray
) -> dict[int, PriorSlopes]:
    """g_t of the terms that have parameters, for s (q',) and q = W' R^-1 e (q,)."""
    out = {}
    for k, own in terms.items():
        out[k] = replace(own.prior, values=q[e.natural.rows[k]] @ own.prior.values)
    for k, (term, (_, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if term.n_level_theta:
            assert term.levels is not None
            rows = e.spherical.rows[k]
            moved = e.prior_slopes(k, term.levels.coefficients(theta[level])[1], s)[rows]
            columns = np.repeat(np.arange(term.width), moved.shape[2])
            parameters = np.tile(np.arange(level.start, level.stop), term.width)
            out[k] = _joined(out.get(k), rows, columns, parameters, -moved.reshape(rows.shape[0], -1))
    return out


def _joined(
    known: PriorSlopes | None, rows: np.ndarray, columns: np.ndarray, parameters: np.ndarray,
    values: np.ndarray,
) -> PriorSlopes:  # fmt: skip
    """The slopes of a term and those of its level parameters, by columns."""
    if known is not None:
        columns = np.concatenate([known.columns, columns])
        parameters = np.concatenate([known.parameters, parameters])
        values = np.concatenate([known.values, values], axis=1)
    order = np.argsort(columns, kind="stable")
    return PriorSlopes(rows[:, columns[order]], parameters[order], columns[order], values[:, order])


def subtract_slopes(g: dict[int, PriorSlopes], B: np.ndarray) -> None:
    """B (q', t) -= g, in place."""
    for part in g.values():
        B[part.rows, part.parameters] -= part.values


def prior_inverse_form(e: StructuredEquations, theta: np.ndarray, g: dict[int, PriorSlopes]) -> np.ndarray:
    """g' P^-1 g (t, t): P^-1 joins the levels of one spherical coefficient of a term."""
    out = np.zeros((e.n_theta, e.n_theta))
    for k, part in g.items():
        levels, values = e.terms[k].levels, part.values
        moved = values if levels is None else levels.multiply_covariance(theta[e.slices[0][k][1]], values)
        cuts = np.flatnonzero(np.diff(part.columns, prepend=-1, append=-1))
        for start, stop in pairwise(cuts):
            t = part.parameters[start:stop]
            out[np.ix_(t, t)] += values[:, start:stop].T @ moved[:, start:stop]
    return out
