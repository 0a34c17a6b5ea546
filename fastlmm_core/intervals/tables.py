"""The table of intervals, the same for every method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.intervals.parameters import Parameter

# lme4's words for all variance parameters and for all fixed coefficients.
GROUPS = {"theta_": False, "beta_": True}


def interval_table(
    parameters: Sequence[Parameter], estimate: np.ndarray, lower: np.ndarray, upper: np.ndarray, method: str
) -> pd.DataFrame:
    """parameter, kind, group, var1, var2, estimate, lower, upper, method."""
    columns = ["parameter", "kind", "group", "var1", "var2"]
    rows = [(p.name, p.kind, p.group, p.var1, p.var2) for p in parameters]
    # what a parameter has not is None, as in `variance_components`; strings alone would make it NaN
    frame = pd.DataFrame(rows, columns=columns, dtype=object).astype({"parameter": str, "kind": str})
    return frame.assign(estimate=estimate, lower=lower, upper=upper, method=method)


def chosen(wanted: str | Sequence[str] | None, known: Sequence[Parameter]) -> list[str]:
    """Names of the parameters asked for: all, some by name, "theta_" (variances) or "beta_" (fixed).

    Raises
    ------
    OptionError
        For a name that is none of them.
    """
    if wanted is None:
        return [p.name for p in known]
    out: list[str] = []
    names = [p.name for p in known]
    for name in [wanted] if isinstance(wanted, str) else list(wanted):
        if name in GROUPS:
            out += [p.name for p in known if (p.kind == "fixed") == GROUPS[name]]
        elif name in names:
            out.append(name)
        else:
            near = nearest_names(name, [*names, *GROUPS])
            raise OptionError(f"parameters names '{name}', which is no parameter of the fit{near}")
    return out
