"""Bootstrap: refits are those of lmm, draws depend on the seed only, the distribution is that of bootMer."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.intervals.bootstrap import normal_quantiles
from fastlmm_core.intervals.refits import Refitter
from fastlmm_core.intervals.residual_bootstrap import inflated, residual_draw

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
BOOTMER = json.loads((Path(__file__).parent / "reference" / "bootmer.json").read_text())["cases"]


@pytest.fixture(scope="module")
def sleep():
    return lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def many(sleep):
    return sleep.bootstrap(10_000, seed=1)


@pytest.mark.parametrize("case", BOOTMER)
def test_the_distribution_is_that_of_bootmer(many, case):
    """Kolmogorov's bound at 1e-3 for two samples, beside the atom of variances estimated as zero."""
    want = BOOTMER[case]
    boot = (
        many if case == "sleepstudy" else lmm(want["formula"], datasets.load(case)).bootstrap(10_000, seed=1)
    )
    bound = 1.95 * np.sqrt(1.0 / want["n"] + 1e-4)
    probs, quantiles = np.array(want["probs"]), np.array(want["quantiles"])
    assert list(boot.names) == want["parameters"]
    for j, name in enumerate(boot.names):
        own = np.sort(boot.draws[np.isfinite(boot.draws[:, j]), j])
        known = probs > (want["zero"] if j == 0 else 0.0)
        share = np.searchsorted(own, quantiles[known, j], side="right") / own.size
        assert np.abs(share - probs[known]).max() < bound, name
    zero = float(np.mean(boot.draws[:, 0] < 1e-4 * boot.draws[:, 0].mean()))
    spread = np.sqrt(want["zero"] * (1.0 - want["zero"]) * (1.0 / want["n"] + 1e-4))
    assert abs(zero - want["zero"]) < 3.3 * spread + 1e-3


def test_intervals_of_dyestuff_are_those_of_bootmer():
    """Its percentiles, to within the probability that 8,000 and 10,000 draws leave open."""
    want = BOOTMER["dyestuff"]
    table = lmm(want["formula"], datasets.load("dyestuff")).conf_int("bootstrap", n=10_000, seed=1)
    assert list(table["parameter"]) == want["parameters"]
    probs, quantiles = np.array(want["probs"]), np.array(want["quantiles"])
    for (_, row), column in zip(table.iterrows(), quantiles.T, strict=True):
        ends = np.interp([row["lower"], row["upper"]], column, probs)
        tolerance = 3.3 * np.sqrt(0.025 * 0.975 * (1.0 / want["n"] + 1e-4))
        assert abs(ends[1] - 0.975) < tolerance, row["parameter"]
        if row["lower"] > 0.0:
            assert abs(ends[0] - 0.025) < tolerance, row["parameter"]
        else:  # within the atom at zero, of bootMer's draws too
            assert want["zero"] > 0.025 + tolerance


