"""Bootstrap of a fit: new responses, the model fitted to each, and intervals from what comes out.

Responses are drawn in blocks, each with a random stream of its own from the seed, so that neither the number
of threads nor an interruption changes a digit of them (Efron & Tibshirani 1993; Davison & Hinkley 1997,
chapter 5).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.display.frames import titled
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import InferenceError, OptionError
from fastlmm_core.gate import callers_own, public
from fastlmm_core.intervals.block_store import BlockStore
from fastlmm_core.intervals.parameters import Parameter
from fastlmm_core.intervals.refits import Refits, Refitter
from fastlmm_core.intervals.residual_bootstrap import residual_draw
from fastlmm_core.intervals.simulation import response_model
from fastlmm_core.intervals.tables import interval_table
from fastlmm_core.options import LEVEL, one_of
from fastlmm_core.progress_bar import terminal_bar

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

logger = logging.getLogger("fastlmm_core.intervals")

KINDS = ("parametric", "residual")
TYPES = ("percentile", "basic", "normal")
# Responses of one random stream.
BLOCK = 100
# Estimates without which an interval is not given.
FEWEST = 20


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Displayed):
    """Estimates from refits to drawn responses.

    Attributes
    ----------
    kind : {"parametric", "residual"}
    seed : int
    parameters : tuple of Parameter
        In the order of the columns.
    estimates : (r,) float64
        At the fit itself.
    draws : (n, r) float64
        A row a response; NaN where the fit failed.
    singular, failed : (n,) bool

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
    >>> draws = fit.bootstrap(50, seed=1, progress=False)
    >>> draws.n_failed, draws.names[0]
    (0, 'sd(Batch: (Intercept))')
    """

    kind: str
    seed: int
    parameters: tuple[Parameter, ...]
    estimates: np.ndarray
    draws: np.ndarray
    singular: np.ndarray
    failed: np.ndarray

    def _shown(self) -> Table:
        note = f"{int(self.singular.sum())} singular fits, {self.n_failed} without a fit; seed {self.seed}"
        title = f"{self.kind.capitalize()} bootstrap, {len(self.draws):,} responses"
        return Table(pd.DataFrame(self.summary()), title, (note,), max_rows=60, all_rows=".summary()")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the columns."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def n_failed(self) -> int:
        """Responses without a fit; they are left out of every figure."""
        return int(self.failed.sum())

    @titled("Draws")
    def frame(self) -> pd.DataFrame:
        """The draws, a column a parameter.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> draws = fit.bootstrap(50, seed=1, progress=False)
        >>> draws.frame().shape
        (50, 3)
        """
        return pd.DataFrame(self.draws, columns=list(self.names))

    @titled("Bootstrap")
    def summary(self) -> pd.DataFrame:
        """parameter, estimate, bias, se, n: the mean of the draws less the estimate, and their deviation.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> draws = fit.bootstrap(50, seed=1, progress=False)
        >>> draws.summary().columns.tolist()
        ['parameter', 'estimate', 'bias', 'se', 'n']
        """
        with np.errstate(invalid="ignore"):
            count = np.isfinite(self.draws).sum(axis=0)
            mean, se = np.nanmean(self.draws, axis=0), np.nanstd(self.draws, axis=0, ddof=1)
        columns = {"parameter": self.names, "estimate": self.estimates, "bias": mean - self.estimates}
        return pd.DataFrame({**columns, "se": se, "n": count})

    @public(level=LEVEL, type=one_of(TYPES))
    @titled("Bootstrap intervals, level {level:g}")
    def conf_int(self, level: float = 0.95, type: str = "percentile") -> pd.DataFrame:
        """parameter, kind, group, var1, var2, estimate, lower, upper, method.

        Parameters
        ----------
        type : {"percentile", "basic", "normal"}
            Quantiles of the draws; these reflected at the estimate; the estimate less the bias plus and minus
            normal quantiles of their standard deviation. Quantiles as R's boot: interpolated on the normal
            scale at (n + 1) alpha (Davison & Hinkley 1997, equation 5.8).

        Raises
        ------
        InferenceError
            With fewer than 20 draws.

        Examples
        --------
        >>> from fastlmm_core import datasets, lmm
        >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"))
        >>> draws = fit.bootstrap(50, seed=1, progress=False)
        >>> draws.conf_int(0.9, "basic").columns.tolist()[-4:]
        ['estimate', 'lower', 'upper', 'method']
        """
        tails = np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level])
        limits = np.full((len(self.names), 2), np.nan)
        for j, column in enumerate(self.draws.T):
            own = column[np.isfinite(column)]
            if own.size < FEWEST:
                raise InferenceError(
                    f"{own.size} draws of {self.names[j]} are too few for an interval; {FEWEST} or more are "
                    "needed, 1000 for the tails of a 95% interval"
                )
            limits[j] = _limits(own, float(self.estimates[j]), tails, type)
        lower, upper = limits.T
        return interval_table(self.parameters, self.estimates, lower, upper, f"bootstrap, {type}")


def _limits(draws: np.ndarray, estimate: float, tails: np.ndarray, type: str) -> np.ndarray:
    if type == "percentile":
        return normal_quantiles(draws, tails)
    if type == "basic":
        return 2.0 * estimate - normal_quantiles(draws, tails)[::-1]
    from scipy.special import ndtri

    return 2.0 * estimate - draws.mean() + ndtri(tails) * draws.std(ddof=1)


def normal_quantiles(draws: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Order statistics at (n + 1) alpha, between two of them by interpolation on the normal scale."""
    from scipy.special import ndtri

    ordered, n = np.sort(draws), draws.size
    place = np.clip((n + 1) * tails, 1.0, float(n))
    k = np.minimum(np.floor(place).astype(int), n - 1)
    z = ndtri(np.stack([k, k + 1]) / (n + 1.0))
    share = (ndtri(place / (n + 1.0)) - z[0]) / (z[1] - z[0])
    return ordered[k - 1] + share * (ordered[k] - ordered[k - 1])


