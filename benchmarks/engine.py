"""Engine figures of one model in one process: times of the numeric steps in units of CHOLMOD's factorization.

The three factorizations of the library stand side by side: by columns, supernodal, and CHOLMOD's own.

``python engine.py FORMULA TABLE WARM_TABLE`` prints one line of JSON; `run` collects them.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gauges
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sksparse import cholmod

# (column, goal as a multiple of the factorization, on which cases it is promised)
GOALS = {"inverse": 1.5, "iteration": 3.0, "fit": 25.0}
OTHERS = ("simplicial", "cholmod")
# Multiply-adds above which going by columns takes minutes and is left out.
BY_COLUMNS = 2e9
DEFAULT, SLOW = ("c2",), ("c2", "large_met", "sparse_testing", "ratings", "family", "genotypes_fixed")


def cpu(
    call: Callable[[], Any], budget: float = 3.0, least: int = 2, before: Callable[[], Any] | None = None
) -> float:
    """Median CPU seconds of at least `least` calls, of one when it takes longer than the budget.

    `before` is called ahead of each and not timed.
    """
    times: list[float] = []
    while len(times) < least or (sum(times) < budget and len(times) < 15):
        if before is not None:
            before()
        times.append(gauges.timed(call)[1])
        if times[0] > budget:
            break
    return statistics.median(times)


def time_cholmod(equations: Any, C: np.ndarray) -> float:
    """CPU seconds of CHOLMOD's supernodal numeric factorization of the same matrix.

    In the order of the library or in the one that CHOLMOD finds itself, whichever is faster: fronts that are
    sparse here are dense there. SuiteSparse 5 opens four OpenMP threads for every supernode, which on many
    small panels costs up to a third; they are switched off, to its advantage.
    """
    size = equations.q + equations.p
    matrix = sp.csc_matrix(
        (C, equations.indices.astype(np.int32), equations.indptr.astype(np.int32)), shape=(size, size)
    )
    factors = [
        cholmod.analyze(matrix, mode="supernodal", ordering_method=method)
        for method in ("natural", "default")
    ]
    openmp = ctypes.CDLL("libgomp.so.1")
    before = openmp.omp_get_max_active_levels()
    openmp.omp_set_max_active_levels(0)
    try:
        return min(cpu(partial(own.cholesky_inplace, matrix)) for own in factors)
    finally:
        openmp.omp_set_max_active_levels(before)


def time_steps(
    fl: Any, formula: str, table: pd.DataFrame, kind: str, C: np.ndarray, n_lead: int, criterion: float
) -> dict[str, Any]:
    """CPU seconds of factorization, inverse subset and whole fit by another factorization.

    Its criterion has to be the same to 1e-10.
    """
    fit, total, _ = gauges.timed(lambda: fl.lmm(formula, table, factorization=kind))
    if abs(fit.criterion - criterion) > 1e-10 * abs(criterion):
        raise SystemExit(f"{kind}: criterion {fit.criterion!r} is not {criterion!r}")
    factor = fit.prepared.factor.copy()
    factorization = cpu(lambda: factor.factorize(C))
    inverse = cpu(lambda: factor.inverse_subset(n_lead), before=lambda: factor.factorize(C))
    return {
        f"{kind}_factorization_s": factorization, f"{kind}_inverse_s": inverse, f"{kind}_fit_s": total,
    }  # fmt: skip


def figures(formula: str, table: pd.DataFrame) -> dict[str, Any]:
    """Phases of one fit, each measured alone; the fit itself once, everything included."""
    import fastlmm_core as fl
    from fastlmm_core.linalg.symbolic import analyze
    from fastlmm_core.reml.objective import (
        assemble_at,
        evaluate,
        evaluate_score,
        factors_at,
        n_leading,
        prepare_response,
    )

    gauges.reset_peak()
    base = gauges.resident_mb()
    fit, total, _ = gauges.timed(lambda: fl.lmm(formula, table, factorization="supernodal"))
    peak = gauges.resident_mb("VmHWM")
    prepared = fit.prepared
    e, factor, y = fit.plain.equations, prepared.factor.copy(), fit.response
    factors = factors_at(e, fit.solved.theta)
    C = assemble_at(e, factors)
    response = prepare_response(e, y)
    point = evaluate(e, factor, response, factors, True)
    right = response.rhs
    entries = analyze(e.indptr, e.indices).nnz  # of the whole L, which sparse fronts do not keep
    out: dict[str, Any] = {
        "rows": e.n,
        "equations": e.q + e.p,
        "L_entries": entries,
        "L_mb": entries * 8 / 2**20,
        "gflop": factor.flops / 1e9,
        "ordering": e.order.name,
        "iterations": fit.convergence.iterations,
        "evaluations": fit.convergence.evaluations,
        "certificate": bool(fit.convergence.certificate),
        "criterion": fit.criterion,
        "design_s": fit.timings["design"],
        "prepare_s": fit.timings["prepare"],
        "fit_s": total,
        "cholmod_s": time_cholmod(e, C),
        "factorization_s": cpu(lambda: factor.factorize(C)),
        "assemble_s": cpu(lambda: assemble_at(e, factors), 0.2),
        "solve_s": cpu(lambda: factor.solve(right), 0.3),
        "base_mb": base,
        "peak_mb": peak,
    }

    def iteration() -> None:
        at = evaluate(e, factor, response, factors, True)
        evaluate_score(e, factor, response, at, True)

    del point
    # a new factorization each time, so that nothing of the last inverse can be reused
    out["inverse_s"] = cpu(
        lambda: factor.inverse_subset(n_leading(e)), before=lambda: factor.factorize(C)
    )
    out["iteration_s"] = cpu(iteration)
    for kind in OTHERS:
        if kind == "simplicial" and factor.flops > BY_COLUMNS:
            continue
        out |= time_steps(fl, formula, table, kind, C, n_leading(e), fit.criterion)
    for name in ("factorization", "inverse", "iteration", "fit", "assemble", "solve"):
        out[f"{name}_ratio"] = out[f"{name}_s"] / out["cholmod_s"]
    out["memory_in_L"] = (peak - base) / out["L_mb"]
    return out


def run(names: list[str], slow: bool, limit: float) -> pd.DataFrame:
    """Engine figures of the cases, each in a process of its own."""
    import records
    from cases import case

    table = pd.DataFrame()
    for name in names or (SLOW if slow else DEFAULT):
        this = case(name)
        command = [sys.executable, str(Path(__file__).resolve()), this.formula, str(this.table())]
        row: dict[str, Any] = {"case": name, "load": gauges.load()}
        row |= records.run_json([*command, str(this.table(warm=True))], limit)
        if row["status"] == "ok":
            print(
                f"{name:16s} CHOLMOD {row['cholmod_s']:.3g} s; in these units factorization "
                f"{row['factorization_ratio']:.2f}, inverse {row['inverse_ratio']:.2f}, "
                f"iteration {row['iteration_ratio']:.2f}, fit {row['fit_ratio']:.1f}; "
                f"memory {row['memory_in_L']:.1f} L",
                flush=True,
            )
            for kind in OTHERS:
                if f"{kind}_fit_s" in row:
                    steps = ", ".join(
                        f"{step} {row[f'{kind}_{step}_s'] / row['cholmod_s']:.2f}"
                        for step in ("factorization", "inverse", "fit")
                    )
                    print(f"{'':16s} by {kind}: {steps}", flush=True)
        else:
            print(f"{name:16s} {row['status']}: {row['reason']}", flush=True)
        table = records.keep("engine", [row], ["case"])
    return table


def main(formula: str, table: str, warm: str) -> None:
    from measure import read

    import fastlmm_core as fl

    fl.lmm(formula, read(warm))
    print(json.dumps(figures(formula, read(table))))


if __name__ == "__main__":
    main(*sys.argv[1:4])
