"""Effects of the markers behind a genomic relationship, from the predictions of its levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, name_list

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures


def marker_effect_table(fit: FitFigures, term: str | None) -> pd.DataFrame:
    """See ``LMMFit.marker_effects``."""
    solution = fit.solved
    with_markers = [k for k, own in enumerate(fit.design.random) if _markers(own) is not None]
    if not isinstance(solution, StructuredSolution) or not with_markers:
        raise OptionError(
            "no random term has a relationship from markers: vm(gen, M) with M = Markers(table)"
        )
    groups = list(dict.fromkeys(fit.design.random[k].group for k in with_markers))
    if term is not None and term not in groups:
        raise OptionError(f"term={term!r} has no markers; with markers: {name_list(groups)}")
    chosen = groups[0] if term is None else term
    # several terms may have one group, main effects and those in each environment
    parts = [_effects(solution, fit.design.random[k], k) for k in with_markers
             if fit.design.random[k].group == chosen]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _effects(solution: StructuredSolution, random: Any, k: int) -> pd.DataFrame:
    """Effects of the markers behind random term k on each of its coefficients."""
    effects = _markers(random)
    own = solution.equations.terms[k]
    rows = solution.equations.spherical.rows[k]
    T = solution.covariance(k)
    of_root = effects.root is not None
    inside = solution.point.coefficients[solution.equations.natural.rows[k], 0] @ own.basis.T
    unit = np.zeros((solution.equations.spherical.size, rows.size))
    unit[rows.ravel(), np.arange(rows.size)] = 1.0
    block = solution.factor.solve(unit)[rows.ravel()].reshape(*rows.shape, *rows.shape)
    if own.root is not None and not of_root:  # the engine's own eigenbasis: markers know the levels
        inside = own.root @ inside
        block = np.einsum("ld,dces,ke->lcks", own.root, block, own.root, optimize=True)
    loadings = own.basis @ solution.point.loadings[k, : own.m, : own.width]
    tables = []
    for a, column in enumerate(random.columns):
        u = inside[:, a] * solution.response.scale
        pev = solution.sigma2 * np.einsum("c,lcmd,d->lm", loadings[a], block, loadings[a])
        values = effects.from_root(u) if of_root else effects.from_levels(u)
        error = effects.pev(float(T[a, a]), pev, of_root=of_root)
        tables.append(pd.DataFrame({"term": column, "marker": list(effects.names), "estimate": values,
                                    "se": np.sqrt(np.maximum(error, 0.0)), "pev": error}))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _markers(random: Any) -> Any:
    """Marker effects of a term whose levels are those of one relationship from markers, else None."""
    relation = getattr(random, "relation", None)
    if relation is None or len(relation.factors) != 1:
        return None
    return getattr(relation.factors[0].relationship, "markers", None)
