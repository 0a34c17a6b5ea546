"""Marginal means as functions of the coefficients: averages of the rows of a reference grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.formula.expressions import Node
from fastlmm_core.means.mean_specs import MeanSpecs
from fastlmm_core.means.mean_tables import EmmeansTable
from fastlmm_core.means.reference_grid import ReferenceGrid, averaging_matrix
from fastlmm_core.means.response_scale import response_scale
from fastlmm_core.means.table_labels import group_codes

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class MeanRows:
    """Means as functions of the coefficients.

    Attributes
    ----------
    labels : DataFrame (r rows)
    K : (r, p_full) csr_array
    shift : (r,)
        Offset.
    undefined : (r,) bool
        No cell to average over.
    specs : MeanSpecs
    """

    labels: pd.DataFrame
    K: sp.csr_array
    shift: Floats
    undefined: NDArray[np.bool_]
    specs: MeanSpecs

    def table(
        self, functions: Any, level: float, title: str, remarks: tuple[str, ...], response: Node | None
    ) -> EmmeansTable:
        """The table of them; `response` as written, None where a function of it has no meaning."""
        group = group_codes(self.labels, self.specs.by)
        return EmmeansTable(
            labels=self.labels, functions=functions, K=self.K, weights=None, shift=self.shift,
            undefined=self.undefined, by=self.specs.by, kind="prediction",
            n_means=int(np.max(np.bincount(group))), adjust_asked="none", level=level, title=title,
            remarks=remarks, scale=None if response is None else response_scale(response), group=group,
        )  # fmt: skip


def rows_of_means(grid: ReferenceGrid, specs: MeanSpecs, weights: Any) -> MeanRows:
    """Averages of the grid's rows for the combinations of the variables of `specs` that exist."""
    specs = with_groups(specs, grid)
    W = averaging_matrix(grid, specs.variables, weights)
    labels = mean_labels(grid, specs)
    if grid.nesting is not None:
        existing = existing_means(grid, specs.variables)
        W, labels = W[existing], labels.iloc[existing].reset_index(drop=True)
    K = sp.csr_array(W @ grid.X)
    shift = np.zeros(K.shape[0]) if grid.offset is None else W @ grid.offset
    return MeanRows(labels, K, shift, np.diff(W.indptr) == 0, specs)


def with_groups(specs: MeanSpecs, grid: ReferenceGrid) -> MeanSpecs:
    """The specs with the groups of nested factors: a level is named together with where it belongs."""
    if grid.nesting is None:
        return specs
    by = grid.nesting.with_groups(specs.by)
    main = grid.nesting.with_groups([name for name in specs.variables if name not in specs.by])
    return MeanSpecs((*(name for name in main if name not in by), *by), by)


def existing_means(grid: ReferenceGrid, variables: Sequence[str]) -> np.ndarray:
    """Rows of the averaging matrix for combinations of `variables` that exist under the nesting."""
    return np.flatnonzero(np.diff(averaging_matrix(grid, variables, "equal").indptr))


def mean_labels(grid: ReferenceGrid, specs: MeanSpecs) -> pd.DataFrame:
    """Label columns of the means; factors as text, covariates as numbers."""
    if not specs.variables:
        return pd.DataFrame({"1": ["overall"]})
    return grid.labels(specs.variables)
