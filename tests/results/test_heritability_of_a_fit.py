"""Heritability by every definition, from dense matrices and from published figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.errors import MemoryForecastError, OptionError

REFERENCE = Path(__file__).parent / "reference"
FORMULA = "yield ~ rep + (1|gen) + (1|rep:block)"
# github.com/PaulSchmidtGit/Heritability, ASReml-R and lme4 on agridat's john.alpha, as printed there
PUBLISHED = {
    "cullis": 0.8091336, "oakey": 0.8091336, "piepho": 0.803017, "piepho_kr": 0.7966375,
    "delta_blup": 0.8091336, "delta_blue": 0.803017,
}  # fmt: skip


@pytest.fixture(scope="module")
def alpha():
    return lmm(FORMULA, datasets.load("john_alpha"))


@pytest.mark.parametrize(("definition", "printed"), PUBLISHED.items())
def test_john_alpha_as_published(alpha, definition, printed):
    assert alpha.heritability("gen", definition)[definition] == pytest.approx(printed, abs=3e-7)


def test_lettuce_as_published():
    """The vignette of R's heritable 0.1.0: downy mildew of lettuce at L2 (Hadasch et al. 2016)."""
    frame = pd.read_csv(REFERENCE / "lettuce_L2.csv")
    table = lmm("dmr ~ rep + (1|gen)", frame).heritability("gen")
    assert table["cullis"] == pytest.approx(0.829497, abs=1e-6)


def test_multi_environment_trials_as_published():
    """Means over environments and replications: agridat's besag.met 0.734 and omer.sorghum 0.20322.

    Besag & Higdon (1999), 64 hybrids in six counties, three replicates in incomplete blocks; every effect
    random, as CIMMYT's META-R does. Omer, Abdalla, Mohammed & Singh (2015), Commun. Biometry Crop Sci. 10,
    82-95, 18 sorghums in six environments, four complete blocks; their Table 3 has the components.
    """
    maize = lmm(
        "yield ~ (1|county) + (1|county:rep) + (1|county:rep:block) + (1|gen) + (1|gen:county)",
        datasets.load("besag_met"),
    )
    assert maize.heritability("gen", "standard")["standard"] == pytest.approx(0.734, abs=5e-4)
    sorghum = pd.read_csv(REFERENCE / "omer_sorghum.csv")
    fit = lmm("yield ~ env + (1|env:rep) + (1|gen) + (1|gen:env)", sorghum)
    printed = {"gen:env": 21340, "env:rep": 1152, "gen": 1169, "Residual": 24660}
    found = fit.variance_components.set_index("group")["estimate"]
    for group, value in printed.items():
        assert found[group] == pytest.approx(value, rel=5e-4), group
    table = fit.heritability("gen")
    for definition in set(table.to_frame()["definition"]) - {"plot"}:  # balanced: all but plot are one
        assert table[definition] == pytest.approx(0.20322, abs=1e-5), definition


class Dense:
    """yield ~ X b + sum_k Z_k u_k + e with variances `s`, the residual's last, by n x n matrices."""

    def __init__(self, X, Zs, n, relation=None):
        self.X, self.Zs, self.n, self.relation = X, Zs, n, relation
        self.parts = [Z @ Z.T for Z in Zs] + [np.eye(n)]
        if relation is not None:
            self.parts[0] = Zs[0] @ relation @ Zs[0].T

    @classmethod
    def of_fit(cls, fit, first="gen"):
        X = fit.design.X.toarray()
        terms = sorted(fit.design.random, key=lambda term: first not in (term.group, *term.group_variables))
        Zs = []
        for term in terms:
            Z = np.zeros((fit.nobs, len(term.levels)))
            Z[np.arange(fit.nobs), term.codes] = term.values[:, 0]
            Zs.append(Z)
        groups = [term.group for term in terms] + ["Residual"]
        table = fit.variance_components.set_index("group")["estimate"]
        model = cls(X, Zs, fit.nobs)
        return model, table.loc[groups].to_numpy()

    def projection(self, s):
        V = sum(value * part for value, part in zip(s, self.parts, strict=True))
        W = np.linalg.inv(V)
        return W - W @ self.X @ np.linalg.solve(self.X.T @ W @ self.X, self.X.T @ W)

    def errors(self, s):
        """Var(u_hat - u) of the first term."""
        K = np.eye(self.Zs[0].shape[1]) if self.relation is None else self.relation
        G = s[0] * K
        return G - G @ self.Zs[0].T @ self.projection(s) @ self.Zs[0] @ G, G

    def average_information(self, s, y):
        P = self.projection(s)
        moved = [part @ P @ y for part in self.parts]
        return 0.5 * np.array([[a @ P @ b for b in moved] for a in moved])

    def error_of(self, function, s, y):
        """Delta method with central differences."""
        slope = []
        for j in range(len(s)):
            h = 1e-5 * s[j]
            up, down = s.copy(), s.copy()
            up[j] += h
            down[j] -= h
            slope.append((function(up) - function(down)) / (2 * h))
        slope = np.array(slope)
        return float(np.sqrt(slope @ np.linalg.solve(self.average_information(s, y), slope)))


