"""What the reports of all measurements share: rows of results, goals, times as people read them, Markdown."""

from __future__ import annotations

import pandas as pd


def seconds(value: float) -> str:
    """A time as people read it."""
    if value < 0.1:
        return f"{value * 1e3:.2g} ms" if value < 0.01 else f"{value * 1e3:.0f} ms"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def found(table: pd.DataFrame, **where: str) -> pd.Series | None:
    """The row with these values, or None."""
    if table.empty:
        return None
    for column, value in where.items():
        table = table[table[column] == value]
    return None if table.empty else table.iloc[-1]


def goal_row(what: str, figure: str, goal: str, met: bool | None) -> dict[str, str]:
    return {
        "what": what,
        "measured": figure,
        "goal": goal,
        "met": "-" if met is None else "yes" if met else "no",
    }


def markdown(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(str(v) for v in row) + " |" for row in table.to_numpy()]
    return "\n".join(lines)


def provenance(table: pd.DataFrame) -> str:
    """Machine, versions and load of the rows, in a sentence."""
    done = table[table["status"] == "ok"]
    versions = done.dropna(subset=["version"]).drop_duplicates("program", keep="last")
    named = "; ".join(
        f"{program} {version}"
        for program, version in zip(versions["program"], versions["version"], strict=True)
        if "," not in program
    )
    machine = ", ".join(sorted(set(done["machine"])))
    return (
        f"{machine}; Python {done['python'].iloc[-1]}; {named}. Load average at the start of a measurement: "
        f"{done['load'].min():.1f} to {done['load'].max():.1f}."
    )
