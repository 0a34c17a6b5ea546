"""Summaries over the trials of a batch, and the same by command and by request."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import datasets, fit_batch, gxe, lmm, read_batch, run, second_stage
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
    v, df = np.array(halves), own.covariances.groupby("trial")["df_difference"].first().to_numpy()
    assert found.table.error_df == pytest.approx(v.sum() ** 2 / (v**2 / df).sum(), rel=1e-12)
    assert np.isfinite(found.anova().frame["p"].iloc[2])
    assert np.isnan(
        gxe(
            fit_batch(
                trials,
                "yield ~ gen + (1|rep) + (1|rep:block)",
                by="trial",
                emmeans="gen",
                progress=False,
            ),
            "gen",
            "trial",
        ).table.error_df
    )  # nothing was kept of the errors


def test_degrees_of_freedom_of_marginal_means():
    """In complete blocks those of the error, which an analysis of all plots within environments pools."""
    own = fit_batch(
        TABLE, "y ~ rep + gen", by=["year", "site"], emmeans="gen", covariances=True, progress=False
    )
    blocks = fit_batch(TABLE, "y ~ gen + (1 | rep)", by=["year", "site"], emmeans="gen", covariances=True,
                       progress=False)  # fmt: skip
    for batch in (own, blocks):
        for key, rows in batch.covariances.groupby(["year", "site"]):
            plots = TABLE[(TABLE["year"] == key[0]) & (TABLE["site"] == key[1])]
            error = len(plots) - plots["gen"].nunique() - plots["rep"].nunique() + 1
            assert rows["df_difference"].to_numpy() == pytest.approx(error, rel=1e-4)
    sums = gxe(TABLE.assign(env=ENVIRONMENTS), "gen", "env", "y", block="rep").table
    several = len(own.covariances.groupby(["year", "site"]))
    assert gxe(own, "gen").table.error_df <= sums.error_df * (1 + 1e-9)  # equal where variances are
    assert gxe(own, "gen").table.error_df > sums.error_df / several


def test_degrees_of_freedom_by_finite_differences():
    """Satterthwaite's of v(theta) = half the mean variance of a difference, incomplete blocks, by dense V."""
    one = datasets.load("john_alpha")
    batch = fit_batch(one.assign(t="a"), "yield ~ gen + rep + (1|rep:block)", by="t", emmeans="gen",
                      covariances=True, progress=False)  # fmt: skip
    fit = lmm("yield ~ gen + rep + (1|rep:block)", one)
    s = fit.variance_components["estimate"].to_numpy()
    X = fit.design.X.toarray()
    Z = pd.get_dummies(one["rep"] + one["block"]).to_numpy(float)
    K = sp.csr_array(fit.emmeans("gen").K).toarray()
    M = (np.eye(24) - 1 / 24) / 23

    def v(s):
        V = s[0] * Z @ Z.T + s[1] * np.eye(len(one))
        return np.trace(M @ K @ np.linalg.inv(X.T @ np.linalg.solve(V, X)) @ K.T)

    def information(s):
        V = s[0] * Z @ Z.T + s[1] * np.eye(len(one))
        Vi = np.linalg.inv(V)
        P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
        parts = [Z @ Z.T, np.eye(len(one))]
        return np.array([[0.5 * np.trace(P @ a @ P @ b) for b in parts] for a in parts])

    g = [(v(s + h) - v(s - h)) / (2 * h.sum()) for h in np.diag(1e-5 * s)]
    expected = 2 * v(s) ** 2 / (g @ np.linalg.solve(information(s), g))
    assert batch.covariances["df_difference"].to_numpy() == pytest.approx(expected, rel=1e-5)


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


