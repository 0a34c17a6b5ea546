"""Sections of an answer beyond one fit: intervals, tests of random terms, diagnostics, new responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.errors import OptionError
from fastlmm_core.linalg.memory import check_memory
from fastlmm_core.request.answer_tables import Rows, Spread

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

OF_BOOTSTRAP = ("n", "seed")
# Of a simulated value: 8 in the array, 32 as a number of Python in a list, about 20 as text.
VALUE_BYTES = 60
SMALL = 10**8  # below this no forecast is compared with what the machine has


def interval_section(fit: LMMFit, asked: Mapping[str, Any]) -> Rows:
    """``conf_int``: intervals of the parameters."""
    method = asked.get("method") or "profile"
    draws = {key: asked[key] for key in OF_BOOTSTRAP if asked.get(key) is not None}
    if draws and method != "bootstrap":
        raise OptionError(f"conf_int.{next(iter(draws))} belongs to method 'bootstrap', not to '{method}'")
    # a service has processes of its own, and nobody looks at its bar
    how = {**draws, "threads": 1, "progress": False} if method == "bootstrap" else {}
    level = asked.get("level") or 0.95
    return Rows.of(pd.DataFrame(fit.conf_int(method, asked.get("parameters"), level, **how)))


def random_terms_section(fit: LMMFit) -> Rows:
    """``ranova``: likelihood-ratio tests of the random terms."""
    return Rows.of(pd.DataFrame(fit.ranova()))


def diagnostics_section(fit: LMMFit) -> Rows:
    """``diagnostics``: a row for every observation."""
    return Rows.of(pd.DataFrame(fit.diagnostics()))


def simulation_section(fit: LMMFit, asked: Mapping[str, Any]) -> dict[str, Any]:
    """``simulate``: new responses, each with a value for every row of the fit."""
    n = asked.get("n") or 1
    needed = VALUE_BYTES * n * fit.nobs
    if needed > SMALL:
        check_memory(needed, None, f"simulate: {n:,} responses of {fit.nobs:,} rows", advice="Ask for fewer")
    drawn = fit.simulate(n, asked.get("seed"), conditional=bool(asked.get("conditional")))

    def table() -> pd.DataFrame:
        return pd.DataFrame(drawn, columns=[f"sim_{k + 1}" for k in range(drawn.shape[1])])

    return {"table": Spread({"responses": drawn.T}, table)}
