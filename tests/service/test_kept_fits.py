"""Fits kept over HTTP: found again whichever worker has them, never another one's, and not without end."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from serving import COMMAND, PLAIN, ROOT, Service
from test_http import children_of

from fastlmm_core import datasets, lmm, run
from fastlmm_core.cli import serve
from fastlmm_core.errors import DataError, OptionError, UnknownFitError
from fastlmm_core.limits import Limits
from fastlmm_core.request import kept_fits, table_folder
from fastlmm_core.request.document import Reach
from fastlmm_core.request.kept_fits import Keeping, KeptElsewhereError, KeptFits, size_of
from fastlmm_core.request.session import Session
from fastlmm_core.service.idle_workers import IdleWorkers
from fastlmm_core.service.worker import loaded


def model(k: float) -> dict:
    """A model whose intercept is (k + 3) / 2."""
    return {**PLAIN, "data": {**PLAIN["data"], "y": [k, 2.0, 3.0, 4.0]}}


QUESTION = {"linear_functions": [{"K": [[1.0, 0.0]]}]}


def test_eight_clients_ask_their_own_fits_of_three_workers():
    wrong, threads = [], []
    with Service("--workers", "3", "--keep", "40") as own:

        def client(k):
            connection = own.connect()
            handles = {}
            for j in range(4):
                _, kept = own.ask({**model(10 * k + j), "keep": True}, connection=connection)
                handles[j] = kept["kept"]
            for turn in range(40):
                j = turn % 4
                asked = {"id": f"{k}-{turn}", "of": handles[j], **QUESTION}
                status, answer = own.ask(asked, connection=connection)
                estimate = answer.get("linear_functions", [{}])[0].get("estimate")
                if (
                    status != 200
                    or answer["id"] != asked["id"]
                    or estimate != pytest.approx([(10 * k + j + 3) / 2])
                ):
                    wrong.append((k, j, status, answer))
            connection.close()

        for k in range(8):
            threads.append(threading.Thread(target=client, args=(k,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]


def test_an_answer_about_a_kept_fit_is_that_of_run(service):
    sections = {"emmeans": [{"specs": "~ g"}], "kr": True, "predict": [{"se": True}]}
    status, kept = service.ask({**PLAIN, "keep": True, "id": 1})
    whole = run({**PLAIN, **sections})
    assert status == 200 and kept["fit"] == json.loads(json.dumps(whole["fit"]))
    status, answer = service.ask({"of": kept["kept"], **sections})
    assert (status, answer) == (200, json.loads(json.dumps({key: whole[key] for key in sections})))
    assert service.ask({"of": kept["kept"], "forget": True}) == (200, {})
    status, answer = service.ask({"of": kept["kept"], "id": 7})
    assert (status, answer["id"], answer["error"]["code"]) == (422, 7, "unknown-fit")


def test_names_of_clients_are_refused_over_http(service):
    status, answer = service.ask({**PLAIN, "keep": "sleep"})
    assert status == 422 and "keep: true asks for a name that the service makes" in answer["error"]["message"]
    for name in ("sleep", "0" * 12 + "-" + "x" * 22, "f" * 40):
        status, answer = service.ask({"of": name, "id": 3})
        assert (status, answer["id"], answer["error"]["code"]) == (422, 3, "unknown-fit")
    first, second = (service.ask({**PLAIN, "keep": True})[1]["kept"] for _ in range(2))
    assert first != second


def test_the_fits_of_a_killed_worker_are_unknown_and_the_others_stay():
    with Service("--workers", "2") as own:
        handles, slow = {}, {**PLAIN, "keep": True}
        while len({handle[:12] for handle in handles.values()}) < 2:  # until both workers keep some
            threads = [
                threading.Thread(target=lambda k=k: handles.update({k: own.ask(slow)[1]["kept"]}))
                for k in range(len(handles), len(handles) + 8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        killed, *_ = children_of(own.process.pid)
        os.kill(killed, 9)
        time.sleep(0.2)
        outcomes = {}
        for _ in range(2):  # the death itself costs one request, by whomever it is noticed
            outcomes = {k: own.ask({"id": k, "of": handle, **QUESTION}) for k, handle in handles.items()}
        keys = {}
        for k, (status, answer) in outcomes.items():
            assert answer["id"] == k
            keys.setdefault(handles[k][:12], set()).add((status, answer.get("error", {}).get("code")))
        assert sorted(keys.values(), key=str) == [{(200, None)}, {(422, "unknown-fit")}]
        assert own.ask({**PLAIN, "keep": True})[0] == 200


def test_not_more_than_allowed(narrow):
    handles = [narrow.ask({**PLAIN, "keep": True})[1]["kept"] for _ in range(3)]
    found = [narrow.ask({"of": handle})[0] for handle in handles]
    assert found == [422, 200, 200]


def worker_of(*options: str):
    """What the worker of a service with these options answers, in this process."""
    parser = argparse.ArgumentParser()
    serve.add_serve(parser.add_subparsers())
    answer = loaded(serve._worker_options(parser.parse_args(["serve", "--http", "0", *options])))
    return lambda request: json.loads(answer(json.dumps(request).encode()).line)


def test_none_where_none_may_be_kept():
    answer = worker_of("--keep", "0")({**PLAIN, "keep": True})
    assert "a service that keeps fits" in answer["error"]["message"]
    answer = worker_of("--keep-memory", "1kB")({**PLAIN, "keep": True})
    assert answer["kept"] is None and answer["fit"]["nobs"] == 4


def test_lines_with_several_workers_have_names_of_the_service():
    with subprocess.Popen(
        [*COMMAND, "--workers", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:

        def ask(request):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        handles = [ask({**model(k), "keep": True})["kept"] for k in range(6)]
        found = [ask({"of": handle, **QUESTION})["linear_functions"][0]["estimate"][0] for handle in handles]
        assert found == pytest.approx([(k + 3) / 2 for k in range(6)])
        process.stdin.close()


# ------------------------------------------------------------------- pieces
def fits(count):
    fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    return [fit] * count


def test_the_size_of_a_fit_is_that_of_its_arrays():
    small, large = (
        lmm("y ~ x", {"y": np.arange(n) % 7.0, "x": np.arange(n) % 11.0}) for n in (1_000, 101_000)
    )
    # at least response, residuals, fitted values, two columns of X for each row; at most some hundred bytes
    assert 5 * 8 < (size_of(large) - size_of(small)) / 100_000 < 400


def test_the_one_asked_longest_ago_goes_first():
    size = size_of(fits(1)[0])
    for keeping in (Keeping(fits=3), Keeping(fits=100, memory=3 * size + size // 2)):
        kept = KeptFits(keeping)
        for name, fit in zip("abc", fits(3), strict=True):
            assert kept.keep(name, fit) == name
        kept.of("a")
        kept.keep("d", fits(1)[0])
        assert len(kept) == 3 and kept.bytes <= keeping.memory
        with pytest.raises(UnknownFitError, match="no fit is kept as 'b'"):
            kept.of("b")
        assert kept.of("a") is not None


def test_a_fit_that_is_too_large_does_not_leave_the_last_one_of_its_name():
    small, large = (lmm("y ~ 1", {"y": np.arange(n) % 7.0}) for n in (20, 20_000))
    kept = KeptFits(Keeping(fits=3, memory=(size_of(small) + size_of(large)) // 2))
    assert kept.keep("a", small) == "a" and kept.keep("a", large) is None
    with pytest.raises(UnknownFitError, match="no fit is kept as 'a'"):
        kept.of("a")
    assert kept.bytes == 0


@pytest.mark.parametrize("rows, counted", [(400, False), (20_000, True)])
def test_what_a_large_fit_computes_is_counted_too(rows, counted):
    """Of a megabyte or more, as it was when it was kept."""
    columns = {"y": np.arange(rows) % 7.0, "x": np.arange(rows) % 11.0, "g": np.arange(rows) % 13}
    columns["y"] += columns["g"] / 2
    fit = lmm("y ~ x + (1|g)", columns)
    assert (size_of(fit) >= 1_000_000) == counted
    kept = KeptFits(Keeping(fits=3))
    kept.keep("a", fit)
    before = kept.bytes
    fit.fixed_effects(ddf="kenward-roger")
    assert size_of(fit) > before
    kept.measure("a")
    assert kept.bytes == (size_of(fit) if counted else before)


def test_what_a_fit_computes_is_counted_from_the_size_where_measuring_pays(monkeypatch):
    (fit,) = fits(1)
    monkeypatch.setattr(kept_fits, "WORTH_MEASURING", size_of(fit))
    kept = KeptFits(Keeping(fits=3))
    kept.keep("a", fit)
    before = kept.bytes
    fit.fixed_effects(ddf="kenward-roger")
    kept.measure("a")
    assert kept.bytes > before


def session_with_tables(folder):
    """A session that keeps fits and may write, and a request of it with tables."""
    session = Session(Reach.of(None, False, folder), Limits(), Keeping(fits=3))
    tables = {"folder": "out", "format": "csv"}
    return session, {**model(1.0), "emmeans": [{"specs": "~ 1"}], "tables": tables}


def no_room(target, data):
    raise OSError(28, "No space left on device")


def test_a_request_whose_tables_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
    session, request = session_with_tables(tmp_path)
    session.answer({**model(10.0), "keep": "a"})
    with monkeypatch.context() as full:
        full.setattr(table_folder, "place_file", no_room)
        with pytest.raises(DataError, match="No space left"):
            session.answer({**request, "keep": "a"})
        with pytest.raises(DataError, match="No space left"):
            session.answer({**request, "keep": "b"})
    with pytest.raises(UnknownFitError):
        session.answer({"of": "b", **QUESTION})
    before = session.answer({"of": "a", **QUESTION})["linear_functions"][0]["estimate"]
    assert before == pytest.approx([(10 + 3) / 2])
    assert session.answer({**request, "keep": "a"})["kept"] == "a"
    after = session.answer({"of": "a", **QUESTION})["linear_functions"][0]["estimate"]
    assert after == pytest.approx([(1 + 3) / 2])


def test_nor_does_it_forget(tmp_path, monkeypatch):
    session, request = session_with_tables(tmp_path)
    session.answer({**model(10.0), "keep": "a"})
    asked = {"of": "a", "forget": True, **{key: request[key] for key in ("emmeans", "tables")}}
    with monkeypatch.context() as full:
        full.setattr(table_folder, "place_file", no_room)
        with pytest.raises(DataError, match="No space left"):
            session.answer(asked)
    assert session.answer(asked)["emmeans"][0]["table"]["rows"] == 1
    with pytest.raises(UnknownFitError):
        session.answer({"of": "a", **QUESTION})


def test_names_tell_whose_they_are():
    ours, theirs = (KeptFits(Keeping(fits=3, key=key * 12, named=False)) for key in "ab")
    (fit,) = fits(1)
    name = ours.keep(True, fit)
    assert ours.of(name) is fit
    with pytest.raises(KeptElsewhereError) as caught:
        theirs.of(name)
    assert caught.value.key == "a" * 12
    ours.forget(name)
    with pytest.raises(UnknownFitError) as caught:
        ours.of(name)
    assert not isinstance(caught.value, KeptElsewhereError)
    with pytest.raises(OptionError, match="keep: true"):
        ours.check("mine")


def test_kept_fits_give_their_room_to_a_request_that_needs_it(monkeypatch):
    session = Session(Reach(), Limits(), Keeping(fits=3))
    session.answer({**PLAIN, "keep": "m"})
    real, failures = session._fitted, [MemoryError()]

    def short(request):
        if failures:
            raise failures.pop()
        return real(request)

    monkeypatch.setattr(session, "_fitted", short)
    assert session.answer(PLAIN)["fit"]["nobs"] == 4
    with pytest.raises(UnknownFitError):
        session.answer({"of": "m"})
    failures.append(MemoryError())
    with pytest.raises(MemoryError):  # nothing is kept that could be let go
        session.answer(PLAIN)


@dataclass(frozen=True)
class Thing:
    key: str


def test_who_waits_longest_is_served_first():
    idle, got = IdleWorkers(), []
    a, b = Thing("a"), Thing("b")
    for own in (a, b):
        idle.put(own)
    assert idle.take(None, 0) is b and idle.take(None, 0) is a  # the one used last

    def wait(key):
        got.append((key, idle.take(key, 30)))

    threads = []
    for key in (None, "a", None):
        threads.append(threading.Thread(target=wait, args=(key,)))
        threads[-1].start()
        ends = time.monotonic() + 10
        while len(idle._waiting) < len(threads) and time.monotonic() < ends:
            time.sleep(0.001)
    for turn, own in enumerate((b, b, a)):
        idle.put(own)
        ends = time.monotonic() + 10
        while len(got) <= turn and time.monotonic() < ends:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert got == [(None, b), (None, b), ("a", a)]


def test_who_waits_for_one_that_is_gone_need_not():
    idle, got = IdleWorkers(), []
    a = Thing("a")
    idle.put(a)
    assert idle.take("none", None) is None
    assert idle.take("a", 0) is a
    with pytest.raises(TimeoutError):
        idle.take("a", 0.01)
    thread = threading.Thread(target=lambda: got.append(idle.take("a", 30)))
    thread.start()
    while not idle._waiting:
        time.sleep(0.001)
    idle.drop("a")
    thread.join()
    assert got == [None] and idle.take("a", None) is None
