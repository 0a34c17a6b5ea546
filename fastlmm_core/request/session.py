"""Requests answered one after the other: a model is fitted, a kept fit is asked, or a batch is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.errors import DataError, FastLMMError, MemoryForecastError, OptionError, nearest_names
from fastlmm_core.gate import ours_of, told_by
from fastlmm_core.limits import Limits
from fastlmm_core.reading import notes_of, read_options, read_table
from fastlmm_core.request.document import Reach, checked_questions, checked_request, checked_trials
from fastlmm_core.request.json_values import plain
from fastlmm_core.request.kept_fits import Keeping, KeptFits, size_of
from fastlmm_core.request.schema import READING
from fastlmm_core.request.sections import SECTIONS, fit_section
from fastlmm_core.request.table_folder import TableFolder
from fastlmm_core.request.trials import fit_of_means, fit_trials, gxe_of_trials, table_sections

if TYPE_CHECKING:
    from fastlmm_core.batch import BatchResult
    from fastlmm_core.results.fit import LMMFit

# What makes a text an expression of columns, such as "1/var", and no name.
OPERATORS = frozenset("+-*/^()")
Request = Mapping[str, Any]
# Sections of an answer, and what keeps or forgets a fit when they are where they belong.
Found = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


class Session:
    """Answers requests, and keeps the fits that they name.

    Parameters
    ----------
    reach : Reach
        Files that requests may name.
    limits : Limits
    keeping : Keeping
        Which fits are kept; none by default.
    """

    def __init__(self, reach: Reach, limits: Limits, keeping: Keeping | None = None) -> None:
        self._reach, self._limits = reach, limits
        self._kept = KeptFits(Keeping() if keeping is None else keeping)

    def answer(self, request: Any) -> dict[str, Any]:
        """The answer to one request: JSON's own types only.

        Raises
        ------
        FastLMMError
            Without what only the owner of the files knows.
        """
        try:
            return self._with_room(request)
        except Exception as error:
            ours = ours_of(error)
            hidden = self._reach.hidden(ours) if isinstance(ours, FastLMMError) else ours
            if hidden is error:
                raise
            raise hidden from None if self._reach.hides else error

    def _with_room(self, request: Any) -> dict[str, Any]:
        """The answer; where memory runs out kept fits give theirs, except for a question to one of them."""
        notes: list[str] = []
        with told_by(notes.append):
            try:
                return with_notes(self._answered(request), notes)
            except MemoryError as error:
                held = self._kept.bytes
                enough = not isinstance(error, MemoryForecastError) or error.needed <= error.available + held
                if not held or not enough or "of" in request:
                    raise
            self._kept.clear()
            notes.clear()
            return with_notes(self._answered(request), notes)

    def _answered(self, request: Any) -> dict[str, Any]:
        given = request if isinstance(request, Mapping) else {}
        if "of" in given:
            checked, sections = checked_questions(request), self._asked
        elif "by" in given:
            checked, sections = checked_trials(request), self._trials
        else:
            checked, sections = checked_request(request), self._fitted
        answer = {"id": checked["id"]} if "id" in checked else {}
        asked = checked.get("tables")
        folder = None if asked is None else TableFolder.of(asked, self._reach.table_folder(asked["folder"]))
        found, keep_or_forget = sections(checked)
        placed = plain(found if folder is None else folder.placed(found))
        return {**answer, **keep_or_forget(), **placed}  # once nothing can fail any more

    def _fitted(self, request: Request) -> Found:
        asked = request.get("keep") or None
        if asked is not None:
            self._kept.check(asked)
        request = with_new_rows(request, self._reach, self._limits)
        frame = read_data(request, self._reach, self._limits)
        fit = fit_request(request, frame, self._reach, self._limits)
        notes = {"notes": notes_of(frame)} if notes_of(frame) else {}
        answer = {"fit": fit_section(fit, request), **notes, **sections_asked(fit, request)}
        if asked is None:
            return answer, nothing_kept
        size = size_of(fit)
        return answer, lambda: {"kept": self._kept.keep(asked, fit, size)}

    def _asked(self, request: Request) -> Found:
        name = request["of"]
        fit = self._kept.of(name)
        answer = sections_asked(fit, with_new_rows(request, self._reach, self._limits))
        self._kept.measure(name)
        if not request.get("forget"):
            return answer, nothing_kept

        def forget() -> dict[str, Any]:
            self._kept.forget(name)
            return {}

        return answer, forget

    def _trials(self, request: Request) -> Found:
        frame = read_data(request, self._reach, self._limits)
        related = read_relationships(request, self._reach, self._limits)
        batch = fit_trials(request, frame, related, self._limits)
        notes = {"notes": batch.notes} if batch.notes else {}
        means = self._means(batch, request, related)
        return {**table_sections(batch), **gxe_of_trials(batch, request), **means, **notes}, nothing_kept

    def _means(self, batch: BatchResult, request: Request, related: Mapping[str, Any]) -> dict[str, Any]:
        """``second_stage``, where it is asked for: a fit and its sections, as of a request for one."""
        own = request.get("second_stage")
        if own is None:
            return {}
        given = {key: value for key, value in own.items() if value is not None}
        own = with_new_rows(given, self._reach, self._limits)
        fit = fit_of_means(batch, own, related, self._limits)
        return {"second_stage": {"fit": fit_section(fit, own), **sections_asked(fit, own)}}


def nothing_kept() -> dict[str, Any]:
    """What an answer has to say of fits that are kept, where the request says nothing of them."""
    return {}


def read_data(request: Request, reach: Reach, limits: Limits) -> pd.DataFrame:
    """The table of a checked request, in which its columns of weights and offset are.

    Raises
    ------
    DataError
    """
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
    return frame


def with_new_rows(request: Request, reach: Reach, limits: Limits) -> Request:
    """The request with tables where its predictions name files.

    Raises
    ------
    DataError
    """
    blocks = request.get("predict") or ()
    if not any(isinstance(block.get("newdata"), str) for block in blocks):
        return request
    options = read_options(limits=limits)
    tables = []
    for i, block in enumerate(blocks):
        given = block.get("newdata")
        if isinstance(given, str):
            path = reach.path(f"predict[{i}].newdata", given)
            block = {**block, "newdata": read_table(path, options=options)}
        tables.append(block)
    return {**request, "predict": tables}


def with_notes(answer: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The answer with more notes, each once."""
    told = dict.fromkeys([*answer.get("notes", ()), *notes])
    return {**answer, "notes": list(told)} if told else answer


