"""Tables of as many rows as coefficients are combinations of what is known of these, found once."""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.inference import joint_covariance

MODELS = [
    ("yield ~ gen + rep + (1 | block:rep)", {}),
    ("yield ~ gen + rep + (1 | block:rep)", {"residual": "units | half"}),
    ("yield ~ 0 + gen + plot + I((plot + 2000)^2 / 1e4) + (1 | block:rep)", {"residual": "ar1(plot)"}),
]


@pytest.mark.parametrize("formula, options", MODELS)
@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite", "asymptotic"])
def test_shared_and_own_are_the_same(formula, options, ddf, monkeypatch):
    table = datasets.load("john_alpha").assign(plot=np.arange(1, 73), half=np.arange(72) % 2)
    rng = np.random.default_rng(2)
    fit = lmm(formula, table, **options)
    X = fit.design.fixed_matrix(fit.design.frame).toarray()
    full = np.array([rng.dirichlet(np.ones(3)) @ X[rng.integers(0, len(X), 3)] for _ in range(fit.rank)])
    shared = fit.linear_functions(full, ddf=ddf)
    assert fit._inference.coefficient_covariances
    monkeypatch.setattr(joint_covariance, "SHARED", np.inf)
    own = fit.linear_functions(full, ddf=ddf)
    scale = np.sqrt(np.diag(own.cov))
    unit = np.outer(scale, scale)
    np.testing.assert_allclose(shared.cov / unit, own.cov / unit, atol=1e-9)
    np.testing.assert_allclose(shared.se(), own.se(), rtol=1e-9)
    np.testing.assert_allclose(shared.df(), own.df(), rtol=1e-8)


def test_means_far_from_the_origin_of_a_covariate_take_their_own():
    table = datasets.load("john_alpha").assign(plot=np.arange(1, 73) + 1e5)
    far = lmm("yield ~ 0 + gen + plot + I(plot^2 / 1e5) + (1 | rep)", table)
    near = lmm("yield ~ gen + plot + I(plot^2) + (1 | rep)", table.assign(plot=table["plot"] - 1e5))
    for column in ("estimate", "se", "df"):
        np.testing.assert_allclose(
            far.emmeans("gen").to_frame()[column], near.emmeans("gen").to_frame()[column], rtol=1e-4
        )


def test_what_was_asked_before_changes_no_digit():
    table = datasets.load("john_alpha")
    one, other = (lmm("yield ~ gen + rep + (1 | block:rep)", table) for _ in range(2))
    one.fixed_effects()
    one.joint_tests()
    np.testing.assert_array_equal(one.emmeans("gen").to_frame()["se"], other.emmeans("gen").to_frame()["se"])


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite", "asymptotic"])
def test_no_functions_of_some(ddf):
    fit = lmm("yield ~ gen + rep + (1 | block:rep)", datasets.load("john_alpha"))
    none = fit.linear_functions(np.eye(fit.rank), ddf=ddf).combine(np.zeros((0, fit.rank)))
    assert none.se().shape == none.df().shape == (0,)
    assert none.cov.shape == (0, 0)


def test_what_would_take_much_room_is_not_shared(monkeypatch):
    """A table of half the coefficients needs half of it."""
    fit = lmm("yield ~ gen + rep + (1 | block:rep)", datasets.load("john_alpha"))
    half = np.eye(fit.rank)[: fit.rank // 2 + 1]
    shared = fit.linear_functions(half).se()
    monkeypatch.setattr(joint_covariance, "MOST_NUMBERS", 10)
    other = lmm("yield ~ gen + rep + (1 | block:rep)", datasets.load("john_alpha"))
    np.testing.assert_allclose(other.linear_functions(half).se(), shared, rtol=1e-9)
    assert fit._inference.coefficient_covariances and not other._inference.coefficient_covariances
