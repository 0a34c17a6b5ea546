"""Kenward-Roger where a correlation stands beside a variance of zero: V does not depend on it."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm

GENOTYPES = 18


def trials(seed):
    """Effects of genotypes in two environments, less than none in the first; four plots are lost."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(GENOTYPES, 2))
    own = np.column_stack([np.zeros(GENOTYPES), 1.2 * z[:, 0], 0.7 * z.sum(axis=1)])
    rows = [(e, g, own[g, e] + rng.normal()) for e in range(3) for g in range(GENOTYPES) for _ in range(2)]
    table = pd.DataFrame(rows, columns=["e", "g", "y"])
    first = table.e == 0
    table.loc[first, "y"] -= table[first].groupby("g")["y"].transform("mean")
    table.loc[first, "y"] = 1.4 * table["y"] - 0.25 * own[table.g, 1]
    table = table.drop(index=[1, 40, 41, 77]).reset_index(drop=True)
    return table.assign(env="e" + table.e.astype(str), gen="g" + table.g.astype(str))


class Dense:
    """V of variances in two environments, their correlation and sigma2, and what follows from it."""

    def __init__(self, table):
        self.Z, self.e = np.eye(GENOTYPES)[table.g], table.e.to_numpy()
        self.X, self.y = np.column_stack([np.ones(len(table)), self.e == 1, self.e == 2]), table.y.to_numpy()

    def V(self, p):
        T = np.zeros((3, 3))
        T[1, 1], T[2, 2] = p[0], p[1]
        T[1, 2] = T[2, 1] = p[2] * np.sqrt(p[0] * p[1])
        return T[np.ix_(self.e, self.e)] * (self.Z @ self.Z.T) + p[3] * np.eye(self.y.size)

    def deviance(self, p):
        V = self.V(p)
        inverse = np.linalg.inv(V)
        M = self.X.T @ inverse @ self.X
        P = inverse - inverse @ self.X @ np.linalg.solve(M, self.X.T @ inverse)
        return np.linalg.slogdet(V)[1] + np.linalg.slogdet(M)[1] + self.y @ P @ self.y

    def adjusted(self, p):
        """Kenward & Roger (1997) without second derivatives of V, by observed information."""
        h = 1e-3
        unit = h * np.eye(4)
        f = self.deviance
        H = np.array([[
            (f(p + a + b) - f(p + a - b) - f(p - a + b) + f(p - a - b)) / (4.0 * h**2) for b in unit
        ] for a in unit])  # fmt: skip
        W = 2.0 * np.linalg.inv(H)
        inverse = np.linalg.inv(self.V(p))
        phi = np.linalg.inv(self.X.T @ inverse @ self.X)
        slopes = [inverse @ (self.V(p + a) - self.V(p - a)) / (2.0 * h) @ inverse for a in unit]
        first = [self.X.T @ slope @ self.X for slope in slopes]
        out = np.zeros((3, 3))
        for i in range(4):
            for j in range(4):
                Q = self.X.T @ slopes[i] @ self.V(p) @ slopes[j] @ self.X
                out += W[i, j] * (Q - first[i] @ phi @ first[j])
        return phi + 2.0 * phi @ out @ phi


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.SingularFitWarning")
@pytest.mark.parametrize("seed", [4, 13, 24, 58])
def test_what_moves_nothing_is_no_part_of_the_adjustment(seed):
    """The last correlation of toep is that of the first environment and the third."""
    table = trials(seed)
    fit = lmm("y ~ env + toep(0 + env | gen)", table)
    T, sigma2 = fit.solved.covariance(0), fit.variance_components["estimate"].iloc[-1]
    assert T[0, 0] == 0.0 and T[1, 1] > 0.0 and T[2, 2] > 0.0
    p = np.array([T[1, 1], T[2, 2], T[1, 2] / np.sqrt(T[1, 1] * T[2, 2]), sigma2])
    expected = np.sqrt(np.diag(Dense(table).adjusted(p)))
    found = fit.fixed_effects("kenward-roger", information="observed")
    np.testing.assert_allclose(found["se"], expected, rtol=1e-5)
