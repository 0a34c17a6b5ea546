"""Lines on standard input and output: answers in order, kept fits, files, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving import COMMAND, PLAIN, ROOT

from fastlmm_core import datasets, run
from fastlmm_core.service.lines import TOO_LONG, LineReader


def answers(lines, *options, cwd=ROOT, silent=True):
    """The answers to lines, texts or requests; nothing is said beside them, if it is to be silent."""
    text = b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)
    done = subprocess.run([*COMMAND, *options], input=text, capture_output=True, cwd=cwd, timeout=300)
    assert done.returncode == 0 and not (silent and done.stderr), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


MODEL = {"data": "data/sleepstudy.csv", "formula": "Reaction ~ Days + (Days|Subject)"}
TABLES = {"folder": "ranef", "format": "csv"}


def test_answers_come_in_order_and_errors_are_answers(lines):
    requests = [
        {**PLAIN, "id": 1},
        b"garbage",
        b"",
        b"[]",
        {**PLAIN, "formula": "y ~ none", "id": "x"},
        MODEL,
    ]
    first, garbage, listed, wrong, last = lines.ask(*requests)
    assert first == json.loads(json.dumps(run({**PLAIN, "id": 1})))
    assert "is not JSON" in garbage["error"]["message"]
    assert listed["error"] == {"code": "option", "message": "a request must be a JSON object, not list"}
    assert (wrong["id"], wrong["error"]["code"]) == ("x", "formula") and "'none'" in wrong["error"]["message"]
    assert last["fit"]["criterion"] == pytest.approx(1743.6282719, abs=1e-6)  # lme4 1.1.31


def test_a_kept_fit_answers_questions(lines):
    table = datasets.load("sleepstudy")
    new = {"Days": [1, 12], "Subject": ["S308", "nobody"]}
    kept, functions, predicted, forgotten, gone = lines.ask(
        {**MODEL, "keep": "m"},
        {"of": "m", "linear_functions": [
            {"K": [[1.0, 0.0], [0.0, 1.0], [1.0, 5.0], [0.0, 2.0]]},
            {"K": [[0.0, 3.0]], "joint": True, "vcov": True, "ddf": "satterthwaite"},
        ]},
        {"of": "m", "id": 4,
         "predict": [{"newdata": new, "allow_new_levels": True, "se": True}, {"random": False}]},
        {"of": "m", "forget": True, "emmeans": [{"specs": "~ 1"}]},
        {"of": "m"},
    )  # fmt: skip
    beta, cov = np.array(list(kept["fit"]["beta"].values())), np.array(kept["fit"]["vcov"])
    by_rows, joint = functions["linear_functions"]
    K = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 5.0], [0.0, 2.0]])
    np.testing.assert_allclose(by_rows["estimate"], K @ beta, rtol=1e-12)
    # a balanced design: Kenward-Roger does not change the covariance, and all df are 17 (pbkrtest 0.5.2)
    np.testing.assert_allclose(by_rows["SE"], np.sqrt(np.diag(K @ cov @ K.T)), rtol=1e-7)
    np.testing.assert_allclose(by_rows["df"], 17.0, rtol=1e-7)
    assert joint["joint"]["F"] == pytest.approx(beta[1] ** 2 / cov[1, 1], rel=1e-8)
    assert joint["joint"]["dendf"] == pytest.approx(joint["df"][0]) and joint["vcov"][0][0] == pytest.approx(
        9 * cov[1, 1]
    )
    assert predicted["id"] == 4 and predicted["predict"][0]["prediction"][1] == pytest.approx(beta @ [1, 12])
    np.testing.assert_allclose(
        predicted["predict"][1]["prediction"], beta[0] + beta[1] * table["Days"], rtol=1e-12
    )
    assert len(forgotten["emmeans"][0]["table"]) == 1
    assert gone["error"]["code"] == "unknown-fit"


def test_fits_are_not_kept_without_end(lines):
    many = lines.ask(*({**PLAIN, "keep": f"m{k}"} for k in range(40)), {"of": "m0"}, {"of": "m39"})
    assert "error" in many[-2] and many[-1] == {}


def test_with_several_workers_the_id_tells():
    """And a fit, which one of them would keep, is not kept by a name of the client's."""
    requests = [{**PLAIN, "data": {**PLAIN["data"], "y": [k, 2.0, 3.0, 5.0]}, "id": k} for k in range(60)]
    all_answers = answers([{**PLAIN, "keep": "m", "id": "kept"}, *requests], "--workers", "2")
    found = {own["id"]: own for own in all_answers}
    assert "one worker" in found.pop("kept")["error"]["message"]
    intercepts = {k: own["fit"]["beta"]["(Intercept)"] for k, own in found.items()}
    assert intercepts == {k: pytest.approx((k + 3.0) / 2.0) for k in range(60)}


