"""What is to be done to every trial: a small frozen object that travels to threads, workers and manifests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from fastlmm_core.batch.candidates import check_choice, check_fixed_parts, read_candidates
from fastlmm_core.batch.plan_options import (
    check_contrasts,
    check_roles,
    check_specs,
    genotype_group,
    name_tuple,
    plot_columns,
    wanted_groups,
)
from fastlmm_core.batch.structures import PLAIN, Structures, label_factors, make_structures
from fastlmm_core.design.field_trend import add_field_trend
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.errors import FormulaError, InferenceError, OptionError, check_option
from fastlmm_core.formula.expressions import Name, Node
from fastlmm_core.formula.functions import columns_read, is_factor_call
from fastlmm_core.formula.parsing import ParsedFormula, bind_formula, parse_formula
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.inference.linear_functions import DDF_METHODS, KENWARD_ROGER_NEEDS_REML
from fastlmm_core.limits import DEFAULT, Limits
from fastlmm_core.means.estimate_tables import check_level
from fastlmm_core.means.estimates import FIGURES
from fastlmm_core.multiplicity.adjustments import check_adjust
from fastlmm_core.reml.information import KINDS

FORMAT = 4  # of the folder, its tables and how they are cut into parts; part of the digest
OF_MODELS = ("model", "reason")  # further ones where there are several models


@dataclass(frozen=True, repr=False)
class BatchPlan(Displayed):
    """The analysis of one trial, the same for all; made by `make_plan`.

    Attributes
    ----------
    formula : str
    by : tuple of str
        Columns that name a trial; none means that the table is one trial.
    traits : tuple of str
        Response columns; empty when the formula's response is an expression such as ``log(yield)``.
    reml : bool
    weights : str or None
        Column of prior weights.
    fixed : bool
        Whether the table `fixed` is wanted.
    emmeans : tuple of str
        Specifications of marginal means.
    contrasts : str or tuple of (label, tuple of float) or None
        Family, or custom weights, of contrasts within each table of means.
    ref : str or None
        Control of ``trt.vs.ctrl``.
    adjust : str or None
    blups : tuple of str or bool
        Grouping factors whose BLUPs are wanted; True for all.
    ddf : str
    information : str or None
        None for the fit's own, which depends on its structures.
    level : float
    names : tuple of str or None
        Columns of the table, where the meaning of the formula depends on them (`on_columns`).
    factors : tuple of str
        Columns that are labels, whatever they look like.
    structures : Structures
        Residual, relationships, held parameters and starting values.
    covariances : bool
        Whether the means are wanted with their full covariance, for a second stage.
    genotypes : str or None
        Grouping factor whose values, heritabilities and trial summaries are wanted.
    plots : tuple of str or bool
        Whether every plot is wanted with its residual, and the columns that name it.
    trends : bool
        Whether the fitted trend of each trial is wanted, at all positions of its field.
    name : str
        Of its model, where there are several.
    others : tuple of BatchPlan
        Further models, of which each trial gets one; they differ in formula, structures and `blups`.
    choose : str
        ``"first"`` that a trial supports, or the best by ``"aic"`` or ``"bic"``.
    formula_column : str or None
        Column that names the model of each trial.
    open_trend : (str, str) or None
        Of the parsed formula: a trend by environments, whose terms each trial decides.
    """

    formula: str
    by: tuple[str, ...]
    traits: tuple[str, ...]
    reml: bool
    weights: str | None
    fixed: bool
    emmeans: tuple[str, ...]
    contrasts: str | tuple[tuple[str, tuple[float, ...]], ...] | None
    ref: str | None
    adjust: str | None
    blups: tuple[str, ...] | bool
    ddf: str
    information: str | None
    level: float
    names: tuple[str, ...] | None = None
    limits: Limits = DEFAULT
    factors: tuple[str, ...] = ()
    structures: Structures = PLAIN
    covariances: bool = False
    genotypes: str | None = None
    plots: tuple[str, ...] | bool = False
    trends: bool = False
    name: str = ""
    others: tuple[BatchPlan, ...] = ()
    choose: str = "first"
    formula_column: str | None = None
    open_trend: tuple[str, str] | None = None

    def _shown(self) -> str:
        formulas = "; ".join(own.formula for own in self.models)
        what = f"by {', '.join(self.by) or 'nothing'}; traits {', '.join(self.traits) or 'as written'}"
        return f"Plan of a batch: {formulas}\n{what}\ntables: {', '.join(self.tables)}"

    @cached_property
    def models(self) -> tuple[BatchPlan, ...]:
        """The plan of every model alone."""
        alone = replace(self, others=(), choose="first", formula_column=None) if self.others else self
        return (alone, *self.others)

    @cached_property
    def parsed(self) -> ParsedFormula:
        """The formula, parsed once."""
        parsed = replace(parse_formula(self.formula, self.limits), open_trend=self.open_trend)
        if self.names is None:
            return parsed
        taken = (*self.by, *self.traits, *((self.weights,) if self.weights else ()))
        return bind_formula(parsed, self.names, taken)

    def on_columns(self, names: Iterable[str]) -> BatchPlan:
        """The plan for a table with these columns: what ``.`` and names such as ``T`` stand for is decided.

        Raises
        ------
        OptionError
            When means are asked for that the fixed part does not have, or a choice is by REML criteria and
            the models have different fixed parts.
        """
        if self.names is not None or not self.open_names:
            return self
        others = tuple(own.on_columns(names) for own in self.others)
        bound = replace(self, names=tuple(str(name) for name in names), others=others)
        check_specs(bound.emmeans, bound.parsed)
        bound.check_comparable()
        return bound

    def check_comparable(self) -> None:
        """Raise OptionError for a choice by criteria of models that have no common measure."""
        formulas = [own.parsed for own in self.models]
        check_fixed_parts(self.choose, formulas, self.structures.relationships, self.reml)

    @property
    def open_names(self) -> frozenset[str]:
        """Names whose meaning depends on the table; ``units`` are its rows where no column is called so."""
        own = {UNITS} & set(self.structures.parsed.columns)
        return self.parsed.open_names.union(own, *(other.open_names for other in self.others))

    @property
    def mean_columns(self) -> tuple[str, ...]:
        """Columns of the tables of means and contrasts that are no labels."""
        return (*FIGURES, *(("spec",) if len(self.emmeans) > 1 else ()))

    @property
    def labels(self) -> tuple[str, ...]:
        """What the column `trait` says: the traits, or the response as an expression."""
        return self.traits or (self.parsed.response_name,)

    @cached_property
    def expressions(self) -> tuple[Node, ...]:
        """What is read besides keys and traits."""
        parsed = self.parsed
        read = (*parsed.expressions, *self.structures.parsed.expressions)
        return read if self.traits or parsed.response is None else (*read, parsed.response)

    @cached_property
    def explanatory(self) -> tuple[str, ...]:
        """Columns read besides keys and traits."""
        names = [name.name for node in self.expressions for name in columns_read(node)]
        if UNITS in names and UNITS not in (self.names or ()):
            names = [name for name in names if name != UNITS]
        return tuple(dict.fromkeys(names + ([self.weights] if self.weights else [])))

    @property
    def residual(self) -> str:
        """The residual as it is written, `UNITS` where residuals are independent with one variance."""
        return self.structures.parsed.text

    @cached_property
    def label_columns(self) -> frozenset[str]:
        """Columns that are only read as labels: as groups, or inside ``factor()``."""
        parsed = self.parsed
        residual = self.structures.parsed
        groups = [*label_factors(parsed), *residual.by, *residual.subject]
        atoms = [node for terms in (parsed.fixed, *(part.terms for part in parsed.random))
                 for node in terms.atoms.values()]  # fmt: skip
        calls = [node for node in (*atoms, *groups) if is_factor_call(node)]
        as_labels = {name.name for node in (*groups, *calls) for name in columns_read(node)}
        others = [node for node in (*atoms, *parsed.offsets) if node not in calls]
        others += [node for spline in parsed.splines for node in spline.variables]
        if not self.traits and parsed.response is not None:
            others.append(parsed.response)
        as_numbers = {name.name for node in others for name in columns_read(node)}
        as_numbers |= {str(self.weights), *self.traits}
        return frozenset(as_labels - as_numbers)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns read, those of the other models and the one that names them last."""
        further = [name for other in self.others for name in other.columns]
        further += [self.formula_column] if self.formula_column else []
        own = self.plots if isinstance(self.plots, tuple) else ()
        return tuple(dict.fromkeys((*self.by, *self.traits, *self.explanatory, *further, *own)))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the result tables this plan gives."""
        names = ["fits", "variance_components"]
        names += ["fixed"] if self.fixed else []
        names += ["emmeans"] if self.emmeans else []
        names += ["contrasts"] if self.contrasts else []
        names += ["covariances"] if self.covariances else []
        names += ["genotype_values", "blues", "heritabilities", "trials"] if self.genotypes else []
        names += ["plots"] if self.plots else []
        names += ["trends"] if self.trends else []
        return (*names, *(("blups", "heritability") if any(own.blups for own in self.models) else ()))

    def wants_blups(self, group: str, label: str = "") -> bool:
        """Whether the BLUPs of a grouping factor are asked for.

        `label` is the term as written: one term of ``at(env):rep`` is a group for each level of env, and
        asked for by its own name or by that of all.
        """
        if not isinstance(self.blups, tuple):
            return self.blups
        written = {part.group for part in self.parsed.random if part.label == label}
        return bool({group, *written} & set(self.blups))

    def describe(self) -> dict[str, Any]:
        """JSON form, as it stands in a manifest."""
        described = {"format": FORMAT} | {own.name: getattr(self, own.name) for own in fields(self)}
        del described["limits"]  # they refuse, but change no figure
        described |= described.pop("structures").described
        for name in ("covariances", "genotypes", "plots", "trends"):  # as before there were these options
            if not described[name]:
                del described[name]
        if self.others:
            described["others"] = [other.describe() for other in self.others]
        else:
            del described["others"], described["choose"], described["formula_column"]
        for name in ("name", "open_trend"):
            if not described[name]:
                del described[name]
        if self.names is None:  # most plans are what they are on any table
            del described["names"]
        return described

    @property
    def digest(self) -> str:
        """Hash of everything that decides the results."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:16]


