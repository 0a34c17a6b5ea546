"""Tests of variances against lmerTest and RLRsim, and against distributions that are known in closed form."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, f, multivariate_normal

from fastlmm_core import compare, datasets, lmm
from fastlmm_core.errors import InferenceError
from fastlmm_core.intervals.boundary_tests import boundary_mixture, null_correlation
from fastlmm_core.intervals.exact_test import spectrum
from fastlmm_core.intervals.mixtures import one_variance, several_variances

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
REFERENCE = json.loads((Path(__file__).parent / "reference" / "rlrsim.json").read_text())


def table_of(case):
    return {"uncorrelated": "sleepstudy"}.get(case, case)


@pytest.mark.parametrize("case", REFERENCE["ranova"])
def test_ranova_is_that_of_lmertest(case):
    """To the digits of lme4's optimum; rows by their statistic, as the order of crossed terms differs."""
    own = REFERENCE["ranova"][case]
    table = lmm(own["formula"], datasets.load(table_of(case))).ranova()
    assert table["term"][0] == "<none>" and table["loglik"][0] == pytest.approx(own["logLik"][0], rel=1e-8)
    found = table.iloc[1:].sort_values("chisq")
    order = np.argsort(own["LRT"][1:]) + 1
    for column, name in (("chisq", "LRT"), ("p", "p"), ("loglik", "logLik"), ("aic", "AIC"), ("df", "df")):
        expected = np.array(own[name], float)[order]
        assert np.allclose(found[column], expected, rtol=2e-6), name


@pytest.mark.parametrize("case", REFERENCE["exact"])
def test_exact_p_values_are_those_of_rlrsim(case):
    """Within the Monte Carlo error of two simulations, and RLRsim's steps of lambda in the quantiles."""
    own = REFERENCE["exact"][case]
    fit = lmm(own["formula"], datasets.load(case))
    row = fit.ranova(exact=True, seed=1).iloc[1]
    assert row["chisq"] == pytest.approx(own["statistic"], abs=1e-6)
    error = np.sqrt(own["p"] * (1 - own["p"]) * (1 / REFERENCE["nsim"] + 1e-5)) + 1e-5
    assert abs(row["p_exact"] - own["p"]) < 5 * error
    draws = spectrum(fit).simulate(200_000, np.random.default_rng(4))
    assert np.mean(draws < 1e-8) == pytest.approx(own["zero"], abs=0.008)
    assert np.allclose(np.quantile(draws, [0.8, 0.9, 0.95, 0.99]), own["quantiles"], rtol=0.025)


def test_the_exact_test_of_a_balanced_layout_is_the_f_test():
    """One eigenvalue: the ratio grows with F, so its p value is that of the analysis of variance."""
    data = datasets.load("dyestuff")
    table = lmm("Yield ~ 1 + (1|Batch)", data).ranova(exact=True, draws=400_000, seed=2)
    means = data.groupby("Batch")["Yield"].mean()
    within = ((data["Yield"] - data["Batch"].map(means).astype(float)) ** 2).sum() / 24
    F = 5 * means.var() / within
    row = table.iloc[1]
    assert abs(row["p_exact"] - f.sf(F, 5, 24)) < 4 * row["p_exact_se"]


@pytest.mark.parametrize("reml", [True, False])
def test_the_share_of_zeros_is_that_of_the_f_distribution(reml):
    """REML leaves zero where F > 1; ML where the mean square of batches passes n / (n - 6) of it."""
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"), reml=reml)
    zeros = np.mean(spectrum(fit).simulate(200_000, np.random.default_rng(3)) < 1e-9)
    threshold = 1.0 if reml else 6 / 5
    assert zeros == pytest.approx(f.cdf(threshold, 5, 24), abs=0.005)


def test_the_distribution_is_that_of_simulated_fits():
    """Unbalanced, with weights: refits of responses without a batch variance."""
    data = datasets.load("dyestuff").iloc[[*range(11), *range(14, 30)]]
    w = np.linspace(0.5, 2.0, len(data))
    fit = lmm("Yield ~ 1 + (1|Batch)", data, weights=w)
    rng = np.random.default_rng(1)
    null = lmm("Yield ~ 1", data, weights=w)
    ratios = []
    for _ in range(300):
        y = rng.normal(size=len(data)) / np.sqrt(w)
        ratios.append(null.refit(y).solved.criterion - fit.refit(y).criterion)
    draws = np.sort(spectrum(fit).simulate(100_000, rng))
    at = np.sort(np.maximum(ratios, 0.0))
    share = np.searchsorted(draws, at + 1e-7, side="right") / draws.size
    empirical = np.searchsorted(at, at + 1e-7, side="right") / at.size
    assert np.abs(share - empirical).max() < 1.95 / np.sqrt(300)


