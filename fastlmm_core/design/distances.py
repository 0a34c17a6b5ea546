"""Where the distance of levels or coefficients counts: what a reader should know of the order they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastlmm_core.design.grouping import group_text
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DistanceWarning, name_list
from fastlmm_core.formula.expressions import deparse
from fastlmm_core.formula.parsing import ParsedFormula
from fastlmm_core.formula.parts import RandomPart
from fastlmm_core.formula.residual import ParsedResidual
from fastlmm_core.structures.registry import find_coefficient_structure


def distance_warnings(
    parsed: ParsedFormula, residual: ParsedResidual, raw: Mapping[str, Raw], groups: Mapping[str, Raw],
    residual_raw: Mapping[str, Raw],
) -> tuple[DistanceWarning, ...]:  # fmt: skip
    """Categories in alphabetical order, and coefficients that have no distance.

    Parameters
    ----------
    raw, groups, residual_raw : dict of str to Raw
        Variables of the linear parts, of the groupings, and of the residual, the latter two by `group_text`.
    """
    placed: dict[str, Raw] = {}
    words: list[str] = []
    for part in parsed.random:
        if find_coefficient_structure(part.structure).by_distance:
            placed |= {text: raw[text] for text in part.terms.atoms}
            words += _without_distance(part, raw)
        kinds = [kind.kind for kind in part.kinds if kind.has_column]
        for kind, node in zip(kinds, part.factors, strict=True):
            if kind == "ar1":
                placed[deparse(node)] = groups[group_text(node, positions=True)]
    nodes = [node for kind, node in zip(residual.factors, residual.nodes, strict=True) if kind.kind == "ar1"]
    if residual.position is not None and residual.by_distance:
        nodes.append(residual.position)
    placed |= {deparse(node): residual_raw[group_text(node, positions=True)] for node in nodes}
    for name, own in placed.items():
        if own.keeps_alphabet:
            words.append(
                f"the levels of '{name}' are taken in the alphabetical order that they have, "
                f"{name_list(own.levels or (), 4)}; for the order of their numbers give them as ordered "
                "categories"
            )
    return tuple(map(DistanceWarning, dict.fromkeys(words)))


def _without_distance(part: RandomPart, raw: Mapping[str, Raw]) -> Iterator[str]:
    """An intercept and slopes, where the distance of levels is meant."""
    atoms = part.terms.atoms
    if part.terms.intercept and atoms and all(raw[text].levels is None for text in atoms):
        text = next(iter(atoms))
        yield (f"'{part.label}': an intercept and the slope of {text} have no distance; for a process over "
               f"the values of {text} write {part.structure}(0 + factor({text}) | ...)")  # fmt: skip
