"""What directions of the variance parameters do to a natural vector B = Z' U or to rows R U.

It is all that information, Satterthwaite and Kenward-Roger need:

    U' V_t U            U' V_t P V_u U          (Kenward & Roger 1997, with U = V^-1 X Phi K')
    y' P V_t P V_u P y                          (average information: U = P y)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from fastlmm_core.engine.factorized import FactorizedModel, FixedRows
from fastlmm_core.engine.information.directions import Direction, NaturalDirections
from fastlmm_core.engine.information.scale_direction import scale_shares, without_scale
from fastlmm_core.errors import InferenceError
from fastlmm_core.kernels.equations.assembly import multiply_symmetric
from fastlmm_core.reml.quadratic_forms import weighted_directions

# Numbers of products with directions that are kept beside each other.
LARGEST_KEPT = 30_000_000
# Columns that pass through products and solves together.
COLUMNS = 128
# Pieces of R^-1 up to which the product of each is kept: more of them than a fit has parameters.
FEW_PIECES = 6


def move_natural(model: FactorizedModel, direction: Direction, B: np.ndarray) -> np.ndarray:
    """D_t B of a random direction: V_t = Z D_t Z', B (q, r) natural, zero outside the term."""
    out = np.zeros_like(B)
    out[model.equations.natural.rows[direction.term]] = moved_rows(model, direction, B)
    return out


def moved_rows(model: FactorizedModel, direction: Direction, B: np.ndarray) -> np.ndarray:
    """The rows (L, m, r) of D_t B that are those of the term."""
    return next(moved_by_term(model, [direction], B))


def moved_by_term(
    model: FactorizedModel, directions: Sequence[Direction], B: np.ndarray
) -> Iterator[np.ndarray]:
    """The rows (L, m, r) of D_t B for directions t of one random term, in turn."""
    e, k = model.equations, directions[0].term
    term = e.terms[k]
    level = model.term_theta(k)[1]
    part = B[e.natural.rows[k]]

    def spread(V: np.ndarray) -> np.ndarray:
        if term.levels is None:
            return V
        return term.levels.multiply_covariance(level, V.reshape(V.shape[0], -1)).reshape(V.shape)

    inner = spread(part)
    for direction in directions:
        if direction.dT is not None:
            yield np.matmul(direction.dT, inner)
        else:
            assert term.levels is not None and direction.pieces is not None
            changed = term.levels.sum_of_pieces(direction.pieces) @ inner.reshape(part.shape[0], -1)
            T = term.structure.covariance(model.term_theta(k)[0])
            yield -np.matmul(T, spread(changed.reshape(part.shape)))


def covariance_gradients(
    model: FactorizedModel, directions: list[Direction], fixed: FixedRows, moved: Moved | None = None
) -> np.ndarray:
    """U' V_t U of every direction (t, r, r): d(K Phi K') / dt, inside scale.

    `moved` are the directions at the projected side of `fixed`, where they are known already.
    """
    moved = moved or Moved(model, directions, fixed.projected)
    out = np.empty((len(directions), fixed.count, fixed.count))
    for t, direction in enumerate(directions):
        if direction.term >= 0:
            out[t] = fixed.projected[model.equations.natural.rows[direction.term].ravel()].T @ moved.rows(t)
        else:
            assert direction.pieces is not None
            out[t] = -_residual_form(model, direction.pieces, fixed)
        out[t] = 0.5 * (out[t] + out[t].T)
    return out


def multiply_pieces(model: FactorizedModel, pieces: np.ndarray, B: np.ndarray) -> np.ndarray:
    """W' D W B for D = sum_b pieces_b E_b and B (q, r) natural."""
    e, out = model.equations, np.empty_like(B)
    multiply_symmetric(np.asarray(e.G_pieces @ pieces), e.natural.indptr, e.natural.indices, B, out)
    return out


def _residual_form(model: FactorizedModel, pieces: np.ndarray, fixed: FixedRows) -> np.ndarray:
    """N'W' D W N (r, r), N the natural side of `fixed`."""
    if model.residual_nearly_singular:
        return np.asarray(fixed.rows.T @ (model.equations.row_precision.at(pieces) @ fixed.rows))
    return np.asarray(fixed.natural.T @ multiply_pieces(model, pieces, fixed.natural))


def _residual_products(
    model: FactorizedModel, pieces: np.ndarray, fixed: FixedRows, by_piece: _ByPiece
) -> tuple[np.ndarray, np.ndarray]:
    """W' D W N (q, r) and N'W' D R D W N (r, r), N the natural side of `fixed`."""
    e, theta = model.equations, residual_theta(model)
    sandwich = e.residual.sandwich(theta, pieces)
    if sandwich is not None:
        return by_piece.product(pieces), fixed.natural.T @ by_piece.product(sandwich)
    rows = np.asarray(e.row_precision.at(pieces) @ fixed.rows)
    return e.residual.row_products(theta, rows, e.row_arrays[0], e.natural.size)


