"""Section of a request's answer about genotypes: their values, the best, a check, selection and index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastlmm_core.errors import OptionError
from fastlmm_core.request.answer_tables import rows_of

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

# Options of an answer that is asked for by another key.
BELONGS_TO = {"margin": "check", "per": "index"}


def values_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``genotype_values``."""
    for option, asked in BELONGS_TO.items():
        if block.get(option) is not None and block.get(asked) is None:
            raise OptionError(f"{where}.{option} belongs to {asked}, which is not given")
    keys = ("by", "average", "level", "largest")
    options = {key: block[key] for key in keys if block.get(key) is not None}
    values = fit.genotype_values(block["term"], **options)
    if block.get("index") is not None:
        values = values.index(block["index"], "unit" if block.get("per") is None else block["per"])
    answer = {}
    if block.get("check") is not None:  # beside all others, also those that are no candidates
        margin = 0.0 if block.get("margin") is None else block["margin"]
        answer["against"] = rows_of(values.against(block["check"], margin))
    away = list(block["without"]) if block.get("without") is not None else []
    if block.get("check") is not None and block["check"] not in values.checks:  # a fixed one is none anyway
        away.append(block["check"])
    if away:
        values = values.without(list(dict.fromkeys(away)))
    if block.get("best") is not None:
        answer["best_table"] = rows_of(values.best(block["best"]))
    if block.get("select") is not None:
        answer["gain"] = rows_of(values.select(block["select"]))
    if block.get("select") is not None and values.parts is not None:
        answer["responses"] = rows_of(values.responses(block["select"]))
    seeded = {"draws": values.draws, "seed": values.seed}
    return {**block, **seeded, "table": rows_of(values), **answer}
