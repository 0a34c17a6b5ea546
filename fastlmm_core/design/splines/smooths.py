"""Smooths of one or two variables: basis on the rows, penalties and what these leave out, made once a grid.

What they mean stands in ``penalized_splines``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from fastlmm_core.design.coding.sparse_columns import rowwise_product
from fastlmm_core.design.splines.spline_axes import (
    SplineAxis,
    difference_penalty,
    equal_segments,
    smoothing_spline,
)

MOST_SEGMENTS = 40  # of nseg=auto, in one direction: the cost of a surface is cubic in their product

# Rows on which the prior variance of a smooth is averaged for its starting value.
SAMPLED_ROWS = 200
# Rows up to which a smooth is kept for the next trial whose plots are at the same places.
LARGEST_SHARED = 10_000


def segments_for(x: np.ndarray, degree: int, order: int) -> int:
    """Segments of ``nseg=auto``: one for two distinct values, 40 at most.

    They follow the number of positions, not their unit, and a field of 20 x 30 plots has 10 x 15. The penalty
    decides how smooth the trend is; the basis only has to be rich enough for it (Eilers & Marx 1996).
    """
    least = max(1, order + 1 - degree)
    return int(np.clip((np.unique(x).size + 1) // 2, least, MOST_SEGMENTS))


@dataclass(frozen=True)
class Smooth:
    """A penalized smooth at given places; shared, so that nobody may write into its arrays.

    Attributes
    ----------
    axes : tuple of SplineAxis
    segments : tuple of int
        Of every axis.
    pieces : tuple of (b, b) csc_array
    eigenvalues : (D, b)
    constant : float
    kept : (b,) int64
    basis : (n, b) csr_array
    polynomials : (n, j)
    unpenalized : (j, b)
        All of them as of ``SplineTerm``.
    typical_variance : float
        Variance, the same for all directions, at which the smooth has variance 1 on average over rows. It
        measures the units of the penalty, in which variances may lie many powers of ten from 1.
    """

    axes: tuple[SplineAxis, ...]
    segments: tuple[int, ...]
    pieces: tuple[sp.csc_array, ...]
    eigenvalues: np.ndarray
    constant: float
    kept: np.ndarray
    basis: sp.csr_array
    polynomials: np.ndarray
    unpenalized: np.ndarray
    typical_variance: float


def build_smooth(
    kind: str, degree: int, order: int, segments: tuple[int, ...] | None, values: Sequence[np.ndarray]
) -> Smooth:
    """The smooth ``"ps"`` or ``"spl"`` of variables (n,); their positions decide `segments` not given."""
    n = values[0].size
    if n > LARGEST_SHARED:
        return _smooth(kind, degree, order, segments, values)
    return _shared_smooth(kind, degree, order, segments, tuple(x.tobytes() for x in values))


@lru_cache(maxsize=16)
def _shared_smooth(
    kind: str, degree: int, order: int, segments: tuple[int, ...] | None, values: tuple[bytes, ...]
) -> Smooth:
    """`build_smooth` of variables as the bytes of their numbers."""
    return _smooth(kind, degree, order, segments, [np.frombuffer(x) for x in values])


def _smooth(
    kind: str, degree: int, order: int, segments: tuple[int, ...] | None, values: Sequence[np.ndarray]
) -> Smooth:
    segments = segments or tuple(segments_for(x, degree, order) for x in values)
    axes = tuple(
        smoothing_spline(x) if kind == "spl" else equal_segments(x, count, degree, order)
        for x, count in zip(values, segments, strict=True)
    )
    sizes = tuple(axis.size for axis in axes)
    pieces, eigenvalues, constant, kept = (
        _penalties(axes) if kind == "spl" else difference_pieces(sizes, order)
    )
    null, coordinates = _null_projection(axes)
    basis = axes[0].basis(values[0])
    if len(axes) == 2:
        basis = rowwise_product(axes[1].basis(values[1]), basis)
    polynomials, basis = np.asarray(basis @ null), sp.csr_array(basis[:, kept])
    basis.sum_duplicates()  # here, as who shares it may not
    return Smooth(
        axes, segments, pieces, eigenvalues, constant, kept, basis, polynomials, coordinates[:, kept],
        _typical_variance(basis, pieces),
    )  # fmt: skip


def _typical_variance(basis: sp.csr_array, pieces: tuple[sp.csc_array, ...]) -> float:
    rows = np.unique(np.linspace(0, basis.shape[0] - 1, SAMPLED_ROWS).astype(np.int64))
    sampled = basis[rows].toarray()
    Q = sp.csc_array(sum(pieces[1:], pieces[0]))
    spread = np.einsum("ib,bi->i", sampled, splu(Q).solve(np.ascontiguousarray(sampled.T)))
    return 1.0 / float(spread.mean())


@lru_cache(maxsize=16)
def difference_pieces(
    sizes: tuple[int, ...], order: int
) -> tuple[tuple[sp.csc_array, ...], np.ndarray, float, np.ndarray]:
    """`_penalties` of axes with so many coefficients each, which depend on nothing else."""
    return _penalties(tuple(SplineAxis(np.empty(0), 0, *difference_penalty(k, order)) for k in sizes))


def _null_projection(axes: tuple[SplineAxis, ...]) -> tuple[np.ndarray, np.ndarray]:
    """N (k, j) and A (j, k) of the projection N A of all coefficients onto the unpenalized polynomials."""
    null, coordinates = zip(*(axis.null_projection() for axis in axes), strict=True)
    return reduce(np.kron, null), reduce(np.kron, coordinates)


def _penalties(
    axes: tuple[SplineAxis, ...],
) -> tuple[tuple[sp.csc_array, ...], np.ndarray, float, np.ndarray]:
    """Pieces on the kept coefficients, their joint eigenvalues with the constant, and what is kept."""
    if len(axes) == 1:
        (axis,) = axes
        kept = np.setdiff1d(np.arange(axis.size), axis.dropped)
        piece = sp.csc_array(axis.penalty[kept][:, kept])
        constant = float(np.sum(np.log(np.abs(splu(piece).U.diagonal()))))
        return (piece,), np.ones((1, kept.size)), constant, kept
    first, second = axes
    corners = (first.dropped[:, None] * second.size + second.dropped).ravel()
    kept = np.setdiff1d(np.arange(first.size * second.size), corners)
    whole = (
        sp.kron(first.penalty, sp.eye_array(second.size), format="csc"),
        sp.kron(sp.eye_array(first.size), second.penalty, format="csc"),
    )
    pieces = tuple(sp.csc_array(piece[kept][:, kept]) for piece in whole)
    d, log_first = first.spectrum()
    e, log_second = second.spectrum()
    pairs = np.array([np.repeat(d, e.size), np.tile(e, d.size)])
    order = first.null.shape[1]
    constant = 2.0 * order * (log_first + log_second)
    return pieces, pairs[:, pairs.sum(axis=0) > 0.0], constant, kept
