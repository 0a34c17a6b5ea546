"""Random terms, and coefficients of them, within the fixed part: the data say nothing of their variance."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from fastlmm_core.engine.least_squares import WeightedRegression
from fastlmm_core.engine.terms import EngineTerm
from fastlmm_core.kernels.thresholds import COMBINATIONS
from fastlmm_core.linalg.probes import probing
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.residuals.base import ResidualGroup, ResidualStructure

# Residual of Z r on X, relative to Z r, up to which Z is in the span of X.
WITHIN = 1e-9
# Singular value of what a direction of theta moves, relative to the largest, that is rounding.
FLAT = 1e-10
# What a parameter moves, relative to the one that moves most, below which it moves nothing.
STILL = 1e-6
# Groups of the residual that are tried together.
COLUMNS = 32


def terms_within_fixed(
    regression: WeightedRegression, terms: Sequence[EngineTerm]
) -> dict[int, tuple[int, ...]]:
    """Random terms with parameters that do not matter, and their coefficients whose columns are within X.

    One random combination Z r of each coefficient is tried: it is in the span of X only where all of Z is,
    but for a set of r without measure.
    """
    n, p = regression.X.shape
    if not p or not terms:
        return {}
    rng = probing()
    parts = [(k, M) for k, term in enumerate(terms) for M in term.matrices]
    tried = np.column_stack([M[:n] @ rng.normal(size=M.shape[1]) for _, M in parts])
    inside = _are_spanned(regression, tried)
    of_term = np.array([k for k, _ in parts])
    found = {}
    for k, term in enumerate(terms):
        own = inside[of_term == k]
        if own.all() or (own.any() and own_parameters(term.structure, own)):
            found[k] = tuple(np.flatnonzero(own).tolist())
    return found


def groups_within_fixed(
    regression: WeightedRegression, residual: ResidualStructure
) -> tuple[ResidualGroup, ...]:
    """Groups of the residual whose rows the fixed part explains by themselves, such as a single plot's."""
    p, groups = regression.X.shape[1], [*residual.groups(), *residual.visit_groups()]
    few = [own for own in groups if own.rows.size <= p]
    if not few:
        return ()
    rng, n, found = probing(), regression.X.shape[0], list[ResidualGroup]()
    for first in range(0, len(few), COLUMNS):
        some = few[first : first + COLUMNS]
        tried = [values_on_rows(own.rows, rng.normal(size=(own.rows.size, 1)), n) for own in some]
        spanned = _are_spanned(regression, np.column_stack(tried)).tolist()
        found += [own for own, inside in zip(some, spanned, strict=True) if inside]
    whole = [own for own in found if own.structure is None]
    visits = [own for own in found if own.structure is not None and all(own.own != w.own for w in whole)]
    told = {(own.start, own.stop) for own, inside in _by_structure(visits) if own_parameters(*inside)}
    return (*whole, *(own for own in visits if (own.own.start, own.own.stop) in told))


def groups_of_one_row(residual: ResidualStructure) -> tuple[ResidualGroup, ...]:
    """Groups of the residual whose own variance rests on one row."""
    alone = [own for own in [*residual.groups(), *residual.visit_groups()] if own.rows.size == 1]
    return tuple(
        own for own in alone
        if own.structure is None or own_parameters(own.structure, _among(own.structure.m, [own.visit]))
    )  # fmt: skip


def _are_spanned(regression: WeightedRegression, columns: np.ndarray) -> np.ndarray:
    """Which of the columns (n, c) are in the span of X, (c,) bool."""
    left = regression.fit(columns)[1]
    return np.asarray(np.linalg.norm(left, axis=0) <= WITHIN * np.linalg.norm(columns, axis=0))


def _among(m: int, chosen: Collection[int]) -> np.ndarray:
    """Indicator (m,) bool of the places `chosen`."""
    out = np.zeros(m, bool)
    out[list(chosen)] = True
    return out


def _by_structure(
    groups: Sequence[ResidualGroup],
) -> Iterator[tuple[slice, tuple[CoefficientStructure, np.ndarray]]]:
    """Of the visits among `groups`: places in theta, structure and indicator (m,) of those that share it."""
    visits: dict[tuple[int, int], list[ResidualGroup]] = {}
    for group in groups:
        if group.structure is not None:
            visits.setdefault((group.own.start, group.own.stop), []).append(group)
    for shared in visits.values():
        structure = shared[0].structure
        yield shared[0].own, (structure, _among(structure.m, [own.visit for own in shared]))