def test_tables_in_files(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table, endings = datasets.load("sleepstudy"), ("parquet", "arrow", "feather", "stream.arrow")
    own = pa.Table.from_pandas(table)
    table.to_parquet(tmp_path / "t.parquet")
    for ending in endings[1:]:
        kind = pa.ipc.new_stream if ending.startswith("stream") else pa.ipc.new_file
        with pa.OSFile(str(tmp_path / f"t.{ending}"), "wb") as file, kind(file, own.schema) as writer:
            writer.write_table(own, max_chunksize=50)
    *here, outside, none, closed = answers(
        [*({**MODEL, "data": f"t.{ending}"} for ending in endings), {**MODEL, "data": "/etc/passwd"}, MODEL,
         {**MODEL, "data": "t.arrow", "ranef": True, "tables": TABLES}],
        "--allow-files", str(tmp_path),
    )  # fmt: skip
    found = {ending: own["fit"]["criterion"] for ending, own in zip(endings, here, strict=True)}
    assert found == {ending: pytest.approx(1743.6282719, abs=1e-6) for ending in endings}
    assert all("is not a file of the folder" in own["error"]["message"] for own in (outside, none))
    assert "nothing may be written here" in closed["error"]["message"]  # to read is not to write


def test_a_damaged_arrow_file_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.arrow"
    datasets.load("sleepstudy").to_feather(path, compression="uncompressed")
    whole = path.read_bytes()
    for content in (b"", b"x" * 100, whole[:50], whole[: len(whole) // 2], b"ARROW1" + whole[20:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable Arrow file"):
            run({**MODEL, "data": str(path)})
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="unpacks to at least"):
        run({**MODEL, "data": str(path)}, limits={"file_size": 1000})


def test_tables_of_answers_in_files(tmp_path):
    asked = {**MODEL, "keep": "m", "ranef": True, "tables": TABLES}
    question = {"of": "m", "predict": [{"se": True}], "tables": {"folder": "more/predicted", "format": "csv"}}
    refused = [{**MODEL, "tables": {"folder": "../x"}}, {**MODEL, "tables": TABLES}]
    first, second, outside, again = answers([asked, question, *refused], "--allow-tables", str(tmp_path))
    effects = pd.read_csv(tmp_path / first["ranef"]["Subject"]["table"]["file"])
    assert len(effects) == 36 and first["fit"]["nobs"] == 180
    predicted = pd.read_csv(tmp_path / second["predict"][0]["table"]["file"])
    want = run({**MODEL, "data": str(ROOT / MODEL["data"]), "predict": [{"se": True}]})["predict"][0]
    np.testing.assert_allclose(predicted["prediction"], want["prediction"], rtol=1e-12)
    assert "is not inside of the folder" in outside["error"]["message"]
    assert "is there already" in again["error"]["message"] and str(tmp_path) not in again["error"]["message"]


def test_a_batch_is_a_request(lines):
    request = {
        "data": "data/trials.csv", "formula": "yield ~ gen + rep + (1|rep:block)", "by": "trial",
        "emmeans": "gen",
        "contrasts": "trt.vs.ctrl:CHECK", "blups": True,
    }  # fmt: skip
    (answer,) = lines.ask(request)
    from fastlmm_core import fit_batch

    batch = fit_batch("data/trials.csv", request["formula"], by="trial", emmeans="gen",
                      contrasts="trt.vs.ctrl:CHECK", blups=True)  # fmt: skip
    assert set(answer["tables"]) == set(batch.plan.tables)
    for name in batch.plan.tables:
        theirs = pd.DataFrame(answer["tables"][name]).drop(columns="seconds", errors="ignore")
        ours = batch.table(name).drop(columns="seconds", errors="ignore")
        for column in ours.select_dtypes("number").columns:
            values = theirs[column].replace("Inf", np.inf).astype(float)
            np.testing.assert_array_equal(values, ours[column].astype(float))
        assert list(ours.columns) == list(theirs.columns)


def test_long_lines_are_passed_over():
    requests = [b" " * 3000 + b"{}", {**PLAIN, "id": 2}, b"x" * 5_000_000, {**PLAIN, "id": 4}]
    first, second, third, fourth = answers(requests, "--max-body", "2000")
    assert first["error"]["code"] == third["error"]["code"] == "limit"
    assert (second["id"], fourth["id"]) == (2, 4)


@pytest.mark.parametrize("sizes", [[1] * 40, [7], [1000], [3, 1, 1, 9]])
def test_lines_are_the_same_however_they_arrive(sizes):
    text = b"ab\n\nlonger than ten\ncd\r\nexactly ten\n1234567890\nlast"
    source, sender = os.pipe()
    stop, _ = os.pipe()

    def send():
        rest, k = text, 0
        while rest:
            os.write(sender, rest[: sizes[k % len(sizes)]])
            rest, k = rest[sizes[k % len(sizes)] :], k + 1
            time.sleep(0.001)
        os.close(sender)

    thread = threading.Thread(target=send)
    thread.start()
    found = list(LineReader(source, 10, stop))
    thread.join()
    assert found == [b"ab", b"", TOO_LONG, b"cd\r", TOO_LONG, b"1234567890", b"last"]


def test_a_request_that_takes_too_long_is_an_error_with_its_id():
    rows = range(150_000)
    slow = {
        "id": "slow", "formula": "y ~ 1 + (1|g) + (1|x) + (1|g:x)",
        "columns": {"g": {"type": "factor"}, "x": {"type": "factor"}},
        "data": {"y": [k % 97 for k in rows], "g": [k % 500 for k in rows], "x": [k % 89 for k in rows]},
    }  # fmt: skip
    late, after = answers([slow, {**PLAIN, "id": 2}], "--seconds", "0.2")
    assert late["id"] == "slow" and late["error"]["code"] == "time" and after["id"] == 2


def wait_for_children(number):
    """Wait until a process has started another one."""
    children = Path(f"/proc/{number}/task/{number}/children")
    if not children.exists():
        pytest.skip("this system does not tell who has started whom")
    ends = time.monotonic() + 60.0
    while not children.read_text():
        assert time.monotonic() < ends, f"process {number} has started none in 60 s"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_was_read(number):
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        process.stdin.write(json.dumps({**PLAIN, "id": 1}).encode() + b"\n")
        process.stdin.flush()
        wait_for_children(process.pid)  # handlers are set, and the worker is starting
        time.sleep(0.5)  # it is read
        process.send_signal(number)
        assert json.loads(process.stdout.readline())["id"] == 1
        assert process.stdout.readline() == b"" and process.wait(timeout=30) == 0


def test_nobody_reads_the_answers():
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        process.stdin.write((json.dumps(PLAIN) + "\n").encode() * 20)
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_memory_is_limited_for_each_worker():
    """More is refused by forecast or by the system, or a library ends the worker: it costs one request."""
    # a small fit, as every block meets two others, and 4,000 means whose covariance is not small
    blocks = [k // 40 for k in range(4000)] + [100 + (k + 20) // 40 for k in range(4000)]
    wide = {
        "data": {"y": [float(k % 7) for k in range(8000)], "g": [f"g{k}" for k in range(4000)] * 2,
                 "b": blocks},
        "columns": {"b": {"type": "factor"}}, "formula": "y ~ g + (1|b)", "emmeans": [{"specs": "~ g"}],
    }  # fmt: skip
    refused, after = answers([wide, {**PLAIN, "id": 2}], "--memory", "800MB", silent=False)
    assert refused["error"]["code"] in ("memory", "out-of-memory", "service") and after["id"] == 2


def test_too_little_memory_for_a_worker_is_an_answer():
    """Without room for its work space OpenBLAS would ask for it without end."""
    (refused,) = answers([{**PLAIN, "id": 1}], "--memory", "200MB", silent=False)
    assert refused["error"]["code"] == "service"
