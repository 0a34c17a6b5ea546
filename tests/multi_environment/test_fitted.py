"""Summaries of fits: means that are estimated or predicted, and shares of variance."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, gxe, lmm
from fastlmm_core.errors import DataError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
G, E, R = 20, 4, 3


def make_table(seed=2):
    rng = np.random.default_rng(seed)
    u, w = rng.normal(size=G), rng.normal(size=(G, E))
    rows = [(f"g{i:02d}", f"E{j}", f"b{k}", 5 + j + u[i] + w[i, j] + 0.6 * k * j + 0.5 * rng.normal())
            for i in range(G) for j in range(E) for k in range(R)]  # fmt: skip
    return pd.DataFrame(rows, columns=["gen", "env", "rep", "y"])


TABLE = make_table()


def test_a_balanced_fit_is_its_table():
    """Fixed cells and blocks within environments: the same means, error and tests as from the plots."""
    fit = lmm("y ~ gen*env + env:rep", TABLE)
    found, plots = gxe(fit, "gen", "env"), gxe(TABLE, "gen", "env", "y", block="rep")
    np.testing.assert_allclose(found.to_frame(), plots.to_frame())
    assert found.table.error_ms == pytest.approx(plots.table.error_ms / R)
    assert found.table.error_df == pytest.approx(plots.table.error_df)
    np.testing.assert_allclose(found.anova().frame["F"][1:5], plots.anova().frame["F"][1:5], rtol=1e-8)
    random = lmm("y ~ gen*env + (1 | env:rep)", TABLE)
    np.testing.assert_allclose(gxe(random, "gen", "env").to_frame(), plots.to_frame(), rtol=1e-8)
    assert gxe(random, "gen", "env").table.error_ms == pytest.approx(plots.table.error_ms / R, rel=1e-6)


def test_components_of_balanced_data_are_those_of_the_mean_squares():
    fit = lmm("y ~ env + env:rep + (1 | gen) + (1 | gen:env)", TABLE)
    shares = gxe(fit, "gen", "env").variance_shares().frame.set_index("component")
    mean_squares = gxe(TABLE, "gen", "env", "y", block="rep").variance_shares().frame.set_index("component")
    for own, other in (
        ("genotype", "genotype"),
        ("interaction", "interaction"),
        ("Residual", "error of a plot"),
    ):
        assert shares.loc[own, "variance"] == pytest.approx(mean_squares.loc[other, "variance"], rel=1e-5)
    assert shares["percent"].sum() == pytest.approx(100)
    want = fit.variance_components["se"].to_numpy()
    np.testing.assert_allclose(sorted(shares["se"]), sorted(want), rtol=1e-6)


@pytest.mark.parametrize(
    ("term", "other"),
    [("us(0 + env | gen)", "(env | gen)"),
     ("diag(0 + env | gen) + (1 | gen)", "(1 | at(env):gen) + (1 | gen)")],
)  # fmt: skip
def test_shares_are_of_the_covariance_however_it_is_written(term, other):
    """Covariances of an intercept with differences were the genotypes, variances by at(env) added up."""
    frames = []
    for random in (term, other):
        fit = lmm(f"y ~ env + env:rep + {random}", TABLE)
        frames.append(gxe(fit, "gen", "env").variance_shares().frame)
    pd.testing.assert_frame_equal(*frames, rtol=1e-4)


def test_shares_of_several_terms_of_the_genotypes():
    """T is their sum: the scale was that of one of them alone."""
    fit = lmm("y ~ env + (1 | gen) + diag(0 + env | gen) + (1 | at(env):rep)", TABLE)
    rows = gxe(fit, "gen", "env").variance_shares().frame
    components = fit.variance_components
    estimate = components.set_index("group")["estimate"]
    of_all = (components["var1"] == "(Intercept)").to_numpy()
    main, own = estimate[of_all]["gen"], estimate[~of_all]["gen"].to_numpy()
    sd = np.sqrt(main + own)
    blocks = [estimate[f"at(env, E{j}):rep"] for j in range(E)]
    assert rows["component"].str.strip().tolist() == [
        "genotype", "interaction", "heterogeneity of scale", "lack of correlation", "at(env):rep", "Residual"
    ]  # fmt: skip
    np.testing.assert_allclose(
        rows["variance"],
        [main, own.mean(), sd.var(ddof=1), own.mean() - sd.var(ddof=1), np.mean(blocks),
         estimate["Residual"]], rtol=1e-9,
    )  # fmt: skip
    names = " + ".join(f"`{label}`" for label in [f"at(env, E{j}):rep" for j in range(E)])
    assert rows["se"].iloc[4] == pytest.approx(fit.vpredict(f"({names})/{E}").se, rel=1e-6)


def test_other_terms_have_their_variance_in_the_mean_of_the_plots():
    """Of a slope it was half the sum of two variances in different units; smoothing had a percentage."""
    rng = np.random.default_rng(6)
    data = TABLE.assign(x=3.0 + rng.normal(size=len(TABLE)), place=np.arange(len(TABLE)) % (G * R))
    slope = np.repeat(rng.normal(size=E * R), G).reshape(E * R, G).T.ravel()
    data["y"] = data["y"] + np.tile(slope[: E * R], G) * data["x"]
    fit = lmm("y ~ env + x + place + (1 | gen) + (1 | gen:env) + (x | env:rep) + spl(place)", data)
    found = gxe(fit, "gen", "env").variance_shares()
    rows = found.frame.set_index("component")
    assert rows.index.tolist() == ["genotype", "interaction", "env:rep", "Residual"]
    assert "'spl(place)': left out" in str(found)
    assert rows["percent"].sum() == pytest.approx(100.0)
    own = fit.variance_components.query("group == 'env:rep'").set_index(["var1", "var2"])["estimate"]
    x = data["x"].to_numpy()
    variances, covariance = own[own.index.get_level_values(1).isna()].to_numpy(), own.dropna()
    (cross,) = covariance[~covariance.index.get_level_values(1).isna()]
    want = variances[0] + 2.0 * cross * x.mean() + variances[1] * np.mean(x**2)
    assert rows.loc["env:rep", "variance"] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    "terms",
    ["(1 | vm(gen, K)) + (1 | vm(gen, K):env)", "us(0 + env | vm(gen, K))",
     "(1 | gen) + diag(0 + env | vm(gen, K))", "(1 | gen) + (1 | gen:env) + (1 | vm(place, P))"],
)  # fmt: skip
def test_shares_do_not_depend_on_the_scale_of_a_relationship(terms):
    """A component counts times the diagonal of its relationship: that of K / 9 is nine times as large."""
    rng = np.random.default_rng(8)
    names = [f"g{i:02d}" for i in range(G)]
    root = rng.normal(size=(G, 3 * G)) * rng.uniform(0.5, 2.0, (G, 1))
    K, P = root @ root.T / 60.0, np.diag([0.5, 2.0, 3.0, 1.5])
    place = np.arange(len(TABLE)) % 4
    data = TABLE.iloc[: len(TABLE) - 31].assign(place=[f"p{k}" for k in place[: len(TABLE) - 31]])
    if "P" in terms:
        data["y"] += 2.0 * (np.sqrt(np.diag(P)) * rng.normal(size=4))[place[: len(data)]]
    own, env = data["gen"].str[1:].astype(int), data["env"].str[1:].astype(int)
    effects = np.linalg.cholesky(K) @ rng.normal(size=(G, E + 1))
    data["y"] += effects[own, E] + 1.5 * effects[own, env]
    found = []
    for scale in (1.0, 9.0):
        related = {"K": (K / scale, names), "P": (P / scale, ["p0", "p1", "p2", "p3"])}
        fit = lmm(f"y ~ env + {terms}", data, relationships=related)
        assert not fit.singular
        found.append(gxe(fit, "gen", "env").variance_shares())
    one, other = (own.frame.set_index("component")[["variance", "se", "percent"]] for own in found)
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)
    component = fit.variance_components.set_index("group")["estimate"]
    if "P" in terms:
        diagonal = np.diag(P / scale)[place[: len(data)]].mean()
        assert other.loc["vm(place, P)", "variance"] == pytest.approx(component["vm(place, P)"] * diagonal)
        assert f"'vm(place, P)': the component times {diagonal:.4g}, the mean" in str(found[1])
    elif "us(" not in terms and "diag(" not in terms:
        diagonal = np.diag(K / scale)[own].mean()
        assert other.loc["genotype", "variance"] == pytest.approx(component["vm(gen, K)"] * diagonal)


def test_correlated_environments_are_not_called_interaction():
    """Its environments have a covariance, a part of which is the genotypes': ar1(0 + env | gen) splits it."""
    fit = lmm("y ~ env + env:rep + (1 | gen:ar1(env))", TABLE)
    rows = gxe(fit, "gen", "env").variance_shares().frame
    assert rows["component"].tolist() == ["gen:ar1(env)", "Residual"]
    split = lmm("y ~ env + env:rep + ar1(0 + env | gen)", TABLE)
    parts = gxe(split, "gen", "env").variance_shares().frame["variance"]
    assert rows["variance"][0] == pytest.approx(parts[:2].sum(), rel=1e-5)


