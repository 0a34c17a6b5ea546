"""Second derivatives of autoregressions by formula against differences of their first ones."""

import numpy as np
import pytest
import scipy.sparse as sp

from fastlmm_core.engine.equations.pieces import row_precision
from fastlmm_core.structures.differences import differentiate
from fastlmm_core.structures.levels.factors import AutoregressiveLevels, IndependentLevels, KnownLevels
from fastlmm_core.structures.levels.kronecker import KroneckerLevels
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.residuals.base import ResidualStructure
from fastlmm_core.structures.residuals.field import FieldResiduals


def known():
    A = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.3], [0.2, 0.3, 1.0]])
    return KnownLevels(Covariance(A, list("abc")))


FACTORS = {
    "row": lambda: AutoregressiveLevels(6, "row"),
    "one position": lambda: AutoregressiveLevels(1, "row"),
    "field": lambda: KroneckerLevels([AutoregressiveLevels(4, "row"), AutoregressiveLevels(5, "col")]),
    "beside a relationship": lambda: KroneckerLevels([known(), AutoregressiveLevels(5, "col")]),
    "beside levels and one position": lambda: KroneckerLevels(
        [AutoregressiveLevels(1, "a"), IndependentLevels(3), AutoregressiveLevels(4, "b")]
    ),
    "of three": lambda: KroneckerLevels([AutoregressiveLevels(k + 2, str(k)) for k in range(3)]),
}


@pytest.mark.parametrize("make", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("size", [0.4, 2.5])
def test_of_levels(make, size):
    levels = make()
    rng = np.random.default_rng(3)
    theta = size * rng.choice([-1.0, 1.0], levels.n_theta)
    weights = rng.normal(size=levels.coefficients(theta)[0].size)

    def gradient(moved):
        return levels.coefficients(moved)[1] @ weights - 2.0 * levels.log_determinant(moved)[1]

    expected = differentiate(gradient, theta, np.arange(theta.size), np.ones(theta.size))
    found = levels.second_derivatives(theta, weights, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max(initial=1.0))


def test_of_fields_with_weights_and_missing_plots():
    rng = np.random.default_rng(5)
    grids = [FACTORS["field"](), FACTORS["row"]()]
    cells = [rng.permutation(20)[:17], np.arange(6)]
    residual = FieldResiduals(
        rng.uniform(0.5, 2.0, 23), grids, np.concatenate(cells), np.repeat([0, 1], [17, 6]), ("A", "B")
    )
    theta = rng.normal(size=residual.n_theta)
    weights = rng.normal(size=residual.n_pieces)
    found = residual.second_derivatives(theta, weights)
    by_differences = ResidualStructure.second_derivatives(residual, theta, weights)
    np.testing.assert_allclose(found, by_differences, rtol=1e-7, atol=1e-7 * np.abs(found).max())


def test_what_a_field_knows_of_the_last_theta_is_its_own():
    """A caller may change what it was given, and another theta is another answer."""
    residual = FieldResiduals(np.ones(20), [FACTORS["field"]()], np.arange(20), np.zeros(20, int), (None,))
    one, other = np.array([0.1, 0.5, -0.3]), np.array([0.1, 0.5, 0.3])
    before = residual.coefficients(one)[0].copy()
    for array in residual.coefficients(one):
        array[:] = 0.0
    residual.log_determinant(one)[1][:] = 0.0
    assert not np.array_equal(residual.coefficients(other)[0], before)
    np.testing.assert_array_equal(residual.coefficients(one)[0], before)
    assert residual.log_determinant(one)[1].all()


def test_sums_of_pieces_keep_their_pattern():
    """Precisions of two steps of a search do not share their numbers."""
    residual = FieldResiduals(np.ones(20), [FACTORS["field"]()], np.arange(20), np.zeros(20, int), (None,))
    pattern = row_precision(residual)
    theta = [np.array([0.1, 0.5, -0.3]), np.array([-0.2, 0.1, 0.3])]
    both = [pattern.at(residual.piece_coefficients(own)) for own in theta]
    for own, precision in zip(theta, both, strict=True):
        assert isinstance(precision, sp.csr_array)
        identity = precision @ residual.multiply_covariance(own, np.eye(20))
        np.testing.assert_allclose(identity, np.eye(20), atol=1e-12)
