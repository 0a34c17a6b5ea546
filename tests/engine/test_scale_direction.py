"""V among the directions: the sums of Kenward and Roger with and without a direction of the residual."""

import warnings

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.engine.information import direction_products
from fastlmm_core.engine.information.scale_direction import scale_shares, without_scale
from fastlmm_core.errors import FastLMMWarning


def trial():
    rng = np.random.default_rng(7)
    table = datasets.load("john_alpha").copy()
    table["row"] = np.arange(len(table)) % 9 + 1
    table["col"] = np.arange(len(table)) // 9 + 1
    table["env"] = np.where(np.arange(len(table)) % 2 == 0, "a", "b")
    table["yield"] += 0.3 * np.sin(table["row"]) + 0.2 * rng.normal(size=len(table))
    return table


MODELS = [
    ("yield ~ gen + row * col + (1 | rep) + ps(row, col, nseg=(4, 4))", "units"),
    ("yield ~ gen + rep + homcs(0 + env | block)", "units"),
    ("yield ~ env + fa(0 + env | gen, k=1) + (1 | block)", "units"),
    ("yield ~ gen + (1 | block:rep)", "ar1(row):ar1(col)"),
    ("yield ~ gen + (1 | rep)", "units | env"),
]
REDUCED = {"units": 1, "ar1(row):ar1(col)": 3, "units | env": 2}  # parameters of each residual


@pytest.mark.parametrize("formula, residual", MODELS)
def test_the_sums_are_the_same_without_the_residual(formula, residual, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = lmm(formula, trial(), residual=residual)
    solution, inference = fit.solved, fit._inference
    directions = inference.directions("kenward-roger", "observed")
    shares = scale_shares(solution, directions)
    assert shares is not None
    own, c = shares
    assert all(directions[t].term == -1 for t in own) and own.size == REDUCED[residual]
    weights = inference.covariance("kenward-roger", "observed")
    reduced = without_scale(weights, shares)
    (left,) = (s for s in own if c[s] > 0.0 and not reduced[s].any() and not reduced[:, s].any())
    assert weights[left, left] / c[left] ** 2 == min(weights[s, s] / c[s] ** 2 for s in own if c[s] > 0.0)
    rows, _ = solution.solve_fixed(np.eye(fit.rank)[:: max(1, fit.rank // 6)])
    form = direction_products.weighted_form(solution, directions, weights, rows)
    monkeypatch.setattr(direction_products, "scale_shares", lambda *_: None)
    whole = direction_products.weighted_form(solution, directions, weights, rows)
    np.testing.assert_allclose(form, whole, rtol=1e-6, atol=1e-9 * np.abs(whole).max())


def test_an_uncertain_residual_keeps_its_own_products():
    weights = np.diag([1.0, 4.0])
    assert without_scale(weights, (np.array([1]), np.array([0.5, 1.0]))) is weights
    assert without_scale(weights, (np.array([0, 1]), np.array([0.0, 1.0]))) is weights
    assert without_scale(weights, None) is weights


def test_held_variances_leave_no_scale():
    fit = lmm("yield ~ gen + diag(0 + env | block)", trial(), fixed_parameters={"block": np.diag([0.1, 0.2])})
    assert scale_shares(fit.solved, fit._inference.directions("kenward-roger", "observed")) is None
