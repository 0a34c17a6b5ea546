"""Models whose variance parameters are all held: every figure is that of generalized least squares.

The animal model of Mrode (2014), Linear Models for the Prediction of Animal Breeding Values, example 3.1:
five calves with records, eight animals, variances 20 and 40. Its figures with eight decimals are those of the
tutorial of BLUPF90.
"""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastlmm_core import Pedigree, datasets, lmm
from fastlmm_core.errors import OptionError

CALVES = pd.DataFrame({"calf": list("45678"), "sex": list("MFFMM"), "wwg": [4.5, 2.9, 3.9, 3.5, 5.0]})
PEDIGREE = Pedigree({"id": list("12345678"), "sire": list("00013143"), "dam": list("00002256")})
BREEDING_VALUES = [
    0.09844458, -0.01877010, -0.04108420, -0.00866312, -0.18573210, 0.17687209, -0.24945855, 0.18261469,
]  # fmt: skip
HELD = {"vm(calf, A)": [[20.0]], "Residual": 40.0}


@pytest.fixture(scope="module")
def fit():
    return lmm(
        "wwg ~ 0 + sex + (1 | vm(calf, A))", CALVES, relationships={"A": PEDIGREE}, fixed_parameters=HELD
    )


def test_published_figures(fit):
    table = fit.fixed_effects(ddf="asymptotic").set_index("term")
    np.testing.assert_allclose(table["estimate"][["sexM", "sexF"]], [4.35850233, 3.40443001], atol=1e-7)
    np.testing.assert_allclose(table["se"][["sexM", "sexF"]], [4.88082357, 5.66554023], atol=2e-8)
    np.testing.assert_allclose(fit.blups()["estimate"], BREEDING_VALUES, atol=1e-8)


@pytest.mark.parametrize("second_derivatives", [False, True])
@pytest.mark.parametrize("information", ["expected", "observed", "average"])
def test_kenward_roger_has_nothing_to_adjust(fit, information, second_derivatives):
    own = fit.fixed_effects("kenward-roger", information, second_derivatives=second_derivatives)
    known = fit.fixed_effects("asymptotic")
    assert np.isinf(own["df"]).all()
    figures = ["estimate", "se", "p", "lower", "upper"]
    np.testing.assert_allclose(own[figures], known[figures], rtol=1e-12)


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite", "asymptotic"])
def test_joint_tests_are_those_of_known_variances(fit, ddf):
    """chi-squared of two rows over two."""
    row = fit.anova(ddf=ddf).iloc[0]
    wald = fit.beta @ np.linalg.solve(fit.cov_beta, fit.beta)
    assert row["F"] == pytest.approx(wald / 2.0, rel=1e-12)
    assert np.isinf(row["df_den"])
    assert row["p"] == pytest.approx(stats.chi2.sf(wald, 2), rel=1e-9)


def test_default_means_have_infinite_df(fit):
    means = fit.emmeans("sex")
    assert np.isinf(means.df).all()
    np.testing.assert_allclose(means.estimate, fit.beta, rtol=1e-12)


@pytest.fixture(scope="module")
def visits():
    rng = np.random.default_rng(5)
    subject, visit = np.divmod(np.arange(48), 4)
    arm, label = np.where(subject < 6, "P", "Q"), np.array(list("abcd"))[visit]
    y = rng.normal(scale=2.0, size=48)
    return pd.DataFrame({"s": subject.astype(str), "v": label, "arm": arm, "y": y})


def exchangeable(variance, covariance):
    return np.full((4, 4), covariance) + (variance - covariance) * np.eye(4)


def test_arms_are_named_as_tables_name_them(visits):
    """Each arm has the mean of its subjects' means, with the variance of a mean of four visits."""
    held = {"P": exchangeable(2.0, -0.4), "Q": exchangeable(3.0, 1.0)}
    printed = {f"Residual(v|s)|arm|{arm}": T for arm, T in held.items()}
    for given in (printed, {f"Residual|arm|{arm}": T for arm, T in held.items()}, {"Residual": held}):
        fit = lmm("y ~ 0 + arm", visits, residual="homcs(v | s) | arm", fixed_parameters=given)
        assert set(fit.variance_components["group"]) == set(printed)
        table = fit.fixed_effects("asymptotic")
        np.testing.assert_allclose(table["estimate"], visits.groupby("arm")["y"].mean(), rtol=1e-12)
        np.testing.assert_allclose(table["se"] ** 2, [T.mean() / 6.0 for T in held.values()], rtol=1e-12)


