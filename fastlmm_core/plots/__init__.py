"""Figures of a fit (extra `plots`, matplotlib). Each function returns its Axes or Figure."""

from .blups import plot_blups
from .canvas import save
from .means import plot_comparison_intervals, plot_emmeans, plot_emmeans_by_model
from .residuals import plot_residuals
from .trials import plot_trials

__all__ = [
    "plot_blups",
    "plot_comparison_intervals",
    "plot_emmeans",
    "plot_emmeans_by_model",
    "plot_residuals",
    "plot_trials",
    "save",
]
