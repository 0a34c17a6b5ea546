"""Variances, correlations and effective dimensions of a fit as named columns of one row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fastlmm_core.formula.structured_parts import names_spline
from fastlmm_core.results.components.structured_blocks import residual_blocks, term_blocks

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

# A factor whose levels are related, in the name of a group.
RELATED = re.compile(r"\bvm\(")


def component_columns(fit: FitFigures) -> dict[str, float]:
    """``var_<group>`` of every variance of a fit, that of the residual last; see the two functions below."""
    if fit.structured:
        return structured_columns(fit)
    return plain_columns(fit, list(range(len(fit.design.random)))) | {"var_Residual": fit.sigma**2}


def plain_columns(fit: FitFigures, terms: list[int]) -> dict[str, float]:
    """``var_<group>`` and ``var_<group>.<coefficient>`` of some terms of a fit with unrelated levels."""
    row: dict[str, float] = {}
    for k in terms:
        term = fit.design.random[k]
        for name, value in zip(variance_names(term), fit.term_variances(k).tolist(), strict=True):
            row[name] = value
    return row


class NamedTerm(Protocol):
    """A random term by its names."""

    @property
    def group(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...


def variance_names(term: NamedTerm) -> list[str]:
    """``var_<group>`` of a term of intercepts, ``var_<group>.<coefficient>`` of others."""
    if term.columns == ("(Intercept)",):
        return [f"var_{term.group}"]
    return [f"var_{term.group}.{column}" for column in term.columns]


def shared_variances(columns: Iterable[str]) -> tuple[dict[str, str], bool]:
    """Which columns of a table are variances of plots, ``var_gen``, and of what: ``gen``; are there others?

    The others are of splines: smoothing parameters, of which no share of the variance is made. There are none
    of plots where variances do not add up in one, as those of slopes and of environments.
    """
    every = {name: name.removeprefix("var_") for name in columns if name.startswith("var_")}
    shared = {name: group for name, group in every.items() if not names_spline(group)}
    return shared if in_every_plot(shared.values()) else {}, len(shared) < len(every)


def in_every_plot(groups: Iterable[str]) -> bool:
    """Whether variances add up to that of a plot, as far as their names tell.

    Those of ``at(env)``, of residuals by groups, and of several coefficients, ``gen.env1`` beside ``gen`` or
    ``gen.env2``, do not; nor those of ``vm(gen, G)``, which count times the diagonal of G.
    """
    names = list(groups)
    if any(name.startswith(("at(", "Residual|")) or RELATED.search(name) for name in names):
        return False
    parts = [name[:i] for name in names for i, letter in enumerate(name) if letter == "."]
    return len(set(parts)) == len(parts) and not set(parts) & set(names)


def structured_columns(fit: FitFigures) -> dict[str, float]:
    """Columns ``var_...`` of all variances, also of splines and of several residuals, ``cor_`` and ``edf_``.

    ``cor_ar1(row)`` are the correlations of neighbouring levels, ``edf_ps(row, col).row`` the effective
    dimensions of a spline.
    """
    row: dict[str, float] = {}
    for block in [*term_blocks(fit), *residual_blocks(fit)]:
        where = block.group if block.level is None else f"{block.group}.{block.level}"
        values = block.extra["variances"] if block.T is None else np.diag(block.T)
        alone = block.names == ["(Intercept)"] or (block.group.startswith("Residual") and len(values) == 1)
        for name, value in zip(block.names, values.tolist(), strict=True):
            row[f"var_{where}" if alone else f"var_{where}.{name}"] = value
        for name, value in block.extra.get("group_corr", {}).items():
            row[f"cor_{where}.{name}"] = float(value)
        for name, value in zip(block.names, block.extra.get("effective_dim", ()), strict=False):
            row[f"edf_{where}.{name}"] = max(0.0, float(value))
    return row
