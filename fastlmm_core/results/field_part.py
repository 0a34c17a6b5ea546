"""Questions about the field of a fit: its trend, and the variogram of its residuals."""

from __future__ import annotations

import pandas as pd

from fastlmm_core.display.frames import titled
from fastlmm_core.gate import public
from fastlmm_core.options import NAME, SWITCH, TEXT, optional
from fastlmm_core.results.fixed_part import FixedPart


class FieldPart(FixedPart):
    """Trend over the field and sample variogram."""

    @public(term=optional(TEXT), se=SWITCH)
    @titled("Trend over the field")
    def trend(self, term: str | None = None, se: bool = True) -> pd.DataFrame:
        """The fitted trend over a field at all its positions, also those of missing plots.

        Parameters
        ----------
        term : str, optional
            Spline or term of ``ar1()``; by default the surface, else the process, else a curve. Of
            ``at(env):ps(row, col)`` all environments, or one: ``"at(env, E1):ps(row, col)"``.
        se : bool

        Returns
        -------
        DataFrame
            Factors of ``at()``, positions, trend, se. Of a spline the trend is its deviation with the
            polynomials in its variables that the fixed part has, less their mean over its plots; of a process
            its BLUPs.

        Raises
        ------
        OptionError
            When the model has no trend, or no such term.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("yield ~ (1|gen)", datasets.load("durban_rowcol"), field_trend="ps(row, bed)")
        >>> fit.trend().shape
        (544, 4)
        """
        from fastlmm_core.results.field.trend import trend_table

        return trend_table(self, term, se)

    @public(row=optional(NAME), column=optional(NAME), by=optional(NAME))
    @titled("Sample variogram of the residuals")
    def variogram(
        self, row: str | None = None, column: str | None = None, by: str | None = None,
        data: pd.DataFrame | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Sample variogram of the residuals by displacement; see ``fastlmm_core.results.field.variogram``.

        Parameters
        ----------
        row, column, by, data
            As of ``fastlmm_core.results.field.layout.field_layout``; the model knows them by default.

        Returns
        -------
        DataFrame
            [trial], row_lag, column_lag, semivariance, pairs.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> field = datasets.load("durban_rowcol")
        >>> fit = lmm("yield ~ gen + (1|rep)", field)
        >>> print(fit.variogram("row", "bed", data=field).head(3))
        Sample variogram of the residuals
         row_lag  column_lag  semivariance  pairs
               0           0       0.00000    544
               0           1       0.04939    528
               0           2       0.05206    512
        """
        from fastlmm_core.results.field.layout import field_layout
        from fastlmm_core.results.field.variogram import variogram_table

        return variogram_table(field_layout(self, row, column, by, data), self.residuals)