@pytest.mark.parametrize("term", ["us(0 + env | gen)", "fa(0 + env | gen, k=1)", "homcs(0 + env | gen)"])
def test_shares_of_a_covariance_between_environments(term):
    fit = lmm(f"y ~ env + env:rep + {term}", TABLE, residual="units | env")
    found = gxe(fit, "gen", "env").variance_shares().frame
    rows = found.assign(component=found["component"].str.strip()).set_index("component")["variance"]
    components = fit.variance_components
    T = np.zeros((E, E))
    T[np.tril_indices(E)] = components[components["group"] == "gen"]["estimate"]
    T = T + np.tril(T, -1).T
    sd = np.sqrt(np.diag(T))
    pairs = [(i, j) for i in range(E) for j in range(i)]
    main = np.mean([T[i, j] for i, j in pairs])
    scale = np.mean([(sd[i] - sd[j]) ** 2 for i, j in pairs]) / 2
    crossing = np.mean([sd[i] * sd[j] - T[i, j] for i, j in pairs])
    np.testing.assert_allclose(
        rows[["genotype", "interaction", "heterogeneity of scale", "lack of correlation"]],
        [main, np.trace(T) / E - main, scale, crossing], atol=1e-10,
    )  # fmt: skip
    numbers = [components.index[(components["group"] == "gen") & components["var2"].notna()]]
    total = " + ".join(components["component"][numbers[0]])
    want = fit.vpredict(f"({total})/{len(pairs)}")
    assert found["se"][0] == pytest.approx(want.se, rel=1e-8)


