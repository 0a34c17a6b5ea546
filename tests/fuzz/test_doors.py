"""Property-based fuzzing of the doors: whatever comes in, an answer or one line of ours comes out."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlmm_core import datasets, fit_batch, lmm, run
from fastlmm_core.cli import main
from fastlmm_core.errors import LONGEST
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.request import SCHEMA, parse_request

from .conftest import SETTINGS, only_ours
from .grammar import FORMULAS, JSON, SCALARS

MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def examples(count):
    return settings(SETTINGS, max_examples=MANY or count)


@examples(200)
@given(FORMULAS)
def test_formulas_parse_or_are_refused(formula):
    only_ours(lambda: parse_formula(formula))


@examples(100)
@given(formula=FORMULAS)
def test_formulas_meet_a_table(trial, formula):
    fit = only_ours(lambda: lmm(formula, trial, limits={"columns": 200, "coefficients": 20}))
    if fit is not None:
        only_ours(lambda: str(fit.summary()))


TEXTS = st.sampled_from(
    ("~ V", "V", "N", "~ V | N", "V*N", "pairwise", "tukey", "poly", "trt.vs.ctrl", "interaction", "custom",
     "nitro", ""),
)  # fmt: skip
PLAIN = {
    "string": TEXTS, "number": st.sampled_from((0, 1, 0.95, -1, 1e300)), "integer": st.integers(0, 3),
    "boolean": st.booleans(), "null": st.none(),
}  # fmt: skip
KEYS = st.sampled_from(("V", "N", "x", ""))


def near(schema):
    """A strategy of values near a JSON Schema: mostly of the kind, sometimes anything."""
    if "anyOf" in schema:
        right = st.one_of([near(branch) for branch in schema["anyOf"]])
    elif "enum" in schema:
        right = st.sampled_from(schema["enum"])
    elif "properties" in schema:
        right = st.fixed_dictionaries({}, optional={k: near(v) for k, v in schema["properties"].items()})
    elif "type" not in schema:  # checked where it is read
        right = JSON
    elif schema["type"] == "object":
        right = st.dictionaries(KEYS, near(schema["additionalProperties"]), max_size=2)
    elif schema["type"] == "array":
        right = st.lists(SCALARS if schema.get("cells") else near(schema["items"]), max_size=2)
    else:
        right = PLAIN[schema["type"]]
    return st.one_of(right, right, right, right, JSON)


OATS = datasets.load("oats")
INLINE = {name: OATS[name].tolist() for name in OATS} | {"nitro": [float(x[1:4]) for x in OATS["N"]]}
QUESTIONS = {k: near(v) for k, v in SCHEMA["properties"].items() if k not in ("data", "formula")}


@examples(40)
@given(st.fixed_dictionaries({}, optional=QUESTIONS))
def test_requests_are_answered_or_refused(asked):
    request = {"data": INLINE, "formula": "Y ~ V*nitro + (1|B)", **asked}
    answer = only_ours(lambda: run(request, inline_only=True))
    if answer is not None:
        json.dumps(answer, allow_nan=False)


@examples(100)
@given(JSON)
def test_anything_may_be_sent_as_a_request(thing):
    only_ours(lambda: run(thing, inline_only=True))


@examples(200)
@given(st.one_of(st.text(alphabet='{}[]",:0123456789.eE-ntrueflas \n\\u', max_size=60), JSON.map(json.dumps)))
def test_texts_are_json_or_refused(text):
    only_ours(lambda: parse_request(text))


CELLS = st.one_of(
    st.lists(SCALARS, min_size=12, max_size=12),
    st.lists(st.sampled_from(("a", "b", None)), min_size=12, max_size=12),
    st.lists(st.floats(-5, 5), min_size=12, max_size=12),
)
DTYPES = st.sampled_from(
    (None, "float32", "int8", "uint64", "bool", "str", "object", "category", "complex128", "datetime64[ns]",
     "timedelta64[ns]", "Int64", "Float64", "boolean", "string", "float16"),
)  # fmt: skip


@examples(60)
@given(y=CELLS, x=CELLS, g=CELLS, dtype=DTYPES, batch=st.booleans())
def test_cells_of_any_kind_are_read_or_refused(y, x, g, dtype, batch):
    columns = {"y": y, "x": x, "g": g}
    if dtype:
        try:
            columns = {k: pd.Series(v).astype(dtype) for k, v in columns.items()}
        except Exception:  # not a column that pandas can make
            return
    if batch:
        only_ours(lambda: fit_batch(columns, "y ~ x", by="g", progress=False, workers=1))
    else:
        only_ours(lambda: lmm("y ~ x + (1|g)", columns))


CELL_TEXTS = st.sampled_from(
    ("1", "2.5", "a", '"b"', "", "NA", "1,5", ".", '"', "\x00", "é", "1e400", "-", "2026-01-01"),
)  # fmt: skip
LINES = st.lists(CELL_TEXTS, min_size=2, max_size=4).map(",".join)
FILES = st.one_of(
    st.binary(max_size=80),
    st.lists(LINES, min_size=1, max_size=8).map(lambda lines: "\n".join(["y,g", *lines]).encode()),
)


@examples(60)
@given(content=FILES, name=st.sampled_from(("t.csv", "t.csv.gz", "t.parquet", "t.txt")), door=st.booleans())
def test_files_of_any_content_are_read_or_refused_in_one_line(tmp_path, capsys, content, name, door):
    path = tmp_path / name
    path.write_bytes(content)
    if door:
        only_ours(lambda: run({"data": str(path), "formula": "y ~ g"}))
        return
    status = main(["fit", str(path), "y ~ g"])
    printed = capsys.readouterr().err.splitlines()
    assert status in (0, 2)
    if status == 2:
        errors = [line for line in printed if line.startswith("fastlmm: error: ")]
        assert len(errors) == 1 and errors[0].isprintable() and len(errors[0]) <= LONGEST + 20


@pytest.mark.parametrize("scale", [1e-300, 1e300, np.inf])
def test_extreme_responses_end(trial, scale):
    only_ours(lambda: lmm("y ~ x + (1|g)", trial.assign(y=trial["y"] * scale)))
