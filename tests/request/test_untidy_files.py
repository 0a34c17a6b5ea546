"""Files as spreadsheets and stations of several countries write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.errors import DataError, FastLMMError
from fastlmm_core.reading import notes_of, read_options, read_table


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("line", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "sep=;;;\n"])
def test_the_first_line_of_a_spreadsheet_says_the_separator(tmp_path: Path, line: str) -> None:
    frame = read_table(write(tmp_path, {"t.csv": line + "gen;y\nA;1,5\nB;2\n"}) / "t.csv")
    assert frame.columns.tolist() == ["gen", "y"]
    assert frame["gen"].tolist() == ["A", "B"] and frame["y"].tolist() == [1.5, 2.0]


def test_lines_are_those_of_the_file_after_a_line_of_the_separator(tmp_path: Path) -> None:
    path = write(tmp_path, {"t.csv": "sep=;\ngen;y\nA;1\nB;2\nC;2;3\n"}) / "t.csv"
    with pytest.raises(DataError, match="line 5 has 3 cells"):
        read_table(path)


def test_rows_of_separators_alone_are_empty_whatever_their_number(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, {"t.csv": "gen,rep,y\nA,1,2\n,\n,,\nB,1,3\n,,,,\n"}) / "t.csv")
    assert frame["gen"].tolist() == ["A", "B"] and frame["y"].tolist() == [2, 3]
    with pytest.raises(DataError, match="line 3 has 2 cells, the header has 3"):
        read_table(write(tmp_path, {"u.csv": "gen,rep,y\nA,1,2\nB,\n"}) / "u.csv")


POINTS = "site,gen,y,h\nP,A,6.1,1\nP,B,5.25,2\nP,C,.,3\n"
COMMAS = "site;gen;y;h\nQ;A;6,1;1\nQ;B;5,25;2\nQ;C;-;3\n"
WHOLE = "site\tgen\ty\th\nR\tA\t6\t1\nR\tB\t5\t2\n"


def test_every_file_of_a_folder_has_its_own_decimal_sign(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, {"p.csv": POINTS, "q.csv": COMMAS, "r.tsv": WHOLE}))
    np.testing.assert_array_equal(frame["y"], [6.1, 5.25, np.nan, 6.1, 5.25, np.nan, 6.0, 5.0])
    assert any("'y' is read with decimal commas in 'q.csv', with points" in note for note in notes_of(frame))


def test_a_wrong_cell_costs_its_own_trial_alone(tmp_path: Path) -> None:
    """The trial with `x` is refused, and those with the other sign go on."""
    many = "".join(f"Q;G{k};{4 + k / 4:.2f};{k}\n".replace(".", ",") for k in range(8))
    more = "".join(f"P,G{k},{4 + k / 4:.2f},{k}\n" for k in range(8))
    spoilt = more.replace("P,", "S,").replace("4.25", "x")
    files = {"p.csv": "site,gen,y,h\n" + more, "q.csv": "site;gen;y;h\n" + many,
             "s.csv": "site,gen,y,h\n" + spoilt}  # fmt: skip
    batch = fit_batch(write(tmp_path, files), "y ~ h", by="site", progress=False)
    status = dict(zip(batch.fits["site"], batch.fits["status"], strict=True))
    assert status == {"P": "ok", "Q": "ok", "S": "data"}
    slopes = batch.fixed.query("term == 'h'").set_index("site")["estimate"]
    assert slopes["P"] == pytest.approx(0.25) and slopes["Q"] == pytest.approx(0.25)
    assert "'x'" in batch.fits["message"].iloc[2]


def test_a_sign_that_may_part_thousands_in_one_file_is_not_guessed(tmp_path: Path) -> None:
    """1.234 of a station may be its thousands: no number is read, and a note says so."""
    parted = "site,gen,y,h\nP,A,1.234,1\nP,B,2.345,2\nP,C,1.555,3\n"
    frame = read_table(write(tmp_path, {"p.csv": parted, "q.csv": COMMAS}))
    assert frame["y"].dtype == object or frame["y"].dtype == "str"
    sure = parted.replace(",1\n", ",1.5\n")  # another column says that the points of the file are decimal
    frame = read_table(write(tmp_path, {"p.csv": sure, "q.csv": COMMAS}))
    assert frame["y"].tolist()[:4] == [1.234, 2.345, 1.555, 6.1]


def test_labels_stay_as_they_are_written(tmp_path: Path) -> None:
    files = write(tmp_path, {"p.csv": POINTS, "q.csv": COMMAS})
    frame = read_table(files, factors=["y"])
    assert {"6.1", "6,1", "5.25", "5,25"} <= set(frame["y"].cat.categories)


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        (("1.234,5", "5.678,9", "987,1", "-"), "parts thousands.*1.234,5"),
        (("1,234.5", "5,678.9", "987.1", "*"), "parts thousands.*1,234.5"),
        (("1 234,5", "5 678,9", "987,1"), "parts thousands.*1 234,5"),
        (("1'234.5", "5'678.9", "987.1"), "parts thousands.*1'234.5"),
        (("\u22121.5", "2.5", "\u22123"), "write the minus as '-'"),
        (("15 t", "12.5 t", "."), "take the unit away.*15 t"),
        (("15%", "12.5%", "3"), "take the unit away.*'15%'"),
        (("tall", "short", "tall"), "a factor cannot be modelled"),
        (("10A", "12B", "7C"), "a factor cannot be modelled"),
    ],
)
def test_numbers_as_people_write_them_are_refused_with_what_to_do(
    tmp_path: Path, cells: tuple[str, ...], advice: str
) -> None:
    text = "gen\ty\n" + "".join(f"G{k}\t{cell}\n" for k, cell in enumerate(cells))
    with pytest.raises(DataError, match=advice):
        lmm("y ~ 1", read_table(write(tmp_path, {"t.tsv": text}) / "t.tsv"))


def test_a_genotype_called_true_is_the_same_in_a_sheet_and_its_export(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    rows = [("gen", "y"), (True, 1.5), ("G1", 2.5), (False, 3.5)]
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    write(tmp_path, {"t.csv": "gen,y\nTRUE,1.5\nG1,2.5\nFALSE,3.5\n"})
    sheet, export = (read_table(tmp_path / name)["gen"].tolist() for name in ("t.xlsx", "t.csv"))
    assert sheet == export == ["TRUE", "G1", "FALSE"]


def test_what_many_files_have_in_common_is_said_once(tmp_path: Path) -> None:
    files = {f"s{k}.csv": "gen;y\nA;1\nB;2\n" for k in range(5)} | {"t.csv": "gen,y\nA,1\nB,2\n"}
    files["u.tsv"] = "gen\ty\nA\t1\nB\t2\n"
    notes = notes_of(read_table(write(tmp_path, files)))
    many = "'s0.csv', 's1.csv', 's2.csv' and 2 more: each is separated by semicolons"
    assert notes == (many, "'u.tsv' is separated by tabs")


def test_a_treatment_called_none_is_told(tmp_path: Path) -> None:
    """Its plots are left out, as documented, but that is hardly what the column means."""
    path = write(tmp_path, {"t.csv": "trt,y,z\nNone,1,None\nN,2,3\nNP,3,4\nNone,4,5\nNA,5,6\n"}) / "t.csv"
    notes = notes_of(read_table(path))
    assert len(notes) == 1 and "'trt': 2 'None' read as missing among labels; --na trt=" in notes[0]
    kept = read_table(path, options=read_options(na_values={"trt": []}))
    assert kept["trt"].tolist() == ["None", "N", "NP", "None", "NA"] and not notes_of(kept)


@pytest.mark.parametrize("header", ["yield (t/ha)", "yield t/ha", "height [cm]", "protein %", "N\u00b0"])
def test_headers_with_units_are_told_to_stand_in_backticks(tmp_path: Path, header: str) -> None:
    frame = read_table(write(tmp_path, {"t.csv": f"gen,{header}\nA,1\nB,2\nA,3\nB,5\n"}) / "t.csv")
    for formula in (f"{header} ~ gen", f"'{header}' ~ gen"):
        with pytest.raises(FastLMMError, match="stand in backticks"):
            lmm(formula, frame)
    assert lmm(f"`{header}` ~ gen", frame).nobs == 4


def test_headers_of_files_put_one_below_the_other_are_no_rows(tmp_path: Path) -> None:
    text = "site,gen,y\nP,A,1\nP,B,2\nsite,gen,y\nQ,A,3\nsite,gen,y\nQ,B,4\nsite,y,gen\n"
    frame = read_table(write(tmp_path, {"t.csv": text.rpartition("site,y")[0]}) / "t.csv")
    assert frame["y"].tolist() == [1, 2, 3, 4] and frame["y"].dtype.kind == "i"
    assert notes_of(frame) == ("'t.csv' has its header again in line 4 and 1 more, left out",)
    assert len(read_table(write(tmp_path, {"u.csv": text}) / "u.csv")) == 5  # in another order it is a row
    one = read_table(write(tmp_path, {"v.csv": "A\nB\nA\n"}) / "v.csv")
    assert one["A"].tolist() == ["B", "A"]  # a single column says too little
