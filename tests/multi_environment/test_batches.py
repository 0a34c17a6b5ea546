"""Summaries over the trials of a batch, and the same by command and by request."""

import json

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, gxe, read_batch, run
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
G, E, R = 12, 4, 3


def make_table(seed=2):
    rng = np.random.default_rng(seed)
    u, w = rng.normal(size=G), rng.normal(size=(G, E))

    def plot(i, j, k):
        y = 5 + j + u[i] + w[i, j] + 0.6 * k + 0.5 * rng.normal()
        return f"g{i:02d}", 2020 + j // 2, f"S{j % 2}", f"b{k}", y

    rows = [plot(i, j, k) for i in range(G) for j in range(E) for k in range(R)]
    table = pd.DataFrame(rows, columns=["gen", "year", "site", "rep", "y"])
    return table.assign(z=10 - table["y"])


TABLE = make_table()
ENVIRONMENTS = TABLE["year"].astype(str) + " " + TABLE["site"]


@pytest.fixture(scope="module")
def batch():
    return fit_batch(TABLE, "y ~ rep + (1 | gen)", by=["year", "site"], genotypes="gen", progress=False)


def test_complete_blocks_are_their_table(batch):
    """Means are those of the plots, and the error is that of the trials together."""
    found, plots = gxe(batch, "gen"), gxe(TABLE.assign(env=ENVIRONMENTS), "gen", "env", "y", block="rep")
    assert list(found.to_frame().columns) == ["2020 S0", "2020 S1", "2021 S0", "2021 S1"]
    np.testing.assert_allclose(found.to_frame(), plots.to_frame(), rtol=1e-8)
    assert found.table.error_ms == pytest.approx(plots.table.error_ms / R, rel=1e-5)
    v = []
    for _, trial in TABLE.groupby(ENVIRONMENTS):
        X = pd.get_dummies(trial[["gen", "rep"]]).to_numpy(float)
        residual = trial["y"] - X @ np.linalg.lstsq(X, trial["y"].to_numpy(), rcond=None)[0]
        v.append(residual @ residual / ((G - 1) * (R - 1)) / R)
    v = np.array(v)
    assert found.table.error_df == pytest.approx(v.sum() ** 2 / np.sum(v**2 / ((G - 1) * (R - 1))), rel=1e-4)
    stability = found.stability().frame
    np.testing.assert_allclose(stability["slope"], plots.stability().frame["slope"], rtol=1e-6)
    np.testing.assert_allclose(stability["F"], plots.stability().frame["F"], rtol=1e-4)


def test_marginal_means_and_their_covariance():
    trials = datasets.load("trials")
    own = fit_batch(
        trials, "yield ~ gen + (1|rep) + (1|rep:block)", by="trial", emmeans="gen", covariances=True,
        fixed=False, progress=False,
    )  # fmt: skip
    found = gxe(own, "gen", "trial")
    wide = own.emmeans.pivot(index="gen", columns="trial", values="estimate")
    np.testing.assert_allclose(found.to_frame(), wide)
    halves = []
    for trial, rows in own.covariances.groupby("trial"):
        n = len(rows)
        C = np.zeros((n, n))
        for i, row in enumerate(rows["covariance"]):
            C[i, : i + 1] = C[: i + 1, i] = row
        pairs = [C[i, i] + C[j, j] - 2 * C[i, j] for i in range(n) for j in range(i)]
        halves.append(np.mean(pairs) / 2)
        assert trial in wide.columns
    assert found.table.error_ms == pytest.approx(np.mean(halves), rel=1e-10)
    assert np.isnan(found.table.error_df)
    assert np.isfinite(gxe(own, "gen", error_df=100).anova().frame["p"].iloc[2])


def test_genotypes_that_are_not_everywhere():
    some = TABLE[~((TABLE["gen"] == "g03") & (ENVIRONMENTS == "2021 S0"))]
    own = fit_batch(some, "y ~ rep + (1 | gen)", by=["year", "site"], genotypes="gen", progress=False)
    with pytest.raises(DataError, match=r"1 of 48 cells have no mean: 'g03 in 2021 S0'; common=True"):
        gxe(own, "gen")
    found = gxe(own, "gen", common=True)
    assert "g03" not in found.table.genotypes and len(found.table.genotypes) == G - 1
    assert "11 of 12 genotypes are in all environments" in found.table.source
    wide = TABLE.assign(env=ENVIRONMENTS).pivot_table(index="gen", columns="env", values="y")
    np.testing.assert_allclose(
        gxe(wide.mask(wide == wide.iloc[3, 2]), common=True).to_frame(), wide.drop(index="g03")
    )


