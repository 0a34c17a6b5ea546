"""Conditional modes of the random effects with their prediction error and conditional variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, check_level, nearest_names
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.linalg import make_factor
from fastlmm_core.reml.equations import build_equations
from fastlmm_core.reml.objective import assemble_at
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.group_parts import group_errors, group_parts

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

Figures = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Up to here the conditional variance comes from one solve a fixed column; beyond from a factor of its own.
SOLVE_FIXED = 300


def blup_table(fit: FitFigures, term: str | None, level: float) -> pd.DataFrame:
    """One row a level and coefficient; see ``LMMFit.blups``."""
    groups = [t.group for t in fit.design.random]
    term = label_of(term) if isinstance(term, str) else term
    if term is not None and term not in groups:
        fixed = f"; it is in the fixed part, and random as (1|{term})" if term in fit.design.variables else ""
        raise OptionError(
            f"term={term!r} is not a grouping factor of this model{fixed}{nearest_names(str(term), groups)}"
        )
    level = check_level(level)
    tables = []
    shown = [
        k for k, own in enumerate(fit.design.random)
        if not own.is_spline and (term is None or own.group == term)
    ]  # fmt: skip
    for k, (estimate, own, given, prior) in zip(shown, level_figures(fit, shown), strict=True):
        random = fit.design.random[k]
        L, m = estimate.shape
        labels: dict[str, Any] = {
            "group": random.group,
            "level": np.repeat(np.asarray(random.levels, dtype=object), m),
            "term": np.tile(np.array(random.columns, dtype=object), L),
        }
        prior = np.broadcast_to(prior, estimate.shape)
        predicted = blup_columns(estimate.ravel(), own.ravel(), given.ravel(), prior.ravel(), level)
        tables.append(pd.DataFrame({**labels, **predicted}))
    columns = ["group", "level", "term", "estimate", "se", "pev", "condvar", "reliability", "lower", "upper"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def blup_columns(
    estimate: np.ndarray, pev: np.ndarray, given: np.ndarray, prior: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """Figures of predictions (r,): estimate, se, pev, condvar, reliability, lower, upper.

    Parameters
    ----------
    pev, given, prior : (r,)
        Prediction error variance, variance given the data and the fixed effects, and that of the effect.
    level : float
        Of the limits, which are normal ones.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        reliability = np.where(prior > 0, 1.0 - pev / prior, 0.0)
    se = np.sqrt(pev)
    margin = ndtri(0.5 + 0.5 * level) * se
    return {
        "estimate": estimate, "se": se, "pev": pev, "condvar": given, "reliability": reliability,
        "lower": estimate - margin, "upper": estimate + margin,
    }  # fmt: skip


def ranef_tables(fit: FitFigures) -> dict[str, pd.DataFrame]:
    """Conditional modes by grouping factor; terms on one factor are joined."""
    out: dict[str, pd.DataFrame] = {}
    for k, random in enumerate(fit.design.random):
        if random.is_spline:
            continue
        values = user_effects(fit, k) + group_parts(fit, k)
        frame = pd.DataFrame(
            values, index=pd.Index(random.levels, name=random.group), columns=list(random.columns)
        )
        earlier = [out[random.group]] if random.group in out else []
        out[random.group] = pd.concat([*earlier, frame], axis=1)
    return out


def user_effects(fit: FitFigures, k: int) -> np.ndarray:
    """Predictions of term k (L, m) in the user's coefficients."""
    if isinstance(fit.solved, StructuredSolution):
        return fit.solved.random_effects(k)
    return fit.solved.user_random_effects(k)


def level_figures(fit: FitFigures, terms: Sequence[int] | None = None) -> list[Figures]:
    """`effect_figures` of the levels with their fixed genetic groups: of u = a + Q g where effects are a."""
    terms = range(len(fit.design.random)) if terms is None else terms
    out = []
    for k, (estimate, pev, given, prior) in zip(terms, effect_figures(fit, terms), strict=True):
        parts = group_parts(fit, k)
        own = pev if np.ndim(parts) == 0 else pev + group_errors(fit, k)
        out.append((estimate + parts, own, given, prior))
    return out


