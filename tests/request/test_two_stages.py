"""A request for a batch with a second stage: the figures of `second_stage`, asked as those of any fit."""

import typing

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, fit_batch, run, second_stage
from fastlmm_core.batch import two_stages
from fastlmm_core.errors import OptionError
from fastlmm_core.request.schema import STAGE_WEIGHTS

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")
FIELDS = datasets.load("besag_field")
LINES = sorted(FIELDS["gen"].unique())
PEDIGREE = {"id": LINES, "sire": [f"S{k % 8}" for k in range(len(LINES))], "dam": [None] * len(LINES)}
STAGE: dict[str, typing.Any] = {"formula": "mean ~ county + (1 | vm(gen, A)) + (1 | county:gen)"}
REQUEST = {
    "data": str(datasets.path("besag_field")), "formula": "yield ~ gen + rep", "by": "county",
    "emmeans": "gen", "fixed": False, "relationships": {"A": {"type": "pedigree", "data": PEDIGREE}},
}  # fmt: skip


@pytest.fixture(scope="module")
def first():
    return fit_batch(FIELDS, "yield ~ gen + rep", by="county", emmeans="gen", covariances=True, fixed=False,
                     progress=False)  # fmt: skip


@pytest.mark.parametrize("weights", STAGE_WEIGHTS)
def test_the_sections_are_those_of_the_fit(first, weights):
    asked = {**STAGE, "weights": weights, "vcov": False, "ranef": None, "anova": {"ddf": ["kenward-roger"]},
             "genotype_values": [{"term": "vm(gen, A)", "check": LINES[0], "select": 5}]}  # fmt: skip
    answer = run({**REQUEST, "second_stage": asked})
    found = answer["second_stage"]
    fit = second_stage(first, STAGE["formula"], weights=weights, relationships={"A": pd.DataFrame(PEDIGREE)})
    assert found["fit"]["criterion"] == pytest.approx(fit.criterion, rel=1e-8)
    assert set(found) == {"fit", "anova", "genotype_values"} and "vcov" not in found["fit"]
    gain = fit.genotype_values("vm(gen, A)").without(LINES[0]).select(5).to_frame()
    block = found["genotype_values"][0]
    np.testing.assert_allclose(block["gain"][0]["gain"], gain["gain"][0], rtol=1e-5)
    assert "covariances" in answer["tables"] and any("8 parents" in note for note in answer["notes"])


def test_weights_are_those_of_the_library():
    assert two_stages.WEIGHTS == STAGE_WEIGHTS


def test_trials_without_means_are_among_the_notes():
    trials = {"data": str(datasets.path("trials")), "formula": "~ gen + (1|rep)",
              "traits": ["yield", "height"], "by": "trial", "emmeans": "gen"}  # fmt: skip
    stage = {"formula": "mean ~ trial + (1|gen)", "trait": "yield"}
    answer = run({**trials, "second_stage": stage})
    assert any("are not in the second stage, without means: T7 (data)" in note for note in answer["notes"])
    with pytest.raises(OptionError, match="give trait=, one of 'yield', 'height'"):
        run({**trials, "second_stage": {"formula": stage["formula"]}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"second_stage": {}}, "second_stage has no 'formula'|formula"),
        ({"second_stage": {**STAGE, "weights": "half"}}, "weights"),
        ({"second_stage": {**STAGE, "residual": "units"}}, "has no key 'residual'"),
        ({"second_stage": STAGE, "emmeans": None}, "means"),
        ({"second_stage": {"formula": "mean ~ county + (1 | gen)"}}, "relationship 'A' is in no formula"),
    ],
)
def test_what_is_wrong_is_said(change, words):
    with pytest.raises(OptionError, match=words):
        run({**REQUEST, **change})


def test_tables_of_the_second_stage_go_to_files(tmp_path):
    request = {**REQUEST, "second_stage": {**STAGE, "genotype_values": [{"term": "vm(gen, A)"}]},
               "tables": {"folder": "out", "format": "csv"}}  # fmt: skip
    answer = run(request, tables_root=tmp_path)
    placed = answer["second_stage"]["genotype_values"][0]["table"]
    assert len(pd.read_csv(tmp_path / placed["file"])) == placed["rows"] == len(LINES) + 8
