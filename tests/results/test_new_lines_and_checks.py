"""Augmented designs: checks fixed, new lines random. One table of both, BLUEs, the trial, from dense GLS."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, long_table, report
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.inference.ranking import draw_ranks, selection_intensity
from fastlmm_core.results.genotypes.fixed_means import fixed_means


def augmented(seed, blocks=6, lines=7, checks=("c1", "c2", "c3"), error=0.6):
    """Blocks with every check and some of the new lines (Federer 1956)."""
    r = np.random.default_rng(seed)
    rows = []
    for b in range(blocks):
        block = r.normal(0, 0.7)
        for j, name in enumerate(checks):
            rows.append((f"b{b}", name, name, 0, 0.5 * j + block + r.normal(0, error)))
        for j in range(lines * b, lines * b + lines):
            rows.append((f"b{b}", f"n{j:02d}", "new", 1, r.normal(0, 1) + 0.3 + block + r.normal(0, error)))
    return pd.DataFrame(rows, columns=["block", "gen", "group", "new", "y"])


def indicators(column, levels):
    return (np.asarray(column)[:, None] == np.asarray(levels)[None, :]).astype(float)


def henderson(y, X, Zs, precisions, residual):
    """Solution and inverse of Henderson's equations; a precision (q, q) for each Z."""
    W = np.hstack([X, *Zs])
    C = W.T @ W / residual
    at = X.shape[1]
    for Z, Q in zip(Zs, precisions, strict=True):
        C[at : at + Z.shape[1], at : at + Z.shape[1]] += Q
        at += Z.shape[1]
    inverse = np.linalg.inv(C)
    return inverse @ W.T @ y / residual, inverse


@pytest.fixture(scope="module")
def frame():
    return augmented(3)


@pytest.fixture(scope="module")
def fit(frame):
    return lmm("y ~ group + (0 + new | gen) + (1 | block)", frame)


@pytest.fixture(scope="module")
def dense(fit, frame):
    """Names, values and the covariance of their errors of checks and lines."""
    s = fit.variance_components.set_index("group")["estimate"]
    lines, checks = sorted(frame.loc[frame["new"] == 1, "gen"].unique()), ["c1", "c2", "c3"]
    X = indicators(frame["group"], [*checks, "new"])
    Zs = [indicators(frame["gen"], lines), indicators(frame["block"], sorted(frame["block"].unique()))]
    precisions = [np.eye(Z.shape[1]) / v for Z, v in zip(Zs, (s["gen"], s["block"]), strict=True)]
    solution, inverse = henderson(frame["y"].to_numpy(), X, Zs, precisions, s["Residual"])
    K = np.zeros((3 + len(lines), inverse.shape[0]))
    K[:3, :3], K[3:, 3] = np.eye(3), 1.0
    K[3:, 4 : 4 + len(lines)] = np.eye(len(lines))
    return [*checks, *lines], K @ solution, K @ inverse @ K.T


def test_one_table_of_checks_and_lines(fit, dense):
    names, value, cov = dense
    values = fit.genotype_values("gen")
    table = values.to_frame()
    assert list(table["gen"]) == names
    np.testing.assert_allclose(table["estimate"], value, rtol=1e-8)
    np.testing.assert_allclose(values.covariance(), cov, rtol=1e-7, atol=1e-12)
    assert list(table["check"]) == [True] * 3 + [False] * 42
    ranks = ["reliability", "rank", "rank_expected", "rank_se", "rank_lower", "rank_upper", "p_best"]
    assert table.loc[table["check"], ranks].isna().all(axis=None)
    lines = table[~table["check"]]
    assert sorted(lines["rank"]) == list(range(1, 43))
    assert lines["rank_expected"].sum() == pytest.approx(42 * 43 / 2)
    assert lines["p_best"].sum() == pytest.approx(1.0)
    assert "3 checks, fixed effects" in str(values)


