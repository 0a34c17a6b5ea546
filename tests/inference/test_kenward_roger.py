"""Kenward-Roger from solves with the mixed model equations against the formulas with n x n matrices."""

import numpy as np
import pandas as pd
import pytest
from dense_reference import DenseModel
from random_designs import CASES, REGULAR, SINGULAR, case, dense_of, fit_of

from fastlmm_core import datasets, lmm, prepare
from fastlmm_core.errors import InferenceError
from fastlmm_core.inference.kenward_roger import scaled_f
from fastlmm_core.linalg.supernodal import SupernodalFactor
from fastlmm_core.reml.expected_traces import expected_traces
from fastlmm_core.reml.information import KINDS, information_matrix, natural_parameters
from fastlmm_core.reml.natural import apply_direction
from fastlmm_core.reml.quadratic_forms import weighted_form

EXACT = {"rtol": 1e-7}


def estimable_rows(fit, count=4):
    """Rows of the model's own design and their differences, on all columns."""
    X = np.unique(fit.design.fixed_matrix(fit.design.frame).toarray(), axis=0)
    r = np.random.default_rng(0)
    picked = X[r.permutation(len(X))[:count]]
    return np.vstack([picked, np.diff(picked, axis=0)])


def independent(rows):
    keep = []
    for i in range(len(rows)):
        if np.linalg.matrix_rank(rows[[*keep, i]]) > len(keep):
            keep.append(i)
    return rows[keep]


def user_information(fit, kind, method="auto"):
    """The engine's information in the user's variances and covariances (it works in an orthonormal basis)."""
    parameters = natural_parameters(fit.solved)
    inside = information_matrix(fit.solved, parameters, kind, method)
    d = parameters.size
    J = np.zeros((d + 1, d + 1))  # d inside / d user
    J[d, d] = 1.0
    for k, term in enumerate(fit.solved.equations.terms):
        mine = np.flatnonzero(parameters.term == k)
        directions = parameters.directions[mine][:, : term.m, : term.m]
        back = np.linalg.inv(term.basis)
        for column, E in zip(mine, directions, strict=True):
            moved = back @ E @ back.T
            J[mine, column] = [moved[tuple(np.argwhere(F)[0])] for F in directions]
    return J.T @ inside @ J


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_information(name, kind):
    expected = dense_of(name).information(kind)
    scale = np.sqrt(np.abs(np.diag(dense_of(name).information("expected"))))
    scale = np.outer(scale, scale)
    np.testing.assert_allclose(
        user_information(fit_of(name), kind) / scale, expected / scale, rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["crossed", "slopes2", "weighted"])
def test_information_of_ml_fits(name, kind):
    expected = dense_of(name, False).information(kind)
    np.testing.assert_allclose(user_information(fit_of(name, False), kind), expected, rtol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_expected_traces_by_differences(name):
    """The route of large systems against the dense one and, by ``test_information``, the n x n formula."""
    fit = fit_of(name)
    parameters = natural_parameters(fit.solved)
    dense = expected_traces(fit.solved, parameters, "dense")
    before = fit.solved.factor.solve(np.eye(fit.solved.equations.q + fit.solved.equations.p))
    differences = expected_traces(fit.solved, parameters, "differences")
    if fit.reml:
        solves = expected_traces(fit.solved, parameters, "solves")
        np.testing.assert_allclose(solves, dense, rtol=1e-10, atol=1e-12 * np.abs(dense).max())
    after = fit.solved.factor.solve(np.eye(before.shape[0]))
    np.testing.assert_array_equal(before, after)  # the factor is left as it was found
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    np.testing.assert_allclose(differences / scale, dense / scale, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["slopes3", "crossed_interaction", "singular_scalar", "singular_rank2"])
def test_df_by_differences(name):
    """1e-7 relative in the df, with the information of the large route put in the place of the dense one."""
    fit, dense = fit_of(name), dense_of(name)
    parameters = natural_parameters(fit.solved)
    rows = np.eye(len(fit.coef_names))
    functions = fit.linear_functions(rows, ddf="kenward-roger")
    W = np.linalg.inv(information_matrix(fit.solved, parameters, "expected", "differences"))
    gradient = np.einsum("iaa->ia", functions.gradients)
    df = 2 * np.diag(functions.cov_unadjusted) ** 2 / np.einsum("ir,ij,jr->r", gradient, W, gradient)
    np.testing.assert_allclose(df, [dense.kr_df(row) for row in rows], **EXACT)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["slope_and_crossed", "crossed_interaction"])
