"""The request document: a plain JSON object in, a plain JSON object out, for wrappers in any language.

The keys are those of `SCHEMA` (docs/request.md); `run` answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, FastLMMError, FastLMMWarning, nearest_names
from ..gate import ours_of, public
from ..limits import Limits
from ..options import PATH, SWITCH, optional
from ..reading import notes_of, read_options, read_table
from .document import Reach, checked_request, parse_request
from .schema import READING, SCHEMA
from .sections import SECTIONS, fit_section, plain

# What makes a text an expression of columns, such as "1/var", and no name.
OPERATORS = frozenset("+-*/^()")

__all__ = ["SCHEMA", "parse_request", "plain", "run"]


@public(root=optional(PATH), inline_only=SWITCH)
def run(
    request: Mapping[str, Any], *, root: str | Path | None = None, inline_only: bool = False,
    limits: Limits | Mapping[str, int | str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fit the model a request document describes and answer its sections.

    Parameters
    ----------
    request : mapping
        As `SCHEMA` describes it; ``data`` and ``formula`` are needed (docs/request.md).
    root : path, optional
        Folder that every file the request names must lie in, links followed; relative names are looked up
        there. Messages then tell nothing about other files.
    inline_only : bool
        Read no files: the data stand in the request. For requests of strangers (docs/security.md).
    limits : mapping, optional
        Largest sizes, as of `lmm`.

    Returns
    -------
    dict
        ``fit`` and the sections asked for, of numbers, strings, lists and dicts only: it can be written as
        JSON as it is. Missing figures are None, infinite ones "Inf".

    Raises
    ------
    FastLMMError
        Naming the key, column, level or option that is wrong and what would be right.

    Examples
    --------
    >>> from fastlmm_core import datasets, run
    >>> data = datasets.load("dyestuff").to_dict("list")
    >>> answer = run({"data": data, "formula": "Yield ~ 1 + (1|Batch)", "emmeans": []})
    >>> round(answer["fit"]["criterion"], 3)
    319.654
    """
    reach = Reach.of(root, bool(inline_only))
    try:
        return _answered(checked_request(request), reach, Limits.of(limits))
    except Exception as error:
        ours = ours_of(error)
        hidden = reach.hidden(ours) if isinstance(ours, FastLMMError) else ours
        if hidden is error:
            raise
        raise hidden from None if reach.root else error


def read_relationships(given: Mapping[str, Any] | None, reach: Reach) -> dict[str, Any]:
    """Relationships of a request by name; their files are those that the request may name."""
    from ..structures.relationships import relationship_from_request

    out = {}
    for name, spec in (given or {}).items():
        for key in ("file", "data", "matrix"):  # a text in any of them is a file
            if isinstance(spec.get(key), str):
                spec = {**spec, key: reach.path(f"relationships['{name}'].{key}", spec[key])}
        out[str(name)] = relationship_from_request(str(name), spec)
    return out


def _answered(request: dict[str, Any], reach: Reach, limits: Limits) -> dict[str, Any]:
    from ..api import lmm  # after the checks: it loads the compiled kernels

    data = request["data"]
    options = read_options(**{key: request.get(key) for key in READING}, limits=limits)
    frame = read_table(
        reach.path("data", data) if isinstance(data, str) else data, request.get("columns"),
        factors=request.get("factors", ()), options=options,
    )  # fmt: skip
    for key in ("weights", "offset"):
        name = request.get(key)
        if name is not None and name not in frame.columns and not OPERATORS.intersection(name):
            raise DataError(f"{key} column '{name}' is not in the data{nearest_names(name, frame.columns)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)  # the answer carries them
        fit = lmm(
            request["formula"], frame, reml=request["method"] != "ML", weights=request.get("weights"),
            offset=request.get("offset"), limits=limits, residual=request.get("residual", "units"),
            relationships=read_relationships(request.get("relationships"), reach),
            fixed_parameters=request.get("fixed_parameters"), start=request.get("start"),
            factorization=request.get("factorization") or "auto", field_trend=request.get("field_trend"),
        )  # fmt: skip
        answer: dict[str, Any] = {"fit": fit_section(fit, request.get("head", 0))}
        if notes_of(frame):
            answer["notes"] = notes_of(frame)
        for key, section in SECTIONS.items():
            asked = request.get(key)
            if asked is not None and asked is not False:
                answer[key] = section(fit, request)
    return plain(answer)
