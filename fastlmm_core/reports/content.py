"""What a page shows of one trial and trait, from the tables of a batch or from a fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.result import BatchResult
from fastlmm_core.errors import FastLMMError, OptionError
from fastlmm_core.results.diagnostics.case_diagnostics import suspicious_residuals
from fastlmm_core.results.field.layout import check_table
from fastlmm_core.results.field.plot_rows import plot_rows
from fastlmm_core.results.fit import LMMFit
from fastlmm_core.results.genotypes.fixed_levels import levels_within
from fastlmm_core.results.genotypes.fixed_means import fixed_means
from fastlmm_core.results.genotypes.heritability import heritability_of_all, heritability_within
from fastlmm_core.results.genotypes.heritability_levels import find_term
from fastlmm_core.results.genotypes.trial_summary import trial_summary

# Tables of a batch that a page shows, beside its row of `trial_table`.
SHOWN = ("plots", "genotype_values", "blues", "heritabilities", "heritability", "variance_components",
         "fixed", "emmeans", "contrasts", "blups")  # fmt: skip


@dataclass(frozen=True)
class UnitContent:
    """One trait of one trial.

    Attributes
    ----------
    trait, formula : str
    row : dict
        Its row of ``BatchResult.trial_table``, or the summary of a fit.
    tables : dict of str to DataFrame
        Those of `SHOWN` that there are.
    """

    trait: str
    formula: str
    row: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """There is a fit to show."""
        return self.row.get("status", "ok") == "ok" or bool(self.tables)

    def table(self, name: str) -> pd.DataFrame:
        return self.tables.get(name, pd.DataFrame())

    @property
    def genotype(self) -> str | None:
        """The column of the genotypes among their values."""
        columns = list(self.table("genotype_values").columns)
        return str(columns[columns.index("estimate") - 1]) if "estimate" in columns else None


@dataclass(frozen=True)
class BatchContent:
    """A batch, trial by trial.

    Attributes
    ----------
    result : BatchResult
    table : DataFrame
        ``trial_table`` of it.
    keys : DataFrame
        Of every trial in order.
    """

    result: BatchResult
    table: pd.DataFrame
    keys: pd.DataFrame
    _tables: dict[str, TrialRows]

    @property
    def names(self) -> list[str]:
        """Of the trials, for headings."""
        return [name_of_trial(row) for row in self.keys.itertuples(index=False)]

    def units(self, trial: int) -> Iterator[UnitContent]:
        """The traits of a trial."""
        key = tuple(map(str, self.keys.iloc[trial]))
        if not self.result.plan.by:
            key = ()
        for found in self.table.iloc[self._traits.get(key, [])].to_dict("records"):
            row = {str(name): value for name, value in found.items()}
            trait = str(row["trait"])
            tables = {name: rows.of((*key, trait)) for name, rows in self._tables.items()}
            known = {name: own for name, own in tables.items() if len(own)}
            yield UnitContent(trait, self._formula(row), row, known)

    @cached_property
    def _traits(self) -> dict[tuple[str, ...], list[int]]:
        """Rows of the table of trials by keys."""
        out: dict[tuple[str, ...], list[int]] = {}
        for (*key, _), rows in places_of(self.table, [*self.result.plan.by, "trait"]).items():
            out.setdefault(tuple(key), []).extend(rows.tolist())
        return out

    def _formula(self, row: dict[str, Any]) -> str:
        for own in self.result.plan.models:
            if own.name and own.name == row.get("model"):
                return own.formula
        return str(row["model"]) if row.get("model") else self.result.plan.formula


class TrialRows:
    """Rows of a table of a batch by keys and trait, without these columns, found once.

    Texts are Python's: a page asks for each of them, which arrays of Arrow answer slowly.
    """

    def __init__(self, frame: pd.DataFrame, keys: Sequence[str]):
        self._places = places_of(frame, keys)
        rest = frame.drop(columns=list(keys))
        texts = [name for name in rest if pd.api.types.is_string_dtype(rest[name].dtype)]
        self._rest = rest.astype(dict.fromkeys(texts, object))

    def of(self, key: tuple[str, ...]) -> pd.DataFrame:
        """Those of one trial and trait, numbered from 0."""
        own = self._rest.iloc[self._places.get(key, np.zeros(0, np.int64))]
        return own.set_axis(pd.RangeIndex(len(own)), axis=0)


def batch_content(result: BatchResult) -> BatchContent:
    """Content of a batch; rows are found by trial once."""
    by, table = list(result.plan.by), result.trial_table()
    tables = {n: TrialRows(result.table(n), [*by, "trait"]) for n in SHOWN if n in result.plan.tables}
    keys = table[by].drop_duplicates().reset_index(drop=True) if by else pd.DataFrame({"trial": ["all"]})
    return BatchContent(result, table, keys, tables)


def places_of(frame: pd.DataFrame, names: Sequence[str]) -> dict[tuple[str, ...], np.ndarray]:
    """Rows of a table by the values of some columns, as text."""
    if not len(frame):
        return {}
    codes = frame.groupby(list(names), sort=False, observed=True, dropna=False).ngroup().to_numpy()
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    parts = np.split(order, first[1:])
    keys = frame[list(names)].iloc[[int(own[0]) for own in parts]].itertuples(index=False)
    return {tuple(map(str, key)): own for key, own in zip(keys, parts, strict=True)}


def name_of_trial(key: Sequence[Any]) -> str:
    """The values of its keys; rows without one are no trial, and it is said that they have none."""
    return " ".join("(no name)" if pd.isna(value) else str(value) for value in key)


def fit_content(
    fit: LMMFit, genotypes: str | None, plots: Sequence[str] | str | None, data: pd.DataFrame | None
) -> UnitContent:
    """Content of a single fit."""
    if genotypes is not None and not fit.design.random:
        raise OptionError(f"genotypes='{genotypes}': the model has no random terms; leave it out")
    if data is not None:
        check_table(fit, data)
    columns = (plots,) if isinstance(plots, str) else True if plots is None else tuple(plots)
    residuals = suspicious_residuals(fit)
    tables = {
        "plots": plot_rows(fit, data, residuals, columns, genotypes),
        "variance_components": fit.variance_components, "fixed": fit.fixed_effects(),
    }  # fmt: skip
    row: dict[str, Any] = {"status": "ok", "n": fit.nobs, "missing": fit.n_dropped,
                           "warnings": "; ".join(str(own) for own in fit.warnings)}  # fmt: skip
    if genotypes is not None:
        means = fixed_means(fit, genotypes)
        table = heritability_of_all(fit, genotypes)
        tables["heritabilities"] = heritability_within(fit, genotypes) if table is None else table.to_frame()
        tables["blues"] = means.to_frame()
        tables |= within_environments(fit, genotypes)
        row |= trial_summary(fit, genotypes, 0.95, table, plots, data, residuals, means)
        try:
            tables["genotype_values"] = fit.genotype_values(genotypes).to_frame()
        except FastLMMError as error:
            row["warnings"] = "; ".join(filter(None, (row["warnings"], str(error))))
    elif fit.design.random:
        tables["blups"] = fit.blups()
    return UnitContent(
        fit.design.response or "response", fit.formula, row, {k: v for k, v in tables.items() if len(v)}
    )


def within_environments(fit: LMMFit, genotypes: str) -> dict[str, pd.DataFrame]:
    """Of ``(0 + env | gen)`` heritabilities and values of the genotypes in every environment."""
    within = levels_within(fit.design.random[find_term(fit, genotypes)])
    if within is None:
        return {}
    values = fit.genotype_values(genotypes, by=within[0]).to_frame()
    wide = values.pivot(index=values.columns[1], columns=within[0], values="estimate")[list(within[1])]
    rows = heritability_within(fit, genotypes)
    figures = rows.pivot(index="coefficient", columns="definition", values="estimate")
    figures = figures.loc[rows["coefficient"].unique(), rows["definition"].unique()]
    error = rows[rows["definition"] == "cullis"].set_index("coefficient")["se"]
    figures.insert(int(figures.columns.get_loc("cullis")) + 1, "SE of cullis", error)  # type: ignore[arg-type]
    return {
        "heritability_within": figures.reset_index().rename_axis(columns=None),
        "values_within": wide.reset_index().rename_axis(columns=None),
    }
