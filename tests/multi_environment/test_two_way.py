"""Summaries of a two-way table against printed analyses, definitions written out here, and invariances."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, gxe, lmm
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.results.factor_analytic.biplot import convex_hull

REFERENCE = Path(__file__).parent / "reference"
STABILITY = json.loads((REFERENCE / "stability.json").read_text())
BEANS = json.loads((REFERENCE / "faba_bean.json").read_text())
#: The error mean square is not printed; it is the interaction mean square over its F.
BEANS_ERROR = 4 * 7.742996 / 55 / BEANS["F_interaction"]
RNG = np.random.default_rng(12)


def wide(reference):
    return pd.DataFrame(reference["means"]).T


def stability_example():
    known = {key: STABILITY[key] for key in ("replications", "error_ms", "error_df")}
    return gxe(wide(STABILITY), **known)


def bean_example(k=2):
    return gxe(wide(BEANS), replications=4, error_ms=BEANS_ERROR, error_df=BEANS["error_df"]).ammi(k)


def random_table(g=7, e=5, seed=3):
    rng = np.random.default_rng(seed)
    values = 10 + rng.normal(size=(g, 1)) + 2 * rng.normal(size=e) + rng.normal(size=(g, e))
    return pd.DataFrame(values, index=[f"g{i}" for i in range(g)], columns=[f"E{j}" for j in range(e)])


# ------------------------------------------------------------------------------------- printed analyses
def test_analysis_of_variance_as_printed():
    frame = stability_example().anova().frame.assign(source=lambda f: f["source"].str.strip())
    rows = frame.set_index("source")
    for source, ss in STABILITY["ss"].items():
        assert rows.loc[source, "ss"] == pytest.approx(ss, abs=5e-5)
    for source, F in STABILITY["F"].items():
        assert rows.loc[source, "F"] == pytest.approx(F, abs=5e-3)
    assert rows.loc["slopes", "p"] == pytest.approx(STABILITY["p_slopes"], abs=5e-4)
    assert list(rows["df"]) == [11, 16, 176, 16, 160, 576]


def test_stability_variances_and_ecovalence_as_printed():
    """agricolae prints them on the scale of a plot: four times those of the means."""
    frame = stability_example().stability().frame
    np.testing.assert_allclose(4 * frame["sigma2"], STABILITY["sigma2"], atol=5.1e-3)
    np.testing.assert_allclose(4 * frame["sigma2_dev"], STABILITY["sigma2_dev"], atol=5.1e-3)
    np.testing.assert_allclose(4 * frame["W"], STABILITY["W"], atol=5.1e-2)
    assert "".join(frame["genotype"][frame["p_sigma2"] < 0.05]) == STABILITY["below_0.05"]
    assert "".join(frame["genotype"][frame["p_sigma2"] < 0.01]) == STABILITY["below_0.01"]


def test_ammi_as_printed():
    found = bean_example()
    axes = found.anova.frame.iloc[:5]
    assert list(axes["df"]) == BEANS["df"]
    np.testing.assert_allclose(axes["ss"] / 4, BEANS["pc_ss_of_means"], atol=5.1e-5)
    np.testing.assert_allclose(axes["percent"], BEANS["percent"], atol=5.1e-5)
    np.testing.assert_allclose(axes["F"], BEANS["F"], rtol=2e-4)
    np.testing.assert_allclose(axes["p"], BEANS["p"], atol=2e-4)
    for own, printed in ((found.genotype_scores, "genotype_scores"),
                         (found.environment_scores, "environment_scores")):  # fmt: skip
        scores, printed = own[["IPCA1", "IPCA2"]].to_numpy(), np.array(BEANS[printed])
        np.testing.assert_allclose(np.abs(scores), np.abs(printed), atol=2e-5)  # an axis may be turned round
    first = (found.fitted() - found.fitted(0)).loc["Chiaro_A"]
    np.testing.assert_allclose(first, BEANS["fitted_interaction_chiaro_a"], atol=6e-4)


def test_which_won_where_in_ontario():
    """Yan, Kang, Ma, Woods & Cornelius (2007), figure 1: two axes explain 78 % of G + GE."""
    table = gxe(datasets.load("winter_wheat"), "gen", "env", "yield")
    found = table.gge()
    assert found.percent[:2].sum() == pytest.approx(78, abs=0.5)
    plot = found.biplot
    inner = plot.row_scores[:, :2] @ plot.column_scores[:, :2].T  # by definition the largest inner product
    winners = found.winners().set_index("environment")["genotype"]
    assert list(winners) == [plot.rows[i] for i in inner.argmax(axis=0)]
    corners = {plot.rows[i] for i in convex_hull(plot.row_scores[:, :2])}
    assert set(winners) <= corners  # winners are corners of the polygon


# ------------------------------------------------------------------------------------------ definitions
def test_regression_and_superiority_by_definition():
    data = random_table()
    frame = gxe(data).stability().frame
    Y, index = data.to_numpy(), data.mean().to_numpy()
    for i, row in frame.iterrows():
        A = np.column_stack([np.ones(5), index])
        beta, rss, *_ = np.linalg.lstsq(A, Y[i], rcond=None)
        cov = np.linalg.inv(A.T @ A) * rss[0] / 3
        np.testing.assert_allclose(row[["slope", "se_slope"]].astype(float), [beta[1], np.sqrt(cov[1, 1])])
        np.testing.assert_allclose(
            [row["ms_dev"], row["r2"]], [rss[0] / 3, np.corrcoef(Y[i], index)[0, 1] ** 2]
        )
        assert row["P"] == pytest.approx(np.sum((Y[i] - Y.max(axis=0)) ** 2) / 10)
    np.testing.assert_allclose(frame["P"], frame["P_genotype"] + frame["P_interaction"])
    lowest = gxe(data).stability(best="lowest").frame
    np.testing.assert_allclose(lowest["P"], np.mean((Y - Y.min(axis=0)) ** 2, axis=1) / 2)


def test_parts_add_up():
    found = gxe(random_table())
    frame, anova = found.stability().frame, found.anova().frame
    assert frame["slope"].mean() == pytest.approx(1.0)
    assert frame["W"].sum() == pytest.approx(anova["ss"][2])
    assert frame["sigma2"].mean() == pytest.approx(anova["ms"][2])  # unbiased, each of the same expectation
    assert frame["sigma2_dev"].mean() == pytest.approx(anova["ms"][4])
    assert anova["ss"][3] + anova["ss"][4] == pytest.approx(anova["ss"][2])
    ammi = found.ammi()
    assert ammi.anova.frame["ss"].iloc[:-1].sum() == pytest.approx(anova["ss"][2])
    assert ammi.anova.frame["df"].iloc[:-1].sum() == 24
    np.testing.assert_allclose(ammi.fitted(4), found.to_frame())
    np.testing.assert_allclose(ammi.fitted(0), found.to_frame() - found.table.interaction)
    gge = found.gge()
    np.testing.assert_allclose(gge.size**2 @ np.ones(5), anova["ss"][1] + anova["ss"][2])


@pytest.mark.parametrize("partition", ["genotype", "environment", "symmetric"])
def test_a_gge_biplot_reproduces_the_centred_table(partition):
    data = random_table()
    plot = gxe(data).gge(partition=partition).biplot
    np.testing.assert_allclose(plot.row_scores @ plot.column_scores.T, data - data.mean(), atol=1e-12)
    scaled = gxe(data).gge("sd").biplot
    np.testing.assert_allclose(scaled.row_scores @ scaled.column_scores.T, (data - data.mean()) / data.std(),
                               atol=1e-12)  # fmt: skip


def test_the_average_environment_orders_genotypes_by_what_the_axes_say_of_their_mean():
    data = random_table()
    found = gxe(data).gge()
    two_axes = (found.left[:, :2] * found.size[:2]) @ found.right[:, :2].T
    np.testing.assert_allclose(found.ranking()["performance"], two_axes.mean(axis=1), atol=1e-12)
    spread = np.linalg.norm(found.left[:, :2] * found.size[:2], axis=1) ** 2
    mean = found.right[:, :2].mean(axis=0)
    along = found.ranking()["performance"] / np.linalg.norm(mean)
    np.testing.assert_allclose(along**2 + found.ranking()["instability"] ** 2, spread)
    all_axes = np.linalg.norm(found.right * found.size, axis=1) / np.sqrt(6)
    assert (found.environments()["length"] <= all_axes + 1e-12).all()
    np.testing.assert_allclose(all_axes, data.std())  # environment metric


# ------------------------------------------------------------------------------------------ invariances
def test_shifts_and_scales():
    data = random_table()
    frame, other = (gxe(own).stability().frame for own in (data, 100.0 + 10.0 * data))
    for name, power in (
        ("sd", 1),
        ("slope", 0),
        ("r2", 0),
        ("W", 2),
        ("W_percent", 0),
        ("sigma2", 2),
        ("P", 2),
    ):
        np.testing.assert_allclose(other[name], 10.0**power * frame[name], err_msg=name)
    moved = gxe(data + np.arange(5) * 3.0).stability().frame  # interaction is free of the environments' means
    np.testing.assert_allclose(moved[["W", "sigma2", "P"]], frame[["W", "sigma2", "P"]])


def test_order_of_rows_does_not_matter():
    data = random_table()
    turned = data.iloc[::-1, ::-1]
    frame = gxe(data).stability().frame.set_index("genotype")
    other = gxe(turned).stability().frame.set_index("genotype").loc[frame.index]
    np.testing.assert_allclose(other, frame)
    scores = gxe(data).ammi().genotype_scores.set_index("genotype")
    np.testing.assert_allclose(
        gxe(turned).ammi().genotype_scores.set_index("genotype").loc[scores.index], scores
    )


def test_an_additive_table_has_no_interaction():
    data = pd.DataFrame(np.add.outer(np.arange(4.0), [0.0, 5.0, 7.0]))
    frame = gxe(data).stability().frame
    np.testing.assert_allclose(frame[["W", "sigma2"]], 0.0, atol=1e-20)
    np.testing.assert_allclose(frame["slope"], 1.0)
    assert frame["P"].iloc[-1] == 0.0


def test_variance_shares_of_a_known_model():
    """Averages over many tables: genotype 4, environment 9, interaction 1, error of a plot 2."""
    totals = np.zeros(4)
    for _ in range(200):
        u, v, w = RNG.normal(size=(12, 1)), RNG.normal(size=8), RNG.normal(size=(12, 8))
        plots = 2 * u[..., None] + 3 * v[:, None] + w[..., None] + np.sqrt(2) * RNG.normal(size=(12, 8, 4))
        g, e, r = np.indices(plots.shape).reshape(3, -1)
        long = pd.DataFrame({"g": g.astype(str), "e": e.astype(str), "r": r.astype(str), "y": plots.ravel()})
        totals += gxe(long, "g", "e", "y").variance_shares().frame["variance"]
    np.testing.assert_allclose(totals / 200, [4, 1, 9, 2], rtol=0.15)


# ---------------------------------------------------------------------------------------------- sources
def test_plots_and_their_error():
    """Within cells, and beside complete blocks: the residuals of the linear models written here."""
    rng = np.random.default_rng(5)
    rows = [(f"g{i}", f"E{j}", f"b{k}", rng.normal() + k * (j + 1))
            for i in range(4) for j in range(3) for k in range(3)]  # fmt: skip
    plots = pd.DataFrame(rows, columns=["gen", "env", "rep", "y"])
    cell = pd.get_dummies(plots["gen"] + plots["env"]).to_numpy(float)
    block = pd.get_dummies(plots["env"] + plots["rep"]).to_numpy(float)
    for X, found in ((cell, gxe(plots, "gen", "env", "y")),
                     (np.hstack([cell, block]), gxe(plots, "gen", "env", "y", block="rep"))):  # fmt: skip
        rank = np.linalg.matrix_rank(X)
        residual = plots["y"] - X @ np.linalg.lstsq(X, plots["y"], rcond=None)[0]
        table = found.table
        assert (table.error_df, table.replications) == (36 - rank, 3)
        assert table.error_ms == pytest.approx(residual @ residual / (36 - rank))
    unequal = gxe(plots.iloc[1:], "gen", "env", "y").table
    assert unequal.replications == pytest.approx(12 / (11 / 3 + 1 / 2))  # harmonic


def test_long_and_wide_are_one():
    data = random_table()
    long = data.rename_axis("gen").reset_index().melt("gen", var_name="env", value_name="y")
    np.testing.assert_allclose(gxe(long, "gen", "env", "y").to_frame(), data)


def test_wrong_tables_are_refused_by_name():
    data = random_table()
    with pytest.raises(DataError, match=r"1 of 35 cells have no mean: 'g1 in E2'"):
        gxe(data.mask((data.index == "g1")[:, None] & (data.columns == "E2")))
    with pytest.raises(DataError, match="the table has 2 environments"):
        gxe(data[["E0", "E1"]])
    with pytest.raises(DataError, match="columns 'note' hold no numbers"):
        gxe(data.assign(note="x"))
    with pytest.raises(DataError, match="genotype 'g0' has more than one row"):
        gxe(pd.concat([data, data.iloc[:1]]))
    with pytest.raises(DataError, match="environment 'E3' has more than one column"):
        gxe(pd.concat([data, data[["E3"]]], axis=1))
    with pytest.raises(OptionError, match="needs genotype=, environment= and value="):
        gxe(data, "gen")
    with pytest.raises(DataError, match="no column 'yeild'; nearest: 'yield'"):
        gxe(datasets.load("winter_wheat"), "gen", "env", "yeild")
    with pytest.raises(DataError, match="takes a pandas DataFrame, a fit or a batch, not list"):
        gxe([1, 2])
    with pytest.raises(OptionError, match="k=9 may be 1 to 4"):
        gxe(data).ammi(9)
    with pytest.raises(OptionError, match="scale='range' is not known"):
        gxe(data).gge(scale="range")
    twice = pd.DataFrame({"g": list("aabbcc") * 3, "e": np.repeat(list("xyz"), 6), "b": ["1", "1"] * 9,
                          "y": np.arange(18.0)})  # fmt: skip
    with pytest.raises(DataError, match="once in every 'b' of every environment"):
        gxe(twice, "g", "e", "y", block="b")


def test_what_is_printed():
    found = gxe(random_table())
    text = str(found)
    assert text.startswith("7 genotypes in 5 environments") and "No error is known" in text
    assert "<table>" in found._repr_html_() and "s2d" not in str(found.stability())
    assert "s2d" in str(stability_example().stability())
    assert "IPCA1" in repr(found.ammi()) and "PC1" in repr(found.gge())


@pytest.mark.parametrize("seed", range(5))
def test_corners_of_the_convex_hull(seed):
    points = np.random.default_rng(seed).normal(size=(30, 2))
    corners = points[convex_hull(points)]
    sides = np.roll(corners, -1, axis=0) - corners
    away = points[:, None] - corners
    assert (sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0] >= -1e-12).all()  # all to the left
    assert len(convex_hull(np.column_stack([np.arange(5.0), np.arange(5.0)]))) == 2


def test_an_error_that_contradicts_the_plots_is_refused():
    """Replications of 6 for 3 plots a cell would have doubled every F."""
    plots = datasets.load("machines")
    own = gxe(plots, "Worker", "Machine", "score")
    again = gxe(plots, "Worker", "Machine", "score", replications=own.table.replications)
    assert again.anova().frame.equals(own.anova().frame)
    for option in ("replications", "error_ms", "error_df"):
        with pytest.raises(OptionError, match=f"{option}=.* have {option}="):
            gxe(plots, "Worker", "Machine", "score", **{option: 2 * getattr(own.table, option)})
    with pytest.raises(OptionError, match="error_ms=-2 must be a finite number above 0"):
        gxe(plots, "Worker", "Machine", "score", error_ms=-2)


def test_columns_named_twice_and_axes_that_are_not_there():
    plots = datasets.load("machines")
    with pytest.raises(OptionError, match="'Worker' is named twice"):
        gxe(plots, "Worker", "Worker", "score")
    with pytest.raises(OptionError, match="axes=9 may be 1 to 2 for 6 x 3 means"):
        gxe(plots, "Worker", "Machine", "score").tables(axes=9)
    fit = lmm("score ~ Worker * Machine", plots)
    with pytest.raises(OptionError, match="genotype and environment are both 'Worker'"):
        gxe(fit, "Worker", "Worker")


def test_genotypes_left_out_do_not_count_in_the_replications():
    """A genotype of single plots in some environments beside others of three and four."""
    rng = np.random.default_rng(7)
    cells = [(g, e, 1 if g == "g5" else 3 + (e == "E1")) for g in (f"g{i}" for i in range(6))
             for e in (f"E{j}" for j in range(4)) if (g, e) != ("g5", "E3")]  # fmt: skip
    plots = pd.DataFrame([(g, e) for g, e, count in cells for _ in range(count)], columns=["gen", "env"])
    plots["y"] = rng.normal(size=len(plots))
    found = gxe(plots, "gen", "env", "y", common=True)
    assert found.table.replications == pytest.approx(4 / (3 / 3 + 1 / 4))
    alone = gxe(plots[plots["gen"] != "g5"], "gen", "env", "y")
    ours, theirs = found.anova().frame, alone.anova().frame
    np.testing.assert_allclose(ours["F"].dropna(), theirs["F"].dropna(), rtol=1e-12)
    np.testing.assert_allclose(found.stability().frame["p_sigma2"], alone.stability().frame["p_sigma2"])


# ------------------------------------------------------------------------------------ tables at the margin
@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
def test_an_additive_table_has_no_interaction_to_describe(scale):
    """Rounding had an F of 1e32 for the genotypes, one for the slopes with a p, and axes with percentages."""
    rng = np.random.default_rng(4)
    found = gxe(pd.DataFrame(scale * np.add.outer(50 + rng.normal(size=6), rng.normal(size=5))))
    anova = found.anova().frame
    assert (anova["ss"][2:5] == 0.0).all() and anova[["F", "p"]].isna().all(axis=None)
    stability = found.stability().frame
    assert (stability[["W", "ms_dev", "sigma2", "sigma2_dev"]] == 0.0).all(axis=None)
    assert (stability["slope"] == 1.0).all() and stability[["t", "p_slope"]].isna().all(axis=None)
    with np.errstate(divide="raise", invalid="raise"):
        assert np.isnan(found.ammi().percent).all()


def test_labels_of_numbers_are_those_of_a_fit():
    """A missing value makes numbers floats, and 2019 was an environment called 2019.0."""
    plots = random_table().reset_index(names="gen").melt("gen", var_name="env", value_name="y")
    gen, env = (plots[name].str[1:].astype(float) for name in ("gen", "env"))
    numbers = plots.assign(gen=gen, env=2019.0 + env)
    table = gxe(numbers, "gen", "env", "y").table
    assert table.genotypes == tuple("0123456") and table.environments[:2] == ("2019", "2020")
    wide = numbers.pivot(index="gen", columns="env", values="y")
    assert gxe(wide).table.genotypes == table.genotypes
    assert gxe(wide).table.environments == table.environments
    names = lmm("y ~ 0 + factor(gen)", numbers).coef_names
    assert [name.removeprefix("factor(gen)") for name in names] == list(table.genotypes)


def test_values_that_are_no_numbers_are_named():
    """An infinite value was a cell without a mean; of True and False there was an analysis of variance."""
    plots = random_table().reset_index(names="gen").melt("gen", var_name="env", value_name="y")
    plots.loc[3, "gen"] = None  # the row counts where the table has it
    wrong = plots.assign(y=plots["y"].where(plots.index != 5, np.inf))
    with pytest.raises(DataError, match=r"column 'y' has infinite values, the first in row 5"):
        gxe(wrong, "gen", "env", "y")
    wide = random_table()
    wide.iloc[2, 1] = np.inf
    with pytest.raises(DataError, match="column 'E1' has infinite values"):
        gxe(wide)
    with pytest.raises(DataError, match="column 'y' holds no numbers"):
        gxe(plots.assign(y=plots["y"] > 10), "gen", "env", "y")
    with pytest.raises(DataError, match="hold no numbers"):
        gxe(random_table() > 10)


@pytest.mark.parametrize("level", [0.0, 100.0])
def test_environments_of_the_same_mean_have_no_regression(level):
    """Deviations from the means of environments: the index is rounding (slopes of 1e14 with their p)."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    table = pd.DataFrame(values - values.mean(axis=0) + level, index=list("abcde"), columns=list("WXYZ"))
    found = gxe(table)
    stability = found.stability()
    frame = stability.to_frame()
    assert frame[["slope", "se_slope", "t", "p_slope", "ms_dev", "r2", "sigma2_dev"]].isna().all(axis=None)
    y = table.to_numpy()
    interaction = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    np.testing.assert_allclose(frame["W"], np.sum(interaction**2, axis=1))
    assert frame[["sigma2", "P"]].notna().all(axis=None)
    parts = found.anova().to_frame()
    split = parts["source"].str.strip().isin(["slopes", "deviations"])
    assert parts.loc[split, ["ss", "F", "p"]].isna().all(axis=None)
    assert "no regression" in str(stability) and "no regression" in str(found.anova())
