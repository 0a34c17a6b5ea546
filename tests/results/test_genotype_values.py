"""Genotype values from Henderson's equations written out, and what is derived from them."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, run
from fastlmm_core.cli import main
from fastlmm_core.errors import OptionError, SingularFitWarning
from fastlmm_core.inference.ranking import selection_intensity
from fastlmm_core.reading import read_table


@pytest.fixture(scope="module")
def trials():
    frame = datasets.load("trials")
    return frame[frame["trial"].isin(["T1", "T2", "T3"])].dropna(subset=["yield"]).reset_index(drop=True)


class Henderson:
    """y = X b + sum Z_k u_k + e with u_k ~ N(0, s_k I): solution and inverse of the equations."""

    def __init__(self, y, X, Zs, variances, residual):
        W = np.hstack([X, *Zs])
        own = [np.full(Z.shape[1], 1 / s) for Z, s in zip(Zs, variances, strict=True)]
        prior = np.concatenate([np.zeros(X.shape[1]), *own])
        self.inverse = np.linalg.inv(W.T @ W / residual + np.diag(prior))
        self.solution = self.inverse @ W.T @ y / residual

    def value(self, rows):
        return rows @ self.solution, rows @ self.inverse @ rows.T


def incidence(column, levels):
    return (np.asarray(column)[:, None] == np.asarray(levels)[None, :]).astype(float)


def labels(frame, *columns):
    return frame[list(columns)].astype(str).agg(":".join, axis=1)


@pytest.fixture(scope="module")
def written_out(trials):
    """Fit of several trials, the same by dense equations, and names of its genotypes and trials."""
    fit = lmm("yield ~ trial + (1|gen) + (1|trial:gen) + (1|trial:rep)", trials)
    table = fit.variance_components.set_index("group")["estimate"]
    gens, sites = sorted(trials["gen"].unique()), sorted(trials["trial"].unique())
    X = np.column_stack([np.ones(len(trials)), *(trials["trial"] == s for s in sites[1:])])
    cells = [f"{s}:{g}" for s in sites for g in gens]
    reps = sorted(labels(trials, "trial", "rep").unique())
    Zs = [incidence(trials["gen"], gens), incidence(labels(trials, "trial", "gen"), cells),
          incidence(labels(trials, "trial", "rep"), reps)]  # fmt: skip
    variances = table[["gen", "trial:gen", "trial:rep"]]
    dense = Henderson(trials["yield"].to_numpy(), X, Zs, variances, table["Residual"])
    return fit, dense, gens, sites, cells, len(reps)


def test_values_over_environments(written_out):
    fit, dense, gens, _, cells, reps = written_out
    n = len(gens)
    mean = np.tile([1.0, 1 / 3, 1 / 3], (n, 1))
    rows = np.hstack([mean, np.eye(n), np.zeros((n, len(cells) + reps))])
    value, cov = dense.value(rows)
    own = fit.genotype_values("gen")
    table = own.to_frame()
    assert list(table["gen"]) == gens
    assert np.allclose(table["estimate"], value, rtol=1e-9)
    assert np.allclose(own.covariance(), cov, rtol=1e-8)
    assert np.allclose(table["se"], np.sqrt(np.diag(cov)), rtol=1e-8)
    assert np.allclose(table["reliability"], fit.blups("gen")["reliability"], rtol=1e-8)


def within(gens, sites, cells, reps):
    """Rows of every genotype in every trial, trials slowest."""
    out = []
    for s in sites:
        for g in gens:
            row = np.zeros(3 + len(gens) + len(cells) + reps)
            row[0] = 1.0
            if s != sites[0]:
                row[sites.index(s)] = 1.0
            row[3 + gens.index(g)] = 1.0
            row[3 + len(gens) + cells.index(f"{s}:{g}")] = 1.0
            out.append(row)
    return np.array(out)


def test_values_within_environments(written_out):
    fit, dense, gens, sites, cells, reps = written_out
    value, cov = dense.value(within(gens, sites, cells, reps))
    own = fit.genotype_values("gen", by="trial")
    table = own.to_frame()
    assert list(zip(table["trial"], table["gen"], strict=True)) == [(s, g) for s in sites for g in gens]
    assert np.allclose(table["estimate"], value, rtol=1e-9)
    assert np.allclose(table["se"], np.sqrt(np.diag(cov)), rtol=1e-8)
    n = len(gens)
    for j in range(len(sites)):
        assert np.allclose(
            own.covariance(j), cov[j * n : j * n + n, j * n : j * n + n], rtol=1e-7, atol=1e-12
        )


def test_an_index_has_the_covariances_between_its_parts(written_out):
    fit, dense, gens, sites, cells, reps = written_out
    weights = {"T1": 1.0, "T2": -0.5, "T3": 2.0}
    rows = within(gens, sites, cells, reps).reshape(3, len(gens), -1)
    value, cov = dense.value(np.einsum("t,tgi->gi", [weights[s] for s in sites], rows))
    index = fit.genotype_values("gen", by="trial").index(weights)
    table = index.to_frame().set_index("gen").loc[gens]
    assert np.allclose(table["estimate"], value, rtol=1e-9)
    assert np.allclose(table["se"], np.sqrt(np.diag(cov)), rtol=1e-8)
    alone = fit.genotype_values("gen", by="trial").index({"T2": 1.0}).to_frame()
    one = fit.genotype_values("gen", by="trial").to_frame().query("trial == 'T2'")
    assert np.allclose(alone["estimate"], one["estimate"]) and np.allclose(alone["se"], one["se"])
    for nothing in ({}, {"T1": 0.0, "T2": 0.0}):
        with pytest.raises(OptionError, match="an index needs a weight that is not zero"):
            fit.genotype_values("gen", by="trial").index(nothing)


def test_environments_never_tried_bring_their_variance(trials):
    lost = trials[~((trials["gen"] == "G05") & (trials["trial"] == "T2"))]
    fit = lmm("yield ~ trial + (1|gen) + (1|trial:gen)", lost)
    row = fit.genotype_values("gen", by="trial").to_frame().query("trial == 'T2' and gen == 'G05'").iloc[0]
    new = pd.DataFrame({"trial": ["T2"], "gen": ["G05"]})
    known = fit.predict(new, random=["gen", "trial:gen"], allow_new_levels=True, se=True).iloc[0]
    assert row["estimate"] == pytest.approx(known["prediction"], rel=1e-10)
    assert row["se"] == pytest.approx(known["se"], rel=1e-9)


def test_coefficients_by_environment(trials):
    """us(0 + trial | gen): a value is the coefficient within, and the mean of the coefficients over them."""
    fit = lmm("yield ~ trial + us(0 + trial | gen)", trials)
    within = fit.genotype_values("gen", by="trial").to_frame()
    effects = fit.ranef()["gen"]
    means = fit.emmeans("trial", ddf="asymptotic").to_frame().set_index("trial")["estimate"]
    for site in ("T1", "T2", "T3"):
        own = within[within["trial"] == site].set_index("gen")["estimate"]
        assert np.allclose(own, means[site] + effects[f"trial{site}"], rtol=1e-9)
    over = fit.genotype_values("gen").to_frame().set_index("gen")["estimate"]
    assert np.allclose(over, means.mean() + effects.mean(axis=1), rtol=1e-9)


def test_related_genotypes_without_data_have_values():
    frame = datasets.load("john_alpha")
    levels = [*sorted(frame["gen"].unique()), "NEW"]
    M = np.random.default_rng(3).normal(size=(25, 50))
    K = M @ M.T / 50 + 0.1 * np.eye(25)
    fit = lmm("yield ~ rep + (1|vm(gen, K))", frame, relationships={"K": (K, levels)})
    table = fit.genotype_values("gen").to_frame().set_index("gen")
    blups = fit.blups("vm(gen, K)").set_index("level")
    mean = fit.emmeans("~ 1", ddf="asymptotic").estimate[0]
    assert table.loc["NEW", "estimate"] == pytest.approx(mean + blups.loc["NEW", "estimate"], rel=1e-10)
    assert np.allclose(table["reliability"], blups.loc[table.index, "reliability"], rtol=1e-8)


def test_new_lines_and_fixed_checks():
    """Values of checks are their fixed means, of new lines mean + BLUP of their group."""
    r = np.random.default_rng(4)
    rows = [(f"b{b}", g, "check" if g.startswith("c") else "new", float(g.startswith("n")))
            for b in range(6) for g in ("c1", "c2", *(f"n{4 * b + j}" for j in range(4)))]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["block", "gen", "group", "new"])
    frame["group"] = np.where(frame["group"] == "new", "new", frame["gen"])
    frame["y"] = r.normal(size=len(frame)) + 2 * (frame["gen"] == "c1")
    fit = lmm("y ~ group + (0 + new|gen)", frame)
    table = fit.genotype_values("gen").to_frame().set_index("gen")
    means = fit.emmeans("group", ddf="asymptotic").to_frame().set_index("group")
    assert table.loc["c1", "estimate"] == pytest.approx(means.loc["c1", "estimate"], rel=1e-10)
    assert table.loc["c1", "se"] == pytest.approx(means.loc["c1", "se"], rel=1e-10)
    blups = fit.blups("gen").set_index("level")
    assert table.loc["n5", "estimate"] == pytest.approx(
        means.loc["new", "estimate"] + blups.loc["n5", "estimate"]
    )


def test_genotypes_and_years_that_are_numbers(trials):
    """Codes of seven digits, checks and lines of them, by year: the figures of the same columns as text."""
    frame = trials.assign(
        code=trials["gen"].factorize()[0] + 1_234_567, year=trials["trial"].str[1:].astype(int) + 2020
    )
    frame["group"] = np.where(frame["code"] < 1_234_570, "old", "new")
    formula = "yield ~ group + (1|{0}) + (1|{1}) + (1|{1}:{0})"
    numbers = lmm(formula.format("code", "year"), frame).genotype_values("code", by="year").to_frame()
    names = lmm(formula.format("gen", "trial"), frame).genotype_values("gen", by="trial").to_frame()
    assert set(numbers["year"].astype(str)) == {"2021", "2022", "2023"}
    assert numbers["code"].astype(str).str.len().eq(7).all()
    sort = ["estimate", "se"]
    assert np.allclose(numbers[sort].sort_values(sort), names[sort].sort_values(sort), rtol=1e-7)


@pytest.fixture(scope="module")
def alpha():
    return lmm("yield ~ rep + (1|gen) + (1|rep:block)", datasets.load("john_alpha"))


def test_selection(alpha):
    values = alpha.genotype_values("gen")
    row = values.select(5).to_frame().iloc[0]
    table = values.to_frame()
    best = table["estimate"].nlargest(5)
    assert row["gain"] == pytest.approx(best.mean() - table["estimate"].mean(), rel=1e-12)
    contrast = np.full(24, -1 / 24)
    contrast[best.index] += 1 / 5
    assert row["gain_se"] == pytest.approx(np.sqrt(contrast @ values.covariance() @ contrast), rel=1e-12)
    h2 = alpha.heritability("gen", "cullis")["cullis"]
    assert row["h2"] == pytest.approx(h2, rel=1e-10)
    variance = alpha.variance_components.set_index("group").loc["gen", "estimate"]
    assert row["response"] == pytest.approx(selection_intensity(24, 5) * np.sqrt(h2 * variance), rel=1e-10)
    assert values.select(share=5 / 24).to_frame().equals(values.select(5).to_frame())


def test_the_best(alpha):
    values = alpha.genotype_values("gen")
    best = values.best(3).to_frame()
    assert list(best["gen"]) == list(values.to_frame().nlargest(3, "estimate")["gen"])
    assert (best["p_all"] <= best["p_among"].min()).all()
    low = alpha.genotype_values("gen", largest=False)
    assert low.best(1).to_frame()["gen"][0] == values.to_frame().nsmallest(1, "estimate")["gen"].iloc[0]
    assert np.allclose(low.to_frame()["rank_expected"] + values.to_frame()["rank_expected"], 25.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda fit: fit.genotype_values("g"), "'g' is not a grouping factor"),
        (lambda fit: fit.genotype_values("gen", by="site"), "by='site' is not a factor"),
        (lambda fit: fit.genotype_values("gen").best(25), "k=25 is more than the 24 genotypes"),
        (lambda fit: fit.genotype_values("gen").select(), "either k, how many, or share="),
        (
            lambda fit: fit.genotype_values("gen").index({"T1": 1}),
            "an index is over the levels of one factor",
        ),
        (lambda fit: fit.genotype_values("gen", draws=3), "draws=3 must be a whole number, 100 or larger"),
    ],
)
def test_mistakes_are_named(alpha, call, words):
    with pytest.raises(OptionError, match=words):
        call(alpha)


def test_better_than_a_check(alpha):
    """The probability is that of the joint distribution of the true values, here by draws of it."""
    values = alpha.genotype_values("gen")
    table = values.against("G10", margin=0.1).to_frame()
    assert "G10" not in set(table["gen"]) and table["p_better"].is_monotonic_decreasing
    r = np.random.default_rng(2)
    drawn = r.multivariate_normal(values.estimate, values.covariance(), size=100_000, method="eigh")
    names = list(values.to_frame()["gen"])
    ahead = drawn - drawn[:, [names.index("G10")]]
    for _, row in table.iterrows():
        own = ahead[:, names.index(row["gen"])]
        assert row["difference"] == pytest.approx(own.mean(), abs=5e-3)
        assert row["se"] == pytest.approx(own.std(), rel=0.02)
        assert row["p_better"] == pytest.approx(np.mean(own > 0.1), abs=0.008)
    low = alpha.genotype_values("gen", largest=False).against("G10").to_frame().set_index("gen")["p_better"]
    high = values.against("G10").to_frame().set_index("gen")["p_better"]
    assert np.allclose(low[high.index] + high, 1.0)


def test_checks_are_no_candidates(alpha):
    values = alpha.genotype_values("gen")
    top = values.best(1).to_frame()["gen"][0]
    others = values.without(top)
    assert len(others) == 23 and top not in set(others.to_frame()["gen"])
    kept = [name != top for name in values.to_frame()["gen"]]
    np.testing.assert_allclose(others.estimate, values.estimate[kept], rtol=1e-12)
    np.testing.assert_allclose(others.covariance(), values.covariance()[np.ix_(kept, kept)], rtol=1e-10)
    assert list(others.to_frame()["rank"]) == list(values.to_frame()["rank"][kept] - 1)
    assert list(others.without(["G02", "G03"]).select(2).to_frame()["n"]) == [21]
    with pytest.raises(OptionError, match="'G99' is none of the genotypes"):
        values.without("G99")
    with pytest.raises(OptionError, match="'check' is none of the genotypes"):
        values.against("check")


def test_the_fewest_that_hold_the_best(alpha):
    values = alpha.genotype_values("gen")
    p = np.sort(values.to_frame()["p_best"])[::-1]
    for level in (0.5, 0.9, 0.99):
        table = values.holding_best(level).to_frame()
        assert table["cumulative"].iloc[-1] >= level - 1e-12
        assert len(table) == 1 or table["cumulative"].iloc[-2] < level
        np.testing.assert_allclose(table["p_best"], p[: len(table)])


def test_gains_in_the_parts_of_an_index(trials):
    fit = lmm("yield ~ trial + us(0 + trial | gen) + (1|trial:rep:block)", trials)
    within = fit.genotype_values("gen", by="trial")
    weights = {"T1": 1.0, "T2": 0.5, "T3": -0.25}
    index = within.index(weights)
    table = index.responses(4).to_frame()
    assert dict(zip(table["trial"], table["weight"], strict=True)) == weights
    assert table["contribution"].sum() == pytest.approx(index.select(4).to_frame()["gain"][0], rel=1e-9)
    chosen, frame = set(index.best(4).to_frame()["gen"]), within.to_frame()
    for g, (trial, own) in enumerate(frame.groupby("trial", sort=False)):
        mine = own["gen"].isin(chosen).to_numpy()
        row = table[table["trial"] == trial].iloc[0]
        assert row["gain"] == pytest.approx(own["estimate"][mine].mean() - own["estimate"].mean(), rel=1e-9)
        contrast = mine / 4.0 - 1.0 / len(own)
        assert row["gain_se"] == pytest.approx(np.sqrt(contrast @ within.covariance(g) @ contrast), rel=1e-9)
    alone = within.index({"T2": 1.0})
    want = within.select(4).to_frame().set_index("trial").loc["T2"]
    own = alone.responses(share=4 / 24).to_frame().set_index("trial").loc["T2"]
    assert (own["gain"], own["gain_se"]) == pytest.approx((want["gain"], want["gain_se"]), rel=1e-9)
    some = index.without("G05").responses(3).to_frame()
    assert some["contribution"].sum() == pytest.approx(
        index.without("G05").select(3).to_frame()["gain"][0], rel=1e-9
    )
    with pytest.raises(OptionError, match="responses are those of an index"):
        within.responses(3)


def test_weights_for_a_standard_deviation(trials):
    fit = lmm("yield ~ trial + us(0 + trial | gen) + (1|trial:rep:block)", trials)
    within = fit.genotype_values("gen", by="trial")
    variances = fit.variance_components.query("group == 'gen' and var2.isna()").set_index("var1")["estimate"]
    weights = {"T1": 1.0, "T3": 2.0}
    own = {name: weight / np.sqrt(variances[f"trial{name}"]) for name, weight in weights.items()}
    found = within.index(weights, per="sd")
    np.testing.assert_allclose(found.estimate, within.index(own).estimate, rtol=1e-10)
    tenfold = trials.assign(**{"yield": 10 * trials["yield"]})
    other = lmm("yield ~ trial + us(0 + trial | gen) + (1|trial:rep:block)", tenfold)
    again = other.genotype_values("gen", by="trial").index(weights, per="sd")
    np.testing.assert_allclose(again.covariance(), found.covariance(), rtol=1e-4, atol=1e-6)


def test_decisions_by_request_and_command(alpha, trials, tmp_path, capsys):
    data = {name: trials[name].tolist() for name in ("yield", "trial", "rep", "block", "gen")}
    formula = "yield ~ trial + us(0 + trial | gen) + (1|trial:rep:block)"
    block = {"term": "gen", "by": "trial", "index": {"T1": 1, "T2": 0.5}, "per": "sd", "check": "CHECK",
             "margin": 0.2, "without": ["CHECK"], "best": 3, "select": 4}  # fmt: skip
    answer = run({"data": data, "formula": formula, "genotype_values": [block]})["genotype_values"][0]
    values = lmm(formula, trials).genotype_values("gen", by="trial").index({"T1": 1, "T2": 0.5}, per="sd")
    others = values.without("CHECK")
    want = {"against": values.against("CHECK", 0.2), "best_table": others.best(3), "gain": others.select(4),
            "responses": others.responses(4), "table": others}  # fmt: skip
    for name, own in want.items():
        frame, rows = own.to_frame(), answer[name]
        for label in {"gen", "trial"} & set(frame):
            assert [row[label] for row in rows] == frame[label].tolist()
        column = next(c for c in ("p_better", "p_among", "gain", "estimate") if c in frame)
        np.testing.assert_allclose([row[column] for row in rows], frame[column], rtol=1e-6)
    path = tmp_path / "alpha.csv"
    datasets.load("john_alpha").to_csv(path, index=False)
    asked = ["fit", str(path), "yield ~ rep + (1|gen) + (1|rep:block)", "--out", str(tmp_path)]
    assert main([*asked, "--values", "gen", "--check", "G10", "--select", "3"]) == 0
    shown = capsys.readouterr().out
    assert "Better than G10:" in shown and "The 3 best of 23:" in shown and "Gain from selection:" in shown
    table = pd.read_csv(tmp_path / "against_gen_G10.csv")
    want = alpha.genotype_values("gen").against("G10").to_frame()
    np.testing.assert_allclose(table["p_better"], want["p_better"], rtol=1e-9)
    block = {"term": "gen", "check": "G10", "select": 3}
    answer = run({"data": str(path), "formula": asked[2], "genotype_values": [block]})
    gain = answer["genotype_values"][0]["gain"]
    written = pd.read_csv(tmp_path / "selection_gen.csv")  # a check is no candidate at either door
    assert (gain[0]["n"], written["n"][0]) == (23, 23)
    assert gain[0]["gain"] == pytest.approx(written["gain"][0], rel=1e-9)
    assert main([*asked, "--select", "3"]) == 2
    assert "--select belongs to --values GROUP" in capsys.readouterr().err


def test_names_of_genotypes_are_scalars(alpha):
    """Refused at the gate, by the name of the option; an array of names is a list of them."""
    values = alpha.genotype_values("gen")
    with pytest.raises(OptionError, match="check"):
        values.against(["G10", "G11"])
    for wrong in (None, {"G10": 1}, [["G10"]]):
        with pytest.raises(OptionError, match="genotypes"):
            values.without(wrong)
    gone = np.array(["G02", "G03"], dtype=object)
    assert values.without(gone).frame.equals(values.without(("G02", "G03")).frame)


@pytest.fixture(scope="module")
def environments():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        [(f"G{g}", f"E{e}") for g in range(1, 8) for e in range(4) for _ in range(3)], columns=["gen", "env"]
    )
    g, e = frame["gen"].str[1:].astype(int) - 1, frame["env"].str[1:].astype(int)
    y = 50 + rng.normal(0, 2, 7)[g] + 6 * e + rng.normal(0, 1.5, (7, 4))[g, e] + rng.normal(size=len(frame))
    return frame.assign(y=y)


def test_effects_of_genotypes_in_the_fixed_part_count(environments):
    """Beside (0 + env | gen) the genotypes' own fixed effects are part of their values."""
    fit = lmm("y ~ env + gen + diag(0 + env | gen)", environments)
    values = fit.genotype_values("gen")
    plots = environments.groupby("gen")["y"].mean()
    np.testing.assert_allclose(values.to_frame().set_index("gen")["estimate"], plots, rtol=0.01)
    assert values.best(1).to_frame()["gen"].tolist() == [plots.idxmax()]
    selected = values.select(2).to_frame().iloc[0]  # there is no variance between fixed genotypes
    assert selected["gain"] > 0.0 and np.isnan(selected["h2"]) and np.isnan(selected["response"])


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_without_variance_all_are_the_best_alike(shift):
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"gen": [f"g{k:02d}" for k in range(14)] * 4})
    data = data.drop(data.index[rng.choice(56, 9, replace=False)])
    data["y"] = rng.normal(size=len(data)) + shift
    with pytest.warns(SingularFitWarning):
        fit = lmm("y ~ 1 + (1 | gen)", data)
    p_best = fit.genotype_values("gen").to_frame()["p_best"]
    np.testing.assert_allclose(p_best, 1.0 / 14.0, atol=0.015)  # 10,000 draws


