"""A dense relationship with equal weights per level: its eigenbasis is a basis of the same equations."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import Markers, lmm, prepare
from fastlmm_core.engine.equations import rotation
from fastlmm_core.engine.equations.rotation import RowRotation, _reflector

L, RECORDS = 210, 3
FORMULA = "y ~ rep + x + (1 | vm(line, G))"


@pytest.fixture(scope="module")
def data():
    """Three records a line; weights differ between records, not in their sum over a line."""
    rng = np.random.default_rng(7)
    markers = rng.normal(size=(L, 2 * L))
    G = markers @ markers.T / (2 * L) + 0.05 * np.eye(L)
    names = [f"l{i:03d}" for i in range(L)]
    u = 1.3 * np.linalg.cholesky(G) @ rng.normal(size=L)
    order = rng.permutation(L * RECORDS)
    line = np.repeat(np.arange(L), RECORDS)[order]
    rep = np.tile(np.arange(RECORDS), L)[order]
    w = np.array([0.5, 1.0, 2.5])[rep]
    y = 10.0 + u[line] + rep + rng.normal(size=line.size) / np.sqrt(w)
    table = pd.DataFrame({
        "line": np.array(names)[line], "rep": np.array(list("abc"))[rep], "x": rng.normal(size=line.size),
        "w": w, "y": y,
    })  # fmt: skip
    return table, pd.DataFrame(G, index=names, columns=names)


def fits(data, monkeypatch, **options):
    """In the eigenbasis, and with the levels as a clique."""
    table, G = data
    rotated = lmm(FORMULA, table, relationships={"G": G}, **options)
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "LEAST_LEVELS", 10**9)
        clique = lmm(FORMULA, table, relationships={"G": G}, **options)
    assert rotated.solved.equations.rotation is not None and clique.solved.equations.rotation is None
    return rotated, clique


@pytest.mark.parametrize("options", [{}, {"weights": "w"}, {"weights": "w", "reml": False}])
def test_all_figures_are_those_of_the_other_basis(data, monkeypatch, options):
    rotated, clique = fits(data, monkeypatch, **options)
    assert rotated.criterion == pytest.approx(clique.criterion, abs=1e-7)
    for name in ("fitted", "residuals"):
        np.testing.assert_allclose(getattr(rotated, name), getattr(clique, name), atol=1e-6)
    for ddf in ("kenward-roger", "satterthwaite") if options.get("reml", True) else ("asymptotic",):
        for column in ("estimate", "se", "df"):
            own, other = rotated.fixed_effects(ddf)[column], clique.fixed_effects(ddf)[column]
            np.testing.assert_allclose(own, other, rtol=2e-6)
    own, other = rotated.blups(), clique.blups()
    assert own["level"].tolist() == other["level"].tolist()
    for column in ("estimate", "se", "reliability"):
        np.testing.assert_allclose(own[column], other[column], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(rotated.solved.residual_sd, clique.solved.residual_sd, rtol=1e-6)
    np.testing.assert_allclose(
        rotated.solved.conditional_variance(0), clique.solved.conditional_variance(0), rtol=1e-5
    )
    components = ["estimate", "se"]
    np.testing.assert_allclose(
        rotated.variance_components[components], clique.variance_components[components], rtol=1e-5
    )


def test_against_generalized_least_squares(data):
    """Dense V of the estimates: coefficients, predictions, their errors, and the criterion."""
    table, G = data
    fit = lmm(FORMULA, table, weights="w", relationships={"G": G})
    T, sigma2 = fit.variance_components["estimate"]
    Z = (table["line"].to_numpy()[:, None] == G.index.to_numpy()).astype(float)
    X = np.column_stack([np.ones(len(table)), table["rep"] == "b", table["rep"] == "c", table["x"]]).astype(
        float
    )
    V = T * Z @ G.to_numpy() @ Z.T + np.diag(sigma2 / table["w"])
    V_inv, y = np.linalg.inv(V), table["y"].to_numpy()
    phi = np.linalg.inv(X.T @ V_inv @ X)
    beta = phi @ X.T @ V_inv @ y
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-8)
    np.testing.assert_allclose(fit.cov_beta, phi, rtol=1e-6, atol=1e-10)
    P = V_inv - V_inv @ X @ phi @ X.T @ V_inv
    C = T * G.to_numpy() @ Z.T
    blups = fit.blups().set_index("level").loc[G.index]
    np.testing.assert_allclose(blups["estimate"], C @ P @ y, atol=1e-7)
    pev = T * np.diag(G) - np.einsum("ij,jk,ik->i", C, P, C)
    np.testing.assert_allclose(blups["se"], np.sqrt(pev), rtol=1e-6)
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ V_inv @ X)[1]
    criterion = logs + y @ P @ y + (len(y) - X.shape[1]) * np.log(2 * np.pi)
    assert fit.criterion == pytest.approx(criterion, abs=1e-6)
    slopes = [Z @ G.to_numpy() @ Z.T, np.diag(1.0 / table["w"])]
    for dV in slopes:  # the score of both parameters vanishes
        score = np.trace(P @ dV) - y @ P @ dV @ P @ y
        assert abs(score) < 1e-4 * np.trace(P @ dV)


def test_predictions_and_marker_effects(data, monkeypatch):
    table, _ = data
    rng = np.random.default_rng(11)
    names = sorted(table["line"].unique())
    genotypes = pd.DataFrame(rng.integers(0, 3, (L, 400)), index=names).add_prefix("m")
    G = Markers(genotypes.rename_axis("line").reset_index(), centre="mean", ridge=0.1)
    rotated, clique = fits((table, G), monkeypatch)
    own, other = rotated.marker_effects(), clique.marker_effects()
    for column in ("estimate", "se"):
        np.testing.assert_allclose(own[column], other[column], rtol=1e-5, atol=1e-9)
    new = table.head(7).assign(x=0.3)
    first, second = (fit.predict(new, se=True) for fit in (rotated, clique))
    for column in ("prediction", "se"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-6)


def test_observations_weigh_as_in_the_estimates(data):
    """beta = weights y, whatever the basis inside."""
    from fastlmm_core.results.prediction import observation_weights

    table, G = data
    fit = lmm(FORMULA, table, weights="w", relationships={"G": G})
    np.testing.assert_allclose(observation_weights(fit, np.eye(4)) @ table["y"], fit.beta, rtol=1e-8)


def test_unequal_weights_are_another_model(data):
    table, G = data
    for other in (table.iloc[1:], table.assign(w=np.arange(len(table)) + 1.0)):
        fit = prepare(FORMULA, other, weights="w", relationships={"G": G})
        assert fit.equations.rotation is None


def test_weights_given_later_may_leave_the_basis(data, monkeypatch):
    table, G = data
    model = prepare(FORMULA, table, relationships={"G": G})
    w = np.linspace(0.5, 2.0, len(table))
    fit = model.fit(weights=w)
    assert model.equations.rotation is not None and fit.solved.equations.rotation is None
    monkeypatch.setattr(rotation, "LEAST_LEVELS", 10**9)
    other = lmm(FORMULA, table, weights=w, relationships={"G": G})
    assert fit.criterion == pytest.approx(other.criterion, abs=1e-7)


def test_rows_turn_and_return():
    """H is orthogonal: H H' = I, and forward and backward undo each other."""
    rng = np.random.default_rng(1)
    codes = np.array([0, 1, 0, 2, 1, 0])
    w = rng.uniform(0.5, 2.0, 6)
    sums = np.bincount(codes, w)
    first = np.array([0, 1, 3])
    vectors = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn = RowRotation(np.sqrt(w), _reflector(np.sqrt(w / sums[codes]), codes, first), first[None], vectors)
    H = turn.forward(np.eye(6)) / np.sqrt(w)
    np.testing.assert_allclose(H @ H.T, np.eye(6), atol=1e-14)
    B = rng.normal(size=(6, 2))
    np.testing.assert_allclose(turn.backward(turn.forward(B)), B, atol=1e-14)
    np.testing.assert_allclose(turn.weighted(B), turn.forward(np.eye(6)).T @ B, atol=1e-14)
    Z = sp.csr_array((np.ones(6), (np.arange(6), codes))).toarray()
    wanted = np.zeros((6, 3))
    wanted[first] = vectors.T * np.sqrt(sums)
    np.testing.assert_allclose(turn.forward(Z), wanted, atol=1e-14)


