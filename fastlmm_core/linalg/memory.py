"""Forecast of the memory of a factorization, and what the machine has."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fastlmm_core.errors import MemoryForecastError, OptionError

# Left to the rest of the machine when the user names no limit.
RESERVE = 0.95
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_memory(value: int | float | str) -> int:
    """Bytes of a limit given as a number of bytes or as text such as "8GB" or "500 MB".

    Raises
    ------
    OptionError
        When it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value > 0:
            return int(value)
        raise OptionError(f"max_memory={value!r} is not positive; give bytes or text such as '8GB'")
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)i?b?\s*", str(value).lower())
    if not match:
        raise OptionError(f"max_memory={value!r} is not a size; give bytes or text such as '8GB'")
    return int(float(match[1]) * _UNITS[match[2]])


def available_memory() -> int:
    """Bytes this process may still use: what the system calls available, within its control group's limit."""
    available = _system_available()
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            room = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):
            continue
        available = min(available, max(room, 0))
    return available


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


def check_memory(
    needed: int, max_memory: int | float | str | None, what: str, *, advice: str = SMALLER_FIT
) -> None:
    """Refuse what will not fit; `advice` is what would help.

    Raises
    ------
    MemoryForecastError
        Naming what is needed, what is available, and what would help.
    """
    limit = parse_memory(max_memory) if max_memory is not None else int(RESERVE * available_memory())
    if needed > limit:
        source = "max_memory" if max_memory is not None else "available memory"
        raise MemoryForecastError(
            f"{what} is forecast to need {needed / 1e9:.2f} GB; {source} is {limit / 1e9:.2f} GB. "
            "Nothing was computed. " + advice + ("; or raise max_memory" if max_memory is not None else ""),
            needed=needed,
            available=limit,
        )