def difference(M):
    return np.diag(M)[:, None] + np.diag(M)[None, :] - 2 * M


def definitions(model, chosen=None, dimensions=1):
    """By name, functions of the variances; `dimensions` of the levels are of no account to the data."""
    L = model.Zs[0].shape[1]
    at = np.arange(L) if chosen is None else chosen
    pairs = np.triu_indices(len(at), 1)

    def cut(s):
        C, G = model.errors(s)
        return C[np.ix_(at, at)], G[np.ix_(at, at)]

    def cullis(s):
        C, _ = cut(s)
        return 1 - difference(C)[pairs].mean() / (2 * s[0])

    def oakey(s):
        C, G = cut(s)
        return np.linalg.eigvals(np.eye(len(at)) - np.linalg.solve(G, C)).real.sum() / (len(at) - dimensions)

    def delta(s):
        C, G = cut(s)
        return (1 - difference(C)[pairs] / difference(G)[pairs]).mean()

    return {"cullis": cullis, "oakey": oakey, "delta_blup": delta}


def check_all(fit, model, s, table, functions, y):
    own = table.to_frame().set_index("definition")
    for name, function in functions.items():
        assert own.loc[name, "estimate"] == pytest.approx(function(s), rel=1e-8), name
        assert own.loc[name, "se"] == pytest.approx(model.error_of(function, s, y), rel=1e-5), name


@pytest.fixture(scope="module")
def unbalanced():
    frame = datasets.load("john_alpha")
    return frame[np.arange(len(frame)) % 5 != 2].reset_index(drop=True)


def test_unbalanced_from_dense_matrices(unbalanced):
    fit = lmm(FORMULA, unbalanced)
    model, s = Dense.of_fit(fit)
    r = 1 / np.mean(1 / unbalanced.groupby("gen").size())
    functions = definitions(model) | {
        "standard": lambda s: s[0] / (s[0] + s[2] / r), "plot": lambda s: s[0] / (s[0] + s[2]),
    }  # fmt: skip
    check_all(fit, model, s, fit.heritability("gen"), functions, fit.response)


def test_the_same_through_the_equations_of_structures(unbalanced):
    """Equal residual variances by replicate: another engine, the same figures."""
    fit = lmm(FORMULA, unbalanced)
    table = fit.variance_components.set_index("group")["estimate"]
    held = {"gen": table["gen"], "rep:block": table["rep:block"], "Residual": table["Residual"]}
    other = lmm(FORMULA, unbalanced, fixed_parameters=held)
    assert other.structured
    plain, structured = fit.heritability("gen").to_frame(), other.heritability("gen").to_frame()
    same = ~plain["definition"].isin(["piepho", "piepho_kr", "delta_blue"])  # their second fit estimates
    assert np.allclose(plain["estimate"][same], structured["estimate"][same], rtol=1e-9)
    assert structured["se"].isna().all()  # nothing is left to vary
    free = lmm(FORMULA, unbalanced, residual="units | rep").heritability("gen").to_frame()
    assert (free.set_index("definition").loc[["standard", "cullis"], "se"] > 0).all()


