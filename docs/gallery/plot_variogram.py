"""
Variogram of residuals
======================

Neighbours alike: without a model of the field the semivariance rises with the distance.
"""

from fastlmm_core import datasets, lmm, plots

field = datasets.load("durban_rowcol")
fit = lmm("yield ~ gen + (1|rep)", field)
figure = plots.plot_variogram(fit, row="row", column="bed", data=field)
