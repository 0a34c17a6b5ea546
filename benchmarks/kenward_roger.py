"""Kenward-Roger side by side with pbkrtest and emmeans.

``python kenward_roger.py TASK TABLE`` measures the library in one process and prints one line of JSON,
``Rscript measure_kenward_roger.R TASK TABLE OUT`` measures R; `run` compares the figures of both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gauges
import generators
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
CROSSED = "y ~ trt + (1|gen) + (1|loc) + (1|gen:loc)"
MET = "y ~ env + (1|gen) + (1|gen:env) + (1|env:rep) + (1|env:rep:block)"
FIXED = "y ~ gen + env + (1|gen:env) + (1|env:rep) + (1|env:rep:block)"
TRIAL = "y ~ gen + (1|rep) + (1|rep:block)"
# random terms of the crossed table, one more each time
CROSSED_TERMS = ("(1|gen)", "(1|loc)", "(1|gen:loc)", "(1|loc:trt)", "(1|gen:trt)")
GENOTYPES = "y ~ gen + trt + (1|loc) + (1|gen:loc)"


@dataclass(frozen=True)
class Task:
    """One question asked of a fit.

    Attributes
    ----------
    name, title, formula : str
    make : callable
        Gives the table.
    ask : str
        Key of `QUESTIONS`.
    factor : str
        The factor whose means are asked for.
    in_r : "quick" | "slow" | ""
        When R is asked as well; "" where it cannot answer.
    slow : bool
        Only with --slow.
    goal : str
        The project's promise in words.
    over : "" | "rows" | "parameters" | "contrasts"
        What grows, for the tasks that show growth.
    step : int
        How much of it there is.
    """

    name: str
    title: str
    formula: str
    make: Callable[[], pd.DataFrame]
    ask: str
    factor: str = ""
    in_r: str = ""
    slow: bool = False
    goal: str = ""
    over: str = ""
    step: int = 0


TASKS = (
    Task(
        "trial_means",
        "180 plots: 60 genotype means",
        TRIAL,
        generators.one_trial,
        "means",
        "gen",
        "quick",
        goal="at most 5 ms",
    ),
    Task(
        "trial_pairs",
        "180 plots: 1,770 Tukey pairs",
        TRIAL,
        generators.one_trial,
        "pairs",
        "gen",
        "quick",
        goal="at most 60 ms",
    ),
    Task(
        "crossed_1500",
        "crossed, 1,500 rows: coefficients",
        CROSSED,
        lambda: generators.crossed_treatments(1_500),
        "coefficients",
        in_r="quick",
    ),
    Task(
        "crossed_3000",
        "crossed, 3,000 rows: coefficients",
        CROSSED,
        lambda: generators.crossed_treatments(3_000),
        "coefficients",
        in_r="slow",
    ),
    Task(
        "crossed_6000",
        "crossed, 6,000 rows: coefficients",
        CROSSED,
        lambda: generators.crossed_treatments(6_000),
        "coefficients",
        in_r="slow",
        goal="at most 1/500 of pbkrtest's time, below 500 MB",
    ),
    Task(
        "c2_environments",
        "C2, 60,000 plots: 15 environment means and their pairs",
        MET,
        lambda: generators.met_trials(2_000, 15),
        "pairs",
        "env",
        goal="at most 1.5 × the fit's time",
    ),
    Task(
        "genotypes_2000",
        "2,000 fixed genotypes, 60,000 plots: all means",
        FIXED,
        lambda: generators.met_trials(2_000, 15),
        "means",
        "gen",
        slow=True,
        goal="at most 5 × the fit's time",
    ),
    Task(
        "large_environments",
        "200,000 plots: 20 environment means and their pairs",
        MET,
        lambda: generators.met_trials(5_000, 20),
        "pairs",
        "env",
        slow=True,
        goal="completes",
    ),
    *(
        Task(
            f"rows_{n}",
            f"crossed, {n:,} rows: coefficients",
            CROSSED,
            partial(generators.crossed_treatments, n),
            "coefficients",
            over="rows",
            step=n,
        )
        for n in (12_000, 24_000, 60_000)
    ),
    *(
        Task(
            f"parameters_{count + 1}",
            f"crossed, 6,000 rows, {count + 1} variance parameters: coefficients",
            " + ".join(("y ~ trt", *CROSSED_TERMS[:count])),
            partial(generators.crossed_treatments, 6_000),
            "coefficients",
            over="parameters",
            step=count + 1,
        )
        for count in range(1, len(CROSSED_TERMS) + 1)
    ),
    *(
        Task(
            f"contrasts_{count}",
            f"crossed, 60,000 rows, genotypes fixed: {count:,} of the coefficients jointly",
            GENOTYPES,
            partial(generators.crossed_treatments, 60_000),
            "coefficients",
            str(count),
            over="contrasts",
            step=count,
        )
        for count in (1, 10, 100, 300, 1_000)
    ),
)


def coefficients(fit: Any, count: str) -> pd.DataFrame:
    """All coefficients, or the first `count`."""
    p = len(fit.coef_names)
    functions = fit.linear_functions(np.eye(p)[: int(count or p)], ddf="kenward-roger")
    return pd.DataFrame({"estimate": functions.estimate, "se": functions.se(), "df": functions.df()})


def means(fit: Any, factor: str) -> pd.DataFrame:
    return fit.emmeans(factor).to_frame()


def pairs(fit: Any, factor: str) -> pd.DataFrame:
    return fit.emmeans(factor).contrast("pairwise").to_frame()


QUESTIONS: dict[str, Callable[[Any, str], pd.DataFrame]] = {
    "coefficients": coefficients,
    "means": means,
    "pairs": pairs,
}


def measure(task: Task, table: Path, out: Path) -> dict[str, Any]:
    """CPU seconds of the fit and of the question on a fit that has answered nothing yet."""
    from measure import read

    import fastlmm_core as fl

    data = read(str(table))
    question = QUESTIONS[task.ask]
    warm = (
        generators.one_trial(12)
        if task.formula == TRIAL
        else generators.crossed_treatments(900)
        if task.over
        else data.sample(min(len(data), 900), random_state=1)
    )
    question(fl.lmm(task.formula, warm), task.factor)
    gauges.reset_peak()
    fit, fit_s, _ = gauges.timed(lambda: fl.lmm(task.formula, data))
    if fit_s < 1.0 or task.over:  # a first call of its size loads kernels, which R's is spared as well
        fit, fit_s, _ = gauges.timed(lambda: fl.lmm(task.formula, data))
    fit_peak = gauges.resident_mb("VmHWM")
    base = gauges.resident_mb()
    gauges.reset_peak()
    answer, seconds, wall = gauges.timed(lambda: question(fit, task.factor))
    times = [(seconds, wall)]
    while sum(t[0] for t in times) < 1.0 and len(times) < 30:
        fresh = fit.refit(fit.design.y)
        times.append(gauges.timed(partial(question, fresh, task.factor))[1:])
    if len(times) > 2:
        times = times[1:]
    names = [name for name in ("estimate", "se", "df", "p", "lower", "upper") if name in answer]
    answer[names].to_csv(out, index=False)
    return {
        "rows": len(data),
        "answers": len(answer),
        "cpu_s": float(np.median([t[0] for t in times])),
        "wall_s": float(np.median([t[1] for t in times])),
        "repeats": len(times),
        "fit_s": fit_s,
        "base_mb": base,
        "peak_mb": gauges.resident_mb("VmHWM"),
        "fit_peak_mb": fit_peak,
    }


def table_of(task: Task) -> Path:
    from cases import TABLES

    shared = {"parameters": "crossed_6000", "contrasts": "rows_60000"}  # questions on one and the same table
    name = shared.get(task.over, task.name)
    path = TABLES / f"kr-{name}.csv"
    if not path.exists():
        TABLES.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".partial")
        task.make().to_csv(unfinished, index=False)
        unfinished.replace(path)
    return path


def difference(ours: Path, theirs: Path) -> dict[str, float]:
    """Largest relative difference of SE and df, and the largest absolute one of p."""
    a, b = pd.read_csv(ours), pd.read_csv(theirs)
    out = {f"{name}_difference": float(np.max(np.abs(a[name] / b[name] - 1.0))) for name in ("se", "df")}
    if "p" in a and "p" in b:
        out["p_difference"] = float(np.max(np.abs(a["p"] - b["p"])))
    return out


def run(names: list[str], slow: bool, limit: float) -> pd.DataFrame:
    """Every task in processes of its own, R right after the library."""
    import peers
    import records

    table = pd.DataFrame()
    for task in TASKS:
        if (names and task.name not in names) or (not names and task.slow and not slow):
            continue
        data = str(table_of(task))
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "ours.csv", Path(folder) / "theirs.csv"
            start = {"task": task.name, "load": gauges.load()}
            own = [sys.executable, str(Path(__file__).resolve()), task.name, data, str(ours)]
            rows = [{**start, "program": "fastlmm_core", **records.run_json(own, limit)}]
            if task.in_r:
                rows.append(
                    {**start, "program": "pbkrtest, emmeans", **in_r(task, data, theirs, slow, limit, peers)}
                )
                if rows[0]["status"] == rows[1]["status"] == "ok":
                    rows[0] |= difference(ours, theirs)
        for row in rows:
            said = (
                f"{row['cpu_s']:10.4g} CPU s"
                if row["status"] == "ok"
                else f"{row['status']}: {row['reason']}"
            )
            print(f"{task.name:20s} {row['program']:20s} {said}", flush=True)
        table = records.keep("kenward_roger", rows, ["task", "program"])
    return table


def in_r(task: Task, data: str, out: Path, slow: bool, limit: float, peers: Any) -> dict[str, Any]:
    import records

    if task.in_r == "slow" and not slow:
        return {"status": "skipped", "reason": "only with SLOW=1"}
    if not peers.r_has("lme4", "pbkrtest", "emmeans", "jsonlite"):
        return {"status": "skipped", "reason": "R with lme4, pbkrtest, emmeans and jsonlite is not installed"}
    script = str(HERE / "measure_kenward_roger.R")
    return records.run_json(
        ["Rscript", script, task.formula, data, task.ask, task.factor or "-", str(out)], limit
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = next(task for task in TASKS if task.name == sys.argv[1])
    print(json.dumps(measure(chosen, Path(sys.argv[2]), Path(sys.argv[3]))))
