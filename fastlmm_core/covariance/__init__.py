"""Covariance structures of random terms: one short file per family, one contract."""

from fastlmm_core.covariance.base import (
    CovarianceStructure,
    make_structure,
    register_structure,
    structure_names,
)
from fastlmm_core.covariance.diagonal import Diagonal
from fastlmm_core.covariance.unstructured import Unstructured

__all__ = [
    "CovarianceStructure",
    "Diagonal",
    "Unstructured",
    "make_structure",
    "register_structure",
    "structure_names",
]
