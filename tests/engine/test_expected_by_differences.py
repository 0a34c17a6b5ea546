"""The expected information without dense matrices, also beside variances of zero."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.engine.information import parameter_covariance
from fastlmm_core.engine.information.expected_differences import (
    expected_by_differences,
    expected_of_term,
    lost_directions,
)
from fastlmm_core.engine.information.expected_information import expected_by_rows
from fastlmm_core.errors import InferenceError

GENOTYPES = [f"g{i}" for i in range(15)]


@pytest.fixture(scope="module")
def plots() -> pd.DataFrame:
    """15 genotypes twice in four environments; blocks whose means are all the same."""
    rng = np.random.default_rng(3)
    cells = [(f"e{e}", g, f"r{r}") for e in range(4) for g in GENOTYPES for r in range(2)]
    table = pd.DataFrame(cells, columns=["env", "gen", "rep"])
    table["block"] = table["env"] + table["rep"] + rng.integers(0, 3, len(table)).astype(str)
    table["x"], table["y"] = rng.normal(size=len(table)), rng.normal(size=len(table))
    table["y"] += pd.Series(rng.normal(size=15), index=GENOTYPES)[table["gen"]].to_numpy()
    table["y"] -= table.groupby("block")["y"].transform("mean")
    return table


def relation() -> pd.DataFrame:
    markers = np.random.default_rng(4).normal(size=(15, 40))
    return pd.DataFrame(markers @ markers.T / 40 + 0.1 * np.eye(15), GENOTYPES, GENOTYPES)


MODELS = {
    "one variance of zero": "y ~ env + (1|gen) + (1|block)",
    "a covariance of zero": "y ~ env + (1|gen) + (1 + x|block)",
    "of lower rank": "y ~ env + us(0 + env|gen) + (1|block)",
    "related": "y ~ env + (1|block) + us(1 + x|vm(gen, A))",
    "two related": "y ~ env + (1|block) + (1|vm(gen, A)) + (1|env:vm(gen, A))",
}


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("name", list(MODELS))
def test_it_is_that_of_dense_matrices(plots, name):
    fit = lmm(MODELS[name], plots, residual="units|env", relationships={"A": relation()})
    solution, inference = fit.solved, fit._inference
    directions = inference.natural.directions
    expected = expected_by_rows(solution, directions)
    size = np.sqrt(np.diag(expected))
    assert lost_directions(solution, inference.natural)  # or there is nothing to see
    for k in range(len(fit.design.random)):
        own = np.array([t for t, direction in enumerate(directions) if direction.term == k])
        found = expected_of_term(solution, directions, own)
        np.testing.assert_allclose(found / np.outer(size[own], size), (expected / np.outer(size, size))[own],
                                   atol=1e-12)  # fmt: skip
    found = expected_by_differences(solution, inference.natural)
    np.testing.assert_allclose(found / np.outer(size, size), expected / np.outer(size, size), atol=1e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
def test_means_beside_a_block_variance_of_zero(plots, monkeypatch):
    """Means of a singular fit have the same errors where dense matrices would be too much work."""
    formula = MODELS["one variance of zero"].replace("env + (1|gen)", "env + gen")
    dense = lmm(formula, plots, residual="units|env").emmeans("gen").to_frame()
    monkeypatch.setattr(parameter_covariance, "LARGE_WORK", 0.0)
    monkeypatch.setattr(parameter_covariance, "DIFFERENCE_WORK", 0.0)
    sparse = lmm(formula, plots, residual="units|env").emmeans("gen").to_frame()
    pd.testing.assert_frame_equal(sparse, dense, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
def test_by_maximum_likelihood_it_says_what_there_is_not(plots):
    fit = lmm(MODELS["one variance of zero"], plots, residual="units|env", reml=False)
    with pytest.raises(InferenceError, match=r"variance of zero .* information='observed'"):
        expected_by_differences(fit.solved, fit._inference.natural)
