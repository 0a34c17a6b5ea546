"""The record of an optimization, as a fit shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.optimizer import STATUS, Optimum


@dataclass(frozen=True)
class Convergence:
    """Record of the optimization.

    Attributes
    ----------
    iterations, evaluations : int
        Steps taken, and factorizations for the deviance.
    gradient_norm, decrement : float
        Largest gradient component in theta, and g' H^-1 g in units of the deviance.
    certificate : bool
        Gradient, curvature and the scores of zero variances all confirm an optimum.
    message : str
    trace : DataFrame
        iteration, deviance, decrement, radius, theta of every iteration.
    """

    iterations: int
    evaluations: int
    gradient_norm: float
    decrement: float
    certificate: bool
    message: str
    trace: pd.DataFrame = field(repr=False)


def convergence_of(optimum: Optimum, certificate: Certificate) -> Convergence:
    """The record of a search that ended in `optimum`."""
    trace = optimum.trace
    columns = ["deviance", "decrement", "radius", *(f"theta{t + 1}" for t in range(trace.shape[1] - 3))]
    frame = pd.DataFrame(trace, columns=columns)
    frame.insert(0, "iteration", np.arange(len(frame)))
    return Convergence(
        optimum.iterations, optimum.evaluations, certificate.gradient_norm, certificate.decrement,
        certificate.optimal, STATUS[optimum.status], frame,
    )  # fmt: skip
