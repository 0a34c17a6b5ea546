"""What a Design offers: other rows, estimability, hypotheses, codings, travel between processes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError

CODINGS = ["contr.treatment", "contr.sum", "contr.helmert", "contr.poly", "contr.SAS", "contr.treatment(a2)"]


def dependent(table):
    return build_design("y ~ a*b + x + (1|g)", table)


@pytest.mark.parametrize(
    "formula",
    ["y ~ a*poly(x, 2) + scale(year)", "y ~ bs(x, df=4) + C(g, Sum)*b", "y ~ factor(year) + I(x > 0)"],
)
def test_other_rows_are_coded_as_in_the_fit(formula, table):
    design = build_design(formula, table)
    rows = [7, 3, 21]
    got = design.fixed_matrix(table.iloc[rows].assign(a=lambda d: d["a"].astype(object)))
    np.testing.assert_allclose(got.toarray(), design.fixed_matrix(table).toarray()[rows], atol=1e-12)


def test_levels_on_other_rows_may_be_numbers_or_their_text(table):
    design = build_design("y ~ factor(year)", table)
    years = sorted(table["year"].unique())[:2]
    a = design.fixed_matrix({"year": [float(v) for v in years]})
    b = design.fixed_matrix({"year": [str(v) for v in years]})
    np.testing.assert_array_equal(a.toarray(), b.toarray())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": "a9"}, "levels 'a9', which did not occur in the data of the fit; known: 'a1', 'a2', 'a3'"),
        ({"x": np.nan}, "'x' has missing values in the new data"),
    ],
)
def test_other_rows_that_cannot_be_coded(change, words, table):
    with pytest.raises(DataError, match=words):
        dependent(table).fixed_matrix(table.assign(**change))
    with pytest.raises(DataError, match="column 'x' is not in the data"):
        dependent(table).fixed_matrix(table.drop(columns="x"))


def test_random_terms_on_other_rows(table):
    design = build_design("y ~ 1 + (x|g) + (1|a:b)", table)
    for term in design.random:
        codes, values = term.evaluate(table)
        np.testing.assert_array_equal(codes, term.codes)
        np.testing.assert_allclose(values, term.values)
    cells = next(t for t in design.random if t.group == "a:b")
    new = pd.DataFrame({"a": ["a1", "a2", "a9", None], "b": ["hi", "hi", "lo", "lo"]})
    codes, _ = cells.evaluate(new)
    assert cells.levels[codes[0]] == "a1:hi"
    assert codes[1:].tolist() == [-1, -1, -1]  # empty cell, unknown level, missing


def test_the_null_basis_spans_what_x_does_not_see(table):
    design = dependent(table)
    full = design.fixed_matrix(table).toarray()
    assert design.null_basis.shape == (len(design.column_names), len(design.dropped_columns))
    np.testing.assert_allclose(full @ design.null_basis, 0, atol=1e-12)
    assert np.linalg.matrix_rank(full) == design.kept.size
    assert build_design("y ~ a + b", table).null_basis is None


def test_rows_of_x_are_estimable_and_the_empty_cell_is_not(table):
    design = dependent(table)
    assert design.estimable(design.fixed_matrix(table)).all()
    grid = design.fixed_matrix({"a": ["a1", "a2", "a2"], "b": ["hi", "lo", "hi"], "x": [0.0, 0.0, 0.0]})
    assert design.estimable(grid).tolist() == [True, True, False]
    assert design.estimable(grid.toarray()).tolist() == [True, True, False]


def test_estimability_does_not_depend_on_the_unit_of_a_covariate(table):
    for factor in (1e-6, 1.0, 1e6):
        design = dependent(table.assign(x=table["x"] * factor))
        grid = design.fixed_matrix({"a": ["a1", "a2"], "b": ["hi", "hi"], "x": [factor, factor]})
        assert design.estimable(grid).tolist() == [True, False]


@pytest.mark.parametrize("coding", [*CODINGS, np.array([[1.0, 0.5], [-1.0, 2.0], [0.3, -4.0]])])
@pytest.mark.parametrize("formula", ["y ~ a*g + a:x + x", "y ~ a/g + x", "y ~ 0 + g + a*x", "y ~ g:a + x"])
def test_coding_changes_neither_the_span_nor_the_hypotheses(coding, formula, table):
    plain, coded = build_design(formula, table), build_design(formula, table, contrasts={"a": coding})
    joint = np.hstack([plain.X.toarray(), coded.X.toarray()])
    assert np.linalg.matrix_rank(joint) == plain.kept.size == coded.kept.size
    to_plain = np.linalg.lstsq(plain.X.toarray(), coded.X.toarray(), rcond=None)[0]
    kinds = ["type1_hypotheses", "type3_hypotheses"]
    if plain.has_intercept:  # without one, "g after a" depends on where a's contrasts put their zero
        kinds.append("type2_hypotheses")
    for kind in kinds:
        for (label, mine), (other_label, other) in zip(
            getattr(coded, kind)(), getattr(plain, kind)(), strict=True
        ):
            assert label == other_label
            rows = other.toarray()[:, plain.kept] @ to_plain
            assert same_row_space(mine.toarray()[:, coded.kept], rows)


def same_row_space(A, B):
    A, B = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (A, B))
    ranks = [np.linalg.matrix_rank(m, tol=1e-8) for m in (A, B, np.vstack([A, B]))]
    return len(set(ranks)) == 1


def sum_coded(design):
    """(n, p_full) fixed part with every factor coded by ``contr.sum``."""
    return design.coding.with_sum_contrasts().matrix(design._values, design.n).toarray()


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ a*factor(r)*x",
        "y ~ a/g",
        "y ~ b + b:g + x",
        "y ~ g + a:g",
        "y ~ 0 + a + g",
        "y ~ 0 + a*x",
        "y ~ x:a + g",
        "y ~ 0 + a:g + x",
    ],
)
def test_type_three_is_a_zero_of_the_sum_coded_coefficients(formula, table):
    """K beta = 0 must say: the fitted values lie in the span of the other terms' sum-coded columns."""
    design = build_design(formula, table)
    assert not design.dropped_columns
    X_sum = sum_coded(design)
    assert X_sum.shape[1] == len(design.column_names)
    M = np.linalg.lstsq(X_sum, design.X.toarray(), rcond=None)[0]
    for term, (label, K) in zip(design.terms, design.type3_hypotheses(), strict=True):
        assert term.label == label
        assert K.shape == (term.columns.size, len(design.column_names))
        assert same_row_space(K.toarray(), M[term.columns])