def test_checks_are_no_candidates_for_selection(fit, dense):
    """Numbers are those of the lines alone; the check stays there to be compared with."""
    names, value, cov = dense
    values, line = fit.genotype_values("gen"), np.arange(3, 45)
    row = values.select(5).to_frame().iloc[0]
    best = line[np.argsort(-value[line])[:5]]
    contrast = np.zeros(45)
    contrast[line], contrast[best] = -1 / 42, 1 / 5 - 1 / 42
    assert row["n"] == 42
    assert row["gain"] == pytest.approx(contrast @ value, rel=1e-8)
    assert row["gain_se"] == pytest.approx(np.sqrt(contrast @ cov @ contrast), rel=1e-7)
    h2 = fit.heritability("gen", "cullis")["cullis"]
    variance = fit.variance_components.set_index("group").loc["gen", "estimate"]
    assert row["h2"] == pytest.approx(h2, rel=1e-9)
    assert row["response"] == pytest.approx(selection_intensity(42, 5) * np.sqrt(h2 * variance), rel=1e-8)
    assert list(values.best(5).to_frame()["gen"]) == [names[i] for i in best]
    assert not set(values.holding_best(0.999).to_frame()["gen"]) & {"c1", "c2", "c3"}
    with pytest.raises(OptionError, match="k=43 is more than the 42 genotypes"):
        values.select(43)
    against = values.against("c2").to_frame().set_index("gen")
    assert set(against.index) == set(names) - {"c2"}
    for name in ("c1", "n07"):
        at = names.index(name)
        assert against.loc[name, "difference"] == pytest.approx(value[at] - value[1], rel=1e-7)
        spread = cov[at, at] + cov[1, 1] - 2 * cov[at, 1]
        assert against.loc[name, "se"] == pytest.approx(np.sqrt(spread), rel=1e-7)
    few = values.without(["c1", "c3"]).to_frame()
    assert few["check"].sum() == 1 and list(few["rank"].dropna()) == list(values.frame["rank"].dropna())


def test_new_and_old_as_a_number(frame):
    """One check: 0 and 1 in the fixed part say the same as two levels."""
    one = frame[~frame["gen"].isin(["c2", "c3"])]
    s = dict(zip(("gen", "block", "Residual"), (0.9, 0.4, 0.3), strict=True))
    number, factor = (
        lmm(f"y ~ {name} + (0 + new | gen) + (1 | block)", one, fixed_parameters=s).genotype_values("gen")
        for name in ("new", "group")
    )
    np.testing.assert_allclose(number.estimate, factor.estimate, rtol=1e-9)
    np.testing.assert_allclose(number.covariance(), factor.covariance(), rtol=1e-8, atol=1e-12)
    assert list(number.frame["check"]) == [True] + [False] * 42


def test_covariates_of_the_genotypes_have_their_own_value():
    """A marker is a property of the line, a count of plants one of the plot."""
    r = np.random.default_rng(8)
    rows = pd.DataFrame({"gen": np.repeat([f"g{i:02d}" for i in range(20)], 3)})
    rows["snp"] = np.repeat(r.integers(0, 3, 20).astype(float), 3)
    rows["stand"] = r.normal(20, 3, 60)
    lines = np.repeat(r.normal(0, 1, 20), 3)
    rows["y"] = 2 * rows["snp"] + 0.1 * rows["stand"] + lines + r.normal(0, 0.5, 60)
    fit = lmm("y ~ snp + stand + (1 | gen)", rows)
    b = fit.fixed_effects().set_index("term")["estimate"]
    blups = fit.blups("gen").set_index("level")["estimate"]
    table = fit.genotype_values("gen").to_frame().set_index("gen")
    snp = rows.drop_duplicates("gen").set_index("gen")["snp"]
    want = b["(Intercept)"] + b["snp"] * snp + b["stand"] * rows["stand"].mean() + blups
    np.testing.assert_allclose(table["estimate"], want[table.index], rtol=1e-9)
    assert "with the effect of the own snp of each" in str(fit.genotype_values("gen"))


def direct(frame):
    """Checks and lines as levels of one fixed factor: the same space."""
    return lmm("y ~ gen + (1 | block)", frame)


def test_blues_of_checks_and_lines(fit, frame):
    table = fit_batch(
        frame.assign(trial="T"), "y ~ group + (0 + new | gen) + (1 | block)", by="trial", genotypes="gen",
        progress=False,
    ).blues  # fmt: skip
    other = direct(frame)
    s = other.variance_components.set_index("group")["estimate"]
    names = sorted(frame["gen"].unique())
    X, Z = indicators(frame["gen"], names), indicators(frame["block"], sorted(frame["block"].unique()))
    V = s["Residual"] * np.eye(len(frame)) + s["block"] * Z @ Z.T
    phi = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    assert list(table["gen"]) == names
    np.testing.assert_allclose(
        table["estimate"], phi @ X.T @ np.linalg.solve(V, frame["y"]), rtol=1e-6, atol=1e-7
    )
    want = other.emmeans("gen").to_frame()
    np.testing.assert_allclose(table["se"], want["se"], rtol=1e-6)
    np.testing.assert_allclose(table["df"], want["df"], rtol=1e-5)
    assert (table["se"] > 0.999 * np.sqrt(np.diag(phi))).all()  # Kenward & Roger's are not smaller


