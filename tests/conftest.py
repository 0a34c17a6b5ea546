"""Puts this directory on the import path: `dense_reference`, `random_designs`, `random_pattern`."""

import os

# Before NumPy is loaded: threads on matrices of a few hundred rows cost more than they give.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