def test_no_levels_are_refused(alpha):
    for definitions in (None, "cullis"):
        with pytest.raises(OptionError, match="levels: at least one level of gen"):
            alpha.heritability("gen", definitions, levels=[])


def test_levels_of_interest(alpha):
    chosen = ["G03", "G11", "G20", "G24"]
    table = alpha.heritability("gen", levels=chosen)
    model, s = Dense.of_fit(alpha)
    at = np.array([list(alpha.design.random[0].levels).index(g) for g in chosen])
    functions = definitions(model, at, dimensions=0)  # their own mean is not the mean beside the intercept
    check_all(alpha, model, s, table, functions, alpha.response)
    assert list(table.labels) == chosen


def test_checks_are_not_averaged_in():
    """Augmented blocks: four checks fixed, in every block; 40 new lines once (Federer 1956)."""
    r = np.random.default_rng(7)
    rows = []
    for b in range(8):
        block = r.normal(0, 0.5)
        for c in range(4):
            rows.append((f"b{b}", f"check{c}", f"check{c}", 0.0, c + block + r.normal(0, 0.4)))
        for j in range(5):
            y = r.normal(0, 1) + block + r.normal(0, 0.4)
            rows.append((f"b{b}", f"new{5 * b + j:02d}", "new", 1.0, y))
    frame = pd.DataFrame(rows, columns=["block", "gen", "group", "new", "y"])
    fit = lmm("y ~ group + (0 + new|gen) + (1|block)", frame)
    table = fit.heritability("gen", ["cullis", "oakey", "delta_blup", "standard"])
    lines = [f"new{j:02d}" for j in range(40)]
    assert list(table.labels) == lines
    Z = np.array([[float(g == line) for line in lines] for g in frame["gen"]])
    B = pd.get_dummies(frame["block"]).to_numpy(float)
    s = np.array([*fit.variance_components.set_index("group").loc[["gen", "block", "Residual"], "estimate"]])
    model = Dense(fit.design.X.toarray(), [Z, B], len(frame))
    check_all(fit, model, s, table, definitions(model), fit.response)
    assert table["standard"] == pytest.approx(s[0] / (s[0] + s[2]), rel=1e-6)  # every line once
    every = fit.heritability("gen", "cullis", levels=[*lines, *(f"check{c}" for c in range(4))])
    assert every["cullis"] < table["cullis"] - 0.02  # what averaging the checks in would have said


def augmented(seed, environments=1, blocks=8, lines=5, checks=4, lost=()):
    """Blocks with every check and some of the new lines, which are the same in each environment."""
    r = np.random.default_rng(seed)
    new, rows = r.normal(0, 1, blocks * lines), []
    for e in range(environments):
        for b in range(blocks):
            block = r.normal(0, 0.5)
            for c in range(checks):
                rows.append((f"e{e}", f"b{b}", f"check{c}", f"check{c}", 0, c + block + r.normal(0, 0.5)))
            for j in range(lines * b, lines * b + lines):
                if (e, j) not in lost:
                    y = new[j] + r.normal(0, 0.4) + block + r.normal(0, 0.5)
                    rows.append((f"e{e}", f"b{b}", f"new{j:02d}", "new", 1, y))
    return pd.DataFrame(rows, columns=["env", "block", "gen", "group", "new", "y"])


def blue_definitions(frame, X, Zs, variances, genetic):
    """Of the new lines from dense GLS: their columns beside the fixed ones, V of the other terms."""
    lines = sorted(frame.loc[frame["new"] == 1, "gen"].unique())
    own = np.array([[float(g == line) for line in lines] for g in frame["gen"]])
    whole = np.hstack([X, own])
    V = variances[-1] * np.eye(len(frame))
    for Z, s in zip(Zs, variances, strict=False):
        V += s * Z @ Z.T
    cov = np.linalg.pinv(whole.T @ np.linalg.solve(V, whole), hermitian=True)[X.shape[1] :, X.shape[1] :]
    v = difference(cov)[np.triu_indices(len(lines), 1)]
    return genetic / (genetic + v.mean() / 2), harmonic_of_levels(2 * genetic, difference(cov))


