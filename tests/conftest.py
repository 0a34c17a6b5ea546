"""Puts this directory on the import path: `dense_reference`, `random_designs`, `random_pattern`."""

import os

# Before NumPy is loaded: threads on matrices of a few hundred rows cost more than they give.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests that look at standard error find the same on a machine that compiles and on one that loads.
os.environ.setdefault("FASTLMM_QUIET", "1")

import pytest


def pytest_collection_modifyitems(items):
    """The longest first: begun last, one of them would keep one worker busy while the others have ended."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _one_search():
    """Every fit by the compiled search, also where it is not compiled yet: tests compare the last digits.

    The first fits of a process that finds no compiled search take the same steps one kernel at a time, and
    another rounding (tests/reml/test_first_fits.py).
    """
    from fastlmm_core.reml import optimizer

    optimizer._searches = optimizer.INTERPRETED_SEARCHES + 1