def test_the_trial_of_an_augmented_design(frame):
    """Blocks fixed: ordinary least squares, where F and every difference are exact."""
    fit = lmm("y ~ block + group + (0 + new | gen)", frame)
    row = fit.trial_summary("gen")
    names, blocks = sorted(frame["gen"].unique()), sorted(frame["block"].unique())
    X = np.hstack([indicators(frame["gen"], names), indicators(frame["block"], blocks[1:])])
    y, n = frame["y"].to_numpy(), len(frame)
    inverse = np.linalg.inv(X.T @ X)
    beta = inverse @ X.T @ y
    df = n - X.shape[1]
    s2 = float(np.sum((y - X @ beta) ** 2)) / df
    line = np.array([i for i, name in enumerate(names) if name.startswith("n")])
    L = np.zeros((line.size - 1, X.shape[1]))
    L[:, line[0]] = -1.0
    L[np.arange(line.size - 1), line[1:]] = 1.0
    F = (L @ beta) @ np.linalg.solve(L @ inverse @ L.T, L @ beta) / len(L) / s2
    assert (row["checks"], row["genotypes"], row["replication_most"]) == (3, 42, 1)
    assert (row["df_genotypes"], row["df_error"]) == pytest.approx((41, df))
    assert row["F_genotypes"] == pytest.approx(F, rel=1e-7)
    C = s2 * inverse[: len(names), : len(names)]
    sed = np.sqrt(np.add.outer(np.diag(C), np.diag(C)) - 2 * C)
    own = sed[np.ix_(line, line)][np.triu_indices(line.size, 1)]
    check = sed[np.ix_(line, np.setdiff1d(np.arange(len(names)), line))]
    from scipy.stats import t

    assert row["sed_mean"] == pytest.approx(own.mean(), rel=1e-7)
    assert row["sed_check"] == pytest.approx(check.mean(), rel=1e-7)
    assert row["lsd_mean"] == pytest.approx(t.ppf(0.975, df) * own.mean(), rel=1e-6)
    assert row["lsd_check"] == pytest.approx(t.ppf(0.975, df) * check.mean(), rel=1e-6)
    assert "no genotype is replicated" not in row["warnings"]
    assert "checks" not in lmm("y ~ block + (1 | gen)", frame).trial_summary("gen")


def test_pages_and_index_of_augmented_trials(tmp_path):
    frame = pd.concat([augmented(s).assign(trial=f"T{s}") for s in (1, 2)])
    frame["height"] = frame["y"] * 2 + np.random.default_rng(1).normal(0, 1, len(frame))
    batch = fit_batch(
        frame, "~ group + (0 + new | gen) + (1 | block)", by="trial", traits=["y", "height"],
        genotypes="gen", progress=False,
    )  # fmt: skip
    assert list(batch.trial_table()["checks"]) == [3, 3, 3, 3]
    index = batch.selection_index({"y": 1.0, "height": 0.5})
    assert index.loc[index["check"], "rank"].isna().all()
    for _, own in index[~index["check"]].groupby("trial"):
        assert sorted(own["rank"]) == list(range(1, 43))
    path = report(batch, tmp_path / "pages")
    text = next(path.parent.rglob("*T1.html")).read_text()
    assert text.count('<span class="pill no">check</span>') == 6
    assert "SED of line and check" in text and "check c1: " in text
    one = report(
        lmm("y ~ group + (0 + new | gen)", frame[frame["trial"] == "T1"]), tmp_path / "one.html",
        genotypes="gen",
    )  # fmt: skip
    assert one.read_text().count('<span class="pill no">check</span>') == 3


@pytest.fixture(scope="module")
def related(frame):
    """A relationship of the new lines, two more of which no plot tells, and none of the checks."""
    lines = [*sorted(frame.loc[frame["new"] == 1, "gen"].unique()), "x1", "x2"]
    M = np.random.default_rng(5).normal(size=(len(lines), 90))
    return M @ M.T / 90 + 0.1 * np.eye(len(lines)), lines


