"""One model for every trial, of several: named by a column, the first that it supports, or the best.

A model is supported where its row of `fits` is "ok": the design allows it (no DesignError: too few levels or
plots, confounded terms), the data have its columns and the search has its certificate; and where the means
asked for are estimable. Where no model makes them so, a row that is "ok" is enough. Criteria are compared
between models of the same plots: one that loses plots, because a column of its own is missing there, stands
back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.batch.keys import key_column
from fastlmm_core.batch.tables import UNIT, USED, TableParts, failed_row
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.design.values.labels import label_text
from fastlmm_core.errors import DataError, name_list, nearest_names
from fastlmm_core.means.estimates import NOT_ESTIMABLE
from fastlmm_core.reading.source import Places

FitAlone = Callable[[int, np.ndarray], TableParts]
NONE = -1


@dataclass(frozen=True)
class Attempt:
    """What one model made of some units of a run of U units.

    Attributes
    ----------
    parts : TableParts
        Rows of all units of the trials it was tried on.
    units : (u,) int64
        The number of each of these units among all of the table.
    status, message : (U,) str
        By unit of the run; empty where it was not tried.
    criterion, npar, n : (U,) float64
    lost_means : (U,) int64
        Number of means asked for that are not estimable.
    rows : (U,) bytes
        The rows of its trial that each fit uses.
    """

    parts: TableParts
    units: np.ndarray
    status: np.ndarray
    message: np.ndarray
    criterion: np.ndarray
    npar: np.ndarray
    n: np.ndarray
    lost_means: np.ndarray
    rows: np.ndarray

    @property
    def fitted(self) -> np.ndarray:
        """(U,) bool"""
        return np.asarray(self.status == "ok", dtype=bool)

    @property
    def supported(self) -> np.ndarray:
        """(U,) bool"""
        return self.fitted & (self.lost_means == 0)

    def figure(self, choose: str) -> np.ndarray:
        """AIC or BIC (U,)."""
        penalty = 2.0 if choose == "aic" else np.log(np.maximum(self.n, 1.0))
        return np.asarray(self.criterion + penalty * self.npar)


def choose_models(table: TrialTable, units: np.ndarray, fit_alone: FitAlone) -> TableParts:
    """The rows of consecutive units, each with the model that its trial gets.

    Parameters
    ----------
    table : TrialTable
        With several models.
    units : (U,) int64
    fit_alone : callable
        From the place of a model and some trials to the rows of all units of these.

    Returns
    -------
    TableParts
        `fits` with the columns `model` and `reason`.
    """
    plan = table.plan
    names = [own.name for own in plan.models]
    if plan.formula_column is not None:
        place, words = named_models(table, units, names)
        attempts = [attempt(table, k, units, place == k, fit_alone) for k in range(len(names))]
        source = f"column '{plan.formula_column}'"
        return kept_rows(table, units, attempts, place, [names[k] if k >= 0 else "" for k in place],
                         [source] * units.size, words)  # fmt: skip
    attempts, wanted = [], np.ones(units.size, bool)
    for k in range(len(names)):
        attempts.append(attempt(table, k, units, wanted, fit_alone))
        if plan.choose == "first":
            wanted &= ~attempts[k].supported
    good = supported_models(attempts)
    if plan.choose == "first":
        place, reasons = np.argmax(good, axis=0), first_reasons(names, attempts, good)
    else:
        figures, reference = comparable_figures(attempts, good, plan.choose)
        place = np.argmin(figures, axis=0)
        reasons = best_reasons(names, attempts, figures, reference, plan.choose)
    supported: np.ndarray = np.any(good, axis=0)
    models = [names[k] if found else "" for k, found in zip(place.tolist(), supported.tolist(), strict=True)]
    return kept_rows(table, units, attempts, np.where(supported, place, 0), models, reasons, {})


def attempt(table: TrialTable, k: int, units: np.ndarray, wanted: np.ndarray, fit_alone: FitAlone) -> Attempt:
    """Model k on the wanted (U,) of the units of a run."""
    labels = len(table.plan.labels)
    trials = np.unique(units[wanted] // labels)
    own = (trials[:, None] * labels + np.arange(labels)).ravel()
    words, used = np.full((2, units.size), "", object), np.full(units.size, b"", object)
    numbers, lost = np.full((3, units.size), np.nan), np.zeros(units.size, np.int64)
    parts = TableParts(table.plan, table.keys) if not trials.size else fit_alone(k, trials)
    if trials.size:
        names = ("status", "message", "criterion", "npar", "n")
        rows, at, kept = rows_of_run(parts, "fits", names, own, units)
        for into, name in zip((*words, *numbers), names, strict=True):
            into[at] = rows[name][kept]
        words[:, ~wanted] = ""
        rows, at, kept = rows_of_run(parts, USED, ("rows",), own, units)
        used[at] = rows["rows"][kept]
        rows, at, kept = rows_of_run(parts, "emmeans", ("status",), own, units)
        np.add.at(lost, at, rows["status"][kept] == NOT_ESTIMABLE)
    return Attempt(parts, own, words[0], words[1], numbers[0], numbers[1], numbers[2], lost, used)


def rows_of_run(
    parts: TableParts, name: str, columns: tuple[str, ...], own: np.ndarray, units: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns of a table, and of its rows those of a run: its place in the run, and which they are.

    A run may begin and end between the traits of a trial.
    """
    rows = parts.rows_of(name, columns)
    at = own[rows[UNIT].astype(np.int64)] - units[0]
    inside = (at >= 0) & (at < units.size)
    return rows, at[inside], inside


