"""Result tables of a batch: rows of many fits under the keys of their trials."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core.batch.plan import BatchPlan

UNIT = "_unit"
Tables = dict[str, pd.DataFrame]
KEPT_LABELS = 5_000


class TableParts:
    """Columns of many units, collected by table and joined at the end."""

    def __init__(self) -> None:
        self._columns: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._units: dict[str, list[np.ndarray]] = defaultdict(list)
        self._rows: list[dict[str, Any]] = []
        self._row_units: list[int] = []

    def add(self, table: str, frame: pd.DataFrame, unit: int) -> None:
        """Rows of a table, all of one unit."""
        columns = {str(name): frame[name].array for name in frame.columns}
        self.add_columns(table, columns, np.full(len(frame), unit))

    def add_columns(self, table: str, columns: dict[str, Any], units: np.ndarray) -> None:
        """Rows of a table as arrays, one unit for each."""
        self._columns[table].append(columns)
        self._units[table].append(units)

    def add_fit(self, row: dict[str, Any], unit: int) -> None:
        """One row of the table `fits`."""
        self._rows.append(row)
        self._row_units.append(unit)

    def finish(self, plan: BatchPlan, keys: pd.DataFrame) -> Tables:
        """Join the parts, in the order of the units, and put keys and trait in front.

        Parameters
        ----------
        keys : DataFrame (T rows)
            Keys of the trials.
        """
        if self._rows:
            rows = pd.DataFrame(self._rows)
            columns = {str(name): rows[name].array for name in rows.columns}
            self.add_columns("fits", columns, np.array(self._row_units))
        out: Tables = {}
        for table in plan.tables:
            parts = self._columns[table]
            if not parts:
                out[table] = pd.DataFrame(columns=[*keys.columns, "trait"])
                continue
            units = np.concatenate(self._units[table])
            joined = parts[0] if len(parts) == 1 else join_columns(parts)
            if (np.diff(units) < 0).any():
                order = np.argsort(units, kind="stable")
                joined, units = {name: values.take(order) for name, values in joined.items()}, units[order]
            if table == "fits":
                joined = ordered_fits(joined)
            out[table] = with_keys(joined, units, plan, keys)
        return out


def join_columns(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows of several parts, as pandas joins them."""
    frame = pd.concat([pd.DataFrame(part, copy=False) for part in parts], ignore_index=True)
    return {name: frame[name].array for name in frame.columns}


def with_keys(
    columns: dict[str, Any], units: np.ndarray, plan: BatchPlan, keys: pd.DataFrame
) -> pd.DataFrame:
    """A table with key columns and `trait` in front."""
    labels = plan.labels
    trial = units // len(labels)
    out: dict[str, Any] = {name: keys[name].array.take(trial) for name in keys.columns}
    out["trait"] = text_column(labels, units % len(labels))
    for name, values in columns.items():
        out[name if name not in out else f"{name}_"] = values
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
    """Components beside the criterion, status and message last."""
    components = [name for name in fits if name.startswith("var_") and name != "var_Residual"]
    tail = ["converged", "singular", "iterations", "seconds", "status", "message"]
    last = [name for name in ("var_Residual", *tail) if name in fits]
    head = [name for name in fits if name not in components and name not in last]
    return {name: fits[name] for name in head + components + last}


def failed_row(n: int, status: str, message: str) -> dict[str, Any]:
    """The row of a trial that could not be fitted."""
    return {
        "n": n, "n_dropped": 0, "rank": 0, "criterion": np.nan, "sigma": np.nan, "var_Residual": np.nan,
        "converged": False, "singular": False, "iterations": 0, "seconds": 0.0, "status": status,
        "message": message,
    }  # fmt: skip


def component_names(plan: BatchPlan) -> list[str]:
    """`var_...` columns of the random terms with one coefficient, as far as the formula tells."""
    return [
        f"var_{part.group}" for part in plan.parsed.random if part.terms.intercept and not part.terms.terms
    ]


def join_tables(pieces: list[Tables], plan: BatchPlan) -> Tables:
    """The tables of several chunks one after another."""
    out: Tables = {}
    for table in plan.tables:
        frames = [piece[table] for piece in pieces if table in piece and len(piece[table])]
        if frames:
            out[table] = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
        else:
            out[table] = pieces[0][table] if pieces else pd.DataFrame(columns=[*plan.by, "trait"])
    return out
