"""Tables about the genotypes of a batch: those of each trial's own fit, summaries by definition."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, gxe, lmm, second_stage
from fastlmm_core.batch.selection import common_genotypes
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.means.estimates import FIGURES

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
FORMULA = "yield ~ rep + (1|gen) + (1|rep:block)"


@pytest.fixture(scope="module")
def frame():
    return datasets.load("trials")


@pytest.fixture(scope="module")
def batch(frame):
    return fit_batch(frame, FORMULA, by="trial", genotypes="gen", fixed=False, progress=False)


def test_tables_are_those_of_each_fit(frame, batch):
    for trial in ("T1", "T5"):
        fit = lmm(FORMULA, frame[frame["trial"] == trial])
        own = batch.heritabilities.query("trial == @trial").drop(columns=["trial", "trait"])
        pd.testing.assert_frame_equal(own.reset_index(drop=True), fit.heritability("gen").to_frame(),
                                      check_dtype=False, rtol=1e-8)  # fmt: skip
        values = batch.genotype_values.query("trial == @trial").drop(columns=["trial", "trait"])
        pd.testing.assert_frame_equal(values.reset_index(drop=True), fit.genotype_values("gen").to_frame(),
                                      check_dtype=False, rtol=1e-8)  # fmt: skip


@pytest.mark.parametrize("name", ["se", "lower", "rank", "reliability", "estimate", "status"])
def test_genotypes_called_as_a_column_of_the_tables(frame, batch, name):
    """Labels get another name, as those of means do, and no figure takes their place."""
    trials = ["T1", "T4", "T5"]
    own = frame[frame["trial"].isin(trials)].rename(columns={"gen": name})
    formula = FORMULA.replace("gen", name)
    other = fit_batch(own, formula, by="trial", genotypes=name, fixed=False, progress=False)
    for table in ("genotype_values", "blues"):
        expected = batch.table(table)
        expected = expected[expected["trial"].isin(trials)].reset_index(drop=True)
        found = other.table(table)
        title = str(found.columns[2])
        assert title == (f"{name}_level" if table == "genotype_values" or name in FIGURES else name)
        pd.testing.assert_frame_equal(found.rename(columns={title: "gen"}), expected, rtol=1e-8)
    means = pd.pivot_table(expected, index="gen", columns="trial", values="estimate")
    assert gxe(other, name).table.means == pytest.approx(means.to_numpy(), rel=1e-8)
    values = lmm(formula, own[own["trial"] == "T1"]).genotype_values(name)
    assert set(values.without("CHECK").best(2).to_frame()[f"{name}_level"]) < set(means.index)
    assert values.against("CHECK").to_frame()[f"{name}_level"].nunique() == 23


def test_lost_trials_have_no_rows(batch):
    lost = set(batch.fits[batch.fits["rank"] == 0]["trial"])
    assert lost and not lost & set(batch.trials["trial"])


def test_a_trial_in_one_row(frame, batch):
    rows = batch.trials.set_index("trial")
    for trial, own in frame.groupby("trial"):
        if trial not in rows.index:
            continue
        row, y = rows.loc[trial], own["yield"].dropna()
        fit = lmm("yield ~ rep + gen + (1|rep:block)", own)
        test = fit.anova().set_index("term").loc["gen"]
        errors = fit.emmeans("gen").difference_errors()
        variances = lmm(FORMULA, own).variance_components.set_index("group")["estimate"]
        assert (row["n"], row["missing"], row["rows"]) == (len(y), len(own) - len(y), len(own))
        assert row["grand_mean"] == pytest.approx(y.mean(), rel=1e-12)
        assert row["cv"] == pytest.approx(100 * np.sqrt(variances["Residual"]) / y.mean(), rel=1e-8)
        plots = own.dropna(subset=["yield"]).groupby("gen").size()
        assert row["replication"] == pytest.approx(1 / (1 / plots).mean(), rel=1e-12)
        assert row["F_genotypes"] == pytest.approx(test["F"], rel=1e-7)
        assert row["p_genotypes"] == pytest.approx(test["p"], rel=1e-6)
        assert row["sed_mean"] == pytest.approx(errors.sed_mean, rel=1e-7)
        assert row["lsd_mean"] == pytest.approx(errors.lsd_mean, rel=1e-7)
        assert row["var_gen"] == pytest.approx(variances["gen"], rel=1e-7)


def test_a_wrong_plot_is_found(frame):
    own = frame[frame["trial"] == "T3"].copy()
    assert lmm(FORMULA, own).trial_summary("gen")["outliers"] == 0
    own.iloc[10, own.columns.get_loc("yield")] += 12.0  # a decimal sign gone astray
    assert lmm(FORMULA, own).trial_summary("gen")["outliers"] == 1


def test_a_folder_has_them_too(frame, tmp_path):
    pytest.importorskip("pyarrow")
    one = fit_batch(
        frame, FORMULA, by="trial", genotypes="gen", fixed=False, progress=False, out=tmp_path / "x"
    )
    assert len(one.trials) == 6 and set(one.plan.tables) >= {"trials", "genotype_values", "heritabilities"}


def test_mistakes_are_named(frame):
    with pytest.raises(
        OptionError, match="genotypes='gem' is not a random term of the formula; nearest: 'gen'"
    ):
        fit_batch(frame, FORMULA, by="trial", genotypes="gem")
    with pytest.raises(OptionError, match="no table 'trials': ask for it with genotypes="):
        _ = fit_batch(frame, FORMULA, by="trial", progress=False).trials


def test_an_index_over_traits_fitted_apart(frame):
    batch = fit_batch(frame, FORMULA.removeprefix("yield "), by="trial", traits=["yield", "height"],
                      genotypes="gen", fixed=False, progress=False)  # fmt: skip
    table = batch.selection_index({"yield": 1.0, "height": -0.05})
    one = batch.genotype_values.query("trial == 'T2' and gen == 'G05'").set_index("trait")
    row = table.query("trial == 'T2' and gen == 'G05'").iloc[0]
    assert row["estimate"] == pytest.approx(
        one.loc["yield", "estimate"] - 0.05 * one.loc["height", "estimate"]
    )
    variance = one.loc["yield", "se"] ** 2 + (0.05 * one.loc["height", "se"]) ** 2
    assert row["se"] == pytest.approx(np.sqrt(variance))
    assert row["rank"] == 1 + (table.query("trial == 'T2'")["estimate"] > row["estimate"]).sum()
    assert "T7" not in set(table["trial"])  # without yield there is no index
    with pytest.raises(OptionError, match="trait 'yeild' is not in the batch; nearest: 'yield'"):
        batch.selection_index({"yeild": 1.0})
    with pytest.raises(OptionError, match="an index needs a weight that is not zero"):
        batch.selection_index({"yield": 0.0})


def test_trials_with_genotypes_in_common(frame):
    own = frame[~((frame["trial"] == "T1") & frame["gen"].isin(["G01", "G02"]))]
    own = own[~((own["trial"] == "T2") & own["gen"].isin(["G02", "G03", "G04"]))]
    batch = fit_batch(own[own["trial"].isin(["T1", "T2"])], FORMULA, by="trial", genotypes="gen", fixed=False,
                      progress=False)  # fmt: skip
    assert batch.common_genotypes().to_numpy().tolist() == [[22, 20], [20, 21]]


def test_keys_that_hold_what_joins_them_are_trials_of_their_own():
    """"A:1", "2" and "A", "1:2" were counted as one trial."""
    values = pd.DataFrame({"site": ["A:1", "A:1", "A"], "trial": ["2", "2", "1:2"], "gen": ["a", "b", "b"]})
    table = common_genotypes(values, ["site", "trial"], "gen")
    assert table.to_numpy().tolist() == [[1, 1], [1, 2]]
    assert list(table.columns) == ['"A":"1:2"', '"A:1":"2"']
    assert list(common_genotypes(values, ["site"], "gen").columns) == ["A", "A:1"]


def test_genotypes_in_common_of_many_trials_count_what_is_there():
    """The work is that of the pairs that share something, not of trials x trials x genotypes: 2.4e10 here."""
    size = 2000
    values = pd.DataFrame({"trial": np.repeat(np.arange(size), 3)})
    values["gen"] = values.index % (2 * size)
    table = common_genotypes(values, ["trial"], "gen")
    assert np.diag(table).tolist() == [3] * size
    assert table.to_numpy().sum() == (values.groupby("gen").size() ** 2).sum()


def test_no_trial_with_values():
    """Each question said so by an internal error."""
    empty = datasets.load("trials").assign(**{"yield": np.nan})
    batch = fit_batch(empty, FORMULA, by="trial", genotypes="gen", progress=False)
    for ask in (batch.common_genotypes, lambda: batch.selection_index({"yield": 1.0})):
        with pytest.raises(DataError, match="no trial of the batch gave values of genotypes"):
            ask()
    with pytest.raises(DataError, match="no trial of the batch gave means"):
        gxe(batch, "gen")
    means = fit_batch(empty, "yield ~ gen + (1|rep)", by="trial", emmeans=["gen", "~ 1"], covariances=True,
                      progress=False)  # fmt: skip
    with pytest.raises(DataError, match="no trial of the batch gave means"):
        second_stage(means, "mean ~ 1 + (1|gen)", spec="gen")


def test_batches_of_trials_in_several_environments():
    """Heritabilities of the mean over environments and within each, which every trial has of its own."""
    frame = datasets.load("trials").query("trial < 'T5'").dropna(subset=["yield"])
    frame = frame.assign(region=np.where(frame["trial"] < "T3", "north", "south"))
    formula = "yield ~ trial + diag(0 + trial | gen) + (1|trial:rep:block)"
    batch = fit_batch(frame, formula, by="region", genotypes="gen", progress=False)
    table = batch.heritabilities.set_index(["region", "coefficient", "definition"])["estimate"]
    for region, names in (("north", ("trialT1", "trialT2")), ("south", ("trialT3", "trialT4"))):
        fit = lmm(formula, frame[frame["region"] == region])
        assert table[region, "mean", "piepho"] == pytest.approx(fit.heritability("gen")["piepho"], rel=1e-5)
        assert set(table[region].index.get_level_values(0)) == {"mean", *names}
        for name in names:
            own = fit.heritability("gen", ["standard", "cullis"], coefficient=name)
            assert table[region, name, "standard"] == pytest.approx(own["standard"], rel=1e-6)
            assert table[region, name, "cullis"] == pytest.approx(own["cullis"], rel=1e-6)
    assert list(batch.trial_table()["h2_definition"]) == ["cullis", "cullis"]
