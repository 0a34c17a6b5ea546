"""What the tests of batches share."""

from __future__ import annotations

import pytest

from fastlmm_core.batch import group, one_by_one


@pytest.fixture
def left_to_lmm(monkeypatch):
    """Units that compiled code left to the general path, which still fits them."""
    units = []

    def fit_units(table, left, parts, stop):
        units.extend(left.tolist())
        one_by_one.fit_units(table, left, parts, stop)

    monkeypatch.setattr(group, "fit_units", fit_units)
    return units
