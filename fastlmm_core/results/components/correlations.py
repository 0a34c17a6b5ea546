"""Correlations within the covariances of a fit, with standard errors by the delta method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.display.frames import titled
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, OptionError, nearest_names
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.kernels.thresholds import AT_BOUND
from fastlmm_core.results.components.component_rows import CovarianceBlock, covariance_blocks, slope_variances
from fastlmm_core.results.components.vpredict import delta_interval
from fastlmm_core.structures.residuals.field import FieldResiduals

if TYPE_CHECKING:
    from fastlmm_core.results.fit_figures import FitFigures

RESIDUAL = "Residual"
# What `var2` says of an autocorrelation: `var1` is the direction.
NEIGHBOUR = "(neighbour)"


@dataclass(frozen=True, eq=False, repr=False)
class CorrelationTable(FigureTable):
    """Correlations of a fit: group, var1, var2, estimate, se, lower, upper; prints itself.

    An autocorrelation has its direction as `var1` and ``"(neighbour)"`` as `var2`, and is in no matrix. `se`
    is NaN for a correlation that is held, +1, -1, or beside a variance of zero.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    >>> fit.correlations().to_frame()["estimate"].round(4).tolist()
    [0.0656]
    """

    def groups(self) -> tuple[str, ...]:
        """Names of the covariance matrices: grouping factors and the residual.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> fit.correlations().groups()
        ('Subject',)
        """
        return tuple(dict.fromkeys(self.frame["group"][self.frame["var2"] != NEIGHBOUR]))

    @titled("Correlations")
    def matrix(self, group: str | None = None) -> pd.DataFrame:
        """The correlation matrix (m, m) of one group, by default the first; 0 where the model has none.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> print(fit.correlations().matrix())
        Correlations
                      (Intercept)     Days
         (Intercept)      1.00000  0.06555
         Days             0.06555  1.00000
        """
        return self._square(group, "estimate", 1.0)

    @titled("Standard errors of correlations")
    def errors(self, group: str | None = None) -> pd.DataFrame:
        """Standard errors in the places of ``matrix``, NaN on the diagonal.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> float(fit.correlations().errors().iloc[0, 1].round(3))
        0.325
        """
        return self._square(group, "se", np.nan)

    def _square(self, group: str | None, column: str, diagonal: float) -> pd.DataFrame:
        groups = self.groups()
        if not groups:
            raise OptionError("these are autocorrelations alone, of which there is no matrix")
        own = groups[0] if group is None else _meant(group, groups, "group")[0]
        rows = self.frame[(self.frame["group"] == own) & (self.frame["var2"] != NEIGHBOUR)]
        names = list(dict.fromkeys([*rows["var1"], *rows["var2"]]))
        values = np.full((len(names), len(names)), 0.0 if column == "estimate" else np.nan)
        i, j = (np.array([names.index(name) for name in rows[var]]) for var in ("var1", "var2"))
        values[i, j] = values[j, i] = rows[column]
        np.fill_diagonal(values, diagonal)
        return pd.DataFrame(values, index=names, columns=names)


def correlation_table(
    fit: FitFigures, term: str | None, information: str, level: float = 0.95
) -> CorrelationTable:
    """Correlations of one group or of all; see ``LMMFit.correlations``."""
    own = [_of_block(block) for block in covariance_blocks(fit) if _pairs(block).size]
    own += _autocorrelations(fit)
    if not own:
        raise OptionError(
            "no term of this model has correlations: write coefficients such as (0 + env | gen), or a "
            "structure such as residual='us(visit | subject)' or 'ar1(row):ar1(col)'"
        )
    if term is not None:
        groups = _meant(term, tuple(found.group for found in own), "term")
        own = [found for found in own if found.group in groups]
    frame = pd.concat([_rows(fit, found, information, level) for found in own], ignore_index=True)
    return CorrelationTable(frame, f"Correlations (standard errors from {information} information)")


def _meant(name: str, groups: tuple[str, ...], option: str) -> list[str]:
    """Groups that a name stands for: itself, or all of the residual, with what stands behind its bars."""
    found = [group for group in groups if group == label_of(name)]
    if name == RESIDUAL and not found:
        found = [group for group in groups if group.startswith(RESIDUAL)]
    if not found:
        hint = nearest_names(name, dict.fromkeys(groups))
        raise OptionError(f"{option}={name!r} has no correlations{hint}")
    return found


def _pairs(block: CovarianceBlock) -> np.ndarray:
    """Pairs i < j (p, 2) whose covariance is none that the structure sets to zero."""
    if block.variances_only:
        return np.zeros((0, 2), int)
    moving = (block.T != 0.0) | np.any(block.slopes != 0.0, axis=0)
    j, i = np.nonzero(np.tril(moving, -1))
    return np.column_stack([i, j])


@dataclass(frozen=True)
class _Found:
    """Correlations (p,) of one group, their derivatives (p, t), and what they are between."""

    group: str
    first: Sequence[object]
    second: Sequence[object]
    values: np.ndarray
    slopes: np.ndarray


def _of_block(block: CovarianceBlock) -> _Found:
    i, j = _pairs(block).T
    names = np.array(block.names, dtype=object)
    values, slopes = correlations(block.T, block.slopes, i, j)
    return _Found(block.group, names[i].tolist(), names[j].tolist(), values, slopes)


def _autocorrelations(fit: FitFigures) -> list[_Found]:
    """Of levels, ``(1 | ar1(row))``, and of the residuals of a field."""
    solution = fit.solved
    if not isinstance(solution, StructuredSolution):
        return []
    e, theta, found = solution.equations, solution.theta, []
    for random, term, (_, level) in zip(fit.design.random, e.terms, e.slices[0], strict=True):
        if random.is_spline or term.levels is None or term.levels.holds_variance or not term.n_level_theta:
            continue
        group = random.group if random.at is None else f"{random.group}|{random.at}"
        values, jacobian = (f(theta[level]) for f in (term.levels.natural, term.levels.natural_jacobian))
        found.append(_neighbours(group, term.levels.natural_names(), values, jacobian, level, theta))
    if isinstance(e.residual, FieldResiduals):
        own, at = theta[e.slices[1]], 0
        jacobian = e.residual.natural_jacobian(own)
        for block in e.residual.blocks(own):
            known = block["group_corr"]
            rows = slice(at + 1, at + 1 + len(known))  # the variance is first
            at = rows.stop
            group = RESIDUAL if block["at"] is None else f"{fit.design.residual.group}|{block['at']}"
            values = np.array(list(known.values()))
            if known:
                found.append(_neighbours(group, tuple(known), values, jacobian[rows], e.slices[1], theta))
    return found


def _neighbours(
    group: str, names: Sequence[str], values: np.ndarray, jacobian: np.ndarray, place: slice,
    theta: np.ndarray,
) -> _Found:  # fmt: skip
    """Autocorrelations (p,) with derivatives (p, own) in the parameters at a place of theta (t,)."""
    slopes = np.zeros((values.size, theta.size))
    slopes[:, place] = jacobian
    return _Found(group, names, [NEIGHBOUR] * values.size, values, slopes)


def _rows(fit: FitFigures, found: _Found, information: str, level: float) -> pd.DataFrame:
    try:
        variance = slope_variances(fit, found.slopes, information)
    except InferenceError:
        variance = np.full(found.values.size, np.nan)
    inside = 1.0 - np.abs(found.values) > AT_BOUND
    se = np.sqrt(np.where(np.isfinite(found.values) & inside & (variance > 0.0), variance, np.nan))
    limits = [delta_interval(r, own, level, "atanh") for r, own in zip(found.values, se, strict=True)]
    lower, upper = np.array(limits, float).reshape(-1, 2).T
    return pd.DataFrame(
        {"group": found.group, "var1": found.first, "var2": found.second, "estimate": found.values, "se": se,
         "lower": lower, "upper": upper}
    )  # fmt: skip


def correlations(
    T: np.ndarray, slopes: np.ndarray, i: np.ndarray, j: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlations (p,) of pairs of T (m, m) and their derivatives (p, t), from those of T (t, m, m).

    d r_ij = dT_ij / sqrt(T_ii T_jj) - r_ij (dT_ii / T_ii + dT_jj / T_jj) / 2; NaN and 0 beside no variance.
    """
    variance = np.diag(T)
    defined = (variance[i] > 0.0) & (variance[j] > 0.0)
    safe = np.where(variance > 0.0, variance, 1.0)
    size = np.sqrt(safe[i] * safe[j])
    r = T[i, j] / size
    own = np.diagonal(slopes, axis1=1, axis2=2) / safe
    change = slopes[:, i, j] / size - 0.5 * r * (own[:, i] + own[:, j])
    return np.where(defined, r, np.nan), np.where(defined, change, 0.0).T


def dendrogram(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order (m,) in which like ones stand together, and the tree (m - 1, 4) of scipy.cluster.

    Average linkage of the distances 1 - r, leaves ordered so that neighbours are near (Cullis et al. 2010, J.
    Agric. Biol. Environ. Stat. 15:198 cluster environments so). An undefined correlation counts as none.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering

    m = len(correlation)
    if m < 2:
        return np.arange(m), np.zeros((0, 4))
    distance = 1.0 - np.nan_to_num(np.asarray(correlation, float))[np.triu_indices(m, 1)]
    distance = np.maximum(distance, 0.0)
    tree = optimal_leaf_ordering(linkage(distance, "average"), distance)
    return leaves_list(tree), tree
