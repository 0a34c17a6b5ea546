"""What one asks of a result next: the last line that it shows of itself in a session."""

from __future__ import annotations

# By name of the class; a class without an entry takes that of the class it is made from. Calls are methods of
# the object (with a dot in front), or functions it is given to.
NEXT_STEPS: dict[str, tuple[str, ...]] = {
    "LMMFit": (
        ".summary()", ".anova()", ".emmeans(factor)", ".blups()", ".variance_components", ".conf_int()",
        ".predict(newdata)", "plots.plot_residuals(fit)",
    ),
    "Prepared": (".fit()", ".fit(y=response)", ".design"),
    "Design": (".frame", ".X", ".random", ".column_names"),
    "RandomTerm": (".levels", ".columns", ".codes"),
    "SplineTerm": (".names", ".basis"),
    "ResidualSpec": (".text", ".structure"),
    "BatchPlan": ("fit_group(table, plan)", ".tables"),
    "Summary": (".fixed_effects", ".random_effects", ".residual_quantiles"),
    "Convergence": (".trace",),
    "LinearFunctions": (".se()", ".df()", ".cov", ".f_test()"),
    "EmmeansTable": (
        '.contrast("pairwise")', ".cld()", ".difference_errors()", ".to_frame()", "plots.plot_emmeans(means)",
    ),
    "ContrastTable": (".to_frame()", '.with_options(adjust="holm")', ".test(delta=0.1)"),
    "DifferenceErrors": (".to_frame()",),
    "ComparisonIntervals": (".to_frame()", "plots.plot_comparison_intervals(means)"),
    "PairsForecast": (".seconds", ".memory_whole", "means.stream_pairs()"),
    "ConditionalAIC": (".caic", ".df", ".loglik"),
    "FTest": (".F", ".df_num", ".df_den", ".p"),
    "FStatistic": (".F", ".df1", ".df2", ".p"),
    "TableGroup": (".tables",),
    "FigureTable": (".to_frame()",),
    "CorrelationTable": (".matrix(group)", ".errors(group)", ".to_frame()", "plots.plot_correlations(fit)"),
    "HeritabilityTable": ('["cullis"]', ".by_level", ".pairs", ".to_frame()"),
    "GenotypeValues": (
        ".best(5)", ".select(5)", ".against(check)", ".without(checks)", ".index(weights)", ".to_frame()",
    ),
    "FactorAnalysis": (
        ".loadings", ".explained", ".scores", ".performance", "plots.plot_latent_regressions(analysis)",
    ),
    "VarianceFunction": (".estimate", ".se", ".conf_int()"),
    "Profile": (".conf_int(level)", ".points", "plots.plot_profile(profile)"),
    "Bootstrap": (".conf_int()", ".summary()", ".frame()"),
    "BatchResult": (".fits", ".failures", ".table(name)", "plots.plot_trials(result)"),
    "GxE": (".stability()", ".ammi(2)", ".gge()", ".variance_shares()", "plots.plot_stability(table)"),
    "AMMI": (".anova", ".winners()", ".genotype_scores", "plots.plot_biplot(ammi)"),
    "GGE": (".winners()", ".ranking()", ".environments()", "plots.plot_biplot(gge)"),
    "TwoWayTable": (".frame()",),
    "Biplot": ("plots.plot_biplot(biplot)",),
    "Relationship": (
        '.relationship(names)', 'lmm("y ~ 1 + (1 | vm(animal, A))", data, relationships={"A": A})',
    ),
    "Pedigree": (
        ".inbreeding()", ".relationship(names)", ".pruned(names)",
        'lmm("y ~ 1 + (1 | vm(animal, A))", data, relationships={"A": A})',
    ),
    "Markers": (
        ".relationship(names)", 'lmm("y ~ 1 + (1 | vm(gen, G))", data, relationships={"G": G})',
        ".marker_effects() of the fit",
    ),
}  # fmt: skip


def next_steps(kind: type) -> tuple[str, ...]:
    """Those of a class, or of the nearest class it is made from; empty where none is declared."""
    for own in kind.__mro__:
        if own.__name__ in NEXT_STEPS:
            return NEXT_STEPS[own.__name__]
    return ()