def test_mixtures_have_the_published_quantiles():
    """Stram & Lee (1994): 5% of 0.5 chi2(0) + 0.5 chi2(1) is 2.71, of 0.5 chi2(1) + 0.5 chi2(2) 5.14."""
    assert one_variance(0).upper(2.7055) == pytest.approx(0.05, abs=5e-5)
    assert one_variance(1).upper(5.1384) == pytest.approx(0.05, abs=5e-5)
    assert one_variance(2).upper(7.0448) == pytest.approx(0.05, abs=5e-5)
    assert one_variance(0).upper(0.0) == 1.0


@pytest.mark.parametrize("r", [-0.4, 0.0, 0.6])
def test_weights_of_two_and_three_variances_are_those_of_orthants(r):
    """The share of normal vectors whose projection on the cone has so many positive parts."""
    two = several_variances(np.array([[1.0, r], [r, 1.0]]), 0)
    both = multivariate_normal(cov=[[1.0, r], [r, 1.0]]).cdf([0.0, 0.0])
    assert two.weights == pytest.approx((0.5 - both, 0.5, both), abs=1e-6)
    C = np.array([[1.0, r, 0.1], [r, 1.0, 0.2], [0.1, 0.2, 1.0]])
    three = several_variances(C, 0)
    assert sum(three.weights) == pytest.approx(1.0)
    assert three.weights[3] == pytest.approx(multivariate_normal(cov=C).cdf(np.zeros(3)), abs=1e-4)
    assert three.weights[0] == pytest.approx(
        multivariate_normal(cov=np.linalg.inv(C)).cdf(np.zeros(3)), abs=1e-4
    )
    assert several_variances(np.eye(3), 2).weights == pytest.approx((1 / 8, 3 / 8, 3 / 8, 1 / 8))
    assert several_variances(np.eye(4), 0) is None


def test_compare_knows_the_mixture():
    data = datasets.load("sleepstudy")
    fits = [lmm(f"Reaction ~ Days + {terms}", data) for terms in ("(1|Subject)", "(Days|Subject)")]
    row = compare(*fits).iloc[1]
    assert row["mixture"] == "0.5 chi2(1) + 0.5 chi2(2)"
    x = row["chisq"]
    assert row["p_boundary"] == pytest.approx(0.5 * chi2.sf(x, 1) + 0.5 * chi2.sf(x, 2))
    none = lmm("Reaction ~ Days", data, reml=False)
    one = lmm("Reaction ~ Days + (1|Subject)", data, reml=False)
    assert compare(none, one)["mixture"][1] == "0.5 chi2(0) + 0.5 chi2(1)"
    fewer = lmm("Reaction ~ 1", data, reml=False)
    assert compare(fewer, one)["mixture"][1] == "0.5 chi2(1) + 0.5 chi2(2)"
    fixed = lmm("Reaction ~ 1 + (1|Subject)", data, reml=False)
    assert np.isnan(compare(fixed, one)["p_boundary"][1])  # an ordinary test
    both = lmm("Reaction ~ Days + (Days|Subject)", data, reml=False)
    assert np.isnan(compare(none, both)["p_boundary"][1])  # a covariance matrix: no weights are known


def test_two_variances_at_once():
    """Penicillin is balanced: weights from the information, against counts of refits of null responses."""
    data = datasets.load("penicillin")
    small, large = lmm("diameter ~ 1", data), lmm("diameter ~ 1 + (1|plate) + (1|sample)", data)
    C = null_correlation(small, large, [0, 1])
    assert np.allclose(np.diag(C), 1.0)
    # the estimates of two crossed variances share the residual mean square: balanced formulas
    a, b = 24, 6
    ms = np.array([2.0 / (a - 1), 2.0 / (b - 1), 2.0 / ((a - 1) * (b - 1))])
    cov = ms[2] / (a * b)
    variances = (ms[0] + ms[2]) / b**2, (ms[1] + ms[2]) / a**2
    assert C[0, 1] == pytest.approx(cov / np.sqrt(variances[0] * variances[1]), rel=1e-6)
    assert str(boundary_mixture(small, large)).count("chi2") == 3


def test_terms_are_reduced_as_lmertest_does():
    data = datasets.load("machines")
    table = lmm("score ~ Machine + (0 + Machine | Worker)", data).ranova()
    assert table["term"][1] == "Machine in (0 + Machine | Worker)"
    assert table["npar"].tolist() == [10, 5]
    one = lmm("score ~ Machine + (1 | Worker)", data)
    assert table["loglik"][1] == pytest.approx(one.loglik, rel=1e-10)
    assert np.isnan(table["p_boundary"][1])


def test_what_has_no_test_is_refused():
    data = datasets.load("sleepstudy")
    with pytest.raises(InferenceError, match="no random terms"):
        lmm("Reaction ~ Days", data).ranova()
    with pytest.raises(InferenceError, match="one variance component beside the residual"):
        lmm("Reaction ~ Days + (Days|Subject)", data).ranova(exact=True)


