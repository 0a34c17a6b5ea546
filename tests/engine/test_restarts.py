"""Starts beside the one from the moments: which a search that failed takes are not those it took before."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import prepare
from fastlmm_core.engine.search.other_starts import (
    MODERATE_FLOPS,
    MORE_STARTS,
    SEED_OF_RESTARTS,
    SEED_OF_STARTS,
    other_starts,
)
from fastlmm_core.engine.search.starting_values import starting_values


@pytest.mark.parametrize("structure", ["fa({}, k=1)", "rr({}, k=2)"])
def test_restarts_begin_elsewhere(structure):
    rng = np.random.default_rng(2)
    level, place = np.divmod(np.arange(240), 4)
    table = pd.DataFrame({"g": level % 30, "e": place.astype(str), "y": rng.normal(size=240)})
    e = prepare(f"y ~ e + {structure.format('0 + e | g')}", table).equations
    assert any(term.structure.several_optima for term in e.terms)
    y = table["y"].to_numpy()
    first, again = (np.random.default_rng(seed) for seed in (SEED_OF_STARTS, SEED_OF_RESTARTS))
    starts = [starting_values(e, y, own) for own in [first] * 8 + [again] * 2]
    for restart in starts[8:]:
        assert min(np.abs(restart - start).max() for start in starts[:8]) > 1e-3


@pytest.mark.filterwarnings("ignore:singular fit")
def test_a_large_model_settles_on_the_optimum_of_the_moments():
    """Unless that has a specific variance of zero, or the model is small."""
    rng = np.random.default_rng(5)
    g, e, _ = (part.ravel() for part in np.meshgrid(np.arange(60), np.arange(4), [0, 1], indexing="ij"))
    common, specific = rng.normal(size=60)[g], rng.normal(size=(60, 4))[g, e]
    noise = rng.normal(size=g.size)
    for share, several in ((1.0, 0), (0.0, MORE_STARTS)):
        y = common + share * specific + noise
        table = pd.DataFrame({"g": g.astype(str), "e": e.astype(str), "y": y})
        solved = prepare("y ~ e + fa(0 + e | g, k=1)", table).fit().solved
        equations, found = solved.equations, solved.optimum
        unit = solved.response.residual / solved.response.scale
        first = starting_values(equations, unit)
        assert found.certified
        for size, wanted in ((2.0, several), (0.5, MORE_STARTS)):
            criterion = SimpleNamespace(factor=SimpleNamespace(flops=size * MODERATE_FLOPS))
            assert len(other_starts(equations, criterion, unit, first, found)) == wanted
