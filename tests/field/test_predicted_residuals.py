"""Rows without a response: what the correlated residuals of a fit tell of theirs, against dense matrices."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm, load, long_table, run
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.results import row_variances
from fastlmm_core.structures.residuals.visits_in_series import SeriesResiduals


def correlation(n, rho):
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def best_prediction(y, X, V, cross, own, x0):
    """Universal kriging of rows x0 b + e0 with Cov(rest, e0) = cross (n, m) and Var = own (m,)."""
    Vi = np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ Vi @ X)
    b = phi @ X.T @ Vi @ y
    value = x0 @ b + cross.T @ Vi @ (y - X @ b)
    left = x0 - cross.T @ Vi @ X
    variance = own - np.einsum("im,ij,jm->m", cross, Vi, cross) + np.einsum("mi,ij,mj->m", left, phi, left)
    return value, np.sqrt(np.maximum(variance, 0.0))


@pytest.fixture(scope="module")
def fields():
    r = np.random.default_rng(3)
    out = []
    for env, (R, C) in {"E1": (6, 7), "E2": (5, 8)}.items():
        row, col = np.divmod(np.arange(R * C), C)
        cells = pd.DataFrame({"row": row + 1, "col": col + 1})
        L = np.linalg.cholesky(np.kron(correlation(R, 0.6), correlation(C, 0.8)))
        cells["gen"] = r.permutation(np.resize([f"g{i}" for i in range(10)], R * C))
        cells["y"] = 5 + L @ r.normal(size=R * C) + cells["gen"].str[1:].astype(int) * 0.1
        out.append(cells.assign(env=env))
    return pd.concat(out, ignore_index=True)


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("many", [False, True])
def test_missing_plots_of_fields(fields, random, many, monkeypatch):
    """Of many rows variances come from the inverse subset, as far as it knows their unknowns."""
    if many:
        monkeypatch.setattr(row_variances, "SOLVED", 1)
    lost = fields.index[[3, 17, 18, 45, 60]]
    data = fields.assign(y=fields["y"].where(~fields.index.isin(lost)))
    formula = "y ~ env + (1|gen)" if random else "y ~ env + gen"
    fit = lmm(formula, data, residual="ar1(row):ar1(col) | env")
    found = fit.predict(fields.loc[lost], residual=True, se=True)

    theta = {block["at"]: block for block in fit.solved.equations.residual.blocks(
        fit.solved.theta[fit.solved.equations.slices[1]])}  # fmt: skip
    n, unit = len(fields), fit.solved.sigma2
    R = np.zeros((n, n))
    for env, own in fields.groupby("env"):
        rho = theta[env]["group_corr"]
        cells = [np.abs(np.subtract.outer(own[c].to_numpy(), own[c].to_numpy())) for c in ("row", "col")]
        R[np.ix_(own.index, own.index)] = unit * theta[env]["T"][0, 0] * (
            rho["row"] ** cells[0] * rho["col"] ** cells[1])  # fmt: skip
    V = R
    if random:
        same = np.equal.outer(fields["gen"].to_numpy(), fields["gen"].to_numpy())
        component = fit.variance_components
        V = R + float(component.loc[component["group"] == "gen", "estimate"].iloc[0]) * same
        X = np.asarray(pd.get_dummies(fields["env"]), float)
    else:
        X = np.hstack([np.asarray(pd.get_dummies(fields[c]), float) for c in ("env", "gen")])[:, 1:]
    kept, m = fields.index.difference(lost), lost
    value, error = best_prediction(
        fields.loc[kept, "y"].to_numpy(), X[kept], V[np.ix_(kept, kept)], V[np.ix_(kept, m)], np.diag(V)[m],
        X[m],
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-7)
    np.testing.assert_allclose(found["se"], error, rtol=1e-6)
    apart = fit.predict(fields.loc[lost], se=True)
    assert np.abs(apart["prediction"] - value).max() > 0.1


def test_rows_of_the_data_have_their_response(fields, tmp_path):
    data = fields.drop(index=[3, 17])
    fit = lmm("y ~ env + (1|gen)", data, residual="ar1(row):ar1(col) | env")
    found = fit.predict(data, residual=True, se=True)
    np.testing.assert_allclose(found["prediction"], data["y"], rtol=1e-9)
    assert (found["se"] < 1e-5).all()
    fit.save(tmp_path / "own.fit")
    again = load(tmp_path / "own.fit").predict(fields.loc[[3, 17]], residual=True, se=True)
    pd.testing.assert_frame_equal(
        pd.DataFrame(again), pd.DataFrame(fit.predict(fields.loc[[3, 17]], residual=True, se=True)), rtol=1e-6
    )


@pytest.mark.parametrize("structure", ["us", "ar1", "cs", "hetar1"])
@pytest.mark.parametrize("weighted", [False, True])
def test_missed_visits(structure, weighted):
    r = np.random.default_rng(8)
    sleep = datasets.load("sleepstudy").query("Days < 5").reset_index(drop=True)
    lost = np.array([2, 33, 34, 71])
    w = r.uniform(0.5, 2.0, len(sleep)) if weighted else np.ones(len(sleep))
    w[lost] = 1.0
    data = sleep.assign(w=w, Reaction=sleep["Reaction"].where(~sleep.index.isin(lost)))
    residual = f"{structure}(Days | Subject)"
    fit = lmm("Reaction ~ Days", data, residual=residual, weights="w" if weighted else None)
    found = fit.predict(sleep.loc[lost], residual=True, se=True)

    own = fit.solved.equations.residual
    S = own.visit_covariance(fit.solved.theta[fit.solved.equations.slices[1]], 0) * fit.solved.sigma2
    same = np.equal.outer(sleep["Subject"].to_numpy(), sleep["Subject"].to_numpy())
    days = sleep["Days"].to_numpy()
    V = S[np.ix_(days, days)] * same / np.sqrt(np.outer(w, w))
    X = np.column_stack([np.ones(len(sleep)), days])
    kept = np.setdiff1d(np.arange(len(sleep)), lost)
    value, error = best_prediction(
        sleep["Reaction"].to_numpy()[kept], X[kept], V[np.ix_(kept, kept)], V[np.ix_(kept, lost)],
        np.diag(V)[lost], X[lost],
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-6)
    np.testing.assert_allclose(found["se"], error, rtol=1e-5)


def test_a_new_subject_has_the_mean_and_the_variance_of_its_visit():
    sleep = datasets.load("sleepstudy").query("Days < 5")
    fit = lmm("Reaction ~ Days", sleep, residual="us(Days | Subject)")
    new = pd.DataFrame({"Days": [3], "Subject": ["new"]})
    with pytest.raises(DataError, match="'Subject' has the levels 'new', of which the fit has no residuals"):
        fit.predict(new, residual=True)
    own, mean = (
        fit.predict(new, residual=flag, se=True, allow_new_levels=True).iloc[0] for flag in (True, False)
    )
    assert own["prediction"] == pytest.approx(mean["prediction"])
    variance = fit.solved.equations.residual.visit_variances(fit.solved.theta)[0, 3] * fit.solved.sigma2
    assert own["se"] ** 2 == pytest.approx(mean["se"] ** 2 + variance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": ["x"]}, r"'row' has the levels 'x', outside of the field in 'E1', whose .* have 1 to 6,"),
        ({"row": [2.5]}, r"new data: positions in ar1\(row\) must be whole numbers"),
        ({"env": ["E9"]}, r"'env' has the levels 'E9', which did not occur"),
        ({"col": [None]}, r"'col' has no value in row 1"),
    ],
)
def test_rows_that_are_not_in_the_fields(fields, change, message):
    fit = lmm("y ~ 1 + (1|gen)", fields.drop(index=[3]), residual="ar1(row):ar1(col) | env")
    new = fields.loc[[3]].assign(**change)
    with pytest.raises(DataError, match=message):
        fit.predict(new, residual=True)
    with pytest.raises(DataError, match=r"the column 'row' of residual=.* is not there"):
        fit.predict(fields.loc[[3]].drop(columns="row"), residual=True)


def test_residuals_that_tell_nothing(fields):
    fit = lmm("y ~ env + (1|gen)", fields)
    with pytest.raises(OptionError, match=r"residual='units'.* are independent"):
        fit.predict(fields.loc[[3]], residual=True)
    with pytest.raises(OptionError, match="belongs to newdata"):
        lmm("y ~ env", fields, residual="ar1(row):ar1(col) | env").predict(residual=True)


def test_a_trait_that_was_not_measured(fields):
    """Beside genetic effects of both traits; through a request, too."""
    r = np.random.default_rng(5)
    wide = fields.query("env == 'E1'").assign(plot=lambda d: d["row"] * 100 + d["col"])
    wide["z"] = 0.8 * wide["y"] + r.normal(size=len(wide)) * 0.3
    table, name = long_table(wide, traits=["y", "z"], id="plot", value="value"), "value"
    lost = table.index[[4, 9, 70]]
    data = table.assign(**{name: table[name].where(~table.index.isin(lost))})
    formula, residual = f"{name} ~ 0 + trait + diag(0 + trait | gen)", "us(trait | plot)"
    fit = lmm(formula, data, residual=residual)
    found = fit.predict(table.loc[lost], residual=True, se=True)

    theta = fit.solved.theta[fit.solved.equations.slices[1]]
    S = fit.solved.equations.residual.visit_covariance(theta, 0) * fit.solved.sigma2
    trait = table["trait"].map({label: i for i, label in enumerate(fit.design.residual.positions)}).to_numpy()
    same = {c: np.equal.outer(table[c].to_numpy(), table[c].to_numpy()) for c in ("plot", "gen", "trait")}
    T = np.diag(fit.variance_components.query("group == 'gen'")["estimate"].to_numpy(float))
    V = S[np.ix_(trait, trait)] * same["plot"] + T[np.ix_(trait, trait)] * same["gen"]
    X = np.eye(2)[trait]
    kept = table.index.difference(lost)
    value, error = best_prediction(
        table.loc[kept, name].to_numpy(), X[kept], V[np.ix_(kept, kept)], V[np.ix_(kept, lost)],
        np.diag(V)[lost], X[lost],
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-6)
    np.testing.assert_allclose(found["se"], error, rtol=1e-5)

    new = {c: table.loc[lost, c].tolist() for c in ("plot", "gen", "trait")}
    asked = {"newdata": new, "residual": True, "se": True}
    request = {"data": json_columns(data), "formula": formula, "residual": residual, "predict": [asked]}
    answer = run(request)["predict"][0]
    np.testing.assert_allclose(answer["prediction"], found["prediction"], rtol=1e-9)
    np.testing.assert_allclose(answer["se"], found["se"], rtol=1e-9)


def json_columns(table):
    return {c: [None if pd.isna(v) else v for v in table[c].tolist()] for c in table.columns}


def test_a_plot_beside_a_nugget_has_one_of_its_own(fields):
    field = fields.query("env == 'E1'").assign(plot=lambda d: d["row"] * 100 + d["col"])
    r = np.random.default_rng(1)
    field["y"] += r.normal(size=len(field)) * 0.7
    lost = field.index[[5, 20, 33]]
    data = field.assign(y=field["y"].where(~field.index.isin(lost)))
    fit = lmm("y ~ 1 + (1 | units)", data, residual="ar1(row):ar1(col)")
    own = fit.predict(field.loc[lost], residual=True, se=True)
    by_plot = lmm("y ~ 1 + (1 | plot)", data, residual="ar1(row):ar1(col)")
    same = by_plot.predict(field.loc[lost], residual=True, se=True, allow_new_levels=True)
    pd.testing.assert_frame_equal(pd.DataFrame(own), pd.DataFrame(same), rtol=1e-5)
    nugget = float(fit.variance_components.query("group == 'units'")["estimate"].iloc[0])
    assert nugget > 0.05
    process = lmm("y ~ 1 + (1 | ar1(row):ar1(col))", data).predict(field.loc[lost], se=True)
    np.testing.assert_allclose(own["prediction"], process["prediction"], rtol=1e-5)
    np.testing.assert_allclose(own["se"] ** 2, process["se"] ** 2 + nugget, rtol=1e-4)


@pytest.mark.parametrize("days", [300, 20_000])
@pytest.mark.parametrize("arms", [False, True])
def test_days_between_those_of_long_series(days, arms):
    """Of the range of days no matrix is made: with 20,000 days it would have 3 GB."""
    r = np.random.default_rng(2)
    parts = []
    for subject in range(12):
        seen = np.sort(r.choice(days, 40, replace=False))
        gap = np.abs(np.subtract.outer(seen, seen)) * (300 / days)
        y = (1 + subject % 2) * np.linalg.cholesky(0.9**gap) @ r.normal(size=40)
        own = {"subject": f"s{subject}", "day": seen, "arm": "AB"[subject % 2], "y": 5.0 + y}
        parts.append(pd.DataFrame(own))
    whole = pd.concat(parts, ignore_index=True)
    w = r.uniform(0.5, 2.0, len(whole))
    inner = np.flatnonzero(whole["day"].between(0.1 * days, 0.9 * days))
    lost = np.sort(r.choice(inner, 60, replace=False))
    w[lost] = 1.0
    data = whole.assign(w=w, y=whole["y"].where(~whole.index.isin(lost)))
    residual = "ar1(day | subject) | arm" if arms else "ar1(day | subject)"
    fit = lmm("y ~ arm", data, residual=residual, weights="w")
    order = r.permutation(lost)
    found = fit.predict(whole.loc[order], residual=True, se=True).loc[lost]

    blocks = fit.solved.equations.residual.blocks(fit.solved.theta[fit.solved.equations.slices[1]])
    day, name, arm = whole["day"].to_numpy(), whole["subject"].to_numpy(), whole["arm"].to_numpy()
    V = np.zeros((len(whole), len(whole)))
    for block in blocks:
        T = block["T"] * fit.solved.sigma2
        own = np.equal.outer(name, name) * (block["at"] is None or np.equal.outer(arm, [block["at"]]))
        V += own * T[0, 0] * (T[0, 1] / T[0, 0]) ** np.abs(np.subtract.outer(day, day))
    V /= np.sqrt(np.outer(w, w))
    X = np.asarray(pd.get_dummies(whole["arm"]), float)
    kept = np.setdiff1d(np.arange(len(whole)), lost)
    value, error = best_prediction(
        whole["y"].to_numpy()[kept], X[kept], V[np.ix_(kept, kept)], V[np.ix_(kept, lost)], np.diag(V)[lost],
        X[lost],
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-7)
    np.testing.assert_allclose(found["se"], error, rtol=1e-6)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("words", [False, True])
def test_plots_beyond_the_field(fields, signs, weighted, words):
    """The process goes on: V over the plots of the field and those around it, whatever lies between."""
    r = np.random.default_rng(9)
    turn = np.where(fields["row"] % 2 == 1, 1.0, float(signs[0]))
    data = fields.assign(w=r.uniform(0.5, 2.0, len(fields)), y=5 + (fields["y"] - 5) * turn)
    data = data.drop(index=[3, 41, 48]).assign(w=lambda d: d["w"] if weighted else 1.0)
    new = pd.DataFrame({
        "env": ["E1"] * 5 + ["E2"] * 4, "gen": ["g1", "g3", "g9", "g2", "g0", "g4", "g4", "g5", "g6"],
        "row": [7, 9, 0, -2, 3, 6, 0, 1, 5], "col": [3, 9, 4, 0, -1, 9, 1, 7, 12],
    })  # fmt: skip
    names = [f"R{i:02d}" for i in range(-5, 20)]

    def as_read(t):
        return t.assign(row=pd.Categorical([f"R{i:02d}" for i in t["row"]], names)) if words else t

    fit = lmm("y ~ env + (1|gen)", as_read(data), residual="ar1(row):ar1(col) | env",
              weights="w" if weighted else None)  # fmt: skip
    found = fit.predict(as_read(new), residual=True, se=True)

    blocks = {b["at"]: b for b in fit.solved.equations.residual.blocks(
        fit.solved.theta[fit.solved.equations.slices[1]])}  # fmt: skip
    assert (blocks["E1"]["group_corr"]["row"] < 0) == (signs[0] < 0)
    both, n = pd.concat([data, new.assign(w=1.0)], ignore_index=True), len(data)
    V = np.zeros((len(both), len(both)))
    for env, own in both.groupby("env"):
        steps = [np.abs(np.subtract.outer(own[c].to_numpy(), own[c].to_numpy())) for c in ("row", "col")]
        rho = blocks[env]["group_corr"]
        V[np.ix_(own.index, own.index)] = fit.solved.sigma2 * blocks[env]["T"][0, 0] * (
            rho["row"] ** steps[0] * rho["col"] ** steps[1])  # fmt: skip
    V /= np.sqrt(np.outer(both["w"], both["w"]))
    component = fit.variance_components
    V += float(component.loc[component["group"] == "gen", "estimate"].iloc[0]) * np.equal.outer(
        both["gen"].to_numpy(), both["gen"].to_numpy()
    )
    X = np.asarray(pd.get_dummies(both["env"]), float)
    value, error = best_prediction(
        data["y"].to_numpy(), X[:n], V[:n, :n], V[:n, n:], np.diag(V)[n:], X[n:]
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-8)
    np.testing.assert_allclose(found["se"], error, rtol=1e-8)
    mean = fit.predict(as_read(new), se=True)
    assert np.abs(found["prediction"] - mean["prediction"]).max() > 0.05
    far = fit.predict(as_read(new.assign(row=14, col=40)), residual=True)  # nothing is left of the field
    np.testing.assert_allclose(far, mean["prediction"], atol=0.02)


def test_a_direction_without_neighbours_does_not_go_on(fields):
    """One row of plots has no autocorrelation of rows; independent levels no neighbours."""
    one = fields.query("env == 'E1' and row == 2")
    fit = lmm("y ~ 1", one, residual="ar1(row):ar1(col)")
    assert np.isfinite(fit.predict(one.head(1).assign(col=9), residual=True)[0])
    with pytest.raises(DataError, match=r"the levels '3', .* have 2 to 2, and a single position has no"):
        fit.predict(one.head(1).assign(row=3), residual=True)
    apart = lmm("y ~ 1", fields.query("env == 'E1'"), residual="row:ar1(col)")
    assert np.isfinite(apart.predict(one.head(1).assign(col=9), residual=True)[0])
    with pytest.raises(DataError, match=r"'row' has the levels '7', .*, and others are independent of them"):
        apart.predict(one.head(1).assign(row=7), residual=True)
    named = fields.query("env == 'E1'").assign(row=lambda d: "R" + d["row"].astype(str))
    fit = lmm("y ~ 1", named, residual="ar1(row):ar1(col)")
    with pytest.raises(DataError, match=r"'R7', .* only numbers and declared levels have a place beyond"):
        fit.predict(named.head(1).assign(row="R7"), residual=True)


@pytest.mark.parametrize("subjects", [14, 130])  # by patterns of visits, and as series
@pytest.mark.parametrize("arms", [False, True])
def test_days_after_and_before_those_of_the_fit(arms, subjects):
    r = np.random.default_rng(4)
    parts = []
    for subject in range(subjects):
        seen = np.sort(r.choice(np.arange(3, 20), 9, replace=False))
        root = np.linalg.cholesky(0.8 ** np.abs(np.subtract.outer(seen, seen)))
        y = 5 + (1 + subject % 2) * root @ r.normal(size=9)
        own = {"subject": f"s{subject}", "day": seen, "arm": "AB"[subject % 2], "y": y}
        parts.append(pd.DataFrame(own))
    data = pd.concat(parts, ignore_index=True).assign(w=lambda d: r.uniform(0.5, 2.0, len(d)))
    new = pd.DataFrame({"subject": ["s0", "s0", "s3", "s3", "s5", "new"], "day": [20, 25, 1, -4, 12, 23],
                        "arm": list("AABBBA")})  # fmt: skip
    new = new[~(new["day"] == 12) | ~((data["subject"] == "s5") & (data["day"] == 12)).any()]
    residual = "ar1(day | subject)" + (" | arm" if arms else "")
    fit = lmm("y ~ arm + day", data, residual=residual, weights="w")
    assert isinstance(fit.solved.equations.residual, SeriesResiduals) == (subjects > 100)
    found = fit.predict(new, residual=True, se=True, allow_new_levels=True)

    both, n = pd.concat([data, new.assign(w=1.0)], ignore_index=True), len(data)
    day, name, arm = (both[c].to_numpy() for c in ("day", "subject", "arm"))
    V = np.zeros((len(both), len(both)))
    for block in fit.solved.equations.residual.blocks(fit.solved.theta[fit.solved.equations.slices[1]]):
        T = block["T"] * fit.solved.sigma2
        own = np.equal.outer(name, name) * (block["at"] is None or np.equal.outer(arm, [block["at"]]))
        V += own * T[0, 0] * (T[0, 1] / T[0, 0]) ** np.abs(np.subtract.outer(day, day))
    V /= np.sqrt(np.outer(both["w"], both["w"]))
    X = np.column_stack([np.asarray(pd.get_dummies(both["arm"]), float), day])
    value, error = best_prediction(
        data["y"].to_numpy(), X[:n], V[:n, :n], V[:n, n:], np.diag(V)[n:], X[n:]
    )  # fmt: skip
    np.testing.assert_allclose(found["prediction"], value, rtol=1e-8)
    np.testing.assert_allclose(found["se"], error, rtol=1e-8)


@pytest.mark.parametrize("structure", ["us", "diag", "toep", "homtoep", "hetar1", "cs", "homcs"])
def test_visits_that_a_structure_has_no_parameters_for(structure):
    sleep = datasets.load("sleepstudy").query("Days < 4")
    fit = lmm("Reaction ~ Days", sleep, residual=f"{structure}(Days | Subject)")
    with pytest.raises(DataError, match=f"it knows .*3.*, and '{structure}' has parameters of their own"):
        fit.predict(sleep.head(1).assign(Days=4), residual=True)
    words = sleep.assign(Days="d" + sleep["Days"].astype(str))
    fit = lmm("Reaction ~ 1", words, residual="ar1(Days | Subject)")
    with pytest.raises(DataError, match=r"'d4', .* and only numbers have a place beyond"):
        fit.predict(words.head(1).assign(Days="d4"), residual=True)
