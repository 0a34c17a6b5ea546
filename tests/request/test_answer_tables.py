"""Tables of an answer as files: the figures of the answer itself, whole or not there, only where allowed."""

from __future__ import annotations

import io
import json
import os
import sys

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, run
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, DependencyError, OptionError
from fastlmm_core.request import table_folder
from fastlmm_core.request.answer_tables import Rows
from fastlmm_core.request.table_folder import TableFolder
from fastlmm_core.table_formats import table_bytes

READ = {"parquet": pd.read_parquet, "arrow": pd.read_feather, "csv": pd.read_csv}
OATS = {
    "data": str(datasets.path("oats")), "formula": "Y ~ V*N + (1|B/V)", "ranef": True,
    "emmeans": [{"specs": "~ V*N"}, {"specs": "~ V", "method": "asymptotic"}],
    "contrasts": [{"specs": "~ V | N"}], "anova": {"ddf": ["kenward-roger"]}, "predict": [{"se": True}],
    "linear_functions": [{"K": [[0, 1] + [0] * 10], "joint": True}], "vpredict": [{"expr": "V1/(V1+V3)"}],
}  # fmt: skip
TRIALS = {
    "data": str(datasets.path("trials")), "formula": "yield ~ trial + (1|gen) + (1|trial:gen)",
    "genotype_values": [{"term": "gen", "check": "CHECK", "best": 2, "select": 3}],
    "gxe": {"genotype": "gen", "environment": "trial"}, "heritability": ["gen"],
}  # fmt: skip
FACTORS = {
    "data": str(datasets.path("trials")), "formula": "yield ~ trial + fa(trial|gen, k=1)",
    "factor_analysis": True, "correlations": True, "ranef": True,
}  # fmt: skip
BATCH = {
    "data": str(datasets.path("trials")), "formula": "yield ~ gen + rep + (1|rep:block)", "by": "trial",
    "emmeans": "gen", "contrasts": "pairwise", "blups": True,
}  # fmt: skip
REQUESTS = {"fit": OATS, "genotypes": TRIALS, "factors": FACTORS, "batch": BATCH}


def figures(values) -> np.ndarray:
    """Values of an answer as numbers: null is NaN, "Inf" is infinite."""
    return np.array([np.nan if own is None else float(own) for own in values])


def inline_columns(value) -> dict[str, list]:
    """A table of an answer by column: rows, or an object of columns."""
    if isinstance(value, dict):
        return value
    names = dict.fromkeys(name for row in value for name in row)
    return {name: [row.get(name) for row in value] for name in names}


def files_of(apart, whole, folder, form):
    """Pairs of a table as it is read from its file, and as it stands in the other answer."""
    if isinstance(apart, dict) and set(apart) == {"file", "rows", "columns"}:
        table = READ[form](folder / apart["file"])
        assert (len(table), list(table.columns)) == (apart["rows"], apart["columns"])
        yield table, inline_columns(whole)
    elif isinstance(apart, dict):
        for key, own in apart.items():
            # figures that stand beside what is said of them are in the file of `table`
            yield from files_of(own, whole[key] if key in whole else whole, folder, form)
    elif isinstance(apart, list) and apart and isinstance(apart[0], dict):
        for own, theirs in zip(apart, whole, strict=True):
            yield from files_of(own, theirs, folder, form)


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("what", REQUESTS)
def test_files_hold_what_the_answer_holds_without_them(tmp_path, what, form):
    if form != "csv":
        pytest.importorskip("pyarrow")
    asked = {**REQUESTS[what], "tables": {"folder": f"{what}/out", "format": form}}
    apart, whole = run(asked, tables_root=tmp_path), run(REQUESTS[what])
    json.dumps(apart, allow_nan=False)
    assert apart.get("fit") == whole.get("fit")  # its figures stay in the answer
    pairs = list(files_of({k: v for k, v in apart.items() if k != "fit"}, whole, tmp_path, form))
    on_disk = sorted((tmp_path / what / "out").iterdir())
    assert len(pairs) == len(on_disk) > 2 and {path.suffix for path in on_disk} == {f".{form}"}
    compared = 0
    for table, columns in pairs:
        for name in table.columns.intersection(columns):
            theirs = columns[name]
            if name == "seconds" or len(theirs) != len(table) or isinstance(theirs[0], list):
                continue
            if pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != bool:
                np.testing.assert_allclose(table[name].to_numpy(float), figures(theirs), rtol=1e-13)
            else:
                ours = [None if pd.isna(own) else str(own) for own in table[name]]
                blank = (None, "") if form == "csv" else (None,)  # CSV has one word for both
                assert ours == [None if own in blank else str(own) for own in theirs]
            compared += 1
    assert compared > 10


