"""fastlmm_core: fast, exact linear mixed models with Kenward-Roger inference and estimated marginal means."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded on first use: `import fastlmm_core` and `fastlmm --version` stay light.
_EXPORTS = {
    "lmm": "fastlmm_core.api",
    "prepare": "fastlmm_core.api",
    "Prepared": "fastlmm_core.api",
    "LMMFit": "fastlmm_core.results.fit",
    "load": "fastlmm_core.results.saving",
    "compare": "fastlmm_core.results.term_tests",
    "Pedigree": "fastlmm_core.structures.relationships",
    "Markers": "fastlmm_core.structures.relationships",
    "Covariance": "fastlmm_core.structures.relationships",
    "SparseInverse": "fastlmm_core.structures.relationships",
    "single_step": "fastlmm_core.structures.relationships",
    "fit_batch": "fastlmm_core.batch",
    "fit_group": "fastlmm_core.batch",
    "BatchResult": "fastlmm_core.batch",
    "run": "fastlmm_core.request",
    "datasets": "fastlmm_core.datasets",
    "errors": "fastlmm_core.errors",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fastlmm_core' has no attribute {name!r}")
    module = importlib.import_module(_EXPORTS[name])
    return module if _EXPORTS[name].rpartition(".")[2] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
