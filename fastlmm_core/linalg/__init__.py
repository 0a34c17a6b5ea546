"""Sparse Cholesky factors behind one contract: compiled columns for small systems, panels for large ones."""

from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.factor import FACTORIZATIONS, make_factor

__all__ = ["FACTORIZATIONS", "CholeskyFactor", "make_factor"]
