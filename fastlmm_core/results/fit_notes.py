"""What stands below a summary: all that a reader must know before trusting the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlmm_core.errors import NotConvergedWarning, RankDeficientWarning, SingularFitWarning
from fastlmm_core.results.components.structured_blocks import (
    BY_LAG,
    WIDEST,
    describe_shortened,
    is_diagonal,
    residual_blocks,
    term_blocks,
)

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart


# Warnings that notes of their own say in the words of a summary.
TOLD = (NotConvergedWarning, RankDeficientWarning, SingularFitWarning)


def fit_notes(fit: RandomPart) -> tuple[str, ...]:
    """What a reader must know before trusting the figures, in plain words."""
    notes = []
    if fit.weights is not None:
        notes.append("Weighted: Var(e_i) = sigma² / w_i.")
    if fit.n_dropped:
        plural = "s" if fit.n_dropped > 1 else ""
        notes.append(f"{fit.n_dropped} row{plural} with missing values dropped.")
    if fit.dropped_columns:
        n = len(fit.dropped_columns)
        notes.append(
            f"Fixed part is rank deficient: {n} column{'s' if n > 1 else ''} dropped: "
            f"{', '.join(fit.dropped_columns)}."
        )
    if fit.structured:
        notes += segment_notes(fit)
        notes += correlation_notes(fit)
        held = [str(name) for name in fit.prepared.fixed_parameters if name != "note"]
        if held:
            notes.append(f"Held at given values: {', '.join(held)}.")
    if fit.sigma == 0.0 and not fit.structured:
        notes.append("The fixed part explains the response exactly: no variance is left to test against.")
    if fit.singular:
        notes.append("Singular fit: " + "; ".join(fit.singular_terms) + ".")
    if not fit.converged:
        words = [str(w) for w in getattr(fit, "warnings", ()) if isinstance(w, NotConvergedWarning)]
        reason = words[0].removeprefix("not converged: ") if words else fit.convergence.message
        notes.append(f"NOT CONVERGED: {reason}")
    # the command line shows no other warnings
    others = [str(w).rstrip(".") for w in getattr(fit, "warnings", ()) if not isinstance(w, TOLD)]
    return (*notes, *(f"{words[:1].upper()}{words[1:]}." for words in others))


def correlation_notes(fit: RandomPart) -> list[str]:
    """Autocorrelations of coefficients, levels and fields in words."""
    notes = []
    for block in [*term_blocks(fit), *residual_blocks(fit)]:
        own = dict(block.extra.get("group_corr") or {})
        where = block.term if block.at is None else f"{block.term} {block.at}"
        if block.T is not None and len(block.names) > 1:
            product = np.sqrt(block.T[0, 0] * block.T[1, 1])
            if block.struct in BY_LAG and product > 0:
                own["neighbours"] = block.T[0, 1] / product
                if "visits" in block.extra and (words := describe_shortened(block)) not in notes:
                    notes.append(words)  # once for all arms
            elif len(block.names) > WIDEST and not is_diagonal(block.T):
                notes.append(f"The correlations of {where} stand in variance_components.")
        if own:
            listed = ", ".join(f"{name} {value:.3f}" for name, value in own.items())
            notes.append(f"Autocorrelation in {where}: {listed}.")
    return notes


def segment_notes(fit: RandomPart) -> list[str]:
    """Segments of the splines that left them to the data."""
    splines = [term for term in fit.design.random if term.is_spline and term.chosen_segments]
    return [f"{term.group}: {' x '.join(map(str, term.chosen_segments))} segments." for term in splines]
