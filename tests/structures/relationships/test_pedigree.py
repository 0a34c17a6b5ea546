"""Pedigrees against the tabular method."""

import warnings

import numpy as np
import pandas as pd
import pytest
from tabular import as_table, random_parents, tabular_A

from fastlmm_core import Pedigree
from fastlmm_core.errors import DataError, PedigreeWarning


@pytest.fixture(params=range(6))
def random_pedigree(request):
    """Pedigree with rows in random order, and its A in the order of the levels."""
    rng = np.random.default_rng(request.param)
    sire, dam = random_parents(rng, 80, 8, selfing=0.2 if request.param % 2 else 0.0)
    order = rng.permutation(80) if request.param > 1 else np.arange(80)
    pedigree = Pedigree(as_table(sire, dam, order), check_sex=False)
    assert pedigree.levels == tuple(f"n{i}" for i in order)
    return pedigree, tabular_A(sire, dam)[np.ix_(order, order)]


def test_everything_agrees_with_the_tabular_method(random_pedigree):
    pedigree, A = random_pedigree
    np.testing.assert_allclose(pedigree.inbreeding(), np.diag(A) - 1.0, atol=1e-14)
    np.testing.assert_allclose(pedigree.diagonal(), np.diag(A), atol=1e-14)
    np.testing.assert_allclose(pedigree.relationship().to_numpy(), A, atol=1e-13)
    np.testing.assert_allclose(pedigree.precision() @ A, np.eye(80), atol=1e-12)
    np.testing.assert_allclose(pedigree.log_determinant(), np.linalg.slogdet(A)[1], rtol=1e-12)
    V = np.random.default_rng(0).normal(size=(80, 3))
    kept = V.copy()
    np.testing.assert_allclose(pedigree.multiply(V), A @ V, atol=1e-12)
    np.testing.assert_array_equal(V, kept)
    np.testing.assert_allclose(pedigree.multiply(V[:, 0]), A @ V[:, 0], atol=1e-12)
    assert pedigree.root() is None
    assert pedigree.inbreeding().max() > 0.1


def test_the_inverse_is_sorted_and_without_doubles(random_pedigree):
    inverse = random_pedigree[0].inverse()
    assert inverse.has_canonical_format
    for column in range(inverse.shape[1]):
        rows = inverse.indices[inverse.indptr[column] : inverse.indptr[column + 1]]
        assert np.all(np.diff(rows) > 0)
    assert abs(inverse - inverse.T).max() == 0.0


def test_pruning_keeps_the_relationships_of_those_named(random_pedigree):
    pedigree, _ = random_pedigree
    named = [pedigree.levels[i] for i in (3, 40, 77)]
    pruned = pedigree.pruned(named)
    assert pruned.size < pedigree.size
    assert set(named) <= set(pruned.levels) <= set(pedigree.ancestors(named))
    kept = list(pruned.levels)
    np.testing.assert_allclose(pruned.relationship(), pedigree.relationship(kept), atol=1e-14)
    np.testing.assert_allclose(
        pruned.precision() @ pedigree.relationship(kept).to_numpy(), np.eye(len(kept)), atol=1e-12
    )


def test_pruning_takes_out_founders_with_one_offspring_and_those_without():
    pedigree = Pedigree(
        {
            "id": ["a", "b", "c", "d", "e", "f"],
            "sire": ["", "", "a", "c", "c", "d"],
            "dam": ["", "", "b", "", "", ""],
        }
    )
    # a and b link nobody, then c with two offspring has to stay, f has no record
    assert pedigree.pruned(["d", "e"]).levels == ("c", "d", "e")
    assert pedigree.pruned(["e"]).levels == ("e",)


def test_a_selfed_founder_is_no_link_that_can_go():
    pedigree = Pedigree({"id": ["a", "b"], "sire": ["", "a"], "dam": ["", "a"]}, check_sex=False)
    pruned = pedigree.pruned(["b"])
    assert pruned.inbreeding()["b"] == 0.5


