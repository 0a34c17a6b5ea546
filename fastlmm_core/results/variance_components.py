"""Variance components in the user's units, their standard errors, and boundary terms in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.design import Design
from fastlmm_core.kernels.thresholds import BOUNDARY
from fastlmm_core.reml.information import information_matrix, natural_parameters
from fastlmm_core.reml.solved import SolvedEquations

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel


def user_theta(solved: SolvedEquations) -> np.ndarray:
    """Relative Cholesky factors (n_theta,) of the coefficients as the user wrote them."""
    parts = [t.structure.theta_of(solved.user_covariance(k)) for k, t in enumerate(solved.equations.terms)]
    return np.concatenate(parts) if parts else np.zeros(0)


def name_theta(design: Design, solved: SolvedEquations) -> tuple[str, ...]:
    """lme4's names of `user_theta`: group and coefficient, or both coefficients below the diagonal."""
    names = []
    for term, layout in zip(design.random, solved.equations.terms, strict=True):
        for row, col in layout.structure.positions:
            inner = term.columns[row] if row == col else f"{term.columns[row]}.{term.columns[col]}"
            names.append(f"{term.group}.{inner}")
    return tuple(names)


def variance_component_table(fit: FittedModel) -> pd.DataFrame:
    """group, var1, var2, estimate, sd_or_cor, se; groups with several terms are numbered as lme4 does."""
    solved, s2 = fit.plain, fit.plain.user_sigma2
    errors = _standard_errors(solved)
    seen: Counter[str] = Counter()
    rows: list[tuple[str, str | None, str | None, float, float, float]] = []
    for k, term in enumerate(fit.design.random):
        label = term.group if not seen[term.group] else f"{term.group}.{seen[term.group]}"
        seen[term.group] += 1
        T = s2 * solved.user_covariance(k)
        sd = np.sqrt(np.diag(T))
        m = len(term.columns)
        for a in range(m):
            rows.append((label, term.columns[a], None, T[a, a], sd[a], errors[k][a, a]))
        if solved.equations.terms[k].structure.name != "diag":
            for a in range(m):
                for b in range(a + 1, m):
                    product = sd[a] * sd[b]
                    cor = T[a, b] / product if product > 0 else np.nan
                    rows.append((label, term.columns[a], term.columns[b], T[a, b], cor, errors[k][a, b]))
    rows.append(("Residual", None, None, s2, float(np.sqrt(s2)), errors[-1][0, 0]))
    return pd.DataFrame(rows, columns=["group", "var1", "var2", "estimate", "sd_or_cor", "se"]).astype(
        {"var1": object, "var2": object}
    )


def _standard_errors(solved: SolvedEquations) -> list[np.ndarray]:
    """Asymptotic standard errors of sigma2 T_k (m, m) by term and, last, of sigma2 (1, 1), units of y."""
    parameters = natural_parameters(solved)
    d = parameters.size
    terms = solved.equations.terms
    if solved.sigma2 <= 0.0:
        return [np.full((t.m, t.m), np.nan) for t in terms] + [np.full((1, 1), np.nan)]
    information = information_matrix(solved, parameters, "average")
    interior = np.ones(d + 1, bool)
    for j in range(d):
        if terms[parameters.term[j]].m == 1 and parameters.values[j] == 0.0:
            interior[j] = False
    cov = np.full((d + 1, d + 1), np.nan)
    inner = information[np.ix_(interior, interior)]
    scale = np.sqrt(np.maximum(np.diag(inner), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = inner / np.outer(scale, scale)
    if np.isfinite(scaled).all():  # not so where the residual variance is next to nothing
        values, vectors = np.linalg.eigh(scaled)
        if values[0] > 1e-12:
            cov[np.ix_(interior, interior)] = (vectors / values) @ vectors.T / np.outer(scale, scale)
    out = []
    for k, term in enumerate(terms):
        mine = np.flatnonzero(parameters.term == k)
        moved = np.array(
            [term.basis @ parameters.directions[j][: term.m, : term.m] @ term.basis.T for j in mine]
        )
        variance = np.einsum("iab,ij,jab->ab", moved, cov[np.ix_(mine, mine)], moved)
        out.append(np.sqrt(np.maximum(variance, 0.0)) if np.isfinite(variance).all() else variance)
    return [error * solved.unit * solved.unit for error in (*out, np.sqrt(cov[d:, d:]))]


def describe_singular(design: Design, solved: SolvedEquations) -> tuple[str, ...]:
    """Plain words for every term whose relative covariance is singular (standardized scale)."""
    words = []
    for k, term in enumerate(design.random):
        layout = solved.equations.terms[k]
        at = solved.equations.theta_term == k
        diagonal = np.abs(solved.theta[at][layout.structure.diagonal])
        if not np.any(diagonal < BOUNDARY):
            continue
        T = solved.user_covariance(k)
        standard = (
            np.diag(solved.relative_covariance(k)) if layout.m == 1 else _standard_variances(T, layout.basis)
        )
        zero = [term.columns[a] for a in range(layout.m) if standard[a] < BOUNDARY**2]
        if zero:
            words.append(
                f"the variance of {', '.join(zero)} between levels of {term.group} is estimated as zero"
            )
        elif layout.m == 2:
            sign = "+1" if T[0, 1] > 0 else "-1"
            words.append(
                f"the correlation of {term.columns[0]} and {term.columns[1]} in {term.group} is {sign}"
            )
        else:
            words.append(
                f"the covariance matrix of {', '.join(term.columns)} in {term.group} has a lower rank than "
                "its size"
            )
    return tuple(words)


def _standard_variances(T: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Variances of the user's coefficients in units in which every column has mean square about one."""
    mean_square = np.sum(np.linalg.inv(basis) ** 2, axis=0)  # (basis basis')^-1 itself loses half the digits
    return np.diag(T) * mean_square