@pytest.mark.parametrize(
    "terms", ["(1 | gen) + (1 | gen:env)", "fa(0 + env | gen, k=1)", "(1 | gen) + (1 | env:gen)"]
)
def test_predicted_means_are_environments_and_blups(terms):
    fit = lmm(f"y ~ env + env:rep + {terms}", TABLE)
    found = gxe(fit, "gen", "env")
    fixed = fit.emmeans("~ env").to_frame().set_index("env")["estimate"]
    grid = TABLE[["gen", "env"]].drop_duplicates().assign(rep="b0")
    groups = list(fit.ranef())
    random = fit.predict(grid, random=groups) - fit.predict(grid, random=False)
    for (_, row), value in zip(grid.iterrows(), random, strict=True):
        assert found.to_frame().loc[row["gen"], row["env"]] == pytest.approx(
            fixed[row["env"]] + value, rel=1e-9
        )
    assert found.anova().frame["F"].isna().all() and "shrunken" in str(found)
    assert found.stability().frame["p_slope"].isna().all()


def test_levels_of_a_relationship_without_data_are_predicted():
    names = [f"g{i:02d}" for i in range(G + 2)]
    A = np.full((G + 2, G + 2), 0.2) + 0.8 * np.eye(G + 2)
    fit = lmm("y ~ env + fa(0 + env | vm(gen, A), k=1)", TABLE, relationships={"A": (A, names)})
    found = gxe(fit, "gen", "env")
    assert list(found.table.genotypes) == names
    np.testing.assert_allclose(found.to_frame() - fit.emmeans("~ env").to_frame()["estimate"].to_numpy(),
                               fit.factor_analysis().effects, atol=1e-9)  # fmt: skip


