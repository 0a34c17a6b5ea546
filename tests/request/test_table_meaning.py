"""A table means what its file says, in every door: types, labels, dialects, codes of missing values."""

import gzip
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.cli import main
from fastlmm_core.errors import DataError, FastLMMError
from fastlmm_core.reading import notes_of, read_options, read_table
from fastlmm_core.request import run

QUOTED = '"rep","y"\nNA,1.0\n"1",2.1\n"2",3.3\n"3",2.0\n"1",2.5\n"2",3.0\n"3",2.2\n'


def write(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def betas(path, formula="y ~ rep", **options):
    return run({"data": str(path), "formula": formula, **options})["fit"]["beta"]


def test_numbers_in_quotes_are_a_factor_by_any_cell(tmp_path):
    wanted = {"(Intercept)": 2.3, "rep2": 0.85, "rep3": -0.20}
    path = write(tmp_path, QUOTED)
    assert betas(path) == pytest.approx(wanted)
    found = fit_batch(path, "y ~ rep", by=None, progress=False).fixed
    assert dict(zip(found["term"], found["estimate"], strict=True)) == pytest.approx(wanted)
    note = QUOTED.replace("\n", ',"ok"\n').replace('"ok"', '"note"', 1).replace('"ok"', '"two\nlines"', 1)
    assert betas(write(tmp_path, note, "note.csv")) == pytest.approx(wanted)


def test_codes_and_the_name_of_a_check_are_one_factor(tmp_path):
    rng = np.random.default_rng(0)
    codes = [f"{k:03d}" for k in range(1, 101)]
    plots = [(t, codes[(7 * t + k) % 100], k % 3) for t in range(30) for k in range(90)]
    rows = [f"{trial},{gen},{rep},{rng.normal():.3f}" for trial, gen, rep in plots]
    rows[-1] = "3b,CHECK,1,0.5"
    path = write(tmp_path, "trial,gen,rep,y\n" + "\n".join(rows))
    for factors in ((), ("gen",)):
        assert read_table(path, factors=factors)["gen"].nunique() == 101
    result = fit_batch(path, "y ~ rep", by="trial", out=tmp_path / "out", progress=False)
    assert set(result.fits["trial"]) == {*map(str, range(30)), "3b"}
    assert any("taken as labels" in note for note in result.notes)


@pytest.mark.parametrize("ids", [[101, 102, "CHECK", 101], [101, 101, 102, 103, 103, "C", "C"]])
def test_ids_of_integers_and_text_are_a_factor(ids, tmp_path):
    frame = pd.DataFrame({"trial": 1, "gen": ids * 2, "y": np.arange(2.0 * len(ids)) ** 0.5})
    for door in (frame, write(tmp_path, frame.to_csv(index=False))):
        fixed = fit_batch(door, "y ~ gen", by="trial", progress=False).fixed
        assert set(fixed["term"]) == {"(Intercept)", *(f"gen{i}" for i in {*map(str, ids)} - {"101"})}


TRIALS, LEVELS = ["007", "7", "1E1", "10"], ["1.0", "1", "1.10", "1.1", "001", "01"]


@pytest.fixture
def labelled(tmp_path):
    rng = np.random.default_rng(1)
    rows = [f"{t},{g},{rng.normal():.3f}" for t in TRIALS for g in LEVELS for _ in range(3)]
    return write(tmp_path, "trial,g,y\n" + "\n".join(rows))


def test_labels_are_labels(labelled, tmp_path):
    groups = run({"data": str(labelled), "formula": "y ~ 1 + (1|g)", "ranef": True})["ranef"]["g"]
    assert set(groups["levels"]) == set(LEVELS)
    for formula, options in (("y ~ g", {"factors": ["g"]}), ("y ~ factor(g)", {})):
        assert len(betas(labelled, formula, **options)) == 6
        batch = fit_batch(labelled, formula, by="trial", progress=False, **options)
        assert set(batch.fits["trial"]) == set(TRIALS) and set(batch.fits["status"]) == {"ok"}
        assert batch.fixed["term"].nunique() == 6
    argv = ["batch", str(labelled), "y ~ g", "--by", "trial", "--factor", "g", "--quiet"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert set(pd.read_parquet(tmp_path / "out" / "fits")["trial"]) == set(TRIALS)
    batch = fit_batch(labelled, "y ~ 1 + (1|g)", by="trial", blups=True, progress=False)
    assert set(batch.blups["level"]) == set(LEVELS)


BIG = [2**53 + k for k in range(4)]


@pytest.mark.parametrize("ids", [BIG, [10**19 + k for k in range(4)], [10**21 + k for k in range(4)]])
def test_large_integers_stay_distinct(ids, tmp_path):
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet

    rng = np.random.default_rng(2)
    column = [i for i in ids for _ in range(5)] + [None]
    y = rng.normal(size=len(column))
    small = max(ids) < 2**63
    frames = [{"id": column, "y": y}, pd.DataFrame({"id": pd.Series(column, dtype=object), "y": y})]
    frames.append(pd.DataFrame({"id": pd.Series([*map(Decimal, column[:-1]), None], dtype=object), "y": y}))
    if small:
        frames.append(pd.DataFrame({"id": pd.array(column, dtype="Int64"), "y": y}))
        frames.append(pd.DataFrame({"id": pd.Series(column, dtype=pd.ArrowDtype(pa.int64())), "y": y}))
        frames += [pl.DataFrame({"id": column, "y": y}), pa.table({"id": column, "y": y})]
    for frame in frames:
        fit = lmm("y ~ factor(id)", frame)
        assert fit.coef_names == ("(Intercept)", *(f"factor(id){i}" for i in sorted(ids)[1:]))
        keys = fit_batch(frame, "y ~ 1", by="id", progress=False).fits["id"]
        assert [str(key) for key in keys[:4]] == [str(i) for i in ids]
    text = "id,y\n" + "\n".join(f"{i},{v:.3f}" for i, v in zip(column[:-1], y, strict=False))
    assert len(betas(write(tmp_path, text), "y ~ factor(id)")) == 4
    if small:
        pa.parquet.write_table(frames[-1], tmp_path / "t.parquet")
        assert len(betas(tmp_path / "t.parquet", "y ~ factor(id)")) == 4


def test_keys_come_back_as_they_stood(tmp_path):
    path = write(tmp_path, "year,y\n2017,1\n2017,2\n2018,3\n2018,4.5\n,1\n,2\n")
    assert list(fit_batch(path, "y ~ 1", by="year", progress=False).fits["year"][:2]) == [2017, 2018]
    frame = pd.DataFrame({"trial": [1, 1, 2, 2, "3b", "3b"], "y": [1.0, 2, 3, 4.5, 1, 2]})
    out = fit_batch(frame, "y ~ 1", by="trial", out=tmp_path / "out", progress=False)
    assert list(out.fits["trial"]) == ["1", "2", "3b"]


@pytest.mark.parametrize(
    "code",
    [
        "NA", "", "NaN", "N/A", "NULL", "#N/A", "#DIV/0!", "#VALUE!", "None", "<NA>", " NA ", ".", "*", "-",
        "nd",
    ],
)
def test_codes_of_missing_values(code, tmp_path):
    path = write(tmp_path, f"g,y,x\na,1.5,1\nb,{code},2\na,2.5,{code}\n")
    frame = read_table(path)
    assert frame["y"].isna().tolist() == [False, True, False] and frame["x"].isna().sum() == 1
    assert bool(notes_of(frame)) == (code in {".", "*", "-", "nd"})
    if code not in {".", "*", "-", "nd"}:
        text = f"g,y\na,1.5\n{code},2\nb,2.5\n"
        assert read_table(write(tmp_path, text, "factor.csv"))["g"].isna().tolist() == [False, True, False]


def test_codes_are_added_and_replaced(tmp_path):
    path = write(tmp_path, "site,y\nNA,-9\nB,2\nNA,-9.0\nB,x\n")
    added = read_table(path, options=read_options(na_values=[-9, "x"]))
    assert added["y"].tolist()[1] == 2 and added["y"].isna().sum() == 3 and added["site"].isna().sum() == 2
    kept = read_table(path, options=read_options(na_values={"site": []}))
    assert kept["site"].tolist() == ["NA", "B", "NA", "B"]


def test_measurements_with_other_text_are_refused_by_line(tmp_path):
    cells = [f"{k}.5" for k in range(30)]
    cells[3], cells[7] = "lost", '"12,5"'
    path = write(tmp_path, "trial,y,x\n" + "\n".join(f"{k // 10},{k % 7},{c}" for k, c in enumerate(cells)))
    for formula in ("y ~ x", "x ~ y"):
        with pytest.raises(DataError, match=r"'lost' in line 5, '12,5' in line 9"):
            run({"data": str(path), "formula": formula})
    fits = fit_batch(path, "y ~ x", by="trial", progress=False).fits
    assert fits["status"].tolist() == ["data", "ok", "ok"] and "line 5" in fits["message"][0]


def test_commas_that_may_part_thousands_are_refused(tmp_path):
    path = write(tmp_path, 'x,y\n"1,234",1\n"2,345",2\n12,3\n7,5\n')
    with pytest.raises(DataError, match=r"'1,234' in line 2"):
        betas(path, "y ~ x")
    slope = np.polyfit([1.234, 2.345, 12, 7], [1, 2, 3, 5], 1)[0]
    assert betas(path, "y ~ x", decimal=",")["x"] == pytest.approx(slope)


PLAIN = "g,x,y\n" + "\n".join(f"{'äb'[k % 2]},{k}.25,{k * k}.5" for k in range(9)) + "\n"
GERMAN = PLAIN.replace(",", ";").replace(".", ",")


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        (GERMAN, "t.csv", "utf-8"), (GERMAN, "t.csv", "latin-1"), (GERMAN, "t.csv", "utf-16"),
        (GERMAN, "t.csv", "utf-16-le"), (PLAIN.replace(",", "\t"), "t.tsv", "utf-8-sig"),
        (PLAIN.replace(",", "|"), "t.txt", "utf-8"), (PLAIN.replace("\n", "\r\n"), "t.csv", "utf-8"),
        (PLAIN.replace("\n", "\r"), "t.csv", "utf-8"), (PLAIN.replace("\n", ",,\n"), "t.csv", "utf-8"),
    ],
)  # fmt: skip
def test_dialects(text, name, encoding, tmp_path):
    wanted = read_table(write(tmp_path, PLAIN, "plain.csv"))
    path = write(tmp_path, text, name, encoding)
    pd.testing.assert_frame_equal(read_table(path), wanted, check_column_type=False)
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_table(zipped), wanted, check_column_type=False)


