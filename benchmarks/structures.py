"""Relationships, several traits and repeated measures: the library beside nlme, glmmTMB, lme4 and pyreml.

``python structures.py CASE`` measures the library in one process and prints one line of JSON; the others run
the same tables by ``measure_structures.R`` and ``measure_pyreml.py``.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gauges
import generators
import numpy as np
import pandas as pd
import peers
import records
from cases import TABLES

HERE = Path(__file__).resolve().parent
# Two programs are at the same optimum where their criteria are this close.
AGREEMENT = 1e-3


@dataclass(frozen=True)
class StructuredCase:
    """One model with covariance structures.

    Attributes
    ----------
    name, title, formula : str
    make : callable
        Gives the table, or the relationship (a pedigree, or markers by line) and the table.
    residual : str
    related : "" | "pedigree" | "G" | "markers"
        What `make` gives beside the table.
    then : "" | "blups" | "kenward_roger"
        What is asked of the fit, within the time.
    programs : dict of str to "quick" | "slow"
        The others.
    slow : bool
        Only with --slow.
    seconds, memory_gb : float, optional
        Goals: CPU time of all from the tables to the answer, and the peak of the process, tables included.
    """

    name: str
    title: str
    formula: str
    make: Callable[[], Any]
    residual: str = "units"
    related: str = ""
    then: str = ""
    programs: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    seconds: float | None = None
    memory_gb: float | None = None

    def tables(self) -> list[str]:
        """Files of the table and, where there is one, of the relationship."""
        path, other = TABLES / f"structures-{self.name}.csv", TABLES / f"structures-{self.name}-related.csv"
        if not path.exists():
            TABLES.mkdir(parents=True, exist_ok=True)
            related, table = self.make() if self.related else (None, self.make())
            if related is not None:
                related.to_csv(other, index=self.related != "pedigree")
            table.to_csv(path, index=False)
        return [str(path), *([str(other)] if self.related else [])]


def long_herd(animals: int, generations: int, sires: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three traits of a herd, one row a trait."""
    pedigree, wide = generators.herd(animals, generations, sires, 3)
    own = ["animal", "sex", "generation"]
    return pedigree, wide.melt(own, ["y1", "y2", "y3"], var_name="trait", value_name="y")