def test_traits_and_mistakes_are_named(batch, tmp_path):
    two = fit_batch(
        TABLE, "~ rep + (1 | gen)", by=["year", "site"], traits=["y", "z"], genotypes="gen", progress=False,
        out=tmp_path / "two",
    )  # fmt: skip
    up, down = gxe(two, "gen", value="y").stability(), gxe(read_batch(tmp_path / "two"), "gen", value="z")
    np.testing.assert_allclose(up.frame["P"], down.stability("lowest").frame["P"], rtol=1e-8)
    for given, words in (
        ({"genotype": "gen"}, "several traits: give value=, one of 'y', 'z'"),
        ({"genotype": "gen", "value": "yy"}, "value='yy' is no trait of the batch"),
        (
            {"genotype": "genotype", "value": "y"},
            "no means of 'genotype'; nearest: 'gen'; ask for them with genotypes=",
        ),
        ({"genotype": "gen", "value": "y", "environment": "sight"}, "environment='sight' names no trials"),
        ({}, "needs genotype="),
        ({"genotype": "gen", "block": "rep"}, "takes no block="),
    ):
        with pytest.raises(OptionError, match=words):
            gxe(two, **given)
    with pytest.raises(
        DataError, match="'g00' has several means in 'S0'; a trial is named by 'year', 'site'"
    ):
        gxe(batch, "gen", "site")


def test_a_request_for_trials_and_for_a_fit(batch):
    data = {name: TABLE[name].tolist() for name in TABLE}
    request = {"data": data, "formula": "y ~ rep + (1 | gen)", "by": ["year", "site"], "genotypes": "gen",
               "gxe": {"genotype": "gen", "axes": 1, "best": "lowest"}}  # fmt: skip
    answer = json.loads(json.dumps(run(request), allow_nan=False))["gxe"]
    want = gxe(batch, "gen")
    assert answer["environments"] == list(want.table.environments)
    np.testing.assert_allclose(answer["means"], want.table.means, rtol=1e-8)
    np.testing.assert_allclose(
        [row["P"] for row in answer["stability"]], want.stability("lowest").frame["P"], rtol=1e-7
    )
    assert [row["axis"] for row in answer["ammi_axes"]][-1] == "rest after 1"
    assert {row["genotype"] for row in answer["gge_genotypes"]} == set(want.table.genotypes)
    fit = {"data": data, "formula": "y ~ gen*site*factor(year) + (1 | year:site:rep)"}
    with pytest.raises(OptionError, match="the model has no factor 'env'"):
        run({**fit, "gxe": {"genotype": "gen", "environment": "env"}})
    data["env"] = ENVIRONMENTS.tolist()
    fit = {"data": data, "formula": "y ~ gen*env + env:rep", "gxe": {"genotype": "gen", "environment": "env"}}
    own = run(fit)["gxe"]
    np.testing.assert_allclose(own["means"], want.table.means, rtol=1e-6)
    assert own["error_ms"] == pytest.approx(want.table.error_ms, rel=1e-5)
    assert own["error_df"] == pytest.approx(E * (G - 1) * (R - 1))
    with pytest.raises(OptionError, match="gxe"):
        run({**fit, "gxe": {"genotype": "gen"}})


def test_commands(batch, tmp_path, capsys):
    path, want = tmp_path / "t.csv", gxe(batch, "gen")
    TABLE.assign(env=ENVIRONMENTS).to_csv(path, index=False)
    folder = tmp_path / "batch"
    asked = ["batch", str(path), "y ~ rep + (1 | gen)", "--by", "year,site", "--quiet", "--out", str(folder)]
    assert main([*asked, "--gxe", "gen"]) == 2
    assert "--gxe gen needs its means" in capsys.readouterr().err
    assert main([*asked, "--genotypes", "gen", "--gxe", "gen"]) == 0
    assert "Best by GGE:" in capsys.readouterr().out
    assert main(["gxe", str(folder), "--genotype", "gen", "--out", str(tmp_path / "again"), "--plot"]) == 0
    assert (tmp_path / "again" / "gge.png").stat().st_size > 10_000
    assert (
        main(["fit", str(path), "y ~ gen*env + env:rep", "--gxe", "gen,env", "--out", str(tmp_path / "fit")])
        == 0
    )
    columns = ["--genotype", "gen", "--environment", "env", "--value", "y", "--block", "rep"]
    assert main(["gxe", str(path), *columns, "--out", str(tmp_path / "plots")]) == 0
    places = {"batch/gxe": "", "again": "", "fit": "gxe_", "plots": ""}
    for place, prefix in places.items():
        read = pd.read_csv(tmp_path / place / f"{prefix}stability.csv")
        np.testing.assert_allclose(read["W"], want.stability().frame["W"], rtol=1e-6, err_msg=place)
    capsys.readouterr()
    assert main(["gxe", str(path), "--genotype", "gen"]) == 2
    assert "a table needs --environment and --value" in capsys.readouterr().err
    assert main(["fit", str(path), "y ~ gen", "--gxe", "gen"]) == 2
    assert "names two factors: --gxe gen,env" in capsys.readouterr().err
