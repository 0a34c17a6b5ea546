"""The observed instead of the average information of loadings, from what the inverse subset has.

    d2(-2 l) = 2 D_tu - E_tu + <S, d2T_tu>,     D = y' P V_t P V_u P y,     E = tr(P V_t P V_u)

The average information puts D for 2 D - E (Gilmour, Thompson & Cullis 1995), which is far off where a model
has fewer factors than there are: D and E differ as the residual products differ from their expectation.  For
levels that are independent nearly all of E is in the blocks P_l = (Z'PZ)_ll of single levels,

    E_tu ~ 2 sum_l B_l[a, d] B_l[b, c] + K_l[c, d] P_l[a, b],     t = (a, c), u = (b, d) of Lambda,
    B_l = (G F C^-1)_ll = P_l Lambda,    K_l = I - (C^-1)_ll = Lambda' P_l Lambda,

so that only the search, not inference, may take it for E.
"""

from __future__ import annotations

import numpy as np

from fastlmm_core.engine.equations.loading_map import BlockLoadings
from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.kernels.equations.level_information import sum_level_information
from fastlmm_core.structures.coefficients.entries import LoadingEntries


def bending_terms(e: StructuredEquations, theta: np.ndarray) -> list[int]:
    """Terms whose search gains by it: loadings that have several optima, of independent levels.

    P_l is read off B_l, which a specific deviation of zero does not allow. With more parameters than T has
    elements, rotations aside, where on their ridge a search ends is better left to the average information.
    """
    out: list[int] = []
    if not isinstance(e.loading_map, BlockLoadings) or not e.loading_map.whole:
        return out
    for k, (term, (own, _)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
        structure = term.structure
        if isinstance(structure, LoadingEntries) and structure.several_optima and term.levels is None:
            told = not structure.exceeds_elements
            if told and np.all(_last_columns(structure.loadings(theta[own])) != 0.0):
                out.append(k)
    return out


def _last_columns(loadings: np.ndarray) -> np.ndarray:
    """Diagonal (m,) of the last m columns of Lambda (m, r)."""
    m, r = loadings.shape
    return np.diag(loadings[:, r - m :])


def level_information(
    e: StructuredEquations, loadings: np.ndarray, C_inv: np.ndarray, W: np.ndarray, k: int
) -> np.ndarray:
    """E (t, t) of the loadings of term k.

    Parameters
    ----------
    loadings : (K + 2, m, r)
        Of all terms.
    C_inv : (nnz(C),)
        Inverse subset.
    W : (q, max r)
        Blocks (G F C^-1)_jj by natural scalars.
    """
    m, r = e.terms[k].m, e.terms[k].width
    structure = e.terms[k].structure
    assert isinstance(structure, LoadingEntries)
    out = np.zeros((structure.n_theta,) * 2)
    sum_level_information(
        W, C_inv, e.indptr, e.natural.rows[k], e.spherical.rows[k], _last_columns(loadings[k, :m, :r]),
        *np.array(structure.positions, np.int64).T.copy(), out,
    )  # fmt: skip
    return out


def average_to_observed(
    e: StructuredEquations, D: np.ndarray, expected: dict[int, np.ndarray]
) -> np.ndarray | None:
    """D - E (t, t) for the terms of `expected`, zero elsewhere; None where there is none."""
    if not expected:
        return None
    out = np.zeros_like(D)
    for k, E in expected.items():
        own = e.slices[0][k][0]
        out[own, own] = D[own, own] - E
    return out
