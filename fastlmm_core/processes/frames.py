"""Messages between a process and those it has started: a length of 8 bytes, then so many bytes."""

from __future__ import annotations

import socket
import struct
import time

LENGTH = struct.Struct("<Q")
PIECE = 1 << 20


def send_frame(channel: socket.socket, body: bytes, deadline: float | None = None) -> None:
    """Write one message.

    Raises
    ------
    TimeoutError
        When it is not taken before the deadline (``time.monotonic``).
    OSError
        When the other side is gone.
    """
    channel.settimeout(seconds_left(deadline))
    channel.sendall(LENGTH.pack(len(body)))
    channel.settimeout(seconds_left(deadline))
    channel.sendall(body)  # its time is that of all bytes, not of each piece


def receive_frame(channel: socket.socket, deadline: float | None = None) -> bytes | None:
    """The next message; None when the other side is gone.

    Raises
    ------
    TimeoutError
        When it is not there before the deadline.
    """
    head = _receive(channel, LENGTH.size, deadline)
    return None if head is None else _receive(channel, LENGTH.unpack(head)[0], deadline)


def _receive(channel: socket.socket, size: int, deadline: float | None) -> bytes | None:
    pieces, left = [], size
    while left:
        channel.settimeout(seconds_left(deadline))
        try:
            piece = channel.recv(min(left, PIECE))
        except ConnectionError:
            return None
        if not piece:
            return None
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def seconds_left(deadline: float | None) -> float | None:
    """Until the deadline; None without one.

    Raises
    ------
    TimeoutError
        When it has passed.
    """
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left
