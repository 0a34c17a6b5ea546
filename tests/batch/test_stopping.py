"""A batch that nobody wants any more ends, in compiled code and on the general path, and hands nothing on."""

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from trial_data import alpha_trials

from fastlmm_core.batch.compiled.coded import code_trials
from fastlmm_core.batch.engines import jobs
from fastlmm_core.batch.engines.stopping import new_stop
from fastlmm_core.batch.group import fit_run
from fastlmm_core.batch.plan import make_plan
from fastlmm_core.batch.trials import collect_trials


def many_trials(trials):
    plan = make_plan("yield ~ rep + gen + (1|rep:block)", by="trial")
    return collect_trials(alpha_trials(trials), plan)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_flag_that_is_up_ends_a_run_before_its_next_unit(compiled):
    table = many_trials(3)
    coded = code_trials(table) if compiled else None
    stop = new_stop()
    assert len(fit_run(table, coded, 0, 3, stop).join()["fits"]) == 3
    stop[0] = 1
    with pytest.raises(CancelledError):
        fit_run(table, coded, 0, 3, stop)


def test_a_flag_that_goes_up_meanwhile_ends_compiled_code():
    """One run of many units: it ends long before all of them are done."""
    table = many_trials(200)
    coded, stop = code_trials(table), new_stop()
    began = time.perf_counter()
    fit_run(table, coded, 0, 200, new_stop())
    whole = time.perf_counter() - began
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(fit_run, table, coded, 0, 200, stop)
        stop[0] = 1
        with pytest.raises(CancelledError):
            future.result(timeout=max(30.0, 10 * whole))


def test_an_interrupt_of_the_caller_stops_the_threads():
    seen = []

    def work(stop):
        seen.append(stop)
        while not stop[0]:
            time.sleep(0.001)
        raise CancelledError

    class Interrupted:
        def add(self, mark):
            raise KeyboardInterrupt

    class Rows:
        def outcomes(self):
            return {}

    first = jobs.Job(0, lambda stop: Rows())
    with pytest.raises(KeyboardInterrupt):
        jobs.run_threads([first, *(jobs.Job(k, work) for k in (1, 2))], 2, None, Interrupted())
    assert all(np.array_equal(stop, [1]) for stop in seen)
