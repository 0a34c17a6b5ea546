"""Slopes without an intercept of their own: of two minima of the deviance the deeper one is found.

Reference: the dense criterion (tests/dense_reference.py) on a grid of both variances.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel, DenseTerm

from fastlmm_core import fit_batch, lmm

FORMULA = "y ~ x + (1|g) + (0+x|h)"
GRID = np.concatenate([[0.0], np.geomspace(1e-3, 50.0, 24)])


def trial(seed):
    """Twenty rows, eight and four levels: in these the moments lead to the shallower minimum."""
    rng = np.random.default_rng(seed)
    h, g, x = rng.integers(0, 4, 20), rng.integers(0, 8, 20), rng.normal(rng.choice([0, 1, 3]), 1, 20)
    slopes, means = rng.normal(0, rng.choice([0, 0.3, 1]), 4), rng.normal(0, 1, 8)
    y = slopes[h] * x + means[g] + rng.normal(0, rng.choice([1, 3]), 20)
    return pd.DataFrame({"y": y, "x": x, "h": h, "g": g})


def years(seed, levels=5, rows=60):
    """Slopes over years, of levels without an effect of their own at the mean year."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, levels, rows), 2015.0 + np.round(4.0 * rng.normal(size=rows))
    y = rng.normal(size=levels)[g] * (x - 2015.0) + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "x": x, "h": g, "g": g})


def lowest(data, of_means=GRID, of_slopes=GRID):
    """The smallest dense criterion on the grid of variances relative to sigma2, which is profiled out."""
    y, n = data["y"].to_numpy(), len(data)
    X = np.column_stack([np.ones(n), data["x"]])
    g, h = (np.unique(data[name], return_inverse=True)[1] for name in "gh")
    terms = [DenseTerm(g, np.ones((n, 1)), g.max() + 1), DenseTerm(h, X[:, 1:], h.max() + 1)]
    values = []
    for a in of_means:
        for b in of_slopes:
            G = [np.array([[a]]), np.array([[b]])]
            sigma2 = float(y @ DenseModel(y, X, terms, np.ones(n), G, 1.0, True).P @ y) / (n - 2)
            own = [sigma2 * own for own in G]
            values.append(DenseModel(y, X, terms, np.ones(n), own, sigma2, True).criterion)
    return min(values)


@pytest.mark.parametrize("seed", [3204, 5404, 8504, 12704])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_no_variances_have_a_lower_deviance(seed):
    data = trial(seed)
    floor = lowest(data)
    named = data.assign(one="1")
    plain, structured = lmm(FORMULA, named), lmm(FORMULA, named, residual="units | one")
    assert plain.converged and structured.converged
    assert plain.criterion <= floor
    np.testing.assert_allclose(structured.criterion, plain.criterion, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:singular fit")
def test_batches_find_it_too():
    seeds = (3204, 5404, 8504, 12704)
    table = pd.concat([trial(seed).assign(trial=seed) for seed in seeds])
    found = fit_batch(table, FORMULA, by="trial").fits
    expected = [lmm(FORMULA, trial(seed)).criterion for seed in seeds]
    np.testing.assert_allclose(found["criterion"], expected, rtol=1e-8)


@pytest.mark.parametrize(("seed", "levels", "rows"), [(0, 5, 60), (5, 5, 60), (11, 5, 60), (6, 14, 140)])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_slopes_over_years_beside_independent_means(seed, levels, rows):
    """The variance of the means at year 0 brings the lines back to the data: thousands of residual ones."""
    data = years(seed, levels, rows)
    floor = lowest(data, np.geomspace(1e2, 1e7, 11), np.geomspace(1e-3, 10.0, 9))
    for formula in (FORMULA, "y ~ x + (x||g)"):
        named = data.assign(one="1", g=data["g"].astype(str))
        plain, structured = lmm(formula, named), lmm(formula, named, residual="units | one")
        assert plain.converged and structured.converged
        assert plain.criterion <= floor
        np.testing.assert_allclose(structured.criterion, plain.criterion, rtol=1e-8)
        found = fit_batch(named.assign(trial="1"), formula, by="trial").fits
        np.testing.assert_allclose(found["criterion"], [plain.criterion], rtol=1e-8)


def augmented(seed, blocks=5, checks=3, lines=20):
    """An augmented trial: checks in every block, each new line once."""
    rng = np.random.default_rng(seed)
    gen = np.concatenate([np.tile(np.arange(checks), blocks), np.arange(checks, checks + lines)])
    block = np.concatenate([np.repeat(np.arange(blocks), checks), rng.integers(0, blocks, lines)])
    y = rng.normal(size=gen.max() + 1)[gen] + rng.normal(size=blocks)[block] + 0.5 * rng.normal(size=gen.size)
    table = pd.DataFrame({"y": y, "gen": gen, "block": block, "check": np.minimum(gen, checks)})
    return table.astype({"gen": str, "block": str, "check": str})


@pytest.mark.parametrize("seed", [1, 3, 6, 10, 33])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_ml_of_augmented_trials(seed):
    """Checks and blocks take a quarter of the degrees of freedom, which ML does not count."""
    formula, data = "y ~ block + check + (1|gen)", augmented(seed)
    y, n = data["y"].to_numpy(), len(data)
    columns = [pd.get_dummies(data[name]).to_numpy(float)[:, 1:] for name in ("block", "check")]
    X = np.column_stack([np.ones(n), *columns])
    codes = np.unique(data["gen"], return_inverse=True)[1]
    terms = [DenseTerm(codes, np.ones((n, 1)), codes.max() + 1)]

    def criterion(variance):
        relative = DenseModel(y, X, terms, np.ones(n), [np.array([[variance]])], 1.0, False)
        sigma2 = float(y @ relative.P @ y) / n
        own = [np.array([[sigma2 * variance]])]
        return DenseModel(y, X, terms, np.ones(n), own, sigma2, False).criterion

    fit = lmm(formula, data, reml=False)
    assert fit.converged
    assert fit.criterion <= min(criterion(v) for v in [0.0, *np.geomspace(1e-3, 1e3, 49)])
    found = fit_batch(data.assign(trial="1"), formula, by="trial", reml=False).fits
    np.testing.assert_allclose(found["criterion"], [fit.criterion], rtol=1e-8)
