"""P values and critical values adjusted for the size of a family of tests, by the rules emmeans uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri, fdtrc, fdtri

from fastlmm_core.errors import InferenceError, check_option
from fastlmm_core.multiplicity.dunnett import dunnett_quantiles, dunnett_tail, sidak_tail
from fastlmm_core.multiplicity.multivariate_t import Probability, max_abs_t_cdf, max_abs_t_quantile
from fastlmm_core.multiplicity.studentized_range import studentized_range_isf, studentized_range_sf
from fastlmm_core.multiplicity.t_tables import t_quantiles, t_tails

Floats = NDArray[np.floating]

STEPWISE = ("holm", "hochberg", "hommel", "fdr", "by")
ADJUSTMENTS = ("none", "tukey", "sidak", "bonferroni", "scheffe", "dunnettx", "mvt", *STEPWISE)
SYNONYMS = {"bh": "fdr", "dunnett": "dunnettx", "bonf": "bonferroni"}
LARGEST_MVT = 500


@dataclass(frozen=True)
class Family:
    """What an adjustment has to know about the tests it is for.

    Tests that are not estimable are no members of a family: nobody can make them, and they cannot err. So it
    is in R's emmeans since its version 1.8.8.

    Attributes
    ----------
    group : ndarray (c,) of int
        The `by` group of each test, numbered from 0; each group is a family of its own.
    kind : str
        "pairs" (all comparisons of one set of means), "contrast" or "prediction".
    n_means : int
        Means per group that the tests compare.
    ranks : callable or None
        Gives the rank (n_groups,) of the coefficients of each group; for Scheffé.
    correlation : callable or None
        Gives the correlation matrix of the tests whose positions it is called with; for `mvt`.
    n_tests : ndarray (n_groups,) of int or None
        Estimable tests of each group when `group` holds only a part of them.
    tested : ndarray (c,) of bool or None
        Tests that are estimable, None where all are.
    means_of : ndarray (c,) of int or None
        Means of the group of each test where they differ; then `n_means` is the largest.
    """

    group: NDArray[np.integer]
    kind: str
    n_means: int
    ranks: Callable[[], NDArray[np.integer]] | None = None
    correlation: Callable[[NDArray[np.integer]], Floats] | None = None
    n_tests: NDArray[np.integer] | None = None
    tested: NDArray[np.bool_] | None = None
    means_of: NDArray[np.integer] | None = None

    def means(self) -> list[tuple[int, NDArray[np.integer] | slice]]:
        """Each number of means per family, with the tests of such families."""
        compared = self.compared()
        if compared is None:
            return [(self.n_means, slice(None))]
        return [(int(k), np.flatnonzero(compared == k)) for k in np.unique(compared)]

    def compared(self) -> NDArray[np.integer] | None:
        """Means of the family of each test (c,) that its estimable pairs compare, None where all `n_means`.

        The smallest number of means with so many pairs; where the pairs fall into sets that nothing connects
        no number of means has just as many, and emmeans takes the fraction between two.
        """
        if self.complete:
            return self.means_of
        root = (1.0 + np.sqrt(8.0 * self.sizes() + 1.0)) / 2.0
        return np.ceil(root - 1e-9).astype(np.int64)

    @property
    def complete(self) -> bool:
        """Whether every test is estimable."""
        if self.n_tests is not None:
            return bool(np.all(self.n_tests == self.n_means * (self.n_means - 1) // 2))
        return self.tested is None or bool(np.all(self.tested))

    def sizes(self) -> NDArray[np.integer]:
        """Estimable tests in the group of each test, at least 1, (c,)."""
        if self.n_tests is not None:
            return np.maximum(self.n_tests, 1)[self.group]
        if self.tested is None:
            return np.bincount(self.group)[self.group]
        groups = int(np.max(self.group)) + 1
        return np.maximum(np.bincount(self.group[self.tested], minlength=groups), 1)[self.group]

    def members(self) -> list[NDArray[np.integer]]:
        """Positions of each group's tests."""
        order = np.argsort(self.group, kind="stable")
        counts = np.bincount(self.group)
        parts = np.split(order, np.cumsum(counts)[:-1])
        return [rows for rows, count in zip(parts, counts, strict=True) if count or self.n_tests is None]


@dataclass(frozen=True)
class Adjustment:
    """The methods used for p values and for limits, with the remarks that go under the table."""

    p_method: str
    limit_method: str
    notes: tuple[str, ...]


def check_adjust(adjust: str) -> str:
    """Canonical name of an adjustment.

    Raises
    ------
    OptionError
        Listing the allowed names.
    """
    name = adjust.lower() if isinstance(adjust, str) else adjust
    return check_option("adjust", SYNONYMS.get(name, name), ADJUSTMENTS)


