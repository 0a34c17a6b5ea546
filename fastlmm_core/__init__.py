"""fastlmm_core: fast, exact linear mixed models with Kenward-Roger inference and estimated marginal means."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastlmm_core._version import __version__

if TYPE_CHECKING:  # what checkers and editors see of the names below
    from fastlmm_core import datasets as datasets
    from fastlmm_core import errors as errors
    from fastlmm_core.api import Prepared as Prepared
    from fastlmm_core.api import lmm as lmm
    from fastlmm_core.api import prepare as prepare
    from fastlmm_core.batch import BatchResult as BatchResult
    from fastlmm_core.batch import fit_batch as fit_batch
    from fastlmm_core.batch import fit_group as fit_group
    from fastlmm_core.batch import read_batch as read_batch
    from fastlmm_core.batch import second_stage as second_stage
    from fastlmm_core.design.values.wide_tables import long_table as long_table
    from fastlmm_core.loading import load as load
    from fastlmm_core.multi_environment.summaries import gxe as gxe
    from fastlmm_core.reports import report as report
    from fastlmm_core.request import run as run
    from fastlmm_core.results.factor_analytic.factor_comparison import compare_factors as compare_factors
    from fastlmm_core.results.fit import LMMFit as LMMFit
    from fastlmm_core.results.term_tests import compare as compare
    from fastlmm_core.structures.relationships import Covariance as Covariance
    from fastlmm_core.structures.relationships import Markers as Markers
    from fastlmm_core.structures.relationships import Pedigree as Pedigree
    from fastlmm_core.structures.relationships import SparseInverse as SparseInverse
    from fastlmm_core.structures.relationships import single_step as single_step

# Loaded on first use: `import fastlmm_core` and `fastlmm --version` stay light.
_EXPORTS = {
    "lmm": "fastlmm_core.api",
    "prepare": "fastlmm_core.api",
    "Prepared": "fastlmm_core.api",
    "LMMFit": "fastlmm_core.results.fit",
    "load": "fastlmm_core.loading",
    "compare": "fastlmm_core.results.term_tests",
    "compare_factors": "fastlmm_core.results.factor_analytic.factor_comparison",
    "Pedigree": "fastlmm_core.structures.relationships",
    "Markers": "fastlmm_core.structures.relationships",
    "Covariance": "fastlmm_core.structures.relationships",
    "SparseInverse": "fastlmm_core.structures.relationships",
    "single_step": "fastlmm_core.structures.relationships",
    "fit_batch": "fastlmm_core.batch",
    "fit_group": "fastlmm_core.batch",
    "read_batch": "fastlmm_core.batch",
    "second_stage": "fastlmm_core.batch",
    "BatchResult": "fastlmm_core.batch",
    "gxe": "fastlmm_core.multi_environment.summaries",
    "report": "fastlmm_core.reports",
    "run": "fastlmm_core.request",
    "long_table": "fastlmm_core.design.values.wide_tables",
    "datasets": "fastlmm_core.datasets",
    "errors": "fastlmm_core.errors",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        from fastlmm_core.other_names import missing_function

        raise AttributeError(missing_function(name, __all__))
    module = importlib.import_module(_EXPORTS[name])
    return module if _EXPORTS[name].rpartition(".")[2] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
