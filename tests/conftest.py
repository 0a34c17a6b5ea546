"""Puts this directory on the import path, so that every test finds `dense_reference` and `random_designs`."""

import os

# Before NumPy is loaded: threads on matrices of a few hundred rows cost more than they give.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
