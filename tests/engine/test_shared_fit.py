"""A fit is asked by many: no question moves what another one reads, whatever becomes of it."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from random_designs import case

from fastlmm_core import lmm
from fastlmm_core.linalg.simplicial import SimplicialFactor
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml import expected_traces
from fastlmm_core.reml.information import natural_parameters

THREADS, ROUNDS = 8, 4
QUESTIONS = {
    "fixed effects": lambda fit: fit.fixed_effects(ddf="kenward-roger")[["estimate", "se", "df"]],
    "satterthwaite": lambda fit: fit.fixed_effects(ddf="satterthwaite")[["estimate", "se", "df"]],
    "observed": lambda fit: fit.fixed_effects(ddf="kenward-roger", information="observed")[["se", "df"]],
    "means": lambda fit: fit.emmeans("t").pairs().to_frame()[["estimate", "se", "df", "p"]],
    "anova": lambda fit: fit.anova(type=2)[["F", "df_den"]],
    "blups": lambda fit: fit.blups()[["estimate", "se", "condvar"]],
    "components": lambda fit: fit.variance_components[["estimate", "se"]],
    "predictions": lambda fit: fit.predict(se=True)[["prediction", "se"]],
    "covariance": lambda fit: fit.cov_beta,
    "criterion": lambda fit: [fit.criterion],
}


@pytest.fixture(params=[SimplicialFactor, SupernodalFactor])
def factor(request, monkeypatch):
    """The kind of factor that every fit of the test has, and traces by differences, which factorize anew."""
    if request.param is SupernodalFactor:
        monkeypatch.setattr("fastlmm_core.linalg.factor.SMALL_FLOPS", 0.0)
    monkeypatch.setattr(expected_traces, "DENSE_RANDOM", 0)
    monkeypatch.setattr(expected_traces, "SOLVE_PENALTY", 1e9)
    return request.param


def fresh():
    chosen = case("crossed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmm(chosen.formula, chosen.data)


def answer(fit, name):
    return np.asarray(QUESTIONS[name](fit), float)


def test_threads_that_ask_one_fit_get_the_answers_of_one_that_asks_alone(factor):
    for turn in range(ROUNDS):
        fit, names = fresh(), np.roll(list(QUESTIONS), turn).tolist()
        assert isinstance(fit.solved.factor, factor)
        alone = copy.deepcopy(fit)
        expected = {name: answer(alone, name) for name in QUESTIONS}
        with ThreadPoolExecutor(THREADS) as pool:
            asked = [(name, pool.submit(answer, fit, name)) for name in names * 2]
            for name, future in asked:
                np.testing.assert_array_equal(future.result(), expected[name], err_msg=name)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_error_inside_expected_information_leaves_the_fit_as_it_was(factor, at, monkeypatch):
    fit = fresh()
    undisturbed = copy.deepcopy(fit)
    evaluate, calls = expected_traces.trace_blocks_at, []

    def fail(*args):
        calls.append(args)
        if len(calls) > at:
            raise MemoryError
        return evaluate(*args)

    monkeypatch.setattr(expected_traces, "trace_blocks_at", fail)
    with pytest.raises(MemoryError):
        fit.fixed_effects(ddf="kenward-roger")
    monkeypatch.undo()
    for name in QUESTIONS:
        np.testing.assert_allclose(answer(fit, name), answer(undisturbed, name), rtol=1e-7, err_msg=name)
    np.testing.assert_array_equal(fit.se, undisturbed.se)


def test_expected_information_does_not_touch_the_factor_of_the_fit(factor):
    fit = fresh()
    before = fit.solved.factor.L.copy()
    expected_traces.expected_traces(fit.solved, natural_parameters(fit.solved), "differences")
    assert np.array_equal(fit.solved.factor.L, before)