def test_codes_of_a_file_stay_what_they_are(environments, tmp_path):
    """001 is no number: no genotype comes twice, and environments keep their effects."""
    coded = environments.assign(gen="00" + environments["gen"].str[1:], env="0" + environments["env"].str[1:])
    coded["new"] = (~coded["gen"].isin(["001", "002"])).astype(int)
    coded["check"] = coded["gen"].where(coded["new"] == 0, "lines")
    coded.to_csv(tmp_path / "t.csv", index=False)
    from_file = read_table(tmp_path / "t.csv")
    plain = "y ~ (1 | env) + (1 | gen) + (1 | gen:env)"
    for formula, by in ((plain, None), (plain, "env"), ("y ~ check + factor(env) + (0 + new | gen)", None)):
        found, named = (lmm(formula, data).genotype_values("gen", by=by).to_frame()
                        for data in (from_file, coded))  # fmt: skip
        pd.testing.assert_frame_equal(found.astype({"gen": str}), named.astype({"gen": str}), rtol=1e-8)
    fit = lmm("y ~ check + factor(env) + (0 + new | gen)", from_file)
    assert fit.trial_summary("gen")["checks"] == 2
    assert len(fit.heritability("gen").labels) == 5
    batch = fit_batch(from_file, "y ~ (1 | gen)", by="env", genotypes="gen", progress=False)
    assert set(batch.trial_table()["common"]) == {7}