def test_mixture_of_routes(monkeypatch, name, reml):
    """As in large systems: every term by solves or by differences, whatever is cheaper."""
    from fastlmm_core.reml import expected_traces as module

    fit = fit_of(name, reml)
    parameters = natural_parameters(fit.solved)
    dense = expected_traces(fit.solved, parameters, "dense")
    scale = np.sqrt(np.outer(np.diag(dense), np.diag(dense)))
    monkeypatch.setattr(module, "DENSE_RANDOM", 0)
    chosen = iter([True, False, True])
    for pay in (module._solves_pay, lambda solved, k, method: reml and next(chosen)):
        monkeypatch.setattr(module, "_solves_pay", pay)
        mixed = expected_traces(fit.solved, parameters)
        np.testing.assert_allclose(mixed / scale, dense / scale, rtol=0, atol=1e-7)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("between", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("formula", ["y ~ x + (1|g) + (1|h)", "y ~ x + (x|g) + (1|h)"])
def test_large_and_small_variances(formula, between):
    """Variances of random effects from 1/100 to 10,000 times the residual's, by every route."""
    r = np.random.default_rng(5)
    n = 240
    g, h, x = r.integers(0, 18, n), r.integers(0, 8, n), r.normal(size=n)
    y = between * (r.normal(size=18)[g] + r.normal(size=18)[g] * x) + r.normal(size=8)[h] + r.normal(size=n)
    fit = lmm(formula, pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)}))
    assert fit.converged
    dense = DenseModel.of_fit(fit)
    functions = fit.linear_functions(np.eye(2))
    np.testing.assert_allclose(functions.se(), np.sqrt(np.diag(dense.adjusted_covariance())), **EXACT)
    np.testing.assert_allclose(functions.df(), [dense.kr_df(row) for row in np.eye(2)], **EXACT)
    parameters = natural_parameters(fit.solved)
    expected = expected_traces(fit.solved, parameters, "dense")
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    for method in ("solves", "differences"):
        got = expected_traces(fit.solved, parameters, method)
        np.testing.assert_allclose(got / scale, expected / scale, rtol=0, atol=1e-7)


def kinds_that_invert(dense):
    for kind in KINDS:
        values = np.linalg.eigvalsh(dense.information(kind))
        if values[0] > 1e-9 * values[-1]:
            yield kind


@pytest.mark.parametrize("name", CASES)
def test_estimates_standard_errors_and_df(name):
    fit, dense = fit_of(name), dense_of(name)
    K = estimable_rows(fit)
    rows = K[:, fit.design.kept]
    done = 0
    for kind in kinds_that_invert(dense):
        functions = fit.linear_functions(K, ddf="kenward-roger", information=kind)
        assert functions.estimable.all()
        assert (functions.ddf, functions.information) == ("kenward-roger", kind)
        np.testing.assert_allclose(functions.estimate, rows @ dense.beta, rtol=1e-7, atol=1e-9)
        cov = rows @ dense.adjusted_covariance(kind) @ rows.T
        np.testing.assert_allclose(functions.se(), np.sqrt(np.diag(cov)), **EXACT)
        np.testing.assert_allclose(functions.cov, cov, rtol=1e-7, atol=1e-8 * np.abs(cov).max())
        np.testing.assert_allclose(functions.df(), [dense.kr_df(row, kind) for row in rows], **EXACT)
        done += 1
    assert done >= 1
    assert done == len(KINDS) or name in SINGULAR


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REGULAR)
def test_scaled_f(name, kind):
    fit, dense = fit_of(name), dense_of(name)
    K = independent(np.diff(estimable_rows(fit)[:4], axis=0))
    F, df, scaling = dense.kr_test(K[:, fit.design.kept], kind)
    test = fit.linear_functions(K, information=kind).f_test()
    assert test.df_num == len(K)
    np.testing.assert_allclose([test.F, test.df_den, test.scaling], [F, df, scaling], **EXACT)


