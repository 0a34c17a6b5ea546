"""Variance parameters in which a covariance structure is written, where the covariance is not linear in them.

The engine works with the natural parameters g = (sigma2 t, sigma2), in which V is linear: V = sum_k g_k V_k.
A structure with ``linear = False`` has parameters s of its own (variances and correlations, say), g = g(s),
J = dg/ds, H_k = d2 g_k / ds ds'. By the chain rule dV/ds_i = sum_k J_ki V_k and
d2V/ds_i ds_j = sum_k H_kij V_k, so that all that Kenward & Roger (1997, Biometrics 53:983) need comes from
what is there for the V_k:

    information about s      J' I J - sum_k (dl/dg_k) H_k   (the second part for observed information only)
    their covariance in g    J W J', W the inverse of that
    sum_ij W_ij R_ij         X'V^-1 (sum_k c_k V_k) V^-1 X,   c_k = sum_ij W_ij H_kij
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.errors import InferenceError
from fastlmm_core.reml.information import NaturalParameters, traces
from fastlmm_core.reml.solved import SolvedEquations

# Singular values of J, its columns of norm 1, below this belong to parameters that the covariance forgets.
UNDEFINED = 1e-8


@dataclass(frozen=True)
class OwnParameters:
    """Natural parameters as functions of the structures' own ones, at the estimates.

    Attributes
    ----------
    jacobian : (d + 1, s + 1) float64
        d(sigma2 t, sigma2) / d(own parameters, sigma2).
    hessian : (d, s, s) float64
        Second derivatives of sigma2 t in the own parameters.
    """

    jacobian: np.ndarray
    hessian: np.ndarray

    def information(self, natural: np.ndarray, score: np.ndarray | None) -> np.ndarray:
        """Information about the own parameters and sigma2, (s + 1, s + 1).

        Parameters
        ----------
        natural : (d + 1, d + 1)
            Information about (sigma2 t, sigma2).
        score : (d,) or None
            Score of sigma2 t for observed information. It is zero at an optimum in all natural parameters,
            not at one under fewer own parameters, nor on the boundary.
        """
        out = self.jacobian.T @ natural @ self.jacobian
        if score is not None:
            out[:-1, :-1] -= np.einsum("k,kij->ij", score, self.hessian)
        return out

    def curvature(self, covariance: np.ndarray) -> np.ndarray:
        """sum_ij W_ij d2(sigma2 t_k) / ds_i ds_j, (d,), for the own parameters' covariance (s + 1, s + 1)."""
        return np.einsum("ij,kij->k", covariance[:-1, :-1], self.hessian)


def own_parameters(
    solved: SolvedEquations, parameters: NaturalParameters, groups: tuple[str, ...]
) -> OwnParameters | None:
    """The own parameters of all terms; None where every structure is linear in them.

    Raises
    ------
    InferenceError
        Where the covariance does not depend on one of them at the estimates (a correlation beside a variance
        of zero): there is no information about it.
    """
    terms = solved.equations.terms
    if all(term.structure.linear for term in terms):
        return None
    blocks = [_of_term(solved, parameters, k, groups[k]) for k in range(len(terms))]
    d, s = parameters.size, sum(jacobian.shape[1] for jacobian, _ in blocks)
    J, H, at = np.zeros((d + 1, s + 1)), np.zeros((d, s, s)), 0
    for k, (jacobian, hessian) in enumerate(blocks):
        mine, own = np.flatnonzero(parameters.term == k), np.arange(at, at + jacobian.shape[1])
        J[np.ix_(mine, own)] = jacobian
        H[np.ix_(mine, own, own)] = hessian
        at += own.size
    J[d, s] = 1.0
    return OwnParameters(J, H)


def _of_term(
    solved: SolvedEquations, parameters: NaturalParameters, k: int, group: str
) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivatives (d_k, s_k), (d_k, s_k, s_k) of one term's sigma2 t."""
    term = solved.equations.terms[k]
    directions = parameters.directions[parameters.term == k][:, : term.m, : term.m]
    if term.structure.linear:  # its variances and covariances serve as they are
        return np.eye(len(directions)), np.zeros((len(directions),) * 3)
    covariance = solved.sigma2 * solved.user_covariance(k)
    first = term.structure.parameter_jacobian(covariance)
    second = term.structure.parameter_hessian(covariance)
    back = np.linalg.inv(term.basis)
    place = tuple(np.array([np.argwhere(E)[0] for E in directions]).T)
    jacobian = (back @ first @ back.T)[:, *place].T
    hessian = np.moveaxis((back @ second @ back.T)[:, :, *place], -1, 0)
    size = np.linalg.norm(jacobian, axis=0)
    scaled = np.divide(jacobian, size, out=np.zeros_like(jacobian), where=size > 0.0)
    defined = np.isfinite(jacobian).all() and np.isfinite(hessian).all()
    if not defined or np.linalg.svd(scaled, compute_uv=False)[-1] < UNDEFINED:
        raise InferenceError(
            f"the covariance of random term '{group}' does not determine all parameters of its structure "
            f"'{term.structure.name}' at this fit; use one that is linear in its parameters, such as us"
        )
    return jacobian, hessian


def natural_score(solved: SolvedEquations, parameters: NaturalParameters) -> np.ndarray:
    """d log-likelihood / d(sigma2 t), (d,): half of y'P V_k P y - tr(P V_k), absolute scale."""
    quadratic = np.empty(parameters.size)
    for k, rows in enumerate(solved.equations.layout.random_rows):
        products = solved.projected[rows].T @ solved.projected[rows]
        m = len(products)
        for j in np.flatnonzero(parameters.term == k):
            quadratic[j] = np.sum(products * parameters.directions[j][:m, :m])
    s2 = solved.sigma2
    return 0.5 * (quadratic / s2**2 - traces(solved, parameters) / s2)
