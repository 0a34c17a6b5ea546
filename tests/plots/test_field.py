"""Maps of a field show the figures of the fit, and leave missing plots white."""

import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.plots import plot_field, plot_variogram
from fastlmm_core.reports import figures

LOST = [3, 100, 101, 300]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def durban():
    table = datasets.load("durban_rowcol")
    return table.drop(index=table.index[LOST]).reset_index(drop=True)


@pytest.fixture(scope="module")
def surface(durban):
    return lmm("yield ~ rep + (1 | gen)", durban, field_trend="ps(row, bed)")


def images(figure):
    return [np.ma.filled(ax.get_images()[0].get_array(), np.nan) for ax in figure.axes if ax.get_images()]


def on_the_field(durban, values):
    return (
        durban.assign(value=values).pivot(index="row", columns="bed", values="value").to_numpy()
    )  # 16 x 34, NaN where a plot is missing


def test_maps_of_response_trend_and_residuals(durban, surface):
    response, trend, residuals = images(plot_field(surface))
    np.testing.assert_allclose(response, on_the_field(durban, durban["yield"]))
    np.testing.assert_allclose(residuals, on_the_field(durban, surface.residuals))
    assert np.isnan(residuals).sum() == len(LOST)
    np.testing.assert_allclose(trend.ravel(), surface.trend()["trend"])


def test_a_yield_far_from_all_others_does_not_take_the_colours(durban, surface):
    """The scale is that of the other plots, and points where there is more."""
    wrong = durban.assign(**{"yield": durban["yield"].where(durban.index != 50, 80.0)})
    limits = []
    for fit in (surface, lmm("yield ~ rep + gen", wrong)):
        figure = plot_field(fit, row="row", column="bed", data=wrong)
        (image,), bar = figure.axes[0].get_images(), figure.axes[6]
        limits.append((*image.get_clim(), bar._colorbar.extend))
    rest = durban["yield"].drop(index=50)
    assert limits[0] == (durban["yield"].min(), durban["yield"].max(), "neither")
    assert limits[1] == (rest.min(), rest.max(), "max")


def test_both_sides_of_zero_have_the_colours_of_reports(surface):
    """Blue is above zero in figures and on pages, and both say so."""
    figure = plot_field(surface)
    image = figure.axes[2].get_images()[0]
    drawn = {sign: np.array(image.cmap(image.norm(sign * image.norm.vmax)))[:3] for sign in (-1, 1)}
    column = pd.DataFrame({"row": np.arange(1.0, 4.0), "column": np.ones(3)})
    values, unmarked = np.array([-1.0, 0.0, 1.0]), np.zeros(3, bool)
    page = figures.field_map(figures.field_of(column), values, "residual", unmarked, 0)
    fills = dict(re.findall(r'<path fill="(#\w+)" d="M[\d.]+ ([\d.]+)', page))
    below, _, above = (
        np.array([int(fill[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        for fill in sorted(fills, key=lambda fill: float(fills[fill]))
    )
    for sign, colour in ((1, above), (-1, below)):
        assert np.abs(drawn[sign] - colour).max() < 0.02
        assert sign * (colour[2] - colour[0]) > 0.3  # blue against red
    bars = [ax.get_ylabel() for ax in figure.axes[6:9]]
    assert bars == ["yield", "trend (blue above 0, orange below)", "residual (blue above 0, orange below)"]


def test_rows_columns_and_variogram(surface):
    figure = plot_field(surface)
    rows, columns, faces = (figure.axes[i] for i in (3, 4, 5))
    for ax, name in ((rows, "row"), (columns, "bed")):
        drawn = ax.lines[-1].get_ydata()
        np.testing.assert_allclose(drawn, surface.blups(name)["estimate"])
    table = surface.variogram()
    along = table[(table["row_lag"] == 0) & (table["pairs"] >= 30)]
    np.testing.assert_allclose(faces.lines[0].get_ydata(), along["semivariance"])


def test_a_model_without_trend_shows_what_is_left(durban):
    fit = lmm("yield ~ rep + (1 | gen)", durban)
    figure = plot_field(fit, row="row", column="bed", data=durban)
    np.testing.assert_allclose(images(figure)[1], on_the_field(durban, fit.fitted))
    means = durban.assign(e=fit.residuals).groupby("row")["e"].mean()
    np.testing.assert_allclose(figure.axes[3].lines[-1].get_ydata(), means)
    with pytest.raises(OptionError, match="no positions of plots"):
        plot_field(fit)


def test_variogram_map(surface):
    (drawn,) = images(plot_variogram(surface))
    table = surface.variogram()
    enough = table[table["pairs"] >= 30]
    assert np.isfinite(drawn).sum() == len(enough)
    np.testing.assert_allclose(
        drawn[enough["row_lag"], enough["column_lag"]], enough["semivariance"], atol=1e-12
    )


def test_one_trial_of_several():
    besag = datasets.load("besag_field")
    fit = lmm("yield ~ county + (1 | gen)", besag, residual="ar1(row):ar1(col) | county")
    mine = (besag["county"] == "C3").to_numpy()
    wide = besag[mine].assign(e=fit.residuals[mine]).pivot(index="row", columns="col", values="e")
    figure = plot_field(fit, trial="C3")
    np.testing.assert_allclose(images(figure)[2], wide.to_numpy())
    assert figure.get_suptitle() == "county C3"
    with pytest.raises(DataError, match="no level 'C9'"):
        plot_field(fit, trial="C9")


def test_the_command_writes_tables_and_figures_of_a_field(tmp_path, capsys):
    command = ["fit", str(datasets.path("durban_rowcol")), "yield ~ rep + (1 | gen)", "--plot"]
    assert main([*command, "--field-trend", "ps(row, bed)", "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"field.png", "variogram.png", "trend.csv", "variogram.csv"} <= names
    assert "field.png" in capsys.readouterr().out
