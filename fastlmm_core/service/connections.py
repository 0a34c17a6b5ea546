"""What one connection may cost: reading under a deadline, bodies under a limit, a number of them at once."""

from __future__ import annotations

import io
import socket
import threading
import time
from typing import Any, BinaryIO

from fastlmm_core.errors import DataError, LimitError
from fastlmm_core.processes.frames import seconds_left

LONGEST_CHUNK_LINE = 1_000  # bytes of a chunk's size with its extensions


class TimedReader(io.RawIOBase):
    """What comes over a socket, until a deadline for all of it: a byte a second does not put it off."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline: float | None = None

    def allow(self, seconds: float) -> None:
        """From now on so many seconds for what is read."""
        self.deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(seconds_left(self.deadline))
        return self._connection.recv_into(buffer)


def read_body(stream: BinaryIO, headers: Any, limit: int) -> bytes:
    """The body of a request, by its length or in chunks.

    Raises
    ------
    LimitError
        Before anything is read where the length says so, else as soon as it is passed.
    DataError
        When the length or a chunk is not what HTTP says, or the body is cut.
    """
    lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if codings:
        if lengths or [own.strip().lower() for own in codings] != ["chunked"]:
            raise DataError("a body has a Content-Length or is chunked, nothing else")
        return _read_chunks(stream, limit)
    if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise DataError("the request needs one Content-Length")
    if len(lengths[0]) > 18 or int(lengths[0]) > limit:
        raise LimitError(_too_large(limit))
    return _read_exactly(stream, int(lengths[0]))


def _too_large(limit: int) -> str:
    return f"the body has more than {limit:,} bytes (--max-body)"


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    body = stream.read(size)
    if len(body) < size:
        raise DataError(f"the body ends after {len(body):,} of {size:,} bytes")
    return body


def _read_chunks(stream: BinaryIO, limit: int) -> bytes:
    pieces, size = [], 0
    while True:
        line = stream.readline(LONGEST_CHUNK_LINE)
        digits = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not 0 < len(digits) <= 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise DataError("a chunk of the body has no size")
        length = int(digits, 16)
        size += length
        if size > limit:
            raise LimitError(_too_large(limit))
        if length == 0:
            break
        pieces.append(_read_exactly(stream, length))
        if stream.readline(3).strip():
            raise DataError("a chunk of the body is longer than its size")
    for _ in range(100):  # trailers: nothing is done with them
        if not stream.readline(LONGEST_CHUNK_LINE).strip():
            return b"".join(pieces)
    raise DataError("the body has too many trailers")


class Connections:
    """The connections that are open, and which of them wait for a request.

    Parameters
    ----------
    limit : int
        How many may be open at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[socket.socket, bool] = {}
        self._lock = threading.Condition()
        self.closing = False

    def admit(self, connection: socket.socket) -> bool:
        """Whether there is room for one more."""
        with self._lock:
            if self.closing or len(self._waiting) >= self._limit:
                return False
            self._waiting[connection] = True
            return True

    def drop(self, connection: socket.socket) -> None:
        """It is closed."""
        with self._lock:
            self._waiting.pop(connection, None)
            self._lock.notify_all()

    def working(self, connection: socket.socket, works: bool) -> None:
        """A request of it is being read and answered, or it waits for the next."""
        with self._lock:
            self._waiting[connection] = not works

    def close(self, seconds: float | None) -> None:
        """End those that wait, and wait until the others have their answers."""
        with self._lock:
            self.closing = True
            for connection, waits in self._waiting.items():
                if waits:
                    _shut(connection)
            self._lock.wait_for(lambda: not self._waiting, timeout=seconds)
            for connection in self._waiting:
                _shut(connection)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        pass
