"""The forecast of the numeric phase and its refusal."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.errors import MemoryForecastError, OptionError
from fastlmm_core.kernels.ordering import count_columns, find_parents, forecast_stack
from fastlmm_core.linalg.cholmod import CholmodFactor, InversePlan
from fastlmm_core.linalg.memory import available_memory, parse_memory
from fastlmm_core.reml.objective import assemble_at, factors_at


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(3)
    n = 6000
    frame = pd.DataFrame({"a": rng.integers(0, 1200, n), "b": rng.integers(0, 900, n)}).astype(str)
    frame["y"] = rng.normal(size=n)
    return frame


def test_a_fit_over_the_limit_is_refused_before_it_starts(trial):
    with pytest.raises(MemoryForecastError, match=r"max_memory is 0\.00 GB") as caught:
        fl.lmm("y ~ 1 + (1|a) + (1|b)", trial, max_memory="1MB")
    assert caught.value.needed > caught.value.available == 10**6


def test_the_forecast_covers_what_the_arrays_take(trial):
    prepared = fl.prepare("y ~ 1 + (1|a) + (1|b)", trial)
    factor = prepared.factor.copy()
    assert isinstance(factor, CholmodFactor)
    equations = prepared.equations
    assert factor.factorize(assemble_at(equations, factors_at(equations, np.ones(2))))
    L = factor._factor.lower()
    plan = InversePlan(L.indptr, L.indices, equations.indptr, equations.indices)
    taken = 8 * (L.nnz * 2.5 + plan.stack_size) + 8 * 2 * equations.indices.size
    assert 0.7 * taken < factor.memory < 2.0 * taken


def test_stack_of_fundamental_supernodes_is_the_plan_s():
    rng = np.random.default_rng(1)
    for density in (0.02, 0.1, 0.4):
        n = 60
        A = np.tril(rng.random((n, n)) < density) | np.eye(n, dtype=bool)
        for j in range(n):  # the filled pattern: eliminate symbolically
            below = np.flatnonzero(A[:, j] & (np.arange(n) > j))
            A[np.ix_(below, below)] |= True
            A = np.tril(A)
        rows = [np.flatnonzero(A[i]) for i in range(n)]
        indptr = np.concatenate(([0], np.cumsum([r.size for r in rows]))).astype(np.int64)
        indices = np.concatenate(rows).astype(np.int64)
        counts, parent = count_columns(indptr, indices), find_parents(indptr, indices)
        np.testing.assert_array_equal(counts, A.sum(axis=0))
        columns = [np.flatnonzero(A[:, j]) for j in range(n)]
        L_indptr = np.concatenate(([0], np.cumsum([c.size for c in columns]))).astype(np.int64)
        L_indices = np.concatenate(columns).astype(np.int32)
        plan = InversePlan(L_indptr, L_indices, L_indptr, L_indices)
        assert forecast_stack(parent, counts) == plan.stack_size


@pytest.mark.parametrize(
    ("text", "value"), [("8GB", 8 * 10**9), ("500 mb", 5 * 10**8), (1e6, 10**6), ("1.5g", 15 * 10**8)]
)
def test_sizes(text, value):
    assert parse_memory(text) == value


@pytest.mark.parametrize("text", ["much", -1, 0, True])
def test_bad_sizes(text):
    with pytest.raises(OptionError, match="max_memory"):
        parse_memory(text)


def test_this_machine_has_memory():
    assert 10**7 < available_memory() < 2**62
