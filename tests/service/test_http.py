"""Over HTTP: the token before anything, limits on every side, and what goes wrong costs one connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from serving import COMMAND, PLAIN, ROOT, TOKEN, Service

from fastlmm_core import run
from fastlmm_core.cli import main
from fastlmm_core.service import connections, tokens
from fastlmm_core.service import http as service_http


def test_an_answer_is_that_of_run(service):
    request = {**PLAIN, "kr": True, "emmeans": [{"specs": "~ g"}], "id": "first"}
    assert service.ask(request) == (200, json.loads(json.dumps(run(request))))


def test_a_connection_takes_one_request_after_the_other(service):
    connection = service.connect()
    for k in range(5):
        status, answer = service.ask({**PLAIN, "id": k}, connection=connection)
        assert (status, answer["id"]) == (200, k)
    assert connection.sock is not None  # it was never closed
    connection.close()


def test_a_compressed_body_is_told_so_and_head_is_answered(service):
    status, answer = service.ask(PLAIN, headers={"Content-Encoding": "gzip"})
    assert status == 415 and "without Content-Encoding" in answer["error"]["message"]
    connection = service.connect()
    connection.request("HEAD", "/health", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b""
    connection.close()


@pytest.mark.parametrize("token", [None, "", "x" * 32, TOKEN[:-1], TOKEN + "x", "é" * 20])
@pytest.mark.parametrize("path", ["/run", "/health", "/schema", "/none"])
def test_without_the_token_nothing_is_answered(service, token, path):
    status, answer = service.ask(PLAIN, token=token and token.encode().decode("latin-1"), path=path)
    assert status == 401
    assert answer == {"error": {"code": "data", "message": "the request does not show the token"}}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_nor_by_another_method(service, method):
    connection = service.connect()
    connection.request(method, "/health")
    assert connection.getresponse().status == 401
    connection.close()


def test_the_comparison_takes_all_characters():
    """`hmac.compare_digest` is asked with the whole of both; a prefix is no token."""
    assert tokens.matches(f"Bearer {TOKEN}", TOKEN)
    for shown in (
        None,
        "",
        TOKEN,
        f"bearer {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer  {TOKEN}",
        "Bearer \xe9",
    ):
        assert not tokens.matches(shown, TOKEN)


def raw(service, data: bytes, *, close_writing: bool = False) -> bytes:
    """What comes back for bytes that no HTTP library would send."""
    with service.socket() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if close_writing:
                connection.shutdown(1)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


HEAD = f"POST /run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
WRONG = {
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "an endless first line": (b"G" * 70_000, 414),
    "an endless header": (HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    "many headers": (HEAD + b"".join(b"X%d: y\r\n" % k for k in range(200)) + b"\r\n", 431),
    "a length that is no number": (HEAD + b"Content-Length: ten\r\n\r\n", 400),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "a length in other digits": (HEAD + "Content-Length: \u0663\r\n\r\n".encode(), 400),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "no length": (HEAD + b"\r\n", 400),
    "length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk without a size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", 400),
    "a negative chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n", 400),
    "a chunk with more than it says": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
        400,
    ),
    "endless trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200, 400),
    "1 GB by its length": (HEAD + b"Content-Length: 1000000000\r\n\r\n{", 413),
    "a length of 400 digits": (HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", 413),
    "1 GB in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3b9aca00\r\n{", 413),
    "a body that is no JSON": (HEAD + b"Content-Length: 4\r\n\r\nhaha", 422),
    "a body that is no text": (HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\x00\x80", 422),
    "no request": (HEAD + b"Content-Length: 2\r\n\r\n[]", 422),
    "another method": (HEAD.replace(b"POST", b"GET") + b"\r\n", 405),
    "a request for the schema": (HEAD.replace(b"/run", b"/schema") + b"Content-Length: 2\r\n\r\n{}", 405),
    "another path": (HEAD.replace(b"/run", b"/../etc/passwd") + b"Content-Length: 2\r\n\r\n{}", 404),
}


@pytest.mark.parametrize("what", WRONG)
def test_garbage_costs_its_own_connection(service, what):
    data, status = WRONG[what]
    answer = raw(service, data, close_writing=status == 422)
    assert answer.split(b" ")[1] == str(status).encode(), answer[:200]
    assert set(json.loads(answer.split(b"\r\n\r\n", 1)[1])) == {"error"}
    assert (b"\r\nAllow: " in answer) == (status == 405)
    assert service.ask(PLAIN)[0] == 200


def test_chunks_are_counted_and_put_together(service):
    body = json.dumps({**PLAIN, "id": "chunked"}).encode()
    pieces = b"".join(b"%x;extension=1\r\n%s\r\n" % (len(p), p) for p in (body[:10], body[10:11], body[11:]))
    answer = raw(
        service,
        HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\nT: x\r\n\r\n",
    )
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["id"] == "chunked"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = raw(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 200)  # 13 MB of 2 MB
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_asks_first_is_told_to_send_or_not(service):
    body = json.dumps(PLAIN).encode()
    length = b"Content-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n" % len(body)
    assert raw(service, HEAD + length + body).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    refused = raw(service, HEAD + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 413 ")
    stranger = raw(service, HEAD.replace(TOKEN.encode(), b"no") + length)
    assert stranger.startswith(b"HTTP/1.1 401 ")


def test_half_a_request_is_no_request(service):
    for data in (b"", b"POST", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"):
        raw(service, data, close_writing=True)
    assert service.ask(PLAIN)[0] == 200


def test_files_are_refused(service):
    for change in (
        {"data": "data/sleepstudy.csv"}, {"data": "/etc/passwd"},
        {"relationships": {"A": {"type": "pedigree", "file": "/etc/passwd"}}},
    ):  # fmt: skip
        status, answer = service.ask({**PLAIN, **change})
        assert status == 422 and "this service reads no files" in answer["error"]["message"]


def test_files_of_one_folder_when_it_is_named(narrow):
    status, answer = narrow.ask({"data": "dyestuff.csv", "formula": "Yield ~ 1 + (1|Batch)"})
    assert status == 200 and answer["fit"]["nobs"] == 30
    status, answer = narrow.ask({"data": "../README.md", "formula": "y ~ 1"})
    assert status == 422 and "is not a file of the folder" in answer["error"]["message"]


def test_nothing_is_written_without_leave(service, tmp_path):
    tables = {"folder": str(tmp_path / "x"), "format": "csv"}
    asked = {**PLAIN, "emmeans": [{"specs": "~ g"}], "tables": tables}
    status, answer = service.ask(asked)
    assert status == 422 and "nothing may be written here" in answer["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_tables_of_several_clients_are_their_own(tmp_path):
    def request(k):
        data = {**PLAIN["data"], "y": [k, 2.0, 3.0, 4.0]}
        return {**PLAIN, "data": data, "id": k, "emmeans": [{"specs": "~ g"}],
                "tables": {"folder": f"of/{k}", "format": "csv"}}  # fmt: skip

    found = {}
    with Service("--workers", "2", "--allow-tables", str(tmp_path)) as own:

        def ask(numbers):
            for k in numbers:
                found[k] = own.ask(request(k))

        threads = [threading.Thread(target=ask, args=(range(k, 24, 4),)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert own.ask(request(3))[0] == 422  # what is there stays
    for k, (status, answer) in found.items():
        assert status == 200 and answer["id"] == k
        rows = (tmp_path / answer["emmeans"][0]["table"]["file"]).read_text().splitlines()
        means = {row.split(",")[0]: float(row.split(",")[1]) for row in rows[1:]}
        assert means == pytest.approx({"a": (k + 3.0) / 2.0, "b": 3.0})


def slow_request(n: int, slopes: int) -> dict:
    """A model whose fit takes long: so many rows, correlated slopes on 400 levels (12: 91 covariances)."""
    levels = 400
    values = [((k * 7919) % 1009) / 1009 for k in range(n)]
    columns = {f"x{j}": [((k * (j + 3) * 104729) % 1013) / 1013 for k in range(n)] for j in range(slopes)}
    groups = [f"g{(k * 31) % levels}" for k in range(n)]
    terms = " + ".join(columns)
    return {
        "data": {"y": values, "g": groups, **columns},
        "formula": f"y ~ {terms} + ({terms}|g)",
        "id": "slow",
    }


def test_what_takes_too_long_is_stopped_and_costs_only_itself():
    with Service("--workers", "2", "--seconds", "0.75") as own:
        for _ in range(20):  # both workers know the usual requests
            assert own.ask(PLAIN)[0] == 200
        outcome = {}
        slow = json.dumps({"id": "slow", **slow_request(120_000, 12)}).encode()
        thread = threading.Thread(target=lambda: outcome.update(slow=own.ask(slow)))
        thread.start()
        fast = []
        while thread.is_alive():
            began = time.monotonic()
            assert own.ask(PLAIN)[0] == 200
            fast.append(time.monotonic() - began)
        thread.join()
        words = "the request took longer than 0.75 seconds and was stopped (--seconds)"
        assert outcome["slow"] == (504, {"id": "slow", "error": {"code": "time", "message": words}})
        assert len(fast) > 10 and own.ask(PLAIN)[0] == 200


def children_of(pid: int) -> list[int]:
    listed = list(Path(f"/proc/{pid}/task").glob("*/children"))  # by thread
    if not listed:
        pytest.skip("the system does not say which processes a process has started")
    found = []
    for path in listed:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            found += [int(child) for child in path.read_text().split()]
    return found


def test_a_worker_that_dies_costs_one_request(narrow):
    assert narrow.ask(PLAIN)[0] == 200
    (pid,) = children_of(narrow.process.pid)
    os.kill(pid, 9)
    status, answer = narrow.ask(PLAIN)
    assert status == 503 and "ended by signal 9" in answer["error"]["message"]
    assert narrow.ask(PLAIN)[0] == 200


def test_a_slow_client_is_left_behind():
    """A byte a time does not put the deadline off; without a service, that the limit can be short."""
    ours, theirs = socket.socketpair()
    reader = connections.TimedReader(theirs)
    reader.allow(0.3)
    stop = threading.Event()

    def drip():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                ours.sendall(b"G")
            time.sleep(0.02)

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        while reader.read(10):
            pass
    assert 0.25 < time.monotonic() - began < 3.0
    stop.set()
    thread.join()
    ours.close()
    theirs.close()


def test_more_connections_than_allowed_are_turned_away(narrow):
    held = [narrow.socket() for _ in range(3)]
    time.sleep(0.2)
    turned = narrow.connect()
    with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
        turned.request("GET", "/health", headers={"Authorization": f"Bearer {TOKEN}"})
        assert turned.getresponse().status == 503
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert narrow.ask(PLAIN)[0] == 200


def test_the_end_waits_for_answers_in_flight():
    with Service("--workers", "1") as own:
        idle = own.connect()
        assert own.ask(PLAIN, connection=idle)[0] == 200
        outcome = {}
        slow = {**slow_request(12_000, 6), "id": 9}
        thread = threading.Thread(target=lambda: outcome.update(last=own.ask(slow)))
        thread.start()
        time.sleep(0.4)
        assert own.stop() == 0
        thread.join()
        assert outcome["last"][0] == 200 and outcome["last"][1]["id"] == 9
        with pytest.raises((OSError, http.client.HTTPException)):
            own.ask(PLAIN, connection=idle)
        with pytest.raises(OSError):
            own.socket()


def test_health_and_schema(service):
    connection = service.connect()
    for path, key in (("/health", "version"), ("/schema", "properties")):
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == 200 and key in json.loads(answer.read())
    connection.close()


def test_the_token_may_come_from_a_file_that_nobody_else_reads(tmp_path, monkeypatch):
    monkeypatch.delenv(tokens.VARIABLE, raising=False)
    path = tmp_path / "token"
    token, where = tokens.token_given(None, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(token) > 40 and where == f"in {path}"
    assert tokens.token_given(None, str(path)) == (token, where)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="can be read by others: chmod 600"):
        tokens.token_given(None, str(path))
    assert tokens.token_given(None, None)[0] != tokens.token_given(None, None)[0]
    with pytest.raises(ValueError, match="at least 16 ASCII characters"):
        tokens.token_given("short", None)
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    assert tokens.token_given(None, None) == (TOKEN, f"in {tokens.VARIABLE}")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--http", "0.0.0.0:0"], "is for programs of this machine"),
        (["--http", "example.org:0"], "is for programs of this machine"),
        (["--http", "x"], "write PORT or HOST:PORT"),
        (["--http", "70000"], "--http 127.0.0.1:70000"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--http", "0", "--allow-files", "/none/such"], "is not a folder"),
        (["--token", "x" * 20], "belong to --http"),
    ],
)
def test_wrong_options_are_one_line(options, words, capsys):
    assert main(["serve", *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.0.1"])
def test_loopback(host):
    assert service_http.is_loopback(host)


def test_the_service_itself_stays_small():
    """The process that reads from strangers loads neither NumPy nor the library's kernels."""
    code = (
        "import sys, fastlmm_core.cli.serve, fastlmm_core.service.http, fastlmm_core.service.lines\n"
        "assert not {'numpy', 'pandas', 'numba'} & set(sys.modules), 'loaded'"
    )
    assert subprocess.run([COMMAND[0], "-c", code], cwd=ROOT).returncode == 0
