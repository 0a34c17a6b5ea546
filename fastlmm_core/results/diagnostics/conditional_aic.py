"""Conditional AIC: how well a fit would predict the same levels again, by its effective degrees of freedom.

    caic = -2 log f(y | u_hat, b_hat) + 2 df,        df = sum_i d y_hat_i / d y_i + residual parameters

At known variances the sum is tr(H), H the hat matrix of fixed and random effects (Vaida & Blanchard 2005,
Biometrika 92, 351-370). Estimates of the variances follow y, too; with f_t = V_t P y, R_t = dR / dt and W the
inverse of half the second derivatives of the criterion, what they add is exactly

    sum_tu (R P f_t - R_t P y)' P f_u W_tu

(Greven & Kneib 2010, Biometrika 97, 773-789, in the parameters of any structure, for REML and ML), the slope
that refits to moved responses show. cAIC4 1.1 takes half of what sigma adds (31.30 in place of 31.25 degrees
of freedom for the slopes of sleepstudy). Parameters at a bound stay there and add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.results.components.variance_directions import variance_directions
from fastlmm_core.results.diagnostics.observation_rows import ObservationRows, observation_rows

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

CORRECTIONS = ("estimated", "known", "vaida-blanchard")


@dataclass(frozen=True, repr=False)
class ConditionalAIC(Displayed):
    """Conditional AIC of a fit.

    Attributes
    ----------
    caic : float
    loglik : float
        log f(y | u_hat, b_hat), with the estimated variances.
    df : float
        What counts twice in `caic`, the parameters of the residual included.
    rho : float
        tr(H).
    correction : str

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> found = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy")).conditional_aic()
    >>> round(found.df, 2), found.correction
    (31.25, 'estimated')
    """

    caic: float
    loglik: float
    df: float
    rho: float
    correction: str

    def _shown(self) -> str:
        return (
            f"Conditional AIC {self.caic:.4f}: log-likelihood {self.loglik:.4f}, {self.df:.3f} degrees of "
            f"freedom (tr(H) = {self.rho:.3f}), correction {self.correction}"
        )


def conditional_aic(fit: FixedPart, correction: str) -> ConditionalAIC:
    """See ``LMMFit.conditional_aic``."""
    check_option("correction", correction, CORRECTIONS)
    rows = observation_rows(fit)
    if not rows.scale > 0.0:
        raise InferenceError("the model fits the response exactly: it has no likelihood to compare by")
    if isinstance(fit.solved, StructuredSolution) and fit.solved.residual_singular:
        raise InferenceError(
            "the residual variance is zero: given the random effects the response has no likelihood to "
            "compare by; leave out the term that takes its place, or the residual beside it (no nugget)"
        )
    loglik, rho = conditional_loglik(fit, rows), float(rows.leverages.sum())
    if correction == "vaida-blanchard":
        df = finite_sample_df(rho, fit)
    else:
        df = rho + residual_parameters(fit)
        if correction == "estimated":
            df += estimation_df(fit, rows)
    return ConditionalAIC(-2.0 * loglik + 2.0 * df, loglik, df, rho, correction)


def conditional_loglik(fit: FixedPart, rows: ObservationRows) -> float:
    """Of the response given random effects, at the estimates."""
    solved, e = fit.solved, rows.residual
    if isinstance(solved, StructuredSolution):
        own = solved.equations
        log_R = own.residual.log_determinant(solved.theta[own.slices[1]])[0]
        if own.rotation is not None:
            log_R -= 2.0 * float(np.sum(np.log(own.rotation.root)))
        if own.residual.n_missing:  # |R| of the rows observed is that of all by |R^-1| of the missing ones
            log_R += sparse_log_determinant(rows.precision[rows.n :, rows.n :])
    else:
        log_R = -float(solved.equations.log_weights)
    square = float(e @ (rows.precision @ e)) / rows.scale
    return -0.5 * (fit.nobs * float(np.log(2.0 * np.pi * rows.scale)) + log_R + square)


def sparse_log_determinant(A: sp.csr_array) -> float:
    """log |A| of a positive definite matrix."""
    from scipy.sparse.linalg import splu

    return float(np.sum(np.log(np.abs(splu(sp.csc_array(A)).U.diagonal()))))


def residual_parameters(fit: FixedPart) -> int:
    """Parameters of R that were estimated."""
    solved = fit.solved
    if isinstance(solved, StructuredSolution):
        return int(solved.free[solved.equations.slices[1]].sum())
    return 1


def finite_sample_df(rho: float, fit: FixedPart) -> float:
    """Vaida & Blanchard's figure for an unknown sigma2 and known ratios, for REML and ML.

    Raises
    ------
    InferenceError
        Where the residual is more than one variance, or there are too few observations.
    """
    n, p = fit.nobs, fit.rank
    if not fit.design.residual.is_plain or residual_parameters(fit) != 1:
        raise InferenceError(
            "correction='vaida-blanchard' is for one residual variance; use 'estimated' or 'known'"
        )
    if n - p <= 2:
        raise InferenceError(f"correction='vaida-blanchard' needs n > p + 2, not {n} observations, p = {p}")
    if fit.reml:
        return ((n - p - 1) * (rho + 1) + p + 1) / (n - p - 2)
    return n * ((n - p - 1) * (rho + 1) + p + 1) / ((n - p) * (n - p - 2))


def estimation_df(fit: FixedPart, rows: ObservationRows) -> float:
    """What the estimation of the variance parameters adds to tr(H)."""
    directions, weights = variance_directions(fit), parameter_weights(fit)
    if not directions.size:
        return 0.0
    full = np.asarray(rows.precision @ rows.residual)[:, None]
    moved = directions.multiply_all(full)[:, :, 0].T
    own = moved * directions.of_residual
    projected = rows.project(moved)
    left = moved - rows.matrix @ rows.factor.solve(np.ascontiguousarray(rows.transposed @ moved)) - own
    return float(np.sum(weights * (left.T @ projected))) / rows.scale


def parameter_weights(fit: FixedPart) -> np.ndarray:
    """Inverse (t, t) of half the second derivatives of the criterion, parameters relative to the scale.

    A variance of zero has no direction in this covariance.
    """
    inference = fit._inference
    if isinstance(inference, StructureInference):
        if not inference.n_parameters:
            return np.zeros((0, 0))
        return inference.covariance("satterthwaite", "observed")
    return inference.covariance("satterthwaite", "observed") / inference.solved.sigma2**2
