"""`fastlmm demo`: blocks fixed or random, with the reasons for what differs, and a report of six trials."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlmm_core import datasets
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import DataError, DependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastlmm_core.batch import BatchResult
    from fastlmm_core.results.fit import LMMFit

FIGURE, REPORT = "potash_blocks.png", "report"
MAIZE = "yield ~ rep + (1|gen) + (1|rep:block)"


def demo_command(arguments: argparse.Namespace) -> int:
    """Print both analyses and write the figure to `arguments.out`; always returns 0 (errors are raised)."""
    kfert_fixed, kfert_random = fit_potash()
    print("\n".join(potash_report(kfert_fixed, kfert_random)))
    if not arguments.no_plot:
        try:
            print(f"\nThe figure is saved: {draw_figure(kfert_fixed, kfert_random, Path(arguments.out))}\n")
        except DependencyError as err:  # the tables do not need it
            print(f"\nNo figure is drawn: {err}\n")
    print("\n".join(hybrids_report(*fit_hybrids())))
    batch = fit_maize()
    print("\n".join(maize_report(batch)))
    if not arguments.no_plot:
        print(f"\nThe report is written, open it in a browser: {write_report(batch, Path(arguments.out))}\n")
    return 0


def fit_potash() -> tuple[LMMFit, LMMFit]:
    """Potash on cotton with blocks fixed, and with blocks random."""
    from fastlmm_core.api import lmm

    data = datasets.load("cochrancox_kfert")
    return lmm("yield ~ K2O_lbac + rep", data), lmm("yield ~ K2O_lbac + (1|rep)", data)


def fit_hybrids() -> tuple[LMMFit, LMMFit]:
    """Maize hybrids in incomplete blocks with blocks fixed, and with blocks random."""
    from fastlmm_core.api import lmm

    data = datasets.load("cochran_bib")
    return lmm("yield ~ gen + loc", data), lmm("yield ~ gen + (1|loc)", data)


def fit_maize() -> BatchResult:
    """64 maize hybrids in six counties, every trial by itself."""
    from fastlmm_core.batch import fit_batch

    return fit_batch(
        datasets.load("besag_field"), MAIZE, by="county", genotypes="gen", plots=["row", "col"],
        progress=False,
    )  # fmt: skip


def block_means(fit: LMMFit, factor: str) -> Any:
    """Means of a factor: residual df in the linear model, Kenward-Roger in the mixed one."""
    return fit.emmeans(f"~ {factor}")


def one_contrast(means: Any, first: str, second: str) -> Any:
    """The difference of two means, unadjusted."""
    frame = means.to_frame()
    labels = [str(v) for v in frame.iloc[:, 0]]
    weights = [float(label == first) - float(label == second) for label in labels]
    return means.contrast({f"{first} - {second}": weights}, adjust="none")


def variance(fit: LMMFit, group: str) -> float:
    """Variance of a scalar random effect."""
    components = fit.variance_components
    return float(components.loc[components["group"] == group, "estimate"].iloc[0])


def potash_report(fixed: LMMFit, random: LMMFit) -> list[str]:
    """Lines of the first analysis: randomized complete blocks."""
    blocks = 3
    residual, between = random.sigma**2, variance(random, "rep")
    lines = [
        _heading("1. Potash on cotton: five rates in three complete blocks (Cochran & Cox 1957)"),
        "Yield in tn/ac for K₂O in lb/ac. Are blocks fixed or random?",
    ]
    for words, fit in (("fixed", fixed), ("random", random)):
        means = block_means(fit, "K2O_lbac")
        difference = one_contrast(means, "36", "144")
        lines += ["", f"Blocks {words}: {fit.formula}", "", str(means), "", str(difference)]
    lines += [
        "",
        "The means are the same: every rate stands in every block. What differs is what their standard",
        f"errors speak about. With σ² = {residual:.5f}, σ_b² = {between:.5f} and b = {blocks} blocks:",
        f"  mean, blocks fixed    √(σ²/b)         = {math.sqrt(residual / blocks):.4f}   these three blocks",
        f"  mean, blocks random   √((σ²+σ_b²)/b)  = {math.sqrt((residual + between) / blocks):.4f}"
        "   blocks like these",
        f"  difference, both      √(2σ²/b)        = {math.sqrt(2 * residual / blocks):.4f}   blocks cancel",
    ]
    return lines


def hybrids_report(fixed: LMMFit, random: LMMFit) -> list[str]:
    """Lines of the second analysis: balanced incomplete blocks."""
    lines = [_heading("2. Maize hybrids: 13 hybrids in 13 incomplete blocks of 4 (Cochran & Cox 1957)")]
    shown = {}
    for words, fit in (("fixed", fixed), ("random", random)):
        means = block_means(fit, "gen")
        difference = one_contrast(means, "G01", "G02")
        shown[words] = (means.to_frame()["se"].iloc[0], difference.to_frame()["se"].iloc[0])
        lines += [f"Blocks {words}", "", str(fit.summary()), "", str(means), "", str(difference), ""]
    (mean_f, diff_f), (mean_r, diff_r) = shown["fixed"], shown["random"]
    residual, between = random.sigma**2, variance(random, "loc")
    return [
        *lines,
        "Here the two models give different means. No block holds all hybrids, so the block totals, too,",
        "say something about the hybrids. Blocks taken as fixed throw that away; blocks taken as random",
        "recover it (inter-block information) and weigh it by how much the blocks vary.",
        f"  A difference of two hybrids: SE {diff_r:.2f} with blocks random, {diff_f:.2f} with them fixed.",
        "    More precise, for it uses the comparison within blocks and the one between block totals.",
        f"  The mean of one hybrid: SE {mean_r:.3f} with blocks random, {mean_f:.3f} with them fixed.",
        "    Less precise, for it speaks about blocks like these instead of these thirteen, and so carries",
        f"    their variance too ({between:.3f}, beside {residual:.3f} of a plot).",
    ]


def maize_report(batch: BatchResult) -> list[str]:
    """Lines of the third analysis: was every trial any good, and which hybrids go on."""
    table = batch.trial_table()
    columns = ["county", "n", "grand_mean", "cv", "p_genotypes", "lsd_mean", "h2", "outlier_plots"]
    values = batch.genotype_values
    first = values[values["rank"] == 1].set_index("county")
    best = [f"{county} {row['gen']} {row['estimate']:.1f}" for county, row in first.iterrows()]
    return [
        _heading("3. Maize in six counties: trials in one row each, and a report (Besag & Higdon 1999)"),
        f"{batch.plan.formula}, county by county:",
        "",
        str(Table(table[columns], kinds={"p_genotypes": "p"}, digits=3)),
        "",
        f"The best hybrid of each county (mean + BLUP): {', '.join(best)}.",
    ]


def write_report(batch: BatchResult, folder: Path) -> Path:
    """Write the pages; returns the first."""
    from fastlmm_core.reports import report

    return report(batch, folder / REPORT, title="Maize hybrids in six counties", progress=False)


def _heading(text: str) -> str:
    return f"\n{text}\n{'=' * len(text)}"


def draw_figure(fixed: LMMFit, random: LMMFit, folder: Path) -> Path:
    """Write the figure of the potash means as PNG.

    Returns
    -------
    Path
        The PNG written.
    """
    from fastlmm_core.plots import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"folder '{folder}' for the figure cannot be made: {err.strerror}") from err
    return save(means_figure(fixed, random), folder / FIGURE)


def means_figure(fixed: LMMFit, random: LMMFit) -> Axes:
    """Means ± SE of both potash models side by side, with the standard error of a difference beside them."""
    from fastlmm_core.plots import plot_emmeans_by_model

    means = {"fixed": block_means(fixed, "K2O_lbac"), "random": block_means(random, "K2O_lbac")}
    ax = plot_emmeans_by_model(
        means,
        bars="se",
        differences={name: table.difference_errors().sed_rms for name, table in means.items()},
        legend_title="blocks modelled as",
    )
    ax.set_xlabel("K₂O (lb/ac)")
    ax.set_ylabel("Yield (tn/ac)")
    return ax
