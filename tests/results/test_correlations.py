"""Correlations of a fit and their standard errors."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from fastlmm_core import lmm
from fastlmm_core.errors import OptionError
from fastlmm_core.results.components.correlations import correlations, dendrogram

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
T = np.array([[4.0, 1.8, 0.6], [1.8, 3.0, 1.2], [0.6, 1.2, 2.0]])


def make_table(covariance=T, levels=40, plots=2, seed=4):
    rng = np.random.default_rng(seed)
    u = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=levels)
    rows = [(f"g{i:02d}", f"E{j + 1}", f"p{k}", 10 + j + u[i, j] + rng.normal())
            for i in range(levels) for j in range(len(covariance)) for k in range(plots)]  # fmt: skip
    return pd.DataFrame(rows, columns=["gen", "env", "rep", "y"])


TABLE = make_table()
#: Components of the lower triangle of three coefficients, row by row.
FIRST = {("envE1", "envE2"): "V2/sqrt(V1*V3)", ("envE1", "envE3"): "V4/sqrt(V1*V6)",
         ("envE2", "envE3"): "V5/sqrt(V3*V6)"}  # fmt: skip


@pytest.mark.parametrize("structure", ["us", "cs", "homcs", "ar1", "hetar1", "toep", "homtoep", "fa"])
@pytest.mark.parametrize("information", ["average", "observed"])
def test_errors_are_those_of_functions_of_the_components(structure, information):
    """vpredict differentiates by the complex step: another way to the same figures."""
    options = ", k=1" if structure == "fa" else ""
    fit = lmm(f"y ~ env + {structure}(0 + env | gen{options})", TABLE, residual="units | env")
    found = fit.correlations("gen", information=information).to_frame()
    assert list(zip(found["var1"], found["var2"], strict=True)) == list(FIRST)
    for (_, row), expression in zip(found.iterrows(), FIRST.values(), strict=True):
        want = fit.vpredict(expression, information)
        np.testing.assert_allclose([row["estimate"], row["se"]], [want.estimate, want.se], rtol=1e-8)


def test_equal_correlations_have_equal_errors():
    found = lmm("y ~ env + cs(0 + env | gen)", TABLE).correlations().frame
    assert np.ptp(found["estimate"]) < 1e-12 and np.ptp(found["se"]) < 1e-10


def test_a_plain_fit_and_expected_information():
    """Unrelated levels go through lme4's equations, the same model with a residual by group does not."""
    plain = lmm("y ~ env + (0 + env | gen)", TABLE)
    other = lmm("y ~ env + (0 + env | gen)", TABLE.assign(all="all"), residual="units | all")
    for kind in ("average", "expected", "observed"):
        a, b = (fit.correlations(information=kind).frame for fit in (plain, other))
        np.testing.assert_allclose(a[["estimate", "se"]], b[["estimate", "se"]], rtol=2e-5)


def test_residual_correlations_of_two_traits():
    rng = np.random.default_rng(1)
    rows = []
    for i in range(30):
        u = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]])
        for k in range(3):
            e = rng.multivariate_normal([0, 0], [[1, -0.4], [-0.4, 1]])
            rows += [(f"g{i}", f"{i}.{k}", t, u[j] + e[j]) for j, t in enumerate(["a", "b"])]
    table = pd.DataFrame(rows, columns=["gen", "plot", "trait", "y"])
    fit = lmm("y ~ 0 + trait + us(0 + trait | gen)", table, residual="us(trait | plot)")
    both = fit.correlations()
    assert len(both.groups()) == 2
    residual = fit.correlations("Residual")
    want = fit.vpredict("V5/sqrt(V4*V6)")
    np.testing.assert_allclose(residual.frame[["estimate", "se"]], [[want.estimate, want.se]], rtol=1e-8)
    assert residual.matrix().loc["b", "a"] == residual.frame["estimate"].iloc[0]
    shown = str(fit.summary())  # the two traits' correlations stand in the summary
    assert "Correlations" in shown and f"{both.frame['se'].iloc[0]:.3f}" in shown
    assert "Correlations" not in str(lmm("y ~ 0 + trait + us(0 + trait | gen)", table).summary())


