"""What a batch returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.selection import common_genotypes, selection_index
from fastlmm_core.batch.tables import Tables
from fastlmm_core.batch.trial_table import trial_table
from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.frames import titled
from fastlmm_core.errors import OptionError, clipped, nothing_of
from fastlmm_core.formula.structured_parts import UNITS
from fastlmm_core.gate import public
from fastlmm_core.options import NUMBER, table_of

# Options that make a table of another name.
OPTIONS = {"heritability": "blups", "genotype_values": "genotypes", "blues": "genotypes",
           "heritabilities": "genotypes", "trials": "genotypes"}  # fmt: skip
LONGEST_REASON = 200  # characters of a message in the summary
Reader = Callable[[str], pd.DataFrame]


class NamedTable:
    """An attribute that is the table of its own name, and a DataFrame to type checkers."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, result: BatchResult | None, owner: type) -> pd.DataFrame:
        if result is None:  # asked of the class, by those who read documentation
            return cast("pd.DataFrame", self)
        return result.table(self.name)


@dataclass(frozen=True, eq=False, repr=False)
class BatchResult(Displayed):
    """Tidy tables of a batch; every table has the keys of the trial and `trait` in front.

    Attributes
    ----------
    plan : BatchPlan
    seconds : float
        Wall time of the call.
    out : Path or None
        Folder with the tables as Parquet datasets, which are then read when they are asked for.
    notes : tuple of str
        What the reader of a file decided: separator, decimal sign, odd cells that are missing values.
    fits : DataFrame
        One row a trial and trait: n, n_dropped, rank, criterion, sigma, var_<group>, converged, singular,
        iterations, seconds, status ("ok" or the kind of failure), message; of several formulas also model and
        reason.
    variance_components, fixed, emmeans, contrasts, blups : DataFrame
        As the tables of one fit.
    heritability : DataFrame
        For the grouping factors in `blups`: group, levels, replication, variance, mean_pev, h2_cullis,
        h2_standard, status.
    covariances : DataFrame
        Means with their full covariance: labels, estimate, `df_difference`, the degrees of freedom of the
        mean variance of a difference in the trial, and `covariance`, for each mean its row of the lower
        triangle over the means of the trial.
    genotype_values, blues, heritabilities, trials : DataFrame
        For `genotypes`: as ``LMMFit.genotype_values``, their means as fixed effects (estimate, se, df), as
        ``LMMFit.heritability``, and one row a trial as ``LMMFit.trial_summary``.
    plots : DataFrame
        For `plots`: row, column, plot, genotype, response, fitted, trend, residual and studentized of every
        plot, also of those without a value.
    trends : DataFrame
        As ``LMMFit.trend``: positions, trend and se.

    Examples
    --------
    >>> from fastlmm_core import datasets, fit_batch
    >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
    >>> batch = fit_batch(datasets.path("trials"), model, by="trial", progress=False)
    >>> print(batch.variance_components.head(3)[["trial", "group", "estimate"]])
    Batch: variance_components
     trial  group      estimate
     T1     gen          0.2967
     T1     rep:block    0.1507
     T1     Residual     0.2141
    """

    plan: BatchPlan
    seconds: float
    out: Path | None
    _tables: Tables
    _read: Reader | None = None
    notes: tuple[str, ...] = ()

    fits = NamedTable()
    variance_components = NamedTable()
    fixed = NamedTable()
    emmeans = NamedTable()
    contrasts = NamedTable()
    blups = NamedTable()
    heritability = NamedTable()
    covariances = NamedTable()
    genotype_values = NamedTable()
    blues = NamedTable()
    heritabilities = NamedTable()
    trials = NamedTable()
    plots = NamedTable()
    trends = NamedTable()

    @titled("Batch: {name}")
    def table(self, name: str) -> pd.DataFrame:
        """A table by name.

        Raises
        ------
        OptionError
            When the call did not ask for that table.

        Examples
        --------
        >>> from fastlmm_core import datasets, fit_batch
        >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
        >>> batch = fit_batch(datasets.path("trials"), model, by="trial", blups="gen", progress=False)
        >>> print(batch.table("blups").head(2)[["trial", "level", "estimate"]])
        Batch: blups
         trial  level  estimate
         T1     CHECK   0.44982
         T1     G01    -0.03413
        """
        if name not in self.plan.tables:
            option = OPTIONS.get(name, name)
            raise OptionError(f"the batch has no table '{name}': ask for it with {option}=")
        if name not in self._tables and self._read is not None:
            self._tables[name] = self._read(name)
        return self._tables[name]

    @public(weights=table_of(NUMBER))
    @titled("Selection index")
    def selection_index(self, weights: Mapping[str, float]) -> pd.DataFrame:
        """Weighted sums over traits of the values of the genotypes; see ``batch.selection``.

        Examples
        --------
        >>> from fastlmm_core import datasets, fit_batch
        >>> batch = fit_batch(datasets.path("trials"), "~ rep + (1|gen) + (1|rep:block)", by="trial",
        ...                   traits=["yield", "height"], genotypes="gen", progress=False)
        >>> index = batch.selection_index({"yield": 1.0, "height": -0.1})
        >>> index.columns.tolist()[:3]
        ['trial', 'gen', 'estimate']
        """
        values = self.genotype_values
        return selection_index(values, list(self.plan.by), self._genotype(values), weights)

    @titled("Genotypes in common")
    def common_genotypes(self) -> pd.DataFrame:
        """How many genotypes every two trials have in common; see ``batch.selection``.

        Examples
        --------
        >>> from fastlmm_core import datasets, fit_batch
        >>> batch = fit_batch(datasets.path("trials"), "~ rep + (1|gen) + (1|rep:block)", by="trial",
        ...                   traits=["yield", "height"], genotypes="gen", progress=False)
        >>> print(batch.common_genotypes().head(2))
        Genotypes in common
         trial  T1  T2  T3  T4  T5  T6  T7
         T1     24  24  24  24  24  24  24
         T2     24  24  24  24  24  24  24
        """
        values = self.genotype_values
        return common_genotypes(values, list(self.plan.by), self._genotype(values))

    @titled("Trials")
    def trial_table(self) -> pd.DataFrame:
        """A row for every trial and trait, those without a fit too; see ``fastlmm_core.batch.trial_table``.

        Returns
        -------
        DataFrame
            Keys, trait, status; with ``genotypes=`` the columns of `trials`, and by genotypes in common with
            other trials connected, common, shared and network; warnings in words.

        Examples
        --------
        >>> from fastlmm_core import datasets, fit_batch
        >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
        >>> batch = fit_batch(datasets.path("trials"), model, by="trial", genotypes="gen", progress=False)
        >>> batch.trial_table()["trial"].tolist()[:3]
        ['T1', 'T2', 'T3']
        """
        with_values = bool(self.plan.genotypes)
        values = self.genotype_values if with_values else None
        return trial_table(
            self.fits, self.trials if with_values else None, values, list(self.plan.by),
            None if values is None or not len(values) else self._genotype(values),
        )  # fmt: skip

    @staticmethod
    def _genotype(values: pd.DataFrame) -> str:
        """The column of the genotypes, which stands before their figures."""
        if "estimate" not in values.columns:
            raise nothing_of("values of genotypes")
        return str(values.columns[list(values.columns).index("estimate") - 1])

    @cached_property
    @titled("Failures by reason")
    def failures(self) -> pd.DataFrame:
        """Number of units by status other than "ok", most frequent first."""
        lost = self.fits.loc[self.fits["status"] != "ok", "status"]
        return lost.value_counts().rename_axis("status").reset_index(name="units")

    def summary(self) -> str:
        """Fits, failures by reason, singular fits and time, in words.

        Examples
        --------
        >>> from fastlmm_core import datasets, fit_batch
        >>> model = "yield ~ rep + (1|gen) + (1|rep:block)"
        >>> batch = fit_batch(datasets.path("trials"), model, by="trial", progress=False)
        >>> batch.summary().splitlines()[0]
        "8 fits of 'yield ~ rep + (1|gen) + (1|rep:block)': 6 ok, 2 with problems"
        """
        fits = self.fits
        good = int((fits["status"] == "ok").sum())
        rate = f", {len(fits) / self.seconds:.0f} per second" if self.seconds > 0 else ""
        several = self.plan.others
        what = f"{len(self.plan.models)} formulas" if several else repr(self.plan.formula)
        if not several and self.plan.residual != UNITS:
            what += f" with residual {self.plan.residual!r}"
        lines = [f"{len(fits)} fits of {what}: {good} ok, {len(fits) - good} with problems"]
        for name in [own.name for own in self.plan.models] if several else ():
            lines.append(f"  {int((fits['model'] == name).sum())} of {name}")
        for status, units in self.failures.to_numpy().tolist():
            lines.append(f"  {status}: {units}{self._reason(status)}")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"singular fits: {int(fits['singular'].sum())}")
        lines.append(f"time: {self.seconds:.1f} s{rate}")
        return "\n".join(lines)

    def _reason(self, status: str) -> str:
        """What most units of a status say, as part of a line."""
        said = self.fits.loc[self.fits["status"] == status, "message"].dropna().value_counts()
        if not len(said):
            return ""
        return f" ({'' if len(said) == 1 else 'most often: '}{clipped(str(said.index[0]), LONGEST_REASON)})"

    def _shown(self) -> str:
        return self.summary()
