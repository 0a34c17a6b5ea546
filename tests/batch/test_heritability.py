"""Heritability on the basis of means over several environments, from its definition genotype by genotype."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.batch import fit_batch
from fastlmm_core.batch.heritability import NOT_STANDARD
from fastlmm_core.inference.heritability import SLOPES


@pytest.fixture(params=[True, False], ids=["compiled", "one by one"], autouse=True)
def compiled(request, monkeypatch):
    """Every batch of this file by the kernels, and by a fit of each trial."""
    if not request.param:
        monkeypatch.setattr("fastlmm_core.batch.engines.jobs.code_trials", lambda table: None)


def environments(missing, seed=1, genotypes=14, n_env=5, reps=3):
    """Genotypes x environments x replications, less `missing` plots."""
    r = np.random.default_rng(seed)
    e, rep, g = (a.ravel() for a in np.meshgrid(range(n_env), range(reps), range(genotypes), indexing="ij"))
    y = (
        r.normal(0, 3, n_env)[e] + r.normal(0, 1, (n_env, reps))[e, rep] + r.normal(0, 1.5, genotypes)[g]
        + r.normal(0, 1.2, (genotypes, n_env))[g, e] + r.normal(0, 1, g.size)
    )  # fmt: skip
    frame = pd.DataFrame({"env": e, "rep": rep, "gen": g, "x": r.normal(size=g.size), "y": y})
    frame["gen"], frame["env"], frame["rep"] = (
        frame[c].map(lambda v, c=c: f"{c}{v}") for c in ("gen", "env", "rep")
    )
    return frame.drop(index=r.choice(len(frame), missing, replace=False)).reset_index(drop=True)


def by_definition(frame, fit):
    """Var(g) over Var(g) and the mean, over genotypes, of what else their means vary by."""
    table = fit.variance_components.set_index("group")["estimate"]
    interaction = next(name for name in table.index if set(name.split(":")) == {"gen", "env"})
    parts = frame.groupby("gen").agg(env=("env", "nunique"), plots=("y", "size"))
    noise = (table[interaction] / parts["env"] + table["Residual"] / parts["plots"]).mean()
    return table["gen"] / (table["gen"] + noise)


@pytest.mark.parametrize("missing", [0, 25])
@pytest.mark.parametrize("interaction", ["gen:env", "env:gen"])
def test_interactions_count_by_the_environments_of_a_genotype(missing, interaction):
    trials = [environments(missing, seed).assign(trial=f"t{seed}") for seed in (1, 2, 3)]
    trials[1] = trials[1][trials[1]["env"] != "env0"]
    trials[2] = trials[2][~((trials[2]["gen"] == "gen3") & (trials[2]["env"] != "env1"))]
    formula = f"y ~ env + (1|env:rep) + (1|gen) + (1|{interaction})"
    result = fit_batch(pd.concat(trials), formula, by="trial", blups="gen", fixed=False)
    table = result.heritability.set_index("trial")
    assert set(table["status"]) == {"ok"}
    for frame in trials:
        trial = frame["trial"].iloc[0]
        np.testing.assert_allclose(
            table["h2_standard"][trial], by_definition(frame, lmm(formula, frame)), rtol=1e-6
        )


def test_without_interactions_it_is_that_of_one_trial():
    frame = environments(10).assign(trial="one")
    formula = "y ~ env + (1|env:rep) + (1|gen)"
    row = fit_batch(frame, formula, by="trial", blups="gen", fixed=False).heritability.iloc[0]
    table = lmm(formula, frame).variance_components.set_index("group")["estimate"]
    plots = (1 / frame.groupby("gen").size()).mean()
    np.testing.assert_allclose(
        row["h2_standard"], table["gen"] / (table["gen"] + table["Residual"] * plots), rtol=1e-6
    )


@pytest.mark.parametrize("slopes", ["(0 + x|gen)", "(x|gen:env)"])
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_it_is_missing_with_a_reason_where_there_are_slopes(slopes):
    formula, frame = f"y ~ env + (1|gen) + {slopes}", environments(0).assign(trial="one")
    row = fit_batch(frame, formula, by="trial", blups="gen", fixed=False).heritability
    row = row[row["group"] == "gen"].iloc[0]
    assert np.isnan(row["h2_standard"]) and row["status"] == NOT_STANDARD + SLOPES
    assert 0.0 < row["h2_cullis"] < 1.0


@pytest.mark.parametrize("interaction", ["", " + (0 + new|gen:env)"])
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_new_lines_beside_fixed_checks(interaction):
    """Checks are no levels of (0 + new | gen): only what is between new lines counts."""
    trials = [environments(20, seed).assign(trial=f"t{seed}") for seed in (1, 2)]
    frame = pd.concat(trials, ignore_index=True)
    frame["new"] = 1.0 - frame["gen"].isin(["gen0", "gen1", "gen2"])
    frame["check"] = frame["gen"].where(frame["new"] == 0.0, "new")
    formula = f"y ~ env + check + (0 + new|gen){interaction}"
    table = fit_batch(frame, formula, by="trial", blups="gen", fixed=False).heritability
    assert list(table["levels"]) == [11, 11]
    for (_, row), (_, own) in zip(table.iterrows(), frame.groupby("trial"), strict=True):
        fit = lmm(formula, own)
        expected = fit.heritability("gen", ["standard", "cullis"])
        assert row["status"] == "ok"
        np.testing.assert_allclose(row["h2_standard"], expected["standard"], rtol=1e-8)
        np.testing.assert_allclose(row["h2_cullis"], expected["cullis"], rtol=1e-8)
        new = own.loc[own["new"] == 1.0, "gen"]
        np.testing.assert_allclose(row["replication"], 1.0 / (1.0 / new.value_counts()).mean(), rtol=1e-12)
        pev = fit.blups("gen").set_index("level").loc[sorted(set(new)), "pev"]
        np.testing.assert_allclose(row["mean_pev"], pev.mean(), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_slopes_have_none():
    frame = environments(0).assign(trial="one")
    result = fit_batch(frame, "y ~ env + x + (0 + x|gen)", by="trial", blups="gen", fixed=False)
    assert len(result.blups) == 14
    assert len(result.heritability) == 0


def test_several_residual_variances_and_weights():
    """As docs/batch.md says: the first have a figure, that of the fit; of the second another table has it."""
    frame = datasets.load("trials").query("trial == 'T1'")
    frame = frame.assign(w=np.random.default_rng(1).uniform(0.5, 2.0, len(frame)))
    formula = "yield ~ rep + (1|gen) + (1|rep:block)"
    options = {"by": "trial", "blups": "gen", "genotypes": "gen", "progress": False}
    several = fit_batch(frame, formula, residual="units | rep", **options).heritability.iloc[0]
    own = lmm(formula, frame, residual="units | rep").heritability("gen")
    assert several["h2_standard"] == pytest.approx(own["standard"], rel=1e-8) and several["status"] == "ok"
    weighted = fit_batch(frame, formula, weights="w", **options)
    row = weighted.heritability.iloc[0]
    assert np.isnan(row["h2_standard"]) and row["status"].endswith("plots have weights; genotypes= gives it")
    found = weighted.heritabilities.set_index("definition")["estimate"]
    own = lmm(formula, frame, weights="w").heritability("gen")
    assert found["standard"] == pytest.approx(own["standard"], rel=1e-8)
