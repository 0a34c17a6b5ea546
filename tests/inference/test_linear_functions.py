"""Algebra of linear functions: combinations, streams of contrasts, estimability, methods and refusals."""

import numpy as np
import pytest
import scipy.sparse as sp
from random_designs import case, dense_of, fit_of
from scipy import stats

from fastlmm_core import lmm
from fastlmm_core.errors import InferenceError, OptionError

METHODS = ("kenward-roger", "satterthwaite", "residual", "asymptotic")


@pytest.fixture(params=METHODS)
def functions(request):
    return fit_of("slopes3").linear_functions(np.eye(6), ddf=request.param)


def same(a, b):
    for name in ("estimate", "cov", "estimable"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(a.df(), b.df(), rtol=1e-9)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_combinations_equal_direct_rows(functions, make):
    A = np.random.default_rng(0).normal(size=(4, 6))
    same(functions.combine(make(A)), fit_of("slopes3").linear_functions(make(A), ddf=functions.ddf))


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_streamed_contrasts_equal_combinations(functions, width):
    r = np.random.default_rng(width)
    A = np.zeros((9, 6))
    for row in A[:-1]:  # the last row is empty
        row[r.permutation(6)[:width]] = r.normal(size=width)
    A[1] = A[0]
    estimate, se, df, estimable = functions.contrast_statistics(sp.csr_array(A[:-1]))
    direct = functions.combine(A[:-1])
    np.testing.assert_allclose(estimate, direct.estimate, rtol=1e-10)
    np.testing.assert_allclose(se, direct.se(), rtol=1e-9)
    np.testing.assert_allclose(df, direct.df(), rtol=1e-9)
    assert estimable.all()


def test_many_pairs_without_a_square_matrix():
    fit = fit_of("slopes3")
    functions = fit.linear_functions(np.eye(6))
    count = 100_000
    r = np.random.default_rng(0)
    a, b = r.integers(0, 6, (2, count))
    b = np.where(a == b, (b + 1) % 6, b)
    rows = np.repeat(np.arange(count), 2)
    A = sp.csr_array((np.tile([1.0, -1.0], count), (rows, np.column_stack([a, b]).ravel())), shape=(count, 6))
    estimate, se, df, _ = functions.contrast_statistics(A)
    direct = functions.combine(A[:5])
    np.testing.assert_allclose(estimate[:5], direct.estimate)
    np.testing.assert_allclose(se[:5], direct.se())
    np.testing.assert_allclose(df[:5], direct.df())


def test_df_methods():
    fit, dense = fit_of("slopes3"), dense_of("slopes3")
    K = np.eye(6)
    for ddf, df in (("residual", 236 - 6), ("asymptotic", np.inf)):
        functions = fit.linear_functions(K, ddf=ddf)
        assert np.all(functions.df() == df)
        np.testing.assert_allclose(functions.cov, dense.phi, rtol=1e-7, atol=1e-10)
    # Satterthwaite keeps the model-based errors, Kenward-Roger does not
    np.testing.assert_allclose(
        fit.linear_functions(K, ddf="satterthwaite").cov, dense.phi, rtol=1e-7, atol=1e-10
    )
    assert np.all(fit.linear_functions(K).se() > np.sqrt(np.diag(dense.phi)) * (1 + 1e-9))


def test_plain_joint_tests():
    fit, dense = fit_of("slopes3"), dense_of("slopes3")
    K = np.eye(6)[2:]
    wald = (K @ dense.beta) @ np.linalg.solve(K @ dense.phi @ K.T, K @ dense.beta)
    test = fit.linear_functions(K, ddf="residual").f_test()
    np.testing.assert_allclose([test.F, test.df_num, test.df_den], [wald / 4, 4, 230], rtol=1e-8)
    np.testing.assert_allclose(test.p, stats.f.sf(wald / 4, 4, 230), rtol=1e-6)
    test = fit.linear_functions(K, ddf="asymptotic").f_test()
    assert np.isinf(test.df_den)
    np.testing.assert_allclose(test.p, stats.chi2.sf(wald, 4), rtol=1e-6)


def test_default_methods():
    assert fit_of("crossed").linear_functions(np.eye(3)).ddf == "kenward-roger"
    assert fit_of("crossed", False).linear_functions(np.eye(3)).ddf == "satterthwaite"
    ols = lmm("y ~ t", case("crossed").data)
    functions = ols.linear_functions(np.eye(3))
    assert functions.ddf == "residual"
    assert np.all(functions.df() == 237)


def test_dropped_columns_and_estimability():
    """A x C with two empty cells: means of empty cells are not estimable, those of filled cells are."""
    fit = fit_of("empty_cells")
    assert len(fit.dropped_columns) == 2
    cells = fit.design.frame[["A", "C"]].drop_duplicates()
    filled = fit.design.fixed_matrix(cells).toarray()
    functions = fit.linear_functions(filled)
    assert functions.estimable.all()
    empty = (
        cells.iloc[:2]
        .assign(A=["A002", "A003"], C=["C001", "C000"])
        .replace({"A002": cells["A"].sort_values().unique()[2], "A003": cells["A"].sort_values().unique()[3]})
    )
    both = np.vstack([filled[:1], fit.design.fixed_matrix(empty).toarray()])
    functions = fit.linear_functions(both)
    assert functions.estimable.tolist() == [True, False, False]
    for values in (functions.estimate, functions.se(), functions.df()):
        assert np.isfinite(values).tolist() == [True, False, False]
    with pytest.raises(InferenceError, match="estimable"):
        functions.f_test()


def test_a_contrast_of_rows_that_are_not_estimable_may_be():
    fit = fit_of("empty_cells")
    p = len(fit.coef_names)
    filled = fit.design.fixed_matrix(fit.design.frame[["A", "C"]].iloc[:1]).toarray()
    null = fit.design.null_basis[:, 0]
    shift = np.eye(p)[np.argmax(np.abs(null))]  # not estimable by itself
    functions = fit.linear_functions(np.vstack([filled + shift, shift]))
    assert not functions.estimable.any()
    difference = functions.combine(np.array([[1.0, -1.0]]))
    assert difference.estimable.all()
    direct = fit.linear_functions(filled)
    np.testing.assert_allclose(difference.estimate, direct.estimate, rtol=1e-9)
    np.testing.assert_allclose(difference.se(), direct.se(), rtol=1e-8)
    np.testing.assert_allclose(difference.df(), direct.df(), rtol=1e-7)
    streamed = functions.contrast_statistics(np.array([[1.0, -1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(streamed[1][0], direct.se()[0], rtol=1e-8)
    assert streamed[3].tolist() == [True, False]


def test_estimates_do_not_depend_on_which_columns_are_dropped():
    """Levels in another order drop other columns; estimable functions stay."""
    import pandas as pd

    c = case("empty_cells")
    reverse = c.data.assign(A=pd.Categorical(c.data["A"], categories=sorted(c.data["A"].unique())[::-1]))
    with pytest.warns(match="dropped"):
        fit, other = fit_of("empty_cells"), lmm(c.formula, reverse)
    assert set(fit.dropped_columns) != set(other.dropped_columns)
    cells = c.data[["A", "C"]].drop_duplicates()
    a = fit.linear_functions(fit.design.fixed_matrix(cells))
    b = other.linear_functions(other.design.fixed_matrix(cells))
    np.testing.assert_allclose(b.estimate, a.estimate, rtol=1e-6)
    np.testing.assert_allclose(b.se(), a.se(), rtol=1e-6)
    np.testing.assert_allclose(b.df(), a.df(), rtol=1e-5)


def test_refusals():
    fit = fit_of("crossed")
    with pytest.raises(OptionError, match=r"2 columns; the model has 3"):
        fit.linear_functions(np.ones((1, 2)))
    with pytest.raises(OptionError, match="'satterthwaite'"):
        fit.linear_functions(np.eye(3), ddf="kenward")
    with pytest.raises(OptionError, match="'observed'"):
        fit.linear_functions(np.eye(3), information="fisher")


def test_zero_and_empty_hypotheses():
    functions = fit_of("crossed").linear_functions(np.eye(3))
    test = functions.f_test(np.zeros((2, 3)))
    assert test.df_num == 0
    assert np.isnan(test.F)
    dependent = functions.f_test(np.array([[0, 1.0, 0], [0, 2.0, 0], [0, 0, 0]]))
    single = functions.f_test(np.array([[0, 1.0, 0]]))
    assert dependent.df_num == 1
    np.testing.assert_allclose([dependent.F, dependent.df_den], [single.F, single.df_den], rtol=1e-9)
