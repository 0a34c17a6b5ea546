"""
Blocks fixed or random
======================

Standard errors of means differ, those of differences do not: Cochran & Cox's potash on cotton.
"""

from fastlmm_core import datasets, lmm, plots

table = datasets.load("cochrancox_kfert")
fits = {"fixed": lmm("yield ~ K2O_lbac + rep", table), "random": lmm("yield ~ K2O_lbac + (1|rep)", table)}
means = {name: fit.emmeans("K2O_lbac") for name, fit in fits.items()}
ax = plots.plot_emmeans_by_model(
    means,
    differences={name: own.difference_errors().sed_rms for name, own in means.items()},
    legend_title="blocks modelled as",
)
ax.set(xlabel="K2O (lb/ac)", ylabel="Yield (tn/ac)")
