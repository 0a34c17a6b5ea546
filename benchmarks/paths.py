"""Timings of the main paths on this machine.

Each line is the median of repeated runs after a warm-up (kernels compiled, caches filled); the lines on
whole processes start a new interpreter every time. A limit beside a figure is what the project promises.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import fastlmm_core as fl
from fastlmm_core import datasets

SLEEPSTUDY = "Reaction ~ Days + (Days|Subject)"
BLOCKS = "yield ~ gen + (1|loc)"


def seconds(call: Callable[[], object], budget: float) -> float:
    """Median wall time of one call, from at least five calls and about `budget` seconds of them."""
    call()
    times: list[float] = []
    stop = time.perf_counter() + budget
    while len(times) < 5 or time.perf_counter() < stop:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def process(arguments: list[str]) -> Callable[[], object]:
    """A call that runs a new interpreter to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def paths() -> list[tuple[str, Callable[[], object], float | None]]:
    """What is timed: (name, call, limit in seconds or None)."""
    sleepstudy, blocks = datasets.load("sleepstudy"), datasets.load("cochran_bib")
    prepared = fl.prepare(SLEEPSTUDY, sleepstudy)
    fitted = fl.lmm(BLOCKS, blocks)
    bib = str(datasets.path("cochran_bib"))
    command = ["-m", "fastlmm_core.cli", "fit", bib, BLOCKS, "--emmeans", "gen"]
    return [
        ("sleepstudy (Days|Subject), Prepared.fit", prepared.fit, 0.5e-3),
        ("sleepstudy (Days|Subject), lmm()", lambda: fl.lmm(SLEEPSTUDY, sleepstudy), 6e-3),
        ("incomplete blocks, lmm()", lambda: fl.lmm(BLOCKS, blocks), None),
        ("incomplete blocks, Kenward-Roger means of 13 hybrids", lambda: fitted.emmeans("gen"), None),
        ("process: import fastlmm_core", process(["-c", "import fastlmm_core"]), 0.8),
        ("process: fastlmm fit with Kenward-Roger means", process(command), 2.0),
    ]


def readable(value: float) -> str:
    return f"{value * 1e3:10.3f} ms"


def run(budget: float) -> None:
    """Print every line; `budget` seconds of repeated calls for each."""
    for name, call, limit in paths():
        median = seconds(call, budget)
        promise = "" if limit is None else f"   limit {readable(limit).strip()}"
        missed = "   MISSED" if limit is not None and median > limit else ""
        print(f"{name:55s}{readable(median)}{promise}{missed}", flush=True)
