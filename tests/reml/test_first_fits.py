"""The first fits of a process need not wait for the whole search to be compiled."""

import numpy as np

import fastlmm_core as fl
from fastlmm_core.reml import optimizer


def test_interpreted_steps_then_the_compiled_search(monkeypatch):
    data = fl.datasets.load("cochran_bib")
    prepared = fl.prepare("yield ~ gen + (1|loc)", data)
    compiled = prepared.fit()
    calls = []
    stepwise, whole = optimizer._minimize_stepwise, optimizer._minimize_compiled
    monkeypatch.setattr(optimizer, "_minimize_stepwise", lambda *a: calls.append("steps") or stepwise(*a))
    monkeypatch.setattr(optimizer, "_minimize_compiled", lambda *a: calls.append("whole") or whole(*a))
    monkeypatch.setattr(optimizer, "_searches", 0)
    monkeypatch.setattr(optimizer, "compiled_before", lambda kernel: False)
    monkeypatch.setattr(optimizer, "fit_small", NotLoaded(optimizer.fit_small))
    fits = [prepared.fit() for _ in range(optimizer.INTERPRETED_SEARCHES + 1)]
    assert calls == ["steps"] * optimizer.INTERPRETED_SEARCHES + ["whole"]
    for fit in fits:
        np.testing.assert_allclose(fit.theta, compiled.theta, rtol=1e-9)
        np.testing.assert_allclose(fit.criterion, compiled.criterion, rtol=1e-12)


class NotLoaded:
    """A kernel that this process has not loaded."""

    signatures = ()

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, *arguments):
        return self.kernel(*arguments)
