"""Figures: what is drawn agrees with the figures given; Axes and Figures are returned."""

import itertools
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.plots import (
    plot_blups,
    plot_comparison_intervals,
    plot_emmeans,
    plot_emmeans_by_model,
    plot_half_normal,
    plot_profile,
    plot_residuals,
    save,
)
from fastlmm_core.plots.canvas import COLOURS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def means(shift=0.0, **columns):
    frame = pd.DataFrame(
        {"K2O": ["36", "54", "72"], "estimate": np.array([7.9, 8.1, 7.8]) + shift, "se": 0.12}
    )
    frame["df"] = 8.0
    frame["lower"], frame["upper"] = frame["estimate"] - 0.3, frame["estimate"] + 0.2
    return frame.assign(**columns)


def bars(ax):
    """(x, lower, upper) of every vertical error bar drawn."""
    return sorted(
        (float(seg[0, 0]), float(seg[0, 1]), float(seg[1, 1]))
        for c in ax.containers
        for lines in c.lines[2]
        for seg in lines.get_segments()
    )


def test_intervals_reach_from_lower_to_upper():
    ax = plot_emmeans(means())
    np.testing.assert_allclose(bars(ax), [(0, 7.6, 8.1), (1, 7.8, 8.3), (2, 7.5, 8.0)])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["36", "54", "72"]
    np.testing.assert_allclose(bars(plot_emmeans(means(), bars="se"))[0], (0, 7.78, 8.02))
    with pytest.raises(OptionError, match="'interval', 'se'"):
        plot_emmeans(means(), bars="sd")
    with pytest.raises(DataError, match="lacking"):
        plot_emmeans(means().drop(columns="se"))


def test_second_factor_sets_the_colour():
    both = pd.concat([means(V="a"), means(1.0, V="b")])
    ax = plot_emmeans(both)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    assert len({c.lines[0].get_color() for c in ax.containers}) == 2
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1  # it covers no interval


def test_models_side_by_side_with_the_error_of_a_difference_once_each():
    ax = plot_emmeans_by_model(
        {"fixed": means(), "random": means()},
        differences={"fixed": 0.17, "random": 0.25},
        legend_title="blocks",
    )
    drawn = bars(ax)
    assert len(drawn) == 3 * 2 + 2
    beside = [bar for bar in drawn if bar[0] > 2.5]
    np.testing.assert_allclose([hi - lo for _, lo, hi in beside], [0.17, 0.25])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["fixed", "random"]
    with pytest.raises(DataError, match="other"):
        plot_emmeans_by_model({"fixed": means()}, differences={"other": 0.1})


def fit(n=24, random=True):
    rng = np.random.default_rng(1)
    code = np.repeat(np.arange(6), 4)
    levels = np.array([f"B{i}" for i in range(6)])
    term = SimpleNamespace(
        group="block", levels=levels, codes=code, columns=("(Intercept)",), is_spline=False
    )
    blups = pd.DataFrame(
        {"group": "block", "level": levels, "term": "(Intercept)", "estimate": rng.normal(size=6)}
    )
    blups["lower"], blups["upper"] = blups["estimate"] - 1, blups["estimate"] + 1
    frame = pd.DataFrame({"block": levels[code]})
    design = SimpleNamespace(
        random=(term,) if random else (), frame=frame, variables={}, rows=np.arange(n), n=n, n_dropped=0,
        y=None,
    )  # fmt: skip
    return SimpleNamespace(
        sigma=2.0, residuals_pearson=rng.normal(size=n), fitted=rng.normal(size=n), nobs=n, design=design,
        blups=lambda level=0.95: blups if random else blups.iloc[:0],
    )  # fmt: skip