@pytest.mark.parametrize("reml", [True, False])
def test_compiled_refits_are_those_of_lmm(reml):
    data = datasets.load("sleepstudy")
    fit = lmm("Reaction ~ Days + (Days|Subject)", data, reml=reml, weights=np.linspace(0.5, 2, 180))
    Y = fit.simulate(40, seed=3)
    Y[:, 0] = 250.0 + np.random.default_rng(0).normal(size=180)  # singular
    refitter = Refitter(fit)
    assert refitter.compiled
    found = refitter.refit(Y)
    assert found.singular[0]
    for j in range(40):
        again = fit.refit(Y[:, j])
        assert found.singular[j] == again.singular
        own = again.variance_components["sd_or_cor"].to_numpy()[[0, 2, 1, 3]]
        expected = np.append(own, again.beta)
        assert np.allclose(found.estimates[j], expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert np.allclose(refitter.estimates[[0, 2, 3]], fit.variance_components["sd_or_cor"].iloc[[0, 1, 3]])


def test_draws_depend_on_the_seed_only(sleep, many, tmp_path):
    """Responses to the last bit; the first searches of a process are interpreted, and round otherwise."""
    for threads in (1, 3):
        again = sleep.bootstrap(250, seed=1, threads=threads).draws
        assert np.allclose(again, many.draws[:250], rtol=1e-9, atol=1e-9, equal_nan=True)
    one, three = (sleep.bootstrap(250, seed=1, threads=threads).draws for threads in (1, 3))
    assert np.array_equal(one, three, equal_nan=True)
    assert not np.allclose(sleep.bootstrap(250, seed=2).draws, many.draws[:250], equal_nan=True)
    free = sleep.bootstrap(40)
    assert np.array_equal(sleep.bootstrap(40, seed=free.seed).draws, free.draws)


def test_a_folder_goes_on_where_it_ended(sleep, many, tmp_path):
    out = tmp_path / "boot"
    sleep.bootstrap(250, seed=1, out=out)
    whole = out / "block-000000.npz"
    before = whole.stat().st_mtime_ns
    damaged = out / "block-000001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    again = sleep.bootstrap(330, seed=1, out=out)
    assert np.allclose(again.draws, many.draws[:330], rtol=1e-9, atol=1e-9, equal_nan=True)
    assert whole.stat().st_mtime_ns == before
    with pytest.raises(OptionError, match=r"holds another bootstrap \(it differs in seed\); name a new"):
        sleep.bootstrap(100, seed=2, out=out)
    other = lmm("Reaction ~ Days + (1|Subject)", datasets.load("sleepstudy"))
    with pytest.raises(OptionError, match="differs in formula, fit"):
        other.bootstrap(100, seed=1, out=out)
    with pytest.raises(OptionError, match="needs a seed="):
        sleep.bootstrap(100, out=tmp_path / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(OptionError, match="other files in it"):
        sleep.bootstrap(100, seed=1, out=tmp_path / "mine")


def test_inflated_effects_have_the_estimated_covariance(sleep):
    """Carpenter, Goldstein & Rasbash (2003), equations 8 to 11."""
    T = sleep.solved.user_sigma2 * sleep.solved.user_covariance(0)
    effects = inflated(sleep.solved.user_random_effects(0), T)
    assert np.allclose(effects.T @ effects / 18, T, rtol=1e-8)
    assert np.allclose(effects.mean(axis=0), 0.0, atol=1e-10)
    assert not inflated(np.zeros((6, 1)), np.array([[0.0]])).any()


def test_residual_draws_have_the_moments_of_the_model():
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    Y = residual_draw(fit)(20_000, np.random.default_rng(4))
    batch = fit.variance_components["estimate"].iloc[0]
    assert Y.mean() == pytest.approx(1527.5, abs=1.0)
    assert np.var(Y, axis=1).mean() == pytest.approx(batch + fit.sigma**2, rel=0.02)
    assert np.cov(Y)[0, 1:5].mean() == pytest.approx(batch, rel=0.08)


def test_intervals_of_a_normal_statistic():
    """Draws on a normal grid: all three types are the normal interval."""
    fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    boot = fit.bootstrap(4000, seed=1)
    effect = boot.conf_int(type="normal").iloc[-1]
    se = boot.draws[:, -1].std(ddof=1)
    assert effect["upper"] - effect["lower"] == pytest.approx(2 * 1.959964 * se, rel=1e-6)
    percentile, basic = boot.conf_int(0.9).iloc[-1], boot.conf_int(0.9, "basic").iloc[-1]
    assert percentile["lower"] + basic["upper"] == pytest.approx(2 * boot.estimates[-1], rel=1e-12)
    assert fit.conf_int("profile").iloc[-1]["upper"] == pytest.approx(effect["upper"], abs=6.0)


def test_quantiles_are_order_statistics_at_n_plus_one():
    draws = np.random.default_rng(1).permutation(np.arange(1.0, 100.0))
    assert np.allclose(normal_quantiles(draws, np.array([0.05, 0.25, 0.95])), [5.0, 25.0, 95.0])


def test_a_statistic_of_ones_own(sleep):
    def ratio(fit):
        return fit.variance_components["estimate"].iloc[0] / fit.sigma**2

    boot = sleep.bootstrap(25, seed=1, statistic=ratio)
    names = sleep.bootstrap(25, seed=1)
    assert boot.draws[:, 0] == pytest.approx((names.draws[:, 0] / names.draws[:, 3]) ** 2, rel=1e-6)
    with pytest.raises(OptionError, match="statistic must be a function"):
        sleep.bootstrap(10, statistic="mean")


def test_a_statistic_has_as_many_numbers_from_every_refit(sleep):
    """One number in place of two was taken for both columns; a dict was an internal error."""
    with pytest.raises(OptionError, match="statistic returned 1 numbers from a refit and 2 from the fit"):
        sleep.bootstrap(5, seed=1, statistic=lambda fit: [fit.sigma] * (2 if fit is sleep else 1))
    with pytest.raises(OptionError, match="statistic returned a dict; a number or an array of numbers"):
        sleep.bootstrap(5, seed=1, statistic=lambda fit: {"sigma": fit.sigma})


def test_intervals_are_of_a_statistic_or_of_what_is_estimated(sleep):
    """The table of a statistic was empty, and a held variance had the interval (100, 100)."""
    how = {"method": "bootstrap", "n": 20, "seed": 1, "progress": False}
    own = sleep.conf_int(**how, statistic=lambda fit: [fit.sigma, fit.beta[1]])
    assert list(own["parameter"]) == ["t1", "t2"] and (own["lower"] < own["upper"]).all()
    data = datasets.load("sleepstudy")
    held = lmm("Reaction ~ Days + (1|Subject)", data, fixed_parameters={"Subject": 9.0})
    names = ["sigma", "(Intercept)", "Days"]
    assert list(held.conf_int(**how)["parameter"]) == list(held.conf_int("wald")["parameter"]) == names
    for wrong in ({"type": "bca"}, {"parameters": "none"}):  # before anything is fitted
        with pytest.raises(OptionError, match=r"bca|none"):
            sleep.conf_int("bootstrap", n=10**9, **wrong)


def test_structures_are_refitted():
    data = datasets.load("penicillin")
    plates = sorted(data["plate"].unique())
    fit = lmm("diameter ~ 1 + (1|vm(plate, I)) + (1|sample)", data,
              relationships={"I": (np.eye(len(plates)), plates)})  # fmt: skip
    boot = fit.bootstrap(24, seed=1)
    assert boot.n_failed == 0 and np.isfinite(boot.draws).all()
    again = fit.refit(fit.simulate(1, seed=9)[:, 0])
    found = Refitter(fit).refit(fit.simulate(1, seed=9)).estimates
    assert found[0, -1] == pytest.approx(again.beta[0], rel=1e-8)
    with pytest.raises(InferenceError, match="use kind='parametric'"):
        fit.bootstrap(10, "residual")


def test_too_few_draws_are_refused(sleep):
    with pytest.raises(InferenceError, match=r"10 draws of .* are too few"):
        sleep.bootstrap(10, seed=1).conf_int()
