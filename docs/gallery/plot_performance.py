"""
Overall performance and stability
=================================

Hybrids by their overall performance over six counties, and how far they stray from it: the good and stable
ones are low to the right.
"""

from fastlmm_core import datasets, lmm, plots

trials = datasets.load("besag_met")
model = "yield ~ county + fa(0 + county | gen, k=2) + (1 | county:rep) + (1 | county:rep:block)"
fit = lmm(model, trials, residual="units | county")
ax = plots.plot_performance(fit.factor_analysis())