def read_relationships(request: Request, reach: Reach, limits: Limits) -> dict[str, Any]:
    """Relationships of a request by name; their files are those that the request may name.

    Raises
    ------
    OptionError
        For one that no formula names.
    """
    from fastlmm_core.batch.candidates import check_relationships_used, relationships_in
    from fastlmm_core.reading.options import missing_codes
    from fastlmm_core.structures.relationships import (
        check_parts,
        made_together,
        relationship_from_request,
    )

    given = {}
    for name, spec in (request.get("relationships") or {}).items():
        for key in ("file", "data", "matrix"):  # a text in any of them is a file
            if isinstance(spec.get(key), str):
                spec = {**spec, key: reach.path(f"relationships['{name}'].{key}", spec[key])}
        given[str(name)] = spec
    check_parts(given)
    if given:
        named = relationships_in(request["formula"], request.get("residual"), limits)
        later = request.get("second_stage")
        named |= relationships_in(later["formula"], None, limits) if later else set()
        check_relationships_used(given, named)
    missing = missing_codes(request.get("na_values")).added
    return made_together(given, lambda name, spec: relationship_from_request(name, spec, None, missing))


def fit_request(request: Request, frame: pd.DataFrame, reach: Reach, limits: Limits) -> LMMFit:
    """The fit that a checked request describes, of its table.

    Raises
    ------
    OptionError
        For least squares of a model that has more than a residual variance.
    """
    from fastlmm_core.api import prepare  # after the checks: it loads the compiled kernels

    prepared = prepare(
        request["formula"], frame, reml=request["method"] != "ML", weights=request.get("weights"),
        offset=request.get("offset"), limits=limits, residual=request.get("residual", "units"),
        relationships=read_relationships(request, reach, limits),
        fixed_parameters=request.get("fixed_parameters"),
        factorization=request.get("factorization") or "auto", field_trend=request.get("field_trend"),
        contrasts=request.get("coding"),
    )  # fmt: skip
    if request["method"] == "OLS" and not prepared.is_linear:
        raise OptionError(
            "method='OLS' fits no random effects, no covariances of residuals and no variances that are "
            "held; leave them out or use 'REML' or 'ML'"
        )
    return prepared.fit(start=request.get("start"))


def sections_asked(fit: LMMFit, request: Request) -> dict[str, Any]:
    """The sections that a checked request asks for."""
    asked = {key: request.get(key) for key in SECTIONS}
    return {
        key: SECTIONS[key](fit, request) for key, own in asked.items() if own is not None and own is not False
    }
