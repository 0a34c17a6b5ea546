"""Terms of which a row meets dozens of levels: full matrices in W, and one node of the pattern."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Markers, prepare
from fastlmm_core.engine.equations import node_graph, nodes

LINES, MARKERS = 90, 40
MODELS = [
    ("y ~ rep + (1 | vm(gen, M)) + (1 | block)", "units"),
    ("y ~ env + (1 | vm(gen, M)) + (1 | gen)", "units | env"),
    ("y ~ env + diag(0 + env | vm(gen, M)) + (1 | block)", "units | env"),
    ("y ~ env + fa(0 + env | vm(gen, M), k=1)", "units"),
    ("y ~ env + us(0 + env | vm(gen, M))", "units"),
    ("y ~ env + (1 | vm(gen, M))", "ar1(row):ar1(col) | env"),
]


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(4)
    genotypes = rng.integers(0, 3, (LINES, MARKERS))
    names = [f"g{k:02d}" for k in range(LINES)]
    table = pd.DataFrame(genotypes, index=names).add_prefix("m")
    rows = pd.DataFrame(
        [(e, r, c) for e in range(2) for r in range(9) for c in range(10)], columns=["env", "row", "col"]
    )
    gen = np.concatenate([rng.permutation(LINES), rng.permutation(LINES)])
    value = (genotypes - genotypes.mean(axis=0)) @ rng.normal(size=MARKERS) / 4.0
    rows = rows.assign(gen=np.array(names)[gen], rep=[f"r{k % 3}" for k in rows.row])
    rows = rows.assign(block=[f"b{k // 3}" for k in rows.col], y=value[gen] + rng.normal(size=len(rows)))
    rows["env"] = "e" + rows["env"].astype(str)
    return rows.drop(index=[3, 50, 120]).reset_index(drop=True), table


def prepared(trial, formula, residual, **options):
    rows, table = trial
    known = Markers(table.rename_axis("gen").reset_index(), centre="mean")
    return prepare(formula, rows, residual=residual, relationships={"M": known}, **options)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("formula", "residual"), MODELS)
def test_products_are_those_of_sparse_columns(trial, formula, residual, reml, monkeypatch):
    whole = prepared(trial, formula, residual, reml=reml)
    with monkeypatch.context() as patch:
        patch.setattr(node_graph, "MANY_IN_A_ROW", 10**9)
        single = prepared(trial, formula, residual, reml=reml)
    e, other = whole.equations, single.equations
    assert node_graph.dense_groups(nodes.Nodes(nodes.natural_groups(e.terms), 0, e.p), e.terms)
    theta = np.full(e.n_theta, 0.4)
    c = e.residual.piece_coefficients(theta[e.slices[1]])
    G = full_matrix(e, np.asarray(e.G_pieces @ c))
    own = np.argsort(order(e)), np.argsort(order(other))
    expected = full_matrix(other, np.asarray(other.G_pieces @ c))
    np.testing.assert_allclose(
        G[np.ix_(own[0], own[0])], expected[np.ix_(own[1], own[1])], rtol=1e-10, atol=1e-10
    )
    assert whole.fit().criterion == pytest.approx(single.fit().criterion, abs=1e-7)


def order(e):
    """A number of every natural scalar that does not depend on the order of elimination."""
    out = np.empty(e.natural.size, np.int64)
    scalars = [*(rows.ravel() for rows in e.natural.rows), e.natural.missing, e.natural.fixed]
    out[np.concatenate(scalars)] = np.arange(e.natural.size)
    return out


def full_matrix(e, values):
    out = np.zeros((e.natural.size, e.natural.size))
    out[e.natural.indices, e.natural.columns] = values
    out[e.natural.columns, e.natural.indices] = values
    return out
