"""Covariance blocks of a fit with any structures: one for every term, and for the residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import block_diag

from fastlmm_core.engine.random_walk import random_walks, walking_fields
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.structures.coefficients.boundary import BOUND_CORRELATION
from fastlmm_core.structures.coefficients.factor_analytic import FactorAnalytic
from fastlmm_core.structures.levels.penalty import PenaltyLevels

if TYPE_CHECKING:
    from fastlmm_core.results.fitted_model import FittedModel

# What the residual says of a block beside its covariance.
EXTRA = ("group_corr", "visits", "last")
# More correlations than fit beside each other are left to `variance_components`.
WIDEST = 8
# Structures of which one correlation tells all.
BY_LAG = ("ar1", "hetar1")


@dataclass(frozen=True)
class ComponentBlock:
    """Covariance of one term, or of one level of ``at()`` or of the residual's ``|``.

    Attributes
    ----------
    term, at, group : str, label or None, str
        Text of the term, level, and the group of its rows.
    struct : str
    names : list of str
    n_par : int
    T : (m, m) or None
        In the user's units; None for a spline.
    slopes : (t, m, m)
        Derivatives of T in theta, or (t, d) of a spline's variances.
    extra : dict
        group_corr; specific_var and common of fa; variances and effective_dim of a spline; the number of
        visits and the last of a long process, of which names and T have the first two.
    """

    term: str
    at: Any
    group: str
    struct: str
    names: list[str]
    n_par: int
    T: np.ndarray | None
    slopes: np.ndarray
    extra: dict[str, Any]

    @property
    def level(self) -> str | None:
        """Level of the residual's ``|``, which `group` lacks; that of a term of ``at()`` names it already."""
        return str(self.at) if self.at is not None and self.group.startswith("Residual") else None

    def spread(self, labels: list[str]) -> ComponentBlock:
        """The block of ``env:vm(gen, A)`` over the levels of A: its variance for every one of `labels`."""
        assert self.T is not None
        unit = np.eye(len(labels))
        return replace(self, names=labels, T=self.T[0, 0] * unit, slopes=self.slopes[:, :1, :1] * unit)

    def section(self) -> dict[str, Any]:
        """The block as a request's answer shows it; a residual variance of rounding's size is NaN."""
        out: dict[str, Any] = {"term": self.term, "at": self.at, "struct": self.struct, "names": self.names,
                               "n_par": self.n_par}  # fmt: skip
        if self.T is not None:
            sd = np.sqrt(np.diag(self.T))
            product = np.outer(sd, sd)
            with np.errstate(divide="ignore", invalid="ignore"):
                cor = np.where(product > 0, self.T / product, np.nan)
            tolerance = 1e-8 * max(float(np.trace(self.T)), 1e-300)
            unresolved = self.term.startswith("units") and not self.T.any()
            out |= {"T": np.full_like(self.T, np.nan) if unresolved else self.T, "sd": sd,
                    "cor": cor if len(sd) > 1 else None,
                    "rank": int(np.linalg.matrix_rank(self.T, tol=tolerance))}  # fmt: skip
        return {**out, **self.extra}


def term_blocks(fit: FittedModel) -> list[ComponentBlock]:
    """One block for every random term, in the order of the formula's terms."""
    solution = fit.solved
    if not isinstance(solution, StructuredSolution):
        return _plain_blocks(fit)
    if "_term_blocks" not in fit.__dict__:  # every table of components begins with them
        fit.__dict__["_term_blocks"] = _structured_blocks(fit, solution)
    return list(fit.__dict__["_term_blocks"])


def _structured_blocks(fit: FittedModel, solution: StructuredSolution) -> list[ComponentBlock]:
    """Blocks of a fit with any structures."""
    e, s2 = solution.equations, solution.sigma2
    out = []
    for k, (random, term) in enumerate(zip(fit.design.random, e.terms, strict=True)):
        own, level = e.slices[0][k]
        structure = term.structure
        if random.is_spline:
            out.append(_spline_block(solution, k, random))
            continue
        slopes = np.zeros((e.n_theta, structure.m, structure.m))
        slopes[own] = s2 * term.basis @ structure.covariance_jacobian(solution.theta[own]) @ term.basis.T
        extra: dict[str, Any] = {"group_corr": {}}
        if term.levels is not None and term.n_level_theta:
            theta = solution.theta[level]
            extra["group_corr"] = dict(
                zip(term.levels.natural_names(), term.levels.natural(theta), strict=True)
            )
        T = solution.covariance(k)
        if isinstance(structure, FactorAnalytic):
            extra["specific_var"] = s2 * structure.specific(solution.theta[own])
            extra["common"] = T - np.diag(extra["specific_var"])
        out.append(
            ComponentBlock(
                random.label, random.at, random.group, structure.name, list(random.columns),
                structure.n_par + term.n_level_theta, T, slopes, extra,
            )
        )  # fmt: skip
    return out


