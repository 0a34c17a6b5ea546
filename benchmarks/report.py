"""From the result CSVs: goals and ratios, tables in Markdown between markers, plots."""

from __future__ import annotations

import re
from pathlib import Path

import batch_report
import pandas as pd
import plots
import records
import structures_report
from cases import CASES, EXACT, PROGRAMS, Case
from engine import GOALS
from kenward_roger import TASKS
from report_parts import found, goal_row, markdown, provenance, seconds

ROOT = Path(__file__).resolve().parent.parent
OTHERS = [program for program in PROGRAMS if program != "fastlmm_core"]
ENGINE_CASES = ("c2", "large_met")  # where the engine's goals are promised
KR_RATIO = {"crossed_6000": 1 / 500, "trial_means": 5 / 239, "trial_pairs": 60 / 3800}
KR_FIT = {"c2_environments": 1.5, "genotypes_2000": 5.0}


def write(readme: bool = False) -> None:
    """Write summary.csv, docs/performance.md's tables, the plots and, when asked, README.md's table."""
    parts = [fit_goals(), engine_goals(), inference_goals(), structures_report.goals(), batch_report.goals()]
    goals = pd.concat(parts, ignore_index=True)
    records.RESULTS.mkdir(parents=True, exist_ok=True)
    goals.to_csv(records.RESULTS / "summary.csv", index=False)
    print(goals.to_string(index=False))
    tables = {
        "fits": fits_table(),
        "engine": engine_table(),
        "kenward_roger": inference_table(),
        "structures": structures_report.table(),
        "batch": batch_report.table(),
        "goals": markdown(goals),
    }
    replace_between(ROOT / "docs" / "performance.md", tables)
    replace_between(ROOT / "docs" / "relationships.md", {"structures": tables["structures"]})
    replace_between(ROOT / "docs" / "kenward_roger.md", {"kenward_roger_growth": inference_growth_table()})
    if readme:
        replace_between(
            ROOT / "README.md", {"fits": tables["fits"], "kenward_roger": tables["kenward_roger"]}
        )
    plots.draw(ROOT / "docs")


def replace_between(path: Path, tables: dict[str, str]) -> None:
    """Put each table between its markers ``<!-- benchmarks:NAME -->`` and ``<!-- /benchmarks:NAME -->``."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- benchmarks:{name} -->\n).*?(<!-- /benchmarks:{name} -->)"
        around = re.compile(pattern, flags=re.S).search(text)
        if around is not None:
            text = text[: around.end(1)] + table + "\n" + text[around.start(2) :]
    path.write_text(text, encoding="utf-8")


def share(ratio: float) -> str:
    if ratio >= 1:
        return f"{ratio:.2g} ×"
    return f"1/{1 / ratio:,.0f}" if ratio < 0.02 else f"1/{1 / ratio:.2g}"


def counted(row: pd.Series | None) -> float | None:
    """CPU seconds of a row whose criterion agrees."""
    return float(row["cpu_s"]) if row is not None and row["status"] == "ok" and bool(row["counts"]) else None


# ------------------------------------------------------------------ goals ----


def fit_goals() -> pd.DataFrame:
    """Every fit's goals: its own, and to be ahead of every exact program."""
    table, engine = records.load("fits"), records.load("engine")
    rows = []
    for case in CASES:
        own = counted(found(table, case=case.name, program="fastlmm_core"))
        if own is None:
            continue
        if case.prepared:
            own = counted(found(table, case=case.name, program="fastlmm_core, prepared")) or own
        rows += [*relative_goals(case, own, table), *absolute_goals(case, own, table, engine)]
    return pd.DataFrame(rows)


