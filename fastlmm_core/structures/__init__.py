"""Covariance structures: everything that the engine, the formula and the tables know about them."""

from fastlmm_core.structures import coefficients  # registers the families
from fastlmm_core.structures.coefficients import CoefficientStructure
from fastlmm_core.structures.registry import (
    coefficient_structure_names,
    make_coefficient_structure,
    register_coefficient_structure,
)

__all__ = [
    "CoefficientStructure",
    "coefficient_structure_names",
    "coefficients",
    "make_coefficient_structure",
    "register_coefficient_structure",
]