def whole_blocks(fit: FittedModel) -> list[ComponentBlock]:
    """Blocks of the terms as they were written: the parts of ``(x || g)`` are one with a diagonal T."""
    parts: dict[Any, list[ComponentBlock]] = {}
    for k, (random, block) in enumerate(zip(fit.design.random, term_blocks(fit), strict=True)):
        whole = random.taken_from
        parts.setdefault((whole, random.at) if whole else k, []).append(block)
    return [own[0] if isinstance(key, int) else _joined(key[0], own) for key, own in parts.items()]


def _joined(term: str, parts: list[ComponentBlock]) -> ComponentBlock:
    """Independent parts as one block."""
    T = block_diag(*(part.T for part in parts))
    names = [name for part in parts for name in part.names]
    return replace(
        parts[0], term=term, struct="diag", names=names, n_par=sum(part.n_par for part in parts), T=T,
        slopes=np.zeros((0, *T.shape)),
    )  # fmt: skip


def independent_labels(random: Any) -> list[str] | None:
    """Levels of the independent factor of ``env:vm(gen, A)`` with one coefficient; None for other terms."""
    relation = None if random.is_spline else random.relation
    if relation is None or len(random.columns) != 1:
        return None
    kinds = [factor.kind for factor in relation.factors]
    return list(relation.factors[0].levels) if kinds == ["id", "vm"] else None


def _plain_blocks(fit: FittedModel) -> list[ComponentBlock]:
    """Blocks of a fit with unrelated levels."""
    solved, out = fit.solved, []
    assert isinstance(solved, SolvedEquations)
    for k, (random, term) in enumerate(zip(fit.design.random, solved.equations.terms, strict=True)):
        T = solved.user_sigma2 * solved.user_covariance(k)
        count = len(term.structure.positions)
        out.append(
            ComponentBlock(random.label, None, random.group, term.structure.name, list(random.columns), count,
                           T, np.zeros((0, term.m, term.m)), {"group_corr": {}})
        )  # fmt: skip
    return out


def _spline_block(solution: StructuredSolution, k: int, random: Any) -> ComponentBlock:
    e = solution.equations
    term = e.terms[k]
    level = e.slices[0][k][1]
    assert isinstance(term.levels, PenaltyLevels)
    theta = solution.theta[level]
    variances = solution.sigma2 * term.levels.natural(theta)
    pieces = e.level_pieces[k]
    inverse = np.asarray(e.P_pieces.T @ (e.spherical.both_triangles(solution.inverse_subset.copy())))[pieces]
    effective = term.levels.effective_dimensions(theta, inverse)
    slopes = np.zeros((e.n_theta, len(variances)))
    slopes[level] = solution.sigma2 * term.levels.natural_jacobian(theta)
    return ComponentBlock(
        random.label, random.at, random.group, "spline", list(random.names), len(variances), None, slopes,
        {"variances": variances, "effective_dim": effective},
    )  # fmt: skip


def residual_blocks(fit: FittedModel) -> list[ComponentBlock]:
    """One block for the residual, or for every level of its ``|``."""
    solution = fit.solved
    if not isinstance(solution, StructuredSolution):
        T = np.array([[solution.user_sigma2]])
        return [ComponentBlock("units", None, "Residual", "homdiag", ["(Intercept)"], 1, T,
                               np.zeros((0, 1, 1)), {"group_corr": {}})]  # fmt: skip
    e = solution.equations
    own = e.slices[1]
    theta = solution.theta[own]
    spec = fit.design.residual
    slopes = e.residual.covariance_jacobian(theta)
    out = []
    for block, slope in zip(e.residual.blocks(theta), slopes, strict=True):
        full = np.zeros((e.n_theta, *block["T"].shape))
        full[own] = solution.sigma2 * slope
        out.append(
            ComponentBlock(
                spec.text, block["at"], spec.group, block["struct"], block["names"], block["n_par"],
                solution.sigma2 * block["T"], full, {key: block[key] for key in EXTRA if key in block},
            )
        )  # fmt: skip
    return out


def describe_shortened(block: ComponentBlock) -> str:
    """What the tables have of a long process."""
    return (
        f"Of the {block.extra['visits']:,} visits of {block.group} tables have the variance and covariance "
        "of the first two; visits k apart have the covariance var*(cov/var)^k (vpredict)."
    )


def is_diagonal(T: np.ndarray) -> bool:
    """Whether a covariance has no covariances."""
    return bool(np.allclose(T, np.diag(np.diag(T)), atol=0.0))


