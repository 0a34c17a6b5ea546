"""Workers that have nothing to do, and who waits for one."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    """What is known among its kind by a key."""

    @property
    def key(self) -> str: ...


W = TypeVar("W", bound=Keyed)


class _Wait(Generic[W]):
    """One that waits, for a worker of a key or for any."""

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.worker: W | None = None
        self.over = threading.Event()

    def end(self, worker: W | None) -> None:
        self.worker = worker
        self.over.set()


class IdleWorkers(Generic[W]):
    """Workers in the order of their use: any is the one used last, whose memory is warm.

    Who waits longest is served first: neither those who wait for one worker nor those who take any are
    overtaken for ever.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._idle: list[W] = []
        self._waiting: deque[_Wait[W]] = deque()
        self._lock = threading.Lock()

    def put(self, worker: W) -> None:
        """It is new, or idle again."""
        with self._lock:
            self._known.add(worker.key)
            for wait in self._waiting:
                if wait.key in (None, worker.key):
                    self._waiting.remove(wait)
                    wait.end(worker)
                    return
            self._idle.append(worker)

    def drop(self, key: str) -> None:
        """The worker of this key, which was taken, has ended; who waits for it need not."""
        with self._lock:
            self._known.discard(key)
            for wait in [own for own in self._waiting if own.key == key]:
                self._waiting.remove(wait)
                wait.end(None)

    def take(self, key: str | None, seconds: float | None) -> W | None:
        """An idle worker, of this key if one is given; None when there is none of it, or no longer.

        Raises
        ------
        TimeoutError
            When it is not idle within `seconds`.
        """
        with self._lock:
            if key is not None and key not in self._known:
                return None
            for place in reversed(range(len(self._idle))):
                if key in (None, self._idle[place].key):
                    return self._idle.pop(place)
            wait: _Wait[W] = _Wait(key)
            self._waiting.append(wait)
        wait.over.wait(seconds)
        with self._lock:
            if not wait.over.is_set():
                self._waiting.remove(wait)
                raise TimeoutError
        return wait.worker

    def take_all(self) -> list[W]:
        """All that are idle."""
        with self._lock:
            found, self._idle = self._idle, []
            return found
