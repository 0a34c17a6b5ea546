"""Reduced bases of penalized splines against the definition, by the dense REML criterion."""

import numpy as np
import pandas as pd
import pytest
from scipy import interpolate

from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError, DesignError


def dense_criterion(y, X, V):
    """(n - p) log 2 pi + log |V| + log |X'V^-1X| + y'Py."""
    Vi = np.linalg.inv(V)
    information = X.T @ Vi @ X
    P = Vi - Vi @ X @ np.linalg.solve(information, X.T @ Vi)
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return (y.size - X.shape[1]) * np.log(2 * np.pi) + logs + y @ P @ y


def equations_criterion(y, X, spline, variances):
    """The same from the mixed model equations of the reduced basis, residual variance 1."""
    precisions = 1.0 / np.asarray(variances, float)
    Q = sum(c * piece for c, piece in zip(precisions, spline.pieces, strict=True)).toarray()
    W = np.hstack([spline.basis.toarray(), X])
    C = W.T @ W
    b = Q.shape[0]
    C[:b, :b] += Q
    s = np.linalg.solve(C, W.T @ y)
    quadratic = y @ y - s @ (W.T @ y)
    log_Q, _ = spline.log_determinant(precisions)
    return (y.size - X.shape[1]) * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] - log_Q + quadratic


def field(n=70, seed=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": np.round(rng.uniform(2, 31, n), 1), "z": rng.integers(0, 12, n).astype(float)})
    frame["y"] = np.sin(frame["x"] / 4) + 0.1 * frame["z"] + rng.normal(size=n)
    return frame


def b_splines(x, n_segments, degree):
    step = (x.max() - x.min()) / n_segments
    knots = x.min() + step * np.arange(-degree, n_segments + degree + 1)
    eye = np.eye(n_segments + degree)
    return np.column_stack([interpolate.BSpline(knots, c, degree)(x) for c in eye])


def pieces_of(formula, frame):
    design = build_design(formula, frame)
    return frame["y"].to_numpy(), design.X.toarray(), design.random[-1]


@pytest.mark.parametrize("variance", [1e-4, 0.3, 50.0])
@pytest.mark.parametrize(("degree", "order"), [(3, 2), (2, 2), (3, 1), (3, 3)])
def test_ps_of_one_variable(variance, degree, order):
    frame = field()
    powers = {1: "1", 2: "x", 3: "x + I(x^2)"}[order]
    y, X, spline = pieces_of(f"y ~ {powers} + ps(x, nseg=9, degree={degree}, pord={order})", frame)
    B = b_splines(frame["x"].to_numpy(), 9, degree)
    D = np.diff(np.eye(B.shape[1]), n=order, axis=0)
    d, U = np.linalg.eigh(D.T @ D)
    V = np.eye(y.size) + variance * (B @ U[:, order:] / d[order:]) @ (B @ U[:, order:]).T
    assert equations_criterion(y, X, spline, [variance]) == pytest.approx(dense_criterion(y, X, V), abs=1e-7)


@pytest.mark.parametrize("variances", [(0.2, 3.0), (1e-3, 40.0), (5.0, 1e-2)])
def test_ps_of_two_variables(variances):
    frame = field()
    y, X, spline = pieces_of("y ~ x*z + ps(x, z, nseg=(6, 4))", frame)
    A1, A2, eigen = b_splines(frame["x"].to_numpy(), 6, 3), b_splines(frame["z"].to_numpy(), 4, 3), []
    for B in (A1, A2):
        D = np.diff(np.eye(B.shape[1]), n=2, axis=0)
        d, U = np.linalg.eigh(D.T @ D)
        d[:2] = 0.0
        eigen.append((d, B @ U))
    (d, F), (e, G) = eigen
    Z = np.einsum("ia,ib->iab", F, G).reshape(y.size, -1)
    total = (d[:, None] / variances[0] + e / variances[1]).ravel()
    seen = total > 1e-12
    V = np.eye(y.size) + (Z[:, seen] / total[seen]) @ Z[:, seen].T
    assert equations_criterion(y, X, spline, variances) == pytest.approx(dense_criterion(y, X, V), abs=1e-7)


@pytest.mark.parametrize("variance", [1e-3, 0.5, 30.0])
def test_spl_is_the_cubic_smoothing_spline_of_green_and_silverman(variance):
    frame = field()
    y, X, spline = pieces_of("y ~ x + spl(x)", frame)
    knots, at = np.unique(frame["x"], return_inverse=True)
    h, m = np.diff(knots), knots.size
    Q, R = np.zeros((m, m - 2)), np.zeros((m - 2, m - 2))
    for j in range(m - 2):
        Q[j : j + 3, j] = 1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]
        R[j, j] = (h[j] + h[j + 1]) / 3
        if j < m - 3:
            R[j, j + 1] = R[j + 1, j] = h[j + 1] / 6
    Z = (Q @ np.linalg.inv(Q.T @ Q))[at]  # Verbyla et al. 1999: u ~ N(0, variance R)
    V = np.eye(y.size) + variance * Z @ R @ Z.T
    assert equations_criterion(y, X, spline, [variance]) == pytest.approx(dense_criterion(y, X, V), abs=1e-7)


