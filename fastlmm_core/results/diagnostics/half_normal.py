"""Half-normal plot of random effects with a simulated envelope.

The sizes of the BLUPs of one coefficient, each over its own standard deviation sqrt(Var(u) - PEV), in order
against half-normal quantiles (Atkinson 1985, Plots, Transformations and Regression, ch. 4). BLUPs of related
or unequally replicated levels are correlated, so that no quantiles tell how far they may stray: the envelope
is that of as many effects predicted, at the estimated variances, from responses that the model has drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, OptionError, check_level, name_list
from fastlmm_core.intervals.simulation import simulate
from fastlmm_core.results.blups import effect_figures
from fastlmm_core.results.diagnostics.observation_rows import ObservationRows, observation_rows
from fastlmm_core.results.genotypes.heritability_levels import find_term

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

# Of Var(u), below which the data say nothing of a level.
UNTOLD = 1e-10


def half_normal_table(
    fit: RandomPart, term: str | None, coefficient: str | None, draws: int, level: float, seed: int
) -> pd.DataFrame:
    """See ``LMMFit.half_normal``."""
    check_level(level)
    terms = [own for own in fit.design.random if not own.is_spline]
    if not terms:
        raise OptionError("the model has no random effects to plot")
    k = find_term(fit, terms[0].group if term is None else term)
    own = fit.design.random[k]
    if coefficient is not None and coefficient not in own.columns:
        raise OptionError(
            f"coefficient='{coefficient}' is not in the term of {own.group}: {name_list(own.columns)}"
        )
    c = 0 if coefficient is None else own.columns.index(coefficient)
    found = effect_figures(fit)[k]
    shape = found[0].shape
    estimate, pev, _, prior = (np.broadcast_to(figure, shape)[:, c] for figure in found)
    spread = prior - pev
    told = spread > UNTOLD * np.maximum(prior, 1e-300)
    if not told.any():
        raise InferenceError(f"the variance of {own.group} is estimated as zero: its effects are all zero")
    sd = np.sqrt(spread[told])
    size = np.abs(estimate[told]) / sd
    order = np.argsort(size, kind="stable")
    rows = observation_rows(fit)
    drawn = simulate(fit, draws, seed, False)
    effects = predicted_effects(fit, rows, k, drawn if fit.offset is None else drawn - fit.offset[:, None])
    simulated = np.sort(np.abs(effects[told, c]) / sd[:, None], axis=0)
    lower, median, upper = np.quantile(simulated, [0.5 - 0.5 * level, 0.5, 0.5 + 0.5 * level], axis=1)
    n = size.size
    frame = pd.DataFrame(
        {
            "level": np.asarray(own.levels, object)[told][order],
            "quantile": ndtri((np.arange(1, n + 1) + n - 0.125) / (2.0 * n + 0.5)),
            "size": size[order], "median": median, "lower": lower, "upper": upper,
        }
    )  # fmt: skip
    frame["outside"] = (frame["size"] < frame["lower"]) | (frame["size"] > frame["upper"])
    return frame


def predicted_effects(fit: RandomPart, rows: ObservationRows, k: int, Y: np.ndarray) -> np.ndarray:
    """BLUPs (L, m, r) of term k from responses less offset (n, r), at the variances of the fit."""
    right = np.ascontiguousarray(rows.transposed[:, : rows.n] @ Y)
    spherical, solved = rows.factor.solve(right), fit.solved
    if isinstance(solved, StructuredSolution):
        term, places = solved.equations.terms[k], solved.equations.spherical.rows[k]
        loadings = term.basis @ solved.point.loadings[k, : term.m, : term.width]
        root = term.root
    else:
        own, places = solved.equations.terms[k], solved.equations.layout.random_rows[k]
        loadings, root = own.basis @ solved.factors[k, : own.m, : own.m], None
    inside = np.einsum("ac,lcr->lar", loadings, spherical[places])
    return inside if root is None else np.einsum("ld,dar->lar", root, inside)