def resolve_adjustment(adjust: str, family: Family) -> Adjustment:
    """The methods that apply to this family when `adjust` is asked for.

    One test needs no adjustment. Tukey's method is for all pairwise comparisons of one set of means; for
    other families Šidák's is used. Stepwise methods have no intervals; their limits are Bonferroni's. Both
    as in emmeans, and both said in the notes.
    """
    used = check_adjust(adjust)
    notes: list[str] = []
    size = int(np.max(family.sizes())) if family.group.size else 1
    if size == 1 and used != "scheffe":
        used = "none"
    if used == "tukey" and family.kind != "pairs":
        notes.append(
            "adjust='tukey' is for one set of pairwise comparisons; sidak was used for this family instead"
        )
        used = "sidak"
    limits = "bonferroni" if used in STEPWISE else used
    if not (family.n_means < 3 and used in ("tukey", "scheffe")) and used != "none":
        notes.append(f"P value adjustment: {used} method {family_words(used, size, family)}")
        notes.append(f"Confidence limits: {limits} method {family_words(limits, size, family, 'estimates')}")
    return Adjustment(used, limits, tuple(notes))


def family_words(method: str, size: int, family: Family, what: str = "tests") -> str:
    """How the notes name the family."""
    if method == "tukey":
        numbers = [k for k, _ in family.means()]
        if len(numbers) > 1:
            return f"for comparing families of {numbers[0]} to {numbers[-1]} estimates"
        return f"for comparing a family of {numbers[0]} estimates"
    if method == "scheffe" and family.ranks is not None:
        return "with rank " + "/".join(str(rank) for rank in np.unique(family.ranks()))
    return f"for {size} {what}"


def adjusted_p_values(t: Floats, df: Floats, method: str, family: Family) -> Floats:
    """Adjusted two-sided p values of many tests.

    Parameters
    ----------
    t, df : ndarray (c,)
        NaN for tests that are not estimable; they are no members of the family.
    method : str
        As resolved by `resolve_adjustment`.
    family : Family

    Returns
    -------
    ndarray (c,)
    """
    size = family.sizes()
    if method == "none":
        return t_tails(t, df)
    if method == "bonferroni":
        return np.minimum(1.0, t_tails(t, df) * size)
    if method == "sidak":
        return sidak_tail(t_tails(t, df), size)
    if method == "tukey":
        q, out = np.sqrt(2.0) * np.abs(t), np.empty(t.shape)
        for k, rows in family.means():
            out[rows] = studentized_range_sf(q[rows], k, df[rows])
        return out
    if method == "dunnettx":
        return dunnett_tail(np.abs(t), size, df)
    if method == "scheffe":
        return f_tail(t * t, group_ranks(family)[family.group], df, divide=True)
    if method == "mvt":
        return joint_p_values(t, df, family).value
    raw, out = t_tails(t, df), np.full(t.shape, np.nan)
    for rows in family.members():
        out[rows] = stepwise_p(raw[rows], method)
    return out


def f_tail(f: Floats, df_num: NDArray[np.integer], df_den: Floats, divide: bool = False) -> Floats:
    """P(F > f), or of f / df_num with `divide`; chi-square when the denominator df are infinite."""
    with np.errstate(invalid="ignore"):
        ratio = f / df_num if divide else f
        finite = np.where(np.isinf(df_den), 1.0, df_den)
        return np.where(np.isinf(df_den), chdtrc(df_num, ratio * df_num), fdtrc(df_num, finite, ratio))


def stepwise_p(p: Floats, method: str) -> Floats:
    """P values (m,) by Holm, Hochberg, Hommel, Benjamini-Hochberg ("fdr") or Benjamini-Yekutieli ("by").

    NaN values are no tests and stay NaN, as in R's p.adjust.
    """
    n = int(np.count_nonzero(~np.isnan(p)))
    out = np.full(p.size, np.nan)
    order = np.argsort(p, kind="stable")[:n]
    ascending = p[order]
    rank = np.arange(1, n + 1)
    if method == "holm":
        adjusted = np.maximum.accumulate((n - rank + 1) * ascending)
    elif method == "hochberg":
        adjusted = np.minimum.accumulate(((n - rank + 1) * ascending)[::-1])[::-1]
    elif method == "hommel":
        adjusted = hommel_sorted(ascending, n)
    else:
        factor = np.sum(1.0 / np.arange(1, n + 1)) if method == "by" else 1.0
        adjusted = np.minimum.accumulate((factor * n / rank * ascending)[::-1])[::-1]
    out[order] = np.minimum(1.0, adjusted)
    return out


