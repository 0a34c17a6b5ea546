"""Singular residual covariances beside random terms that keep V regular, and traits in other units."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Pedigree, lmm
from fastlmm_core.errors import FastLMMWarning, InferenceError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
ANIMALS, FOUNDERS = 30, 8


def herd(rng):
    """Pedigree and A (n, n) by the tabular method."""
    n, A = ANIMALS, np.zeros((ANIMALS, ANIMALS))
    parents = [rng.integers(i, size=2) if i >= FOUNDERS else None for i in range(n)]
    parents = [None if own is None or own[0] == own[1] else own for own in parents]
    for i, own in enumerate(parents):
        if own is not None:
            A[i, :i] = A[:i, i] = A[:i][:, own].mean(axis=1)
        A[i, i] = 1.0 if own is None else 1.0 + 0.5 * A[own[0], own[1]]
    names = [f"a{i}" for i in range(n)]
    table = {"id": names}
    for side, column in enumerate(("sire", "dam")):
        table[column] = ["" if own is None else names[own[side]] for own in parents]
    return Pedigree(table, check_sex=False), A, names


def two_traits(seed):
    """One record of two traits for every animal: rows (animal, trait), T of the traits, and the pedigree."""
    rng = np.random.default_rng(seed)
    pedigree, A, names = herd(rng)
    u = np.linalg.cholesky(A) @ rng.normal(size=(ANIMALS, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    y = u + 0.8 * rng.normal(size=(ANIMALS, 2))
    data = pd.DataFrame({
        "id": np.repeat(names, 2), "trait": np.tile(["T1", "T2"], ANIMALS), "y": y.ravel(),
        "plot": np.repeat([f"p{name}" for name in names], 2),
    })  # fmt: skip
    return data, pedigree, A


def symmetric(values):
    T = np.zeros((2, 2))
    T[np.tril_indices(2)] = values
    return T + np.tril(T, -1).T


def deviance(y, X, V):
    V_inv = np.linalg.inv(V)
    C = X.T @ V_inv @ X
    e = y - X @ np.linalg.solve(C, X.T @ V_inv @ y)
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(C)[1]
    return logs + e @ V_inv @ e + (len(y) - X.shape[1]) * np.log(2 * np.pi)


def test_two_traits_with_one_record_each():
    """Of 25 herds many have a residual correlation of +1 or -1: said, certified, nothing near is better."""
    at_bound = 0
    for seed in range(25):
        data, pedigree, A = two_traits(seed)
        fit = lmm(
            "y ~ trait + us(0 + trait | vm(id, A))", data, residual="us(trait | plot)",
            relationships={"A": pedigree},
        )  # fmt: skip
        table = fit.variance_components["estimate"].to_numpy()
        T, R = symmetric(table[:3]), symmetric(table[3:])
        y, X = data["y"].to_numpy(), np.kron(np.ones((ANIMALS, 1)), np.array([[1.0, 0.0], [1.0, 1.0]]))
        best = deviance(y, X, np.kron(A, T) + np.kron(np.eye(ANIMALS), R))
        assert fit.criterion == pytest.approx(best, rel=1e-8), seed
        assert fit.converged, seed
        assert fit.singular or np.linalg.eigvalsh(R)[0] > 1e-6 * np.trace(R), seed
        at_bound += fit.singular and abs(R[0, 1]) > (1 - 1e-6) * np.sqrt(R[0, 0] * R[1, 1])
        rng = np.random.default_rng(seed)
        for _ in range(20):
            moved = []
            for own in (T, R):
                values, vectors = np.linalg.eigh(own)
                root = vectors * np.sqrt(np.maximum(values, 0.0)) + 1e-3 * rng.normal(size=(2, 2))
                moved.append(root @ root.T)
            V = np.kron(A, moved[0]) + np.kron(np.eye(ANIMALS), moved[1])
            assert deviance(y, X, V) > best - 1e-6, seed
    assert at_bound >= 5


def animal_without_residual():
    rng = np.random.default_rng(4)
    pedigree, A, names = herd(rng)
    u = np.linalg.cholesky(A) @ rng.normal(size=ANIMALS)
    y = 5.0 + u + 1e-9 * rng.normal(size=ANIMALS)
    data = pd.DataFrame({"id": names, "x": rng.normal(size=ANIMALS), "y": y})
    return data, pedigree, A


def test_a_residual_variance_of_zero_is_said_and_leaves_every_figure_finite():
    """Kenward-Roger with the expected information of both variances, V = sigma2_a A."""
    data, pedigree, A = animal_without_residual()
    fit = lmm("y ~ x + (1 | vm(id, A))", data, relationships={"A": pedigree})
    assert fit.converged
    assert fit.singular_terms == ("the residual variance is zero",)
    with pytest.raises(InferenceError, match="the covariance of the residuals is singular"):
        fit.diagnostics()
    assert "explains the response exactly" not in str(fit.summary())
    s2 = fit.variance_components["estimate"].iloc[0]
    X, slopes = np.column_stack([np.ones(ANIMALS), data["x"]]), [A, np.eye(ANIMALS)]
    V_inv = np.linalg.inv(s2 * A)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    VX = V_inv @ X
    P = V_inv - VX @ phi @ VX.T
    W = 2.0 * np.linalg.inv([[np.trace(P @ a @ P @ b) for b in slopes] for a in slopes])
    first = [-VX.T @ a @ VX for a in slopes]
    total = sum(
        W[i, j] * (VX.T @ slopes[i] @ V_inv @ slopes[j] @ VX - first[i] @ phi @ first[j])
        for i in range(2) for j in range(2)
    )  # fmt: skip
    adjusted = phi + 2.0 * phi @ total @ phi
    table = fit.fixed_effects()
    np.testing.assert_allclose(table["se"], np.sqrt(np.diag(adjusted)), rtol=1e-5)
    g = np.array([np.diag(-phi @ own @ phi) for own in first])
    df = 2.0 * np.diag(phi) ** 2 / np.einsum("ip,ij,jp->p", g, W, g)
    np.testing.assert_allclose(table["df"], df, rtol=1e-5)
    # by the observed information a variance at zero is known: (n - p) for the one that is left
    observed = fit.fixed_effects("satterthwaite")
    np.testing.assert_allclose(observed["se"], np.sqrt(np.diag(phi)), rtol=1e-6)
    np.testing.assert_allclose(observed["df"], ANIMALS - 2, rtol=1e-4)


@pytest.mark.parametrize("residual", ["units | trait", "us(trait | plot)"])
@pytest.mark.parametrize("structure", ["diag", "us"])
@pytest.mark.parametrize("factor", [1e4, 1e6])
def test_traits_may_have_any_units(structure, residual, factor):
    """Kilograms beside a share: with one trait times a factor, its variances are those times its square."""
    rng = np.random.default_rng(0)
    gen = np.repeat(np.arange(20), 6)
    y = rng.normal(size=(20, 2))[gen] + rng.normal(size=(120, 2))
    fits = []
    for unit in (1.0, factor):
        data = pd.DataFrame({
            "gen": np.repeat(gen, 2).astype(str), "trait": np.tile(["T1", "T2"], 120),
            "plot": np.repeat(np.arange(120), 2).astype(str), "y": (y * [1.0, unit]).ravel(),
        })  # fmt: skip
        fits.append(lmm(f"y ~ 0 + trait + {structure}(0 + trait | gen)", data, residual=residual))
    plain, scaled = fits
    assert not scaled.warnings
    parts = [fit.variance_components.set_index("component") for fit in fits]
    names = parts[0][["var1", "var2"]].fillna("").astype(str)
    power = names.apply(lambda row: sum(str(v).endswith("T2") for v in row) or 0, axis=1)
    power = np.where(names["var2"] == "", 2 * power, power)
    expected = parts[0]["estimate"] * factor**power
    np.testing.assert_allclose(parts[1]["estimate"], expected, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(scaled.criterion, plain.criterion + 2 * 119 * np.log(factor), rtol=1e-9)
    table, before = (fit.fixed_effects() for fit in reversed(fits))
    np.testing.assert_allclose(table["se"], before["se"] * [1.0, factor], rtol=1e-5)
    np.testing.assert_allclose(table["df"], before["df"], rtol=1e-4)


@pytest.mark.parametrize("structure", ["homdiag", "homcs", "ar1", "homtoep"])
def test_variances_that_are_tied_and_zero_are_an_optimum(structure):
    """Lines without any variance: whatever one environment would like, all of them grow or none."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        line, env, _ = np.unravel_index(np.arange(108), (12, 3, 3))
        y, env = rng.normal(size=108), np.array(list("abc"))[env]
        data = pd.DataFrame({"g": line.astype(str), "e": env, "y": y})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FastLMMWarning)
            fit = lmm(f"y ~ e + {structure}(0 + e | g)", data, residual="units | e")
            without = lmm("y ~ e", data, residual="units | e")
        assert fit.converged, seed
        assert fit.criterion <= without.criterion + 1e-7, seed


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e9, 1e12])
@pytest.mark.parametrize("structure", ["us", "cs"])
def test_a_relationship_may_have_any_size(structure, size):
    """T times the matrix is the model: a matrix times a number has its T over that number, and no border."""
    rng = np.random.default_rng(3)
    names = [f"g{i}" for i in range(30)]
    M = rng.normal(size=(30, 40))
    K = M @ M.T / 40
    u = np.linalg.cholesky(K) @ rng.normal(size=(30, 2)) @ np.array([[1.0, 0.4], [0.0, 0.9]])
    env = np.tile([0, 0, 1, 1], 30)
    y = np.repeat(u, 4, axis=0)[np.arange(120), env] + rng.normal(size=120)
    data = pd.DataFrame({"g": np.repeat(names, 4), "e": np.array(["a", "b"])[env], "y": y})
    formula = f"y ~ e + {structure}(0 + e | vm(g, K))"
    plain, other = (lmm(formula, data, relationships={"K": (K * s, names)}) for s in (1.0, size))
    assert not plain.warnings
    assert not other.warnings
    assert other.criterion == pytest.approx(plain.criterion, rel=1e-9)
    expected = plain.variance_components["estimate"].to_numpy() / [size, size, size, 1.0]
    np.testing.assert_allclose(other.variance_components["estimate"], expected, rtol=1e-4)


