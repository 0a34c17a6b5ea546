"""Covariates of whole numbers that may have been meant as factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.means.estimate_tables import CODES


def looks_like_codes(design: Any, name: str) -> bool:
    """Whether a covariate has whole numbers that repeat, as codes of genotypes have."""
    if name not in design.variables or design.variables[name].kind == "factor":
        return False
    return whole_and_repeated(design.used_column(name)[0])


def whole_and_repeated(values: np.ndarray) -> bool:
    """Whether (n,) numbers without NaN are whole, and some come back."""
    return bool((values == np.floor(values)).all()) and np.unique(values).size < values.size


def code_note(design: Any, name: str) -> str:
    """The remark of a table of means on a covariate whose whole numbers may be names of levels."""
    return CODES + code_words(name, np.unique(design.used_column(name)[0]).size)


def code_words(name: str, count: int) -> str:
    """What to do when the whole numbers of a covariate are names of levels."""
    return f"'{name}' is a covariate of this model; if its {count} values are codes, write factor({name})"
