"""Main effects and effects by environment over the same relationship: two terms that have one group."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Markers, fit_batch, lmm, run
from fastlmm_core.errors import OptionError

LINES = [f"g{k:02d}" for k in range(25)]
MAIN, SPECIFIC = "(1 | vm(gen, G))", "diag(0 + env | vm(gen, G))"


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(6)
    root = rng.normal(size=(25, 50))
    G = pd.DataFrame(root @ root.T / 50.0, index=LINES, columns=LINES)
    half = np.linalg.cholesky(G.to_numpy())
    main, own = half @ rng.normal(size=25), half @ rng.normal(size=(25, 3))
    rows = [(e, g, main[g] + own[g, e] + rng.normal()) for e in range(3) for g in range(25) for _ in range(2)]
    table = pd.DataFrame(rows, columns=["e", "g", "y"])
    return table.assign(env="e" + table.e.astype(str), gen=np.array(LINES)[table.g], trial="t"), G


@pytest.mark.parametrize("terms", [(MAIN, SPECIFIC), (SPECIFIC, MAIN)])
def test_heritability_is_of_the_main_effects(trials, terms):
    table, G = trials
    fit = lmm("y ~ env + " + " + ".join(terms), table, relationships={"G": G})
    components = fit.variance_components.set_index("var1")["estimate"]
    both = [fit.heritability(term, definitions=["oakey"]) for term in ("vm(gen, G)", "gen")]
    for found in both:
        assert found["oakey"] == pytest.approx(oakey(components, table, G), rel=1e-6)
    other = fit.heritability("vm(gen, G)", coefficient="enve1", definitions=["oakey"])
    assert other["oakey"] != pytest.approx(both[0]["oakey"], rel=1e-3)


def oakey(components, table, G):
    """Mean of the eigenvalues of I - G^-1 PEV / sigma2_g that can differ from 0 (Oakey et al. 2006)."""
    X, K = np.eye(3)[table.e], G.to_numpy()
    Z = np.eye(25)[table.g]
    specific = [components["enve0"], components["enve1"], components["enve2"]]
    V = components["(Intercept)"] * Z @ K @ Z.T + components.iloc[-1] * np.eye(len(table))
    for e, variance in enumerate(specific):
        Z_e = Z * X[:, [e]]
        V += variance * Z_e @ K @ Z_e.T
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    C = components["(Intercept)"] * K @ Z.T
    error = components["(Intercept)"] * K - C @ P @ C.T
    values = np.linalg.eigvals(np.eye(25) - np.linalg.solve(K, error) / components["(Intercept)"]).real
    return values.sum() / np.sum(np.abs(values) > 1e-9)


@pytest.mark.parametrize("terms", [(MAIN, SPECIFIC), (SPECIFIC, MAIN)])
def test_a_batch_tables_both(trials, terms):
    table, G = trials
    formula = "~ env + " + " + ".join(terms)
    found = fit_batch(
        table, formula, by="trial", traits="y", relationships={"G": G}, blups=True, progress=False
    )
    assert found.fits["status"].item() == "ok"
    assert len(found.blups) == 25 + 75


def test_a_note_says_whose_heritability_it_is(trials):
    """Values of the genotypes are of both terms together, the heritability of one of them."""
    table, _ = trials
    fit = lmm("y ~ env + (1 | gen) + diag(0 + env | gen)", table)
    words = "of the effects of '{}' alone; those of '{}' are left out"
    assert words.format("(1 | gen)", "diag(0 + env | gen)") in str(fit.heritability("gen", "cullis"))
    own = fit.heritability("gen", "cullis", coefficient="enve1")
    assert words.format("diag(0 + env | gen)", "(1 | gen)") in str(own)
    interaction = lmm("y ~ env + (1 | gen) + (1 | gen:env)", table)
    assert "left out" not in str(interaction.heritability("gen", "cullis"))


@pytest.mark.parametrize("markers", [12, 40])
def test_marker_effects_are_those_of_every_term(trials, markers):
    """On the main effects and in each environment, as the dense model with these effects has them."""
    table, _ = trials
    rng = np.random.default_rng(7)
    genotypes = rng.integers(0, 3, (25, markers)).astype(float)
    snps = pd.DataFrame(genotypes, index=LINES, columns=[f"m{k}" for k in range(markers)])
    snps.index.name = "gen"
    effects = rng.normal(size=(3, markers)) + 2.0 * rng.normal(size=markers)
    table = table.assign(y=table.y + np.einsum("nm,nm->n", genotypes[table.g], effects[table.e]))
    fit = lmm(f"y ~ env + {MAIN} + {SPECIFIC}", table, relationships={"G": Markers(snps)})
    assert not fit.singular
    *variances, noise = fit.variance_components["estimate"]
    X = np.eye(3)[table.e]
    Z = (genotypes - genotypes.mean(axis=0))[table.g]
    Zs = [Z, *(Z * X[:, [e]] for e in range(3))]
    parts = [v / markers * own @ own.T for v, own in zip(variances, Zs, strict=True)]
    V = noise * np.eye(len(table)) + sum(parts)
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    found = fit.marker_effects("vm(gen, G)")
    terms = ["(Intercept)", "enve0", "enve1", "enve2"]
    assert found["term"].drop_duplicates().tolist() == terms
    for term, v, own in zip(terms, np.array(variances) / markers, Zs, strict=True):
        rows = found[found["term"] == term]
        assert np.allclose(rows["estimate"], v * own.T @ P @ table["y"], atol=1e-9)
        assert np.allclose(rows["pev"], v - v**2 * np.einsum("ik,ij,jk->k", own, P, own), atol=1e-9)
    said = run({
        "data": table.to_dict("list"), "formula": fit.formula, "marker_effects": True,
        "relationships": {"G": {"type": "markers", "data": snps.reset_index().to_dict("list")}},
    })["marker_effects"]  # fmt: skip
    assert said["term"] == found["term"].tolist() and said["markers"] == found["marker"].tolist()
    assert np.allclose(said["values"], found["estimate"], atol=1e-9)
    with pytest.raises(OptionError, match=r"with markers: 'vm\(gen, G\)'$"):
        fit.marker_effects("Residual")
