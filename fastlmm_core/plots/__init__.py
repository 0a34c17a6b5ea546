"""Figures of a fit (extra `plots`, matplotlib). Each function returns its Axes or Figure."""

from .biplot import plot_biplot
from .blups import plot_blups
from .canvas import save
from .correlation_matrix import plot_correlations
from .factor_figures import plot_latent_regressions, plot_performance
from .field import plot_field, plot_variogram
from .half_normal import plot_half_normal
from .means import plot_comparison_intervals, plot_emmeans, plot_emmeans_by_model
from .profiles import plot_profile
from .residuals import plot_residuals
from .stability import plot_stability
from .trials import plot_trials

__all__ = [
    "plot_biplot",
    "plot_blups",
    "plot_comparison_intervals",
    "plot_correlations",
    "plot_emmeans",
    "plot_emmeans_by_model",
    "plot_field",
    "plot_half_normal",
    "plot_latent_regressions",
    "plot_performance",
    "plot_profile",
    "plot_residuals",
    "plot_stability",
    "plot_trials",
    "plot_variogram",
    "save",
]