@pytest.mark.parametrize(
    ("structure", "T"),
    [
        ("us", np.ones((4, 4))), ("homcs", exchangeable(1.0, 1.0)), ("diag", np.diag([1.0, 0.0, 1.0, 2.0])),
        ("us", exchangeable(1.0, 1.0 - 1e-9)), ("ar1", np.zeros((4, 4))),
    ],
)  # fmt: skip
def test_a_singular_residual_is_not_held(visits, structure, T):
    """Its inverse would be that of another matrix, with a criterion that says nothing."""
    held = {"Residual": {"P": np.eye(4), "Q": T}}
    with pytest.raises(OptionError, match=r"fixed_parameters\['Residual'\].*nearly singular.*random term"):
        lmm("y ~ arm", visits, residual=f"{structure}(v | s) | arm", fixed_parameters=held)


def test_a_residual_variance_below_what_has_an_inverse_is_not_held(visits):
    held = {"Residual": {"P": 1.0, "Q": 1e-12}}
    with pytest.raises(OptionError, match=r"variance of 1e-12 is too small .* held at \S+ or more"):
        lmm("y ~ arm + (1 | s)", visits, residual="units | arm", fixed_parameters=held)
    least = {"Residual": {"P": 1.0, "Q": 1e-6}, "s": 1.0}
    small = lmm("y ~ arm + (1 | s)", visits, residual="units | arm", fixed_parameters=least)
    assert small.variance_components["estimate"].tolist() == pytest.approx([1.0, 1.0, 1e-6], rel=1e-9)