def harmonic_of_levels(genetic, errors):
    """Over the levels, and over the pairs of each, of the heritability of a difference."""
    pairs = genetic / (genetic + errors)
    off = ~np.eye(len(errors), dtype=bool)
    return 1 / np.mean([np.mean(1 / pairs[i, off[i]]) for i in range(len(errors))])


def indicators(column):
    return pd.get_dummies(column).to_numpy(float)


@pytest.mark.parametrize("numbers", [False, True])
def test_blues_of_new_lines_beside_fixed_checks(numbers):
    """The lines are fixed beside the checks: their differences are estimable, their means beside them not."""
    frame = augmented(seed=11)
    if numbers:  # labels as numbers group, and are no covariate where they are fixed
        codes = {name: 100 + i for i, name in enumerate(sorted(frame["gen"].unique()))}
        frame["gen"] = frame["gen"].map(codes)
    fit = lmm("y ~ group + (0 + new|gen) + (1|block)", frame)
    table = fit.heritability("gen")
    fixed = lmm("y ~ factor(gen) + (1|block)", frame)  # the same space: checks are levels of gen too
    s = fixed.variance_components.set_index("group")["estimate"]
    genetic = fit.variance_components.set_index("group").loc["gen", "estimate"]
    B, X = indicators(frame["block"]), fit.design.X.toarray()
    piepho, delta = blue_definitions(frame, X, [B], [s["block"], s["Residual"]], genetic)
    assert table["piepho"] == pytest.approx(piepho, rel=1e-7)
    assert table["delta_blue"] == pytest.approx(delta, rel=1e-7)
    means = fixed.emmeans("factor(gen)" if "factor(gen)" in fixed.design.variables else "gen")
    at = [i for i, g in enumerate(means.labels.iloc[:, 0]) if str(g) in set(map(str, table.labels))]
    adjusted = difference(means.functions.cov[np.ix_(at, at)])[np.triu_indices(40, 1)].mean()
    assert table["piepho_kr"] == pytest.approx(genetic / (genetic + adjusted / 2), rel=1e-6)
    assert table["piepho_kr"] < table["piepho"]
    some = [table.labels[i] for i in (3, 8, 30)]
    few = fit.heritability("gen", ["piepho", "delta_blue"], levels=some)
    pairs = table.pairs.set_index(["level1", "level2"])["delta_blue"]
    assert few.pairs.set_index(["level1", "level2"])["delta_blue"].to_numpy() == pytest.approx(
        [pairs[some[0], some[1]], pairs[some[0], some[2]], pairs[some[1], some[2]]], rel=1e-9
    )


def test_blues_of_new_lines_over_environments():
    """Interactions with environments stay random, and lines that were lost somewhere cost what they cost."""
    frame = augmented(seed=5, environments=3, blocks=5, lost={(0, 0), (1, 7), (2, 7), (2, 12)})
    fit = lmm("y ~ group + env + (0 + new|gen) + (0 + new|gen:env) + (1|env:block)", frame)
    table = fit.heritability("gen", ["cullis", "piepho", "delta_blue"])
    fixed = lmm("y ~ gen + env + (0 + new|gen:env) + (1|env:block)", frame)
    s = fixed.variance_components.set_index("group")["estimate"]
    genetic = fit.variance_components.set_index("group").loc["gen", "estimate"]
    cells = frame["new"].to_numpy(float)[:, None] * indicators(frame["gen"] + frame["env"])
    Zs = [cells, indicators(frame["env"] + frame["block"])]
    variances = [s["gen:env"], s["env:block"], s["Residual"]]
    piepho, delta = blue_definitions(frame, fit.design.X.toarray(), Zs, variances, genetic)
    assert table["piepho"] == pytest.approx(piepho, rel=1e-6)
    assert table["delta_blue"] == pytest.approx(delta, rel=1e-6)
    assert abs(table["piepho"] - table["cullis"]) < 0.05


