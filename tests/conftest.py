"""Puts this directory on the import path: `dense_reference`, `random_designs`, `random_pattern`."""

import os

# Before NumPy is loaded: threads on matrices of a few hundred rows cost more than they give.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests that look at standard error find the same on a machine that compiles and on one that loads.
os.environ.setdefault("FASTLMM_QUIET", "1")