@pytest.mark.parametrize("name", SINGULAR)
def test_scaled_f_at_singular_fits(name):
    fit, dense = fit_of(name), dense_of(name)
    K = np.eye(len(fit.coef_names))[1:]
    test = fit.linear_functions(K).f_test()
    np.testing.assert_allclose([test.F, test.df_den, test.scaling], dense.kr_test(K), **EXACT)


@pytest.mark.parametrize("name", REGULAR)
def test_one_row_is_a_t_test(name):
    """F = t squared, the same df, scaling one."""
    fit = fit_of(name)
    functions = fit.linear_functions(estimable_rows(fit)[-1:])
    test = functions.f_test()
    np.testing.assert_allclose(test.F, (functions.estimate / functions.se())[0] ** 2, **EXACT)
    np.testing.assert_allclose(test.df_den, functions.df()[0], **EXACT)
    np.testing.assert_allclose(test.scaling, 1.0, **EXACT)


def test_f_does_not_depend_on_the_basis_of_the_hypothesis():
    fit = fit_of("slopes3")
    K = np.eye(len(fit.coef_names))[3:]
    A = np.random.default_rng(0).normal(size=(4, len(K)))  # one row too many: dependent rows do not count
    first, second = fit.linear_functions(K).f_test(), fit.linear_functions(K).f_test(A)
    assert second.df_num == len(K)
    np.testing.assert_allclose(
        [second.F, second.df_den, second.scaling], [first.F, first.df_den, first.scaling], rtol=1e-6
    )


def test_dyestuff2_zero_variance_stays_a_parameter():
    """As pbkrtest: 5 df for the intercept, not 29."""
    with pytest.warns(match="singular"):
        fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff2"))
    table = fit.fixed_effects(ddf="kenward-roger")
    np.testing.assert_allclose(table["df"], 5.0, rtol=1e-9)
    dense = DenseModel.of_fit(fit)
    np.testing.assert_allclose(table["df"][0], dense.kr_df(np.ones(1)), **EXACT)
    np.testing.assert_allclose(table["se"][0] ** 2, dense.adjusted_covariance()[0, 0], **EXACT)


def test_kinds_of_information_differ_on_unbalanced_data():
    """Shipped data where the three kinds give other figures, each as dense code has it."""
    fit = lmm("yield ~ gen + (1|rep/block)", datasets.load("john_alpha"))
    dense = DenseModel.of_fit(fit)
    row = np.eye(len(fit.coef_names))[1:2]
    df = {}
    for kind in KINDS:
        functions = fit.linear_functions(row, information=kind)
        np.testing.assert_allclose(functions.df()[0], dense.kr_df(row[0], kind), **EXACT)
        np.testing.assert_allclose(functions.cov[0, 0], dense.adjusted_covariance(kind)[1, 1], **EXACT)
        df[kind] = functions.df()[0]
    assert abs(df["expected"] - df["observed"]) > 0.1
    assert abs(df["expected"] - df["average"]) > 0.05
    assert abs(df["observed"] - df["average"]) > 0.05


