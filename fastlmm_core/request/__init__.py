"""The request document: a plain JSON object in, a plain JSON object out, for wrappers in any language.

The keys are those of `SCHEMA` (docs/request.md); `run` answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastlmm_core.gate import public
from fastlmm_core.limits import Limits
from fastlmm_core.options import PATH, SWITCH, optional
from fastlmm_core.request.document import Reach, parse_request
from fastlmm_core.request.json_values import plain
from fastlmm_core.request.schema import SCHEMA
from fastlmm_core.request.session import Session

__all__ = ["SCHEMA", "parse_request", "plain", "run"]


@public(root=optional(PATH), inline_only=SWITCH, tables_root=optional(PATH))
def run(
    request: Mapping[str, Any], *, root: str | Path | None = None, inline_only: bool = False,
    tables_root: str | Path | None = None, limits: Limits | Mapping[str, int | str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fit the model a request document describes and answer its sections.

    Parameters
    ----------
    request : mapping
        As `SCHEMA` describes it; ``data`` and ``formula`` are needed (docs/request.md). With ``by`` it is
        a batch.
    root : path, optional
        Folder that every file the request names must lie in, links followed; relative names are looked up
        there. Messages then tell nothing about other files.
    inline_only : bool
        Read no files: the data stand in the request. For requests of strangers (docs/security.md).
    tables_root : path, optional
        Folder inside of which the request may have its tables written (``tables``). Without it nothing is
        written.
    limits : mapping, optional
        Largest sizes, as of `lmm`.

    Returns
    -------
    dict
        ``fit`` and the sections asked for, of a batch ``tables``: numbers, strings, lists and dicts only, so
        that it can be written as JSON as it is. Missing figures are None, infinite ones "Inf".

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
    return Session(Reach.of(root, bool(inline_only), tables_root), Limits.of(limits)).answer(request)
