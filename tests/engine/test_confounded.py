"""A random term inside the fixed part is named at the fit, and refused where a figure would depend on it."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.model_fit import solve_model
from fastlmm_core.engine.search.starting_values import starting_values
from fastlmm_core.errors import ConfoundedWarning, DesignError, InferenceError


def test_confounded_term_is_named():
    data = fl.datasets.load("cochran_bib")
    with pytest.warns(ConfoundedWarning, match="'loc' lies within the fixed part"):
        fit = fl.lmm("yield ~ gen + loc + (1|loc)", data)
    assert [w.flag for w in fit.warnings] == ["confounded"]
    with pytest.raises(InferenceError, match="loc"):
        fit.emmeans("gen").to_frame()


@pytest.mark.parametrize("options", [{}, {"fixed_parameters": {"Residual": 3.0}}], ids=["plain", "held"])
def test_beside_a_confounded_term_what_it_does_not_touch_is_as_without_it(options):
    """The other variances are told by the same contrasts of the rows; what holds the term has no error."""
    data = fl.datasets.load("cochran_bib")
    alone = fl.lmm("yield ~ gen + loc", data, **options).fixed_effects(ddf="asymptotic").set_index("term")
    with pytest.warns(ConfoundedWarning, match="'loc' lies within the fixed part"):
        fit = fl.lmm("yield ~ gen + loc + (1|loc)", data, **options)
    frame = fit.fixed_effects(ddf="asymptotic").set_index("term")
    of_gen = [term for term in frame.index if term.startswith("gen")]
    assert frame.drop(index=of_gen)["se"].isna().all() and frame.loc[of_gen, "se"].gt(0.0).all()
    figures = ["estimate", "se"]
    np.testing.assert_allclose(frame.loc[of_gen, figures], alone.loc[of_gen, figures], rtol=1e-6)
    assert fit.emmeans("gen", ddf="asymptotic").to_frame()["se"].isna().all()
    assert "'loc' cannot be estimated" in str(fit.summary())
    with pytest.raises(InferenceError, match="loc"):
        fit.summary(ddf="satterthwaite")


@pytest.mark.parametrize(
    ("formula", "residual", "named"),
    [
        ("y ~ factor(x) + ps(x, nseg=4) + (1|g)", "units", "ps(x, nseg=4)"),
        ("y ~ factor(x) + spl(x)", "units", "spl(x)"),
        ("y ~ g + (1|g) + x + ps(x, nseg=4)", "units", "g"),
        ("y ~ f*g + diag(0 + f | g)", "units | f", "g"),
    ],
)
def test_confounded_structures_are_named(formula, residual, named):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": np.arange(96) % 12.0, "g": [f"g{i // 12}" for i in range(96)]})
    data["f"] = np.array(list("ab"))[rng.integers(0, 2, 96)]
    data["y"] = rng.normal(size=96)
    with pytest.warns(ConfoundedWarning, match=re.escape(f"'{named}' lies within the fixed part")):
        fit = fl.lmm(formula, data, residual=residual)
    for ddf in ("kenward-roger", "satterthwaite"):
        with pytest.raises(InferenceError, match=re.escape(named)):
            fit.fixed_effects(ddf=ddf)
    assert np.isfinite(fit.fixed_effects(ddf="residual")["estimate"]).any()


def test_one_variance_of_all_coefficients_is_told_by_those_that_are_not_fixed():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": [f"g{i // 12}" for i in range(96)], "f": list("abc") * 32})
    data["a"] = (data["f"] == "a") * 1.0
    data["y"] = rng.normal(size=96) + rng.normal(size=(8, 3))[np.arange(96) // 12, np.arange(96) % 3]
    fit = fl.lmm("y ~ g:a + homdiag(0 + f | g)", data)
    assert not [w for w in fit.warnings if w.flag == "confounded"]
    assert np.isfinite(fit.fixed_effects(ddf="satterthwaite")["df"]).any()


def test_no_warning_where_a_variance_is_held():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": [f"g{i // 12}" for i in range(96)], "y": rng.normal(size=96)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("y ~ g + (1|g)", data, fixed_parameters={"g": 1.0, "Residual": 1.0})


def test_no_warning_where_the_data_inform_the_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("yield ~ gen + (1|loc)", fl.datasets.load("cochran_bib"))


def environments(extra):
    """12 genotypes in three environments, two plots each, and `extra` plots of one genotype in a fourth."""
    rng = np.random.default_rng(7)
    g = rng.normal(size=(12, 3))
    cells = [(f"E{j}", f"G{i}", 10 + j + g[i, j]) for i in range(12) for j in range(3) for _ in range(2)]
    data = pd.DataFrame(cells, columns=["env", "gen", "y"])
    more = pd.DataFrame({"env": "F", "gen": "G0", "y": np.full(extra, 9.0)})
    data = pd.concat([data, more], ignore_index=True)
    return data.assign(y=data["y"] + rng.normal(size=len(data)))


def component_errors(fit):
    """Standard errors by the names of the coefficients."""
    return fit.variance_components.fillna({"var1": "", "var2": ""}).set_index(["var1", "var2"])["se"]


@pytest.mark.parametrize("term", ["fa(0 + env | gen, k=1)", "hetar1(0 + env | gen)", "cs(0 + env | gen)"])
def test_rounding_of_an_environment_of_one_plot_begins_where_zero_does(term):
    data = environments(1)
    equations = fl.prepare(f"y ~ env + {term}", data).equations
    e = np.where(data["env"] == "F", 0.0, np.random.default_rng(3).normal(size=len(data)))
    starts = [starting_values(equations.for_response(own), own)
              for own in (e, np.where(data["env"] == "F", 2e-15, e))]  # fmt: skip
    np.testing.assert_allclose(*starts, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("information", ["expected", "average"])
def test_a_specific_variance_of_zero_is_known_however_near_the_search_has_come(information):
    model = fl.prepare("y ~ env + fa(0 + env | gen, k=1)", environments(0))
    theta, free = model.fit().theta, np.ones(7, bool)
    place = 5  # three loadings, three specific deviations, the residual's
    assert abs(theta[place]) < 1e-6
    found = []
    for near in (0.0, 1e-9, 1e-7, 1e-5):
        beside = np.where(np.arange(7) == place, near, theta)
        solved = solve_model(
            model.design, model.equations, model.factor, model.design.y, beside, free, reml=True
        )
        found.append(StructureInference(solved, ("gen",)).covariance("kenward-roger", information))
    for own in found:
        np.testing.assert_allclose(own, found[0], rtol=1e-4, atol=1e-8)
        assert not own[place].any() and own[0, 0] > 0.0


STRUCTURES = [f"{name} | gen{option})" for name, option in (
    ("fa(0 + env", ", k=1"), ("rr(0 + env", ", d=1"), ("cs(0 + env", ""), ("hetar1(0 + env", ""),
)]  # fmt: skip


@pytest.mark.parametrize("term", STRUCTURES)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
def test_an_environment_of_one_genotype_leaves_the_others_alone(term):
    """One plot in it says nothing at all: everything else is as without it; its own mean has no error."""
    without = fl.lmm(f"y ~ env + {term}", environments(0))
    with pytest.warns(ConfoundedWarning, match="the effects of 'envF'"):
        fit = fl.lmm(f"y ~ env + {term}", environments(1))
    assert fit.criterion == pytest.approx(without.criterion, abs=1e-6)
    for information in ("observed", "expected"):
        means, alone = (f.emmeans("env", information=information).to_frame().set_index("env")
                        for f in (fit, without))  # fmt: skip
        figures = ["estimate", "se", "df"]
        np.testing.assert_allclose(means.loc[["E0", "E1", "E2"], figures], alone[figures], rtol=1e-4)
        assert np.isnan(means.loc["F", "se"])
    components, alone = map(component_errors, (fit, without))
    np.testing.assert_allclose(components.loc[alone.index], alone, rtol=1e-3)
    with_f = ["envF" in pair for pair in components.index]
    assert components[with_f].isna().all()
    assert "envF" in str(fit.summary()) and np.isnan(fit.anova()["F"][0])
    words = [str(w) for w in fit.warnings if w.flag == "singular"]
    assert not any("the variance of envE0 is zero" in own for own in words)  # in units of the others


@pytest.mark.parametrize("term", STRUCTURES)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_several_plots_of_one_genotype_tell_of_the_residual(term):
    """Errors by dense algebra at the fitted covariances: the mean of the others' plots is not touched."""
    data = environments(6)
    fit = fl.lmm(f"y ~ env + {term}", data)
    means = fit.emmeans("env", ddf="asymptotic").to_frame().set_index("env")
    names = [f"env{e}" for e in sorted(set(data["env"]))]
    table = fit.variance_components
    own = table[table["group"] == "gen"]
    T = pd.DataFrame(0.0, index=names, columns=names)
    for _, row in own.iterrows():
        other = row["var1"] if pd.isna(row["var2"]) else row["var2"]
        T.loc[row["var1"], other] = T.loc[other, row["var1"]] = row["estimate"]
    Z = np.array([[(e == n[3:]) for n in names] for e in data["env"]], float)
    same = data["gen"].to_numpy()[:, None] == data["gen"].to_numpy()
    V = (Z @ T.to_numpy() @ Z.T) * same + fit.sigma**2 * np.eye(len(data))
    Phi = np.linalg.inv(Z.T @ np.linalg.solve(V, Z))
    np.testing.assert_allclose(means.loc[["E0", "E1", "E2"], "se"], np.sqrt(np.diag(Phi))[:3], rtol=1e-7)
    assert np.isnan(means.loc["F", "se"])


