"""Questions of a decision between genotypes: beside a check, how many hold the best, gains by trait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.special import ndtr

from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.inference.heritability import half_difference
from fastlmm_core.results.genotypes.grid import GenotypeRows

# Of the size of values and of variances, what is left of differences that are zero.
ROUNDING = 1e-13


@dataclass(frozen=True)
class JointValues:
    """Values of the genotypes of one group and the joint distribution of their errors.

    Attributes
    ----------
    labels : DataFrame (L rows)
        Genotypes in the last column.
    estimate, covariance : (L,) and (L, L)
    """

    labels: pd.DataFrame
    estimate: np.ndarray
    covariance: np.ndarray

    @property
    def genotypes(self) -> np.ndarray:
        """Names (L,) as text."""
        return self.labels.iloc[:, -1].astype(str).to_numpy()


def rows_kept(rows: GenotypeRows, kept: np.ndarray) -> GenotypeRows:
    """Some of the values (s,), with the joint distribution of their errors."""
    functions = replace(rows.functions, unknowns=sp.csc_array(rows.functions.unknowns[:, kept]))
    weights = {k: [sp.csr_array(part)[kept] for part in parts] for k, parts in rows.weights.items()}
    labels = rows.labels.iloc[kept].reset_index(drop=True)
    return replace(
        rows, labels=labels, functions=functions, shift=rows.shift[kept], new=rows.new[kept],
        weights=weights, checks=rows.checks[kept],
    )  # fmt: skip


def rows_summed(rows: GenotypeRows, factor: np.ndarray) -> GenotypeRows:
    """Sums over the rows of each genotype, each row times its factor (r,)."""
    name = str(rows.labels.columns[-1])
    genotypes, first = pd.factorize(rows.labels[name])
    shape = (len(first), len(rows.labels))
    A = sp.csr_array((factor, (genotypes, np.arange(len(rows.labels)))), shape=shape)
    return replace(
        rows, labels=pd.DataFrame({name: first}),
        functions=replace(rows.functions, unknowns=sp.csc_array(rows.functions.unknowns @ A.T)),
        shift=A @ rows.shift, new=A.power(2) @ rows.new,
        weights={k: [sp.csr_array(A @ part) for part in parts] for k, parts in rows.weights.items()},
        checks=np.bincount(genotypes, ~rows.checks) == 0,
    )  # fmt: skip


def places_without(labels: pd.DataFrame, names: Sequence[Any]) -> np.ndarray:
    """Rows of all other genotypes.

    Raises
    ------
    OptionError
        For a genotype that is none of the values, or when none is left.
    """
    own = labels.iloc[:, -1].astype(str)
    for name in names:
        if str(name) not in set(own):
            raise OptionError(f"'{name}' is none of the genotypes{nearest_names(str(name), own.unique())}")
    kept = np.flatnonzero(~own.isin([str(name) for name in names]).to_numpy())
    if not kept.size:
        raise OptionError("no genotype is left")
    return kept


def against_check(own: JointValues, check: str, margin: float, sign: float) -> pd.DataFrame:
    """Labels, difference, se, p_better of all but the check, the most probable first.

    Parameters
    ----------
    sign : float
        1 where large values are good, else -1.
    """
    at = int(np.flatnonzero(own.genotypes == check)[0])
    difference, cov = own.estimate - own.estimate[at], own.covariance
    se = np.sqrt(np.maximum(np.diag(cov) + cov[at, at] - 2.0 * cov[at], 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(se > 0.0, ndtr((sign * difference - margin) / se), sign * difference > margin)
    frame = own.labels.assign(difference=difference, se=se, p_better=p.astype(float))
    others = np.arange(len(frame)) != at
    return frame[others].sort_values("p_better", ascending=False, kind="stable")


def holding_best(frame: pd.DataFrame, level: float) -> pd.DataFrame:
    """The fewest rows whose `p_best` sum to `level`, with the sum so far in `cumulative`."""
    order = frame.sort_values("p_best", ascending=False, kind="stable")
    total = order["p_best"].cumsum().to_numpy()
    count = int(np.searchsorted(total, level - 1e-12)) + 1
    return order.assign(cumulative=total).iloc[: min(count, len(order))]


def selection_gain(own: JointValues, chosen: np.ndarray) -> tuple[float, float]:
    """Mean of the `chosen` (L,) bool less the mean of all, and its standard error."""
    contrast = chosen / chosen.sum() - 1.0 / chosen.size
    gain, variance = contrast @ own.estimate, contrast @ own.covariance @ contrast
    if abs(gain) < ROUNDING * np.max(np.abs(own.estimate)):  # values that are all the same
        gain = 0.0
    known = variance > ROUNDING * np.max(np.diag(own.covariance))
    return float(gain), float(np.sqrt(variance)) if known else 0.0


def gains_by_part(
    parts: Sequence[JointValues], weights: Mapping[str, float], selected: Sequence[str]
) -> pd.DataFrame:  # fmt: skip
    """Gain in every part of an index from selecting some genotypes; parts are named in their first column."""
    rows = []
    for own in parts:
        gain, error = selection_gain(own, np.isin(own.genotypes, list(selected)))
        name = str(own.labels.iloc[0, 0])
        weight = weights.get(name, 0.0)
        rows.append((name, weight, gain, error, weight * gain))
    first = str(parts[0].labels.columns[0])
    return pd.DataFrame(rows, columns=[first, "weight", "gain", "gain_se", "contribution"])


def difference_heritability(prior: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Half the mean variance of a difference before the trial, and the part of it that the trial explains."""
    if len(prior) < 2:
        return np.nan, np.nan
    before, after = half_difference(prior), half_difference(errors)
    if np.isnan(before):
        return np.nan, np.nan
    return before, max(0.0, 1.0 - after / before) if before > 0.0 else 0.0
