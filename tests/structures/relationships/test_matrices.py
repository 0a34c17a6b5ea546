"""Covariances and inverses that users bring along."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tabular import as_table, random_parents, tabular_A

from fastlmm_core import Covariance, Pedigree, SparseInverse, lmm
from fastlmm_core.errors import DataError, OptionError, RelationshipWarning
from fastlmm_core.structures.relationships.given import as_relationship, relationship_from_request
from fastlmm_core.structures.relationships.rounding import rounding_of, without_rounding


def random_covariance(rng, size, rank=None):
    K = rng.normal(size=(size, size + 3 if rank is None else rank))
    return K @ K.T


def names_of(size):
    return [f"g{i}" for i in range(size)]


def test_a_regular_covariance():
    A = random_covariance(np.random.default_rng(0), 12)
    relation = Covariance(A, names_of(12))
    np.testing.assert_allclose(relation.precision() @ A, np.eye(12), atol=1e-10)
    np.testing.assert_allclose(relation.log_determinant(), np.linalg.slogdet(A)[1], rtol=1e-12)
    np.testing.assert_allclose(relation.multiply(np.eye(12)), A, rtol=1e-14)
    np.testing.assert_allclose(relation.relationship(["g5", "g2"]), A[np.ix_([5, 2], [5, 2])], rtol=1e-14)
    assert relation.root() is None and relation.dense


def test_unequal_variances_are_no_singularity():
    A = random_covariance(np.random.default_rng(1), 6)
    scale = 10.0 ** np.arange(-9, 9, 3)
    relation = Covariance(A * np.outer(scale, scale), names_of(6))
    assert relation.root() is None
    expected = np.linalg.slogdet(A)[1] + 2.0 * np.log(scale).sum()
    np.testing.assert_allclose(relation.log_determinant(), expected, rtol=1e-12)


@pytest.mark.parametrize("rank", [1, 5, 11])
def test_a_singular_covariance_has_a_root_of_its_rank(rank):
    A = random_covariance(np.random.default_rng(rank), 12, rank)
    relation = Covariance(A, names_of(12))
    K = relation.root()
    assert K.shape == (12, rank)
    np.testing.assert_allclose(K @ K.T, A, atol=1e-12 * np.abs(A).max())
    assert relation.log_determinant() == -np.inf and not relation.dense
    with pytest.raises(DataError, match=f"no inverse: rank {rank} of 12 levels"):
        relation.precision()


def test_a_level_without_variance_and_clones():
    A = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    K = Covariance(A, ["a", "clone", "fixed"]).root()
    assert K.shape == (3, 1)
    np.testing.assert_allclose(K @ K.T, A, atol=1e-15)


@pytest.mark.parametrize(
    "A",
    [[[1.0, 1.2], [1.2, 1.0]], [[0.0, 0.5], [0.5, 1.0]], [[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]]],
)
def test_an_indefinite_covariance_is_refused_with_its_eigenvalue(A):
    smallest = np.linalg.eigvalsh(A)[0]
    with pytest.raises(DataError, match=f"smallest eigenvalue is {smallest:.3g}"):
        Covariance(A, names_of(len(A)))


def rounded(G, digits):
    """G by `decimals`, `significant` digits or in single precision, as files hold it."""
    kind, count = digits
    if kind == "single":
        return G.astype(np.float32).astype(float)
    return G.round(count) if kind == "decimals" else np.vectorize(lambda x: float(f"{x:.{count}g}"))(G)


@pytest.mark.parametrize("digits", [("decimals", 4), ("decimals", 6), ("significant", 5), ("significant", 7)])
@pytest.mark.parametrize("markers", [30, 200])
def test_a_singular_matrix_with_rounded_numbers_is_fitted_as_the_exact_one(digits, markers, tmp_path):
    """G of fewer markers than lines, or with F1 hybrids of them, in a file: it was refused as indefinite."""
    rng = np.random.default_rng(digits[1])
    M = 2.0 * rng.integers(0, 2, (50, markers))
    M[40:] = 0.5 * (M[:10] + M[10:20])
    Z = M - M.mean(axis=0)
    G, names = Z @ Z.T / Z.var(axis=0).sum(), names_of(50)
    written = rounded(G, digits)
    assert np.linalg.eigvalsh(written)[0] < -1e-9
    path = tmp_path / "G.csv"
    pd.DataFrame(written, names, names).to_csv(path)
    with pytest.warns(RelationshipWarning, match=rf"of 50 levels .* rounded to {digits[1]} ") as said:
        relation = Covariance(path)
    assert len(said) == 1
    unit = 10.0 ** -(digits[1] if digits[0] == "decimals" else digits[1] - 1 - np.log10(np.abs(G).max()))
    np.testing.assert_allclose(relation.relationship(), G, rtol=0, atol=3 * unit)
    K = relation.root()
    np.testing.assert_allclose(K @ K.T, relation.matrix, atol=1e-8)
    again = Covariance(relation.matrix, names)  # as a saved fit makes it: nothing is left to be told
    assert again.fingerprint() == relation.fingerprint()
    data = pd.DataFrame({"gen": np.repeat(names, 3), "y": np.repeat(Z @ rng.normal(size=markers) / 5, 3)})
    data["y"] += rng.normal(size=150)
    fits = [
        lmm("y ~ 1 + (1 | vm(gen, G))", data, relationships={"G": own}) for own in (relation, (G, names))
    ]
    assert fits[0].criterion == pytest.approx(fits[1].criterion, abs=200 * unit)
    np.testing.assert_allclose(fits[0].blups()["estimate"], fits[1].blups()["estimate"], atol=100 * unit)


@pytest.mark.parametrize(("size", "rank"), [(2, 1), (3, 1), (7, 3), (40, 2), (40, 30)])
@pytest.mark.parametrize("digits", [("decimals", 3), ("decimals", 5), ("significant", 4), ("single", 24)])
def test_no_singular_matrix_is_farther_than_its_rounding(size, rank, digits):
    """The bound holds for whatever was rounded; three times as far it is no rounding."""
    for seed in range(5):
        written = rounded(random_covariance(np.random.default_rng(seed), size, rank), digits)
        nearest, _, how = without_rounding(written)
        assert nearest.shape == written.shape and np.linalg.eigvalsh(nearest)[0] > -1e-12 * size
        most, _ = rounding_of(written)
        assert how and np.linalg.norm(nearest - written) <= most
        values, vectors = np.linalg.eigh(written)
        values[0] = -3.0 * most
        farther = rounded((vectors * values) @ vectors.T, digits)
        assert without_rounding(0.5 * (farther + farther.T))[0].size == 0


@pytest.mark.parametrize(("matrix", "most", "how"), [
    ([[1.0, 0.25], [0.25, 1.0]], 0.001, "3 decimals"),
    ([[1.234567, 0.1], [0.1, 2.0]], 1e-6, "6 decimals"),
    ([[123.4, 0.01234], [0.01234, 123.4]], 0.5 * np.sqrt(2 * 0.1**2 + 2 * 1e-5**2), "4 significant digits"),
    ([[np.pi, 0.0], [0.0, np.pi]], 0.0, ""),
])  # fmt: skip
def test_what_numbers_are_rounded_to(matrix, most, how):
    found = rounding_of(np.array(matrix))
    assert found == (pytest.approx(most, rel=1e-12), how)


def test_the_inverse_of_a_written_out_pedigree_is_sparse():
    sire, dam = random_parents(np.random.default_rng(4), 120, 12)
    A = tabular_A(sire, dam)
    relation = Covariance(A, names_of(120))
    expected = Pedigree(as_table(sire, dam), check_sex=False).precision()
    # what mates share and what they are to each other can cancel to rounding
    entries = np.count_nonzero(np.abs(expected.data) > 1e-10)
    assert relation.precision().nnz == entries and not relation.dense
    assert abs(relation.precision() - expected).max() < 1e-10


def triplets(A, names, lower=True):
    row, col = np.tril_indices(len(A)) if lower else np.indices(np.shape(A)).reshape(2, -1)
    return pd.DataFrame({"row": np.array(names)[row], "col": np.array(names)[col], "value": A[row, col]})


@pytest.mark.parametrize("lower", [True, False])
def test_triplets_and_squares_are_one_matrix(tmp_path, lower):
    A, names = random_covariance(np.random.default_rng(2), 5), ["01", "1", "b", "c", "d"]
    frame = triplets(A, names, lower)
    frame.to_csv(tmp_path / "triplets.csv", index=False)
    square = pd.DataFrame(A, index=names, columns=names)
    square.to_csv(tmp_path / "square.csv")
    for given in (frame, tmp_path / "triplets.csv", square, tmp_path / "square.csv", square[names[::-1]]):
        relation = Covariance(given)
        assert relation.levels == tuple(names)
        np.testing.assert_allclose(relation.matrix, A, rtol=1e-14)
    np.testing.assert_allclose(Covariance(frame, names[::-1]).matrix, A[::-1, ::-1], rtol=1e-14)


@pytest.mark.parametrize("kind", [Covariance, SparseInverse])
def test_levels_beside_a_table_with_names_are_their_order(kind):
    """By place they would give every level the relationships of another, without a word."""
    A, names = random_covariance(np.random.default_rng(2), 5), ["a", "b", "c", "d", "e"]
    square, order = pd.DataFrame(A, index=names, columns=names), ["d", "a", "e", "c", "b"]
    expected = kind(square).relationship(names)
    for given in (square, square[names[::-1]], square.loc[names[::-1]], square.reset_index(drop=True)):
        found = kind(given, order)
        assert found.levels == tuple(order)
        pd.testing.assert_frame_equal(found.relationship(names), expected, rtol=1e-12)
    for by_place in (pd.DataFrame(A), pd.DataFrame(A, columns=list("VWXYZ")), A):
        np.testing.assert_allclose(kind(by_place, order).relationship(order), expected, rtol=1e-12)
    numbers = [str(i + 1) for i in range(5)]  # row numbers from 0 are no names
    np.testing.assert_allclose(kind(pd.DataFrame(A), numbers).relationship(numbers), expected, rtol=1e-12)
    with pytest.raises(DataError, match="'e' stands in one of them only"):
        kind(square, ["a", "b", "c", "d", "f"])


def test_an_inverse_given_sparse():
    sire, dam = random_parents(np.random.default_rng(5), 60, 6)
    A = tabular_A(sire, dam)
    inverse = Pedigree(as_table(sire, dam), check_sex=False).precision()
    for given in (inverse, inverse.toarray()):
        relation = SparseInverse(given, names_of(60))
        assert relation.precision().nnz == inverse.nnz
        np.testing.assert_allclose(relation.log_determinant(), np.linalg.slogdet(A)[1], rtol=1e-12)
        np.testing.assert_allclose(relation.diagonal(), np.diag(A), rtol=1e-12)
        np.testing.assert_allclose(relation.relationship(), A, atol=1e-12)
        np.testing.assert_allclose(relation.multiply(A[:, 3]), A @ A[:, 3], atol=1e-12)
    assert SparseInverse(triplets(inverse.toarray(), names_of(60))).precision().nnz == inverse.nnz


@pytest.mark.parametrize(
    ("matrix", "levels", "message"),
    [
        ([[1.0, 0.2], [0.3, 1.0]], ["a", "b"], "not symmetric at 'a' and 'b'"),
        ([[1.0, 0.0], [0.3, 1.0]], ["a", "b"], "only one triangle is filled"),
        ([[1.0, np.nan], [np.nan, 1.0]], ["a", "b"], "no number for 'a' and 'b'"),
        ([[1.0, 0.0], [0.0, -1.0]], ["a", "b"], "for 'b'"),
        (np.eye(3)[:2], ["a", "b"], "square matrix, not 2 x 3"),
        (np.eye(2), ["a"], "2 rows but 1 level names"),
        (np.eye(2), ["a", "a"], "'a' more than once"),
        (np.eye(2), ["a", None], "row 2 has no level name"),
        (np.eye(2), None, "needs the names of its rows"),
        (pd.DataFrame(np.eye(2)), None, "index is row numbers"),
        (
            pd.DataFrame(np.eye(2), index=["a", "b"], columns=["a", "c"]),
            None,
            "'b' stands in one of them only",
        ),
        (triplets(np.eye(2), ["a", "b"]).drop(index=2), None, "no entry on the diagonal for 'b'"),
        (
            pd.DataFrame([["a", "a", 1.0], ["b", "a", "x"]], columns=["row", "col", "value"]),
            None,
            "row 2 of the",
        ),
        (
            pd.DataFrame(
                [["a", "a", 1.0], ["b", "a", 0.5], ["a", "b", 0.4], ["b", "b", 1.0]],
                columns=["row", "col", "value"],
            ),
            None,
            "two different values for 'b' and 'a'",
        ),
        (triplets(np.eye(2), ["a", "b"]), ["a", "c"], "'b' is not among the levels given"),
        ([["a", "b"], ["c", "d"]], ["a", "b"], "must be a matrix of numbers"),
        ([[1.0], [0.0, 1.0]], ["a", "b"], "must be a matrix of numbers"),
        (np.eye(2) * 1j, ["a", "b"], "must be a matrix of real numbers"),
        (np.zeros((2, 2)), ["a", "b"], "is zero: no level has a variance|no positive diagonal for 'a'"),
        (np.empty((0, 0)), [], "has no rows"),
    ],
)
@pytest.mark.parametrize("kind", [Covariance, SparseInverse])
def test_what_is_no_such_matrix_is_refused(kind, matrix, levels, message):
    with pytest.raises(DataError, match=message):
        kind(matrix, levels)


def test_an_inverse_that_is_not_definite_is_refused():
    relation = SparseInverse([[1.0, 2.0], [2.0, 1.0]], ["a", "b"])
    with pytest.raises(DataError, match="not positive definite"):
        relation.log_determinant()


def test_levels_have_to_be_a_list():
    for levels in ("ab", 5, {"a", "b"}, {"b": 1, "a": 0}):
        with pytest.raises(OptionError, match="must be a list of names"):
            Covariance(np.eye(2), levels)


ENTRIES = [(1, 1, 2.0), (2, 1, -0.5), (2, 2, 1.5), (3, 2, -0.25), (3, 3, 1.0)]
FULL = np.array([[2.0, -0.5, 0.0], [-0.5, 1.5, -0.25], [0.0, -0.25, 1.0]])
LEVELS = ["x", "y", "z"]


@pytest.mark.parametrize(("text", "ending"), [
    ("{:6d} {:6d} {:12.6f}", "giv"), ("{}\t{}\t{}", "GIV"), ("{}, {}, {}", "giv"), ("{} {} {:.3e}", "giv"),
])  # fmt: skip
@pytest.mark.parametrize("head", ["", "Row Column Ainverse\n"])
def test_files_of_asreml_number_their_rows(tmp_path, text, ending, head):
    path = tmp_path / f"ped.{ending}"
    path.write_text(head + "\n".join(text.format(*own) for own in ENTRIES) + "\n\n")
    relation = SparseInverse(path, LEVELS)
    assert relation.levels == tuple(LEVELS)
    np.testing.assert_allclose(relation.precision().toarray(), FULL)
    # 1 is the first of the names, whatever they look like
    assert SparseInverse(path, [3, 2, 1]).precision()[0, 0] == 2.0
    with pytest.raises(DataError, match=r"rows by number, 1 to 3; give their names in this order"):
        as_relationship("A", str(path))
    given = relationship_from_request("A", {"type": "inverse", "file": str(path), "levels": LEVELS})
    assert given.fingerprint() == relation.fingerprint()
    with pytest.raises(DataError, match="holds the inverse by its ending, and is given as the covariance"):
        Covariance(path, LEVELS)
    with pytest.raises(DataError, match=r"entry 4 is in row 3 and column 2, and levels= has 2 names"):
        SparseInverse(path, LEVELS[:2])


def test_files_of_asreml_with_names_and_of_covariances(tmp_path):
    path = tmp_path / "K.giv"
    path.write_text("\n".join(f"{LEVELS[i - 1]} {LEVELS[j - 1]} {value}" for i, j, value in ENTRIES))
    assert isinstance(as_relationship("A", str(path)), SparseInverse)
    np.testing.assert_allclose(SparseInverse(path).precision().toarray(), FULL)
    path = tmp_path / "K.grm"
    path.write_text("\n".join("{} {} {}".format(*own) for own in ENTRIES))
    np.testing.assert_allclose(Covariance(path, LEVELS).matrix, FULL)
    path.write_text("1 1 2.0\n2 1\n")
    with pytest.raises(DataError, match=r"'K\.grm' must have three columns, row, column and value"):
        Covariance(path, LEVELS)


def test_entries_in_a_table_by_number_and_inverses_by_their_heading(tmp_path):
    """As ASReml-R holds them: taken for a covariance they would give wrong figures."""
    table = pd.DataFrame(ENTRIES, columns=["Row", "Column", "Ainverse"])
    relation = SparseInverse(table, LEVELS)
    np.testing.assert_allclose(relation.precision().toarray(), FULL)
    named = table.assign(**{name: [LEVELS[i - 1] for i in table[name]] for name in ("Row", "Column")})
    named.to_csv(tmp_path / "A.csv", index=False)
    for given in (named, named.to_dict("list"), str(tmp_path / "A.csv")):
        assert as_relationship("A", given).fingerprint() == relation.named("A").fingerprint()
    for given in (named, tmp_path / "A.csv"):
        with pytest.raises(DataError, match="the values are headed 'Ainverse'; an inverse is given as Spar"):
            Covariance(given)
    with pytest.raises(DataError, match="'1' is not among the levels given"):
        SparseInverse(table, [*LEVELS, "w"])  # not all of its numbers are places: a name may be missing
    # numbers that are names stay names, in any order
    assert SparseInverse(table, ["3", "2", "1"]).precision()[0, 0] == 1.0


@pytest.mark.parametrize("form", ["square", "triplets", "sparse"])
def test_halves_that_differ_in_the_last_digit_are_one_number(form):
    """Of the inverse of a large matrix some pairs are rounded from either side of a half."""
    rng = np.random.default_rng(3)
    A = random_covariance(rng, 6).round(6)
    off = A.copy()
    off[1, 4] += 1e-6
    off[5, 2] -= 1e-6

    def made(matrix):
        if form == "triplets":
            return SparseInverse(triplets(matrix, names_of(6), lower=False))
        return SparseInverse(sp.csc_array(matrix) if form == "sparse" else matrix, names_of(6))

    np.testing.assert_allclose(made(off.round(6)).precision().toarray(), A, rtol=0, atol=1.001e-6)
    off[1, 4] += 1e-6
    with pytest.raises(DataError, match=r"'g4' and 'g1'|'g1' and 'g4'"):
        made(off.round(6))
    off[1, 4] -= 1.3e-6  # with more digits it is another number
    with pytest.raises(DataError, match=r"'g4' and 'g1'|'g1' and 'g4'"):
        made(off)
