"""
Which won where
===============

GGE biplot of winter wheats in Ontario, with the sectors of the winners.
"""

from fastlmm_core import datasets, gxe, plots

wheat = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
ax = plots.plot_biplot(wheat.gge(), polygon=True)