def test_checks_that_are_in_no_relationship(frame, related):
    G, lines = related
    formula = "y ~ group + (0 + new | vm(gen, G)) + (1 | block)"
    fit = lmm(formula, frame, relationships={"G": (G, lines)})
    s = fit.variance_components.set_index("group")["estimate"]
    X = indicators(frame["group"], ["c1", "c2", "c3", "new"])
    Zs = [indicators(frame["gen"], lines), indicators(frame["block"], sorted(frame["block"].unique()))]
    precisions = [np.linalg.inv(G) / s["vm(gen, G)"], np.eye(6) / s["block"]]
    solution, inverse = henderson(frame["y"].to_numpy(), X, Zs, precisions, s["Residual"])
    K = np.zeros((3 + len(lines), inverse.shape[0]))
    K[:3, :3], K[3:, 3] = np.eye(3), 1.0
    K[3:, 4 : 4 + len(lines)] = np.eye(len(lines))
    values = fit.genotype_values("gen")
    order = [list(values.frame["gen"]).index(name) for name in ["c1", "c2", "c3", *lines]]
    np.testing.assert_allclose(values.estimate[order], K @ solution, rtol=1e-7)
    cov = values.covariance()[np.ix_(order, order)]
    np.testing.assert_allclose(cov, K @ inverse @ K.T, rtol=1e-6, atol=1e-10)
    whole = np.zeros((len(lines) + 3, len(lines) + 3))
    whole[: len(lines), : len(lines)], whole[len(lines) :, len(lines) :] = G, np.eye(3)
    again = lmm(formula, frame, relationships={"G": (whole, [*lines, "c1", "c2", "c3"])})
    assert again.criterion == pytest.approx(fit.criterion, abs=1e-7)
    np.testing.assert_allclose(again.fitted, fit.fitted, rtol=1e-5)
    np.testing.assert_allclose(fit.predict(frame), fit.fitted, rtol=1e-8)
    assert fit.trial_summary("gen")["checks"] == 3
    with pytest.raises(DataError, match="1 levels of 'gen' are not in the relationship"):
        lmm(formula, frame, relationships={"G": (G[1:, 1:], lines[1:])})


def test_lines_that_stand_in_one_environment_each():
    """Sparse testing: values in the own environment, or over environments and of lines never tried."""
    r = np.random.default_rng(2)
    lines = [f"g{i:02d}" for i in range(30)]
    M = r.normal(size=(33, 80))
    G, names = M @ M.T / 80 + 0.05 * np.eye(33), [*lines, "x1", "x2", "x3"]
    env = np.where(np.arange(30) % 2, "A", "B")
    frame = pd.DataFrame({"gen": lines * 2, "env": [*env, *env]})
    u = np.linalg.cholesky(G) @ r.normal(size=33)
    frame["y"] = np.tile(u[:30], 2) + 5 * (frame["env"] == "A") + r.normal(0, 0.5, 60)
    fit = lmm("y ~ env + (1 | vm(gen, G))", frame, relationships={"G": (G, names)})
    with pytest.raises(OptionError, match="'x1' has no data, and so no 'env'; give average='env'"):
        fit.genotype_values("gen")
    table = fit.genotype_values("gen", average="env").to_frame().set_index("gen")
    mean = fit.emmeans("~ 1", ddf="asymptotic").estimate[0]
    blups = fit.blups("vm(gen, G)").set_index("level")["estimate"]
    np.testing.assert_allclose(table["estimate"], mean + blups[table.index], rtol=1e-9)
    tried = lmm("y ~ env + (1 | vm(gen, G))", frame, relationships={"G": (G[:30, :30], lines)})
    own = tried.genotype_values("gen")
    assert "with the effect of the own env of each" in str(own)
    over = tried.genotype_values("gen", average="env")
    gap = tried.fixed_effects().set_index("term")["estimate"].iloc[1]
    half = np.where(env == "B", 0.5 * gap, -0.5 * gap)
    np.testing.assert_allclose(own.estimate - over.estimate, half, rtol=1e-8)
    with pytest.raises(OptionError, match="average='site' is not a factor of this model"):
        tried.genotype_values("gen", average="site")
    place = lmm("y ~ env + (1 | vm(gen, G))", frame, relationships={"G": (G[:30, :30], lines)},
                residual="units | env").genotype_values("gen")  # fmt: skip
    assert "own env" not in str(place)  # the residual says that it is a place
    each = tried.genotype_values("gen", by="env")
    means = each.frame.groupby("env")["estimate"].mean()
    assert len(each) == 60 and means["B"] - means["A"] == pytest.approx(gap, rel=1e-8)


def test_equal_values_have_equal_chances():
    """Without variance all values are one: no genotype is better by its rounding error."""
    noise = 1e-16 * np.random.default_rng(0).normal(size=10)
    draws = draw_ranks(10.0 + noise, np.full((10, 10), 0.01) + 1e-19 * np.eye(10), 20_000, 1)
    np.testing.assert_allclose(draws.among(1), 0.1, atol=0.01)
    np.testing.assert_allclose(draws.ranks.mean(axis=0), 5.5, atol=0.1)
    flat = pd.DataFrame({"gen": np.repeat(list("abcdefgh"), 2), "y": np.tile([1.0, -1.0], 8)})
    row = lmm("y ~ 1 + (1 | gen)", flat).genotype_values("gen").select(3).to_frame().iloc[0]
    assert (row["gain"], row["gain_se"], row["response"]) == (0.0, 0.0, 0.0)


