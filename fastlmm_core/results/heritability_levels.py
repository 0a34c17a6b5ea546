"""The levels of a random term that heritability is asked of, and how they are related."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, name_list, nearest_names
from fastlmm_core.results.component_rows import covariance_blocks

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart


@dataclass(frozen=True)
class TermLevels:
    """Levels of one coefficient of a random term.

    Attributes
    ----------
    k, coefficient : int
    chosen : (S,) int64
        Places of the levels that count.
    labels : (S,) ndarray of str
    variance : float
        sigma2_g.
    slope : (t,)
        Its derivatives in the parameters of ``covariance_blocks``.
    relation : (S, S)
        Var(u) / sigma2_g.
    related : bool
    moving : bool
        The relation has parameters that were estimated.
    """

    k: int
    coefficient: int
    chosen: np.ndarray
    labels: np.ndarray
    variance: float
    slope: np.ndarray
    relation: np.ndarray
    related: bool
    moving: bool


def term_levels(
    fit: FixedPart, term: str, levels: Sequence[Any] | None, coefficient: str | None
) -> TermLevels:  # fmt: skip
    """The levels of a term that heritability is asked of: those with data, or those named.

    Raises
    ------
    OptionError
        When the fit has no such term, coefficient or level.
    """
    k = find_term(fit, term, coefficient)
    return levels_of(fit, k, levels, _coefficient(fit.design.random[k], coefficient))


def levels_of(
    fit: FixedPart, k: int, levels: Sequence[Any] | None = None, coefficient: int = 0
) -> TermLevels:  # fmt: skip
    """The same of the random term k and the number of one of its coefficients."""
    own, c = fit.design.random[k], coefficient
    present = np.zeros(len(own.levels), bool)
    for codes, values in own.layers:
        present[codes[(codes >= 0) & (values[:, c] != 0.0)]] = True
    chosen = np.flatnonzero(present)
    if levels is not None:
        places = {str(level): i for i, level in enumerate(own.levels)}
        wanted = [str(level) for level in np.atleast_1d(np.asarray(levels, dtype=object))]
        for level in wanted:
            if level not in places:
                nearest = nearest_names(level, places)
                raise OptionError(f"levels: '{level}' is no level of {own.group}{nearest}")
        chosen = np.array(sorted({places[level] for level in wanted}), dtype=np.int64)
    relation, moving = level_relation(fit, k)
    block = covariance_blocks(fit)[k]  # by its place: several terms may have one group
    variance, slope = float(block.T[c, c]), block.slopes[:, c, c]
    whole = np.eye(len(own.levels)) if relation is None else relation
    return TermLevels(
        k, c, chosen, np.asarray(own.levels, dtype=object)[chosen], variance, slope,
        whole[np.ix_(chosen, chosen)], relation is not None, moving,
    )  # fmt: skip


def find_term(fit: FixedPart, term: str, coefficient: str | None = None) -> int:
    """Place of the random term of a grouping factor, ``"gen"`` or ``"vm(gen, A)"``.

    A column alone also stands for the one term over its levels, whatever their relation. Of several terms
    over one group it is the one with the `coefficient`, by default that of their main effects.

    Raises
    ------
    OptionError
    """
    terms = [(k, own) for k, own in enumerate(fit.design.random) if not own.is_spline]
    exact = [k for k, own in terms if own.group == term]
    single = exact or [k for k, own in terms if own.group_variables == (term,)]
    if not terms:
        raise OptionError(f"'{term}' is not a grouping factor: this model has no random terms over levels")
    if not single:
        nearest = nearest_names(term, [own.group for _, own in terms])
        raise OptionError(f"'{term}' is not a grouping factor of this model{nearest}")
    if len({fit.design.random[k].group for k in single}) == 1:
        wanted = "(Intercept)" if coefficient is None else coefficient
        single = [k for k in single if wanted in fit.design.random[k].columns] or single
        exact = single
    if len(single) > 1 and not exact:
        names = name_list(fit.design.random[k].group for k in single)
        raise OptionError(f"'{term}' stands for several random terms; name one of them: {names}")
    return single[0]


def _coefficient(own: Any, asked: str | None) -> int:
    if asked is None and len(own.columns) == 1:
        return 0
    if asked not in own.columns:
        said = "has several coefficients" if asked is None else f"has no coefficient '{asked}'"
        raise OptionError(f"{own.group} {said}: give coefficient=, one of {name_list(own.columns)}")
    return int(own.columns.index(asked))


def level_relation(fit: FixedPart, k: int) -> tuple[np.ndarray | None, bool]:
    """Var(u) of all levels (L, L) relative to the variance, None for I; and whether it was estimated."""
    solution = fit.solved
    if not isinstance(solution, StructuredSolution):
        return None, False
    term = solution.equations.terms[k]
    if term.levels is None and term.root is None:
        return None, False
    inner = np.eye(term.n_levels)
    if term.levels is not None:
        inner = term.levels.multiply_covariance(solution.term_theta(k)[1], inner)
    whole = inner if term.root is None else term.root @ inner @ term.root.T
    return whole, bool(term.n_level_theta)