def test_keys_that_hold_blanks_are_environments_of_their_own(batch):
    """Site "S 1" in field "2" and site "S" in field "1 2" have the means of both, and an error of both."""
    keys = [("S 1", "2"), ("S", "1 2"), ("T", "x"), ("U", "x")]
    pairs = [dict(zip(ENVIRONMENTS.unique(), keys, strict=True))[name] for name in ENVIRONMENTS]
    odd = TABLE.assign(a=[a for a, _ in pairs], b=[b for _, b in pairs])
    own = fit_batch(odd, "y ~ rep + (1 | gen)", by=["a", "b"], genotypes="gen", progress=False)
    one, other = gxe(batch, "gen"), gxe(own, "gen")
    assert {'"S 1" "2"', '"S" "1 2"'} <= set(other.table.environments)
    ours, theirs = one.anova().frame, other.anova().frame
    np.testing.assert_allclose(ours["ss"], theirs["ss"])
    np.testing.assert_allclose(ours["df"], theirs["df"])


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


def test_unequal_replication_counts_by_the_mean_variance_of_a_difference():
    """The same error from the summaries of the trials as from the covariances of the means."""
    rng = np.random.default_rng(4)
    rows = [(t, f"G{g:02d}") for t in "ABC" for g in range(14) for _ in range(6 if g < 4 else 1)]
    table = pd.DataFrame(rows, columns=["trial", "gen"])
    effect = rng.normal(size=14)
    table["y"] = effect[table["gen"].str[1:].astype(int)] + rng.normal(size=len(table))
    random = gxe(fit_batch(table, "y ~ (1 | gen)", by="trial", genotypes="gen", progress=False), "gen")
    means = fit_batch(table, "y ~ gen", by="trial", emmeans="gen", covariances=True, progress=False)
    replication = table.groupby(["trial", "gen"]).size().groupby("gen").first()
    residual = means.variance_components.set_index("trial")["estimate"].mean()
    expected = residual * (1.0 / replication).mean()
    assert random.table.error_ms == pytest.approx(expected, rel=1e-8)
    assert gxe(means, "gen").table.error_ms == pytest.approx(expected, rel=1e-8)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
@pytest.mark.parametrize("fixed", [False, True])
def test_a_trial_without_error_is_left_out_of_the_error(fixed):
    """Plots of T3 are the values of their genotypes: it has means, and the others the error of means."""
    trials = datasets.load("trials")
    trials = trials[trials["trial"].isin(["T1", "T2", "T3", "T4"])].copy()
    exact, names = trials["trial"] == "T3", sorted(trials["gen"].unique())
    values = pd.Series(np.random.default_rng(3).normal(5, 1, len(names)), index=names)
    trials.loc[exact, "yield"] = values[trials.loc[exact, "gen"]].to_numpy()
    call = {"by": "trial", "progress": False, "covariances": fixed}
    formula = "yield ~ rep + gen" if fixed else "yield ~ rep + (1 | gen)"
    call |= {"emmeans": "gen"} if fixed else {"genotypes": "gen"}
    with_it, without = (fit_batch(own, formula, **call) for own in (trials, trials[~exact]))
    found, others = gxe(with_it, genotype="gen"), gxe(without, genotype="gen")
    assert found.table.environments == ("T1", "T2", "T3", "T4")
    np.testing.assert_allclose(found.table.means[:, 2], values, rtol=1e-9)
    np.testing.assert_allclose(found.table.error_ms, others.table.error_ms, rtol=1e-12)
    np.testing.assert_allclose(found.table.error_df, others.table.error_df, rtol=1e-12)
    assert "error without 'T3', whose plots leave none" in str(found)
    assert "error without" not in str(others)
    if fixed:
        with pytest.raises(DataError, match=r"trial T3 is not positive definite; .* leave this trial"):
            second_stage(with_it, "mean ~ 1 + (1 | gen) + (1 | trial)")
        more = fit_batch(trials.assign(**{"yield": trials["yield"].mask(trials["trial"] == "T2", 5.0)}),
                         formula, **call)  # fmt: skip
        with pytest.raises(DataError, match=r"of 2 trials \('T2', 'T3'\) is not .* leave these trials out"):
            second_stage(more, "mean ~ 1 + (1 | gen) + (1 | trial)")
