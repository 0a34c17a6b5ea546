"""The kernels of batches on small trials against the dense model at the variances they report.

Small enough for uncompiled runs, in which every index is checked (`checked_arrays`).
"""

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel, DenseTerm

from fastlmm_core import fit_batch, lmm


def small_trials():
    """Two trials of six genotypes in three replicates of two blocks; in the second a plot is missing."""
    r = np.random.default_rng(1)
    parts = []
    for trial in ("A", "B"):
        rep, block = np.repeat([0, 1, 2], 6), np.tile(np.repeat([0, 1], 3), 3)
        gen = np.concatenate([r.permutation(6) for _ in range(3)])
        x, w = r.normal(size=18), r.uniform(0.5, 2.0, 18)
        y = 20.0 + 2.0 * rep + 1.6 * r.normal(size=6)[gen] + 1.5 * r.normal(size=(3, 2))[rep, block]
        y += 1.5 * r.normal(size=6)[gen] * x + r.normal(size=18)
        codes = {
            "rep": [f"R{k}" for k in rep],
            "block": [f"B{k}" for k in block],
            "gen": [f"G{k}" for k in gen],
        }
        parts.append(pd.DataFrame({"trial": trial, **codes, "x": x, "w": w, "y": y}))
    parts[1] = parts[1].drop(parts[1].index[4])
    return pd.concat(parts, ignore_index=True)


TRIALS = small_trials()


def dummies(own, name):
    return pd.get_dummies(own[name]).to_numpy(float)[:, 1:]


def term(own, names, values, diagonal=False):
    codes, levels = pd.factorize(own[list(names)].agg("/".join, axis=1), sort=True)
    return DenseTerm(codes, np.column_stack([v * np.ones(len(own)) for v in values]), len(levels), diagonal)


def columns(own, *parts):
    return np.column_stack([np.ones(len(own)), *parts])


# formula, X and random terms as functions of the rows of a trial
MODELS = {
    "blocks": (
        "y ~ rep + gen + (1|rep:block)",
        lambda d: columns(d, dummies(d, "rep"), dummies(d, "gen")),
        lambda d: [term(d, ["rep", "block"], [1.0])],
    ),
    "crossed": (
        "y ~ rep + x + (1|gen) + (1|rep:block)",
        lambda d: columns(d, dummies(d, "rep"), d["x"]),
        lambda d: [term(d, ["gen"], [1.0]), term(d, ["rep", "block"], [1.0])],
    ),
    "slopes apart": (
        "y ~ rep + (x||gen) + (1|rep:block)",
        lambda d: columns(d, dummies(d, "rep")),
        lambda d: [term(d, ["gen"], [1.0, d["x"]], True), term(d, ["rep", "block"], [1.0])],
    ),
}


def variances_of(row, terms):
    """Covariance matrices of the terms and the residual variance from a row of `fits`."""
    values = row[[name for name in row.index if name.startswith("var_")]].to_numpy(float)
    ends = np.cumsum([t.m for t in terms])
    assert ends[-1] == values.size - 1
    return [np.diag(part) for part in np.split(values[:-1], ends[:-1])], values[-1]


def dense_trials(result, model, *, reml, weighted):
    """(trial, dense model) of every trial at the variances of the batch."""
    _, X, random = MODELS[model]
    for trial, own in TRIALS.groupby("trial"):
        terms = random(own)
        G, sigma2 = variances_of(result.fits.set_index("trial").loc[trial], terms)
        weights = own["w"].to_numpy() if weighted else None
        yield trial, DenseModel(own["y"].to_numpy(), X(own), terms, weights, G, sigma2, reml)


def is_inside(dense):
    return all(np.diag(G).min() > 1e-6 for G in dense.G)