def relative_goals(case: Case, own: float, table: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    lme4 = found(table, case=case.name, program="lme4")
    if case.goal.of_lme4 is not None and lme4 is not None and lme4["status"] == "ok":
        ratio = own / float(lme4["cpu_s"])
        # an optimizer that stops early would need longer: its time is a lower bound
        early = "" if bool(lme4["counts"]) else f" (which stops {lme4['gap']:.1e} above the optimum)"
        goal = f"≤ {share(case.goal.of_lme4)} of lme4"
        rows.append(goal_row(case.title, share(ratio) + early, goal, ratio <= case.goal.of_lme4))
    elif case.goal.of_lme4 is not None and lme4 is not None and lme4["status"] == "stopped":
        figure = f"{seconds(own)}; lme4 {lme4['reason']}"
        rows.append(goal_row(case.title, figure, f"≤ {share(case.goal.of_lme4)} of lme4", None))
    times = {p: counted(found(table, case=case.name, program=p)) for p in EXACT[1:]}
    exact = {p: t for p, t in times.items() if t is not None}
    if exact:
        best = min(exact, key=lambda p: exact[p])
        figure = f"{share(own / exact[best])} of {best}"
        goal = case.goal.words if case.prepared else "ahead of every exact program"
        rows.append(goal_row(case.title, figure, goal, own < exact[best]))
    return rows


def absolute_goals(case: Case, own: float, table: pd.DataFrame, engine: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    at = found(engine, case=case.name)
    if case.goal.factorizations is not None and at is not None and at["status"] == "ok":
        ratio = float(at["fit_ratio"])
        goal = f"≤ {case.goal.factorizations:.0f} factorizations"
        rows.append(goal_row(case.title, f"{ratio:.1f}", goal, ratio <= case.goal.factorizations))
    if case.goal.memory_gb is not None:
        peak = float(found(table, case=case.name, program="fastlmm_core")["peak_mb"]) / 1024  # type: ignore[index]
        goal = f"below {case.goal.memory_gb:.0f} GB"
        rows.append(goal_row(case.title, f"{peak:.2f} GB", goal, peak < case.goal.memory_gb))
    if case.goal.seconds is not None:
        rows.append(
            goal_row(case.title, seconds(own), f"≤ {case.goal.seconds:.0f} s", own <= case.goal.seconds)
        )
    return rows


def engine_goals() -> pd.DataFrame:
    table = records.load("engine")
    rows = []
    for name in ENGINE_CASES:
        at = found(table, case=name)
        if at is None or at["status"] != "ok":
            continue
        words = {"inverse": "inverse subset", "iteration": "one iteration", "fit": "whole fit"}
        for figure, goal in GOALS.items():
            if figure == "fit" and name != "c2":
                continue
            ratio = float(at[f"{figure}_ratio"])
            rows.append(
                goal_row(
                    f"{name}: {words[figure]}", f"{ratio:.2f} factorizations", f"≤ {goal:g}", ratio <= goal
                )
            )
        copies = float(at["memory_in_L"])
        rows.append(goal_row(f"{name}: peak memory", f"{copies:.1f} × L", "≤ 4 × L + data", copies <= 4))
    return pd.DataFrame(rows)


def inference_goals() -> pd.DataFrame:
    table = records.load("kenward_roger")
    rows = []
    for task in TASKS:
        own = found(table, task=task.name, program="fastlmm_core")
        other = found(table, task=task.name, program="pbkrtest, emmeans")
        if own is None or not task.goal:
            continue
        if own["status"] != "ok":
            rows.append(goal_row(task.title, str(own["reason"]), task.goal, False))
        elif task.name in KR_FIT:
            ratio = float(own["cpu_s"]) / float(own["fit_s"])
            rows.append(goal_row(task.title, f"{ratio:.2f} × the fit", task.goal, ratio <= KR_FIT[task.name]))
        elif task.name in KR_RATIO and other is not None and other["status"] == "ok":
            ratio = float(own["cpu_s"]) / float(other["cpu_s"])
            figure, met = f"{seconds(own['cpu_s'])}, {share(ratio)} of R", ratio <= KR_RATIO[task.name]
            goal = f"{task.goal} (≤ {share(KR_RATIO[task.name])} of R)" if "ms" in task.goal else task.goal
            if "500 MB" in task.goal:
                figure, met = f"{figure}, {own['peak_mb']:.0f} MB", met and float(own["peak_mb"]) < 500
            rows.append(goal_row(task.title, figure, goal, met))
        elif task.goal == "completes":
            rows.append(goal_row(task.title, seconds(own["cpu_s"]), task.goal, True))
    return pd.DataFrame(rows)


# ----------------------------------------------------------------- tables ----


def cell(row: pd.Series | None, program: str) -> str:
    """What a program did on a case: its CPU time, or why there is none."""
    if row is None:
        return ""
    if row["status"] == "stopped":
        return "> " + re.sub(r".*after ", "", str(row["reason"]))
    if row["status"] != "ok":
        return str(row["status"])
    time = seconds(float(row["cpu_s"]))
    if program == "gpboost":
        return f"({time})"
    return time if bool(row["counts"]) else f"({time}; {row['gap']:.2g} above)"


def fits_table() -> str:
    table = records.load("fits")
    rows = []
    for case in CASES:
        if table.empty or case.name not in set(table["case"]):
            continue
        own = found(table, case=case.name, program="fastlmm_core")
        row = {"CPU time of a fit": case.title, "fastlmm_core": cell(own, "fastlmm_core")}
        prepared = found(table, case=case.name, program="fastlmm_core, prepared")
        if prepared is not None:
            row["fastlmm_core"] += f", prepared {cell(prepared, 'fastlmm_core')}"
        row |= {program: cell(found(table, case=case.name, program=program), program) for program in OTHERS}
        row["our peak memory"] = (
            f"{float(own['peak_mb']) / 1024:.2f} GB" if own is not None and own["status"] == "ok" else ""
        )
        rows.append(row)
    return markdown(pd.DataFrame(rows)) + ("\n\n" + provenance(table) if rows else "")


def engine_table() -> str:
    table = records.load("engine")
    if table.empty:
        return ""
    table = table[table["status"] == "ok"]
    rows = [
        {
            "model": r["case"],
            "equations": f"{r['equations']:,.0f}",
            "L, million entries": f"{r['L_entries'] / 1e6:.1f}",
            "GFLOP": f"{r['gflop']:.3g}",
            "ordering": r["ordering"],
            "CHOLMOD": seconds(r["cholmod_s"]),
            "factorization": f"{r['factorization_ratio']:.2f}",
            "inverse subset": f"{r['inverse_ratio']:.2f}",
            "one iteration": f"{r['iteration_ratio']:.2f}",
            "evaluations": f"{r['evaluations']:.0f}",
            "prepare": seconds(r["prepare_s"]),
            "whole fit": f"{r['fit_ratio']:.1f}",
            "memory, copies of L": f"{r['memory_in_L']:.1f}",
            **{
                f"factorization, inverse, fit {by}": other_steps(r, kind)
                for kind, by in (("cholmod", "by CHOLMOD"), ("simplicial", "by columns"))
                if f"{kind}_fit_s" in table
            },
        }
        for _, r in table.iterrows()
    ]
    return markdown(pd.DataFrame(rows))


def other_steps(row: pd.Series, kind: str) -> str:
    """Steps of another factorization in the unit of the table; empty where it was not run."""
    steps = [row[f"{kind}_{step}_s"] / row["cholmod_s"] for step in ("factorization", "inverse", "fit")]
    return "" if pd.isna(steps).any() else ", ".join(f"{step:.3g}" for step in steps)


def inference_growth_table() -> str:
    """Time and memory of Kenward-Roger as rows, variance parameters and contrasts grow."""
    table = records.load("kenward_roger")
    rows = []
    for task in TASKS:
        own = found(table, task=task.name, program="fastlmm_core")
        if not (task.over or task.name.startswith("crossed_")) or own is None or own["status"] != "ok":
            continue
        other = found(table, task=task.name, program="pbkrtest, emmeans")
        rows.append(
            {
                "question": task.title,
                "fit": seconds(own["fit_s"]),
                "then Kenward-Roger": seconds(own["cpu_s"]),
                "it adds to the memory": f"{max(own['peak_mb'] - own['base_mb'], 0):.0f} MB",
                "pbkrtest": "" if other is None or other["status"] != "ok" else seconds(other["cpu_s"]),
            }
        )
    return markdown(pd.DataFrame(rows))


def inference_table() -> str:
    table = records.load("kenward_roger")
    rows = []
    for task in TASKS:
        if task.over:
            continue
        own = found(table, task=task.name, program="fastlmm_core")
        if own is None or own["status"] != "ok":
            continue
        other = found(table, task=task.name, program="pbkrtest, emmeans")
        there = other is not None and other["status"] == "ok"
        theirs = "" if other is None else seconds(other["cpu_s"]) if there else str(other["status"])
        close = "" if pd.isna(own.get("df_difference", float("nan"))) else f"{own['df_difference']:.0e}"
        rows.append(
            {
                "Kenward-Roger": task.title,
                "the fit": seconds(own["fit_s"]),
                "fastlmm_core": seconds(own["cpu_s"]),
                "pbkrtest, emmeans": theirs,
                "ratio": share(own["cpu_s"] / other["cpu_s"]) if there and other is not None else "",
                "largest relative difference in df": close,
                "our peak memory": f"{own['peak_mb'] / 1024:.2f} GB",
                "theirs": f"{other['peak_mb'] / 1024:.2f} GB" if there and other is not None else "",
            }
        )
    return markdown(pd.DataFrame(rows))