def test_log_determinant_and_its_derivatives():
    _, _, spline = pieces_of("y ~ x*z + ps(x, z, nseg=(6, 4))", field())
    at = np.log([3.0, 0.2])

    def dense(log_precisions):
        Q = sum(np.exp(c) * p for c, p in zip(log_precisions, spline.pieces, strict=True))
        return np.linalg.slogdet(Q.toarray())[1]

    value, gradient = spline.log_determinant(np.exp(at))
    assert value == pytest.approx(dense(at), abs=1e-8)
    for k in range(2):
        step = 1e-4 * np.eye(2)[k]
        assert gradient[k] == pytest.approx((dense(at + step) - dense(at - step)) / 2e-4, rel=1e-6)


def test_typical_variance_follows_the_units_of_the_variable():
    frame = field()
    here = pieces_of("y ~ x + spl(x)", frame)[2].typical_variance
    there = pieces_of("y ~ x + spl(x)", frame.assign(x=1000 * frame["x"]))[2].typical_variance
    assert there == pytest.approx(here / 1e9, rel=1e-6)  # the integral of f''^2 is in units of x^-3


@pytest.mark.parametrize(
    "formula",
    ["y ~ x + spl(x)", "y ~ poly(x, 1) + ps(x)", "y ~ x*z + ps(x, z, nseg=(3, 4))", "y ~ factor(z) + ps(z)"],
)
def test_evaluation_gives_the_basis_of_the_fit(formula):
    frame = field()
    spline = build_design(formula, frame).random[-1]
    again = spline.evaluate(frame[["x", "z"]].iloc[::-1])
    assert abs(again - spline.basis[::-1]).max() < 1e-13
    assert spline.levels.size == spline.basis.shape[1] == spline.pieces[0].shape[0]
    assert spline.is_spline and not build_design(formula, frame).is_plain


def test_new_data_beyond_or_without_values_are_refused():
    spline = build_design("y ~ x + ps(x)", field()).random[-1]
    with pytest.raises(DataError, match="x = 99 of the new data lies beyond"):
        spline.evaluate({"x": [3.0, 99.0]})
    with pytest.raises(DataError, match="'x' is missing in 1 rows"):
        spline.evaluate({"x": [3.0, np.nan]})


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ 1 + ps(x)", "add x$"),
        ("y ~ z + spl(x)", "add x$"),
        ("y ~ x + z + ps(x, z, nseg=3)", "add x\\*z"),
        ("y ~ 0 + x + spl(x)", "add x"),
        ("y ~ x + ps(x, pord=3)", "add poly.x, 2."),
        ("y ~ two + spl(two)", "at least 3 distinct values of two, but there are 2"),
    ],
)
def test_the_fixed_part_has_what_is_not_penalized(formula, words):
    frame = field().assign(two=lambda d: (d["x"] > 10).astype(float))
    with pytest.raises(DesignError, match=words):
        build_design(formula, frame)


def test_the_advice_is_a_formula():
    for part in ("ps(x, pord=3)", "ps(x, z, nseg=4, pord=3)"):
        with pytest.raises(DesignError) as told:
            build_design(f"y ~ x + {part}", field())
        advice = str(told.value).partition("; add ")[2]
        assert build_design(f"y ~ {advice} + {part}", field()).n == 70


def test_splines_need_numbers_and_drop_rows_without_them():
    frame = field()
    frame.loc[4, "z"] = np.nan
    assert build_design("y ~ z + ps(z, nseg=5)", frame).n == 69
    with pytest.raises(DataError, match="'f' is a factor or text with the levels 'a'; give"):
        build_design("y ~ f + ps(f)", frame.assign(f="a"))
    for prefix, how in (("row", r"str\.extract"), ("", r"pandas\.to_numeric")):
        text = [f"{prefix}{k % 9 + 1}" for k in range(len(frame))]
        with pytest.raises(DataError, match=rf"{prefix}2', .*; give a column of numbers .*{how}"):
            build_design("y ~ f + ps(f)", frame.assign(f=text))


def test_terms_that_lme4_does_not_have_keep_the_order_of_the_formula():
    frame = field().assign(a=lambda d: d.index % 3, b=lambda d: d.index % 7)
    terms = build_design("y ~ x + (1 | a) + spl(x) + (1 | b)", frame).random
    assert [term.label for term in terms] == ["(1 | a)", "spl(x)", "(1 | b)"]
    assert [term.group for term in build_design("y ~ x + (1 | a) + (1 | b)", frame).random] == ["b", "a"]
