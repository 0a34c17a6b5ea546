"""Expected information tr(P V_t P V_u) of the parameters of any structures, from dense matrices.

Their size is that of the unknowns, where the residual allows it, or that of the rows.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.parameters import Direction, move_natural, multiply_pieces, residual_theta
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.kernels.assembly import multiply_symmetric


def expected_by_unknowns(solution: StructuredSolution, directions: list[Direction]) -> np.ndarray | None:
    """tr(P V_t P V_u) (t, t) from dense matrices of the unknowns, however many rows there are.

    With N = F C^-1 F', A_u = -W' dRinv_u W, and M = W'PW = G - G N G:

        random, random      tr(M D_t M D_u)
        random, residual    tr(D_t K'A_u K),  K = I - N G
        residual, residual  tr(R^-1 R_t R^-1 R_u) - 2 tr(N W' dRinv_t R dRinv_u W) + tr(N A_t N A_u)

    None where the residual's products are no sums of its pieces (fields).
    """
    e = solution.equations
    random = [t for t, direction in enumerate(directions) if direction.term >= 0]
    rest = [t for t, direction in enumerate(directions) if direction.term < 0]
    pieces = np.zeros((len(rest), e.residual.n_pieces))
    for at, t in enumerate(rest):
        pieces[at] = directions[t].pieces
    half = leading_half(solution, np.eye(e.natural.size))
    N = half.T @ half
    own = e.residual.information_terms(residual_theta(solution), pieces, piece_sums(solution, N))
    if own is None:
        return None
    E = np.zeros((len(directions),) * 2)
    E[np.ix_(rest, rest)] = own
    products = {t: -multiply_pieces(solution, row, N) for t, row in zip(rest, pieces, strict=True)}
    if random:
        G = np.empty_like(N)
        multiply_symmetric(solution.point.G, e.natural.indptr, e.natural.indices, np.eye(e.natural.size), G)
        half_G = leading_half(solution, G)  # not N G, whose entries cancel where a variance is large
        M = G - half_G.T @ half_G
        K = np.eye(e.natural.size) - half.T @ half_G
        e.natural.leave_random(M)
    for t in random:
        products[t] = move_natural(solution, directions[t], M)
        KDK = K @ move_natural(solution, directions[t], _random_rows(solution, K.T))
        E[t, rest] = E[rest, t] = -(pieces @ piece_sums(solution, KDK))
    for group in (random, rest):
        for at, t in enumerate(group):
            for u in group[at:]:
                E[t, u] += np.sum(products[t] * products[u].T)
                E[u, t] = E[t, u]
    return E


def _random_rows(solution: StructuredSolution, B: np.ndarray) -> np.ndarray:
    """B (q, r) without the rows of fixed and missing unknowns."""
    out = B.copy()
    solution.equations.natural.leave_random(out)
    return out


def leading_half(solution: StructuredSolution, B: np.ndarray) -> np.ndarray:
    """L^-1 F' B for B (q, r); for ML without the fixed unknowns, so that V^-1 takes the place of P."""
    e = solution.equations
    half = solution.factor.solve_lower(e.gather(solution.point.loadings, B))
    return half[: e.spherical.size - e.p] if e.fixed_last and not solution.reml else half


def piece_sums(solution: StructuredSolution, N: np.ndarray) -> np.ndarray:
    """<N, W' E_b W> of every piece of R^-1 (b,), for N (q, q)."""
    side = solution.equations.natural
    symmetric = 0.5 * (N[side.indices, side.columns] + N[side.columns, side.indices])
    return np.asarray(solution.equations.G_pieces.T @ (side.both_triangles(symmetric)))


def expected_by_rows(solution: StructuredSolution, directions: list[Direction]) -> np.ndarray:
    """tr(P V_t P V_u) (t, t) from P (n, n) and the products V_t P."""
    e, point = solution.equations, solution.point
    R_inv = np.asarray(point.precision.toarray())
    half = leading_half(solution, np.asarray(e.matrix.T @ R_inv))
    P = R_inv - half.T @ half
    B = np.asarray(e.matrix.T @ P)
    e.natural.leave_random(B)
    theta = solution.theta[e.slices[1]]
    RP = e.residual.multiply_covariance(theta, P)
    products = []
    for direction in directions:
        if direction.term >= 0:
            products.append(np.asarray(e.matrix @ move_natural(solution, direction, B)))
        else:
            assert direction.pieces is not None
            moved = np.asarray(e.row_precision.at(direction.pieces) @ RP)
            products.append(-e.residual.multiply_covariance(theta, moved))
    flat = np.array([M.ravel() for M in products])
    turned = np.array([M.T.ravel() for M in products])
    E = flat @ turned.T
    return 0.5 * (E + E.T)
