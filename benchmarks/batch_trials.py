#!/usr/bin/env python3
"""Batches of alpha-lattice trials: ``fit_batch`` beside R loops and glmm; traits, memory, two workers.

``python benchmarks/run.py batch``, or ``python benchmarks/batch_trials.py [--trials 1000] [--part NAME ...]``
in one process, which prints a line of JSON for each measurement. R fits a sample of the trials and is stated
per trial; glmm fits as many as we do. One thread and one BLAS thread everywhere, and CPU time (user and
system), so that other load counts little; two workers are compared by wall time. Needs what peers.py
installs; what is missing is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gauges
import numpy as np
import pandas as pd
import peers

HERE = Path(__file__).resolve().parent
FIXED = "yield ~ gen + rep + (1|rep:block)"
RANDOM = "yield ~ rep + (1|gen) + (1|rep:block)"
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "fit": (FIXED, {"fixed": False}),
    "means": (FIXED, {"fixed": False, "emmeans": "gen", "contrasts": "trt.vs.ctrl:G01"}),
    "blups": (RANDOM, {"fixed": False, "blups": "gen"}),
}
PARTS = ("alpha", "peer", "traits", "layouts", "floor", "memory", "workers")
STREAMED = (1_000, 3_000, 10_000)
MEMORY = """
import resource, sys
from fastlmm_core import fit_batch
options = {"by": "trial", "fixed": False, "emmeans": "gen", "progress": False}
result = fit_batch(sys.argv[1], sys.argv[2], out=sys.argv[3], **options)
print(len(result.fits), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def alpha_trials(
    trials: int, genotypes: int = 60, replicates: int = 3, block: int = 10, seed: int = 1
) -> pd.DataFrame:
    """Alpha lattices, every trial with its own randomization."""
    rng = np.random.default_rng(seed)
    blocks = genotypes // block
    rep = np.repeat(np.arange(replicates), genotypes)
    blk = np.tile(np.repeat(np.arange(blocks), block), replicates)
    n = rep.size
    orders = [rng.permutation(genotypes) for _ in range(trials * replicates)]
    gen = np.concatenate(orders).reshape(trials, n)
    y = 10 + rng.normal(0, 1, n * trials)
    y += np.take_along_axis(rng.normal(0, 1, (trials, genotypes)), gen, 1).ravel()
    y += rng.normal(0, 0.8, (trials, replicates, blocks))[:, rep, blk].ravel()
    return pd.DataFrame(
        {
            "trial": np.repeat([f"T{t:05d}" for t in range(trials)], n),
            "gen": np.array([f"G{g + 1:02d}" for g in range(genotypes)])[gen.ravel()],
            "rep": np.tile(np.array([f"R{r + 1}" for r in range(replicates)])[rep], trials),
            "block": np.tile(np.array([f"B{b + 1}" for b in range(blocks)])[blk], trials),
            "yield": y.round(4),
        }
    )


def per_trial(
    trials: int,
    work: Callable[[], object],
    repeats: int = 3,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Best CPU time (or another clock's) of `work` per trial, in milliseconds."""
    best = np.inf
    for _ in range(repeats):
        began = clock()
        work()
        best = min(best, clock() - began)
    return 1e3 * best / trials


def measure_alpha(trials: int, r_trials: int) -> list[dict[str, object]]:
    """Fits, Kenward-Roger means with contrasts, and BLUPs with PEV, beside the same in R."""
    from fastlmm_core import fit_batch

    frame = alpha_trials(trials)
    few = frame[: 180 * 3]
    reference = run_r(frame[: 180 * r_trials]) if not peers.available("lme4") else {}
    rows = []
    for task, (formula, options) in TASKS.items():
        fit_batch(few, formula, by="trial", progress=False, **options)
        call = partial(fit_batch, frame, formula, by="trial", workers=1, progress=False, **options)
        ours = per_trial(trials, call)
        theirs = 1e3 * float(reference[task]) if reference else None
        rows.append(row(f"alpha 60x3, {task}", ours, str(reference.get("versions", "R")), theirs))
    return rows


def run_r(frame: pd.DataFrame) -> dict[str, Any]:
    """Seconds per trial of the R loop by task, and its `versions`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.csv"
        frame.to_csv(path, index=False)
        found = subprocess.run(
            ["Rscript", str(HERE / "measure_trials.R"), str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(found.stdout)  # type: ignore[no-any-return]


def measure_peer(trials: int) -> list[dict[str, object]]:
    """Fits of 120-plot trials beside glmm."""
    from fastlmm_core import fit_batch

    frame = alpha_trials(trials, genotypes=40)
    theirs = None
    if not peers.available("glmm"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trials.csv"
            frame.to_csv(path, index=False)
            command = [str(peers.interpreter()), str(HERE / "measure_glmm.py"), str(path)]
            found = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = 1e3 * float(found.stdout.split()[-1])
    ours = per_trial(
        trials, lambda: fit_batch(frame, FIXED, by="trial", workers=1, fixed=False, progress=False)
    )
    return [row("alpha 40x3, fit", ours, "glmm", theirs)]


def measure_traits(traits: int) -> list[dict[str, object]]:
    """Many traits on one design of 500 plots beside as many fits of their own."""
    from fastlmm_core import fit_batch, lmm

    rng = np.random.default_rng(2)
    base = alpha_trials(1, genotypes=125, replicates=4, block=25, seed=5)
    names = [f"y{k:04d}" for k in range(traits)]
    values = base["yield"].to_numpy()[:, None] + rng.normal(0, 0.5, (len(base), traits))
    wide = pd.concat([base.drop(columns="yield"), pd.DataFrame(values, columns=names)], axis=1)
    model = FIXED.partition("~")[2]
    options: dict[str, Any] = {"by": "trial", "workers": 1, "fixed": False, "progress": False}
    ours = per_trial(traits, lambda: fit_batch(wide, f"~ {model}", traits=names, **options))
    own = min(traits, 30)
    lmm(f"{names[0]} ~ {model}", wide)
    alone = per_trial(own, lambda: [lmm(f"{name} ~ {model}", wide) for name in names[:own]], 1)
    return [row(f"{traits} traits, {len(base)} plots", ours, "lmm one by one", alone)]


def measure_memory(sizes: tuple[int, ...]) -> list[dict[str, object]]:
    """Peak memory of streamed batches of growing size, in MB."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "trials"
            source.mkdir()
            for part in range(0, size, 500):
                frame = alpha_trials(min(500, size - part), seed=part)
                frame["trial"] = f"P{part:05d}" + frame["trial"]
                frame.to_parquet(source / f"part{part:06d}.parquet")
            command = [sys.executable, "-c", MEMORY, str(source), FIXED, str(Path(folder) / "out")]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        if int(found[0]) != size:
            raise RuntimeError(f"{found[0]} rows for {size} trials")
        rows.append({"task": f"{size:,} trials streamed", "trials": size, "peak_mb": float(found[1])})
    return rows


def measure_workers(trials: int) -> list[dict[str, object]]:
    """Two threads beside one, in turns."""
    from fastlmm_core import fit_batch

    frame = alpha_trials(trials)
    rows = []
    for task, (formula, options) in TASKS.items():
        best = {1: np.inf, 2: np.inf}
        for _ in range(4):
            for k in best:
                call = partial(fit_batch, frame, formula, by="trial", workers=k, progress=False, **options)
                best[k] = min(best[k], per_trial(trials, call, 1, time.perf_counter))
        rows.append(row(f"{task}, two workers", best[2], "one worker", best[1]))
    return rows


def measure_layouts(trials: int) -> list[dict[str, object]]:
    """Trials that are all laid out alike beside trials that are not."""
    from fastlmm_core import fit_batch

    frame = alpha_trials(trials)
    alike = frame.assign(gen=np.tile(frame["gen"].to_numpy()[:180], trials))
    options: dict[str, Any] = {"by": "trial", "workers": 1, "fixed": False, "progress": False}
    own, shared = (per_trial(trials, partial(fit_batch, f, FIXED, **options)) for f in (frame, alike))
    return [row("alpha 60x3, alike", shared, "each its own layout", own)]


def measure_floor(trials: int) -> list[dict[str, object]]:
    """Fits of alpha trials beside the arithmetic alone on the same systems, as often as the fits needed it.

    The arithmetic is what no implementation of this method can leave out: scaling and factorizing the system,
    two triangular solves and one inverse subset for every step.
    """
    from batch_floor import arithmetic

    from fastlmm_core import fit_batch

    frame = alpha_trials(trials)
    rows = []
    for task, formula in (("genotypes fixed", FIXED), ("genotypes random", RANDOM)):
        call = partial(fit_batch, frame, formula, by="trial", workers=1, fixed=False, progress=False)
        call()
        ours = per_trial(trials, call)
        iterations = float(call().fits["iterations"].mean())
        bare = 1e3 * arithmetic(frame[: 180 * min(trials, 50)], formula, iterations)
        rows.append(row(f"alpha 60x3, {task}: fit", ours, "bare arithmetic", bare))
    return rows


def row(task: str, ours: float, other: str, theirs: float | None) -> dict[str, object]:
    """Milliseconds per fit of both, and the ratio."""
    return {
        "task": task,
        "ms": ours,
        "fits_per_s": 1e3 / ours,
        "other": other,
        "other_ms": theirs,
        "ratio": None if theirs is None else theirs / ours,
    }


def measurements(parts: tuple[str, ...], trials: int, r_trials: int) -> Iterator[dict[str, object]]:
    """The rows of the parts asked for."""
    work: dict[str, Callable[[], list[dict[str, object]]]] = {
        "alpha": lambda: measure_alpha(trials, r_trials),
        "peer": lambda: measure_peer(min(trials, 400)),
        "traits": lambda: measure_traits(trials),
        "floor": lambda: measure_floor(trials),
        "memory": lambda: measure_memory(STREAMED),
        "layouts": lambda: measure_layouts(trials),
        "workers": lambda: measure_workers(4 * trials),
    }
    for part in parts:
        load = gauges.load()
        for found in work[part]():
            yield {"part": part, **found, "load": load}


def run(asked: list[str], limit: float) -> pd.DataFrame:
    """Every part in a process of its own; results/batch.csv."""
    import records

    rows: list[dict[str, Any]] = []
    environment = {**os.environ, **gauges.ONE_THREAD}
    for part in [name for name in PARTS if not asked or name in asked]:
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=max(limit, 3_600.0)
        )
        if done.returncode != 0:
            print(f"batch, {part}: {(done.stderr or done.stdout).strip().splitlines()[-1]}", flush=True)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                rows.append(json.loads(line))
                print(json.dumps(rows[-1]), flush=True)
    return records.keep("batch", rows, ["part", "task"]) if rows else pd.DataFrame()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--r-trials", type=int, default=15)
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; all by default")
    asked = parser.parse_args()
    if any(os.environ.get(name) != "1" for name in gauges.ONE_THREAD):  # before any BLAS is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **gauges.ONE_THREAD})
    for found in measurements(tuple(asked.part or PARTS), asked.trials, asked.r_trials):
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
