"""Residuals correlated within a subject: one covariance of the visits, all subjects or an arm each.

What is named, held and reported is the same however the precision of the rows is written: by patterns of
visits (`visits_by_pattern`), or for processes whose visits know only their neighbours as series
(`visits_in_series`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag

from fastlmm_core.structures.coefficients.entries import LinearEntries
from fastlmm_core.structures.levels.base import turned_together
from fastlmm_core.structures.residuals.base import (
    SETTLES,
    Charted,
    ResidualGroup,
    ResidualStructure,
    block_names,
)
from fastlmm_core.structures.residuals.by_group import LEAST_SQUARE

# What is added to the variance of a visit, relative to its mean square, where the covariance is nearly
# singular: less leaves the deviance without the digits of its decrement.
FLOOR = 1e-8
# Visits up to which every covariance of a process is shown, and it is asked whether the data tell of each
# visit: Sigma is (m, m) and its derivatives are (n_theta, m, m).
MOST_VISITS = 60


class Visits(NamedTuple):
    """Codes of the rows (n,) int64; no subject has a visit twice, and an arm belongs to a whole subject."""

    subjects: np.ndarray
    visits: np.ndarray
    arms: np.ndarray


class WithinSubjectResiduals(ResidualStructure):
    """R = W^(-1/2) blockdiag(Sigma_arm[visits, visits]) W^(-1/2).

    Where Sigma is nearly singular a least variance is added to its diagonal: R has an inverse, and a singular
    Sigma, where random terms take the rest, is a point like others.

    Parameters
    ----------
    weights : (n,) float64
    rows : Visits
    structures : list of CoefficientStructure
        Covariance of the visits by arm.
    visit_levels, arm_levels : tuple
    """

    def __init__(
        self, weights: np.ndarray, rows: Visits, structures: list[Any], visit_levels: tuple[str, ...],
        arm_levels: tuple[Any, ...],
    ):  # fmt: skip
        self.root, self.rows = np.sqrt(weights), rows
        self.structures, self.visit_levels, self.arm_levels = structures, visit_levels, arm_levels
        self.linear = all(s.linear for s in structures)
        self.n_rows = weights.size
        self.first = np.cumsum([0, *(s.n_theta for s in structures)]).astype(np.int64)
        self.n_theta = int(self.first[-1])
        self.log_weights = float(np.sum(np.log(weights)))
        self.least = np.full((len(structures), len(visit_levels)), FLOOR)

    @abstractmethod
    def visit_variances(self, theta: np.ndarray) -> np.ndarray:
        """Variances of the visits (arms, m), those of R."""

    def visit_covariance(self, theta: np.ndarray, arm: int) -> np.ndarray:
        """Sigma (m, m) of an arm, without least variances."""
        return np.array(self.structures[arm].covariance(self._own(theta, arm)), float)

    @abstractmethod
    def has_inverse(self, own: np.ndarray, arm: int) -> bool:
        """Whether R is what the parameters `own` of an arm say, without a least variance beside it."""

    def covariances(self, theta: np.ndarray, arm: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Sigma of an arm between visits (a,) and visits (b,), without least variances.

        Those of a process are numbers on a line, of which the fit has some.
        """
        structure = self.structures[arm]
        if structure.markov and structure.m > 1:
            T = type(structure)(2).covariance(self._own(theta, arm))
            rho = T[0, 1] / T[0, 0] if T[0, 0] > 0.0 else 0.0
            return lambda first, second: T[0, 0] * rho ** np.abs(np.subtract.outer(first, second))
        Sigma = self.visit_covariance(theta, arm)
        return lambda first, second: Sigma[np.ix_(first, second)]

    def telling(self, seen: np.ndarray, visits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What some visits (b,) of a subject need of those it was seen at (a,), which are others.

        Yields
        ------
        Places among `visits`, and among `seen` of those beside which the rest tell nothing.
        """
        yield np.arange(visits.size), np.arange(seen.size)

    def _shown(self, arm: int) -> Any:
        """Structure of the visits whose covariance is shown: two of a long process with one variance.

        All others are powers of the correlation of neighbours; of m visits there are m^2.
        """
        structure = self.structures[arm]
        return type(structure)(2) if structure.markov and structure.m > MOST_VISITS else structure

    def correlation_charts(self) -> np.ndarray:
        return np.concatenate([structure.correlation_charts() for structure in self.structures])

    def charted(self) -> list[tuple[int, Charted]]:
        return list(zip(self.first[:-1].tolist(), self.structures, strict=True))

    def other_correlations(self, start: np.ndarray) -> list[np.ndarray]:
        others = [s.strong_starts(self._own(start, k)) for k, s in enumerate(self.structures)]
        return self._turned(start, others)

    def other_spreads(self, start: np.ndarray) -> list[np.ndarray]:
        others = [s.spread_starts(self._own(start, k)) for k, s in enumerate(self.structures)]
        return self._turned(start, others)

    def _turned(self, start: np.ndarray, others: list[list[np.ndarray]]) -> list[np.ndarray]:
        places = [self._place(k) for k in range(len(self.structures))]
        return turned_together(start, list(zip(places, others, strict=True)))

    def _place(self, arm: int) -> slice:
        return slice(self.first[arm], self.first[arm + 1])

    def groups(self) -> list[ResidualGroup]:
        if len(self.structures) == 1:
            return []
        return [
            ResidualGroup(level, np.flatnonzero(self.rows.arms == arm), self._place(arm))
            for arm, level in enumerate(self.arm_levels)
        ]

    def visit_groups(self) -> list[ResidualGroup]:
        out = []
        for arm, structure in enumerate(self.structures):
            for visit in range(structure.m if structure.m <= MOST_VISITS else 0):
                rows = np.flatnonzero((self.rows.arms == arm) & (self.rows.visits == visit))
                level = self.arm_levels[arm]
                label = f"{self.visit_levels[visit]}{'' if level is None else f' in {level}'}"
                out.append(ResidualGroup(label, rows, self._place(arm), structure, visit))
        return out

    def subjects_and_visits(self, arm: int) -> tuple[int, int]:
        """How many subjects an arm has, and at how many visits they were seen."""
        own = self.rows.arms == arm
        return np.unique(self.rows.subjects[own]).size, np.unique(self.rows.visits[own]).size

    def _by_visit(self, values: np.ndarray) -> np.ndarray:
        """Sums of values (n,) by arm and visit (arms, m)."""
        shape = len(self.structures), len(self.visit_levels)
        place = self.rows.arms * shape[1] + self.rows.visits
        return np.bincount(place, values, minlength=shape[0] * shape[1]).reshape(shape)

    def _own(self, theta: np.ndarray, arm: int) -> np.ndarray:
        return theta[self._place(arm)]

    def for_response(self, e: np.ndarray) -> WithinSubjectResiduals:
        count = self._by_visit(np.ones(self.n_rows))
        means = self._by_visit((self.root * e) ** 2) / np.maximum(count, 1.0)
        # a visit that an arm was not seen at, or that the fixed part explains, has the mean of the others
        told = means > LEAST_SQUARE
        whole = [
            np.where(some, own, own[some].mean() if some.any() else 1.0)
            for own, some in zip(means, told, strict=True)
        ]
        return self._with(FLOOR * np.array(whole))

    def with_least(self, factor: float) -> WithinSubjectResiduals:
        return self._with(factor * self.least)

    def _with(self, least: np.ndarray) -> WithinSubjectResiduals:
        """The same with least variances (arms, m)."""
        out = copy(self)
        out.least = least
        return out

    def settled(self, theta: np.ndarray) -> np.ndarray:
        out = theta.copy()
        for k, structure in enumerate(self.structures):
            if isinstance(structure, LinearEntries):
                deviations = structure.diagonal
            else:
                deviations = np.flatnonzero(structure.lower_bounds() == 0.0)
            own = out[self._place(k)]  # a view
            small = own[deviations] ** 2 < SETTLES / FLOOR * self.least[k][: deviations.size]
            own[deviations[small]] = 0.0
        return out

    def boundary(self, theta: np.ndarray) -> list[tuple[Any, tuple[str, ...]]]:
        out = []
        for k, level in enumerate(self.arm_levels):
            shown = self._shown(k)
            names, least = list(self.visit_levels[: shown.m]), self.least[k, : shown.m] / FLOOR
            own = self._own(theta, k)
            out.append((level, shown.boundary(own, names, least=least) if shown.m > 1 else ()))
        return out

    def lower_bounds(self) -> np.ndarray:
        return np.concatenate([s.lower_bounds() for s in self.structures])

    def bounded_sizes(self) -> np.ndarray:
        sizes = [np.ones(structure.n_theta) for structure in self.structures]
        for own, least, structure in zip(sizes, self.least, self.structures, strict=True):
            bounded = np.flatnonzero(structure.lower_bounds() == 0.0)
            own[bounded] = np.sqrt(least[: bounded.size] / FLOOR)
        return np.concatenate(sizes)

    def natural(self, theta: np.ndarray) -> np.ndarray:
        return np.concatenate([s.natural(self._own(theta, k)) for k, s in enumerate(self.structures)])

    def natural_jacobian(self, theta: np.ndarray) -> np.ndarray:
        return block_diag(*(s.natural_jacobian(self._own(theta, k)) for k, s in enumerate(self.structures)))

    def natural_names(self) -> tuple[str, ...]:
        names = []
        for head, structure in zip(block_names(self.arm_levels), self.structures, strict=True):
            names += [f"{head}: {name}" for name in structure.natural_names(list(self.visit_levels))]
        return tuple(names)

    @property
    def least_rho(self) -> float:
        return max(float(s.least_rho) for s in self.structures)

    def rescaled(self, theta: np.ndarray, factor: float) -> np.ndarray:
        return np.concatenate(
            [s.rescaled(self._own(theta, k), factor) for k, s in enumerate(self.structures)]
        )

    def variances(self, theta: np.ndarray) -> np.ndarray:
        return self.visit_variances(theta)[self.rows.arms, self.rows.visits] / self.root**2

    def covariance_jacobian(self, theta: np.ndarray) -> list[np.ndarray]:
        out = []
        for k in range(len(self.structures)):
            shown = self._shown(k)
            slopes = np.zeros((self.n_theta, shown.m, shown.m))
            slopes[self._place(k)] = shown.covariance_jacobian(self._own(theta, k))
            out.append(slopes)
        return out

    def blocks(self, theta: np.ndarray) -> list[dict[str, Any]]:
        return [self._block(theta, k, level) for k, level in enumerate(self.arm_levels)]

    def _block(self, theta: np.ndarray, arm: int, level: Any) -> dict[str, Any]:
        whole, shown = self.structures[arm], self._shown(arm)
        own = {
            "at": level, "names": list(self.visit_levels[: shown.m]),
            "T": shown.covariance(self._own(theta, arm)), "n_par": whole.n_par, "group_corr": {},
            "struct": whole.name,
        }  # fmt: skip
        return own if shown is whole else own | {"visits": whole.m, "last": self.visit_levels[-1]}