ENVIRONMENTS = ["e0", "e1", "e2"]
BY_ENVIRONMENT = {
    "us": ("us(0 + env | vm(line, G))", "units | env"),
    "diag": ("diag(0 + env | vm(line, G))", "units"),
    "cs": ("cs(0 + env | vm(line, G))", "units | env"),
    "fa": ("fa(0 + env | vm(line, G), k=1)", "units | env"),
    "rr": ("rr(0 + env | vm(line, G), d=1)", "units | env"),
}


@pytest.fixture(scope="module")
def environments(data):
    """Every line once in one environment and twice in two, with weights whose sums are equal there."""
    _, G = data
    rng = np.random.default_rng(3)
    half = np.linalg.cholesky(G.to_numpy())
    T = np.array([[1.0, 0.6, 0.3], [0.6, 1.4, 0.5], [0.3, 0.5, 0.8]])
    u = half @ rng.normal(size=(L, 3)) @ np.linalg.cholesky(T).T
    parts = []
    for e, (name, records) in enumerate(zip(ENVIRONMENTS, (1, 2, 2), strict=True)):
        line = np.repeat(np.arange(L), records)
        w = np.tile([1.0] if records == 1 else [0.5, 1.5], L)
        y = 5.0 + e + u[line, e] + (0.5 + 0.3 * e) * rng.normal(size=line.size) / np.sqrt(w)
        parts.append(pd.DataFrame({"line": G.index.to_numpy()[line], "env": name, "w": w, "y": y}))
    table = pd.concat(parts).sample(frac=1.0, random_state=1, ignore_index=True)
    return table.assign(x=rng.normal(size=len(table))), G