def make_plan(
    formula: Any, *, choose: str = "first", formula_column: str | None = None, residual: str | None = None,
    field_trend: str | None = None, blups: Any = None, limits: Any = None, **options: Any,
) -> BatchPlan:  # fmt: skip
    """Check the options of a batch once, before any trial is read.

    Parameters
    ----------
    formula, choose, formula_column, residual, field_trend, blups, limits, **options
        As in `fit_batch`.

    Returns
    -------
    BatchPlan

    Raises
    ------
    FormulaError, OptionError, InferenceError
        What is wrong with the request, and what would be right.
    """
    candidates, most = read_candidates(formula), Limits.of(limits)
    models = [
        add_field_trend(
            parse_formula(own.formula, most),
            own.residual or residual or UNITS,
            own.field_trend or field_trend,
        )
        for own in candidates
    ]
    formulas = [parsed for parsed, _ in models]
    check_choice(choose, formula_column, len(formulas))
    if options.get("trends") and not any(map(has_trend, formulas)):
        raise OptionError(
            "trends=True needs a trend in the formula, such as ps(row, col) or (1 | ar1(row):ar1(col))"
        )
    plans = tuple(
        replace(one_plan(parsed, residual=own, blups=groups, **options), name=candidate.name)
        for candidate, (parsed, own), groups in zip(
            candidates, models, wanted_groups(blups, formulas), strict=True
        )
    )
    if len(plans) == 1:
        return replace(plans[0], name="")
    check_models(plans, formula_column)
    whole = replace(plans[0], others=plans[1:], choose=choose, formula_column=formula_column)
    if not whole.open_names:
        whole.check_comparable()
    return whole


