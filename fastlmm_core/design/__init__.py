"""From a formula and a table to the arrays of a mixed model: y, X, Z and their names."""

from fastlmm_core.design.building import build_design
from fastlmm_core.design.matrices import Design, FixedTerm, Variable
from fastlmm_core.design.random_terms import RandomTerm

__all__ = ["Design", "FixedTerm", "RandomTerm", "Variable", "build_design"]
