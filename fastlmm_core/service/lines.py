"""JSON lines: requests on one descriptor, answers on another, until the end of input or a signal."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from fastlmm_core.errors import FastLMMError, LimitError
from fastlmm_core.service.answers import error_answer, identity_of
from fastlmm_core.service.workers import Workers

PIECE = 1 << 20
TOO_LONG = None  # in place of a line that was passed over


class LineReader:
    """Lines of a descriptor, none of which is ever held beyond the limit.

    Parameters
    ----------
    source : int
        File descriptor.
    limit : int
        Bytes of a line.
    stop : int
        Descriptor that becomes readable when reading is to end.
    """

    def __init__(self, source: int, limit: int, stop: int) -> None:
        self._source, self._limit, self._stop = source, limit, stop

    def __iter__(self) -> Iterator[bytes | None]:
        """Lines without their ends, `TOO_LONG` for one beyond the limit; a last line needs no end."""
        pieces: list[bytes] = []
        size, passed_over = 0, False
        for piece in self._pieces():
            *ended, rest = piece.split(b"\n")
            for part in ended:
                too_long = passed_over or size + len(part) > self._limit
                yield TOO_LONG if too_long else b"".join([*pieces, part])
                pieces, size, passed_over = [], 0, False
            size += len(rest)
            passed_over = passed_over or size > self._limit
            pieces = [] if passed_over else [*pieces, rest] if rest else pieces
        if passed_over or pieces:
            yield TOO_LONG if passed_over else b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        while True:
            ready, _, _ = select.select([self._source, self._stop], [], [])
            if self._stop in ready:
                return
            piece = os.read(self._source, PIECE)
            if not piece:
                return
            yield piece


def serve_lines(workers: Workers, source: int, target: int, stop: int, limit: int) -> None:
    """Answer every line of `source` with a line on `target`; ends when all that was read is answered.

    With one worker answers come in the order of the requests. With several they come as they are ready, and
    an ``id`` tells which is which.

    Parameters
    ----------
    workers : Workers
    source, target, stop : int
        File descriptors, of requests, of answers, and one that becomes readable when reading is to end.
    limit : int
        Bytes of a line.
    """
    writing = threading.Lock()
    gone = threading.Event()
    room = threading.Semaphore(2 * workers.count)  # what waits here has been read: not more than that

    def work(line: bytes | None) -> None:
        try:
            answer = line_answer(workers, line, limit)
            with writing:
                write_all(target, answer + b"\n")
        except BrokenPipeError:  # nobody reads: there is no use in going on
            gone.set()
        finally:
            room.release()

    with ThreadPoolExecutor(workers.count) as pool:
        for line in LineReader(source, limit, stop):
            if line is not TOO_LONG and not line.strip():
                continue
            room.acquire()
            if gone.is_set():
                break
            pool.submit(work, line)


def line_answer(workers: Workers, line: bytes | None, limit: int) -> bytes:
    """The answer to one line, an error where there is no other."""
    if line is None:
        return error_answer(LimitError(f"the line has more than {limit:,} bytes (--max-body)"))
    try:
        return workers.answer(line).line
    except FastLMMError as error:
        return error_answer(error, identity_of(line))


def write_all(target: int, data: bytes) -> None:
    """Write everything; `os.write` may write a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
