#!/usr/bin/env python3
"""A request to `fastlmm serve` beside the same fit in one process: time of one, many clients, memory.

``python benchmarks/serve.py`` takes some minutes, ``--requests 100000`` for the memory of a long run. Prints
a table; writes benchmarks/results/serve.csv.
"""

from __future__ import annotations

import argparse
import csv
import functools
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
OUT = HERE / "results" / "serve.csv"
TOKEN = "benchmark-token-0123456789"
Row = dict[str, Any]


def trial_of(plots: int = 180, entries: int = 60) -> dict[str, list]:
    """An alpha design of three replicates."""
    rng = np.random.default_rng(5)
    reps = plots // entries
    gen = np.concatenate([rng.permutation(entries) for _ in range(reps)])
    rep = np.repeat(np.arange(reps), entries)
    block = np.tile(np.arange(entries) // 6, reps)
    y = (
        rng.normal(size=entries)[gen]
        + rng.normal(size=(reps, entries // 6))[rep, block]
        + rng.normal(size=plots)
    )
    return {"y": y.tolist(), "gen": [f"G{g:02d}" for g in gen], "rep": [f"R{r}" for r in rep],
            "block": [f"B{b}" for b in block]}  # fmt: skip


def requests() -> dict[str, dict[str, Any]]:
    """By name: a request with its table."""
    from fastlmm_core import datasets

    sleep = datasets.load("sleepstudy")
    return {
        "sleepstudy": {
            "data": {name: sleep[name].tolist() for name in sleep.columns},
            "formula": "Reaction ~ Days + (Days|Subject)", "kr": True,
        },
        "trial, 180 plots, 60 means": {
            "data": trial_of(), "formula": "y ~ gen + rep + (1|rep:block)", "emmeans": [{"specs": "~ gen"}],
        },
    }  # fmt: skip


def in_process(request: dict[str, Any]) -> Callable[[], object]:
    """The same fit and tables from Python, of a table in memory."""
    import pandas as pd

    from fastlmm_core import lmm

    frame = pd.DataFrame(request["data"])
    means = request.get("emmeans", ())

    def ask() -> object:
        fit = lmm(request["formula"], frame)
        return [fit.emmeans(own["specs"]).to_frame() for own in means] or fit.fixed_effects(
            ddf="kenward-roger"
        )

    return ask


class HttpService:
    """`fastlmm serve --http` with so many workers."""

    def __init__(self, workers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastlmm_core.cli", "serve", "--http", "0", "--workers", str(workers)],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "FASTLMM_TOKEN": TOKEN}, cwd=HERE.parent,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.port = int(self.process.stderr.readline().partition("127.0.0.1:")[2].partition(",")[0])

    def client(self, body: bytes) -> Callable[[], object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        headers = {"Authorization": f"Bearer {TOKEN}"}

        def ask() -> object:
            connection.request("POST", "/run", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text[:200]
            return json.loads(text)

        return ask

    def megabytes(self) -> list[float]:
        """Resident memory of the service and of its workers."""
        own = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid), "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [int(line) / 1024 for line in own.stdout.split()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class LineService:
    """`fastlmm serve` on pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastlmm_core.cli", "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE.parent,
        )  # fmt: skip

    def client(self, body: bytes) -> Callable[[], object]:
        given, answers = self.process.stdin, self.process.stdout
        assert given is not None and answers is not None

        def ask() -> object:
            given.write(body + b"\n")
            given.flush()
            return json.loads(answers.readline())

        return ask

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def milliseconds(
    ask: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> np.ndarray:  # fmt: skip
    """Wall time of each call, or that of another clock, after ten that warm up."""
    for _ in range(10):
        ask()
    out = np.empty(times)
    for k in range(times):
        began = clock()
        ask()
        out[k] = 1e3 * (clock() - began)
    return out


def processor_time(times: int) -> list[Row]:
    """CPU time of a request in a worker beside the same fit, in this process: what else a request costs.

    The least of so many, as other programs on the machine only add to it.
    """
    from fastlmm_core.service.worker import WorkerOptions, loaded

    answer = loaded(WorkerOptions(inline_only=True))
    rows: list[Row] = []
    for name, request in requests().items():
        bodies = {
            "in a worker": json.dumps(request).encode(),
            "in a worker, vcov false": json.dumps({**request, "vcov": False}).encode(),
        }
        asks: dict[str, Callable[[], object]] = {"in process": in_process(request)}
        asks |= {how: functools.partial(answer, body) for how, body in bodies.items()}
        for how, ask in asks.items():
            taken = milliseconds(ask, times, time.process_time)
            figure = f"{taken.min():.2f}"
            rows.append({"case": f"{name}, {how}, CPU ms", "requests": times, "figure": figure})
    return rows


def per_second(service: HttpService, body: bytes, clients: int, seconds: float) -> float:
    """Answers a second to so many clients at once."""
    counts = [0] * clients
    end = time.perf_counter() + seconds

    def work(k: int) -> None:
        ask = service.client(body)
        while time.perf_counter() < end:
            ask()
            counts[k] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def memory(requests_asked: int, body: bytes, every: int) -> list[Row]:
    """Resident memory of one worker on the way."""
    service = HttpService(1)
    ask, rows = service.client(body), []
    for k in range(requests_asked + 1):
        if k % every == 0 or k == requests_asked:
            rows.append({"case": "memory of service and worker, MB", "requests": k,
                         "figure": " + ".join(f"{own:.0f}" for own in service.megabytes())})  # fmt: skip
        ask()
    service.stop()
    return rows


def measure(times: int, seconds: float) -> list[Row]:
    """Time of one request each way, and answers a second."""
    rows: list[Row] = []
    one, two, lines = HttpService(1), HttpService(2), LineService()
    for name, request in requests().items():
        body = json.dumps(request).encode()
        for how, ask in (
            ("in process", in_process(request)),
            ("lines", lines.client(body)),
            ("HTTP", one.client(body)),
        ):
            taken = milliseconds(ask, times)
            for which, percent in (("p50", 50), ("p95", 95)):
                figure = f"{np.percentile(taken, percent):.2f}"
                rows.append({"case": f"{name}, {how}, {which}, ms", "requests": times, "figure": figure})
        for service, workers in ((one, 1), (two, 2)):
            for clients in (1, 8):
                rate = per_second(service, body, clients, seconds)
                rows.append({"case": f"{name}, {workers} workers, {clients} clients, answers/s",
                             "requests": int(rate * seconds), "figure": f"{rate:.0f}"})  # fmt: skip
    for own in (one, two, lines):
        own.stop()
    return rows


def run(requests_asked: int, times: int = 300, seconds: float = 5.0, out: Path = OUT) -> None:
    """Measure, print and write."""
    rows = processor_time(times) if times else []
    rows += measure(times, seconds) if times and seconds else []
    if requests_asked:
        body = json.dumps(requests()["sleepstudy"]).encode()
        rows += memory(requests_asked, body, max(requests_asked // 5, 1))
    for row in rows:
        print(f"{row['case']:60} {row['requests']:>8} {row['figure']:>10}")
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["case", "requests", "figure"])
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=300, help="requests behind each percentile")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each measurement of answers a second; 0 for none"
    )
    parser.add_argument("--requests", type=int, default=5_000, help="of the measurement of memory")
    parser.add_argument("--out", default=str(OUT))
    asked = parser.parse_args()
    run(asked.requests, asked.times, asked.seconds, Path(asked.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