@pytest.mark.parametrize("information", ["expected", "observed", "average"])
@pytest.mark.parametrize("structure", ["us", "homcs"])
def test_a_residual_that_is_held_beside_a_term_that_is_not(visits, structure, information):
    """Blocks that are held are a known residual covariance; the expected information has none of theirs."""
    T, rows = exchangeable(3.5, 1.0), [f"row{k}" for k in range(len(visits))]
    shift = visits["v"].map({"a": 0.0, "b": 3.0, "c": -2.0, "d": 2.0})
    table = visits.assign(unit=rows, y=visits["y"] + shift)
    known = {"Omega": (np.kron(np.eye(len(table) // 4), T), rows)}
    formula = "y ~ arm + (1 | v)"
    own = lmm(formula, table, residual=f"{structure}(v | s)", fixed_parameters={"Residual": T})
    same = lmm(formula, table, residual="vm(unit, Omega)", relationships=known,
               fixed_parameters={"Residual": 1.0})  # fmt: skip
    assert own.criterion == pytest.approx(same.criterion, rel=1e-9)
    found, expected = (fit.fixed_effects("kenward-roger", information) for fit in (own, same))
    np.testing.assert_allclose(found[["se", "df"]], expected[["se", "df"]], rtol=1e-5)


@pytest.mark.parametrize("held", ["P", "Q"])
@pytest.mark.parametrize("structure", ["cs", "ar1"])
def test_second_derivatives_beside_an_arm_that_is_held(visits, structure, held):
    """The other arm shares nothing with it: its errors are those of a fit of this arm alone."""
    lags = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    T = 0.9 * 0.4**lags if structure == "ar1" else exchangeable(0.9, 0.3)
    free = "Q" if held == "P" else "P"
    both = lmm("y ~ 0 + arm + arm:v", visits, residual=f"{structure}(v | s) | arm",
               fixed_parameters={"Residual": {held: T}})  # fmt: skip
    alone = lmm("y ~ v", visits[visits["arm"] == free], residual=f"{structure}(v | s)")
    found, expected = (fit.fixed_effects("kenward-roger", second_derivatives=True) for fit in (both, alone))
    at = found["term"].str.contains(f"arm{free}")
    np.testing.assert_allclose(found.loc[at, ["se", "df"]], expected[["se", "df"]], rtol=1e-5)
    whole = lmm("y ~ 0 + arm + (1 | v)", visits, residual=f"{structure}(v | s)",
                fixed_parameters={"Residual": T})  # fmt: skip
    linear, added = (whole.fixed_effects("kenward-roger", second_derivatives=own) for own in (False, True))
    np.testing.assert_allclose(added["se"], linear["se"], rtol=1e-12)


@pytest.mark.parametrize("structure", ["cs", "homcs", "ar1", "hetar1", "toep", "homtoep", "diag", "homdiag"])
def test_what_a_structure_cannot_be_is_said_in_the_users_units(visits, structure):
    T = exchangeable(1.0, 0.25) + np.diag([0.0, 1.0, 0.5, 0.0]) + 0.125 * np.eye(4)[::-1]
    with pytest.raises(OptionError, match=f"'s'.*'{structure}'.* element .(., .). is ") as told:
        lmm(f"y ~ 1 + {structure}(0 + v | s)", visits, fixed_parameters={"s": T, "Residual": 1.0})
    a, b, value = re.search(r"\((\d), (\d)\) is ([\d.]+)", str(told.value)).groups()
    assert float(value) == T[int(a) - 1, int(b) - 1]


def test_terms_are_named_with_and_without_blanks(visits):
    fits = [
        lmm("y ~ 1 + (1 | s)", visits, fixed_parameters={name: 0.7}) for name in ("(1|s)", "(1 | s)", "s")
    ]
    assert len({fit.criterion for fit in fits}) == 1
    assert fits[0].variance_components["estimate"].iloc[0] == pytest.approx(0.7, rel=1e-14)


@pytest.mark.parametrize(
    "formula", ["y ~ arm + us(0 + v | s)", "y ~ arm + cs(0 + v | s)", "y ~ arm + (1 | s:v)"]
)
def test_a_held_term_is_told_apart_from_the_residual(visits, formula):
    """One observation for each coefficient: what is held, the residual variance can be estimated beside."""
    T = exchangeable(0.6, 0.2)
    name, held = ("s:v", [[0.6]]) if "s:v" in formula else ("s", T)
    fit = lmm(formula, visits, fixed_parameters={name: held})
    block = np.kron(np.eye(12), T if name == "s" else 0.6 * np.eye(4))
    X, y = np.column_stack([np.ones(48), visits["arm"] == "Q"]).astype(float), visits["y"].to_numpy()

    def deviance(variance):
        A, v = np.linalg.solve(block + variance * np.eye(48), np.column_stack([X, y])), X.T
        beta = np.linalg.solve(v @ A[:, :2], v @ A[:, 2])
        rest = (y - X @ beta) @ (A[:, 2] - A[:, :2] @ beta)
        logs = np.linalg.slogdet(block + variance * np.eye(48))[1] + np.linalg.slogdet(v @ A[:, :2])[1]
        return logs + rest + 46 * np.log(2 * np.pi)

    assert fit.criterion == pytest.approx(deviance(fit.sigma**2), rel=1e-10)
    assert fit.criterion <= min(deviance(fit.sigma**2 * step) for step in (0.9, 0.99, 1.01, 1.1)) + 1e-9


def test_components_of_one_environment_by_both_names():
    """``S1:rep`` is ``at(site, S1):rep``, unless a term of the model is called so itself."""
    r = np.random.default_rng(4)
    frame = pd.DataFrame({"site": np.repeat(["S1", "S2"], 24), "rep": np.tile(np.repeat(list("abcd"), 6), 2)})
    frame["gen"], frame["y"] = np.tile(list("uvwxyz"), 8), r.normal(size=48)
    frame["S1"] = frame["gen"].map(lambda name: name < "x").astype(str)
    formula = "y ~ site + (1 | at(site):rep) + (1 | gen)"
    fits = [
        lmm(formula, frame, fixed_parameters=held) for held in (
            {"S1:rep": 0.3, "S2:rep": 0.1, "gen": 0.2}, {"S1": {"rep": 0.3}, "S2": {"rep": 0.1}, "gen": 0.2},
            {"at(site, S1):rep": 0.3, "at(site, S2):rep": 0.1, "gen": 0.2},
            {"at(site):rep": {"S1": 0.3, "S2": 0.1}, "gen": 0.2},
        )
    ]  # fmt: skip
    for fit in fits:
        table = fit.variance_components.set_index("group")["estimate"]
        assert list(table[:3]) == pytest.approx([0.3, 0.1, 0.2])
        assert fit.criterion == pytest.approx(fits[0].criterion, abs=1e-9)
    both = lmm(f"{formula} + (1 | S1:rep)", frame, fixed_parameters={"S1:rep": 0.7, "gen": 0.2})
    table = both.variance_components.set_index("group")["estimate"]
    assert table["S1:rep"] == pytest.approx(0.7) and table["at(site, S1):rep"] != pytest.approx(0.7)
    with pytest.raises(OptionError, match="'S3:rep', which is no term of the model"):
        lmm(formula, frame, fixed_parameters={"S3:rep": 0.3})
    message = r"\['at\(site\):rep'\] name level 'S3', which is not there; its levels: 'S1', 'S2'"
    with pytest.raises(OptionError, match=message):
        lmm(formula, frame, fixed_parameters={"at(site):rep": {"S3": 0.3}})


def test_splines_of_environments_by_the_name_that_is_written():
    """One value for all of ``at(site):spl(x)``, or values by level; one that is not named is estimated."""
    r = np.random.default_rng(6)
    x = np.tile(np.arange(20.0), 2)
    y = np.sin(x / 2) + r.normal(size=40)
    frame = pd.DataFrame({"site": np.repeat(["S1", "S2"], 20), "x": x, "y": y})
    by_level = {"S1": 0.2, "S2": 0.3}
    for given, expected in ((0.2, [0.2, 0.2]), (by_level, [0.2, 0.3]), ({"S2": 0.3}, [None, 0.3])):
        fit = lmm("y ~ site*x + at(site):spl(x)", frame, fixed_parameters={"at(site):spl(x)": given})
        for value, wanted in zip(fit.variance_components["estimate"], expected, strict=False):
            assert value != pytest.approx(0.3) if wanted is None else value == pytest.approx(wanted)
        assert list(fit.variance_components["se"].isna()) == [own is not None for own in expected] + [False]


@pytest.fixture(scope="module")
def fields_of_sites():
    r = np.random.default_rng(6)
    row, col = (axis.ravel() + 1.0 for axis in np.indices((7, 7)))
    one = pd.DataFrame({"row": row, "col": col, "surface": np.sin(row) + 0.2 * col * np.cos(col)})
    frame = pd.concat([one.assign(site=name) for name in ("S1", "S2")], ignore_index=True)
    return frame.assign(y=frame["surface"] + r.normal(size=len(frame)))


SURFACE = "at(site):ps(row, col, nseg=(4, 4))"


@pytest.mark.parametrize(
    "given",
    [
        {"col": 0.3, "row": 0.2}, pd.Series({"col": 0.3, "row": 0.2}), pd.Series([0.2, 0.3]),
        {"S1": pd.Series({"col": 0.3, "row": 0.2}), "S2": {"col": 0.3, "row": 0.2}},
    ],
    ids=["mapping", "series", "unlabelled", "by level"],
)  # fmt: skip
def test_variances_of_a_surface_by_the_names_of_their_directions(fields_of_sites, given):
    """A series with the columns in another order is put in order, and what is held is known to be held."""
    formula = f"y ~ site*row*col + {SURFACE}"
    expected = lmm(formula, fields_of_sites, fixed_parameters={SURFACE: [0.2, 0.3]})
    fit = lmm(formula, fields_of_sites, fixed_parameters={SURFACE: given})
    assert fit.criterion == pytest.approx(expected.criterion, rel=1e-12)
    shown = fit.variance_components.query("group != 'Residual'")
    assert shown["var1"].tolist() == ["row", "col"] * 2
    np.testing.assert_allclose(shown["estimate"], [0.2, 0.3] * 2, rtol=1e-9)
    assert shown["se"].isna().all()


def test_wrong_names_of_a_surface_are_said(fields_of_sites):
    formula = f"y ~ site*row*col + {SURFACE}"
    with pytest.raises(OptionError, match=r"'rows', 'col'; the variances of this spline .* 'row', 'col'"):
        lmm(formula, fields_of_sites, fixed_parameters={SURFACE: {"S1": {"rows": 0.2, "col": 0.3}}})
    # written otherwise the term is not there, whatever stands below its name
    message = r"'at\(site\):ps\(row, col\)', which is no term .* nseg=\(4, 4\)"
    with pytest.raises(OptionError, match=message):
        lmm(formula, fields_of_sites, fixed_parameters={"at(site):ps(row, col)": {"S1": [0.2, 0.3]}})


def test_residual_variances_by_level_as_a_series(fields_of_sites):
    by_level = {"S2": 0.7, "S1": 1.4}
    expected, fit = (
        lmm("y ~ site*row", fields_of_sites, residual="units | site", fixed_parameters={"Residual": given})
        for given in (by_level, pd.Series(by_level))
    )
    assert fit.criterion == pytest.approx(expected.criterion, rel=1e-12)


@pytest.fixture(scope="module")
def balanced():
    rng = np.random.default_rng(2)
    gen, env, _ = (axis.ravel() for axis in np.indices((10, 4, 2)))
    y = rng.normal(size=10)[gen] + 2.0 * env + rng.normal(size=gen.size)
    return pd.DataFrame({"gen": gen.astype(str), "env": env.astype(str), "y": y})


@pytest.mark.parametrize("variance", [0.7, 1.0, 3.0])
def test_tests_of_effects_that_only_a_held_variance_moves(balanced, variance):
    """In balanced data the other variance does not enter: chi-squared tests, by whatever df."""
    fit = lmm("y ~ env + (1 | gen)", balanced, fixed_parameters={"Residual": variance})
    row, known = fit.anova().iloc[0], fit.anova(ddf="asymptotic").iloc[0]
    assert np.isinf(row["df_den"])
    assert [row["F"], row["p"]] == pytest.approx([known["F"], known["p"]], rel=1e-10)
    assert fit.joint_tests()["F"].iloc[0] == pytest.approx(row["F"], rel=1e-10)


def test_wald_limits_beside_held_variances(balanced):
    """Those of what is free, by its own standard error; what is held has none."""
    fit = lmm("y ~ env + (1 | gen)", balanced, fixed_parameters={"Residual": 1.0})
    table = fit.conf_int("wald").set_index("parameter")
    sd, se = fit.variance_components.set_index("group").loc["gen", ["estimate", "se"]]
    row = table.loc["sd(gen: (Intercept))"]
    spread = stats.norm.ppf(0.975) * se / (2.0 * sd)  # of log sd
    assert [row["lower"], row["upper"]] == pytest.approx(np.sqrt(sd) * np.exp([-spread, spread]), rel=1e-6)
    assert not any("Residual" in name or name == "sigma" for name in table.index)


@pytest.fixture(scope="module")
def field():
    """Two environments of 6 x 5 plots, some of which are not there."""
    rng = np.random.default_rng(8)
    env, row, col = np.unravel_index(np.arange(60), (2, 6, 5))
    lags = [np.abs(np.subtract.outer(np.arange(size), np.arange(size))) for size in (6, 5)]
    root = np.linalg.cholesky(np.kron(0.6 ** lags[0], 0.4 ** lags[1]))
    y = np.concatenate([root @ rng.normal(size=30) for _ in range(2)]) + env
    table = pd.DataFrame({"env": np.where(env == 0, "E 1", "E|2"), "row": row, "col": col, "y": y})
    table["w"] = rng.uniform(0.5, 2.0, size=60)
    return table.drop(index=[3, 17, 44]).reset_index(drop=True)


def field_deviance(table, variances, correlations):
    """REML deviance and (X'V^-1 X)^-1 of ``y ~ env``, a process (row, col) in each environment."""
    V = np.zeros((len(table),) * 2)
    for env, variance, (row, col) in zip(("E 1", "E|2"), variances, correlations, strict=True):
        at = np.flatnonzero(table["env"] == env)
        lag = [np.abs(np.subtract.outer(*2 * (table[x].to_numpy()[at],))) for x in ("row", "col")]
        V[np.ix_(at, at)] = variance * row ** lag[0] * col ** lag[1]
    root = np.sqrt(table["w"].to_numpy())
    V /= np.outer(root, root)
    X, y = np.column_stack([np.ones(len(table)), table["env"] == "E|2"]).astype(float), table["y"].to_numpy()
    A = np.linalg.solve(V, X)
    beta = np.linalg.solve(X.T @ A, A.T @ y)
    rest = y - X @ beta
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ A)[1]
    deviance = logs + rest @ np.linalg.solve(V, rest) + (y.size - 2) * np.log(2 * np.pi)
    return deviance, np.linalg.inv(X.T @ A)


def autocorrelations(fit):
    """(row, col) of each environment."""
    equations = fit.solved.equations
    blocks = equations.residual.blocks(fit.solved.theta[equations.slices[1]])
    return [list(block["group_corr"].values()) for block in blocks]


@pytest.mark.parametrize("held", [2.5, {"E 1": 2.5, "E|2": 0.8}, {"E|2": 0.8}])
def test_variances_of_fields_are_held_and_their_autocorrelations_searched(field, held):
    fit = lmm("y ~ env", field, residual="ar1(row):ar1(col) | env", weights="w",
              fixed_parameters={"Residual": held})  # fmt: skip
    variances = fit.variance_components["estimate"].to_numpy()
    given = held if isinstance(held, dict) else {"E 1": held, "E|2": held}
    for env, variance in zip(("E 1", "E|2"), variances, strict=True):
        assert env not in given or variance == pytest.approx(given[env], rel=1e-12)
    assert fit.variance_components["se"].isna().sum() == len(given)
    found = autocorrelations(fit)
    deviance, covariance = field_deviance(field, variances, found)
    assert fit.criterion == pytest.approx(deviance, rel=1e-10)
    np.testing.assert_allclose(fit.cov_beta, covariance, rtol=1e-7)
    for k in range(4):  # what is free is at its optimum
        for step in (-1e-2, 1e-2):
            moved = np.array(found)
            moved.flat[k] += step
            assert field_deviance(field, variances, moved)[0] > deviance


def test_held_at_the_optimum_of_a_field_is_that_optimum(field):
    """What is held is left out of the degrees of freedom, and a start there ends there."""
    model = {"formula": "y ~ env", "data": field, "residual": "ar1(row):ar1(col) | env", "weights": "w"}
    free = lmm(**model)
    own = dict(zip(("E 1", "E|2"), free.variance_components["estimate"], strict=True))
    held, started = lmm(**model, fixed_parameters={"Residual": own}), lmm(**model, start={"Residual": own})
    for fit in (held, started):
        assert fit.criterion == pytest.approx(free.criterion, rel=1e-10)
        np.testing.assert_allclose(fit.beta, free.beta, rtol=1e-6)
    np.testing.assert_allclose(started.fixed_effects()["df"], free.fixed_effects()["df"], rtol=1e-4)

    corr = np.ravel(autocorrelations(held))

    def at(x):
        return field_deviance(field, list(own.values()), x.reshape(2, 2))

    unit, h = np.eye(4), 1e-3
    slope = np.array([at(corr + h * e)[1][1, 1] - at(corr - h * e)[1][1, 1] for e in unit]) / (2 * h)

    def second(a, b):
        sides = [(1, at(corr + h * (a + b))), (-1, at(corr + h * (a - b))),
                 (-1, at(corr - h * (a - b))), (1, at(corr - h * (a + b)))]  # fmt: skip
        return sum(sign * deviance for sign, (deviance, _) in sides) / (4 * h * h)

    H = np.array([[second(a, b) for b in unit] for a in unit])
    variance = at(corr)[1][1, 1]
    df = 2.0 * variance**2 / (slope @ np.linalg.solve(H / 2.0, slope))
    row = held.fixed_effects("satterthwaite", "observed").iloc[1]
    assert row["df"] == pytest.approx(df, rel=1e-3)


@pytest.mark.parametrize("option, verb", [("fixed_parameters", "held"), ("start", "started")])
def test_a_matrix_is_no_variance_of_a_field(field, option, verb):
    with pytest.raises(OptionError, match=f"{verb} as one variance, or by level.*given a matrix of 2 x 2"):
        lmm("y ~ env", field, residual="ar1(row):ar1(col) | env", **{option: {"Residual": np.eye(2)}})


@pytest.mark.parametrize("option", ["fixed_parameters", "start"])
def test_a_group_of_several_terms_names_none_of_them(option):
    sleep = datasets.load("sleepstudy")
    for formula in ("Reaction ~ Days + (1 + Days || Subject)",
                    "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"):  # fmt: skip
        with pytest.raises(OptionError, match=r"one of them: '\(1 \| Subject\)', '\(0 \+ Days"):
            lmm(formula, sleep, **{option: {"Subject": 600.0}})
    held = {"(1 | Subject)": 600.0, "(0 + Days | Subject)": 30.0}
    fit = lmm(formula, sleep, fixed_parameters=held)
    assert fit.variance_components["estimate"].tolist()[:2] == pytest.approx([600.0, 30.0])


def test_a_group_is_not_that_of_the_levels_of_at():
    trials = datasets.load("trials").query("trial in ['T1', 'T2']")
    formula = "yield ~ gen + trial + (1 | block) + (1 | at(trial):block)"
    fit = lmm(formula, trials, fixed_parameters={"block": 0.3})
    components = fit.variance_components.set_index("group")["estimate"]
    assert components["block"] == pytest.approx(0.3)
    assert (components.filter(like="at(") < 0.29).all()
