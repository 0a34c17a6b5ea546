"""
Profile likelihood
==================

Signed roots of the rise of the deviance. A bent curve belongs to a likelihood that is not
normal, as that of a variance.
"""

from fastlmm_core import datasets, lmm, plots

fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
figure = plots.plot_profile(fit.profile())
