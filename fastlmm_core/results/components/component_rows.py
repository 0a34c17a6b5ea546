"""Rows of the variance components, V1, V2, ..., and their covariance by every kind of information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.engine.information.parameter_covariance import KINDS, StructureInference
from fastlmm_core.engine.information.second_derivatives import invert_on_range
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.inference.component_figures import UNTOLD, inside_parameters, user_directions
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.reml.information import information_matrix
from fastlmm_core.reml.natural import natural_parameters
from fastlmm_core.reml.optimizer import WITHOUT_RESIDUAL
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.components.structured_blocks import (
    ComponentBlock,
    independent_labels,
    residual_blocks,
    term_blocks,
)
from fastlmm_core.results.components.variance_components import term_bases

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel


@dataclass(frozen=True)
class ComponentRow:
    """One variance, covariance or zero between blocks: a row of the table of components.

    `slope` (t,) is its derivative in theta.
    """

    group: str
    var1: str | None
    var2: str | None
    value: float
    sd_or_cor: float
    slope: np.ndarray

    @property
    def label(self) -> str:
        """``var(gen)``, ``var(Subject: Days)``, ``cov(Subject: (Intercept), Days)``, ``var(Residual)``."""
        if self.var2 is not None:
            return f"cov({self.group}: {self.var1}, {self.var2})"
        plain = self.var1 is None or self.var1 == "(Intercept)"
        return f"var({self.group})" if plain else f"var({self.group}: {self.var1})"

    @property
    def shown(self) -> bool:
        """It is no covariance that the structure sets to zero."""
        return self.var2 is None or self.value != 0.0 or bool(self.slope.any())


@dataclass(frozen=True)
class CovarianceBlock:
    """One T (m, m) whose elements are components, with its slopes (t, m, m) in theta.

    `variances_only` where the covariances are none of the model: `||` and splines.
    """

    group: str
    names: list[Any]
    T: np.ndarray
    slopes: np.ndarray
    variances_only: bool = False

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, (m,)."""
        return np.sqrt(np.maximum(np.diag(self.T), 0.0))

    def rows(self) -> list[ComponentRow]:
        """The lower triangle row by row."""
        rows, sd = [], self.sd
        for i in range(len(self.T)):
            for j in range(i + 1):
                if i == j:
                    value, slope = self.T[i, i], self.slopes[:, i, i]
                    rows.append(ComponentRow(self.group, self.names[i], None, value, sd[i], slope))
                elif not self.variances_only:
                    product = sd[i] * sd[j]
                    cor = self.T[i, j] / product if product > 0 else np.nan
                    names = self.names[j], self.names[i]
                    rows.append(ComponentRow(self.group, *names, self.T[i, j], cor, self.slopes[:, i, j]))
        return rows


def component_rows(fit: FittedModel) -> list[ComponentRow]:
    """Lower triangle of every T row by row, the residual last: V1, V2, ..."""
    return [row for block in covariance_blocks(fit) for row in block.rows()]


def covariance_blocks(fit: FittedModel, as_shown: bool = True) -> list[CovarianceBlock]:
    """Every T of a fit in the order of its components, those of the residual last.

    Tables show ``(1 | env:vm(gen, A))`` with a variance for each level of env; else T is that of the
    term's coefficients.
    """
    return _structured_blocks(fit, as_shown) if fit.structured else _plain_blocks(fit)


def _plain_blocks(fit: FittedModel) -> list[CovarianceBlock]:
    """Blocks of a fit with unrelated levels; slopes in (sigma2 t, sigma2)."""
    solved = fit.solved
    assert isinstance(solved, SolvedEquations)
    places = solved.equations.parameters
    directions = user_directions(places, term_bases(solved))[0]
    blocks: list[CovarianceBlock] = []
    for k, (random, term) in enumerate(zip(fit.design.random, solved.equations.terms, strict=True)):
        slopes = np.zeros((places.term.size + 1, term.m, term.m))
        mine = np.flatnonzero(places.term == k)
        slopes[mine] = directions[mine, : term.m, : term.m]
        T = solved.user_sigma2 * solved.user_covariance(k)
        alone = term.structure.name == "diag"
        blocks.append(CovarianceBlock(random.group, list(random.columns), T, slopes, alone))
    slopes = np.zeros((places.term.size + 1, 1, 1))
    slopes[-1] = 1.0
    return [*blocks, CovarianceBlock("Residual", [None], np.array([[solved.user_sigma2]]), slopes)]


def _structured_blocks(fit: FittedModel, as_shown: bool) -> list[CovarianceBlock]:
    blocks: list[CovarianceBlock] = []
    for random, block in zip(fit.design.random, term_blocks(fit), strict=True):
        labels = independent_labels(random) if as_shown else None
        block = block if labels is None else block.spread(labels)
        if block.T is None:  # a spline: its variances
            slopes = block.slopes[:, :, None] * np.eye(len(block.names))
            T = np.diag(np.asarray(block.extra["variances"], float))
            blocks.append(CovarianceBlock(block.group, block.names, T, slopes, variances_only=True))
        else:
            blocks.append(CovarianceBlock(block.group, block.names, block.T, block.slopes))
    return blocks + _residual_rows(residual_blocks(fit))


