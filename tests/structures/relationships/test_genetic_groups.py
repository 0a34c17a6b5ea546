"""Genetic groups of unknown parents against dense equations: A* of Quaas (1988) and u = a + Q g."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg as la
from tabular import random_parents, tabular_A

from fastlmm_core import Covariance, Markers, Pedigree, SparseInverse, fit_batch, lmm, load, single_step
from fastlmm_core.errors import DataError, OptionError, PedigreeWarning

GROUPS = ["G1", "G2", "G3"]
RATIO = 0.7
N, FOUNDERS = 60, 9


class Herd:
    """Parents with every unknown one in a group; A, Q, D and A* by dense recursion over individuals."""

    def __init__(self, seed, selfing=0.0, selfings=None):
        rng = np.random.default_rng(seed)
        self.sire, self.dam = random_parents(rng, N, FOUNDERS, selfing)
        self.selfings = selfings
        # -1, -2, -3: group 0, 1, 2
        for parents in (self.sire, self.dam):
            parents[parents < 0] = -1 - rng.integers(0, 3, int(np.sum(parents < 0)))
        unknown_as = [np.where(own < 0, -1, own) for own in (self.sire, self.dam)]
        self.A = tabular_A(*unknown_as, selfings)
        self.Q = np.zeros((N, 3))
        for i in range(N):
            for parent in (self.sire[i], self.dam[i]):
                self.Q[i] += 0.5 * (np.eye(3)[-1 - parent] if parent < 0 else self.Q[parent])
        self.names = [f"n{i}" for i in range(N)]
        self.order = rng.permutation(N)
        self.levels = [*GROUPS, *(self.names[i] for i in self.order)]

    def label(self, i):
        return GROUPS[-1 - i] if i < 0 else self.names[i]

    @property
    def table(self):
        own = {
            "id": [self.names[i] for i in self.order], "sire": [self.label(self.sire[i]) for i in self.order],
            "dam": [self.label(self.dam[i]) for i in self.order],
        }  # fmt: skip
        return own if self.selfings is None else {**own, "f": self.selfings[self.order]}

    def pedigree(self, **options):
        selfing = None if self.selfings is None else "f"
        given = {"groups": GROUPS, "group_variance": RATIO, "check_sex": False, "selfing": selfing, **options}
        return Pedigree(self.table, **given)

    def quaas(self):
        """A* (3 + N, 3 + N), groups first, animals as numbered: every animal adds its outer product."""
        out = np.zeros((3 + N, 3 + N))
        for i in range(N):
            variance = self.A[i, i]
            row = np.zeros(3 + N)
            row[3 + i] = 1.0
            known = [own for own in (self.sire[i], self.dam[i]) if own >= 0]
            for a in known:
                variance -= sum(0.25 * self.A[a, b] for b in known)
            for parent in (self.sire[i], self.dam[i]):
                row[3 + parent if parent >= 0 else -1 - parent] -= 0.5
            out += np.outer(row, row) / variance
        return out

    def total(self):
        """Covariance of groups and animals, in the order of the levels."""
        Q = np.vstack([np.eye(3), self.Q[self.order]])
        own = np.zeros((3 + N, 3 + N))
        own[3:, 3:] = self.A[np.ix_(self.order, self.order)]
        return own + RATIO * Q @ Q.T


@pytest.fixture(params=["crosses", "selfed", "lines"])
def herd(request):
    if request.param == "lines":
        return Herd(3, selfings=np.random.default_rng(1).integers(0, 4, N).astype(float))
    return Herd(1, selfing=0.2 if request.param == "selfed" else 0.0)


def test_relationships_with_groups_are_those_of_quaas(herd):
    pedigree, total = herd.pedigree(), herd.total()
    assert pedigree.levels == tuple(herd.levels) and pedigree.groups == tuple(GROUPS)
    np.testing.assert_allclose(pedigree.group_contributions(), herd.Q[herd.order], atol=1e-15)
    np.testing.assert_allclose(herd.Q.sum(axis=1), 1.0)
    at = np.concatenate([np.arange(3), 3 + herd.order])
    expected = herd.quaas()[np.ix_(at, at)]
    assert np.linalg.matrix_rank(expected) == N
    expected[:3, :3] += np.eye(3) / RATIO
    np.testing.assert_allclose(pedigree.precision().toarray(), expected, atol=1e-12)
    np.testing.assert_allclose(pedigree.relationship(), total, atol=1e-13)
    np.testing.assert_allclose(pedigree.diagonal(), np.diag(total), atol=1e-13)
    np.testing.assert_allclose(pedigree.log_determinant(), np.linalg.slogdet(total)[1], rtol=1e-12)
    V = np.random.default_rng(0).normal(size=(3 + N, 2))
    np.testing.assert_allclose(pedigree.multiply(V), total @ V, atol=1e-12)
    # inbreeding is that of the individuals, whatever groups their ancestors are from
    A = herd.A[np.ix_(herd.order, herd.order)]
    np.testing.assert_allclose(pedigree.inbreeding(), np.diag(A) - 1.0, atol=1e-14)
    assert list(pedigree.inbreeding().index) == herd.levels[3:]
    np.testing.assert_allclose(pedigree.without_groups().relationship(), A, atol=1e-13)
    assert np.diag(A).max() > 1.1


def test_groups_of_their_own_rows_are_no_other_pedigree():
    herd = Herd(1)
    rows = pd.DataFrame(herd.table)
    heads = pd.DataFrame({"id": GROUPS[::-1], "sire": "", "dam": ""})
    with_rows = pd.concat([rows.iloc[:20], heads, rows.iloc[20:]])
    options = {"groups": GROUPS, "group_variance": RATIO, "check_sex": False}
    own = Pedigree(with_rows, **options)
    assert own.fingerprint() == Pedigree(rows, **options).fingerprint()
    assert own.fingerprint() != Pedigree(rows, **options | {"group_variance": 1.0}).fingerprint()
    codes = rows.replace({"G1": "1", "G2": "2", "G3": "3"})
    numbered = Pedigree(codes, **options | {"groups": [1, 2, 3]})
    np.testing.assert_array_equal(numbered.precision().toarray(), own.precision().toarray())


def records(herd, seed=5):
    """One or two records of the animals behind the founders, some of which have none."""
    rng = np.random.default_rng(seed)
    g = np.array([-4.0, 0.5, 6.0])
    u = np.linalg.cholesky(herd.A) @ rng.normal(size=N) + herd.Q @ g
    animals = np.concatenate([np.arange(12, 55), np.arange(20, 50)])
    sex = rng.integers(0, 2, animals.size)
    y = 10 + 0.8 * sex + u[animals] + rng.normal(size=animals.size)
    names = [herd.names[i] for i in animals]
    return pd.DataFrame({"animal": names, "sex": np.array(["F", "M"])[sex], "y": y}), animals


def dense_random(herd, frame, s2a, s2e):
    """Criterion, beta, u of groups and animals and PEV by the explicit form."""
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    W = np.zeros((len(frame), 3 + N))
    place = {name: i for i, name in enumerate(herd.levels)}
    W[np.arange(len(frame)), [place[name] for name in frame["animal"]]] = 1.0
    G = s2a * herd.total()
    V = W @ G @ W.T + s2e * np.eye(len(frame))
    inverse = np.linalg.inv(V)
    cov = np.linalg.inv(X.T @ inverse @ X)
    beta = cov @ X.T @ inverse @ frame["y"]
    r = frame["y"] - X @ beta
    P = inverse - inverse @ X @ cov @ X.T @ inverse
    u = G @ W.T @ inverse @ r
    pev = np.diag(G - G @ W.T @ P @ W @ G)
    size = len(frame) - 2
    logs = np.linalg.slogdet(V)[1] - np.linalg.slogdet(cov)[1]
    criterion = size * np.log(2 * np.pi) + logs + r @ inverse @ r
    return criterion, beta, u, pev, X, W


def test_a_model_with_random_groups_agrees_with_both_dense_forms():
    herd = Herd(2)
    frame, _ = records(herd)
    fit = lmm("y ~ sex + (1 | vm(animal, A))", frame, relationships={"A": herd.pedigree()})
    s2a, s2e = fit.variance_components["estimate"]
    assert s2a > 0.1 and s2e > 0.1
    criterion, beta, u, pev, X, W = dense_random(herd, frame, s2a, s2e)
    assert fit.criterion == pytest.approx(criterion, rel=1e-9)
    table = fit.blups()
    assert table["level"].tolist() == herd.levels
    np.testing.assert_allclose(fit.fixed_effects()["estimate"], beta, rtol=1e-7)
    np.testing.assert_allclose(table["estimate"], u, atol=1e-7)
    np.testing.assert_allclose(table["pev"], pev, rtol=1e-7)
    np.testing.assert_allclose(table["reliability"], 1.0 - pev / (s2a * np.diag(herd.total())), atol=1e-7)
    # an individual has its groups in it
    a = u[3:] - herd.Q[herd.order] @ u[:3]
    assert np.abs(a - table["estimate"].to_numpy()[3:]).max() > 0.1
    # Quaas: A* in the mixed model equations, with the ratio of the groups on their diagonal
    at = np.concatenate([np.arange(3), 3 + herd.order])
    star = herd.quaas()[np.ix_(at, at)]
    star[:3, :3] += np.eye(3) / RATIO
    M = np.hstack([X, W])
    C = M.T @ M / s2e
    C[2:, 2:] += star / s2a
    solved, inverse = np.linalg.solve(C, M.T @ frame["y"] / s2e), np.linalg.inv(C)
    np.testing.assert_allclose(table["estimate"], solved[2:], atol=1e-7)
    np.testing.assert_allclose(table["pev"], np.diag(inverse)[2:], rtol=1e-7)
    # the estimates are where the dense criterion is least
    for factor in (0.97, 1.03):
        assert dense_random(herd, frame, s2a * factor, s2e)[0] > criterion
        assert dense_random(herd, frame, s2a, s2e * factor)[0] > criterion


def test_fixed_groups_are_columns_beside_the_plain_pedigree():
    """A* itself in the equations, one group effect set to zero: the same fit and predictions."""
    herd = Herd(2)
    frame, _ = records(herd)
    pedigree = herd.pedigree()
    shares = pedigree.group_contributions()
    frame = frame.join(shares, on="animal")
    plain = pedigree.without_groups()
    fit = lmm("y ~ sex + G2 + G3 + (1 | vm(animal, A))", frame, relationships={"A": plain})
    s2a, s2e = fit.variance_components["estimate"]
    assert s2a > 0.1
    at = np.concatenate([np.arange(3), 3 + herd.order])
    star = herd.quaas()[np.ix_(at, at)]
    place = {name: i for i, name in enumerate(herd.levels)}
    W = np.zeros((len(frame), 3 + N))
    W[np.arange(len(frame)), [place[name] for name in frame["animal"]]] = 1.0
    M = np.hstack([np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float), W])
    C = M.T @ M / s2e
    C[2:, 2:] += star / s2a
    kept = np.delete(np.arange(5 + N), 2)  # the first group, confounded with the mean
    inverse = np.linalg.inv(C[np.ix_(kept, kept)])
    solved = inverse @ (M.T @ frame["y"] / s2e)[kept]
    coefficients = fit.fixed_effects().set_index("term")["estimate"]
    np.testing.assert_allclose(
        coefficients[["(Intercept)", "sexM", "G2", "G3"]], solved[:4], rtol=1e-6, atol=1e-7
    )
    a = fit.blups().set_index("level")["estimate"]
    u = a[herd.levels[3:]] + shares[["G2", "G3"]].loc[herd.levels[3:]] @ coefficients[["G2", "G3"]]
    np.testing.assert_allclose(u, solved[4:], atol=1e-6)
    # the criterion of Quaas' equations: groups count among the fixed effects
    quadratic = (frame["y"] @ frame["y"]) / s2e - (M.T @ frame["y"] / s2e)[kept] @ solved
    size = len(frame) - 4
    log = np.linalg.slogdet(C[np.ix_(kept, kept)])[1] + np.linalg.slogdet(s2a * herd.A)[1]
    criterion = size * np.log(2 * np.pi) + log + len(frame) * np.log(s2e) + quadratic
    assert fit.criterion == pytest.approx(criterion, rel=1e-9)
    # predictions are mean + u with the error of both
    grid = pd.DataFrame({"animal": herd.levels[3:], "sex": "F"}).join(shares, on="animal")
    predicted = fit.predict(grid, se=True)
    K = np.zeros((N, kept.size))
    K[:, 0], K[:, 4:] = 1.0, np.eye(N)
    np.testing.assert_allclose(predicted["prediction"], K @ solved, rtol=1e-7)
    np.testing.assert_allclose(predicted["se"], np.sqrt(np.diag(K @ inverse @ K.T)), rtol=1e-6)


def test_every_door_gives_what_the_covariance_of_groups_and_animals_gives(tmp_path):
    """BLUPs, predictions, heritability, values of genotypes; batches, files."""
    herd = Herd(2)
    frame, _ = records(herd)
    formula = "y ~ sex + (1 | vm(animal, A))"
    fit = lmm(formula, frame, relationships={"A": herd.pedigree()})
    dense = lmm(formula, frame, relationships={"A": Covariance(herd.total(), herd.levels)})
    assert fit.criterion == pytest.approx(dense.criterion, rel=1e-9)
    pd.testing.assert_frame_equal(fit.blups(), dense.blups(), rtol=1e-5, atol=1e-5)
    new = pd.DataFrame({"animal": herd.levels[3:], "sex": "M"})
    ours, theirs = fit.predict(new, se=True), dense.predict(new, se=True)
    np.testing.assert_allclose(ours["prediction"], theirs["prediction"], rtol=1e-6)
    np.testing.assert_allclose(ours["se"], theirs["se"], rtol=1e-6)
    ours, theirs = (own.heritability("vm(animal, A)").to_frame() for own in (fit, dense))
    np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=1e-4, equal_nan=True)
    values = fit.genotype_values("vm(animal, A)")
    assert set(GROUPS).isdisjoint(values.to_frame()["animal"]) and len(values) == N
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(load(tmp_path / "fit").blups(), fit.blups())
    again = load(tmp_path / "fit").genotype_values("vm(animal, A)")
    pd.testing.assert_frame_equal(again.to_frame(), values.to_frame())
    twice = pd.concat([frame.assign(trial=t, y=frame["y"] + 3 * t) for t in (0, 1)])
    batch = fit_batch(
        twice, formula, by="trial", traits="y", relationships={"A": herd.pedigree()}, blups="vm(animal, A)",
        progress=False,
    )  # fmt: skip
    own = batch.table("blups").query("trial == '1' or trial == 1")
    np.testing.assert_allclose(own["estimate"], fit.blups()["estimate"], atol=1e-5)


def test_several_coefficients_have_groups_of_the_same_covariance():
    """Direct and maternal: g has the covariance T of the effects, in units of the ratio."""
    herd = Herd(2)
    frame, animals = records(herd)
    frame["dam"] = [herd.label(herd.dam[i]) for i in animals]
    assert frame["dam"].isin(GROUPS).any()
    T = np.array([[1.2, -0.3], [-0.3, 0.6]])
    held = {"vm(A)": T.tolist(), "Residual": 1.1}
    fit = lmm("y ~ sex + us(animal, dam | vm(A))", frame, relationships={"A": herd.pedigree()},
              fixed_parameters=held)  # fmt: skip
    place = {name: i for i, name in enumerate(herd.levels)}
    W = np.zeros((len(frame), 2 * (3 + N)))
    for c, column in enumerate(("animal", "dam")):
        W[np.arange(len(frame)), [2 * place[name] + c for name in frame[column]]] = 1.0
    G = np.kron(herd.total(), T)
    V = W @ G @ W.T + 1.1 * np.eye(len(frame))
    X = np.column_stack([np.ones(len(frame)), frame["sex"] == "M"]).astype(float)
    cov = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    beta = cov @ X.T @ np.linalg.solve(V, frame["y"])
    u = G @ W.T @ np.linalg.solve(V, frame["y"] - X @ beta)
    np.testing.assert_allclose(fit.blups()["estimate"], u, atol=1e-8)


def test_pruning_keeps_the_groups_of_those_who_stay():
    herd = Herd(1)
    pedigree = herd.pedigree()
    named = [herd.names[i] for i in (14, 30, 58)]
    pruned = pedigree.pruned(named)
    kept = list(pruned.levels)
    assert pruned.size < pedigree.size and set(named) <= set(kept) <= set(pedigree.ancestors(named))
    np.testing.assert_allclose(pruned.relationship(), pedigree.relationship(kept), atol=1e-14)
    product = pruned.precision() @ pruned.relationship().to_numpy()
    np.testing.assert_allclose(product, np.eye(len(kept)), atol=1e-12)
    # a group with one offspring is no founder that an unknown parent stands for
    small = Pedigree({"id": ["a", "b"], "sire": ["G1", "G2"], "dam": ["G1", "G2"]}, groups=["G1", "G2"],
                     group_variance=3.0)  # fmt: skip
    assert small.pruned(["b"]).levels == ("G2", "b")
    assert small.pruned(["b"]).diagonal().tolist() == [3.0, 4.0]


def test_an_animal_that_is_not_in_the_pedigree_is_from_a_group_of_its_own():
    herd = Herd(1)
    assert herd.pedigree().unseen_variance == 1.0 + RATIO
    assert herd.pedigree().without_groups().unseen_variance == 1.0


def test_single_step_transforms_both_inverses():
    """H of a, then u = a + Q g: the inverse of the covariance of groups and animals, by dense algebra."""
    herd = Herd(4)
    rng = np.random.default_rng(6)
    typed = [herd.names[i] for i in (20, 30, 41, 44, 50)]
    markers = Markers(pd.DataFrame(rng.integers(0, 3, (5, 30)), typed, [f"m{k}" for k in range(30)]))
    pedigree = herd.pedigree()
    H = single_step(pedigree, markers, share=0.1)
    assert H.levels == pedigree.levels and H.groups == pedigree.groups
    plain = single_step(pedigree.without_groups(), markers, share=0.1)
    Q = np.vstack([np.eye(3), pedigree.group_contributions()])
    expected = la.block_diag(np.zeros((3, 3)), plain.relationship().to_numpy()) + RATIO * Q @ Q.T
    np.testing.assert_allclose(H.relationship(), expected, atol=1e-10)
    assert plain.groups == () and isinstance(H, SparseInverse)
    with pytest.raises(DataError, match="'G1' is not among the 60 levels"):
        single_step(pedigree, Covariance(np.eye(2), ["G1", "n3"]))


TABLE = {"id": ["a", "b", "c"], "sire": ["G1", "a", "b"], "dam": ["G1", "G2", ""]}


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"groups": ["G1", "G2"]}, OptionError, "groups='G1', 'G2' need group_variance="),
        ({"group_variance": 1.0}, OptionError, "name them as they stand for unknown parents"),
        ({"groups": [], "group_variance": 1.0}, OptionError, "name them as they stand"),
        ({"groups": ["G1", "G1"], "group_variance": 1.0}, OptionError, "has a name twice"),
        ({"groups": ["G1", "0"], "group_variance": 1.0}, OptionError, "'0', which is a code for an unknown"),
        ({"groups": ["G1", "G2"], "group_variance": 0.0}, OptionError, "group_variance"),
        ({"groups": ["G1", "G2", "G9"], "group_variance": 1.0}, DataError, "'G9' is nobody's parent"),
        ({"groups": ["G1", "G2", "c"], "group_variance": 1.0}, DataError, "'c' is nobody's parent"),
        ({"groups": ["G1", "b"], "group_variance": 1.0}, DataError, "'b' has parents of their own"),
    ],
)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.PedigreeWarning")
def test_wrong_groups_are_told(options, error, words):
    with pytest.raises(error, match=words):
        Pedigree(TABLE, **options)


def test_unknown_parents_in_no_group_are_told():
    with pytest.warns(PedigreeWarning, match="'c' has an unknown parent that is in none") as said:
        own = Pedigree(TABLE, groups=["G1", "G2"], group_variance=1.0)
    assert len(said) == 1  # groups are no founders without a row, and stand on both sides
    np.testing.assert_allclose(own.group_contributions().loc["c"], [0.25, 0.25])
