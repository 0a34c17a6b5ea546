"""Answers as bytes: the JSON of an answer, and of an error with its kind."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from fastlmm_core.errors import FastLMMError, InternalError

MARK = re.compile(rb'\{\s*"id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.){0,200}"|\d{1,15})\s*[,}]')


class Answer(NamedTuple):
    """What a worker says: a line of JSON, and whether it is an answer or an error.

    With a `keeper` the line is the error that holds unless the worker of this key can be asked instead.
    """

    good: bool
    line: bytes
    keeper: str | None = None

    def frame(self) -> bytes:
        """As one message."""
        if self.keeper is not None:
            return b">" + self.keeper.encode("ascii") + b" " + self.line
        return (b"+" if self.good else b"-") + self.line

    @classmethod
    def of(cls, frame: bytes) -> Answer:
        """From a message."""
        if frame[:1] == b">":
            keeper, _, line = frame[1:].partition(b" ")
            return cls(False, line, keeper.decode("ascii"))
        return cls(frame[:1] == b"+", frame[1:])


def as_line(answer: dict[str, Any]) -> bytes:
    """One line of JSON, without its end; what no UTF-8 writes is escaped."""
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", errors="backslashreplace")


def error_answer(error: Exception, identity: Any = None) -> bytes:
    """``{"id": .., "error": {"code": .., "message": ..}}`` of any exception."""
    ours: BaseException = error
    if not isinstance(error, FastLMMError):
        from fastlmm_core.gate import ours_of  # loads NumPy, which only workers need

        ours = ours_of(error)
    if not isinstance(ours, FastLMMError):
        ours = InternalError(f"{type(ours).__name__}: {ours}")
    known = {} if identity is None else {"id": identity}
    return as_line({**known, "error": {"code": ours.code, "message": str(ours)}})


def identity_of(body: bytes) -> Any:
    """The id of a request that no worker has answered; it is found only where it is the first key.

    The request is not parsed: it may be what made the worker fail, and it may be large.
    """
    found = MARK.match(body.lstrip(b" \t\r\n\xef\xbb\xbf")[:300])
    try:
        return None if found is None else json.loads(found[1])
    except ValueError:
        return None