def test_balanced_data_give_the_classical_df():
    """Randomized complete blocks: differences of treatments have (a - 1)(b - 1) df and unadjusted errors."""
    fit = lmm("yield ~ K2O_lbac + (1|rep)", datasets.load("cochrancox_kfert"))
    K = np.eye(5)[1:]
    functions = fit.linear_functions(K)
    np.testing.assert_allclose(functions.df(), 8.0, rtol=1e-7)
    np.testing.assert_allclose(functions.cov, functions.cov_unadjusted, rtol=1e-7)
    test = functions.f_test()
    np.testing.assert_allclose([test.df_den, test.scaling], [8.0, 1.0], rtol=1e-7)


def test_supernodal_route_equals_dense():
    from dataclasses import replace

    c = case("slope_and_crossed")
    prepared = prepare(c.formula, c.data)
    factor = SupernodalFactor(prepared.equations.indptr, prepared.equations.indices)
    fit = replace(prepared, factor=factor).fit()
    dense = DenseModel.of_fit(fit)
    functions = fit.linear_functions(np.eye(2))
    np.testing.assert_allclose(functions.cov, dense.adjusted_covariance(), **EXACT)
    np.testing.assert_allclose(functions.df(), [dense.kr_df(row) for row in np.eye(2)], **EXACT)


def test_ml_fits_are_refused():
    with pytest.raises(InferenceError, match="reml=True"):
        fit_of("crossed", False).linear_functions(np.eye(3), ddf="kenward-roger")
    with pytest.raises(InferenceError, match="reml=True"):
        fit_of("crossed", False).fixed_effects(ddf="kenward-roger")


def test_the_moments_solve_their_equations():
    """df and scaling match mean and variance of F(l, df) to the approximate moments of the statistic."""
    r = np.random.default_rng(3)
    rank, d = 3, 2
    A = r.normal(size=(d + 1, rank, rank))
    gradients = A @ np.swapaxes(A, 1, 2)
    phi = gradients.sum(axis=0)
    W = 0.02 * np.eye(d + 1)
    df, scaling = scaled_f(gradients, phi, W)
    ratio = np.linalg.solve(phi, gradients)
    A1 = sum(W[i, j] * np.trace(ratio[i]) * np.trace(ratio[j]) for i in range(d + 1) for j in range(d + 1))
    A2 = sum(W[i, j] * np.trace(ratio[i] @ ratio[j]) for i in range(d + 1) for j in range(d + 1))
    mean = 1 / (1 - A2 / rank)
    g = ((rank + 1) * A1 - (rank + 4) * A2) / ((rank + 2) * A2)
    base = 3 * rank + 2 * (1 - g)
    B = (A1 + 6 * A2) / (2 * rank)
    variance = (
        2 / rank * (1 + g / base * B) / ((1 - (rank - g) / base * B) ** 2 * (1 - (rank + 2 - g) / base * B))
    )
    np.testing.assert_allclose(df / (df - 2) / scaling, mean, rtol=1e-10)
    f_variance = 2 * df**2 * (rank + df - 2) / (rank * (df - 2) ** 2 * (df - 4))
    np.testing.assert_allclose(f_variance / scaling**2, variance, rtol=1e-9)


@pytest.mark.parametrize("r", [5, 300])  # one block of columns, and two
@pytest.mark.parametrize("name", CASES)
def test_weighted_form_is_the_sum_over_pairs_of_parameters(name, r):
    """One product with weighted blocks against single projections; the weights are indefinite."""
    solved = fit_of(name).solved
    layout, parameters = solved.equations.layout, natural_parameters(solved)
    d = parameters.size
    rng = np.random.default_rng(0)
    X = rng.normal(size=(layout.start[-1], r))
    X[layout.fixed_rows] = 0.0
    weights = rng.normal(size=(d, d))
    weights += weights.T
    parts = [apply_direction(solved, parameters, j, X) for j in range(d)]
    expected = sum(
        weights[i, j] * parts[i].T @ solved.project(parts[j]) for i in range(d) for j in range(d)
    )
    form = weighted_form(solved, parameters, weights, X)
    np.testing.assert_allclose(form, expected, rtol=1e-9, atol=1e-10)
