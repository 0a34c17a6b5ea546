"""What a table of all pairs of means takes in memory."""

from __future__ import annotations

from collections.abc import Sequence

from fastlmm_core.linalg.memory import check_memory

ALL_PAIRS = ("pairwise", "revpairwise", "tukey", "pairs")
# Peak while a table of pairs is made and shown as a frame: 230 to 265 bytes a pair were measured with labels
# of 13 characters; the rest is for longer ones.
PAIR_BYTES = 300
# Below this no forecast is compared with what the machine has.
SMALL = 10**8
FEWER_PAIRS = "Stream them with stream_pairs(path), or compare with one control (trt.vs.ctrl) or with best()"


def check_pairs(method: object, sizes: Sequence[int]) -> None:
    """Refuse a table of all pairs within groups of these numbers of means that will not fit in memory.

    Raises
    ------
    MemoryForecastError
    """
    pairs = sum(k * (k - 1) // 2 for k in sizes)
    needed = PAIR_BYTES * pairs
    if isinstance(method, str) and method in ALL_PAIRS and needed > SMALL:
        check_memory(needed, None, f"a table of {pairs:,} pairs of means", advice=FEWER_PAIRS)
