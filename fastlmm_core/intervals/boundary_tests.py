"""Likelihood-ratio tests of random terms: which mixture of chi-squares belongs to two nested fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.design.parameter_names import named_covariances
from fastlmm_core.intervals.mixtures import Mixture, one_variance, several_variances
from fastlmm_core.linalg import make_factor
from fastlmm_core.reml.fitting import solve_equations
from fastlmm_core.reml.information import information_matrix, natural_parameters

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures


def boundary_mixture(small: FitFigures, large: FitFigures) -> Mixture | None:
    """The mixture for the ratio of nested models; None where no variance is tested, or none is known.

    Known are: variances that the smaller model lacks, up to three; and one more coefficient in an
    unstructured or diagonal term, whose variance comes with its covariances. Fixed effects tested beside
    them count as unrestricted. Parameters that a variance of zero leaves without a meaning, such as the
    autocorrelation of its levels, have no such distribution (Davies 1987, Biometrika 74:33-43).
    """
    if large.npar <= small.npar or not _comparable(small, large):
        return None
    free = large.rank - small.rank
    gone, grown = unmatched(small, large)
    if free < 0 or gone is None:
        return None
    more = large.npar - small.npar - free
    if len(grown) == 1 and len(gone) == 1:
        before, after = small.design.random[gone[0]], large.design.random[grown[0]]
        nested = before.group == after.group and set(before.columns) < set(after.columns)
        alike = before.structure == after.structure or len(before.columns) == 1
        covariances = {"us": len(before.columns), "diag": 0}.get(after.structure, more)
        known = nested and alike and more == 1 + covariances
        return one_variance(free + covariances) if known else None
    own = [large.design.random[k] for k in grown]
    if gone or not own or any(len(term.columns) > 1 and term.structure != "diag" for term in own):
        return None
    count = sum(len(term.columns) for term in own)
    if count != more:
        return None
    if count == 1:
        return one_variance(free)
    if count > 3 or small.structured or large.structured:
        return None
    return several_variances(null_correlation(small, large, grown), free)


def _comparable(small: FitFigures, large: FitFigures) -> bool:
    """Whether the fits differ in their terms only, none of which is a spline, and hold the same values."""
    if small.design.residual.text != large.design.residual.text:
        return False
    if (small.prepared.fixed_parameters or {}) != (large.prepared.fixed_parameters or {}):
        return False
    return not any(term.is_spline for fit in (small, large) for term in fit.design.random)


def unmatched(small: FitFigures, large: FitFigures) -> tuple[list[int] | None, list[int]]:
    """Random terms of the smaller model that the larger has not, and the other way round."""
    left = list(range(len(large.design.random)))
    gone = []
    for k, term in enumerate(small.design.random):
        same = [i for i in left if _key(large.design.random[i]) == _key(term)]
        if same:
            left.remove(same[0])
        else:
            gone.append(k)
    return gone, left


def _key(term: Any) -> tuple[str, frozenset[str], str]:
    structure = term.structure if len(term.columns) > 1 else "one"
    return term.group, frozenset(term.columns), structure


def null_correlation(small: FitFigures, large: FitFigures, tested: list[int]) -> np.ndarray:
    """Correlation of the estimates of the `tested` variances, from the expected information at the null."""
    e = large.plain.equations
    theta = np.zeros(e.n_theta)
    waiting = list(range(len(small.design.random)))
    for k, term in enumerate(large.design.random):
        if k not in tested:
            own = next(i for i in waiting if _key(small.design.random[i]) == _key(term))
            waiting.remove(own)
            T = small.plain.user_covariance(own)
            order = [small.design.random[own].columns.index(name) for name in term.columns]
            back = np.linalg.inv(e.terms[k].basis)
            theta[e.theta_term == k] = e.terms[k].structure.theta_of(back @ T[np.ix_(order, order)] @ back.T)
    y = large.response if large.offset is None else large.response - large.offset
    solved = solve_equations(e, y, theta, reml=large.reml, factor=make_factor(e))
    parameters = natural_parameters(solved)
    covariance = np.linalg.pinv(information_matrix(solved, parameters, "expected"), hermitian=True)
    at = np.flatnonzero(np.isin(parameters.term, tested))
    block = covariance[np.ix_(at, at)]
    sd = np.sqrt(np.diag(block))
    return block / np.outer(sd, sd)


def reduced_designs(fit: FitFigures) -> list[tuple[str, Any]]:
    """Designs without one random term, or without one term of its coefficients, each with what is missing.

    As lmerTest's ranova: ``(x | g)`` is reduced to ``(1 | g)``, ``(0 + f | g)`` with a factor f too, and a
    term of one coefficient is left out. So is ``diag(0 + f | g)``, of which ``(1 | g)`` is no special case,
    and ``(0 + f | g)`` beside another ``(1 | g)``. ``diag(1 + x | g)`` is left without each of its parts, as
    ``(x || g)`` is. A term that is held at given values is no question.
    """
    out = []
    given = fit.prepared.fixed_parameters
    held = {own.term for own in named_covariances(fit.design, given, "fixed_parameters")}
    for k, term in enumerate(fit.design.random):
        if k in held:
            continue
        others = [t for i, t in enumerate(fit.design.random) if i != k]
        label = term.label if term.at is None else term.group
        single = len(term.columns) == 1 or not term.is_plain
        parts = [] if single else _without_parts(term, [other.group for other in others])
        if not parts:
            out.append((label, replace(fit.design, random=tuple(others))))
        for left_out, reduced in parts:
            random = tuple(reduced if i == k else t for i, t in enumerate(fit.design.random))
            out.append((f"{left_out} in {label}", replace(fit.design, random=random)))
    return out


def _without_parts(term: Any, other_groups: list[str]) -> list[tuple[str, Any]]:
    coding = term.coding
    if coding.p != len(term.columns):
        return []
    out = []
    parts = [
        (part.label, range(coding.starts[number], coding.starts[number + 1]))
        for number, part in enumerate(coding.terms)
    ]
    if term.structure == "diag" and coding.terms and coding.starts[0] == 1:
        parts.insert(0, ("(Intercept)", range(1)))  # as in (x || g), whose terms are these by themselves
    for part_label, own in parts:
        left = [c for c in range(coding.p) if c not in own]
        if left:
            columns = tuple(term.columns[c] for c in left)
            structure = "us" if len(left) == 1 else term.structure
            values = np.ascontiguousarray(np.asarray(term.values)[:, left])
        elif term.structure != "us" or term.group in other_groups:
            return []
        else:
            columns, structure, values = ("(Intercept)",), "us", np.ones((len(term.codes), 1))
        out.append((part_label, replace(term, columns=columns, values=values, structure=structure)))
    return out
