"""Where terms, nodes and scalars of the profiled equations lie, and the basis of their coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.errors import DesignError
from fastlmm_core.kernels.equations.columns import orthonormal_basis
from fastlmm_core.kernels.thresholds import FAR
from fastlmm_core.structures import make_coefficient_structure
from fastlmm_core.structures.coefficients.entries import LinearEntries


@dataclass(frozen=True)
class TermLayout:
    """One random term inside the equations.

    Attributes
    ----------
    n_levels, m : int
        Levels, and coefficients per level.
    basis : (m, m) float64
        Z_inside = Z_user basis per level, hence u_user = basis u_inside, T_user = basis T_inside basis'.
    structure : LinearEntries
        Parametrisation of Lambda in the inside basis.
    """

    n_levels: int
    m: int
    basis: np.ndarray
    structure: LinearEntries


@dataclass(frozen=True)
class Layout:
    """Where nodes and scalars of the equations lie, in elimination order.

    Attributes
    ----------
    term : (N,) int64
        Random term of each node, K for a fixed column.
    level : (N,) int64
        Level within the term, or fixed column.
    start : (N + 1,) int64
        First scalar row of each node.
    fixed_rows : (p,) int64
        Scalar row of each fixed column.
    random_rows : tuple of (L_k, m_k) int64
        Scalar rows of the coefficients of every level, by term.
    """

    term: np.ndarray
    level: np.ndarray
    start: np.ndarray
    fixed_rows: np.ndarray
    random_rows: tuple[np.ndarray, ...]


def lay_out(
    term: np.ndarray, level: np.ndarray, size: np.ndarray, terms: Sequence[TermLayout], p: int
) -> Layout:
    """Where the nodes lie, by their term, level and number of scalars (N,) in elimination order."""
    start = np.concatenate(([0], np.cumsum(size))).astype(np.int64)
    fixed_rows = np.empty(p, np.int64)
    is_fixed = term == len(terms)
    fixed_rows[level[is_fixed]] = start[:-1][is_fixed]
    random_rows = []
    for k, t in enumerate(terms):
        mine = term == k
        rows = np.empty((t.n_levels, t.m), np.int64)
        rows[level[mine]] = start[:-1][mine][:, None] + np.arange(t.m)
        random_rows.append(rows)
    return Layout(term, level, start, fixed_rows, tuple(random_rows))


def standardize_term(term: Any) -> tuple[TermLayout, np.ndarray]:
    """Orthonormal basis of the coefficients of a term (unstructured) or unit scale (diagonal)."""
    values = np.ascontiguousarray(term.values, float)
    m = values.shape[1]
    diagonal = term.structure == "diag"
    shift = np.zeros(m) if diagonal else _far_means(values)
    if shift.any():
        values = values - shift
    basis = orthonormal_basis(values, diagonal)
    inside = values * basis[0, 0] if m == 1 else values @ basis
    if shift.any():  # x - shift is x - (shift / first) first, the first column being constant
        basis[0] -= shift / values[0, 0] @ basis
    structure = make_coefficient_structure(term.structure, m)
    if not isinstance(structure, LinearEntries):
        raise DesignError(f"structure '{term.structure}' does not allow a basis of its coefficients")
    return TermLayout(len(term.levels), m, basis, structure), inside


def _far_means(values: np.ndarray) -> np.ndarray:
    """Means (m,) of columns (n, m) far from zero beside a constant first one, zero for the others.

    Orthogonalised against the constant as they are, such columns lose as many digits as their mean is larger
    than what varies; their mean is taken out first, which is exact.
    """
    mean, spread = values.mean(axis=0), np.ptp(values, axis=0)
    far = (np.abs(mean) > FAR * spread) & (spread > 0.0)
    return np.where(far & (spread[0] == 0.0) & (values[0, 0] != 0.0), mean, 0.0)
