"""Result tables of a batch: rows of many fits under the keys of their trials."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.keys import sort_by_trial
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.structures import PLAIN

UNIT = "_unit"
USED = "_used"  # a table that no result has: the rows of each fit, by which criteria of models are compared
Tables = dict[str, pd.DataFrame]
Columns = dict[str, Any]
KEPT_LABELS = 5_000


class TableParts:
    """Columns of many units, collected by table and joined at the end.

    Parameters
    ----------
    plan : BatchPlan
    keys : DataFrame (T rows)
        Keys of the trials that the units belong to.
    """

    def __init__(self, plan: BatchPlan, keys: pd.DataFrame) -> None:
        self.plan = plan
        self.keys = keys
        self._columns: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._units: dict[str, list[np.ndarray]] = defaultdict(list)
        self._rows: list[dict[str, Any]] = []
        self._row_units: list[int] = []

    def __getstate__(self) -> dict[str, Any]:
        """Rows travel without the relationships of their plan, which may be large."""
        return self.__dict__ | {"plan": replace(self.plan, structures=PLAIN, others=())}

    def add(self, table: str, frame: pd.DataFrame, unit: int) -> None:
        """Rows of a table, all of one unit."""
        plain = pd.DataFrame(frame, copy=False)  # a subclass takes long over every column
        columns = {str(name): values.array for name, values in plain.items()}
        self.add_columns(table, columns, np.full(len(frame), unit))

    def add_columns(self, table: str, columns: dict[str, Any], units: np.ndarray) -> None:
        """Rows of a table as arrays, one unit for each."""
        self._columns[table].append(columns)
        self._units[table].append(units)

    def add_fit(self, row: dict[str, Any], unit: int) -> None:
        """One row of the table `fits`."""
        self._rows.append(row)
        self._row_units.append(unit)

    def outcomes(self) -> dict[str, Any]:
        """Units, failures and singular fits."""
        status = [row["status"] for row in self._rows]
        singular = [row["singular"] for row in self._rows]
        for columns in self._columns["fits"]:
            status += list(columns["status"])
            singular += columns["singular"].tolist()
        failed = sum(word != "ok" for word in status)
        return {"units": len(status), "failed": failed, "singular": sum(singular)}

    def extend(self, other: TableParts) -> None:
        """Take over the parts of other units of the same trials."""
        for table in other._columns:
            self._columns[table] += other._columns[table]
            self._units[table] += other._units[table]
        self._rows += other._rows
        self._row_units += other._row_units

    def rows_of(self, table: str, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Some columns of a table of all units, and `UNIT`, in the order in which they were added."""
        found = [{**{name: part[name] for name in columns}, UNIT: units}
                 for part, units in zip(self._columns[table], self._units[table], strict=True)]  # fmt: skip
        if table == "fits" and self._rows:
            rows = {name: np.array([row[name] for row in self._rows], object) for name in columns}
            found.append({**rows, UNIT: np.array(self._row_units)})
        if not found:
            return {name: np.empty(0, np.int64 if name == UNIT else object) for name in (*columns, UNIT)}
        return {name: np.concatenate([np.asarray(part[name]) for part in found]) for name in (*columns, UNIT)}

    def add_used(self, used: list[np.ndarray], units: np.ndarray) -> None:
        """Which rows of its trial each of some fits uses, (rows,) bool."""
        packed = np.array([np.packbits(rows).tobytes() for rows in used], dtype=object)
        self.add_columns(USED, {"rows": packed}, units)

    def select(self, kept: np.ndarray, units: np.ndarray, keys: pd.DataFrame) -> TableParts:
        """The rows of some units as those of other trials.

        Parameters
        ----------
        kept : (U,) bool
            By unit.
        units : (U,) int64
            The number that each has among the trials of `keys`.
        """
        out = TableParts(self.plan, keys)
        for table, parts in self._columns.items():
            for part, own in zip(parts, self._units[table], strict=True) if table != USED else ():
                at = np.flatnonzero(kept[own])
                if at.size:
                    out.add_columns(table, {name: v.take(at) for name, v in part.items()}, units[own[at]])
        for row, unit in zip(self._rows, self._row_units, strict=True):
            if kept[unit]:
                out.add_fit(row, int(units[unit]))
        return out

    def add_to_fits(self, columns: dict[str, np.ndarray], first: int) -> None:
        """Further columns (U,) of texts of the table `fits`, by unit from `first` on."""
        for part, units in zip(self._columns["fits"], self._units["fits"], strict=True):
            part |= {name: text_array(tuple(values[units - first])) for name, values in columns.items()}
        for row, unit in zip(self._rows, self._row_units, strict=True):
            row |= {name: values[unit - first] for name, values in columns.items()}

    def join(self) -> Tables:
        """The tables in the order of the units, with keys and trait in front."""
        columns, units = dict(self._columns), dict(self._units)
        if self._rows:
            rows = pd.DataFrame(self._rows)
            own = {str(name): rows[name].array for name in rows.columns}
            columns["fits"] = [*columns.get("fits", []), own]
            units["fits"] = [*units.get("fits", []), np.array(self._row_units)]
        return {
            table: self._join_table(table, columns.get(table, []), units.get(table, []))
            for table in self.plan.tables
        }

    def _join_table(self, table: str, parts: list[Columns], unit_parts: list[np.ndarray]) -> pd.DataFrame:
        if not parts:
            return pd.DataFrame(columns=[*self.keys.columns, "trait"])
        units = np.concatenate(unit_parts)
        joined = parts[0] if len(parts) == 1 else join_columns(parts)
        if (np.diff(units) < 0).any():
            order = np.argsort(units, kind="stable")
            joined, units = {name: values.take(order) for name, values in joined.items()}, units[order]
        if table == "fits":
            joined = ordered_fits(joined)
        return with_keys(joined, units, self.plan, self.keys)


