"""Sparse Cholesky factors behind one interface: compiled kernels for small systems, supernodes above."""

from fastlmm_core.linalg.factor import CholeskyFactor, SimplicialFactor, make_factor

__all__ = ["CholeskyFactor", "SimplicialFactor", "make_factor"]
