"""HTTP on the loopback interface: POST /run is answered by a worker, if the token is shown.

The server is that of the standard library (docs/decisions/http_of_the_standard_library.md), with limits of
ours around every connection.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase, BufferedReader
from typing import Any

from fastlmm_core._version import __version__
from fastlmm_core.errors import (
    DataError,
    FastLMMError,
    LimitError,
    OptionError,
    ServiceError,
    TimeLimitError,
    shown,
)
from fastlmm_core.service.answers import as_line, error_answer, identity_of
from fastlmm_core.service.connections import Connections, TimedReader, read_body
from fastlmm_core.service.tokens import matches
from fastlmm_core.service.workers import Workers

LINGER = 2.0  # seconds in which a client that still sends can read why it was refused


@dataclass(frozen=True)
class HttpLimits:
    """What a client may ask of the service.

    Attributes
    ----------
    body : int
        Bytes of a request.
    reading : float
        Seconds for a request to arrive, headers and body; also how long a connection may wait for the next.
    connections : int
        How many are open at once.
    patience : float
        Seconds that a request waits for a worker.
    """

    body: int = 64_000_000
    reading: float = 30.0
    connections: int = 64
    patience: float = 60.0


class RequestServer(ThreadingHTTPServer):
    """A thread for each connection, which reads, hands on to a worker and writes.

    Raises
    ------
    OptionError
        For a host that is not this machine by its loopback interface, or a port that is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, token: str, workers: Workers, limits: HttpLimits) -> None:
        self.token, self.workers, self.limits = token, workers, limits
        self.connections = Connections(limits.connections)
        if not is_loopback(host):
            raise OptionError(
                f"--http {host}: the service is for programs of this machine; name 127.0.0.1 or localhost, "
                "and put a proxy with TLS in front for others"
            )
        try:
            super().__init__((host, port), RequestHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OptionError(f"--http {host}:{port}: {reason}") from None

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if self.connections.admit(request):
            return True
        with contextlib.suppress(OSError):  # not more than fits in the socket's own buffer
            request.settimeout(0.1)
            request.sendall(
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        return False

    def shutdown_request(self, request: Any) -> None:
        self.connections.drop(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke concerns its client alone."""

    def finish(self) -> None:
        """Take no more requests and wait for the answers to those that are being worked on."""
        self.shutdown()
        seconds = self.workers.seconds
        self.connections.close(None if seconds is None else seconds + self.limits.reading)
        self.server_close()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and reached from no other."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


STATUS: tuple[tuple[type[FastLMMError], HTTPStatus], ...] = (
    (TimeLimitError, HTTPStatus.GATEWAY_TIMEOUT),
    (ServiceError, HTTPStatus.SERVICE_UNAVAILABLE),
)


# What each path takes.
METHODS = {"/health": "GET, HEAD", "/schema": "GET, HEAD", "/run": "POST"}


class RequestHandler(BaseHTTPRequestHandler):
    """One connection: requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RequestServer

    def setup(self) -> None:
        super().setup()
        self._reader = TimedReader(self.connection)
        self.rfile = BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        self._reader.allow(self.server.limits.reading)
        try:
            super().handle_one_request()
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        finally:
            self.server.connections.working(self.connection, False)
        if self.server.connections.closing:
            self.close_connection = True

    def parse_request(self) -> bool:
        """Begins when a first line is there; nothing is told to who does not show the token."""
        self.server.connections.working(self.connection, True)
        if not super().parse_request():
            return False
        if matches(self.headers.get("Authorization"), self.server.token):
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, DataError("the request does not show the token"))
        return False

    def handle_expect_100(self) -> bool:
        return True  # said once the token and the length are known to be right

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(HTTPStatus.OK, as_line({"version": __version__, "workers": self.server.workers.count}))
        elif self.path == "/schema":
            from fastlmm_core.request.schema import SCHEMA  # loads NumPy, which the workers have anyway

            self._send(HTTPStatus.OK, as_line(SCHEMA))
        else:
            self._refuse_path()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path != "/run":
            self._refuse_path()
            return
        if (packed := self.headers.get("Content-Encoding", "identity")).lower() != "identity":
            error = DataError(f"a body is plain JSON, not {shown(packed)}: send it without Content-Encoding")
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, error)
            return
        try:
            body = self._body()
        except LimitError as error:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)
        except DataError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, error)
        else:
            self._send(*self._answered(body))

    def _body(self) -> bytes:
        """The body of the request, whose client is told to send it if it asked first."""
        stream: Any = self.rfile
        if self.headers.get("Expect", "").lower() == "100-continue":
            stream = _Continued(self.rfile, self.connection)
        return read_body(stream, self.headers, self.server.limits.body)

    def _answered(self, body: bytes) -> tuple[HTTPStatus, bytes]:
        try:
            answer = self.server.workers.answer(body, self.server.limits.patience)
        except FastLMMError as error:
            status = next((own for kind, own in STATUS if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
            return status, error_answer(error, identity_of(body))
        return (HTTPStatus.OK if answer.good else HTTPStatus.UNPROCESSABLE_ENTITY), answer.line

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, in our form."""
        self._refuse(HTTPStatus(code), DataError(message or HTTPStatus(code).phrase))

    def _refuse_path(self) -> None:
        """A path that is not there, or does not take the method."""
        known = self.path in METHODS
        status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
        self._refuse(status, DataError("there are GET /health, GET /schema and POST /run"))

    def _refuse(self, status: HTTPStatus, error: FastLMMError) -> None:
        """Answer and end the connection: what follows in it is not known to be a request."""
        self.close_connection = True
        self._send(status, error_answer(error))
        self._linger()

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        if self.server.connections.closing:
            self.close_connection = True
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}", "Content-Type: application/json",
            f"Content-Length: {len(body)}", "Cache-Control: no-store",
            *(["Retry-After: 1"] if status is HTTPStatus.SERVICE_UNAVAILABLE else []),
            *([f"Allow: {METHODS[self.path]}"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
            *(["Connection: close"] if self.close_connection else []),
        ]  # fmt: skip
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
        self.connection.settimeout(self.server.limits.reading)  # of all that is written
        self.connection.sendall(head + (b"" if self.command == "HEAD" else body))

    def _linger(self) -> None:
        """Let a client that still sends read the answer, which a reset would take from it."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self._reader.allow(LINGER)
            while self._reader.read(1 << 16):
                pass

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: requests are the business of their senders."""


class _Continued:
    """A stream whose first reading tells the client to send."""

    def __init__(self, stream: BufferedIOBase, connection: socket.socket) -> None:
        self._stream, self._connection, self._said = stream, connection, False

    def _say(self) -> None:
        if not self._said:
            self._said = True
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read(self, size: int) -> bytes:
        self._say()
        return self._stream.read(size)

    def readline(self, size: int) -> bytes:
        self._say()
        return self._stream.readline(size)
