"""A field trend by environments, as the rows used have these: what ``field_trend="ps | env"`` comes to.

The fixed part of one environment is that of the plain trend, and numbers are levels, as they are wherever
they group. Where plots stand in too few rows (or columns) for a surface over both, as in a trial of one row,
rows are no direction: the trend of that environment is the curve ``ps(col)`` with the options of the surface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fastlmm_core.design.field_trend import FieldTrend, parse_field_trend, with_terms
from fastlmm_core.design.grouping import used_levels
from fastlmm_core.design.values.variables import Raw
from fastlmm_core.errors import DataError, DistanceWarning, name_list
from fastlmm_core.formula.expressions import label_of
from fastlmm_core.formula.parsing import ParsedFormula, parse_formula

# Levels of a factor that a straight line through them leaves nothing of.
ON_A_LINE = 2


def settle_environments(
    parsed: ParsedFormula, raw: Mapping[str, Raw], groups: Mapping[str, Raw], rows: np.ndarray | None
) -> tuple[ParsedFormula, tuple[DistanceWarning, ...]]:
    """The formula of a trend by environments as the rows used have them, and what to say of it.

    A formula that names the environments in its fixed part itself keeps it as it is.

    Parameters
    ----------
    parsed : ParsedFormula
    raw, groups : dict of str to Raw
        Variables of the fixed part and groupings, on all rows, by their text.
    rows : (n,) int64 or None
        Rows used.

    Returns
    -------
    ParsedFormula
        `parsed` itself where nothing changes.
    tuple of DistanceWarning
    """
    if parsed.open_trend is None:
        return parsed, ()
    text, trend = parsed.open_trend[0], parse_field_trend(parsed.open_trend[1])
    base = parse_formula(text, parsed.limits)
    codes, levels = used_levels(groups[trend.by], rows)
    environment = trend.by
    if trend.by not in base.fixed.atoms and (len(levels) == 1 or raw[trend.by].levels is None):
        environment = f"factor({trend.by})" if len(levels) > 1 else ""
    counts = _counts([raw[name] for name in (trend.row, trend.column)], codes, len(levels), rows)
    narrow = counts[:2].min(axis=0) < trend.least
    if not narrow.any():
        if environment == trend.by:
            return parsed, ()
        fixed = "*".join(filter(None, [environment, trend.row, trend.column]))
        return replace(with_terms(base, trend, fixed), response=parsed.response), ()
    fixed = _fixed(trend, counts, levels, environment)
    settled = with_terms(base, trend, fixed, _terms(trend, counts, levels))
    return replace(settled, response=parsed.response), tuple(_warnings(trend, counts, levels))


def _counts(positions: Sequence[Raw], codes: np.ndarray, size: int, rows: np.ndarray | None) -> np.ndarray:
    """(3, size): distinct rows, distinct columns and plots of every environment."""
    counts = [np.bincount(codes, minlength=size)]
    for own in reversed(positions):
        values = own.on_rows(rows)
        pairs = np.unique(np.column_stack([codes, values.reshape(codes.size, -1)[:, 0]]), axis=0)
        counts.insert(0, np.bincount(pairs[:, 0].astype(np.int64), minlength=size))
    return np.array(counts)


def _fixed(trend: FieldTrend, counts: np.ndarray, levels: tuple[str, ...], environment: str) -> str:
    """``env*row*col`` without what does not vary in an environment, whose means then need no slope."""
    varies = [own > 1 for own in counts[:2]]
    if all(own.all() for own in varies):
        return "*".join(filter(None, [environment, trend.row, trend.column]))
    terms = [environment] if environment else []
    names, both = (trend.row, trend.column), varies[0] & varies[1]
    for product, where in ((names[:1], varies[0]), (names[1:], varies[1]), (names, both)):
        if where.all():
            terms.append(":".join([environment, *product] if environment else product))
        else:
            mine = [_quoted(trend, levels[e]) for e in np.flatnonzero(where)]  # as R evaluates it too
            terms += [f"I({' * '.join(product)} * ({trend.by} == {level}))" for level in mine]
    return " + ".join(terms)


def _terms(trend: FieldTrend, counts: np.ndarray, levels: tuple[str, ...]) -> list[tuple[str, str]]:
    """(what stands behind ``at()``, the term) of random rows and columns, surface and curves."""
    wide: np.ndarray = counts[:2] >= trend.least
    narrow = np.array(counts[:2].min(axis=0) < trend.least)
    out: list[tuple[str, str, np.ndarray]] = []
    # beside a curve rows and columns vary by themselves where they are levels that plots share
    varies = ~narrow | ((counts[:2] > ON_A_LINE) & (counts[:2] < counts[2]))
    for direction, name in enumerate((trend.row, trend.column)):
        where = np.asarray(varies[direction])
        out.append((name, f"(1 | {_at(trend, levels, where)}:{name})", where))
    out.append((trend.smooth, f"{_at(trend, levels, ~narrow)}:{trend.smooth}", ~narrow))
    for direction in (0, 1):
        curved, curve = narrow & wide[direction], trend.curve(direction)
        out.append((curve, f"{_at(trend, levels, curved)}:{curve}", curved))
    return [(inner, term) for inner, term, where in out if where.any()]


def _at(trend: FieldTrend, levels: tuple[str, ...], where: np.ndarray) -> str:
    """``at(env)`` of the levels that are `where`."""
    if where.all():
        return f"at({trend.by})"
    return f"at({', '.join([trend.by, *(_quoted(trend, levels[e]) for e in np.flatnonzero(where))])})"


def _quoted(trend: FieldTrend, level: str) -> str:
    if '"' in level and "'" in level:
        raise DataError(f"'{label_of(trend.by)}' has the level {level}, which no formula can name; write it "
                        "without quotes")  # fmt: skip
    return f"'{level}'" if '"' in level else f'"{level}"'


def _warnings(trend: FieldTrend, counts: np.ndarray, levels: tuple[str, ...]) -> list[DistanceWarning]:
    short = counts[:2] < trend.least
    names, by = [label_of(name) for name in (trend.row, trend.column)], label_of(trend.by)
    out = []
    for lacking, other in ((0, 1), (1, 0)):
        own = [levels[e] for e in np.flatnonzero(short[lacking] & ~short[other])]
        if own:
            out.append(DistanceWarning(
                f"'{by}' {name_list(own)}: too narrow for a surface, with fewer than {trend.least} distinct "
                f"values of {names[lacking]}; the trend there is {trend.curve(other)}"
            ))  # fmt: skip
    own = [levels[e] for e in np.flatnonzero(short.all(axis=0))]
    if own:
        out.append(DistanceWarning(
            f"'{by}' {name_list(own)}: fewer than {trend.least} distinct values of {names[0]} and of "
            f"{names[1]}; there is no trend but {names[0]}*{names[1]}"
        ))  # fmt: skip
    return out
