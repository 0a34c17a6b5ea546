"""Kenward-Roger by the average information where the residual's autocorrelation is -1.

The likelihood says nothing of a move beyond the bound, so that rho is known there: the information is that of
the two variances, by dense formulas (Gilmour, Thompson & Cullis 1995; Kenward & Roger 1997, one row).
"""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.structures.residuals import visits


def alternating(seed, m):
    """Subjects whose visits go up and down by the same amount, with noise on every row."""
    rng = np.random.default_rng(seed)
    s, v = np.divmod(np.arange(15 * m), m)
    x, b = rng.normal(size=s.size), rng.normal(size=15)
    y = 2 * b[s] * (-1.0) ** v + 0.3 * v + 0.5 * np.random.default_rng(2).normal(size=s.size)
    return pd.DataFrame({"s": "s" + pd.Series(s).astype(str), "v": v, "x": x, "g": s % 2, "y": y})


def dense_df(table, units, variance):
    """df of every coefficient with V = units I + variance R(-1) and both variances unknown."""
    X = np.column_stack([np.ones(len(table)), table["g"], table["x"]])
    s, v, y = (table[name].to_numpy() for name in ("s", "v", "y"))
    R = np.equal.outer(s, s) * (-1.0) ** np.abs(np.subtract.outer(v, v))
    slopes = [np.eye(len(table)), R]
    V = units * slopes[0] + variance * R
    inverse = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ inverse @ X)
    P = inverse - inverse @ X @ phi @ X.T @ inverse
    moved = [V_t @ P @ y for V_t in slopes]
    W = np.linalg.inv([[0.5 * a @ P @ b for b in moved] for a in moved])
    B = inverse @ X @ phi
    gradients = np.array([[b @ V_t @ b for V_t in slopes] for b in B.T])
    return 2.0 * np.diag(phi) ** 2 / np.einsum("ri,ij,rj->r", gradients, W, gradients)


@pytest.mark.parametrize("pieces", [5_000, -1], ids=["patterns", "series"])
@pytest.mark.parametrize(("seed", "m"), [(1, 4), (2, 4), (3, 6)])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_the_average_information_takes_it_as_known(monkeypatch, seed, m, pieces):
    monkeypatch.setattr(visits, "MANY_PIECES", pieces)
    table = alternating(seed, m)
    fit = lmm("y ~ g + x + (1 | units)", table, residual="ar1(v | s)")
    units, variance = fit.variance_components["estimate"].iloc[[0, 1]]
    found = fit.fixed_effects(ddf="kenward-roger", information="average")["df"]
    assert fit.singular
    np.testing.assert_allclose(found, dense_df(table, units, variance), rtol=1e-4)
