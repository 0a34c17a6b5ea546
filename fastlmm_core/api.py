"""The front door: fit a model from a formula and a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Numba is loaded from here and not from deep inside: where its recursion meets the end of a block of frames,
# CPython 3.11 maps and unmaps memory at every call, which took 0.14 s of 1.2.
import numba  # noqa: F401
import numpy as np

from fastlmm_core.design import Design, build_design
from fastlmm_core.design.field_trend import add_field_trend
from fastlmm_core.design.parameter_names import named_covariances
from fastlmm_core.design.values.columns import first_row
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.engine.equations.structured_equations import StructuredEquations
from fastlmm_core.engine.model_building import build_model
from fastlmm_core.engine.model_fit import fit_model
from fastlmm_core.engine.solution import StructuredSolution
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.fit_arguments import named_start, progress_listener, row_values, starting_values
from fastlmm_core.formula.parsing import ParsedFormula, parse_formula
from fastlmm_core.gate import public, warn_caller
from fastlmm_core.limits import Limits
from fastlmm_core.linalg import CholeskyFactor, make_factor
from fastlmm_core.linalg.memory import parse_memory
from fastlmm_core.options import ANY, FACTORIZATION, MEMORY, SWITCH, TEXT, optional, table_of
from fastlmm_core.reml.equations import MixedModelEquations, build_equations
from fastlmm_core.reml.fitting import fit_equations
from fastlmm_core.reml.optimizer import Progress
from fastlmm_core.reml.solved import SolvedEquations
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.results.fit_warnings import collect_warnings


@dataclass(frozen=True, eq=False, repr=False)
class Prepared(Displayed):
    """Everything of a model that does not depend on the response: design, pattern, symbolic analysis, maps.

    Attributes
    ----------
    design : Design
    reml : bool
    equations : MixedModelEquations or StructuredEquations
        The latter for covariance structures beyond independent residuals and unrelated levels.
    factor : CholeskyFactor
        Symbolic analysis; every fit works on a copy of its values.
    timings : dict
        Seconds of design and preparation.
    offset, contrasts
        As given to `prepare`.
    fixed_parameters : dict
        Variance parameters that are held.
    factorization : str
        As given to `prepare`.

    Examples
    --------
    >>> from fastlmm_core import datasets, prepare
    >>> prepare("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    Model prepared for REML, not yet fitted
    Y ~ V*N + (1|B/V)
    72 rows; 12 of 12 fixed columns kept
    random: (1 | V:B), 18 levels
    random: (1 | B), 6 levels
    Next: .fit(), .fit(y=response), .design
    """

    design: Design
    reml: bool
    equations: MixedModelEquations | StructuredEquations
    factor: CholeskyFactor
    timings: dict[str, float]
    offset: Any = None
    contrasts: dict[str, Any] | None = None
    fixed_parameters: dict[str, Any] = field(default_factory=dict)
    factorization: str = "auto"

    @property
    def is_linear(self) -> bool:
        """Whether this is a linear model: no random terms, and one residual variance that is estimated."""
        return not self.design.random and not isinstance(self.equations, StructuredEquations)

    def _shown(self) -> str:
        method = "REML" if self.reml else "ML"
        return f"Model prepared for {method}, not yet fitted\n{self.design}"

    def again(
        self, reml: bool, design: Design | None = None, held: dict[str, Any] | None = None
    ) -> Prepared:  # fmt: skip
        """The same model prepared anew, by the other method, or of another design or what is held."""
        return prepare_design(
            self.design if design is None else design, reml, offset=self.offset, contrasts=self.contrasts,
            held=self.fixed_parameters if held is None else held, factorization=self.factorization,
        )  # fmt: skip

    @public(start=optional(table_of(ANY)))
    def fit(
        self, y: Any = None, weights: Any = None, *, theta: Any = None, verbose: bool | Progress = False,
        start: Mapping[str, Any] | None = None,
    ) -> LMMFit:  # fmt: skip
        """Fit the model to a response.

        Parameters
        ----------
        y : array_like, optional
            Response of the rows used (n,) or of all rows of the table; default the formula's own.
        weights : (n,) array_like, optional
            Prior weights in place of the prepared ones.
        theta : (n_theta,) array_like, optional
            Starting values in the inside parametrisation of an earlier fit (``fit.solved.theta``).
        verbose : bool or callable
            Print an iteration table, or call with (iteration, deviance, decrement, theta, seconds).
        start : dict, optional
            Starting values by the names of terms, as of `lmm`; an alternative to `theta`.

        Raises
        ------
        DataError
            Wrong length, missing or infinite values.
        OptionError
            Starting values that do not fit the model.

        Examples
        --------
        >>> from fastlmm_core import datasets, prepare
        >>> oats = datasets.load("oats")
        >>> prepared = prepare("~ V*N + (1|B/V)", oats, response=False)
        >>> round(prepared.fit(y=oats["Y"]).criterion, 3)
        529.029
        """
        began = time.perf_counter()
        design, equations, factor = self.design, self.equations, self.factor.copy()
        if weights is not None:
            own = row_values("weights", weights, design)
            if not np.all(own > 0):
                raise DataError(f"weights must be positive: {first_row(own <= 0, own)}")
            design = replace(design, weights=own)
            if isinstance(equations, StructuredEquations):
                before, equations = equations, build_model(design, fixed_last=not self.reml)
                if not equations.same_pattern(before):
                    # equal and unequal weights have other patterns
                    factor = make_factor(equations, None, self.factorization)
            else:
                equations = equations.with_weights(own)
        if start:
            if theta is not None:
                raise OptionError("starting values are given twice: by name (start=) and inside (theta=)")
            named_covariances(design, start, "start")  # also where there is nothing to search for
        if theta is not None:
            theta = starting_values(theta, equations.n_theta)
        response = design.y if y is None else row_values("y", y, design)
        if response is None:
            raise DataError("the model was prepared without a response: give y=")
        target = response if design.offset is None else response - design.offset
        progress = progress_listener(verbose)
        solved: SolvedEquations | StructuredSolution
        if isinstance(equations, StructuredEquations):
            solved, optimum, certificate = fit_model(
                design, equations, factor, target, reml=self.reml, held=self.fixed_parameters,
                start=start or theta, progress=progress,
            )  # fmt: skip
        else:
            solved, optimum, certificate = fit_equations(
                equations, target, reml=self.reml, factor=factor, progress=progress,
                start=named_start(design, equations, start) if start else theta,
            )  # fmt: skip
        found = collect_warnings(design, solved, optimum, certificate)
        for warning in found:
            warn_caller(warning)
        timings = {**self.timings, "fit": time.perf_counter() - began}
        return LMMFit(design, solved, optimum, certificate, found, timings, self, response)


@public(
    reml=SWITCH, response=SWITCH, max_memory=optional(MEMORY), residual=TEXT,
    fixed_parameters=optional(table_of(ANY)), factorization=FACTORIZATION, field_trend=optional(TEXT),
)  # fmt: skip
def prepare(
    formula: str | ParsedFormula, data: Any, *, reml: bool = True, weights: Any = None, offset: Any = None,
    contrasts: dict[str, Any] | None = None, response: bool = True,
    max_memory: int | float | str | None = None, limits: Limits | Mapping[str, int | str] | None = None,
    residual: str = "units", relationships: Mapping[str, Any] | None = None,
    fixed_parameters: Mapping[str, Any] | None = None, factorization: str = "auto",
    field_trend: str | None = None,
) -> Prepared:  # fmt: skip
    """Do everything that does not depend on the response.

    Parameters
    ----------
    formula, data, weights, offset, contrasts, residual, relationships, fixed_parameters, field_trend
        As in `lmm`.
    response : bool
        False when the table does not have the response yet; it then comes with ``Prepared.fit(y=...)``.
    max_memory : int or str, optional
        Limit of the numeric phase, in bytes or as "8GB"; default what the machine has available.
    limits : mapping, optional
        As in `lmm`.
    factorization : {"auto", "simplicial", "supernodal", "cholmod"}
        Who factorizes the mixed model equations at every step of the search. "auto" takes compiled kernels,
        column by column ("simplicial"), for small systems and our multifrontal code on supernodes
        ("supernodal") for large ones. "cholmod" is CHOLMOD's numeric factorization through scikit-sparse, in
        the same elimination order. All give the same fit; they differ in time and memory.

    Raises
    ------
    MemoryForecastError
        When the symbolic analysis forecasts more; nothing was computed.
    DependencyError
        With factorization="cholmod", when scikit-sparse is not installed or does not load.

    Examples
    --------
    >>> from fastlmm_core import datasets, prepare
    >>> oats = datasets.load("oats")
    >>> by_columns, by_fronts = (
    ...     prepare("Y ~ V*N + (1|B/V)", oats, factorization=name).fit()
    ...     for name in ("simplicial", "supernodal")
    ... )
    >>> abs(by_columns.criterion - by_fronts.criterion) < 1e-8
    True

    Returns
    -------
    Prepared
    """
    if max_memory is not None:
        parse_memory(max_memory)
    began = time.perf_counter()
    held = dict(fixed_parameters or {})
    parsed, residual = add_field_trend(parse_formula(formula, Limits.of(limits)), residual, field_trend)
    design = build_design(
        parsed, data, weights=weights, offset=offset, contrasts=contrasts,
        response=response, residual=residual, relationships=relationships,
        held=held,
    )  # fmt: skip
    designed = time.perf_counter() - began
    return prepare_design(design, reml, max_memory, offset, contrasts, designed, held, factorization)


def prepare_design(
    design: Design, reml: bool, max_memory: int | float | str | None = None, offset: Any = None,
    contrasts: dict[str, Any] | None = None, seconds: float = 0.0, held: dict[str, Any] | None = None,
    factorization: str = "auto",
) -> Prepared:  # fmt: skip
    """Equations and symbolic analysis of a design, which took so many seconds; see `prepare`."""
    began = time.perf_counter()
    equations: MixedModelEquations | StructuredEquations
    if held or not design.is_plain:
        restricted = bool(reml)
        equations = build_model(design, fixed_last=not restricted, max_memory=max_memory)
    else:
        restricted = bool(reml) or not design.random
        equations = build_equations(
            design.X, design.random, weights=design.weights, has_intercept=design.has_intercept,
            fixed_last=not restricted, weak_columns=design.weak_columns,
        )  # fmt: skip
    factor = make_factor(equations, max_memory, factorization)
    timings = {"design": seconds, "prepare": time.perf_counter() - began}
    return Prepared(
        design, restricted, equations, factor, timings, offset, contrasts, held or {}, factorization
    )


@public(
    reml=SWITCH, max_memory=optional(MEMORY), residual=TEXT, fixed_parameters=optional(table_of(ANY)),
    factorization=FACTORIZATION, start=optional(table_of(ANY)), field_trend=optional(TEXT),
)  # fmt: skip
def lmm(
    formula: str, data: Any, *, reml: bool = True, weights: Any = None, offset: Any = None,
    contrasts: dict[str, Any] | None = None, verbose: bool | Progress = False,
    max_memory: int | float | str | None = None, limits: Limits | Mapping[str, int | str] | None = None,
    residual: str = "units", relationships: Mapping[str, Any] | None = None,
    fixed_parameters: Mapping[str, Any] | None = None, factorization: str = "auto",
    start: Mapping[str, Any] | None = None, field_trend: str | None = None,
) -> LMMFit:  # fmt: skip
    """Fit a linear mixed model; without random terms in the formula, a linear model.

    Parameters
    ----------
    formula : str
        lme4 notation, for example ``"yield ~ gen + rep + (1|rep:block)"``.
    data : pandas, polars or pyarrow table, or dict of columns
        Rows with a missing value in a column that is used are dropped and counted.
    reml : bool
        Restricted (default) or ordinary maximum likelihood.
    weights : str or array_like, optional
        Column or values w_i > 0 with Var(e_i) = sigma² / w_i.
    offset : str or array_like, optional
        Column or values added to the linear predictor with coefficient 1.
    contrasts : dict, optional
        Coding by factor, for example ``{"gen": "contr.sum"}``.
    verbose : bool or callable
        Print an iteration table, or call with (iteration, deviance, decrement, theta, seconds).
    max_memory : int or str, optional
        Limit of the numeric phase, in bytes or as "8GB"; default what the machine has available.
    limits : mapping, optional
        Larger (or smaller) limits in place of those that `fastlmm_core.limits.Limits` lists, for example
        ``{"terms": 20_000, "columns": 500_000}``.
    residual : str
        Covariance of the residuals: ``"units"`` (independent, one variance), ``"units | env"`` (a variance
        for every level of env), ``"us(visit | subject)"`` and other structures within subjects, also
        ``"... | arm"``, ``"ar1(row):ar1(col)"`` in a field, ``"vm(units, Omega)"`` known.
    relationships : dict, optional
        What ``vm(gen, A)`` in the formula means by A: a `Pedigree`, `Markers`, a covariance or inverse matrix
        with the names of its levels.
    fixed_parameters : dict, optional
        Variances held at given values, ``{"vm(calf, A)": [[20.0]], "Residual": 40.0}``.
    factorization : {"auto", "simplicial", "supernodal", "cholmod"}
        Who factorizes the mixed model equations: see `prepare`.
    start : dict, optional
        Variances from which the search starts, written in the same way; those that are not named start from
        moments of the data.
    field_trend : str, optional
        Adds the terms of a trend over a field: ``"ps"`` row*col, random rows and columns and the surface
        ``ps(row, col, nseg=auto)``, ``"ar1"`` the residual ``ar1(row):ar1(col)``, ``"ar1(row, col,
        nugget=TRUE)"`` that process beside independent residuals. Other columns: ``"ps(range, bed)"``;
        one for each environment: ``"ps | env"`` (docs/field_trials.md).

    Returns
    -------
    LMMFit

    Raises
    ------
    FormulaError, DataError, DesignError
        What is wrong with the formula, the table or the model, and what would be right.
    LimitError
        When the formula or the model is larger than `limits`.
    MemoryForecastError
        When the model is forecast not to fit in memory; nothing was computed.

    Warns
    -----
    SingularFitWarning, RankDeficientWarning, NotConvergedWarning
        Also kept in ``fit.warnings``.

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1); Gilmour, Thompson & Cullis (1995),
    Biometrics 51, 1440-1450.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
    >>> fit.formula, fit.nobs, round(fit.criterion, 3)
    ('Y ~ V*N + (1|B/V)', 72, 529.029)
    """
    prepared = prepare(
        formula, data, reml=reml, weights=weights, offset=offset, contrasts=contrasts, max_memory=max_memory,
        limits=limits, residual=residual, relationships=relationships,
        fixed_parameters=fixed_parameters, factorization=factorization, field_trend=field_trend,
    )  # fmt: skip
    return prepared.fit(verbose=verbose, start=start)