def test_models_that_cannot_say():
    additive = lmm("y ~ gen + env", TABLE)
    u = np.random.default_rng(1).normal(size=G).repeat(E * R)
    alike = TABLE.assign(y=u + np.tile([-1.0, 0.0, 1.0], G * E))
    for term in ("(1 | gen:env)", "diag(0 + env | gen)"):
        with pytest.raises(DataError, match=r"of gen and env is estimated as zero$"):
            gxe(lmm(f"y ~ env + (1 | gen) + {term}", alike), "gen", "env")
    with pytest.raises(DataError, match="the model has no interaction of gen and env: add gen:env"):
        gxe(additive, "gen", "env")
    with pytest.raises(OptionError, match="the model has no factor 'site'"):
        gxe(additive, "gen", "site")
    with pytest.raises(OptionError, match="needs genotype= and environment="):
        gxe(additive)
    missing = TABLE[~((TABLE["gen"] == "g03") & (TABLE["env"] == "E1"))]
    with pytest.raises(DataError, match="1 cells have no estimable mean, the first g03 in E1"):
        gxe(lmm("y ~ gen*env", missing), "gen", "env")
    assert (
        gxe(lmm("y ~ env + fa(0 + env | gen, k=1)", missing), "gen", "env").to_frame().notna().all(axis=None)
    )


@pytest.mark.parametrize("environments", ["env", "(1 | env)"])
@pytest.mark.parametrize("genotypes", ["gen", "(1 | gen)"])
def test_what_is_fixed_and_what_is_random_counts(environments, genotypes):
    """In balanced data means of environments and of genotypes are shrunken by little, and never left out."""
    fit = lmm(f"y ~ 1 + {environments} + {genotypes} + (1 | gen:env)", TABLE)
    found = gxe(fit, "gen", "env").to_frame()
    plots = TABLE.pivot_table(index="gen", columns="env", values="y")
    np.testing.assert_allclose(found.mean(), plots.mean(), atol=0.05)
    assert np.corrcoef(found.mean(axis=1), plots.mean(axis=1))[0, 1] > 0.999
    variance = fit.variance_components.set_index("group")["estimate"]
    if genotypes == "gen" and environments == "env":  # additive means and shrunken interactions
        additive = plots.mean(axis=1).to_numpy()[:, None] + (plots.mean() - plots.mean().mean()).to_numpy()
        share = variance["gen:env"] / (variance["gen:env"] + variance["Residual"] / R)
        np.testing.assert_allclose(found, additive + share * (plots.to_numpy() - additive), rtol=1e-6)


def test_slopes_of_environments_stand_at_the_mean():
    table = TABLE.assign(x=np.random.default_rng(4).normal(2.0, 1.0, len(TABLE)))
    fit = lmm("y ~ x + (x || env) + (1 | gen) + (1 | gen:env)", table)
    cells = table[["gen", "env"]].drop_duplicates().assign(x=table["x"].mean())
    found = gxe(fit, "gen", "env").to_frame()
    for (_, row), value in zip(cells.iterrows(), fit.predict(cells), strict=True):
        assert found.loc[row["gen"], row["env"]] == pytest.approx(value, rel=1e-9)


