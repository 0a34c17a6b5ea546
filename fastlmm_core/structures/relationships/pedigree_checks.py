"""What is wrong with a pedigree as a whole: loops, row numbers for names, parents without rows, sexes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from fastlmm_core.errors import DataError, PedigreeWarning, name_list
from fastlmm_core.gate import warn_caller
from fastlmm_core.reading.spelling import shown_label, spelled_otherwise
from fastlmm_core.structures.relationships.pedigree_kernels import find_loops

# Loops written out in one message.
LOOPS_SHOWN = 3
# Names in another spelling.
SPELLINGS_SHOWN = 3


def refuse_row_numbers(
    names: tuple[str, str, str],
    ids: np.ndarray,
    parents: list[tuple[np.ndarray, np.ndarray]],
    listed: list[np.ndarray],
    groups: Collection[str] = (),
) -> None:
    """Parents that are no identifiers at all but could number the rows of the table."""
    labels = [label for _, column in parents for label in column.tolist() if label not in groups]
    if not labels or any((places >= 0).any() for places in listed) or all(str(i).isdecimal() for i in ids):
        return
    if all(label.isdecimal() and 0 < int(label) <= ids.size for label in labels):
        raise DataError(
            f"pedigree: the parents in '{names[1]}' and '{names[2]}' ({name_list(labels[:3])}, ...) look "
            f"like row numbers, while '{names[0]}' holds identifiers such as {name_list(ids[:3])}; "
            "give parents by identifier"
        )


def refuse_loops(names: Sequence[str], sire: np.ndarray, dam: np.ndarray, generation: np.ndarray) -> None:
    if generation.min(initial=0) >= 0:
        return
    loop = find_loops(sire, dam, generation)
    written = []
    for number in range(1, min(int(loop.max()), LOOPS_SHOWN) + 1):
        start = i = int(np.flatnonzero(loop == number)[0])
        way = [names[i]]
        while True:
            i = int(sire[i] if sire[i] >= 0 and loop[sire[i]] == number else dam[i])
            way.append(names[i])
            if i == start:
                break
        if len(way) > 12:
            way = [*way[:6], f"({len(way) - 11} more)", *way[-5:]]
        written.append(" <- ".join(f"'{name}'" if not name.startswith("(") else name for name in way))
    more = int(loop.max()) - len(written)
    raise DataError(
        f"pedigree: loop, an individual descends from itself: {'; '.join(written)}"
        + (f"; and {more} more loops" if more > 0 else "")
    )


def tell_unlisted(unlisted: list[str], known: Iterable[str]) -> None:
    """A warning of parents without a row, and of those among them that are `known` in another spelling."""
    if len(unlisted) == 1:
        message = f"the parent '{unlisted[0]}' has no row of its own and becomes a founder"
    elif unlisted:
        message = (
            f"{len(unlisted)} parents have no row of their own and become founders: {name_list(unlisted)}"
        )
    else:
        return
    warn_caller(PedigreeWarning(f"pedigree: {message}{in_other_spelling(unlisted, known)}"))


def in_other_spelling(names: Sequence[str], known: Iterable[str]) -> str:
    """Which of some names are known in another spelling, behind what says that they are unknown."""
    pairs = spelled_otherwise(names, known)
    if not pairs:
        return ""
    each = [f"{shown_label(other)} for {shown_label(own)}" for own, other in pairs[:SPELLINGS_SHOWN]]
    shown = ", ".join(each)
    more = f" and {len(pairs) - SPELLINGS_SHOWN} more" if len(pairs) > SPELLINGS_SHOWN else ""
    return f"; there is {shown}{more}: blanks and capitals count"


def check_sexes(
    names: Sequence[str], sire: np.ndarray, dam: np.ndarray, check_sex: bool | str,
    groups: Collection[str] = (),
) -> None:  # fmt: skip
    """An individual that is sire and dam is told, or refused; genetic groups stand on both sides."""
    if check_sex is False:
        return
    is_sire, is_dam = np.zeros(len(names), bool), np.zeros(len(names), bool)
    is_sire[sire[sire >= 0]] = True
    is_dam[dam[dam >= 0]] = True
    both = [names[i] for i in np.flatnonzero(is_sire & is_dam).tolist() if names[i] not in groups]
    if not both:
        return
    message = (
        f"pedigree: {name_list(both)} {'is' if len(both) == 1 else 'are'} used as sire and as dam; right for "
        "plants, where check_sex=False says so"
    )
    if check_sex is True:
        raise DataError(message)
    warn_caller(PedigreeWarning(message))
