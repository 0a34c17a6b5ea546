"""Runs of units through the compiled path, and the arrays it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.batch.compiled.coded import MODES, CodedSpec, CodedTrials, integers
from fastlmm_core.batch.compiled.contrasts import NO_CONTROL, UnitContrasts, choose_contrasts, no_contrasts
from fastlmm_core.batch.engines.stopping import check_wanted
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.engine.search.driver import TOLERANCE
from fastlmm_core.kernels.outcomes import BAD_VALUES, NO_INFERENCE, OK
from fastlmm_core.kernels.trials.arrays import (
    COLUMNS,
    RANK,
    ROWS,
    STATUS,
    TERMS,
    FitOptions,
    RowArrays,
    RowQuestion,
    TrialRows,
    UnitBlups,
    UnitResults,
    UnitStore,
)
from fastlmm_core.kernels.trials.design import LARGEST_GRAPH
from fastlmm_core.kernels.trials.inference import KENWARD_ROGER, SATTERTHWAITE
from fastlmm_core.kernels.trials.layout import hash_layouts
from fastlmm_core.kernels.trials.parameters import judge_parameters
from fastlmm_core.kernels.trials.rows import infer_rows
from fastlmm_core.kernels.trials.units import unit_kernel
from fastlmm_core.reml.optimizer import MAX_ITERATIONS

# Numbers that inference on one stretch of units may hold; each unit leaves about (p + q)^2.
STORE_SIZE = 2**20


@dataclass(frozen=True)
class UnitArrays:
    """What ``kernels.trials.units`` leaves of the units first:first + U.

    Attributes
    ----------
    units : (U,) int64
    results : UnitResults
    blups : UnitBlups
    places, places_at : columns kept of every unit
    fixed : RowArrays or None
    means : tuple of RowArrays
        One for each specification.
    n_terms : int
    """

    units: np.ndarray
    results: UnitResults
    blups: UnitBlups
    places: np.ndarray
    places_at: np.ndarray
    fixed: RowArrays | None
    means: tuple[RowArrays, ...]
    n_terms: int

    @property
    def status(self) -> np.ndarray:
        return self.results.integers[:, STATUS]

    @property
    def n(self) -> np.ndarray:
        return self.results.integers[:, ROWS]

    @property
    def rank(self) -> np.ndarray:
        return self.results.integers[:, RANK]

    @property
    def n_columns(self) -> np.ndarray:
        """Fixed columns, those dropped included (U,)."""
        return self.results.integers[:, COLUMNS]

    @property
    def order(self) -> np.ndarray:
        """Term of the formula at each place of lme4's order (U, K)."""
        return self.results.integers[:, TERMS : TERMS + self.n_terms]

    @property
    def counts(self) -> np.ndarray:
        """Levels of the random terms in lme4's order (U, K)."""
        return self.results.integers[:, TERMS + self.n_terms : TERMS + 2 * self.n_terms]

    @property
    def level_counts(self) -> np.ndarray:
        """Levels of the factors (U, n_factors)."""
        return self.results.integers[:, TERMS + 2 * self.n_terms :]

    def results_of(self, own: slice) -> UnitResults:
        """`results` of the units `own`."""
        a = self.results
        return UnitResults(
            a.offsets[own], a.integers[own], a.figures[own], a.levels, a.theta[own], a.natural[own],
            a.average[own], a.bases[own], a.numbers[own],
        )  # fmt: skip

    def kept(self, u: int) -> np.ndarray:
        """Fixed columns that were not dropped."""
        return self.places[self.places_at[u] : self.places_at[u] + self.rank[u]]


def run_units(table: TrialTable, coded: CodedTrials, first: int, last: int, stop: np.ndarray) -> UnitArrays:
    """Fit the units first:last without the interpreter, until `stop` says that they are not wanted."""
    plan = table.plan
    units = np.arange(first, last)
    trials = units // len(plan.labels)
    most_fixed, most_random = largest_sizes(table, coded, trials)
    arrays = allocate(table, coded, units, trials, most_fixed, most_random)
    with_rows = bool(plan.fixed or plan.emmeans)
    room = most_fixed * (most_fixed + 4) + most_random * (most_fixed + most_random + 1)
    for lo, hi in stretches(room if with_rows else np.zeros_like(room)):
        store_at = starts(room[lo:hi] if with_rows else np.zeros(hi - lo, np.int64))
        fit_stretch(table, coded, arrays, lo, hi, np.empty(int(store_at[-1])), store_at[:-1], stop)
    return arrays