def test_spreadsheets_and_zstandard(tmp_path):
    pytest.importorskip("openpyxl")
    import pyarrow as pa

    wanted = read_table(write(tmp_path, PLAIN))
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"other": [1, 2]}).to_excel(book, sheet_name="first", index=False)
        wanted.to_excel(book, sheet_name="data", index=False)
    found = read_table(tmp_path / "t.xlsx", options=read_options(sheet="data"))
    pd.testing.assert_frame_equal(found, wanted, check_column_type=False)
    (tmp_path / "t.csv.zst").write_bytes(pa.compress(PLAIN.encode(), "zstd", asbytes=True))
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv.zst"), wanted, check_column_type=False)


def test_a_folder_of_text_files_is_one_table(tmp_path):
    write(tmp_path, "trial,gen,y\n" + "\n".join(f"1,{k % 3:03d},{k}.5" for k in range(9)), "a.csv")
    rows = [f"{'C' if k % 3 else '001'},2,{k}.5" for k in range(9)]
    write(tmp_path, "gen,trial,y\n" + "\n".join(rows), "b.csv")
    write(tmp_path, "not a table", "notes.md")
    frame = read_table(tmp_path)
    assert frame["gen"].nunique() == 4 and frame["trial"].tolist() == [1] * 9 + [2] * 9
    assert any("notes.md" in note for note in notes_of(frame))
    assert fit_batch(tmp_path, "y ~ gen", by="trial", progress=False).fits["status"].tolist() == ["ok", "ok"]


