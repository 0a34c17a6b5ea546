"""The pairs (f, g) of the parameters of random terms, without what is zero in them.

A parameter of Lambda moves few of its entries: one, where theta are the entries.  So h_t = dF_t s, of
f_t = W h_t, has numbers only where the level's coefficient is in the rows of Lambda that t moves, and
g_t = dF_t' W' R^-1 e only in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def row_slopes(e: StructuredEquations, theta: np.ndarray, s: np.ndarray) -> RowSlopes:
    """H (q, t) of h_t = dF_t s for the parameters of Lambda, for spherical s (q',)."""
    parts = []
    counts = np.zeros(e.natural.size + 1, np.int64)
    for k, (term, (own, _)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        if not term.structure.n_theta:
            continue
        jacobian = term.structure.loadings_jacobian(theta[own])
        coefficient, parameter = np.nonzero(jacobian.any(axis=2).T)  # by coefficients
        moved = s[e.spherical.rows[k]] @ jacobian[parameter, coefficient].T
        several = np.bincount(coefficient, minlength=term.m)
        counts[1 + e.natural.rows[k]] = several
        within = np.arange(coefficient.size) - (np.cumsum(several) - several)[coefficient]
        parts.append((e.natural.rows[k][:, coefficient], within, own.start + parameter, moved))
    pointers = np.cumsum(counts)
    parameters, values = np.empty(pointers[-1], np.int64), np.empty(pointers[-1])
    for rows, within, parameter, moved in parts:
        at = pointers[rows] + within
        parameters[at], values[at] = parameter, moved
    return pointers, parameters, values


def prior_slopes(
    e: StructuredEquations, theta: np.ndarray, s: np.ndarray, q: np.ndarray
) -> list[PriorSlopes]:
    """g_t of every term, for s (q',) and q = W' R^-1 e (q,)."""
    out = []
    for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        rows = e.spherical.rows[k]
        columns, parameters, values = [], [], []
        if term.structure.n_theta:
            jacobian = term.structure.loadings_jacobian(theta[own])
            parameter, column = np.nonzero(jacobian.any(axis=1))
            columns.append(column)
            parameters.append(own.start + parameter)
            values.append(q[e.natural.rows[k]] @ jacobian[parameter, :, column].T)
        if term.n_level_theta:
            assert term.levels is not None
            moved = e.prior_slopes(k, term.levels.coefficients(theta[level])[1], s)[rows]
            columns.append(np.repeat(np.arange(term.width), moved.shape[2]))
            parameters.append(np.tile(np.arange(level.start, level.stop), term.width))
            values.append(-moved.reshape(rows.shape[0], -1))
        if columns:
            column = np.concatenate(columns)
            order = np.argsort(column, kind="stable")
            column, value = column[order], np.concatenate(values, axis=1)[:, order]
            out.append(PriorSlopes(rows[:, column], np.concatenate(parameters)[order], column, value))
    return out


def subtract_slopes(g: list[PriorSlopes], B: np.ndarray) -> None:
    """B (q', t) -= g, in place."""
    for part in g:
        B[part.rows, part.parameters] -= part.values


def prior_inverse_form(e: StructuredEquations, theta: np.ndarray, g: list[PriorSlopes]) -> np.ndarray:
    """g' P^-1 g (t, t): P^-1 joins the levels of one spherical coefficient of a term."""
    out = np.zeros((e.n_theta, e.n_theta))
    moving = [k for k, (own, level) in enumerate(e.slices[0]) if level.stop > own.start]
    for k, part in zip(moving, g, strict=True):
        levels, values = e.terms[k].levels, part.values
        moved = values if levels is None else levels.multiply_covariance(theta[e.slices[0][k][1]], values)
        cuts = np.flatnonzero(np.diff(part.columns, prepend=-1, append=-1))
        for start, stop in pairwise(cuts):
            t = part.parameters[start:stop]
            out[np.ix_(t, t)] += values[:, start:stop].T @ moved[:, start:stop]
    return out
