"""Frames of a fit are pandas DataFrames with unrounded figures, and print as the other tables do."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.display.frames import FigureFrame, titled


@pytest.fixture(scope="module")
def fit():
    return lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))


@pytest.fixture(scope="module")
def many(fit):
    """Forty-two BLUPs of ten columns, more than pandas shows in the usual width."""
    return FigureFrame.of(pd.concat([fit.blups(), fit.blups().head(18)], ignore_index=True), "BLUPs")


def test_no_column_and_no_row_of_42_blups_is_left_out(many):
    lines = str(many).splitlines()
    assert "..." not in str(many) and len(lines) == 2 + 42
    assert lines[1].split() == [*many.columns]
    assert "..." in pd.DataFrame(many).to_string(max_rows=10)  # what pandas would have left out


def test_figures_stay_unrounded_and_print_to_the_digits_of_the_errors(fit):
    blups = fit.blups()
    assert isinstance(blups, pd.DataFrame)
    pev = float(blups["pev"].iloc[0])
    assert pev == pytest.approx(blups["se"].iloc[0] ** 2, rel=1e-14) and pev != round(pev, 3)
    assert re.search(rf"\b{pev:.3f}\b", str(blups))
    assert type(blups["estimate"]) is pd.Series


def test_every_table_has_to_frame(fit):
    for table in (fit.anova(), fit.joint_tests(), fit.variance_components, fit.fixed_effects()):
        plain = table.to_frame()
        assert type(plain) is pd.DataFrame
        pd.testing.assert_frame_equal(plain, pd.DataFrame(table))


def test_rows_taken_out_keep_the_manner_and_show_no_row_numbers(fit):
    worst = fit.blups().query("group == 'B'").sort_values("estimate").head(2)
    lines = str(worst).splitlines()
    assert lines[0].startswith("BLUPs") and lines[2].split()[:2] == ["B", "V"]


def test_what_is_computed_of_a_frame_is_not_called_by_its_title(fit):
    assert "BLUPs" not in str(fit.blups().T)
    assert str(fit.blups().groupby("group").mean(numeric_only=True)).splitlines()[1].split()[0] == "group"


def test_labels_of_the_index_stand_in_front(fit):
    lines = str(fit.ranef()["B"]).splitlines()
    assert lines[0] == "Conditional modes of B" and lines[1].split() == ["B", "(Intercept)"]
    named_alike = FigureFrame.of(pd.DataFrame({"B": [1.0]}, index=pd.Index(["x"], name="B")))
    assert str(named_alike).splitlines()[0].split() == ["B", "B"]


def test_long_frames_say_how_many_rows_are_left_out_and_how_to_see_them(many):
    with pd.option_context("display.max_rows", 10):
        text, html = str(many), many._repr_html_()
    assert len(text.splitlines()) == 2 + 10 + 1
    assert "shows all" in text and '(32 more rows: pd.set_option("display.max_rows", None)' in text
    assert html.count("<tr>") == 11 and "32 more rows" in html
    with pd.option_context("display.max_rows", None):
        assert len(str(many).splitlines()) == 2 + 42


def test_a_narrow_terminal_gets_the_columns_in_blocks(many, monkeypatch):
    monkeypatch.setattr("fastlmm_core.display.frames._terminal_width", lambda: 70)
    lines = str(many).splitlines()
    assert max(map(len, lines)) <= 70
    headers = [line.split() for line in lines if line.split()[:3] == ["group", "level", "term"]]
    assert len(headers) > 1
    assert [name for header in headers for name in header[3:]] == list(many.columns[3:])


def test_a_status_that_says_nothing_is_not_shown_and_one_that_does_is():
    columns = {"term": ["a", "b"], "ddf": ["residual"] * 2, "status": ["ok", "ok"]}
    frame = FigureFrame.of(pd.DataFrame(columns))
    assert str(frame).splitlines()[-1] == "ddf: residual" and "status" not in str(frame)
    frame.loc[1, "status"] = "dropped"
    assert "dropped" in str(frame)
    assert list(frame.columns) == ["term", "ddf", "status"]


def test_html_has_the_cells_of_the_text(fit):
    table = fit.anova()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table._repr_html_())
    assert [cell.replace("&lt;", "<") for cell in cells] == str(table.iloc[:, :6]).split()[-18:]


@pytest.mark.parametrize(
    "frame",
    [pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame([[1, 2]], columns=["a", "a"]),
     pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("a", "b")]))],
    ids=["nothing", "no rows", "columns of one name", "columns of two levels"],
)  # fmt: skip
def test_what_is_no_table_prints_as_pandas_prints_it(frame):
    own = FigureFrame.of(frame)
    assert repr(own) == repr(frame) and str(own) == str(frame) and own._repr_html_() == frame._repr_html_()


def test_columns_need_not_be_text():
    assert str(FigureFrame(np.eye(2))).split()[:2] == ["0", "1"]


def test_a_frame_survives_pickling_with_its_title(fit):
    again = pickle.loads(pickle.dumps(fit.variance_components))
    assert str(again) == str(fit.variance_components)
    pd.testing.assert_frame_equal(again, fit.variance_components)


def test_titles_name_the_arguments_of_the_call(fit):
    assert str(fit.anova(1)).startswith("Analysis of variance, type 1")
    assert str(fit.blups(level=0.9)).startswith("BLUPs, limits at level 0.9")

    @titled("{key} of {of}")
    def tables(of):
        return {"mean": pd.DataFrame({"x": [1]})}

    assert str(tables("y")["mean"]).startswith("mean of y")


def test_figures_rounded_by_hand_show_no_digits_beyond(fit):
    assert str(fit.ranef()["B"].round(1)).split()[-1] == "-6.3"
