"""Estimates of linear functions with their tests and intervals: the figures of every table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from fastlmm_core.inference.linear_functions import NO_VARIANCE
from fastlmm_core.inference.row_spaces import family_ranks
from fastlmm_core.means.response_scale import ResponseScale
from fastlmm_core.means.table_labels import distinct_names
from fastlmm_core.multiplicity.adjustments import (
    Adjustment,
    Family,
    adjusted_p_values,
    critical_values,
    error_note,
    joint_p_values,
    resolve_adjustment,
)
from fastlmm_core.multiplicity.distributions import t_statistics
from fastlmm_core.multiplicity.multivariate_t import Probability

Floats = NDArray[np.floating]

OK = "ok"
NOT_ESTIMABLE = "not estimable"
FIGURES = ("estimate", "se", "df", "t", "p", "lower", "upper", "status")
DDF_WORDS = {
    "kenward-roger": "Kenward-Roger",
    "satterthwaite": "Satterthwaite",
    "residual": "residual",
    "asymptotic": "asymptotic (normal)",
}


def figure_columns(
    estimate: Floats, se: Floats, df: Floats, t: Floats, p: Floats, critical: Floats
) -> dict[str, Floats]:
    """`FIGURES` but the last, of any estimates (c,), with limits at `critical` (c,) standard errors."""
    half = half_widths(critical, se)
    return {
        "estimate": estimate, "se": se, "df": df, "t": t, "p": p,
        "lower": estimate - half, "upper": estimate + half,
    }  # fmt: skip


def half_widths(critical: Floats, se: Floats) -> Floats:
    """From estimates to their limits (c,); zero without an error, which has no df and no critical value."""
    return np.where(se == 0.0, 0.0, critical * se)


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """Linear functions of the fixed effects with labels, tests and intervals: what the tables are made of.

    Attributes
    ----------
    labels : DataFrame (c, n_labels)
        Label columns.
    functions : LinearFunctions
        The r functions the rows are built on.
    K : sparse (r, p_full)
        Their coefficients.
    weights : csr_array (c, r) or None
        Rows of the table in terms of the functions; None when they are the functions.
    shift : ndarray (r,)
        Constant added to each function (the mean offset of the model).
    undefined : ndarray (r,) of bool
        Functions that average over cells without data.
    by : tuple of str
        Label columns whose combinations are separate families.
    kind : str
        "pairs", "contrast" or "prediction".
    n_means : int
        Means per family, of the largest one where they differ.
    adjust_asked : str
        Adjustment asked for; `adjust` is the one used.
    level : float
        Confidence level.
    title : str
    remarks : tuple of str
        Notes that do not depend on the adjustment.
    scale : ResponseScale or None
        The way back to the response, where the formula transforms it.
    group : ndarray (c,) of int
        Number of the family of each row.
    means_of : ndarray (c,) of int or None
        Means of the family of each row, None where all have `n_means`.
    """

    labels: pd.DataFrame
    functions: Any
    K: Any
    weights: sp.csr_array | None
    shift: Floats
    undefined: NDArray[np.bool_]
    by: tuple[str, ...]
    kind: str
    n_means: int
    adjust_asked: str
    level: float
    title: str
    remarks: tuple[str, ...] = ()
    scale: ResponseScale | None = None
    group: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    means_of: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ddf(self) -> str:
        """Method of the degrees of freedom."""
        return str(self.functions.ddf)

    @property
    def information(self) -> str:
        """Information matrix behind the degrees of freedom."""
        return str(self.functions.information)

    @cached_property
    def statistics(self) -> tuple[Floats, Floats, Floats]:
        """Estimate, standard error and df of each row, (c,) each; NaN where not estimable."""
        if self.weights is None:
            estimate = np.asarray(self.functions.estimate, dtype=np.float64) + self.shift
            se, df = np.asarray(self.functions.se()), np.asarray(self.functions.df())
            bad = ~np.asarray(self.functions.estimable) | self.undefined
        else:
            estimate, se, df, estimable = self.functions.contrast_statistics(self.weights)
            estimate = estimate + self.weights @ self.shift
            bad = ~np.asarray(estimable) | (abs(self.weights) @ self.undefined.astype(np.float64) > 0.0)
        return np.where(bad, np.nan, estimate), np.where(bad, np.nan, se), np.where(bad, np.nan, df)

    @property
    def estimate(self) -> Floats:
        """Estimates (c,)."""
        return self.statistics[0]

    @property
    def se(self) -> Floats:
        """Standard errors (c,)."""
        return self.statistics[1]

    @property
    def df(self) -> Floats:
        """Degrees of freedom (c,)."""
        return self.statistics[2]

    @cached_property
    def t(self) -> Floats:
        """Estimate over standard error, (c,); NaN where that is zero."""
        return t_statistics(self.estimate, self.se)

    @cached_property
    def family(self) -> Family:
        """What the adjustment needs to know."""
        return Family(
            self.group, self.kind, self.n_means, self._ranks, self._correlation,
            tested=~np.isnan(self.estimate), means_of=self.means_of,
        )  # fmt: skip

    @cached_property
    def adjustment(self) -> Adjustment:
        """Methods in use for p values and limits."""
        return resolve_adjustment(self.adjust_asked, self.family)

    @property
    def adjust(self) -> str:
        """Adjustment used for the p values."""
        return self.adjustment.p_method

    @cached_property
    def joint_tails(self) -> Probability:
        """P values (c,) of the mvt adjustment and the error of each (three standard errors)."""
        return joint_p_values(self.t, self.df, self.family)

    @cached_property
    def p(self) -> Floats:
        """Two-sided p values (c,) with the adjustment."""
        if self.adjustment.p_method == "mvt":
            return self.joint_tails.value
        return adjusted_p_values(self.t, self.df, self.adjustment.p_method, self.family)

    @cached_property
    def limits(self) -> tuple[Floats, Floats]:
        """Confidence limits (c,), (c,) with the adjustment for intervals."""
        critical = critical_values(self.level, self.df, self.adjustment.limit_method, self.family)
        half = half_widths(critical, self.se)
        return self.estimate - half, self.estimate + half

    @property
    def lower(self) -> Floats:
        """Lower confidence limits (c,)."""
        return self.limits[0]

    @property
    def upper(self) -> Floats:
        """Upper confidence limits (c,)."""
        return self.limits[1]

    @property
    def status(self) -> NDArray[np.object_]:
        """ "ok", "not estimable" or why there is no test, for each row."""
        usual = NO_VARIANCE if self.functions.without_variance else OK
        return np.where(np.isnan(self.estimate), NOT_ESTIMABLE, usual).astype(object)

    @property
    def coefficients(self) -> Any:
        """Coefficients (c, p_full) of the rows on all columns of the fixed part, sparse."""
        return self.K if self.weights is None else self.weights @ self.K

    def covariance(self) -> Floats:
        """Covariance matrix (c, c) of the rows.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Y ~ V*N + (1|B/V)", datasets.load("oats"))
        >>> means = fit.emmeans("N")
        >>> means.covariance().shape
        (4, 4)
        """
        functions = self.functions if self.weights is None else self.functions.combine(self.weights)
        return np.asarray(functions.cov)

    @property
    def _on_functions(self) -> sp.csr_array:
        """The rows (c, r) in terms of the functions, also where they are the functions."""
        return sp.csr_array(sp.eye_array(len(self))) if self.weights is None else self.weights

    def _ranks(self) -> NDArray[np.integer]:
        return family_ranks(self._on_functions, self.K, self.family.members())

    def _correlation(self, rows: NDArray[np.integer]) -> Floats:
        cov = np.asarray(self.functions.combine(self._on_functions[rows]).cov)
        sd = np.sqrt(np.diag(cov))
        with np.errstate(invalid="ignore"):
            return cov / np.outer(sd, sd)

    @property
    def common_notes(self) -> tuple[str, ...]:
        """Remarks that hold for every test of the rows: averaging, df method, level."""
        words = DDF_WORDS.get(self.ddf, self.ddf)
        if self.ddf == "kenward-roger" and self.information != "expected":
            words += f" ({self.information} information)"
        return (*self.remarks, f"Degrees of freedom: {words}", f"Confidence level: {self.level:g}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks under the table: averaging, df method, level and adjustment."""
        lost = int(np.count_nonzero(np.isnan(self.estimate)))
        missing = (f"{lost} of {len(self)} rows are not estimable from these data",) if lost else ()
        joint = (error_note(self.joint_tails.error),) if self.adjust == "mvt" else ()
        return (*self.common_notes, *self.adjustment.notes, *joint, *missing)

    def labelled(self, figures: Mapping[str, Any], labels: pd.DataFrame | None = None) -> pd.DataFrame:
        """Figures (c,) beside the label columns, or beside others with the same names."""
        renamed = distinct_names(list(self.labels.columns), figures)
        columns: dict[str, Any] = {}
        for name, column in (self.labels if labels is None else labels).items():
            columns[renamed.get(str(name), str(name))] = column
        return pd.DataFrame({**columns, **figures}, index=self.labels.index)

    def by_columns(self, figures: Collection[str] = FIGURES) -> tuple[str, ...]:
        """Names of the `by` columns in a frame with these figures."""
        renamed = distinct_names(list(self.labels.columns), figures)
        return tuple(renamed.get(name, name) for name in self.by)
