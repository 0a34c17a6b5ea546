"""The structured equations at the estimates: estimates, solves, and what inference reads from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastlmm_core.engine.equations.confounding import (
    Confounded,
    count_untold,
    fixed_shares,
    flat_parameters,
    flat_residuals,
    groups_of_one_row,
    split_whole,
)
from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.factorized import FactorizedModel, FixedRows
from fastlmm_core.engine.information.observed_information import second_derivatives
from fastlmm_core.engine.objective import evaluate
from fastlmm_core.engine.search.optimum import StructuredOptimum
from fastlmm_core.kernels.equations.assembly import multiply_symmetric
from fastlmm_core.kernels.equations.piece_products import find_entries
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.structures.residuals.base import ResidualGroup


@dataclass(frozen=True)
class StructuredResponse:
    """The response behind a solution.

    Attributes
    ----------
    y : (n,)
        Response less offset.
    beta_start : (p,)
        Inside least squares coefficients taken out of it.
    residual : (n,)
        y - X beta_start.
    scale : float
        Root mean square of the residual, which the engine works in.
    """

    y: np.ndarray
    beta_start: np.ndarray
    residual: np.ndarray
    scale: float


class StructuredSolution(FactorizedModel):
    """Estimates of a model with any structures.

    Everything inside is in units of `response.scale`; `sigma2` is its square, by which covariances of the
    inside are multiplied.
    """

    def __init__(
        self, equations: StructuredEquations, factor: CholeskyFactor, response: StructuredResponse,
        optimum: StructuredOptimum, reml: bool,
    ):  # fmt: skip
        super().__init__(equations, factor, optimum.point, optimum.free, reml)
        self.response, self.optimum = response, optimum
        self.sigma2 = self.user_sigma2 = response.scale**2
        self.unit = 1.0  # the estimates below are in the user's units already
        self.dof = equations.n - equations.p if reml else equations.n

    @property
    def criterion(self) -> float:
        """-2 log-likelihood, restricted for REML, on lme4's scale."""
        value = self.point.deviance + self.dof * float(np.log(self.sigma2))
        if self.reml:
            value += 2.0 * self.equations.coding.log_scale
        return value

    @property
    def linear(self) -> bool:
        """Every structure is linear in its variance parameters."""
        e = self.equations
        terms = all(t.structure.linear for t in e.terms if t.structure.n_theta)
        return terms and e.residual.linear and not any(t.n_level_theta for t in e.terms)

    @property
    def n_parameters(self) -> int:
        """Variance parameters that were estimated, as information criteria count them.

        Loadings beyond the variances and covariances of the coefficients are no more parameters than these,
        and those of which the data say nothing none.
        """
        e, count = self.equations, 0
        within = self.confounded
        for k, (term, (own, level)) in enumerate(zip(e.terms, e.slices[0], strict=True)):
            if k in within.terms:
                continue
            told = min(term.structure.n_par, term.structure.n_elements)
            count += told if self.free[own].any() else 0
            count += int(self.free[level].sum())
        untold = count_untold(e.terms, within.parts, self.confounded_groups)
        return count + int(self.free[e.slices[1]].sum()) - untold

    @cached_property
    def within_fixed(self) -> dict[int, np.ndarray]:
        """Effects within the fixed part, by random term that is not held: REML knows nothing of them."""
        e = self.equations
        if not self.reml:
            return {}
        free = [bool(self.free[own].any() or self.free[level].any()) for own, level in e.slices[0]]
        return {k: N for k, N in e.within_fixed.items() if free[k]}

    @cached_property
    def confounded_groups(self) -> tuple[ResidualGroup, ...]:
        """Groups of the residual, not held, whose rows the fixed part explains by themselves."""
        e = self.equations
        free = self.free[e.slices[1]]
        found = (own for own in e.groups_within_fixed if free[own.own].any())
        return tuple(own for own in found if self.reml or not own.rows.size)

    @cached_property
    def single_rows(self) -> tuple[ResidualGroup, ...]:
        """Groups of the residual, not held, whose variance rests on one row, not explained by itself."""
        free = self.free[self.equations.slices[1]]
        told = {(own.label, own.own.start) for own in self.confounded_groups}
        return tuple(
            own for own in groups_of_one_row(self.equations.residual)
            if free[own.own].any() and (own.label, own.own.start) not in told
        )  # fmt: skip

    @property
    def confounded(self) -> Confounded:
        """What of the random part lies within the fixed part."""
        return split_whole(self.within_fixed, self.equations.terms)

    @cached_property
    def untold_shares(self) -> np.ndarray:
        """M (p, c) in the user's fixed effects: functions K with K M other than 0 have no known variance."""
        e = self.equations
        within, groups = self.within_fixed, self.confounded_groups
        if not within and not groups:
            return np.zeros((e.p, 0))
        regression = e.regression(np.ones(e.n))
        return np.asarray(e.to_user @ fixed_shares(regression, e.terms, e.effects_on_rows, within, groups))

    @cached_property
    def untold_parameters(self) -> np.ndarray:
        """Directions (j, n_theta) of theta along which the restricted likelihood does not change."""
        e = self.equations
        of_terms = flat_parameters(e.terms, e.slices[0], self.theta, self.within_fixed)
        own = e.slices[1]
        of_rows = flat_residuals(self.confounded_groups, self.theta[own]) @ np.eye(e.n_theta)[own]
        return np.vstack([of_terms, of_rows])

    @property
    def residual_variance(self) -> float:
        """The variance of the residual; NaN where it has several."""
        blocks = self.equations.residual.blocks(self.theta[self.equations.slices[1]])
        if len(blocks) > 1 or len(blocks[0]["T"]) > 1:
            return np.nan
        return self.sigma2 * float(blocks[0]["T"][0, 0])

    @cached_property
    def residual_singular(self) -> bool:
        """A residual variance, or a covariance of visits, is at its bound."""
        residual, own = self.equations.residual, self.theta[self.equations.slices[1]]
        zero = any(not np.any(block["T"]) for block in residual.blocks(own))
        return zero or any(words for _, words in residual.boundary(own))

    @cached_property
    def residual_sd(self) -> np.ndarray:
        """Standard deviation of every residual (n,)."""
        e = self.equations
        variances = self.sigma2 * e.residual.variances(self.theta[e.slices[1]])
        return np.sqrt(variances) if e.rotation is None else np.sqrt(variances) / e.rotation.root

    @property
    def beta(self) -> np.ndarray:
        """Inside fixed coefficients (p,), beside splines as these are defined (see ``null_space``)."""
        return self.beta_beside(())

    def beta_beside(self, terms: Collection[int]) -> np.ndarray:
        """Inside fixed coefficients (p,) for a sum with B w of the splines among the random terms `terms`."""
        own = self.equations.fixed_coefficients(self.point.coefficients, terms)[:, 0]
        return own * self.response.scale + self.response.beta_start

    @property
    def residual(self) -> np.ndarray:
        """y less fixed and random effects (n,)."""
        e, own = self.equations, self.point.residual[: self.equations.n] * self.response.scale
        return own if e.rotation is None else e.rotation.backward(own)

    def random_effects(self, k: int) -> np.ndarray:
        """Predictions of term k, (L, m), in the user's coefficients and levels."""
        term = self.equations.terms[k]
        inside = self.point.coefficients[self.equations.natural.rows[k], 0] @ term.basis.T
        own = inside if term.root is None else term.root @ inside
        return own * self.response.scale

    def covariance(self, k: int) -> np.ndarray:
        """T_k (m, m) in the user's coefficients and units."""
        term = self.equations.terms[k]
        T = term.structure.covariance(self.term_theta(k)[0])
        return self.sigma2 * term.basis @ T @ term.basis.T

    def level_variance(self, k: int) -> np.ndarray:
        """Variance of every user's level relative to T (L,): 1, or 1 + F of a pedigree."""
        term = self.equations.terms[k]
        own = np.ones(term.n_levels) if term.levels is None else term.levels.diagonal(self.term_theta(k)[1])
        return own if term.root is None else np.sum(term.root**2 * own, axis=1)

    @cached_property
    def inverse_subset(self) -> np.ndarray:
        """C^-1 on the pattern of C, all rows."""
        return self.factor.inverse_subset(self.equations.spherical.size)

    def prediction_error(self, k: int) -> np.ndarray:
        """Var(u_hat - u) of every level and coefficient, (L, m), in the user's coefficients."""
        term = self.equations.terms[k]
        Lambda = term.basis @ self.point.loadings[k, : term.m, : term.width]
        if not term.separate:
            return self.sigma2 * np.diagonal(self._level_error(k, Lambda), axis1=1, axis2=2)
        shared, parts = term.width - term.m, []
        for a in range(term.m):
            own = [*range(shared), shared + a]
            parts.append(self._level_error(k, Lambda[[a]][:, own], own)[:, 0, 0])
        return self.sigma2 * np.column_stack(parts)

    def scores(self, k: int, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predictions A s of term k and Var(A s_hat - A s), (L, a) and (L, a, a), for directions A (a, c).

        s are the first c spherical effects of a level, u = Lambda s: with the unit rows of A the scores of
        factors.
        """
        term, own = self.equations.terms[k], range(directions.shape[1])
        rows = self.equations.spherical.rows[k][:, : len(own)]
        inside = self.point.solution[rows, 0] @ directions.T
        values = inside if term.root is None else term.root @ inside
        return values, self._level_error(k, directions, own)

    def _level_error(
        self, k: int, directions: np.ndarray, columns: Sequence[int] | None = None
    ) -> np.ndarray:
        """Blocks A C^-1 A' of every level of term k, (L, a, a), for A (a, c) on some `columns` of s."""
        e = self.equations
        term = e.terms[k]
        rows = e.spherical.rows[k] if columns is None else e.spherical.rows[k][:, list(columns)]
        L, r = rows.shape
        if term.root is not None:
            return self._low_rank_error(k, directions, rows)
        block = np.empty((L, r, r))
        for c in range(r):
            for d in range(c, r):
                at = find_entries(e.indptr, e.indices, rows[:, d], rows[:, c])
                block[:, d, c] = block[:, c, d] = self.inverse_subset[at]
        return np.asarray(directions @ block @ directions.T)

    def conditional_variance(self, k: int, error: np.ndarray | None = None) -> np.ndarray:
        """Var(u | y, beta) of every level (L, m): the prediction error less the part of beta.

        `error` is the `prediction_error`, where it is known already.
        """
        e = self.equations
        pev = self.prediction_error(k) if error is None else error
        if not e.p:
            return pev
        term, half = e.terms[k], self._fixed_half
        Lambda = term.basis @ self.point.loadings[k, : term.m, : term.width]
        part = np.matmul(Lambda, half[e.spherical.rows[k]])
        if term.root is not None:
            part = np.einsum("ld,dap->lap", term.root, part)
        return pev - self.sigma2 * np.sum(part**2, axis=2)

    @cached_property
    def _fixed_half(self) -> np.ndarray:
        """c_I Phi^(-1/2) (q', p): its outer product is what estimating beta adds to C^-1."""
        fixed, phi = self.solve_fixed(np.eye(self.equations.p))
        columns = fixed.spherical
        return np.linalg.solve(np.linalg.cholesky(0.5 * (phi + phi.T)), columns.T).T

    def _low_rank_error(self, k: int, loadings: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Diagonal blocks of (root (x) A) C^-1 (root (x) A)' for A (a, r) on the scalars `rows` (d, r)."""
        e = self.equations
        term = e.terms[k]
        if e.rotation is not None:
            return self._rotated_error(k, loadings, rows)
        d, r = rows.shape
        unit = np.zeros((e.spherical.size, d * r))
        unit[rows.ravel(), np.arange(d * r)] = 1.0
        block = self.factor.solve(unit)[rows.ravel()].reshape(d, r, d, r)
        assert term.root is not None
        half = (term.root @ block.reshape(d, -1)).reshape(-1, r, d, r)
        return np.einsum("lces,le,ac,bs->lab", half, term.root, loadings, loadings, optimize=True)

    def _rotated_error(self, k: int, loadings: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The same where the levels of C have blocks of their own, but for the fixed columns."""
        e, point = self.equations, self.point
        term, every = e.terms[k], e.spherical.rows[k]
        assert term.root is not None
        Lambda, square = (
            point.loadings[k, : term.m, : term.width],
            point.G[e.natural.indptr[e.natural.rows[k]]],
        )
        own = np.linalg.inv(np.einsum("la,ac,ad->lcd", square, Lambda, Lambda) + np.eye(term.width))
        at = np.argmax(every[0] == rows[0][:, None], axis=1)
        own = loadings @ own[:, at[:, None], at] @ loadings.T
        part = np.einsum("ld,dap->lap", term.root, np.matmul(loadings, self._fixed_half[rows]))
        return np.tensordot(term.root**2, own, axes=1) + part @ np.swapaxes(part, 1, 2)

    def solve_fixed(self, K: np.ndarray) -> tuple[FixedRows, np.ndarray]:
        """For inside rows K (r, p): what inference needs of them, and Phi K' (p, r), inside scale."""
        e = self.equations
        fixed, natural = self.solve_functions(e.unknowns_of(K))
        return fixed, e.fixed_coefficients(natural)

    def solve_functions(self, functions: np.ndarray) -> tuple[FixedRows, np.ndarray]:
        """For functions (q, r) of the natural unknowns, random ones too: their rows, and F c (q, r).

        Functions k' F c is the covariance of their prediction errors, inside scale.
        """
        e = self.equations
        spherical = self.factor.solve(e.gather(self.point.loadings, functions))
        if self.residual_nearly_singular:
            spherical = spherical + self.factor.solve(self._remainder(functions, spherical))
        natural = e.spread(self.point.loadings, spherical)
        projected = np.empty_like(natural)
        multiply_symmetric(self.point.G, e.natural.indptr, e.natural.indices, natural, projected)
        projected -= functions
        e.natural.leave_random(projected)
        return FixedRows(e.matrix, spherical, natural, projected), natural

    def _remainder(self, functions: np.ndarray, spherical: np.ndarray) -> np.ndarray:
        """F' k - C c (q', r) from the rows W F c, which have digits where W' R^-1 W has none left."""
        e = self.equations
        rows = np.asarray(self.point.precision @ (e.matrix @ e.spread(self.point.loadings, spherical)))
        left = functions - np.asarray(e.matrix.T @ rows)
        prior = e.multiply_prior(e.level_coefficients(self.theta), spherical)
        return e.gather(self.point.loadings, left) - prior

    def row_weights(self, fixed: FixedRows) -> np.ndarray:
        """V^-1 X Phi K' (n, r) of the observed rows: what the estimates of rows K make of the response."""
        e = self.equations
        own = np.asarray(self.point.precision @ fixed.rows)[: e.n]
        return own if e.rotation is None else e.rotation.weighted(own)

    @cached_property
    def hessian(self) -> np.ndarray:
        """Second derivatives of the deviance in the free parameters (t, t)."""
        e, unit = self.equations, self.response.residual / self.response.scale
        y = np.concatenate([unit, np.zeros(e.residual.n_missing)])
        model: FactorizedModel = self
        if e.observed is not None:
            factor = e.observed_factor(self.factor)
            point = evaluate(e.observed, factor, y, self.theta)
            model = FactorizedModel(e.observed, factor, point, self.free, self.reml)
        return second_derivatives(model, y)