@pytest.mark.parametrize("size", [1e-12, 1e12])
@pytest.mark.parametrize("structure", ["fa(0 + e | vm(g, K), k=1)", "rr(0 + e | vm(g, K), d=1)",
                                       "cs(0 + e | vm(g, K))", "(1 | e:vm(g, K))"])  # fmt: skip
def test_a_relationship_of_any_size_takes_no_longer(structure, size):
    """Variances of 1e12 had a curvature below what is rounding beside the residual's: searches crept."""
    rng = np.random.default_rng(1)
    names, line, env = [f"g{i}" for i in range(20)], np.repeat(np.arange(20), 6), np.tile(np.arange(3), 40)
    M = rng.normal(size=(20, 40))
    K = M @ M.T / 40 + 0.05 * np.eye(20)
    root, loadings = np.linalg.cholesky(K), rng.normal(size=(3, 1))
    u = root @ rng.normal(size=(20, 1)) @ loadings.T + 0.4 * root @ rng.normal(size=(20, 3))
    y = u[line, env] + rng.normal(size=120)
    data = pd.DataFrame({"g": np.array(names)[line], "e": np.array(["a", "b", "c"])[env], "y": y})
    plain, other = (
        lmm(f"y ~ e + {structure}", data, relationships={"K": (K * s, names)}) for s in (1.0, size)
    )
    assert plain.converged and other.converged
    assert other.criterion == pytest.approx(plain.criterion, abs=1e-7)
    assert other.optimum.evaluations <= plain.optimum.evaluations + 10
    expected = plain.variance_components["estimate"].to_numpy().copy()
    expected[:-1] /= size
    np.testing.assert_allclose(other.variance_components["estimate"], expected, rtol=1e-3)
    np.testing.assert_allclose(other.fitted, plain.fitted, atol=1e-4)


