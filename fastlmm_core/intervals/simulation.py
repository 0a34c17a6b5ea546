"""New responses from a fitted model: y = X beta + Z u + e with u and e drawn from what was estimated.

Every part is a linear function of independent standard normals, y = mean + A z with A A' = V, so that the
covariance of what is drawn can be compared with V itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.structures.residuals.dense_rows import DensePrecision

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

Draw = Callable[[np.ndarray], np.ndarray]

# Numbers of the standard normals that are held at once.
LARGEST_DRAW = 4_000_000


@dataclass(frozen=True)
class ResponseModel:
    """A distribution of responses.

    Attributes
    ----------
    mean : (n,) float64
        Fixed part with offset; with the random effects where these are kept.
    sizes : tuple of int
        Standard normals that each part takes.
    parts : tuple of callable
        (size, k) standard normals to (n, k) deviations: one for every random term, the residual last.
    """

    mean: np.ndarray
    sizes: tuple[int, ...]
    parts: tuple[Draw, ...]

    @property
    def n_normals(self) -> int:
        return sum(self.sizes)

    def respond(self, z: np.ndarray) -> np.ndarray:
        """Responses (n, k) for standard normals z (n_normals, k)."""
        out = np.repeat(self.mean[:, None], z.shape[1], axis=1)
        first = 0
        for size, part in zip(self.sizes, self.parts, strict=True):
            out += part(z[first : first + size])
            first += size
        return out

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Responses (n_rows, n); the k-th is the same whatever n is."""
        out = np.empty((self.mean.size, n))
        step = max(1, LARGEST_DRAW // max(self.n_normals, 1))
        for first in range(0, n, step):
            last = min(first + step, n)
            out[:, first:last] = self.respond(rng.standard_normal((last - first, self.n_normals)).T)
        return out


def simulate(fit: RandomPart, n: int, seed: int | None, conditional: bool) -> np.ndarray:
    """Responses (nobs, n) of the fitted model; see ``LMMFit.simulate``."""
    return response_model(fit, conditional=conditional).draw(n, np.random.default_rng(seed))


def response_model(fit: RandomPart, *, conditional: bool = False) -> ResponseModel:
    """The distribution of the response at the estimates.

    Parameters
    ----------
    conditional : bool
        Keep the random effects at their predictions and draw the residuals only.
    """
    structured = isinstance(fit.solved, StructuredSolution)
    terms = [] if conditional else _structured_terms(fit) if structured else _plain_terms(fit)
    residual = _structured_residual(fit) if structured else _plain_residual(fit)
    mean = fit.fitted if conditional else marginal_mean(fit)
    sizes, parts = zip(*terms, residual, strict=True)
    return ResponseModel(np.asarray(mean, float), sizes, parts)


def marginal_mean(fit: RandomPart) -> np.ndarray:
    """X beta with the offset, (n,)."""
    mean = fit.design.X @ fit.beta[fit.design.kept]
    return mean if fit.offset is None else mean + fit.offset


def _plain_terms(fit: RandomPart) -> list[tuple[int, Draw]]:
    solved = fit.plain
    sigma = np.sqrt(solved.user_sigma2)
    out: list[tuple[int, Draw]] = []
    for k, (random, term) in enumerate(zip(fit.design.random, solved.equations.terms, strict=True)):
        root = sigma * term.basis @ solved.factors[k, : term.m, : term.m]
        Z = level_columns(random.codes, random.values @ root, term.n_levels)
        out.append((Z.shape[1], Z.__matmul__))
    return out


def level_columns(codes: np.ndarray, values: np.ndarray, n_levels: int) -> sp.csr_array:
    """Z (n, L m) with the m `values` (n, m) of a row at its level, `codes` (n,)."""
    n, m = values.shape
    columns = codes[:, None].astype(np.int64) * m + np.arange(m)
    rows = np.repeat(np.arange(n), m)
    return sp.csr_array((values.ravel(), (rows, columns.ravel())), shape=(n, n_levels * m))


def _plain_residual(fit: RandomPart) -> tuple[int, Draw]:
    sd = np.sqrt(fit.plain.user_sigma2) / np.sqrt(np.ones(fit.nobs) if fit.weights is None else fit.weights)
    return fit.nobs, lambda z: sd[:, None] * z


def _structured_terms(fit: RandomPart) -> list[tuple[int, Draw]]:
    solution = fit.solved
    assert isinstance(solution, StructuredSolution)
    e = solution.equations
    observed = e.matrix[: e.n]
    scale = solution.response.scale

    def term_draw(k: int) -> tuple[int, Draw]:
        term, rows = e.terms[k], e.natural.rows[k]
        levels, size = rows.shape[0], rows.shape[0] * term.width
        root: Draw = identity
        if term.levels is not None:
            root = precision_draw(term.levels.precision(solution.term_theta(k)[1]))
        loadings = scale * solution.point.loadings[k, : term.m, : term.width]
        columns = observed[:, rows.ravel()]

        def draw(z: np.ndarray) -> np.ndarray:
            s = root(z.reshape(levels, -1)).reshape(levels, term.width, -1)
            u = np.einsum("ac,lck->lak", loadings, s)
            out = columns @ u.reshape(rows.size, -1)
            if term.null is not None and term.null.reduced:
                out -= term.null.values @ (term.null.coordinates @ u[:, 0])
            return np.asarray(out)

        return size, draw

    return [term_draw(k) for k in range(len(e.terms))]


def _structured_residual(fit: RandomPart) -> tuple[int, Draw]:
    solution = fit.solved
    assert isinstance(solution, StructuredSolution)
    e, scale = solution.equations, solution.response.scale
    pieces, _ = e.residual.coefficients(solution.theta[e.slices[1]])
    R_inv = e.row_precision.at(pieces)
    entries = R_inv.tosparse() if isinstance(R_inv, DensePrecision) else sp.csc_array(R_inv)
    root = precision_draw(entries)
    return e.residual.n_rows, lambda z: scale * root(z)[: e.n]


def identity(z: np.ndarray) -> np.ndarray:
    """Independent levels of variance one."""
    return z


def precision_draw(Q: sp.csc_array) -> Draw:
    """z (size, k) of Q (size, size) to draws of covariance Q^-1: Q^-1 B z with a factor B B' = Q."""
    diagonal = Q.diagonal()
    if (Q - sp.diags_array(diagonal)).count_nonzero() == 0:
        sd = 1.0 / np.sqrt(diagonal)
        return lambda z: sd[:, None] * z
    from scipy.sparse.linalg import splu

    lu = splu(
        sp.csc_matrix(Q), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )  # fmt: skip
    if np.array_equal(lu.perm_r, lu.perm_c):  # no pivoting: L D L' of the permuted matrix
        half = (lu.L @ sp.diags_array(np.sqrt(lu.U.diagonal()))).tocsr()[lu.perm_r]
    else:
        half = np.linalg.cholesky(Q.toarray())
    return lambda z: np.asarray(lu.solve(np.ascontiguousarray(half @ z)))
