"""Parameters that have intervals, as functions of what the criterion is searched in.

A standard deviation is held as its logarithm and a correlation as its angle arccos(c): both are smooth up to
the bounds, and the search for the others does not see them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.search.kinks import AWAY
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.reml.equations import MixedModelEquations
from fastlmm_core.structures.coefficients.entries import LinearEntries
from fastlmm_core.structures.coefficients.factor_loadings import FactorLoadings

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

# Difference of the gradient for second derivatives of natural parameters.
STEP = 1e-5


@dataclass(frozen=True)
class Parameter:
    """What a parameter is called.

    Attributes
    ----------
    name : str
        "sd(Subject: Days)", "cor(Subject: (Intercept), Days)", "sigma", or that of a fixed coefficient.
    kind : {"sd", "cor", "sigma", "variance", "covariance", "correlation", "fixed"}
    group, var1, var2 : str or None
        As in ``variance_components``.
    least : float
        Of a correlation: below it no covariance is positive semidefinite.
    """

    name: str
    kind: str
    group: str | None = None
    var1: str | None = None
    var2: str | None = None
    least: float = -1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which values the parameter lies."""
        if self.kind in ("sd", "sigma", "variance"):
            return 0.0, np.inf
        if self.kind in ("cor", "correlation"):
            return self.least, 1.0
        return -np.inf, np.inf


@dataclass(frozen=True)
class Held:
    """A parameter as a function h(x) of the coordinates of a criterion.

    Attributes
    ----------
    parameter : Parameter
    value, gradient, curvature : callable
        h (scalar), dh/dx (d,) and d2h/dx dx' (d, d) at x (d,).
    inner : callable
        h of a value of the parameter.
    outer : callable
        Value of the parameter at h.
    """

    parameter: Parameter
    value: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray], np.ndarray]
    inner: Callable[[float], float]
    outer: Callable[[float], float]


@dataclass(frozen=True)
class Rows:
    """Rows of the user's Lambda of one term: row i is E_i x, with E_i (w, t) for the coordinates `own`.

    Attributes
    ----------
    own : (t,) int64
    E : (m, w, t) float64
    log_scale : float
        Logarithm of the unit of Lambda, in units of the response.
    tau : int
        Coordinate that is log sigma2, by which Lambda is multiplied; -1 where it is absolute.
    """

    own: np.ndarray
    E: np.ndarray
    log_scale: float
    tau: int

    def form(self, i: int, j: int) -> np.ndarray:
        """B (t, t) with row_i . row_j = x' B x."""
        product = self.E[i].T @ self.E[j]
        return 0.5 * (product + product.T)


def loading_rows(basis: np.ndarray, positions: Any, own: np.ndarray, log_scale: float, tau: int) -> Rows:
    """Rows of basis @ Lambda, whose entries at `positions` are the coordinates `own`."""
    m, width = basis.shape[0], 1 + max((column for _, column in positions), default=0)
    E = np.zeros((m, width, own.size))
    for t, (row, column) in enumerate(positions):
        E[:, column, t] = basis[:, row]
    return Rows(own, E, log_scale, tau)


def deviation(parameter: Parameter, rows: Rows, i: int) -> Held:
    """log of the standard deviation |row_i|."""
    M, own = rows.form(i, i), rows.own

    def value(x: np.ndarray) -> float:
        with np.errstate(divide="ignore"):
            log = 0.5 * np.log(x[own] @ M @ x[own])
        return float(log + rows.log_scale + (0.5 * x[rows.tau] if rows.tau >= 0 else 0.0))

    def gradient(x: np.ndarray) -> np.ndarray:
        out = np.zeros(x.size)
        with np.errstate(divide="ignore", invalid="ignore"):  # at zero it has none
            out[own] = M @ x[own] / (x[own] @ M @ x[own])
        if rows.tau >= 0:
            out[rows.tau] = 0.5
        return out

    def curvature(x: np.ndarray) -> np.ndarray:
        out = np.zeros((x.size, x.size))
        h, product = x[own] @ M @ x[own], M @ x[own]
        out[np.ix_(own, own)] = M / h - 2.0 * np.outer(product, product) / h**2
        return out

    return Held(parameter, value, gradient, curvature, _log, _exp)