def join_columns(parts: list[Columns]) -> Columns:
    """The rows of several parts, as pandas joins them."""
    if any(part.keys() != parts[0].keys() for part in parts):
        frame = pd.concat([pd.DataFrame(part, copy=False) for part in parts], ignore_index=True)
        return {name: frame[name].array for name in frame.columns}
    return {name: join_arrays([part[name] for part in parts]) for name in parts[0]}


def join_arrays(arrays: list[Any]) -> Any:
    """Arrays one after another."""
    if all(isinstance(values, np.ndarray) for values in arrays):
        return np.concatenate(arrays)
    if all(values.dtype == arrays[0].dtype for values in arrays):
        return type(arrays[0])._concat_same_type(arrays)  # of the interface of extension arrays
    return pd.concat([pd.Series(values, copy=False) for values in arrays], ignore_index=True).array


def with_keys(columns: Columns, units: np.ndarray, plan: BatchPlan, keys: pd.DataFrame) -> pd.DataFrame:
    """A table with key columns and `trait` in front."""
    labels = plan.labels
    trial = units // len(labels)
    out: dict[str, Any] = {name: keys[name].array.take(trial) for name in keys.columns}
    out["trait"] = text_column(labels, units % len(labels))
    for name, values in columns.items():
        while name in out:  # "trait" is the name of labels here, and called as in tables of means
            name += "_level" if name == "trait" else "_"
        out[name] = values
    return pd.DataFrame(out, copy=False)


def text_column(labels: Any, codes: np.ndarray) -> Any:
    """labels[codes] as pandas keeps text."""
    labels = tuple(labels)
    return (text_labels(labels) if len(labels) <= KEPT_LABELS else text_array(labels)).take(codes)


def text_array(labels: tuple[str | None, ...]) -> Any:
    """Labels as pandas keeps text."""
    return pd.Series(list(labels)).array


text_labels = lru_cache(maxsize=256)(text_array)  # the same few labels come back in every run


def same_text(label: str, n: int) -> Any:
    """One label n times."""
    return text_column([label], np.zeros(n, dtype=np.int64))


def ordered_fits(fits: dict[str, Any]) -> dict[str, Any]:
    """Components beside the criterion, the residual's after them, status and message last."""
    components = [
        name for name in fits if name.startswith(("var_", "cor_", "edf_")) and name != "var_Residual"
    ]
    components.sort(key=lambda name: name.startswith(("var_Residual", "cor_Residual")))
    tail = ["converged", "singular", "iterations", "seconds", "status", "reason", "message"]
    last = [name for name in ("var_Residual", *tail) if name in fits]
    head = [name for name in fits if name not in components and name not in last]
    head.sort(key=lambda name: name != "model")
    return {name: fits[name] for name in head + components + last}


def fit_columns(
    *, n: Any, n_dropped: Any = 0, rank: Any = 0, npar: Any = 0, criterion: Any = np.nan, sigma: Any = np.nan,
    converged: Any = False, singular: Any = False, iterations: Any = 0, seconds: Any = 0.0, status: Any,
    message: Any,
) -> dict[str, Any]:  # fmt: skip
    """Columns of `fits` for one fit, or for several, but for those of its components; by default no fit."""
    return {
        "n": n, "n_dropped": n_dropped, "rank": rank, "npar": npar, "criterion": criterion, "sigma": sigma,
        "var_Residual": sigma**2, "converged": converged, "singular": singular, "iterations": iterations,
        "seconds": seconds, "status": status, "message": message,
    }  # fmt: skip


def failed_row(n: int, status: str, message: str) -> dict[str, Any]:
    """The row of a trial that could not be fitted."""
    return fit_columns(n=n, status=status, message=message)


def join_parts(parts: list[TableParts], plan: BatchPlan, in_order: bool = True) -> Tables:
    """The tables of several jobs; those on the same trials are joined as one.

    Parameters
    ----------
    in_order : bool
        Whether the jobs come in the order of the trials; if not, the rows are sorted by trial.
    """
    whole: list[TableParts] = []
    for part in parts:
        if not whole or whole[-1].keys is not part.keys:
            whole.append(TableParts(plan, part.keys))
        whole[-1].extend(part)
    pieces = [part.join() for part in whole]
    out: Tables = {}
    for table in plan.tables:
        frames = [piece[table] for piece in pieces if len(piece[table])]
        if frames:
            out[table] = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
        else:
            out[table] = pieces[0][table] if pieces else pd.DataFrame(columns=[*plan.by, "trait"])
    return out if in_order else {table: in_trial_order(frame, plan) for table, frame in out.items()}


def in_trial_order(frame: pd.DataFrame, plan: BatchPlan) -> pd.DataFrame:
    """Rows by trial, those of one trial as they were."""
    order = sort_by_trial(frame, plan.by)[0] if len(frame) else None
    return frame if order is None else frame.take(order).reset_index(drop=True)
