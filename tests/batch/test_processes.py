"""Processes of this machine as the engine of a batch: the same tables, whoever has begun or ends."""

import logging
import os
import signal

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch
from fastlmm_core.batch import run, trials
from fastlmm_core.batch.compiled.compilable import may_compile
from fastlmm_core.batch.engines import processes
from fastlmm_core.batch.engines.pieces import TablePieces, rows_of
from fastlmm_core.batch.plan import make_plan
from fastlmm_core.batch.trials import collect_trials
from fastlmm_core.errors import MemoryExhaustedError, OptionError, ServiceError
from fastlmm_core.processes.child import can_start

MODEL = "y ~ gen + (1|block)"
SLOW = {"by": "trial", "residual": "units | block", "emmeans": "gen", "blups": True, "progress": False}
posix = pytest.mark.skipif(not can_start(), reason="a socket is handed over to a new process")


@pytest.fixture(scope="module")
def table():
    """40 trials of 18 plots in two traits, the first trait missing in some plots."""
    rng = np.random.default_rng(5)
    n = 40 * 18
    gen, block = np.tile(np.arange(6), n // 6), np.tile(np.repeat(np.arange(3), 6), 40)
    frame = pd.DataFrame({
        "trial": np.repeat([f"T{k:02d}" for k in range(40)], 18), "gen": [f"G{g}" for g in gen],
        "block": [f"B{b}" for b in block],
        "y": gen * 0.5 + rng.normal(size=120)[np.arange(n) // 6] + rng.normal(size=n) * (1.0 + block),
        "z": rng.normal(size=n) * (1.0 + block),
    })  # fmt: skip
    frame.loc[rng.choice(n, 20, replace=False), "y"] = np.nan
    return frame


@pytest.fixture(scope="module")
def few(table):
    """As many of the trials as make more than one piece."""
    return table[: 20 * 18]


def tables(batch):
    """All tables but for the seconds."""
    out = {name: pd.DataFrame(getattr(batch, name)) for name in batch.plan.tables}
    return out | {"fits": out["fits"].drop(columns="seconds")}


def assert_same(one, other):
    one, other = tables(one), tables(other)
    assert one.keys() == other.keys()
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


@posix
def test_processes_have_the_tables_of_threads(few):
    threads = fit_batch(few, MODEL, engine="threads", workers=2, **SLOW)
    assert (threads.fits["status"] == "ok").all()
    assert_same(threads, fit_batch(few, MODEL, engine="processes", workers=2, **SLOW))


def test_pieces_cover_every_unit_once_also_where_traits_of_a_trial_are_divided(table, monkeypatch):
    plan = make_plan(
        "~ gen + (1|block)", by="trial", traits=["y", "z"], residual="units | block", emmeans="gen"
    )
    monkeypatch.setattr(trials, "UNITS_PER_SLOW_RUN", 5)
    whole = collect_trials(table, plan)
    pieces = TablePieces(whole)
    assert len(pieces) == 16
    assert {len(own.table.frame) for own in pieces} == {54}  # 5 units are in 3 trials
    found = pd.concat([rows_of(own, plan).join()["fits"] for own in pieces], ignore_index=True)
    wanted = fit_batch(
        table, "~ gen + (1|block)", engine="threads", **{**SLOW, "blups": None}, traits=["y", "z"]
    )
    assert len(found) == 80
    pd.testing.assert_frame_equal(
        found.drop(columns="seconds"), pd.DataFrame(wanted.fits).drop(columns="seconds"), check_dtype=False
    )


@posix
@pytest.mark.parametrize("model", ["y ~ gen + (1|block)", "y ~ gen + poly(z, 2) + (1|block)"])
def test_one_engine_goes_on_where_another_was_stopped(few, tmp_path, monkeypatch, model):
    options = {**SLOW, "out": tmp_path / "out"}
    asked = []

    class Stopped(run.Progress):
        def add(self, mark):
            super().add(mark)
            asked.append(mark["units"])
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "Progress", Stopped)
        with pytest.raises(KeyboardInterrupt):
            fit_batch(few, model, engine="threads", workers=1, **options)
    assert asked == [16]
    assert_same(
        fit_batch(few, model, engine="processes", workers=2, **options),
        fit_batch(few, model, engine="threads", **SLOW),
    )


@posix
def test_a_process_that_is_killed_ends_the_batch_in_words(table, monkeypatch):
    class Killed(processes.Child):
        asked = 0

        def ask(self, body, deadline=None):
            self.asked += 1
            if self.asked == 2:  # the plan is taken, rows come
                os.kill(self.process.pid, signal.SIGKILL)
            return super().ask(body, deadline)

    monkeypatch.setattr(processes, "Child", Killed)
    with pytest.raises(MemoryExhaustedError, match=r"by signal 9; was the memory exhausted\?; fewer of them"):
        fit_batch(table, MODEL, engine="processes", workers=2, **SLOW)


@posix
def test_the_choice_follows_plan_work_and_memory(monkeypatch):
    slow = make_plan(MODEL, by="trial", residual="units | block")
    quick = make_plan(MODEL, by="trial")
    assert may_compile(quick)
    assert not may_compile(slow)
    monkeypatch.setattr(processes, "available_memory", lambda: 3 * processes.ROOM)
    assert processes.process_count(slow, "local", 2, 100.0) == 2
    assert processes.process_count(slow, "local", 64, 100.0) == 3
    assert processes.process_count(slow, "local", 2, 1.0) == 0
    assert processes.process_count(slow, "local", 1, 100.0) == 0
    assert processes.process_count(quick, "local", 2, 100.0) == 0
    assert processes.process_count(quick, "processes", 64, 0.0) == 64
    assert processes.process_count(slow, "threads", 2, 100.0) == 0


@posix
def test_threads_go_on_where_no_process_starts(few, monkeypatch, caplog):
    monkeypatch.setattr(processes, "WORTH_STARTING", 0.0)
    monkeypatch.setattr(processes, "ENTRY", "fastlmm_core.nowhere:serve")
    caplog.set_level(logging.WARNING, "fastlmm_core.batch")
    batch = fit_batch(few, MODEL, workers=2, **SLOW)
    assert "a worker did not start with status 1; threads go on" in caplog.text
    assert_same(batch, fit_batch(few, MODEL, engine="threads", **SLOW))
    with pytest.raises(ServiceError, match="did not start"):
        fit_batch(few, MODEL, workers=2, engine="processes", **SLOW)


@posix
def test_long_work_moves_to_processes_by_itself(table, monkeypatch):
    moved = []

    def watched(pieces, numbers, *rest):
        moved.extend(numbers)
        return processes.run_processes(pieces, numbers, *rest)

    monkeypatch.setattr(processes, "WORTH_STARTING", 0.0)
    monkeypatch.setattr(run, "run_processes", watched)
    batch = fit_batch(table, MODEL, workers=2, **SLOW)
    assert moved == [1, 2]  # the first 16 trials told how long it takes
    assert_same(batch, fit_batch(table, MODEL, engine="threads", **SLOW))


def test_unknown_engines_are_named(table):
    with pytest.raises(
        OptionError, match="engine='fork' is not known; allowed: 'local', 'threads', 'processes'"
    ):
        fit_batch(table, MODEL, engine="fork", **SLOW)


@posix
@pytest.mark.parametrize("what", ["entries", "missing keys"])
def test_what_cannot_be_read_is_the_same_for_every_engine(table, what):
    """Infinite numbers, words among numbers and keys of two types; keys that are missing."""
    frame, options = table[: 12 * 18].copy(), {**SLOW, "traits": ["y", "z"], "blups": None}
    model = "~ gen + (1|block)"
    if what == "entries":
        draw = np.random.default_rng(1).normal
        frame["x"], frame["w"] = draw(size=len(frame)), pd.Series(draw(size=len(frame)), dtype=object)
        frame.loc[[3, 200], "x"] = np.inf
        frame.loc[30, "w"] = "dry"
        keys = {f"T{k:02d}": k for k in range(11)} | {"T11": "X3"}
        frame["trial"] = frame["trial"].map(keys).astype(object)
        model = "~ gen + x + w + (1|block)"
    else:
        frame["trial"] = frame["trial"].str[1:].astype(float).where(frame["trial"] != "T07")
    threads = fit_batch(frame, model, engine="threads", **options)
    assert (threads.fits["status"] == "data").sum() == (6 if what == "entries" else 2)
    assert len(threads.fits) == 24 and (threads.fits["status"] == "ok").sum() >= 18
    assert_same(threads, fit_batch(frame, model, engine="processes", workers=2, **options))


def test_a_structure_of_the_caller_is_not_known_elsewhere(table, monkeypatch):
    monkeypatch.setattr(processes, "is_own", lambda name: name != "ar1")
    plan = make_plan(MODEL, by="trial", residual="ar1(gen | block)")
    monkeypatch.setattr(processes, "available_memory", lambda: 10 * processes.ROOM)
    assert processes.process_count(plan, "local", 2, 100.0) == 0
    if can_start():
        with pytest.raises(
            OptionError, match="do not know the structure 'ar1', registered here; use 'threads'"
        ):
            processes.process_count(plan, "processes", 2, 0.0)
    monkeypatch.setattr(processes, "can_start", lambda: False)
    with pytest.raises(OptionError, match="needs a POSIX system"):
        processes.process_count(plan, "processes", 2, 0.0)
