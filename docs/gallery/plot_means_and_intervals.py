"""
Means with their intervals
==========================

The means of a split plot, nitrogen along the axis and a colour for every variety; confidence limits by
Kenward-Roger.
"""

from fastlmm_core import datasets, lmm, plots

fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
ax = plots.plot_emmeans(fit.emmeans("~ N * V"))
ax.set(xlabel="Nitrogen (cwt/acre)", ylabel="Yield (1/4 lb a plot)")
