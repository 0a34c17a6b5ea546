"""Genomic relationships against their formulas, marker effects against marker models."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import Covariance, Markers, Pedigree, lmm
from fastlmm_core.errors import DataError, OptionError, RelationshipWarning
from fastlmm_core.structures.relationships import blend, single_step


def marker_frame(rng, n_levels, n_markers):
    counts = rng.binomial(2, rng.uniform(0.1, 0.9, n_markers), (n_levels, n_markers)).astype(float)
    return pd.DataFrame(
        counts, index=[f"g{i}" for i in range(n_levels)], columns=[f"m{k}" for k in range(n_markers)]
    )


@pytest.fixture(params=[(30, 8), (30, 25), (30, 90)], ids=["low rank", "fewer", "more"])
def frame(request):
    return marker_frame(np.random.default_rng(sum(request.param)), *request.param)


def test_G_of_vanraden(frame):
    counts = frame.to_numpy()
    p = counts.mean(axis=0) / 2.0
    Z = counts - 2.0 * p
    expected = Z @ Z.T / np.sum(2.0 * p * (1.0 - p))
    for table in (frame, frame - 1.0):
        relation = Markers(table, centre="2p", scale="sum2pq")
        np.testing.assert_allclose(relation.relationship(), expected, atol=1e-12)
        np.testing.assert_allclose(relation.diagonal(), np.diag(expected), atol=1e-12)
        K = relation.root()
        np.testing.assert_allclose(K @ K.T, expected, atol=1e-12)
    np.testing.assert_allclose(Markers(frame).relationship(), Z @ Z.T / Z.shape[1], atol=1e-12)


def test_only_few_markers_stand_for_themselves(frame):
    relation = Markers(frame)
    assert relation.low_rank == (frame.shape[1] < 18)
    assert relation.root().shape[1] == min(frame.shape[1], 29)


def test_ridge_centre_and_scale(frame):
    values = frame.to_numpy()
    relation = Markers(frame, centre=None, scale=7.0, ridge=0.1)
    G = values @ values.T / 7.0 + 0.1 * np.eye(30)
    np.testing.assert_allclose(relation.relationship(), G, rtol=1e-12)
    assert relation.root() is None and relation.dense
    np.testing.assert_allclose(relation.precision() @ G, np.eye(30), atol=1e-8)
    np.testing.assert_allclose(relation.log_determinant(), np.linalg.slogdet(G)[1], rtol=1e-11)
    base = np.linspace(0.5, 1.5, values.shape[1])
    Z = values - base
    np.testing.assert_allclose(Markers(frame, centre=base).relationship(), Z @ Z.T / Z.shape[1], atol=1e-12)


def test_missing_genotypes_are_an_error_or_the_mean_of_their_marker(frame):
    holes = frame.copy()
    holes.iloc[3, 2] = holes.iloc[5, 1] = np.nan
    with pytest.raises(DataError, match="2 genotypes are missing, the first is marker 'm2' of 'g3'"):
        Markers(holes)
    filled = holes.fillna(holes.mean())
    np.testing.assert_allclose(Markers(holes, impute="mean").Z, Markers(filled).Z, atol=1e-14)


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_marker_effects_and_their_errors_are_those_of_the_marker_model(frame, ridge):
    """y = 1 mu + Z_1 (M g + e) + residual, dense, with levels that have no record."""
    rng = np.random.default_rng(9)
    relation = Markers(frame, ridge=ridge)
    M, c, s2 = relation.Z, relation.scale, 1.7
    records = rng.integers(0, 24, 60)
    Z = np.eye(30)[records]
    y = rng.normal(size=60) + Z @ M @ rng.normal(size=M.shape[1])
    G = relation.relationship().to_numpy()
    V = s2 * Z @ G @ Z.T + 0.8 * np.eye(60)
    Vi, one = np.linalg.inv(V), np.ones((60, 1))
    P = Vi - Vi @ one @ np.linalg.solve(one.T @ Vi @ one, one.T @ Vi)
    u, pev = s2 * G @ Z.T @ P @ y, s2 * G - s2**2 * G @ Z.T @ P @ Z @ G
    g = s2 / c * M.T @ Z.T @ P @ y
    g_pev = np.diag(s2 / c * np.eye(M.shape[1]) - (s2 / c) ** 2 * M.T @ Z.T @ P @ Z @ M)
    effects = relation.markers
    np.testing.assert_allclose(effects.from_levels(u), g, atol=1e-10)
    np.testing.assert_allclose(effects.pev(s2, pev), g_pev, atol=1e-10)
    K = relation.root()
    if ridge:
        assert K is None
        return
    s, s_pev = s2 * K.T @ Z.T @ P @ y, s2 * np.eye(K.shape[1]) - s2**2 * K.T @ Z.T @ P @ Z @ K
    np.testing.assert_allclose(effects.from_root(s), g, atol=1e-10)
    np.testing.assert_allclose(effects.pev(s2, s_pev, of_root=True), g_pev, atol=1e-10)


def test_names_come_from_the_first_column_or_the_index(tmp_path):
    path = tmp_path / "markers.csv"
    path.write_text("line,a,b\n01,0,1\n1,2,\n02,1,1\n")
    relation = Markers(path, impute="mean")
    assert relation.levels == ("01", "1", "02")
    assert relation.marker_names == ("a", "b")
    table = {"a": [0, 1], "line": ["x", "y"]}
    assert Markers(table, levels="line").levels == Markers(pd.DataFrame(table).set_index("line")).levels
    with pytest.raises(DataError, match="no column 'lines'; nearest: 'line'"):
        Markers(table, levels="lines")


def test_frequencies_of_a_base_population_by_place_or_by_name(frame):
    """VanRaden's first G has them in both parts; a Series in another order of markers is no matter."""
    rng = np.random.default_rng(6)
    p = rng.uniform(0.1, 0.9, frame.shape[1])
    counts = frame.to_numpy()
    Z = counts - 2 * p
    G = Z @ Z.T / np.sum(2 * p * (1 - p))
    named = pd.Series(2 * p, index=frame.columns)
    for centre in (2 * p, list(2 * p), named, named[::-1], named[::-1].to_dict(), pd.Series(2 * p)):
        found = Markers(frame, centre=centre, scale="sum2pq")
        np.testing.assert_allclose(found.relationship(), G, rtol=1e-12, atol=1e-12)
    around_zero = Markers(frame - 1.0, centre=named[::-1] - 1.0, scale="sum2pq")
    np.testing.assert_allclose(around_zero.relationship(), G, rtol=1e-12, atol=1e-12)
    assert Markers(frame, centre=1.0, scale="sum2pq").scale == pytest.approx(frame.shape[1] / 2)
    with pytest.raises(OptionError, match="centre has no value for 'm0'"):
        Markers(frame, centre=named[1:])
    wrong = named.where(named.index != "m1", 3.0)
    with pytest.raises(OptionError, match="0 to 2, but that of marker 'm1' is 3"):
        Markers(frame, centre=wrong, scale="sum2pq")
    with pytest.raises(OptionError, match="less 1, as the counts are, -1 to 1, but that of marker 'm1' is 2"):
        Markers(frame - 1.0, centre=wrong - 1.0, scale="sum2pq")


