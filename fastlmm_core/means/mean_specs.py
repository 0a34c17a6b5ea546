"""Which variables marginal means are for: the specs "~ V | N" and the names in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fastlmm_core.errors import OptionError, shown


@dataclass(frozen=True)
class MeanSpecs:
    """Which variables the means are for, as written in "~ V | N".

    Attributes
    ----------
    variables : tuple of str
        Those to the left of the bar, then those of `by`; the first varies fastest in the table.
    by : tuple of str
    """

    variables: tuple[str, ...]
    by: tuple[str, ...]

    def of_columns(self, known: Collection[str]) -> MeanSpecs:
        """The specs in names of columns: ``factor(gen)`` is ``gen`` unless a column is called so."""
        variables, by = (tuple(name if name in known else column_of(name) for name in names)
                         for names in (self.variables, self.by))  # fmt: skip
        return MeanSpecs(tuple(dict.fromkeys(variables)), by)


def parse_specs(specs: str | Sequence[str], by: str | Sequence[str] | None = None) -> MeanSpecs:
    """Variables of "~ V | N", "~ V*N", "V", ["V", "N"] or "~ 1", joined with `by`.

    Raises
    ------
    OptionError
        For anything but text, a response side ("pairwise ~ V"), or a variable both before and after the bar.
    """
    if isinstance(specs, str):
        at = outside_backticks(specs).rfind("~")
        left, right = specs[: max(at, 0)], specs[at + 1 :]
        if left.strip():
            raise OptionError(
                f"specs={specs!r}: write '~{right}' and ask for contrasts of the table: "
                f".contrast('{left.strip()}')"
            )
        bar = outside_backticks(right).find("|")
        main = split_names(right if bar < 0 else right[:bar])
        groups = [] if bar < 0 else split_names(right[bar + 1 :])
    elif isinstance(specs, Sequence):
        main, groups = [plain_name(str(name)) for name in specs if name != "1"], []
    else:
        raise OptionError(
            f"specs={shown(specs)} must name the factors of the means, for example '~ gen | env'"
        )
    given = [by] if isinstance(by, str) else list(by or [])
    groups = list(dict.fromkeys([*groups, *(plain_name(str(name)) for name in given)]))
    main = [name for name in dict.fromkeys(main) if name and name not in groups]
    return MeanSpecs((*main, *groups), tuple(groups))


def outside_backticks(text: str) -> str:
    """The text with names in backticks blanked out, every character in its place."""
    return re.sub(r"`[^`]*`", lambda name: " " * len(name[0]), text)


def split_names(text: str) -> list[str]:
    """Names joined by +, * or : without the 1 of "~ 1"; a name in backticks may hold any of them, or be 1."""
    ends = [i for i, sign in enumerate(outside_backticks(text)) if sign in "+*:"]
    parts = [text[a:b].strip() for a, b in zip([0, *(i + 1 for i in ends)], [*ends, len(text)], strict=True)]
    return [plain_name(part) for part in parts if part not in ("", "1")]


def plain_name(name: str) -> str:
    """A name without the backticks around it."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == "`" and name.count("`") == 2 else name


_FACTOR_CALL = re.compile(r"(?:as\.factor|factor|ordered|C)\(\s*(`[^`]*`|[\w.]+)\s*\)")


def column_of(name: str) -> str:
    """The column behind ``factor(gen)``, ``as.factor(gen)``, ``C(gen)``; other names as they are."""
    called = _FACTOR_CALL.fullmatch(name)
    return plain_name(called[1]) if called else name


def columns_of_specs(specs: MeanSpecs, design: Any) -> MeanSpecs:
    """The specs in names of columns of the fixed part.

    Raises
    ------
    OptionError
        For ``factor(x)`` where x is a covariate of the model.
    """
    for name in specs.variables:
        column = column_of(name)
        if name not in design.variables and column in design.variables and column != name and (
            design.variables[column].kind != "factor"
        ):  # fmt: skip
            raise OptionError(f"specs: '{name}': '{column}' is a covariate of this model; for a mean of each "
                              f"of its values write factor({column}) in the formula")  # fmt: skip
    return specs.of_columns(design.variables)
