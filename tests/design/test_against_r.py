"""The design against R: model.matrix, lme4's lFormula, lmerTest's anova (reference/generate.R)."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fastlmm_core.design import build_design

REFERENCE = Path(__file__).parent / "reference"


def cases(name):
    loaded = json.loads((REFERENCE / name).read_text())["cases"]
    return [pytest.param(case, id=case["formula"]) for case in loaded]


def rows_of(written):
    """The matrix that R wrote as a list of rows (a row of one number without its brackets)."""
    return np.array(list(written), dtype=float).reshape(len(written), -1)


@pytest.mark.parametrize("case", cases("matrices.json"))
def test_fixed_part_is_the_model_matrix_of_r(case, table):
    design = build_design(case["formula"], table)
    values = rows_of(case["values"])
    assert list(design.column_names) == case["names"]
    assert [term.label for term in design.terms] == case["labels"]
    assert list(design.dropped_columns) == case["dropped"]
    np.testing.assert_allclose(design.fixed_matrix(table).toarray(), values, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(design.X.toarray(), values[:, design.kept], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", cases("random.json"))
def test_random_terms_are_those_of_lme4(case, table):
    design = build_design(case["formula"], table)
    groups = [re.sub(r"[()]", "", group) for group in case["groups"]]  # as lme4 names them since 2.1
    assert [term.group for term in design.random] == groups
    assert [list(term.columns) for term in design.random] == case["columns"]
    assert [list(term.levels) for term in design.random] == case["levels"]
    w = np.sin(np.arange(1, design.n + 1))
    products = []
    for term in design.random:
        total = np.zeros((len(term.levels), len(term.columns)))
        np.add.at(total, term.codes, term.values * w[:, None])
        products.append(total.ravel())
    np.testing.assert_allclose(np.concatenate(products), case["ztw"], rtol=1e-7, atol=1e-8)


def wald_f(K, beta, vcov):
    K = K.toarray()
    estimate = K @ beta
    return float(estimate @ np.linalg.solve(K @ vcov @ K.T, estimate) / K.shape[0])


@pytest.mark.parametrize("case", cases("tests.json"))
@pytest.mark.parametrize("number", [1, 2, 3])
def test_hypotheses_give_the_f_of_lmertest(case, number, table):
    design = build_design(case["formula"], table)
    place = {name: i for i, name in enumerate(design.column_names)}
    at = [place[name] for name in case["names"]]
    beta, vcov = np.zeros(len(place)), np.zeros((len(place), len(place)))
    beta[at] = case["beta"]
    vcov[np.ix_(at, at)] = rows_of(case["vcov"])
    reference = case["types"][number - 1]
    hypotheses = dict(getattr(design, f"type{number}_hypotheses")())
    assert list(hypotheses) == reference["term"]
    for term, df, value in zip(reference["term"], reference["num"], reference["F"], strict=True):
        K = hypotheses[term]
        assert design.estimable(K).all()
        assert np.linalg.matrix_rank(K.toarray()) == K.shape[0] == df
        assert wald_f(K, beta, vcov) == pytest.approx(value, rel=1e-6)


def test_missing_values_are_dropped_like_r_and_levels_with_them():
    table = pd.DataFrame(
        {"y": [1.0, 2, np.nan, 4, 5, 7], "f": ["a", "b", "c", None, "b", "a"], "x": [1.0, 2, 3, 4, 5, 9]}
    )
    design = build_design("y ~ f + x", table)
    assert (design.n, design.n_dropped) == (4, 2)
    assert design.rows.tolist() == [0, 1, 4, 5]
    assert design.column_names == ("(Intercept)", "fb", "x")
    assert design.variables["f"].levels == ("a", "b")
    assert design.variables["x"].mean == pytest.approx(17 / 4)
