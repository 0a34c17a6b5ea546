"""Random vectors that stand for all: a matrix that sends them to zero sends every vector there.

That holds but for vectors without measure, as long as nobody else draws the same ones. Tables are often
simulated with ``np.random.default_rng(0)``, and a covariate in them may be the first vector of that seed;
so the streams here begin where no single whole number leads.
"""

from __future__ import annotations

import numpy as np

# Words that no seed of one whole number fills in, and that nobody types.
ENTROPY = (0x9E3779B9, 0x243F6A88, 0xB7E15162, 0x7F4A7C15)


def probing(stream: int = 0) -> np.random.Generator:
    """Generator of probing vectors, the same at every call; other streams are independent of it."""
    return np.random.default_rng((*ENTROPY, stream))