def both(environments, monkeypatch, kind, **options):
    table, G = environments
    term, residual = BY_ENVIRONMENT[kind]
    model = (f"y ~ env + x + {term}", table)
    rotated = lmm(*model, relationships={"G": G}, residual=residual, **options)
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "LEAST_LEVELS", 10**9)
        clique = lmm(*model, relationships={"G": G}, residual=residual, **options)
    assert rotated.solved.equations.rotation is not None and clique.solved.equations.rotation is None
    return rotated, clique


@pytest.mark.parametrize(
    ("kind", "options"),
    [("us", {"weights": "w"}), ("us", {"reml": False}), ("diag", {}), ("cs", {}), ("fa", {}), ("rr", {})],
)
def test_environments_share_the_basis(environments, monkeypatch, kind, options):
    """A covariance of environments over the lines, with a residual variance of each."""
    rotated, clique = both(environments, monkeypatch, kind, **options)
    assert rotated.criterion == pytest.approx(clique.criterion, abs=1e-6)
    one, other = rotated.solved, clique.solved
    np.testing.assert_allclose(one.covariance(0), other.covariance(0), rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(one.residual_sd, other.residual_sd, rtol=1e-4)
    for name in ("fitted", "residuals"):
        np.testing.assert_allclose(getattr(rotated, name), getattr(clique, name), atol=1e-4)
    np.testing.assert_allclose(one.random_effects(0), other.random_effects(0), atol=1e-4)
    np.testing.assert_allclose(one.prediction_error(0), other.prediction_error(0), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        one.conditional_variance(0), other.conditional_variance(0), rtol=1e-3, atol=1e-6
    )
    ddf = "satterthwaite" if options.get("reml", True) else "asymptotic"
    for column in ("estimate", "se"):
        own, second = rotated.fixed_effects(ddf)[column], clique.fixed_effects(ddf)[column]
        np.testing.assert_allclose(own, second, rtol=1e-4, atol=1e-7)
    new = environments[0].head(5)
    first, second = (fit.predict(new, se=True) for fit in (rotated, clique))
    for column in ("prediction", "se"):
        np.testing.assert_allclose(first[column], second[column], rtol=1e-3)


def test_kenward_roger_in_both_bases(environments, monkeypatch):
    rotated, clique = both(environments, monkeypatch, "us")
    for column in ("se", "df"):
        own, other = (fit.fixed_effects("kenward-roger")[column] for fit in (rotated, clique))
        np.testing.assert_allclose(own, other, rtol=1e-4)


def test_environments_against_generalized_least_squares(environments):
    """Criterion, coefficients, predictions and their errors from V at the estimates."""
    table, G = environments
    term, residual = BY_ENVIRONMENT["us"]
    fit = lmm(f"y ~ env + x + {term}", table, weights="w", relationships={"G": G}, residual=residual)
    assert fit.solved.equations.rotation is not None
    T = fit.solved.covariance(0)
    at = pd.Index(G.index).get_indexer(table["line"])
    env = table["env"].str[1:].astype(int).to_numpy()
    V = T[np.ix_(env, env)] * G.to_numpy()[np.ix_(at, at)] + np.diag(fit.solved.residual_sd**2)
    X = np.column_stack([np.ones(len(table)), env == 1, env == 2, table["x"]]).astype(float)
    V_inv, y = np.linalg.inv(V), table["y"].to_numpy()
    phi = np.linalg.inv(X.T @ V_inv @ X)
    P = V_inv - V_inv @ X @ phi @ X.T @ V_inv
    logs = np.linalg.slogdet(V)[1] - np.linalg.slogdet(phi)[1]
    expected = logs + y @ P @ y + (len(y) - 4) * np.log(2.0 * np.pi)
    assert fit.criterion == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(fit.beta, phi @ X.T @ V_inv @ y, rtol=1e-7)
    for a in range(3):
        C = T[a, env] * G.to_numpy()[:, at]
        np.testing.assert_allclose(fit.solved.random_effects(0)[:, a], C @ P @ y, atol=1e-7)
        pev = T[a, a] * np.diag(G) - np.einsum("ij,jk,ik->i", C, P, C)
        np.testing.assert_allclose(fit.solved.prediction_error(0)[:, a], pev, rtol=1e-6)


def test_a_missing_cell_is_another_model(environments):
    table, G = environments
    cell = (table["line"] == G.index[4]) & (table["env"] == "e1")
    model = "y ~ env + us(0 + env | vm(line, G))"
    assert prepare(model, table[~cell], relationships={"G": G}).equations.rotation is None
    crossed = table.assign(half=np.arange(len(table)) % 2)
    other = prepare(model, crossed, relationships={"G": G}, residual="units | half")
    assert other.equations.rotation is None