def test_blues_of_new_lines_that_there_are_not():
    frame = augmented(seed=3, blocks=4)
    both = lmm("y ~ gen + (1|block) + (0 + new|gen)", frame).heritability("gen", "piepho").to_frame()
    assert both["status"].tolist() == ["gen is a fixed effect already"]
    frame["half"] = np.where(frame["block"] < "b2", "first", "second")  # each with a mean of its own lines
    apart = lmm("y ~ half*group + (0 + new|gen) + (1|block)", frame)
    unknown = "the BLUEs are not estimable beside the other fixed effects"
    assert apart.heritability("gen", "piepho").to_frame()["status"].tolist() == [unknown]
    first = sorted(frame.loc[(frame["half"] == "first") & (frame["new"] == 1), "gen"])
    assert 0 < apart.heritability("gen", "piepho", levels=first)["piepho"] < 1  # within one they are
    alone = frame[frame["new"] == 1].reset_index(
        drop=True
    )  # no checks: blocks and lines cannot be told apart
    lost = lmm("y ~ block + (0 + new|gen)", pd.concat([alone, alone.assign(y=alone["y"] + 0.1)]))
    assert lost.heritability("gen", "piepho").to_frame()["status"].tolist() == [unknown]
    several = lmm("y ~ group + (1 + new|gen)", augmented(seed=3, environments=4))
    status = several.heritability("gen", "piepho", coefficient="new").to_frame()["status"].iloc[0]
    assert status.startswith("BLUEs need effects of the levels of one column")


def test_new_lines_over_environments():
    """Interactions of the new lines alone count, over the environments and plots that these lines have."""
    r = np.random.default_rng(17)
    rows, lines, between = [], r.normal(0, 1, 30), r.normal(0, 0.7, (3, 30))
    for e in range(3):
        for b in range(6):
            block = r.normal(0, 0.4)
            rows += [
                (f"e{e}", f"b{b}", f"check{c}", f"check{c}", 0, c + block + r.normal(0, 0.5)) for c in (0, 1)
            ]
            for j in range(5 * b, 5 * b + 5):
                if (e, j) not in {(0, 0), (1, 7), (2, 7)}:
                    y = lines[j] + between[e, j] + block + r.normal(0, 0.5)
                    rows.append((f"e{e}", f"b{b}", f"new{j:02d}", "new", 1, y))
    frame = pd.DataFrame(rows, columns=["env", "block", "gen", "group", "new", "y"])
    fit = lmm("y ~ group + env + (0 + new|gen) + (0 + new|gen:env) + (1|env:block)", frame)
    s = fit.variance_components.set_index("group")["estimate"]
    environments = 30 / (28 / 3 + 1 / 2 + 1)  # one line has two of them, one has one
    table = fit.heritability("gen", ["standard", "plot", "cullis"])
    noise = s["gen:env"] + s["Residual"]
    assert table["standard"] == pytest.approx(s["gen"] / (s["gen"] + noise / environments), rel=1e-9)
    assert table["plot"] == pytest.approx(s["gen"] / (s["gen"] + noise), rel=1e-9)
    every = lmm("y ~ group + env + (0 + new|gen) + (1|gen:env) + (1|env:block)", frame)
    assert np.isfinite(every.heritability("gen", "standard")["standard"])
    frame["dose"] = 1.0 + (np.arange(len(frame)) % 3)
    slopes = lmm("y ~ group + env + (0 + dose|gen) + (1|env:block)", frame)
    status = slopes.heritability("gen", "standard").to_frame()["status"].iloc[0]
    assert status.startswith("the variance between the levels differs by a covariate")


def test_related_levels_from_dense_matrices(unbalanced):
    levels = sorted(unbalanced["gen"].unique())
    r = np.random.default_rng(3)
    M = r.normal(size=(len(levels), 40))
    K = M @ M.T / 40 + 0.1 * np.eye(len(levels))
    fit = lmm("yield ~ rep + (1|vm(gen, K)) + (1|rep:block)", unbalanced, relationships={"K": (K, levels)})
    model, s = Dense.of_fit(fit)
    model = Dense(model.X, model.Zs, fit.nobs, K)
    table = fit.heritability("gen")
    functions = definitions(model)
    del functions["cullis"]
    check_all(fit, model, s, table, functions, fit.response)
    status = table.to_frame().set_index("definition")["status"]
    assert status["cullis"].startswith("the levels are related") and np.isnan(table["cullis"])
    second = lmm("yield ~ rep + gen + (1|rep:block)", unbalanced).emmeans("gen", ddf="asymptotic")
    genetic, errors = s[0] * difference(K), difference(second.functions.cov)
    pairs = np.triu_indices(len(levels), 1)
    delta = genetic[pairs] / (genetic + errors)[pairs]
    assert table["delta_blue"] == pytest.approx(1 / np.mean(1 / delta), rel=1e-8)
    assert np.allclose(table.pairs["delta_blue"], delta, rtol=1e-8)