class _ByPiece:
    """W' D W B of B (q, r) for D = sum_b c_b E_b, the pieces' own products kept where they are few."""

    def __init__(self, model: FactorizedModel, B: np.ndarray):
        self._model, self._B = model, B
        count = model.equations.residual.n_pieces
        self._few = count <= FEW_PIECES and count * B.size <= LARGEST_KEPT

    @cached_property
    def _products(self) -> np.ndarray:
        unit = np.eye(self._model.equations.residual.n_pieces)
        return np.array([multiply_pieces(self._model, c, self._B) for c in unit])

    def product(self, c: np.ndarray) -> np.ndarray:
        """For coefficients c (b,)."""
        if not self._few:
            return multiply_pieces(self._model, c, self._B)
        return np.tensordot(c, self._products, axes=1)


def weighted_form(
    model: FactorizedModel, directions: list[Direction], weights: np.ndarray, fixed: FixedRows,
    moved: Moved | None = None,
) -> np.ndarray:  # fmt: skip
    """sum_tu w_tu U' V_t P V_u U (r, r), inside scale, for symmetric weights (t, t).

    With x = Z h - R D W N of every eigenvector of the weights, N the natural side of `fixed`: x' P x is
    x' R^-1 x less the square of L^-1 F' W' R^-1 x.  `moved` as of `covariance_gradients`.  Beside a residual
    that is nearly singular the difference has no digits: see `_squares_by_rows`.
    """
    r = fixed.count
    out = np.zeros((r, r))
    apart = without_scale(weights, scale_shares(model, directions))
    values, vectors = weighted_directions(apart, np.diag(weights))
    moved, by_piece = moved or Moved(model, directions, fixed.projected), _ByPiece(model, fixed.natural)
    at, at_once = moved.scalars, max(1, COLUMNS // max(r, 1))
    for first in range(0, values.size, at_once):
        group = np.arange(first, min(first + at_once, values.size))
        own, pieces = zip(*(moved.mixed(vectors[:, a]) for a in group), strict=True)
        natural = np.hstack(own)
        if model.residual_nearly_singular:
            rows = _rows_of(model, natural, pieces, fixed)
            for value, square in zip(values[group], _squares_by_rows(model, rows, r), strict=True):
                out += value * square
            continue
        product = np.empty_like(natural)
        multiply_symmetric(
            model.point.G, model.equations.natural.indptr, model.equations.natural.indices, natural, product
        )
        forms = [
            h[at].T @ Gh[at] for h, Gh in zip(own, np.split(product, group.size, axis=1), strict=True)
        ]
        for i, c in enumerate(pieces):
            if c.any():
                W_rows, square = _residual_products(model, c, fixed, by_piece)
                cross = own[i][at].T @ W_rows[at]
                forms[i] = forms[i] - cross - cross.T + square
                product[:, i * r : (i + 1) * r] -= W_rows
        half = model.factor.solve_lower(model.equations.gather(model.point.loadings, product))
        for value, form, part in zip(values[group], forms, np.split(half, group.size, axis=1), strict=True):
            out += value * (form - part.T @ part)
    return 0.5 * (out + out.T)


def _rows_of(
    model: FactorizedModel, natural: np.ndarray, pieces: Sequence[np.ndarray], fixed: FixedRows
) -> np.ndarray:
    """x = Z h - R D W N (n_rows, k r) of h (q, k r) and the k changes D of R^-1.

    W N is of the size of the residual variances: where these are near zero only its rows have digits.
    """
    e, theta = model.equations, residual_theta(model)
    rows, r = np.asarray(e.matrix @ natural), fixed.count
    for i, c in enumerate(pieces):
        if c.any():
            own = np.asarray(e.row_precision.at(c) @ fixed.rows)
            rows[:, i * r : (i + 1) * r] -= e.residual.multiply_covariance(theta, own)
    return rows


def _squares_by_rows(model: FactorizedModel, x: np.ndarray, r: int) -> list[np.ndarray]:
    """x' P x (r, r) of every r columns of x (n_rows, k r), as the least sum of squares

        x' P x = min_c (x - W F c)' R^-1 (x - W F c) + c' Q c,     C c = F' W' R^-1 x.

    An error of c counts by its square, and one step of refinement from the rows takes care of that.
    """
    e, point = model.equations, model.point
    prior = e.level_coefficients(model.theta)
    c: np.ndarray = np.zeros((e.spherical.size, x.shape[1]))
    left, pulled = x, c
    for _ in range(2):
        side = np.asarray(e.matrix.T @ np.asarray(point.precision @ left))
        c = c + model.factor.solve(e.gather(point.loadings, side) - pulled)
        left = x - np.asarray(e.matrix @ e.spread(point.loadings, c))
        pulled = e.multiply_prior(prior, c)
    weighted = np.asarray(point.precision @ left)
    parts = [slice(at, at + r) for at in range(0, x.shape[1], r)]
    return [left[:, own].T @ weighted[:, own] + c[:, own].T @ pulled[:, own] for own in parts]


class Moved:
    """D_t B of all random directions, kept where there is room, to be read again and again."""

    def __init__(self, model: FactorizedModel, directions: list[Direction], B: np.ndarray):
        self._model, self._directions, self._B = model, directions, B
        rows = model.equations.natural.rows
        numbers = sum(rows[own.term].size for own in directions if own.term >= 0) * B.shape[1]
        self._kept: dict[int, np.ndarray] | None = {} if numbers <= LARGEST_KEPT else None

    @cached_property
    def scalars(self) -> np.ndarray:
        """Natural scalars of the terms that have directions: all other rows of D_t B are zero."""
        terms = sorted({own.term for own in self._directions if own.term >= 0})
        rows = [self._model.equations.natural.rows[k].ravel() for k in terms]
        return np.concatenate([np.zeros(0, np.int64), *rows])

    def rows(self, t: int) -> np.ndarray:
        """The rows (L m, r) of D_t B that are those of the term."""
        if self._kept is None:
            return moved_rows(self._model, self._directions[t], self._B).reshape(-1, self._B.shape[1])
        if t not in self._kept:
            k = self._directions[t].term
            numbers = [u for u, own in enumerate(self._directions) if own.term == k]
            found = moved_by_term(self._model, [self._directions[u] for u in numbers], self._B)
            for u, part in zip(numbers, found, strict=True):
                self._kept[u] = part.reshape(-1, self._B.shape[1])
        return self._kept[t]

    def mixed(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """sum_t c_t D_t B of the random directions, and sum_t c_t pieces_t of the residual's (b,)."""
        e = self._model.equations
        natural, pieces = np.zeros_like(self._B), np.zeros(e.residual.n_pieces)
        for t, (value, direction) in enumerate(zip(c, self._directions, strict=True)):
            if direction.term >= 0:
                natural[e.natural.rows[direction.term].ravel()] += value * self.rows(t)
            else:
                pieces += value * direction.pieces
        return natural, pieces


def average_matrix(model: FactorizedModel, directions: list[Direction]) -> np.ndarray:
    """y' P V_t P V_u P y (t, t)."""
    e, point = model.equations, model.point
    t = len(directions)
    B = point.projected.copy()
    e.natural.leave_random(B)
    natural, pieces = np.zeros((e.natural.size, t)), np.zeros((t, e.residual.n_pieces))
    for at, direction in enumerate(directions):
        if direction.term >= 0:
            natural[:, at] = move_natural(model, direction, B)[:, 0]
        else:
            pieces[at] = direction.pieces
    moved = np.empty_like(natural)
    multiply_symmetric(point.G, e.natural.indptr, e.natural.indices, natural, moved)
    form = natural.T @ moved
    W, q = e.row_arrays[0], e.natural.size
    sides, own = e.residual.score_products(residual_theta(model), pieces, point.residual, W, q)
    cross = natural.T @ sides
    form += own - cross - cross.T
    half = model.factor.solve_lower(e.gather(point.loadings, moved - sides))
    return form - half.T @ half


def residual_theta(model: FactorizedModel) -> np.ndarray:
    """Parameters of the residual."""
    return model.theta[model.equations.slices[1]]


def curvature_form(
    model: FactorizedModel, natural: NaturalDirections, weights: np.ndarray, fixed: FixedRows
) -> np.ndarray:
    """sum_ij w_ij U' (d2V / dnatural_i dnatural_j) U (r, r), inside scale.

    Raises
    ------
    InferenceError
        Where second derivatives of a part of V are not available: autoregressions over levels and fields,
        splines of two variables.
    """
    e = model.equations
    out = np.zeros((fixed.count,) * 2)
    for term in e.terms:
        if term.levels is not None and not term.levels.linear:
            spline = term.levels.holds_variance
            kind = "splines of two variables" if spline else "autoregressions among levels"
            raise InferenceError(
                f"second derivatives of {kind} are not available; use second_derivatives=False"
            )
    for first, k, second in natural.second:
        own = slice(first, first + second.shape[0])
        dT = np.einsum("ij,ijab->ab", weights[own, own], second)
        out += fixed.projected.T @ move_natural(model, Direction(k, dT=dT), fixed.projected)
    theta, free = model.theta[e.slices[1]], model.free[e.slices[1]]
    if free.any() and not e.residual.linear:
        of_all = np.zeros((free.size, free.size))  # those that are held do not vary
        of_all[np.ix_(free, free)] = weights[natural.residual, natural.residual]
        U = model.point.precision @ fixed.rows
        try:
            moved = e.residual.multiply_second(theta, of_all, U)
        except NotImplementedError:
            raise InferenceError(
                "second derivatives of the residual's autoregressions are not available; use "
                "second_derivatives=False"
            ) from None
        out += U.T @ moved
    return 0.5 * (out + out.T)
