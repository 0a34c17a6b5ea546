"""A request for a batch of several models: the tables of `fit_batch`, from JSON."""

import json

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, run
from fastlmm_core.batch import candidates
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.request import schema

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
MODELS = {
    "spatial": {"formula": "yield ~ gen", "field_trend": "ps(row, col)"},
    "correlated": {"formula": "yield ~ gen", "residual": "ar1(row):ar1(col)"},
    "blocks": "yield ~ gen + (1 | rep)",
}
REQUEST = {"data": str(datasets.path("besag_field")), "by": "county", "emmeans": "gen", "fixed": False}


@pytest.fixture(scope="module")
def fields():
    return datasets.load("besag_field").rename(columns=str)


def same_tables(answer, batch):
    assert set(answer["tables"]) == set(batch.plan.tables)
    for name in batch.plan.tables:
        found, expected = pd.DataFrame(answer["tables"][name]), batch.table(name)
        assert list(found) == list(expected) and len(found) == len(expected) > 0
        for column in expected:
            if column == "seconds":
                continue
            if pd.api.types.is_float_dtype(expected[column]):
                figures = found[column].astype(float)
                np.testing.assert_allclose(figures, expected[column], rtol=1e-9, atol=1e-12)
            else:
                assert found[column].astype(object).where(found[column].notna(), None).tolist() == (
                    expected[column].astype(object).where(expected[column].notna(), None).tolist()
                )


@pytest.mark.parametrize("choose", ["first", "bic"])
def test_the_tables_are_those_of_the_batch(fields, choose):
    models = {name: MODELS[name] for name in ("correlated", "blocks")}
    answer = run(json.loads(json.dumps({**REQUEST, "formula": models, "choose": choose})))
    batch = fit_batch(fields, models, by="county", emmeans="gen", fixed=False, choose=choose, progress=False)
    same_tables(answer, batch)


def test_a_column_names_the_formula_of_each_trial(fields):
    data = fields.assign(design=fields["county"].map({"C1": "blocks", "C2": "spatial"}).fillna("correlated"))
    asked = {"formula_column": "design", "plots": True, "trends": True}
    answer = run({**REQUEST, "data": data, "formula": MODELS, **asked})
    batch = fit_batch(data, MODELS, by="county", emmeans="gen", fixed=False, progress=False, **asked)
    assert set(answer["tables"]["fits"]["model"]) == set(MODELS)
    same_tables(answer, batch)


def test_a_list_of_formulas(fields):
    formulas = ["yield ~ gen + (1 | rep:nothing)", "yield ~ gen + (1 | rep)"]
    with pytest.raises(DataError, match="formula: column 'nothing'"):
        run({**REQUEST, "formula": formulas})
    answer = run({**REQUEST, "formula": ["yield ~ gen", "yield ~ gen + (1 | rep)"], "choose": "aic"})
    assert set(answer["tables"]["fits"]["model"]) == {"yield ~ gen + (1 | rep)"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"formula": "yield ~ gen", "choose": "aic"}, "choose='aic' needs several formulas"),
        ({"formula": {"a": {"residual": "units"}}}, r"formula\['a'\] lacks 'formula'"),
        ({"formula": {"a": {"formula": "yield ~ gen", "fixed": "x"}}}, r"formula\['a'\] has no key 'fixed'"),
        ({"formula": ["yield ~ gen", 3]}, "formula=3 must be a name"),
        ({"formula": MODELS, "choose": "best"}, "choose='best'"),
    ],
)
def test_what_is_wrong_is_named(given, words):
    with pytest.raises(OptionError, match=words):
        run({**REQUEST, **given})


def test_choices_are_those_of_the_library():
    assert candidates.CHOICES == schema.CHOICES
