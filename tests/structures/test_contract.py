"""The contract of coefficient structures, run over all that are registered."""

import numpy as np
import pytest
from dense_reference import first_differences

from fastlmm_core.errors import OptionError
from fastlmm_core.structures import (
    coefficient_structure_names,
    make_coefficient_structure,
)

OPTIONS = {"rr": ({"d": 1}, {"d": 2}), "fa": ({"k": 1}, {"k": 2})}
SIZES = (1, 2, 3, 4, 6)
SHAPES = [
    (name, m, options)
    for name in coefficient_structure_names()
    for m in SIZES
    for options in OPTIONS.get(name, ({},))
    if m == 1 or max(options.values(), default=1) <= m
]
LABELS = tuple("abcdefgh")


@pytest.fixture(params=SHAPES, ids=lambda s: f"{s[0]}{''.join(map(str, s[2].values()))}-{s[1]}")
def structure(request):
    name, m, options = request.param
    return make_coefficient_structure(name, m, **options)


def thetas(structure, count=3):
    """Random theta inside the bounds."""
    r = np.random.default_rng(structure.m)
    lower = structure.lower_bounds()
    for _ in range(count):
        theta = r.normal(size=structure.n_theta)
        yield np.where(np.isfinite(lower), np.abs(theta) + lower + 0.2, theta)


def random_covariance(m, seed=0):
    A = np.random.default_rng(seed).normal(size=(m, m + 2))
    return A @ A.T


def jacobian_by_differences(function, theta, step=1e-2):
    return first_differences(function, theta, np.full(theta.size, step))


def assert_close(actual, expected, tolerance=1e-8):
    """Beside the largest element."""
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, atol=tolerance * max(1.0, np.abs(expected).max(initial=0.0)))


def test_size(structure):
    """Shapes of everything, at m = 1 too."""
    t, m, r = structure.n_theta, structure.m, structure.width
    assert structure.n_par >= 1
    for theta in thetas(structure, 1):
        assert structure.loadings(theta).shape == (m, r)
        assert structure.loadings_jacobian(theta).shape == (t, m, r)
        hessian = structure.loadings_hessian(theta)
        assert hessian is None or hessian.shape == (t, t, m, r)
        assert structure.loadings_curvature(theta, np.ones((m, r))).shape == (t, t)
        assert structure.covariance(theta).shape == (m, m)
        assert structure.covariance_jacobian(theta).shape == (t, m, m)
        assert structure.covariance_hessian(theta).shape == (t, t, m, m)
        assert structure.covariance_curvature(theta, np.eye(m)).shape == (t, t)
        assert structure.null_directions(theta).shape[1] == t
    if m == 1:
        assert structure.n_par == 1
    else:
        assert structure.lower_bounds().shape == (t,)


def test_coordinates_whose_sign_means_nothing_are_roots(structure):
    """At zero of such a coordinate every criterion is stationary: searches have to be told."""
    for theta in thetas(structure, 1):
        turned = np.tile(theta, (theta.size, 1)) * (1.0 - 2.0 * np.eye(theta.size))
        same = [np.allclose(structure.covariance(own), structure.covariance(theta)) for own in turned]
        assert set(np.flatnonzero(same)) <= set(structure.roots)
    assert set(np.flatnonzero(structure.lower_bounds() == 0.0)) <= set(structure.roots)


def test_covariance_is_loadings_times_their_transpose(structure):
    for theta in thetas(structure):
        loadings, T = structure.loadings(theta), structure.covariance(theta)
        assert_close(T, loadings @ loadings.T, 1e-14)
        assert np.linalg.eigvalsh(T).min() >= -1e-12 * np.trace(T)


def test_first_derivatives(structure):
    for theta in thetas(structure):
        assert_close(structure.loadings_jacobian(theta), jacobian_by_differences(structure.loadings, theta))
        assert_close(
            structure.covariance_jacobian(theta), jacobian_by_differences(structure.covariance, theta)
        )


def test_second_derivatives(structure):
    for theta in thetas(structure):
        second = structure.loadings_hessian(theta)
        expected = jacobian_by_differences(structure.loadings_jacobian, theta)
        assert_close(np.zeros_like(expected) if second is None else second, expected)
        assert_close(
            structure.covariance_hessian(theta), jacobian_by_differences(structure.covariance_jacobian, theta)
        )


def test_curvatures_are_contracted_second_derivatives(structure):
    weights = random_covariance(structure.m, 1)
    block = np.random.default_rng(2).normal(size=(structure.m, structure.width))
    for theta in thetas(structure):
        expected = np.einsum("stab,ab->st", structure.covariance_hessian(theta), weights)
        assert_close(structure.covariance_curvature(theta, weights), expected, 1e-12)
        second = structure.loadings_hessian(theta)
        expected = np.zeros((theta.size,) * 2) if second is None else np.einsum("stab,ab->st", second, block)
        assert_close(structure.loadings_curvature(theta, block), expected, 1e-12)


