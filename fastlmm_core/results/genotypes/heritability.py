"""Heritability of the levels of a random term by every usual definition, with standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.frames import titled
from fastlmm_core.errors import InferenceError, OptionError, nearest_names
from fastlmm_core.inference import heritability as numbers
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.results.components.component_rows import component_rows, parameter_covariance
from fastlmm_core.results.components.residual_variances import residual_of_means
from fastlmm_core.results.effect_functions import effect_functions
from fastlmm_core.results.genotypes.blue_differences import BlueDifferences
from fastlmm_core.results.genotypes.heritability_levels import (
    TermLevels,
    find_term,
    has_indicators,
    left_out,
    one_effect_each,
    term_levels,
)

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

DEFINITIONS = ("standard", "plot", "cullis", "oakey", "piepho", "piepho_kr", "delta_blup", "delta_blue")
FROM_COMPONENTS = ("standard", "plot")
DELTAS = ("delta_blup", "delta_blue")
FROM_ONE_FIT = (*FROM_COMPONENTS, "cullis", "oakey")
# Matrices (S, S) that the other definitions hold at once, and what needs none.
MATRICES, WITHOUT_MATRICES = 5, f"definitions={FROM_COMPONENTS} take the components alone"
OK = "ok"
CORRELATED = "the residual is correlated"
SEVERAL_COEFFICIENTS = "a mean over levels has no plots of its own; name one of them with coefficient="
RELATED = "the levels are related; 'oakey' and the deltas take that into account"
ONE_LEVEL = "a difference needs two levels"
NO_DIFFERENCE = "by their relation no two levels differ"
Answer = tuple[float, float, str]  # estimate, standard error, status


@dataclass(frozen=True, eq=False, repr=False)
class HeritabilityTable(FigureTable):
    """Heritabilities of one term: definition, estimate, se, status (see ``LMMFit.heritability``).

    Attributes
    ----------
    labels : (L,) ndarray of str
        Levels that count.
    genetic, blup, blue : (L, L) or None
        Variances of the differences of the levels, of the errors of their BLUPs, and of their BLUEs.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
    >>> fit.heritability("gen", ["standard", "cullis"])
    Heritability of gen, 24 levels, variance 0.142902:
     definition  estimate       se
     standard     0.84007  0.06254
     cullis       0.80913  0.06976
    Next: ["cullis"], .by_level, .pairs, .to_frame()
    """

    labels: Any = None
    genetic: Any = None
    blup: Any = None
    blue: Any = None

    def __getitem__(self, definition: str) -> float:
        """The estimate by one definition."""
        own = self.frame.set_index("definition")["estimate"]
        if definition not in own.index:
            raise OptionError(f"no definition '{definition}'{nearest_names(definition, own.index)}")
        return float(own[definition])

    @cached_property
    @titled("Heritability of differences, by pair")
    def pairs(self) -> pd.DataFrame:
        """Delta of every pair: level1, level2, delta_blup, delta_blue."""
        first, second = np.triu_indices(len(self.labels), 1)
        frame = {"level1": self.labels[first], "level2": self.labels[second]}
        return pd.DataFrame(frame | {name: own[first, second] for name, own in self._deltas().items()})

    @cached_property
    @titled("Heritability by level")
    def by_level(self) -> pd.DataFrame:
        """Delta of every level, over its pairs: level, delta_blup, delta_blue (a harmonic mean)."""
        means = {
            name: numbers.level_means(own, name == "delta_blue")[0] for name, own in self._deltas().items()
        }
        return pd.DataFrame({"level": self.labels} | means)

    def _deltas(self) -> dict[str, np.ndarray]:
        out = {}
        if self.blup is not None:
            out["delta_blup"] = numbers.delta_blup(self.genetic, self.blup)
        if self.blue is not None:
            out["delta_blue"] = numbers.delta_blue(self.genetic, self.blue)
        return out


def heritability(
    fit: FixedPart, term: str, definitions: Sequence[str] | str | None, levels: Sequence[Any] | None,
    coefficient: str | None, information: str,
) -> HeritabilityTable:  # fmt: skip
    """See ``LMMFit.heritability``."""
    asked = DEFINITIONS if definitions is None else tuple(np.atleast_1d(definitions).tolist())
    for name in asked:
        if name not in DEFINITIONS:
            raise OptionError(f"definitions: '{name}' is not known{nearest_names(name, DEFINITIONS)}")
    own = term_levels(fit, term, levels, coefficient)
    by_pairs = bool(set(asked) - set(FROM_COMPONENTS))
    if by_pairs:
        needed, what = MATRICES * 8 * own.chosen.size**2, f"the heritability of {own.chosen.size:,} levels"
        check_memory(needed, None, what, advice=WITHOUT_MATRICES)
    covariance = _known_covariance(fit, information)
    blup = None
    if set(asked) & {"oakey", "delta_blup"} and own.chosen.size > 1:
        blup = _functions(fit, own, np.eye(own.chosen.size)).covariance()
    blues = BlueDifferences(fit, own) if set(asked) & {"piepho", "piepho_kr", "delta_blue"} else None
    if blues is not None and "piepho_kr" in asked:
        blues.adjust_first()
    found = [_answer(name, fit, own, covariance, blup, blues) for name in asked]
    group = fit.design.random[own.k].group
    frame = pd.DataFrame(
        {
            "group": group, "definition": asked,
            "estimate": [row[0] for row in found], "se": [row[1] for row in found],
            "levels": own.chosen.size, "status": [row[2] for row in found],
        }
    )  # fmt: skip
    spread = numbers.difference_variances
    return HeritabilityTable(
        frame, f"Heritability of {name_of(fit, own)}, {own.chosen.size} levels, variance {own.variance:.6g}:",
        labels=own.labels,
        notes=(*left_out(fit, own.k), *_notes(frame), *_without_difference(own, frame)),
        hidden=("group", "levels", "status"),
        genetic=spread(own.variance * own.relation) if by_pairs else None,
        blup=None if blup is None else spread(blup),
        blue=None if blues is None else blues.plain,
    )  # fmt: skip


def heritability_of_all(fit: FixedPart, term: str) -> HeritabilityTable | None:
    """By all definitions, of the mean of several effects; None where each level has one of several."""
    if one_effect_each(fit.design.random[find_term(fit, term)]):
        return None
    return heritability(fit, term, None, None, None, "average")


def heritability_within(fit: FixedPart, term: str) -> pd.DataFrame:
    """Heritabilities in each level of the factor of ``(0 + env | gen)``; no rows for other terms.

    Columns group, coefficient, definition, estimate, se, levels, status; those definitions that need no
    second fit.
    """
    own = fit.design.random[find_term(fit, term)]
    parts = [
        heritability(fit, term, FROM_ONE_FIT, None, name, "average").frame.assign(coefficient=name)
        for name in (own.columns if has_indicators(own) else ())
    ]
    if not parts:
        return pd.DataFrame()
    columns = ["group", "coefficient", "definition", "estimate", "se", "levels", "status"]
    return pd.concat(parts, ignore_index=True)[columns]


def name_of(fit: FixedPart, own: TermLevels) -> str:
    """What the heritability is of: the group, with the coefficient or the mean of several."""
    term = fit.design.random[own.k]
    if len(term.columns) == 1:
        return str(term.group)
    c = own.coefficient
    return f"{term.group}, " + (f"mean of {len(term.columns)} coefficients" if c is None else term.columns[c])


def _functions(fit: FixedPart, own: TermLevels, rows: np.ndarray) -> Any:
    """Rows (r, S) over the levels that count."""
    term = fit.design.random[own.k]
    at = np.zeros((rows.shape[0], len(term.levels)))
    at[:, own.chosen] = rows
    empty = sp.csr_array(at.shape)
    weights = [sp.csr_array(w * at) if w else empty for w in own.weights]
    return effect_functions(fit, None, {own.k: weights})


def _known_covariance(fit: FixedPart, information: str) -> np.ndarray | None:
    try:
        return parameter_covariance(fit, information)
    except InferenceError:
        return None


def _answer(
    name: str, fit: FixedPart, own: TermLevels, covariance: np.ndarray | None, blup: np.ndarray | None,
    blues: BlueDifferences | None,
) -> Answer:  # fmt: skip
    """Estimate, standard error and status of one definition."""
    if name in FROM_COMPONENTS:
        return _from_components(name, fit, own, covariance)
    if own.chosen.size < 2:
        return np.nan, np.nan, ONE_LEVEL
    if own.related and name in ("cullis", "piepho", "piepho_kr"):
        return np.nan, np.nan, RELATED
    if own.variance <= 0.0:
        return 0.0, np.nan, OK
    if name in DELTAS and not numbers.differing(numbers.difference_variances(own.relation)).any():
        return np.nan, np.nan, NO_DIFFERENCE
    if blues is not None and name in ("piepho", "piepho_kr", "delta_blue"):
        return blues.answer(name)
    if name == "cullis":
        weights = numbers.cullis_weights(own.chosen.size)
    elif name == "oakey":
        assert blup is not None
        weights = numbers.oakey_weights(own.relation_matrix, blup / own.variance)
    elif own.related:
        weights = numbers.delta_weights(own.relation)
    else:  # the pairs weigh the same
        weights = numbers.cullis_weights(own.chosen.size)
    return _weighted(weights, fit, own, covariance)


def _weighted(
    weights: numbers.ErrorWeights, fit: FixedPart, own: TermLevels, covariance: np.ndarray | None
) -> Answer:
    """c - sum w v / s and its standard error by the delta method."""
    values, gradients = _functions(fit, own, weights.rows).variances()
    unknown = float(weights.weights @ values)
    estimate = weights.constant - unknown / own.variance
    if covariance is None or own.moving:
        return estimate, np.nan, OK
    slope = (unknown * own.slope / own.variance - gradients @ weights.weights) / own.variance
    return estimate, _error(slope, covariance), OK


def _error(slope: np.ndarray, covariance: np.ndarray | None) -> float:
    """sqrt(g' C g); NaN where nothing is known to vary."""
    variance = np.nan if covariance is None else float(slope @ covariance @ slope)
    return float(np.sqrt(variance)) if variance > 0.0 else np.nan


def _from_components(name: str, fit: FixedPart, own: TermLevels, covariance: np.ndarray | None) -> Answer:
    """Of means over environments and replications, or of single plots, from the components alone."""
    term, c = fit.design.random[own.k], own.coefficient
    if own.related:
        return np.nan, np.nan, RELATED
    if c is None:
        return np.nan, np.nan, SEVERAL_COEFFICIENTS
    found = interactions_on_rows(fit, own.k, c)
    if found is None:
        return np.nan, np.nan, numbers.SLOPES
    tied = next((fit.design.random[h].group for h in found if _has_tied_levels(fit.design.random[h])), None)
    if tied is not None:
        return np.nan, np.nan, f"the levels of {tied} are related or correlated"
    mine = np.isin(term.codes, own.chosen) & (term.values[:, c] != 0.0)
    codes = np.unique(term.codes[mine], return_inverse=True)[1]
    rows = component_rows(fit)
    residual = residual_of_means(fit, np.flatnonzero(mine), codes, name == "plot", rows)
    if residual is None:
        return np.nan, np.nan, CORRELATED
    noise, slope = residual
    for h in found:
        other = fit.design.random[h]
        row = next(row for row in rows if row.group == other.group)
        share = 1.0 if name == "plot" else numbers.mean_environments(codes, other.codes[mine])
        noise, slope = noise + row.value / share, slope + row.slope / share
    whole = own.variance + noise
    if not whole > 0.0:
        return np.nan, np.nan, "there is no variance at all"
    gradient = (noise / whole * own.slope - own.variance / whole * slope) / whole
    figures = (np.array([own.variance]), np.array([noise]), np.zeros(1), np.ones(1))
    estimate = float(numbers.standard(*figures)[0])
    return estimate, _error(gradient, covariance) if own.variance > 0.0 else np.nan, OK


def _has_tied_levels(term: Any) -> bool:
    """Whether levels of a random term are no independent effects, so that their mean has no variance / e."""
    return term.relation is not None and any(factor.kind != "id" for factor in term.relation.factors)


def standard_heritability(fit: FixedPart, own: TermLevels) -> tuple[float, str]:
    """H2 of means from the components of a fit, "ok"; NaN and why where it is not defined."""
    estimate, _, status = _from_components("standard", fit, own, None)
    return estimate, status


def interactions_on_rows(fit: FixedPart, k: int, coefficient: int = 0) -> tuple[int, ...] | None:
    """Random terms that are interactions of term k, whose coefficients are 1 on its rows and 0 on others.

    ``(0 + new | gen)`` with new 1 for new lines and 0 for checks is such a term, as ``(1 | gen)`` is. None
    where the variance between the levels of any of them depends on a covariate.
    """
    terms = fit.design.random
    used = [used_rows(term, coefficient if h == k else 0) for h, term in enumerate(terms)]
    groups = [() if term.is_spline else term.group_variables for term in terms]
    found = numbers.interactions(k, groups, [rows is not None for rows in used])
    own = used[k]
    if found is None or own is None:
        return None
    other = [rows for rows in (used[h] for h in found) if rows is not None]
    return found if all(rows[own].all() for rows in other) else None


def is_one_effect(term: Any) -> bool:
    """Whether a random term is one effect of its levels, ``(1 | gen)``, or of some, ``(0 + new | gen)``."""
    if term.columns == ("(Intercept)",):
        return not term.is_spline
    return len(term.columns) == 1 and used_rows(term, 0) is not None


def used_rows(term: Any, coefficient: int) -> np.ndarray | None:
    """Rows (n,) with an effect of one coefficient that is 1 or 0; None of others."""
    if term.is_spline or not (len(term.columns) == 1 or has_indicators(term)) or len(term.layers) != 1:
        return None
    values = term.values[:, coefficient]
    return values == 1.0 if np.all((values == 0.0) | (values == 1.0)) else None


def _without_difference(own: TermLevels, frame: pd.DataFrame) -> tuple[str, ...]:
    """A note on pairs that the deltas leave out: the relation makes both levels one."""
    said = [name for name in DELTAS if ((frame["definition"] == name) & (frame["status"] == OK)).any()]
    if not said or not own.related or own.variance <= 0.0:
        return ()
    alike = np.triu(~numbers.differing(numbers.difference_variances(own.relation)), 1)
    first, second = np.nonzero(alike)
    if not first.size:
        return ()
    pair = f"'{own.labels[first[0]]}' and '{own.labels[second[0]]}'"
    count = "1 pair" if first.size == 1 else f"{first.size} pairs"
    return (f"{', '.join(said)}: without {count} that cannot differ by their relation, such as {pair}",)


def _notes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Why a definition has no figure."""
    lost = frame[frame["status"] != OK]
    return tuple(f"{name}: {why}" for name, why in zip(lost["definition"], lost["status"], strict=True))
