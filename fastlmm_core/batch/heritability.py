"""The table `heritability` of a batch, from the prediction error variances of the genotypes of each trial."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.batch.tables import same_text
from fastlmm_core.inference.heritability import SLOPES, cullis, standard

NOT_STANDARD = "no h2_standard: "
WEIGHTED = "plots have weights; genotypes= gives it"
RELATED = "no heritability: its levels are related, and each has a reliability of its own"


def heritability_columns(
    group: Any, levels: np.ndarray, replication: np.ndarray, variance: np.ndarray,
    interaction: np.ndarray | None, residual: np.ndarray, pev_trace: np.ndarray, pev_total: np.ndarray,
    missing: str = NOT_STANDARD + SLOPES,
) -> dict[str, Any]:  # fmt: skip
    """Columns group, levels, replication, variance, mean_pev, h2_cullis, h2_standard, status; one row a fit.

    Parameters
    ----------
    group : (u,) text
    replication : (u,)
        Harmonic mean of the observations per genotype.
    interaction : (u,) or None
        See `standard`; None where it is not defined (see `interactions`).
    missing : str
        The status where it is None.
    """
    defined = interaction is not None
    between = np.full(levels.size, np.nan) if interaction is None else interaction
    return {
        "group": group,
        "levels": levels,
        "replication": replication,
        "variance": variance,
        "mean_pev": pev_trace / levels,
        "h2_cullis": cullis(variance, pev_trace, pev_total, levels),
        "h2_standard": standard(variance, between, residual, replication),
        "status": same_text("ok" if defined else missing, levels.size),
    }
