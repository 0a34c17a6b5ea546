"""Whole fits, program by program, each in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gauges
import pandas as pd
import peers
import records
from cases import CASES, EXACT, Case

HERE = Path(__file__).resolve().parent
# A time counts only where the REML criterion is this close to the best of the exact programs.
AGREEMENT = 1e-4


def command(program: str, case: Case) -> list[str]:
    tables = [str(case.table()), str(case.table(warm=True))]
    if program == "lme4":
        return ["Rscript", str(HERE / "measure_lme4.R"), case.formula, *tables]
    own = program.startswith("fastlmm_core")
    return [
        sys.executable if own else str(peers.interpreter()),
        str(HERE / "measure.py"),
        program,
        case.formula,
        *tables,
    ]


def measure(program: str, case: Case, limit: float) -> dict[str, Any]:
    """One row of fits.csv."""
    row: dict[str, Any] = {"case": case.name, "program": program, "load": gauges.load()}
    missing = "" if program.startswith("fastlmm_core") else peers.available(program)
    if missing:
        return {**row, "status": "skipped", "reason": missing}
    return row | records.run_json(command(program, case), limit)


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Add the gap of every criterion to the best exact one of its case, and whether the time counts."""
    table = table.reindex(columns=table.columns.union(["criterion"], sort=False))
    exact = table["program"].str.split(",").str[0].isin(EXACT) & (table["status"] == "ok")
    best = table["criterion"].where(exact).groupby(table["case"]).transform("min")
    table["gap"] = table["criterion"] - best
    table["counts"] = exact & (table["gap"] <= AGREEMENT)
    return table


def run(names: list[str], slow: bool, limit: float, programs: list[str] | None = None) -> pd.DataFrame:
    """Measure the cases and keep the rows; the programs follow each other, so that a ratio is of one run."""
    table = pd.DataFrame()
    for case in CASES:
        if names and case.name not in names:
            continue
        asked = [p for p in case.programs(slow or bool(names)) if programs is None or p in programs]
        if case.prepared and "fastlmm_core" in asked:
            asked.insert(1, "fastlmm_core, prepared")
        for program in asked:
            row = measure(program, case, limit)
            said = (
                f"{row['cpu_s']:10.4g} CPU s"
                if row["status"] == "ok"
                else f"{row['status']}: {row['reason']}"
            )
            print(f"{case.name:16s} {program:24s} {said}", flush=True)
            table = records.keep("fits", [row], ["case", "program"], finish=judge)
    return table
