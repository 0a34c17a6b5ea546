"""A request for a batch: the same model for every trial of a table, answered with the batch's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.limits import Limits
from fastlmm_core.request.answer_tables import Columns

if TYPE_CHECKING:
    from fastlmm_core.batch import BatchResult
    from fastlmm_core.results.fit import LMMFit

HANDED_ON = (
    "by", "traits", "weights", "fixed", "emmeans", "contrasts", "ref", "adjust", "blups", "genotypes",
    "covariances", "ddf", "level", "residual", "field_trend", "fixed_parameters", "start", "information",
    "choose", "formula_column", "plots", "trends",
)  # fmt: skip


def fit_trials(
    request: Mapping[str, Any], frame: pd.DataFrame, relationships: Mapping[str, Any], limits: Limits
) -> BatchResult:  # fmt: skip
    """The batch a checked request describes, of its table."""
    from fastlmm_core.batch import fit_batch  # it loads the compiled kernels
    from fastlmm_core.batch.candidates import relationships_in

    options = {key: request[key] for key in HANDED_ON if request.get(key) is not None}
    if request.get("second_stage") is not None:
        options["covariances"] = True
        named = relationships_in(request["formula"], request.get("residual"), limits)
        relationships = {name: own for name, own in relationships.items() if name in named}
    return fit_batch(
        frame, request["formula"], reml=request["method"] != "ML", relationships=relationships,
        limits=limits, progress=False, engine="threads", **options,  # a service has processes of its own
    )  # fmt: skip


def gxe_of_trials(batch: BatchResult, request: Mapping[str, Any]) -> dict[str, Any]:
    """``gxe``: summaries of the means of all trials, where they are asked for."""
    from fastlmm_core.multi_environment.summaries import gxe
    from fastlmm_core.request.genotypes_in_environments import gxe_answer

    own = request.get("gxe")
    if own is None:
        return {}
    found = gxe(batch, own["genotype"], value=own.get("trait"), common=own.get("common", False))
    return {"gxe": gxe_answer(found, own)}


def fit_of_means(
    batch: BatchResult, own: Mapping[str, Any], relationships: Mapping[str, Any], limits: Limits
) -> LMMFit:  # fmt: skip
    """The fit of ``second_stage``, with the relationships that it names."""
    from fastlmm_core.batch import second_stage
    from fastlmm_core.batch.candidates import relationships_in

    named = relationships_in(own["formula"], None, limits)
    known = {name: given for name, given in relationships.items() if name in named}
    options = {key: own[key] for key in ("weights", "trait", "spec", "fixed_parameters") if key in own}
    return second_stage(batch, own["formula"], relationships=known, **options)


def table_sections(batch: BatchResult) -> dict[str, Any]:
    """``tables``: by name a table, as requests write tables themselves."""
    return {"tables": {name: Columns(batch.table(name)) for name in batch.plan.tables}}
