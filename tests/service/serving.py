"""A service of its own process, as its users start it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-the-tests-0123456789"
COMMAND = [sys.executable, "-m", "fastlmm_core.cli", "serve"]
PLAIN = {"data": {"y": [1.0, 2.5, 3.0, 4.5], "g": ["a", "b", "a", "b"]}, "formula": "y ~ g"}


class Service:
    """`fastlmm serve --http` on a port of its own."""

    def __init__(self, *options: str, token: str = TOKEN) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--http", "0", *options], stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "FASTLMM_TOKEN": token},
        )  # fmt: skip
        said = self.process.stderr.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", said)[1])
        self.said = said

    def connect(self, timeout: float = 60.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60.0)

    def ask(self, body, *, path="/run", token=TOKEN, headers=None, connection=None):
        """Status and answer of one request."""
        own = connection or self.connect()
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        own.request("POST", path, text, {**shown, **(headers or {})})
        answer = own.getresponse()
        content = answer.read()
        if connection is None:
            own.close()
        return answer.status, json.loads(content)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *raised) -> None:
        if self.process.poll() is None:
            self.stop()
        self.process.stderr.close()


class Lines:
    """`fastlmm serve`: requests and answers as lines, of one process for several tests."""

    def __init__(self, *options: str) -> None:
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, cwd=ROOT
        )

    def ask(self, *requests):
        """The answers to requests, or to lines as they are; an empty line has none."""
        lines = [own if isinstance(own, bytes) else json.dumps(own).encode() for own in requests]
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()
        return [json.loads(self.process.stdout.readline()) for line in lines if line]

    def end(self) -> None:
        """The end of input ends it, and it has said nothing beside its answers."""
        rest, _ = self.process.communicate(timeout=60)
        self.said.seek(0)
        assert (self.process.returncode, rest, self.said.read()) == (0, b"", b"")
        self.said.close()
