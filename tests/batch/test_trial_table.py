"""The trial in one row: plots that stand out or stand twice, what trials share, trials without a fit."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm
from fastlmm_core.batch.trial_table import connections
from fastlmm_core.errors import DataError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
FORMULA = "yield ~ rep + (1|gen) + (1|rep:block)"


@pytest.fixture(scope="module")
def frame():
    """The trials with numbers of plots, one wrong value, and one plot entered twice."""
    out = datasets.load("trials")
    out["plot"] = 100 + out.groupby("trial").cumcount()
    first = out.index[out["trial"] == "T2"]
    out.loc[first[10], "yield"] += 12.0
    out.loc[first[20], "plot"] = out.loc[first[19], "plot"]
    return out


@pytest.fixture(scope="module")
def batch(frame):
    return fit_batch(frame, FORMULA, by="trial", genotypes="gen", plots="plot", fixed=False, progress=False)


def test_every_trial_has_a_row(frame, batch):
    table = batch.trial_table()
    assert table["trial"].tolist() == batch.fits["trial"].tolist()
    lost = table[table["status"] != "ok"]
    assert set(lost["trial"]) == {"T7", "T8"}
    assert lost["warnings"].tolist() == batch.fits.query("status != 'ok'")["message"].tolist()
    assert lost["h2"].isna().all() and (table["n"] == batch.fits["n"]).all()


def test_suspicious_plots_are_named(frame, batch):
    row = batch.trial_table().set_index("trial").loc["T2"]
    rows = frame.index[frame["trial"] == "T2"]
    wrong, twice = (int(frame.loc[rows[i], "plot"]) for i in (10, 20))
    fit = lmm(FORMULA, frame.loc[rows])
    found = fit.diagnostics()
    beyond = found[found["studentized"].abs() > 3.5]
    assert row["outliers"] == len(beyond) and beyond["row"].tolist() == [rows[10]]
    assert row["outlier_plots"] == f"plot {wrong}" and row["duplicate_plots"] == f"plot {twice}"
    assert f"outlying residuals: plot {wrong}" in row["warnings"]
    assert f"1 plot with a place or number that another has: plot {twice}" in row["warnings"]
    clean = batch.trial_table().set_index("trial").loc["T3"]
    assert (clean["outliers"], clean["duplicates"], clean["warnings"]) == (0, 0, "")


def test_every_plot_has_a_row_with_the_figures_of_its_fit(frame, batch):
    assert len(batch.plots) == (frame["trial"].isin(batch.trials["trial"])).sum()
    own = frame[frame["trial"] == "T4"]
    fit = lmm(FORMULA, own)
    table = batch.plots.query("trial == 'T4'").reset_index(drop=True)
    np.testing.assert_array_equal(table["plot"], own["plot"])
    np.testing.assert_array_equal(table["response"], own["yield"])  # missing ones too
    kept = own["yield"].notna().to_numpy()
    assert table["genotype"][kept].tolist() == own["gen"][kept].tolist()
    np.testing.assert_allclose(table["residual"][kept], fit.residuals, atol=1e-7)
    np.testing.assert_allclose(table["studentized"][kept], fit.diagnostics()["studentized"], atol=1e-6)
    assert table.loc[~kept, ["fitted", "residual"]].isna().all().all()
    assert table[["row", "column", "trend"]].isna().all().all()


def test_places_and_trend_of_a_field():
    county = datasets.load("besag_field").query("county == 'C1'")
    batch = fit_batch(county, "yield ~ (1|gen)", by="county", genotypes="gen", plots=True, field_trend="ps",
                      progress=False)  # fmt: skip
    fit = lmm("yield ~ (1|gen)", county, field_trend="ps")
    table, trend = batch.plots, fit.trend(se=False).set_index(["row", "col"])["trend"]
    np.testing.assert_array_equal(table[["row", "column"]], county[["row", "col"]])
    places = pd.MultiIndex.from_frame(county[["row", "col"]])
    np.testing.assert_allclose(table["trend"], trend.loc[places], atol=1e-6)


def test_two_plots_at_one_place_in_a_model_without_positions():
    data = datasets.load("besag_field").query("county == 'C2'").copy()
    data.iloc[7, data.columns.get_indexer(["row", "col"])] = data.iloc[3][["row", "col"]]
    summary = lmm("yield ~ rep + (1|gen)", data).trial_summary("gen", plots=["row", "col"], data=data)
    place = data.iloc[3]
    assert summary["duplicates"] == 1
    assert summary["duplicate_plots"] == f"row {place['row']} col {place['col']}"


def test_structured_models_have_every_figure():
    """Within one variance and one correlation of zero a field is the plain model."""
    data = datasets.load("besag_field").query("county == 'C5'")
    plain = lmm("yield ~ rep + (1|gen)", data).trial_summary("gen")
    fit = lmm("yield ~ rep + (1|gen)", data, residual="ar1(row):ar1(col)")
    own = fit.trial_summary("gen")
    assert set(plain) - set(own) == set() and {"cor_Residual.row", "cor_Residual.col"} <= set(own)
    assert own["cv"] == pytest.approx(100.0 * np.sqrt(own["var_Residual"]) / data["yield"].mean())
    assert own["h2"] == own["h2_cullis"] and own["F_genotypes"] > plain["F_genotypes"]
    several = lmm("yield ~ county + (1|gen)", datasets.load("besag_field"), residual="units | county")
    sizes = [v for name, v in several.trial_summary("gen").items() if name.startswith("var_Residual")]
    assert several.trial_summary("gen")["cv"] == pytest.approx(  # as many plots in each county
        100.0 * np.sqrt(np.mean(sizes)) / several.response.mean()
    )


def test_related_levels_are_judged_by_oakey():
    from fastlmm_core import Covariance

    data = datasets.load("john_alpha")
    names = sorted(data["gen"].unique())
    rng = np.random.default_rng(4)
    M = rng.normal(size=(24, 40))
    own = lmm("yield ~ rep + (1 | vm(gen, K))", data, relationships={"K": Covariance(M @ M.T / 40, names)})
    summary = own.trial_summary("vm(gen, K)")
    assert summary["h2_definition"] == "oakey" and np.isnan(summary["h2_cullis"])
    assert summary["h2"] == pytest.approx(own.heritability("vm(gen, K)", "oakey")["oakey"])


def test_connections_are_those_of_the_sets_of_genotypes(frame):
    own = frame[frame["trial"].isin(["T1", "T2", "T3", "T4"])].copy()
    own.loc[own["trial"] == "T4", "gen"] = "X" + own["gen"]  # an island
    own = own[~((own["trial"] == "T1") & own["gen"].isin(["G01", "G02"]))]
    batch = fit_batch(own, FORMULA, by="trial", genotypes="gen", fixed=False, progress=False)
    table = batch.trial_table().set_index("trial")
    sets = {trial: set(part["gen"]) for trial, part in own.dropna(subset=["yield"]).groupby("trial")}
    for trial, mine in sets.items():
        common = [len(mine & theirs) for other, theirs in sets.items() if other != trial]
        everywhere = set().union(*(theirs for other, theirs in sets.items() if other != trial))
        assert table.loc[trial, "connected"] == sum(n > 0 for n in common)
        assert table.loc[trial, "common"] == max(common)
        assert table.loc[trial, "shared"] == len(mine & everywhere)
    assert table["network"].tolist() == [1, 1, 1, 2]


def test_what_deserves_a_word():
    data = datasets.load("john_alpha")
    rng = np.random.default_rng(5)
    data["yield"] = rng.normal(5.0, 0.3, len(data))  # nothing but noise
    data.loc[data.index[:20], "yield"] = np.nan
    words = lmm("yield ~ rep + (1|gen)", data).trial_summary("gen")["warnings"]
    assert "20 of 72 plots have no value" in words
    assert "no difference between genotypes is shown (p = " in words and "heritability is 0." in words


def test_mistakes_are_named(frame):
    with pytest.raises(DataError, match="plots: column 'plto' is not in the data; nearest: 'plot'"):
        fit_batch(frame, FORMULA, by="trial", plots="plto")
    with pytest.raises(OptionError, match="plots= takes the column of the plot's number, or those"):
        fit_batch(frame, FORMULA, by="trial", plots=["a", "b", "c", "d"])
    with pytest.raises(DataError, match="plots: there is no column 'plto'"):
        lmm(FORMULA, frame).trial_summary("gen", plots="plto", data=frame)
    with pytest.raises(OptionError, match="no table 'plots': ask for it with plots="):
        _ = fit_batch(frame, FORMULA, by="trial", progress=False).plots


def test_plots_with_missing_numbers_are_no_duplicates(frame):
    own = frame[frame["trial"] == "T3"].copy()
    own.loc[own.index[:3], "plot"] = np.nan
    assert lmm(FORMULA, own).trial_summary("gen", plots="plot", data=own)["duplicates"] == 0


def test_a_folder_keeps_plots(frame, batch, tmp_path):
    pytest.importorskip("pyarrow")
    kept = fit_batch(frame, FORMULA, by="trial", genotypes="gen", plots="plot", fixed=False, progress=False,
                     out=tmp_path / "x")  # fmt: skip
    pd.testing.assert_frame_equal(kept.plots, batch.plots, check_dtype=False, rtol=1e-7)
    pd.testing.assert_frame_equal(kept.trial_table(), batch.trial_table(), check_dtype=False, rtol=1e-6)


def test_connections_take_no_memory_of_all_pairs():
    """Of trials with a check each is connected with every other: some of them with all at a time."""
    rng = np.random.default_rng(2)
    size, each = 600, 3
    lines = rng.integers(1, 900, size=(size, each))
    lines[:, 0] = 0  # the check
    lines[-1] = [901, 902, 903]  # an island
    values = pd.DataFrame(
        {"trial": np.repeat(np.arange(size), each), "trait": "y", "gen": [f"G{k}" for k in lines.ravel()]}
    )
    tracemalloc.start()
    found = connections(values, ["trial"], "gen")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sets = [set(row) for row in lines.tolist()]
    for k in (0, 1, 255, 256, 599):
        common = [len(sets[k] & other) for i, other in enumerate(sets) if i != k]
        assert found.loc[k, "connected"] == sum(n > 0 for n in common)
        assert found.loc[k, "common"] == max(common)
    assert found["network"].tolist() == [1] * (size - 1) + [2]
    assert peak < 8 * size * size * 2  # all pairs: 12 bytes of each, several times


def test_genotypes_whose_plots_are_all_left_out_are_named(frame):
    """One without yields and one without blocks are in no table, which the trial says."""
    spoilt = frame.copy()
    own = spoilt["trial"] == "T3"
    spoilt.loc[own & (spoilt["gen"] == "G04"), "yield"] = np.nan
    spoilt.loc[own & (spoilt["gen"] == "G05"), "block"] = None
    spoilt.loc[spoilt.index[own & (spoilt["gen"] == "G06")][0], "yield"] = np.nan  # the other plots are there
    table = fit_batch(spoilt, FORMULA, by="trial", genotypes="gen", progress=False).trial_table()
    words = table.set_index("trial")["warnings"]
    assert "no plot of 'G04', 'G05' is used" in words["T3"] and "G06" not in words["T3"]
    assert not words.drop("T3").str.contains("no plot of").any()


def test_genotypes_left_out_are_named_as_they_are_written(frame, tmp_path):
    spoilt = frame[frame["trial"] == "T3"].copy()
    spoilt["gen"] = spoilt["gen"].str[1:]  # 01, 02, ...
    spoilt.loc[spoilt["gen"] == "04", "yield"] = np.nan
    spoilt.to_csv(tmp_path / "t.csv", index=False)
    table = fit_batch(tmp_path / "t.csv", FORMULA, by="trial", genotypes="gen", progress=False).trial_table()
    assert "no plot of '04' is used" in table["warnings"][0]