def test_clones_have_no_heritability_of_their_difference(unbalanced):
    """The deltas are means over the pairs that can differ, and a note names those that cannot."""
    levels = sorted(unbalanced["gen"].unique())
    M = np.random.default_rng(3).normal(size=(len(levels), 40))
    M[5] = M[2]
    M[11] = M[2]
    K = M @ M.T / 40
    fit = lmm("yield ~ rep + (1|vm(gen, K)) + (1|rep:block)", unbalanced, relationships={"K": (K, levels)})
    model, s = Dense.of_fit(fit)
    model = Dense(model.X, model.Zs, fit.nobs, K)
    pairs = np.triu_indices(len(levels), 1)
    kept = difference(K)[pairs] > 1e-8
    assert kept.sum() == 276 - 3

    def delta(s):
        C, G = model.errors(s)
        return (1 - difference(C)[pairs][kept] / difference(G)[pairs][kept]).mean()

    table = fit.heritability("gen")
    check_all(fit, model, s, table, {"delta_blup": delta}, fit.response)
    second = lmm("yield ~ rep + gen + (1|rep:block)", unbalanced).emmeans("gen", ddf="asymptotic")
    genetic, errors = s[0] * difference(K)[pairs][kept], difference(second.functions.cov)[pairs][kept]
    assert table["delta_blue"] == pytest.approx(1 / np.mean(1 + errors / genetic), rel=1e-7)
    assert "without 3 pairs that cannot differ by their relation, such as 'G03' and 'G06'" in str(table)
    assert table.pairs[["delta_blup", "delta_blue"]].isna().all(axis=1).sum() == 3
    assert table.by_level.notna().all(axis=None)
    of_one = fit.heritability("gen", levels=["G03", "G06"])
    assert np.isnan(of_one["delta_blup"]) and "by their relation no two levels differ" in str(of_one)


def test_two_terms_over_the_same_levels_are_told_apart(unbalanced):
    """BLUEs know neither of them, and each heritability is of its own effects, which a note says."""
    levels = sorted(unbalanced["gen"].unique())
    M = np.random.default_rng(3).normal(size=(len(levels), 40))
    K = M @ M.T / 40 + 0.1 * np.eye(len(levels))
    both = "yield ~ rep + (1|gen) + (1|vm(gen, K)) + (1|rep:block)"
    fit = lmm(both, unbalanced, relationships={"K": (K, levels)})
    table = fit.heritability("gen")
    assert "those of 'vm(gen, K)' are left out" in str(table)
    assert "those of 'gen' are left out" in str(fit.heritability("vm(gen, K)"))
    second = lmm("yield ~ rep + gen + (1|rep:block)", unbalanced)
    variance = fit.variance_components.set_index("group")["estimate"]["gen"]
    pairs = np.triu_indices(len(levels), 1)
    for definition, ddf in (("piepho", "asymptotic"), ("piepho_kr", "kenward-roger")):
        error = difference(second.emmeans("gen", ddf=ddf).functions.cov)[pairs].mean()
        assert table[definition] == pytest.approx(variance / (variance + error / 2.0), rel=1e-6)


def test_levels_and_pairs_hang_together(alpha):
    table = alpha.heritability("gen")
    assert table.by_level["delta_blup"].mean() == pytest.approx(table["delta_blup"], rel=1e-12)
    assert 1 / (1 / table.by_level["delta_blue"]).mean() == pytest.approx(table["delta_blue"], rel=1e-12)
    assert table.pairs["delta_blup"].mean() == pytest.approx(table["delta_blup"], rel=1e-12)
    assert len(table.pairs) == 24 * 23 / 2


