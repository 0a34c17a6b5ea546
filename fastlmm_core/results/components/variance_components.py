"""Variance components in the user's units, their standard errors, and boundary terms in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from fastlmm_core.design import Design
from fastlmm_core.inference.component_figures import component_errors, user_covariances
from fastlmm_core.kernels.thresholds import BOUNDARY
from fastlmm_core.reml.information import average_matrix, natural_parameters, untold_directions
from fastlmm_core.reml.optimizer import WITHOUT_RESIDUAL
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


class ComponentTerm(NamedTuple):
    """What the rows of a random term are called.

    Attributes
    ----------
    group : str
    columns : tuple of str
        Its m coefficients.
    diagonal : bool
        They are independent.
    """

    group: str
    columns: tuple[str, ...]
    diagonal: bool


ComponentNames = list[tuple[str, str | None, str | None]]


def component_table_of(
    terms: Sequence[ComponentTerm], covariance: np.ndarray, errors: np.ndarray, sigma2: np.ndarray,
    sigma2_error: np.ndarray,
) -> tuple[ComponentNames, np.ndarray]:  # fmt: skip
    """Names (group, var1, var2) of the R components of a model, and their figures in U fits of it.

    Groups with several terms are numbered as lme4 does.

    Parameters
    ----------
    covariance, errors : (U, K, w, w)
        Of the coefficients of the terms, in the user's units, and their standard errors.
    sigma2, sigma2_error : (U,)

    Returns
    -------
    names : list of R tuples
    figures : (U, R, 3) float64
        estimate, sd_or_cor, se.
    """
    seen: Counter[str] = Counter()
    names: ComponentNames = []
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for k, term in enumerate(terms):
        label = term.group if not seen[term.group] else f"{term.group}.{seen[term.group]}"
        seen[term.group] += 1
        m = len(term.columns)
        T, se = covariance[:, k], errors[:, k]
        sd = np.sqrt(T[:, range(m), range(m)])
        for a in range(m):
            names.append((label, term.columns[a], None))
            parts.append((T[:, a, a], sd[:, a], se[:, a, a]))
        for a in range(m if not term.diagonal else 0):
            for b in range(a + 1, m):
                product = sd[:, a] * sd[:, b]
                with np.errstate(divide="ignore", invalid="ignore"):
                    cor = np.where(product > 0.0, T[:, a, b] / product, np.nan)
                names.append((label, term.columns[a], term.columns[b]))
                parts.append((T[:, a, b], cor, se[:, a, b]))
    names.append(("Residual", None, None))
    parts.append((sigma2, np.sqrt(sigma2), sigma2_error))
    return names, np.array(parts).transpose(2, 0, 1)


def component_figures(fit: FittedModel, *, errors: bool = True) -> tuple[ComponentNames, np.ndarray]:
    """Names of the R components of one fit and their figures, as `component_table_of` has them.

    Parameters
    ----------
    errors : bool
        Without them se is NaN, and no information is computed.

    Returns
    -------
    names : list of R tuples
    figures : (R, 3) float64
    """
    solved = fit.plain
    terms = [
        ComponentTerm(random.group, random.columns, term.structure.name == "diag")
        for random, term in zip(fit.design.random, solved.equations.terms, strict=True)
    ]
    natural, e, bases = natural_parameters(solved), solved.equations, term_bases(solved)
    values, sigma2 = natural.values[None], np.array([solved.sigma2])
    average = np.full((1, natural.size + 1, natural.size + 1), np.nan)
    # without a residual variance the estimates are rounding, which has no error
    if errors and solved.sigma2 > 0.0 and fit.optimum.status != WITHOUT_RESIDUAL:
        average[0] = average_matrix(solved, natural)
    covariance = user_covariances(e.parameters, values, bases, sigma2)
    untold = untold_directions(natural, fit._confounded.parts) if errors else None
    found = component_errors(e.parameters, values, bases, average, sigma2, untold)
    square = solved.unit * solved.unit
    se, sigma2_se = (error * square for error in found)
    names, figures = component_table_of(terms, covariance * square, se, sigma2 * square, sigma2_se)
    return names, figures[0]


def variance_component_table(fit: FittedModel) -> pd.DataFrame:
    """group, var1, var2, estimate, sd_or_cor, se of one fit."""
    names, figures = component_figures(fit)
    rows = [(*name, *own) for name, own in zip(names, figures.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["group", "var1", "var2", "estimate", "sd_or_cor", "se"]).astype(
        {"var1": object, "var2": object}
    )


def term_bases(solved: SolvedEquations) -> np.ndarray:
    """Bases (1, K, w, w) of the terms of a fit, zero padded, as `user_covariances` takes them."""
    e = solved.equations
    bases = np.zeros((1, len(e.terms), e.width, e.width))
    for k, term in enumerate(e.terms):
        bases[0, k, : term.m, : term.m] = term.basis
    return bases


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
            words.append(zero_variances(zero, term.group))
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


def zero_variances(columns: Sequence[str], group: str) -> str:
    """Coefficients of a grouping factor without variance, in words."""
    return f"the variance of {', '.join(columns)} between levels of {group} is estimated as zero"


def _standard_variances(T: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Variances of the user's coefficients in units in which every column has mean square about one."""
    mean_square = np.sum(np.linalg.inv(basis) ** 2, axis=0)  # (basis basis')^-1 itself loses half the digits
    return np.diag(T) * mean_square
