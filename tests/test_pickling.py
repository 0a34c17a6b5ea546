"""What a process pool sends back: every error, every result, and a fit after any question."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, errors, fit_batch, lmm
from fastlmm_core.linalg import factor as factors
from fastlmm_core.linalg import ordered_factor
from fastlmm_core.reml import equations

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, (errors.FastLMMError, errors.FastLMMWarning))
]
ARGUMENTS = {
    errors.FormulaError: ("no term", "y ~ ", 4),
    errors.MemoryForecastError: ("needs 8 GB", 8 * 10**9, 10**9),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_and_warning_comes_back_whole(kind, protocol):
    raised = kind(*ARGUMENTS.get(kind, ("words",)))
    raised.add_note("a note")
    for back in (pickle.loads(pickle.dumps(raised, protocol)), copy.copy(raised)):
        assert type(back) is kind and str(back) == str(raised) and str(back)
        assert back.args == raised.args and back.__dict__ == raised.__dict__


def fail(kind_name: str) -> None:
    kind = getattr(errors, kind_name)
    raise kind(*ARGUMENTS.get(kind, ("words",)))


def test_an_error_leaves_a_process_pool_as_itself():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for kind in (errors.MemoryForecastError, errors.FormulaError, errors.DependencyError):
            with pytest.raises(kind):
                pool.submit(fail, kind.__name__).result(timeout=120)


QUESTIONS = {
    "summary": lambda fit: fit.summary(),
    "html": lambda fit: fit._repr_html_(),
    "fixed effects": lambda fit: fit.fixed_effects(ddf="satterthwaite"),
    "components": lambda fit: fit.variance_components,
    "anova": lambda fit: fit.anova(),
    "joint tests": lambda fit: fit.joint_tests(),
    "means": lambda fit: fit.emmeans("V|N"),
    "contrasts": lambda fit: fit.emmeans("V").contrast("pairwise"),
    "interaction": lambda fit: fit.emmeans("V*N").contrast(interaction=["pairwise", "poly"]),
    "back-transformation": lambda fit: fit.emmeans("V").back_transform(),
    "regrid": lambda fit: fit.emmeans("V").regrid(),
    "tests": lambda fit: fit.emmeans("V").test(null=4.0, side=">"),
    "letters": lambda fit: fit.emmeans("V").cld(),
    "difference errors": lambda fit: fit.emmeans("V").difference_errors(),
    "linear functions": lambda fit: fit.linear_functions(np.eye(len(fit.coef_names))[:2]),
    "observation weights": lambda fit: fit.observation_weights(np.eye(len(fit.coef_names))[:2]),
    "blups": lambda fit: fit.blups(),
    "random effects": lambda fit: fit.ranef(),
    "predictions": lambda fit: fit.predict(se=True),
    "refit": lambda fit: fit.refit(fit.design.y + 1.0),
    "convergence": lambda fit: fit.convergence,
    "prepared": lambda fit: fit.prepared,
}


def assert_same_answers(fit, back) -> None:
    for table in (
        lambda f: f.emmeans("V").to_frame(), lambda f: f.blups(), lambda f: f.anova(),
        lambda f: f.fixed_effects(), lambda f: f.variance_components, lambda f: f.predict(se=True),
    ):  # fmt: skip
        pd.testing.assert_frame_equal(table(fit), table(back), check_exact=True)
    assert str(fit.summary()) == str(back.summary())
    assert fit.refit(fit.design.y).criterion == back.refit(back.design.y).criterion


SCALES = ["1/Y", "2/Y", "sqrt(Y - 40)", "log1p(Y)", "log(Y, 3)", "2 * Y + 1", "Y^2", "exp(Y / 99)", "atan(Y)"]


@pytest.mark.parametrize(
    "question, response",
    [(q, "log(Y)") for q in QUESTIONS] + [("back-transformation", response) for response in SCALES],
)
def test_a_fit_and_its_answers_pickle_after_any_question(question, response):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FastLMMWarning)
        fit = lmm(f"{response} ~ V*N + (1|B/V)", datasets.load("oats"))
        answer = QUESTIONS[question](fit)
        again = pickle.loads(pickle.dumps(answer))
        assert type(again) is type(answer)
        if question != "prepared":  # its repr shows addresses
            assert str(again) == str(answer)
        assert_same_answers(fit, pickle.loads(pickle.dumps(fit)))


def test_a_fit_of_every_size_pickles(monkeypatch):
    """Supernodes in place of columns, and a sparse solver in place of a dense inverse of the fixed part."""
    monkeypatch.setattr(factors, "SMALL_FLOPS", 0.0)
    monkeypatch.setattr(ordered_factor, "DENSE_NORMAL", 0)
    monkeypatch.setattr(equations, "DENSE_NORMAL", 0)
    fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    fit.anova()
    assert_same_answers(fit, pickle.loads(pickle.dumps(fit)))


def test_what_tables_share_is_found_again_not_pickled():
    for residual in ("units", "units | rep"):
        fit = lmm("yield ~ gen + rep + (1 | rep:block)", datasets.load("john_alpha"), residual=residual)
        before = len(pickle.dumps(fit))
        table = fit.emmeans("gen").to_frame()
        assert fit._inference.coefficient_covariances
        data = pickle.dumps(fit)
        assert len(data) < before + 10_000  # five matrices of 26 coefficients have 27 kB
        again = pickle.loads(data).emmeans("gen").to_frame()
        np.testing.assert_array_equal(again["se"], table["se"])


def test_a_batch_pickles():
    batch = fit_batch(
        datasets.path("trials"), "yield ~ gen + rep + (1|rep:block)", by="trial", emmeans="gen", blups=True
    )
    again = pickle.loads(pickle.dumps(batch))
    for name in batch.plan.tables:
        pd.testing.assert_frame_equal(batch.table(name), again.table(name))
    assert again.summary() == batch.summary()