TREES = "height ~ BLOC + (1 | vm(ID, A))"
ANIMAL = "y1 ~ sex + generation + (1 | vm(animal, A))"
TRAITS = "y ~ 0 + trait + trait:sex + trait:generation + us(0 + trait | vm(animal, A))"
LINES = "y ~ 1 + (1 | vm(gen, A))"
herd, lines = generators.herd, generators.genomic_lines
CASES = (
    StructuredCase(
        "progeny_210", "animal model, 210 trees, residual variances of 16 blocks",
        TREES, partial(generators.progeny_trial, 210), "units | BLOC", "pedigree",
        programs={"pyreml": "quick"},
    ),
    StructuredCase(
        "progeny_1000", "the same, 1,000 trees", TREES, generators.progeny_trial, "units | BLOC",
        "pedigree", programs={"pyreml": "slow"},
    ),
    StructuredCase(
        "visits_us", "unstructured, 200 subjects × 6 visits", "y ~ arm * visit",
        lambda: generators.visits(200, 6), "us(visit | subject)",
        programs={"nlme": "quick", "glmmTMB": "quick"},
    ),
    StructuredCase(
        "visits_us_large", "unstructured, 1,000 subjects × 10 visits", "y ~ arm * visit",
        lambda: generators.visits(1_000, 10), "us(visit | subject)",
        programs={"nlme": "slow", "glmmTMB": "slow"}, seconds=0.05,
    ),
    StructuredCase(
        "visits_kr", "the same with Kenward-Roger of all coefficients", "y ~ arm * visit",
        lambda: generators.visits(1_000, 10), "us(visit | subject)", then="kenward_roger", seconds=0.25,
    ),
    StructuredCase(
        "visits_cs", "compound symmetry, 1,000 subjects × 10 visits", "y ~ arm * visit",
        lambda: generators.visits(1_000, 10), "homcs(visit | subject)",
        programs={"nlme": "quick", "lme4": "quick", "glmmTMB": "quick"},
    ),
    StructuredCase(
        "lines_1500", "G of 1,500 lines, two records each", LINES, partial(lines, 1_500, 3_000),
        related="G", programs={"pyreml": "slow"}, seconds=0.8,
    ),
    StructuredCase(
        "lines_4000", "G of 4,000 lines, with SE, PEV and reliability", LINES, partial(lines, 4_000, 6_000),
        related="G", then="blups", slow=True, seconds=15.0,
    ),
    StructuredCase(
        "lines_by_environment", "G of 1,000 lines × 25 environments × 2, residual variance of each",
        "y ~ env + (1 | vm(gen, A)) + (1 | gen:env)", partial(lines, 1_000, 3_000, 25), "units | env", "G",
        seconds=30.0,
    ),
    StructuredCase(
        "environments_us", "unstructured over 25 environments, the same lines and plots",
        "y ~ env + us(0 + env | vm(gen, A))", partial(lines, 1_000, 3_000, 25), "units | env", "G",
        seconds=30.0,
    ),
    StructuredCase(
        "sparse_testing", "fa(1) over G, 884 lines in 14 of 24 environments each on average",
        "y ~ env + fa(0 + env | vm(gen, A), k=1)", generators.sparse_testing, "units | env", "G",
        slow=True, seconds=20.0,
    ),
    StructuredCase(
        "markers_5000", "1,500 markers of 5,000 lines, two records each", LINES,
        partial(lines, 5_000, 1_500), related="markers", slow=True,
    ),
    StructuredCase(
        "factors_300", "fa(2), 300 genotypes × 20 environments × 2 in blocks",
        "y ~ env + fa(0 + env | gen, k=2) + (1 | block)", partial(generators.factor_trials, 300, 20),
        seconds=0.4,
    ),
    StructuredCase(
        "factors_5000", "fa(2), 5,000 genotypes × 30 environments × 2 in blocks",
        "y ~ env + fa(0 + env | gen, k=2) + (1 | block)", partial(generators.factor_trials, 5_000, 30),
        slow=True,
    ),
    StructuredCase(
        "interaction_5000", "gen + gen:env in the same trials",
        "y ~ env + (1 | gen) + (1 | gen:env) + (1 | block)", partial(generators.factor_trials, 5_000, 30),
        slow=True,
    ),
    StructuredCase(
        "fields_ar1", "AR1 × AR1 of each of 20 fields of 1,000 plots, 500 genotypes",
        "y ~ env + (1 | gen) + (1 | gen:env)", partial(generators.field_trials, 20),
        "ar1(row):ar1(col) | env", seconds=6.0,
    ),
    StructuredCase(
        "animals_100000", "animal model, 100,000 animals, 100 sires a generation", ANIMAL,
        partial(herd, 100_000, 5, 100), related="pedigree",
    ),
    StructuredCase(
        "animals_million", "animal model, 10⁶ animals, 500 sires a generation", ANIMAL,
        partial(herd, 1_000_000, 5, 500), related="pedigree", slow=True, seconds=60.0, memory_gb=2.0,
    ),
    StructuredCase(
        "three_traits", "three traits of 50,000 animals, unstructured both ways", TRAITS,
        partial(long_herd, 50_000, 5, 500), "us(trait | animal)", "pedigree", slow=True, seconds=120.0,
    ),
)  # fmt: skip


def relationship(case: StructuredCase, given: pd.DataFrame) -> Any:
    """What `vm` means: a pedigree, or the covariance that the markers make."""
    from fastlmm_core import Covariance, Pedigree

    if case.related == "pedigree":
        return Pedigree(given)
    return Covariance(genomic(given), list(given.index))


