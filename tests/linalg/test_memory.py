"""The forecast of the numeric phase and its refusal."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.errors import MemoryForecastError, OptionError
from fastlmm_core.linalg.memory import available_memory, parse_memory
from fastlmm_core.linalg.supernodal import SupernodalFactor
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
    assert isinstance(factor, SupernodalFactor)
    equations = prepared.equations
    assert factor.factorize(assemble_at(equations, factors_at(equations, np.ones(2))))
    factor.inverse_subset(factor.size)
    taken = factor.L.nbytes + sum(work.nbytes for work in factor._work) + 2 * 8 * equations.indices.size
    assert taken <= factor.memory < 1.2 * taken


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
