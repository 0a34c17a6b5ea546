"""Functions of fixed and random effects together: predictions k'b + m'u and the covariance of their errors.

For C the coefficient matrix of Henderson's equations and w = (k, m), the error of w'(b, u) has the variance
v = w' C^-1 w (Henderson 1975, Biometrics 31, 423-447).  With c = C^-1 w it depends on a parameter t as

    dv / dt = (W c)' R^-1 dR R^-1 (W c) + c_u' G^-1 dG G^-1 c_u,

which is U' V_t U of Kenward & Roger (1997) for functions of b alone, and formed by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.information.direction_products import covariance_gradients as structured_gradients
from fastlmm_core.engine.information.parameter_covariance import StructureInference
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.inference import kenward_roger
from fastlmm_core.linalg.memory import check_memory

if TYPE_CHECKING:
    from fastlmm_core.results.fixed_part import FixedPart

# Functions whose solutions are formed together.
BLOCK = 256


@dataclass(frozen=True)
class EffectFunctions:
    """r functions of the effects of one fit.

    Attributes
    ----------
    fit : FixedPart
    unknowns : (unknowns, r) csc_array
        Coefficients on the unknowns inside the equations.
    """

    fit: FixedPart
    unknowns: sp.csc_array

    @property
    def size(self) -> int:
        return int(self.unknowns.shape[1])

    def estimate(self) -> np.ndarray:
        """BLUEs and BLUPs (r,), units of the response; without the offset."""
        solved = self.fit.solved
        if isinstance(solved, StructuredSolution):
            values = solved.point.coefficients[:, 0] * solved.response.scale
            values[solved.equations.natural.fixed] += solved.response.beta_start
            return np.asarray(self.unknowns.T @ values)
        values = solved.coefficients.copy()
        values[solved.equations.layout.fixed_rows] = solved.beta
        return np.asarray(self.unknowns.T @ values) * solved.unit

    def covariance(self) -> np.ndarray:
        """Covariance (r, r) of the prediction errors, in squares of the units of the response."""
        out = np.empty((self.size, self.size))
        check_memory(2 * out.nbytes, None, f"the covariance of {self.size} predictions")
        for first in range(0, self.size, BLOCK):
            part = slice(first, first + BLOCK)
            _, natural = self._solve(self.unknowns[:, part])
            out[:, part] = self.unknowns.T @ natural
        return np.asarray(self.fit.solved.user_sigma2 * 0.5 * (out + out.T))

    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances (r,) of the errors and their derivatives (t, r) in the parameters of the fit.

        The parameters are those of ``component_rows``, whose slopes stand in the same ones.
        """
        values, gradients = [], []
        for first in range(0, self.size, BLOCK):
            own = self.unknowns[:, first : first + BLOCK]
            value, gradient = self._differentiated(own)
            values.append(value)
            gradients.append(gradient)
        return np.concatenate(values), np.concatenate(gradients, axis=1)

    def _solve(self, unknowns: sp.csc_array) -> tuple[object, np.ndarray]:
        solved = self.fit.solved
        if isinstance(solved, StructuredSolution):
            return solved.solve_functions(unknowns.toarray())
        return solved.solve_functions(unknowns)

    def _differentiated(self, unknowns: sp.csc_array) -> tuple[np.ndarray, np.ndarray]:
        solved, inference = self.fit.solved, self.fit._inference
        if isinstance(solved, StructuredSolution):
            assert isinstance(inference, StructureInference)
            rows, natural = solved.solve_functions(unknowns.toarray())
            gradients = np.zeros((solved.theta.size, unknowns.shape[1], unknowns.shape[1]))
            gradients[solved.free] = solved.sigma2 * structured_gradients(solved, inference.chart, rows)
            value = np.asarray(unknowns.multiply(natural).sum(axis=0))
        else:
            assert not isinstance(inference, StructureInference)
            projected, natural = solved.solve_functions(unknowns)
            value = np.asarray(unknowns.multiply(natural).sum(axis=0))
            gradients = kenward_roger.covariance_gradients(
                solved, inference.parameters, projected, np.diag(value)
            )
        return solved.user_sigma2 * value, np.einsum("tii->ti", gradients)


def effect_functions(
    fit: FixedPart, fixed: sp.csr_array | None, random: dict[int, list[sp.csr_array]] | None = None
) -> EffectFunctions:
    """Functions of the effects as the user wrote them.

    Parameters
    ----------
    fit : FixedPart
    fixed : (r, p_full) csr_array or None
        Rows in the columns of ``fit.coef_names``, estimable ones.
    random : dict of int to list of (r, L) csr_array
        By random term, for each of its m coefficients the weights of its levels.
    """
    solved, random = fit.solved, random or {}
    r = next(iter(random.values()))[0].shape[0] if fixed is None else fixed.shape[0]
    e = solved.equations
    inside = sp.csr_array((r, fit.rank)) if fixed is None else fixed[:, fit.design.kept] @ e.to_user
    if isinstance(e, StructuredEquations):
        total, places = sp.csc_array(e.unknowns_of(sp.csr_array(inside).toarray())), e.natural.rows
    else:
        own, places = sp.coo_array(inside), e.layout.random_rows
        total = sp.csc_array((own.data, (e.layout.fixed_rows[own.col], own.row)), shape=(e.q + e.p, r))
    for k, weights in random.items():
        term, rows = e.terms[k], places[k]
        root = getattr(term, "root", None)
        for c in range(rows.shape[1]):
            part = sp.csr_array((r, weights[0].shape[1]))
            for a, own_weights in enumerate(weights):
                if term.basis[a, c] != 0.0:
                    part = part + float(term.basis[a, c]) * own_weights
            part = sp.coo_array(part if root is None else part @ root)
            at = (rows[part.col, c], part.row)
            total = total + sp.csc_array((part.data, at), shape=total.shape)
    return EffectFunctions(fit, sp.csc_array(total))
