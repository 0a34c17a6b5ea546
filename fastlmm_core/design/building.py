"""From a formula and a table to a design: variables are read, rows chosen, columns coded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core.design.coding.model_matrix import Coding, code_terms
from fastlmm_core.design.coding.rank import column_rank
from fastlmm_core.design.distances import distance_warnings
from fastlmm_core.design.field_positions import shared_position_warnings
from fastlmm_core.design.group_columns import group_columns, group_places, table_with, with_group_terms
from fastlmm_core.design.identifiability import check_terms
from fastlmm_core.design.inputs import (
    LARGEST_VALUE,
    check_column_sizes,
    check_names,
    check_size,
    complete_rows,
    most_missing,
    read_response,
    read_variables,
    read_weights,
)
from fastlmm_core.design.matrices import Design, FixedTerm
from fastlmm_core.design.offsets import read_offset
from fastlmm_core.design.parameter_names import is_named
from fastlmm_core.design.random_terms import RandomTerm, build_random_terms, order_terms
from fastlmm_core.design.residual_building import build_residual, read_residual
from fastlmm_core.design.splines.penalized_splines import SplineTerm, build_splines, read_spline_variables
from fastlmm_core.design.term_axes import TermData
from fastlmm_core.design.trend_environments import settle_environments
from fastlmm_core.design.used_columns import UsedColumns
from fastlmm_core.design.values.spelling import spelling_warnings
from fastlmm_core.design.values.table import Table
from fastlmm_core.design.values.variables import Raw, make_atom
from fastlmm_core.errors import DataError, OptionError, nearest_names
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.formula.parsing import ParsedFormula, bind_formula, parse_formula
from fastlmm_core.formula.residual import ParsedResidual, parse_residual
from fastlmm_core.structures.relationships import Relationship, as_relationship, made_together


def build_design(
    formula: str | ParsedFormula,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: dict[str, Any] | None = None,
    response: bool = True,
    residual: str | ParsedResidual = "units",
    relationships: Mapping[str, Any] | None = None,
    held: Collection[str] = (),
) -> Design:
    """Evaluate a formula on a table.

    Parameters
    ----------
    formula : str or ParsedFormula
        lme4 notation; see `parse_formula`.
    data : pandas, polars or pyarrow table, or dict of columns
        Columns of strings, booleans and categoricals are factors; numbers are covariates, and levels where
        they group.
    weights : str or (N,) array, optional
        Column name or values for the N rows of the table; positive, Var(e_i) = sigma^2 / w_i.
    offset : str or (N,) array, optional
        Added to the ``offset()`` terms of the formula.
    contrasts : dict, optional
        {factor: "contr.sum" | "contr.helmert" | "contr.poly" | "contr.SAS" | "contr.treatment" | (L, c)
        matrix}; treatment coding with the first level as reference otherwise.
    response : bool
        False when the table need not have the response.
    residual : str
        ``"units"``, ``"units | env"``, ``"us(visit | subject)"``, ``"ar1(row):ar1(col) | env"``, ...; see
        `fastlmm_core.formula.residual`.
    relationships : dict of str to Relationship, optional
        What ``vm(gen, A)`` names.
    held : collection of str
        Names of what is held at given variances. Terms that could not be told apart from it are estimable.

    Returns
    -------
    Design

    Raises
    ------
    FormulaError
        When the formula does not parse or names a column that is not there.
    DataError
        When values cannot be used: infinite, complex, mixed types, a response that is not numeric, bad
        weights.
    DesignError
        When the model cannot be fitted to the rows left: too few rows, a factor with one level, confounding.
    """
    parsed = parse_formula(formula)
    rows_of = parse_residual(residual)
    known = read_relationships(relationships)
    table = data if isinstance(data, Table) else Table(data)
    if table.n == 0:
        raise DataError("the data have no rows")
    table = table_with(table, group_columns(parsed, known), 0.0)
    parsed = with_group_terms(parsed, known, table.names)
    parsed = bind_formula(parsed, table.names, (weights,) if isinstance(weights, str) else ())
    check_names(parsed, table, response)
    raw, groups = read_variables(parsed, table)
    residual_raw = read_residual(rows_of, table)
    smooth = read_spline_variables(parsed.splines, table)
    y = read_response(parsed, table) if response else None
    offsets = read_offset(parsed, table, offset)
    variables = (*raw.values(), *groups.values(), *residual_raw.values(), *smooth.values())
    rows = complete_rows([*variables, *(() if y is None else (y,)), *offsets.parts])
    n = table.n if rows is None else rows.size
    if n == 0:
        raise DataError(
            f"all {table.n} rows have a missing value in a column of the model{most_missing(table)}"
        )
    settled, said = settle_environments(parsed, raw, groups, rows)
    if settled is not parsed:
        design = build_design(
            settled, table, weights=weights, offset=offset, contrasts=contrasts, response=response,
            residual=residual, relationships=relationships, held=held,
        )  # fmt: skip
        return replace(design, warnings=(*said, *design.warnings)) if said else design
    coding, values = _code_fixed(parsed, raw, rows, contrasts)
    parsed.limits.check("columns", coding.p, "the fixed part has {} columns")
    X_full = coding.matrix(values, n)
    sizes = np.abs(X_full.data)
    least = sizes.min(initial=np.inf, where=sizes > 0.0)  # zeros of a covariate are stored
    if sizes.size and not (sizes.max() <= LARGEST_VALUE and least >= 1.0 / LARGEST_VALUE):
        check_column_sizes(abs(X_full).max(axis=0).toarray().ravel(), coding.column_names)
    rank = column_rank(X_full)
    source = TermData(raw, groups, rows, n, contrasts, known, parsed.limits)
    terms = [term for part in parsed.random for term in build_random_terms(part, source)]
    for term in terms:
        check_column_sizes(np.abs(term.values).max(axis=0, initial=0.0), term.columns)
        group_places(term, coding.column_names)
    spec = build_residual(rows_of, residual_raw, rows, n, table, known)
    w = read_weights(weights, table, rows)
    residual_held = any(name.startswith("Residual") for name in map(str, held))
    # before the terms are checked: what a field is too narrow for says more than that a row has one level
    splines = [own for part in parsed.splines for own in build_splines(part, smooth, groups, rows, X_full)]
    if not residual_held:
        check_terms([term for term in terms if not is_named(term, held)], spec, n, table.names, w)
    ordered = order_terms(terms, spec.is_plain and not residual_held and not splines)
    random = in_formula_order(ordered, splines, parsed) if splines else ordered
    check_size(n, rank)
    names = coding.column_names
    used = np.arange(n) if rows is None else rows
    index = None if table.index is None else (table.index if rows is None else table.index[rows])
    return Design(
        formula=parsed, response=parsed.response_name, n=n, n_dropped=table.n - n, rows=used,
        y=None if y is None else y.on_rows(rows)[:, 0], offset=offsets.total(rows),
        X=X_full if not rank.dropped.size else sp.csc_array(X_full[:, rank.kept]), column_names=names,
        kept=rank.kept, dropped_columns=tuple(names[j] for j in rank.dropped), weights=w,
        random=random, terms=_fixed_terms(coding), coding=coding, _rank=rank, _X_full=X_full, _values=values,
        table=UsedColumns(table._columns, rows, index), _offset=offsets, residual=spec,
        warnings=(
            *distance_warnings(parsed, rows_of, raw, groups, residual_raw),
            *shared_position_warnings(parsed, splines, smooth, rows),
            *spelling_warnings(raw | groups | residual_raw, rows),
        ),
    )  # fmt: skip


def in_formula_order(
    terms: tuple[RandomTerm, ...], splines: list[SplineTerm], parsed: ParsedFormula
) -> tuple[RandomTerm | SplineTerm, ...]:
    """Random terms, given in the order of the formula, and splines where they stand between them."""
    place = {part.label: part.position for part in parsed.random}
    place |= {part.label: part.position for part in parsed.splines}
    return tuple(sorted((*terms, *splines), key=lambda term: place[term.label]))


def read_relationships(given: Mapping[str, Any] | None) -> dict[str, Relationship]:
    """Relationships by name; none without any.

    Raises
    ------
    OptionError
        When they have no names, or one is none of what `as_relationship` takes.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"relationships must be given by name, {{'A': ...}}, not as {type(given).__name__}")
    return made_together(given, as_relationship)