def test_caterpillar_is_sorted_and_has_its_intervals():
    model = fit()
    ax = plot_blups(model)
    x = ax.get_lines()[-1].get_xdata()
    np.testing.assert_allclose(x, np.sort(model.blups()["estimate"]))
    segments = ax.collections[0].get_segments()
    np.testing.assert_allclose([s[1, 0] - s[0, 0] for s in segments], 2)
    with pytest.raises(DataError, match="nearest: 'block'"):
        plot_blups(model, "blok")
    with pytest.raises(DataError, match="no coefficient 'x'"):
        plot_blups(model, "block", coefficient="x")
    with pytest.raises(DataError, match="no BLUPs"):
        plot_blups(fit(random=False))


def test_residual_panel_scales_by_sigma():
    model = fit()
    figure = plot_residuals(model)
    points = figure.axes[0].get_lines()[-1]
    np.testing.assert_allclose(points.get_ydata(), model.residuals_pearson / 2)
    np.testing.assert_allclose(
        figure.axes[1].get_lines()[0].get_ydata(), np.sort(model.residuals_pearson / 2)
    )
    assert figure.axes[2].get_xlabel() == "block"


def test_residual_panel_of_several_residual_variances():
    data = datasets.load("besag_field")
    fit = lmm("yield ~ county + (1|gen)", data, residual="units | county")
    drawn = plot_residuals(fit).axes[0].lines[1].get_ydata()
    sd = np.sqrt(fit.variance_components.iloc[1:].set_index("var1")["estimate"])
    np.testing.assert_allclose(drawn, fit.residuals / sd[data["county"]].to_numpy(float), rtol=1e-6)


def test_residual_panel_shows_the_field():
    model = fit()
    row, column = np.divmod(np.arange(24), 6)
    data = pd.DataFrame({"row": row + 1, "col": column + 1})
    figure = plot_residuals(model, row="row", column="col", data=data)
    field = figure.axes[3].get_images()[0].get_array()
    np.testing.assert_allclose(field, (model.residuals_pearson / 2).reshape(4, 6))
    with pytest.raises(DataError, match="both row and column"):
        plot_residuals(model, row="row")
    with pytest.raises(DataError, match="pass data="):
        plot_residuals(model, row="row", column="col")
    with pytest.raises(DataError, match="must have 24 values"):
        plot_residuals(model, by=np.arange(3))


def test_boxes_stand_in_the_order_of_the_levels():
    rng = np.random.default_rng(4)
    bed = rng.permutation(np.repeat(np.arange(1, 13), 4))
    data = pd.DataFrame({"bed": bed, "y": rng.normal(size=48)})
    model = lmm("y ~ 1 + (1|bed)", data)
    dose = pd.Categorical(np.where(bed % 2, "low", "high"), ["low", "high", "never"])
    for by, labels in (
        (None, [str(k) for k in range(1, 13)]), ("bed", [str(k) for k in range(1, 13)]),
        (bed % 11, [str(k) for k in range(11)]), (pd.Series(dose), ["low", "high"]),
    ):  # fmt: skip
        ax = plot_residuals(model, by=by, data=data).axes[2]
        assert [label.get_text() for label in ax.get_xticklabels()] == labels
    middle = [line for line in ax.lines if line.get_color() == COLOURS[1]]
    low = np.median(np.asarray(model.residuals_pearson)[bed % 2 == 1]) / model.sigma
    assert middle[0].get_ydata()[0] == pytest.approx(low)


def test_comparison_intervals_are_those_of_the_table():
    fit = lmm("Y ~ V + N + (1|B/V)", datasets.load("oats"))
    for by in (None, "V"):
        means = fit.emmeans("N", by=by)
        ax = plot_comparison_intervals(means, adjust="none")
        intervals = means.comparison_intervals(adjust="none")
        drawn = [seg for c in ax.containers for lines in c.lines[2] for seg in lines.get_segments()]
        got = sorted((float(seg[0, 0]), float(seg[1, 0])) for seg in drawn)
        want = sorted(zip(intervals.lower, intervals.upper, strict=True))
        np.testing.assert_allclose(got, want)
        assert [t.get_text() for t in ax.get_yticklabels()][:4] == [
            "N0.0cwt",
            "N0.2cwt",
            "N0.4cwt",
            "N0.6cwt",
        ]
        assert (ax.get_legend() is None) == (by is None)