def flat_residuals(groups: Sequence[ResidualGroup], theta: np.ndarray) -> np.ndarray:
    """Directions (j, t) of the residual's theta (t,) along which the restricted likelihood stays."""
    unit = np.eye(theta.size)
    whole = [unit[group.own] for group in groups if group.structure is None]
    visits = [_flat(s, theta[own], inside) @ unit[own] for own, (s, inside) in _by_structure(groups)]
    return np.vstack([unit[:0], *whole, *visits])


def own_parameters(structure: CoefficientStructure, chosen: np.ndarray) -> int:
    """Parameters of T that move it in rows and columns of the `chosen` (m,) coefficients alone."""
    if not structure.n_theta:
        return 0
    theta = probing(1).uniform(0.2, 0.6, structure.n_theta)  # anywhere but at a bound
    rest, moved = (np.linalg.matrix_rank(_moves(structure, theta, own)) for own in (~chosen, chosen | True))
    return int(moved - rest)


def count_untold(
    terms: Sequence[EngineTerm], within: dict[int, tuple[int, ...]], groups: Sequence[ResidualGroup]
) -> int:
    """Parameters of coefficients `within` X and of `groups` of the residual: the data say nothing of them."""
    of_terms = sum(
        own_parameters(terms[k].structure, _among(terms[k].m, inside)) for k, inside in within.items()
    )
    whole = sum(group.own.stop - group.own.start for group in groups if group.structure is None)
    return of_terms + whole + sum(own_parameters(*inside) for _, inside in _by_structure(groups))


def _moves(structure: CoefficientStructure, theta: np.ndarray, of: np.ndarray) -> np.ndarray:
    """(t, s) with the products and the rank of dT (t, .) among the coefficients `of` (m,) bool, s <= t."""
    row, column = np.tril_indices(int(np.count_nonzero(of)))
    moved = structure.covariance_jacobian(theta)[:, of][:, :, of][:, row, column]
    return np.asarray(np.linalg.qr(moved.T)[1].T)


def flat_parameters(
    terms: Sequence[EngineTerm], slices: Sequence[tuple[slice, slice]], theta: np.ndarray,
    within: dict[int, tuple[int, ...]],
) -> np.ndarray:  # fmt: skip
    """Directions (j, t) of theta that move T in the rows and columns of coefficients `within` X alone.

    The restricted likelihood does not change along them, nor does it tell rotations of loadings.
    """
    unit = np.eye(theta.size)
    rows = [unit[:0]]
    for k, inside in within.items():
        own, structure = slices[k][0], terms[k].structure
        rows.append(_flat(structure, theta[own], _among(structure.m, inside)) @ unit[own])
    return np.vstack(rows)


def _flat(structure: CoefficientStructure, theta: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Directions (j, t) of theta (t,) that move T in rows and columns of the `chosen` (m,) alone."""
    whole = np.linalg.norm(_moves(structure, theta, chosen | True), axis=1)
    moving = np.flatnonzero(whole > STILL * whole.max(initial=0.0))  # others are at a bound
    left, sizes, _ = np.linalg.svd(_moves(structure, theta, ~chosen)[moving])
    known = int(np.count_nonzero(sizes > FLAT * max(float(np.max(sizes, initial=0.0)), 1e-300)))
    out = np.zeros((moving.size - known, theta.size))
    out[:, moving] = left[:, known:].T
    return out


def fixed_shares(
    regression: WeightedRegression, terms: Sequence[EngineTerm], within: dict[int, tuple[int, ...]],
    groups: Sequence[ResidualGroup],
) -> np.ndarray:  # fmt: skip
    """M (p, c) of Z_a R = X M, the effects of the coefficients `within` X, and the rows of `groups`.

    The variance of K beta has a term with T_aa, or the residual's, unless Z_a = X M_a has K M_a = 0. A few
    random combinations R of the levels stand for all: K M_a R is zero only where K M_a is, but for a set of
    R without measure.
    """
    rng, (n, p) = probing(2), regression.X.shape
    parts = [np.zeros((p, 0))]
    for k, inside in within.items():
        for a in inside:
            Z = terms[k].matrices[a][:n]
            parts.append(regression.fit(Z @ rng.normal(size=(Z.shape[1], COMBINATIONS)))[0])
    for group in groups:
        own = rng.normal(size=(group.rows.size, min(group.rows.size, COMBINATIONS)))
        parts.append(regression.fit(values_on_rows(group.rows, own, n))[0])
    return np.hstack(parts)


def values_on_rows(rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """(n, c) with `values` (k, c) on `rows` (k,) and zeros elsewhere."""
    out = np.zeros((n, values.shape[1]))
    out[rows] = values
    return out