def test_titles_repeated_names_and_lines(tmp_path):
    path = write(tmp_path, "Trial 2024\nharvested by hand\n\nplot,gen,y\n1,a,2.5\n2,b,3\n")
    with pytest.raises(DataError, match=r"line 4 looks like the header .*--skip 3"):
        read_table(path)
    assert list(read_table(path, options=read_options(skip=3)).columns) == ["plot", "gen", "y"]
    path = write(tmp_path, "x,note,note,y\n1,a,b,2\n2,a,b,3\n3,a,b,5\n4,b,b,5\n")
    assert len(betas(path, "y ~ x")) == 2
    with pytest.raises(FastLMMError, match="note"):
        betas(path, "y ~ note")


def test_masked_values_are_missing():
    y = np.ma.array([1.0, 2, 3, 1e6, 2], mask=[0, 0, 0, 1, 0])
    assert lmm("y ~ 1", {"y": y}).beta[0] == pytest.approx(2.0)
    weights = np.ma.array(np.ones(5), mask=[0, 1, 0, 0, 0])
    with pytest.raises(DataError, match="weights"):
        lmm("y ~ 1", {"y": np.arange(5.0)}, weights=weights)


@pytest.mark.parametrize("cell", [10**400, Decimal("sNaN"), [1, 2], True, "7"])
def test_one_odd_cell_spoils_its_own_trial_only(cell):
    rows = np.arange(18.0)
    frame = pd.DataFrame({"trial": np.repeat([1, 2, 3], 6), "x": rows % 5, "y": rows % 4})
    for name in ("x", "y"):
        column = frame[name].astype(object)
        column[8] = cell
        fits = fit_batch(frame.assign(**{name: column}), "y ~ x", by="trial", progress=False).fits
        assert fits["status"].tolist() == ["ok", "data", "ok"], fits["message"].tolist()


