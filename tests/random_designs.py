"""Small simulated data sets of every kind of model, each with its formula; deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from fastlmm_core import lmm


@dataclass(frozen=True)
class Case:
    formula: str
    data: pd.DataFrame
    weights: str | None = None
    singular: bool = False


def labels(prefix, codes):
    return np.array([f"{prefix}{code:03d}" for code in codes])


def related_lines():
    """210 related lines in two replications: the table, names of the lines and their relationship."""
    rng = np.random.default_rng(8)
    names = np.array([f"G{i:03d}" for i in range(210)])
    M = rng.normal(size=(210, 260))
    K = M @ M.T / 260
    u = np.linalg.cholesky(K) @ rng.normal(size=210)
    data = pd.DataFrame({"gen": np.repeat(names, 2), "rep": np.tile(["a", "b"], 210)})
    data["y"] = 5.0 + (data["rep"] == "b") + np.repeat(u, 2) + rng.normal(0.0, 0.8, 420)
    return data, names, K


def crossed():
    r = np.random.default_rng(11)
    n = 240
    g, loc, t = r.integers(0, 25, n), r.integers(0, 9, n), r.integers(0, 3, n)
    y = 10 + t + r.normal(0, 1.2, 25)[g] + r.normal(0, 0.8, 9)[loc] + r.normal(0, 1, n)
    return Case(
        "y ~ t + (1|g) + (1|l)",
        pd.DataFrame({"y": y, "t": labels("T", t), "g": labels("g", g), "l": labels("l", loc)}),
    )


def crossed_interaction():
    r = np.random.default_rng(12)
    g, loc, k = (a.ravel() for a in np.meshgrid(range(20), range(10), range(3), indexing="ij"))
    keep = r.random(g.size) < 0.8
    g, loc, k = g[keep], loc[keep], k[keep]
    t = r.integers(0, 4, g.size)
    y = (
        t
        + r.normal(0, 1, 20)[g]
        + r.normal(0, 2, 10)[loc]
        + r.normal(0, 0.7, (20, 10))[g, loc]
        + r.normal(0, 1, g.size)
    )
    data = pd.DataFrame({"y": y, "t": labels("T", t), "g": labels("g", g), "l": labels("l", loc)})
    return Case("y ~ t + (1|g) + (1|l) + (1|g:l)", data)


def nested():
    r = np.random.default_rng(13)
    rep, block, _plot = (a.ravel() for a in np.meshgrid(range(6), range(4), range(5), indexing="ij"))
    keep = r.random(rep.size) < 0.85
    rep, block = rep[keep], block[keep]
    a, x = r.integers(0, 3, rep.size), r.normal(5, 2, rep.size)
    y = (
        a
        - 0.5 * x
        + r.normal(0, 1, 6)[rep]
        + r.normal(0, 0.9, (6, 4))[rep, block]
        + r.normal(0, 0.8, rep.size)
    )
    data = pd.DataFrame(
        {"y": y, "A": labels("A", a), "x": x, "rep": labels("R", rep), "block": labels("B", block)}
    )
    return Case("y ~ A + x + (1|rep/block)", data)


def slopes2():
    r = np.random.default_rng(14)
    s = np.repeat(np.arange(16), r.integers(5, 12, 16))
    x = r.uniform(0, 9, s.size)
    u = r.multivariate_normal([0, 0], [[4, 0.4], [0.4, 0.3]], 16)
    y = 3 + 2 * x + u[s, 0] + u[s, 1] * x + r.normal(0, 1, s.size)
    return Case("y ~ x + (x|s)", pd.DataFrame({"y": y, "x": x, "s": labels("s", s)}))


def slopes3():
    r = np.random.default_rng(15)
    s = np.repeat(np.arange(20), r.integers(8, 16, 20))
    x, z = r.uniform(-1, 3, s.size), r.normal(0, 2, s.size)
    root = np.array([[1.5, 0, 0], [0.3, 0.8, 0], [-0.2, 0.3, 0.5]])
    u = r.normal(size=(20, 3)) @ root.T
    f = r.integers(0, 4, s.size)
    y = 1 + x - z + u[s, 0] + u[s, 1] * x + u[s, 2] * z + r.normal(0, 0.7, 4)[f] + r.normal(0, 1, s.size)
    data = pd.DataFrame({"y": y, "x": x, "z": z, "s": labels("s", s), "f": labels("f", f)})
    return Case("y ~ x + z + f + (x + z|s)", data)


def slopes_diagonal():
    case = slopes2()
    return Case("y ~ x + (x||s)", case.data)


def slope_and_crossed():
    r = np.random.default_rng(16)
    n = 220
    s, i = r.integers(0, 14, n), r.integers(0, 11, n)
    x = r.integers(0, 2, n)
    u = r.multivariate_normal([0, 0], [[2, -0.5], [-0.5, 0.8]], 14)
    y = 5 + x + u[s, 0] + u[s, 1] * x + r.normal(0, 1, 11)[i] + r.normal(0, 0.8, n)
    data = pd.DataFrame({"y": y, "x": x.astype(float), "s": labels("s", s), "i": labels("i", i)})
    return Case("y ~ x + (x|s) + (1|i)", data)


def weighted():
    r = np.random.default_rng(17)
    n = 150
    g, t, w = r.integers(0, 18, n), r.integers(0, 4, n), r.uniform(0.3, 5, n)
    x = r.normal(0, 1, n)
    y = t + r.normal(0, 1.1, 18)[g] + 0.4 * x + r.normal(0, 1, n) / np.sqrt(w)
    data = pd.DataFrame({"y": y, "t": labels("T", t), "x": x, "g": labels("g", g), "w": w})
    return Case("y ~ t + x + (1|g)", data, weights="w")


def weighted_slopes():
    case = slopes2()
    w = np.random.default_rng(18).uniform(0.5, 4, len(case.data))
    return Case(case.formula, case.data.assign(w=w), weights="w")


def empty_cells():
    r = np.random.default_rng(19)
    b, a, c = (v.ravel() for v in np.meshgrid(range(8), range(4), range(3), indexing="ij"))
    keep = ~((a == 2) & (c == 1)) & ~((a == 3) & (c == 0)) & (r.random(b.size) < 0.9)
    b, a, c = b[keep], a[keep], c[keep]
    y = a + 0.5 * c + r.normal(0, 1, 8)[b] + r.normal(0, 1, b.size)
    return Case(
        "y ~ A * C + (1|b)",
        pd.DataFrame({"y": y, "A": labels("A", a), "C": labels("C", c), "b": labels("b", b)}),
    )


def singular_scalar():
    """Group means more alike than residuals allow: the group variance is zero, the other is not."""
    r = np.random.default_rng(20)
    g, h = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    t = r.integers(0, 3, g.size)
    e = r.normal(0, 1, g.size)
    for k in range(12):
        e[g == k] -= e[g == k].mean()
    y = t + e + r.normal(0, 1, 8)[h]
    data = pd.DataFrame({"y": y, "t": labels("T", t), "g": labels("g", g), "h": labels("h", h)})
    return Case("y ~ t + (1|g) + (1|h)", data, singular=True)


def singular_correlation():
    """Slopes proportional to intercepts: the correlation is one."""
    r = np.random.default_rng(27)
    s = np.repeat(np.arange(10), 6)
    x = np.tile(np.arange(6.0), 10)
    u = r.normal(0, 2, 10)
    y = 1 + x + u[s] * (1 + 0.3 * x) + r.normal(0, 1.5, s.size)
    return Case("y ~ x + (x|s)", pd.DataFrame({"y": y, "x": x, "s": labels("s", s)}), singular=True)


def singular_rank(seed):
    """Three coefficients whose covariance matrix has a lower rank."""
    r = np.random.default_rng(seed)
    s = np.repeat(np.arange(9), 7)
    x, z = r.normal(size=(2, s.size))
    u = r.normal(size=9)
    y = 1 + u[s] * (1 + 0.5 * x) + r.normal(0, 1, s.size)
    data = pd.DataFrame({"y": y, "x": x, "z": z, "s": labels("s", s)})
    return Case("y ~ x + z + (x + z|s)", data, singular=True)


def singular_rank2():
    return singular_rank(21)


def singular_rank1():
    return singular_rank(24)


CASES = {
    f.__name__: f
    for f in (
        crossed, crossed_interaction, nested, slopes2, slopes3, slopes_diagonal, slope_and_crossed, weighted,
        weighted_slopes, empty_cells, singular_scalar, singular_correlation, singular_rank2, singular_rank1,
    )
}  # fmt: skip
REGULAR = tuple(name for name in CASES if not name.startswith("singular"))
SINGULAR = tuple(name for name in CASES if name.startswith("singular"))


@cache
def case(name):
    return CASES[name]()


@cache
def fit_of(name, reml=True):
    """The fit of a case, made once for all tests of a process."""
    from warnings import catch_warnings, simplefilter

    from fastlmm_core.errors import FastLMMWarning

    c = case(name)
    with catch_warnings():
        simplefilter("ignore", FastLMMWarning)
        return lmm(c.formula, c.data, weights=c.weights, reml=reml)


@cache
def dense_of(name, reml=True):
    from dense_reference import DenseModel

    return DenseModel.of_fit(fit_of(name, reml))
