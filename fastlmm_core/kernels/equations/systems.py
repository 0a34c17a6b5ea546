"""The arrays that kernels of small systems share, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Pattern(NamedTuple):
    """Lower triangle of C in elimination order; N nodes of one or more scalars.

    Attributes
    ----------
    indptr : (size + 1,), indices : (nnz,)
        Scalar pattern, sorted columns.
    below_ptr : (N + 1,), below : (.,)
        Nodes that meet each node, below it.
    start : (N + 1,) int64
        First scalar of each node.
    term : (N,) int64
        Random term of each node; K for fixed columns.
    """

    indptr: np.ndarray
    indices: np.ndarray
    below_ptr: np.ndarray
    below: np.ndarray
    start: np.ndarray
    term: np.ndarray


class System(NamedTuple):
    """F' G F + penalty and the pattern of its factor.

    Attributes
    ----------
    G, penalty : (nnz,) float64
    pattern : Pattern
    position : (nnz,) int64
        Place of every entry of C in L.
    L_indptr, L_indices
        Pattern of the factor.
    """

    G: np.ndarray
    penalty: np.ndarray
    pattern: Pattern
    position: np.ndarray
    L_indptr: np.ndarray
    L_indices: np.ndarray


class Problem(NamedTuple):
    """What the criterion of one response needs beside its system.

    Attributes
    ----------
    rhs : (size, 1) float64
    yy : float
    dof : float
        n - p for REML, n for ML.
    n_lead : int
        Rows whose determinant is in the criterion.
    """

    rhs: np.ndarray
    yy: float
    dof: float
    n_lead: int


class Parameters(NamedTuple):
    """Where theta sits in the factors Lambda.

    Attributes
    ----------
    sizes : (K,) int64
        Coefficients per level of each term.
    term, row, col : (n_theta,) int64
    """

    sizes: np.ndarray
    term: np.ndarray
    row: np.ndarray
    col: np.ndarray


class Entries(NamedTuple):
    """[Z X] by observation; see ``kernels.equations.crossproducts``."""

    row_ptr: np.ndarray
    row_node: np.ndarray
    row_val: np.ndarray
    values: np.ndarray


class Columns(NamedTuple):
    """Sparse columns."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


class TrialEquations(NamedTuple):
    """The equations of one trial.

    Attributes
    ----------
    entries : Entries
    system : System
    level : (N,) int64
        Level within the term, or fixed column.
    columns : Columns
        Fixed columns as used inside.
    shift, scale : (p,) float64
        x_inside = (x - shift) / scale.
    L_ptr, L_below : node pattern of the factor
    """

    entries: Entries
    system: System
    level: np.ndarray
    columns: Columns
    shift: np.ndarray
    scale: np.ndarray
    L_ptr: np.ndarray
    L_below: np.ndarray


class TrialDesign(NamedTuple):
    """What the units of one design share beside their equations.

    Attributes
    ----------
    search : System
        What the search works on: without the fixed columns that come first in the order.
    lead : (.,) float64
        Columns of L of the fixed columns taken out.
    log_lead : float
        Their part of log |C|.
    L_fixed : (nnz(L),) float64
        Factor of blockdiag(I, X'WX), for least squares.
    fixed_rows : (p,) int64
        Scalar of each fixed column.
    parameters : Parameters
    bases : (K, w, w) float64
        u = basis u_inside, zero padded.
    kept : (p,) int64; null : (p_full, lost); norm : (p_full,)
        Columns kept, null vectors and norms where some depend on others.
    p_full : int
        Columns before any was dropped.
    """

    search: System
    lead: np.ndarray
    log_lead: float
    L_fixed: np.ndarray
    fixed_rows: np.ndarray
    parameters: Parameters
    bases: np.ndarray
    kept: np.ndarray
    null: np.ndarray
    norm: np.ndarray
    p_full: int


class Groups(NamedTuple):
    """Random terms of a trial in the order of the equations.

    Attributes
    ----------
    order : (K,) int64
        Term of the formula at each place.
    counts : (K,) int64
        Levels.
    codes : (K, n) int64
    cells : (K, n) int64
        Cell of the grouping of every level, cells[k, :counts[k]].
    values : (n, sum of widths) float64
    widths, diagonal : (K,) int64
        Coefficients per level; 1 where they are independent.
    """

    order: np.ndarray
    counts: np.ndarray
    codes: np.ndarray
    cells: np.ndarray
    values: np.ndarray
    widths: np.ndarray
    diagonal: np.ndarray


class TrialFit(NamedTuple):
    """The optimum of one unit in the inside parametrisation, as in ``reml.solved.SolvedEquations``.

    Attributes
    ----------
    numbers : (4,) float64
        Criterion, sigma2, iterations, singular.
    theta : (n_theta,); factors : (K + 1, w, w); L : (nnz(L),)
    coefficients, projected : (size, 1)
        F s and Z'Py.
    beta : (p,)
        With the least squares start.
    Z : (nnz(L),) float64
        C^-1 on the pattern of L where the search has left it, else empty.
    """

    numbers: np.ndarray
    theta: np.ndarray
    factors: np.ndarray
    L: np.ndarray
    coefficients: np.ndarray
    projected: np.ndarray
    beta: np.ndarray
    Z: np.ndarray
