"""
Latent regressions
==================

Effects of hybrids in every county against the loadings of the first factor.
"""

from fastlmm_core import datasets, lmm, plots

trials = datasets.load("besag_met")
model = "yield ~ county + fa(0 + county | gen, k=2) + (1 | county:rep) + (1 | county:rep:block)"
fit = lmm(model, trials, residual="units | county")
figure = plots.plot_latent_regressions(fit.factor_analysis())
