"""Forecast of the memory of a factorization, and what the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastlmm_core.errors import MemoryForecastError, OptionError, shown
from fastlmm_core.limits import in_bytes

# Left to the rest of the machine when the user names no limit.
RESERVE = 0.95
SMALLEST_LIMIT = 100_000  # bytes; below it somebody left out the unit


def parse_memory(value: int | float | str) -> int:
    """Bytes of a limit given as a number of bytes or as text such as "8GB" or "500 MB".

    Raises
    ------
    OptionError
        When it is neither, not finite, or so small that the unit must be missing.
    """
    size = in_bytes("max_memory", value)
    if size < SMALLEST_LIMIT:
        raise OptionError(f"max_memory={shown(value)} is {size} bytes; give bytes or text such as '8GB'")
    return size


def available_memory() -> int:
    """Bytes this process may still use: the least that system, control groups and process limits leave."""
    rooms = [_system_available(), *_group_room(), *_process_room()]  # groups and limits may leave none
    return max(0, min(rooms))


def _group_room(proc: Path = Path("/proc"), mounted: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Room in each control group (version 1 or 2) of this process that has a limit, and in those above it.

    File pages that nobody uses count as used there although they are given up at need; they are taken off.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names, cache = mounted, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in controllers.split(","):
            root, cache = mounted / "memory", "total_inactive_file"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = root / path.strip("/")
        for folder in (own, *own.parents):
            yield from _room(folder, names, cache)
            if folder == root:
                break


def _room(folder: Path, names: tuple[str, str], cache: str) -> Iterator[int]:
    try:
        limit, used = (int((folder / name).read_text()) for name in names)
    except (OSError, ValueError):  # "max", or no such file
        return
    try:
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        counts = {}
    yield limit - used + int(counts.get(cache, 0))


def _process_room() -> Iterator[int]:
    """Room under the limits of ``ulimit -v`` and ``ulimit -d``."""
    try:
        import resource

        pages = Path("/proc/self/statm").read_text().split()
    except (ImportError, OSError):  # not on Linux
        return
    page = os.sysconf("SC_PAGE_SIZE")
    for kind, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit - int(used) * page


def _system_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 2**62  # unknown: no refusal


SMALLER_FIT = (
    "Drop a random term with very many levels, fit parts of the data, or use a machine with more memory"
)


def memory_limit(max_memory: int | float | str | None) -> int:
    """Bytes that may be used: what the user allows, or most of what is available."""
    return parse_memory(max_memory) if max_memory is not None else int(RESERVE * available_memory())


def check_memory(
    needed: int, max_memory: int | float | str | None, what: str, *, advice: str = SMALLER_FIT
) -> None:
    """Refuse what will not fit; `advice` is what would help.

    Raises
    ------
    MemoryForecastError
        Naming what is needed, what is available, and what would help.
    """
    limit = memory_limit(max_memory)
    if needed > limit:
        source = "max_memory" if max_memory is not None else "available memory"
        raise MemoryForecastError(
            f"{what} is forecast to need {needed / 1e9:.2f} GB; {source} is {limit / 1e9:.2f} GB. "
            "Nothing was computed. " + advice + ("; or raise max_memory" if max_memory is not None else ""),
            needed=needed,
            available=limit,
        )