def test_effects_are_long_tables_of_the_same_figures(tmp_path):
    request = {"data": str(datasets.path("sleepstudy")), "formula": "Reaction ~ Days + (Days|Subject)"}
    asked = {**request, "ranef": True, "tables": {"folder": "out", "format": "csv"}}
    said = run(asked, tables_root=tmp_path)["ranef"]["Subject"]
    whole = run({**request, "ranef": True})["ranef"]["Subject"]
    table = pd.read_csv(tmp_path / said["table"]["file"], dtype={"level": str})
    assert said["n_levels"] == 18 and said["columns"] == ["(Intercept)", "Days"]
    for j, column in enumerate(said["columns"]):
        own = table[table["term"] == column]
        assert own["level"].tolist() == whole["levels"]
        np.testing.assert_allclose(own["estimate"], [row[j] for row in whole["values"]], rtol=1e-13)
        np.testing.assert_allclose(own["pev"], [row[j] for row in whole["pev_diag"]], rtol=1e-13)


def test_a_mean_that_cannot_be_estimated_is_marked_in_both(tmp_path):
    request = {
        "data": {"y": [1, 2, 3, 4, 5, 6.0], "h": list("xxxxyy"), "k": list("ppqqpp")},  # none of y and q
        "formula": "y ~ h * k", "emmeans": [{"specs": "~ h*k"}],
    }  # fmt: skip
    whole = run(request)["emmeans"][0]["table"]
    missing = [row.get("nonEst", False) for row in whole]
    assert missing == [row["h"] == "y" and row["k"] == "q" for row in whole]
    assert [row["emmean"] is None for row in whole] == missing
    apart = run({**request, "tables": {"folder": "out", "format": "csv"}}, tables_root=tmp_path)
    table = pd.read_csv(tmp_path / apart["emmeans"][0]["table"]["file"])
    assert table["nonEst"].tolist() == table["emmean"].isna().tolist() == missing


# ------------------------------------------------------------ where it may write
SMALL = {
    "data": {"y": [1.0, 2.5, 3.0, 4.5], "g": list("abab")}, "formula": "y ~ g", "emmeans": [{"specs": "~ g"}],
}  # fmt: skip


def small(folder, **more):
    return {**SMALL, "tables": {"folder": str(folder), "format": "csv", **more}}