@pytest.mark.parametrize(("reml", "weighted"), [(True, False), (False, True)], ids=["REML", "weighted ML"])
@pytest.mark.parametrize("model", MODELS)
def test_fits_are_optima_of_the_dense_criterion(model, weighted, reml):
    result = fit_batch(
        TRIALS, MODELS[model][0], by="trial", reml=reml, blups=True, **({"weights": "w"} if weighted else {})
    )
    for trial, dense in dense_trials(result, model, reml=reml, weighted=weighted):
        row = result.fits.set_index("trial").loc[trial]
        np.testing.assert_allclose(row["criterion"], dense.criterion, rtol=1e-9)
        at_zero = dense.gamma < 1e-12
        # the certificate promises a decrement of 1e-8 of the criterion, which is quadratic there
        assert np.all(np.abs(dense.score * dense.gamma)[~at_zero] < 1e-4)
        assert np.all(dense.score[at_zero] > -1e-4)
        own = result.blups[result.blups["trial"] == trial].sort_values(["group", "level", "term"])
        np.testing.assert_allclose(own["estimate"], dense.u, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(own["pev"], np.diag(dense.pev), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(own["condvar"], np.diag(dense.condvar), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
@pytest.mark.parametrize("model", MODELS)
def test_coefficients_have_the_dense_tests(model, ddf):
    result = fit_batch(TRIALS, MODELS[model][0], by="trial", ddf=ddf)
    inside = 0
    for trial, dense in dense_trials(result, model, reml=True, weighted=False):
        own = result.fixed[result.fixed["trial"] == trial]
        np.testing.assert_allclose(own["estimate"], dense.beta, rtol=1e-8, atol=1e-10)
        if not is_inside(dense):
            continue
        inside += 1
        rows = np.eye(dense.beta.size)
        if ddf == "kenward-roger":
            cov, df = dense.adjusted_covariance(), [dense.kr_df(row) for row in rows]
        else:
            cov, df = dense.phi, [dense.satterthwaite_df(row) for row in rows]
        np.testing.assert_allclose(own["se"], np.sqrt(np.diag(cov)), rtol=1e-6)
        np.testing.assert_allclose(own["df"], df, rtol=1e-4)
    assert inside


def test_means_and_differences_are_those_of_the_dense_model():
    result = fit_batch(TRIALS, MODELS["blocks"][0], by="trial", emmeans="gen", contrasts="pairwise")
    compared = 0
    for trial, dense in dense_trials(result, "blocks", reml=True, weighted=False):
        means = np.column_stack([np.ones(6), np.full((6, 2), 1 / 3), np.eye(6)[:, 1:]])
        i, j = np.triu_indices(6, 1)
        for name, K in (("emmeans", means), ("contrasts", means[i] - means[j])):
            own = result.table(name)
            own = own[own["trial"] == trial]
            np.testing.assert_allclose(own["estimate"], K @ dense.beta, rtol=1e-8, atol=1e-9)
            if is_inside(dense):
                compared += 1
                se = np.sqrt(np.diag(K @ dense.adjusted_covariance() @ K.T))
                np.testing.assert_allclose(own["se"], se, rtol=1e-6)
                np.testing.assert_allclose(own["df"], [dense.kr_df(row) for row in K], rtol=1e-4)
    assert compared


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_correlated_slopes_have_the_optimum_that_lmm_reports():
    formula = "y ~ rep + (x|gen) + (1|rep:block)"
    result = fit_batch(TRIALS, formula, by="trial", emmeans="rep", contrasts="eff", blups=True)
    for trial, own in TRIALS.groupby("trial"):
        dense = DenseModel.of_fit(lmm(formula, own))
        row = result.fits.set_index("trial").loc[trial]
        np.testing.assert_allclose(row["criterion"], dense.criterion, rtol=1e-9)
        K = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        for name, rows in (("emmeans", K), ("contrasts", K - K.mean(axis=0))):
            table = result.table(name)
            got = table.loc[table["trial"] == trial, "estimate"]
            np.testing.assert_allclose(got, rows @ dense.beta, rtol=1e-6, atol=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_columns_that_depend_on_others_are_dropped_in_every_trial():
    frame = TRIALS.assign(twice=3.0 - 2.0 * TRIALS["x"])
    formula = "y ~ rep + x + twice + (1|gen) + (1|rep:block)"
    result = fit_batch(frame, formula, by="trial", emmeans="rep")
    assert result.fits["rank"].tolist() == [4, 4]
    plain = fit_batch(TRIALS, MODELS["crossed"][0], by="trial")
    np.testing.assert_allclose(result.fits["criterion"], plain.fits["criterion"], rtol=1e-9)
    for trial, dense in dense_trials(plain, "crossed", reml=True, weighted=False):
        x = TRIALS.loc[TRIALS["trial"] == trial, "x"].mean()
        K = np.array([[1.0, 0.0, 0.0, x], [1.0, 1.0, 0.0, x], [1.0, 0.0, 1.0, x]])
        own = result.emmeans[result.emmeans["trial"] == trial]
        np.testing.assert_allclose(own["estimate"], K @ dense.beta, rtol=1e-7)


def test_fixed_genotypes_in_large_blocks():
    """More fixed columns than blocks, in one trial alone."""
    r = np.random.default_rng(6)
    rep, block = np.repeat([0, 1, 2], 12), np.tile(np.repeat([0, 1], 6), 3)
    gen = np.concatenate([r.permutation(12) for _ in range(3)])
    y = r.normal(size=12)[gen] + rep + 1.5 * r.normal(size=(3, 2))[rep, block] + r.normal(size=36)
    codes = {"rep": rep.astype(str), "block": block.astype(str), "gen": [f"G{g:02d}" for g in gen]}
    own = pd.DataFrame({"trial": "A", **codes, "y": y})
    formula, X, random = MODELS["blocks"]
    result = fit_batch(own, formula, by="trial")
    terms = random(own)
    G, sigma2 = variances_of(result.fits.iloc[0], terms)
    dense = DenseModel(y, X(own), terms, None, G, sigma2, True)
    assert is_inside(dense)
    np.testing.assert_allclose(result.fits["criterion"], dense.criterion, rtol=1e-9)
    np.testing.assert_allclose(dense.score * dense.gamma, 0.0, atol=1e-4)
    np.testing.assert_allclose(result.fixed["estimate"], dense.beta, rtol=1e-8, atol=1e-9)
    rows = np.eye(dense.beta.size)
    np.testing.assert_allclose(result.fixed["se"], np.sqrt(np.diag(dense.adjusted_covariance())), rtol=1e-6)
    np.testing.assert_allclose(result.fixed["df"], [dense.kr_df(row) for row in rows], rtol=1e-4)


def test_trials_laid_out_alike_are_fitted_as_by_themselves():
    """They share one design; the third has the same plots, but another covariate."""
    first = TRIALS[TRIALS["trial"] == "A"]
    r = np.random.default_rng(3)
    second = first.assign(trial="L", y=first["y"] + r.normal(size=len(first)))
    third = first.assign(trial="M", x=first["x"][::-1].to_numpy())
    frame = pd.concat([first, second, third], ignore_index=True)
    together = fit_batch(frame, MODELS["crossed"][0], by="trial").fits
    twice = fit_batch(frame.assign(half=0.5 * frame["y"]), "~ rep + x + (1|gen) + (1|rep:block)", by="trial",
                      traits=["y", "half"]).fits  # fmt: skip
    np.testing.assert_allclose(twice.loc[twice["trait"] == "y", "sigma"], together["sigma"], rtol=1e-12)
    np.testing.assert_allclose(
        2.0 * twice.loc[twice["trait"] == "half", "sigma"], together["sigma"], rtol=1e-7
    )
    for trial, own in frame.groupby("trial"):
        alone = fit_batch(own, MODELS["crossed"][0], by="trial").fits
        row = together[together["trial"] == trial]
        for name in ("criterion", "sigma", "var_gen", "var_rep:block"):
            np.testing.assert_allclose(row[name], alone[name], rtol=1e-9, atol=1e-12)


def test_trials_that_cannot_be_fitted_say_why():
    frame = TRIALS.assign(y=TRIALS["y"].where(TRIALS["trial"] != "B"))
    frame.loc[frame["trial"] == "A", "rep"] = "R0"
    fits = fit_batch(frame, MODELS["blocks"][0], by="trial").fits
    assert fits["status"].tolist() == ["design", "data"]
    assert "rep" in fits["message"].iloc[0]