def test_what_has_no_error_is_left_empty():
    singular = lmm("y ~ env + us(0 + env | gen)", make_table(np.ones((2, 2)), levels=12, seed=1))
    found = singular.correlations().frame
    bound = np.abs(found["estimate"]) > 1 - 1e-7
    assert bound.any() and found.loc[bound, "se"].isna().all()
    held = lmm("y ~ env + us(0 + env | gen)", TABLE, fixed_parameters={"gen": T.tolist()})
    np.testing.assert_allclose(held.correlations().frame["estimate"][0], 1.8 / np.sqrt(12))
    assert held.correlations().frame["se"].isna().all()
    diagonal = lmm("y ~ env + diag(0 + env | gen)", TABLE)
    with pytest.raises(OptionError, match="no term of this model has correlations"):
        diagonal.correlations()
    with pytest.raises(OptionError, match="nearest: 'gen'"):
        lmm("y ~ env + (0 + env | gen)", TABLE).correlations("gem")


def test_derivatives_of_correlations():
    rng = np.random.default_rng(2)
    slopes = rng.normal(size=(5, 3, 3))
    slopes += np.swapaxes(slopes, 1, 2)
    i, j = np.array([0, 0, 1]), np.array([1, 2, 2])
    step = 1e-6
    for t in range(5):
        up, down = (correlations(T + s * slopes[t], slopes, i, j)[0] for s in (step, -step))
        change = correlations(T, slopes, i, j)[1][:, t]
        np.testing.assert_allclose(change, (up - down) / (2 * step), atol=1e-8)


def test_the_dendrogram_puts_like_ones_together():
    groups = np.array([0, 1, 0, 2, 1, 2, 0])
    correlation = np.where(groups[:, None] == groups, 0.9, 0.1)
    np.fill_diagonal(correlation, 1.0)
    order, tree = dendrogram(correlation)
    assert np.count_nonzero(np.diff(groups[order])) == 2  # each group in one run
    assert sorted(order) == list(range(7)) and tree.shape == (6, 4)
    assert list(dendrogram(np.eye(1))[0]) == [0]


def test_limits_are_symmetric_in_fishers_z():
    found = lmm("y ~ env + (0 + env | gen)", TABLE).correlations(level=0.9).to_frame()
    z, reach = np.arctanh(found["estimate"]), norm.ppf(0.95) * found["se"] / (1.0 - found["estimate"] ** 2)
    np.testing.assert_allclose(np.arctanh(found["lower"]), z - reach, rtol=1e-10)
    np.testing.assert_allclose(np.arctanh(found["upper"]), z + reach, rtol=1e-10)


def test_functions_by_name_and_by_number():
    fit = lmm("y ~ env + (0 + env | gen) + (1 | env:rep)", TABLE)
    by_number = fit.vpredict("V2/sqrt(V1*V3) + V7/V8")
    by_name = fit.vpredict(
        "`cov(gen: envE1, envE2)`/sqrt(`var(gen: envE1)`*`var(gen: envE2)`) + `env:rep`/Residual"
    )
    assert (by_name.estimate, by_name.se) == (by_number.estimate, by_number.se)
    for expression, words in {
        "gen/Residual": r"'gen' has several variances; write one of `var\(gen: envE1\)`",
        "`env:repp`": "does not know 'env:repp'.*nearest: 'env:rep'",
        "V9": "the components are V1 to V8, or by name",
    }.items():
        with pytest.raises(OptionError, match=words):
            fit.vpredict(expression)


def test_limits_on_the_scale_of_a_function():
    fit = lmm("y ~ env + (1 | gen)", TABLE)
    share = fit.vpredict("gen/(gen + Residual)")
    z, logit = norm.ppf(0.975), np.log(share.estimate / (1.0 - share.estimate))
    ends = logit + np.array([-z, z]) * share.se / (share.estimate * (1.0 - share.estimate))
    np.testing.assert_allclose(share.conf_int(scale="logit"), 1.0 / (1.0 + np.exp(-ends)), rtol=1e-10)
    # the logit of the share is the log of the ratio: one interval, whichever function is asked for
    ratio = fit.vpredict("gen/Residual").conf_int(0.95, "log")
    np.testing.assert_allclose(
        np.array(ratio) / (1.0 + np.array(ratio)), share.conf_int(scale="logit"), rtol=1e-9
    )
    np.testing.assert_allclose(share.conf_int(), share.estimate + np.array([-z, z]) * share.se)
    with pytest.raises(OptionError, match=r"between -1 and 1, not 1.*; use 'identity'"):
        fit.vpredict("1 + gen/Residual").conf_int(scale="atanh")


