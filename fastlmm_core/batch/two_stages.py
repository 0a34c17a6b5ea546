"""The second of two stages: a model of the means of many trials, with what is known of their errors.

The first stage hands over the BLUEs of each trial with their full covariance Omega_j.  With their blocks as
known R, the second stage is the analysis of all plots in one model at the variances of the first (Piepho,
Moehring, Schulz-Streeck & Ogutu 2012, Biom. J. 54, 844-860; Damesa et al. 2017, Agron. J. 109, 845-857).
Smith's weights keep of it the diagonal of the inverse (Smith, Cullis & Gilmour 2001, Aust. N. Z. J. Stat. 43,
129-145).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.api import lmm
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.errors import (
    CodesWarning,
    DataError,
    FormulaError,
    LeftOutWarning,
    OptionError,
    name_list,
    nearest_names,
    nothing_of,
)
from fastlmm_core.formula.expressions import Name
from fastlmm_core.formula.functions import columns_read
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.gate import public, warn_caller
from fastlmm_core.means.codes import code_words
from fastlmm_core.options import ANY, NAME, SWITCH, TEXT, one_of, optional, table_of
from fastlmm_core.reading import is_number_text, ordered_labels
from fastlmm_core.structures.relationships.blocks import BlockCovariance

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

WEIGHTS = ("full", "smith", "diagonal")
MOST_NAMED = 5


@dataclass(frozen=True)
class StageMeans:
    """Means of one trait in all trials.

    Attributes
    ----------
    frame : DataFrame (n rows)
        Keys of the trials, labels of the means, `estimate`, and `trial`, the number of the trial.
    covariance : BlockCovariance
        Of the n rows, named "1", "2", ...: one block a trial.
    df : (trials,) ndarray
        Degrees of freedom of the mean variance of a difference; NaN where an older batch did not keep them.
    """

    frame: pd.DataFrame
    covariance: BlockCovariance
    df: np.ndarray


@public(
    formula=TEXT, weights=one_of(WEIGHTS), trait=optional(NAME), spec=optional(TEXT), reml=SWITCH,
    fixed_parameters=optional(table_of(ANY)),
)  # fmt: skip
def second_stage(
    batch: BatchResult, formula: str, *, relationships: Mapping[str, Any] | None = None,
    weights: str = "full", trait: str | None = None, spec: str | None = None, reml: bool = True,
    fixed_parameters: Mapping[str, Any] | None = None,
) -> LMMFit:  # fmt: skip
    """Fit a model to the means of a batch, with their errors as the first stage knows them.

    Parameters
    ----------
    batch : BatchResult
        Of ``fit_batch(..., emmeans="gen", covariances=True)``, in memory or in a folder.
    formula : str
        Of the means: ``"mean ~ gen + (1|trial) + (1|trial:gen)"``. Left of ~ stands any new name; the
        columns are the keys of the trials and the variables of the means.
    relationships : dict, optional
        As of `lmm`.
    weights : {"full", "smith", "diagonal"}
        The whole covariance of the means of a trial, the diagonal of its inverse, or its own diagonal. The
        residual variance is held at what they say.
    trait : str, optional
        Which of several traits.
    spec : str, optional
        Which of several specifications of means.
    reml : bool
    fixed_parameters : dict, optional
        Further variances to be held, as of `lmm`.

    Returns
    -------
    LMMFit

    Raises
    ------
    OptionError
        When the batch has no covariances, or no such trait or specification.
    DataError
        When no trial gave means, their covariance is singular, or a column is named ``units``.
    FormulaError
        When the response is an expression or one of the columns.

    Examples
    --------
    >>> from fastlmm_core import datasets, fit_batch, second_stage
    >>> first = fit_batch(datasets.load("trials"), "yield ~ gen + (1|rep) + (1|rep:block)", by="trial",
    ...                   emmeans="gen", covariances=True, fixed=False)
    >>> fit = second_stage(first, "mean ~ gen + (1|trial) + (1|trial:gen)")
    >>> sorted(term.group for term in fit.design.random)
    ['trial', 'trial:gen']
    """
    means = stage_means(batch, trait, spec)
    _tell_left_out(batch, means.frame, trait)
    _tell_numbered(batch, means.frame, formula)
    response = response_name(formula, means.frame)
    labels = {name: in_order(means.frame[name]) for name in means.frame.columns.drop("estimate")}
    frame = pd.DataFrame({**labels, response: means.frame["estimate"]})
    held = dict(fixed_parameters or {}) | {"Residual": 1.0}
    known = dict(relationships or {})
    if weights == "full":
        if "units" in frame:
            raise DataError(
                "the means have a column 'units', which stands for the rows themselves in "
                "residual='vm(units, ...)'; give it another name in the data of the first stage"
            )
        name = "Omega"
        while name in known:
            name += "_"
        known[name] = means.covariance
        return lmm(
            formula, frame, reml=reml, residual=f"vm(units, {name})", relationships=known,
            fixed_parameters=held,
        )  # fmt: skip
    own = means.covariance
    w = own.precision_diagonal() if weights == "smith" else 1.0 / own.diagonal()
    return lmm(formula, frame, reml=reml, weights=w, relationships=known, fixed_parameters=held)


@dataclass(frozen=True)
class StageBlocks:
    """Means of one trait and the covariances of those of each trial, as the batch kept them.

    Attributes
    ----------
    frame, df
        As of `StageMeans`.
    trials : DataFrame
        A row of keys for each trial.
    blocks : list of (m, m)
    """

    frame: pd.DataFrame
    trials: pd.DataFrame
    blocks: list[np.ndarray]
    df: np.ndarray


def _tell_left_out(batch: BatchResult, means: pd.DataFrame, trait: str | None) -> None:
    """A warning that names the trials without means."""
    keys, fits = list(batch.plan.by), batch.fits
    if trait is not None:
        fits = fits[fits["trait"] == trait]
    if not keys or not len(fits):
        return
    there = pd.MultiIndex.from_frame(means[keys].drop_duplicates())
    lost = fits[~pd.MultiIndex.from_frame(fits[keys]).isin(there)]
    if not len(lost):
        return
    trials = zip(lost[keys].itertuples(index=False), lost["status"], strict=True)
    names = [f"{' '.join(map(str, key))} ({status})" for key, status in trials]
    which = f"{len(lost)} of {len(fits)} trials are" if len(lost) > 1 else f"1 of {len(fits)} trials is"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    shown = ", ".join(names[:MOST_NAMED]) + more
    words = f"{which} not in the second stage, without means: {shown}; the table `fits` says why"
    warn_caller(LeftOutWarning(words))


def in_order(values: pd.Series) -> Any:
    """Labels that are all numbers as categories in their order, as in the first stage; others as they are."""
    if pd.api.types.is_numeric_dtype(values.dtype) or isinstance(values.dtype, pd.CategoricalDtype):
        return values
    levels = values.dropna().unique().tolist()
    if not all(isinstance(level, str) and is_number_text(level) for level in levels):
        return values
    return pd.Series(pd.Categorical(values, ordered_labels(levels)), index=values.index)


def _tell_numbered(batch: BatchResult, means: pd.DataFrame, formula: str) -> None:
    """A warning where the fixed part has one slope over trials that are called by whole numbers.

    Where the key also groups, as in ``year + (1|year)``, it is meant as a trend.
    """
    parsed = parse_formula(formula)
    plain = {node.name for node in parsed.fixed.atoms.values() if isinstance(node, Name)}
    groups = {node.name for part in parsed.random if len(part.factors) == 1
              for node in part.factors if isinstance(node, Name)}  # fmt: skip
    calls = {text for text in parsed.fixed.atoms if text not in plain}
    for name in batch.plan.by:
        levels = means[name]
        if name not in plain - groups or not pd.api.types.is_numeric_dtype(levels.dtype):
            continue
        if levels.nunique() > 2 and f"factor({name})" not in calls:
            words = code_words(name, levels.nunique())
            warn_caller(CodesWarning(f"second stage, one slope over the trials: {words}"))


def stage_blocks(batch: BatchResult, trait: str | None = None, spec: str | None = None) -> StageBlocks:
    """The means of a batch with the covariance of each trial, one trait and one specification.

    Raises
    ------
    OptionError, DataError
        As of `second_stage`.
    """
    if not isinstance(batch, BatchResult):
        raise OptionError(f"second_stage needs the result of fit_batch, not {type(batch).__name__}")
    if not batch.plan.covariances:
        raise OptionError(
            "the batch kept no covariances of its means: fit_batch(..., emmeans=, covariances=True)"
        )
    table = _chosen(batch.covariances, "trait", trait, batch.plan.labels)
    if len(batch.plan.emmeans) > 1 and len(table):  # a table without rows has no column `spec`
        table = _chosen(table, "spec", spec, batch.plan.emmeans).drop(columns="spec")
    if not len(table):
        raise nothing_of("means")
    rows = table["covariance"].to_list()
    sizes = np.array([len(row) for row in rows])
    first = np.flatnonzero(sizes == 1)  # the rows of a trial grow from 1
    blocks = [triangle(rows[lo:hi]) for lo, hi in zip(first, [*first[1:], len(rows)], strict=True)]
    keys = list(batch.plan.by)
    df = table["df_difference"].to_numpy(float) if "df_difference" in table else np.full(len(table), np.nan)
    frame = table.drop(columns=["covariance", "trait", "df_difference"], errors="ignore")
    frame = frame.dropna(axis=1, how="all").reset_index(drop=True)
    if not keys and "trial" not in frame.columns:
        frame["trial"] = "1"
    return StageBlocks(frame, table[keys].iloc[first], blocks, df[first])


def stage_means(batch: BatchResult, trait: str | None = None, spec: str | None = None) -> StageMeans:
    """The same with one covariance of all means.

    Raises
    ------
    OptionError, DataError
        As of `second_stage`.
    """
    found = stage_blocks(batch, trait, spec)
    names = [str(i + 1) for i in range(len(found.frame))]
    try:
        return StageMeans(found.frame, BlockCovariance(found.blocks, names), found.df)
    except DataError:
        _refuse_trials(found)
        raise


def _refuse_trials(found: StageBlocks) -> None:
    """Name the trials whose means have no covariance that can be used, all of one kind at once.

    Raises
    ------
    DataError
    """
    refused: dict[str, list[str]] = {}
    for place, block in enumerate(found.blocks):
        try:
            BlockCovariance([block], range(len(block)))
        except DataError as error:
            trial = " ".join(map(str, found.trials.iloc[place])) or "1"
            refused.setdefault(str(error).removeprefix("block 1 of the covariance "), []).append(trial)
    for reason, trials in refused.items():
        several = len(trials) > 1
        which = f"{len(trials)} trials ({name_list(trials)})" if several else f"trial {trials[0]}"
        raise DataError(
            f"the covariance of the means of {which} {reason}; where fixed and random effects explain every "
            f"plot the means have no error: leave {'these trials' if several else 'this trial'} out of the "
            "batch"
        ) from None


def triangle(rows: list[Any]) -> np.ndarray:
    """The symmetric matrix whose lower triangle has these rows."""
    out = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        out[i, : i + 1] = row
    return out + np.tril(out, -1).T


def _chosen(table: pd.DataFrame, column: str, asked: str | None, known: tuple[str, ...]) -> pd.DataFrame:
    """Rows of one trait or specification."""
    if asked is None and len(known) > 1:
        raise OptionError(f"the batch has several: give {column}=, one of {name_list(known)}")
    if asked is not None and asked not in known:
        raise OptionError(f"{column}='{asked}' is not in the batch{nearest_names(asked, known)}")
    return table if asked is None else table[table[column] == asked]


def response_name(formula: str, frame: pd.DataFrame) -> str:
    """The name left of ~, which the means get; the columns of the formula are looked at on the way.

    Raises
    ------
    FormulaError
    """
    parsed, known = parse_formula(formula), frame.columns.drop("estimate")
    for name in (name for node in parsed.expressions for name in columns_read(node)):
        title = f"{name.name}_level"  # of a variable that is called as a column of the tables is
        if name.name not in known and title in known:
            words = f"the labels of '{name.name}' are the column '{title}' of the means; write that"
            raise FormulaError(words, formula, name.position)
    response = parsed.response
    if not isinstance(response, Name):
        words = "a second stage needs a name for the means, as in 'mean ~ gen + (1|trial)'"
        raise FormulaError(words, formula, 0)
    if response.name in frame.columns and response.name != "estimate":
        raise FormulaError(f"'{response.name}' is a column of the means; choose another name", formula, 0)
    return response.name