def effect_figures(
    fit: FitFigures, terms: Sequence[int] | None = None
) -> list[Figures]:
    """Prediction, prediction error variance, conditional variance and variance (L, m) of every term.

    Or of some `terms`, in the order in which these are given.
    """
    solved = fit.solved
    terms = range(len(fit.design.random)) if terms is None else terms
    if isinstance(solved, StructuredSolution):
        out = []
        for k in terms:
            prior = np.outer(solved.level_variance(k), np.diag(solved.covariance(k)))
            pev = solved.prediction_error(k)
            out.append((solved.random_effects(k), pev, solved.conditional_variance(k, pev), prior))
        return out
    pev_blocks, given_blocks = prediction_error_blocks(solved), conditional_variance_blocks(fit)
    out = []
    for k in terms:
        pev = np.diagonal(pev_blocks[k], axis1=1, axis2=2)
        given = np.diagonal(given_blocks[k], axis1=1, axis2=2)
        out.append((user_effects(fit, k), pev, given, fit.term_variances(k)))
    return out


def prediction_error_blocks(solved: SolvedEquations) -> list[np.ndarray]:
    """Var(u_hat - u) of every level, (L_k, m, m) in the user's coefficients: sigma2 Lambda C^aa Lambda'."""
    return _level_blocks(
        solved, solved.inverse_subset, solved.equations.indptr, solved.equations.layout.random_rows
    )


def prediction_error_sums(solved: SolvedEquations, k: int) -> tuple[float, float]:
    """Sum of the diagonal, and of all elements, of the prediction error covariance of intercepts."""
    e = solved.equations
    rows = e.layout.random_rows[k][:, 0]
    factor = e.terms[k].basis[0, 0] * solved.factors[k, 0, 0]
    if not solved.relative_covariance(k).any():
        return 0.0, 0.0
    scale = solved.user_sigma2 * factor**2
    ones = np.zeros((e.q + e.p, 1))
    ones[rows] = 1.0
    total = float(solved.factor.solve(ones)[rows].sum())
    return scale * float(solved.inverse_subset[e.indptr[rows]].sum()), scale * total


def conditional_variance_blocks(fit: FitFigures) -> list[np.ndarray]:
    """Var(u | y, beta) of every level, (L_k, m, m): sigma2 Lambda (C_zz^-1)_aa Lambda'."""
    solved = fit.plain
    e = solved.equations
    if e.p > SOLVE_FIXED:
        alone = build_equations(
            fit.design.X,
            fit.design.random,
            weights=e.weights,
            has_intercept=fit.design.has_intercept,
            fixed_last=True,
            weak_columns=fit.design.weak_columns,
        )
        factor = make_factor(alone, factorization=fit.prepared.factorization)
        factor.factorize(assemble_at(alone, solved.factors))
        return _level_blocks(solved, factor.inverse_subset(alone.q), alone.indptr, alone.layout.random_rows)
    blocks = _level_blocks(solved, solved.inverse_subset, e.indptr, e.layout.random_rows)
    rhs = np.zeros((e.q + e.p, e.p))
    rhs[e.layout.fixed_rows, np.arange(e.p)] = 1.0
    columns = solved.factor.solve(rhs)
    phi = columns[e.layout.fixed_rows]
    half = np.linalg.solve(np.linalg.cholesky(phi), columns.T).T
    out = []
    for k, term in enumerate(e.terms):
        rows = e.layout.random_rows[k]
        factor_k = term.basis @ solved.factors[k, : term.m, : term.m]
        part = np.einsum("ab,lbp->lap", factor_k, half[rows])
        block = blocks[k] - solved.user_sigma2 * part @ np.swapaxes(part, 1, 2)
        out.append(block)
    return out


def _level_blocks(
    solved: SolvedEquations, C_inv: np.ndarray, indptr: np.ndarray, random_rows: tuple[np.ndarray, ...]
) -> list[np.ndarray]:
    """sigma2 B Lambda (C^-1)_aa Lambda' B' of every level from the inverse on the pattern of C."""
    out = []
    for k, term in enumerate(solved.equations.terms):
        rows = random_rows[k]
        L, m = rows.shape
        block = np.empty((L, m, m))
        for c in range(m):
            for r in range(c, m):
                block[:, r, c] = block[:, c, r] = C_inv[indptr[rows[:, c]] + r - c]
        factor = term.basis @ solved.factors[k, :m, :m]
        T = solved.relative_covariance(k)
        if not T.any():
            out.append(np.zeros((L, m, m)))
        else:
            out.append(solved.user_sigma2 * factor @ block @ factor.T)
    return out