def correlation(parameter: Parameter, rows: Rows, i: int, j: int) -> Held:
    """Angle between row_i and row_j."""
    A, M, N, own = rows.form(i, j), rows.form(i, i), rows.form(j, j), rows.own

    def parts(x: np.ndarray) -> tuple[float, np.ndarray, float, np.ndarray, np.ndarray]:
        x = x[own]
        h, g = x @ M @ x, x @ N @ x
        size = np.sqrt(h * g)
        with np.errstate(divide="ignore", invalid="ignore"):  # beside a variance of zero there is none
            c = float(np.clip(x @ A @ x / size, -1.0, 1.0))
            return c, 2.0 * A @ x / size, size, M @ x / h, N @ x / g

    def value(x: np.ndarray) -> float:
        return float(np.arccos(parts(x)[0]))

    def gradient(x: np.ndarray) -> np.ndarray:
        c, r, _, p, q = parts(x)
        out = np.zeros(x.size)
        out[own] = -(r - c * (p + q)) / np.sqrt(max(1.0 - c * c, 1e-30))
        return out

    def curvature(x: np.ndarray) -> np.ndarray:
        c, r, size, p, q = parts(x)
        w = p + q
        gradient = r - c * w
        dp = M / (x[own] @ M @ x[own]) - 2.0 * np.outer(p, p)
        dq = N / (x[own] @ N @ x[own]) - 2.0 * np.outer(q, q)
        second = 2.0 * A / size - np.outer(r, w) - np.outer(w, gradient) - c * (dp + dq)
        s2 = max(1.0 - c * c, 1e-30)
        out = np.zeros((x.size, x.size))
        out[np.ix_(own, own)] = -second / np.sqrt(s2) - c * np.outer(gradient, gradient) / s2**1.5
        return out

    return Held(parameter, value, gradient, curvature, _arccos, _cos)


def log_variance(parameter: Parameter, tau: int, log_scale: float) -> Held:
    """log sigma where log sigma2 is a coordinate."""

    def gradient(x: np.ndarray) -> np.ndarray:
        out = np.zeros(x.size)
        out[tau] = 0.5
        return out

    return Held(
        parameter, lambda x: 0.5 * float(x[tau]) + log_scale, gradient,
        lambda x: np.zeros((x.size, x.size)), _log, _exp,
    )  # fmt: skip


def natural(
    parameter: Parameter, own: slice, index: int, values: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], np.ndarray], scale: float,
    hessian: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> Held:  # fmt: skip
    """A natural parameter of a structure, `scale` times values(x[own])[index].

    Variances by their logarithm, with kind "sigma" reported as the root; correlations by their angle. Second
    derivatives are differences of the first where `hessian` (x[own], index) is not given.
    """
    logarithm, angle = parameter.kind in ("variance", "sigma"), parameter.kind == "correlation"
    power = 0.5 if parameter.kind == "sigma" else 1.0

    def value(x: np.ndarray) -> float:
        v = float(values(x[own])[index]) * scale
        with np.errstate(divide="ignore"):
            return power * float(np.log(v)) if logarithm else _arccos(v) if angle else v

    def gradient(x: np.ndarray) -> np.ndarray:
        out = np.zeros(x.size)
        slope, v = jacobian(x[own])[index], float(values(x[own])[index])
        with np.errstate(invalid="ignore", divide="ignore"):
            if angle:
                out[own] = -slope / np.sqrt(max(1.0 - v * v, 1e-30))
            else:
                out[own] = power * slope / v if logarithm else slope * scale
        return out

    def curvature(x: np.ndarray) -> np.ndarray:
        out = np.zeros((x.size, x.size))
        if hessian is not None:
            v, slope, bend = float(values(x[own])[index]), jacobian(x[own])[index], hessian(x[own], index)
            square = np.outer(slope, slope)
            with np.errstate(invalid="ignore", divide="ignore"):
                if angle:
                    s2 = max(1.0 - v * v, 1e-30)
                    out[own, own] = -(bend + v * square / s2) / np.sqrt(s2)
                else:
                    out[own, own] = power * (bend / v - square / v**2) if logarithm else bend * scale
            return out
        for t in range(own.start, own.stop):
            step = np.zeros(x.size)
            step[t] = STEP * max(1.0, abs(x[t]))
            out[t] = (gradient(x + step) - gradient(x - step)) / (2.0 * step[t])
        return 0.5 * (out + out.T)

    sides = (_log, _exp) if logarithm else (_arccos, _cos) if angle else (float, float)
    return Held(parameter, value, gradient, curvature, *sides)


def _log(value: float) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(value))


def _exp(value: float) -> float:
    return float(np.exp(value))


def _cos(angle: float) -> float:
    return float(np.cos(angle))


def _arccos(value: float) -> float:
    return float(np.arccos(np.clip(value, -1.0, 1.0)))


def plain_parameters(design: Any, equations: MixedModelEquations, unit: float) -> list[Held]:
    """Standard deviations and correlations in lme4's order, then sigma; x = (theta, log sigma2)."""
    tau, log_unit = equations.n_theta, float(np.log(unit))
    out: list[Held] = []
    for k, (random, term) in enumerate(zip(design.random, equations.terms, strict=True)):
        own = np.flatnonzero(equations.theta_term == k)
        rows = loading_rows(term.basis, term.structure.positions, own, log_unit, tau)
        out += _entries(random.group, random.columns, rows, term.structure.positions)
    return [*out, log_variance(Parameter("sigma", "sigma", "Residual"), tau, log_unit)]


def _entries(group: str, columns: tuple[str, ...], rows: Rows, positions: Any) -> list[Held]:
    """Standard deviations and correlations of a term in the order of `positions`."""
    out = []
    for i, j in positions:
        if i == j:
            own = Parameter(f"sd({group}: {columns[i]})", "sd", group, columns[i])
            out.append(deviation(own, rows, i))
        else:
            name = f"cor({group}: {columns[j]}, {columns[i]})"
            out.append(correlation(Parameter(name, "cor", group, columns[j], columns[i]), rows, i, j))
    return out


