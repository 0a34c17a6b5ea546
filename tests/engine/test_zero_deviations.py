"""Where one coefficient varies alone, the second that is tried does not depend on the units of columns."""

from types import SimpleNamespace

import numpy as np
import pytest

from fastlmm_core.engine.search.zero_deviations import one_alone_varies, turned_starts
from fastlmm_core.structures import make_coefficient_structure


@pytest.mark.parametrize("name", ["cs", "hetar1"])
@pytest.mark.parametrize("alone", [0, 1, 2])
def test_starts_follow_the_units(name, alone):
    """T' = D^-1 T D^-1 of columns in other units has the derivative D S D, and the same starts."""
    structure, rng = make_coefficient_structure(name, 3), np.random.default_rng(alone)
    half = rng.normal(size=(3, 3))
    S, scale = half + half.T, np.array([1.0, 4.0, 0.5])

    def starts(unit):
        T = np.zeros((3, 3))
        T[alone, alone] = 0.7 / unit[alone] ** 2
        term = SimpleNamespace(structure=structure, column_scale=scale * unit**2)
        theta = structure.theta_of(T)
        assert one_alone_varies(term, theta)
        product = S * np.outer(unit, unit) @ structure.loadings(theta)
        found = [structure.covariance(own) for own in turned_starts(term, theta, product)]
        return np.array([own * np.outer(unit, unit) for own in found])

    plain = starts(np.ones(3))
    assert len(plain)
    for unit in ([1000.0, 1.0, 1.0], [1.0, 0.001, 1.0], [0.01, 30.0, 500.0]):
        np.testing.assert_allclose(starts(np.array(unit)), plain, rtol=1e-9, atol=1e-12)
