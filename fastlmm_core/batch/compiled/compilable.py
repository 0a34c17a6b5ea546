"""Which plans the kernels know."""

from __future__ import annotations

from fastlmm_core.batch.compiled.contrasts import contrast_plan
from fastlmm_core.batch.plan import BatchPlan


def wants_fits(plan: BatchPlan) -> bool:
    """Whether tables are asked for that only a whole fit of each trial gives."""
    return bool(plan.covariances or plan.genotypes or plan.plots)


def may_compile(plan: BatchPlan) -> bool:
    """Whether the kernels know what a plan asks for, whatever the columns hold."""
    parsed = plan.parsed
    if len(plan.models) > 1:  # each of them is coded for the trials it is tried on
        return False
    # us and diag over independent levels, independent residuals, searches from moments, and nothing else
    own = plan.structures
    if not parsed.is_plain or not own.is_plain or own.start or wants_fits(plan):
        return False
    if isinstance(contrast_plan(plan), bool) or plan.information != "expected":
        return False
    return bool(parsed.random) or plan.ddf in ("residual", "asymptotic")
