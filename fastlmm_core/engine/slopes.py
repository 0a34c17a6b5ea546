"""The pairs (f, g) of the parameters of random terms, without what is zero in them.

A parameter of Lambda moves few of its entries: one, where theta are the entries.  So h_t = dF_t s, of
f_t = W h_t, has numbers only where the level's coefficient is in the rows of Lambda that t moves, and
g_t = dF_t' W' R^-1 e only in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations

# H (q, t) by rows: pointers (q + 1,), parameters, values.
RowSlopes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PriorPlaces:
    """Where the g_t of one term have numbers: a column for every parameter t and spherical coefficient c.

    Attributes
    ----------
    rows : (L, P) int64
        Spherical scalars.
    parameters : (P,) int64
        t in theta, those of one c side by side.
    blocks : tuple of slice
        The columns of every c.
    order : (P,) int64 or None
        From the parameters of Lambda followed by those of the levels; None where that is theirs already.
    """

    rows: np.ndarray
    parameters: np.ndarray
    blocks: tuple[slice, ...]
    order: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, parameters: np.ndarray) -> PriorPlaces:
        """For the spherical scalars (L, r) of a term, and c and t of every column (P,)."""
        order = np.argsort(columns, kind="stable")
        columns = columns[order]
        cuts = np.flatnonzero(np.diff(columns, prepend=-1, append=-1)).tolist()
        sorted_already = np.array_equal(order, np.arange(order.size))
        return cls(
            rows[:, columns], parameters[order], tuple(slice(*own) for own in pairwise(cuts)),
            None if sorted_already else order,
        )  # fmt: skip


@dataclass(frozen=True)
class PriorSlopes:
    """The g_t of one term: `values` (L, P) at `places`."""

    places: PriorPlaces
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
    prior : PriorPlaces
        With the level parameters of the term behind.
    column_weights : (m, P')
        dLambda_t of the columns.
    """

    jacobian: np.ndarray
    coefficients: np.ndarray
    parameters: np.ndarray
    row_weights: np.ndarray
    prior: PriorPlaces
    column_weights: np.ndarray

    @classmethod
    def of(cls, jacobian: np.ndarray, rows: np.ndarray, own: slice, level: slice) -> TermSlopes:
        """For the spherical scalars (L, r) of the term, and its coefficient and level parameters in theta."""
        coefficient, parameter = np.nonzero(jacobian.any(axis=2).T)
        column, mover = np.nonzero(jacobian.any(axis=1).T)
        width, of_levels = rows.shape[1], np.arange(level.start, level.stop)
        columns = np.concatenate([column, np.repeat(np.arange(width), of_levels.size)])
        prior = PriorPlaces.of(rows, columns, np.concatenate([own.start + mover, np.tile(of_levels, width)]))
        weights = jacobian[parameter, coefficient].T
        return cls(jacobian, coefficient, own.start + parameter, weights, prior, jacobian[mover, :, column].T)


def term_slopes(e: StructuredEquations, theta: np.ndarray) -> dict[int, TermSlopes]:
    """Of the terms that have parameters; those whose dLambda is constant are kept."""
    known = e.__dict__.setdefault("_term_slopes", {})
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if term.structure.n_theta or term.n_level_theta:
            if k in known and not term.structure.n_theta:
                continue
            jacobian = term.structure.loadings_jacobian(theta[own])
            if k not in known or known[k].jacobian is not jacobian:
                known[k] = TermSlopes.of(jacobian, e.spherical.rows[k], own, level)
    return dict(known)


@dataclass(frozen=True)
class RowPlaces:
    """Where H has numbers.

    Attributes
    ----------
    terms : dict of int to TermSlopes
        Those whose places they are.
    pointers, parameters : int64 arrays
        As of `RowSlopes`.
    at : dict of int to (L, P) int64
        Places of the values of every term.
    """

    terms: dict[int, TermSlopes]
    pointers: np.ndarray
    parameters: np.ndarray
    at: dict[int, np.ndarray]

    @classmethod
    def of(cls, e: StructuredEquations, terms: dict[int, TermSlopes]) -> RowPlaces:
        counts = np.zeros(e.natural.size + 1, np.int64)
        several = {k: np.bincount(own.coefficients, minlength=e.terms[k].m) for k, own in terms.items()}
        for k, count in several.items():
            counts[1 + e.natural.rows[k]] = count
        pointers, at = np.cumsum(counts), {}
        parameters = np.empty(pointers[-1], np.int64)
        for k, own in terms.items():
            within = np.arange(own.coefficients.size) - (np.cumsum(several[k]) - several[k])[own.coefficients]
            at[k] = pointers[e.natural.rows[k][:, own.coefficients]] + within
            parameters[at[k]] = own.parameters
        return cls(terms, pointers, parameters, at)


def row_places(e: StructuredEquations, terms: dict[int, TermSlopes]) -> RowPlaces:
    """Kept until a term moves other rows, or by other weights."""
    known: RowPlaces | None = e.__dict__.get("_row_places")
    if known is None or any(known.terms.get(k) is not own for k, own in terms.items()):
        known = e.__dict__["_row_places"] = RowPlaces.of(e, terms)
    return known


def row_slopes(e: StructuredEquations, terms: dict[int, TermSlopes], s: np.ndarray) -> RowSlopes:
    """H (q, t) of h_t = dF_t s for the parameters of Lambda, for spherical s (q',)."""
    places = row_places(e, terms)
    values = np.empty(places.parameters.size)
    for k, own in terms.items():
        values[places.at[k]] = s[e.spherical.rows[k]] @ own.row_weights
    return places.pointers, places.parameters, values


def prior_slopes(
    e: StructuredEquations, terms: dict[int, TermSlopes], theta: np.ndarray, s: np.ndarray, q: np.ndarray
) -> dict[int, PriorSlopes]:
    """g_t of the terms that have parameters, for s (q',) and q = W' R^-1 e (q,)."""
    out = {}
    for k, own in terms.items():
        term, (_, level) = e.terms[k], e.slices[0][k]
        values = q[e.natural.rows[k]] @ own.column_weights
        if term.n_level_theta:
            assert term.levels is not None
            rows = e.spherical.rows[k]
            moved = e.prior_slopes(k, term.levels.coefficients(theta[level])[1], s)[rows]
            values = np.concatenate([values, -moved.reshape(rows.shape[0], -1)], axis=1)
        out[k] = PriorSlopes(own.prior, values if own.prior.order is None else values[:, own.prior.order])
    return out


def subtract_slopes(g: dict[int, PriorSlopes], B: np.ndarray) -> None:
    """B (q', t) -= g, in place."""
    for part in g.values():
        B[part.places.rows, part.places.parameters] -= part.values


def prior_inverse_form(e: StructuredEquations, theta: np.ndarray, g: dict[int, PriorSlopes]) -> np.ndarray:
    """g' P^-1 g (t, t): P^-1 joins the levels of one spherical coefficient of a term."""
    out = np.zeros((e.n_theta, e.n_theta))
    for k, part in g.items():
        levels, values = e.terms[k].levels, part.values
        moved = values if levels is None else levels.multiply_covariance(theta[e.slices[0][k][1]], values)
        for block in part.places.blocks:
            t = part.places.parameters[block]
            out[t[:, None], t] += values[:, block].T @ moved[:, block]
    return out