def test_nothing_is_written_without_leave(tmp_path):
    with pytest.raises(DataError, match="nothing may be written here"):
        run(small(tmp_path / "out"))
    with pytest.raises(DataError, match="nothing may be written here"):
        run(small("out"), root=tmp_path)  # to read is not to write
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", "../x", ".", "a/../..", "/etc/x", "link/x", "a\0b", "x" * 5000])
def test_nor_outside_of_the_folder(tmp_path, name):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(DataError, match=r"tables\.folder=.*(is not inside|cannot be written)"):
        run(small(name), tables_root=root)
    assert not list(outside.iterdir()) and [p.name for p in root.iterdir()] == ["link"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    run(small("out"), tables_root=tmp_path)  # an empty one is taken
    before = (tmp_path / "out" / "emmeans_0.csv").read_bytes()
    changed = small("out") | {"data": {"y": [9.0, 2.5, 3.0, 4.5], "g": list("abab")}}
    with pytest.raises(DataError, match="is there already; name a new folder, or add replace: true"):
        run(changed, tables_root=tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        run(small("file", replace=True), tables_root=tmp_path)
    assert (tmp_path / "out" / "emmeans_0.csv").read_bytes() == before
    (tmp_path / "out" / "notes.txt").write_text("mine")
    run({**changed, "tables": small("out", replace=True)["tables"]}, tables_root=tmp_path)
    assert (tmp_path / "out" / "emmeans_0.csv").read_bytes() != before
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out"]


def test_an_answer_that_fails_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(OptionError):
        run(small("out") | {"contrasts": [{"specs": "~ none"}]}, tables_root=tmp_path)
    real, written = table_folder.place_file, []

    def full(target, data):
        if written:
            raise OSError(28, "No space left on device")
        written.append(target)
        real(target, data)

    monkeypatch.setattr(table_folder, "place_file", full)
    two = small("a/out") | {"contrasts": [{"specs": "~ g"}]}
    with pytest.raises(DataError, match=r"tables\.folder='a/out' cannot be written: No space left"):
        run(two, tables_root=tmp_path)
    assert written and not [path for path in tmp_path.rglob("*") if path.name != "a"]


def test_of_two_answers_for_one_folder_one_is_refused(tmp_path):
    """Both found it free when they began."""
    ours, theirs = (TableFolder.of({"folder": "out", "format": "csv"}, tmp_path / "out") for _ in range(2))
    frames = [pd.DataFrame({"x": [k]}) for k in (1, 2)]
    ours.placed({"tables": {"x": Rows.of(frames[0])}})
    with pytest.raises(DataError, match="is there already"):
        theirs.placed({"tables": {"x": Rows.of(frames[1])}})
    assert pd.read_csv(tmp_path / "out" / "x.csv").equals(frames[0])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the system writes where root may not")
def test_a_folder_that_is_not_ours_is_said(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot be written: Permission denied"):
        run(small("closed/out"), tables_root=tmp_path)


def test_files_are_named_safely_and_once(tmp_path):
    names = {"a/b": 1, "a:b": 2, "A b": 3, "..": 4, "x" * 300: 5, "ü": 6}
    folder = TableFolder.of({"folder": "out", "format": "csv"}, tmp_path / "out")
    said = folder.placed({"ranef": {name: Rows.of(pd.DataFrame({"x": [k]})) for name, k in names.items()}})
    files = {name: own["file"] for name, own in said["ranef"].items()}
    assert len({file.lower() for file in files.values()}) == len(names)
    for name, k in names.items():
        assert (tmp_path / files[name]).parent == tmp_path / "out" and len(files[name]) < 130
        assert pd.read_csv(tmp_path / files[name])["x"].tolist() == [k]


def test_labels_of_several_kinds_are_text_in_files_with_types(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"x": pd.Series([1, "a", None], dtype=object), "df": [1.0, np.inf, np.nan]})
    folder = TableFolder.of({"folder": "out"}, tmp_path / "out")
    file = folder.placed({"tables": {"t": Rows.of(frame)}})["tables"]["t"]["file"]
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / file).to_pydict() == {"x": ["1", "a", None], "df": [1.0, np.inf, None]}


ONE_KIND = {
    "truth": ([True, np.nan, np.bool_(False), None], [True, None, False, None]),
    "numbers": ([1, 2.5, None, np.float64(4.0)], [1.0, 2.5, None, 4.0]),
    "whole": ([1, np.int64(2), np.int32(3), 4], [1, 2, 3, 4]),
    "figures": ([1.5, np.float32(2.5), np.float64(3.5), np.nan], [1.5, 2.5, 3.5, None]),
    "text": (["a", np.nan, np.str_("b"), pd.NaT], ["a", None, "b", None]),
    "lists": ([[1.5, 2.0], None, np.array([3.0]), np.nan], [[1.5, 2.0], None, [3.0], None]),
    "nothing": ([None, np.nan, pd.NA, pd.NaT], [None] * 4),
    7: ([1, "a", None, np.nan], ["1", "a", None, None]),
    "either": ([True, 1, 0.5, np.nan], ["True", "1", "0.5", None]),
}


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_numbers_stay_numbers_and_truth_values_truth_values(form):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({name: pd.Series(own, dtype=object) for name, (own, _) in ONE_KIND.items()})
    frame["levels"] = pd.Categorical([1, "a", 1, None])
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO(table_bytes(frame, form))
    read = pq.read_table(file) if form == "parquet" else pa.ipc.open_file(file).read_all()
    wanted = {str(name): told for name, (_, told) in ONE_KIND.items()}
    assert read.to_pydict() == {**wanted, "levels": ["1", "a", "1", None]}
    assert [type(own) for own in read["truth"].to_pylist()] == [bool, type(None), bool, type(None)]


def test_lists_of_csv_are_json_and_none_is_empty():
    cells = [[1.0, np.nan, np.inf], None, np.nan, (1, np.int64(2)), np.array([[0.5, np.nan]]), [[1], [2, 3]]]
    frame = pd.DataFrame({5: range(6), "x": pd.Series(cells, dtype=object)})
    read = pd.read_csv(io.BytesIO(table_bytes(frame, "csv")), keep_default_na=False)
    told = [None if own == "" else json.loads(own, parse_constant=pytest.fail) for own in read["x"]]
    assert told == [[1.0, None, "Inf"], None, None, [1, 2], [[0.5, None]], [[1], [2, 3]]]
    assert read["5"].tolist() == list(range(6))


@pytest.mark.parametrize("form", [*READ, "json"])
@pytest.mark.parametrize("names", [["x", "x"], [1, "1"]])
def test_columns_of_one_name_are_refused(form, names):
    if form in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"two columns of a table are named '(x|1)'; rename one of them"):
        table_bytes(pd.DataFrame([[1, 2]], columns=names), form)


