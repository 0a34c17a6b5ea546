"""Sections of a request's answer about new rows: linear functions of the coefficients, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fastlmm_core.errors import OptionError, nearest_names
from fastlmm_core.options import numbers
from fastlmm_core.reading.tables import frame_of_columns
from fastlmm_core.request.answer_tables import spread

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit


def functions_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``linear_functions``."""
    K, kept = numbers(f"{where}.K", block["K"]), fit.design.kept
    if K.ndim != 2 or K.shape[1] != len(fit.coef_names):
        names = len(fit.coef_names)
        raise OptionError(f"{where}.K needs rows of {names} numbers, one for each of fit.coef_names")
    ddf = block.get("ddf") or fit.default_ddf
    how: dict[str, Any] = {"ddf": ddf, "information": request.get("information")}
    if block.get("joint") or block.get("vcov") or len(K) <= len(kept):
        own = fit.linear_functions(K, **how)
        estimate, se, df = own.estimate, own.se(), own.df()
    else:  # many rows of few coefficients: no matrix of rows by rows
        estimate, se, df, _ = fit.coefficient_functions(**how).contrast_statistics(K[:, kept])
        estimable = fit.design.estimable(K)
        estimate, se, df = (np.where(estimable, own, np.nan) for own in (estimate, se, df))
    answer = {"ddf": ddf, "table": spread({"estimate": estimate, "SE": se, "df": df})}
    if block.get("vcov"):
        answer["vcov"] = own.cov
    if block.get("joint"):
        test = own.f_test()
        answer["joint"] = {"F": test.F, "numdf": test.df_num, "dendf": test.df_den, "p": test.p}
    return answer


def prediction_block(
    fit: LMMFit, block: Mapping[str, Any], where: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """One block of ``predict``."""
    new = block.get("newdata")
    if new is not None and not isinstance(new, pd.DataFrame):
        new = frame_of_columns(new)
    known = ("random", "allow_new_levels", "residual")
    given = {key: block[key] for key in known if block.get(key) is not None}
    if block.get("offset") is not None:
        given["offset"] = new_offset(block["offset"], new, where)
    table = fit.predict(new, se=bool(block.get("se")), **given)
    if not isinstance(table, pd.DataFrame):
        return {"table": spread({"prediction": table})}
    return {"table": spread({name: table[name].to_numpy() for name in ("prediction", "se", "status")})}


def new_offset(asked: str | list[float], new: pd.DataFrame | None, where: str) -> Any:
    """The whole offset of new rows: numbers, or a column of them.

    Raises
    ------
    OptionError
    """
    if new is None:
        raise OptionError(f"{where}.offset belongs to newdata; the rows of the fit have theirs")
    if not isinstance(asked, str):
        return asked
    if asked not in new.columns:
        raise OptionError(
            f"{where}.offset='{asked}' is no column of newdata{nearest_names(asked, new.columns)}"
        )
    return new[asked].to_numpy()
