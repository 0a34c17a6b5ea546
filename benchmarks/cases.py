"""The benchmark cases: table, formula, who is measured on it and what it has to reach."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import generators
import pandas as pd

HERE = Path(__file__).resolve().parent
TABLES = Path(os.environ.get("FASTLMM_BENCH_TABLES", HERE / ".tables"))
MET = "y ~ env + (1|gen) + (1|gen:env) + (1|env:rep) + (1|env:rep:block)"
FAMILY = "dbh ~ trial + (1|trial:block) + (1|mother) + (1|trial:mother)"

# Exact REML programs in the order of the tables; gpboost maximizes the ML likelihood, for orientation.
EXACT = ("fastlmm_core", "lme4", "glmm", "mixedlm", "lme-python", "statsmodels")
PROGRAMS = (*EXACT, "gpboost")


@dataclass(frozen=True)
class Goal:
    """What a case has to reach, as the project promises it.

    Attributes
    ----------
    of_lme4 : float, optional
        Largest CPU time as a share of lme4's in the same run.
    factorizations : float, optional
        Largest CPU time in numeric factorizations of the same equations.
    memory_gb : float, optional
        Largest peak resident size of the process.
    seconds : float, optional
        Largest CPU time.
    words : str
        The goal in words where none of these says it.
    """

    of_lme4: float | None = None
    factorizations: float | None = None
    memory_gb: float | None = None
    seconds: float | None = None
    words: str = ""


@dataclass(frozen=True)
class Case:
    """One model on one table.

    Attributes
    ----------
    name, title, formula : str
    make : callable
        Gives the table.
    warm : callable
        Gives a small table of the same shape: every program fits it once before it is timed.
    quick : tuple of str
        Programs measured in the default run.
    slow : tuple of str
        Programs measured only with --slow.
    goal : Goal
    prepared : bool
        The library is timed from a `Prepared` (response in, fit out), beside the call with formula and table.
    """

    name: str
    title: str
    formula: str
    make: Callable[[], pd.DataFrame]
    warm: Callable[[], pd.DataFrame]
    quick: tuple[str, ...] = ("fastlmm_core",)
    slow: tuple[str, ...] = ()
    goal: Goal = field(default_factory=Goal)
    prepared: bool = False

    def programs(self, slow: bool) -> tuple[str, ...]:
        return (*self.quick, *self.slow) if slow else self.quick

    def table(self, *, warm: bool = False) -> Path:
        """CSV of the table, generated when it is not there yet."""
        path = TABLES / f"{self.name}{'-warm' if warm else ''}.csv"
        if not path.exists():
            TABLES.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            (self.warm if warm else self.make)().to_csv(partial, index=False)
            partial.replace(path)
        return path


def read(path: Path | str) -> pd.DataFrame:
    """A table with its columns of text as categories in sorted order."""
    table = pd.read_csv(path)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype(str).astype("category")
    return table


def insteval() -> pd.DataFrame:
    """InstEval from where FASTLMM_INSTEVAL points or the folder of shared data, else its generated twin."""
    places = [os.environ.get("FASTLMM_INSTEVAL", "")]
    places.append(str(HERE.parent.parent / "shared" / "conformance" / "given" / "data" / "insteval.csv"))
    for place in places:
        if place and Path(place).is_file():
            return read(place)
    return generators.insteval_twin()


def sleepstudy() -> pd.DataFrame:
    return pd.read_csv(HERE.parent / "data" / "sleepstudy.csv")


def small_met() -> pd.DataFrame:
    return generators.met_trials(300, 8, seed=1)


CASES = (
    Case(
        "sleepstudy",
        "sleepstudy, random slopes (180 rows)",
        "Reaction ~ Days + (Days|Subject)",
        sleepstudy,
        sleepstudy,
        quick=EXACT,
        goal=Goal(words="from a Prepared no slower than glmm"),
        prepared=True,
    ),
    Case(
        "insteval",
        "InstEval (73,421 rows)",
        "y ~ service + (1|s) + (1|d)",
        insteval,
        lambda: generators.insteval_twin(8_000, 1_200, 500),
        quick=(*EXACT[:5], "gpboost"),
        goal=Goal(of_lme4=1 / 3),
    ),
    Case(
        "c1",
        "C1: 200 genotypes × 10 environments × 2 (4,000 plots)",
        MET,
        lambda: generators.met_trials(200, 10),
        small_met,
        quick=(*EXACT[:5], "gpboost"),
        goal=Goal(of_lme4=1 / 5),
    ),
    Case(
        "family",
        "families in 31 trials (190,000 trees)",
        FAMILY,
        generators.family_trials,
        lambda: generators.family_trials(12_000, 6, 600, 10),
        quick=("fastlmm_core",),
        slow=("lme4", "glmm", "gpboost"),
        goal=Goal(of_lme4=1 / 10),
    ),
    Case(
        "genotypes_fixed",
        "5,000 fixed genotypes (60,000 plots)",
        "y ~ gen + env + (1|env:rep) + (1|env:rep:block)",
        lambda: generators.met_trials(5_000, 6, block_size=20),
        lambda: generators.met_trials(1_500, 2, block_size=20),
        goal=Goal(seconds=10.0, words="runs, sparse, in seconds"),
    ),
    Case(
        "c2",
        "C2: 2,000 genotypes × 15 environments × 2 (60,000 plots)",
        MET,
        lambda: generators.met_trials(2_000, 15),
        small_met,
        quick=("fastlmm_core",),
        slow=("lme4", "glmm", "mixedlm", "gpboost"),
        goal=Goal(of_lme4=1 / 15),
    ),
    Case(
        "ratings",
        "crossed ratings, Zipf (1,000,000 rows, 6,000 × 3,700)",
        "y ~ 1 + (1|user) + (1|item)",
        generators.zipf_ratings,
        lambda: generators.zipf_ratings(30_000, 1_200, 600),
        slow=("lme4", "glmm", "mixedlm", "gpboost"),
        goal=Goal(factorizations=40.0, memory_gb=4.0),
    ),
    Case(
        "sparse_testing",
        "sparse testing: 2,500 of 5,000 genotypes × 20 × 2 (100,000 plots)",
        MET,
        lambda: generators.met_trials(5_000, 20, tested=2_500),
        small_met,
        quick=(),
        slow=("fastlmm_core", "lme4", "glmm", "gpboost"),
        goal=Goal(of_lme4=1 / 15),
    ),
    Case(
        "large_met",
        "5,000 genotypes × 20 environments × 2 (200,000 plots)",
        MET,
        lambda: generators.met_trials(5_000, 20),
        small_met,
        quick=(),
        slow=("fastlmm_core",),
        goal=Goal(factorizations=40.0, memory_gb=24.0),
    ),
)


def case(name: str) -> Case:
    for found in CASES:
        if found.name == name:
            return found
    raise SystemExit(f"no case '{name}'; known: {', '.join(c.name for c in CASES)}")
