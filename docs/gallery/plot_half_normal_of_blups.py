"""
Half-normal plot of BLUPs
=========================

Slopes of eighteen people in the sleep deprivation study, beside the envelope that the model itself simulates.
"""

from fastlmm_core import datasets, lmm, plots

fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
ax = plots.plot_half_normal(fit, "Subject", coefficient="Days")
