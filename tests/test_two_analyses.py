"""The two analyses the project starts from: every published figure, to the digits it was published with.

Origin of the figures: R's lm, lme4, pbkrtest and emmeans on the two data sets; the teaching material on block
effects prints them rounded, so each is compared to within one half of its last digit.
"""

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.cli.demo import block_means, one_contrast, variance


@pytest.fixture(scope="module")
def kfert():
    data = datasets.load("cochrancox_kfert")
    return lmm("yield ~ K2O_lbac + rep", data), lmm("yield ~ K2O_lbac + (1|rep)", data)


@pytest.fixture(scope="module")
def bib():
    data = datasets.load("cochran_bib")
    return lmm("yield ~ gen + loc", data), lmm("yield ~ gen + (1|loc)", data)


def agree(got, printed, units=0.5):
    """Each figure rounds to what was printed (`printed` is text, so that its digits count).

    emmeans cuts off the df it prints instead of rounding them: there the figure is within one unit.
    """
    got = np.atleast_1d(np.asarray(got, dtype=float))
    words = printed.split()
    assert got.shape == (len(words),)
    for value, word in zip(got, words, strict=True):
        allowed = units * 10.0 ** -len(word.partition(".")[2])
        assert abs(value - float(word)) <= allowed * (1 + 1e-6), (value, word)


def coefficient(fit, term):
    frame = fit.summary().fixed_effects.set_index("term")
    return frame.loc[term]


# ------------------------------------------------------------- potash, complete blocks
def test_potash_blocks_fixed(kfert):
    fit, _ = kfert
    means = block_means(fit, "K2O_lbac").to_frame()
    assert means["K2O_lbac"].astype(str).tolist() == ["36", "54", "72", "108", "144"]
    agree(means["estimate"], "7.92 8.12 7.81 7.58 7.52")
    agree(means["se"], "0.121 0.121 0.121 0.121 0.121")
    agree(means["df"], "8 8 8 8 8")
    agree(means[["lower", "upper"]].iloc[0], "7.64 8.19")


def test_potash_blocks_random(kfert):
    fixed, fit = kfert
    means = block_means(fit, "K2O_lbac").to_frame()
    np.testing.assert_allclose(
        means["estimate"], block_means(fixed, "K2O_lbac").to_frame()["estimate"], rtol=1e-9
    )
    agree(means["se"], "0.162 0.162 0.162 0.162 0.162")
    agree(means["df"], "5.57 5.57 5.57 5.57 5.57")
    agree(means["lower"], "7.51 7.72 7.41 7.18 7.11")
    agree(means["upper"], "8.32 8.52 8.21 7.98 7.92")


@pytest.mark.parametrize("which", [0, 1], ids=["fixed", "random"])
def test_potash_contrast_is_the_same_in_both(kfert, which):
    row = one_contrast(block_means(kfert[which], "K2O_lbac"), "36", "144").to_frame().iloc[0]
    assert row["contrast"] == "36 - 144"
    agree(row[["estimate", "se", "df", "t", "p"]], "0.4 0.171 8 2.344 0.0471")


def test_potash_errors_by_formula(kfert):
    fixed, random = kfert
    b, between = 3, variance(random, "rep")
    np.testing.assert_allclose(fixed.sigma, random.sigma, rtol=1e-6)
    for fit, se_mean in ((fixed, fixed.sigma**2 / b), (random, (random.sigma**2 + between) / b)):
        means = block_means(fit, "K2O_lbac")
        np.testing.assert_allclose(means.to_frame()["se"], np.sqrt(se_mean), rtol=1e-6)
        np.testing.assert_allclose(
            means.difference_errors().sed_rms, np.sqrt(2 * fit.sigma**2 / b), rtol=1e-6
        )


# ------------------------------------------------------------- hybrids, incomplete blocks
def test_hybrids_blocks_fixed(bib):
    fit, _ = bib
    agree(fit.sigma, "4.465")
    assert fit.df_residual == 27
    agree([fit.r_squared, fit.adj_r_squared], "0.6541 0.3467")
    f = fit.f_statistic
    agree([f.F, f.df1, f.df2, f.p], "2.128 24 27 0.02976")
    agree(coefficient(fit, "(Intercept)")[["estimate", "se"]], "29.9865 3.5567")
    agree(coefficient(fit, "genG02")[["estimate", "se", "t", "p"]], "-4.7308 3.5024 -1.351 0.1880")
    agree(coefficient(fit, "locB13")["estimate"], "6.1692")


def test_hybrids_means_with_blocks_fixed(bib):
    means = block_means(bib[0], "gen")
    frame = means.to_frame().set_index("gen")
    agree(frame.loc[["G01", "G02"], "estimate"], "33.00192 28.27115")
    agree(frame.loc["G01", ["se", "df"]], "2.458672 27")
    agree(frame.loc["G01", ["lower", "upper"]], "27.95715 38.04670", units=1.1)  # published rounded twice
    row = one_contrast(means, "G01", "G02").to_frame().iloc[0]
    agree(row[["estimate", "se", "df", "t", "p"]], "4.73 3.5 27 1.351 0.1880")


def test_hybrids_blocks_random(bib):
    _, fit = bib
    agree(fit.criterion, "253.6")
    agree([variance(fit, "loc"), np.sqrt(variance(fit, "loc"))], "6.053 2.460")
    agree([fit.sigma**2, fit.sigma], "19.934 4.465")
    agree(fit.summary().residual_quantiles.iloc[0], "-1.9920 -0.5298 0.1450 0.5707 1.5626")
    agree(coefficient(fit, "(Intercept)")[["estimate", "se"]], "34.171 2.445")
    agree(coefficient(fit, "genG02")[["estimate", "se"]], "-5.131 3.333")


def test_hybrids_means_with_blocks_random(bib):
    means = block_means(bib[1], "gen")
    frame = means.to_frame().set_index("gen")
    agree(frame.loc[["G01", "G02"], "estimate"], "34.17116 29.04064")
    agree(frame.loc["G01", ["se", "df", "lower", "upper"]], "2.496721 38.32 29.11820 39.22412")
    row = one_contrast(means, "G01", "G02").to_frame().iloc[0]
    agree(row[["estimate", "se", "t", "p"]], "5.13 3.42 1.502 0.1427")
    agree(row["df"], "32.6", units=1)


def test_recovered_information_is_seen_in_the_weights(bib):
    """Blocks random: observations of blocks without G01 and G02 count; the weights give the estimate."""
    fixed, random = bib
    data = datasets.load("cochran_bib")
    y = data["yield"].to_numpy()
    K = np.array([[float(name == "genG02") for name in random.coef_names]])
    weights = np.asarray(random.observation_weights(K)).ravel()
    agree(weights @ y, "-5.131")
    between = data.assign(w=weights).groupby("loc")["w"].sum()
    assert abs(between).max() > 0.01  # whole blocks count: inter-block information
    K = np.array([[float(name == "genG02") for name in fixed.coef_names]])
    weights = np.asarray(fixed.observation_weights(K)).ravel()
    agree(weights @ y, "-4.7308")
    within = data.assign(w=weights).groupby("loc")["w"].sum()
    np.testing.assert_allclose(within, 0, atol=1e-12)  # intra-block: comparisons within blocks only
