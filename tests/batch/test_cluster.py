"""The same batch on the workers of a Dask cluster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import fit_batch
from fastlmm_core.batch import run
from fastlmm_core.batch.engines.cluster import cluster_words
from fastlmm_core.errors import ClusterError, DataError, MemoryExhaustedError

distributed = pytest.importorskip("distributed")
dd = pytest.importorskip("dask.dataframe")

FORMULA = "yield ~ gen + rep + (1|rep:block)"
OPTIONS = {"by": "trial", "traits": ["yield", "height"], "emmeans": "gen", "progress": False}
TRIALS = alpha_trials(12, seed=4)


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as own:
        yield own


def same_tables(left, right) -> None:
    for name in left.plan.tables:
        ours, theirs = (r.table(name).drop(columns="seconds", errors="ignore") for r in (left, right))
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=1e-9, atol=1e-10)


def test_partitions_of_a_dask_table_stay_on_the_workers(client, monkeypatch):
    shuffled = TRIALS.sample(frac=1.0, random_state=3).reset_index(drop=True)
    table = dd.from_pandas(shuffled.assign(note="x"), npartitions=7)  # every trial lies in all of them
    expected = fit_batch(TRIALS, FORMULA, **OPTIONS)
    monkeypatch.setattr(run, "divide_table", None)  # which would fetch the rows
    same_tables(expected, fit_batch(table, FORMULA, engine=client, **OPTIONS))


def test_a_dask_table_is_continued_in_its_folder(client, tmp_path):
    table = dd.from_pandas(TRIALS, npartitions=3)
    first = fit_batch(table, FORMULA, engine=client, out=tmp_path / "out", **OPTIONS)
    marks = sorted((tmp_path / "out" / "done").glob("part-*.json"))
    assert len(first.fits) == 24 and len(marks) == 3
    marks[0].unlink()
    again = fit_batch(table, FORMULA, engine=client, out=tmp_path / "out", **OPTIONS)
    same_tables(first, again)


def test_one_trial_and_empty_tables(client):
    table = dd.from_pandas(TRIALS[TRIALS["trial"] == "T0002"].drop(columns="trial"), npartitions=2)
    options = OPTIONS | {"by": None}
    same_tables(fit_batch(table, FORMULA, **options), fit_batch(table, FORMULA, engine=client, **options))
    with pytest.raises(DataError, match="no rows"):
        fit_batch(dd.from_pandas(TRIALS[:0], npartitions=1), FORMULA, engine=client, **OPTIONS)
    with pytest.raises(DataError, match="'yeild' is not in the data"):
        fit_batch(table, "yeild ~ gen + (1|rep)", by=None, engine=client, progress=False)


def test_a_table_in_memory_is_sent(client):
    unsorted = TRIALS.sample(frac=1.0, random_state=5)
    found = fit_batch(unsorted, FORMULA, engine=client, **OPTIONS)
    same_tables(fit_batch(unsorted, FORMULA, **OPTIONS), found)
    assert np.isfinite(found.fits["criterion"]).all()


@pytest.mark.parametrize(
    "raised, ours, words",
    [
        (lambda: distributed.KilledWorker("part", None, 4), MemoryExhaustedError, "give the workers more"),
        (lambda: MemoryError("std::bad_alloc"), MemoryExhaustedError, "give the workers more"),
        (lambda: distributed.client.FutureCancelledError("part", "lost dependencies"), ClusterError, "anew"),
        (lambda: distributed.comm.CommClosedError("in <TCP>"), ClusterError, "start the cluster anew"),
        (lambda: ConnectionRefusedError(111, "refused"), ClusterError, "start the cluster anew"),
        (lambda: TimeoutError(), ClusterError, "start the cluster anew"),
        (lambda: DataError("part 3 cannot be written"), DataError, "part 3 cannot be written"),
    ],
)
def test_the_end_of_a_cluster_says_how_to_go_on(raised, ours, words, tmp_path):
    """What as_completed raised when a scheduler and when a worker was killed."""
    with pytest.raises(ours, match=words) as caught, cluster_words(None):
        raise raised()
    assert ours is DataError or "run the same call again" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
