"""The kernels of single trials against the general ones they stand in for."""

from __future__ import annotations

import numpy as np
import pytest
from trial_data import alpha_trials

from fastlmm_core.batch import make_plan
from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.compiled.runs import trial_rows
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.kernels.equations.crossproducts import (
    expand_pattern,
    fill_crossproducts,
    find_node_pattern,
    permute_pattern,
    transpose_entries,
)
from fastlmm_core.kernels.factor.ordering import fill_node_pattern, order_minimum_degree
from fastlmm_core.kernels.trials.layout import hash_layouts
from fastlmm_core.kernels.trials.pattern import mark_meetings, order_and_fill, read_patterns, sum_products


def random_entries(seed: int):
    """Entries of 60 observations on nodes of one to three coefficients."""
    rng = np.random.default_rng(seed)
    n_nodes = int(rng.integers(5, 40))
    size = rng.integers(1, 4, n_nodes) if seed % 2 else np.ones(n_nodes, np.int64)
    nodes = [np.sort(rng.choice(n_nodes, rng.integers(1, 5), replace=False)) for _ in range(60)]
    row_ptr = np.cumsum([0, *(len(own) for own in nodes)])
    row_node = np.concatenate(nodes)
    row_val = np.concatenate([[0], np.cumsum(size[row_node])])
    last = rng.random(n_nodes) < (0.2 if seed % 3 else 0.0)
    return row_ptr, row_node, row_val, rng.normal(size=row_val[-1]), size, last, rng.uniform(0.5, 2.0, 60)


@pytest.mark.parametrize("seed", range(12))
def test_order_pattern_and_products_are_the_general_ones(seed):
    row_ptr, row_node, row_val, values, size, last, weights = random_entries(seed)
    entries = transpose_entries(row_ptr, row_node, size.size)
    below_ptr, below = find_node_pattern(row_ptr, row_node, *entries)
    met = mark_meetings(row_ptr, row_node, size.size)
    perm = order_and_fill(met, size, last)
    np.testing.assert_array_equal(perm, order_minimum_degree(below_ptr, below, size, last))
    place = np.argsort(perm)
    pattern = permute_pattern(below_ptr, below, place)
    for ours, expected in zip(
        read_patterns(met, perm), (*pattern, *fill_node_pattern(*pattern)), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    start = np.concatenate([[0], np.cumsum(size[perm])])
    indptr, indices = expand_pattern(*pattern, start)
    row_node = place[row_node]
    entries = transpose_entries(row_ptr, row_node, size.size)
    expected = fill_crossproducts(
        row_ptr, row_node, row_val, values, weights, *entries, start, indptr, indices
    )
    ours = sum_products(row_ptr, row_node, row_val, values, weights, *pattern, start, indptr, indices.size)
    np.testing.assert_array_equal(ours, expected)


def test_units_laid_out_alike_have_one_number():
    frame = alpha_trials(4)
    first = frame[frame["trial"] == "T0000"].reset_index(drop=True)
    own = frame.index[frame["trial"] == "T0002"]
    frame.loc[own, ["rep", "block"]] = first[["rep", "block"]].to_numpy()
    frame.loc[own, "gen"] = "X" + first["gen"].to_numpy()
    frame.loc[own[5], "height"] = np.nan
    table = collect_trials(
        frame, make_plan("~ gen + rep + (1|rep:block)", by="trial", traits=["yield", "height"])
    )
    coded = code_trials(table)
    assert coded is not None
    found = np.empty(table.n_units, np.int64)
    hash_layouts(0, trial_rows(table, coded), found)
    t0_yield, t0_height, t1_yield, _, t2_yield, t2_height, *_ = found
    assert t0_yield == t0_height == t2_yield
    assert len({t0_yield, t1_yield, t2_height}) == 3