def _code_fixed(
    parsed: ParsedFormula, raw: dict[str, Raw], rows: np.ndarray | None, contrasts: Any
) -> tuple[Coding, dict[str, np.ndarray]]:
    if contrasts is not None and not isinstance(contrasts, Mapping):
        raise OptionError(f"contrasts={contrasts!r} does not name its factors; write for example "
                          "{'gen': 'contr.sum'}")  # fmt: skip
    if contrasts:
        random_atoms = {text for part in parsed.random for text in part.terms.atoms}
        texts = {label_of(text): text for text in (*parsed.fixed.atoms, *random_atoms)}
        for name in contrasts:
            if label_of(str(name)) not in texts:
                raise OptionError(f"contrasts name '{name}', which is not a variable of the formula"
                                  f"{nearest_names(name, parsed.fixed.atoms)}")  # fmt: skip
            if raw[texts[label_of(str(name))]].levels is None:
                raise OptionError(
                    f"contrasts name '{name}', which is numeric; write C({name}) in the formula"
                )
    atoms, values = {}, {}
    for text, node in parsed.fixed.atoms.items():
        atoms[text], values[text] = make_atom(text, node, raw[text], rows, contrasts)
    factors = {text for text, atom in atoms.items() if atom.is_factor}
    return Coding(parsed.fixed.intercept, atoms, code_terms(parsed.fixed, factors)), values


def _fixed_terms(coding: Coding) -> tuple[FixedTerm, ...]:
    out = []
    for term, start, width in zip(coding.terms, coding.starts, coding.widths, strict=False):
        variables = dict.fromkeys(name for text in term.atoms for name in coding.atoms[text].columns_read)
        out.append(FixedTerm(term.label, tuple(variables), np.arange(start, start + width), len(term.atoms)))
    return tuple(out)
