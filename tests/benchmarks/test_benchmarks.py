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