def test_inbred_lines_are_selfed_from_their_cross():
    """Explicit single-seed descent, generation by generation."""
    chain = {"id": ["p", "q"], "sire": ["", ""], "dam": ["", ""]}
    for k in range(5):
        chain["id"].append(f"s{k}")
        chain["sire"].append("p" if k == 0 else f"s{k - 1}")
        chain["dam"].append("q" if k == 0 else f"s{k - 1}")
    explicit = Pedigree(chain, check_sex=False)
    short = Pedigree(
        pd.DataFrame({"id": ["p", "q", "s4"], "sire": ["", "", "p"], "dam": ["", "", "q"], "f": [0, 0, 4]}),
        selfing="f",
    )
    names = ["p", "q", "s4"]
    np.testing.assert_allclose(short.relationship(names), explicit.relationship(names), atol=1e-15)
    np.testing.assert_allclose(short.precision() @ short.relationship().to_numpy(), np.eye(3), atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_selfing_of_random_crosses_agrees_with_the_tabular_method(seed):
    rng = np.random.default_rng(seed)
    sire, dam = random_parents(rng, 50, 5)
    selfings = rng.integers(0, 4, 50)
    table = {**as_table(sire, dam), "selfed": selfings}
    pedigree = Pedigree(table, selfing="selfed", check_sex=False)
    A = tabular_A(sire, dam, selfings)
    np.testing.assert_allclose(pedigree.relationship(), A, atol=1e-13)
    np.testing.assert_allclose(pedigree.precision() @ A, np.eye(50), atol=1e-11)


def test_the_f1_of_doubled_haploids_makes_A_singular():
    table = {"id": ["p", "q", "f1", "x"], "sire": ["", "", "p", "f1"], "dam": ["", "", "q", ""]}
    pedigree = Pedigree({**table, "dh": [np.inf, np.inf, 0.0, 0.0]}, selfing="dh")
    A = pedigree.relationship().to_numpy()
    np.testing.assert_allclose(A[2], [1.0, 1.0, 1.0, 0.5])
    K = pedigree.root()
    assert K.shape == (4, 3)
    np.testing.assert_allclose(K @ K.T, A, atol=1e-15)
    assert pedigree.log_determinant() == -np.inf
    with pytest.raises(DataError, match="'f1'"):
        pedigree.precision()


def test_a_chain_of_selfing_is_walked_once():
    """1 - F is halved by every generation."""
    n = 2_000
    names = [str(i) for i in range(1, n + 1)]
    parents = ["", *names[:-1]]
    pedigree = Pedigree({"id": names, "sire": parents, "dam": parents}, check_sex=False)
    inbreeding = pedigree.inbreeding().to_numpy()
    np.testing.assert_allclose(inbreeding[:40], 1.0 - 0.5 ** np.arange(40), rtol=1e-15)


def test_full_sibs_and_half_sibs_with_parents_in_several_generations():
    """A sire that is mated to its daughters and granddaughters is walked once for each generation."""
    table = {
        "id": ["s", "d1", "d2", "a", "b", "c", "e", "f", "g"],
        "sire": ["", "", "", "s", "s", "s", "s", "s", "s"],
        "dam": ["", "", "", "d1", "d2", "a", "a", "c", "e"],
    }
    inbreeding = Pedigree(table).inbreeding()
    assert inbreeding[["a", "b"]].tolist() == [0.0, 0.0]
    assert inbreeding[["c", "e"]].tolist() == [0.25, 0.25]
    assert inbreeding[["f", "g"]].tolist() == [0.375, 0.375]


def test_parents_without_a_row_become_founders_in_front():
    with pytest.warns(PedigreeWarning, match="2 parents have no row of their own.*'x', 'y'"):
        pedigree = Pedigree({"id": ["a", "b"], "sire": ["x", "x"], "dam": ["y", "a"]})
    assert pedigree.levels == ("x", "y", "a", "b")
    assert pedigree.inbreeding()["b"] == 0.25


def test_identifiers_may_be_numbers_and_keep_their_leading_zeros(tmp_path):
    table = pd.DataFrame({"id": [1, 2, 3], "sire": [0, np.nan, 1.0], "dam": [0, 0, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pedigree(table).levels == ("1", "2", "3")
    path = tmp_path / "ped.csv"
    path.write_text("id,sire,dam\n01,0,0\n1,0,0\n2,01,1\n")
    pedigree = Pedigree(path)
    assert pedigree.levels == ("01", "1", "2")
    np.testing.assert_allclose(pedigree.relationship(["01", "2"]), [[1.0, 0.5], [0.5, 1.0]])


def test_columns_are_found_by_heading_by_place_or_by_name():
    rows = [["a", "", ""], ["b", "a", ""]]
    for columns in (["id", "sire", "dam"], ["Animal", "Father", "Mother"], ["x", "y", "z"]):
        assert Pedigree(pd.DataFrame(rows, columns=columns)).levels == ("a", "b")
    wide = pd.DataFrame([[1, *row] for row in rows], columns=["farm", "k", "v", "m"])
    with pytest.raises(DataError, match="which columns hold individual, sire and dam"):
        Pedigree(wide)
    assert Pedigree(wide, ("k", "v", "m")).levels == ("a", "b")
    with pytest.raises(DataError, match="no column 'kk'; nearest: 'k'"):
        Pedigree(wide, ("kk", "v", "m"))


def test_individuals_may_be_the_index_that_says_so():
    family = pd.DataFrame({"id": list("abc"), "sire": ["", "", "a"], "dam": ["", "", "b"], "born": [1, 1, 2]})
    expected = Pedigree(family).relationship()
    for given in (family.set_index("id"), family.rename(columns={"id": "Animal"}).set_index("Animal")):
        pd.testing.assert_frame_equal(Pedigree(given).relationship(), expected)
    numbered = family.drop(columns="born").rename_axis("line")  # an index beside individuals is none of them
    assert Pedigree(numbered).levels == ("a", "b", "c")
    by_place = numbered.rename(columns={"id": "x", "sire": "y", "dam": "z"})
    assert Pedigree(by_place).levels == ("a", "b", "c")


def test_levels_of_the_data_that_are_not_in_A_are_named():
    pedigree = Pedigree({"id": ["w007", "w008"], "sire": ["", ""], "dam": ["", ""]})
    with pytest.raises(DataError, match=r"column 'calf': 'w07' is not among the 2 levels.*nearest: 'w00"):
        pedigree.locate(["w007", "w07"], "column 'calf'")
    with pytest.raises(DataError, match="look like row numbers"):
        pedigree.locate([1, 2.0], "column 'calf'")
    padded = Pedigree({"id": ["007", "8"], "sire": ["", ""], "dam": ["", ""]})
    with pytest.raises(DataError, match=r"'7' is not.*it has '007': read names as text"):
        padded.locate([7, 8], "column 'calf'")