def _residual_rows(blocks: list[ComponentBlock]) -> list[CovarianceBlock]:
    """One diagonal block of the variances by level of `|`, or one for every level's own T."""
    if all(block.T is not None and len(block.T) == 1 for block in blocks):
        alone = len(blocks) == 1 and blocks[0].at is None
        names: list[Any] = [None] if alone else [str(block.at) for block in blocks]
        T = np.diag(np.array([float(block.T[0, 0]) for block in blocks if block.T is not None]))
        slopes = np.zeros((blocks[0].slopes.shape[0], len(blocks), len(blocks)))
        for i, block in enumerate(blocks):
            slopes[:, i, i] = block.slopes[:, 0, 0]
        return [CovarianceBlock(blocks[0].group, names, T, slopes)]
    out = []
    for block in blocks:
        group = block.group if block.at is None else f"{block.group}|{block.at}"
        assert block.T is not None
        out.append(CovarianceBlock(group, list(block.names), block.T, block.slopes))
    return out


def slope_variances(fit: FittedModel, slopes: np.ndarray, kind: str = "average") -> np.ndarray:
    """Variances (r,) of functions of the variance parameters with derivatives `slopes` (r, t).

    On the absolute scale, by the delta method and "average", "expected" or "observed" information; the
    parameters are those of the slopes of ``covariance_blocks``. Zero for parameters that are held or at the
    boundary: nothing is known to vary; NaN for what the data say nothing of, the variance of a coefficient
    within the fixed part. Never r x r: a process over days has a covariance for every pair.
    """
    variance = ((slopes @ parameter_covariance(fit, kind)) * slopes).sum(axis=1)
    untold = np.abs(slopes @ untold_of(fit).T).max(axis=1, initial=0.0)
    return np.where(untold > UNTOLD * np.abs(slopes).max(axis=1, initial=0.0), np.nan, variance)


def parameter_covariance(fit: FittedModel, kind: str = "average") -> np.ndarray:
    """Covariance (t, t) of the parameters that the slopes of `component_rows` are derivatives in."""
    check_option("information", kind, KINDS)
    if isinstance(fit._inference, StructureInference):
        return fit._inference.theta_covariance(kind)
    return _plain_covariance(fit, kind)


def untold_of(fit: FittedModel) -> np.ndarray:
    """Directions (j, t) of the parameters of `parameter_covariance` of which the data say nothing."""
    if isinstance(fit.solved, StructuredSolution):
        return fit.solved.untold_parameters
    assert isinstance(fit._inference, VarianceParameterInference)
    own = fit._inference.untold
    return np.hstack([own, np.zeros((len(own), 1))])


def _plain_covariance(fit: FittedModel, kind: str) -> np.ndarray:
    solved = fit.solved
    assert isinstance(solved, SolvedEquations)
    parameters = natural_parameters(solved)
    out = np.zeros((parameters.size + 1,) * 2)
    if solved.sigma2 <= 0.0 or fit.optimum.status == WITHOUT_RESIDUAL:
        return np.full_like(out, np.nan)  # rounding is no estimate, and has no error
    inside = interior_parameters(fit)
    places = np.ix_(inside, inside)
    matrix = information_matrix(solved, parameters, kind)[places]
    out[places] = solved.unit**4 * invert_on_range(matrix, untold_of(fit)[:, inside])
    return out


def interior_parameters(fit: FittedModel) -> np.ndarray:
    """Which of the parameters that were estimated, (t,), belong to no variance that is exactly zero."""
    if isinstance(fit._inference, StructureInference):
        return fit._inference.interior
    solved = fit.solved
    assert isinstance(solved, SolvedEquations)
    values = natural_parameters(solved).values
    return inside_parameters(solved.equations.parameters, values[None])[0]


def component_table(fit: FittedModel, kinds: tuple[str, ...] = ("average",)) -> pd.DataFrame:
    """component, group, var1, var2, estimate, sd_or_cor and, by information, a standard error.

    Covariances that the structure sets to zero are left out; `component` is the name in `vpredict`.
    """
    rows = component_rows(fit)
    columns: dict[str, Any] = {
        "component": [f"V{i + 1}" for i in range(len(rows))],
        "group": [row.group for row in rows],
        "var1": pd.array([row.var1 for row in rows], dtype=object),
        "var2": pd.array([row.var2 for row in rows], dtype=object),
        "estimate": [row.value for row in rows],
        "sd_or_cor": [row.sd_or_cor for row in rows],
    }
    slopes = np.array([row.slope for row in rows])
    moving = np.any(_varying(fit, slopes), axis=1)
    for kind in kinds:
        try:
            variance = slope_variances(fit, slopes, kind)
            error = np.where(moving, np.sqrt(np.maximum(variance, 0.0)), np.nan)
        except InferenceError:
            error = np.full(len(rows), np.nan)
        columns["se" if len(kinds) == 1 else f"se_{kind}"] = error
    frame = pd.DataFrame(columns)
    shown = [row.shown for row in rows]
    return frame if all(shown) else frame[shown].reset_index(drop=True)


def _varying(fit: FittedModel, slopes: np.ndarray) -> np.ndarray:
    """Slopes (r, t) in the parameters that are neither held nor of a variance that is zero."""
    if not isinstance(fit.solved, StructuredSolution):
        return slopes
    return np.asarray(slopes[:, fit.solved.free][:, interior_parameters(fit)])
