"""Levels, layers and relations of random terms, on the rows used and on new data."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.design import build_design
from fastlmm_core.errors import DataError, DesignError, FastLMMError, OptionError
from fastlmm_core.structures.relationships import as_relationship


def known_levels(name, levels):
    """A relationship with independent levels: the design reads its name and its levels."""
    return as_relationship(name, (np.eye(len(levels)), levels))


def trial(n_rows=4, n_columns=3, seed=1):
    """One plot for each place of a field in each of two sites."""
    rng = np.random.default_rng(seed)
    place = pd.MultiIndex.from_product([["S1", "S2"], range(1, n_rows + 1), range(1, n_columns + 1)])
    frame = place.to_frame(index=False, name=["site", "row", "col"])
    frame["gen"] = [f"G{1 + i % 5}" for i in range(len(frame))]
    frame["rep"] = np.where(frame["col"] == 1, "R1", "R2")
    frame["y"] = rng.normal(size=len(frame))
    return frame


def term_of(formula, frame, **options):
    (term,) = build_design(formula, frame, **options).random
    return term


def test_levels_of_a_relationship_are_all_of_its_levels_in_its_order():
    frame = trial()
    known = known_levels("A", ("G9", "G3", "G1", "G2", "G5", "G4"))
    term = term_of("y ~ (1 | vm(gen, A))", frame, relationships={"A": known})
    assert term.levels.tolist() == list(known.levels)
    assert [term.levels[c] for c in term.codes] == frame["gen"].tolist()
    (factor,) = term.relation.factors
    assert (factor.kind, factor.levels, factor.relationship.levels) == ("vm", known.levels, known.levels)
    new = pd.DataFrame({"gen": ["G9", "G7", None]})
    assert term.evaluate(new)[0].tolist() == [0, -1, -1]


def test_numeric_identifiers_meet_the_levels_of_a_relationship_by_their_text():
    frame = pd.DataFrame({"animal": [11, 7, 11, 3.0], "y": [1.0, 2, 4, 3]})
    known = known_levels("A", ("3", "7", "11", "12"))
    term = term_of("y ~ (1 | vm(animal, A))", frame, relationships={"A": known})
    assert term.codes.tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize(
    ("relationships", "error", "words"),
    [
        ({"A": known_levels("A", ("G1", "G2"))}, DataError, "3 levels of 'gen' are not .* 'G3', 'G4', 'G5'"),
        ({"B": known_levels("B", ("G1",))}, OptionError, "relationship 'A' is not given"),
        (None, OptionError, "relationships=\\{'A'"),
        ([1], OptionError, "by name"),
    ],
)
def test_a_relationship_has_all_levels_of_the_data(relationships, error, words):
    with pytest.raises(error, match=words):
        build_design("y ~ (1 | vm(gen, A))", trial(), relationships=relationships)


def test_positions_are_the_declared_levels_between_the_first_and_the_last_used():
    frame = trial()
    declared = [f"r{i}" for i in range(9)]
    frame["place"] = pd.Categorical([f"r{2 * i - 1}" for i in frame["row"]], declared)  # r1 r3 r5 r7
    term = term_of("y ~ (1 | ar1(place))", frame)
    assert term.levels.tolist() == ["r1", "r2", "r3", "r4", "r5", "r6", "r7"]
    assert term.codes.tolist() == (2 * (frame["row"] - 1)).tolist()
    assert [(f.kind, f.name) for f in term.relation.factors] == [("ar1", "place")]


def test_positions_of_a_number_are_its_whole_numbers():
    frame = trial()
    frame["place"] = 10 * frame["row"] - 25
    term = term_of("y ~ (1 | ar1(place))", frame)
    assert term.levels[[0, 10, -1]].tolist() == ["-15", "-5", "15"] and term.levels.size == 31
    assert term.evaluate({"place": [-14, 15, 16]})[0].tolist() == [1, 30, -1]
    with pytest.raises(DataError, match="must be whole numbers, but 24 are not"):
        build_design("y ~ (1 | ar1(place))", frame.assign(place=frame["row"] + 0.5))
    with pytest.raises(DataError, match="only 4 occur"):
        build_design("y ~ (1 | ar1(place))", frame.assign(place=frame["row"] * 1_000_000))


def test_a_product_has_all_combinations_the_first_factor_slowest():
    frame = trial()
    term = term_of("y ~ (1 | id(col):ar1(row))", frame)
    assert term.levels.tolist() == [f"{c}:{r}" for c in (1, 2, 3) for r in (1, 2, 3, 4)]
    assert term.codes.tolist() == (4 * (frame["col"] - 1) + frame["row"] - 1).tolist()
    assert term.relation.size == 12 and [f.kind for f in term.relation.factors] == ["id", "ar1"]
    codes, values = term.evaluate({"row": [4, 5], "col": [3, 1]})
    assert codes.tolist() == [11, -1] and values.tolist() == [[1.0], [1.0]]


def test_adjacent_independent_factors_have_the_combinations_that_occur():
    frame = trial()
    term = term_of("y ~ (1 | rep:col:ar1(row))", frame)
    factors = term.relation.factors
    assert [(f.name, f.size) for f in factors] == [("rep:col", 3), ("row", 4)]
    assert factors[0].levels == ("R1:1", "R2:2", "R2:3")
    labels = [f"{r}:{c}:{p}" for r, c, p in zip(frame["rep"], frame["col"], frame["row"], strict=True)]
    assert term.levels[term.codes].tolist() == labels


def test_at_gives_a_term_for_each_level_with_the_levels_that_occur_there():
    frame = trial()
    frame = frame[~((frame["site"] == "S1") & (frame["row"] == 4))]
    first, second = sorted(build_design("y ~ (1 | at(site):row)", frame).random, key=lambda t: t.at)
    assert (first.at, first.group, first.label) == ("S1", "at(site, S1):row", "(1 | at(site):row)")
    assert first.levels.tolist() == ["1", "2", "3"] and second.levels.tolist() == ["1", "2", "3", "4"]
    inside = (frame["site"] == "S1").to_numpy()
    assert (first.codes[~inside] == -1).all() and (first.codes[inside] == frame["row"][inside] - 1).all()
    assert (first.values[~inside] == 0).all() and first.relation is None
    codes, values = first.evaluate({"site": ["S1", "S2", "S1"], "row": [3, 3, 4]})
    assert codes.tolist() == [2, 0, -1] and values[:, 0].tolist() == [1.0, 0.0, 1.0]


def test_at_drops_coefficients_that_do_not_occur_there():
    frame = trial()
    frame["year"] = np.where(frame["site"] == "S1", "Y1", np.where(frame["row"] > 2, "Y1", "Y2"))
    terms = build_design("y ~ diag(0 + year | at(site):col)", frame).random
    assert {t.at: t.columns for t in terms} == {"S1": ("yearY1",), "S2": ("yearY1", "yearY2")}
    first = next(t for t in terms if t.at == "S1")
    assert first.evaluate(frame.iloc[:2])[1].tolist() == [[1.0], [1.0]]


def test_columns_left_of_the_bar_are_layers_of_one_term():
    frame = pd.DataFrame({
        "pig": ["a", "b", "c", "d"], "m1": ["b", "a", "d", "c"], "m2": ["e", "e", "f", "f"],
        "y": [1.0, 2, 3, 5],
    })  # fmt: skip
    known = known_levels("A", tuple("fedcba"))
    term = term_of("y ~ us(pig, m1 + m2 | vm(A))", frame, relationships={"A": known})
    assert (term.columns, term.group) == (("pig", "m1 + m2"), "vm(A)")
    dense = np.zeros((4, 2, 6))
    for codes, values in term.layers:
        for i in range(4):
            dense[i, :, codes[i]] += values[i]
    wanted = np.zeros_like(dense)
    for i in range(4):
        wanted[i, 0, known.levels.index(frame["pig"][i])] += 1
        for name in ("m1", "m2"):
            wanted[i, 1, known.levels.index(frame[name][i])] += 1
    assert (dense == wanted).all()
    again = term.evaluate_layers(frame)
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(term.layers, again, strict=True))
    with pytest.raises(DataError, match="of 'm2' are not in the relationship 'A'"):
        few = known_levels("A", tuple("abcd"))
        build_design("y ~ us(pig, m1 + m2 | vm(A))", frame, relationships={"A": few})


def test_labels_of_a_relationship_in_another_spelling_are_shown():
    frame = pd.DataFrame({"gen": ["L1", "L2", "L3"] * 3, "y": np.arange(9.0)})
    spelled = {"A": known_levels("A", (" L1 ", "l2", "L4"))}
    with pytest.raises(DataError, match="2 of them it has in another spelling, ' L1 ' for 'L1'"):
        build_design("y ~ (1 | vm(gen, A))", frame, relationships=spelled)
    with pytest.raises(DataError, match=r"1 levels of 'gen' .*all levels of the data$"):
        absent = {"A": known_levels("A", ("L1", "L2", "L4"))}
        build_design("y ~ (1 | vm(gen, A))", frame, relationships=absent)


def test_missing_columns_of_a_relation_drop_rows():
    frame = trial()
    frame.loc[[0, 3], "row"] = np.nan
    design = build_design("y ~ (1 | ar1(row):ar1(col))", frame)
    assert (design.n, design.n_dropped) == (22, 2)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ (1 | plot)", "24 levels for 24 observations"),
        ("y ~ us(0 + when | plot3)", "16 random effects for 16|cannot be told apart"),
        ("y ~ cs(0 + when | plot3)", "one observation for each coefficient"),
        ("y ~ toep(0 + when | plot3)", "one observation for each coefficient"),
        ("y ~ fa(0 + when | plot3, k=1)", "one observation for each coefficient"),
        ("y ~ homcs(0 + when | plot3)", "one observation for each coefficient"),
        ("y ~ (1 | units)", "confounded with the residual 'units'"),
        ("y ~ fa(0 + when | gen, k=4)", "k=4 factors for 3 coefficients"),
        ("y ~ ar1(0 + row | gen)", "'row' is numeric.*factor\\(row\\)"),
        ("y ~ (1 | at(site):one)", "only the level 'x' in the rows of 'S1'"),
    ],
)
def test_what_cannot_be_estimated_is_refused_by_name(formula, words):
    frame = trial()
    frame["plot"] = [f"p{i}" for i in range(24)]
    frame["plot3"] = [f"p{i // 3}" for i in range(24)]
    frame["when"] = [f"w{i % 3}" for i in range(24)]
    frame["one"] = "x"
    with pytest.raises(DesignError, match=words):
        build_design(formula, frame)


@pytest.mark.parametrize(
    "formula",
    ["y ~ ar1(0 + when | plot3)", "y ~ hetar1(0 + when | plot3)", "y ~ rr(0 + when | plot3, d=1)"],
)
def test_one_observation_a_cell_is_enough_where_the_structure_tells_it_from_noise(formula):
    frame = trial()
    frame["plot3"] = [f"p{i // 3}" for i in range(24)]
    frame["when"] = [f"w{i % 3}" for i in range(24)]
    assert term_of(formula, frame).columns == ("whenw0", "whenw1", "whenw2")


def test_as_many_levels_as_rows_are_fine_for_a_relation():
    frame = trial()
    frame["plot"] = [f"p{i}" for i in range(24)]
    known = known_levels("A", tuple(frame["plot"]))
    assert term_of("y ~ (1 | vm(plot, A))", frame, relationships={"A": known}).levels.size == 24
    assert term_of("y ~ (1 | site:ar1(row):ar1(col))", frame).levels.size == 24


def test_a_level_for_every_row_is_fine_beside_a_residual_that_is_given():
    frame = trial()
    assert build_design("y ~ (1 | site:row:col)", frame, held={"Residual"}).random[0].levels.size == 24
    with pytest.raises(DesignError, match="24 levels for 24"):
        build_design("y ~ (1 | site:row:col)", frame)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ (1 | ar1(row))", "y ~ ar1(0 + rep | gen)", "y ~ (1 | at(site):row)", "y ~ cs(0 + site | gen)",
        "y ~ row + spl(row)",
    ],
)  # fmt: skip
def test_a_batch_gives_the_fits_of_lmm_or_none(formula):
    """What the kernels of batches do not know goes to `lmm`, never to a model that they do know."""
    frame = pd.concat([trial(seed=k).assign(trial=f"t{k}") for k in range(2)])
    fits = fit_batch(frame, formula, by="trial").fits.set_index("trial")
    for name, own in frame.groupby("trial"):
        try:
            criterion = lmm(formula, own).criterion
        except FastLMMError:
            assert fits.loc[name, "status"] != "ok"
        else:
            assert fits.loc[name, "criterion"] == pytest.approx(criterion, abs=1e-8)


def test_a_batch_needs_the_relationships_of_its_formula():
    with pytest.raises(OptionError, match="relationship 'A' is not given; give relationships="):
        fit_batch(trial(), "y ~ (1 | vm(gen, A))", by="site")


def test_weights_that_differ_tell_a_variance_from_that_of_the_residual():
    frame = trial()
    frame["plot3"] = [f"p{i // 3}" for i in range(24)]
    frame["when"] = [f"t{i % 3}" for i in range(24)]
    frame["size"] = np.where(np.arange(24) < 12, 1.0, 3.0)
    frame["by_time"] = 1.0 + np.arange(24) % 3
    for structure in ("us", "cs", "diag", "fa"):
        formula = f"y ~ {structure}(0 + when | plot3{', k=1' * (structure == 'fa')})"
        assert build_design(formula, frame, weights="size").random[0].label
        with pytest.raises(DesignError, match="cannot be told apart"):
            build_design(formula, frame, weights="by_time")
