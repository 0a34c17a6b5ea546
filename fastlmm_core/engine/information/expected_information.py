"""Expected information tr(P V_t P V_u) of the parameters of any structures, from dense matrices.

Their size is that of the unknowns, where the residual allows it, or that of the rows.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.factorized import FactorizedModel
from fastlmm_core.engine.information.direction_products import move_natural, moved_by_term, residual_theta
from fastlmm_core.engine.information.directions import Direction

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

    With N = F C^-1 F', A_u = -W' dRinv_u W, and M = W'PW = G - G N G:

        random, random      tr(M D_t M D_u)
        random, residual    tr(D_t K'A_u K),  K = I - N G
        residual, residual  tr(R^-1 R_t R^-1 R_u) - 2 tr(N W' dRinv_t R dRinv_u W) + tr(N A_t N A_u)

    None where the residual's products are no sums of its pieces (fields).
    """
    e = model.equations
    random = [t for t, direction in enumerate(directions) if direction.term >= 0]
    rest = [t for t, direction in enumerate(directions) if direction.term < 0]
    pieces = np.array([directions[t].pieces for t in rest]).reshape(len(rest), e.residual.n_pieces)
    half = leading_half(model, np.eye(e.natural.size))
    N = half.T @ half
    own = e.residual.information_terms(residual_theta(model), pieces, piece_sums(model, N))
    if own is None:
        return None
    E = np.zeros((len(directions),) * 2)
    products = np.empty((len(rest), *N.shape))
    for into, row in zip(products, pieces, strict=True):
        into[:] = dense_pieces(model, np.asarray(e.G_pieces @ row)) @ N
    E[np.ix_(rest, rest)] = own + paired_traces(products, products)
    if random:
        _add_random(model, directions, half, pieces, E)
    return E


def _add_random(
    model: FactorizedModel, directions: list[Direction], half: np.ndarray, pieces: np.ndarray, E: np.ndarray
) -> None:
    """Rows and columns of the random terms in E (t, t), for half = L^-1 F' and residual pieces (u, b)."""
    e = model.equations
    rest = [t for t, direction in enumerate(directions) if direction.term < 0]
    by_term: dict[int, list[int]] = {}
    for t, direction in enumerate(directions):
        if direction.term >= 0:
            by_term.setdefault(direction.term, []).append(t)
    scalars = {k: e.natural.rows[k].ravel() for k in by_term}
    G = dense_pieces(model, model.point.G)
    half_G = leading_half(model, G)  # not N G, whose entries cancel where a variance is large
    M = G - half_G.T @ half_G
    K = np.eye(e.natural.size) - half.T @ half_G
    moved = {}
    for k, numbers in by_term.items():
        mine = [directions[t] for t in numbers]
        moved[k] = np.array([part.reshape(scalars[k].size, -1) for part in moved_by_term(model, mine, M)])
        if rest:
            for t, part in zip(numbers, moved_by_term(model, mine, K.T), strict=True):
                KDK = K[:, scalars[k]] @ part.reshape(scalars[k].size, -1)
                E[t, rest] = E[rest, t] = -(pieces @ piece_sums(model, KDK))
    for k, first in by_term.items():
        for j, second in by_term.items():
            if j >= k:
                block = paired_traces(moved[k][:, :, scalars[j]], moved[j][:, :, scalars[k]])
                E[np.ix_(first, second)], E[np.ix_(second, first)] = block, block.T


def paired_traces(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """tr(A_t B_u) (t, u) of matrices A (t, n, x) and B (u, x, n)."""
    flat = np.swapaxes(right, 1, 2).reshape(len(right), left.shape[1] * left.shape[2])
    return np.asarray(left.reshape(len(left), flat.shape[1]) @ flat.T)


def dense_pieces(model: FactorizedModel, values: np.ndarray) -> np.ndarray:
    """The symmetric matrix (q, q) of values (nnz(G),) on the pattern of G."""
    side = model.equations.natural
    out = np.zeros((side.size, side.size))
    out[side.columns, side.indices] = values
    out[side.indices, side.columns] = values
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
