"""Effective dimensions: how many of the n dimensions of the data each part of a model takes.

With P of REML's quadratic form y'Py, that of a term of covariance V_k is tr(P V_k) (Rodriguez-Alvarez et al.
2015, Stat. Comput. 25, 941-957; 2018, Spatial Statistics 23, 52-71). In the equations it is
q_k - tr(P_k C^-1) with the prior precision P_k of the q_k effects; for a smoothing parameter lambda, the
derivative of log |P_k| in log lambda less lambda <C^-1, dP_k>. With the p fixed columns and tr(P R) they add
up to n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.components.structured_blocks import term_blocks

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures


def effective_dimension_table(fit: FitFigures) -> pd.DataFrame:
    """A row for the fixed part, each random term (each direction of a spline), and the residual.

    Columns: group, name, edf, size (columns of the fixed part, effects of a term, observations).
    """
    rows: list[tuple[str, str, float, int]] = [("fixed", "", float(fit.rank), fit.rank)]
    solved = fit.solved
    structured = isinstance(solved, StructuredSolution)
    dims = (
        structured_dimensions(solved) if isinstance(solved, StructuredSolution) else plain_dimensions(solved)
    )
    blocks = term_blocks(fit) if structured else []
    for k, term in enumerate(fit.design.random):
        if not term.is_spline:
            size = len(term.levels) * len(term.columns)
            rows.append((term.group, ", ".join(term.columns), float(dims[k]), size))
            continue
        for name, own in zip(term.names, blocks[k].extra["effective_dim"], strict=True):
            rows.append((term.group, name, max(0.0, float(own)), len(term.kept)))
    taken = sum(row[2] for row in rows)
    rows.append(("Residual", "", fit.nobs - taken, fit.nobs))
    return pd.DataFrame(rows, columns=["group", "name", "edf", "size"])


def plain_dimensions(solved: SolvedEquations) -> np.ndarray:
    """q_k - tr C^-1 of every term (K,): u = Lambda s with Var(s) = I."""
    e = solved.equations
    diagonal = solved.inverse_subset[e.indptr[:-1]]
    return np.array([rows.size - float(diagonal[rows].sum()) for rows in e.layout.random_rows])


def structured_dimensions(solution: StructuredSolution) -> np.ndarray:
    """q_k - tr(P_k C^-1) of every term (K,)."""
    e = solution.equations
    prior = np.asarray(e.P_pieces @ e.level_coefficients(solution.theta), dtype=float)
    products = prior * e.spherical.both_triangles(solution.inverse_subset.copy())
    by_scalar = np.bincount(e.spherical.columns, weights=products, minlength=e.spherical.size)
    return np.array([rows.size - float(by_scalar[rows].sum()) for rows in e.spherical.rows[: len(e.terms)]])