def test_a_list_as_a_key_spoils_its_own_trial_only():
    trials = pd.Series([1, 1, 1, [2], 3, 3, 3], dtype=object)
    frame = pd.DataFrame({"trial": trials, "y": [1.0, 2, 4, 5, 1, 2, 2]})
    fits = fit_batch(frame, "y ~ 1", by="trial", progress=False).fits
    assert sorted(fits["status"]) == ["data", "ok", "ok"]


@pytest.mark.parametrize(
    "y",
    [pd.Series(["1", "2", "3", "5"] * 3), pd.Series([True, False, True, True] * 3, dtype=object),
     pd.Series(pd.period_range("2020", periods=12, freq="D"))],
)  # fmt: skip
def test_batches_refuse_what_lmm_refuses(y):
    frame = pd.DataFrame({"trial": np.repeat([1, 2], 6), "y": y})
    with pytest.raises(DataError):
        lmm("y ~ 1", frame)
    assert set(fit_batch(frame, "y ~ 1", by="trial", progress=False).fits["status"]) == {"data"}


def test_large_keys_of_parquet_parts_with_and_without_missing_ones(tmp_path):
    big = 2**53
    for name, keys in (("a", [big + 1] * 3 + [None] * 2), ("b", [big + 1] * 2 + [big] * 3)):
        own = pd.DataFrame({"t": pd.array(keys, dtype="Int64"), "y": [1.0, 2, 4, 1, 2]})
        own.to_parquet(tmp_path / f"{name}.parquet")
    fits = fit_batch(tmp_path, "y ~ 1", by="t", progress=False).fits.set_index("t")
    assert fits.loc[big + 1, "n"] == 5 and fits.loc[big, "n"] == 3
    assert sorted(fits["status"]) == ["data", "ok", "ok"]


COMMAS = "gen;moisture;yield\nA;10,1;991\nB;10,2;902\nA;10,3;1.013\nB;10,6;1.105\n"


