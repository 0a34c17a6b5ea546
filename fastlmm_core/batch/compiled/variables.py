"""The variables of a formula, evaluated once over the whole table instead of trial by trial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.design.inputs import read_response, read_variables
from fastlmm_core.design.offsets import read_offset
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.evaluation import is_elementwise
from fastlmm_core.design.values.numeric_values import Numbers, evaluate_numbers
from fastlmm_core.design.values.table import Table
from fastlmm_core.formula.expressions import Call, Name, Node, deparse
from fastlmm_core.formula.functions import columns_read, is_factor_call, match_arguments
from fastlmm_core.formula.parts import ParsedFormula


@dataclass(frozen=True)
class TableVariables:
    """Values of all expressions of a formula on the N rows of a table.

    Attributes
    ----------
    numbers : dict of str to (N,) float64
        Numeric variables of the linear parts by their text, NaN where missing.
    factors : dict of str to Column
        Factors of the linear parts and of the groupings by their text.
    missing : (N,) bool
        Rows that lack a column which one of the variables, or an offset, reads.
    undefined : (N,) bool
        Rows where an expression has no finite value although its columns are given; using one is an error.
    response : (N,) float64 or None
        None for a response that is a column.
    offset : (N,) float64 or None
    columns : Table
        What the variables were read from.
    """

    numbers: dict[str, np.ndarray]
    factors: dict[str, Column]
    missing: np.ndarray
    undefined: np.ndarray
    response: np.ndarray | None
    offset: np.ndarray | None
    columns: Table


def read_table(table: TrialTable) -> TableVariables | None:
    """Evaluate a plan's formula; None where a value depends on the rows of its trial, or there is none."""
    plan = table.plan
    if not all(is_elementwise(node) for node in plan.expressions):
        return None
    columns = Table(table.frame)
    try:
        raw, groups = read_variables(plan.parsed, columns)
        offsets = read_offset(plan.parsed, columns, None).parts
        response = None if plan.traits else read_response(plan.parsed, columns)
    except Exception:  # no trial can be read then, and the general path says why
        return None
    if any(variable.ordered for variable in raw.values()):
        return None  # coded by polynomials in the levels of each trial
    numbers: dict[str, np.ndarray] = {}
    factors: dict[str, Column] = {}
    missing, undefined = np.zeros(columns.n, dtype=bool), np.zeros(columns.n, dtype=bool)
    for text, variable in (*raw.items(), *groups.items()):
        missing |= variable.missing()
        if isinstance(variable.values, Numbers):
            numbers[text] = variable.values.values[:, 0]
        else:
            factors[text] = Column(text, variable.values, variable.levels)
    missing |= np.any([offset.missing() for offset in offsets], axis=0)
    evaluated = [v.values for v in raw.values() if isinstance(v.values, Numbers)]
    for found in (*evaluated, *offsets, *(() if response is None else (response,))):
        if found.undefined is not None:
            undefined |= found.undefined
    return TableVariables(
        numbers, factors, missing, undefined, None if response is None else given_values(response),
        np.sum([given_values(offset) for offset in offsets], axis=0) if offsets else None, columns,
    )  # fmt: skip


def given_values(numbers: Numbers) -> np.ndarray:
    """(N,) values, NaN only where a column is missing: where the expression has no value, zero."""
    values = numbers.values[:, 0]
    return values if numbers.undefined is None else np.where(numbers.undefined, 0.0, values)


@dataclass(frozen=True)
class GridCovariates:
    """Where the grid of the marginal means has its covariates.

    A covariate is at its mean over the rows used, and a function of covariates at the function of the means.

    Attributes
    ----------
    sources : dict of str to int
        Columns that functions read, and their places among the numeric columns.
    functions : tuple of (int, tuple of Node)
        Place of each function, and the expressions that it is the sum of.
    offset : int
        Place of the offset, -1 without one.
    """

    sources: dict[str, int]
    functions: tuple[tuple[int, tuple[Node, ...]], ...]
    offset: int

    def place(self, means: np.ndarray) -> np.ndarray:
        """Replace the means of functions by functions of the means, in place.

        Parameters
        ----------
        means : (U, n_numeric) float64
            Mean of each numeric column by unit.

        Returns
        -------
        (U,) bool
            Units where a function has no finite value.
        """
        undefined = np.zeros(means.shape[0], dtype=bool)
        columns = {name: Column(name, means[:, at].copy(), None) for name, at in self.sources.items()}
        grid = Table.of(columns, means.shape[0])
        for at, nodes in self.functions:
            means[:, at] = np.sum([evaluate_numbers(node, grid, {}).values[:, 0] for node in nodes], axis=0)
            undefined |= ~np.isfinite(means[:, at])
        return undefined


def grid_factors(parsed: ParsedFormula, variables: TableVariables) -> dict[str, str] | None:
    """Text of the factor behind each variable of the means; None where the grid is not one of single factors.

    Compiled code averages over one factor after another.  That is `lmm`'s grid when every factor is a column
    of its own, and every other variable a function of numeric columns.
    """
    readers = Counter(n for node in parsed.fixed.atoms.values() for n in {x.name for x in columns_read(node)})
    found: dict[str, str] = {}
    of_offsets = {name.name for node in parsed.offsets for name in columns_read(node)}
    if any(variables.columns.column(name).is_factor for name in of_offsets):
        return None
    for text, node in parsed.fixed.atoms.items():
        if text in variables.numbers:
            if any(variables.columns.column(name.name).is_factor for name in columns_read(node)):
                return None
            continue
        inner = node
        if isinstance(node, Call) and is_factor_call(node):
            arguments = match_arguments(node)
            if "labels" in arguments.settings:  # the means are of the column's own labels
                return None
            inner = arguments.values[0]
        if not isinstance(inner, Name) or readers[inner.name] != 1:
            return None
        found[inner.name] = text
    return found


def numeric_columns(
    plan: BatchPlan, variables: TableVariables
) -> tuple[dict[str, np.ndarray], GridCovariates]:
    """Numeric variables by text, with what else the grid of the means needs, and the roles of these."""
    if not plan.emmeans:
        return variables.numbers, GridCovariates({}, (), -1)
    atoms = plan.parsed.fixed.atoms
    numeric = {text: node for text, node in atoms.items() if text in variables.numbers}
    functions: dict[str, tuple[Node, ...]] = {t: (n,) for t, n in numeric.items() if isinstance(n, Call)}
    if variables.offset is not None:
        functions["offset()"] = plan.parsed.offsets
    names = {name.name for nodes in functions.values() for node in nodes for name in columns_read(node)}
    read = {name: deparse(Name(0, name)) for name in sorted(names)}
    numbers = dict(variables.numbers)
    numbers |= {text: variables.columns.column(name).values for name, text in read.items()}
    if variables.offset is not None:
        numbers["offset()"] = variables.offset
    place = {text: i for i, text in enumerate(numbers)}
    covariates = GridCovariates(
        {name: place[text] for name, text in read.items()},
        tuple((place[text], nodes) for text, nodes in functions.items()), place.get("offset()", -1),
    )  # fmt: skip
    return numbers, covariates
