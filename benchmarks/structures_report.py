"""From results/structures.csv: the table of structured models and their goals."""

from __future__ import annotations

import pandas as pd
import records
from report_parts import found, goal_row, markdown, provenance, seconds
from structures import AGREEMENT, CASES, StructuredCase

OTHERS = ("nlme", "glmmTMB", "lme4", "pyreml")


def goals() -> pd.DataFrame:
    """Every case that promises seconds or memory."""
    measured = records.load("structures")
    rows = []
    for case in CASES:
        own = found(measured, case=case.name, program="fastlmm_core")
        if own is None or own["status"] != "ok":
            continue
        if case.seconds is not None:
            figure, met = seconds(own["cpu_s"]), bool(own["cpu_s"] <= case.seconds)
            rows.append(goal_row(case.title, figure, f"≤ {seconds(case.seconds)}", met))
        if case.memory_gb is not None:
            peak = float(own["peak_mb"]) / 1024
            goal = f"≤ {case.memory_gb:g} GB"
            rows.append(goal_row(case.title, f"{peak:.2f} GB", goal, peak <= case.memory_gb))
    return pd.DataFrame(rows)


def table() -> str:
    """Times of all programs, case by case, with where their criteria disagree."""
    measured = records.load("structures")
    rows = [row for case in CASES if (row := _row(case, measured))]
    if not rows:
        return ""
    frame = pd.DataFrame(rows)
    empty = [name for name in OTHERS if name in frame and not frame[name].astype(bool).any()]
    return f"{markdown(frame.drop(columns=empty))}\n\n{provenance(measured)}"


def _row(case: StructuredCase, measured: pd.DataFrame) -> dict[str, str]:
    own = found(measured, case=case.name, program="fastlmm_core")
    if own is None or own["status"] != "ok":
        return {}
    row = {
        "CPU time": case.title, "rows": f"{own['rows']:,.0f}", "equations": f"{own['equations']:,.0f}",
        "fastlmm_core": seconds(own["cpu_s"]), "evaluations": f"{own['evaluations']:.0f}",
        "peak memory": f"{own['peak_mb'] / 1024:.2f} GB",
    }  # fmt: skip
    for program in OTHERS:
        row[program] = _time(found(measured, case=case.name, program=program))
    return row


def _time(other: pd.Series | None) -> str:
    if other is None or other["status"] == "skipped":
        return ""
    if other["status"] == "stopped":
        return str(other["reason"]).replace("not finished after", ">")
    if other["status"] != "ok":
        return str(other["status"])
    gap = other.get("gap", float("nan"))
    above = f" ({gap:.2g} above)" if pd.notna(gap) and gap > AGREEMENT else ""
    return seconds(float(other["cpu_s"])) + above