def bootstrap(
    fit: RandomPart, n: int, kind: str, seed: int | None, statistic: Any, out: str | Path | None,
    threads: int | None, progress: bool,
) -> Bootstrap:  # fmt: skip
    """Bootstrap of a fit; see ``LMMFit.bootstrap``."""
    if not fit.sigma > 0.0 and not fit.structured:
        raise InferenceError("the fixed part explains the response exactly: there is no residual to draw")
    if statistic is not None and not callable(statistic):
        raise OptionError("statistic must be a function of a fit that returns numbers")
    if out is not None and (seed is None or statistic is not None):
        raise OptionError("out= needs a seed=, and keeps the parameters of the model only, not statistic=")
    own = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    refitter = Refitter(fit, None if statistic is None else callers_own(statistic))
    draw = residual_draw(fit) if kind == "residual" else response_model(fit).draw
    store = None if out is None else BlockStore(out, fit, kind, own, BLOCK)
    blocks = refit_blocks(refitter, draw, n, own, store, threads or os.cpu_count() or 1, progress)
    draws = np.concatenate([block.estimates for block in blocks])
    singular = np.concatenate([block.singular for block in blocks])
    failed = np.concatenate([block.failed for block in blocks])
    parameters = tuple(refitter.parameters)
    return Bootstrap(kind, own, parameters, refitter.estimates, draws, singular, failed)


def refit_blocks(
    refitter: Refitter, draw: Callable[[int, np.random.Generator], np.ndarray], n: int, seed: int,
    store: BlockStore | None, threads: int, progress: bool,
) -> list[Refits]:  # fmt: skip
    """Refits of all blocks in order, each from a stream of its own."""
    sizes = [min(BLOCK, n - first) for first in range(0, n, BLOCK)]

    def work(number: int) -> Refits:
        found = None if store is None else store.read(number, sizes[number])
        if found is None:
            rng = np.random.default_rng([seed, number])
            found = refitter.refit(draw(sizes[number], rng))
            if store is not None:
                store.write(number, found)
        return found

    with ThreadPoolExecutor(max_workers=min(threads, len(sizes)) if refitter.compiled else 1) as pool:
        running = [pool.submit(work, number) for number in range(len(sizes))]
        try:
            return [future.result() for future in _counted(running, sizes, n, progress)]
        except BaseException:
            for future in running:
                future.cancel()
            raise


def _counted(running: list[Any], sizes: list[int], n: int, progress: bool) -> Iterator[Any]:
    """The futures in order, with a bar that moves as they end."""
    bar = terminal_bar(n, progress, logger, unit="fit")
    try:
        for future, size in zip(running, sizes, strict=True):
            future.result()
            if bar is not None:
                bar.update(size)
            yield future
    finally:
        if bar is not None:
            bar.close()
