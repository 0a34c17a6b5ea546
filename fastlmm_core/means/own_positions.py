"""Where in its field the mean of an environment stands: in the middle of its own plots.

Beside ``at(env):ps(row, col)`` rows and columns are positions of plots. Their numbers are labels, from 101 in
one field and from 1 in another, and fields differ in size: at the mean number over all of them a mean would
be one of the polynomial far outside of its field.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastlmm_core.design.at_levels import at_labels
from fastlmm_core.design.field_positions import field_lines
from fastlmm_core.design.values.columns import Column
from fastlmm_core.design.values.table import Table
from fastlmm_core.formula.expressions import Name, deparse, label_of
from fastlmm_core.formula.functions import names_read


@dataclass(frozen=True)
class OwnPositions:
    """What is added to the positions of grid points.

    Attributes
    ----------
    by : str
        The environments, for notes.
    shifts : dict of str to (m,) float64
        From the mean over all plots to that over the plots of the point's environment.
    """

    by: str
    shifts: dict[str, np.ndarray]


def own_positions(design: Any, table: Table, plain: Collection[str]) -> OwnPositions | None:
    """Those of the points of a grid; None without a surface over the field of each environment.

    Parameters
    ----------
    table : Table
        The grid, of m points.
    plain : collection of str
        Variables whose values in the grid are meant as they are.
    """
    lines = field_lines(design.formula)
    fields = [term for term in design.random if term.is_spline and term.at is not None
              and len(term.nodes) == 2 and lines.issuperset(map(deparse, term.nodes))]  # fmt: skip
    if not fields:
        return None
    field, known = fields[0], design.variables
    read = names_read([node for node, _ in field.at_factors])
    if any(name not in known for name in read):
        return None  # one environment, or none of its own mean
    rows = Table.of({name: Column(name, *design.used_column(name)) for name in read}, design.n)
    of_rows, of_points = (at_labels(field.at_factors, own, field.states) for own in (rows, table))
    labels, code = np.unique(of_rows.astype(str), return_inverse=True)
    place, counts = np.searchsorted(labels, of_points.astype(str)), np.bincount(code.ravel())
    shifts = {}
    for node in field.nodes:
        if not isinstance(node, Name) or node.name in plain or known[node.name].points is not None:
            continue
        sums = np.bincount(code.ravel(), weights=design.used_column(node.name)[0])
        shifts[node.name] = (sums / counts)[place] - known[node.name].mean
    by = ":".join(label_of(deparse(node)) for node, _ in field.at_factors)
    return OwnPositions(by, shifts) if shifts else None
