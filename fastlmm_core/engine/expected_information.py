"""Expected information tr(P V_t P V_u) of the parameters of any structures, from dense matrices.

Their size is that of the unknowns, where the residual allows it, or that of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.parameters import (
    Direction,
    move_natural,
    moved_by_term,
    residual_theta,
)

# Rows, or unknowns, up to which dense matrices of that size are formed.
DENSE_ROWS = 4000
# Numbers that these matrices may hold together, one for every parameter.
DENSE_NUMBERS = 5e8
# Operations below which dense matrices are not worth avoiding, and what differences of the gradient take in
# factorizations, a parameter.
LARGE_WORK = 5e8
DIFFERENCE_WORK = 24.0


def most_unknowns(n_parameters: int) -> int:
    """Unknowns up to which a dense matrix is formed for every one of the parameters."""
    return min(DENSE_ROWS, int(np.sqrt(DENSE_NUMBERS / max(n_parameters, 1))))


def expected_by_unknowns(model: FactorizedModel, directions: list[Direction]) -> np.ndarray | None:
    """tr(P V_t P V_u) (t, t) from dense matrices of the unknowns, however many rows there are.

    To `unknown_traces` comes tr(R^-1 R_t R^-1 R_u) - 2 tr(N W' dRinv_t R dRinv_u W) of the residual.  None
    where the residual's products are no sums of its pieces (fields).
    """
    e = model.equations
    rest = [t for t, direction in enumerate(directions) if direction.term < 0]
    pieces = residual_pieces(model, directions)[rest]
    inverse = UnknownInverse.of(model)
    own = e.residual.information_terms(residual_theta(model), pieces, piece_sums(model, inverse.N))
    if own is None:
        return None
    E, _ = unknown_traces(model, directions, inverse)
    E[np.ix_(rest, rest)] += own
    return E


@dataclass(frozen=True)
class UnknownInverse:
    """The inverse of the equations as a dense matrix of the natural unknowns.

    Attributes
    ----------
    half : (q', q)
        L^-1 F'; for ML without the fixed unknowns, so that V^-1 takes the place of P.
    N : (q, q)
        F C^-1 F'.
    """

    half: np.ndarray
    N: np.ndarray

    @classmethod
    def of(cls, model: FactorizedModel) -> UnknownInverse:
        half = leading_half(model, np.eye(model.equations.natural.size))
        return cls(half, half.T @ half)


def unknown_traces(
    model: FactorizedModel, directions: list[Direction], inverse: UnknownInverse
) -> tuple[np.ndarray, np.ndarray]:
    """What dense matrices of the unknowns give of tr(P V_t P V_u) (t, t), and M = W'PW (q, q).

    With A_u = -W' dRinv_u W and M = G - G N G:

        random, random      tr(M D_t M D_u)
        random, residual    tr(D_t K'A_u K),  K = I - N G
        residual, residual  tr(N A_t N A_u)

    M has no rows of fixed and missing unknowns.
    """
    e = model.equations
    random = [t for t, direction in enumerate(directions) if direction.term >= 0]
    rest = [t for t, direction in enumerate(directions) if direction.term < 0]
    pieces = residual_pieces(model, directions)
    E, M = np.zeros((len(directions),) * 2), np.zeros((0, 0))
    if random:
        G = dense_pieces(model, model.point.G)
        half_G = leading_half(model, G)  # not N G, whose entries cancel where a variance is large
        M = G - half_G.T @ half_G
        K = np.eye(e.natural.size) - inverse.half.T @ half_G
        e.natural.leave_random(M)
    own = {k: [t for t in random if directions[t].term == k] for k in {directions[t].term for t in random}}
    scalars = {k: e.natural.rows[k].ravel() for k in own}
    moved = {}
    for k, numbers in own.items():
        mine = [directions[t] for t in numbers]
        moved[k] = np.array([part.reshape(scalars[k].size, -1) for part in moved_by_term(model, mine, M)])
        if rest:
            for t, part in zip(numbers, moved_by_term(model, mine, K.T), strict=True):
                KDK = K[:, scalars[k]] @ part.reshape(scalars[k].size, -1)
                E[t, rest] = E[rest, t] = -(pieces[rest] @ piece_sums(model, KDK))
    for k, first in own.items():
        for j, second in own.items():
            if j >= k:
                left = moved[k][:, :, scalars[j]].reshape(len(first), -1)
                right = np.swapaxes(moved[j][:, :, scalars[k]], 1, 2).reshape(len(second), -1)
                E[np.ix_(first, second)] = left @ right.T
                E[np.ix_(second, first)] = E[np.ix_(first, second)].T
    products = {t: dense_pieces(model, np.asarray(e.G_pieces @ pieces[t])) @ inverse.N for t in rest}
    for at, t in enumerate(rest):
        for u in rest[at:]:
            E[t, u] = E[u, t] = np.sum(products[t] * products[u].T)
    return E, M


def dense_pieces(model: FactorizedModel, values: np.ndarray) -> np.ndarray:
    """The symmetric matrix (q, q) of values (nnz(G),) on the pattern of G."""
    side = model.equations.natural
    out = np.zeros((side.size, side.size))
    out[side.columns, side.indices] = values
    out[side.indices, side.columns] = values
    return out


def residual_pieces(model: FactorizedModel, directions: list[Direction]) -> np.ndarray:
    """Change of the coefficients of R^-1 in every direction (t, b), zeros for those of random terms."""
    out = np.zeros((len(directions), model.equations.residual.n_pieces))
    for at, direction in enumerate(directions):
        if direction.term < 0:
            out[at] = direction.pieces
    return out


def leading_half(model: FactorizedModel, B: np.ndarray) -> np.ndarray:
    """L^-1 F' B for B (q, r); for ML without the fixed unknowns, so that V^-1 takes the place of P."""
    e = model.equations
    half = model.factor.solve_lower(e.gather(model.point.loadings, B))
    return half[: e.spherical.size - e.p] if e.fixed_last and not model.reml else half


def piece_sums(model: FactorizedModel, N: np.ndarray) -> np.ndarray:
    """<N, W' E_b W> of every piece of R^-1 (b,), for symmetric N (q, q)."""
    side = model.equations.natural
    return np.asarray(model.equations.G_pieces.T @ side.both_triangles(N[side.columns, side.indices]))


def expected_by_rows(model: FactorizedModel, directions: list[Direction]) -> np.ndarray:
    """tr(P V_t P V_u) (t, t) from P (n, n) and the products V_t P."""
    e, point = model.equations, model.point
    R_inv = np.asarray(point.precision.toarray())
    half = leading_half(model, np.asarray(e.matrix.T @ R_inv))
    P = R_inv - half.T @ half
    B = np.asarray(e.matrix.T @ P)
    e.natural.leave_random(B)
    theta = model.theta[e.slices[1]]
    RP = e.residual.multiply_covariance(theta, P)
    products = []
    for direction in directions:
        if direction.term >= 0:
            products.append(np.asarray(e.matrix @ move_natural(model, direction, B)))
        else:
            assert direction.pieces is not None
            moved = np.asarray(e.row_precision.at(direction.pieces) @ RP)
            products.append(-e.residual.multiply_covariance(theta, moved))
    flat = np.array([M.ravel() for M in products])
    turned = np.array([M.T.ravel() for M in products])
    E = flat @ turned.T
    return 0.5 * (E + E.T)
