"""Sparse Cholesky factors behind one contract: compiled columns for small systems, panels for large ones."""

from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.factor import make_factor

__all__ = ["CholeskyFactor", "make_factor"]
