"""How the time of a fit and of Kenward-Roger inference grows: over sizes, parameters and contrasts.

``python growth.py`` in one process prints one line of JSON per size; `run` collects them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gauges
import generators
import numpy as np
import pandas as pd

MET = "y ~ env + (1|gen) + (1|gen:env) + (1|env:rep) + (1|env:rep:block)"
# (genotypes, environments), two replicates in blocks of 10
SIZES = ((125, 8), (250, 10), (500, 10), (1_000, 10), (1_000, 20), (2_000, 15))
SLOW_SIZES = ((2_000, 30), (4_000, 20), (5_000, 20))
# one random term more each time
TERMS = ("(1|gen)", "(1|gen:env)", "(1|env:rep)", "(1|env:rep:block)")
CONTRASTS = (1, 10, 100, 500)
SLOW_CONTRASTS = (1_000, 2_000)


def fit_and_infer(formula: str, table: pd.DataFrame, contrasts: int | None = None) -> dict[str, Any]:
    """CPU seconds of one fit and of Kenward-Roger SE and df of `contrasts` coefficients (default: all)."""
    import fastlmm_core as fl

    gauges.reset_peak()
    fit, seconds, _ = gauges.timed(lambda: fl.lmm(formula, table))
    fit_peak = gauges.resident_mb("VmHWM")
    p = len(fit.coef_names)
    K = np.eye(p)[: contrasts or p]
    gauges.reset_peak()
    found, inference, _ = gauges.timed(lambda: _infer(fit, K))
    e, factor = fit.plain.equations, fit.prepared.factor
    return {
        "rows": e.n,
        "equations": e.q + e.p,
        "parameters": e.n_theta + 1,
        "contrasts": K.shape[0],
        "L_entries": factor.nnz,
        "gflop": factor.flops / 1e9,
        "ordering": e.order.name,
        "evaluations": fit.convergence.evaluations,
        "fit_s": seconds,
        "prepare_s": fit.timings["prepare"],
        "kenward_roger_s": inference,
        "fit_peak_mb": fit_peak,
        "kenward_roger_peak_mb": gauges.resident_mb("VmHWM"),
        "df_min": float(np.nanmin(found)),
    }


def _infer(fit: Any, K: np.ndarray) -> np.ndarray:
    functions = fit.linear_functions(K, ddf="kenward-roger")
    functions.se()
    return functions.df()


def measurements(slow: bool) -> Iterator[dict[str, Any]]:
    for genotypes in (300, SIZES[0][0]):  # once through the kernels of large and of small systems
        fit_and_infer(MET, generators.met_trials(genotypes, 8, seed=1))
    for genotypes, environments in SIZES + (SLOW_SIZES if slow else ()):
        table = generators.met_trials(genotypes, environments)
        yield {"over": "size", "step": f"{genotypes} × {environments}", **fit_and_infer(MET, table)}
    table = generators.met_trials(1_000, 10)
    for count in range(1, len(TERMS) + 1):
        formula = " + ".join(("y ~ env", *TERMS[:count]))
        yield {"over": "parameters", "step": str(count + 1), **fit_and_infer(formula, table)}
    fixed = "y ~ gen + env + (1|gen:env) + (1|env:rep) + (1|env:rep:block)"
    table = generators.met_trials(2_000, 10) if slow else generators.met_trials(500, 10)
    for count in CONTRASTS + (SLOW_CONTRASTS if slow else ()):
        yield {"over": "contrasts", "step": str(count), **fit_and_infer(fixed, table, count)}


def run(slow: bool, limit: float) -> pd.DataFrame:
    """All measurements in one process, so that they share a machine state."""
    import os

    import records

    command = [sys.executable, str(Path(__file__).resolve()), *(["--slow"] if slow else [])]
    environment = {**os.environ, **gauges.ONE_THREAD}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        rows = []
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("{"):
                row = json.loads(line)
                rows.append({**row, "load": gauges.load()})
                print(
                    f"{row['over']:11s}{row['step']:>12s} {row['rows']:8d} rows {row['gflop']:9.3g} GFLOP   "
                    f"fit {row['fit_s']:8.3f} s   Kenward-Roger {row['kenward_roger_s']:8.3f} s",
                    flush=True,
                )
    return records.keep("growth", rows, ["over", "step", "rows"]) if rows else pd.DataFrame()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for found in measurements("--slow" in sys.argv):
        print(json.dumps(found), flush=True)
