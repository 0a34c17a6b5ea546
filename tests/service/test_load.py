"""Eight clients at once: no answer is lost or given to another, and one that is killed harms nobody."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from serving import TOKEN, Service

CLIENTS, REQUESTS = 8, 60

# A client as its own process: asks without end until it is killed.
RESTLESS = """
import http.client, json, sys
body = json.dumps({"data": {"y": list(range(4000)), "g": [k % 50 for k in range(4000)]},
                   "columns": {"g": {"type": "factor"}}, "formula": "y ~ 1 + (1|g)", "head": 4000})
while True:
    own = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    own.request("POST", "/run", body, {"Authorization": "Bearer " + sys.argv[2]})
    print(own.getresponse().status, flush=True)
"""


def question(client: int, k: int) -> tuple[dict, float]:
    """A request of its own and the mean it must be answered with."""
    rng = random.Random(1000 * client + k)
    y = [rng.gauss(client, 1.0) for _ in range(12 + k % 7)]
    return {"id": f"{client}-{k}", "data": {"y": y}, "formula": "y ~ 1"}, sum(y) / len(y)


def run_client(service: Service, client: int, found: dict, faults: list) -> None:
    connection = service.connect()
    for k in range(REQUESTS):
        request, mean = question(client, k)
        if k % 10 == 9:  # a new connection now and then
            connection.close()
            connection = service.connect()
        try:
            status, answer = service.ask(request, connection=connection)
        except (OSError, http.client.HTTPException) as error:
            faults.append(repr(error))
            connection = service.connect()
            continue
        if status != 200 or answer["id"] != request["id"]:
            faults.append(answer)
            continue
        found[request["id"]] = answer["fit"]["beta"]["(Intercept)"] - mean
    connection.close()


@pytest.mark.slow
def test_eight_clients_and_others_that_are_killed():
    with Service("--workers", "2", "--seconds", "30") as service:
        found: dict[str, float] = {}
        faults: list = []
        threads = [
            threading.Thread(target=run_client, args=(service, c, found, faults)) for c in range(CLIENTS)
        ]
        restless = [
            subprocess.Popen(
                [sys.executable, "-c", RESTLESS, str(service.port), TOKEN], stdout=subprocess.PIPE
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for process in restless:
            assert process.stdout.readline() == b"200\n"
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)  # in the middle of its next request
            process.wait()
            process.stdout.close()
        for thread in threads:
            thread.join(timeout=300)
        assert faults == []
        assert len(found) == CLIENTS * REQUESTS and max(map(abs, found.values())) < 1e-12
        connection = service.connect()
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {TOKEN}"})
        assert json.loads(connection.getresponse().read())["workers"] == 2
