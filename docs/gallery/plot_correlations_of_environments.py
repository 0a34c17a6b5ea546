"""
Genetic correlations between environments
=========================================

Six counties with a factor-analytic model of two factors, in the order of their dendrogram.
"""

from fastlmm_core import datasets, lmm, plots

trials = datasets.load("besag_met")
model = "yield ~ county + fa(0 + county | gen, k=2) + (1 | county:rep) + (1 | county:rep:block)"
fit = lmm(model, trials, residual="units | county")
ax = plots.plot_correlations(fit.factor_analysis())
