"""A plain dense least-squares fit that looks like a fitted model to the code under test.

Means and contrasts need a design and `linear_functions`; with ordinary least squares every figure is a
textbook formula, so tables can be checked to the last digit without the mixed-model engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.stats import f as f_distribution

from fastlmm_core.design import build_design


@dataclass(frozen=True)
class DenseTest:
    F: float
    df_num: int
    df_den: float
    p: float


@dataclass(frozen=True)
class DenseFunctions:
    """Rows K (r, p_full) on coefficients with covariance `phi` and one residual df."""

    K: np.ndarray
    beta: np.ndarray
    phi: np.ndarray
    null: np.ndarray
    residual_df: float
    ddf: str = "residual"
    information: str = "expected"
    without_variance = False

    @property
    def estimable(self):
        return np.abs(self.K @ self.null).max(axis=1, initial=0.0) < 1e-8

    def _masked(self, values):
        return np.where(self.estimable, values, np.nan)

    @property
    def estimate(self):
        return self._masked(self.K @ self.beta)

    @property
    def cov(self):
        bad = ~self.estimable
        cov = self.K @ self.phi @ self.K.T
        cov[bad] = np.nan
        cov[:, bad] = np.nan
        return cov

    def se(self):
        return np.sqrt(np.diag(self.cov))

    def df(self):
        return self._masked(np.full(len(self.K), np.inf if self.ddf == "asymptotic" else self.residual_df))

    def combine(self, A):
        A = A.toarray() if sp.issparse(A) else np.asarray(A)
        return DenseFunctions(A @ self.K, self.beta, self.phi, self.null, self.residual_df, self.ddf)

    def estimable_among(self, A):
        return self.combine(A).estimable

    def contrast_statistics(self, A):
        rows = self.combine(A)
        return rows.estimate, rows.se(), rows.df(), rows.estimable

    def f_test(self, A=None):
        rows = self if A is None else self.combine(A)
        r = int(np.linalg.matrix_rank(rows.K))
        F = float(rows.estimate @ np.linalg.pinv(rows.cov) @ rows.estimate / r)
        return DenseTest(F, r, self.residual_df, float(f_distribution.sf(F, r, self.residual_df)))


class DenseFit:
    """Ordinary least squares of `formula` on `data`."""

    method = "OLS"

    def __init__(self, formula, data, offset=None):
        self.design = build_design(formula, data, offset=offset)
        X = self.design.X.toarray()
        y = self.design.y - (0.0 if self.design.offset is None else self.design.offset)
        beta, *_ = np.linalg.lstsq(X, y, rcond=None)
        residual = y - X @ beta
        self.df_residual = X.shape[0] - X.shape[1]
        kept, p = self.design.kept, len(self.design.column_names)
        self.beta = np.zeros(p)
        self.beta[kept] = beta
        self.phi = np.zeros((p, p))
        self.phi[np.ix_(kept, kept)] = np.linalg.inv(X.T @ X) * (residual @ residual / self.df_residual)
        self.null = np.zeros((p, 0)) if self.design.null_basis is None else self.design.null_basis

    def linear_functions(self, K, *, ddf="residual", information="expected"):
        K = K.toarray() if sp.issparse(K) else np.asarray(K)
        ddf = "asymptotic" if ddf == "asymptotic" else "residual"
        return DenseFunctions(K, self.beta, self.phi, self.null, self.df_residual, ddf)