def genomic(markers: pd.DataFrame) -> np.ndarray:
    """VanRaden's G with 0.01 on the diagonal, (L, L)."""
    M = markers.to_numpy(float)
    share = M.mean(axis=0) / 2.0
    Z = M - 2.0 * share
    return np.asarray(Z @ Z.T / (2.0 * np.sum(share * (1.0 - share))) + 0.01 * np.eye(len(M)))


def measure_library(case: StructuredCase) -> dict[str, Any]:
    """Time from the tables, the relationship matrix of markers at hand, to what is asked."""
    import fastlmm_core as fl

    paths = case.tables()
    table = pd.read_csv(paths[0])
    index = None if case.related == "pedigree" else 0
    given = pd.read_csv(paths[1], index_col=index) if case.related else None
    if case.related == "pedigree":
        assert given is not None
        given = given.fillna("")
    G = None if case.related != "G" or given is None else genomic(given)

    def call(known: Any = G) -> Any:
        options: dict[str, Any] = {"residual": case.residual}
        if case.related == "pedigree":
            options["relationships"] = {"A": fl.Pedigree(given)}
        elif case.related == "markers":
            assert given is not None
            options["relationships"] = {"A": fl.Markers(given.rename_axis("gen").reset_index())}
        elif case.related:
            assert given is not None
            options["relationships"] = {"A": fl.Covariance(known, list(given.index))}
        fit = fl.lmm(case.formula, table, **options)
        if case.then == "blups":
            fit.blups()
        elif case.then == "kenward_roger":
            fit.fixed_effects(ddf="kenward-roger")
        return fit

    if not case.slow:
        call()  # compiles
    fit, answer = gauges.repeated(call)
    factor = fit.prepared.factor
    return {
        **answer, "version": fl.__version__, "rows": len(table), "criterion": fit.criterion,
        "converged": bool(fit.convergence.certificate), "evaluations": fit.convergence.evaluations,
        "variances": [round(float(fit.variance_components["estimate"].iloc[0]), 4)],
        "equations": factor.size, "gflop": factor.flops / 1e9, "L_mb": factor.nnz * 8 / 2**20,
    }  # fmt: skip


def command(program: str, case: StructuredCase) -> list[str]:
    if program == "fastlmm_core":
        return [sys.executable, str(HERE / "structures.py"), case.name]
    if program == "pyreml":
        return [str(peers.interpreter()), str(HERE / "measure_pyreml.py"), case.name, *case.tables()]
    return ["Rscript", str(HERE / "measure_structures.R"), program, case.residual, *case.tables()]


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Add the gap of every criterion to the best of its case."""
    if "criterion" in table:
        table["gap"] = table["criterion"] - table.groupby("case")["criterion"].transform("min")
    return table


def run(names: list[str], slow: bool, limit: float) -> None:
    """Measure the cases, the programs of one after each other, and keep the rows."""
    for case in CASES:
        if (case.name not in names) if names else (case.slow and not slow):
            continue
        case.tables()
        others = [p for p, when in case.programs.items() if when == "quick" or slow or names]
        for program in ("fastlmm_core", *others):
            row: dict[str, Any] = {"case": case.name, "program": program, "load": gauges.load()}
            missing = "" if program == "fastlmm_core" else peers.available(program)
            row |= (
                {"status": "skipped", "reason": missing}
                if missing
                else records.run_json(command(program, case), limit)
            )
            said = (
                f"{row['cpu_s']:10.4g} CPU s"
                if row["status"] == "ok"
                else f"{row['status']}: {row['reason']}"
            )
            print(f"{case.name:22s} {program:14s} {said}", flush=True)
            records.keep("structures", [row], ["case", "program"], finish=judge)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, os.environ.get("FASTLMM_SOURCE", str(HERE.parent)))
    print(json.dumps(measure_library(next(case for case in CASES if case.name == sys.argv[1]))))
