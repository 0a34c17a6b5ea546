"""The levels of a random term that heritability is asked of, and how they are related."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import OptionError, name_list, nearest_names
from fastlmm_core.results.components.component_rows import covariance_blocks

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures
    from fastlmm_core.results.fixed_part import FixedPart


@dataclass(frozen=True)
class TermLevels:
    """Levels of one coefficient of a random term, or of the mean of its coefficients.

    Attributes
    ----------
    k : int
    weights : (m,)
        Of the coefficients: a unit vector, or 1 / m each.
    chosen : (S,) int64
        Places of the levels that count.
    labels : (S,) ndarray of str
    variance : float
        sigma2_g.
    slope : (t,)
        Its derivatives in the parameters of ``covariance_blocks``.
    relation_matrix : (S, S) or None
        Var(u) / sigma2_g; None for the identity.
    moving : bool
        The relation has parameters that were estimated.
    """

    k: int
    weights: np.ndarray
    chosen: np.ndarray
    labels: np.ndarray
    variance: float
    slope: np.ndarray
    relation_matrix: np.ndarray | None
    moving: bool

    @property
    def related(self) -> bool:
        """Whether the levels have another relation than the identity."""
        return self.relation_matrix is not None

    @property
    def relation(self) -> np.ndarray:
        """Var(u) / sigma2_g (S, S)."""
        return np.eye(self.chosen.size) if self.relation_matrix is None else self.relation_matrix

    @property
    def coefficient(self) -> int | None:
        """The only coefficient that counts, None of a mean."""
        used = np.flatnonzero(self.weights)
        return int(used[0]) if used.size == 1 else None


def term_levels(
    fit: FixedPart, term: str, levels: Sequence[Any] | None, coefficient: str | None
) -> TermLevels:  # fmt: skip
    """The levels of a term that heritability is asked of: those with data, or those named.

    Raises
    ------
    OptionError
        When the fit has no such term, coefficient or level, or no levels are given.
    """
    k = find_term(fit, term, coefficient)
    return levels_of(fit, k, levels, coefficient)


def levels_of(
    fit: FixedPart, k: int, levels: Sequence[Any] | None = None, coefficient: str | None = None
) -> TermLevels:  # fmt: skip
    """The same of the random term k."""
    own = fit.design.random[k]
    w = _weights(own, coefficient)
    present = np.zeros(len(own.levels), bool)
    for codes, values in own.layers:
        present[codes[(codes >= 0) & (values[:, w != 0.0] != 0.0).any(axis=1)]] = True
    chosen = np.flatnonzero(present)
    if levels is not None:
        places = {str(level): i for i, level in enumerate(own.levels)}
        wanted = [str(level) for level in np.atleast_1d(np.asarray(levels, dtype=object))]
        if not wanted:
            raise OptionError(f"levels: at least one level of {own.group} is needed")
        for level in wanted:
            if level not in places:
                nearest = nearest_names(level, places)
                raise OptionError(f"levels: '{level}' is no level of {own.group}{nearest}")
        chosen = np.array(sorted({places[level] for level in wanted}), dtype=np.int64)
    relation, moving = level_relation(fit, k)
    block = covariance_blocks(fit, as_shown=False)[k]  # by its place: several terms may have one group
    variance, slope = float(w @ block.T @ w), np.einsum("a,tab,b->t", w, block.slopes, w)
    return TermLevels(
        k, w, chosen, np.asarray(own.levels, dtype=object)[chosen], variance, slope,
        None if relation is None else relation[np.ix_(chosen, chosen)], moving,
    )  # fmt: skip


def labels_with_data(own: Any) -> np.ndarray:
    """Labels of the levels of a random term with any effect in the data."""
    places = [codes[(codes >= 0) & (values != 0.0).any(axis=1)] for codes, values in own.layers]
    return np.asarray(own.levels, dtype=object)[np.unique(np.concatenate(places))]


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


def left_out(fit: FitFigures, k: int) -> tuple[str, ...]:
    """A note on terms that give the levels of term k further effects: of environments, or of relatives."""
    term = fit.design.random[k]
    others = dict.fromkeys(
        own.group if own.group != term.group else own.label for i, own in enumerate(fit.design.random)
        if i != k and not own.is_spline and own.group_variables == term.group_variables
    )  # fmt: skip
    if not others:
        return ()
    alone = sum(own.group == term.group for own in fit.design.random) == 1
    own = term.group if alone else term.label
    return (f"of the effects of '{own}' alone; those of {name_list(others)} are left out",)


def _weights(own: Any, asked: str | None) -> np.ndarray:
    """Weights (m,) of the coefficients: the one asked for, or the mean of those of the levels of a factor."""
    m = len(own.columns)
    if asked is None and (m == 1 or (has_indicators(own) and _has_means(own))):
        return np.full(m, 1.0 / m)
    if asked not in own.columns:
        said = "has several coefficients" if asked is None else f"has no coefficient '{asked}'"
        raise OptionError(f"{own.group} {said}: give coefficient=, one of {name_list(own.columns)}")
    return np.eye(m)[own.columns.index(asked)]


def one_effect_each(own: Any) -> bool:
    """Whether every level has one of several effects, ``diag(0 + group | gen)``: a mean is of nothing."""
    return has_indicators(own) and not _has_means(own)


def _has_means(own: Any) -> bool:
    """Whether a level may have several of the effects: not in ``(0 + group | gen)``, each in one group."""
    if own.relation is not None:
        return True
    row, column = np.nonzero(own.values)
    cells = np.unique(np.column_stack([own.codes[row], column]), axis=0)
    return len(cells) > len(np.unique(cells[:, 0]))


def has_indicators(own: Any) -> bool:
    """Whether the coefficients are effects in the levels of a factor, ``(0 + env | gen)``."""
    if len(own.layers) > 1 or len(own.columns) < 2:
        return False
    values = own.values
    return bool(np.all((values == 0.0) | (values == 1.0)) and np.all(values.sum(axis=1) <= 1.0))


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
