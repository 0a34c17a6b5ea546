"""Batches with covariance structures: the figures of `lmm` on each trial, and what goes with them."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import fit_batch, gxe, lmm, read_batch
from fastlmm_core.batch import fit_group, make_plan
from fastlmm_core.errors import DataError, FormulaError, OptionError
from fastlmm_core.structures.relationships import Covariance, Markers, Pedigree

GENOTYPES = [f"g{i:02d}" for i in range(14)]
LEVELS = [*GENOTYPES, "x1", "x2"]  # two without data
TRIALS, TRAITS = ("t1", "t2", "t3"), ("yield", "height")
MARKERS = np.random.default_rng(8).integers(0, 3, size=(16, 30)).astype(float)
A = (MARKERS - 1.0) @ (MARKERS - 1.0).T / 30 + 0.2 * np.eye(16)
A_INVERSE = sp.csc_array(np.linalg.inv(A))
RELATED = {"A": (A, LEVELS), "Q": (A_INVERSE, LEVELS)}
CASES = {
    "residual by environment": ("env + (1 | gen)", {"residual": "units | env"}),
    "dense covariance": ("env + rep + (1 | vm(gen, A))", {"relationships": RELATED}),
    "sparse inverse": (
        "env + (1 | vm(gen, Q))",
        {"relationships": RELATED, "residual": "units | env"},
    ),
    "fields": ("env + (1 | gen)", {"residual": "ar1(row):ar1(col) | env"}),
    "coefficients": ("env + cs(0 + env | gen)", {}),
    "spline": ("env + row + (1 | gen) + ps(row)", {}),
    "terms by environment": ("env + (1 | at(env):rep) + (1 | gen)", {}),
    "held residual": ("env + (1 | gen)", {"fixed_parameters": {"Residual": 2.0}}),
    "start of a plain model": ("env + (1 | gen)", {"start": {"gen": 3.0, "Residual": 0.5}}),
    "start": ("env + (1 | gen)", {"residual": "units | env", "start": {"gen": 3.0}}),
    "repeated measures": ("env + (1 | gen)", {"residual": "us(env | gen:rep)"}),
    "without random terms": ("env", {"residual": "units | env"}),
}


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(3)
    root = np.linalg.cholesky(A)
    rows = []
    for trial in TRIALS:
        u = root @ rng.normal(size=16)
        for env in ("E1", "E2"):
            plots = [(rep, i) for rep in ("r1", "r2") for i in rng.permutation(14)]
            for plot, (rep, i) in enumerate(plots):
                rows.append((trial, env, rep, GENOTYPES[i], plot % 7 + 1, plot // 7 + 1,
                             10 + u[i] + rng.normal() * (1 if env == "E1" else 2),
                             5 + 0.5 * u[i] + rng.normal()))  # fmt: skip
    names = ["trial", "env", "rep", "gen", "row", "col", *TRAITS]
    return pd.DataFrame(rows, columns=names)


def of_fit(fit):
    """The tables of one fit as a batch has them."""
    means = fit.emmeans("env")
    return {
        "variance_components": fit.variance_components, "blups": fit.blups(), "fixed": fit.fixed_effects(),
        "emmeans": means.to_frame(), "contrasts": means.contrast("pairwise").to_frame(),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_batch_has_the_figures_of_lmm(trials, case):
    terms, options = CASES[case]
    result = fit_batch(trials, f"~ {terms}", by="trial", traits=TRAITS, blups=True, emmeans="env",
                       contrasts="pairwise", **options)  # fmt: skip
    assert set(result.fits["status"]) == {"ok"}
    for trial in TRIALS:
        for trait in TRAITS:
            fit = lmm(f"{trait} ~ {terms}", trials[trials["trial"] == trial], **options)

            def own(table, trial=trial, trait=trait):
                if not len(table):
                    return table
                return table[(table["trial"] == trial) & (table["trait"] == trait)].reset_index(drop=True)

            assert own(result.fits)["criterion"][0] == pytest.approx(fit.criterion, rel=1e-8)
            for name, expected in of_fit(fit).items():
                found = own(getattr(result, name))
                assert len(found) == len(expected)
                for column in expected.columns if len(expected) else ():
                    if pd.api.types.is_float_dtype(expected[column]):
                        assert np.allclose(found[column], expected[column], 1e-8, 1e-8, equal_nan=True), name


def test_every_trial_starts_where_it_is_told(trials):
    """From the estimates a search has nowhere to go; a name that is no term is the reason of the trial."""
    model, own = "yield ~ env + (1 | gen)", {"by": "trial", "residual": "units | env"}
    first = trials[trials["trial"] == "t1"]
    estimates = lmm(model, first, residual="units | env").variance_components["estimate"].to_list()
    start = {"gen": estimates[0], "Residual|env": {"E1": estimates[1], "E2": estimates[2]}}
    usual, told = fit_batch(first, model, **own).fits, fit_batch(first, model, start=start, **own).fits
    assert told["iterations"][0] < usual["iterations"][0]
    assert told["criterion"][0] == pytest.approx(usual["criterion"][0], abs=1e-8)
    wrong = fit_batch(first, model, start={"nobody": 1.0}, **own).fits
    assert wrong["status"][0] == "option" and "nobody" in wrong["message"][0]


def test_all_variances_have_columns(trials):
    def columns(terms, **options):
        fits = fit_batch(trials, f"yield ~ {terms}", by="trial", **options).fits
        return [name for name in fits if name.startswith(("var_", "cor_"))], fits

    names, fits = columns("env + row + (1 | gen) + ps(row)", residual="units | env")
    assert names == ["var_gen", "var_ps(row).row", "var_Residual|env.E1", "var_Residual|env.E2",
                     "var_Residual"]  # fmt: skip
    assert fits["var_Residual"].isna().all()  # there is no single one
    fit = lmm("yield ~ env + row + (1 | gen) + ps(row)", trials[trials["trial"] == "t1"],
              residual="units | env")  # fmt: skip
    estimates = fit.variance_components["estimate"].to_numpy()
    assert np.allclose(fits.iloc[0][names[:-1]].to_numpy(float), estimates, rtol=1e-8)
    names, fits = columns("env + (1 | at(env):rep) + (1 | gen)", residual="ar1(row):ar1(col) | env")
    assert names[:3] == ["var_at(env, E1):rep", "var_at(env, E2):rep", "var_gen"]
    assert names[3:6] == ["var_Residual|env.E1", "cor_Residual|env.E1.row", "cor_Residual|env.E1.col"]
    assert fits["cor_Residual|env.E1.row"].abs().max() < 1.0


def test_a_relationship_is_built_once_and_levels_without_data_have_blups(trials, monkeypatch):
    inverted = []
    precision = Covariance.__dict__["_precision"]
    inner = precision.func
    monkeypatch.setattr(precision, "func", lambda own: inverted.append(own.size) or inner(own))
    result = fit_batch(trials, "~ env + (1 | vm(gen, A))", by="trial", traits=TRAITS, blups="vm(gen, A)",
                       relationships=RELATED, workers=1)  # fmt: skip
    assert inverted.count(16) == 1  # the others are those of the levels that a trial has
    assert result.blups.groupby(["trial", "trait"]).size().eq(16).all()
    silent = result.blups[result.blups["level"] == "x1"]
    assert len(silent) == 6
    assert silent["estimate"].abs().min() > 0.0


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_genotypes_are_named_by_their_column_as_in_a_fit(trials):
    """Also where of several formulas each has another relation of them; two groups over it are no answer."""
    options = {"by": "trial", "relationships": RELATED, "progress": False}
    formulas = ["yield ~ env + (1 | vm(gen, A))", "yield ~ env + (1 | gen)"]
    for formula in (formulas[0], formulas):
        short = fit_batch(trials, formula, genotypes="gen", **options)
        assert set(short.fits["status"]) == {"ok"}
        fit = lmm(formulas[0], trials[trials["trial"] == "t1"], relationships=RELATED)
        own = short.genotype_values.query("trial == 't1'").set_index("gen")["estimate"]
        expected = fit.genotype_values("gen").to_frame().set_index("gen")["estimate"]
        pd.testing.assert_series_equal(own, expected, check_names=False, rtol=1e-8)
    whole = fit_batch(trials, formulas[0], genotypes="vm(gen, A)", **options)
    for name in ("genotype_values", "blues", "heritabilities"):
        pd.testing.assert_frame_equal(getattr(whole, name), getattr(short, name), rtol=1e-8)
    by_column, by_name = (gxe(whole, name).to_frame() for name in ("gen", "vm(gen, A)"))
    pd.testing.assert_frame_equal(by_column, by_name)
    assert by_column.shape == (14, 3)
    for formula, name in ((formulas[0], "env"), (f"{formulas[0]} + (1 | vm(gen, Q))", "gen")):
        with pytest.raises(OptionError, match=f"genotypes='{name}' is not a random term of the formula"):
            fit_batch(trials, formula, genotypes=name, **options)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_genotypes_without_plots_do_not_connect_trials(trials, tmp_path):
    """Every trial predicts all levels of a relationship: trials without a common line had all in common."""
    first, second, third = set(GENOTYPES[:7]), set(GENOTYPES[7:]), set(GENOTYPES)
    stands = dict(zip(TRIALS, (first, second, third), strict=True))
    own = trials[[gen in stands[trial] for gen, trial in zip(trials["gen"], trials["trial"], strict=True)]]
    related = {"A": (A[:14, :14], GENOTYPES)}  # all of which stand in the third trial
    options = {"by": "trial", "relationships": related, "genotypes": "gen", "progress": False}
    model = "yield ~ env + (1 | vm(gen, A))"
    batch = fit_batch(own, model, out=tmp_path / "out", **options)
    for result in (batch, read_batch(tmp_path / "out")):
        assert result.common_genotypes().to_numpy().tolist() == [[7, 0, 7], [0, 7, 7], [7, 7, 14]]
        table = result.trial_table().set_index("trial")
        assert table["connected"].tolist() == [1, 1, 2] and table["common"].tolist() == [7, 7, 7]
        assert table["shared"].tolist() == [7, 7, 14] and table["network"].nunique() == 1
        values = result.genotype_values
        tested = values[~values["untested"].eq(True)]
        assert {trial: set(part["gen"]) for trial, part in tested.groupby("trial")} == stands
        assert values.groupby("trial").size().eq(14).all()
    apart = fit_batch(own[own["trial"] != "t3"], model, **options).trial_table()
    assert apart["network"].tolist() == [1, 2] and apart["connected"].tolist() == [0, 0]
    plain = fit_batch(own, "yield ~ env + (1 | gen)", by="trial", genotypes="gen", progress=False)
    assert "untested" not in plain.genotype_values
    assert plain.common_genotypes().equals(batch.common_genotypes())


def test_heritability_is_given_where_it_is_defined(trials):
    plain = fit_batch(trials, "yield ~ env + (1 | gen)", by="trial", blups=True).heritability
    # a residual of one variance for each of two environments that turn out alike is the plain model
    held = fit_batch(trials, "yield ~ env + (1 | gen)", by="trial", blups=True, residual="units | env",
                     fixed_parameters={"Residual": 2.0}).heritability  # fmt: skip
    same = fit_batch(trials, "yield ~ env + (1 | gen)", by="trial", blups=True,
                     fixed_parameters={"Residual": 2.0}).heritability  # fmt: skip
    assert np.allclose(held["h2_cullis"], same["h2_cullis"], rtol=1e-8)
    assert np.allclose(held["h2_standard"], same["h2_standard"], rtol=1e-8)
    assert set(held["status"]) == {"ok"}
    # one variance that is held is a variance
    variance = held["variance"].to_numpy()
    assert np.allclose(same["h2_standard"], variance / (variance + 2.0 / same["replication"]), rtol=1e-8)
    assert set(same["status"]) == {"ok"}
    # held at the estimates of the plain fit the figures are those of the plain fit
    fits = fit_batch(trials, "yield ~ env + (1 | gen)", by="trial").fits
    first = trials[trials["trial"] == "t1"]
    at = {"gen": fits["var_gen"][0], "Residual": fits["var_Residual"][0]}
    there = fit_batch(first, "yield ~ env + (1 | gen)", by="trial", blups=True, fixed_parameters=at)
    assert there.heritability["h2_cullis"][0] == pytest.approx(plain["h2_cullis"][0], rel=1e-8)
    assert there.heritability["mean_pev"][0] == pytest.approx(plain["mean_pev"][0], rel=1e-8)
    related = fit_batch(trials, "yield ~ env + (1 | vm(gen, A))", by="trial", blups=True,
                        relationships=RELATED).heritability  # fmt: skip
    assert related["h2_cullis"].isna().all()
    assert related["status"].str.contains("its levels are related").all()


def test_the_folder_knows_the_structures(trials, tmp_path):
    out = tmp_path / "results"
    model = {"formula": "yield ~ env + (1 | vm(gen, A))", "by": "trial", "out": out}
    written = fit_batch(trials, relationships=RELATED, residual="units | env", **model)
    manifest = json.loads((out / "manifest.json").read_text())["plan"]
    assert manifest["residual"] == "units | env"
    assert set(manifest["relationships"]) == {"A", "Q"}
    again = fit_batch(trials, relationships=RELATED, residual="units|env", **model)
    assert again.fits.equals(written.fits)
    for result in (written, read_batch(out)):
        assert "'yield ~ env + (1 | vm(gen, A))' with residual 'units | env':" in result.summary()
    other = RELATED | {"A": (A + 0.01 * np.eye(16), LEVELS)}
    with pytest.raises(OptionError, match="differs in relationships"):
        fit_batch(trials, relationships=other, residual="units | env", **model)
    with pytest.raises(OptionError, match="differs in residual"):
        fit_batch(trials, relationships=RELATED, **model)
    with pytest.raises(OptionError, match="differs in fixed_parameters"):
        fit_batch(trials, relationships=RELATED, residual="units | env", fixed_parameters={"vm(gen, A)": 1.0},
                  **model)  # fmt: skip


PEDIGREE = {"id": LEVELS, "sire": [""] * 4 + ["g00"] * 12, "dam": [""] * 4 + ["g01"] * 12}
RELATIONSHIPS = {
    "covariance": lambda: Covariance(A, LEVELS),
    "inverse": lambda: (A_INVERSE, LEVELS),
    "pedigree": lambda: Pedigree(PEDIGREE, check_sex=False),
    "markers": lambda: Markers(pd.DataFrame(MARKERS, index=pd.Index(LEVELS, name="gen"))),
}


@pytest.mark.parametrize("kind", RELATIONSHIPS)
def test_plans_with_relationships_pickle(trials, kind):
    plan = make_plan("yield ~ env + (1 | vm(gen, K))", by="trial",
                     relationships={"K": RELATIONSHIPS[kind]()})  # fmt: skip
    before = fit_group(trials, plan)["fits"]
    twin = pickle.loads(pickle.dumps(plan))  # after a fit: with what it has computed
    assert twin == plan
    assert twin.digest == plan.digest
    assert np.allclose(fit_group(trials, twin)["fits"]["criterion"], before["criterion"], rtol=1e-12)


def test_a_cluster_takes_relationships(trials):
    distributed = pytest.importorskip("distributed")
    options = {"by": "trial", "traits": TRAITS, "blups": True, "relationships": RELATED,
               "residual": "units | env"}  # fmt: skip
    here = fit_batch(trials, "~ env + (1 | vm(gen, A))", **options)
    local = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster, distributed.Client(cluster) as client:
        there = fit_batch(trials, "~ env + (1 | vm(gen, A))", engine=client, **options)
    assert np.allclose(there.blups["estimate"], here.blups["estimate"], rtol=1e-10)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_names_that_only_the_table_decides(trials):
    formula = "yield ~ env + (1 | gen) + (1 | units)"
    held = {"Residual": 1.0}
    rows = fit_batch(trials, formula, by="trial", fixed_parameters=held).fits
    fit = lmm(formula, trials[trials["trial"] == "t1"], fixed_parameters=held)
    assert rows["criterion"][0] == pytest.approx(fit.criterion, rel=1e-8)
    named = trials.assign(units=trials["rep"], T=trials["env"])
    blocks = fit_batch(named, formula, by="trial").fits
    assert blocks["criterion"][0] == pytest.approx(
        lmm("yield ~ env + (1 | gen) + (1 | rep)", trials[trials["trial"] == "t1"]).criterion, rel=1e-8
    )
    by_T = fit_batch(named, "yield ~ env + (1 | gen)", by="trial", residual="units | T").fits
    assert "var_Residual|T.E2" in by_T


def test_levels_of_one_term_of_at_are_asked_for_together(trials):
    result = fit_batch(trials, "yield ~ env + (1 | at(env):rep) + (1 | gen)", by="trial", blups="at(env):rep")
    assert set(result.blups["group"]) == {"at(env, E1):rep", "at(env, E2):rep"}


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"relationships": None}, OptionError, "relationship 'A' is not given"),
        ({"relationships": {"A": 3}}, OptionError, "is of type int"),
        ({"relationships": [1]}, OptionError, "by name"),
        ({"residual": "units | farm"}, DataError, "residual: column 'farm' is not in the data"),
        ({"residual": "ar2(row)"}, FormulaError, "ar2"),
        ({"residual": 3}, OptionError, "residual=3"),
        ({"residual": "units | yield"}, OptionError, "a response cannot explain itself"),
        ({"residual": "vm(units, W)"}, OptionError, "relationship 'W' is not given"),
        ({"fixed_parameters": {"Residual": "x"}}, OptionError, "must be numbers"),
        ({"fixed_parameters": {"gen": [[np.nan]]}}, OptionError, "not finite"),
        ({"fixed_parameters": [1.0]}, OptionError, "fixed_parameters"),
    ],
)
def test_requests_that_cannot_be_met(trials, options, error, words):
    given = {"by": "trial", "relationships": RELATED} | options
    with pytest.raises(error, match=words):
        fit_batch(trials, "yield ~ env + (1 | vm(gen, A))", **given)


def test_a_trial_that_cannot_be_fitted_says_so(trials):
    strange = trials.copy()
    strange.loc[strange["trial"] == "t2", "gen"] = "unheard of"
    fits = fit_batch(strange, "yield ~ env + (1 | vm(gen, A))", by="trial", relationships=RELATED).fits
    assert fits["status"].tolist() == ["ok", "data", "ok"]
    assert "not in the relationship 'A': 'unheard of'" in fits["message"][1]
