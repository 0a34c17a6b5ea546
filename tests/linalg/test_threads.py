"""BLAS threads: one for small fronts, those asked for on large ones, and back to what was set."""

import threading
from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
from random_pattern import compress_lower, on_pattern, random_graph, random_spd

from fastlmm_core.linalg import panels, threads
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.linalg.threads import ASKED_BY, BlasThreads, blas_threads


class Library:
    """What threadpoolctl offers of one BLAS."""

    def __init__(self, num_threads, filepath):
        self.num_threads = num_threads
        self.filepath = filepath
        self.history = []

    def set_num_threads(self, count):
        self.num_threads = count
        self.history.append(count)


@pytest.fixture
def libraries(monkeypatch):
    found = [Library(4, "a.so"), Library(3, "b.so")]
    monkeypatch.setattr(threads, "_libraries", cache(lambda: list(found)))
    for name in ASKED_BY:
        monkeypatch.delenv(name, raising=False)
    return found


def counts(libraries):
    return [library.num_threads for library in libraries]


def test_one_thread_inside_and_the_old_counts_after(libraries):
    control = BlasThreads()
    with pytest.raises(ValueError, match="inside"), control.single():
        assert counts(libraries) == [1, 1]
        with control.single():
            assert counts(libraries) == [1, 1]
        assert counts(libraries) == [1, 1]
        raise ValueError("inside")
    assert counts(libraries) == [4, 3]


def test_nobody_asked_so_large_fronts_have_one(libraries):
    control = BlasThreads()
    with control.single(), control.asked():
        assert counts(libraries) == [1, 1]


def test_threads_that_were_asked_for(libraries, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    control = BlasThreads()
    with control.single():
        with control.asked():
            assert counts(libraries) == [4, 3]
        assert counts(libraries) == [1, 1]
    assert counts(libraries) == [4, 3]


def test_two_fits_at_once_stay_single(libraries, monkeypatch):
    """The one that ends first does not free the threads of the other."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    control, entered, leave = BlasThreads(), threading.Event(), threading.Event()

    def other():
        with control.single():
            entered.set()
            leave.wait(10)

    worker = threading.Thread(target=other)
    with control.single():
        worker.start()
        assert entered.wait(10)
        with control.asked():
            assert counts(libraries) == [1, 1]
        leave.set()
        worker.join()
        assert counts(libraries) == [1, 1]
    assert counts(libraries) == [4, 3]


def test_a_library_that_is_loaded_meanwhile(libraries):
    """scikit-sparse brings a BLAS of its own when a large system first needs it."""
    control = BlasThreads()
    with control.single():
        libraries.insert(0, Library(8, "c.so"))
        control.find_libraries()
        assert counts(libraries) == [1, 1, 1]
    assert counts(libraries) == [8, 4, 3]
    libraries.append(Library(2, "d.so"))
    control.find_libraries()
    with control.single():
        assert counts(libraries) == [1, 1, 1, 1]
    assert counts(libraries) == [8, 4, 3, 2]


def test_this_process_has_a_blas():
    assert threads._libraries()
    with blas_threads.single():
        assert {library.num_threads for library in threads._libraries()} == {1}


def test_large_fronts_by_themselves_change_nothing(libraries, monkeypatch):
    adjacent = random_graph(1, 120, 0.04)
    C = random_spd(1, adjacent)
    indptr, indices = compress_lower(np.tril(adjacent))
    data = on_pattern(indptr, indices, C)
    whole = SupernodalFactor(indptr, indices)
    assert whole.factorize(data)
    expected = whole.inverse_subset(whole.size)
    history = [len(library.history) for library in libraries]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    monkeypatch.setattr(panels, "THREADED_FRONT", 50.0)
    parts = SupernodalFactor(indptr, indices)
    order = parts.symbolic.up.order
    assert len(list(parts._runs(order))) > 3
    assert np.array_equal(np.concatenate(list(parts._runs(order))), order)
    assert parts.factorize(data)
    assert np.array_equal(parts.L, whole.L)
    assert np.array_equal(parts.inverse_subset(parts.size), expected)
    assert len(libraries[0].history) > history[0] + 4
    assert counts(libraries) == [4, 3]
    assert not parts.factorize(on_pattern(indptr, indices, C - 100 * sp.eye_array(120).toarray()))
    assert counts(libraries) == [4, 3]
