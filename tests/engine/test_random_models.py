"""Random small models of any shape: fit, inference and predictions against dense formulas (property test)."""

import warnings

import numpy as np
import pandas as pd
from dense_reference import DenseModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlmm_core import lmm
from fastlmm_core.errors import DesignError, FastLMMWarning


@st.composite
def models(draw):
    r = np.random.default_rng(draw(st.integers(0, 10**6)))
    n = draw(st.integers(25, 60))
    a, b = draw(st.integers(3, 9)), draw(st.integers(2, 6))
    data = pd.DataFrame(
        {
            "g": r.integers(0, a, n),
            "h": r.integers(0, b, n),
            "f": r.integers(0, 3, n),
            "k": r.integers(0, 2, n),
        }
    )
    data["x"] = r.normal(size=n)
    sd = [draw(st.sampled_from([0.0, 0.3, 1.0, 4.0])) for _ in range(3)]
    data["y"] = (
        data["f"] + r.normal(0, 1, a)[data["g"]] * sd[0] + r.normal(0, 1, b)[data["h"]] * sd[1]
        + r.normal(0, 1, a)[data["g"]] * sd[2] * data["x"] + r.normal(size=n)
    )  # fmt: skip
    for column in "ghfk":
        data[column] = data[column].astype(str)
    data["w"] = r.uniform(0.2, 3, n)
    random = draw(
        st.sampled_from(
            ["(1|g)", "(1|g) + (1|h)", "(x|g)", "(x||g)", "(0 + x|g) + (1|h)", "(1|h/g)", "(x|g) + (1|h)"]
        )
    )
    fixed = draw(st.sampled_from(["1", "f", "f + x", "f * k", "0 + f + x", "x + I(x^2)"]))
    return f"y ~ {fixed} + {random}", data, draw(st.sampled_from([None, "w"])), draw(st.booleans())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(models())
def test_any_model(model):
    formula, data, weights, reml = model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        try:
            fit = lmm(formula, data, weights=weights, reml=reml)
        except DesignError:
            return  # too many levels for the rows: the refusal has its own tests
    assert fit.converged
    dense = DenseModel.of_fit(fit)
    kept = fit.design.kept
    np.testing.assert_allclose(fit.criterion, dense.criterion, rtol=1e-9)
    np.testing.assert_allclose(fit.beta[kept], dense.beta, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.blups()["estimate"], dense.u, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(fit.blups()["pev"], np.diag(dense.pev), rtol=1e-6, atol=1e-7)
    # no random neighbour is better
    r = np.random.default_rng(0)
    for _ in range(12):
        step = 10 ** r.uniform(-3, 0)
        G = []
        for matrix, term in zip(dense.G, dense.terms, strict=True):
            values, vectors = np.linalg.eigh(matrix)
            root = vectors * np.sqrt(np.maximum(values, 0))
            root = root + step * np.sqrt(dense.sigma2) * r.normal(size=root.shape)
            moved = root @ root.T
            G.append(np.diag(np.diag(moved)) if term.diagonal else moved)
        assert dense.at(G, dense.sigma2 * np.exp(step * r.normal())).criterion >= dense.criterion - 1e-7
    if not reml:
        return
    information = dense.information("expected")
    scale = np.sqrt(np.diag(information))
    if np.linalg.eigvalsh(information / np.outer(scale, scale))[0] < 1e-7:
        return  # two variances that the data cannot tell apart: Kenward-Roger is not defined
    X = np.unique(fit.design.fixed_matrix(fit.design.frame).toarray(), axis=0)[:3]
    functions = fit.linear_functions(X)
    rows = X[:, kept]
    adjusted = rows @ dense.adjusted_covariance() @ rows.T
    np.testing.assert_allclose(functions.se(), np.sqrt(np.diag(adjusted)), rtol=1e-6)
    np.testing.assert_allclose(functions.df(), [dense.kr_df(row) for row in rows], rtol=1e-6)
