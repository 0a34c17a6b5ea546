"""The linear mixed model by its textbook formulas, with n x n matrices: what the engine is held to.

V = sum_j gamma_j V_j + sigma2 W^-1 with gamma the distinct elements of every covariance matrix G_k
(columns of the lower triangle), V_j = Z_k (I (x) E_j) Z_k'. Formulas: Searle, Casella & McCulloch
(1992), ch. 6, for likelihood, score and information; Henderson (1975) for predictions; Kenward & Roger
(1997) with the scaled F as Halekoh & Hojsgaard (2014, J. Stat. Softw. 59(9)) state it; Giesbrecht &
Burns (1985) and Fai & Cornelius (1996) for Satterthwaite. Nothing of the library is used but the
columns of X and Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class DenseTerm:
    """Random term with `codes` (n,), `values` (n, m), `n_levels`; `diagonal` has no covariances."""

    codes: np.ndarray
    values: np.ndarray
    n_levels: int
    diagonal: bool = False

    @property
    def m(self):
        return self.values.shape[1]

    @cached_property
    def Z(self):
        """(n, L m), the m coefficients of a level together."""
        n, m = self.values.shape
        Z = np.zeros((n, self.n_levels * m))
        for i in range(n):
            Z[i, self.codes[i] * m : (self.codes[i] + 1) * m] = self.values[i]
        return Z

    @cached_property
    def elements(self):
        """(row, col) of every distinct element of G_k."""
        if self.diagonal:
            return [(a, a) for a in range(self.m)]
        return [(a, b) for b in range(self.m) for a in range(b, self.m)]


class DenseModel:
    """The model at given covariance matrices.

    Parameters
    ----------
    y, X : (n,), (n, p) full rank
    terms : list of DenseTerm
    weights : (n,)
    G : list of (m_k, m_k), absolute scale
    sigma2 : float
    reml : bool
    """

    def __init__(self, y, X, terms, weights, G, sigma2, reml=True):
        self.y, self.X, self.terms, self.reml = y, X, terms, reml
        self.weights = np.ones(len(y)) if weights is None else weights
        self.G, self.sigma2 = G, sigma2

    @classmethod
    def of_fit(cls, fit):
        """The same model at the estimates that the fit reports in its public tables."""
        design = fit.design
        terms = [
            DenseTerm(
                t.codes, t.values, len(t.levels), fit.solved.equations.terms[k].structure.name == "diag"
            )
            for k, t in enumerate(design.random)
        ]
        table = fit.variance_components["estimate"].to_numpy()
        G, at = [], 0
        for term in terms:
            m = term.m
            matrix = np.diag(table[at : at + m])
            at += m
            if not term.diagonal:
                for a in range(m):
                    for b in range(a + 1, m):
                        matrix[a, b] = matrix[b, a] = table[at]
                        at += 1
            G.append(matrix)
        assert at == table.size - 1
        y = design.y if design.offset is None else design.y - design.offset
        return cls(y, design.X.toarray(), terms, design.weights, G, table[-1], fit.reml)

    def at(self, G=None, sigma2=None, y=None):
        """Copy with other covariance matrices, residual variance or response."""
        return DenseModel(
            self.y if y is None else y, self.X, self.terms, self.weights, self.G if G is None else G,
            self.sigma2 if sigma2 is None else sigma2, self.reml,
        )  # fmt: skip

    # ------------------------------------------------------------ parameters
    @cached_property
    def gamma(self):
        """Distinct elements of the G_k and, last, sigma2."""
        return np.array(
            [G[a, b] for term, G in zip(self.terms, self.G, strict=True) for a, b in term.elements]
            + [self.sigma2]
        )

    def at_gamma(self, gamma):
        G, position = [], 0
        for term in self.terms:
            matrix = np.zeros((term.m, term.m))
            for a, b in term.elements:
                matrix[a, b] = matrix[b, a] = gamma[position]
                position += 1
            G.append(matrix)
        return self.at(G, gamma[-1])

    @cached_property
    def dV(self):
        """V_j for every gamma, residual last, (d + 1, n, n)."""
        out = []
        for term in self.terms:
            for a, b in term.elements:
                E = np.zeros((term.m, term.m))
                E[a, b] = E[b, a] = 1.0
                out.append(term.Z @ np.kron(np.eye(term.n_levels), E) @ term.Z.T)
        return np.array([*out, np.diag(1.0 / self.weights)])

    # ------------------------------------------------------------------- GLS
    @cached_property
    def V(self):
        V = np.diag(self.sigma2 / self.weights)
        for term, G in zip(self.terms, self.G, strict=True):
            V = V + term.Z @ np.kron(np.eye(term.n_levels), G) @ term.Z.T
        return V

    @cached_property
    def V_inv(self):
        return np.linalg.inv(self.V)

    @cached_property
    def phi(self):
        return np.linalg.inv(self.X.T @ self.V_inv @ self.X)

    @cached_property
    def beta(self):
        return self.phi @ (self.X.T @ (self.V_inv @ self.y))

    @cached_property
    def P(self):
        VX = self.V_inv @ self.X
        return self.V_inv - VX @ self.phi @ VX.T

    # ------------------------------------------------------------ likelihood
    @cached_property
    def criterion(self):
        """-2 log-likelihood; restricted without the log |X'X| term, as lme4."""
        n, p = self.X.shape
        value = np.linalg.slogdet(self.V)[1] + self.y @ self.P @ self.y
        if self.reml:
            return value - np.linalg.slogdet(self.phi)[1] + (n - p) * np.log(2 * np.pi)
        return value + n * np.log(2 * np.pi)

    @cached_property
    def _products(self):
        """R V_j with R = P (REML) or V^-1 (ML), and P V_j P y."""
        R = self.P if self.reml else self.V_inv
        Py = self.P @ self.y
        return R @ self.dV, [V @ Py for V in self.dV]

    @cached_property
    def score(self):
        """d criterion / d gamma."""
        RV, VPy = self._products
        Py = self.P @ self.y
        return np.array([np.trace(A) - Py @ v for A, v in zip(RV, VPy, strict=True)])

    def information(self, kind):
        """Information about gamma; observed: minus second derivatives of the log-likelihood."""
        RV, VPy = self._products
        expected = 0.5 * np.einsum("iab,jba->ij", RV, RV)
        average = 0.5 * np.array([[v @ self.P @ w for v in VPy] for w in VPy])
        return {"expected": expected, "average": average, "observed": 2 * average - expected}[kind]

    # ----------------------------------------------------------- predictions
    @cached_property
    def Z(self):
        return np.hstack([term.Z for term in self.terms])

    @cached_property
    def prior(self):
        """Var(u), (q, q), terms one after another."""
        blocks = [np.kron(np.eye(t.n_levels), G) for t, G in zip(self.terms, self.G, strict=True)]
        q = sum(len(b) for b in blocks)
        out, at = np.zeros((q, q)), 0
        for block in blocks:
            out[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        return out

    @cached_property
    def u(self):
        return self.prior @ self.Z.T @ self.P @ self.y

    @cached_property
    def pev(self):
        """Var(u_hat - u)."""
        return self.prior - self.prior @ self.Z.T @ self.P @ self.Z @ self.prior

    @cached_property
    def condvar(self):
        """Var(u | y, beta)."""
        return self.prior - self.prior @ self.Z.T @ self.V_inv @ self.Z @ self.prior

    def prediction_variance(self, X_new, Z_new):
        """Var of X_new (b_hat - b) + Z_new (u_hat - u), by row."""
        cross = -self.phi @ self.X.T @ self.V_inv @ self.Z @ self.prior
        joint = np.block([[self.phi, cross], [cross.T, self.pev]])
        rows = np.hstack([X_new, Z_new])
        return np.einsum("ia,ab,ib->i", rows, joint, rows)

    # --------------------------------------------------------- Kenward-Roger
    @cached_property
    def _kr(self):
        """P_i (p, p) and Q_ij (p, p) of Kenward & Roger."""
        VX = self.V_inv @ self.X
        first = np.array([-VX.T @ V @ VX for V in self.dV])
        second = np.array([[VX.T @ A @ self.V_inv @ B @ VX for B in self.dV] for A in self.dV])
        return first, second

    def parameter_covariance(self, kind="expected"):
        return np.linalg.inv(self.information(kind))

    def adjusted_covariance(self, kind="expected"):
        """Phi_A = Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j)} Phi."""
        first, second = self._kr
        W = self.parameter_covariance(kind)
        total = np.zeros_like(self.phi)
        for i in range(len(W)):
            for j in range(len(W)):
                total += W[i, j] * (second[i, j] - first[i] @ self.phi @ first[j])
        return self.phi + 2 * self.phi @ total @ self.phi

    def kr_test(self, L, kind="expected"):
        """(F scaled, df, scaling) for L beta = 0, rows of L independent."""
        first, _ = self._kr
        W = self.parameter_covariance(kind)
        rank = len(L)
        Theta = L.T @ np.linalg.inv(L @ self.phi @ L.T) @ L
        M = [Theta @ self.phi @ P @ self.phi for P in first]
        A1 = sum(W[i, j] * np.trace(M[i]) * np.trace(M[j]) for i in range(len(W)) for j in range(len(W)))
        A2 = sum(W[i, j] * np.trace(M[i] @ M[j]) for i in range(len(W)) for j in range(len(W)))
        B = (A1 + 6 * A2) / (2 * rank)
        g = ((rank + 1) * A1 - (rank + 4) * A2) / ((rank + 2) * A2)
        c1 = g / (3 * rank + 2 * (1 - g))
        c2 = (rank - g) / (3 * rank + 2 * (1 - g))
        c3 = (rank + 2 - g) / (3 * rank + 2 * (1 - g))
        mean = 1 / (1 - A2 / rank)
        variance = 2 / rank * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = variance / (2 * mean**2)
        df = 4 + (rank + 2) / (rank * rho - 1)
        scaling = df / (mean * (df - 2))
        estimate = L @ self.beta
        F = estimate @ np.linalg.solve(L @ self.adjusted_covariance(kind) @ L.T, estimate) / rank
        return scaling * F, df, scaling

    def kr_df(self, row, kind="expected"):
        """df of one row, through rank one of the formulas: 2 v^2 / (g' W g)."""
        return self._moment_df(row, self.parameter_covariance(kind))

    def _moment_df(self, row, W):
        first, _ = self._kr
        gradient = np.array([-row @ self.phi @ P @ self.phi @ row for P in first])
        return 2 * (row @ self.phi @ row) ** 2 / (gradient @ W @ gradient)

    # -------------------------------------------------------- Satterthwaite
    def satterthwaite_df(self, row, numerical=False):
        """df of one row at an interior optimum, from observed information by formula or by differences."""
        if numerical:
            H = second_differences(lambda g: self.at_gamma(g).criterion, self.gamma, self.gamma_steps)
            gradient = first_differences(
                lambda g: row @ self.at_gamma(g).phi @ row, self.gamma, self.gamma_steps
            )
            W = 2 * np.linalg.inv(H)
            return 2 * (row @ self.phi @ row) ** 2 / (gradient @ W @ gradient)
        return self._moment_df(row, self.parameter_covariance("observed"))

    @cached_property
    def gamma_steps(self):
        """Steps of about 2 % of the standard deviation scale of every parameter."""
        scale = [
            np.sqrt(G[a, a] * G[b, b]) for t, G in zip(self.terms, self.G, strict=True) for a, b in t.elements
        ]
        return 0.02 * np.array([*scale, self.sigma2])


def satterthwaite_f(L, model):
    """(F, df) of lmerTest's combination over the eigenvectors of L Phi L'."""
    values, vectors = np.linalg.eigh(L @ model.phi @ L.T)
    rows = vectors.T @ L
    t2 = (rows @ model.beta) ** 2 / values
    nu = np.array([model.satterthwaite_df(row) for row in rows])
    E = np.sum(nu / (nu - 2))
    return t2.mean(), 2 * E / (E - len(L))


def first_differences(function, at, steps):
    """Gradient by central differences with two Richardson steps, O(h^6)."""
    out = []
    for i, h in enumerate(steps):
        e = np.zeros(at.size)
        e[i] = 1.0
        d = [(function(at + s * h * e) - function(at - s * h * e)) / (2 * s * h) for s in (1.0, 0.5, 0.25)]
        out.append(_richardson(d))
    return np.array(out)


def second_differences(function, at, steps):
    """Hessian by central differences with two Richardson steps, O(h^6)."""
    d = at.size
    H = np.empty((d, d))
    centre = function(at)
    unit = np.diag(steps)
    for i in range(d):
        for j in range(i + 1):
            rows = []
            for s in (1.0, 0.5, 0.25):
                a, b = s * unit[i], s * unit[j]
                if i == j:
                    value = (function(at + a) - 2 * centre + function(at - a)) / (s * steps[i]) ** 2
                else:
                    value = (
                        function(at + a + b)
                        - function(at + a - b)
                        - function(at - a + b)
                        + function(at - a - b)
                    ) / (4 * s * s * steps[i] * steps[j])
                rows.append(value)
            H[i, j] = H[j, i] = _richardson(rows)
    return H


def _richardson(d):
    a, b = (4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3
    return (16 * b - a) / 15
