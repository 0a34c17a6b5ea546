"""Figures of correlations, factors and two-way tables: what is drawn is what the results say."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, gxe, lmm
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.plots import (
    plot_biplot,
    plot_correlations,
    plot_latent_regressions,
    plot_performance,
    plot_stability,
)

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
WHEAT = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def trials():
    table = datasets.load("trials")
    return lmm("yield ~ trial + fa(0 + trial | gen, k=2) + (1 | trial:rep:block)", table)


def points(ax):
    """Coordinates of the markers."""
    return np.vstack([line.get_xydata() for line in ax.lines if line.get_marker() == "o"])


def written(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_a_heat_map_shows_the_matrix_in_the_order_of_its_tree(trials):
    analysis = trials.factor_analysis()
    ax = plot_correlations(analysis)
    order = analysis.order()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == order
    shown = ax.images[0].get_array()
    np.testing.assert_allclose(shown, analysis.correlations.loc[order, order])
    names = list(plot_correlations(analysis, order="given").get_xticklabels())
    assert [tick.get_text() for tick in names] == list(analysis.environments)
    of_fit = plot_correlations(trials, "gen", order="given").images[0].get_array()
    np.testing.assert_allclose(of_fit, analysis.correlations, atol=1e-10)
    assert plot_correlations(trials.correlations()).get_title() == "gen"
    plot_correlations(WHEAT)


def test_what_is_no_correlation_matrix_is_refused():
    with pytest.raises(DataError, match="a correlation matrix is square; this table is 3 x 2"):
        plot_correlations(pd.DataFrame(np.zeros((3, 2))))
    with pytest.raises(DataError, match="a str holds no correlation matrix"):
        plot_correlations("gen")


@pytest.mark.parametrize("factor", [1, 2])
def test_latent_regressions_pass_through_the_origin_with_the_score_as_slope(trials, factor):
    analysis = trials.factor_analysis()
    level = analysis.levels[3]
    figure = plot_latent_regressions(analysis, [level], factor=factor)
    ax = figure.axes[0]
    line = next(line for line in ax.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2
                and line.get_color() != "#7F7F7F")  # fmt: skip
    (x0, y0), (x1, y1) = line.get_xydata()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(analysis.factor_scores[3, factor - 1])
    before = analysis.factor_scores[3, : factor - 1] @ analysis.gamma[:, : factor - 1].T
    want = analysis.common_effects.loc[level].to_numpy() - before
    np.testing.assert_allclose(points(ax), np.column_stack([analysis.gamma[:, factor - 1], want]), atol=1e-12)
    whole = plot_latent_regressions(analysis, [level], factor=factor, specific=True).axes[0]
    np.testing.assert_allclose(points(whole)[:, 1], analysis.effects[3] - before, atol=1e-12)
    assert len(plot_latent_regressions(analysis).axes) == 9


def test_levels_and_factors_that_are_not_there(trials):
    analysis = trials.factor_analysis()
    with pytest.raises(DataError, match="'G99' is no level of gen"):
        plot_latent_regressions(analysis, ["G99"])
    with pytest.raises(OptionError, match="factor=3: the model has 2"):
        plot_latent_regressions(analysis, factor=3)
    with pytest.raises(DataError, match="there is no genotype 'Fan'; nearest: 'Fun'"):
        plot_stability(WHEAT, ["Fan"])
    with pytest.raises(OptionError, match="axes=\\(1, 9\\) must be two of 1 to 8"):
        plot_biplot(WHEAT.ammi(), (1, 9))
    with pytest.raises(OptionError, match="a biplot needs two axes"):
        plot_biplot(analysis, (1, 1))


def test_performance_against_stability(trials):
    analysis = trials.factor_analysis()
    ax = plot_performance(analysis, label=3)
    np.testing.assert_allclose(points(ax), analysis.performance[["OP", "RMSD"]])
    best = analysis.performance.sort_values("OP", ascending=False)["level"].head(3)
    assert written(ax) == list(best)


def test_biplots_show_scores_and_directions():
    for source in (WHEAT.gge(), WHEAT.ammi(), WHEAT.gge("sd", "genotype")):
        plot = source.biplot
        ax = plot_biplot(source, polygon=plot.axis == "PC")
        np.testing.assert_allclose(points(ax), plot.row_scores[:, :2])
        assert set(written(ax)) == {*plot.rows, *plot.columns}
        tips = np.array([text.xy for text in ax.texts if not text.get_text()])
        stretch = tips / plot.column_scores[:, :2]
        np.testing.assert_allclose(stretch, stretch[0, 0])  # one factor for all vectors
        assert f"{plot.percent[0]:.1f}%" in ax.get_xlabel()


def test_names_stand_apart():
    ax = plot_biplot(WHEAT.gge())
    boxes = ax._label_boxes[-27:]
    centres = {(round(a[0]), round(a[1])) for a in boxes}
    assert len(centres) == 27


def test_regression_lines_of_genotypes():
    ax = plot_stability(WHEAT, "Fun")
    row = WHEAT.stability().frame.set_index("genotype").loc["Fun"]
    line = next(line for line in ax.lines if line.get_label().startswith("Fun"))
    (x0, y0), (x1, y1) = line.get_xydata()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(row["slope"])
    assert ax.get_legend().get_texts()[0].get_text() == f"Fun: {row['slope']:.2f}"
