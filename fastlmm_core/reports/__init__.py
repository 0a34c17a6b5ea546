"""Reports as HTML pages that open without a network: figures, style and script are inside."""

from .writing import report

__all__ = ["report"]
