"""Heritability where genotypes have effects in every environment, and plots variances of their own."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, long_table, report, second_stage
from fastlmm_core.errors import OptionError
from fastlmm_core.results.genotypes import fixed_levels


@pytest.fixture(scope="module")
def trials():
    frame = datasets.load("trials")
    return frame[frame["trial"].isin(["T1", "T2", "T3"])].dropna(subset=["yield"]).reset_index(drop=True)


def indicators(column):
    return pd.get_dummies(column).to_numpy(float)


@pytest.fixture(scope="module")
def fit(trials):
    return lmm(
        "yield ~ trial + us(0 + trial | gen) + (1 | trial:rep:block)", trials, residual="units | trial"
    )


@pytest.fixture(scope="module")
def dense(fit, trials):
    """T (3, 3), residual variances, covariance of the errors of the 24 x 3 effects, genotypes slowest."""
    table = fit.variance_components
    T, gens = np.zeros((3, 3)), sorted(trials["gen"].unique())
    own = table[table["group"] == "gen"].set_index(["var1", "var2"])["estimate"]
    names = [f"trial{t}" for t in ("T1", "T2", "T3")]
    for (a, b), value in own.items():
        i, j = names.index(a), names.index(b if isinstance(b, str) else a)
        T[i, j] = T[j, i] = value
    residual = table[table["group"] == "Residual|trial"].set_index("var1")["estimate"]
    block = table.set_index("group").loc["trial:rep:block", "estimate"]
    X, G, E = indicators(trials["trial"]), indicators(trials["gen"]), indicators(trials["trial"])
    Z = (G[:, :, None] * E[:, None, :]).reshape(len(trials), -1)
    B = indicators(trials["trial"] + trials["rep"] + trials["block"])
    weight = 1 / trials["trial"].map(residual).to_numpy()
    W = np.hstack([X, Z, B])
    C = W.T @ (weight[:, None] * W)
    C[3:75, 3:75] += np.kron(np.eye(24), np.linalg.inv(T))
    C[75:, 75:] += np.eye(B.shape[1]) / block
    assert len(gens) == 24
    return T, residual, np.linalg.inv(C)[3:75, 3:75]


def cullis(covariance, variance):
    n = len(covariance)
    mean = 2 * (np.trace(covariance) - covariance.sum() / n) / (n - 1)
    return 1 - mean / (2 * variance)


def test_of_the_mean_over_environments(fit, dense):
    T, _, errors = dense
    A = np.kron(np.eye(24), np.full((1, 3), 1 / 3))
    table = fit.heritability("gen")
    assert table["cullis"] == pytest.approx(cullis(A @ errors @ A.T, T.mean()), rel=1e-6)
    assert "mean of 3 coefficients" in str(table)
    assert table.to_frame().set_index("definition").loc["standard", "status"].startswith("a mean over levels")
    select = fit.genotype_values("gen").select(3).to_frame()
    assert select["h2"][0] == pytest.approx(table["cullis"], rel=1e-8)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_within_an_environment(fit, dense, trials, place):
    T, residual, errors = dense
    own = errors[place::3, place::3]
    table = fit.heritability("gen", coefficient=f"trialT{place + 1}")
    assert table["cullis"] == pytest.approx(cullis(own, T[place, place]), rel=1e-6)
    counts = trials[trials["trial"] == f"T{place + 1}"].groupby("gen").size()
    noise = residual[f"T{place + 1}"] * np.mean(1 / counts)
    assert table["standard"] == pytest.approx(T[place, place] / (T[place, place] + noise), rel=1e-9)
    plot = T[place, place] / (T[place, place] + residual[f"T{place + 1}"])
    assert table["plot"] == pytest.approx(plot, rel=1e-9)
    names = {"trialT1": ("V1", "V8"), "trialT2": ("V3", "V10"), "trialT3": ("V6", "V13")}
    g, e = names[f"trialT{place + 1}"]
    ratio = fit.vpredict(f"{g}/({g} + {e})")
    rows = table.to_frame().set_index("definition")
    assert (ratio.estimate, ratio.se) == pytest.approx((plot, rows.loc["plot", "se"]), rel=1e-6)


def test_blues_over_and_within_environments(fit, trials):
    """The effects in every environment fixed: their covariances by generalized least squares."""
    other = lmm("yield ~ trial * gen + (1 | trial:rep:block)", trials, residual="units | trial")
    table = other.variance_components
    residual = table[table["group"] == "Residual|trial"].set_index("var1")["estimate"]
    B = indicators(trials["trial"] + trials["rep"] + trials["block"])
    V = np.diag(trials["trial"].map(residual)) + table["estimate"].iloc[0] * B @ B.T
    X = (indicators(trials["gen"])[:, :, None] * indicators(trials["trial"])[:, None, :]).reshape(
        len(trials), -1
    )
    phi = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    T = {name: fit.heritability("gen", "cullis", coefficient=name) for name in ("trialT1", "trialT3")}
    for A, name in (
        (np.kron(np.eye(24), np.full((1, 3), 1 / 3)), None),
        (np.kron(np.eye(24), np.eye(3)[:1]), "trialT1"), (np.kron(np.eye(24), np.eye(3)[2:]), "trialT3"),
    ):  # fmt: skip
        C = A @ phi @ A.T
        half = (np.trace(C) - C.sum() / 24) / 23
        own = fit.heritability("gen", ["piepho", "piepho_kr"], coefficient=name)
        variance = T[name].genetic[0, 1] / 2 if name else own.genetic[0, 1] / 2
        assert own["piepho"] == pytest.approx(variance / (variance + half), rel=1e-5)
        assert own["piepho"] * 0.97 < own["piepho_kr"] < own["piepho"]


def test_the_trial_and_its_page(fit, trials, tmp_path):
    row = fit.trial_summary("gen")
    other = lmm("yield ~ trial * gen + (1 | trial:rep:block)", trials, residual="units | trial")
    means = other.emmeans("gen")
    errors = means.difference_errors()
    assert (row["sed_mean"], row["lsd_mean"]) == pytest.approx((errors.sed_mean, errors.lsd_mean), rel=1e-5)
    test = means.functions.f_test(np.eye(24)[1:] - np.eye(24)[:-1])
    assert (row["F_genotypes"], row["df_error"]) == pytest.approx((test.F, test.df_den), rel=1e-4)
    assert row["h2"] == pytest.approx(fit.heritability("gen", "cullis")["cullis"])
    page = report(fit, tmp_path / "met.html", genotypes="gen").read_text()
    assert "Heritability within" in page and "Genotypes within environments" in page
    assert page.count("<td>trialT2</td>") >= 1


def test_of_one_trait_of_several(trials):
    long = long_table(trials[trials["trial"] == "T1"], ["yield", "height"])
    fit = lmm("value ~ trait + us(0 + trait | gen)", long, residual="us(trait | unit)")
    table = fit.variance_components
    table = table[table["var2"].isna()].set_index(["group", "var1"])["estimate"]
    for trait in ("yield", "height"):
        g, e = table["gen", f"trait{trait}"], table["Residual(trait|unit)", trait]
        own = fit.heritability("gen", "plot", coefficient=f"trait{trait}")["plot"]
        assert own == pytest.approx(g / (g + e), rel=1e-9)


@pytest.mark.parametrize("lost", [(), (0, 5, 6, 40)])
def test_variances_of_environments_in_the_standard_definition(trials, lost):
    """Of the mean of a genotype: the sum of the variances of its plots over the square of their number."""
    frame = trials.drop(list(lost))
    fit = lmm("yield ~ trial + (1 | gen) + (1 | trial:gen)", frame, residual="units | trial",
              fixed_parameters={"gen": 0.2})  # fmt: skip
    table = fit.variance_components
    s = table.set_index("group")["estimate"]
    residual = table[table["group"] == "Residual|trial"].set_index("var1")["estimate"]
    own = frame.assign(variance=frame["trial"].map(residual)).groupby("gen")
    noise = np.mean(own["variance"].sum() / own.size() ** 2)
    between = s["trial:gen"] * np.mean(1 / own["trial"].nunique())
    found = fit.heritability("gen", ["standard", "plot"])
    assert found["standard"] == pytest.approx(s["gen"] / (s["gen"] + between + noise), rel=1e-9)
    plot = s["gen"] + s["trial:gen"] + frame["trial"].map(residual).mean()
    assert found["plot"] == pytest.approx(s["gen"] / plot, rel=1e-9)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("structure", ["diag", "homdiag", "homcs"])
def test_independent_residuals_of_a_subject_are_as_those_by_group(structure, weights):
    """diag(place | strip) is the model units | place, and homdiag one variance: no plots are correlated."""
    frame = datasets.load("john_alpha").assign(w=np.tile([1.0, 2.0, 4.0], 24))
    frame["place"] = (frame.groupby(["rep", "block"]).cumcount() + 1).map("P{}".format)
    frame["strip"] = frame["rep"] + frame["block"]
    model = "yield ~ rep + (1 | gen)"
    found = lmm(model, frame, residual=f"{structure}(place | strip)", weights=weights).heritability("gen")
    if structure == "homcs":
        frame = found.to_frame().set_index("definition")
        assert frame.loc["standard", "status"] == "the residual is correlated"
        return
    by = "units | place" if structure == "diag" else "units"
    same = lmm(model, frame, residual=by, weights=weights).heritability("gen")
    for name in ("standard", "plot", "cullis", "piepho"):
        assert found[name] == pytest.approx(same[name], abs=1e-6)


def test_coefficients_that_are_slopes_are_named():
    sleep = datasets.load("sleepstudy")
    with pytest.raises(OptionError, match="Subject has several coefficients: give coefficient="):
        lmm("Reaction ~ Days + (Days | Subject)", sleep).heritability("Subject")
    alpha = lmm("yield ~ (1 | gen)", datasets.load("besag_field").query("county == 'C5'"), field_trend="ar1")
    status = alpha.heritability("gen", "standard").to_frame()["status"][0]
    assert status == "the residual is correlated"


def test_independent_residuals_of_subjects_in_arms_are_as_those_by_group():
    """diag(place | strip) | rep is units by place and replicate."""
    frame = datasets.load("john_alpha")
    frame["place"] = (frame.groupby(["rep", "block"]).cumcount() + 1).map("P{}".format)
    frame["strip"], frame["both"] = frame["rep"] + frame["block"], frame["rep"] + frame["place"]
    model = "yield ~ rep + (1 | gen)"
    found = lmm(model, frame, residual="diag(place | strip) | rep").heritability("gen")
    same = lmm(model, frame, residual="units | both").heritability("gen")
    for name in ("standard", "plot", "cullis", "piepho"):
        assert found[name] == pytest.approx(same[name], abs=1e-6)


def test_one_plot_a_subject_in_an_environment_under_a_long_process():
    """Within one of 70 years no two plots are of one subject: noise is the variance of the process."""
    r = np.random.default_rng(5)
    frame = pd.DataFrame({"year": np.repeat(np.arange(70), 24), "plot": np.tile(np.arange(24), 70)})
    frame["gen"], frame["late"] = frame["plot"] // 3, (frame["year"] == 69).astype(int)
    frame["y"] = r.normal(size=len(frame)) + r.normal(size=8)[frame["gen"]] * (1 + frame["late"])
    fit = lmm("y ~ late + (0 + late | gen)", frame, residual="ar1(year | plot)")
    table = fit.variance_components
    slope = table.loc[table["var1"] == "late", "estimate"].iloc[0]
    noise = table.loc[table["group"].str.startswith("Residual"), "estimate"].iloc[0]
    found = fit.heritability("gen", ["plot"], coefficient="late")
    assert found["plot"] == pytest.approx(slope / (slope + noise), rel=1e-9)


def test_too_many_effects_in_environments_stay_random(monkeypatch):
    monkeypatch.setattr(fixed_levels, "MOST_EFFECTS", 2_000)
    r = np.random.default_rng(3)
    frame = pd.DataFrame({"gen": np.tile(np.arange(700), 3).astype(str), "env": np.repeat(list("abc"), 700)})
    frame = pd.concat([frame, frame])
    frame["y"] = r.normal(size=len(frame)) + np.tile(r.normal(size=700), 6)
    fit = lmm("y ~ env + diag(0 + env | gen)", frame)
    table = fit.heritability("gen", ["cullis", "piepho"]).to_frame().set_index("definition")
    assert table.loc["piepho", "status"].startswith(
        "BLUEs of 700 levels x 3 of env are too many fixed effects"
    )
    assert table.loc["cullis", "estimate"] > 0.3
    row = fit.trial_summary("gen")
    assert np.isnan(row["F_genotypes"])
    assert "no F test and differences of the genotypes: BLUEs of 700 levels x 3 of env" in row["warnings"]


def test_plots_with_weights(trials):
    """A plot has the variance sigma2 / w: of Smith's weights in a second stage all of it is there."""
    frame = trials[trials["trial"] == "T1"].assign(
        w=np.random.default_rng(1).uniform(0.5, 3, (trials["trial"] == "T1").sum())
    )
    fit = lmm("yield ~ rep + (1 | gen)", frame, weights="w")
    s = fit.variance_components.set_index("group")["estimate"]
    own = (1 / frame["w"]).groupby(frame["gen"])
    noise = s["Residual"] * np.mean(own.sum() / own.size() ** 2)
    table = fit.heritability("gen", ["standard", "plot", "cullis"])
    assert table["standard"] == pytest.approx(s["gen"] / (s["gen"] + noise), rel=1e-9)
    plot = s["Residual"] * np.mean(1 / frame["w"])
    assert table["plot"] == pytest.approx(s["gen"] / (s["gen"] + plot), rel=1e-9)
    row = fit.trial_summary("gen")
    assert row["cv"] == pytest.approx(100 * np.sqrt(plot) / row["grand_mean"], rel=1e-9)
    for path in ({}, {"plots": True}):  # compiled, and trial by trial
        batch = fit_batch(
            frame, "yield ~ rep + (1 | gen)", by="trial", weights="w", blups="gen", progress=False, **path
        )
        assert batch.heritability["h2_standard"].isna().all()
        assert batch.heritability["status"][0] == "no h2_standard: plots have weights; genotypes= gives it"


