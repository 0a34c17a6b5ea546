"""Runs of units through the compiled path, and the arrays it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastlmm_core.batch.coded import MODES, CodedTrials, integers
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.trials import TrialTable
from fastlmm_core.kernels.trial_units import PAIRWISE, REVERSED, fit_trial_units
from fastlmm_core.reml.optimizer import MAX_ITERATIONS, TOLERANCE


@dataclass(frozen=True)
class UnitArrays:
    """What ``kernels.trial_units`` leaves of the units first:first + U; rows of unit u start at offsets[u].

    Attributes
    ----------
    units : (U,) int64
    offsets, integers, figures : per unit, see the kernel
    levels, cells, fixed, means, contrasts, blups : rows of all units
    terms, theta, average, bases : per unit
    n_terms : int
    """

    units: np.ndarray
    offsets: np.ndarray
    integers: np.ndarray
    figures: np.ndarray
    levels: np.ndarray
    cells: np.ndarray
    fixed: np.ndarray
    means: np.ndarray
    contrasts: np.ndarray
    blups: np.ndarray
    terms: np.ndarray
    theta: np.ndarray
    average: np.ndarray
    bases: np.ndarray
    n_terms: int

    @property
    def status(self) -> np.ndarray:
        return self.integers[:, 0]

    @property
    def n(self) -> np.ndarray:
        return self.integers[:, 1]

    @property
    def p(self) -> np.ndarray:
        return self.integers[:, 2]

    @property
    def order(self) -> np.ndarray:
        """Term of the formula at each place of lme4's order (U, K)."""
        return self.integers[:, 6 : 6 + self.n_terms]

    @property
    def counts(self) -> np.ndarray:
        """Levels of the random terms in lme4's order (U, K)."""
        return self.integers[:, 6 + self.n_terms : 6 + 2 * self.n_terms]

    @property
    def level_counts(self) -> np.ndarray:
        """Levels of the factors (U, n_factors)."""
        return self.integers[:, 6 + 2 * self.n_terms :]


def run_units(table: TrialTable, coded: CodedTrials, first: int, last: int) -> UnitArrays:
    """Fit the units first:last without the interpreter."""
    plan = table.plan
    labels = len(plan.labels)
    units = np.arange(first, last)
    trials = units // labels
    offsets, totals = row_offsets(table, coded, trials)
    U, K, d, w = units.size, len(coded.random), coded.n_theta, coded.width
    arrays = UnitArrays(
        units, offsets, np.zeros((U, 6 + 2 * K + len(coded.factors)), np.int64), np.zeros((U, 4)),
        np.zeros(totals[4], np.int64), np.zeros(totals[3], np.int64), np.empty((totals[0], 3)),
        np.empty((totals[1], 3)), np.empty((totals[2], 3)), np.empty((totals[3], 3)), np.zeros((U, K, 4)),
        np.zeros((U, d)), np.zeros((U, d + 1, d + 1)), np.zeros((U, K, w, w)), K,
    )  # fmt: skip
    a = arrays
    fit_trial_units(
        first, last, labels, table.ptr, coded.ok, coded.y, coded.codes, coded.numbers, coded.weights,
        integers([len(names) for names in coded.levels]), coded.fixed_arrays(), coded.random_arrays(),
        integers([coded.factors.index(name) for name in coded.spec]), kernel_options(plan, coded), TOLERANCE,
        MAX_ITERATIONS, a.offsets, a.integers, a.figures, a.levels, a.cells, a.fixed, a.means, a.contrasts,
        a.blups, a.terms, a.theta, a.average, a.bases,
    )  # fmt: skip
    return arrays


def kernel_options(plan: BatchPlan, coded: CodedTrials) -> np.ndarray:
    """The plan as the kernel's integers."""
    family = coded.family[0] if coded.family else 0
    means = int(bool(plan.emmeans))
    return integers(
        [
            plan.reml,
            plan.fixed,
            means,
            family,
            coded.control,
            bool(plan.blups),
            MODES[plan.ddf],
            plan.fixed or means,
        ]
    )


def row_offsets(table: TrialTable, coded: CodedTrials, trials: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Room for the rows of every unit: offsets (U, 4 + n_factors) and the totals of the five buffers."""
    plan = table.plan
    n = np.diff(table.ptr)[trials]
    zero = np.zeros_like(n)
    means = zero
    if plan.emmeans:
        means = np.ones_like(n)
        for name in coded.spec:
            means = np.minimum(means * coded.level_counts[coded.factors.index(name)][trials], n)
    contrasts = zero
    if coded.family:
        contrasts = means * (means - 1) // 2 if coded.family[0] in (PAIRWISE, REVERSED) else means
    room = [n if plan.fixed else zero, means, contrasts, n * len(coded.random) if plan.blups else zero]
    counts = coded.level_counts[:, trials]
    offsets = np.zeros((trials.size, 4 + counts.shape[0]), np.int64)
    totals = []
    for c, size in enumerate(room):
        offsets[1:, c] = np.cumsum(size)[:-1]
        totals.append(int(size.sum()))
    flat = np.cumsum(counts.T.ravel())
    offsets[:, 4:] = np.concatenate(([0], flat[:-1])).reshape(trials.size, -1) if flat.size else 0
    totals.append(int(flat[-1]) if flat.size else 0)
    return offsets, totals