def decay(rho, n):
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def decay_slope(rho, n):
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return lag * rho ** np.maximum(lag - 1, 0)


def grown_field(seed=3, rows=7, columns=9):
    rng = np.random.default_rng(seed)
    place = [(r, c) for r in range(rows) for c in range(columns)]
    gen = rng.permutation(np.arange(rows * columns) % 21)
    root = np.linalg.cholesky(np.kron(decay(0.6, rows), decay(0.4, columns)))
    y = rng.normal(size=21)[gen] + root @ rng.normal(size=rows * columns)
    frame = pd.DataFrame(place, columns=["row", "col"]).assign(gen=[f"g{k:02d}" for k in gen], y=y)
    return frame, np.equal.outer(gen, np.arange(21)).astype(float)


@pytest.mark.parametrize("by", [False, True])
def test_autocorrelations_of_a_field_have_the_errors_of_dense_average_information(by):
    """y' P dV P dV P y / 2 for (variance of gen, of the residual, rho(row), rho(col)), by hand."""
    frame, Z = grown_field()
    table, residual = frame, "ar1(row):ar1(col)"
    if by:  # a second field, far away and with a share of its own in nothing
        table = pd.concat([frame.assign(env="A"), grown_field(seed=8, rows=6, columns=6)[0].assign(
            env="B", gen=lambda d: "h" + d["gen"])], ignore_index=True)  # fmt: skip
        residual += " | env"
    fit = lmm("y ~ env + (1 | at(env):gen)" if by else "y ~ 1 + (1 | gen)", table, residual=residual)
    own = fit.correlations("Residual").to_frame().iloc[:2]
    assert list(own["var1"]) == ["row", "col"] and set(own["var2"]) == {"(neighbour)"}
    genetic, error = (float(fit.variance_components["estimate"].iloc[k]) for k in ((0, 2) if by else (0, 1)))
    R_row, R_col = decay(own["estimate"].iloc[0], 7), decay(own["estimate"].iloc[1], 9)
    slopes = [
        Z @ Z.T, np.kron(R_row, R_col), error * np.kron(decay_slope(own["estimate"].iloc[0], 7), R_col),
        error * np.kron(R_row, decay_slope(own["estimate"].iloc[1], 9)),
    ]  # fmt: skip
    W = np.linalg.inv(genetic * Z @ Z.T + error * np.kron(R_row, R_col))
    one = np.ones((len(frame), 1))
    P = W - W @ one @ np.linalg.solve(one.T @ W @ one, one.T @ W)
    f = np.column_stack([slope @ P @ frame["y"].to_numpy() for slope in slopes])
    errors = np.sqrt(np.diag(2.0 * np.linalg.inv(f.T @ P @ f)))
    np.testing.assert_allclose(own["se"], errors[2:], rtol=1e-5)


def test_autocorrelations_of_levels_are_no_matrix():
    frame, _ = grown_field()
    fit = lmm("y ~ 1 + (1 | gen) + (1 | ar1(row):ar1(col))", frame)
    table = fit.correlations()
    assert table.groups() == () and list(table.frame["group"]) == ["ar1(row):ar1(col)"] * 2
    assert (table.frame["lower"] < table.frame["estimate"]).all() and (table.frame["se"] > 0.0).all()
    with pytest.raises(OptionError, match="autocorrelations alone"):
        table.matrix()
    held = lmm("y ~ 1 + (1 | gen)", frame, residual="ar1(row):ar1(col)", fixed_parameters={"Residual": 1.0})
    assert (held.correlations().frame["se"] > 0.0).all()
