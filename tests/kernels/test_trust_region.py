"""Steps of the safeguarded Newton iteration."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastlmm_core.kernels.search.trust_region import (
    LARGEST_SPREAD,
    correct_curvature,
    judge_step,
    measure_length,
    measure_scales,
    propose_step,
)


def problem(seed, d, definite):
    r = np.random.default_rng(seed)
    A = r.normal(size=(d, d))
    H = A @ A.T + 0.1 * np.eye(d) if definite else A + A.T
    return r.normal(size=d), H


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_newton_step_inside_the_ball(seed, d):
    g, H = problem(seed, d, definite=True)
    step, predicted, decrement = propose_step(g, H, 1e9)
    newton = -np.linalg.solve(H, g)
    np.testing.assert_allclose(step, newton, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(decrement, -g @ newton, rtol=1e-8)
    np.testing.assert_allclose(predicted, -0.5 * g @ newton, rtol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(1e-3, 1.0))
def test_restricted_step_ends_on_the_sphere_and_descends(seed, d, fraction):
    g, H = problem(seed, d, definite=False)
    values, vectors = np.linalg.eigh(H)
    positive = vectors @ np.diag(np.abs(values)) @ vectors.T
    full = np.linalg.norm(np.linalg.solve(positive, g))
    radius = fraction * full
    step, predicted, _ = propose_step(g, H, radius)
    assert abs(np.linalg.norm(step) - radius) <= 2e-3 * radius
    assert g @ step < 0
    np.testing.assert_allclose(predicted, -(g @ step + 0.5 * step @ positive @ step), rtol=1e-8)
    # the optimality condition of the ball: (|H| + shift) step = -g
    shifted = positive @ step + g
    cosine = -(shifted @ step) / (np.linalg.norm(shifted) * np.linalg.norm(step) + 1e-300)
    assert cosine > 1 - 1e-8 or np.linalg.norm(shifted) < 1e-3 * np.linalg.norm(g)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(5.0, 9.0))
@example(47, 6, 5.0)  # without refinement four digits
def test_the_newton_step_is_in_the_units_of_the_parameters(seed, d, digits):
    """One parameter in units 10^digits apart: its curvature has twice the digits, the step is the same."""
    g, H = problem(seed, d, definite=True)
    units, k = np.ones(d), seed % d
    units[k] = np.sqrt(H[k, k]) * 10.0**-digits  # its curvature becomes 10^(2 digits)
    weights = measure_scales(H / np.outer(units, units))
    assert np.array_equal(np.flatnonzero(weights > 1.0), [seed % d])
    step, predicted, decrement = propose_step(g / units, H / np.outer(units, units), 1e9)
    newton = -np.linalg.solve(H, g)
    # an eigenvalue has 1e-16 of the largest, which is LARGEST_SPREAD of the middle one
    rounding = 1e-15 * LARGEST_SPREAD * np.linalg.cond(H)
    np.testing.assert_allclose(step / units, newton, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(decrement, -g @ newton, rtol=rounding)
    np.testing.assert_allclose(predicted, -0.5 * g @ newton, rtol=rounding)


def test_parameters_of_one_scale_have_no_weights():
    for H in (np.diag([1e7, 1.0, 3.0]), np.diag([1e3, 1e-12]), np.diag([50.0, 0.0, 0.0]), np.zeros((2, 2))):
        assert np.array_equal(measure_scales(H), np.ones(len(H)))


def test_a_maximum_repels():
    step, predicted, _ = propose_step(np.array([-1e-3]), np.array([[-2.0]]), 10.0)
    assert step[0] > 0  # away from the maximum, downhill
    assert predicted > 0


def test_flat_direction_stays_finite():
    step, predicted, decrement = propose_step(np.array([1.0, 0.0]), np.diag([2.0, 0.0]), 1.0)
    assert np.all(np.isfinite(step))
    np.testing.assert_allclose(step, [-0.5, 0.0])
    assert np.isfinite(predicted)
    assert np.isfinite(decrement)


def test_verdicts():
    accepted, radius = judge_step(1.0, 1.0, 0.95, 1.0)  # as predicted, at the edge: larger
    assert accepted
    assert radius == 3.0
    accepted, radius = judge_step(1.0, 1.0, 0.3, 1.0)  # as predicted, inside: unchanged
    assert accepted
    assert radius == 1.0
    accepted, radius = judge_step(0.05, 1.0, 0.8, 1.0)  # poor: accepted, smaller
    assert accepted
    assert radius == 0.35 * 0.8
    for actual in (-1.0, np.nan, -np.inf):
        accepted, radius = judge_step(actual, 1.0, 0.8, 1.0)
        assert not accepted
        assert radius == 0.35 * 0.8


def test_length():
    np.testing.assert_allclose(measure_length(np.array([3.0, 4.0])), 5.0)


def test_secant_update_holds_afterwards():
    r = np.random.default_rng(0)
    A = r.normal(size=(3, 3))
    hessian, correction = A @ A.T, np.zeros((3, 3))
    step, change = r.normal(size=3), r.normal(size=3)
    correct_curvature(correction, hessian, step, change)
    np.testing.assert_allclose((hessian + correction) @ step, change, rtol=1e-10)
    np.testing.assert_allclose(correction, correction.T)
    assert np.linalg.matrix_rank(correction, tol=1e-10) == 1
    again = correction.copy()
    correct_curvature(again, hessian, step, change)  # nothing is missing any more
    np.testing.assert_allclose(again, correction, atol=1e-9)


def test_secant_update_is_skipped_where_it_would_blow_up():
    """The missing part is orthogonal to the step."""
    correction = np.zeros((2, 2))
    correct_curvature(correction, np.eye(2), np.array([1.0, 0.0]), np.array([1.0, 5.0]))
    assert not correction.any()
