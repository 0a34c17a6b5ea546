"""docs/pipeline.md: the command as it stands there, on this machine and on a cluster of two processes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, second_stage
from fastlmm_core.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
pytest.importorskip("pyarrow")


@pytest.fixture
def season(tmp_path, monkeypatch):
    """The command of the page, in a folder with its data and pedigree."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(code, "docs/pipeline.md", "exec"), {})
    (line,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    return [*shlex.split(line)[1:], "--quiet"]


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.PedigreeWarning")
def test_the_command_of_the_page(season, capsys):
    assert main(season) == 0
    told = capsys.readouterr().out
    assert "6 ok, 0 with problems" in told and "Second stage:" in told and "The 10 best of 72" in told
    values = pd.read_csv("season/second_stage/genotype_values_vm_gen_A.csv")
    components = pd.read_csv("season/second_stage/variance_components.csv").set_index("group")
    first = fit_batch(
        "data/besag_field.csv", "yield ~ gen + rep", by="county", field_trend="ps", emmeans="gen",
        covariances=True, fixed=False,
    )  # fmt: skip
    fit = second_stage(
        first, "mean ~ 1 + county + (1 | vm(gen, A)) + (1 | county:gen)",
        relationships={"A": pd.read_csv("pedigree.csv", keep_default_na=False)},
    )  # fmt: skip
    assert len(values) == 64 + 8  # sires have values as well
    np.testing.assert_allclose(
        values.sort_values("gen")["estimate"],
        fit.genotype_values("vm(gen, A)").to_frame().sort_values("gen")["estimate"], rtol=1e-6,
    )  # fmt: skip
    assert components.loc["vm(gen, A)", "estimate"] == pytest.approx(
        fit.variance_components.set_index("group").loc["vm(gen, A)", "estimate"], rel=1e-5
    )


def test_the_same_on_two_processes(season, capsys):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    assert main(season) == 0
    here = {p.name: pd.read_csv(p) for p in sorted(Path("season/second_stage").glob("[!.]*"))}
    with distributed.LocalCluster(**options) as cluster:
        there = ["elsewhere" if word == "season" else word for word in season]
        assert main([*there, "--scheduler", cluster.scheduler_address]) == 0
    assert len(here) == 4
    for name, table in here.items():
        pd.testing.assert_frame_equal(table, pd.read_csv(Path("elsewhere/second_stage") / name), rtol=1e-8)


def test_selection_and_check_of_the_second_stage(season, capsys):
    """As of `fastlmm fit`: the check is beside all others, and no candidate."""
    assert main([*season, "--stage-select", "5", "--stage-check", "G05"]) == 0
    told = capsys.readouterr().out
    assert "Better than G05:" in told and "The 5 best of 71:" in told and "Gain from selection:" in told
    folder, term = Path("season/second_stage"), "vm_gen_A"
    values = pd.read_csv(folder / f"genotype_values_{term}.csv").set_index("gen")["estimate"]
    gain = pd.read_csv(folder / f"selection_{term}.csv")
    assert gain["gain"][0] == pytest.approx(values.nlargest(5).mean() - values.mean(), rel=1e-9)
    against = pd.read_csv(folder / f"against_{term}_G05.csv")
    assert len(against) == len(values) == 71 and "G05" not in values.index


@pytest.mark.parametrize(
    "change, words",
    [
        (["--emmeans", "rep"], "needs the means it is about: one --emmeans SPEC"),
        (["--second-stage", "mean ~ (1 |"], "character"),
        (["--second-stage", ""], "--stage-values belongs to --second-stage FORMULA"),
        (["--stage-select", "0"], "--stage-select 0: how many are selected"),
        (["--stage-check", "G99"], "G99"),
        (["--stage-trait", "none"], "trait='none' is not in the batch"),
    ],
)
def test_wrong_second_stages_are_one_line(season, capsys, change, words):
    name, value = change
    own = list(season)
    if name == "--second-stage":
        own[own.index(name) + 1] = value
    else:
        own += change
    assert main(own) == 2
    said = capsys.readouterr().err
    assert words in said.splitlines()[-1]
