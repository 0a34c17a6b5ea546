"""Section ``gxe`` of an answer: genotype by environment summaries of a fit, or of the trials of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastlmm_core.request.answer_tables import rows_of

if TYPE_CHECKING:
    from fastlmm_core.multi_environment.summaries import GxE
    from fastlmm_core.results.fit import LMMFit


def gxe_section(fit: LMMFit, own: Mapping[str, Any]) -> dict[str, Any]:
    """Of a fit with genotypes and environments."""
    from fastlmm_core.multi_environment.summaries import gxe

    found = gxe(fit, own["genotype"], own["environment"], common=own.get("common", False))
    return gxe_answer(found, own)


def gxe_answer(found: GxE, own: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the means, their matrix, and every other summary as a list of rows."""
    table = found.table
    how = {name: own[name] for name in ("axes", "best", "scale") if own.get(name) is not None}
    rows = {name: rows_of(frame) for name, frame in found.tables(**how).items() if name != "means"}
    return {
        "source": table.source, "genotypes": table.genotypes, "environments": table.environments,
        "means": table.means, "replications": table.replications, "error_ms": table.error_ms,
        "error_df": table.error_df, "shrunken": table.shrunken, **rows,
    }  # fmt: skip
