"""
BLUPs in order
==============

Predictions of random varieties with intervals from their prediction error variance.
"""

from fastlmm_core import datasets, lmm, plots

fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))
ax = plots.plot_blups(fit, "gen")
