"""Parameters of which the data say nothing are named: the likelihood is the same whatever they are."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm
from fastlmm_core.errors import ConfoundedWarning, DesignError, DistanceWarning, FastLMMWarning
from fastlmm_core.results.components.undetermined import joined_blocks


@pytest.fixture
def halves():
    """Subjects of the first half were seen at a and b, of the second at c and d."""
    rng = np.random.default_rng(3)
    subject, place = np.divmod(np.arange(80), 4)
    visit = np.array(list("abcd"))[2 * (subject >= 10) + place // 2]
    y = rng.normal(size=20)[subject] + rng.normal(size=80)
    return pd.DataFrame({"s": subject.astype(str), "v": visit, "x": rng.normal(size=80), "y": y})


def told(formula, table, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = lmm(formula, table, **options)
    return fit, [str(w.message) for w in caught if issubclass(w.category, ConfoundedWarning)]


ONCE = slice(None, None, 2)
BOTH = {
    "us": "'a and c', 'a and d', 'b and c' and 1 more",
    "toep": "'a and c', 'a and d'",
    "homtoep": "'a and c', 'a and d'",
}


@pytest.mark.parametrize("structure", ["fa(0 + v | s, k=1)", "fa(0 + v | s, k=2)", "rr(0 + v | s, d=2)"])
def test_loadings_of_visits_that_nobody_links_are_told(halves, structure):
    """The sign of those of c and d is free beside a and b; whoever was seen at b and c ties them."""
    sentence = "no level in 's' has both 'va and vc': the data say nothing about their covariance"
    words = told(f"y ~ v + {structure}", halves)[1]
    assert any(sentence in own for own in words)
    linked = halves.assign(v=halves["v"].where(halves["s"] != "0", halves["v"].replace({"a": "c"})))
    assert not any("nothing about their covariance" in own for own in told(f"y ~ v + {structure}", linked)[1])


def test_a_factor_model_is_the_same_with_one_half_turned_round(halves):
    turned = halves.assign(y=halves["y"].where(halves["v"].isin(["a", "b"]), -halves["y"]))
    fits = [told("y ~ v + fa(0 + v | s, k=1)", own)[0] for own in (halves, turned)]
    assert fits[0].deviance == pytest.approx(fits[1].deviance, abs=1e-5)


@pytest.mark.parametrize("structure", ["us", "toep", "homtoep", "cs", "homcs", "ar1", "hetar1", "diag"])
def test_visits_that_no_subject_shares(halves, structure):
    _, words = told("y ~ v", halves[ONCE], residual=f"{structure}(v | s)")
    wanted = BOTH.get(structure)
    assert bool(words) == (wanted is not None)
    assert wanted is None or f"no subject in 's' has both {wanted}" in words[0]


def test_the_likelihood_does_not_depend_on_what_is_named(halves):
    """Held at another covariance of visits that nobody shares, every figure of the fixed part is the same."""
    T = np.array([[2.0, 0.5, 0.0, 0.0], [0.5, 1.5, 0.0, 0.0], [0.0, 0.0, 1.0, -0.3], [0.0, 0.0, -0.3, 2.0]])
    other = T.copy()
    other[:2, 2:] = [[0.4, 0.1], [0.2, -0.3]]
    other[2:, :2] = other[:2, 2:].T
    fits = [lmm("y ~ v + x", halves[ONCE], residual="us(v | s)", fixed_parameters={"Residual": held})
            for held in (T, other)]  # fmt: skip
    np.testing.assert_allclose(fits[0].criterion, fits[1].criterion, rtol=1e-12)
    np.testing.assert_allclose(fits[0].cov_beta, fits[1].cov_beta, rtol=1e-9, atol=1e-14)


def test_coefficients_that_no_level_shares(halves):
    _, words = told("y ~ v + us(0 + v | s)", halves, residual="units | v")
    assert "no level in 's' has both 'va and vc', 'va and vd'" in words[0]
    assert not told("y ~ v + cs(0 + v | s)", halves)[1]
    assert not told("y ~ v + (x | s)", halves)[1]
    names = [str(k) for k in range(20)]
    related = told("y ~ v + us(0 + v | vm(s, A))", halves, relationships={"A": (np.eye(20) + 0.5, names)})
    assert not related[1]


@pytest.mark.parametrize("structure", ["us", "homcs", "ar1"])
def test_subjects_seen_once(halves, structure):
    once = halves.assign(s=np.arange(80))
    _, words = told("y ~ x", once, residual=f"{structure}(v | s)")
    assert "no subject in 's' has more than one of 'a', 'b', 'c'" in words[0]


def test_what_is_held_is_known(halves):
    assert not told("y ~ v", halves[ONCE], residual="us(v | s)", fixed_parameters={"Residual": np.eye(4)})[1]


def test_more_factors_than_covariances_can_tell(halves):
    table = halves.assign(e=np.array(list("pqr"))[np.arange(80) % 3])
    few, words = told("y ~ e + fa(0 + e | s, k=2)", table)
    full = lmm("y ~ e + (0 + e | s)", table)
    assert "8 parameters for the 6 variances and covariances" in words[0]
    np.testing.assert_allclose(few.criterion, full.criterion, atol=1e-6)
    assert not told("y ~ e + fa(0 + e | s, k=1)", table)[1]


def test_one_curve_twice(halves):
    once, _ = told("y ~ x + spl(x)", halves)
    twice, words = told("y ~ x + spl(x) + spl(x)", halves)
    assert "'spl(x)' stands in the formula 2 times" in words[0]
    np.testing.assert_allclose(twice.criterion, once.criterion, atol=1e-7)


def test_a_residual_variance_for_every_row_is_refused(halves):
    with pytest.raises(DesignError, match="'x' has 80 levels in 80 rows"):
        lmm("y ~ v", halves, residual="units | x")


def test_an_intercept_and_a_slope_have_no_distance(halves):
    with pytest.warns(DistanceWarning, match="write ar1.0 . factor.x."):
        lmm("y ~ v + ar1(x | s)", halves)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(6)
    subject, visit = np.divmod(np.arange(60), 2)
    y = rng.normal(size=30)[subject] + rng.normal(size=60) * (1 + visit)
    arm = np.where(subject % 2 == 0, "P", "Q")
    return pd.DataFrame({"s": subject.astype(str), "v": visit.astype(str), "t": visit, "arm": arm, "y": y})


@pytest.mark.parametrize(
    ("term", "residual"),
    [
        ("(1 | s)", "ar1(v | s)"),
        ("(0 + t | s)", "hetar1(v | s) | arm"),
        ("(1 | s)", "cs(v | s) | arm"),
    ],
)
def test_a_term_that_the_residual_has_already(pairs, term, residual):
    """At two visits the residual can take over what the term has: the fit is the same without."""
    fit, words = told(f"y ~ arm*v + {term}", pairs, residual=residual)
    assert f"only a combination of the parameters of '{term}', 'residual {residual}'" in words[0]
    without = lmm("y ~ arm*v", pairs, residual=residual)
    np.testing.assert_allclose(fit.criterion, without.criterion, atol=1e-6)


@pytest.mark.parametrize("residual", ["units | v", "diag(v | s)", "units | arm"])
def test_a_term_that_it_has_not(pairs, residual):
    assert not told("y ~ arm*v + (1 | s)", pairs, residual=residual)[1]


@pytest.fixture
def sparse_trials():
    """Twenty genotypes twice in A, B and C, once in D."""
    rng = np.random.default_rng(12)
    gen, env = (part.ravel() for part in np.meshgrid(np.arange(20), np.repeat(np.arange(4), [2, 2, 2, 1])))
    score = rng.normal(size=(20, 4))
    effect = score[:, [0]] + score[:, [1]] * [0.9, -0.7, 0.2, 0.4] + 0.5 * rng.normal(size=(20, 4))
    y = effect[gen, env] + rng.normal(scale=0.6, size=gen.size)
    env = np.array(list("ABCD"))[env]
    return pd.DataFrame({"gen": gen.astype(str), "env": env, "w": 1.0 + (gen % 3), "y": y})


@pytest.mark.parametrize("term", ["us(0 + env | gen)", "diag(0 + env | gen)", "(1 | at(env):gen)",
                                  "fa(0 + env | gen, k=1)", "fa(0 + env | gen, k=2)"])  # fmt: skip
def test_one_row_of_every_level_where_the_residual_has_a_variance_of_its_own(sparse_trials, term):
    """What the residual of D is held at moves its variance of genotypes, and nothing else."""
    options = {"residual": "units | env"}
    fit, words = told(f"y ~ env + {term}", sparse_trials, **options)
    found = [own for own in words if "has more than one row in 'D'" in own]
    assert len(found) == 1
    assert "fixed_parameters={'Residual': {'D': ...}}" in found[0]
    if term.startswith(("us", "diag")):
        residual = fit.variance_components.query("group == 'Residual|env'").set_index("var1")["estimate"]
        known = {"Residual": {"D": 0.7 * residual["D"]}}
        held, words = told(f"y ~ env + {term}", sparse_trials, fixed_parameters=known, **options)
        assert not words
        np.testing.assert_allclose(held.criterion, fit.criterion, atol=1e-6)


@pytest.mark.parametrize("term", ["rr(0 + env | gen, d=1)", "cs(0 + env | gen)", "(1 | gen) + (1 | env:gen)"])
def test_one_row_of_every_level_where_other_rows_tell_the_variance(sparse_trials, term):
    assert not told(f"y ~ env + {term}", sparse_trials, residual="units | env")[1]


def test_one_row_of_every_level_with_weights_that_tell_them_apart(sparse_trials):
    assert not told("y ~ env + diag(0 + env | gen)", sparse_trials, residual="units | env", weights="w")[1]
    assert not told("y ~ env + diag(0 + env | gen)", sparse_trials)[1]


BLOCKS = np.array([0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize(
    ("nothing", "joined"),
    [
        ([], []),
        ([{0: 1, 1: 1}, {2: 1, 3: -1}], []),
        ([{0: 1, 1: 1}, {2: 1, 3: -1}, {4: 1, 6: 2}], [(2, 3)]),
        ([{0: 1, 2: 1}, {5: 1, 6: -2}], [(0, 1), (2, 3)]),
        ([{0: 1, 2: 1}, {3: 1, 4: -2}], [(0, 1, 2)]),
        ([{0: 1, 1: 1}, {0: 1, 2: 1, 4: 1}], [(0, 1, 2)]),
        ([{6: 1, 7: 1}, {6: 1, 7: -1, 0: 1}], [(0, 3)]),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_blocks_that_are_joined(nothing, joined, seed):
    """An information is built that tells nothing along given directions, and all else."""
    rng = np.random.default_rng(seed)
    null = np.array([[own.get(place, 0.0) for place in range(8)] for own in nothing]).reshape(-1, 8)
    rows = rng.normal(size=(20, 8))
    if len(null):
        basis = np.linalg.qr(null.T)[0]
        rows -= rows @ basis @ basis.T
    information = rows.T @ rows
    scale = np.sqrt(np.diag(information))
    keep = scale > 1e-9
    assert joined_blocks((information / np.outer(scale, scale))[np.ix_(keep, keep)], BLOCKS[keep]) == joined


@pytest.mark.parametrize("formula", ["y ~ x + (z | g)", "y ~ x + (x + z | g)", "y ~ x + diag(1 + z | g)"])
def test_coefficients_that_depend_on_each_other(formula):
    """z is 3 in every row: T enters V as (1, 3) T (1, 3)' alone, so that its elements are not determined."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 6)
    table = pd.DataFrame({"g": g.astype(str), "x": rng.normal(size=72), "z": 3.0})
    table["y"] = rng.normal(size=12)[g] + rng.normal(size=72)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        fit = lmm(formula, table)
        apart = lmm(formula, table.assign(z=rng.normal(size=72)))
    assert any("'z' depends on the other coefficients in every row" in str(w) for w in fit.warnings)
    assert not any("depends on the other" in str(w) for w in apart.warnings)


@pytest.mark.parametrize("term", ["(1 | vm(s, K))", "us(0 + v | vm(s, K))", "diag(0 + v | vm(s, K))"])
def test_levels_that_a_relationship_gives_no_variance(term):
    """None of the levels in the data has one: said, as of any term of which the data tell nothing."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"s": list("bdbd") * 5, "v": list("uuvv") * 5, "y": rng.normal(size=20)})
    K = (np.diag([1.0, 0.0, 1.0, 0.0]), list("abcd"))
    fit, words = told(f"y ~ v + {term}", table, relationships={"K": K})
    assert len(words) == 1 and "the data say nothing about its variance" in words[0]
    assert fit.sigma == pytest.approx(lmm("y ~ v", table).sigma, rel=1e-6)
    assert (fit.blups()["estimate"] == 0.0).all()
