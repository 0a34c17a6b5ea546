"""The record of an optimization, as a fit shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.display.displayed import Displayed
from fastlmm_core.reml.fitting import Certificate
from fastlmm_core.reml.optimizer import STATUS, Optimum


@dataclass(frozen=True, repr=False)
class Convergence(Displayed):
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
    trace: pd.DataFrame

    def _shown(self) -> str:
        end = "a certified optimum" if self.certificate else "no certified optimum"
        return (
            f"{end} after {self.iterations} iterations, {self.evaluations} evaluations: {self.message}; "
            f"largest gradient {self.gradient_norm:.1e}, decrement {self.decrement:.1e}"
        )


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
