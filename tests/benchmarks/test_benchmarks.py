"""The benchmarks' arithmetic: tables of the promised shape, times that count only where criteria agree."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import fits  # noqa: E402
import generators  # noqa: E402
import report  # noqa: E402
import structures  # noqa: E402
import structures_report  # noqa: E402


@pytest.fixture
def measured():
    """Two exact programs of which one stops early, one inexact, one that was stopped."""
    return pd.DataFrame(
        {
            "case": ["a", "a", "a", "a", "b"],
            "program": ["fastlmm_core", "lme4", "gpboost", "mixedlm", "fastlmm_core, prepared"],
            "status": ["ok", "ok", "ok", "stopped", "ok"],
            "criterion": [100.0, 100.0 + 2e-4, 99.0, np.nan, 50.0],
        }
    )


def test_a_time_counts_only_at_the_optimum_of_the_exact_programs(measured):
    judged = fits.judge(measured)
    assert judged["counts"].tolist() == [True, False, False, False, True]
    assert judged["gap"].iloc[1] == pytest.approx(2e-4)


def test_a_lower_criterion_of_another_program_takes_our_time_away(measured):
    measured.loc[1, "criterion"] = 99.9
    assert fits.judge(measured)["counts"].tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("tested", [None, 12])
def test_trials_have_every_genotype_once_in_a_replicate(tested):
    table = generators.met_trials(30, 3, 2, 6, tested=tested)
    assert len(table) == 3 * 2 * (tested or 30)
    assert not table.duplicated(["env", "rep", "gen"]).any()
    assert table.groupby(["env", "rep", "block"], observed=True).size().eq(6).all()
    per_environment = table.groupby("env", observed=True)["gen"].nunique()
    assert per_environment.eq(tested or 30).all()


def test_ratings_are_distinct_pairs_and_nobody_is_missing():
    table = generators.zipf_ratings(4_000, 300, 150)
    assert len(table) == 4_000 and not table.duplicated(["user", "item"]).any()
    assert table["user"].nunique() == 300 and table["item"].nunique() == 150
    counts = table["item"].value_counts()
    assert counts.iloc[0] > 5 * counts.median()


def test_family_trials_have_the_asked_number_of_trees():
    table = generators.family_trials(3_000, 5, 90, 10)
    assert len(table) == 3_000 and table["trial"].nunique() == 5
    assert not table.duplicated(["trial", "block", "mother"]).any()


def test_the_bare_arithmetic_runs_on_the_systems_of_the_batch():
    """Uncompiled: it takes kernels by their arguments, and would otherwise break unseen."""
    call = (
        "import batch_floor, batch_trials as b; frame = b.alpha_trials(1, 6, 2, 3);"
        "print(*(batch_floor.arithmetic(frame, model, 1.0, 1) for model in (b.FIXED, b.RANDOM)))"
    )
    path = os.pathsep.join([str(FOLDER), str(FOLDER.parent)])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(float(value) > 0.0 for value in done.stdout.split())


def test_seeds_are_fixed():
    pd.testing.assert_frame_equal(generators.crossed_treatments(600), generators.crossed_treatments(600))


def test_tables_go_between_their_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks:fits -->\nold\n<!-- /benchmarks:fits -->\nafter\n")
    report.replace_between(page, {"fits": "| new |", "engine": "not asked for"})
    assert page.read_text() == "before\n<!-- benchmarks:fits -->\n| new |\n<!-- /benchmarks:fits -->\nafter\n"


def test_ratios_read_as_shares():
    assert [report.share(r) for r in (0.2, 1 / 850, 1.5)] == ["1/5", "1/850", "1.5 ×"]


def test_parents_of_a_herd_are_of_the_generation_before():
    pedigree, table = generators.herd(300, 3, 4, 2)
    place = {name: i for i, name in enumerate(pedigree["id"])}
    for parent, sex in (("sire", "m"), ("dam", "f")):
        known = pedigree[parent].ne("").to_numpy()
        assert known.sum() == 200 and not known[:100].any()
        at = np.array([place[name] for name in pedigree.loc[known, parent]])
        assert (table["sex"].to_numpy()[at] == sex).all()
        assert (at // 100 == np.flatnonzero(known) // 100 - 1).all()
    assert pedigree["sire"].nunique() == 2 * 4 + 1
    assert list(table.columns) == ["animal", "sex", "generation", "y1", "y2"]


def test_who_leaves_stays_away():
    table = generators.visits(60, 5, missing=0.5)
    number = table["visit"].cat.codes.groupby(table["subject"], observed=True)
    assert number.apply(lambda own: list(own) == list(range(len(own)))).all()
    assert 1 < number.size().nunique() <= 5 and table["subject"].nunique() == 60


def test_a_structured_time_says_how_far_it_is_above_the_best(monkeypatch):
    row = {"case": "visits_us", "status": "ok", "machine": "m", "python": "3", "load": 1.0, "version": "1"}
    own = {"rows": 1119.0, "equations": 12.0, "evaluations": 7.0, "peak_mb": 512.0}
    rows = [
        {**row, **own, "program": "fastlmm_core", "cpu_s": 0.012, "criterion": 10.0},
        {**row, "program": "nlme", "cpu_s": 4.0, "criterion": 10.5},
        {**row, "program": "glmmTMB", "status": "skipped", "reason": "not here"},
    ]
    table = structures.judge(pd.DataFrame(rows))
    monkeypatch.setattr(structures_report.records, "load", lambda name: table)
    lines = structures_report.table().splitlines()
    assert [cell.strip() for cell in lines[0].strip("| ").split("|")][-1] == "nlme"
    assert lines[2].endswith("| 1,119 | 12 | 12 ms | 7 | 0.50 GB | 4 s (0.5 above) |")


def test_every_goal_of_the_structured_cases_is_a_row(monkeypatch):
    rows = [
        {"case": c.name, "program": "fastlmm_core", "status": "ok", "cpu_s": 1.0, "peak_mb": 1024.0}
        for c in structures.CASES
    ]
    monkeypatch.setattr(structures_report.records, "load", lambda name: pd.DataFrame(rows))
    goals = structures_report.goals()
    promised = [c for c in structures.CASES if c.seconds is not None]
    assert len(goals) == len(promised) + sum(c.memory_gb is not None for c in structures.CASES)
    met = goals["met"].to_numpy()[: len(promised)]
    assert set(met) == {"yes", "no"}
