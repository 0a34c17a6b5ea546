"""Whole numbers of a batch that a model takes as a covariate and that may be names of levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.formula.expressions import Name
from fastlmm_core.means.codes import code_words, whole_and_repeated
from fastlmm_core.means.mean_specs import parse_specs


def code_notes(frame: pd.DataFrame, plan: BatchPlan) -> tuple[str, ...]:
    """What there is to say of covariates whose use elsewhere in the model shows that they are codes.

    A genotype called 17 whose mean is asked for, and the replicate 2 of ``rep + (1|rep:block)``, have one
    slope in the fixed part, and the table of means one row a trial, which looks like any other.
    """
    words: dict[str, None] = {}
    for own in plan.models:
        for name, why in suspects(own):
            column = frame[name]
            if name in plan.factors or not pd.api.types.is_numeric_dtype(column.dtype):
                continue
            if pd.api.types.is_bool_dtype(column.dtype):
                continue
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            values = values[~np.isnan(values)]
            if whole_and_repeated(values):
                words[f"{code_words(name, np.unique(values).size)} ({why})"] = None
    return tuple(words)


def suspects(plan: BatchPlan) -> Iterator[tuple[str, str]]:
    """Columns that stand as they are in the fixed part, and what makes them suspect of being codes.

    A column that groups alone, ``row + (1|row)``, is a trend with what departs from it.
    """
    parsed = plan.parsed
    plain = {node.name for node in parsed.fixed.atoms.values() if isinstance(node, Name)}
    for spec in plan.emmeans:
        for name in parse_specs(spec).variables:
            if name in plain:
                yield name, f"of which emmeans='{spec}' asks for means"
    for part in parsed.random:
        kinds = {kind.kind for kind in part.kinds}
        if len(part.factors) > 1 and kinds == {"id"}:
            for node in part.factors:
                if isinstance(node, Name) and node.name in plain:
                    yield node.name, f"which groups {part.label}"
