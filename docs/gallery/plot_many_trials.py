"""
Many trials
===========

What became of every trial of a batch: heritability, shares of variance, and those that could not be fitted.
"""

from fastlmm_core import datasets, fit_batch, plots

batch = fit_batch(
    datasets.path("trials"),
    "~ rep + (1|gen) + (1|rep:block)",
    by="trial",
    traits=["yield", "height"],
    blups="gen",
    progress=False,
)
figure = plots.plot_trials(batch, "yield")