def starts(sizes: np.ndarray) -> np.ndarray:
    """Running total of sizes (u,) from zero on, (u + 1,) int64."""
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def stretches(room: np.ndarray) -> list[tuple[int, int]]:
    """Consecutive units that hold at most STORE_SIZE numbers together."""
    ends = np.cumsum(room)
    out, lo = [], 0
    while lo < room.size:
        before = ends[lo - 1] if lo else 0
        hi = max(lo + 1, int(np.searchsorted(ends, before + STORE_SIZE, side="right")))
        out.append((lo, min(hi, room.size)))
        lo = hi
    return out


def largest_sizes(table: TrialTable, coded: CodedTrials, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (U,) on the fixed columns and random coefficients of every unit, from the levels that occur."""
    counts = dict(zip(coded.factors, coded.level_counts[:, trials], strict=True))
    n = np.diff(table.ptr)[trials]
    fixed = np.full(n.size, int(coded.intercept))
    for term in coded.terms:
        width = np.ones(n.size, np.int64)
        for name, kind in zip(term.names, term.kinds, strict=True):
            if kind < 2:
                width = np.minimum(width * np.maximum(counts[name] - (kind == 0), 0), n)
        fixed = fixed + width
    random = np.zeros(n.size, np.int64)
    for group in coded.random:
        cells = np.ones(n.size, np.int64)
        for name in group.factors:
            cells = np.minimum(cells * counts[name], n)
        random = random + np.minimum(cells, LARGEST_GRAPH) * len(group.columns)
    return np.minimum(np.minimum(fixed, n), LARGEST_GRAPH), np.minimum(random, LARGEST_GRAPH * coded.width)


def allocate(
    table: TrialTable, coded: CodedTrials, units: np.ndarray, trials: np.ndarray, most_fixed: np.ndarray,
    most_random: np.ndarray,
) -> UnitArrays:  # fmt: skip
    """Room for all results of the units."""
    plan = table.plan
    n = np.diff(table.ptr)[trials]
    counts = coded.level_counts[:, trials]
    U, K, d, w = units.size, len(coded.random), coded.n_theta, coded.width
    width = sum(len(r.columns) for r in coded.random)
    blups_at = starts(n * width if plan.blups else np.zeros_like(n))
    levels_at = starts(counts.T.ravel())
    places_at = starts(most_fixed + 1 + 2 * most_random)
    offsets = np.column_stack([blups_at[:-1], levels_at[:-1].reshape(U, -1)])
    total = int(blups_at[-1])
    results = UnitResults(
        np.ascontiguousarray(offsets), np.zeros((U, TERMS + 2 * K + len(coded.factors)), np.int64),
        np.zeros((U, 4)), np.zeros(int(levels_at[-1]), np.int64), np.zeros((U, d)), np.zeros((U, d)),
        np.zeros((U, d + 1, d + 1)), np.zeros((U, K, w, w)), np.zeros((U, len(coded.numeric))),
    )  # fmt: skip
    return UnitArrays(
        units, results, UnitBlups(np.zeros(total, np.int64), np.empty((total, 3)), np.zeros((U, K, 5))),
        np.zeros(int(places_at[-1]), np.int64), places_at[:-1],
        row_arrays(most_fixed, np.zeros_like(n)) if plan.fixed else None,
        tuple(row_arrays(*mean_sizes(coded, spec, n, counts)) for spec in coded.specs), K,
    )  # fmt: skip


def mean_sizes(
    coded: CodedTrials, spec: CodedSpec, n: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (U,) on the means of a specification and on their contrasts."""
    compared, groups = np.ones_like(n), np.ones_like(n)
    for name in spec.main:
        compared = np.minimum(compared * counts[coded.factors.index(name)], n)
    for name in spec.by:
        groups = np.minimum(groups * counts[coded.factors.index(name)], n)
    contrasts = coded.family.most(compared, groups, n) if coded.family else np.zeros_like(n)
    return np.minimum(compared * groups, n), contrasts


def row_arrays(rows: np.ndarray, contrasts: np.ndarray) -> RowArrays:
    """Room for tables of so many rows and contrasts by unit."""
    rows_at, contrasts_at = starts(rows), starts(contrasts)
    return RowArrays(
        np.column_stack([rows_at[:-1], contrasts_at[:-1]]), np.zeros((rows.size, 4), np.int64),
        np.empty((int(rows_at[-1]), 3)), np.empty((int(contrasts_at[-1]), 3)),
    )  # fmt: skip


def fit_stretch(
    table: TrialTable, coded: CodedTrials, arrays: UnitArrays, lo: int, hi: int, store: np.ndarray,
    store_at: np.ndarray, stop: np.ndarray,
) -> None:  # fmt: skip
    """Fit the units lo:hi of a run and fill their tables."""
    plan, a = table.plan, arrays
    own, units = slice(lo, hi), a.units[lo:hi]
    mode = MODES[plan.ddf]
    with_rows = bool(plan.fixed or plan.emmeans)
    with_variances = with_rows and mode in (KENWARD_ROGER, SATTERTHWAITE)
    fixed, random, rows = coded.fixed_arrays(), coded.random_arrays(), trial_rows(table, coded)
    results = a.results_of(own)
    kept = UnitStore(store, store_at, a.places, a.places_at[own])
    options = FitOptions(
        plan.reml or not coded.random, 2 if plan.emmeans else int(plan.fixed), with_variances, TOLERANCE,
        MAX_ITERATIONS, stop,
    )  # fmt: skip
    layouts = np.empty(hi - lo, np.int64)
    hash_layouts(int(units[0]), rows, layouts)
    longest = int(np.diff(table.ptr)[units // len(plan.labels)].max())
    unit_kernel(bool(plan.blups))(
        int(units[0]), units[np.argsort(layouts, kind="stable")], longest, rows, fixed, random, options,
        results, kept, a.blups._replace(terms=a.blups.terms[own]),
    )  # fmt: skip
    check_wanted(stop)
    if not with_rows:
        return
    status = a.results.integers[own, STATUS].copy()
    covariance = np.zeros((hi - lo, a.results.theta.shape[1] + 1, a.results.theta.shape[1] + 1))
    if with_variances:
        judge_parameters(mode, plan.reml, random, results, kept, covariance, status)
    undefined = coded.covariates.place(a.results.numbers[own])
    status[undefined & (status == OK)] = NO_INFERENCE
    offset = coded.covariates.offset
    shifts = np.zeros(hi - lo) if offset < 0 else np.ascontiguousarray(a.results.numbers[own, offset])
    for s, into in enumerate((a.fixed, *a.means), start=-1):
        if into is None:
            continue
        spec = coded.specs[s].factors if s >= 0 else ()
        chosen = unit_contrasts(coded, a, own, s, status) if s >= 0 else no_contrasts(hi - lo)
        factors = integers([coded.factors.index(name) for name in spec])
        question = RowQuestion(
            s < 0, mode, fixed, random, factors, shifts if s >= 0 else np.zeros(hi - lo)
        )  # fmt: skip
        infer_rows(
            question, results, covariance, kept, chosen.weights, chosen.families,
            into._replace(offsets=into.offsets[own], sizes=into.sizes[own]), status,
        )  # fmt: skip
    a.results.integers[own, STATUS] = status


def trial_rows(table: TrialTable, coded: CodedTrials) -> TrialRows:
    """A coded table as the kernels take it."""
    return TrialRows(
        len(table.plan.labels), table.ptr, coded.ok, coded.y, coded.codes, coded.numbers, coded.weights,
        integers([len(names) for names in coded.levels]),
    )  # fmt: skip


def unit_contrasts(
    coded: CodedTrials, arrays: UnitArrays, own: slice, s: int, status: np.ndarray
) -> UnitContrasts:
    """Contrasts of specification `s` in the units `own`; notes sizes, and in `status` who has none."""
    sizes, n_units = arrays.means[s].sizes[own], status.size
    if not coded.family:
        return no_contrasts(n_units)
    compared, all_means = np.ones(n_units, np.int64), np.ones(n_units, np.int64)
    for name in coded.specs[s].factors:
        levels = arrays.level_counts[own, coded.factors.index(name)]
        all_means = np.minimum(all_means * levels, arrays.n[own] + 1)
        if name in coded.specs[s].main:
            compared = np.minimum(compared * levels, arrays.n[own] + 1)
    sizes[:, 2], sizes[:, 3] = compared, NO_CONTROL
    wanted = (status == OK) & (all_means <= arrays.n[own])
    if coded.family.control:
        sizes[:, 3] = {"first": 0, "last": compared - 1, "label": NO_CONTROL}[coded.family.control]
    if coded.family.control == "label":
        f = coded.factors.index(coded.specs[s].main[0])
        starts_at = arrays.results.offsets[own, 1 + f]
        for u in np.flatnonzero(wanted):
            found = np.flatnonzero(
                arrays.results.levels[starts_at[u] : starts_at[u] + compared[u]] == coded.controls[s]
            )
            sizes[u, 3] = found[0] if found.size else NO_CONTROL
    chosen, undefined = choose_contrasts(coded.family, sizes[:, 2], sizes[:, 3], wanted)
    status[undefined] = BAD_VALUES
    return chosen
