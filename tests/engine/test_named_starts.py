"""Starting values by name: where the search begins, and that its end does not depend on it."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, lmm, prepare, run
from fastlmm_core.errors import OptionError

SLEEP = datasets.load("sleepstudy")
# lme4's REML estimates of Reaction ~ Days + (Days | Subject)
ESTIMATES = {"Subject": [[612.1, 9.604], [9.604, 35.07]], "Residual": 654.94}


def first_theta(formula, start, **options):
    """theta of the first iteration, and the fit."""
    seen = []
    fit = lmm(formula, SLEEP, start=start, verbose=lambda *a: seen.append(np.array(a[3])), **options)
    return seen[0], fit


def test_the_search_begins_where_it_is_told():
    theta, fit = first_theta("Reaction ~ Days + (Days | Subject)", ESTIMATES)
    np.testing.assert_allclose(theta, fit.solved.theta, rtol=2e-3, atol=1e-4)
    far, other = first_theta("Reaction ~ Days + (Days | Subject)", {"Subject": np.diag([9000.0, 400.0])})
    assert np.abs(far - theta).max() > 1.0
    assert other.criterion == pytest.approx(fit.criterion, abs=1e-7)


def test_names_that_are_left_out_start_from_moments():
    formula = "Reaction ~ Days + (Days || Subject)"
    default, _ = first_theta(formula, None)
    theta, _ = first_theta(formula, {"Residual": 654.94})
    # theta is relative to the residual, and none of it was named but that
    np.testing.assert_array_equal(theta, default)


@pytest.mark.parametrize("structure", ["us", "cs", "homcs", "ar1", "hetar1", "toep", "diag"])
def test_a_fit_within_subjects_continues_from_its_own_estimates(structure):
    options = {"residual": f"{structure}(Days | Subject)"}
    fit = lmm("Reaction ~ Days", SLEEP[SLEEP["Days"] < 5], **options)
    T = fit.solved.equations.residual.blocks(fit.solved.theta)[0]["T"] * fit.solved.sigma2
    again = lmm("Reaction ~ Days", SLEEP[SLEEP["Days"] < 5], start={"Residual": T}, **options)
    assert again.optimum.iterations <= 1 < fit.optimum.iterations
    assert again.criterion == pytest.approx(fit.criterion, abs=1e-8)


def test_structured_start_by_level():
    start = {"Subject": 900.0, "a": {"Residual": 500.0}, "b": {"Residual": 1500.0}}
    table = SLEEP.assign(half=np.where(SLEEP["Days"] < 5, "a", "b"))
    fit = lmm("Reaction ~ Days + (1 | Subject)", table, residual="units | half")
    named = lmm("Reaction ~ Days + (1 | Subject)", table, residual="units | half", start=start)
    assert named.criterion == pytest.approx(fit.criterion, abs=1e-8)


def test_a_singular_start_is_moved_inside():
    fit = lmm("Reaction ~ Days + (1 | Subject)", SLEEP)
    zero = lmm("Reaction ~ Days + (1 | Subject)", SLEEP, start={"Subject": 0.0})
    assert zero.criterion == pytest.approx(fit.criterion, abs=1e-7)
    within = lmm("Reaction ~ Days + (1 | Subject)", SLEEP, residual="homdiag(Days | Subject)",
                 start={"Subject": 0.0})  # fmt: skip
    assert within.criterion == pytest.approx(fit.criterion, abs=1e-6)


def test_weights_and_units_of_the_response_do_not_move_the_start():
    formula = "Reaction ~ Days + (1 | Subject)"
    theta, _ = first_theta(formula, {"Subject": 1400.0, "Residual": 960.0})
    seen = []
    model = prepare(formula, SLEEP.assign(Reaction=1e150 * SLEEP["Reaction"]))
    model.fit(start={"Subject": 1400e300, "Residual": 960e300}, verbose=lambda *a: seen.append(a[3]))
    np.testing.assert_allclose(seen[0], theta, rtol=1e-12)


def test_request():
    request = {"data": SLEEP.to_dict("list"), "formula": "Reaction ~ Days + (Days | Subject)"}
    for table in (request, {**request, "start": ESTIMATES}):
        assert run(table)["fit"]["criterion"] == pytest.approx(1743.6283, abs=1e-3)  # lme4


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"Subjects": 1.0}, "start name 'Subjects', which is no term of the model; nearest: 'Subject'"),
        ({"Subject": "much"}, "must be numbers"),
        ({"Subject": [[np.inf]]}, "not finite"),
        ({"Subject": [[1.0, 2.0], [2.0, 1.0]]}, "negative eigenvalue"),
        ({"Subject": 3.0}, "2 x 2"),
        ({"Residual": 0.0}, "positive"),
        ({"Residual": {"S1": 3.0}}, "it has one covariance for all rows"),
        ({"S1": {"Residual": 3.0}}, "start name 'S1'"),
        ([3.0], "start"),
    ],
)
@pytest.mark.parametrize("residual", ["units", "ar1(Days | Subject)"])
def test_wrong_starts(start, words, residual):
    if residual != "units" and start == {"Residual": 0.0}:
        words = "."
    with pytest.raises(OptionError, match=words):
        lmm("Reaction ~ Days + (Days | Subject)", SLEEP, start=start, residual=residual)


def test_levels_that_are_not_there_hold_nothing_silently():
    table = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 5.0, 4.0], "half": list("aaabbb")})
    for wrong in ({"c": {"Residual": 1.0}}, {"Residual": {"c": 1.0}}):
        with pytest.raises(OptionError, match=r"fixed_parameters name .*'c'"):
            lmm("y ~ 1", table, residual="units | half", fixed_parameters=wrong)


def test_both_kinds_of_start():
    model = prepare("Reaction ~ Days + (1 | Subject)", SLEEP)
    with pytest.raises(OptionError, match="given twice"):
        model.fit(start={"Subject": 1.0}, theta=[1.0])


def similar_environments(seed):
    """Twelve genotypes in four environments of two plots each, their effects proportional."""
    rng = np.random.default_rng(seed)
    gen, env = np.tile(np.repeat(np.arange(12), 4), 2), np.tile(np.arange(4), 24)
    y = rng.normal(size=12)[gen] * np.array([1.3, 1.2, 0.9, 0.7])[env] + 0.8 * rng.normal(size=96)
    return pd.DataFrame({"y": y, "gen": [f"G{g:02d}" for g in gen], "env": [f"E{e}" for e in env]})


@pytest.mark.parametrize("seed", [3, 5])
@pytest.mark.parametrize("structure", ["cs", "homcs", "ar1", "hetar1"])
@pytest.mark.parametrize("correlation", [-0.3, 0.5])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_an_end_at_a_bound_is_left_where_the_deviance_falls_inside(seed, structure, correlation):
    """At a correlation of one the chart has no slope, and a variance that was set to zero while the
    correlation was negative stayed there: neither is an optimum where the deviance falls inside."""
    table, lag = similar_environments(seed), np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    T = np.where(lag == 0, 1.0, correlation ** (lag if "ar1" in structure else 1))
    best, started = (
        lmm(f"y ~ env + {structure}(0 + env | gen)", table, start=start) for start in (None, {"gen": T})
    )
    assert started.converged
    assert started.criterion == pytest.approx(best.criterion, abs=1e-6)


@pytest.mark.parametrize("option", ["fixed_parameters", "start"])
@pytest.mark.parametrize("prefix", ["env", ""])
def test_the_labels_of_a_table_are_heeded(option, prefix):
    """In another order of its rows and columns a table is the same matrix, and its names must be known."""
    table, names = similar_environments(3), [f"{prefix}E{e}" for e in range(4)]
    T = 0.5 + np.diag([0.1, 0.5, 1.0, 2.0])
    ordered = pd.DataFrame(T, index=names, columns=names)

    def criterion(gen):
        seen = []
        held = {"Residual": 0.6} if option == "fixed_parameters" else {}
        fit = lmm("y ~ env + us(0 + env | gen)", table, verbose=lambda *a: seen.append(a[1]),
                  **{option: {"gen": gen, **held}})  # fmt: skip
        return seen[0] if seen else fit.criterion

    expected = criterion(T)
    turned = ordered.iloc[::-1, ::-1]
    assert abs(criterion(turned.to_numpy()) - expected) > 0.01
    for same in (ordered, turned, ordered.iloc[::-1], pd.DataFrame(T)):
        assert criterion(same) == pytest.approx(expected, rel=1e-12)
    wrong = ordered.rename(index={names[2]: "E9"})
    with pytest.raises(OptionError, match=r"\['gen'\] is a table whose rows are called .*'E9'.* 'E0', 'E1'"):
        criterion(wrong)


def test_labels_of_visits_are_heeded():
    table = similar_environments(3)
    table["plot"] = table["gen"] + np.repeat(["a", "b"], 48)
    names = [f"E{e}" for e in range(4)]
    T = pd.DataFrame(0.5 + np.diag([0.1, 0.5, 1.0, 2.0]), index=names, columns=names)
    given = (T, T.iloc[::-1, ::-1], T.to_numpy())
    fits = [lmm("y ~ env", table, residual="us(env | plot)", fixed_parameters={"Residual": R}) for R in given]
    assert fits[0].criterion == pytest.approx(fits[2].criterion, rel=1e-12)
    assert fits[1].criterion == pytest.approx(fits[2].criterion, rel=1e-12)


def test_numbers_that_may_be_levels_in_another_order_are_refused():
    table = similar_environments(3)
    number = table["env"].str[1:].astype(int)
    T = pd.DataFrame(0.5 + np.diag([0.1, 0.5, 1.0, 2.0]))
    for order, refused in (([0, 1, 2, 3], False), ([2, 0, 1, 3], True)):
        own = table.assign(env=pd.Categorical(number, categories=order))
        given = {"gen": T, "Residual": 0.6}
        if refused:
            with pytest.raises(OptionError, match="the order '2', '0', '1', '3'; give the matrix"):
                lmm("y ~ env + us(0 + env | gen)", own, fixed_parameters=given)
            continue
        plain = {**given, "gen": T.to_numpy()}
        fits = [lmm("y ~ env + us(0 + env | gen)", own, fixed_parameters=held) for held in (given, plain)]
        assert fits[0].criterion == fits[1].criterion


def test_a_batch_takes_no_labels():
    table = similar_environments(3).assign(trial="T1")
    model, names = "y ~ env + us(0 + env | gen)", ["E3", "E2", "E1", "E0"]
    plain = fit_batch(table, model, by="trial", start={"gen": pd.DataFrame(np.eye(4))})
    assert plain.fits["status"].tolist() == ["ok"]
    with pytest.raises(OptionError, match=r"start\['gen'\] is a table with labels"):
        fit_batch(table, model, by="trial", start={"gen": pd.DataFrame(np.eye(4), names, names)})


def test_messages_name_the_term_in_the_units_given():
    table = similar_environments(3)
    for formula, start, words in (
        ("y ~ env + (1 | gen)", -1.0, "'gen': the covariance for 'us' has a negative eigenvalue"),
        ("y ~ env + diag(0 + env | gen)", np.eye(4) + 50.0,
         r"'gen': .* not of structure 'diag': its element .* is 50, where the nearest that is has 0"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            lmm(formula, table, start={"gen": start})


@pytest.mark.parametrize("seed", [0, 1, 29])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_an_autocorrelation_of_one_is_left_likewise(seed):
    rng, (row, col) = np.random.default_rng(seed), np.divmod(np.arange(72), 9)
    V = 0.6 ** np.abs(np.subtract.outer(row, row)) * 0.7 ** np.abs(np.subtract.outer(col, col))
    y = np.linalg.cholesky(V) @ rng.normal(size=72) + 0.4 * rng.normal(size=72)
    table, trend = pd.DataFrame({"y": y, "row": row, "col": col}), "ar1(row, col, nugget=TRUE)"
    best, started = (
        lmm("y ~ 1", table, field_trend=trend, start=start) for start in (None, {"ar1(row):ar1(col)": 0.001})
    )
    assert started.criterion == pytest.approx(best.criterion, abs=1e-6)


SPLINE = {"formula": "y ~ dose + (1 | gen) + spl(dose)"}
FAR_FROM = [
    ({"formula": "y ~ env + (1 | gen)"}, "gen"),
    ({"formula": "y ~ env + (1 | gen)", "residual": "units | env"}, "gen"),
    ({"formula": "y ~ env + (1 | gen)", "residual": "units | env"}, "Residual"),
    ({"formula": "y ~ env + (1 | gen)", "residual": "homdiag(env | plot)"}, "Residual"),
    ({"formula": "y ~ env + fa(0 + env | gen, k=1)"}, "gen"),
    (SPLINE, "gen"), (SPLINE, "spl(dose)"), (SPLINE, "Residual"),
]  # fmt: skip


@pytest.mark.parametrize("variance", [1e-300, 1e-20, 1e-9, 1e9, 1e20, 1e300])
@pytest.mark.parametrize(("model", "name"), FAR_FROM)
@pytest.mark.filterwarnings("ignore:singular fit")
def test_a_start_out_of_all_proportion_leads_to_the_same_optimum(model, name, variance):
    """There the deviance is so flat in what the search moves that its end passed for an optimum."""
    table = similar_environments(3)
    table["plot"] = table["gen"] + np.repeat(["a", "b"], 48)
    table["dose"] = table["env"].map({"E0": 0.0, "E1": 1.0, "E2": 2.5, "E3": 4.0})
    wide = "fa(" in model["formula"] or "plot" in model.get("residual", "")
    coefficients = 4 if wide else 1
    best, started = (
        lmm(data=table, **model, start=start) for start in (None, {name: variance * np.eye(coefficients)})
    )
    assert started.converged
    assert started.criterion == pytest.approx(best.criterion, abs=1e-6)


@pytest.mark.parametrize(
    ("held", "start", "named"),
    [
        ({"gen": 1.0}, {"gen": 2.0, "Residual": 1.0}, "'gen'"),
        ({"Residual": 1.0}, {"Residual": 2.0}, "'Residual'"),
        ({"Residual": {"E1": 1.0}}, {"E1": {"Residual": 2.0}}, "'Residual' of E1"),
        ({"gen": 1.0, "Residual": 1.0}, {"(1 | gen)": 1.0}, "'(1 | gen)'"),
    ],
)
def test_what_is_held_has_no_start(held, start, named):
    by_level = "E1" in str(held)
    options = {"residual": "units | env"} if by_level else {}
    with pytest.raises(OptionError) as told:
        lmm("y ~ env + (1 | gen)", similar_environments(3), fixed_parameters=held, start=start, **options)
    assert f"start names {named}, which fixed_parameters holds" in str(told.value)


def test_a_level_that_is_free_starts_beside_one_that_is_held():
    options = {"residual": "units | env", "fixed_parameters": {"Residual": {"E1": 1.0}}}
    fit = lmm("y ~ env + (1 | gen)", similar_environments(3), **options)
    started = lmm("y ~ env + (1 | gen)", similar_environments(3), start={"E2": {"Residual": 3.0}}, **options)
    assert started.criterion == pytest.approx(fit.criterion, abs=1e-7)