@pytest.mark.parametrize("own", [[2**70], [[1.0, "a"]], [2**60 + 1, 0.5], [[1.0], "a"]])
def test_what_has_no_type_in_a_file_is_named(own):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"column 'y' .*csv"):
        table_bytes(pd.DataFrame({"x": 1.0, "y": pd.Series(own, dtype=object)}), "parquet")


@pytest.mark.parametrize("form", READ)
def test_cells_that_are_lists_stay_lists(tmp_path, form):
    if form != "csv":
        pytest.importorskip("pyarrow")
    asked = {**BATCH, "covariances": True}
    whole = run(asked)["tables"]["covariances"]["covariance"]
    said = run({**asked, "tables": {"folder": "out", "format": form}}, tables_root=tmp_path)
    cells = READ[form](tmp_path / said["tables"]["covariances"]["file"])["covariance"]
    for ours, theirs in zip(cells, whole, strict=True):
        own = json.loads(ours) if form == "csv" else ours
        np.testing.assert_allclose(own, theirs, rtol=1e-13)


def test_without_pyarrow_it_is_said_before_the_fit(tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    impossible = {"data": str(tmp_path / "none.csv"), "formula": "y ~ 1", "tables": {"folder": "out"}}
    with pytest.raises(DependencyError, match="pip install"):
        run(impossible, tables_root=tmp_path)


@pytest.mark.parametrize(
    "tables", ["out", {}, {"folder": ""}, {"folder": "a", "format": "xlsx"}, {"folder": "a", "mode": 1}]
)
def test_what_is_no_folder_is_refused_by_the_schema(tmp_path, tables):
    with pytest.raises(OptionError, match="tables"):
        run({**SMALL, "tables": tables}, tables_root=tmp_path)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "request.json").write_text(json.dumps(small("out")))
    assert main(["run", "request.json"]) == 2
    assert "--tables-root" in capsys.readouterr().err
    assert main(["run", "request.json", "--tables-root", "."]) == 0
    answer = json.loads(capsys.readouterr().out)
    means = run(SMALL)["emmeans"][0]["table"]
    assert pd.read_csv(answer["emmeans"][0]["table"]["file"])["emmean"].tolist() == pytest.approx(
        [row["emmean"] for row in means], rel=1e-13
    )
    assert main(["run", "request.json", "--tables-root", "none"]) == 2


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_new_rows_may_stand_in_a_file(tmp_path, ending):
    if ending != "csv":
        pytest.importorskip("pyarrow")
    new = pd.DataFrame({"Days": [3.0, 10.0], "Subject": ["S308", "S309"]})
    write = {"csv": lambda p: new.to_csv(p, index=False), "parquet": new.to_parquet, "arrow": new.to_feather}
    write[ending](tmp_path / f"new.{ending}")
    request = {"data": "sleep.csv", "formula": "Reaction ~ Days + (Days|Subject)"}
    datasets.load("sleepstudy").to_csv(tmp_path / "sleep.csv", index=False)
    inline = [{"newdata": new.to_dict("list"), "se": True}]
    want = run({**request, "predict": inline}, root=tmp_path)["predict"]
    found = run({**request, "predict": [{"newdata": f"new.{ending}", "se": True}]}, root=tmp_path)
    assert found["predict"] == want
    for name in ("../new.csv", "none.csv"):
        with pytest.raises(DataError, match=r"predict\[1\]\.newdata=.* is not a file of the folder"):
            run({**request, "predict": [*inline, {"newdata": name}]}, root=tmp_path)
    inside = {"data": datasets.load("dyestuff").to_dict("list"), "formula": "Yield ~ 1 + (1|Batch)"}
    with pytest.raises(DataError, match=r"predict\[0\]\.newdata must be an object of columns"):
        run({**inside, "predict": [{"newdata": "new.csv"}]}, inline_only=True)
