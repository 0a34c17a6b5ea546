"""
Stability
=========

Regressions of genotypes on the means of the environments.
"""

from fastlmm_core import datasets, gxe, plots

wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
ax = plots.plot_stability(wheat)
