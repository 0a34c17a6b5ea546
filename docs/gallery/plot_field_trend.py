"""
Trend over a field
==================

Response, smooth trend, residuals, rows, columns and variogram of a barley trial of 16 rows and 34 beds.
"""

from fastlmm_core import datasets, lmm, plots

field = datasets.load("durban_rowcol")
fit = lmm("yield ~ (1|gen)", field, field_trend="ps(row, bed)")
figure = plots.plot_field(fit)