@pytest.mark.parametrize("name", coefficient_structure_names())
def test_curvature_of_many_coefficients(name):
    """Along one direction, where the array of all second derivatives would be large."""
    m = 20
    structure = make_coefficient_structure(name, m)
    theta = next(thetas(structure))
    direction = np.random.default_rng(4).normal(size=theta.size)
    weights = random_covariance(m, 1)

    def slope(step):
        return np.einsum("tab,ab->t", structure.covariance_jacobian(theta + step * direction), weights)

    expected = jacobian_by_differences(slope, np.zeros(1))[0]
    assert_close(structure.covariance_curvature(theta, weights) @ direction, expected, 1e-7)


@pytest.mark.parametrize(("name", "m"), [("cs", 2), ("hetar1", 4), ("toep", 4), ("toep", 5)])
def test_alternating_signs_are_negative_correlations(name, m):
    """What a search finds beyond a zero variance, where the structure has it."""
    structure = make_coefficient_structure(name, m)
    for theta in thetas(structure):
        for sign in (1.0, -1.0):
            crossed = theta.copy()
            crossed[:m] *= sign * (-1.0) ** np.arange(m)
            canonical = structure.canonical(crossed)
            assert np.all(canonical >= structure.lower_bounds())
            assert_close(structure.covariance(canonical), structure.covariance(crossed), 1e-12)


def test_signs_that_a_structure_does_not_have_stay_outside_its_bounds():
    structure = make_coefficient_structure("cs", 3)
    theta = np.array([1.0, 2.0, -1.0, 0.3])
    assert np.any(structure.canonical(theta) < structure.lower_bounds())
    with pytest.raises(OptionError, match="not of structure 'cs'"):
        structure.held(structure.covariance(theta))


def test_correlations_at_their_bounds_are_named():
    names = LABELS[:3]
    ones, least = np.ones((3, 3)), 1.5 * np.eye(3) - 0.5
    ends = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    cases = [
        ("us", ones, "the correlation of a and b is +1"),
        ("us", ends, "the correlation of a and b is -1"),
        ("us", least, "the covariance of a, b, c has rank 2 of 3"),
        ("cs", ones, "the correlation is +1"),
        ("homcs", least, "the correlation is -1/2, its least"),
        ("hetar1", ends, "the correlation is -1"),
        ("toep", ones, "the correlation at lag 1 is +1"),
        ("homtoep", least, "the partial correlation at lag 2 is -1"),
        ("fa", ones + np.diag([0.0, 1.0, 1.0]), "the specific variance of a is zero"),
        ("rr", ones, "the loadings have rank 1 of 2"),
        ("diag", np.diag([1.0, 0.0, 1.0]), "the variance of b is zero"),
        ("homdiag", np.zeros((3, 3)), "the variance is zero"),
    ]
    for name, T, phrase in cases:
        structure = make_coefficient_structure(name, 3, **({"k": 1} if name == "fa" else {}))
        assert phrase in structure.boundary(structure.held(T), names), name


@pytest.mark.parametrize("kind", ["full", "rank one", "a zero", "zero", "negative correlations", "large"])
def test_start_is_interior(structure, kind):
    """From any positive semidefinite moments: within bounds, T definite or of the rank of the structure."""
    m = structure.m
    moments = random_covariance(m)
    if kind == "rank one":
        moments = np.ones((m, m))
    elif kind == "a zero":
        moments[0], moments[:, 0] = 0.0, 0.0
    elif kind == "zero":
        moments = np.zeros((m, m))
    elif kind == "negative correlations":
        moments = np.eye(m) - np.full((m, m), 1.0 / m)
    elif kind == "large":
        moments *= 1e12
    theta = structure.start(moments)
    assert theta.shape == (structure.n_theta,)
    assert np.isfinite(theta).all() and np.all(theta >= structure.lower_bounds())
    T = structure.covariance(theta)
    assert np.diag(T).min() > 1e-6 * np.diag(T).max() > 0.0
    full = structure.name != "rr"
    assert np.linalg.matrix_rank(T, tol=1e-7 * np.trace(T)) == (m if full else min(m, structure.d))
    assert structure.boundary(theta, LABELS[:m]) == ()


def test_start_keeps_what_it_can(structure):
    """Moments of the structure, away from its bounds, are their own start."""
    theta = structure.start(random_covariance(structure.m, 5) + structure.m * np.eye(structure.m))
    T = structure.covariance(theta)
    tolerance = 0.15 if structure.name == "fa" else 1e-7
    assert_close(structure.covariance(structure.start(T)), T, tolerance)


def test_theta_of_round_trip(structure):
    for theta in thetas(structure):
        T = structure.covariance(theta)
        back = structure.theta_of(T)
        assert np.all(back >= structure.lower_bounds())
        assert_close(structure.covariance(back), T)
        assert_close(structure.covariance(structure.held(T)), T)


