"""Boundaries and certificates of the compiled path against those of the general one, on searches made up."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastlmm_core.kernels.outcomes import OK
from fastlmm_core.kernels.thresholds import FLAT
from fastlmm_core.kernels.trials.fit import is_certified, settle_boundary
from fastlmm_core.reml.boundary import boundary_scores, score_tolerance, snap_boundary
from fastlmm_core.reml.fitting import certify
from fastlmm_core.reml.theta_places import theta_places
from fastlmm_core.structures import make_coefficient_structure


def test_boundaries_and_certificates_are_decided_alike():
    """Terms with one coefficient: the others are left to the general path."""
    r = np.random.default_rng(5)
    structures = [make_coefficient_structure("us", 1) for _ in range(3)]
    places, index = theta_places(structures), np.arange(3)
    equations: Any = SimpleNamespace(
        terms=[SimpleNamespace(structure=own, m=1) for own in structures],
        theta_term=index, theta_row=np.zeros(3, np.int64), theta_col=np.zeros(3, np.int64),
    )  # fmt: skip
    seen = set()
    for _ in range(400):
        theta = np.where(r.uniform(size=3) < 0.5, 10.0 ** r.uniform(-9, -4, 3), 0.7)
        S = r.normal(size=(3, 1, 1)) * 10.0 ** r.uniform(-8, 1, (3, 1, 1))
        hessian = np.diag(2.0 * S[:, 0, 0] + 10.0 ** r.uniform(-9, 0, 3))
        decrement = 10.0 ** r.uniform(-9, -5)
        end: Any = SimpleNamespace(
            theta=theta, S=S, hessian=hessian, status=0, decrement=decrement, deviance=0.0,
            gradient=np.zeros(3),
        )  # fmt: skip
        expected = snap_boundary(equations, end)
        score = boundary_scores(equations, expected, S)[0]
        certificate = certify(end, np.inf, 0.0)
        found = theta.copy()
        status, moved = settle_boundary(found, places, hessian, S)
        flat = certificate.smallest_curvature < FLAT
        assert is_certified(0, decrement, hessian) == (certificate.optimal and not flat)
        if status == OK:
            np.testing.assert_array_equal(found, expected)
            assert moved == (not np.array_equal(theta, expected))
            assert score >= -score_tolerance(S)
        else:
            assert score < 0.0  # a variance is to grow, which is the general path's to decide
        seen.add((status, moved, certificate.optimal))
    assert len(seen) >= 5
