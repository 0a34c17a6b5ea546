"""Reports as HTML pages that open without a network: figures, style and script are inside."""

from fastlmm_core.reports.writing import report

__all__ = ["report"]
