"""Likelihood-ratio tests of random terms: which mixture of chi-squares belongs to two nested fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.intervals.mixtures import Mixture, one_variance, several_variances
from fastlmm_core.linalg import make_factor
from fastlmm_core.reml.fitting import solve_equations
from fastlmm_core.reml.information import information_matrix, natural_parameters

if TYPE_CHECKING:
    from fastlmm_core.results.figures import FitFigures


def boundary_mixture(small: FitFigures, large: FitFigures) -> Mixture | None:
    """The mixture for the ratio of nested models; None where no variance is tested, or none is known.

    Known are: variances that the smaller model lacks, up to three; and one more coefficient in an
    unstructured term, whose variance comes with covariances. Fixed effects tested beside them count as
    unrestricted.
    """
    if large.npar <= small.npar or not _comparable(small, large):
        return None
    free = large.rank - small.rank
    gone, grown = unmatched(small, large)
    if free < 0 or gone is None:
        return None
    if len(grown) == 1 and len(gone) == 1:
        before, after = small.design.random[gone[0]], large.design.random[grown[0]]
        nested = before.group == after.group and set(before.columns) < set(after.columns)
        one_more = len(after.columns) == len(before.columns) + 1 and after.structure == "us"
        whole = before.structure == "us" or len(before.columns) == 1
        return one_variance(free + len(before.columns)) if nested and one_more and whole else None
    own = [large.design.random[k] for k in grown]
    if gone or not own or any(len(term.columns) > 1 and term.structure != "diag" for term in own):
        return None
    count = sum(len(term.columns) for term in own)
    if count == 1:
        return one_variance(free)
    if count > 3 or small.structured or large.structured:
        return None
    return several_variances(null_correlation(small, large, grown), free)


def _comparable(small: FitFigures, large: FitFigures) -> bool:
    """Whether the fits differ in their terms only, none of which is a spline, and nothing is held."""
    if small.design.residual.text != large.design.residual.text:
        return False
    if small.prepared.fixed_parameters or large.prepared.fixed_parameters:
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
    term of one coefficient is left out.
    """
    out = []
    for k, term in enumerate(fit.design.random):
        others = [t for i, t in enumerate(fit.design.random) if i != k]
        label = term.label if term.at is None else term.group
        parts = [] if len(term.columns) == 1 or not term.is_plain else _without_parts(term)
        if not parts:
            out.append((label, replace(fit.design, random=tuple(others))))
        for left_out, reduced in parts:
            random = tuple(reduced if i == k else t for i, t in enumerate(fit.design.random))
            out.append((f"{left_out} in {label}", replace(fit.design, random=random)))
    return out


def _without_parts(term: Any) -> list[tuple[str, Any]]:
    coding = term.coding
    if coding.p != len(term.columns):
        return []
    out = []
    for number, part in enumerate(coding.terms):
        own = range(coding.starts[number], coding.starts[number + 1])
        left = [c for c in range(coding.p) if c not in own]
        if left:
            columns = tuple(term.columns[c] for c in left)
            structure = "us" if len(left) == 1 else term.structure
            values = np.ascontiguousarray(np.asarray(term.values)[:, left])
        else:
            columns, structure, values = ("(Intercept)",), "us", np.ones((len(term.codes), 1))
        out.append((part.label, replace(term, columns=columns, values=values, structure=structure)))
    return out
