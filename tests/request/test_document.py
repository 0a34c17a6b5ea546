"""Requests of strangers: strict JSON, the schema, the files that may be read."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from fastlmm_core import datasets, run
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, FastLMMError, InternalError, LimitError, OptionError
from fastlmm_core.options import check
from fastlmm_core.request import SCHEMA, parse_request
from fastlmm_core.request.document import Reach
from fastlmm_core.request.sections import SECTIONS

BASE = {"data": {"y": [1.0, 2.5, 3.0, 4.5], "g": ["a", "b", "a", "b"]}, "formula": "y ~ g"}


def test_a_plain_request_is_answered():
    assert run(BASE)["fit"]["beta"] == pytest.approx({"(Intercept)": 2.0, "gb": 1.5})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": NaN}', "NaN is not a number in JSON; write null"),
        ('{"a": [-Infinity]}', "-Infinity is not a number in JSON"),
        ('{"a": ', r"is not JSON: Expecting value \(line 1, column 7\)"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a": [[1], ' + "[" * 100 + "1" + "]" * 100 + "]}", "nested too deeply"),
        ('{"a": ' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
        ('{"a": 1' + "0" * 5000 + "}", "too many digits"),
        ("", "is not JSON"),
    ],
)
def test_only_strict_json_is_read(text, words):
    with pytest.raises(DataError, match=words):
        parse_request(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": 10**400}, "head=.* must be a whole number, 0 or larger"),
        ({"head": True}, "head=True must be a whole number"),
        ({"head": math.nan}, "head=nan must be a whole number"),
        ({"formula": ["y ~ g"]}, r"formula=\['y ~ g'\] must be a name"),
        ({"formula": ""}, "formula is empty"),
        ({"formula": "y ~ g\ud800"}, "formula=.* is not valid Unicode"),
        ({"data": 5}, "data=5 must be a name or an object"),
        ({"data": [1, 2]}, "data=.* must be a name or an object"),
        ({"data": {"y": 5}}, r"data\['y'\] must be a list of values, not 5"),
        ({"data": {"y": [1, {"a": 2}]}}, r"data\['y'\]: row 2 holds \{'a': 2\}"),
        ({"data": {"y\ud800": [1]}}, "a key of data=.* is not valid Unicode"),
        ({"columns": {"g": {"type": "text"}}}, r"columns\['g'\].type='text' is not known; allowed: 'factor'"),
        ({"columns": {"g": {"levels": ["a"]}}}, r"columns\['g'\] lacks 'type'"),
        ({"columns": {"g": {"type": "factor", "levels": [["a"]]}}}, r"columns\['g'\].levels=\['a'\] must be"),
        ({"weights": 5}, "weights=5 must be a name"),
        ({"anova": {"type": True}}, "anova.type=True is not known; allowed: 1, 2, 3"),
        ({"anova": [3]}, r"anova must be an object, not \[3\]"),
        ({"emmeans": ["~ g"]}, r"emmeans\[0\] must be an object, not '~ g'"),
        ({"emmeans": [{"specs": 3}]}, r"emmeans\[0\].specs=3 must be a text or a list of texts"),
        ({"emmeans": [{"specs": "~ g", "level": 95}]}, r"emmeans\[0\].level=95 must lie above 0 and below 1"),
        ({"emmeans": [{"specs": "~ g", "at": {"x": {}}}]}, r"emmeans\[0\].at\['x'\]=\{\} must be"),
        ({"emmeans": [{"specs": "~ g", "weights": "even"}]}, r"emmeans\[0\].weights='even' is not known"),
        ({"contrasts": [{"specs": "~ g", "coef": {"a": ["x"]}}]}, r"contrasts\[0\].coef\['a'\]='x' must be"),
        ({"contrasts": [{"specs": "~ g", "reverse": 1}]}, r"contrasts\[0\].reverse=1 must be true or false"),
        ({"emtrends": [{"specs": "~ g", "var": "x", "delta": "auto"}]}, r"emtrends\[0\].delta='auto'"),
        ({"a\u202eb\n": 1}, r"request has no key 'a\\u202eb\\n'"),
    ],
)
def test_every_place_of_a_request_is_checked_before_work_begins(change, words, monkeypatch):
    monkeypatch.setattr("fastlmm_core.request.session.read_table", None)  # would be work
    with pytest.raises(OptionError, match=words) as caught:
        run({**BASE, **change})
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 400


def test_the_schema_names_every_section_and_is_json():
    asked = {key for key, kind in SCHEMA["properties"].items() if "ask for" in kind.get("description", "")}
    described = {key for key in SECTIONS if "ask for" in json.dumps(SCHEMA["properties"][key])}
    assert described == set(SECTIONS) >= asked
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    check("", {**BASE, "kr": None}, SCHEMA)


def keys_of(kind):
    """Names of the keys of all records inside a kind."""
    if isinstance(kind, dict):
        own = set(kind.get("properties", {})) if kind.get("additionalProperties") is False else set()
        return own.union(*(keys_of(value) for value in kind.values()))
    return set().union(*map(keys_of, kind)) if isinstance(kind, list) else set()


def test_the_documentation_has_every_key_of_the_schema():
    text = (datasets.folder().parent / "docs" / "request.md").read_text(encoding="utf-8")
    assert {key for key in keys_of(SCHEMA) if f"`{key}`" not in text and f'"{key}"' not in text} == set()


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "ok.csv").write_text("y,g\n1,a\n2,b\n3,a\n5,b\n")
    (tmp_path / "open" / "ragged.csv").write_text("y,g\n1,a\n2\n")
    (tmp_path / "closed.csv").write_text("secret,g\n1,a\n2,b\n3,a\n")
    (tmp_path / "open" / "link.csv").symlink_to(tmp_path / "closed.csv")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["../closed.csv", "link.csv", "none.csv", "{0}/closed.csv", "/etc/passwd", "/dev/zero", ".", "a\0b",
     "x" * 5000, "~/x.csv", "../open/../closed.csv", "//etc/hostname"],
)  # fmt: skip
def test_root_says_the_same_of_every_file_it_does_not_read(folders, name):
    name = name.replace("{0}", str(folders))
    with pytest.raises(DataError) as caught:
        run({"data": name, "formula": "y ~ g"}, root=folders / "open")
    text = str(caught.value)
    assert text.endswith("is not a file of the folder that may be read")
    assert "secret" not in text and "ok.csv" not in text


def test_root_reads_what_lies_inside_and_does_not_tell_where_it_is(folders):
    root = folders / "open"
    answer = run({"data": "ok.csv", "formula": "y ~ g"}, root=root)
    assert answer == run({"data": str(root / "ok.csv"), "formula": "y ~ g"}, root=str(root))
    with pytest.raises(DataError, match=r"ragged.csv") as caught:
        run({"data": "ragged.csv", "formula": "y ~ g"}, root=root)
    assert str(folders) not in str(caught.value)
    with pytest.raises(OptionError, match="is not a folder"):
        run({"data": "ok.csv", "formula": "y ~ g"}, root=folders / "none")


def test_folders_are_hidden_only_as_whole_names():
    reach = Reach(Path("/srv/out"), tables_root=Path("/srv/tables.d"))
    for said, told in {
        "'/srv/out/a.csv' and '/srv/out'": "'a.csv' and '.'",
        "data='/srv/outside/x' is none": "data='/srv/outside/x' is none",
        "data='/srv/out-2' and /srv/out/b/c": "data='/srv/out-2' and b/c",
        "data='/home/srv/out/x'": "data='/home/srv/out/x'",
        '"/srv/out", `/srv/tables.d`, /srv/tables.d/7, /srv/tablesXd/7': '".", `.`, 7, /srv/tablesXd/7',
        "cannot be read: /srv/out": "cannot be read: .",
    }.items():
        assert str(reach.hidden(DataError(said))) == told
    assert str(Reach(Path("/")).hidden(DataError("'/etc/x'"))) == "'/etc/x'"


def test_inline_only_reads_no_file(folders):
    for name in ("ok.csv", str(folders / "closed.csv"), "none"):
        with pytest.raises(DataError, match="this service reads no files"):
            run({"data": name, "formula": "y ~ g"}, inline_only=True)
    assert run(BASE, inline_only=True)["fit"]["nobs"] == 4


def test_limits_are_the_servers_not_the_requests():
    with pytest.raises(LimitError, match="columns"):
        run(BASE, limits={"columns": 1})
    with pytest.raises(OptionError, match="no key 'limits'"):
        run({**BASE, "limits": {"columns": 10**9}})


def failed(capsys, *arguments):
    assert main(list(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "compil" not in line]
    assert len(lines) == 1 and lines[0].isprintable() and len(lines[0]) < 450, lines
    return lines[0]


def test_the_command_takes_the_same_care(folders, capsys):
    request = folders / "r.json"
    request.write_text(json.dumps({"data": "../closed.csv", "formula": "y ~ g"}))
    assert "may be read" in failed(capsys, "run", str(request), "--root", str(folders / "open"))
    assert "reads no files" in failed(capsys, "run", str(request), "--inline-only")
    request.write_bytes(b'{"data": "\xff"}')
    assert "not UTF-8" in failed(capsys, "run", str(request))
    assert "cannot be read" in failed(capsys, "run", str(folders))
    assert "cannot be read" in failed(capsys, "run", "a\0b")
    request.write_text(json.dumps(BASE))
    assert "write NAME=SIZE" in failed(capsys, "run", str(request), "--limit", "terms")
    assert "limits.terms='x'" in failed(capsys, "run", str(request), "--limit", "terms=x")
    assert "limit" in failed(capsys, "run", str(request), "--limit", "file_size=20")
    assert "does not exist" in failed(capsys, "run", str(request), "-o", str(folders / "no" / "a.json"))
    assert "cannot be written" in failed(capsys, "run", str(request), "-o", str(folders / "open"))
    with pytest.raises(SystemExit) as stop:
        main(["run", "--nonsense\u202e"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_the_schema(capsys):
    assert main(["run", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_labels_that_are_no_text_come_back_as_json_escapes(tmp_path):
    data = {"y": [1.0, 2.5, 3.0, 4.5], "g": ["a", "\ud800", "a", "\ud800"]}
    (tmp_path / "r.json").write_text(json.dumps({"data": data, "formula": "y ~ g"}))
    done = subprocess.run(
        [sys.executable, "-m", "fastlmm_core.cli", "run", str(tmp_path / "r.json")], capture_output=True
    )
    if done.returncode == 0:
        assert "g\ud800" in json.loads(done.stdout)["fit"]["beta"]
    else:
        assert done.stderr.count(b"\n") == 1 and b"Unicode" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(BASE))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastlmm_core.cli", "run", str(tmp_path / "r.json")],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "fastlmm: error: standard output cannot be written: No space left on device\n"


def test_errors_of_a_request_are_ours():
    for request in (None, 5, [], "x", {}, {"data": {}}, {"data": {"y": []}, "formula": "y ~ 0"}):
        with pytest.raises(FastLMMError) as caught:
            run(request)
        assert not isinstance(caught.value, InternalError)


def test_an_empty_list_of_df_methods_asks_for_no_table():
    request = {"data": {"y": [1.0, 2.0, 4.0, 3.0], "g": ["a", "a", "b", "b"]}, "formula": "y ~ g"}
    assert run({**request, "anova": {"ddf": []}})["anova"] == {}
    assert list(run({**request, "anova": {"ddf": ["residual"]}})["anova"]) == ["type3_residual"]
