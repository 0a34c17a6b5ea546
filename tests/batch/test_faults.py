"""Killed runs and killed workers: what was done stays, what was not is done later, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import fit_batch
from fastlmm_core.batch.folder.fingerprints import table_fingerprint
from fastlmm_core.cli import main
from fastlmm_core.errors import OptionError

FORMULA = "yield ~ gen + rep + (1|rep:block)"
OPTIONS = {"by": "trial", "traits": ["yield", "height"], "emmeans": "gen", "blups": True}
RUN = """
import sys
from fastlmm_core import fit_batch
from fastlmm_core.cli import main
source, out = sys.argv[1:]
fit_batch(source, "yield ~ gen + rep + (1|rep:block)", by="trial", traits=["yield", "height"], emmeans="gen",
          blups=True, out=out, workers=1)
"""


def same_tables(left, right) -> None:
    for name in left.plan.tables:
        ours, theirs = (r.table(name).drop(columns="seconds", errors="ignore") for r in (left, right))
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def compiled() -> None:
    """Kernels are on disk before a process that is to be killed needs them."""
    fit_batch(alpha_trials(2, genotypes=8), FORMULA, **OPTIONS)


@contextmanager
def running(*argv: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the block, whatever happens in it."""
    process = subprocess.Popen([sys.executable, *argv], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_marks(
    folder: Path, count: int, process: subprocess.Popen[str] | None = None, seconds: float = 120.0
) -> None:
    end = time.monotonic() + seconds
    while len(list((folder / "done").glob("part-*"))) < count:
        assert process is None or process.poll() is None, "the process has ended"
        assert time.monotonic() < end, "no part was written"
        time.sleep(0.002)


def test_a_killed_run_is_continued(tmp_path, compiled):
    source, out = tmp_path / "trials.parquet", tmp_path / "out"
    frame = alpha_trials(1500, genotypes=8, seed=3)
    frame.to_parquet(source)
    with running("-c", RUN, str(source), str(out)) as process:
        wait_for_marks(out, 1, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(list((out / "done").glob("part-*.json")))
    assert 1 <= done < 12
    before = {path: path.stat().st_mtime_ns for path in (out / "done").glob("part-*.json")}
    resumed = fit_batch(source, FORMULA, out=out, **OPTIONS)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())  # not done again
    assert len(resumed.fits) == 3000 and not resumed.fits.duplicated(["trial", "trait"]).any()
    same_tables(fit_batch(frame, FORMULA, **OPTIONS), resumed)


def test_a_command_that_is_interrupted_says_how_to_go_on(tmp_path, compiled):
    source, out = tmp_path / "trials.parquet", tmp_path / "out"
    alpha_trials(1500, genotypes=8, seed=3).to_parquet(source)
    argv = ["batch", str(source), FORMULA, "--by", "trial", "--traits", "yield,height", "--out", str(out)]
    command = "-m", "fastlmm_core.cli", *argv, "--workers", "1"
    with running(*command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for_marks(out, 1, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "--resume" in said and "Traceback" not in said
    assert main([*argv, "--resume"]) == 0
    assert len(pd.read_parquet(out / "fits")) == 3000


def test_a_folder_belongs_to_one_plan_and_one_table(tmp_path):
    frame = alpha_trials(4)
    out = tmp_path / "out"
    first = fit_batch(frame, FORMULA, by="trial", out=out)
    again = fit_batch(frame, FORMULA, by="trial", out=out)
    same_tables(first, again)
    with pytest.raises(OptionError, match=r"another plan .*emmeans"):
        fit_batch(frame, FORMULA, by="trial", emmeans="gen", out=out)
    with pytest.raises(OptionError, match="other data"):
        fit_batch(frame[:-3], FORMULA, by="trial", out=out)
    with pytest.raises(OptionError, match="resume=True"):
        fit_batch(frame, FORMULA, by="trial", out=out, resume=False)
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "letter.txt").write_text("keep me")
    with pytest.raises(OptionError, match="other files"):
        fit_batch(frame, FORMULA, by="trial", out=tmp_path / "busy")


def other_readings(frame):
    """The table with its genotypes in ways that give other figures or labels, and in ways that do not."""
    levels, numbers = sorted(frame["gen"].unique()), frame["gen"].str.extract(r"(\d+)")[0].fillna("0")
    as_levels = {
        "turned": pd.Categorical(frame["gen"], categories=levels[::-1]),
        "ordered": pd.Categorical(frame["gen"], categories=levels, ordered=True),
        "digits": numbers,
        "Int64": numbers.astype("Int64"),
    }
    alike = {
        "object": frame["gen"].astype(object),
        "string": frame["gen"].astype("string"),
        "category": pd.Categorical(frame["gen"], categories=[*levels, "unused"]),
    }
    return as_levels, alike


def test_a_folder_tells_how_a_column_is_read(tmp_path):
    """Order of categories, `ordered`, and numbers beside text change the model, not the cells."""
    frame = alpha_trials(2, genotypes=8)
    changed, alike = other_readings(frame)
    for name, gen in changed.items():
        own = frame.assign(gen=gen)
        first = fit_batch(own, FORMULA, by="trial", out=tmp_path / name)
        same_tables(first, fit_batch(own, FORMULA, by="trial"))
        for other, values in {**changed, "text": frame["gen"]}.items():
            if other != name:
                with pytest.raises(OptionError, match="other data"):
                    fit_batch(frame.assign(gen=values), FORMULA, by="trial", out=tmp_path / name)
    first = fit_batch(frame, FORMULA, by="trial", out=tmp_path / "text")
    for values in alike.values():
        same_tables(first, fit_batch(frame.assign(gen=values), FORMULA, by="trial", out=tmp_path / "text"))


def test_text_and_categories_differ_where_distances_count():
    frame = pd.DataFrame({"visit": ["1", "2", None], "day": pd.array([1, 2, None], dtype="Int64")})
    listed = frame.assign(visit=pd.Categorical(frame["visit"]))
    assert table_fingerprint(frame, True) != table_fingerprint(listed, True)
    assert table_fingerprint(frame, False) == table_fingerprint(listed, False)
    assert table_fingerprint(frame, True) == table_fingerprint(frame.astype({"day": float}), True)
    cells = ([1, 2], ["1", "2"], [[1], 2])
    tables = [pd.DataFrame({"key": np.array(own, dtype=object)}) for own in cells]
    prints = [table_fingerprint(table, False) for table in tables]
    assert len(set(prints)) == 3 and prints[0] == table_fingerprint(tables[0].astype("int64"), False)


def test_columns_of_numbers_and_text():
    frame = alpha_trials(3)
    formula = "yield ~ gen + moisture + (1|rep:block)"
    expected = fit_batch(frame, formula, by="trial").fits["criterion"]
    entries = frame["gen"].where(frame["trial"] != "T0001", frame["gen"].str[1:].astype(int))
    found = fit_batch(frame.assign(gen=entries), formula, by="trial").fits
    np.testing.assert_allclose(found["criterion"], expected, rtol=1e-10)  # a factor in every trial
    moisture = frame["moisture"].astype(object)
    moisture.iloc[40] = "12,5"
    found = fit_batch(frame.assign(moisture=moisture), formula, by="trial").fits
    assert found["status"].tolist() == ["ok", "data", "ok"] and "'12,5'" in found["message"].iloc[1]
    np.testing.assert_allclose(found["criterion"][[0, 2]], expected[[0, 2]], rtol=1e-10)


def test_columns_that_cannot_be_what_they_are_named_as():
    frame = alpha_trials(2)
    with pytest.raises(OptionError, match="'status' is the name of a column of the results"):
        fit_batch(frame.rename(columns={"trial": "status"}), FORMULA, by="status")
    with pytest.raises(OptionError, match="trait 'height' is also in the model"):
        fit_batch(frame, "~ gen + height + (1|rep)", by="trial", traits=["yield", "height"])
    with pytest.raises(OptionError, match="trait 'trial' is also in by="):
        fit_batch(frame, "~ gen + (1|rep)", by="trial", traits="trial")


def test_a_half_written_part_is_written_again(tmp_path):
    frame = alpha_trials(3)
    out = tmp_path / "out"
    whole = fit_batch(frame, FORMULA, by="trial")
    fit_batch(frame, FORMULA, by="trial", out=out)
    (out / "done" / "part-000000.json").unlink()
    (out / "fixed" / "part-000000.parquet").write_bytes(b"PAR1 torn")
    same_tables(whole, fit_batch(frame, FORMULA, by="trial", out=out))


def test_a_dataset_larger_than_a_piece_is_streamed(tmp_path, monkeypatch):
    from fastlmm_core.batch import run, sources

    frame = alpha_trials(40, seed=6)
    for k in range(5):  # trials cut in two by the files
        frame.iloc[k * 288 : (k + 1) * 288].to_parquet(tmp_path / f"{k}.parquet", row_group_size=100)
    pieces = sources.cut_dataset(tmp_path, fit_batch(frame[:36], FORMULA, by="trial").plan, rows=200)
    assert len(pieces) > 5 and sum(len(piece.keys) for piece in pieces) == 40
    assert max(len(piece.load()) for piece in pieces) <= 236
    monkeypatch.setattr(run, "cut_dataset", lambda source, plan: pieces)
    same_tables(fit_batch(frame, FORMULA, by="trial"), fit_batch(tmp_path, FORMULA, by="trial"))
    shuffled = frame.sample(frac=1.0, random_state=1)
    shuffled.to_parquet(tmp_path / "whole.parquet", row_group_size=150)
    for k in range(5):
        (tmp_path / f"{k}.parquet").unlink()
    monkeypatch.undo()
    found = fit_batch(tmp_path, FORMULA, by="trial").fits.sort_values("trial", ignore_index=True)
    expected = fit_batch(frame, FORMULA, by="trial").fits
    pd.testing.assert_series_equal(found["sigma"], expected["sigma"], rtol=1e-8)


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, compiled):
    distributed = pytest.importorskip("distributed")
    frame = alpha_trials(1600, genotypes=8, seed=5)
    out = tmp_path / "out"
    expected = fit_batch(frame, FORMULA, **OPTIONS)
    killed = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)

        def strike() -> None:
            wait_for_marks(out, 1)
            os.kill(next(iter(pids.values())), signal.SIGKILL)
            killed.append(len(list((out / "done").glob("part-*"))))

        killer = Thread(target=strike)
        killer.start()
        remote = fit_batch(frame, FORMULA, engine=client, out=out, **OPTIONS)
        killer.join()
    assert len(remote.fits) == 3200
    assert killed and killed[0] < len(list((out / "done").glob("part-*")))
    same_tables(expected, remote)
