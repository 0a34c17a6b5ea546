#!/usr/bin/env python3
"""Speed gate: `make gate` measures the short benchmarks again and fails where one got slower.

Nothing is timed here: `run.py` measures, into a folder of its own. Its tables and those of benchmarks/results
are read as ratios to a reference that was timed in the same run (CHOLMOD's factorization of the same matrix;
the bare arithmetic of small fits), so that the speed of the machine cancels. A figure fails when its ratio is
above the recorded one by more than is allowed; what fails is measured once more before it counts.

Between processors of two makes it does not cancel: CHOLMOD and our kernels call different versions of BLAS,
which choose their instructions by the processor. A figure recorded on another is shown, and fails nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
ALLOWED = 1.25  # of the recorded ratio

Place = tuple[str, dict[str, str], str]  # table, the row by its keys, column


@dataclass(frozen=True)
class Figure:
    """A time, the reference it is divided by, and the part of `run.py` that measures it.

    Attributes
    ----------
    name : str
    place, reference : Place
        Where the two stand in the result tables, in the same unit.
    scale : float
        Factor from the unit of `place` to that of `reference`.
    """

    name: str
    place: Place
    reference: Place
    scale: float = 1.0


def _batch(part: str, task: str, column: str = "ms") -> Place:
    return "batch", {"part": part, "task": task}, column


def _engine(column: str) -> Place:
    return "engine", {"case": "c2"}, column


FIXED = _batch("floor", "alpha 60x3, genotypes fixed: fit", "other_ms")
RANDOM = _batch("floor", "alpha 60x3, genotypes random: fit", "other_ms")
FIGURES = (
    Figure("batch: a fit, genotypes fixed", _batch("floor", "alpha 60x3, genotypes fixed: fit"), FIXED),
    Figure("batch: a fit, genotypes random", _batch("floor", "alpha 60x3, genotypes random: fit"), RANDOM),
    Figure("batch: 60 Kenward-Roger means", _batch("alpha", "alpha 60x3, means"), FIXED),
    Figure("batch: BLUPs with PEV", _batch("alpha", "alpha 60x3, blups"), RANDOM),
    Figure(
        "sleepstudy, prepared",
        ("fits", {"case": "sleepstudy", "program": "fastlmm_core, prepared"}, "cpu_s"),
        FIXED,
        1e3,
    ),
    Figure(
        "a trial: 60 Kenward-Roger means",
        ("kenward_roger", {"task": "trial_means", "program": "fastlmm_core"}, "cpu_s"),
        FIXED,
        1e3,
    ),
    Figure("C2: factorization", _engine("factorization_s"), _engine("cholmod_s")),
    Figure("C2: inverse subset", _engine("inverse_s"), _engine("cholmod_s")),
    Figure("C2: one iteration", _engine("iteration_s"), _engine("cholmod_s")),
    Figure("C2: whole fit", _engine("fit_s"), _engine("cholmod_s")),
)
# What `run.py` is called with.
RUNS = (
    ("batch", "--case", "floor", "--case", "alpha"),
    ("fits", "--case", "sleepstudy", "--program", "fastlmm_core"),
    ("kenward_roger", "--case", "trial_means"),
    ("engine", "--case", "c2"),
)


def entry_at(folder: Path, place: Place) -> Any:
    """What is at a place of the result tables in a folder; NaN when it is not there."""
    table, where, column = place
    path = folder / f"{table}.csv"
    if not path.exists():
        return np.nan
    rows = pd.read_csv(path)
    for key, wanted in where.items():
        rows = rows[rows[key] == wanted]
    return rows[column].iloc[-1] if len(rows) and column in rows else np.nan


def value_at(folder: Path, place: Place) -> float:
    """The number at a place of the result tables in a folder; NaN when it is not there."""
    return float(entry_at(folder, place))


def machines(folder: Path) -> dict[str, tuple[str, str]]:
    """Where every figure and its reference were measured."""

    def machine(place: Place) -> str:
        return str(entry_at(folder, (*place[:2], "machine")))

    return {figure.name: (machine(figure.place), machine(figure.reference)) for figure in FIGURES}


def measured_elsewhere(recorded: Path, fresh: Path) -> set[str]:
    """Figures that were recorded on another machine than they were measured on."""
    before, now = machines(recorded), machines(fresh)
    return {name for name in before if before[name] != now[name] and "nan" not in now[name]}


def ratios(folder: Path) -> dict[str, float]:
    """Ratio to its reference of every figure, from the tables of one run."""
    return {
        figure.name: figure.scale * value_at(folder, figure.place) / value_at(folder, figure.reference)
        for figure in FIGURES
    }


def compare(
    recorded: dict[str, float],
    fresh: dict[str, float],
    allowed: float = ALLOWED,
    elsewhere: Collection[str] = (),
) -> pd.DataFrame:
    """figure, recorded, fresh, change, verdict: ok, slower, other machine, not measured or no record.

    `recorded` and `fresh` are ratios by name, NaN for what is missing; those of `elsewhere` were recorded on
    another machine. A figure that has a record and was not measured fails the gate, as what stands still is
    not seen to be slow.
    """
    rows = []
    for name, before in recorded.items():
        now = fresh.get(name, np.nan)
        if np.isnan(before):
            verdict = "no record"
        elif np.isnan(now):
            verdict = "not measured"
        else:
            slower = "other machine" if name in elsewhere else "slower"
            verdict = slower if now > allowed * before else "ok"
        rows.append(
            {"figure": name, "recorded": before, "fresh": now, "change": now / before, "verdict": verdict}
        )
    return pd.DataFrame(rows)


def failed(table: pd.DataFrame) -> list[str]:
    """Names of the figures for which the gate closes."""
    return table.loc[table["verdict"].isin(["slower", "not measured"]), "figure"].tolist()


def runs_for(names: list[str]) -> list[tuple[str, ...]]:
    """The runs that measure these figures; tables of numerator and reference alike."""
    tables = {place[0] for f in FIGURES if f.name in names for place in (f.place, f.reference)}
    return [run for run in RUNS if run[0] in tables]


def measure(runs: list[tuple[str, ...]], folder: Path) -> None:
    """`run.py` with its results in a folder."""
    environment = {**os.environ, "FASTLMM_BENCH_RESULTS": str(folder)}
    for run in runs:
        subprocess.run([sys.executable, str(HERE / "run.py"), *run], env=environment, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--allowed", type=float, default=ALLOWED, help="largest fresh / recorded ratio")
    asked = parser.parse_args()
    recorded = ratios(HERE / "results")
    with tempfile.TemporaryDirectory() as folder:
        measure(list(RUNS), Path(folder))
        fresh, elsewhere = ratios(Path(folder)), measured_elsewhere(HERE / "results", Path(folder))
    again = failed(compare(recorded, fresh, asked.allowed, elsewhere))
    if again:
        with tempfile.TemporaryDirectory() as folder:
            measure(runs_for(again), Path(folder))
            second = ratios(Path(folder))
        fresh = {name: float(np.fmin(value, second[name])) for name, value in fresh.items()}
    table = compare(recorded, fresh, asked.allowed, elsewhere)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    slow = failed(table)
    for name in slow:
        row = table.set_index("figure").loc[name]
        print(
            f"{name}: {row['verdict']}, {row['fresh']:.3g} of its reference instead of {row['recorded']:.3g}"
        )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
