"""
Residuals
=========

Against fitted values, as quantiles, by a factor, and in the field.
"""

from fastlmm_core import datasets, lmm, plots

field = datasets.load("durban_rowcol")
fit = lmm("yield ~ gen + (1|rep)", field)
figure = plots.plot_residuals(fit, by="rep", row="row", column="bed", data=field)