def test_observed_information_of_a_small_residual_variance():
    """Animals that differ 1000 times as much as their records: Satterthwaite's df by dense formulas."""
    rng = np.random.default_rng(11)
    pedigree, A, names = herd(rng)
    rows = np.repeat(np.arange(ANIMALS), 3)
    x = rng.normal(size=rows.size)
    y = 1000.0 * (np.linalg.cholesky(A) @ rng.normal(size=ANIMALS))[rows] + rng.normal(size=rows.size)
    data = pd.DataFrame({"id": np.array(names)[rows], "x": x, "y": y})
    fit = lmm("y ~ x + (1 | vm(id, A))", data, relationships={"A": pedigree})
    Z, X = np.eye(ANIMALS)[rows], np.column_stack([np.ones(rows.size), x])
    slopes = [Z @ A @ Z.T, np.eye(rows.size)]
    variances = fit.variance_components["estimate"]
    V_inv = np.linalg.inv(sum(s * D for s, D in zip(variances, slopes, strict=True)))
    phi = np.linalg.inv(X.T @ V_inv @ X)
    P = V_inv - V_inv @ X @ phi @ X.T @ V_inv
    Py = P @ y
    H = [[Py @ a @ P @ b @ Py - 0.5 * np.sum((P @ a) * (P @ b).T) for b in slopes] for a in slopes]
    W = np.linalg.inv(H)
    g = np.array([np.diag(phi @ X.T @ V_inv @ a @ V_inv @ X @ phi) for a in slopes])
    df = 2.0 * np.diag(phi) ** 2 / np.einsum("ip,ij,jp->p", g, W, g)
    np.testing.assert_allclose(fit.fixed_effects("satterthwaite")["df"], df, rtol=1e-4)


