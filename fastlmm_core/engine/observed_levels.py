"""The model without the effects of which no row tells anything: what a search needs of it.

A level of a dense relationship costs as much in the equations whether it has rows or not, and so does a
coefficient of a level: a line that was grown in 10 of 24 environments has 14 specific effects without a plot.
Their share of the likelihood integrates to one, so that the others alone have the same one, with the
relationship of the levels that occur. Predictions and their errors of all follow from the whole model at the
optimum of this one (Henderson 1977, J. Dairy Sci. 60, 783-787, for animals without records).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.layout import spherical_groups
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.levels.factors import KnownLevels

if TYPE_CHECKING:
    from fastlmm_core.engine.terms import EngineTerm

# Work of the related effects that is left, relative to all of them, up to which a model of its own pays.
WORTH = 0.7


def observed_terms(terms: Sequence[EngineTerm]) -> tuple[EngineTerm, ...] | None:
    """The terms with the levels that occur alone, or None where that saves little.

    Theta of these terms, one after another, is that of the given ones.
    """
    out, before, after = [], 0.0, 0.0
    for term in terms:
        parts = _parts(term)
        out += parts
        if isinstance(term.levels, KnownLevels):
            before += _work([term])
            after += _work(parts)
    return tuple(out) if after < WORTH * before else None


def _work(terms: Sequence[EngineTerm]) -> float:
    """Operations of the factorization of related effects, as they grow."""
    return sum(float(group.n_levels) ** 3 for group in spherical_groups(terms))


def _parts(term: EngineTerm) -> list[EngineTerm]:
    """The independent parts of a term, each with the levels that occur in it; the term where all do."""
    levels = term.levels
    if not isinstance(levels, KnownLevels) or levels.sparse or term.root is not None:
        return [term]
    used = np.array([np.bincount(M.indices, minlength=term.n_levels) > 0 for M in term.matrices])
    structures = term.structure.parts() if term.separate else ()
    if not structures:
        return [term] if used.any(axis=0).all() else [_part(term, term.structure, range(term.m), used)]
    return [term] if used.all() else [_part(term, own, which, used) for own, which in structures]


def _part(term: EngineTerm, structure: CoefficientStructure, which: range, used: np.ndarray) -> EngineTerm:
    """The term of some coefficients, on the levels of which they occur."""
    assert isinstance(term.levels, KnownLevels)
    kept = np.flatnonzero(used[which.start : which.stop].any(axis=0))
    own = slice(which.start, which.stop)
    square = None if term.response_square is None else term.response_square[own]
    return replace(
        term, structure=structure, levels=term.levels.among(kept), response_square=square,
        matrices=tuple(sp.csr_array(M[:, kept]) for M in term.matrices[own]), basis=term.basis[own, own],
    )  # fmt: skip
