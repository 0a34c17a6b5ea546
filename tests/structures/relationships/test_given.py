"""Every form in which a relationship can be given."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from fastlmm_core import Covariance, Markers, Pedigree, SparseInverse, single_step
from fastlmm_core.errors import DataError, OptionError, RelationshipWarning
from fastlmm_core.reading import read_table
from fastlmm_core.structures.relationships import (
    as_relationship,
    made_of,
    made_together,
    relationship_from_request,
)

PEDIGREE = {"id": ["a", "b", "c"], "sire": ["", "", "a"], "dam": ["", "", "b"]}
A = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
NAMES = ["a", "b", "c"]
SQUARE = pd.DataFrame(A, index=NAMES, columns=NAMES)
TRIPLETS = pd.DataFrame(
    {
        "row": ["a", "b", "c", "c", "c"],
        "col": ["a", "b", "a", "b", "c"],
        "value": [1.0, 1.0, 0.5, 0.5, 1.0],
    }
)


def test_a_single_step_is_made_of_others_by_their_names():
    """In any order, under names of its own, with the options of `single_step`; parts stay what they are."""
    snps = Markers({"id": ["b", "c"], "m1": [0, 1], "m2": [2, 1], "m3": [1, 1]})
    options = {"share": 0.3, "tau": 0.9, "omega": 0.8, "tune": None}
    H = {"type": "single_step", "pedigree": "P", "genomic": "M", **options}
    given = {"H": H, "P": PEDIGREE, "M": snps}
    made = made_together(given, as_relationship)
    assert list(made) == ["H", "P", "M"] and made["M"].levels == snps.levels
    expected = single_step(Pedigree(PEDIGREE), snps, share=0.3, tau=0.9, omega=0.8)
    assert made["H"].fingerprint() == expected.fingerprint() and made["H"].name == "H"
    assert made_of(made["H"]) == made_of(given["H"]) == ("P", "M")
    assert made_of(made["P"]) == made_of(PEDIGREE) == ()
    twice = {**given, "J": {"kind": "single_step", "pedigree": "P", "genomic": "H"}}
    with pytest.raises(OptionError, match=r"\['J'\]\.genomic: relationship 'H' is not given"):
        made_together(twice, as_relationship)
    with pytest.raises(OptionError, match=r"needs 'pedigree' and 'genomic'.* not a pedigree that is dict"):
        made_together({"H": {"type": "single_step", "pedigree": PEDIGREE}}, as_relationship)
    with pytest.raises(OptionError, match="made of other relationships, which have to be given beside it"):
        as_relationship("H", given["H"])


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (Pedigree(PEDIGREE), Pedigree),
        (PEDIGREE, Pedigree),
        (pd.DataFrame(PEDIGREE), Pedigree),
        (SQUARE, Covariance),
        (TRIPLETS, Covariance),
        ((A, NAMES), Covariance),
        (SQUARE.rename_axis("gen").reset_index(), Covariance),
        ({"type": "pedigree", "data": PEDIGREE}, Pedigree),
        ({"kind": "covariance", "levels": NAMES, "matrix": A.tolist()}, Covariance),
        ({"type": "inverse", "levels": NAMES, "matrix": np.linalg.inv(A).tolist()}, SparseInverse),
        ({"type": "covariance", "data": TRIPLETS.to_dict("list"), "levels": NAMES}, Covariance),
    ],
)
def test_the_same_relationship_in_every_form(given, kind):
    relation = as_relationship("G1", given)
    assert isinstance(relation, kind)
    assert (relation.name, relation.levels) == ("G1", ("a", "b", "c"))
    np.testing.assert_allclose(relation.relationship(), A, atol=1e-12)


def test_a_sparse_matrix_is_taken_for_an_inverse_with_a_word():
    """A sparse covariance, such as the blocks of a first stage, was inverted without one."""
    with pytest.warns(RelationshipWarning, match=r"\['G1'\]: a sparse matrix is taken for the inverse"):
        relation = as_relationship("G1", (Pedigree(PEDIGREE).precision(), NAMES))
    assert isinstance(relation, SparseInverse)
    np.testing.assert_allclose(relation.relationship(), A, atol=1e-12)
    with warnings.catch_warnings(action="error"):
        named = as_relationship("G1", Covariance(sp.csr_array(A), NAMES))
    np.testing.assert_allclose(named.relationship(), A, atol=1e-12)


@pytest.mark.parametrize("names", [{"index": [*"abcd"]}, {"columns": [*"abcd"]}])
def test_a_square_table_without_names_is_no_pedigree(names):
    """It was told which columns hold individual, sire and dam."""
    with pytest.raises(DataError, match=r"the covariance matrix: .*index"):
        as_relationship("K", pd.DataFrame(np.eye(4), **names))
    numbers = pd.DataFrame(np.arange(1, 17).reshape(4, 4), columns=["ID", "Sire", "dam", "year"])
    assert isinstance(as_relationship("A", numbers.assign(Sire=0, dam=0)), Pedigree)


def test_an_object_keeps_its_own_name():
    pedigree = Pedigree(PEDIGREE)
    assert as_relationship("B", pedigree).name == "B"
    assert pedigree.name == "A"


def test_files_of_a_request_start_from_its_folder(tmp_path):
    pd.DataFrame(PEDIGREE).to_csv(tmp_path / "ped.csv", index=False)
    TRIPLETS.to_csv(tmp_path / "G.csv.gz", index=False)
    (tmp_path / "m.csv").write_text("gen,m1,m2\na,0,2\nb,1,1\nc,2,\n")
    requests = {
        "A": {
            "type": "pedigree",
            "file": "ped.csv",
            "columns": ["id", "sire", "dam"],
            "missing": ["", "NA", "0"],
        },
        "G": {"type": "covariance", "file": "G.csv.gz", "levels": "row numbers 1, 2, ..."},
        "M": {
            "type": "markers",
            "file": "m.csv",
            "coding": "0, 1, 2",
            "impute": "mean",
            "centre": None,
            "scale": 2,
        },
    }
    made = {name: relationship_from_request(name, spec, tmp_path) for name, spec in requests.items()}
    assert [type(relation) for relation in made.values()] == [Pedigree, Covariance, Markers]
    np.testing.assert_allclose(made["A"].relationship(), made["G"].relationship())
    np.testing.assert_allclose(made["M"].Z, [[0.0, 2.0], [1.0, 1.0], [2.0, 1.5]])
    assert isinstance(as_relationship("A", tmp_path / "ped.csv"), Pedigree)
    assert isinstance(as_relationship("A", str(tmp_path / "G.csv.gz")), Covariance)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"file": "x.csv"}, "has no 'type'"),
        ({"type": "pedigre", "file": "x.csv"}, "'pedigre' is not known; allowed: 'pedigree'"),
        ({"type": "pedigree"}, "needs one of 'file', 'data' and 'matrix'"),
        ({"type": "pedigree", "file": "x.csv", "data": {}}, "'file', 'data' together"),
        ({"type": "markers", "file": "x.csv", "center": "mean"}, "key 'center'; nearest: 'centre'"),
        ({"type": "covariance", "matrix": [[1.0]], "levels": "gen"}, "levels must be a list of names"),
        ("ped.csv", "must be an object with a 'type'"),
    ],
)
def test_wrong_requests_say_what_would_be_right(spec, message):
    with pytest.raises(OptionError, match=message):
        relationship_from_request("A", spec)


def test_what_is_no_relationship_is_refused():
    with pytest.raises(OptionError, match="a matrix needs the names of its rows"):
        as_relationship("A", A)
    with pytest.raises(OptionError, match="of type int"):
        as_relationship("A", 3)
    with pytest.raises(OptionError, match="must be a word"):
        as_relationship("A B", PEDIGREE)
    with pytest.raises(DataError, match=r"file .*no\.csv' does not exist"):
        as_relationship("A", "no.csv")


def test_errors_say_of_which_relationship_they_are(tmp_path):
    pedigree = tmp_path / "family.csv"
    pedigree.write_text("id,sire,dam\na,b,\nb,a,\n")
    with pytest.raises(DataError, match=r"^relationships\['A'\] \('family.csv'\): pedigree: loop"):
        as_relationship("A", {"type": "pedigree", "file": str(pedigree)})
    with pytest.raises(DataError, match=r"^relationships\['G'\]: the covariance matrix is not symmetric"):
        as_relationship("G", (np.array([[1.0, 0.5], [0.2, 1.0]]), ["a", "b"]))
    with pytest.raises(OptionError, match=r"^relationships\['M'\]: centre='x' is not known"):
        as_relationship("M", {"type": "markers", "data": {"g": ["a", "b"], "m": [0, 1]}, "centre": "x"})


@pytest.mark.parametrize("names", [["001", "002", "003"], ["1.10", "1.1", "7"], ["007", "7", "a b"]])
def test_a_square_file_is_a_covariance_whatever_its_names_look_like(tmp_path, names):
    """Names that are read as numbers made markers of it."""
    own = pd.DataFrame(A, index=names, columns=names)
    own.rename_axis("id").to_csv(tmp_path / "K.csv")
    relation = as_relationship("K", str(tmp_path / "K.csv"))
    assert isinstance(relation, Covariance) and relation.levels == tuple(names)
    np.testing.assert_allclose(relation.relationship(), A)


def test_entries_without_a_header_are_told_what_is_missing(tmp_path):
    path = tmp_path / "K.csv"
    path.write_text("a,a,1.0\nb,a,0.5\nb,b,1.0\n")
    with pytest.raises(DataError, match=r"several columns are headed 'a'.*need the header row,col,value"):
        Covariance(path)
    with pytest.raises(DataError, match="several columns have this name"):
        read_table(path, {"a": {"type": "factor"}})


@pytest.mark.parametrize(("index", "columns", "words"), [
    ([*"abcd"], [*"abcz"], "has row 'd' without a column and column 'z' without a row"),
    ([*"abcde"], [*"abcd"], "has row 'e' without a column"),
    ([*"abcd"], [*"abcde"], "has column 'e' without a row"),
])  # fmt: skip
def test_a_square_with_a_name_that_differs_is_not_taken_for_markers(tmp_path, index, columns, words):
    path = tmp_path / "K.csv"
    pd.DataFrame(np.eye(len(index), len(columns)), index, columns).to_csv(path)
    with pytest.raises(DataError, match=rf"'K.csv' is a covariance by its headings.*{words}"):
        as_relationship("A", str(path))
    assert isinstance(relationship_from_request("A", {"type": "markers", "file": str(path)}), Markers)