def supported_models(attempts: list[Attempt]) -> np.ndarray:
    """(models, U) bool: those that a unit supports; where there are none, those with a fit."""
    good = np.stack([own.supported for own in attempts])
    return np.where(good.any(axis=0), good, np.stack([own.fitted for own in attempts]))


def named_models(table: TrialTable, units: np.ndarray, names: list[str]) -> tuple[np.ndarray, dict[int, str]]:
    """Place (U,) of the model that its column names for each unit, and what is wrong where that is `NONE`."""
    column, labels = str(table.plan.formula_column), len(table.plan.labels)
    place, words = np.full(units.size, NONE), dict[int, str]()
    for trial in np.unique(units // labels):
        rows = table.frame.iloc[int(table.ptr[trial]) : int(table.ptr[trial + 1])]
        mine = np.flatnonzero(units // labels == trial)
        try:
            place[mine] = model_named(column, codes_in(rows, column), names)
        except DataError as error:
            words |= {int(u): str(error) for u in mine}
    return place, words


def codes_in(rows: pd.DataFrame, column: str) -> list[str]:
    """The codes that some rows hold, as they stand in the table: 01 of a file, and 1 for 1.0."""
    values = key_column(rows[column], Places.of(rows).labels(column))
    return list(dict.fromkeys(label_text(value) for value in values[values.notna()].unique()))


def model_named(column: str, given: list[str], names: list[str]) -> int:
    """Place of the one name that stands in the column of a trial.

    Raises
    ------
    DataError
        When there is none, several, or it is not the name of a model.
    """
    if len(given) != 1:
        found = f"names several models, {name_list(given, 4)}" if given else "names no model"
        raise DataError(f"column '{column}' {found}; a trial has one")
    if given[0] not in names:
        raise DataError(f"column '{column}' names the model '{given[0]}', which is none of the formulas"
                        f"{nearest_names(given[0], names)}")  # fmt: skip
    return names.index(given[0])


def comparable_figures(
    attempts: list[Attempt], good: np.ndarray, choose: str
) -> tuple[np.ndarray, np.ndarray]:
    """AIC or BIC (models, U), and the model (U,) with most plots, the first of several, of each unit.

    Infinite for models that are not among the `good` (models, U), or use other plots than that model.
    """
    n = np.array([np.where(supported, own.n, 0.0) for own, supported in zip(attempts, good, strict=True)])
    reference = n.argmax(axis=0)
    rows = np.stack([own.rows for own in attempts])
    alike = good & (rows == np.take_along_axis(rows, reference[None], axis=0))
    return np.where(alike, [own.figure(choose) for own in attempts], np.inf), reference


def lost_by(own: Attempt, u: int, most: float, means: bool) -> str:
    """Why a unit does not get a model; that of comparison has `most` plots, and some have all `means`."""
    if not own.fitted[u]:
        return f"{own.status[u]}: {own.message[u]}"
    if means and own.lost_means[u]:
        return f"means: {own.lost_means[u]} of those asked for are {NOT_ESTIMABLE}"
    return f"uses {own.n[u]:.0f} plots only" if own.n[u] < most else f"uses other {own.n[u]:.0f} plots"


def failures(names: list[str], attempts: list[Attempt], u: int, models: np.ndarray, most: float = 0.0) -> str:
    """Why the unit u of a run has none of these models: ``"rows: design: ..."``."""
    means = any(own.supported[u] for own in attempts)
    return "; ".join(f"{names[k]}: {lost_by(attempts[k], u, most, means)}" for k in models)


def fallen_back(attempts: list[Attempt], u: int) -> str:
    """A word for a unit of which no model makes all means estimable, though some have a fit."""
    lost = any(own.fitted[u] for own in attempts) and not any(own.supported[u] for own in attempts)
    return "no formula makes all means estimable" if lost else ""


def first_reasons(names: list[str], attempts: list[Attempt], good: np.ndarray) -> list[str]:
    """Why each unit has the first model that it supports: what the earlier ones failed by."""
    out = []
    for u, own in enumerate(good.T):
        before = np.arange(int(np.argmax(own)) if own.any() else own.size)
        lost = failures(names, attempts, u, before)
        words = "the first" if not before.size else f"{'the first but for' if own.any() else 'none:'} {lost}"
        out.append("; ".join(filter(None, (fallen_back(attempts, u), words))))
    return out


def best_reasons(
    names: list[str], attempts: list[Attempt], figures: np.ndarray, reference: np.ndarray, choose: str
) -> list[str]:
    """The criteria of all models of each unit, best first, and what the others failed by."""
    out = []
    for u, own in enumerate(figures.T):
        seen = [k for k in np.argsort(own, kind="stable") if own[k] < np.inf]  # -inf where all is explained
        most = float(attempts[reference[u]].n[u])
        lost = failures(names, attempts, u, np.flatnonzero(~(own < np.inf)), most)
        values = ", ".join(f"{own[k]:.2f} ({names[k]})" for k in seen)
        words = (fallen_back(attempts, u), f"{choose} {values}" if seen else "none", lost)
        out.append("; ".join(filter(None, words)))
    return out


def kept_rows(
    table: TrialTable, units: np.ndarray, attempts: list[Attempt], place: np.ndarray, models: list[str],
    reasons: list[str], words: dict[int, str],
) -> TableParts:  # fmt: skip
    """The rows of model `place` (U,) of each unit, with `model` and `reason`; `words` where there is none."""
    out = TableParts(table.plan, table.keys)
    for k, own in enumerate(attempts):
        at = own.units - units[0]
        inside = (at >= 0) & (at < units.size)
        kept = np.zeros(own.units.size, bool)
        kept[inside] = place[at[inside]] == k
        out.extend(own.parts.select(kept, own.units, table.keys))
    sizes = np.diff(table.ptr)
    for u, message in words.items():
        out.add_fit(
            failed_row(int(sizes[units[u] // len(table.plan.labels)]), "data", message), int(units[u])
        )
    out.add_to_fits({"model": np.array(models, object), "reason": np.array(reasons, object)}, int(units[0]))
    return out
