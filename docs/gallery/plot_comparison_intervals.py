"""
Which means differ
==================

Intervals that overlap where two means do not differ at 5 %, adjusted for all pairs.
"""

from fastlmm_core import datasets, lmm, plots

fit = lmm("yield ~ gen + (1|loc)", datasets.load("cochran_bib"))
ax = plots.plot_comparison_intervals(fit.emmeans("gen"))
