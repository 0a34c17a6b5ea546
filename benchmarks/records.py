"""Result files: one CSV per kind of measurement, each row with the machine and the versions."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gauges
import numpy as np
import pandas as pd

RESULTS = Path(os.environ.get("FASTLMM_BENCH_RESULTS", Path(__file__).resolve().parent / "results"))


@cache
def machine() -> str:
    """Processor, cores and memory in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GB"


def run_json(command: list[str], limit: float | None = None) -> dict[str, Any]:
    """Run a measurement in a process of its own with one thread; its JSON line, or status and reason."""
    environment = {**os.environ, **gauges.ONE_THREAD}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
    except subprocess.TimeoutExpired:
        return {"status": "stopped", "reason": f"not finished after {limit:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        return {"status": "failed", "reason": words[-1][:200]}
    return {"status": "ok", "reason": "", **json.loads(lines[-1])}


def keep(
    name: str,
    rows: list[dict[str, Any]],
    keys: list[str],
    finish: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> pd.DataFrame:
    """Write rows to results/<name>.csv in place of older rows with the same keys; the whole table.

    `finish` completes the table before it is written. Several runs may write to one file.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.csv"
    fresh = pd.DataFrame([{**row, "machine": machine(), "python": sys.version.split()[0]} for row in rows])
    with (RESULTS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            old = pd.read_csv(path)
            new_keys = set(map(tuple, fresh[keys].astype(str).to_numpy()))
            kept = [tuple(row) not in new_keys for row in old[keys].astype(str).to_numpy()]
            fresh = pd.concat([old[kept], fresh], ignore_index=True) if any(kept) else fresh
        fresh = finish(fresh)
        for column in fresh.select_dtypes("number"):
            if column not in ("criterion", "gap"):
                fresh[column] = fresh[column].map(significant)
        fresh.to_csv(path, index=False)
    return fresh


def significant(value: float, digits: int = 5) -> float:
    """Value rounded to significant digits; no measurement here is better than that."""
    if not np.isfinite(value) or value == 0.0 or float(value).is_integer():
        return value
    return float(f"{value:.{digits}g}")


def load(name: str) -> pd.DataFrame:
    """Table of an earlier run; empty when there is none."""
    path = RESULTS / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()
