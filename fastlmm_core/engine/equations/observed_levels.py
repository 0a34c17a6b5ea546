"""The model without the effects of which no row tells anything: what a search needs of it.

A level of a dense relationship costs as much in the equations whether it has rows or not, and so does a
coefficient of a level: a line that was grown in 10 of 24 environments has 14 specific effects without a plot.
Their share of the likelihood integrates to one, so that the others alone have the same one, with the
relationship of the levels that occur. Predictions and their errors of all follow from the whole model at the
optimum of this one (Henderson 1977, J. Dairy Sci. 60, 783-787, for animals without records).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.nodes import spherical_groups
from fastlmm_core.structures.coefficients.base import CoefficientStructure
from fastlmm_core.structures.coefficients.diagonal import HomogeneousDiagonal
from fastlmm_core.structures.levels.factors import IndependentLevels, KnownLevels
from fastlmm_core.structures.levels.kronecker import KroneckerLevels
from fastlmm_core.structures.relationships.blocks import BlockCovariance
from fastlmm_core.structures.relationships.dense import Covariance

if TYPE_CHECKING:
    from fastlmm_core.engine.equations.terms import EngineTerm

# Work of the related effects that is left, relative to all of them, up to which a model of its own pays.
WORTH = 0.7


def observed_terms(terms: Sequence[EngineTerm]) -> tuple[EngineTerm, ...] | None:
    """The terms with the levels that occur alone, or None where that saves little.

    Theta of these terms, one after another, is that of the given ones.
    """
    related = [_RelatedLevels.of(term) for term in terms]
    before = after = 0.0
    for term, own in zip(terms, related, strict=True):
        if own is not None:
            used = _used(term)
            before += _work(term, own, np.ones_like(used))
            after += _work(term, own, used)
    if not after < WORTH * before:
        return None
    out = []
    for term, own in zip(terms, related, strict=True):
        out += [term] if own is None else _parts(term, own)
    return tuple(out)


def _used(term: EngineTerm) -> np.ndarray:
    """Which levels occur, (m, n_levels) bool: of each coefficient where they divide, else of any."""
    used = np.array([np.bincount(M.indices, minlength=term.n_levels) > 0 for M in term.matrices])
    divides = isinstance(term.structure, HomogeneousDiagonal) or len(term.structure.parts())
    if not (term.separate and divides):
        used[:] = used.any(axis=0)
    return used


def _work(term: EngineTerm, related: _RelatedLevels, used: np.ndarray) -> float:
    """Operations of the factorization of the effects that are `used` (m, n_levels), as they grow."""
    total = 0.0
    for group in spherical_groups([term]):
        a = group.coefficients
        occurs = np.asarray(used[a.start : a.stop].any(axis=0))
        sizes = occurs[related.places].sum(axis=1)
        total += float(np.sum((len(group.scalars) * sizes.astype(float)) ** 3))
    return total


@dataclass(frozen=True)
class _RelatedLevels:
    """Independent groups of levels with one dense relationship.

    Attributes
    ----------
    known : KnownLevels
    places : (groups, L) int64
        The levels of each group in the order of the relationship.
    """

    known: KnownLevels
    places: np.ndarray

    @classmethod
    def of(cls, term: EngineTerm) -> _RelatedLevels | None:
        """Those of a term; None where its levels are related in another way."""
        levels = term.levels
        if term.root is not None:
            return None
        factors = levels.factors if isinstance(levels, KroneckerLevels) else (levels,)
        known = [f for f in factors if isinstance(f, KnownLevels) and not f.sparse]
        rest = sum(isinstance(f, IndependentLevels) for f in factors)
        if len(known) != 1 or rest + 1 != len(factors):
            return None
        places = np.arange(term.n_levels).reshape([f.size for f in factors if f is not None])
        axis = next(k for k, f in enumerate(factors) if f is known[0])
        return cls(known[0], np.moveaxis(places, axis, -1).reshape(-1, known[0].size))

    def among(self, used: Sequence[np.ndarray]) -> tuple[KnownLevels, list[np.ndarray]]:
        """Levels that are `used` (bool, n_levels), one set after another, and their numbers in each set."""
        blocks, kept = [], []
        for own in used:
            members = [group[own[group]] for group in self.places if own[group].any()]
            kept.append(np.concatenate(members) if members else np.zeros(0, np.int64))
            for group in self.places:
                if own[group].any():
                    blocks.append(self.known.relationship.covariance_among(np.flatnonzero(own[group])))
        names = [str(k) for k in range(sum(map(len, blocks)))]
        one = Covariance(blocks[0], levels=names) if len(blocks) == 1 else BlockCovariance(blocks, names)
        return KnownLevels(one), kept


def _parts(term: EngineTerm, related: _RelatedLevels) -> list[EngineTerm]:
    """The independent parts of a term, each with the levels that occur in it."""
    used = _used(term)
    if term.separate and isinstance(term.structure, HomogeneousDiagonal):
        levels, numbers = related.among(list(used))
        joined = sp.csr_array(sp.hstack([M[:, own] for M, own in zip(term.matrices, numbers, strict=True)]))
        first = _part(term, HomogeneousDiagonal(1), range(1), numbers[0], levels)
        return [replace(first, matrices=(joined,))]
    structures = term.structure.parts() if term.separate else ()
    out = []
    for structure, which in structures or [(term.structure, range(term.m))]:
        own = np.asarray(used[which.start : which.stop].any(axis=0))
        levels, (kept,) = related.among([own])
        out.append(_part(term, structure, which, kept, levels))
    return out


def _part(
    term: EngineTerm, structure: CoefficientStructure, which: range, kept: np.ndarray, levels: KnownLevels
) -> EngineTerm:
    """The term of the coefficients `which` alone, on the levels `kept`."""
    own = slice(which.start, which.stop)
    square = None if term.response_square is None else term.response_square[own]
    return replace(
        term, structure=structure, levels=levels, response_square=square,
        matrices=tuple(sp.csr_array(M[:, kept]) for M in term.matrices[own]), basis=term.basis[own, own],
    )  # fmt: skip