@pytest.mark.parametrize(("text", "cell"), [
    (COMMAS, "1.013"), (COMMAS.replace("991", "1.991").replace("902", "2.902"), "1.991"),
    (COMMAS.translate(str.maketrans(",.", ".,")), "1,013"),
    (re.sub("(10,.);", "\\g<1>00;", COMMAS), "1.013"),
])  # fmt: skip
def test_what_may_part_thousands_beside_the_other_sign_is_no_number(tmp_path, text, cell):
    """A thousand and thirteen was read as 1.013 where other columns said that points are no decimal ones."""
    path = write(tmp_path, text)
    assert f"'yield' is not read as numbers: '{cell}' (line" in " ".join(notes_of(read_table(path)))
    with pytest.raises(DataError, match=re.escape(cell)):
        betas(path, "yield ~ gen")


def test_signs_that_tell_are_left_alone(tmp_path):
    """Three decimals of a comma beside other commas, and a file in which both signs are surely decimal."""
    path = write(tmp_path, "a;b;c\n12,385;1,5;7\n12,419;2,5;8\n")
    frame = read_table(path)
    assert frame["a"].tolist() == [12.385, 12.419] and frame["c"].tolist() == [7, 8]
    path = write(tmp_path, "a;b\n12,5;1.5\n0,419;2.25\n")
    frame = read_table(path)
    assert frame["a"].tolist() == [12.5, 0.419] and frame["b"].tolist() == [1.5, 2.25]
    assert any("decimal commas in 'a' and decimal points in 'b'" in note for note in notes_of(frame))
    path = write(tmp_path, "a;b\n12,5;1.013\n0,4;2\n")
    assert read_table(path, options=read_options(decimal="."))["b"].tolist() == [1.013, 2.0]


def test_codes_of_a_column_that_is_not_there_are_refused(tmp_path):
    path = write(tmp_path, "gen,yield\na,-9\nb,2\n")
    with pytest.raises(DataError, match="--na: column 'yeild' is not in the data; nearest: 'yield'"):
        read_table(path, options=read_options(na_values={"yeild": [-9]}))
    assert read_table(path, options=read_options(na_values={"yield": [-9]}))["yield"].isna().sum() == 1


def test_some_numbers_in_quotes_are_told(tmp_path):
    text = 'x,y\n1,1.5\n2,2.5\n"3",3.5\n4,NA\n'
    frame = read_table(write(tmp_path, text))
    assert list(frame["x"].cat.categories) == ["1", "2", "3", "4"]
    wanted = "column 'x': 1 of 4 numbers in quotes (the first '3'): taken as labels"
    assert notes_of(frame) == (wanted,)
    assert notes_of(read_table(write(tmp_path, QUOTED))) == ()  # all of them, as R writes factors


@pytest.mark.parametrize("code", ["na", "n/a", "n.a.", "N.A.", "n.d.", "?"])
def test_usual_words_for_nothing_are_missing_among_numbers(tmp_path, code):
    frame = read_table(write(tmp_path, f"g,y\na,1.5\nb,{code}\nc,2\n"))
    assert frame["y"].isna().tolist() == [False, True, False]
    assert notes_of(frame) == (f"column 'y': 1 '{code}' read as missing among numbers",)
    labels = read_table(write(tmp_path, f"g,y\na,1\n{code},2\nc,3\n"))
    assert labels["g"].tolist() == ["a", code, "c"]


def test_a_response_of_words_names_its_first_cell(tmp_path):
    path = write(tmp_path, "g,y\na,NA\nb,1 238.5\nc,1 241.2\n")
    with pytest.raises(DataError, match=r"'1 238.5', '1 241.2', the first in line 3; take away what parts"):
        betas(path, "y ~ 1")


def test_a_separator_that_was_said_is_no_find(tmp_path):
    path = write(tmp_path, "a;b\n1;2\n3;4\n")
    assert notes_of(read_table(path)) == ("'t.csv' is separated by semicolons",)
    assert notes_of(read_table(path, options=read_options(sep=";"))) == ()