@pytest.mark.parametrize("code", [-9.0, 9.0, 5.0, -1.0, 99.0])
def test_a_code_of_missing_genotypes_is_told_by_its_looks(frame, code):
    wrong = frame.copy()
    wrong.loc["g4", "m2"] = wrong.loc["g7", "m0"] = code
    words = f"2 genotypes are {code:g}, the first is marker 'm2' of 'g4', and all others 0 to 2.*missing="
    with pytest.warns(RelationshipWarning, match=words):
        Markers(wrong)
    Markers(wrong, missing=[code], impute="mean")
    if abs(code) > 5.0:  # among dosages too
        with pytest.warns(RelationshipWarning, match=f"2 genotypes are {code:g}"):
            Markers(wrong.where(wrong == code, 0.01 + 0.98 * wrong))


@pytest.mark.parametrize("codes", [(0, 2), (-1, 1), (0, 1), (0, 1, 2, 3, 4), (-2, -1, 0, 1, 2), (0, 2, 4)])
@pytest.mark.filterwarnings("error")
def test_usual_codes_and_scores_are_taken_without_a_word(codes):
    rng, names = np.random.default_rng(2), [f"g{i}" for i in range(20)]
    Markers(pd.DataFrame(rng.choice(codes, (20, 30)), index=names))
    Markers(pd.DataFrame(5.0 * rng.normal(size=(20, 30)), index=names))


