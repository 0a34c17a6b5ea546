"""Labels that differ only in blanks, capitals or encodings are levels of their own, and are named."""

import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.errors import SpellingWarning


def trial(seed=0, **spelled):
    """Six entries in four blocks; entries of `spelled` are written otherwise in the last block."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame([(f"L{i}", f"b{k}") for k in range(4) for i in range(6)], columns=["gen", "block"])
    table["y"] = rng.normal(size=24) + rng.normal(size=6)[np.tile(np.arange(6), 4)]
    last = table["block"] == "b3"
    table.loc[last, "gen"] = table.loc[last, "gen"].replace(spelled)
    return table


@pytest.mark.parametrize("formula", ["y ~ gen + (1 | block)", "y ~ block + (1 | gen)"])
def test_two_spellings_of_one_entry_are_named(formula):
    with pytest.warns(SpellingWarning, match="labels of 'gen' differ only.*'L1' and 'l1 ';.*one spelling"):
        fit = fl.lmm(formula, trial(L1="l1 "))
    assert [own.flag for own in fit.warnings] == ["spelling"]


def test_blanks_within_and_the_number_of_pairs():
    spelled = {f"L{i}": f"l{i}" for i in range(5)}
    with pytest.warns(SpellingWarning, match="'L2' and 'l2'; and 2 more; where"):
        fl.lmm("y ~ block + (1 | gen)", trial(**spelled))
    data = trial().assign(gen=lambda d: d["gen"].str.replace("L", "line "))
    data.loc[20, "gen"] = "line  2"
    with pytest.warns(SpellingWarning, match="'line  2' and 'line 2'"):
        fl.lmm("y ~ block + (1 | gen)", data)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("Check 1", "check1 ", True), ("Big Ben", "BigBen", True), ("L 1\t", "l1", True),
     ("1 11", "11 1", False), ("G1 1", "G11", False), ("Ab", "A-b", False)],
)  # fmt: skip
def test_blanks_between_figures_alone_tell_labels_apart(one, other, alike):
    data = trial().assign(gen=lambda d: d["gen"].replace({"L1": one}))
    data.loc[data["block"].eq("b3") & data["gen"].eq(one), "gen"] = other
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fl.lmm("y ~ block + (1 | gen)", data)
    assert any(own.category is SpellingWarning for own in said) is alike


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [("M\u00fcller", "Mu\u0308ller", r"Mu\u0308ller"), ("A B", "A\u200b B", r"A\u200b B"),
     ("O'Brien", "O\u2019Brien", r"O\u2019Brien"), ("A-1", "A\u20131", r"A\u20131"),
     ("AB", "\uff21\uff22", r"\uff21\uff22"), ("\u5c0f\u9ea6", "\u5c0f\u9ea5", None), ("\u00e9", "e", None),
     ("10\u00b2", "102", None)],
)  # fmt: skip
def test_encodings_of_a_character_are_named_and_shown(one, other, shown):
    """Names that look alike on the screen are shown so that they can be told apart; others are left alone."""
    data = trial().assign(gen=lambda d: d["gen"].replace({"L1": one}))
    data.loc[data["block"].eq("b3") & data["gen"].eq(one), "gen"] = other
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fl.lmm("y ~ block + (1 | gen)", data)
    words = [str(own.message) for own in said if own.category is SpellingWarning]
    assert (shown is None and not words) or ("how characters are encoded" in words[0] and shown in words[0])


def test_the_spelling_of_a_relationship():
    levels = [f"L{i}" for i in range(1, 6)] + ["l 0"]
    with pytest.raises(fl.errors.DataError, match="'l 0' for 'L0': blanks and capitals count"):
        fl.lmm("y ~ block + (1 | vm(gen, A))", trial(), relationships={"A": (np.eye(6), levels)})
    markers = pd.DataFrame(np.eye(5), index=levels[:5], columns=list("abcde"))
    with pytest.raises(fl.errors.DataError, match=r"it needs all levels.*single_step\(pedigree, markers\)"):
        fl.lmm("y ~ block + (1 | vm(gen, A))", trial(), relationships={"A": fl.Markers(markers)})


def test_labels_of_rows_that_are_not_used_say_nothing():
    data = trial(L1="l1")
    data.loc[data["gen"] == "l1", "y"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fl.lmm("y ~ block + (1 | gen)", data)
        fl.lmm(
            "y ~ block + (1 | gen)",
            trial().assign(gen=lambda d: pd.Categorical(d["gen"], [*"lL", *d["gen"].unique()])),
        )


def test_a_batch_notes_spellings_of_all_its_trials():
    """Also where every trial has one of them: its entries are brought together later."""
    table = pd.concat([trial(k).assign(trial=f"T{k}", remark=f"Remark {k % 2}" if k else "remark 1")
                       for k in range(3)], ignore_index=True)  # fmt: skip
    table.loc[table["trial"] == "T2", "gen"] = table["gen"].str.lower()
    found = fl.fit_batch(table, "y ~ block + (1 | gen)", by="trial", progress=False)
    notes = [note for note in found.notes if "blanks or capitals" in note]
    assert len(notes) == 1 and "'L0' and 'l0'" in notes[0] and "note: labels of 'gen'" in found.summary()
    for own in (table.astype({"gen": "category"}), table.assign(gen=table["gen"].str.upper())):
        notes = fl.fit_batch(own, "y ~ block + (1 | gen)", by="trial", progress=False).notes
        assert len(notes) == (own["gen"].nunique() == 12)