def describe_singular(fit_design: Any, solution: StructuredSolution) -> tuple[str, ...]:
    """Terms at a boundary, in words."""
    words = []
    for k, (random, term) in enumerate(zip(fit_design.random, solution.equations.terms, strict=True)):
        own, level = solution.equations.slices[0][k]
        is_spline = random.is_spline
        if term.levels is not None and solution.free[level].any() and not is_spline:
            names, values = term.levels.natural_names(), term.levels.natural(solution.theta[level])
            if solution.covariance(k).any():
                words += autocorrelation_bounds(dict(zip(names, values, strict=True)), random.group)
        if not term.structure.n_theta or not solution.free[own].any():
            continue
        # variances are judged in units of the response, through the mean square of their columns
        least = 1.0 / term.column_scale
        theta = solution.theta[own]
        found = term.structure.boundary(theta, list(random.columns), least=least)
        if found and not np.allclose(term.basis, np.diag(np.diag(term.basis))):
            found = _in_user_coefficients(random, term, solution.covariance(k) / solution.sigma2)
        words += [f"{phrase} in {random.group}" for phrase in found]
    e = solution.equations
    theta = solution.theta[e.slices[1]]
    for block, (at, phrases) in zip(e.residual.blocks(theta), e.residual.boundary(theta), strict=True):
        where = "" if at is None else f" of {at}"
        if not np.any(block["T"]):
            words.append(f"the residual variance{where} is zero")
        elif solution.free[e.slices[1]].any():
            words += autocorrelation_bounds(block["group_corr"], f"the residual{where}")
            words += [f"{phrase} in the residual{where}" for phrase in phrases]
    return tuple(words)


def _in_user_coefficients(random: Any, term: Any, T: np.ndarray) -> tuple[str, ...]:
    """What is singular in T (m, m) of the user's coefficients, each judged in the unit of its own column.

    Whether anything is, the orthonormal coefficients tell: far from zero a covariate leaves its slope a
    variance that is small beside that of the intercept, and a correlation close to +1 or -1.
    """
    scale = (np.linalg.inv(term.basis) ** 2).T @ term.column_scale
    names = list(random.columns)
    found = term.structure.boundary(term.structure.theta_of(T), names, least=1.0 / scale)
    return tuple(found) or (f"the covariance of {', '.join(names)} has a lower rank than its size",)


def describe_unbounded(design: Any, solution: StructuredSolution) -> str | None:
    """Why a criterion that still falls at the end of the search has no minimum; None where none is known."""
    e = solution.equations
    own = solution.theta[e.slices[1]]
    for block, (at, phrases) in zip(e.residual.blocks(own), e.residual.boundary(own), strict=True):
        where = "" if at is None else f" of {at}"
        if solution.optimum.unbounded and not np.any(block["T"]):
            return (
                f"the likelihood grows without end as the residual variance{where} tends to zero: fixed and "
                "random terms explain the response exactly; leave some of them out"
            )
        if solution.optimum.unbounded and phrases:
            return (
                f"the likelihood grows without end as the covariance of the residuals{where} becomes "
                "singular: some visits are determined by others; leave them out, or take a structure with "
                "fewer parameters"
            )
    for k in random_walks(e, solution.theta, solution.free):
        levels, level = e.terms[k].levels, e.slices[0][k][1]
        assert levels is not None
        rho = dict(zip(levels.natural_names(), levels.natural(solution.theta[level]), strict=True))
        return _walks_away(rho, f"the variance of {design.random[k].group}", "leave the term out")
    blocks = e.residual.blocks(own)
    for k in walking_fields(e, solution.theta, solution.free):
        where = "" if blocks[k]["at"] is None else f" of {blocks[k]['at']}"
        return _walks_away(
            blocks[k]["group_corr"], f"the residual variance{where}", "leave that direction out"
        )  # fmt: skip
    return None


def _walks_away(correlations: Mapping[str, float], what: str, instead: str) -> str:
    """Why a variance beside autocorrelations has no estimate: the largest of these is at a bound."""
    name, value = max(correlations.items(), key=lambda own: abs(own[1]))
    grows = f"{what} grows without end as its autocorrelation tends to"
    if value < 0.0:
        return f"{grows} -1: along {name} the response alternates; {instead}"
    return (
        f"{grows} +1: along {name} the response has a trend, of which the criterion's limit is a random "
        f"walk; put {name} into the fixed part, or spl({name}) beside it"
    )


def autocorrelation_bounds(correlations: Mapping[str, float], where: str) -> list[str]:
    """A phrase for every autocorrelation that the search has driven to +1 or -1."""
    return [
        f"the autocorrelation of {name} in {where} is {'+1' if value > 0 else '-1'}"
        for name, value in correlations.items()
        if abs(value) >= 1.0 - BOUND_CORRELATION
    ]


def name_theta(design: Any, solution: StructuredSolution) -> tuple[str, ...]:
    """Names of the engine's parameters: term and number, then the residual's."""
    names: list[str] = []
    for random, (own, level) in zip(design.random, solution.equations.slices[0], strict=True):
        names += [f"{random.group}.{i + 1}" for i in range(level.stop - own.start)]
    own = solution.equations.slices[1]
    return tuple(names + [f"Residual.{i + 1}" for i in range(own.stop - own.start)])