def test_marginal_type_three_counts_the_rank_that_the_other_terms_cannot_take_over(table):
    design = dependent(table)
    X_sum = sum_coded(design)
    for term, (_, K) in zip(design.terms, design.type3_hypotheses(marginal=True), strict=True):
        others = np.delete(X_sum, term.columns, axis=1)
        assert K.shape[0] == np.linalg.matrix_rank(X_sum) - np.linalg.matrix_rank(others)
        assert design.estimable(K).all()
        # under K beta = 0 the fitted values are in the span of the other terms
        allowed = np.linalg.svd(K.toarray())[2][np.linalg.matrix_rank(K.toarray()) :]
        fitted = design.fixed_matrix(table).toarray() @ allowed.T
        assert np.linalg.matrix_rank(np.hstack([others, fitted])) == np.linalg.matrix_rank(others)


def test_a_term_over_many_levels_keeps_sparse_hypotheses():
    rng = np.random.default_rng(1)
    n, genotypes = 9000, 3000
    table = {
        "g": np.char.add("g", (np.arange(n) % genotypes).astype(str)),
        "e": np.char.add("e", (np.arange(n) // genotypes).astype(str)),
        "y": rng.normal(size=n),
    }
    design = build_design("y ~ g + e", table)
    assert design.X.nnz < 3 * n
    hypotheses = dict(design.type3_hypotheses())
    assert sp.issparse(hypotheses["g"]) and hypotheses["g"].nnz == genotypes - 1


def test_a_design_travels_between_processes(table):
    design = build_design("y ~ a*poly(x, 2) + (x|g/b)", table)
    copy = pickle.loads(pickle.dumps(design))
    np.testing.assert_array_equal(copy.X.toarray(), design.X.toarray())
    np.testing.assert_array_equal(
        copy.fixed_matrix(table.iloc[:5]).toarray(), design.fixed_matrix(table.iloc[:5]).toarray()
    )
    codes, _ = copy.random[0].evaluate(table)
    np.testing.assert_array_equal(codes, design.random[0].codes)


def test_variables_and_frame(table):
    shuffled = table.set_index(np.arange(len(table)) + 100)
    shuffled.loc[101, "x"] = np.nan
    design = build_design("log(y) ~ poly(x, 2)*a + factor(year) + (1|g:r)", shuffled)
    kinds = {name: v.kind for name, v in design.variables.items()}
    assert kinds == {"x": "numeric", "a": "factor", "year": "factor"}
    assert design.variables["x"].mean == pytest.approx(shuffled["x"].mean())
    assert design.variables["year"].levels == tuple(str(v) for v in sorted(table["year"].unique()))
    assert list(design.frame) == ["x", "a", "year", "g", "r"]
    assert design.frame.index.tolist() == [100, *range(102, 100 + len(table))]
    assert design.frame["a"].cat.categories.tolist() == ["a1", "a2", "a3"]
    assert [(t.label, t.variables, t.order) for t in design.terms] == [
        ("poly(x, 2)", ("x",), 1),
        ("a", ("a",), 1),
        ("factor(year)", ("year",), 1),
        ("poly(x, 2):a", ("x", "a"), 2),
    ]
    assert design.response == "log(y)"


def test_polynomials_are_orthonormal_on_the_rows_with_a_value(table):
    design = build_design("y ~ poly(x, 3)", table)
    P = design.X.toarray()[:, 1:]
    np.testing.assert_allclose(P.T @ P, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(P.sum(axis=0), 0, atol=1e-10)