def test_effects_of_levels_within_the_fixed_part_beside_slopes():
    """(1 | g) lies within g, its slopes do not: differences of g have no error, the slope of x has."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": np.arange(96) % 12.0, "g": [f"g{i // 12}" for i in range(96)]})
    data["f"] = np.array(list("ab"))[rng.integers(0, 2, 96)]
    data["y"] = rng.normal(size=96)
    with pytest.warns(ConfoundedWarning, match=r"the effects of '\(Intercept\)' in 'diag\(1 \+ x \| g\)'"):
        fit = fl.lmm("y ~ 0 + g + x + diag(1 + x | g)", data, residual="units | f")
    table = fit.fixed_effects().set_index("term")
    assert table["se"].drop("x").isna().all() and table.loc["x", "se"] > 0.0


def fields(extra=()):
    """Two fields of 5 x 6 plots, and plots (row, column, response) of a third environment."""
    rng = np.random.default_rng(7)
    cells = [(f"E{e}", r, c) for e in range(2) for r in range(5) for c in range(6)]
    data = pd.DataFrame(cells, columns=["env", "row", "col"])
    data["y"] = 10 + rng.normal(size=len(data)) + rng.normal(size=10)[5 * (data["env"] == "E1") + data["row"]]
    more = pd.DataFrame([("F", *plot) for plot in extra], columns=data.columns)
    return pd.concat([data, more], ignore_index=True)


@pytest.mark.parametrize("residual", ["units | env", "ar1(row):ar1(col) | env"])
def test_a_plot_alone_tells_nothing_of_its_residual(residual):
    without = fl.lmm("y ~ env + (1 | env:row)", fields(), residual=residual)
    with pytest.warns(ConfoundedWarning, match="explains the rows of 'F' by themselves"):
        fit = fl.lmm("y ~ env + (1 | env:row)", fields([(0, 0, 12.0)]), residual=residual)
    assert fit.converged and fit.criterion == pytest.approx(without.criterion, abs=1e-6)
    for information in ("observed", "expected"):
        means, alone = (f.emmeans("env", information=information).to_frame().set_index("env")
                        for f in (fit, without))  # fmt: skip
        figures = ["estimate", "se", "df"]
        np.testing.assert_allclose(means.loc[["E0", "E1"], figures], alone[figures], rtol=1e-4)
        assert np.isnan(means.loc["F", "se"])
    components = fit.variance_components.set_index("var1")["se"]
    assert np.isnan(components["F"]) and components["E0"] > 0.0
    assert fit.fixed_effects().set_index("term").loc["envF", "estimate"] == pytest.approx(
        12.0 - fit.fixed_effects()["estimate"][0], rel=1e-6
    )


@pytest.mark.parametrize("residual", ["units | env", "ar1(row):ar1(col) | env"])
def test_a_constant_environment_is_named(residual):
    constant = fields([(0, c, 9.0) for c in range(6)])
    with pytest.raises(DesignError, match="the response of 'F' is explained without an error"):
        fl.lmm("y ~ env + (1 | env:row)", constant, residual=residual)


def test_fewer_contrasts_than_parameters_are_told():
    two = fields([(0, 0, 9.0), (0, 1, 9.5)])
    with pytest.warns(ConfoundedWarning, match="the 2 rows of 'F' have 1 contrast beside the fixed part"):
        fl.lmm("y ~ env", two, residual="ar1(row):ar1(col) | env")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfoundedWarning)
        fl.lmm("y ~ env", two, residual="units | env")


@pytest.mark.parametrize("term", ["us(0 + env | gen)", "diag(0 + env | gen)"])
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
def test_the_same_without_a_structure_of_its_own(term):
    """Plain terms: their own means are those of a fit without the environment."""
    without = fl.lmm(f"y ~ env + {term}", environments(0))
    with pytest.warns(ConfoundedWarning, match="the effects of 'envF'"):
        fit = fl.lmm(f"y ~ env + {term}", environments(1))
    assert fit.criterion == pytest.approx(without.criterion, abs=1e-6)
    for options in ({"information": "observed"}, {"information": "expected"}, {"ddf": "satterthwaite"}):
        means, alone = (f.emmeans("env", **options).to_frame().set_index("env") for f in (fit, without))
        figures = ["estimate", "se", "df"]
        np.testing.assert_allclose(means.loc[["E0", "E1", "E2"], figures], alone[figures], rtol=1e-6)
        assert np.isnan(means.loc["F", "se"])
    components, alone = map(component_errors, (fit, without))
    np.testing.assert_allclose(components.loc[alone.index], alone, rtol=1e-5)
    assert components[["envF" in pair for pair in components.index]].isna().all()
    total = fit.vpredict("V1 + V2")  # of environments that are told
    assert np.isfinite(total.se)
    assert "envF" in str(fit.summary()) and np.isnan(fit.anova()["F"][0])


def test_a_single_check_beside_lines():
    """Groups of genotypes with variances of their own, one of which has one member."""
    rng = np.random.default_rng(3)
    gen = [f"n{i:02d}" for i in range(20)] * 2 + ["check"] * 6
    data = pd.DataFrame({"gen": gen, "group": ["check" if g == "check" else "line" for g in gen]})
    effect = dict(zip(sorted(set(gen)), rng.normal(size=21), strict=True))
    data["y"] = data["gen"].map(effect) + rng.normal(size=len(data))
    with pytest.warns(ConfoundedWarning, match="the effects of 'groupcheck'"):
        fit = fl.lmm("y ~ group + diag(0 + group | gen)", data)
    lines = fl.lmm("y ~ 1 + (1 | gen)", data[data["group"] == "line"], fixed_parameters={
        "Residual": float(fit.variance_components["estimate"].iloc[-1]),
    })  # fmt: skip
    means = fit.emmeans("group", ddf="asymptotic").to_frame().set_index("group")
    assert np.isnan(means.loc["check", "se"])
    own = lines.emmeans("~ 1", ddf="asymptotic").to_frame().iloc[0]
    np.testing.assert_allclose(means.loc["line", ["estimate", "se"]].astype(float),
                               [own["estimate"], own["se"]], rtol=1e-3)  # fmt: skip


@pytest.mark.parametrize("formula", ["y ~ env + gen", "y ~ gen + (1 | env)", "y ~ env + (1 | gen)"])
@pytest.mark.parametrize("residual", ["units | env", "ar1(row):ar1(col) | env"])
def test_stability_variances_of_one_plot_a_cell_are_told(formula, residual):
    """Shukla's model: every environment has as many rows as fixed genotypes, and the others tell of these."""
    rng = np.random.default_rng(8)
    cells = [(f"E{e}", f"G{g:02d}", g // 4, g % 4) for e in range(5) for g in range(16)]
    data = pd.DataFrame(cells, columns=["env", "gen", "row", "col"])
    effect = rng.normal(size=16)[data["gen"].str[1:].astype(int)]
    data["y"] = effect + rng.normal(size=len(data)) * (3.0 + data["env"].str[1:].astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfoundedWarning)
        fit = fl.lmm(formula, data, residual=residual)
    components = fit.variance_components
    assert components.loc[components["group"] == "Residual|env", "se"].notna().all()


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
def test_specific_variances_of_zero_beside_it():
    """Two factors with Heywood cases: directions of parameters at a bound are no flat ones."""
    rng = np.random.default_rng(11)
    loadings = rng.normal(1.0, 0.6, size=(5, 2))
    u = rng.normal(size=(25, 2)) @ loadings.T
    cells = [(f"E{e}", f"G{g:02d}", u[g, e]) for e in range(5) for g in range(25) for _ in range(2)]
    data = pd.DataFrame(cells, columns=["env", "gen", "y"])
    data["y"] += rng.normal(size=len(data))
    more = pd.concat([data, pd.DataFrame({"env": ["F"], "gen": ["G00"], "y": [1.0]})], ignore_index=True)
    without, fit = (fl.lmm("y ~ env + fa(0 + env | gen, k=2)", table) for table in (data, more))
    assert any("specific variance" in str(w) for w in without.warnings)
    own, alone = map(component_errors, (fit, without))
    np.testing.assert_allclose(own.loc[alone.index], alone, rtol=1e-3)
    limits, before = (f.conf_int("wald").set_index("parameter") for f in (fit, without))
    named = [name for name in before.index if name.startswith("sd(")]
    np.testing.assert_allclose(limits.loc[named, "upper"], before.loc[named, "upper"], rtol=1e-2)
    assert limits.loc[[name for name in limits.index if "envF" in name], "lower"].isna().all()


def test_a_constant_environment_whose_genotypes_vary_has_a_variance():
    """Its residual has to take back what the genotypes have elsewhere."""
    rng = np.random.default_rng(2)
    u = rng.normal(size=12)
    cells = [(f"E{e}", f"G{g}", u[g] + rng.normal()) for e in range(3) for g in range(12) for _ in range(2)]
    data = pd.DataFrame(cells, columns=["env", "gen", "y"])
    constant = pd.DataFrame({"env": "K", "gen": [f"G{g}" for g in range(12)], "y": 5.0})
    near = constant.assign(y=5.0 + 1e-5 * rng.normal(size=12))
    fits = [fl.lmm("y ~ env + (1 | gen)", pd.concat([data, own], ignore_index=True), residual="units | env",
                   fixed_parameters={"gen": 1.0}) for own in (constant, near)]  # fmt: skip
    first, second = (f.variance_components["estimate"] for f in fits)
    np.testing.assert_allclose(first, second, rtol=1e-3)
    assert fits[0].converged and first.iloc[-1] > 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_covariate_of_any_seed_is_not_the_random_term(seed):
    """Random combinations of the levels stand for all of them: they must be nobody's simulated covariate."""
    g, rng = np.repeat(np.arange(20), 3), np.random.default_rng(100)
    data = pd.DataFrame({"g": [f"g{i:02d}" for i in g], "env": list("abc") * 20})
    data["x"] = np.random.default_rng(seed).normal(size=20)[g]
    data["y"] = rng.normal(size=20)[g] + rng.normal(size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fl.lmm("y ~ x + (1 | g)", data, residual="units | env")
    df = fit.fixed_effects()["df"].to_numpy()
    assert np.all((df > 17) & (df < 19))


def test_effects_without_data_are_not_counted():
    """60 lines once and 3 checks six times: 63 effects, not 126, for 78 plots; dense REML."""
    r = np.random.default_rng(2)
    names = [*(f"N{i}" for i in range(60)), *(["C0", "C1", "C2"] * 6)]
    frame = pd.DataFrame({"gen": names, "type": ["line"] * 60 + ["check"] * 18})
    frame["y"] = r.normal(size=63)[pd.factorize(frame["gen"])[0]] + 0.4 * r.normal(size=78)
    fit = fl.lmm("y ~ type + diag(0 + type | gen)", frame)
    line = (frame["type"] == "line").to_numpy(float)
    same = np.equal.outer(frame["gen"].to_numpy(), frame["gen"].to_numpy())
    s = fit.variance_components["estimate"].to_numpy()  # of checks, of lines, and the residual's

    def criterion(check, lines, residual):
        V = check * same * np.outer(1 - line, 1 - line) + lines * same * np.outer(line, line)
        V = V + residual * np.eye(78)
        X = np.column_stack([np.ones(78), line])
        A = X.T @ np.linalg.solve(V, X)
        left = frame["y"] - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, frame["y"]))
        logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
        return logs + left @ np.linalg.solve(V, left) + 76 * np.log(2 * np.pi)

    assert fit.criterion == pytest.approx(criterion(*s), abs=1e-8)
    for k in range(3):
        for factor in (0.9, 1.1):
            assert criterion(*(s * np.where(np.arange(3) == k, factor, 1.0))) > fit.criterion
    cells = [(g, e) for g in range(20) for e in range(6) if (g + e) % 2]
    places = pd.DataFrame(cells, columns=["gen", "env"])
    places = places.astype(str).assign(y=r.normal(size=60))
    with pytest.raises(DesignError, match="has 60 random effects for 60 observations"):
        fl.lmm("y ~ env + us(0 + env | gen)", places)
