"""What fixed genetic groups add to the levels of a random term, and to the errors of their predictions.

Of u = a + Q g the equations have a, and g among the fixed coefficients. With C^-1 of the equations,

    Var(u_hat - u) = Var(a_hat - a) + 2 Q Cov(g_hat, a_hat - a) + Q Var(g_hat) Q'

(Henderson 1975), for which one solve a group is enough, however many levels there are.

A group without descendants in the data has no effect that could be estimated, and who has a part of it no u:
Q_i g is told, up to other columns of the fixed part, where Q_i lies among the rows of Z Q.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.group_columns import group_places
from fastlmm_core.kernels.thresholds import ESTIMABLE
from fastlmm_core.results.row_variances import Unknowns

if TYPE_CHECKING:
    from fastlmm_core.design.matrices import Design
    from fastlmm_core.results.fit_figures import FitFigures


def group_parts(fit: FitFigures, k: int) -> np.ndarray | float:
    """Q g (L, m) of random term k, columns that depend on others at zero; 0 without fixed groups.

    NaN for levels with parts of groups that the data do not tell.
    """
    term = fit.design.random[k]
    found = None if term.is_spline else group_places(term, fit.coef_names)
    if found is None:
        return 0.0
    shares, places = found
    parts = np.asarray(shares @ np.nan_to_num(fit.beta[places]).T)
    untold = fit.design.untold_levels[k]
    assert untold is not None
    return np.where(untold, np.nan, parts)


def confounded_groups(design: Design, k: int) -> list[str]:
    """Fixed groups of random term k for which differences of u between levels with data are not estimable."""
    term = design.random[k]
    found = None if term.is_spline else group_places(term, design.column_names)
    if found is None or not design.dropped_columns:
        return []
    shares, places = found
    names: dict[str, None] = {}
    for c, own in enumerate(places):
        codes, values = term.layers[c if term.incidence else 0]
        used = np.unique(codes[(codes >= 0) & (values[:, c] != 0.0)])
        part = sp.coo_array(shares[used])
        K = sp.csr_array((part.data, (part.row, own[part.col])), (used.size, len(design.column_names)))
        null = sp.csr_array(design.null_space[own])
        touched = np.unique(null.nonzero()[1])
        products, scale = design.null_products(K)
        spread = np.ptp(products[:, touched].toarray(), axis=0) if used.size else np.zeros(touched.size)
        lost = touched[spread > ESTIMABLE * scale.max(initial=0.0)]
        involved = np.unique(null[:, lost].nonzero()[0])
        names |= dict.fromkeys(term.axes[0].relationship.group_shares.columns[involved])
    return list(names)


def group_errors(fit: FitFigures, k: int) -> np.ndarray:
    """Var(u_hat - u) - Var(a_hat - a) of random term k, (L, m)."""
    found = group_places(fit.design.random[k], fit.coef_names)
    assert found is not None
    shares, places = found
    solved, unknowns = fit.solved, Unknowns.of(fit.solved)
    groups, coefficients = places.shape[1], places.shape[0]
    rows = sp.csr_array(
        (np.ones(places.size), (np.arange(places.size), places.ravel())),
        shape=(places.size, len(fit.coef_names)),
    )
    inside = sp.csr_array(rows[:, fit.design.kept] @ solved.equations.to_user)
    functions = unknowns.rows(inside, [])
    solution = solved.factor.solve(np.ascontiguousarray(functions.T.toarray()))
    variance = solved.user_sigma2 * (functions @ solution)
    natural = np.asarray(unknowns.loadings @ solution)[unknowns.places[k]]
    effects = solved.user_sigma2 * np.einsum("ab,lbr->lar", unknowns.bases[k], natural)
    root = unknowns.roots[k]
    if root is not None:
        effects = np.einsum("ls,sar->lar", root, effects)
    out = np.empty((len(shares), coefficients))
    for c in range(coefficients):
        own = slice(c * groups, (c + 1) * groups)
        out[:, c] = 2.0 * np.sum(shares * effects[:, c, own], axis=1)
        out[:, c] += np.sum((shares @ variance[own, own]) * shares, axis=1)
    untold = fit.design.untold_levels[k]
    assert untold is not None
    return np.where(untold, np.nan, out)
