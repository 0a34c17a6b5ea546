"""Codes of text that comes in runs are those of ``pandas.factorize``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fastlmm_core.design.values.labels import factorize_runs


@pytest.mark.parametrize("dtype", ["str", "string", "string[python]", object, "category"])
@pytest.mark.parametrize("length", [1, 7, 300])
def test_codes_are_those_of_pandas(dtype, length):
    rng = np.random.default_rng(length)
    words = np.array(["b", "a", "", "c d", None], dtype=object)
    values = pd.Series(np.repeat(words[rng.integers(0, 5, 5000 // length + 1)], length), dtype=dtype)
    for given in (values, values.array, values[:3], values[:0]):
        codes, found = factorize_runs(given)
        expected, labels = pd.factorize(given)
        np.testing.assert_array_equal(codes, expected)
        assert list(found) == list(labels)


def test_text_that_changes_after_a_quiet_start():
    values = pd.Series(["a"] * 1000 + [f"G{i % 70}" for i in range(4000)], dtype="str")
    np.testing.assert_array_equal(factorize_runs(values)[0], pd.factorize(values)[0])