def test_the_lowest_wins_where_that_is_best():
    found = gxe(lmm("y ~ gen*env", TABLE), "gen", "env")
    low, high = found.ammi(2).winners(best="lowest"), found.ammi(2).winners()
    fitted = found.ammi(2).fitted()
    assert list(low["genotype"]) == list(fitted.idxmin()) and list(high["genotype"]) == list(fitted.idxmax())
    np.testing.assert_allclose(low["fitted"], fitted.min())
    mirrored = gxe(lmm("y ~ gen*env", TABLE.assign(y=-TABLE["y"])), "gen", "env").gge()
    gge = found.gge()
    assert list(gge.winners(best="lowest")["genotype"]) == list(mirrored.winners()["genotype"])
    assert list(gge.ranking("lowest")["rank"]) == list(mirrored.ranking()["rank"])
    tables = found.tables(best="lowest")
    assert list(tables["ammi_winners"]["genotype"]) == list(low["genotype"])
    with pytest.raises(OptionError, match="best='middle' is not known"):
        gge.winners(best="middle")


@pytest.mark.parametrize(
    ("fixed", "random"),
    [
        ("env + family", "(1 | gen) + (1 | gen:env)"), ("place + year", "(1 | gen) + (1 | gen:env)"),
        ("place + year", "(1 | env) + (1 | gen) + (1 | gen:env)"), ("env + family", "(1 | gen:env)"),
        ("env + rep", "us(0 + rep | env) + (1 | gen) + (1 | gen:env)"),
    ],
)
def test_properties_of_genotypes_and_environments_are_their_own(fixed, random):
    """A family or a year in the fixed part: means are within what shrinkage makes of the plots'."""
    table = TABLE.assign(
        family=np.where(TABLE["gen"] < "g10", "A", "B"), place=np.where(TABLE["env"] < "E2", "P", "Q"),
        year="Y" + (TABLE["env"].str[1:].astype(int) % 2).astype(str),
    )  # fmt: skip
    table["y"] += 5.0 * (table["family"] == "B") + 4.0 * (table["place"] == "Q")
    found = gxe(lmm(f"y ~ {fixed} + {random}", table), "gen", "env").to_frame()
    plots = table.pivot_table(index="gen", columns="env", values="y")
    np.testing.assert_allclose(found.mean(), plots.mean(), atol=0.3)
    assert abs(found.mean(axis=1) - plots.mean(axis=1)).max() < 0.9


def test_related_levels_within_environments_have_one_variance():
    """``env:vm(gen, I)`` is ``env:gen``: tables show its one variance for each environment."""
    table = TABLE[TABLE.index % 7 > 0]
    known = {
        f"I{name}": (np.eye(size), sorted(TABLE[name].unique())) for name, size in (("gen", G), ("rep", R))
    }
    plain = lmm("y ~ env + (1 | gen) + (1 | env:gen) + (1 | env:rep)", table)
    expected = gxe(plain, "gen", "env").variance_shares().frame.set_index("component")
    for name, term in (("gen", "(1 | env:vm(gen, Igen)) + (1 | env:rep)"),
                       ("rep", "(1 | env:gen) + (1 | env:vm(rep, Irep))")):  # fmt: skip
        formula, own = f"y ~ env + (1 | gen) + {term}", {f"I{name}": known[f"I{name}"]}
        fit = lmm(formula, table, relationships=own)
        found = gxe(fit, "gen", "env").variance_shares().frame.set_index("component")
        found = found.rename({"env:vm(rep, Irep)": "env:rep"}).loc[expected.index]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        group = f"env:vm({name}, I{name})"
        oakey, same = (f.heritability(t)["oakey"] for f, t in ((fit, group), (plain, f"env:{name}")))
        assert oakey == pytest.approx(same, rel=1e-4)
        batch = fit_batch(
            table.assign(trial="T"), formula, by="trial", blups=True, relationships=own, progress=False
        )
        assert batch.fits["status"].tolist() == ["ok"]
