"""What may leave a door, and the table that fuzzed formulas meet."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from fastlmm_core.errors import LONGEST, FastLMMError, InternalError

# Seeded, so that the suite is the same every day; FUZZ_EXAMPLES of the environment asks for a campaign.
SETTINGS = settings(
    derandomize=True, database=None, deadline=None, print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much,
                           HealthCheck.function_scoped_fixture],
)  # fmt: skip


def only_ours(call):
    """Run `call`; what leaves it is one of our errors, in one printable line of bounded length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except FastLMMError as error:
            text = str(error)
            assert not isinstance(error, InternalError), text
            assert text and text.isprintable() and len(text) <= LONGEST, text
    return None


@pytest.fixture(scope="session")
def trial():
    """40 rows with numbers, factors, dates, flags, missing values and names of the formula language."""
    rng = np.random.default_rng(11)
    n = 40
    frame = pd.DataFrame({
        "y": rng.normal(size=n), "x": rng.normal(size=n), "z": rng.integers(0, 4, n).astype(float),
        "n": np.arange(n), "g": rng.permutation(np.arange(n) % 8).astype(str),
        "f": pd.Categorical(np.array(["a", "b", "c"])[np.arange(n) % 3]),
        "h": np.array(["u", "v"])[np.arange(n) % 2],
        "b": rng.random(n) < 0.5, "d": pd.date_range("2026-01-01", periods=n), "T": rng.normal(size=n),
        "odd name": rng.normal(size=n),
    })  # fmt: skip
    frame.loc[3, "x"] = np.nan
    return frame