def hommel_sorted(ascending: Floats, n: int) -> Floats:
    """Hommel's adjusted p values of ascending ones by Wright's algorithm (1992, Biometrics 48:1005)."""
    p = np.concatenate([ascending, np.ones(n - ascending.size)])
    out = np.full(n, np.min(n * p / np.arange(1, n + 1)))
    for m in range(n - 1, 1, -1):
        first, last = p[: n - m + 1], p[n - m + 1 :]
        smallest = np.min(m * last / np.arange(2, m + 1))
        candidate = np.concatenate([np.minimum(m * first, smallest), np.full(m - 1, 0.0)])
        candidate[n - m + 1 :] = candidate[n - m]
        out = np.maximum(out, candidate)
    return np.maximum(out, p)[: ascending.size]


def group_ranks(family: Family) -> NDArray[np.integer]:
    """Ranks (n_groups,) for Scheffé's method."""
    if family.ranks is None:
        raise InferenceError("adjust='scheffe' needs the coefficients of the tests; this family has none")
    return family.ranks()


def group_correlation(family: Family, rows: NDArray[np.integer]) -> Floats:
    """Correlation matrix of the tests `rows`, with a limit on its size."""
    if family.correlation is None:
        raise InferenceError("adjust='mvt' needs the correlations of the tests; this family has none")
    if rows.size > LARGEST_MVT:
        raise InferenceError(
            f"adjust='mvt' integrates over the joint distribution of all {rows.size} tests; the limit is "
            f"{LARGEST_MVT}. Use 'tukey' (pairwise), 'dunnettx' (against a control) or 'sidak'"
        )
    return family.correlation(rows)


def joint_p_values(t: Floats, df: Floats, family: Family) -> Probability:
    """Single-step p values (c,) from the joint distribution of each group, with the error of each.

    Tests that are not estimable are left out and have NaN.
    """
    value, error = np.full(t.shape, np.nan), np.full(t.shape, np.nan)
    for rows in family.members():
        used = rows[~np.isnan(t[rows])]
        if used.size:
            inside = max_abs_t_cdf(np.abs(t[used]), df[used], group_correlation(family, used))
            value[used], error[used] = np.clip(1.0 - inside.value, 0.0, 1.0), inside.error
    return Probability(value, error)


def error_note(error: Floats) -> str:
    """How the notes state the error of joint p values, from the errors (c,) of them all."""
    largest = float(np.nanmax(error, initial=0.0))
    if largest == 0.0:
        return "mvt: one common factor, integrated by a rule without sampling error"
    return f"mvt: largest error of a p value about {largest:.0e}"


def critical_values(level: float, df: Floats, method: str, family: Family) -> Floats:
    """Half-width of each interval in standard errors.

    Parameters
    ----------
    level : float
        Coverage, between 0 and 1; joint over the family for the single-step methods.
    df : ndarray (c,)
    method : str
        As resolved by `resolve_adjustment` for limits.
    family : Family

    Returns
    -------
    ndarray (c,)
    """
    size = family.sizes()
    alpha = 1.0 - level
    if method == "none":
        return t_quantiles(alpha, df)
    if method == "bonferroni":
        return by_size(lambda n, some: t_quantiles(alpha / n, some), size, df)
    if method == "sidak":
        return by_size(lambda n, some: t_quantiles(-np.expm1(np.log(level) / n), some), size, df)
    if method == "dunnettx":
        return by_size(lambda n, some: dunnett_quantiles(alpha, n, some), size, df)
    if method == "tukey":
        half = np.empty(df.shape)
        for k, rows in family.means():
            half[rows] = studentized_range_isf(alpha, k, df[rows]) / np.sqrt(2.0)
        return half
    if method == "scheffe":
        rank = group_ranks(family)[family.group]
        finite = np.where(np.isinf(df), 1.0, df)
        return np.sqrt(np.where(np.isinf(df), chdtri(rank, alpha), rank * fdtri(rank, finite, level)))
    out = np.full(df.shape, np.nan)
    for rows in family.members():
        out[rows] = mvt_quantiles(level, df, rows, family)
    return out


def by_size(quantiles: Callable[[int, Floats], Floats], size: NDArray[np.integer], df: Floats) -> Floats:
    """Critical values (c,), families of one size together."""
    out = np.empty(df.shape)
    for n in np.unique(size).tolist():
        rows = np.flatnonzero(size == n)
        out[rows] = quantiles(n, df[rows])
    return out


def mvt_quantiles(level: float, df: Floats, rows: NDArray[np.integer], family: Family) -> Floats:
    """Joint quantile for each estimable test of a group, once per distinct df."""
    out = np.full(rows.size, np.nan)
    valid = ~np.isnan(df[rows])
    corr = group_correlation(family, rows[valid])
    distinct, inverse = np.unique(np.round(df[rows[valid]], 6), return_inverse=True)
    out[valid] = np.array([max_abs_t_quantile(level, float(value), corr) for value in distinct])[inverse]
    return out