def test_theta_of_singular_matrices(structure):
    """Each theta at zero, very far in the chart, and all variances zero."""
    for theta in thetas(structure, 2):
        for t in range(theta.size):
            for value in (0.0, 60.0, -60.0):
                if value < structure.lower_bounds()[t]:
                    continue
                moved = theta.copy()
                moved[t] = value
                T = structure.covariance(moved)
                assert np.isfinite(T).all()
                assert np.isfinite(structure.loadings_jacobian(moved)).all()
                assert_close(structure.covariance(structure.theta_of(T)), T, 1e-7)
    assert not structure.covariance(structure.theta_of(np.zeros((structure.m,) * 2))).any()


def test_rescaled(structure):
    for theta in thetas(structure):
        for factor in (0.0, 1e-6, 3.0):
            T = structure.covariance(structure.rescaled(theta, factor))
            assert_close(T, factor * structure.covariance(theta), 1e-12)


def test_canonical_keeps_the_covariance(structure):
    for theta in thetas(structure):
        for sign in (1.0, -1.0):
            one = theta.copy()
            scale = np.sqrt(np.diag(structure.covariance(theta)))
            one[np.isclose(np.abs(structure.rescaled(theta, 4.0)), np.abs(2.0 * theta))] *= sign
            assert_close(structure.covariance(one), structure.covariance(theta), 1e-12)
            canonical = structure.canonical(one)
            assert_close(structure.covariance(canonical), structure.covariance(theta), 1e-12)
            np.testing.assert_allclose(structure.canonical(canonical), canonical, atol=1e-12 * scale.max())
            assert_close(canonical, structure.canonical(theta), 1e-10)


def test_null_directions_leave_the_covariance(structure):
    for theta in thetas(structure):
        for direction in structure.null_directions(theta):
            assert np.linalg.norm(direction) > 1e-3
            change = np.tensordot(direction, structure.covariance_jacobian(theta), axes=1)
            assert_close(change, np.zeros_like(change), 1e-12)
        rank = np.linalg.matrix_rank(structure.covariance_jacobian(theta).reshape(theta.size, -1), tol=1e-9)
        assert np.linalg.matrix_rank(structure.null_directions(theta)) == theta.size - rank


def test_natural_parameters_by_differences(structure):
    if not structure.natural_defined:
        for method in ("natural", "natural_jacobian", "covariance_by_natural"):
            with pytest.raises(NotImplementedError, match=f"no natural parameters .{method}"):
                getattr(structure, method)(np.ones(structure.n_theta))
        return
    for theta in thetas(structure):
        natural = structure.natural(theta)
        names = structure.natural_names(LABELS[: structure.m])
        assert natural.shape == (structure.n_par,) == (len(names),)
        assert len(set(names)) == len(names)
        J = structure.natural_jacobian(theta)
        assert_close(J, jacobian_by_differences(structure.natural, theta).T)
        for index in range(structure.n_par) if hasattr(structure, "natural_hessian") else ():
            H = jacobian_by_differences(lambda z, i=index: structure.natural_jacobian(z)[i], theta)
            assert_close(structure.natural_hessian(theta, index), H)
        by_natural = structure.covariance_by_natural(theta)
        assert_close(np.tensordot(J.T, by_natural, axes=1), structure.covariance_jacobian(theta), 1e-10)
        # theta as a function of the natural parameters has the derivative J^-1
        along = jacobian_by_differences(structure.covariance_by_natural, theta, 1e-3)
        expected = np.tensordot(np.linalg.inv(J).T, along, axes=1)
        second = structure.covariance_second_by_natural(theta)
        assert_close(second, expected, 1e-7)


def test_linear_structures_are_linear_in_elements_of_the_covariance(structure):
    for theta in thetas(structure, 1 if structure.linear else 0):
        T = structure.covariance(theta)
        directions = structure.covariance_by_natural(theta)
        assert set(np.unique(directions)) <= {0.0, 1.0}
        assert directions.sum(axis=0).max() == 1.0
        assert_close(np.tensordot(structure.natural(theta), directions, axes=1), T, 1e-14)
        assert not structure.covariance_second_by_natural(theta).any()


def test_zero_variances_are_named(structure):
    names = LABELS[: structure.m]
    zero = structure.theta_of(np.zeros((structure.m,) * 2))
    assert any("variance" in phrase and "zero" in phrase for phrase in structure.boundary(zero, names))
    inside = structure.start(random_covariance(structure.m) + structure.m * np.eye(structure.m))
    small = structure.rescaled(inside, 1e-12)
    assert structure.boundary(small, names) == ()
    assert structure.boundary(small, names, least=1.0) != ()


def test_held_covariances_are_checked(structure):
    m = structure.m
    T = structure.covariance(next(thetas(structure)))
    with pytest.raises(OptionError, match=f"has to be {m} x {m}"):
        structure.held(np.eye(m + 1))
    with pytest.raises(OptionError, match="negative eigenvalue"):
        structure.held(-T)
    with pytest.raises(OptionError, match="finite and symmetric"):
        structure.held(T * np.nan)
    general = random_covariance(m, 7)
    if m > 2 and not (structure.name == "us" or structure.n_theta > m * (m + 1) // 2):
        with pytest.raises(OptionError, match=f"not of structure '{structure.name}': its element"):
            structure.held(general)