def test_balanced_complete_blocks_make_all_the_same():
    """Without incomplete blocks and missing plots each is sigma2_g / (sigma2_g + sigma2_e / r)."""
    r = np.random.default_rng(1)
    g, b = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    y = r.normal(0, 1, 12)[g] + r.normal(0, 1, 3)[b] + r.normal(0, 0.8, 36)
    frame = pd.DataFrame({"gen": [f"g{i:02d}" for i in g], "rep": [f"r{i}" for i in b], "y": y})
    found = lmm("y ~ rep + (1|gen)", frame).heritability("gen").to_frame().set_index("definition")["estimate"]
    assert np.allclose(found.drop("plot"), found["standard"], rtol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_without_variance_there_is_no_heritability():
    frame = pd.DataFrame({"g": np.repeat(list("abcd"), 4), "y": np.tile([1.0, 2.0, 3.0, 4.5], 4)})
    table = lmm("y ~ 1 + (1|g)", frame).heritability("g").to_frame()
    assert (table["estimate"] == 0.0).all() and table["se"].isna().all()


def test_matrices_that_do_not_fit_are_forecast(alpha, monkeypatch):
    monkeypatch.setattr("fastlmm_core.results.genotypes.heritability.MATRICES", 1e12)
    with pytest.raises(MemoryForecastError, match=r"heritability of 24 levels .*\('standard', 'plot'\)"):
        alpha.heritability("gen", "cullis")
    assert alpha.heritability("gen", ["standard", "plot"])["standard"] == pytest.approx(0.84007, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"term": "genotype"}, "'genotype' is not a grouping factor"),
        ({"term": "gen", "definitions": "culis"}, "'culis' is not known"),
        ({"term": "gen", "coefficient": ""}, "coefficient is empty"),
        ({"term": "gen", "levels": ["G99"]}, "'G99' is no level of gen"),
        ({"term": "gen", "coefficient": "x"}, "no coefficient 'x'"),
    ],
)
def test_mistakes_are_named(alpha, options, words):
    with pytest.raises(OptionError, match=words):
        alpha.heritability(**options)


@pytest.mark.parametrize("group", ["number", "factor(number)"])
def test_levels_that_are_numbers_are_labels_in_the_second_fit_too(unbalanced, group):
    frame = unbalanced.assign(number=unbalanced["gen"].str[1:].astype(int))
    names = lmm(FORMULA, unbalanced).heritability("gen").to_frame()["estimate"]
    fit = lmm(FORMULA.replace("gen", group), frame)
    assert np.allclose(fit.heritability(group).to_frame()["estimate"], names, rtol=1e-8)
    summary, named = fit.trial_summary(group), lmm(FORMULA, unbalanced).trial_summary("gen")
    assert summary["F_genotypes"] == pytest.approx(named["F_genotypes"], rel=1e-8)
    assert summary["sed_mean"] == pytest.approx(named["sed_mean"], rel=1e-8)


def test_a_linear_model_has_no_levels():
    with pytest.raises(OptionError, match="no random terms"):
        lmm("yield ~ gen", datasets.load("john_alpha")).heritability("gen")


def test_a_coefficient_of_several():
    """Each environment's own variance of (0 + env||gen), as a fit of that environment alone has it."""
    r = np.random.default_rng(5)
    g, e, b = (a.ravel() for a in np.meshgrid(range(15), range(2), range(3), indexing="ij"))
    y = r.normal(0, 1, (15, 2))[g, e] * (1 + e) + r.normal(0, 1, (2, 3))[e, b] + r.normal(0, 0.7, g.size)
    frame = pd.DataFrame({"gen": g, "env": e, "rep": b, "y": y}).astype({"gen": str, "env": str, "rep": str})
    formula = "y ~ 0 + env:rep + diag(0 + env | gen)"
    fit = lmm(formula, frame, residual="units | env")
    for env in ("0", "1"):
        alone = lmm("y ~ rep + (1|gen)", frame[frame["env"] == env]).heritability("gen")
        both = fit.heritability("gen", coefficient=f"env{env}")
        own, other = both.to_frame(), alone.to_frame()
        np.testing.assert_allclose(own["estimate"], other["estimate"], rtol=1e-5)
        np.testing.assert_allclose(own["se"], other["se"], rtol=1e-4)
