"""Rows of the variance components, V1, V2, ..., and their covariance by every kind of information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.engine.information import KINDS, StructureInference
from fastlmm_core.engine.parameters import average_matrix
from fastlmm_core.engine.second_derivatives import invert_on_range
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.reml.information import information_matrix
from fastlmm_core.reml.natural import natural_parameters
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.structured_blocks import independent_labels, residual_blocks, term_blocks

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit


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


def component_rows(fit: LMMFit) -> list[ComponentRow]:
    """Lower triangle of every T row by row, the residual last: V1, V2, ..."""
    return _structured_rows(fit) if fit.structured else _plain_rows(fit)


def _plain_rows(fit: LMMFit) -> list[ComponentRow]:
    """Rows of a fit with unrelated levels; slopes in (sigma2 t, sigma2)."""
    solved = fit.solved
    assert isinstance(solved, SolvedEquations)
    parameters = natural_parameters(solved)
    rows: list[ComponentRow] = []
    for k, (random, term) in enumerate(zip(fit.design.random, solved.equations.terms, strict=True)):
        slopes = np.zeros((parameters.size + 1, term.m, term.m))
        for j in np.flatnonzero(parameters.term == k):
            slopes[j] = term.basis @ parameters.directions[j][: term.m, : term.m] @ term.basis.T
        T = solved.user_sigma2 * solved.user_covariance(k)
        own = _triangle(random.group, list(random.columns), T, slopes)
        rows += own if term.structure.name != "diag" else [row for row in own if row.var2 is None]
    slopes = np.zeros((parameters.size + 1, 1, 1))
    slopes[-1] = 1.0
    return rows + _triangle("Residual", [None], np.array([[solved.user_sigma2]]), slopes)


def _structured_rows(fit: LMMFit) -> list[ComponentRow]:
    rows: list[ComponentRow] = []
    for random, block in zip(fit.design.random, term_blocks(fit), strict=True):
        group = block.group
        labels = independent_labels(random)
        block = block if labels is None else block.spread(labels)
        if block.T is None:
            for d, (name, value) in enumerate(zip(block.names, block.extra["variances"], strict=True)):
                rows.append(ComponentRow(group, name, None, value, float(np.sqrt(value)), block.slopes[:, d]))
        else:
            rows += _triangle(group, block.names, block.T, block.slopes)
    blocks = residual_blocks(fit)
    if all(block.T is not None and len(block.T) == 1 for block in blocks):
        alone = len(blocks) == 1 and blocks[0].at is None
        names: list[str | None] = [None] if alone else [str(block.at) for block in blocks]
        T = np.diag(np.array([float(block.T[0, 0]) for block in blocks if block.T is not None]))
        slopes = np.zeros((blocks[0].slopes.shape[0], len(blocks), len(blocks)))
        for i, block in enumerate(blocks):
            slopes[:, i, i] = block.slopes[:, 0, 0]
        return rows + _triangle(blocks[0].group, names, T, slopes)
    for block in blocks:
        group = block.group if block.at is None else f"{block.group}|{block.at}"
        assert block.T is not None
        rows += _triangle(group, block.names, block.T, block.slopes)
    return rows


def _triangle(group: str, names: list[Any], T: np.ndarray, slopes: np.ndarray) -> list[ComponentRow]:
    rows = []
    sd = np.sqrt(np.maximum(np.diag(T), 0.0))
    for i in range(len(T)):
        for j in range(i + 1):
            if i == j:
                rows.append(ComponentRow(group, names[i], None, T[i, i], sd[i], slopes[:, i, i]))
            else:
                product = sd[i] * sd[j]
                cor = T[i, j] / product if product > 0 else np.nan
                rows.append(ComponentRow(group, names[j], names[i], T[i, j], cor, slopes[:, i, j]))
    return rows


def component_covariance(fit: LMMFit, kind: str = "average") -> np.ndarray:
    """Covariance of the rows V1, V2, ... by "average", "expected" or "observed" information, absolute scale.

    Zero for parameters that are held or at the boundary: nothing is known to vary.
    """
    slopes = np.array([row.slope for row in component_rows(fit)])
    return np.asarray(slopes @ parameter_covariance(fit, kind) @ slopes.T)


def parameter_covariance(fit: LMMFit, kind: str = "average") -> np.ndarray:
    """Covariance (t, t) of the parameters that the slopes of `component_rows` are derivatives in."""
    check_option("information", kind, KINDS)
    solution, inference = fit.solved, fit._inference
    if not isinstance(solution, StructuredSolution) or not isinstance(inference, StructureInference):
        return _plain_covariance(fit, kind)
    out = np.zeros((solution.theta.size,) * 2)
    free = solution.free
    inside = ~_at_boundary(solution)[free]
    if not inside.any():
        return out
    flat = inference._rotations()[:, inside]
    if kind == "observed":
        matrix = solution.hessian
    elif kind == "average":
        matrix = average_matrix(solution, inference.chart)
    elif inference.linear_directions is inference.chart:
        matrix = inference.expected
    else:
        J = inference.natural.jacobian
        matrix = J.T @ inference.expected @ J
    places = np.flatnonzero(free)[inside]
    out[np.ix_(places, places)] = 2.0 * invert_on_range(matrix[np.ix_(inside, inside)], flat)
    return out


def _plain_covariance(fit: LMMFit, kind: str) -> np.ndarray:
    solved = fit.solved
    assert isinstance(solved, SolvedEquations)
    parameters = natural_parameters(solved)
    out = np.zeros((parameters.size + 1,) * 2)
    if solved.sigma2 <= 0.0:
        return np.full_like(out, np.nan)
    scalar = np.array([solved.equations.terms[k].m == 1 for k in parameters.term], bool)
    inside = np.append(~(scalar & (parameters.values == 0.0)), True)
    places = np.ix_(inside, inside)
    matrix = information_matrix(solved, parameters, kind)[places]
    out[places] = solved.unit**4 * invert_on_range(matrix, np.zeros((0, int(inside.sum()))))
    return out


def _at_boundary(solution: StructuredSolution) -> np.ndarray:
    """Parameters (t,) of variances that are exactly zero."""
    e = solution.equations
    out = np.zeros(e.n_theta, bool)
    for term, (own, _) in zip(e.terms, e.slices[0], strict=True):
        if term.structure.n_theta and not np.any(term.structure.covariance(solution.theta[own])):
            out[own] = True
    return out


def component_table(fit: LMMFit, kinds: tuple[str, ...] = ("average",)) -> pd.DataFrame:
    """component, group, var1, var2, estimate, sd_or_cor and, by information, a standard error.

    Covariances that the structure sets to zero are left out; `component` is the name in `vpredict`.
    """
    rows = component_rows(fit)
    frame = pd.DataFrame(
        [(f"V{i + 1}", r.group, r.var1, r.var2, r.value, r.sd_or_cor) for i, r in enumerate(rows)],
        columns=["component", "group", "var1", "var2", "estimate", "sd_or_cor"],
    ).astype({"var1": object, "var2": object})
    moving = np.array([bool(np.any(_free(fit, r.slope))) for r in rows])
    for kind in kinds:
        try:
            variance = np.diag(component_covariance(fit, kind))
            error = np.where(moving, np.sqrt(np.maximum(variance, 0.0)), np.nan)
        except InferenceError:
            error = np.full(len(rows), np.nan)
        frame["se" if len(kinds) == 1 else f"se_{kind}"] = error
    shown = [row.var2 is None or row.value != 0.0 or bool(row.slope.any()) for row in rows]
    return frame[shown].reset_index(drop=True)


def _free(fit: LMMFit, slope: np.ndarray) -> np.ndarray:
    return slope[fit.solved.free] if isinstance(fit.solved, StructuredSolution) else slope
