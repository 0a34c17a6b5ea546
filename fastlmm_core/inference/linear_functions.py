"""Linear functions K beta of the fixed effects: estimates, covariance, degrees of freedom, joint tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.rendering import Table
from fastlmm_core.engine.information import StructureInference
from fastlmm_core.errors import InferenceError, OptionError, check_option
from fastlmm_core.inference import kenward_roger, satterthwaite
from fastlmm_core.inference.distributions import f_upper
from fastlmm_core.inference.f_test import FTest
from fastlmm_core.inference.row_covariances import independent_rows, row_quadratic
from fastlmm_core.inference.variance_parameters import VarianceParameterInference
from fastlmm_core.kernels.thresholds import ESTIMABLE
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.options import numbers
from fastlmm_core.reml.information import KINDS

DDF_METHODS = ("kenward-roger", "satterthwaite", "residual", "asymptotic")
KENWARD_ROGER_NEEDS_REML = (
    "Kenward-Roger is defined for REML fits; fit with reml=True or ask for ddf='satterthwaite'"
)
NO_VARIANCE = "no residual variance: nothing to test against"

ParameterInference = VarianceParameterInference | StructureInference


@dataclass(frozen=True, repr=False)
class LinearFunctions(Displayed):
    """Estimates of r linear functions with everything their inference needs.

    Attributes
    ----------
    estimate : (r,) float64
        NaN where not estimable.
    cov : (r, r) float64
        Covariance behind the standard errors, Kenward-Roger adjusted for ``ddf="kenward-roger"``.
    cov_unadjusted : (r, r) float64
    gradients : (d + 1, r, r) float64
        Derivatives of `cov_unadjusted` in the variance parameters (none for residual and asymptotic df).
    cov_parameters : (d + 1, d + 1) float64
        Covariance of the variance parameters.
    estimable : (r,) bool
    null_products : (r, c) csr_array or None
        K times a basis of the directions that the data do not determine; decides estimability.
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
    cov: np.ndarray
    cov_unadjusted: np.ndarray
    gradients: np.ndarray
    cov_parameters: np.ndarray
    estimable: np.ndarray
    null_products: sp.csr_array | None
    norms: np.ndarray
    ddf: str
    information: str
    df_residual: float
    raw_estimate: np.ndarray
    unit: float = 1.0

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
        return np.where(self.estimable, np.sqrt(np.maximum(np.diag(self.cov), 0.0)), np.nan)

    @property
    def without_variance(self) -> bool:
        """The fixed part explains the response, so that no function has a variance: nothing can be tested."""
        return self.estimate.size > 0 and not np.any(np.diag(self.cov_unadjusted) > 0.0)

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
        gradients = np.einsum("iaa->ia", self.gradients)
        return self.df_of(np.diag(self.cov_unadjusted), gradients, self.estimable)

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
        A = dense_rows(A)
        raw = A @ self.raw_estimate
        products = None if self.null_products is None else sp.csr_array(sp.csr_array(A) @ self.null_products)
        norms = np.abs(A) @ self.norms
        estimable = _is_estimable(products, norms)
        return replace(
            self,
            estimate=np.where(estimable, raw, np.nan),
            raw_estimate=raw,
            cov=A @ self.cov @ A.T,
            cov_unadjusted=A @ self.cov_unadjusted @ A.T,
            gradients=A @ self.gradients @ A.T,
            estimable=estimable,
            null_products=products,
            norms=norms,
        )

    def rescaled(self, value: np.ndarray, slope: np.ndarray) -> LinearFunctions:
        """Functions of each row by the delta method: estimates `value` (r,), derivatives `slope` (r,)."""
        products = self.null_products
        both = np.outer(slope, slope)
        return replace(
            self,
            estimate=np.where(self.estimable, value, np.nan),
            raw_estimate=value,
            cov=self.cov * both,
            cov_unadjusted=self.cov_unadjusted * both,
            gradients=self.gradients * both,
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
        variance = row_quadratic(A, self.cov)
        unadjusted = variance if self.cov is self.cov_unadjusted else row_quadratic(A, self.cov_unadjusted)
        gradients = np.array([row_quadratic(A, g) for g in self.gradients]).reshape(-1, A.shape[0])
        df = self.df_of(unadjusted, gradients, estimable)
        largest = abs(A) @ np.sqrt(np.maximum(self.cov.diagonal(), 0.0))
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
    if not np.isfinite(rows).all():
        row = int(np.argmax(~np.isfinite(rows).all(axis=1)))
        raise OptionError(
            f"K has a number that is missing or infinite, the first in row {row} (counted from 0)"
        )
    return rows


def _is_estimable(null_products: sp.csr_array | None, norms: np.ndarray) -> np.ndarray:
    if null_products is None or null_products.shape[1] == 0:
        return np.ones(norms.shape, bool)
    largest = abs(null_products).max(axis=1).toarray().ravel()
    return np.asarray(largest <= ESTIMABLE * np.maximum(norms, 1e-300))


# Variance, relative to what it could be without covariances, that is rounding.
CANCELLED = 16.0 * np.finfo(float).eps

# Rows of one block where only figures of single rows are asked for.
ROW_BLOCK = 256


def row_statistics(
    inference: ParameterInference, K: sp.csr_array, **options: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, standard error and df of each row of K (r, p_full), streamed: no r x r array is formed.

    `options` as of `linear_functions`, for rows that are all estimable.
    """
    parts = []
    for first in range(0, K.shape[0], ROW_BLOCK):
        rows = K[first : first + ROW_BLOCK]
        block = linear_functions(inference, rows, null_products=None, norms=np.ones(rows.shape[0]), **options)
        parts.append((block.estimate, block.se(), block.df()))
    if not parts:  # a model without fixed effects, y ~ 0 + (1|g)
        return np.empty(0), np.empty(0), np.empty(0)
    estimate, se, df = (np.concatenate(column) for column in zip(*parts, strict=True))
    return estimate, se, df


def _check_memory(inference: ParameterInference, r: int, ddf: str) -> None:
    """Refuse joint inference on so many functions that their covariance and its derivatives will not fit."""
    derivatives = inference.n_parameters if ddf in ("kenward-roger", "satterthwaite") else 0
    needed = 8 * (r * r * (derivatives + 4) + 4 * r * inference.n_rows)
    if needed > 10**9:
        check_memory(needed, None, f"joint inference ({ddf}) on {r} functions of the fixed effects")


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
    _check_memory(inference, K.shape[0], ddf)
    K = dense_rows(K)
    estimable = _is_estimable(null_products, norms)
    inside = np.asarray((solved.equations.to_user.T @ K[:, kept].T).T)
    B: Any
    B, phi_K = solved.solve_fixed(inside)
    phi = inside @ phi_K
    phi = 0.5 * (phi + phi.T)
    raw = inside @ solved.beta * solved.unit
    unadjusted = solved.sigma2 * phi
    r = K.shape[0]
    gradients, cov_parameters, cov = np.zeros((0, r, r)), np.zeros((0, 0)), unadjusted
    if ddf in ("kenward-roger", "satterthwaite"):
        gradients = inference.gradients(ddf, information, B, phi)
        cov_parameters = inference.covariance(ddf, information)
        if ddf == "kenward-roger":
            cov = unadjusted + inference.adjustment(information, B, gradients, second_derivatives)
    if solved.unit != 1.0:
        square = solved.unit * solved.unit
        cov, unadjusted = cov * square, unadjusted * square
    return LinearFunctions(
        estimate=np.where(estimable, raw, np.nan),
        cov=cov,
        cov_unadjusted=unadjusted,
        gradients=gradients,
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
