"""Joint tests of the rows of a table of means or contrasts, group by group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fastlmm_core.display.figure_tables import FigureTable
from fastlmm_core.inference.linear_functions import NO_VARIANCE
from fastlmm_core.inference.row_spaces import estimable_part
from fastlmm_core.means.estimates import OK, Estimates
from fastlmm_core.means.joint_tests import PART
from fastlmm_core.means.table_labels import group_members

NOTHING = "nothing to test"


def joint_rows(table: Estimates) -> FigureTable:
    """F tests that all rows of a group are zero; see ``EstimateTable.joint_test``."""
    functions = table.functions
    ones = np.ones(table.shift.shape)  # the offset is part of the means
    functions = functions.rescaled(np.asarray(functions.raw_estimate) + table.shift, ones)
    cells = np.eye(ones.size)[:, np.asarray(table.undefined)]
    products = functions.null_products
    lost = cells if products is None else np.hstack([cells, products.toarray()])
    lost = lost[:, np.abs(lost).max(axis=0, initial=0.0) > 0.0]
    rows = table._on_functions
    members = group_members(table.labels, table.by)
    found: dict[str, list[object]] = {name: [] for name in ("df_num", "df_den", "F", "p", "status")}
    for group in members:
        used = group[table.se[group] != 0.0]  # rows that cancel are rounding errors of zero
        basis, part = estimable_part(rows[used].toarray(), lost)
        test = functions.f_test(basis) if len(basis) and not functions.without_variance else None
        usual = NO_VARIANCE if functions.without_variance else NOTHING
        status = usual if test is None or test.df_num == 0 else PART if part else OK
        figures = (0, np.nan, np.nan, np.nan) if test is None else (test.df_num, test.df_den, test.F, test.p)
        for name, value in zip(found, (*figures, status), strict=True):
            found[name].append(value)
    labels = table.labels.iloc[[group[0] for group in members]][list(table.by)].reset_index(drop=True)
    frame = pd.concat([labels, pd.DataFrame(found)], axis=1)
    hidden = ("status",) if all(status == OK for status in found["status"]) else ()
    return FigureTable(frame, f"Joint test: {table.title}", table.common_notes[:-1], (), hidden)
