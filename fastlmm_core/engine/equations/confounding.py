"""Random terms, and effects of them, within the fixed part: the data say nothing of their variance.

One rule for both engines. Coefficients a (m,) of a term with Z (I (x) a) = X M for some M form a space N. Of
V, REML knows what is orthogonal to X: of a term's T only M T M', where the rows of M span what is
orthogonal to N. Parameters that move T but not M T M' are told by no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from fastlmm_core.engine.equations.least_squares import WeightedRegression
from fastlmm_core.errors import InferenceError, name_list
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
# Share of a coefficient in a space of coefficients that is none, or, short of one, all.
SHARE = 1e-6


class RandomEffects(Protocol):
    """What is asked of a random term: m coefficients of each level, in the inside basis."""

    @property
    def m(self) -> int: ...
    @property
    def n_levels(self) -> int: ...
    @property
    def structure(self) -> CoefficientStructure: ...


# Z_a r (n, m) of every coefficient a of term k, for r (L,).
Columns = Callable[[int, np.ndarray], np.ndarray]


class Confounded(NamedTuple):
    """Spaces N (m, c) of random terms: of `terms` that lie as a whole within X, and of parts of others."""

    terms: dict[int, np.ndarray]
    parts: dict[int, np.ndarray]


def combinations_within_fixed(
    regression: WeightedRegression, terms: Sequence[RandomEffects], columns: Columns
) -> dict[int, np.ndarray]:
    """Random terms with parameters that do not matter, and the space N (m, c) of each."""
    if not regression.X.shape[1]:
        return {}
    found = {}
    for k, term in enumerate(terms):
        N = _space_within(regression, term, partial(columns, k))
        if N.shape[1] and (N.shape[1] == term.m or own_parameters(term.structure, N)):
            found[k] = N
    return found


def _space_within(
    regression: WeightedRegression, term: RandomEffects, columns: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """N (m, c) of a term; of no columns where its coefficients depend on each other and on nothing else.

    Random effects r of the levels stand for all: (I - P) [Z_1 r ... Z_m r] a is zero for a in N. That a few r
    have another such a in common happens only for a set of them without measure.
    """
    rng, (n, p), m = probing(), regression.X.shape, term.m
    tried = [columns(rng.normal(size=term.n_levels))]
    size = np.linalg.norm(tried[0], axis=0)
    scale = np.where(size > 0.0, size, 1.0)
    left = [regression.fit(tried[0] / scale)[1]]
    if m == 1:
        return np.eye(1)[:, : int(np.linalg.norm(left[0]) <= WITHIN)]
    if _null_space(left[0]).shape[1]:
        for _ in range(COMBINATIONS + m // max(n - p, 1)):
            tried.append(columns(rng.normal(size=term.n_levels)))
            left.append(regression.fit(tried[-1] / scale)[1])
    null = _null_space(np.vstack(left))
    alone = _null_space((np.vstack(tried) / scale)[:, size > 0.0]).shape[1] if null.shape[1] else 0
    N = null / scale[:, None]
    return N / np.linalg.norm(N, axis=0) if null.shape[1] > alone else null[:, :0]


def _null_space(A: np.ndarray) -> np.ndarray:
    """(m, c) directions that A (k, m) with columns of about unit length sends to zero, but for rounding."""
    sizes, rows = np.linalg.svd(np.linalg.qr(A, mode="r"))[1:]
    return np.asarray(rows[int(np.count_nonzero(sizes > WITHIN)) :].T)


def split_whole(found: dict[int, np.ndarray], terms: Sequence[RandomEffects]) -> Confounded:
    """What of the random part is within X as a whole, and what of the rest."""
    whole = {k: N for k, N in found.items() if N.shape[1] == terms[k].m}
    return Confounded(whole, {k: N for k, N in found.items() if k not in whole})


def coefficients_of(N: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, bool]:
    """The user's coefficients in N (m, c), and whether it is these and no combination of them.

    Parameters
    ----------
    basis : (m, m)
        u_user = basis u_inside.

    Examples
    --------
    >>> import numpy as np
    >>> coefficients_of(np.array([[1.0], [0.0], [0.0]]), np.eye(3))
    (array([0]), True)
    >>> coefficients_of(np.array([[1.0], [0.0], [1.0]]), np.eye(3))
    (array([0, 2]), False)
    """
    size = np.linalg.norm(np.linalg.inv(basis), axis=0)  # of the user's columns, those inside being of one
    Q = np.linalg.qr(size[:, None] * (basis @ N))[0]
    share = np.sum(Q**2, axis=1)
    alone = np.flatnonzero(share > 1.0 - SHARE)
    if alone.size == N.shape[1]:
        return alone, True
    return np.flatnonzero(share > SHARE), False


def confounded_error(groups: Sequence[str]) -> InferenceError:
    """Why a random term that lies within the fixed part as a whole leaves no figure of uncertainty."""
    return InferenceError(
        f"the variance of random term {name_list(dict.fromkeys(groups))} cannot be estimated, because it "
        "lies within the fixed part; drop it from the random or from the fixed part"
    )


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
        columns = np.column_stack(tried)
        left = np.linalg.norm(regression.fit(columns)[1], axis=0)
        spanned = (left <= WITHIN * np.linalg.norm(columns, axis=0)).tolist()
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
        if own.structure is None or own_parameters(own.structure, np.eye(own.structure.m)[:, [own.visit]])
    )  # fmt: skip


def _by_structure(
    groups: Sequence[ResidualGroup],
) -> Iterator[tuple[slice, tuple[CoefficientStructure, np.ndarray]]]:
    """Of the visits among `groups`: places in theta, structure and their unit vectors (m, c)."""
    visits: dict[tuple[int, int], list[ResidualGroup]] = {}
    for group in groups:
        if group.structure is not None:
            visits.setdefault((group.own.start, group.own.stop), []).append(group)
    for shared in visits.values():
        structure = shared[0].structure
        yield shared[0].own, (structure, np.eye(structure.m)[:, [own.visit for own in shared]])


def flat_residuals(groups: Sequence[ResidualGroup], theta: np.ndarray) -> np.ndarray:
    """Directions (j, t) of the residual's theta (t,) along which the restricted likelihood stays."""
    unit = np.eye(theta.size)
    whole = [unit[group.own] for group in groups if group.structure is None]
    visits = [_flat(s, theta[own], N) @ unit[own] for own, (s, N) in _by_structure(groups)]
    return np.vstack([unit[:0], *whole, *visits])