def test_related_levels_are_tested_too():
    data = datasets.load("penicillin")
    plates = sorted(data["plate"].unique())
    fit = lmm("diameter ~ 1 + (1|vm(plate, I)) + (1|sample)", data,
              relationships={"I": (np.eye(len(plates)), plates)})  # fmt: skip
    plain = lmm("diameter ~ 1 + (1|plate) + (1|sample)", data).ranova()
    table = fit.ranova()
    assert isinstance(table, pd.DataFrame)
    assert np.allclose(np.sort(table["chisq"][1:]), np.sort(plain["chisq"][1:]), rtol=1e-6)
    assert set(table["mixture"][1:]) == {"0.5 chi2(0) + 0.5 chi2(1)"}


def test_parameters_without_a_meaning_at_zero_have_no_mixture():
    """The autocorrelations of a term whose variance is zero; in white noise a mixture rejected 4 of 10."""
    rng = np.random.default_rng(1)
    row, col = (a.ravel() for a in np.meshgrid(range(6), range(7), indexing="ij"))
    data = pd.DataFrame({"row": row, "col": col, "y": rng.normal(size=42)})
    field = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", data)
    table = field.ranova()
    assert table["df"][1] == 3 and np.isnan(table["p_boundary"][1])
    alone, both = (
        lmm(f"y ~ 1 + {terms}", data.assign(block=data["row"] // 2))
        for terms in ("(1 | block)", "(1 | block) + (1 | ar1(row):ar1(col))")
    )
    assert np.isnan(compare(alone, both)["p_boundary"][1])


@pytest.fixture(scope="module")
def environments():
    rng = np.random.default_rng(5)
    data = pd.DataFrame(
        [(f"g{g}", f"e{e}") for g in range(8) for e in range(3) for _ in range(3)], columns=["gen", "env"]
    )
    effect = rng.normal(0.0, 2.0, 8)[data["gen"].str[1:].astype(int)]
    return data.assign(y=effect + rng.normal(size=len(data)))


def test_independent_effects_in_environments_are_tested_as_a_whole(environments):
    """(1 | gen) is no special case of diag(0 + env | gen): its likelihood may be higher."""
    table = lmm("y ~ env + diag(0 + env | gen)", environments).ranova()
    assert list(table["term"]) == ["<none>", "diag(0 + env | gen)"] and table["df"][1] == 3
    assert table["p"][1] < 0.01


@pytest.mark.parametrize("term", ["diag(0 + env | gen)", "us(0 + env | gen)"])
def test_the_same_term_does_not_come_twice(environments, term):
    table = lmm(f"y ~ env + (1 | gen) + {term}", environments).ranova().set_index("term")
    alone = lmm("y ~ env + (1 | gen)", environments)
    own = next(name for name in table.index if "env" in name)
    assert table.loc[own, "npar"] == alone.npar
    assert table.loc[own, "loglik"] == pytest.approx(alone.loglik, rel=1e-9)


def test_what_is_held_is_no_question(environments):
    """A variance beside held ones has the mixture of one variance; those held are not tested."""
    held = {"gen:env": 0.3, "Residual": 1.0}
    table = lmm("y ~ env + (1 | gen) + (1 | gen:env)", environments, fixed_parameters=held).ranova()
    assert list(table["term"]) == ["<none>", "(1 | gen)"]
    assert table["p_boundary"][1] == pytest.approx(0.5 * chi2.sf(table["chisq"][1], 1))


def test_independent_coefficients_are_left_out_one_by_one_however_they_are_written():
    data = datasets.load("sleepstudy")
    bars, diag = (lmm(f"Reaction ~ Days + {term}", data).ranova() for term in
                  ("(Days || Subject)", "diag(1 + Days | Subject)"))  # fmt: skip
    numbers = ["npar", "loglik", "chisq", "df", "p", "p_boundary"]
    np.testing.assert_allclose(bars[numbers], diag[numbers], rtol=1e-6, atol=1e-9)
    assert list(diag["term"][1:]) == [
        "(Intercept) in diag(1 + Days | Subject)", "Days in diag(1 + Days | Subject)"
    ]  # fmt: skip


@pytest.mark.parametrize("base, power", [(2000, 2), (2000, 3), (20_000, 2)])
def test_the_spectrum_beside_powers_of_a_year(base, power):
    """That of an orthonormal basis of the powers of the centred year; a cubic was as if it were not there."""
    rng = np.random.default_rng(3)
    codes, c = rng.choice(6, 40), np.arange(40) % 10 - 4.5
    data = pd.DataFrame({"g": [f"g{k}" for k in codes], "year": c + base, "y": rng.normal(size=40) + codes})
    terms = ["year", *(f"I(year^{k})" for k in range(2, power + 1))]
    Q = np.linalg.qr(np.column_stack([c**k for k in range(power + 1)]))[0]
    Z = np.eye(6)[codes]
    expected = np.linalg.svd(Z - Q @ (Q.T @ Z), compute_uv=False)[:5] ** 2
    found = spectrum(lmm(f"y ~ {' + '.join(terms)} + (1 | g)", data))
    assert np.allclose(found.mu, expected, rtol=1e-7)
    assert found.rest == 40 - (power + 1) - 5
