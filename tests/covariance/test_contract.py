"""The contract of covariance structures, run over all that are registered."""

import numpy as np
import pytest
from dense_reference import first_differences, second_differences

from fastlmm_core.covariance import make_structure, structure_names
from fastlmm_core.errors import OptionError

SHAPES = [(name, m) for name in structure_names() for m in (1, 2, 3, 4)]


@pytest.fixture(params=SHAPES, ids=lambda s: f"{s[0]}-{s[1]}")
def structure(request):
    return make_structure(*request.param)


def thetas(structure, count=4):
    """Random canonical theta: diagonals within their bounds."""
    r = np.random.default_rng(structure.m)
    for _ in range(count):
        theta = r.normal(size=structure.n_theta)
        lower = structure.lower_bounds()
        yield np.where(np.isfinite(lower), np.abs(theta) + lower + 0.2, theta)


def test_registered():
    assert {"us", "diag"} <= set(structure_names())
    with pytest.raises(OptionError, match="'us'"):
        make_structure("unstructurd", 2)


def test_factor_and_covariance_agree(structure):
    for theta in thetas(structure):
        factor = structure.factor(theta)
        assert factor.shape == (structure.m, structure.m)
        assert not np.triu(factor, 1).any()
        for value, (row, col) in zip(theta, structure.positions, strict=True):
            assert factor[row, col] == value
        T = structure.covariance(theta)
        np.testing.assert_allclose(T, factor @ factor.T, rtol=1e-14)
        assert np.linalg.eigvalsh(T).min() > 0


def test_start_is_inside_the_bounds_and_positive_definite(structure):
    start = structure.start()
    assert start.shape == (structure.n_theta,) == structure.lower_bounds().shape
    assert np.all(start >= structure.lower_bounds())
    assert np.linalg.eigvalsh(structure.covariance(start)).min() > 0
    assert np.array_equal(
        structure.diagonal, np.flatnonzero([row == col for row, col in structure.positions])
    )


def test_bounds_are_attainable(structure):
    """At the lower bounds T is positive semidefinite and singular, and nothing breaks."""
    theta = np.where(np.isfinite(structure.lower_bounds()), structure.lower_bounds(), 0.0)
    T = structure.covariance(theta)
    assert np.linalg.eigvalsh(T).min() >= 0
    assert structure.log_determinant(theta) == -np.inf
    assert np.all(np.isfinite(structure.covariance_jacobian(theta)))


def test_jacobians_by_differences(structure):
    steps = np.full(structure.n_theta, 1e-2)
    for theta in thetas(structure):
        np.testing.assert_allclose(
            structure.factor_jacobian(theta), first_differences(structure.factor, theta, steps), atol=1e-10
        )
        np.testing.assert_allclose(
            structure.covariance_jacobian(theta),
            first_differences(structure.covariance, theta, steps),
            atol=1e-10,
        )


def test_hessian_by_differences(structure):
    steps = np.full(structure.n_theta, 1e-2)
    for theta in thetas(structure, 2):
        H = structure.covariance_hessian(theta)
        assert H.shape == (structure.n_theta, structure.n_theta, structure.m, structure.m)
        for a in range(structure.m):
            for b in range(structure.m):
                numeric = second_differences(lambda t, a=a, b=b: structure.covariance(t)[a, b], theta, steps)
                np.testing.assert_allclose(H[:, :, a, b], numeric, atol=1e-8)


def test_log_determinant(structure):
    for theta in thetas(structure):
        expected = np.linalg.slogdet(structure.covariance(theta))[1]
        np.testing.assert_allclose(structure.log_determinant(theta), expected, rtol=1e-10, atol=1e-12)


def test_theta_of_round_trip(structure):
    for theta in thetas(structure):
        np.testing.assert_allclose(
            structure.theta_of(structure.covariance(theta)), theta, rtol=1e-9, atol=1e-12
        )
        # signs of columns are not identified: the canonical ones are within the bounds
        flipped = structure.factor(theta) * -1.0
        again = structure.theta_of(flipped @ flipped.T)
        assert np.all(again >= structure.lower_bounds())
        np.testing.assert_allclose(again, theta, rtol=1e-9, atol=1e-12)


def test_theta_of_singular_matrices(structure):
    """A zero variance anywhere, and zero altogether."""
    for theta in thetas(structure, 2):
        for column in range(structure.m):
            gone = np.array(
                [0.0 if col == column else t for t, (_, col) in zip(theta, structure.positions, strict=True)]
            )
            T = structure.covariance(gone)
            back = structure.covariance(structure.theta_of(T))
            np.testing.assert_allclose(back, T, rtol=1e-6, atol=1e-7)
    assert not structure.theta_of(np.zeros((structure.m, structure.m))).any()


def test_natural_directions_span_the_structure(structure):
    """T is the combination of its natural directions with its own elements."""
    directions = structure.natural_directions()
    assert structure.linear
    for theta in thetas(structure, 2):
        T = structure.covariance(theta)
        rebuilt = np.zeros_like(T)
        for direction in directions:
            assert np.array_equal(direction, direction.T)
            row, col = np.argwhere(direction)[0]
            rebuilt += T[row, col] * direction
        np.testing.assert_allclose(rebuilt, T, atol=1e-14)
    flat = directions.reshape(len(directions), -1)
    assert np.linalg.matrix_rank(flat) == len(directions)


def test_linear_structures_have_constant_derivatives(structure):
    """In their own variances and covariances the derivatives are the directions, and second ones vanish."""
    for theta in thetas(structure, 2):
        T = structure.covariance(theta)
        np.testing.assert_array_equal(structure.parameter_jacobian(T), structure.natural_directions())
        n = len(structure.natural_directions())
        hessian = structure.parameter_hessian(T)
        assert hessian.shape == (n, n, structure.m, structure.m)
        assert not hessian.any()
