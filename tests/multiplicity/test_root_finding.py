"""Brent's method on many problems at a time."""

import numpy as np
import pytest

from fastlmm_core.multiplicity.root_finding import find_roots

CURVES = [
    (lambda x: x**3 - 2.0, 0.0, 2.0),
    (lambda x: np.cos(x) - x, 0.0, 1.0),
    (lambda x: np.exp(-x) - 1e-3, 0.0, 60.0),
    (lambda x: (x - 1.0) ** 5, 0.0, 3.0),
    (lambda x: np.tanh(50.0 * (x - 0.3)), -1.0, 1.0),
    (lambda x: x - 0.25, 0.0, 1.0),
]


def together(x, rows):
    return np.array([CURVES[i][0](v) for i, v in zip(rows, x, strict=True)])


LOW, HIGH = (np.array([curve[k] for curve in CURVES]) for k in (1, 2))


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("tolerance", [5e-4, 1e-8, 1e-12])
def test_the_iterates_are_those_of_scipys_brentq(tolerance, turn):
    """Another implementation of the same method, scalar: equal up to where a shortest step was taken."""
    from scipy.optimize import brentq

    low, high = (HIGH, LOW) if turn else (LOW, HIGH)
    got = find_roots(together, low, high, tolerance, max_iterations=400)
    for i, (curve, *_) in enumerate(CURVES):
        want = brentq(curve, low[i], high[i], xtol=tolerance, rtol=4 * np.finfo(float).eps, maxiter=400)
        assert abs(got[i] - want) <= 2.0 * tolerance + 1e-9
    known = [2 ** (1 / 3), 0.7390851332151607, 0.25]
    np.testing.assert_allclose(got[[0, 1, 5]], known, atol=tolerance + 1e-12)


def test_every_problem_follows_its_own_path():
    alone = [
        find_roots(lambda x, rows, i=i: together(x, rows + i), LOW[[i]], HIGH[[i]], 1e-3) for i in range(6)
    ]
    np.testing.assert_array_equal(find_roots(together, LOW, HIGH, 1e-3), np.concatenate(alone))


def test_the_bracket_holds_the_root_to_the_tolerance():
    for tolerance in (1e-2, 1e-6):
        x = find_roots(together, LOW, HIGH, tolerance)
        rows = np.arange(len(CURVES))
        left, right = together(x - tolerance, rows), together(x + tolerance, rows)
        assert np.all((left * right <= 0.0) | (together(x, rows) == 0.0))


def test_no_problems():
    assert find_roots(lambda x, rows: x, np.empty(0), np.empty(0), 1e-3).size == 0
