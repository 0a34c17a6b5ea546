"""Likelihoods that grow without end, and what is said about them."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, prepare
from fastlmm_core.errors import NotConvergedWarning, SingularFitWarning


def visits(noise):
    """Two visits of 40 subjects, the second determined by the first but for noise."""
    rng = np.random.default_rng(1)
    first = rng.normal(size=40)
    second = 1.3 * first + noise * rng.normal(size=40)
    return pd.DataFrame({
        "subject": np.repeat([f"s{s}" for s in range(40)], 2), "visit": np.tile(["v1", "v2"], 40),
        "y": np.column_stack([first, second]).ravel(),
    })  # fmt: skip


def test_a_visit_that_another_one_determines():
    with pytest.warns(NotConvergedWarning, match="grows without end as the covariance of the residuals"):
        fit = lmm("y ~ visit", visits(0.0), residual="us(visit | subject)")
    words = [str(w) for w in fit.warnings if isinstance(w, SingularFitWarning)]
    assert words == ["singular fit: the correlation of v1 and v2 is +1 in the residual"]
    assert "the correlation of v1 and v2 is +1 in the residual" in str(fit.summary())


def test_a_close_correlation_is_an_ordinary_estimate():
    """1 - r of the order of 1e-5: the closed form is the sample covariance."""
    data = visits(5e-3)
    fit = lmm("y ~ visit", data, residual="us(visit | subject)")
    assert not fit.warnings
    wide = data.pivot(index="subject", columns="visit", values="y")
    S = np.cov(wide.T)
    np.testing.assert_allclose(fit.variance_components["estimate"], S[np.tril_indices(2)], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
def test_an_autocorrelation_of_what_alternates():
    rng = np.random.default_rng(2)
    row = np.repeat(np.arange(30), 4)
    side = (-1.0) ** row
    data = pd.DataFrame({"row": row, "side": side, "y": 0.5 * row * side + rng.normal(size=row.size)})
    with pytest.warns(NotConvergedWarning, match="tends to -1: along row the response alternates"):
        lmm("y ~ side + (1 | ar1(row))", data)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_an_autocorrelation_along_a_trend(seed):
    """Also where the last steps of the search look, by rounding, like those at an optimum."""
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(30), 4)
    data = pd.DataFrame({"row": row, "y": 0.5 * row + rng.normal(size=row.size)})
    with pytest.warns(NotConvergedWarning, match="put row into the fixed part, or spl.row. beside it"):
        lmm("y ~ 1 + (1 | ar1(row))", data)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize(("seed", "mean"), [(2, 3.0), (36, 30.0)])
def test_an_autocorrelation_alone_is_to_be_found(seed, mean):
    """A response far from zero without an intercept: its autocorrelation is one, as far as one looks."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"row": np.arange(12) % 10, "x": rng.normal(size=12)})
    data["y"] = mean + rng.normal(size=12)
    held = {"ar1(row)": 9.0, "Residual": 0.25}
    fit = prepare("y ~ 0 + x + (1 | ar1(row))", data, fixed_parameters=held).fit()
    assert fit.converged
    Z = (data["row"].to_numpy()[:, None] == np.arange(10)).astype(float)
    y, x = data["y"].to_numpy(), data[["x"]].to_numpy()
    V = 9.0 * Z @ np.ones((10, 10)) @ Z.T + 0.25 * np.eye(12)
    information = x.T @ np.linalg.solve(V, x)
    residual = y - x @ np.linalg.solve(information, x.T @ np.linalg.solve(V, y))
    deviance = (
        np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        + residual @ np.linalg.solve(V, residual) + 11 * np.log(2.0 * np.pi)
    )  # fmt: skip
    assert fit.deviance == pytest.approx(deviance, abs=1e-4)
