"""Covariance of the coefficients of one level (or of the visits of one subject): one file per family.

Every file of this folder is imported, so that a family is registered by being there.
"""

from importlib import import_module
from pkgutil import iter_modules

from fastlmm_core.structures.coefficients.base import CoefficientStructure

__all__ = ["CoefficientStructure"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
