"""Tables from files and objects: types, and a clear message for what cannot be used."""

import gzip

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.reading import read_table


def write(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_quoted_numbers_are_levels_in_numeric_order(tmp_path):
    frame = read_table(write(tmp_path, '"rate","y"\n"108",1.5\n"36",2\n"54",3\n'))
    assert list(frame["rate"].cat.categories) == ["36", "54", "108"]
    assert frame["y"].tolist() == [1.5, 2.0, 3.0]


def test_a_file_that_quotes_everything_is_read_by_content(tmp_path):
    frame = read_table(write(tmp_path, '"rate","y"\n"108","1.5"\n"36","2"\n'))
    assert frame["rate"].tolist() == [108, 36]


def test_declared_levels_set_the_order(tmp_path):
    path = write(tmp_path, "g,y\n2,1\n10,2\n,3\n")
    frame = read_table(path, {"g": {"type": "factor", "levels": ["10", "2"]}})
    assert list(frame["g"].cat.categories) == ["10", "2"]
    assert frame["g"].isna().tolist() == [False, False, True]


def test_na_is_a_level_of_a_declared_factor_and_missing_elsewhere(tmp_path):
    path = write(tmp_path, "g,h,y\nNA,NA,NA\nB,C,2\n")
    frame = read_table(path, {"g": {"type": "factor"}})
    assert frame["g"].tolist() == ["NA", "B"]
    assert frame["h"].isna().tolist() == [True, False] and frame["y"].isna().tolist() == [True, False]


def test_gzip_parquet_and_object_agree(tmp_path):
    text = "g,y\na,1.5\nb,\n"
    plain = read_table(write(tmp_path, text))
    zipped = tmp_path / "t.csv.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    plain.to_parquet(tmp_path / "t.parquet")
    for other in (zipped, tmp_path / "t.parquet", {"g": ["a", "b"], "y": [1.5, None]}):
        frame = read_table(other)
        assert frame["g"].tolist() == ["a", "b"]
        np.testing.assert_array_equal(frame["y"].to_numpy(float), [1.5, np.nan])


def test_numbers_given_as_levels_get_plain_labels():
    frame = read_table({"g": [36.0, 54.0], "y": [1, 2]}, {"g": {"type": "factor", "levels": [54, 36]}})
    assert frame["g"].tolist() == ["36", "54"] and list(frame["g"].cat.categories) == ["54", "36"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "header but no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, the header has 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 cells"),
        ('a,b\n"1,2\n3,4\n', "not a readable CSV"),
        ("a\0b\n1\n", "binary data"),
    ],
)
def test_corrupt_csv(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, text))


def test_damaged_files(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b\x08not gzip")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    for name, message in (("t.csv.gz", "cannot be read"), ("t.parquet", "Parquet")):
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / name)


def test_messages_name_column_level_and_file(tmp_path):
    path = write(tmp_path, "gen,y\nG1,1\nG2,x\n", "trial.csv")
    with pytest.raises(DataError, match=r"'y' is declared numeric, but line 3 holds 'x'"):
        read_table(path, {"y": {"type": "numeric"}})
    with pytest.raises(DataError, match=r"'gen' holds 'G2', not among"):
        read_table(path, {"gen": {"type": "factor", "levels": ["G1"]}})
    with pytest.raises(DataError, match=r"'gn' is declared in columns.*nearest: 'gen'"):
        read_table(path, {"gn": {"type": "factor"}})
    with pytest.raises(OptionError, match=r"allowed: 'factor', 'numeric'"):
        read_table(path, {"gen": {"type": "category"}})
    with pytest.raises(DataError, match=r"does not exist; nearest: 'trial.csv'"):
        read_table(tmp_path / "trail.csv")
    with pytest.raises(DataError, match="must end in"):
        read_table(tmp_path / "trial.docx")
    with pytest.raises(DataError, match="differ in length: a 1, b 2"):
        read_table({"a": [1], "b": [1, 2]})


def test_the_tables_that_travel_with_the_library():
    assert {"cochrancox_kfert", "cochran_bib", "oats", "sleepstudy"} <= set(datasets.names())
    with pytest.raises(DataError, match="nearest: 'cochran_bib'"):
        datasets.load("cochran_bibb")
    described = (datasets.folder() / "README.md").read_text()
    for name in datasets.names():
        frame = datasets.load(name)
        assert f"`{name}.csv` | {len(frame)} |" in described
        # trials have plots without a value
        assert frame.isna().any().any() == (name in ("trials", "besag_met"))


def test_kfert_and_bib_are_the_published_figures():
    kfert = datasets.load("cochrancox_kfert")
    assert list(kfert.columns) == ["rep", "K2O_lbac", "yield"]
    assert list(kfert["K2O_lbac"].cat.categories) == ["36", "54", "72", "108", "144"]
    wide = kfert.pivot(index="K2O_lbac", columns="rep", values="yield")
    assert wide.to_numpy().tolist() == [
        [7.62, 8.20, 7.93], [8.14, 8.35, 7.87], [7.76, 7.93, 7.74], [7.17, 7.77, 7.80], [7.46, 7.88, 7.21]
    ]  # fmt: skip
    bib = datasets.load("cochran_bib")
    met = pd.crosstab(bib["loc"], bib["gen"]).to_numpy()
    assert met.shape == (13, 13) and (met.sum(1) == 4).all() and (met.sum(0) == 4).all()
    together = met.T @ met
    assert (together[~np.eye(13, dtype=bool)] == 1).all()  # balanced: every pair meets once
    assert bib["yield"].sum() == pytest.approx(1548.5)
    assert bib.groupby("gen")["yield"].mean()[["G01", "G02"]].tolist() == pytest.approx([35.325, 29.8])
