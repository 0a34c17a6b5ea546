"""Whether one model is a special case of another, as far as their parts tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.least_squares import least_squares
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.results.row_variances import term_covariance
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.residuals.within_subject import WithinSubjectResiduals

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures


# Whether the covariances of the coefficients are parameters, of structures that are linear in theirs.
LINEAR = {"us": True, "diag": False}
# Pairs of rows of each kind, steps between them in the order of the levels, and parameters that are judged.
PAIRS, STEPS, MOST_DIRECTIONS = 400, (1, 2, 5), 400


def fixed_part_within(inner: FitFigures, outer: FitFigures) -> bool:
    """The columns of one fit are functions of those of the other."""
    A, B = outer.design.X, inner.design.X
    if A.shape == B.shape and (A - B).count_nonzero() == 0:
        return True
    columns = standardized_columns(inner).toarray()
    _, gap = least_squares(standardized_columns(outer), np.ones(len(columns)), columns)
    return bool(np.abs(gap).max(initial=0.0) <= 1e-8 * np.abs(columns).max(initial=1.0))


def standardized_columns(fit: FitFigures) -> sp.csc_array:
    """Fixed columns (n, p) of the equations, centred and scaled, for the rows of the data."""
    e = fit.solved.equations
    rotated = getattr(e, "rotation", None) is not None
    return sp.csc_array(fit.design.X @ e.to_user) if rotated else e.X_inside


def is_nested(inner: FitFigures, outer: FitFigures) -> bool:
    """Whether `inner` may be a special case of `outer`: nothing that is judged speaks against it.

    Judged are the fixed parts; whether the covariances of rows that plain terms and residuals of `inner` make
    are sums of those that `outer` has; and the covariances that were estimated for `inner`: whether `outer`
    could have them, for the residual within subjects and for terms that stand alone for their group in both
    fits, as several share what they explain.
    """
    if not fixed_part_within(inner, outer) or not _rows_covary_within(inner, outer):
        return False
    ours, theirs = _covariances(inner), _covariances(outer)
    shared = [(ours[place][1], theirs[place][0]) for place in ours.keys() & theirs.keys()]
    # a structure without parameters leaves the variance to a relationship of its own
    return all(structure.takes(T) for T, structure in shared if structure.n_theta)


def _rows_covary_within(inner: FitFigures, outer: FitFigures) -> bool:
    """Whether every dV / dt of the plain terms of `inner` is a sum of those of `outer`, on a sample of pairs.

    True where `outer` has what is not linear in its parameters, holds some, or has very many.
    """
    theirs = [LINEAR.get(term.structure) for term in outer.design.random if _has_own_levels(term)]
    if None in theirs or len(theirs) < len(outer.design.random) or outer.design.residual.kind != "units":
        return True
    size = sum(len(term.columns) ** 2 for term in outer.design.random)
    if outer.prepared.fixed_parameters or size > MOST_DIRECTIONS:
        return True
    mine = [term for term in inner.design.random if _has_own_levels(term) and term.structure in LINEAR]
    first, second = _pairs_of_rows([*mine, *outer.design.random], inner.nobs)
    A = np.column_stack([
        *(_directions(term, first, second) for term in outer.design.random),
        _residual_directions(outer, first, second),
    ])  # fmt: skip
    B = [_directions(term, first, second) for term in mine]
    if inner.design.residual.kind == "units":
        B.append(_residual_directions(inner, first, second))
    if not B:
        return True
    wanted = np.column_stack(B)
    size_A, size_B = (np.abs(M).max(axis=0, initial=0.0) for M in (A, wanted))
    A, wanted = A[:, size_A > 0.0] / size_A[size_A > 0.0], wanted[:, size_B > 0.0] / size_B[size_B > 0.0]
    gap = wanted - A @ np.linalg.lstsq(A, wanted, rcond=1e-12)[0]
    return bool(np.abs(gap).max(initial=0.0) <= 1e-6)


def _has_own_levels(term: Any) -> bool:
    """Whether levels of a random term are independent, and every row has one or none."""
    return not term.is_spline and term.relation is None and not term.further_layers


def _pairs_of_rows(terms: Sequence[Any], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (k,), (k,) of rows: some with themselves, and some that have a level in common."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(n)[:PAIRS]
    first, second = [rows], [rows]
    for term in terms:
        order = rng.permutation(n)
        order = order[np.argsort(term.codes[order], kind="stable")]  # levels together, their rows shuffled
        for step in STEPS:
            same = term.codes[order[step:]] == term.codes[order[:-step]]
            own = rng.permutation(np.flatnonzero(same & (term.codes[order[step:]] >= 0)))[:PAIRS]
            first.append(order[own])
            second.append(order[own + step])
    return np.concatenate(first), np.concatenate(second)


def _directions(term: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Derivatives (k, t) of the covariance of k pairs of rows by the (co)variances of a term."""
    same = (term.codes[first] == term.codes[second]) & (term.codes[first] >= 0)
    values = np.asarray(term.values, float)
    if LINEAR[term.structure]:  # any basis of the columns will do: one that years leave well conditioned
        values = np.linalg.qr(values / np.maximum(np.abs(values).max(axis=0), 1e-300))[0]
    z, w = values[first] * same[:, None], values[second]
    m = z.shape[1]
    places = [(a, b) for a in range(m) for b in range(a, m if LINEAR[term.structure] else a + 1)]
    return np.column_stack([z[:, a] * w[:, b] + (z[:, b] * w[:, a] if a != b else 0.0) for a, b in places])


def _residual_directions(fit: FitFigures, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The same (k, r) of independent residuals, one variance for each of r groups."""
    own = np.where(first == second, 1.0 if fit.weights is None else 1.0 / fit.weights[first], 0.0)
    if fit.design.residual.by is None:
        return np.asarray(own[:, None])
    codes = fit.design.residual.by[2]
    return np.asarray(own[:, None] * (codes[first][:, None] == np.unique(codes)))


def _covariances(fit: FitFigures) -> dict[Any, tuple[CoefficientStructure, np.ndarray]]:
    """Structure and estimate (m, m) by group and coefficients, and of the residual by its arms."""
    solved, out = fit.solved, dict[Any, tuple[CoefficientStructure, np.ndarray]]()
    groups = [random.group for random in fit.design.random]
    for k, random in enumerate(fit.design.random):
        if not random.is_spline and groups.count(random.group) == 1:
            structure = solved.equations.terms[k].structure
            out[random.group, tuple(random.columns)] = structure, term_covariance(fit, k)
    if not isinstance(solved, StructuredSolution):
        return out
    residual, theta = solved.equations.residual, solved.theta[solved.equations.slices[1]]
    if isinstance(residual, WithinSubjectResiduals):
        for arm, structure in enumerate(residual.structures):
            own = theta[residual.first[arm] : residual.first[arm + 1]]
            out[fit.design.residual.group, arm] = structure, structure.covariance(own)
    return out