def test_inbred_lines_of_0_and_1_are_no_allele_counts(frame):
    lines = (frame > 0).astype(float)
    with pytest.warns(RelationshipWarning, match="of which none is 2; those of inbred lines are 0 and 2"):
        Markers(lines, scale="sum2pq")
    Markers(lines)
    counts, around_zero = (Markers(own, scale="sum2pq").scale for own in (2 * lines, 2 * lines - 1))
    assert counts == pytest.approx(around_zero, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"m1": 3.0}, {"scale": "sum2pq"}, "needs allele counts.*from 0 to 3.*'m1'"),
        ({"m1": -2.0}, {"centre": "2p"}, "needs allele counts.*'m1'"),
        ({"m1": "AA"}, {}, "marker 'm1' of 'g0' holds 'AA'"),
        ({"m1": np.inf}, {}, "marker 'm1' of 'g0' is infinite"),
        ({"m1": np.nan}, {"impute": "mean"}, "markers 'm1' have no genotype"),
    ],
)
def test_wrong_genotypes_are_named(frame, change, options, message):
    with pytest.raises(DataError, match=message):
        Markers(frame.assign(**change), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"centre": "median"},
        {"centre": [1.0]},
        {"scale": "n"},
        {"scale": 0.0},
        {"scale": True},
        {"ridge": -1.0},
        {"impute": "em"},
    ],
)
def test_wrong_options_are_refused(frame, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Markers(frame, **options)


def pedigree_of_lines():
    names = [f"g{i}" for i in range(30)]
    sire = ["", "", ""] + [names[i // 3] for i in range(3, 30)]
    dam = ["", "", ""] + [names[i // 2] for i in range(3, 30)]
    return Pedigree({"id": names, "sire": sire, "dam": dam}, check_sex=False)


def test_blending_with_the_pedigree():
    frame, pedigree = marker_frame(np.random.default_rng(3), 20, 60), pedigree_of_lines()
    relation = Markers(frame)
    G, A = relation.relationship().to_numpy(), pedigree.relationship(relation.levels).to_numpy()
    np.testing.assert_allclose(blend(relation, pedigree, 0.3).matrix, 0.7 * G + 0.3 * A, atol=1e-12)
    tuned = blend(relation, pedigree, 0.0, tune=True).matrix
    np.testing.assert_allclose(
        [tuned.mean(), np.diag(tuned).mean()], [A.mean(), np.diag(A).mean()], rtol=1e-12
    )
    with pytest.raises(OptionError, match="share=2"):
        blend(relation, pedigree, 2)


def test_single_step_is_the_inverse_of_H():
    """H of Legarra et al. (2009): individuals without genotypes by regression on those with."""
    frame, pedigree = marker_frame(np.random.default_rng(4), 12, 60), pedigree_of_lines()
    relation = Markers(frame.iloc[::-1])
    G = blend(relation, pedigree, 0.1).matrix
    A = pedigree.relationship().to_numpy()
    typed = pedigree.locate(relation.levels, "test")
    rest = np.setdiff1d(np.arange(30), typed)
    regression = A[np.ix_(rest, typed)] @ np.linalg.inv(A[np.ix_(typed, typed)])
    H = np.empty((30, 30))
    H[np.ix_(typed, typed)] = G
    H[np.ix_(rest, typed)] = regression @ G
    H[np.ix_(typed, rest)] = G @ regression.T
    unexplained = A[np.ix_(rest, rest)] - regression @ A[np.ix_(typed, rest)]
    H[np.ix_(rest, rest)] = unexplained + regression @ G @ regression.T
    inverse = single_step(pedigree, relation, 0.1)
    assert inverse.levels == pedigree.levels
    np.testing.assert_allclose(inverse.precision() @ H, np.eye(30), atol=1e-9)


def test_single_step_needs_an_invertible_G():
    frame, pedigree = marker_frame(np.random.default_rng(4), 12, 60), pedigree_of_lines()
    with pytest.raises(DataError, match="blended G is singular"):
        single_step(pedigree, Markers(frame), 0.0)
    given = Covariance(np.eye(2), ["g1", "zz"])
    with pytest.raises(DataError, match="'zz' is not among the 30 levels"):
        single_step(pedigree, given)


def test_single_step_needs_an_invertible_pedigree():
    """Also where those with genotypes are the F1 of two doubled haploids, whose A22 is singular."""
    lines = {"id": list("abcd"), "sire": ["", "", "a", "a"], "dam": ["", "", "b", "b"]}
    pedigree = Pedigree(lines | {"f": [np.inf, np.inf, 0.0, 0.0]}, selfing="f", check_sex=False)
    with pytest.raises(DataError, match="no inverse: 'c', 'd' cannot differ from the mean of fully inbred"):
        single_step(pedigree, Covariance([[1.0, 0.5], [0.5, 1.0]], ["c", "d"]))


@pytest.mark.parametrize(("tau", "omega"), [(0.1, 5.0), (-1.0, -1.0), (1.0, 3.0), (0.0, 1.0)])
def test_weights_that_make_H_indefinite_are_refused(tau, omega):
    frame, pedigree = marker_frame(np.random.default_rng(4), 12, 60), pedigree_of_lines()
    with pytest.raises(OptionError, match=f"with tau={tau:g} and omega={omega:g} H\\^-1 is not positive"):
        single_step(pedigree, Markers(frame), tau=tau, omega=omega)


def test_weights_of_the_two_inverses():
    frame, pedigree = marker_frame(np.random.default_rng(4), 12, 60), pedigree_of_lines()
    relation = Markers(frame)
    found = single_step(pedigree, relation, 0.1, tau=0.9, omega=1.2).precision().toarray()
    typed = np.ix_(*2 * [pedigree.locate(relation.levels, "test")])
    expected = np.linalg.inv(pedigree.relationship().to_numpy())
    expected[typed] += 0.9 * np.linalg.inv(blend(relation, pedigree, 0.1).matrix)
    expected[typed] -= 1.2 * np.linalg.inv(pedigree.relationship(relation.levels).to_numpy())
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.linalg.eigvalsh(found)[0] > 0.0


@pytest.mark.parametrize(
    ("levels", "data", "hint"),
    [
        (["m0", "m1", "m2"], ["g1", "g2"], "they are headings of its columns.*transpose it"),
        (["01", "02", "10"], ["1", "2"], "it has '01': read names as text"),
        (["x", "y", "z"], ["1", "3"], "they look like row numbers, its levels are names such as 'x'"),
    ],
)
def test_levels_that_are_not_in_a_relationship_may_have_been_misread(levels, data, hint):
    snps = pd.DataFrame([[0, 1, 2], [1, 1, 0], [2, 0, 1]], index=levels, columns=["g1", "g2", "g3"])
    table = pd.DataFrame({"gen": data * 3, "y": np.arange(6.0) ** 2})
    with pytest.raises(DataError, match=f"2 levels of 'gen' are not in the relationship 'M'.*{hint}"):
        lmm("y ~ 1 + (1 | vm(gen, M))", table, relationships={"M": Markers(snps)})


def test_row_numbers_that_a_filter_leaves_are_no_names():
    table = pd.DataFrame({"line": ["x", "y", "z"], "a": [0, 1, 2]})
    assert Markers(table[table.a > 0]).levels == ("y", "z")
    assert Markers(table.set_index("line")).marker_names == ("a",)


def test_markers_have_to_vary(frame):
    with pytest.raises(DataError, match="no marker varies"):
        Markers(frame * 0.0 + 1.0)


def test_single_step_takes_objects():
    with pytest.raises(OptionError, match="not dict and Covariance"):
        single_step({"id": ["a"]}, Covariance([[1.0]], ["a"]))
