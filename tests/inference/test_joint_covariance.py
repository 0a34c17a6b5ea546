"""Hundreds of functions: each alone as all together, which is formed only where something asks for it."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import lmm
from fastlmm_core.errors import OptionError
from fastlmm_core.inference.joint_covariance import ROW_BLOCK, DeferredCovariance, JointCovariance

GENOTYPES = ROW_BLOCK + 40


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    plots = 3 * GENOTYPES
    gen = np.concatenate([rng.permutation(GENOTYPES) for _ in range(3)])
    block = np.arange(plots) // 8
    y = 9.0 + 0.2 * rng.normal(size=GENOTYPES)[gen] + 0.1 * rng.normal(size=block.max() + 1)[block]
    return pd.DataFrame({
        "gen": [f"G{g:03d}" for g in gen], "block": block.astype(str),
        "y": np.exp(0.2 * (y + 0.2 * rng.normal(size=plots))),
    }).drop(index=range(0, 60, 5))  # fmt: skip


@pytest.fixture(scope="module", params=["units", "units | half"])
def fit(request, table):
    """With its own equations for Kenward-Roger, and with those of any structures."""
    own = table.assign(half=np.where(np.arange(len(table)) < 400, "a", "b"))
    return lmm("log(y) ~ gen + (1 | block)", own, residual=request.param)


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite", "asymptotic"])
def test_each_alone_as_all_together(fit, ddf):
    alone, together = (fit.emmeans("gen", ddf=ddf).functions for _ in range(2))
    assert isinstance(alone.covariances, DeferredCovariance)
    se, df = alone.se(), alone.df()
    assert "joint" not in vars(alone.covariances)
    np.testing.assert_allclose(se, np.sqrt(np.diag(together.cov)), rtol=1e-12)
    np.testing.assert_allclose(df, together.df(), rtol=1e-10)
    assert alone.estimable.all() and not alone.without_variance


def test_contrasts_of_some_and_of_all(fit):
    alone, together = fit.emmeans("gen").functions, fit.emmeans("gen").functions
    A = sp.csr_array(np.eye(GENOTYPES)[1:30] - np.eye(GENOTYPES)[0])
    few = alone.contrast_statistics(A)
    assert "joint" not in vars(alone.covariances)
    assert together.cov.shape == (GENOTYPES, GENOTYPES)
    for own, wanted in zip(few, together.contrast_statistics(A), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-10)
    pairs = fit.emmeans("gen").contrast("pairwise", adjust="none").to_frame()
    first = pairs.set_index("contrast").loc["G000 - G001"]
    np.testing.assert_allclose([first["se"], first["df"]], [few[1][0], few[2][0]], rtol=1e-10)


def test_means_on_the_scale_of_the_response(fit):
    means, again = fit.emmeans("gen").regrid(), fit.emmeans("gen")
    assert again.functions.cov.shape[0] == GENOTYPES
    np.testing.assert_allclose(means.se, again.regrid().se, rtol=1e-10)
    np.testing.assert_allclose(means.functions.cov, again.regrid().functions.cov, rtol=1e-10)


def test_what_is_pickled_is_the_covariance(fit):
    functions = fit.emmeans("gen").functions
    copy = pickle.loads(pickle.dumps(functions))
    assert isinstance(copy.covariances, JointCovariance)
    np.testing.assert_array_equal(copy.cov, functions.cov)


def test_rescaled_twice(fit):
    functions = fit.emmeans("gen").functions
    slope = np.linspace(1.0, 2.0, GENOTYPES)
    twice = functions.rescaled(functions.estimate, slope).rescaled(functions.estimate, slope)
    np.testing.assert_allclose(twice.se(), functions.se() * slope**2, rtol=1e-12)
    A = sp.csr_array(np.eye(GENOTYPES)[[3]] - np.eye(GENOTYPES)[[9]])
    alone = twice.contrast_statistics(A)[1]
    assert "joint" not in vars(functions.covariances)
    np.testing.assert_allclose(alone, np.sqrt(A @ twice.cov @ A.T.toarray()).ravel(), rtol=1e-10)


@pytest.mark.parametrize("residual", ["units", "units | half"])
def test_a_model_without_fixed_effects(table, residual):
    own = table.assign(half=np.where(np.arange(len(table)) < 400, "a", "b"))
    fit = lmm("y ~ 0 + (1 | gen)", own, residual=residual)
    assert fit.fixed_effects().empty and fit.se.size == 0
    assert fit.coefficient_functions(ddf="kenward-roger").df().size == 0


def test_no_contrasts_and_numbers_that_are_missing(fit):
    functions = fit.emmeans("gen").functions
    assert [part.size for part in functions.contrast_statistics(sp.csr_array((0, GENOTYPES)))] == [0] * 4
    K = np.zeros((3, len(fit.coef_names)))
    K[1, 0] = np.nan
    for rows in (K, sp.csr_array(K)):
        with pytest.raises(OptionError, match="the first in row 1"):
            fit.linear_functions(rows)
