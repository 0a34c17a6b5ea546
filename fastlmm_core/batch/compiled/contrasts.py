"""Contrasts of the compiled path: weights and the pattern of the labels, by the number of means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.errors import OptionError
from fastlmm_core.means.contrast_families import MeanLabels, contrast_family

Method = str | tuple[tuple[str, tuple[float, ...]], ...]

FIRST_MARK = 0xF0000  # a private character for each mean, in place of its label
MARKS = re.compile(f"[{chr(FIRST_MARK)}-{chr(0x10FFFF)}]")
NO_CONTROL = -1


@dataclass(frozen=True)
class MeanContrasts:
    """The contrasts among k means.

    Attributes
    ----------
    ptr, mean, data : (c + 1,) int64, (nnz,) int64, (nnz,) float64
        Weights as sparse rows.
    places : (c, m) int64
        Means that the label of each contrast names, in their order.
    words : tuple of m + 1 str
        Text before, between and after these.
    names : tuple of str
        The labels where they name no mean (m is 0), else empty.
    kind, adjust : str
        As of ``ContrastFamily``.
    """

    ptr: np.ndarray
    mean: np.ndarray
    data: np.ndarray
    places: np.ndarray
    words: tuple[str, ...]
    names: tuple[str, ...]
    kind: str
    adjust: str

    @property
    def size(self) -> int:
        return self.ptr.size - 1


@lru_cache(maxsize=64)
def contrasts_among(method: Method, k: int, control: int) -> MeanContrasts:
    """The contrasts called `method`, or of custom weights, among k means with a control at that place.

    Raises
    ------
    OptionError
        For custom weights of another number of means.
    """
    marks = MeanLabels.of([chr(FIRST_MARK + i) for i in range(k)])
    ref = None if control == NO_CONTROL else control + 1
    family = contrast_family(method if isinstance(method, str) else dict(method), marks, ref=ref)
    places = np.zeros((len(family.labels), 0), np.int64)
    words: tuple[str, ...] = ("",)
    if MARKS.search(family.labels[0]):  # then all are of one pattern
        characters = np.array(family.labels).view(np.uint32).reshape(len(family.labels), -1)
        marked = characters[0] >= FIRST_MARK
        places = characters[:, marked].astype(np.int64) - FIRST_MARK
        words = tuple(MARKS.split(family.labels[0]))
    weights = family.coefficients
    return MeanContrasts(
        weights.indptr.astype(np.int64), weights.indices.astype(np.int64), weights.data.astype(np.float64),
        places, words, () if places.shape[1] else family.labels, family.kind, family.adjust,
    )  # fmt: skip


@dataclass(frozen=True)
class ContrastPlan:
    """The contrasts of a batch.

    Attributes
    ----------
    method : str or custom weights
    control : str
        "label", "first" or "last" for comparisons with a control, else "".
    kind, adjust : str
        Of the family, and the adjustment asked for or usual.
    """

    method: Method
    control: str
    kind: str
    adjust: str

    def among(self, k: int, control: int) -> MeanContrasts:
        """See `contrasts_among`."""
        return contrasts_among(self.method, k, control)

    def most(self, k: np.ndarray, groups: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Bound (U,) on the contrasts within `groups` (U,) groups of k (U,) means, at most n (U,) in all."""
        if not isinstance(self.method, str):
            return len(self.method) * groups
        if self.kind == "pairs":
            return np.minimum(groups * (k * (k - 1) // 2), n * np.maximum(k - 1, 0) // 2)
        return np.minimum(groups * k, n)


def contrast_plan(plan: BatchPlan) -> ContrastPlan | bool | None:
    """The contrasts of a plan, None without any, False where they need the general path."""
    method: Method | None = plan.contrasts
    if method is None:
        return None
    control = ""
    if isinstance(method, str) and method.startswith("trt.vs.ctrl"):
        control = "label" if plan.ref is not None else "last" if method == "trt.vs.ctrlk" else "first"
        method = "trt.vs.ctrl"
    try:
        k = 3 if isinstance(method, str) else len(method[0][1])
        usual = contrasts_among(method, k, 0 if control else NO_CONTROL)
    except (OptionError, LookupError, ValueError):  # no trial has the means for such weights
        return False
    adjust = plan.adjust or usual.adjust
    return False if adjust in ("mvt", "scheffe") else ContrastPlan(method, control, usual.kind, adjust)


@dataclass(frozen=True)
class UnitContrasts:
    """The families of contrasts of a stretch of units, as ``kernels.trials.contrasts`` takes them.

    Attributes
    ----------
    weights : tuple of arrays
        Start of each family's rows, and the rows of all families, sparse.
    families : (U,) int64
        Family of each unit, -1 without contrasts.
    """

    weights: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    families: np.ndarray

    @classmethod
    def of(cls, found: list[MeanContrasts], families: np.ndarray) -> UnitContrasts:
        """Families joined, and which of them each unit (U,) has."""
        start = np.cumsum([0, *(f.size for f in found)])
        ptr = np.cumsum(np.concatenate([[0], *(np.diff(f.ptr) for f in found)]))
        mean = np.concatenate([np.empty(0, np.int64), *(f.mean for f in found)])
        data = np.concatenate([np.empty(0), *(f.data for f in found)])
        return cls((start.astype(np.int64), ptr.astype(np.int64), mean, data), families)


def no_contrasts(n_units: int) -> UnitContrasts:
    """For tables without contrasts."""
    return UnitContrasts.of([], np.full(n_units, -1))


def choose_contrasts(
    plan: ContrastPlan, k: np.ndarray, controls: np.ndarray, wanted: np.ndarray
) -> tuple[UnitContrasts, np.ndarray]:
    """The families of units with k (U,) means each and controls at places (U,).

    Parameters
    ----------
    wanted : (U,) bool
        Units that have means at all.

    Returns
    -------
    UnitContrasts
    undefined : (U,) bool
        Units that have means, but not the contrasts asked for.
    """
    families, undefined = np.full(k.size, -1), np.zeros(k.size, dtype=bool)
    found: list[MeanContrasts] = []
    pairs, member = np.unique(np.column_stack([k, controls])[wanted], axis=0, return_inverse=True)
    for g, (size, control) in enumerate(pairs.tolist()):
        own = np.flatnonzero(wanted)[member.ravel() == g]
        try:
            if plan.control and control == NO_CONTROL:
                raise OptionError("the control is not one of the means")
            found.append(plan.among(size, control))
            families[own] = len(found) - 1
        except OptionError:
            undefined[own] = True
    return UnitContrasts.of(found, families), undefined