def structured_parameters(design: Any, e: StructuredEquations, scale: float) -> list[Held]:
    """Parameters of every term, those of its levels, then the residual's; x is the engine's theta.

    Unstructured, diagonal, reduced rank and factor analytic terms have standard deviations and correlations,
    other structures their natural parameters.
    """
    out: list[Held] = []
    for random, term, (own, level) in zip(design.random, e.terms, e.slices[0], strict=True):
        structure = term.structure
        if structure.any_scale and isinstance(structure, LinearEntries):
            at = np.arange(own.start, own.stop)
            rows = loading_rows(term.basis, structure.positions, at, float(np.log(scale)), -1)
            out += _entries(random.group, random.columns, rows, structure.positions)
        elif isinstance(structure, FactorLoadings):
            out += _of_factors(random.group, random.columns, term, own, float(np.log(scale)))
        elif structure.n_theta and structure.natural_defined:
            names = structure.natural_names(list(random.columns))
            square = (term.basis[0, 0] * scale) ** 2  # other structures have a basis of one scale
            out += _naturals(random.group, names, own, structure, square)
        if term.n_level_theta:
            levels = term.levels
            assert levels is not None
            kind = "variance" if levels.holds_variance else "correlation"
            square = scale**2 if levels.holds_variance else 1.0
            group = random.group
            for i, name in enumerate(levels.natural_names()):
                own_name = Parameter(f"{kind}({group}: {name})", kind, group, name)
                out.append(natural(own_name, level, i, levels.natural, levels.natural_jacobian, square))
    r, own = e.residual, e.slices[1]
    names = r.natural_names()
    if names == ("Residual",):
        sigma = Parameter("sigma", "sigma", "Residual")
        return [*out, natural(sigma, own, 0, r.natural, r.natural_jacobian, scale**2)]
    return out + _naturals("Residual", names, own, r, scale**2)


def _of_factors(
    group: str, columns: tuple[str, ...], term: Any, own: slice, log_scale: float
) -> list[Held]:  # fmt: skip
    """Standard deviations and correlations of T = Lambda Lambda', Lambda with loadings and specific parts."""
    structure: FactorLoadings = term.structure
    at = np.arange(own.start, own.stop)
    rows = loading_rows(term.basis, structure.positions, at, log_scale, -1)
    m = len(columns)
    alone = structure.name == "rr" and structure.k == 1  # of rank one: all correlations are +1 or -1
    places = [(i, j) for j in range(m) for i in range(j, m) if i == j or not alone]
    return _entries(group, columns, rows, places)


def _naturals(group: str, names: tuple[str, ...], own: slice, structure: Any, square: float) -> list[Held]:
    out = []
    for i, name in enumerate(names):
        kind = natural_kind(name)
        full, least = f"{group}: {name}" if group != "Residual" else name, float(structure.least_rho)
        parameter = Parameter(full, kind, group, name, least=least)
        size = 1.0 if kind == "correlation" else square
        second = getattr(structure, "natural_hessian", None)  # residuals and others have none
        out.append(natural(parameter, own, i, structure.natural, structure.natural_jacobian, size, second))
    return out


def natural_kind(name: str) -> str:
    """Kind of a natural parameter by the name that its structure gives it."""
    last = name.rpartition(": ")[2]
    if last.startswith("covariance"):
        return "covariance"
    if last.startswith(("correlation", "rho")):
        return "correlation"
    return "variance"


def held_parameters(fit: RandomPart) -> list[Held]:
    """The variance parameters of a fit as functions of its own coordinates."""
    if isinstance(fit.solved, StructuredSolution):
        return structured_parameters(fit.design, fit.solved.equations, fit.solved.response.scale)
    return plain_parameters(fit.design, fit.plain.equations, fit.solved.unit)


def restricted(held: Held, x: np.ndarray, free: np.ndarray) -> Held:
    """A parameter as a function of the `free` coordinates; the others stay as in x (d,)."""

    def place(z: np.ndarray) -> np.ndarray:
        out = x.copy()
        out[free] = z
        return out

    return replace(
        held, value=lambda z: held.value(place(z)), gradient=lambda z: held.gradient(place(z))[free],
        curvature=lambda z: held.curvature(place(z))[np.ix_(free, free)],
    )  # fmt: skip


def own_coordinates(fit: RandomPart, held: list[Held]) -> list[Held]:
    """Parameters in the coordinates that are free, without those that the user holds."""
    solved = fit.solved
    if not isinstance(solved, StructuredSolution) or solved.free.all():
        return held
    away = np.where(solved.theta == 0.0, AWAY, solved.theta)
    free = [h for h in held if np.any(h.gradient(away)[solved.free])]
    return [restricted(h, solved.theta, solved.free) for h in free]


def fixed_parameters(fit: RandomPart) -> list[Parameter]:
    """The fixed coefficients that were kept."""
    return [Parameter(fit.coef_names[j], "fixed") for j in fit.design.kept]
