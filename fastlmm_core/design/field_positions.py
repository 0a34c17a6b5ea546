"""Several plots in one place of a field, where a surface over its rows and columns is fitted.

A spline of two variables is of a field where both group plots too, as ``field_trend="ps"`` writes it;
covariates of other surfaces may have ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fastlmm_core.design.splines.penalized_splines import SplineTerm
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DistanceWarning
from fastlmm_core.formula.expressions import deparse
from fastlmm_core.formula.parsing import ParsedFormula


def shared_position_warnings(
    parsed: ParsedFormula, splines: Sequence[SplineTerm], smooth: Mapping[str, Raw], rows: np.ndarray | None
) -> Iterator[DistanceWarning]:
    """A warning for every surface over positions of a field of which some have more than one plot.

    An autoregressive residual refuses them. A surface does not need one plot a place, as repeated harvests
    show, but fields on top of each other, where ``| env`` was forgotten, would pass without a word.

    Parameters
    ----------
    smooth : dict of str to Raw
        Variables of the splines on all rows, by their text.
    rows : (n,) int64 or None
        Rows used.
    """
    lines = field_lines(parsed)
    for spline in splines:
        texts = [deparse(node) for node in spline.nodes]
        if len(texts) != 2 or not lines.issuperset(texts):
            continue
        places = np.column_stack([smooth[text].on_rows(rows)[:, 0] for text in texts])
        cells, counts = np.unique(
            places if spline.inside is None else places[spline.inside], axis=0, return_counts=True
        )
        shared = np.flatnonzero(counts > 1)
        if not shared.size:
            continue
        first = int(shared[0])
        where = ", ".join(f"{name} {value:g}" for name, value in zip(spline.names, cells[first], strict=True))
        more = "" if shared.size == 1 else f", and as many or others at {shared.size - 1} more positions"
        several = "" if spline.at is not None else f"; for several fields write {_by_environment(texts)}"
        yield DistanceWarning(
            f"{counts[first]} plots stand at {where}{more}: '{spline.group}' is one surface for all of them"
            f"{several}; where every position has one plot, correct the positions"
        )


def field_lines(parsed: ParsedFormula) -> set[str]:
    """Variables that are a grouping factor by themselves, or by environments."""
    kinds = [[own for own in zip(part.kinds, part.factors, strict=False) if own[0].kind != "at"]
             for part in parsed.random]  # fmt: skip
    return {deparse(own[0][1]) for own in kinds if len(own) == 1}


def _by_environment(texts: Sequence[str]) -> str:
    columns = "" if list(texts) == ["row", "col"] else f"({', '.join(texts)})"
    return f"field_trend='ps{columns} | env'"
