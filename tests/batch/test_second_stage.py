"""Two stages against one, against another program, and against the definition of the weights."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, long_table, second_stage
from fastlmm_core.batch.two_stages import stage_means
from fastlmm_core.errors import CodesWarning, DataError, FormulaError, LeftOutWarning, OptionError
from fastlmm_core.structures.relationships import BlockCovariance, Covariance

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")

# Second stages of the maize trials of Damesa et al. (2017, Agron. J. 109, 845-857; agridat's damesa.maize)
# by metafor 5.2, rma.mv with V = Omega, or 1 / w: variances of site and site:gen.
METAFOR = {
    "full": (10.453913, 0.127193), "smith": (10.422968, 0.127908), "diagonal": (10.424703, 0.126473),
}  # fmt: skip
NUISANCE = "(1|rep) + (1|rep:block)"
FORMULA = "mean ~ gen + (1|site) + (1|site:gen)"


@pytest.fixture(scope="module")
def maize():
    return pd.read_csv(Path(__file__).parent / "reference" / "damesa_maize.csv")


@pytest.fixture(scope="module")
def first(maize):
    return fit_batch(
        maize, f"yield ~ gen + {NUISANCE}", by="site", emmeans="gen", covariances=True, fixed=False,
        progress=False,
    )  # fmt: skip


@pytest.mark.parametrize(("weights", "printed"), METAFOR.items())
def test_maize_as_metafor_has_it(first, weights, printed):
    fit = second_stage(first, FORMULA, weights=weights)
    found = fit.variance_components.set_index("group")["estimate"]
    assert found[["site", "site:gen"]].to_numpy() == pytest.approx(printed, rel=5e-6)
    assert found["Residual"] == pytest.approx(1.0, rel=1e-12)


def test_two_stages_are_one_at_the_same_variances(maize, first):
    between = {"site": 10.4, "site:gen": 0.13}
    parts = first.variance_components.pivot(index="site", columns="group", values="estimate")
    held = {site: row.to_dict() for site, row in parts.iterrows()}
    nuisance = "(1|at(site):rep) + (1|at(site):rep:block)"
    one = lmm(f"yield ~ gen + (1|site) + (1|site:gen) + {nuisance}", maize, residual="units | site",
              fixed_parameters=held | between)  # fmt: skip
    two = second_stage(first, FORMULA, fixed_parameters=between)
    assert np.allclose(two.beta, one.beta, rtol=0, atol=1e-8)
    assert np.allclose(two.cov_beta, one.cov_beta, rtol=1e-8, atol=1e-10)
    for group in between:
        ours, theirs = two.blups(group), one.blups(group)
        assert list(ours["level"]) == list(theirs["level"])
        assert np.allclose(ours["estimate"], theirs["estimate"], rtol=0, atol=1e-8)
        assert np.allclose(ours["pev"], theirs["pev"], rtol=0, atol=1e-8)


def test_a_random_genotype_with_relationship_is_the_same_in_one_stage(maize, first):
    levels = sorted(maize["gen"].unique())
    M = np.random.default_rng(2).normal(size=(len(levels), 60))
    K = {"K": (M @ M.T / 60 + 0.05 * np.eye(len(levels)), levels)}
    between = {"vm(gen, K)": 0.3, "gen": 0.1, "site": 10.4, "site:gen": 0.13}
    parts = first.variance_components.pivot(index="site", columns="group", values="estimate")
    held = {site: row.to_dict() for site, row in parts.iterrows()}
    random = "(1|vm(gen, K)) + (1|gen) + (1|site) + (1|site:gen)"
    one = lmm(f"yield ~ {random} + (1|at(site):rep) + (1|at(site):rep:block)", maize,
              residual="units | site", relationships=K, fixed_parameters=held | between)  # fmt: skip
    two = second_stage(first, f"mean ~ {random}", relationships=K, fixed_parameters=between)
    for group in between:
        assert np.allclose(two.blups(group)["estimate"], one.blups(group)["estimate"], rtol=0, atol=1e-8)
        assert np.allclose(two.blups(group)["pev"], one.blups(group)["pev"], rtol=0, atol=1e-8)


def test_covariances_are_those_of_the_fits(maize, first):
    means = stage_means(first)
    for j, (site, frame) in enumerate(maize.groupby("site")):
        alone = lmm(f"yield ~ gen + {NUISANCE}", frame).emmeans("gen")
        assert np.allclose(means.covariance.blocks[j], alone.functions.cov_unadjusted, rtol=1e-10)
        mine = means.frame[means.frame["site"] == site]
        assert np.allclose(mine["estimate"], alone.estimate, rtol=1e-12)
        assert list(mine["gen"]) == list(alone.labels["gen"])


def test_smith_weights_are_the_diagonal_of_the_inverse(first):
    own = stage_means(first).covariance
    expected = np.concatenate([np.diag(np.linalg.inv(block)) for block in own.blocks])
    assert np.allclose(own.precision_diagonal(), expected, rtol=1e-10)
    fit = second_stage(first, FORMULA, weights="smith")
    assert np.allclose(fit.weights, expected, rtol=1e-10)
    diagonal = second_stage(first, FORMULA, weights="diagonal")
    assert np.allclose(diagonal.weights, 1 / own.diagonal(), rtol=1e-12)


def test_a_folder_keeps_the_covariances(maize, first, tmp_path):
    pytest.importorskip("pyarrow")
    options = {"by": "site", "emmeans": "gen", "covariances": True, "fixed": False, "progress": False}
    fit_batch(maize, f"yield ~ gen + {NUISANCE}", out=tmp_path / "stage", **options)
    again = fit_batch(maize, f"yield ~ gen + {NUISANCE}", out=tmp_path / "stage", **options)
    # `first` may hold the searches of a process that run before they are compiled, and round otherwise
    alone = fit_batch(maize, f"yield ~ gen + {NUISANCE}", **options)
    assert (tmp_path / "stage" / "covariances" / "part-000000.parquet").exists()
    one, other = stage_means(alone), stage_means(again)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert all(
        np.array_equal(a, b) for a, b in zip(one.covariance.blocks, other.covariance.blocks, strict=True)
    )


def test_traits_and_lost_trials():
    """Trials that could not be fitted are left out; of several traits one is named."""
    frame = datasets.load("trials")
    batch = fit_batch(frame, f"~ gen + {NUISANCE}", by="trial", traits=["yield", "height"], emmeans="gen",
                      covariances=True, fixed=False, progress=False)  # fmt: skip
    with pytest.raises(OptionError, match="give trait=, one of 'yield', 'height'"):
        second_stage(batch, "mean ~ gen + (1|trial)")
    with pytest.raises(OptionError, match="trait='yeld' is not in the batch"):
        second_stage(batch, "mean ~ gen + (1|trial)", trait="yeld")
    for trait in ("yield", "height"):
        lost = {"yield": "2 of 8 trials are .*T7 \\(data\\), T8 \\(design\\); the table `fits` says why",
                "height": "1 of 8 trials is .*: T8 \\(design\\);"}[trait]  # fmt: skip
        with pytest.warns(LeftOutWarning, match=lost):
            fit = second_stage(batch, "mean ~ gen + (1|trial) + (1|trial:gen)", trait=trait)
        good = batch.fits[(batch.fits["trait"] == trait) & (batch.fits["rank"] > 0)]["trial"]
        trials = next(term for term in fit.design.random if term.group == "trial").levels
        assert set(trials) == set(good)
        assert fit.converged


@pytest.mark.parametrize(
    ("formula", "words"),
    [("log(mean) ~ gen", "needs a name for the means"), ("gen ~ 1 + (1|site)", "is a column of the means")],
)
def test_the_response_is_a_new_name(first, formula, words):
    with pytest.raises(FormulaError, match=words):
        second_stage(first, formula)


@pytest.mark.parametrize("name", ["covariance", "estimate", "df_difference", "se"])
def test_variables_called_as_a_column_of_the_means(maize, first, name):
    """Labels of means get another name, in which a second stage finds them; keys are refused at the door."""
    other = fit_batch(
        maize.rename(columns={"gen": name}), f"yield ~ {name} + {NUISANCE}", by="site", emmeans=name,
        covariances=True, fixed=False, progress=False,
    )  # fmt: skip
    fit = second_stage(other, FORMULA.replace("gen", f"{name}_level"))
    assert fit.criterion == pytest.approx(second_stage(first, FORMULA).criterion, abs=1e-8)
    with pytest.raises(FormulaError, match=f"labels of '{name}' are the column '{name}_level' of the means"):
        second_stage(other, f"mean ~ {name}")
    if name != "se":
        with pytest.raises(OptionError, match=f"by='{name}' is the name of a column of the results; rename"):
            fit_batch(maize.rename(columns={"site": name}), f"yield ~ gen + {NUISANCE}", by=name,
                      emmeans="gen", covariances=True)  # fmt: skip


def test_a_column_called_units_is_refused(maize):
    batch = fit_batch(maize.rename(columns={"site": "units"}), "yield ~ gen + (1|rep)", by="units",
                      emmeans="gen", covariances=True, fixed=False, progress=False)  # fmt: skip
    with pytest.raises(DataError, match=r"column 'units'.*another name in the data of the first stage"):
        second_stage(batch, "mean ~ gen + (1|units)")
    weighted = second_stage(batch, "mean ~ gen + (1|units)", weights="smith")  # no covariance over rows
    assert weighted.converged


def test_traits_of_a_long_table_are_labels_of_means():
    """A factor called trait stands beside the column of the results that says which response it is."""
    plots = datasets.load("trials").dropna()
    long = long_table(plots[plots["trial"].isin(["T1", "T4"])], ["yield", "height"])
    formula = "value ~ trait * gen + trait:rep"
    batch = fit_batch(long, formula, by="trial", residual="units | trait", emmeans="trait * gen",
                      covariances=True, progress=False)  # fmt: skip
    for table in ("emmeans", "covariances"):
        frame = batch.table(table)
        assert list(frame.columns[:4]) == ["trial", "trait", "trait_level", "gen"]
        assert set(frame["trait"]) == {"value"} and set(frame["trait_level"]) == {"yield", "height"}
    fit = second_stage(batch, "mean ~ trait_level * gen + (1|trial)")
    assert fit.converged and fit.nobs == len(batch.covariances)
    with pytest.raises(FormulaError, match="labels of 'trait' are the column 'trait_level' of the means"):
        second_stage(batch, "mean ~ trait * gen + (1|trial)")


def test_a_batch_without_covariances_is_refused(maize):
    with pytest.raises(OptionError, match="give emmeans= too"):
        fit_batch(maize, f"yield ~ gen + {NUISANCE}", by="site", covariances=True)
    plain = fit_batch(maize, f"yield ~ gen + {NUISANCE}", by="site", emmeans="gen", progress=False)
    with pytest.raises(OptionError, match="kept no covariances"):
        second_stage(plain, FORMULA)


def test_blocks_are_the_dense_matrix():
    r = np.random.default_rng(0)
    parts = [M @ M.T + np.eye(len(M)) for M in (r.normal(size=(k, k)) for k in (3, 1, 4))]
    whole = np.zeros((8, 8))
    for start, part in zip((0, 3, 4), parts, strict=True):
        whole[start : start + len(part), start : start + len(part)] = part
    names = [f"l{i}" for i in range(8)]
    blocks, dense = BlockCovariance(parts, names), Covariance(whole, names)
    V = r.normal(size=(8, 2))
    assert np.allclose(blocks.multiply(V), dense.multiply(V))
    assert np.allclose(blocks.precision().toarray(), np.linalg.inv(whole))
    assert blocks.log_determinant() == pytest.approx(dense.log_determinant())
    assert np.allclose(blocks.diagonal(), dense.diagonal())
    frame = pd.DataFrame({"row": names, "g": list("aabbaabb"), "y": r.normal(size=8)})
    frame = frame.iloc[[6, 2, 0, 7, 5, 1]]  # some rows, in another order
    fits = [lmm("y ~ 1 + (1|g)", frame, residual="vm(row, O)", relationships={"O": own})
            for own in (blocks, dense)]  # fmt: skip
    assert fits[0].criterion == pytest.approx(fits[1].criterion, rel=1e-12)
    assert np.allclose(fits[0].fitted, fits[1].fitted, rtol=1e-9)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([np.eye(2), np.ones((2, 2))], "block 2 of the covariance is not positive definite"),
        ([np.array([[1.0, 0.2], [0.1, 1.0]]), np.eye(2)], "block 1 of the covariance is not symmetric"),
        ([np.eye(2), np.ones((1, 2))], "block 2 of the covariance must be square"),
        ([np.eye(2)], "2 rows and there are 4 names"),
    ],
)
def test_bad_blocks_are_named(blocks, words):
    with pytest.raises(DataError, match=words):
        BlockCovariance(blocks, list("abcd"))


def test_diagnostics_of_a_second_stage(first):
    """Residuals by V written out; what leaves rows and levels out, as with Omega given as one matrix."""
    fit = second_stage(first, "mean ~ 1 + (1|gen) + (1|site)")
    table = first.covariances.reset_index(drop=True)
    omega = np.zeros((len(table), len(table)))
    for _, own in table.groupby("site", sort=False):
        at = own.index.to_numpy()
        for i, row in zip(at, own["covariance"], strict=True):
            omega[i, at[: len(row)]] = omega[at[: len(row)], i] = row
    s = fit.variance_components.set_index("group")["estimate"]
    V = omega.copy()
    for name in ("gen", "site"):
        Z = pd.get_dummies(table[name]).to_numpy(float)
        V += s[name] * Z @ Z.T
    X = np.ones((len(table), 1))
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    residual = omega @ P @ table["estimate"].to_numpy()
    found = fit.diagnostics()
    np.testing.assert_allclose(found["residual"], residual, rtol=1e-6, atol=1e-9)
    spread = np.sqrt(np.diag(omega @ P @ omega))
    np.testing.assert_allclose(found["studentized"], residual / spread, rtol=1e-6, atol=1e-8)
    other = lmm(
        "mean ~ 1 + (1|gen) + (1|site)", table.assign(mean=table["estimate"]), residual="vm(units, Omega)",
        relationships={"Omega": Covariance(omega, [str(i + 1) for i in range(len(omega))])},
        fixed_parameters={"gen": s["gen"], "site": s["site"], "Residual": 1.0},
    )  # fmt: skip
    np.testing.assert_allclose(found["cooks_d"], other.diagnostics()["cooks_d"], rtol=1e-4, atol=1e-9)
    ours, theirs = (one.influence("gen")["cooks_d"] for one in (fit, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    loglik = fit.conditional_aic().loglik
    assert loglik == pytest.approx(other.conditional_aic().loglik, rel=1e-5)
    assert len(fit.half_normal("gen")) == 22


def test_one_slope_over_numbered_trials_is_told():
    """Numbers of trials are a covariate in the fixed part, as any numbers are, but hardly ever meant so."""
    frame = datasets.load("trials")
    frame = frame[frame["trial"].isin(["T1", "T2", "T3", "T4"])].copy()
    frame["trial"] = frame["trial"].str[1:].astype(int)
    batch = fit_batch(frame, f"yield ~ gen + {NUISANCE}", by="trial", emmeans="gen", covariances=True,
                      fixed=False, progress=False)  # fmt: skip
    with pytest.warns(CodesWarning, match="'trial' is a covariate .* 4 values are codes, write factor"):
        second_stage(batch, "mean ~ trial + (1|gen)")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CodesWarning)
        for terms in ("factor(trial) + (1|gen)", "trial + (1|trial) + (1|gen)", "(1|gen) + (1|gen:trial)"):
            second_stage(batch, f"mean ~ {terms}")


def test_labels_of_numbers_keep_their_order():
    """Genotype 10 comes after 9, in the second stage as in the first; 001 and 1 stay two."""
    frame = datasets.load("trials")
    frame = frame[frame["trial"].isin(["T1", "T3", "T4"])].copy()
    levels = sorted(frame["gen"].unique())
    frame["gen"] = frame["gen"].map({name: str(k + 1) for k, name in enumerate(levels)}).replace({"7": "001"})
    batch = fit_batch(frame, f"yield ~ gen + {NUISANCE}", by="trial", emmeans="gen", covariances=True,
                      fixed=False, progress=False)  # fmt: skip
    means = second_stage(batch, "mean ~ gen + (1|trial) + (1|trial:gen)").emmeans("gen").to_frame()
    wanted = sorted(frame["gen"].unique(), key=lambda text: (int(text), text))
    assert means["gen"].tolist() == wanted and {"001", "1"} <= set(wanted)
