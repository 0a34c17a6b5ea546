"""Residual variance of the means of genotypes, also where plots have variances of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.formula.residual import ResidualSpec
from fastlmm_core.results.components.component_rows import ComponentRow
from fastlmm_core.structures import make_coefficient_structure

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart


def residual_of_means(
    fit: FixedPart, rows: np.ndarray, codes: np.ndarray, per_plot: bool, components: list[ComponentRow]
) -> tuple[float, np.ndarray] | None:
    """Mean over genotypes of the variance of the mean of their residuals, and its derivatives.

    With n_g plots of genotype g it is the mean of sum_i s_i / n_g^2 (i a plot of g, s_i its variance), which
    for one variance is s over the harmonic mean of the n_g; of single plots the mean of the s_i.

    Parameters
    ----------
    rows : (r,) int64
        Plots that count.
    codes : (r,) int64
        Their genotypes, 0, 1, ...
    per_plot : bool
        Of single plots.
    components : list of ComponentRow

    Returns
    -------
    (float, (t,)), or None where residuals of these plots are correlated
    """
    found = _variances(fit, rows, [row for row in components if row.group.startswith("Residual")])
    if found is None:
        return None
    own, place = found
    counts = np.bincount(codes)
    weight = np.full(rows.size, 1.0 / rows.size) if per_plot else 1.0 / (counts.size * counts[codes] ** 2.0)
    if fit.weights is not None:  # s_i is the variance at a weight of 1, over that of the plot
        weight = weight / fit.weights[rows]
    share = np.bincount(place, weight, minlength=len(own))
    value = sum(w * row.value for w, row in zip(share, own, strict=True))
    slope = sum(w * row.slope for w, row in zip(share, own, strict=True))
    return float(value), np.asarray(slope)


def _variances(
    fit: FixedPart, rows: np.ndarray, residual: list[ComponentRow]
) -> tuple[list[ComponentRow], np.ndarray] | None:
    """Components that are residual variances, and which of them each of the rows (r,) has."""
    spec = fit.design.residual
    variances = [row for row in residual if row.var2 is None]
    if spec.kind == "units" and spec.by is None:
        return (variances, np.zeros(rows.size, np.int64)) if len(variances) == 1 else None
    if spec.kind == "units" and spec.by is not None:
        levels, codes = spec.by[1], spec.by[2]
    elif spec.kind == "within":
        return _variances_of_visits(spec, rows, variances)
    else:
        return None
    places = {str(row.var1): i for i, row in enumerate(variances)}
    at = np.array([places.get(str(level), -1) for level in levels])[codes[rows]]
    return None if (at < 0).any() else (variances, at)


def _variances_of_visits(
    spec: ResidualSpec, rows: np.ndarray, variances: list[ComponentRow]
) -> tuple[list[ComponentRow], np.ndarray] | None:
    """The same of visits, in every arm where they have own ones; None where two rows are correlated."""
    assert spec.subject_codes is not None and spec.position_codes is not None
    if np.unique(spec.subject_codes[rows]).size < rows.size and not _is_diagonal(spec):
        return None  # two plots of one subject
    m = len(spec.positions)
    arms: list[Any] = [None]
    arm_of = np.zeros(rows.size, np.int64)
    if spec.by is not None:
        arms, arm_of = list(spec.by[1]), spec.by[2][rows]
    place = np.full((len(arms), m), -1)
    for arm, level in enumerate(arms):
        group = spec.group if level is None else f"{spec.group}|{level}"
        own = {str(row.var1): i for i, row in enumerate(variances) if row.group == group}
        place[arm] = [own.get(str(visit), -1) for visit in spec.positions]
        if own and make_coefficient_structure(str(spec.structure), m, **spec.options).markov:
            place[arm] = min(own.values())  # one variance, of however many visits rows are shown
    at = place[arm_of, spec.position_codes[rows]]
    return None if (at < 0).any() else (variances, at)


def _is_diagonal(spec: ResidualSpec) -> bool:
    """Whether the residuals of one subject are independent of each other."""
    structure = make_coefficient_structure(str(spec.structure), len(spec.positions), **spec.options)
    return structure.shared_columns == 0