def has_trend(parsed: ParsedFormula) -> bool:
    """Whether a formula has a spline or an autoregressive random term."""
    return bool(parsed.splines) or any(kind.kind == "ar1" for part in parsed.random for kind in part.kinds)


def check_models(plans: tuple[BatchPlan, ...], formula_column: str | None) -> None:
    """Raise OptionError for models of different responses, and names that `fits` needs itself."""
    responses = {", ".join(own.labels) for own in plans}
    if len(responses) > 1:
        raise OptionError(f"the formulas have different responses: {'; '.join(sorted(responses))}")
    for name in plans[0].by:
        if name in OF_MODELS:
            raise OptionError(f"by='{name}' is the name of a column of the results; rename the column")
    if formula_column in (*plans[0].by, *plans[0].traits):
        raise OptionError(f"formula_column='{formula_column}' is a trait or a key of the trials")


def one_plan(
    parsed: ParsedFormula, *, by: str | Sequence[str] | None, traits: str | Sequence[str] | None = None,
    reml: bool = True, weights: str | None = None, fixed: bool = True,
    emmeans: str | Sequence[str] | None = None, contrasts: str | Mapping[str, Sequence[float]] | None = None,
    ref: str | None = None, adjust: str | None = None, blups: bool | tuple[str, ...] = (),
    ddf: str | None = None, information: str | None = None, level: float = 0.95,
    factors: str | Sequence[str] | None = None, residual: str = UNITS, relationships: Any = None,
    fixed_parameters: Any = None, start: Any = None, covariances: bool = False, genotypes: str | None = None,
    plots: bool | str | Sequence[str] = False, trends: bool = False,
) -> BatchPlan:  # fmt: skip
    """The plan of one model; as `make_plan`, for a formula that has its trend already."""
    if not isinstance(reml, bool):
        raise OptionError(f"reml={reml!r} is not known; allowed: True, False")
    if weights is not None and not isinstance(weights, str):
        raise OptionError("weights must be the name of a column; in a batch every trial brings its own")
    keys = name_tuple("by", by)
    responses = name_tuple("traits", traits)
    if not responses:
        if parsed.response is None:
            words = "the response is missing; write 'response ~ terms' or give traits="
            raise FormulaError(words, parsed.text, 0)
        if isinstance(parsed.response, Name):
            responses = (parsed.response.name,)
    labels = name_tuple("factors", factors)
    structures = make_structures(parsed, residual, relationships, fixed_parameters, start)
    check_roles(keys, responses, (*parsed.expressions, *structures.parsed.expressions), bool(covariances))
    for name in labels:
        if name in responses or name == weights:
            role = "weights" if name == weights else "a trait"
            raise OptionError(f"factors: '{name}' is {role}, which is numeric")
    specs = name_tuple("emmeans", emmeans)
    if "." not in parsed.open_names:
        check_specs(specs, parsed)
    if covariances and not specs:
        raise OptionError("covariances=True needs the means it is of: give emmeans= too")
    method, reference = check_contrasts(contrasts, ref, bool(specs))
    plain = parsed.is_plain and structures.is_plain
    if information is None and plain:
        information = "expected"
    if ddf is None:
        ddf = "residual" if plain and not parsed.random else "kenward-roger" if reml else "satterthwaite"
    check_option("ddf", ddf, DDF_METHODS)
    if ddf == "kenward-roger" and not reml:
        raise InferenceError(KENWARD_ROGER_NEEDS_REML)
    return BatchPlan(
        formula=parsed.text, by=keys, traits=responses, reml=reml, weights=weights, fixed=bool(fixed),
        emmeans=specs, contrasts=method, ref=reference,
        adjust=None if adjust is None else check_adjust(adjust), blups=blups or (), ddf=ddf,
        information=None if information is None else check_option("information", information, KINDS),
        level=check_level(level), limits=parsed.limits, factors=labels, structures=structures,
        covariances=bool(covariances), genotypes=genotype_group(genotypes, parsed),
        plots=plot_columns(plots), trends=bool(trends), open_trend=parsed.open_trend,
    )  # fmt: skip
