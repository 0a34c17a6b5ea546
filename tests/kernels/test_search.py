"""The search on functions of one parameter whose trouble is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from fastlmm_core.engine.search.driver import search


def minimise(deviance, gradient, curvature, theta, *, largest=100):
    evaluations = []

    def evaluate(values):
        evaluations.append(values[0])
        assert len(evaluations) < 100_000, "the search does not return"
        return SimpleNamespace(deviance=deviance(values[0]), theta=values[0])

    def score(point):
        return np.array([gradient(point.theta)]), np.array([[curvature(point.theta)]]), None

    return search(evaluate, score, np.array([theta]), dof=10.0, tolerance=1e-11, max_iterations=largest)


def test_plateau_ends_the_search():
    """An information that falls with the square of the gradient: the decrement is 16 at any distance."""
    end = minimise(
        lambda t: 3.0 + 4.0 * math.exp(-t), lambda t: -4.0 * math.exp(-t), lambda t: math.exp(-2.0 * t), 0.0
    )
    assert end.status == 3
    assert end.decrement == pytest.approx(16.0)
    assert 20.0 < end.theta[0] < 100.0
    assert end.point.deviance == pytest.approx(3.0, abs=1e-9)


def test_steps_that_move_nothing_end_the_search():
    """Where theta is so large that a step within the radius is lost in its last digit."""
    end = minimise(lambda t: 3.0, lambda t: -4.0 * 1e-77, lambda t: 1e-300, 2.7e77, largest=20)
    assert end.status != 0


def test_flat_start_is_not_taken_for_a_plateau():
    """A small decrement within the radius is an ordinary optimum."""
    end = minimise(lambda t: (t - 2.0) ** 2, lambda t: 2.0 * (t - 2.0), lambda t: 2.0, 2.0 + 1e-3)
    assert end.status == 0
    assert end.theta[0] == pytest.approx(2.0, abs=1e-6)