def own_parameters(structure: CoefficientStructure, N: np.ndarray) -> int:
    """Parameters that move T only where N (m, c) is."""
    if not structure.n_theta:
        return 0
    theta = probing(1).uniform(0.2, 0.6, structure.n_theta)  # anywhere but at a bound
    moved, told = (np.linalg.matrix_rank(_moves(structure, theta, M)) for M in (np.eye(len(N)), beside(N)))
    return int(moved - told)


def moves_alone(structure: CoefficientStructure, j: int) -> bool:
    """Whether some change of theta moves T_jj and nothing else of T."""
    if not structure.n_theta:
        return False
    theta = probing(1).uniform(0.2, 0.6, structure.n_theta)  # anywhere but at a bound
    row, column = np.tril_indices(structure.m)
    moved = structure.covariance_jacobian(theta)[:, row, column]
    alone = ((row == j) & (column == j)).astype(np.float64)
    return bool(np.linalg.matrix_rank(np.vstack([moved, alone])) == np.linalg.matrix_rank(moved))


def count_untold(
    terms: Sequence[RandomEffects], within: dict[int, np.ndarray], groups: Sequence[ResidualGroup] = ()
) -> int:
    """Parameters of spaces `within` X and of `groups` of the residual: the data say nothing of them."""
    of_terms = sum(own_parameters(terms[k].structure, N) for k, N in within.items())
    whole = sum(group.own.stop - group.own.start for group in groups if group.structure is None)
    return of_terms + whole + sum(own_parameters(*inside) for _, inside in _by_structure(groups))


def beside(N: np.ndarray) -> np.ndarray:
    """M (m - c, m) with orthonormal rows and M N = 0."""
    return np.asarray(np.linalg.svd(N)[0][:, N.shape[1] :].T)


def _moves(structure: CoefficientStructure, theta: np.ndarray, M: np.ndarray) -> np.ndarray:
    """(t, s) with the products and the rank of M dT M' (t, .), s <= t."""
    row, column = np.tril_indices(len(M))
    moved = (M @ structure.covariance_jacobian(theta) @ M.T)[:, row, column]
    return np.asarray(np.linalg.qr(moved.T)[1].T)


def flat_parameters(
    terms: Sequence[RandomEffects], slices: Sequence[tuple[slice, slice]], theta: np.ndarray,
    within: dict[int, np.ndarray],
) -> np.ndarray:  # fmt: skip
    """Directions (j, t) of theta that move T only in the spaces `within` X.

    The restricted likelihood does not change along them, nor does it tell rotations of loadings.
    """
    unit = np.eye(theta.size)
    rows = [unit[:0]]
    for k, N in within.items():
        own = slices[k][0]
        rows.append(_flat(terms[k].structure, theta[own], N) @ unit[own])
    return np.vstack(rows)


def _flat(structure: CoefficientStructure, theta: np.ndarray, N: np.ndarray) -> np.ndarray:
    """Directions (j, t) of theta (t,) that move T only where N (m, c) is."""
    whole = np.linalg.norm(_moves(structure, theta, np.eye(len(N))), axis=1)
    moving = np.flatnonzero(whole > STILL * whole.max(initial=0.0))  # others are at a bound
    left, sizes, _ = np.linalg.svd(_moves(structure, theta, beside(N))[moving])
    known = int(np.count_nonzero(sizes > FLAT * max(float(np.max(sizes, initial=0.0)), 1e-300)))
    out = np.zeros((moving.size - known, theta.size))
    out[:, moving] = left[:, known:].T
    return out


def fixed_shares(
    regression: WeightedRegression, terms: Sequence[RandomEffects], columns: Columns,
    within: dict[int, np.ndarray], groups: Sequence[ResidualGroup] = (),
) -> np.ndarray:  # fmt: skip
    """M (p, c) of Z (I (x) a) R = X M, the effects a of the spaces `within` X, and the rows of `groups`.

    The variance of K beta has a term with a' T a, or the residual's, unless K M = 0. A few random
    combinations R of the levels stand for all: K M R is zero only where K M is, but for a set of R without
    measure.
    """
    rng, (n, p) = probing(2), regression.X.shape
    parts = [np.zeros((p, 0))]
    for k, N in within.items():
        own = [columns(k, rng.normal(size=terms[k].n_levels)) @ N for _ in range(COMBINATIONS)]
        parts.append(regression.fit(np.hstack(own))[0])
    for group in groups:
        rows = rng.normal(size=(group.rows.size, min(group.rows.size, COMBINATIONS)))
        parts.append(regression.fit(values_on_rows(group.rows, rows, n))[0])
    return np.hstack(parts)


def values_on_rows(rows: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """(n, c) with `values` (k, c) on `rows` (k,) and zeros elsewhere."""
    out = np.zeros((n, values.shape[1]))
    out[rows] = values
    return out