def test_values_within_and_over_factors_on_the_command_line(tmp_path, capsys):
    frame = datasets.load("trials").query("trial < 'T4'")
    frame["site"] = frame["gen"].map(lambda name: "even" if name[-1] in "02468" else "odd")
    frame.to_csv(tmp_path / "trials.csv", index=False)
    asked = ["fit", str(tmp_path / "trials.csv"), "yield ~ trial + site + (1|gen) + (1|gen:trial)"]
    out = tmp_path / "out"
    assert main([*asked, "--values", "gen", "--within", "trial", "--average", "site", "--out", str(out)]) == 0
    table = pd.read_csv(out / "genotype_values_gen.csv")
    fit = lmm(asked[2], frame)
    want = fit.genotype_values("gen", by="trial", average="site").to_frame()
    np.testing.assert_allclose(table["estimate"], want["estimate"], rtol=1e-6)
    assert not np.allclose(want["estimate"], fit.genotype_values("gen", by="trial").to_frame()["estimate"])
    assert main([*asked, "--within", "trial"]) == 2
    assert "--within belongs to --values GROUP" in capsys.readouterr().err


@pytest.mark.parametrize("groups", [1, 2])
def test_new_lines_beside_checks_in_several_traits(groups):
    """(0 + trait:new | gen): BLUEs, F and Piepho's heritability are those of all lines fixed."""
    rng = np.random.default_rng(2)
    plots = pd.DataFrame(
        [(b, gen) for b in range(6) for gen in ["C0", "C1", "C2", *(f"N{10 * b + i}" for i in range(10))]],
        columns=["block", "gen"],
    )
    value = pd.Series(rng.normal(size=63), index=sorted(plots["gen"].unique()))[plots["gen"]].to_numpy()
    plots["yield"] = 10 + value + 0.5 * rng.normal(size=len(plots))
    plots["height"] = 90 + 3 * value + 2 * rng.normal(size=len(plots)) + plots["block"]
    plots["new"] = plots["gen"].str.startswith("N").astype(int)
    number = pd.to_numeric(plots["gen"].str[1:]) % groups
    plots["group"] = np.where(plots["new"] == 1, "new" + number.astype(str), plots["gen"])
    plots["block"], plots["plot"] = "b" + plots["block"].astype(str), np.arange(len(plots))
    table = long_table(plots, ["yield", "height"], id="plot", trait="trait", value="y")
    residual = "us(trait | plot)"
    fit = lmm("y ~ trait*group + trait:block + us(0 + trait:new | gen)", table, residual=residual)
    fixed = lmm("y ~ trait*gen + trait:block", table, residual=residual)
    row, means = fit.trial_summary("gen"), fixed.emmeans("gen")
    assert (row["checks"], row["genotypes"]) == (3, 60)
    blues = fixed_means(fit, "gen").to_frame().set_index("gen")
    np.testing.assert_allclose(blues["estimate"], means.to_frame().set_index("gen")["estimate"][blues.index],
                               rtol=1e-7)  # fmt: skip
    np.testing.assert_allclose(blues["se"], means.to_frame().set_index("gen")["se"][blues.index], rtol=1e-5)
    lines = means.labels["gen"].str.startswith("N").to_numpy()
    group = means.labels["gen"].map(plots.drop_duplicates("gen").set_index("gen")["group"]).to_numpy()
    within = [np.eye(63)[own[1:]] - np.eye(63)[own[0]]
              for own in (np.flatnonzero(group == f"new{name}") for name in range(groups))]  # fmt: skip
    test = means.functions.f_test(np.vstack(within))
    np.testing.assert_allclose(row["F_genotypes"], test.F, rtol=1e-5)
    np.testing.assert_allclose(row["df_error"], test.df_den, rtol=1e-5)
    assert row["df_genotypes"] == 60 - groups
    if groups > 1:
        return
    components = fit.variance_components
    for trait in ("height", "yield"):
        own = fixed.emmeans("gen", at={"trait": trait}).functions.cov_unadjusted[np.ix_(lines, lines)]
        mean = np.mean([own[i, i] + own[j, j] - 2 * own[i, j] for i in range(60) for j in range(i)])
        name = f"trait{trait}:new"
        s = components.loc[(components["var1"] == name) & components["var2"].isna(), "estimate"].iloc[0]
        found = fit.heritability("gen", "piepho", coefficient=name)
        np.testing.assert_allclose(found["piepho"], s / (s + mean / 2), rtol=1e-6)
