"""Options of a batch as a plan keeps them, checked before any trial is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastlmm_core.errors import OptionError, check_option, nearest_names
from fastlmm_core.formula.expressions import Node, deparse, label_of
from fastlmm_core.formula.functions import columns_read
from fastlmm_core.formula.parsing import ParsedFormula
from fastlmm_core.means.mean_specs import column_of, parse_specs
from fastlmm_core.results.field.plot_places import place_columns

CONTRASTS = (
    "pairwise", "revpairwise", "trt.vs.ctrl", "trt.vs.ctrl1", "trt.vs.ctrlk", "consec", "poly", "eff",
    "del.eff", "mean_chg", "identity", "helmert",
)  # fmt: skip


RESERVED = ("trait", "status", "singular", "message", "estimate")  # columns that are read again
STAGE_COLUMNS = ("covariance", "df_difference", "spec")  # those of the table `covariances`


def wanted_groups(blups: Any, formulas: Sequence[ParsedFormula]) -> list[tuple[str, ...] | bool]:
    """Grouping factors whose BLUPs are wanted, by model: those of the request that it has.

    Raises
    ------
    OptionError
        For a factor that is a random term of none of them.
    """
    if isinstance(blups, bool):
        return [blups] * len(formulas)
    wanted = tuple(label_of(name) for name in name_tuple("blups", blups))
    groups = [{part.group for part in own.random} for own in formulas]
    known = set().union(*groups)
    for group in wanted:
        if group not in known:
            nearest = nearest_names(group, known)
            raise OptionError(f"blups='{group}' is not a random term of the formula{nearest}")
    return [tuple(group for group in wanted if group in own) for own in groups]


def genotype_group(genotypes: str | None, formula: ParsedFormula) -> str | None:
    """Label of the grouping factor of the genotypes, by its name or by the column that it alone groups by.

    As ``LMMFit.genotype_values`` takes it: ``"gen"`` is ``(1 | vm(gen, A))`` where no other term is meant.

    Raises
    ------
    OptionError
        For a factor that is no random term.
    """
    if genotypes is None:
        return None
    label, known = label_of(genotypes), {part.group for part in formula.random}
    if label in known:
        return label
    over = {own.group for own in formula.random if [*map(label_of, map(deparse, own.factors))] == [label]}
    if len(over) == 1:
        return over.pop()
    nearest = nearest_names(genotypes, known)
    raise OptionError(f"genotypes='{genotypes}' is not a random term of the formula{nearest}")


def plot_columns(plots: bool | str | Sequence[str]) -> tuple[str, ...] | bool:
    """Columns that name the plots; False where they are not wanted.

    Raises
    ------
    OptionError
        For more than three columns.
    """
    if isinstance(plots, bool):
        return plots
    names = name_tuple("plots", plots)
    place_columns(names)
    return names


def check_roles(
    keys: tuple[str, ...], traits: tuple[str, ...], expressions: tuple[Node, ...], covariances: bool
) -> None:
    """Raise OptionError for a column that cannot be what it is named as."""
    for name in keys:
        if name in RESERVED or (covariances and name in STAGE_COLUMNS):
            raise OptionError(f"by='{name}' is the name of a column of the results; rename the column")
    used = {name.name for node in expressions for name in columns_read(node)}
    for name in traits:
        if name in used or name in keys:
            where = "the model" if name in used else "by="
            raise OptionError(f"trait '{name}' is also in {where}; a response cannot explain itself")


def check_specs(specs: Iterable[str], parsed: ParsedFormula) -> None:
    """Raise OptionError for means of a variable that the fixed part does not have."""
    known = {name.name for node in parsed.fixed.atoms.values() for name in columns_read(node)}
    for spec in specs:
        for name in parse_specs(spec).variables:
            if name not in known and column_of(name) not in known:
                raise OptionError(
                    f"emmeans='{spec}': '{name}' is not in the fixed part{nearest_names(name, known)}"
                )


def name_tuple(option: str, given: Any) -> tuple[str, ...]:
    """One name or several as a tuple without repetitions."""
    if given is None:
        return ()
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for name in names:
        if not isinstance(name, str) or not name:
            raise OptionError(f"{option}={given!r} must be a name or a list of names")
    if len(set(names)) < len(names):
        raise OptionError(f"{option}={names!r} names something twice")
    return tuple(names)


def check_contrasts(contrasts: Any, ref: str | None, with_means: bool) -> tuple[Any, str | None]:
    """Family and control; ``"trt.vs.ctrl:CHECK"`` gives both in one string.

    Raises
    ------
    OptionError
        For an unknown family, weights that are not numbers, contrasts without means, a control of something
        else.
    """
    if contrasts is None:
        if ref is not None:
            raise OptionError("ref= belongs to contrasts='trt.vs.ctrl'")
        return None, None
    if not with_means:
        raise OptionError("contrasts= needs the means it contrasts: give emmeans= too")
    if isinstance(contrasts, Mapping):
        if not contrasts:
            raise OptionError("contrasts={} asks for nothing; give {label: numbers, one for each mean}")
        try:
            custom = tuple((str(k), tuple(float(v) for v in weights)) for k, weights in contrasts.items())
        except (TypeError, ValueError):
            raise OptionError("contrasts: custom weights are {label: numbers, one for each mean}") from None
        return custom, None
    if not isinstance(contrasts, str):
        raise OptionError(f"contrasts={contrasts!r} must be the name of a family or {{label: weights}}")
    method, colon, control = contrasts.partition(":")
    check_option("contrasts", method, CONTRASTS)
    reference = control if colon else ref
    if reference is not None and not method.startswith("trt.vs.ctrl"):
        raise OptionError(f"contrasts={contrasts!r}: only trt.vs.ctrl has a control")
    return method, None if reference is None else str(reference)
