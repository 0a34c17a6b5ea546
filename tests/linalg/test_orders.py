"""The order that large systems get, with scikit-sparse and without."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from random_pattern import eliminate_symbolically, random_graph

import fastlmm_core as fl
from fastlmm_core.linalg import elimination
from fastlmm_core.linalg.ordering import (
    judge_order,
    order_by_degree,
    order_by_metis,
    order_graph,
)

TESTS = Path(__file__).resolve().parents[1]


def test_order_is_a_permutation_with_little_fill():
    n = 200
    arrow = np.eye(n, dtype=bool)
    arrow[0] = arrow[:, 0] = True
    perm, name, _ = order_graph(sp.csc_array(np.tril(arrow, -1).astype(float)))
    assert sorted(perm) == list(range(n))
    assert eliminate_symbolically(arrow[np.ix_(perm, perm)]).sum() == 2 * n - 1
    assert name == "metis"  # the first that is looked for, and none saves more


@pytest.mark.parametrize("density", [0.01, 0.05])
def test_orders_have_the_fill_of_the_best(density):
    """What stands beside what is chosen afterwards, and children come before parents all the same."""
    adjacent = random_graph(4, 150, density)
    graph = sp.csc_array(np.tril(adjacent, -1).astype(float))
    perm, name, _ = order_graph(graph)
    matrix = sp.csc_matrix(np.tril(adjacent).astype(float))
    own = {"by terms": lambda: np.arange(150), "amd": lambda: order_by_degree(graph)}
    best = own.get(name, lambda: order_by_metis(matrix))()
    assert sorted(perm) == list(range(150))
    assert judge_order(matrix, perm).flops == judge_order(matrix, best).flops


def test_operations_are_counted_on_the_filled_pattern():
    adjacent = random_graph(5, 40, 0.1)
    perm = np.random.default_rng(0).permutation(40)
    counts = eliminate_symbolically(adjacent[np.ix_(perm, perm)]).sum(axis=0)
    assert judge_order(sp.csc_matrix(np.tril(adjacent).astype(float)), perm).flops == np.sum(counts**2)


@pytest.mark.parametrize("seed", range(3))
def test_small_graphs_get_the_better_of_two_orders(monkeypatch, seed):
    """As they come or by minimum degree, the last nodes behind, and as a postorder without more fill."""
    monkeypatch.setattr(elimination, "MANY_FLOPS", 0.0)
    adjacent = random_graph(seed, 60, 0.1)
    last = np.arange(60) % 7 == 0
    below = sp.csc_array(np.tril(adjacent, -1))
    arrays = below.indptr.astype(np.int64), below.indices.astype(np.int64), np.ones(60, np.int64), last
    perm = elimination.order_nodes(*arrays).perm
    assert sorted(perm) == list(range(60))
    assert not last[perm[: 60 - last.sum()]].any()
    others = elimination.order_minimum_degree(*arrays), np.argsort(last, kind="stable")
    fill = [
        np.sum(eliminate_symbolically(adjacent[np.ix_(own, own)]).sum(axis=0) ** 2) for own in (perm, *others)
    ]
    assert fill[0] == min(fill[1:])


def crossed_frame():
    """Three random factors that meet at random: the order decides."""
    r = np.random.default_rng(11)
    codes = [r.integers(0, k, 3000) for k in (700, 600, 500)]
    y = sum(r.normal(size=700)[c] for c in codes) + r.normal(size=3000)
    return pd.DataFrame({name: c.astype(str) for name, c in zip("abc", codes, strict=True)}).assign(y=y)


FORMULA = "y ~ 1 + (1|a) + (1|b) + (1|c)"
# Runs in a process that finds no scikit-sparse; fits twice, and asks for CHOLMOD by name.
HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sksparse":
            raise ModuleNotFoundError("No module named 'sksparse'")

sys.meta_path.insert(0, Hidden())
import numpy as np
import fastlmm_core as fl
from fastlmm_core.errors import DependencyError
from test_orders import FORMULA, crossed_frame, figures

frame = crossed_frame()
fit = fl.lmm(FORMULA, frame)
fl.prepare(FORMULA, frame)
np.savez(sys.argv[1], ordering=fit.plain.equations.order.name, **figures(fit))
try:
    fl.prepare("y ~ 1 + (1|a)", frame, factorization="cholmod")
except DependencyError as error:
    print(error)
"""


def figures(fit):
    blups = fit.blups()
    return {
        "criterion": fit.criterion, "theta": fit.theta, "beta": fit.beta, "se": fit.se,
        "blup": blups["estimate"], "pev": blups["pev"],
    }  # fmt: skip


@pytest.mark.compiled
def test_the_same_fit_where_scikit_sparse_is_not_installed(tmp_path):
    path = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "linalg")))
    run = subprocess.run(
        [sys.executable, "-c", HIDDEN, str(tmp_path / "figures.npz")],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (missing,) = [line for line in run.stderr.splitlines() if "scikit-sparse" in line]
    assert "without METIS" in missing and "No module named 'sksparse'" in missing
    assert "pip install 'fastlmm_core[cholmod]'" in run.stdout
    with np.load(tmp_path / "figures.npz") as found:
        assert found["ordering"] == "amd"
        expected = figures(fl.lmm(FORMULA, crossed_frame()))
        for name, figure in expected.items():
            np.testing.assert_allclose(found[name], figure, rtol=1e-6, atol=1e-7, err_msg=name)


def test_operations_of_nodes_that_stand_for_several_rows():
    size = np.random.default_rng(1).integers(1, 5, 30)
    groups = random_graph(6, 30, 0.1)
    rows = np.repeat(np.arange(30), size)
    adjacent = groups[np.ix_(rows, rows)]
    perm = np.random.default_rng(0).permutation(30)
    order = np.concatenate([np.flatnonzero(rows == j) for j in perm])
    counts = eliminate_symbolically(adjacent[np.ix_(order, order)]).sum(axis=0)
    matrix = sp.csc_matrix(np.tril(groups).astype(float))
    assert judge_order(matrix, perm, size=size).flops == np.sum(counts**2)
