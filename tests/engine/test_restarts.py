"""Starts beside the one from the moments: which a search that failed takes are not those it took before."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import prepare
from fastlmm_core.engine.fitting import SEED_OF_RESTARTS, SEED_OF_STARTS
from fastlmm_core.engine.starting_values import starting_values


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