def test_standard_errors_beside_a_residual_variance_of_zero():
    """Two series, one without noise: observed information by differences of a dense score."""
    rng, m = np.random.default_rng(7), 35
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    data = pd.DataFrame({"e": np.repeat(["A", "B"], m), "t": np.tile(np.arange(m), 2)})
    roots = [np.linalg.cholesky(rho**lag + noise * np.eye(m)) for rho, noise in ((0.9, 0.5), (0.3, 0.0))]
    y = np.concatenate([root @ rng.normal(size=m) for root in roots])
    fit = lmm("y ~ e + (1 | at(e):ar1(t))", data.assign(y=y), residual="units | e")
    table = fit.variance_components
    assert table["estimate"].iloc[3] == 0.0
    X = np.column_stack([np.ones(2 * m), data["e"] == "B"])

    def covariance_and_slopes(x):
        """V and its derivatives in the two variances, the noise of A, and the two autocorrelations."""
        V, slopes = np.zeros((2 * m, 2 * m)), np.zeros((5, 2 * m, 2 * m))
        for k, own in enumerate((slice(m), slice(m, None))):
            s, rho = x[k], x[3 + k]
            V[own, own], slopes[k, own, own] = s * rho**lag, rho**lag
            slopes[3 + k, own, own] = s * lag * rho ** np.maximum(lag - 1, 0)
        slopes[2, :m, :m] = np.eye(m)
        return V + x[2] * slopes[2], slopes

    def score(x):
        V, slopes = covariance_and_slopes(x)
        V_inv = np.linalg.inv(V)
        P = V_inv - V_inv @ X @ np.linalg.solve(X.T @ V_inv @ X, X.T @ V_inv)
        Py = P @ y
        return np.array([0.5 * (np.sum(P * D) - Py @ D @ Py) for D in slopes])

    x = np.append(table["estimate"].iloc[:3], np.tanh(fit.theta[[1, 3]]))
    steps = 1e-4 * np.diag(np.append(x[:3], 1.0 - x[3:] ** 2))
    H = np.array([(8 * (score(x + h) - score(x - h)) - score(x + 2 * h) + score(x - 2 * h)) / (12 * h.max())
                  for h in steps])  # fmt: skip
    se = np.sqrt(np.diag(np.linalg.inv(0.5 * (H + H.T))))[:3]
    found = [fit.vpredict(name, information="observed").se for name in table["component"].iloc[:3]]
    np.testing.assert_allclose(found, se, rtol=4e-3)


def test_kenward_roger_beside_a_residual_variance_of_zero():
    """Means of two series, one strongly correlated and one without noise, by dense formulas."""
    rng, m = np.random.default_rng(8), 35
    lag = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    data = pd.DataFrame({"e": np.repeat(["A", "B"], m), "t": np.tile(np.arange(m), 2)})
    roots = [np.linalg.cholesky(rho**lag + noise * np.eye(m)) for rho, noise in ((0.97, 0.5), (0.3, 0.0))]
    data["y"] = np.concatenate([root @ rng.normal(size=m) for root in roots])
    fit = lmm("y ~ e + (1 | at(e):ar1(t))", data, residual="units | e")
    sizes, noises = np.split(fit.variance_components["estimate"].to_numpy(), 2)
    assert noises[1] == 0.0 < noises[0]
    X = pd.get_dummies(data["e"]).to_numpy(float)
    V, slopes = np.zeros((2 * m, 2 * m)), []
    for k, (s, rho, noise) in enumerate(zip(sizes, np.tanh(fit.theta[[1, 3]]), noises, strict=True)):
        place = np.diag(X[:, k])
        for own in (rho**lag, s * lag * rho ** np.maximum(lag - 1, 0), np.eye(m)):
            slopes.append(place @ np.kron(np.ones((2, 2)), own) @ place)
        V += s * slopes[-3] + noise * slopes[-1]
    V_inv = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ V_inv @ X)
    U = V_inv @ X @ phi
    P = V_inv - V_inv @ X @ U.T
    W = 2.0 * np.linalg.inv([[np.sum((P @ a) * (P @ b).T) for b in slopes] for a in slopes])
    moved = np.array([D @ U for D in slopes])
    adjusted = phi + 2.0 * np.einsum("tu,tna,nm,uma->a", W, moved, P, moved) * np.eye(2)
    means = fit.emmeans("e", information="expected").to_frame()
    np.testing.assert_allclose(means["se"], np.sqrt(np.diag(adjusted)), rtol=2e-5)
