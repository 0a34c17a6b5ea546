"""The arithmetic of small fits by itself: factorizations, solves and inverse subsets on systems of trials."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from fastlmm_core.batch import make_plan
from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.kernels.equations.assembly import assemble_scalar
from fastlmm_core.kernels.factor.simplicial import factorize, invert_subset, solve_lower, solve_upper
from fastlmm_core.kernels.trials.design import number_levels
from fastlmm_core.kernels.trials.units import build_design, code_design


@njit(nogil=True, error_model="numpy")
def evaluate(  # type: ignore[no-untyped-def]
    G, penalty, indptr, indices, position, L_indptr, L_indices, scale, deviances, scores
):  # fmt: skip
    """So many scalings, factorizations and solves, and so many inverse subsets."""
    C = np.empty(indices.size)
    L = np.empty(L_indices.size)
    Z = np.empty(L_indices.size)
    B = np.ones((scale.size, 1))
    for _ in range(deviances):
        assemble_scalar(G, penalty, indptr, indices, scale, C)
        factorize(C, position, L_indptr, L_indices, L)
        solve_lower(L_indptr, L_indices, L, B)
        solve_upper(L_indptr, L_indices, L, B)
    for _ in range(scores):
        invert_subset(L_indptr, L_indices, L, scale.size, Z)
    return Z[0] + B[0, 0]


def systems(frame: pd.DataFrame, formula: str) -> list[Any]:
    """The systems (``kernels.equations.systems.System``) that the search works on, one for each trial."""
    table = collect_trials(frame, make_plan(formula, by="trial"))
    coded = code_trials(table)
    assert coded is not None
    fixed, random = coded.fixed_arrays(), coded.random_arrays()
    out = []
    for lo, hi in zip(table.ptr[:-1], table.ptr[1:], strict=True):
        rows = np.arange(lo, hi)
        local = np.empty((len(coded.factors), rows.size), np.int64)
        found = np.empty_like(local)
        n_levels = np.empty(len(coded.factors), np.int64)
        for f in range(len(coded.factors)):
            place = np.full(len(coded.levels[f]), -1)
            n_levels[f] = number_levels(coded.codes[f], rows, place, local[f], found[f])
        _, columns, groups = code_design(fixed, random, local, n_levels, coded.numbers, rows)
        design = build_design(fixed, columns, groups, local, n_levels, np.ones(rows.size), True, 0)[1]
        out.append(design.search)
    return out


def arithmetic(frame: pd.DataFrame, formula: str, iterations: float, repeats: int = 20) -> float:
    """Seconds per trial of the arithmetic of a fit with so many iterations on average."""
    found = systems(frame, formula)
    deviances, scores = round((iterations + 1.0) * repeats), round((iterations + 1.0) * repeats)
    best = np.inf
    for _ in range(4):  # the first compiles
        began = time.process_time()
        for system in found:
            scale = np.full(system.pattern.indptr.size - 1, 0.7)
            evaluate(
                system.G, system.penalty, system.pattern.indptr, system.pattern.indices, system.position,
                system.L_indptr, system.L_indices, scale, deviances, scores,
            )  # fmt: skip
        best = min(best, time.process_time() - began)
    return best / len(found) / repeats
