"""Contrasts that are products of one family per factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import OptionError, name_list
from fastlmm_core.means.contrast_families import ContrastFamily, MeanLabels, contrast_family
from fastlmm_core.means.table_labels import level_text


def interaction_family(
    block: pd.DataFrame, families: Any, by: Sequence[str], **options: object
) -> tuple[ContrastFamily, dict[str, list[str]]]:
    """Products of one family per factor; the first factor's contrasts vary fastest.

    Parameters
    ----------
    block : DataFrame (m, n_labels)
        Labels of the means of one group.
    families : str, mapping or sequence
        One for all factors, or one for each.
    by : sequence of str
        Label columns that are no factors here.

    Returns
    -------
    family : ContrastFamily
    columns : dict
        A label column for each factor.
    """
    factors = [str(name) for name in block.columns if name not in by]
    wanted = [families] if isinstance(families, (str, dict)) else list(families)
    if not wanted:
        raise OptionError("interaction=[] names no family of contrasts; give one, or one for each factor")
    if len(wanted) > len(factors):
        count = "is 1 factor" if len(factors) == 1 else f"are {len(factors)} factors"
        within = f", within {name_list(by)}" if by else ""
        raise OptionError(
            f"interaction has {len(wanted)} families, but there {count} ({name_list(factors)}{within}): "
            "give one family, or one for each factor that is not in by"
        )
    wanted = (wanted * len(factors))[: len(factors)]
    matrix = sp.csr_array(np.ones((1, 1)))
    columns: dict[str, list[str]] = {}
    for name, family_name in zip(factors, wanted, strict=True):
        levels = [level_text(v) for v in dict.fromkeys(block[name])]
        family = contrast_family(family_name, MeanLabels.of(levels), **options)
        matrix = sp.csr_array(sp.kron(family.coefficients, matrix))
        columns = {key: value * len(family.labels) for key, value in columns.items()}
        done = len(next(iter(columns.values()))) // len(family.labels) if columns else 1
        label = f"{name}_{family_name if isinstance(family_name, str) else 'custom'}"
        columns[label] = [text for text in family.labels for _ in range(done)]
    if matrix.shape[1] != len(block):
        raise OptionError("interaction contrasts need every combination of the factors in the table")
    labels = [" ".join(parts) for parts in zip(*columns.values(), strict=True)]
    return ContrastFamily(tuple(labels), matrix, "contrast", "none"), columns
