"""The logic of the speed gate, on tables made up here; nothing is timed."""

import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import gate  # noqa: E402
import run  # noqa: E402


@pytest.fixture
def results(tmp_path):
    """A copy of the recorded tables that a test may change."""
    for table in ("batch", "engine", "fits", "kenward_roger"):
        shutil.copy(FOLDER / "results" / f"{table}.csv", tmp_path)
    return tmp_path


def multiply(folder, table, factor, columns, **where):
    path = folder / f"{table}.csv"
    frame = pd.read_csv(path)
    rows = np.logical_and.reduce([frame[key] == value for key, value in where.items()] or [len(frame) > 0])
    frame.loc[rows if where else slice(None), columns] *= factor
    frame.to_csv(path, index=False)


def copy_tables(results, runs, folder):
    """As if the runs had measured what is in `results`."""
    for table in ("batch", "engine", "fits", "kenward_roger"):
        shutil.copy(results / f"{table}.csv", folder)


def test_every_figure_has_a_record():
    recorded = gate.ratios(FOLDER / "results")
    assert len(recorded) == len(gate.FIGURES)
    assert all(np.isfinite(value) and value > 0 for value in recorded.values()), recorded


def test_a_machine_of_another_speed_is_the_same(results):
    for table, columns in (
        ("batch", ["ms", "other_ms"]),
        ("fits", ["cpu_s"]),
        ("kenward_roger", ["cpu_s"]),
        ("engine", ["cholmod_s", "factorization_s", "inverse_s", "iteration_s", "fit_s"]),
    ):
        multiply(results, table, 3.0, columns)
    table = gate.compare(gate.ratios(FOLDER / "results"), gate.ratios(results))
    assert table["verdict"].eq("ok").all()
    np.testing.assert_allclose(table["change"], 1.0, rtol=1e-12)
    assert gate.failed(table) == []


def test_the_figure_that_got_slower_is_named(results):
    multiply(results, "engine", 1.4, ["inverse_s"], case="c2")
    table = gate.compare(gate.ratios(FOLDER / "results"), gate.ratios(results))
    assert gate.failed(table) == ["C2: inverse subset"]
    assert table.set_index("figure").loc["C2: inverse subset", "change"] == pytest.approx(1.4)
    assert gate.failed(gate.compare(gate.ratios(FOLDER / "results"), gate.ratios(results), 1.5)) == []


def test_a_faster_reference_does_not_hide_behind_the_figure(results):
    multiply(results, "batch", 0.5, ["other_ms"], task="alpha 60x3, genotypes random: fit")
    table = gate.compare(gate.ratios(FOLDER / "results"), gate.ratios(results))
    assert gate.failed(table) == ["batch: a fit, genotypes random", "batch: BLUPs with PEV"]


def test_what_was_not_measured_fails_and_what_has_no_record_does_not():
    table = gate.compare({"a": 1.0, "b": np.nan, "c": 2.0}, {"a": np.nan, "b": 1.0, "c": 2.5})
    assert table["verdict"].tolist() == ["not measured", "no record", "ok"]
    assert gate.failed(table) == ["a"]


def test_a_second_run_measures_the_table_and_its_reference():
    assert [run[0] for run in gate.runs_for(["C2: whole fit"])] == ["engine"]
    assert [run[0] for run in gate.runs_for(["sleepstudy, prepared"])] == ["batch", "fits"]


def test_runs_are_parts_of_the_benchmarks():
    assert {name for name, *_ in gate.RUNS} <= set(run.PARTS)
    assert {place[0] for f in gate.FIGURES for place in (f.place, f.reference)} == {r[0] for r in gate.RUNS}


def test_main_closes_with_the_table(results, monkeypatch, capsys):
    multiply(results, "fits", 2.0, ["cpu_s"], case="sleepstudy")
    monkeypatch.setattr(gate, "measure", partial(copy_tables, results))
    monkeypatch.setattr(sys, "argv", ["gate.py"])
    assert gate.main() == 1
    said = capsys.readouterr().out
    assert "sleepstudy, prepared: slower" in said and "verdict" in said
    monkeypatch.setattr(sys, "argv", ["gate.py", "--allowed", "2.5"])
    assert gate.main() == 0


def test_a_figure_recorded_on_another_machine_is_shown_and_fails_nothing(results, monkeypatch, capsys):
    multiply(results, "fits", 2.0, ["cpu_s"], case="sleepstudy")
    multiply(results, "engine", 2.0, ["inverse_s"], case="c2")
    engine = pd.read_csv(results / "engine.csv")
    engine.assign(machine="a processor of another make").to_csv(results / "engine.csv", index=False)
    found = gate.measured_elsewhere(FOLDER / "results", results)
    assert found == {figure.name for figure in gate.FIGURES if figure.place[0] == "engine"}
    monkeypatch.setattr(gate, "measure", partial(copy_tables, results))
    monkeypatch.setattr(sys, "argv", ["gate.py"])
    assert gate.main() == 1
    said = capsys.readouterr().out
    assert "other machine" in said and "sleepstudy, prepared: slower" in said
    assert "inverse subset: slower" not in said
