"""`fastlmm batch`, the overview figure and the shipped multi-trial table, as a new user meets them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trial_data import alpha_trials

from fastlmm_core import datasets, fit_batch, fit_group, lmm
from fastlmm_core.batch import make_plan
from fastlmm_core.cli import main

FORMULA = "~ gen + rep + (1|rep:block)"
ROOT = Path(__file__).resolve().parents[2]


def test_batch_on_the_shipped_trials(tmp_path, capsys):
    out = tmp_path / "results"
    argv = ["batch", str(datasets.path("trials")), FORMULA, "--by", "trial", "--traits", "yield,height",
            "--emmeans", "gen", "--contrasts", "trt.vs.ctrl:CHECK", "--out", str(out), "--plot"]  # fmt: skip
    assert main(argv) == 1  # T7 was not harvested, T8 has one replicate
    shown = capsys.readouterr().out
    assert "16 fits" in shown and "13 ok, 3 with problems" in shown
    assert "  design: 2 (factor 'rep' has only the level 'R1' in the 24 rows used; leave it out" in shown
    assert "  data: 1 (column 'yield' has no values in this trial)\n" in shown
    assert (out / "trials.png").stat().st_size > 10_000
    contrasts = pd.read_parquet(out / "contrasts")
    fit = lmm(f"yield {FORMULA}", datasets.load("trials").query("trial == 'T1'"))
    expected = fit.emmeans("gen").contrast("trt.vs.ctrl", ref="CHECK").to_frame()
    own = contrasts.query("trial == 'T1' and trait == 'yield'").reset_index(drop=True)
    assert list(own["contrast"]) == list(expected["contrast"])
    np.testing.assert_allclose(
        own[["estimate", "se", "df", "p"]], expected[["estimate", "se", "df", "p"]], rtol=1e-8
    )
    assert main([*argv, "--resume"]) == 1
    assert "16 fits" in capsys.readouterr().out


def test_a_refusal_of_every_trial_is_said_as_for_one(tmp_path, capsys):
    source, formula = str(datasets.path("trials")), "yield ~ gen + rep + (1|rep:block)"
    assert main(["fit", source, formula, "--start", "block=1"]) == 2
    one = capsys.readouterr().err
    argv = ["batch", source, formula, "--by", "trial", "--out", str(tmp_path / "a"), "--start", "block=1"]
    assert main(argv) == 1
    assert "option: 6 (start name 'block', which is no term of the model; " in capsys.readouterr().out
    assert "start name 'block', which is no term of the model; " in one


def test_exit_status(tmp_path, capsys):
    source = tmp_path / "good.csv"
    alpha_trials(2).to_csv(source, index=False)
    model = "yield ~ gen + rep + (1|rep:block)"
    assert (
        main(
            [
                "batch",
                str(source),
                model,
                "--by",
                "trial",
                "--blups",
                "rep:block",
                "--out",
                str(tmp_path / "a"),
            ]
        )
        == 0
    )
    assert "heritability" in capsys.readouterr().out
    assert main(["batch", str(source), model, "--by", "site", "--out", str(tmp_path / "b")]) == 2
    assert "site" in capsys.readouterr().err
    assert (
        main(["batch", str(source), model, "--by", "trial", "--out", str(tmp_path / "a")]) == 2
    )  # other plan
    assert "another plan" in capsys.readouterr().err
    for option in (["--second-stage", "mean ~ 1", "--emmeans", "gen"], ["--gxe", "gen", "--emmeans", "gen"]):
        argv = ["batch", str(source), "~ gen", "--by", "trial", "--traits", "yield,height", *option]
        assert main([*argv, "--out", str(tmp_path / "d")]) == 2 and not (tmp_path / "d").exists()
        assert "is of one trait: --" in capsys.readouterr().err
    assert (
        main(["batch", str(tmp_path / "no.csv"), model, "--by", "trial", "--out", str(tmp_path / "c")]) == 2
    )


def test_the_table_is_what_its_generator_makes():
    spec = importlib.util.spec_from_file_location("make_trials", ROOT / "tools" / "make_trials.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.simulate_trials()
    shipped = datasets.load("trials")
    assert list(made.columns) == list(shipped.columns)
    np.testing.assert_allclose(made["yield"], shipped["yield"])
    assert (made["gen"].to_numpy() == shipped["gen"].astype(str).to_numpy()).all()


def test_groups_one_by_one_give_the_batch():
    frame = alpha_trials(5)
    plan = make_plan("yield " + FORMULA, by="trial", emmeans="gen")
    parts = [fit_group(own, plan)["emmeans"] for _, own in frame.groupby("trial")]
    pd.testing.assert_frame_equal(
        fit_batch(frame, "yield " + FORMULA, by="trial", emmeans="gen").emmeans,
        pd.concat(parts, ignore_index=True),
    )


@pytest.mark.parametrize("blups", [None, "gen"])
def test_overview_figure(blups):
    from fastlmm_core.plots import plot_trials

    frame = alpha_trials(4)
    frame.loc[frame["trial"] == "T0001", "yield"] = np.nan
    result = fit_batch(frame, "yield ~ rep + (1|gen) + (1|rep:block)", by="trial", blups=blups)
    figure = plot_trials(result)
    assert len(figure.axes) == (3 if blups else 2)
    labels = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert "data (1)" in labels
    outcome = figure.axes[-1].get_yticklabels()
    assert len(outcome) >= 2


def test_cullis_heritability_from_the_definition():
    frame = alpha_trials(1)
    formula = "yield ~ rep + (1|gen) + (1|rep:block)"
    fit = lmm(formula, frame)
    result = fit_batch(frame, formula, by="trial", blups="gen")
    k = [term.group for term in fit.design.random].index("gen")
    e, solved = fit.solved.equations, fit.solved
    rows = e.layout.random_rows[k][:, 0]
    rhs = np.zeros((e.q + e.p, rows.size))
    rhs[rows, np.arange(rows.size)] = 1.0
    scale = solved.sigma2 * (e.terms[k].basis[0, 0] * solved.factors[k, 0, 0]) ** 2
    pev = scale * solved.factor.solve(rhs)[rows]
    i, j = np.triu_indices(rows.size, 1)
    mean_difference = np.mean(pev[i, i] + pev[j, j] - 2 * pev[i, j])
    variance = solved.sigma2 * solved.user_covariance(k)[0, 0]
    row = result.heritability.iloc[0]
    np.testing.assert_allclose(row["h2_cullis"], 1 - mean_difference / (2 * variance), rtol=1e-9)
    np.testing.assert_allclose(row["h2_standard"], variance / (variance + solved.sigma2 / 3), rtol=1e-9)


MODEL = "yield ~ rep + (moisture||gen) + (1|rep:block)"
UNCOMPILED = f"""
from trial_data import alpha_trials
from fastlmm_core import fit_batch
frame = alpha_trials(2, genotypes=6, block_size=3)
result = fit_batch(frame, "{MODEL}", by="trial", emmeans="rep", contrasts="pairwise", blups=True)
print(*result.contrasts["se"], *result.blups["pev"], *result.heritability["h2_cullis"])
"""


def test_the_kernels_say_the_same_uncompiled():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "ignore", "-c", UNCOMPILED]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    frame = alpha_trials(2, genotypes=6, block_size=3)
    result = fit_batch(frame, MODEL, by="trial", emmeans="rep", contrasts="pairwise", blups=True)
    ours = [*result.contrasts["se"], *result.blups["pev"], *result.heritability["h2_cullis"]]
    np.testing.assert_allclose(ours, np.array(run.stdout.split(), dtype=float), rtol=1e-8, atol=1e-12)


def test_genotypes_and_covariances_are_tables_of_the_folder(tmp_path):
    pytest.importorskip("pyarrow")
    source, out = tmp_path / "trials.csv", tmp_path / "out"
    frame = datasets.load("trials")
    frame[frame["trial"].isin(["T1", "T2"])].to_csv(source, index=False)
    formula = "yield ~ rep + (1|gen) + (1|rep:block)"
    arguments = ["batch", str(source), formula, "--by", "trial", "--out", str(out), "--quiet"]
    assert main([*arguments, "--genotypes", "gen"]) == 0
    assert len(pd.read_parquet(out / "trials")) == 2
    formula = "yield ~ gen + (1|rep:block)"
    arguments = ["batch", str(source), formula, "--by", "trial", "--out", str(tmp_path / "means"), "--quiet"]
    assert main([*arguments, "--emmeans", "gen", "--covariances"]) == 0
    lengths = pd.read_parquet(tmp_path / "means" / "covariances")["covariance"].map(len)
    assert lengths.tolist() == [*range(1, 25)] * 2
