"""What a fit warns of: dropped columns, terms that the data cannot tell apart, boundaries, no convergence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from fastlmm_core.design import Design
from fastlmm_core.design.random_terms import RandomTerm
from fastlmm_core.engine.equations.confounding import coefficients_of
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import (
    ConfoundedWarning,
    FastLMMWarning,
    NearDependenceWarning,
    NotConvergedWarning,
    RankDeficientWarning,
    SingularFitWarning,
    name_list,
)
from fastlmm_core.kernels.thresholds import FLAT
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.optimizer import STATUS, Optimum
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.components.structured_blocks import describe_singular as describe_structures
from fastlmm_core.results.components.structured_blocks import describe_unbounded
from fastlmm_core.results.components.undetermined import confounded, undetermined_parameters
from fastlmm_core.results.components.variance_components import describe_singular
from fastlmm_core.results.group_parts import confounded_groups

EXPLAINED = (
    "the fixed part explains the response exactly: the residual variance is zero, the criterion is minus "
    "infinity, and there are no errors to test against"
)
# Ratio of the sizes of responses, such as traits, from which on units may keep a search from its end.
FAR_APART = 1e4


def collect_warnings(
    design: Design, solved: SolvedEquations | StructuredSolution, optimum: Optimum, certificate: Certificate
) -> tuple[FastLMMWarning, ...]:
    """Everything about a fit that its reader should know before its figures."""
    found: list[FastLMMWarning] = list(design.warnings)
    exact = isinstance(solved, SolvedEquations) and solved.sigma2 <= 0.0
    if exact:
        found.append(SingularFitWarning(EXPLAINED))
    found += _dependent_columns(design, solved)
    found += _untold_groups(design)
    found += _repeated_terms(design)
    within = confounded(solved, certificate)
    structured = isinstance(solved, StructuredSolution)
    flat = not within.terms and (structured or certificate.smallest_curvature < FLAT)
    if not exact:  # the information is per residual variance, of which there is none
        found += [ConfoundedWarning(words) for words in undetermined_parameters(design, solved, flat)]
    if isinstance(solved, StructuredSolution):
        words = describe_structures(design, solved)
    else:
        words = describe_singular(design, solved)
    if words:
        found.append(singular_warning(words))
    for k, N in within.parts.items():
        own, alone = coefficients_of(N, solved.equations.terms[k].basis)
        found.append(_part_warning(design.random[k], own, alone))
    if isinstance(solved, StructuredSolution):
        found += _untold_residuals(solved)
    terms = dict.fromkeys(design.random[k].group for k in within.terms)
    if terms:
        found.append(
            ConfoundedWarning(
                f"the random term of {name_list(terms)} lies within the fixed part: the data say nothing "
                "about its variance, and the figure shown for it is arbitrary; leave it out of one of "
                "the two parts"
            )
        )
    if not certificate.optimal:
        unbounded = describe_unbounded(design, solved) if isinstance(solved, StructuredSolution) else None
        reason = f"{unbounded}; " if unbounded else _unlike_units(design, solved)
        found.append(
            NotConvergedWarning(
                f"not converged: {reason}{STATUS[optimum.status]} (decrement {certificate.decrement:.3g}, "
                f"gradient {certificate.gradient_norm:.3g})"
            )
        )
    return tuple(found)


def _dependent_columns(
    design: Design, solved: SolvedEquations | StructuredSolution
) -> Iterator[FastLMMWarning]:
    """Columns of the fixed part that depend on others, and those that nearly do."""
    if design.dropped_columns:
        yield dropped_warning(design.dropped_columns)
    separation = solved.equations.coding.separation
    if separation is not None:
        names = [design.column_names[design.kept[j]] for j in separation.replaced]
        added = float(separation.added.min())
        yield NearDependenceWarning(
            f"nearly dependent on other columns, but for {added:.1g} of their size: {name_list(names)}; "
            f"of about 16 digits in the data {round(15.5 + np.log10(added))} reach these estimates"
        )


def _untold_groups(design: Design) -> Iterator[ConfoundedWarning]:
    """Individuals whose fixed genetic groups have no effects that could be estimated, or compared."""
    for k, (term, untold) in enumerate(zip(design.random, design.untold_levels, strict=True)):
        if untold is None:
            continue
        if untold.any():
            names = name_list(np.asarray(term.levels, dtype=object)[untold.any(axis=1)])
            yield ConfoundedWarning(
                f"the data do not tell the effects of genetic groups that {names} have a part of: no values "
                f"of '{term.label}' are given for these individuals; put the groups together with others"
            )
        groups = confounded_groups(design, k)
        if groups:
            yield ConfoundedWarning(
                f"other columns of the fixed part go with the genetic groups {name_list(groups)} of "
                f"'{term.label}': BLUPs of individuals that have different parts of them do not compare, "
                "they are shown with groups that were dropped at zero; leave these columns out, put groups "
                "together, or make them random (group_variance=)"
            )


def _repeated_terms(design: Design) -> Iterator[ConfoundedWarning]:
    """Splines that stand in the formula twice, and effects in more than one random term."""
    splines = Counter(term.group for term in design.random if term.is_spline)
    for label, times in splines.items():
        if times > 1:
            yield ConfoundedWarning(
                f"'{label}' stands in the formula {times} times: the data tell only the sum of these curves; "
                "leave it out but once"
            )
    for group, columns in repeated_effects(design):
        yield ConfoundedWarning(
            f"{name_list(columns)} varies between levels of '{group}' in more than one random term: the "
            "data tell only the sum of these variances; leave it out of all but one"
        )


def _untold_residuals(solved: StructuredSolution) -> Iterator[ConfoundedWarning]:
    """Groups of rows whose residuals the data tell nothing of, or from a single row."""
    groups = solved.confounded_groups
    absent = name_list(own.label for own in groups if not own.rows.size)
    levels = name_list(own.label for own in groups if own.rows.size)
    if absent:
        yield ConfoundedWarning(
            f"there are no rows of {absent}: the figures shown for their residual are where the search "
            "began, and do not count as parameters"
        )
    if levels:
        yield ConfoundedWarning(
            f"the fixed part explains the rows of {levels} by themselves: the data say nothing about "
            "their residual. The figures shown for it are arbitrary, and so are errors of values and "
            "predictions that depend on it; marginal means that do are not given"
        )
    if single := solved.single_rows:
        yield ConfoundedWarning(
            f"the residual variance of {name_list(own.label for own in single)} rests on a single row: "
            "it is the square of what the model leaves of that row, and may be close to zero by chance; "
            "let it share a variance with others, hold it (fixed_parameters), or leave the row out"
        )


def dropped_warning(names: Sequence[str]) -> RankDeficientWarning:
    """Columns of the fixed part that depend on earlier ones."""
    return RankDeficientWarning(f"dropped, because they depend on earlier columns: {name_list(names)}")


def singular_warning(words: Sequence[str]) -> SingularFitWarning:
    """Terms at the boundary, each in words."""
    return SingularFitWarning("singular fit: " + "; ".join(words))


def _unlike_units(design: Design, solved: SolvedEquations | StructuredSolution) -> str:
    """Coefficients whose responses are of sizes so far apart that a search hardly moves both, in words."""
    if not isinstance(solved, StructuredSolution):
        return ""
    for random, term in zip(design.random, solved.equations.terms, strict=True):
        root = 1.0 / np.sqrt(np.maximum(term.column_scale, 1e-300))
        small, large = int(np.argmin(root)), int(np.argmax(root))
        if not random.is_spline and root[large] > FAR_APART * root[small]:
            return (
                f"the response varies {root[large] / root[small]:.0e} times as much for "
                f"{random.columns[large]} as for {random.columns[small]} in '{random.label}': take units in "
                "which they vary alike; "
            )
    return ""


def _part_warning(term: RandomTerm, own: np.ndarray, alone: bool) -> ConfoundedWarning:
    """Effects of the coefficients `own` of a term, or combinations of these, within the fixed part."""
    names = name_list([term.columns[a] for a in own])
    if alone:
        return ConfoundedWarning(
            f"the effects of {names} in '{term.label}' lie within the fixed part, as those of a single level "
            "do: the data say nothing about their variance and covariances. The figures shown for these are "
            "arbitrary, and so are errors of values and predictions that depend on them; marginal means that "
            "do are not given. Leave them out, or their rows"
        )
    return ConfoundedWarning(
        f"a combination of the effects of {names} in '{term.label}' lies within the fixed part: the data "
        "tell only what of their variances and covariances is beside it. The figures shown for them are "
        "arbitrary, and so are errors of values and predictions that depend on it; marginal means that do "
        "are not given. Leave the fixed effect out, or take a structure with fewer parameters"
    )


def repeated_effects(design: Design) -> list[tuple[str, list[str]]]:
    """Grouping factors with the coefficients that stand in more than one of their terms."""
    counts: dict[str, Counter[str]] = {}
    for term in design.random:
        if not term.is_spline:
            counts.setdefault(term.group, Counter()).update(term.columns)
    repeated = {group: [name for name, times in own.items() if times > 1] for group, own in counts.items()}
    return [(group, names) for group, names in repeated.items() if names]