def test_second_stages_know_the_variance_of_a_mean(trials):
    first = fit_batch(
        trials, "yield ~ rep + gen", by="trial", emmeans="gen", covariances=True, progress=False
    )
    formula = "mean ~ trial + (1 | gen) + (1 | gen:trial)"
    fit = second_stage(first, formula, weights="smith", fixed_parameters={"gen": 0.2, "gen:trial": 0.1})
    table = fit.heritability("gen", ["standard", "cullis"])
    assert table["standard"] == pytest.approx(table["cullis"], rel=0.01)  # balanced but for five lost plots
    full = second_stage(first, formula)
    known = np.concatenate([np.diag(fold) for fold in blocks_of(first)])
    scaled = full.summary().residual_quantiles.iloc[0]
    want = np.quantile(full.residuals / np.sqrt(known), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(scaled, want, rtol=1e-6)
    row = full.trial_summary("gen")
    assert row["cv"] == pytest.approx(100 * np.sqrt(known.mean()) / row["grand_mean"], rel=1e-6)


def blocks_of(batch):
    """Covariance of the means of each trial, from the rows of its lower triangle."""
    for _, own in batch.covariances.groupby("trial", sort=False):
        lower = np.zeros((len(own), len(own)))
        for i, row in enumerate(own["covariance"]):
            lower[i, : i + 1] = row
        yield np.tril(lower) + np.tril(lower, -1).T


def test_groups_of_genotypes_have_no_mean():
    """Every genotype in one group: variances by group, and nothing to take a mean of."""
    r = np.random.default_rng(9)
    frame = pd.DataFrame({"gen": np.repeat([f"g{i:02d}" for i in range(30)], 3), "rep": list("abc") * 30})
    frame["group"] = np.where(frame["gen"] < "g12", "old", "new")
    spread = np.repeat(r.normal(0, 1, 30), 3) * np.where(frame["group"] == "new", 1.5, 0.7)
    frame["y"] = spread + r.normal(0, 0.6, 90)
    fit = lmm("y ~ rep + group + diag(0 + group | gen)", frame)
    with pytest.raises(OptionError, match="gen has several coefficients: give coefficient=, one of"):
        fit.heritability("gen")
    s = fit.variance_components.set_index(["group", "var1"])["estimate"]
    residual = fit.sigma**2
    for name in ("old", "new"):
        own = fit.heritability("gen", ["standard"], coefficient=f"group{name}")
        variance = s["gen", f"group{name}"]
        assert own["standard"] == pytest.approx(variance / (variance + residual / 3), rel=1e-9)
        assert len(own.labels) == (12 if name == "old" else 18)
    blups = fit.ranef()["gen"].sum(axis=1)
    means = fit.emmeans("group", ddf="asymptotic").to_frame().set_index("group")["estimate"]
    table = fit.genotype_values("gen").to_frame().set_index("gen")
    group = frame.drop_duplicates("gen").set_index("gen")["group"]
    np.testing.assert_allclose(table["estimate"], means[group].to_numpy() + blups[group.index], rtol=1e-9)


def test_the_trial_of_genotypes_in_groups(tmp_path):
    """BLUEs, F and LSD know nothing of variances by group; heritability is that within each."""
    r = np.random.default_rng(9)
    frame = pd.DataFrame({"gen": np.repeat([f"g{i:02d}" for i in range(30)], 3), "rep": list("abc") * 30})
    frame["group"] = np.where(frame["gen"] < "g12", "old", "new")
    frame["y"] = np.repeat(r.normal(0, 1, 30), 3) + r.normal(0, 0.6, 90)
    grouped = lmm("y ~ rep + group + diag(0 + group | gen)", frame).trial_summary("gen")
    plain = lmm("y ~ rep + group + (1 | gen)", frame).trial_summary("gen")
    for name in ("F_genotypes", "df_genotypes", "df_error", "sed_mean", "lsd_mean", "sed_rms"):
        assert grouped[name] == pytest.approx(plain[name], rel=1e-6)
    assert np.isnan(grouped["h2"])
    assert "heritability needs coefficient=" in grouped["warnings"]
    batch = fit_batch(frame.assign(t="T"), "y ~ rep + group + diag(0 + group | gen)", by="t", genotypes="gen")
    assert batch.trials["lsd_mean"][0] == pytest.approx(plain["lsd_mean"], rel=1e-6)
    assert batch.heritabilities["coefficient"].unique().tolist() == ["groupnew", "groupold"]
    fit = lmm("y ~ rep + group + diag(0 + group | gen)", frame)
    page = report(fit, tmp_path / "page.html", genotypes="gen")
    assert "groupold" in page.read_text()


def test_blues_that_a_trend_takes_are_counted():
    """Genotypes in the same order in every replicate: a line over the plots is a line over the genotypes."""
    frame = pd.DataFrame({"rep": np.repeat(list("abc"), 6), "gen": np.tile(list("uvwxyz"), 3)})
    frame["plot"] = np.arange(18)
    frame["y"] = np.random.default_rng(2).normal(size=18)
    held = {"gen": 1.0}
    words = lmm("y ~ rep + plot + (1 | gen)", frame, fixed_parameters=held).trial_summary("gen")["warnings"]
    assert "BLUEs of 6 of 6 genotypes are not estimable beside the other fixed effects" in words
    words = lmm("y ~ rep + (1 | gen)", frame, fixed_parameters=held).trial_summary("gen")["warnings"]
    assert "estimable" not in words


def test_interactions_with_tied_levels_have_no_mean_over_environments(trials):
    """s_ge / e is of independent effects: a relationship twice as large halved its part without a word."""
    gens = sorted(trials["gen"].unique())
    K = pd.DataFrame(0.5 * np.eye(len(gens)) + 0.5, index=gens, columns=gens)
    plain = lmm("yield ~ trial + (1 | gen) + (1 | gen:trial)", trials)
    assert plain.heritability("gen", ["standard", "plot"]).frame["status"].eq("ok").all()
    for term, group, options in (
        ("vm(gen, K):trial", "vm(gen, K):trial", {"relationships": {"K": K}}),
        ("gen:ar1(trial)", "gen:ar1(trial)", {}),
    ):
        tied = lmm(f"yield ~ trial + (1 | gen) + (1 | {term})", trials, **options)
        found = tied.heritability("gen", ["standard", "plot"]).frame
        assert found["estimate"].isna().all()
        assert found["status"].eq(f"the levels of {group} are related or correlated").all()
