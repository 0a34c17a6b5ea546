"""``at(env):ps(row, col)``: a surface for every environment, by separate fits and by dense V."""

import numpy as np
import pandas as pd
import pytest
from fields import dense_criterion, incidence, made_field, process_field, surface_factors

from fastlmm_core import fit_batch, lmm, load, plots
from fastlmm_core.design.field_trend import add_field_trend
from fastlmm_core.errors import DataError, DesignError, DistanceWarning, FormulaError, OptionError
from fastlmm_core.formula.structured_parts import names_spline

SIZES = {"E1": (9, 12), "E2": (8, 10), "E3": (10, 9)}


@pytest.fixture(scope="module")
def trials():
    """Three fields of their own sizes, genotypes in common."""
    own = [
        made_field(*size, seed=k, lost=0.1, genotypes=18).assign(env=env)
        for k, (env, size) in enumerate(SIZES.items(), start=3)
    ]
    return pd.concat(own, ignore_index=True).sample(frac=1.0, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def apart(trials):
    """Nothing in common: one fit that falls into three."""
    return lmm("yield ~ 1 + (1 | at(env):gen)", trials, field_trend="ps | env", residual="units | env")


@pytest.fixture(scope="module")
def alone(trials):
    return {
        env: lmm("yield ~ (1 | gen)", own.reset_index(drop=True), field_trend="ps")
        for env, own in trials.groupby("env")
    }


def test_names_of_terms_as_they_are_written(trials):
    """Blanks and quotes of a term do not matter, but where two levels differ by nothing else."""
    odd = {"E1": "a`1", "E2": "b 2", "E3": "b2"}
    table = trials.assign(env=trials["env"].map(odd)).rename(columns={"env": "my env"})
    fit = lmm("yield ~ (1 | gen)", table, field_trend="ps(row, col, nseg=(3, 3)) | `my env`")
    whole = fit.trend(se=False)
    for term in ("at(my env):ps(row, col, nseg=(3, 3))", "at(`my env`):ps(row,col,nseg=(3,3))"):
        assert fit.trend(term, se=False).equals(whole)
    expected = whole[whole["my env"] == "a`1"].reset_index(drop=True)
    for level in ("a`1", "`a`1`", '"a`1"', "a1"):
        found = fit.trend(f"at(`my env`, {level}):ps(row, col, nseg=(3, 3))", se=False)
        assert found.equals(expected)
    for name in ("my env", "`my env`"):
        exact = fit.trend(f"at({name}, b 2):ps(row, col, nseg=(3, 3))", se=False)
        assert exact["my env"].unique().tolist() == ["b 2"]
    with pytest.raises(OptionError, match=r"is not a spline .*nearest: 'at\(my env, b 2\)"):
        fit.trend('at(my env, "b 2"):ps(row, col, nseg=(3, 3))')  # b 2 or b2


def test_environments_that_share_nothing_are_fits_of_their_own(apart, alone):
    assert apart.criterion == pytest.approx(sum(fit.criterion for fit in alone.values()), abs=1e-6)
    joint = apart.variance_components
    edf = apart.effective_dimensions
    for env, fit in alone.items():
        own = fit.variance_components
        for group in ("gen", "row", "col", "ps(row, col, nseg=auto)"):
            mine = joint[joint["group"] == f"at(env, {env}):{group}"]["estimate"].to_numpy()
            expected = own[own["group"] == group]["estimate"].to_numpy()
            assert mine == pytest.approx(expected, rel=1e-3, abs=2e-5)
            mine = edf[edf["group"] == f"at(env, {env}):{group}"]["edf"].to_numpy()
            expected = fit.effective_dimensions.query("group == @group")["edf"].to_numpy()
            assert mine == pytest.approx(expected, abs=2e-3)


def test_the_trend_is_that_of_every_environment(apart, alone):
    table = apart.trend()
    assert list(table.columns) == ["env", "row", "col", "trend", "se"]
    assert table["env"].unique().tolist() == list(SIZES)
    for env, fit in alone.items():
        own, expected = table[table["env"] == env], fit.trend()
        assert (own[["row", "col"]].to_numpy() == expected[["row", "col"]].to_numpy()).all()
        np.testing.assert_allclose(own["trend"], expected["trend"], atol=2e-4)
        np.testing.assert_allclose(own["se"], expected["se"], atol=2e-4)
        one = apart.trend(f"at(env, {env}):ps(row, col, nseg=auto)")
        pd.testing.assert_frame_equal(one, own.reset_index(drop=True), check_dtype=False)


def test_new_plots_are_predicted_in_their_environment(apart, alone):
    new = pd.DataFrame({"env": ["E2", "E3", "E1"], "row": [2.5, 9, 1], "col": [3, 4.5, 12],
                        "gen": ["g03", "g07", "g11"]})  # fmt: skip
    # the row of E2 is no level of its random rows
    table = apart.predict(new, se=True, allow_new_levels=True)
    for k, env in enumerate(new["env"]):
        own = alone[env].predict(new.iloc[[k]], se=True, allow_new_levels=True)
        assert table["prediction"].iloc[k] == pytest.approx(own["prediction"].iloc[0], abs=1e-4)
        assert table["se"].iloc[k] == pytest.approx(own["se"].iloc[0], abs=1e-4)


def test_genotypes_in_common_are_the_dense_optimum(trials):
    fit = lmm("yield ~ env*row*col + (1 | gen) + at(env):ps(row, col, nseg=(4, 3))", trials)
    n = len(trials)
    row, col = (trials[name].to_numpy(float) for name in ("row", "col"))
    E = incidence(trials["env"])
    X = np.hstack([E * x[:, None] for x in (np.ones(n), row, col, row * col)])
    Z = incidence(trials["gen"])
    surfaces = []
    for env in SIZES:
        own = trials["env"] == env
        pairs, F = surface_factors(trials[own], (4, 3))
        whole = np.zeros((n, F.shape[1]))
        whole[own.to_numpy()] = F
        surfaces.append((pairs, whole))

    def criterion(values):
        V = values[0] * Z @ Z.T + values[-1] * np.eye(n)
        for k, (pairs, F) in enumerate(surfaces):
            first, second = values[1 + 2 * k : 3 + 2 * k]
            V += (F / (pairs[0] / first + pairs[1] / second)) @ F.T
        return dense_criterion(trials["yield"].to_numpy(), X, V)

    values = fit.variance_components["estimate"].to_numpy()
    assert fit.converged and values.size == 8
    # the columns of X here are sums of the fit's with determinant 1
    assert fit.criterion == pytest.approx(criterion(values), abs=1e-6)
    for k in range(values.size):
        for factor in (0.8, 1.25):
            moved = values.copy()
            moved[k] *= factor
            assert criterion(moved) > criterion(values) - 1e-6  # what the bound of a variance costs


def test_curves_of_one_variable(trials):
    fit = lmm("yield ~ env*row + at(env):spl(row)", trials, residual="units | env")
    own = [lmm("yield ~ row + spl(row)", part.reset_index(drop=True)) for _, part in trials.groupby("env")]
    assert fit.criterion == pytest.approx(sum(each.criterion for each in own), abs=1e-6)
    assert list(fit.trend().columns) == ["env", "row", "trend", "se"]


def test_a_process_of_each_environment_has_its_own_trend():
    fields = {env: process_field(seed=k, lost=0.1).assign(env=env) for k, env in enumerate(("A", "B"))}
    table = pd.concat(fields.values(), ignore_index=True)
    fit = lmm("yield ~ env", table, field_trend="ar1(row, col, nugget=TRUE) | env", residual="units | env")
    trend = fit.trend()
    assert list(trend.columns) == ["env", "row", "col", "trend", "se"]
    for env, own in fields.items():
        alone = lmm("yield ~ 1", own, field_trend="ar1(row, col, nugget=TRUE)")
        expected = alone.trend()
        mine = trend[trend["env"] == env]
        np.testing.assert_allclose(mine["trend"], expected["trend"], atol=1e-4)


def test_the_option_writes_a_formula():
    parsed, residual = add_field_trend("yield ~ (1 | gen)", "units", "ps(range, bed, nseg=(4, 5)) | site")
    assert parsed.text == (
        "yield ~ (1 | gen) + site*range*bed + (1 | at(site):range) + (1 | at(site):bed) + "
        "at(site):ps(range, bed, nseg=(4, 5))"
    )
    assert residual == "units"
    parsed, residual = add_field_trend("yield ~ (1 | gen)", "units", "ar1 | site")
    assert (parsed.text, residual) == ("yield ~ (1 | gen)", "ar1(row):ar1(col) | site")
    with pytest.raises(OptionError, match="one column after"):
        add_field_trend("yield ~ 1", "units", "ps | site:year")


def test_maps_show_the_environment_asked_for(apart, trials):
    figure = plots.plot_field(apart, trial="E2")
    assert "E2" in figure.get_suptitle()
    shown = np.ma.filled(figure.axes[1].images[0].get_array().astype(float), np.nan)
    expected = apart.trend("at(env, E2):ps(row, col, nseg=auto)").pivot(
        index="row", columns="col", values="trend"
    )
    np.testing.assert_allclose(shown[: SIZES["E2"][0], : SIZES["E2"][1]], expected.to_numpy())
    assert np.isfinite(shown).sum() == expected.size  # the largest field has more rows and columns


def test_a_batch_over_years_takes_it(trials):
    twice = pd.concat([trials.assign(year=2001), trials.assign(year=2002)], ignore_index=True)
    formula = "yield ~ env*row*col + (1 | gen) + at(env):ps(row, col, nseg=(3, 3))"
    batch = fit_batch(twice, formula, by="year", blups="gen", progress=False)
    fit = lmm(formula, trials)
    assert batch.fits["criterion"].to_numpy() == pytest.approx(fit.criterion, abs=1e-7)
    assert "edf_at(env, E3):ps(row, col, nseg=(3, 3)).col" in batch.fits


@pytest.mark.parametrize(
    ("formula", "error", "words"),
    [
        ("yield ~ row*col + at(env):ps(row, col)", DesignError, r"add env\*row\*col"),
        ("yield ~ env*row + gen:spl(row)", FormulaError, r"at\(env\):spl"),
        ("yield ~ env*row + at(env):spl(row, col)", FormulaError, "takes one variable"),
        ("yield ~ env*row + spl(row | env)", FormulaError, r"each level of env is at\(env\):spl\(row\)"),
        ("yield ~ env*row*col + ps(row, col | env)", FormulaError, r"is at\(env\):ps\(row, col\)"),
        ("yield ~ env*row + at(enw):spl(row)", FormulaError, "column 'enw' is not in the data"),
        ("yield ~ env*half + at(env):spl(half)", DesignError, r"at\(env, E2\):spl\(half\)' needs at least 3"),
    ],
)
def test_what_cannot_be_is_said(trials, formula, error, words):
    half = np.where(trials["env"] == "E2", 1, trials["row"])
    with pytest.raises(error, match=words):
        lmm(formula, trials.assign(half=half))


def test_new_plots_beyond_the_field_are_refused(apart):
    new = pd.DataFrame({"env": ["E2"], "row": [10], "col": [3], "gen": ["g03"]})
    with pytest.raises(DataError, match=r"at\(env, E2\):ps.*row = 10.*beyond"):
        apart.predict(new, allow_new_levels=True)
    assert np.isfinite(apart.predict(new.assign(env="E3", col=9))[0])  # its field has ten rows


def test_plots_are_told_apart_by_their_environment(apart, trials):
    summary = apart.trial_summary("at(env, E1):gen")
    assert summary["duplicates"] == 0
    batch = fit_batch(
        trials.assign(year=1), "yield ~ (1 | gen)", by="year", field_trend="ps | env", genotypes="gen",
        plots=["row", "col"], progress=False,
    )  # fmt: skip
    assert batch.plots["env"].nunique() == 3
    assert not batch.plots.duplicated(["env", "row", "column"]).any()
    trend = lmm("yield ~ (1 | gen)", trials, field_trend="ps | env").trend()
    own = batch.plots.rename(columns={"column": "col"})
    both = own.merge(trend, on=["env", "row", "col"], suffixes=("", "_of_fit"))
    assert both["trend"].to_numpy() == pytest.approx(both["trend_of_fit"].to_numpy(), abs=1e-5)


def test_environments_may_be_numbers():
    fields = {env: process_field(seed=env, lost=0.1).assign(env=env) for env in (10, 20)}
    table = pd.concat(fields.values(), ignore_index=True)
    fit = lmm(
        "yield ~ factor(env)", table, field_trend="ar1(row, col, nugget=TRUE) | env", residual="units | env"
    )
    trend = fit.trend()
    assert trend["env"].astype(str).unique().tolist() == ["10", "20"]
    figure = plots.plot_field(fit, trial=20)
    shown = np.ma.filled(figure.axes[1].images[0].get_array().astype(float), np.nan)
    assert np.isfinite(shown).all()
    assert "20" in figure.get_suptitle() and "20.0" not in figure.get_suptitle()


def test_numbers_are_levels_of_a_trend_by_them(trials):
    """As right of a bar and in ``by=``: the model is that of the same environments as texts."""
    number = trials["env"].map({"E1": 10, "E2": 2, "E3": 30})
    formula = "yield ~ (1 | gen)"
    fit = lmm(formula, trials.assign(env=number), field_trend="ps | env", residual="units | env")
    texts = lmm(formula, trials, field_trend="ps | env", residual="units | env")
    assert fit.criterion == pytest.approx(texts.criterion, abs=1e-7)
    assert np.allclose(fit.fitted, texts.fitted, atol=1e-5)
    assert "+ factor(env)*row*col +" in fit.formula and "+ env*row*col +" in texts.formula
    assert fit.trend()["env"].astype(str).unique().tolist() == ["2", "10", "30"]
    new = trials.head(5).assign(env=number.head(5))
    assert fit.predict(new) == pytest.approx(fit.fitted[:5], abs=1e-8)
    with pytest.raises(DesignError, match=r"factor\(env\)\*row\*col where it holds numbers"):
        lmm(f"{formula} + env*row*col + at(env):ps(row, col)", trials.assign(env=number))


@pytest.mark.parametrize("label", ["E2", 7])
def test_one_environment_has_the_plain_trend(trials, alone, label):
    own = trials[trials["env"] == "E2"].reset_index(drop=True).assign(env=label)
    fit = lmm("yield ~ (1 | gen)", own, field_trend="ps | env")
    expected = alone["E2"]
    assert fit.criterion == pytest.approx(expected.criterion, abs=1e-8)
    assert fit.coef_names == expected.coef_names
    assert fit.beta == pytest.approx(expected.beta, abs=1e-7)
    assert fit.fitted == pytest.approx(expected.fitted, abs=1e-6)
    assert fit.trend()["trend"].to_numpy() == pytest.approx(expected.trend()["trend"].to_numpy(), abs=1e-6)
    assert set(fit.variance_components["group"]) >= {f"at(env, {label}):row", "gen"}


def test_environments_are_counted_on_the_rows_used(trials, alone):
    """A trial that was lost in one environment is one of the other."""
    two = trials[trials["env"] != "E3"].reset_index(drop=True)
    two.loc[two["env"] == "E1", "yield"] = np.nan
    fit = lmm("yield ~ (1 | gen)", two, field_trend="ps | env")
    assert fit.criterion == pytest.approx(alone["E2"].criterion, abs=1e-8)
    with pytest.raises(DesignError, match="'env' has only the level 'E2'"):
        lmm("yield ~ env + (1 | gen)", two, field_trend="ps | env")  # who names it in the fixed part is told


def test_a_batch_of_trials_with_one_environment_and_with_several(trials):
    formula = "yield ~ (1 | gen)"
    two = pd.concat([trials.assign(year=1), trials[trials["env"] == "E2"].assign(year=2)], ignore_index=True)
    batch = fit_batch(two, formula, by="year", field_trend="ps | env", blups="gen", progress=False)
    assert (batch.fits["status"] == "ok").all()
    for year, own in two.groupby("year"):
        fit = lmm(formula, own.reset_index(drop=True), field_trend="ps | env")
        found = batch.fits.loc[batch.fits["year"] == year, "criterion"]
        assert found.to_numpy() == pytest.approx(fit.criterion, abs=1e-7)


def test_a_saved_fit_of_such_a_trend(trials, tmp_path):
    number = trials["env"].map({"E1": 10, "E2": 2, "E3": 30})
    fit = lmm("yield ~ (1 | gen)", trials.assign(env=number), field_trend="ps | env")
    fit.save(tmp_path / "fit.flmm")
    again = load(tmp_path / "fit.flmm")
    assert again.formula == fit.formula
    assert again.trend().equals(fit.trend())


def test_several_factors_each_have_a_column(trials):
    half = np.where(trials["row"] > 4, 2, 1)
    formula = "yield ~ env*factor(half)*row + at(env):at(factor(half)):spl(row)"
    trend = lmm(formula, trials.assign(half=half)).trend()
    assert list(trend.columns) == ["env", "factor(half)", "row", "trend", "se"]
    assert sorted(trend["factor(half)"].unique()) == ["1", "2"]


def test_tests_of_terms_name_the_environment(trials):
    table = lmm("yield ~ env*row + (1 | gen) + (1 | at(env):row)", trials).ranova()
    names = [name for name in table["term"] if name.startswith("at(")]
    assert names == [f"at(env, {env}):row" for env in SIZES]


@pytest.mark.parametrize(
    ("label", "spline"),
    [
        ("ps(row, col, nseg=auto) row", True),
        ("at(env, E1):ps(row, col) col", True),
        ("at(env, E1):at(rep, 2):spl(x)", True),
        ("at(env, E1):row", False),
        ("psi", False),
        ("vm(gen, A)", False),
    ],
)
def test_splines_are_known_by_their_labels(label, spline):
    assert names_spline(label) is spline


@pytest.fixture(scope="module")
def narrow():
    """A trial of one long row and one of one column, before and between two fields."""
    row = made_field(1, 40, seed=11, lost=0.1, genotypes=18)
    column = made_field(25, 1, seed=12, genotypes=11).assign(col=4)
    own = {
        "A": row.assign(row=3), "B": made_field(9, 8, seed=13, lost=0.1, genotypes=18), "C": column,
        "D": made_field(8, 10, seed=14, genotypes=18),
    }  # fmt: skip
    parts = [field.assign(env=env) for env, field in own.items()]
    return pd.concat(parts, ignore_index=True).sample(frac=1.0, random_state=2).reset_index(drop=True)


CURVES = {"A": "col", "C": "row"}


def test_an_environment_of_one_row_has_a_curve_along_it(narrow):
    words = r"'env' 'A': too narrow for a surface.*row; the trend there is ps\(col, nseg=auto\)"
    with pytest.warns(DistanceWarning, match=words):
        fit = lmm("yield ~ 1 + (1 | at(env):gen)", narrow, field_trend="ps | env", residual="units | env")
    assert fit.formula.endswith(
        '+ env + I(row * (env == "B")) + I(row * (env == "C")) + I(row * (env == "D")) + '
        'I(col * (env == "A")) + I(col * (env == "B")) + I(col * (env == "D")) + '
        'I(row * col * (env == "B")) + I(row * col * (env == "D")) + '
        '(1 | at(env, "B", "D"):row) + (1 | at(env, "B", "D"):col) + '
        'at(env, "B", "D"):ps(row, col, nseg=auto) + at(env, "C"):ps(row, nseg=auto) + '
        'at(env, "A"):ps(col, nseg=auto)'
    )
    trend, values = fit.trend(), fit.variance_components
    assert trend["env"].unique().tolist() == ["A", "B", "C", "D"]
    for env, own in narrow.groupby("env"):
        along = CURVES.get(env)
        formula = f"yield ~ {along} + (1 | gen) + ps({along}, nseg=auto)" if along else "yield ~ (1 | gen)"
        alone = lmm(formula, own.reset_index(drop=True), field_trend=None if along else "ps")
        mine = values[values["group"].str.contains(f"at(env, {env}):", regex=False)]["estimate"]
        expected = alone.variance_components["estimate"].to_numpy()[:-1]
        assert mine.to_numpy() == pytest.approx(expected, rel=2e-3, abs=2e-5)
        mine, expected = trend[trend["env"] == env], alone.trend()
        assert list(mine.columns) == ["env", "row", "col", "trend", "se"]
        assert mine[["row", "col"]].notna().all(axis=None)
        np.testing.assert_allclose(mine["trend"], expected["trend"], atol=2e-4)
        np.testing.assert_allclose(mine["se"], expected["se"], atol=2e-4)
    again = lmm(fit.formula, narrow, residual="units | env")  # an ordinary formula
    assert again.criterion == pytest.approx(fit.criterion, abs=1e-9)
    one = fit.trend("at(env, A):ps(col, nseg=auto)")
    pd.testing.assert_frame_equal(one, trend[trend["env"] == "A"].reset_index(drop=True), check_dtype=False)
    shown = plots.plot_field(fit, trial="A").axes[1].images[0].get_array()
    assert np.isfinite(np.ma.filled(shown.astype(float), np.nan)).sum() == len(one)


def test_a_batch_has_the_curves_of_narrow_environments(narrow):
    year = np.where(narrow["env"].isin(["A", "B"]), 1, 2)
    table = narrow.assign(year=year)
    batch = fit_batch(
        table, "yield ~ (1 | gen)", by="year", field_trend="ps | env", genotypes="gen", plots=["row", "col"],
        progress=False,
    )  # fmt: skip
    assert (batch.fits["status"] == "ok").all()  # means of genotypes are estimable
    assert batch.fits["message"].str.contains("too narrow for a surface").all()
    for own, found in zip((1, 2), batch.fits["criterion"], strict=True):
        fit = lmm("yield ~ (1 | gen)", table[table["year"] == own], field_trend="ps | env")
        assert found == pytest.approx(fit.criterion, abs=1e-8)
        plots_of = batch.plots[batch.plots["year"] == own].rename(columns={"column": "col"})
        both = plots_of.merge(fit.trend(), on=["env", "row", "col"], suffixes=("", "_of_fit"))
        assert len(both) == len(plots_of)
        assert both["trend"].to_numpy() == pytest.approx(both["trend_of_fit"].to_numpy(), abs=1e-6)


def test_two_rows_keep_their_own_lines(narrow):
    """Two rows lie on a line: no surface and no variance of rows, but pairs of plots in a column."""
    pair = made_field(2, 20, seed=15, genotypes=12).assign(env="P")
    table = pd.concat([narrow[narrow["env"] == "D"], pair], ignore_index=True)
    fit = lmm("yield ~ env + (1 | at(env):gen)", table, residual="units | env",
              field_trend="ps(row, col, nseg=(4, 6), degree=2) | env")  # fmt: skip
    alone = lmm("yield ~ row*col + (1 | gen) + (1 | col) + ps(col, nseg=6, degree=2)", pair)
    assert 'at(env, "P"):ps(col, nseg=6, degree=2)' in fit.formula
    assert '(1 | at(env, "D"):row) + (1 | at(env):col)' in fit.formula
    values = fit.variance_components
    mine = values[values["group"].str.contains("at(env, P):", regex=False)]["estimate"].to_numpy()
    expected = alone.variance_components["estimate"].to_numpy()[:-1]
    assert mine == pytest.approx(expected, rel=1e-3, abs=2e-5)
    trend = fit.trend()
    own = trend[trend["env"] == "P"].pivot(index="row", columns="col", values="trend").to_numpy()
    effect = alone.predict(pair.drop_duplicates(["row", "col"]), random=["ps(col, nseg=6, degree=2)"])
    expected = pair.assign(trend=effect).pivot(index="row", columns="col", values="trend").to_numpy()
    np.testing.assert_allclose(own - own.mean(), expected - expected.mean(), atol=1e-3)


def test_a_trial_with_neither_rows_nor_columns_has_no_trend(narrow):
    small = made_field(2, 2, seed=16, genotypes=3).assign(env="S", gen=["g01", "g02", "g02", "g03"])
    table = pd.concat([narrow[narrow["env"].isin(["B", "D"])], small], ignore_index=True)
    with pytest.warns(DistanceWarning, match="'env' 'S': fewer than 3 distinct .*; there is no trend"):
        fit = lmm("yield ~ (1 | gen)", table, field_trend="ps | env")
    assert "S" not in set(fit.trend()["env"])
    every = lmm("yield ~ (1 | gen)", narrow[narrow["env"] == "A"], field_trend="ps | env")
    assert every.formula == "yield ~ (1 | gen) + col + at(env):ps(col, nseg=auto)"
    assert every.coef_names == ("(Intercept)", "col")


def test_levels_of_at_are_named(trials):
    """``at(env, E1)`` in a formula, by name, text or number."""
    formula = "yield ~ env*row*col + (1 | gen) + "
    for level in ("E1", "'E1'", 'c("E1")'):
        at = f"at(env, {level})"
        fit = lmm(formula + f"{at}:ps(row, col, nseg=(4, 3)) + (1 | {at}:row)", trials)
        groups = set(fit.variance_components["group"])
        assert groups == {"gen", "at(env, E1):ps(row, col, nseg=(4, 3))", "at(env, E1):row", "Residual"}
    number = trials.assign(env=trials["env"].map({"E1": 10, "E2": 2, "E3": 30}))
    own = lmm(formula.replace("env", "factor(env)") + "(1 | at(env, 10):row)", number)
    two = lmm(formula + "(1 | at(env, E1):row)", trials)
    assert own.criterion == pytest.approx(two.criterion, abs=1e-8)
    dense = lmm(formula + "(0 + dummy(env, 'E1') | row)", trials)  # rows of others have no data
    assert two.criterion == pytest.approx(dense.criterion, abs=1e-8)
    assert two.predict(trials.head(9)) == pytest.approx(dense.predict(trials.head(9)), abs=1e-6)
    with pytest.raises(DataError, match=r"at\(env, E9\): 'env' has no level 'E9' in the rows used"):
        lmm(formula + "(1 | at(env, E9):row)", trials)
    with pytest.raises(FormulaError, match=r"'1 \+ 2' in at\(\) is not a level"):
        lmm(formula + "(1 | at(env, 1 + 2):row)", trials)


@pytest.fixture(scope="module")
def renumbered(trials):
    """The same fields, one with its rows from 101 and one with its columns in steps of two."""
    first, second = trials["env"] == "E1", trials["env"] == "E2"
    return trials.assign(row=trials["row"] + 100 * first, col=trials["col"] * np.where(second, 2, 1))


def test_means_do_not_depend_on_the_numbers_of_rows(trials, renumbered):
    """At the mean number over all fields they were those of a polynomial far outside: SE 2.3 for 0.3."""
    for formula, asked in (("yield ~ gen", ("gen", "env")), ("yield ~ (1 | gen)", ("env", "~ 1"))):
        fits = [lmm(formula, table, field_trend="ps | env") for table in (trials, renumbered)]
        assert fits[0].criterion == pytest.approx(fits[1].criterion - 2 * _scale_of_columns(), abs=1e-5)
        for specs in asked:
            one, two = (fit.emmeans(specs).to_frame() for fit in fits)
            np.testing.assert_allclose(two["estimate"], one["estimate"], rtol=1e-5)
            np.testing.assert_allclose(two["se"], one["se"], rtol=1e-4)
        tests = [fit.joint_tests() for fit in fits]
        assert tests[1].iloc[0]["F"] == pytest.approx(tests[0].iloc[0]["F"], rel=1e-3)
    values = [fit.genotype_values("gen").to_frame() for fit in fits]
    np.testing.assert_allclose(values[1]["estimate"], values[0]["estimate"], rtol=1e-5)
    np.testing.assert_allclose(values[1]["se"], values[0]["se"], rtol=1e-4)


def _scale_of_columns():
    """log |X'X| of columns of E2 that are twice as large: col and row:col."""
    return 2 * np.log(2.0)


def test_means_stand_in_the_middle_of_each_field(trials, renumbered):
    fit = lmm("yield ~ env + (1 | gen)", renumbered, field_trend="ps | env")
    means = fit.emmeans("env")
    remarks = " ".join(means.remarks)
    assert "In the middle of the plots of each env, by the mean of their row and col" in remarks
    assert "held at" not in remarks
    middle = renumbered.groupby("env")[["row", "col"]].mean().reset_index()
    expected = fit.predict(middle, random=False)
    np.testing.assert_allclose(means.to_frame()["estimate"], expected, rtol=1e-9)
    at = fit.emmeans("env", at={"row": 4, "col": 5}).to_frame()["estimate"]  # what is asked for
    expected = fit.predict(middle.assign(row=4, col=5), random=False)
    np.testing.assert_allclose(at, expected, rtol=1e-9)
    by_row = fit.emmeans("~ row | env").to_frame()  # one number for all, which the table shows
    expected = fit.predict(middle.assign(row=renumbered["row"].mean()), random=False)
    np.testing.assert_allclose(by_row["estimate"], expected, rtol=1e-9)
    slopes = fit.emtrends("env", "row").to_frame()["estimate"]
    steps = [fit.predict(middle.assign(row=middle["row"] + k), random=False) for k in (0, 1)]
    np.testing.assert_allclose(slopes, steps[1] - steps[0], rtol=1e-7)
    tests = fit.joint_tests().set_index("term")
    differences = fit.linear_functions(np.diff(_rows(fit, middle), axis=0)).f_test()
    assert tests.loc["env", "F"] == pytest.approx(differences.F, rel=1e-8)


def _rows(fit, table):
    return fit.design.fixed_matrix(table).toarray()


def test_maps_have_the_size_of_their_field(renumbered):
    """Rows from 101 in one field left a map of 110 rows, of which 9 were seen."""
    fit = lmm("yield ~ (1 | gen) + (1 | row)", renumbered, field_trend="ps | env")
    trend = fit.trend(se=False)
    for env, size in SIZES.items():
        figure = plots.plot_field(fit, trial=env)
        own = renumbered[renumbered["env"] == env]
        step = 2 if env == "E2" else 1
        span = tuple(int(np.ptp(own[name])) // k + 1 for name, k in (("row", 1), ("col", step)))
        assert span == size
        drawn = [ax.images[0].get_array() for ax in figure.axes[:3]]
        expected = trend[trend["env"] == env].pivot(index="row", columns="col", values="trend").to_numpy()
        shown = np.ma.filled(drawn[1].astype(float), np.nan)
        np.testing.assert_allclose(shown[:, ::step], expected)
        assert all(image.shape[0] == size[0] for image in drawn)
        labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert labels[0] == str(own["row"].min())
        figure.clear()


def test_curves_of_covariates_have_one_mean(trials):
    """A dose is no position: without rows and columns as factors nothing is moved."""
    fit = lmm("yield ~ env*row + (1 | gen) + at(env):spl(row)", trials)
    expected = fit.predict(pd.DataFrame({"env": list(SIZES), "row": trials["row"].mean()}), random=False)
    np.testing.assert_allclose(fit.emmeans("env").to_frame()["estimate"], expected, rtol=1e-9)
