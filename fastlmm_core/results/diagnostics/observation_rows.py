"""The rows of a fit's equations at the estimates: what every diagnostic of single observations starts from.

With the unknowns w = (s, b) of the equations, spherical random effects s ~ N(0, P^-1) and fixed effects b, a
model of any structures is y = A w + e, Var(e) = sigma2 R, and C = A' R^-1 A + P.  From these alone follow

    prediction error of A w          sigma2 A C^-1 A'
    conditional residual e = R P y   of variance sigma2 (R - A C^-1 A')
    P D                              R^-1 D - R^-1 A C^-1 A' R^-1 D

(Henderson 1975, Biometrics 31, 423-447).  Plots that are missing from a field are rows with a column of their
own, which leaves P as it is on the rows that were observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.kernels.equations.piece_products import expand_piece_products
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.compressed import compressed
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.row_variances import Unknowns, loading_matrix, row_forms
from fastlmm_core.structures.residuals.dense_rows import DensePrecision

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel

# Products of two entries of one row that are expanded together, and columns that are solved together.
PRODUCTS, BLOCK = 2_000_000, 256


@dataclass(frozen=True, eq=False)
class ObservationRows:
    """Rows of the equations of a fit, variances relative to `scale`.

    Attributes
    ----------
    n : int
        Rows observed, the first of all.
    matrix : (n_rows, s) csr_array
        A.
    precision : (n_rows, n_rows) csr_array
        R^-1.
    variances : (n,) float64
        Diagonal of R.
    fixed : (p,) int64
        Columns of A that hold fixed effects.
    functions : (p, s) csr_array
        K, the fixed effects as functions K w of the unknowns: unit rows, but for the polynomials in splines
        of sparse columns (see ``null_space``), whose fixed effects are those beside the splines as defined.
    factor : CholeskyFactor
        Of C.
    pattern : (indptr, indices)
        Lower triangle of C by columns; None where the rows are not on it.
    inverse_subset : (nnz,) float64
        C^-1 there.
    prior : (nnz,) float64
        P there.
    residual : (n_rows,) float64
        y - A w, units of the response; its size at missing plots does not matter.
    random_part : (n,) float64
        The part of the random effects, (A - X K) w with X the fixed columns, units of the response.
    random_variances : (n,) float64
        Diagonal of (A - X K) P^-1 (A - X K)' over the random effects.
    scale : float
        sigma2.
    """

    n: int
    matrix: sp.csr_array
    precision: sp.csr_array
    variances: np.ndarray
    fixed: np.ndarray
    functions: sp.csr_array
    factor: CholeskyFactor
    pattern: tuple[np.ndarray, np.ndarray] | None
    inverse_subset: np.ndarray
    prior: np.ndarray
    residual: np.ndarray
    random_part: np.ndarray
    random_variances: np.ndarray
    scale: float

    @property
    def p(self) -> int:
        return int(self.fixed.size)

    @cached_property
    def independent(self) -> bool:
        """R is diagonal."""
        return bool(self.precision.nnz == self.precision.shape[0])

    @cached_property
    def transposed(self) -> sp.csr_array:
        """A' R^-1 (s, n_rows)."""
        return sp.csr_array(self.matrix.T @ self.precision)

    @cached_property
    def projected(self) -> np.ndarray:
        """P y (n,), units of the response over `scale`."""
        return np.asarray(self.precision @ self.residual)[: self.n]

    def solve_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A' R^-1 D and C^-1 A' R^-1 D (s, k) of the unit columns D of some rows."""
        right = self.transposed[:, rows].toarray()
        return right, self.factor.solve(right)

    def project(self, D: np.ndarray) -> np.ndarray:
        """P D (n_rows, k) for D (n_rows, k)."""
        solution = self.factor.solve(np.ascontiguousarray(self.transposed @ D))
        return np.asarray(self.precision @ (D - self.matrix @ solution))

    @cached_property
    def fixed_columns(self) -> np.ndarray:
        """C^-1 K' (s, p)."""
        return np.asarray(self.factor.solve(self.functions.T.toarray()))

    @cached_property
    def fixed_covariance(self) -> np.ndarray:
        """Phi / sigma2 (p, p)."""
        phi = self.functions @ self.fixed_columns
        return 0.5 * (phi + phi.T)

    @cached_property
    def prediction_errors(self) -> np.ndarray:
        """Diagonal of A C^-1 A' (n,)."""
        return row_forms(self.matrix[: self.n], self.factor, self.pattern, self.inverse_subset)

    @cached_property
    def leverages(self) -> np.ndarray:
        """Diagonal (n,) of the hat matrix d(A w) / dy = A C^-1 A' R^-1."""
        if self.independent:
            return self.prediction_errors * self.precision.diagonal()[: self.n]
        entries = sp.coo_array(self.precision[: self.n])
        own = entries.row == entries.col
        value = np.where(own, entries.data, 0.5 * entries.data)  # a pair stands for both of its orders
        return self._bilinear(entries.row, entries.col, value)

    def _bilinear(self, first: np.ndarray, second: np.ndarray, value: np.ndarray) -> np.ndarray:
        """sum_k v_k c_k by the row i(k), (n,): c_k = a_i' C^-1 a_j, and twice that for i != j."""
        if self.pattern is None:
            return self._by_solves(first, second, value)
        weight = 2.0 * self.inverse_subset
        weight[self.pattern[0][:-1]] *= 0.5
        out = np.zeros(self.n)
        for place, row, product in self._products(first, second, value):
            out += np.bincount(row, product * weight[place], minlength=self.n)
        return out

    def _products(
        self, first: np.ndarray, second: np.ndarray, value: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """v_k (a_i a_j' + a_j a_i'), or v_k a_i a_i' for i = j, in the lower triangle, some rows at a time.

        Place in the pattern of C, row i(k) and product of each.
        """
        assert self.pattern is not None
        A = self.matrix
        arrays = compressed(A)
        sizes = np.diff(A.indptr).astype(np.int64)
        ends = np.cumsum(sizes[first] * sizes[second])
        begin, before = 0, 0
        while begin < first.size:
            end = max(begin + 1, int(np.searchsorted(ends, before + PRODUCTS, side="right")))
            total = int(ends[end - 1]) - before
            place, row, product = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total)
            i, j = (own[begin:end].astype(np.int64) for own in (first, second))
            pairs = (i, j, i, value[begin:end].astype(float))
            used = expand_piece_products(arrays, pairs, *self.pattern, place, row, product)
            yield place[:used], row[:used], product[:used]
            begin, before = end, int(ends[end - 1])

    @cached_property
    def spare(self) -> CholeskyFactor:
        """A factor whose values may be overwritten."""
        return self.factor.copy()

    def factorize_without(self, rows: np.ndarray) -> bool:
        """Factorize, in `spare`, the equations of all other rows; False where these are singular.

        For independent residuals on the pattern of C only.
        """
        assert self.pattern is not None and self.independent
        kept = np.setdiff1d(np.arange(self.n), rows)
        C = self.prior.copy()
        for place, _, product in self._products(kept, kept, self.precision.diagonal()[kept]):
            C += np.bincount(place, product, minlength=C.size)
        return self.spare.factorize(C)

    def _by_solves(self, first: np.ndarray, second: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The same where rows of A are not on the pattern of C."""
        out = np.zeros(self.n)
        for begin in range(0, self.n, BLOCK):
            rows = np.arange(begin, min(begin + BLOCK, self.n))
            products = self.matrix @ self.factor.solve(self.matrix[rows].T.toarray())
            mine = (first >= rows[0]) & (first <= rows[-1])
            i, j = first[mine], second[mine]
            terms = value[mine] * products[j, i - begin] * np.where(i == j, 1.0, 2.0)
            out += np.bincount(i, terms, minlength=self.n)
        return out


def observation_rows(fit: FittedModel) -> ObservationRows:
    """The rows of a fit; they are built anew at every call, and hold a copy of nothing large."""
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        return _structured_rows(solved)
    return _plain_rows(fit, solved)


def _plain_rows(fit: FittedModel, solved: SolvedEquations) -> ObservationRows:
    """Of a model with unrelated levels and independent residuals, where s ~ N(0, I)."""
    e = solved.equations
    A = sp.csr_array(natural_rows(e) @ loading_matrix(solved))
    A.sort_indices()
    Z = without_columns(A, e.layout.fixed_rows)
    return ObservationRows(
        n=e.n, matrix=A, precision=sp.csr_array(sp.diags_array(e.weights)), variances=1.0 / e.weights,
        fixed=e.layout.fixed_rows, functions=fixed_functions(solved), factor=solved.factor,
        pattern=(e.indptr, e.indices),
        inverse_subset=solved.inverse_subset, prior=e.penalty, residual=fit.residuals,
        random_part=Z @ solved.solution[:, 0] * solved.unit, random_variances=np.asarray((Z * Z).sum(axis=1)),
        scale=solved.user_sigma2,
    )  # fmt: skip


def natural_rows(e: MixedModelEquations) -> sp.csr_array:
    """[Z X] (n, q + p) of the natural coefficients in elimination order."""
    entry = e.entries
    sizes = np.diff(entry.row_val)
    start = e.layout.start[entry.row_node]
    column = np.repeat(start, sizes) + np.arange(int(sizes.sum())) - np.repeat(entry.row_val[:-1], sizes)
    rows = np.repeat(np.repeat(np.arange(e.n), np.diff(entry.row_ptr)), sizes)
    values = entry.values[: int(entry.row_val[-1])]
    return sp.csr_array((values, (rows, column)), shape=(e.n, e.q + e.p))


def _structured_rows(solution: StructuredSolution) -> ObservationRows:
    """Of a model with any structures."""
    e, point = solution.equations, solution.point
    A = sp.csr_array(e.matrix @ loading_matrix(solution))
    own = solution.theta[e.slices[1]]
    precision, variances = e.row_precision.at(e.residual.coefficients(own)[0]), e.residual.variances(own)
    if isinstance(precision, DensePrecision):  # single entries and columns of it are asked for
        precision = sp.csr_array(precision.tosparse())
    residual = point.residual * solution.response.scale
    if e.rotation is not None:  # back to the rows as they were observed
        A = sp.csr_array(e.rotation.backward(A.toarray()))
        precision = sp.csr_array(sp.diags_array(e.rotation.root**2 / variances))
        variances, residual = variances / e.rotation.root**2, e.rotation.backward(residual)
    A.sort_indices()
    Z = without_columns(A, np.concatenate([e.spherical.fixed, e.spherical.missing]))[: e.n]
    X, K = sp.csr_array(A[: e.n, e.spherical.fixed]), fixed_functions(solution)
    polynomials = without_columns(K, e.spherical.fixed)
    random_part = Z @ point.solution[:, 0] - X @ (polynomials @ point.solution[:, 0])
    return ObservationRows(
        n=e.n, matrix=A, precision=precision, variances=variances, fixed=e.spherical.fixed, functions=K,
        factor=solution.factor, pattern=None if e.rotation is not None else (e.indptr, e.indices),
        inverse_subset=solution.inverse_subset,
        prior=np.asarray(e.P_pieces @ e.level_coefficients(solution.theta), float), residual=residual,
        random_part=random_part * solution.response.scale,
        random_variances=_random_variances(solution, Z, X, polynomials), scale=solution.sigma2,
    )  # fmt: skip


def fixed_functions(solved: SolvedEquations | StructuredSolution) -> sp.csr_array:
    """K (p, s), the inside fixed effects as functions of the unknowns."""
    unknowns = Unknowns.of(solved)
    return unknowns.rows(sp.csr_array(sp.eye_array(unknowns.fixed.size)), ())


def _random_variances(
    solution: StructuredSolution, Z: sp.csr_array, X: sp.csr_array, polynomials: sp.csr_array
) -> np.ndarray:
    """Diagonal (n,) of S P^-1 S', S = Z - X L with the `polynomials` L (p, s) of splines."""
    e, out = solution.equations, np.zeros(Z.shape[0])
    for k, term in enumerate(e.terms):
        for own in e.spherical.rows[k].T:  # one coefficient at a time
            part, shared = sp.csr_array(Z[:, own]), sp.csr_array(polynomials[:, own])
            if term.levels is None:
                out += np.asarray((part * part).sum(axis=1))
                continue
            theta = solution.term_theta(k)[1]
            for begin in range(0, Z.shape[0], BLOCK):
                rows = sp.csr_array(part[begin : begin + BLOCK] - X[begin : begin + BLOCK] @ shared)
                spread = term.levels.multiply_covariance(theta, rows.T.toarray())
                out[begin : begin + BLOCK] += np.asarray(rows.multiply(spread.T).sum(axis=1)).ravel()
    return out


def without_columns(A: sp.csr_array, columns: np.ndarray) -> sp.csr_array:
    """A with zeros in these columns."""
    kept = np.ones(A.shape[1])
    kept[columns] = 0.0
    return sp.csr_array(A * kept)
