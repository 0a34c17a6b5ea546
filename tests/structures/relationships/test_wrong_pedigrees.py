"""What is wrong with a pedigree is said in one message that names the individuals."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Pedigree
from fastlmm_core.errors import DataError, OptionError, PedigreeWarning


def table(*rows):
    return pd.DataFrame(rows, columns=["id", "sire", "dam"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a", "", ""), ("c", "a", ""), ("c", "a", "")],
            r"'c' is listed twice with the same parents \(rows 2, 3\)",
        ),
        (
            [("a", "", ""), ("c", "a", ""), ("c", "", "a")],
            r"'c' is listed twice with different parents \(rows 2, 3\)",
        ),
        (
            [("a", "", ""), ("a", "", ""), ("b", "", ""), ("b", "a", "")],
            "'b' is listed twice with different.*'a' is",
        ),
        ([("a", "a", "")], "'a' is its own parent"),
        ([("a", "a", ""), ("b", "", "b")], "'a', 'b' are their own parents"),
        ([("a", "", ""), ("", "a", ""), (None, "", "")], "rows 2, 3 have no identifier"),
        ([("a", "", ""), ("0", "a", "")], "row 2 has no identifier"),
        ([("a", "c", ""), ("b", "", ""), ("c", "a", "b")], "loop.*'a' <- 'c' <- 'a'"),
        (
            [("a", "b", ""), ("b", "", "a"), ("c", "d", ""), ("d", "c", "")],
            "'a' <- 'b' <- 'a'; 'c' <- 'd' <- 'c'",
        ),
        ([("a", "a", ""), ("b", "", ""), ("b", "", "")], "duplicate: 'b'.*; 'a' is its own parent"),
    ],
)
def test_refused(rows, message):
    with pytest.raises(DataError, match=message) as raised:
        Pedigree(table(*rows))
    assert "\n" not in str(raised.value)


def test_a_descendant_of_a_loop_is_not_part_of_it():
    rows = [("w", "z", ""), ("x", "w", ""), ("y", "x", ""), ("z", "y", ""), ("q", "w", ""), ("r", "q", "q")]
    with pytest.raises(DataError) as raised:
        Pedigree(table(*rows))
    assert str(raised.value).endswith("'w' <- 'z' <- 'y' <- 'x' <- 'w'")


def test_a_long_loop_is_shortened():
    names = [f"n{i}" for i in range(100)]
    with pytest.raises(DataError) as raised:
        Pedigree({"id": names, "sire": names[1:] + names[:1], "dam": [""] * 100})
    assert len(str(raised.value)) < 300


def test_both_sexes_warn_refuse_or_pass():
    rows = table(("a", "", ""), ("b", "", ""), ("c", "a", "b"), ("d", "b", "c"))
    with pytest.warns(PedigreeWarning, match="'b' is used as sire and as dam"):
        Pedigree(rows)
    with pytest.raises(DataError, match="'b' is used as sire and as dam"):
        Pedigree(rows, check_sex=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pedigree(rows, check_sex=False).inbreeding()["d"] == 0.25
    with pytest.raises(OptionError, match="check_sex='no'"):
        Pedigree(rows, check_sex="no")


def test_row_numbers_in_place_of_parents():
    with pytest.raises(DataError, match="look like row numbers"):
        Pedigree(table(("calf", "", ""), ("cow", "", ""), ("bull", "1", "2")))


@pytest.mark.parametrize("columns", [None, ("id", "sire", "dam")])
def test_a_column_of_selfing_that_nobody_named_is_said(columns):
    """Lines taken as F1 have half the inbreeding, and a variance twice as large: not without a word."""
    rows = table(("p", "", ""), ("q", "", ""), ("x", "p", "q")).assign(Selfing=7.0)
    with pytest.warns(PedigreeWarning, match="column 'Selfing' is not used; selfing='Selfing'"):
        Pedigree(rows, columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pedigree(rows, columns, selfing="Selfing")
        Pedigree(rows.assign(Selfing=np.nan), columns)


def test_wrong_generations_of_selfing():
    rows = table(("a", "", ""), ("b", "a", "")).assign(f=["0", "F4"])
    with pytest.raises(DataError, match="column 'f' row 2 holds 'F4'"):
        Pedigree(rows, selfing="f")
    with pytest.raises(DataError, match="row 1 holds '-1'"):
        Pedigree(rows.assign(f=[-1, 0]), selfing="f")


def test_columns_have_to_be_three():
    with pytest.raises(OptionError, match="must name three columns"):
        Pedigree(table(("a", "", "")), ("id", "sire"))


def test_tables_that_are_no_pedigree():
    with pytest.raises(DataError, match="has no rows"):
        Pedigree(table())
    with pytest.raises(DataError, match="several columns 'id'"):
        Pedigree(pd.DataFrame([["a", "", ""]], columns=["id", "id", "dam"]))
    with pytest.raises(DataError, match="column 'id' holds"):
        Pedigree({"id": [[1], "b"], "sire": ["", ""], "dam": ["", ""]})
    pedigree = Pedigree(table(("a", "", "")))
    assert pedigree.relationship("a").loc["a", "a"] == 1.0
    with pytest.raises(OptionError, match="list of names"):
        pedigree.pruned(None)


def test_parents_of_a_column_with_gaps_are_written_as_floats():
    """What pandas writes: whole numbers beside missing ones are 21.0, and 21.0 is individual 21."""
    whole = {"id": [21, 22, 23, 24], "sire": [None, None, 21, 23], "dam": [None, None, 22, 22]}
    written = pd.DataFrame(whole).astype({"sire": float, "dam": float})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pedigree = Pedigree(written.astype(object).where(written.notna(), "").map(str))
    assert pedigree.levels == ("21", "22", "23", "24")
    assert pedigree.inbreeding()["24"] == 0.25


def test_identifiers_stay_as_they_are_written():
    rows = table(("1.0", "", ""), ("2.0", "", ""), ("3.1", "1.0", "2.0"))
    assert Pedigree(rows).levels == ("1.0", "2.0", "3.1")


@pytest.mark.parametrize("code", ["NULL", "null", "-", "?", "nan", "n/a", "none", "#N/A", None, float("nan")])
def test_usual_codes_are_no_parent(code):
    rows = table(("a", code, code), ("b", code, code), ("c", "a", "b"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pedigree(rows).levels == ("a", "b", "c")


@pytest.mark.parametrize("text", ["a,0,0\nb,0,0\nc,a,b\n", "c,a,b\na,0,0\nb,0,0\n", "x,.,.\ny,x,.\n"])
def test_a_file_without_a_header_is_refused(text, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="the header is missing; write one, for example id,sire,dam"):
        Pedigree(path)
    path.write_text("id,sire,dam\n" + text)
    assert "a" in Pedigree(path).levels or "x" in Pedigree(path).levels


def test_headings_that_are_individuals_are_told_from_a_missing_header():
    rows = pd.DataFrame([["a", "", ""], ["Mother", "a", ""]], columns=["Name", "Mother", "Father"])
    assert Pedigree(rows).levels == ("a", "Mother")
    rows.loc[2] = ["Father", "a", "Mother"]
    with pytest.raises(DataError, match="the header has 'Mother', 'Father', all also among the individuals"):
        Pedigree(rows)
    assert Pedigree(rows, ("Name", "Mother", "Father")).levels == ("a", "Mother", "Father")
    numbered = pd.DataFrame([["a", "", ""], ["b", "a", "0"]], columns=["0", "1", "2"])
    assert Pedigree(numbered).levels == ("a", "b")


def test_rows_of_a_file_are_its_lines(tmp_path):
    (tmp_path / "p.csv").write_text("id,sire,dam\na,,\n\nb,,\nb,a,\n,a,\n")
    words = r"line 6 \(row 4\) has no identifier; duplicate: 'b' .* \(lines 4, 5\)"
    with pytest.raises(DataError, match=words):
        Pedigree(tmp_path / "p.csv")


def test_parents_and_groups_in_another_spelling_are_told():
    """A sire with a blank behind its name was a founder of its own beside the individual."""
    words = "2 parents .* founders: 'A1', 'b '; there is 'a1' for 'A1', 'b' for 'b ': blanks and capitals"
    with pytest.warns(PedigreeWarning, match=words):
        Pedigree(table(("a1", "", ""), ("b", "", ""), ("c", "A1", "b ")))
    with pytest.warns(PedigreeWarning) as said:
        Pedigree(table(("a", "North", "North"), ("c", "north", "a")), groups=["North"])
    assert "'north' has no row of its own and becomes a founder; there is 'North' for" in str(said[0].message)
    with pytest.warns(PedigreeWarning, match="'x' has no row of its own and becomes a founder$"):
        Pedigree(table(("a", "", ""), ("c", "x", "a")))
    with (
        pytest.raises(DataError, match="'G2' is nobody's parent; there is 'g2' for 'G2': blanks and cap"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        Pedigree(table(("a", "G1", "g2"), ("c", "G1", "a")), groups=["G1", "G2"])
