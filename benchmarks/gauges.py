"""CPU time and resident memory of the running program; standard library only, for every environment."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# One thread for every program.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


def resident_mb(which: str = "VmRSS") -> float:
    """Resident size in MB: VmRSS now, VmHWM the highest since `reset_peak`; NaN without /proc."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(which + ":"):
                return int(line.split()[1]) / 1024.0
    return float("nan")


def reset_peak() -> None:
    """Let VmHWM start again from the present size (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def timed(call: Callable[[], T]) -> tuple[T, float, float]:
    """Result, CPU seconds of all threads and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def repeated(call: Callable[[], T], budget: float = 2.0, most: int = 200) -> tuple[T, dict[str, Any]]:
    """Call until `budget` CPU seconds are used: last result, medians, and the memory of the first call.

    A first call shorter than the budget is not counted: it fills caches.
    """
    gc.collect()
    base = resident_mb()
    reset_peak()
    result, cpu, wall = timed(call)
    peak = resident_mb("VmHWM")
    cpus, walls = [cpu], [wall]
    if cpu < budget:
        # short calls are timed in groups: the CPU clock ticks in some hundredths of a millisecond
        group = max(1, min(most, int(0.05 / max(cpu, 1e-6))))
        cpus, walls, spent = [], [], 0.0
        while spent < budget and len(cpus) < most:
            (result, cpu, wall) = timed(lambda: [call() for _ in range(group)][-1])
            spent += cpu
            cpus.append(cpu / group)
            walls.append(wall / group)
    return result, {
        "cpu_s": statistics.median(cpus),
        "wall_s": statistics.median(walls),
        "repeats": len(cpus),
        "base_mb": base,
        "peak_mb": peak,
    }


def load() -> float:
    """Load average of the last minute."""
    return os.getloadavg()[0]
