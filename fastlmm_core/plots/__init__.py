"""Figures of a fit (extra `plots`, matplotlib). Each function returns its Axes or Figure."""

from fastlmm_core.plots.biplot import plot_biplot
from fastlmm_core.plots.blups import plot_blups
from fastlmm_core.plots.canvas import save
from fastlmm_core.plots.correlation_matrix import plot_correlations
from fastlmm_core.plots.factor_figures import plot_latent_regressions, plot_performance
from fastlmm_core.plots.field import plot_field, plot_variogram
from fastlmm_core.plots.half_normal import plot_half_normal
from fastlmm_core.plots.means import plot_comparison_intervals, plot_emmeans, plot_emmeans_by_model
from fastlmm_core.plots.profiles import plot_profile
from fastlmm_core.plots.residuals import plot_residuals
from fastlmm_core.plots.stability import plot_stability
from fastlmm_core.plots.trials import plot_trials

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