def test_save_writes_and_closes(tmp_path):
    path = save(plot_emmeans(means()), tmp_path / "m.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    save(plot_residuals(fit()), tmp_path / "r.png")
    assert not plt.get_fignums()


def test_a_profile_has_a_panel_a_parameter_with_its_limits():
    profile = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff")).profile()
    figure = plot_profile(profile, level=0.9)
    assert [ax.get_title() for ax in figure.axes] == list(profile.names)
    table = profile.conf_int(0.9)
    for ax, (_, row) in zip(figure.axes, table.iterrows(), strict=True):
        drawn = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
        assert drawn == [row["lower"], row["upper"]]
    with pytest.raises(DataError, match=r"'sigm' was not profiled.*'sigma'"):
        plot_profile(profile, "sigm")


def test_half_normal_plot_has_the_table_and_names_what_is_above(tmp_path):
    data = datasets.load("john_alpha")
    data.loc[data["gen"] == "G05", "yield"] += 6.0
    fit = lmm("yield ~ rep + (1|gen) + (1|rep:block)", data)
    ax = plot_half_normal(fit, "gen", draws=99)
    table = fit.half_normal("gen", draws=99)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), table["size"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), table["median"])
    assert "G05" in [text.get_text() for text in ax.texts]
    assert save(ax, tmp_path / "x.png").stat().st_size > 1000


def test_shares_of_trials_leave_splines_out():
    """Their variances are of coefficients, in other units than those of plots."""
    from fastlmm_core.plots.trials import draw_shares

    splines = {"var_ps(row, col).row": [50.0], "var_at(env, E1):ps(row, col).col": [9.0]}
    fits = pd.DataFrame({"var_gen": [1.0], **splines, "var_Residual": [3.0]})
    ax = plt.figure().subplots()
    draw_shares(ax, fits)
    assert [bar.get_height() for bar in ax.patches] == [0.25, 0.75]
    assert "beside the splines" in ax.get_ylabel()


@pytest.mark.parametrize(
    ("names", "add_up"),
    [(["gen", "rep:block", "Residual"], True), (["plot.id", "Residual"], True),
     (["gen", "gen.x", "Residual"], False), (["gen.envE1", "gen.envE2", "Residual"], False),
     (["at(env, E1):rep", "at(env, E2):rep", "Residual"], False),
     (["gen", "Residual|env.E1", "Residual|env.E2"], False),
     (["vm(gen, G)", "rep", "Residual"], False), (["env:vm(gen, G)", "Residual"], False)],
)  # fmt: skip
def test_shares_are_of_variances_that_add_up_in_a_plot(names, add_up):
    """That of a slope had a share of the variance, and every environment's residual its own."""
    from fastlmm_core.plots.trials import draw_shares

    ax = plt.figure().subplots()
    draw_shares(ax, pd.DataFrame({f"var_{name}": [1.0] for name in names}))
    assert len(ax.patches) == (len(names) if add_up else 0)
    assert ("do not add up" in ax.get_ylabel()) == (not add_up)


@pytest.mark.parametrize("digits", [2, 4])
def test_labels_of_residual_panels_do_not_meet(digits):
    rng = np.random.default_rng(1)
    g = np.repeat([10 ** (digits - 1) + k for k in range(11)], 6)
    data = pd.DataFrame({"g": g.astype(str), "y": 1000.0 + rng.normal(0.0, 40.0, g.size)})
    figure = plot_residuals(lmm("y ~ 1 + (1|g)", data))
    figure.canvas.draw()
    for ax in figure.axes:
        boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
        seen = ax.get_window_extent().padded(1.0)
        boxes = [box for box in boxes if seen.x0 <= box.x0 + box.width / 2 <= seen.x1]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
