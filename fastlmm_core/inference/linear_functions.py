"""Linear functions K beta of the fixed effects: estimates, covariance, degrees of freedom, joint tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import InferenceError, OptionError, check_option
from fastlmm_core.inference import kenward_roger, satterthwaite
from fastlmm_core.inference.f_test import FTest
from fastlmm_core.inference.joint_covariance import (
    Adjusting,
    ParameterInference,
    RowCovariances,
    covariances_of_rows,
)
from fastlmm_core.inference.row_covariances import independent_rows
from fastlmm_core.kernels.thresholds import ESTIMABLE
from fastlmm_core.multiplicity.distributions import f_upper
from fastlmm_core.options import numbers
from fastlmm_core.reml.information import KINDS

DDF_METHODS = ("kenward-roger", "satterthwaite", "residual", "asymptotic")
KENWARD_ROGER_NEEDS_REML = (
    "Kenward-Roger is defined for REML fits; fit with reml=True or ask for ddf='satterthwaite'"
)
NO_VARIANCE = "no residual variance: nothing to test against"
# Of a test that rests on effects which lie within the fixed part.
NO_ERROR = "the data do not tell its error: random effects or residuals lie within the fixed part"


@dataclass(frozen=True, repr=False)
class LinearFunctions(Displayed):
    """Estimates of r linear functions with everything their inference needs.

    Attributes
    ----------
    estimate : (r,) float64
        NaN where not estimable.
    covariances : JointCovariance, DeferredCovariance or RescaledCovariance
        `cov` (r, r), the covariance behind the standard errors, Kenward-Roger adjusted for
        ``ddf="kenward-roger"``, `cov_unadjusted` (r, r), and `gradients` (d + 1, r, r), the derivatives
        of the latter in the variance parameters (none for residual and asymptotic df).
    cov_parameters : (d + 1, d + 1) float64
        Covariance of the variance parameters.
    estimable : (r,) bool
        Of those that are not, a function whose variance alone is not known has an `estimate`.
    null_products : (r, c) csr_array or None
        K times a basis of the directions that the data do not determine, and times those in which they do not
        tell the variance; decides estimability.
    norms : (r,) float64
        What the products are judged against (``Design.null_products``).
    ddf, information : str
    df_residual : float
    unit : float
        Of the response inside (``SolvedEquations.unit``): `cov_parameters` has its fourth power, while
        estimates and covariances are in the units of the response.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
    >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
    >>> functions.estimate.round(2)
    array([251.41, 345.61])
    """

    estimate: np.ndarray
    covariances: RowCovariances
    cov_parameters: np.ndarray
    estimable: np.ndarray
    null_products: sp.csr_array | None
    norms: np.ndarray
    ddf: str
    information: str
    df_residual: float
    raw_estimate: np.ndarray
    unit: float = 1.0

    @property
    def cov(self) -> np.ndarray:
        """Covariance (r, r) behind the standard errors."""
        return self.covariances.joint.adjusted

    @property
    def cov_unadjusted(self) -> np.ndarray:
        """Covariance (r, r) without Kenward and Roger's adjustment."""
        return self.covariances.joint.unadjusted

    @property
    def gradients(self) -> np.ndarray:
        """Derivatives (d + 1, r, r) of `cov_unadjusted` in the variance parameters."""
        return self.covariances.joint.gradients

    def _shown(self) -> Table:
        frame = pd.DataFrame({"estimate": self.estimate, "se": self.se(), "df": self.df()})
        note = f"ddf: {self.ddf}, {self.information} information"
        return Table(frame, "Linear functions K beta", (note,), max_rows=60, all_rows=".estimate")

    def se(self) -> np.ndarray:
        """Standard errors (r,); NaN where not estimable.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
        >>> functions.se().round(3)
        array([ 6.825, 14.629])
        """
        variance = self.covariances.diagonals.adjusted
        return np.where(self.estimable, np.sqrt(np.maximum(variance, 0.0)), np.nan)

    @property
    def without_variance(self) -> bool:
        """The fixed part explains the response, so that no function has a variance: nothing can be tested."""
        return self.estimate.size > 0 and not np.any(self.covariances.diagonals.unadjusted > 0.0)

    def df(self) -> np.ndarray:
        """Degrees of freedom of each row (r,); NaN where not estimable, inf for asymptotic.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
        >>> functions.df().round(2)
        array([17., 17.])
        """
        own = self.covariances.diagonals
        return self.df_of(own.unadjusted, own.gradients, self.estimable)

    def df_of(self, variance: np.ndarray, gradients: np.ndarray, estimable: np.ndarray) -> np.ndarray:
        """Degrees of freedom (c,) of functions with variances (c,) and their gradients (d + 1, c).

        Examples
        --------
        >>> import numpy as np
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> own = fit.linear_functions([[0.0, 1.0]], ddf="satterthwaite")
        >>> gradients = np.einsum("iaa->ia", own.gradients)
        >>> own.df_of(np.diag(own.cov_unadjusted), gradients, own.estimable).round(1)
        array([17.])
        """
        if self.ddf == "asymptotic":
            df = np.full(variance.shape, np.inf)
        elif self.ddf == "residual":
            df = np.full(variance.shape, float(self.df_residual))
        else:
            inside = variance / self.unit / self.unit
            df = satterthwaite.degrees_of_freedom(inside, gradients, self.cov_parameters)
        return np.where(estimable, df, np.nan)

    def combine(self, A: np.ndarray | sp.sparray) -> LinearFunctions:
        """The linear functions A (K beta), A (c, r).

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
        >>> functions.combine([[-1.0, 1.0]]).estimate.round(2)
        array([94.21])
        """
        A = sparse_rows(A) if sp.issparse(A) else dense_rows(A)
        raw = A @ self.raw_estimate
        products = None if self.null_products is None else sp.csr_array(sp.csr_array(A) @ self.null_products)
        norms = abs(A) @ self.norms
        estimable = _is_estimable(products, norms)
        return replace(
            self,
            estimate=np.where(estimable, raw, np.nan),
            raw_estimate=raw,
            covariances=self.covariances.joint.combined(A),
            estimable=estimable,
            null_products=products,
            norms=norms,
        )

    def rescaled(self, value: np.ndarray, slope: np.ndarray) -> LinearFunctions:
        """Functions of each row by the delta method: estimates `value` (r,), derivatives `slope` (r,)."""
        products = self.null_products
        return replace(
            self,
            estimate=np.where(self.estimable, value, np.nan),
            raw_estimate=value,
            covariances=self.covariances.rescaled(slope),
            null_products=None if products is None else sp.csr_array(sp.diags_array(slope) @ products),
            norms=self.norms * np.abs(slope),
        )

    def contrast_statistics(
        self, A: np.ndarray | sp.sparray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Estimate, standard error, df and estimability of each row of A (c, r), without any c x c matrix.

        Rows that cancel, as an interaction in a model without it, are exactly zero and have no df.
        """
        A = sp.csr_array(A)
        estimate = A @ self.raw_estimate
        estimable = self.estimable_among(A)
        variance, unadjusted, gradients = self.covariances.diagonals_of(A)
        df = self.df_of(unadjusted, gradients, estimable)
        largest = abs(A) @ np.sqrt(np.maximum(self.covariances.diagonals.adjusted, 0.0))
        cancels = variance <= CANCELLED * largest**2
        whole = abs(A) @ np.abs(self.raw_estimate)
        estimate = np.where(cancels & (np.abs(estimate) <= CANCELLED * whole), 0.0, estimate)
        return (
            np.where(estimable, estimate, np.nan),
            np.where(estimable, np.sqrt(np.where(cancels, 0.0, variance)), np.nan),
            np.where(cancels, np.nan, df),
            estimable,
        )

    def estimable_among(self, A: sp.sparray) -> np.ndarray:
        """Whether each row of A (c, r), a combination of the functions, is estimable, (c,).

        Examples
        --------
        >>> import scipy.sparse as sp
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
        >>> functions.estimable_among(sp.csr_array([[-1.0, 1.0]]))
        array([ True])
        """
        products = None if self.null_products is None else sp.csr_array(A @ self.null_products)
        return _is_estimable(products, abs(A) @ self.norms)

    def f_test(self, A: np.ndarray | sp.sparray | None = None) -> FTest:
        """Joint test that A (K beta) = 0 (all rows when A is None); dependent and zero rows do not count.

        Kenward-Roger gives the scaled F of pbkrtest, Satterthwaite lmerTest's combination over the
        eigenvectors of the covariance, the others the plain F or chi-square over its degrees of freedom.

        Raises
        ------
        InferenceError
            When a row is not estimable.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))
        >>> functions = fit.linear_functions([[1.0, 0.0], [1.0, 9.0]])
        >>> round(functions.f_test().df_den, 2)
        16.0
        """
        part = self if A is None else self.combine(A)
        if not part.estimable.all():
            words = "a joint test needs estimable functions; drop the rows that are not estimable"
            raise InferenceError(words)
        basis = independent_rows(part.cov_unadjusted, self.ddf == "satterthwaite")
        rank = len(basis)
        if rank == 0:
            return FTest(np.nan, 0, np.nan, np.nan)
        part = part.combine(basis)
        scaling = 1.0
        if self.ddf == "satterthwaite":
            F, df = part._satterthwaite_f()
        else:
            F = float(part.estimate @ np.linalg.solve(part.cov, part.estimate)) / rank
            if self.ddf == "kenward-roger":
                inside = part.cov_unadjusted / self.unit / self.unit
                df, scaling = kenward_roger.scaled_f(part.gradients, inside, self.cov_parameters)
                F *= scaling
            else:
                df = np.inf if self.ddf == "asymptotic" else float(self.df_residual)
        return FTest(F, rank, float(df), f_upper(F, rank, df), scaling)

    def _satterthwaite_f(self) -> tuple[float, float]:
        variance = np.diag(self.cov_unadjusted)
        df = self.df_of(variance, np.einsum("iaa->ia", self.gradients), self.estimable)
        F = float(np.mean(self.estimate**2 / variance))
        return F, satterthwaite.combine_degrees_of_freedom(df)


def dense_rows(K: Any) -> np.ndarray:
    """Rows K (r, p) as a dense array, from a sparse one, a matrix or a single row.

    Raises
    ------
    OptionError
        When a number of K is missing or infinite.
    """
    rows = K.toarray() if sp.issparse(K) else np.atleast_2d(numbers("K", K))
    _check_finite(rows, lambda at: at // rows.shape[1])
    return rows


def sparse_rows(K: sp.sparray) -> sp.csr_array:
    """Sparse rows K (r, p) in compressed rows; raises as ``dense_rows``."""
    rows = sp.csr_array(K)
    _check_finite(rows.data, lambda at: int(np.searchsorted(rows.indptr, at, side="right")) - 1)
    return rows


def _check_finite(values: np.ndarray, row_of: Callable[[int], int]) -> None:
    """Refuse numbers of K that are missing or infinite; `row_of` says in which row the k-th value is."""
    if not np.isfinite(values).all():
        row = row_of(int(np.argmax(~np.isfinite(values))))
        raise OptionError(
            f"K has a number that is missing or infinite, the first in row {row} (counted from 0)"
        )


def _is_estimable(null_products: sp.csr_array | None, norms: np.ndarray) -> np.ndarray:
    if null_products is None or null_products.shape[1] == 0:
        return np.ones(norms.shape, bool)
    largest = abs(null_products).max(axis=1).toarray().ravel()
    return np.asarray(largest <= ESTIMABLE * np.maximum(norms, 1e-300))


def _with_untold(
    K: np.ndarray | sp.csr_array, shares: np.ndarray, products: sp.csr_array | None, norms: np.ndarray
) -> tuple[sp.csr_array | None, np.ndarray]:
    """Products and norms that also tell functions K (r, p) whose variance the data do not tell.

    Columns K M of `shares` M (p, c) beside those of the null space.
    """
    if not shares.shape[1]:
        return products, norms
    added, size = np.asarray(K @ shares), np.asarray(abs(K) @ np.abs(shares))
    added[np.abs(added) <= ESTIMABLE * size] = 0.0
    parts = [sp.csr_array(added)] if products is None else [products, sp.csr_array(added)]
    return sp.csr_array(sp.hstack(parts)), np.maximum(norms, np.max(size, axis=1))


# Variance, relative to what it could be without covariances, that is rounding.
CANCELLED = 16.0 * np.finfo(float).eps

def linear_functions(
    inference: ParameterInference,
    K: np.ndarray | sp.sparray,
    *,
    kept: np.ndarray,
    null_products: sp.csr_array | None,
    norms: np.ndarray,
    ddf: str,
    information: str,
    df_residual: float,
    second_derivatives: bool = False,
) -> LinearFunctions:
    """Estimates and inference of the rows K (r, p_full) in the columns of the full coding.

    Parameters
    ----------
    kept : (p,) int64
        Columns that were not dropped.
    null_products, norms : (r, c) csr_array or None, (r,)
        From ``Design.null_products``; None when every row is a coefficient that was kept.

    Raises
    ------
    InferenceError
        Kenward-Roger asked of an ML fit, or an information matrix that does not invert.
    OptionError
        Unknown `ddf` or `information`.
    """
    check_option("ddf", ddf, DDF_METHODS)
    check_option("information", information, KINDS)
    solved = inference.solved
    if ddf == "kenward-roger" and not solved.reml:
        raise InferenceError(KENWARD_ROGER_NEEDS_REML)
    own = (sparse_rows(K) if sp.issparse(K) else dense_rows(K))[:, kept]
    adjusting = Adjusting(ddf, information, second_derivatives)
    cov_parameters = inference.covariance(ddf, information) if adjusting.uncertain else np.zeros((0, 0))
    has_estimate = _is_estimable(null_products, norms)
    null_products, norms = _with_untold(own, inference.untold_shares, null_products, norms)
    estimable = _is_estimable(null_products, norms)
    raw = np.asarray(own @ (solved.equations.to_user @ solved.beta)) * solved.unit
    return LinearFunctions(
        estimate=np.where(has_estimate, raw, np.nan),
        covariances=covariances_of_rows(inference, own, adjusting),
        cov_parameters=cov_parameters,
        estimable=estimable,
        null_products=null_products,
        norms=norms,
        ddf=ddf,
        information=information,
        df_residual=df_residual,
        raw_estimate=raw,
        unit=solved.unit,
    )
