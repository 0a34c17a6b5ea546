"""The second stage of `fastlmm batch`: a model of the means of all trials, in the same command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlmm_core.cli.gxe import largest
from fastlmm_core.cli.source_options import listed_names
from fastlmm_core.errors import OptionError, name_list

if TYPE_CHECKING:
    from fastlmm_core.batch import BatchResult

WEIGHTS = ("full", "smith", "diagonal")
FOLDER = "second_stage"
BEST = 10  # are printed; the file has all


def add_second_stage(parser: argparse.ArgumentParser) -> None:
    """Describe its options to the parser of the batch."""
    stage = parser.add_argument_group("a second stage on the means (docs/two_stages.md)")
    stage.add_argument(
        "--second-stage", metavar="FORMULA",
        help="also fit this to the means of all trials: 'mean ~ 1 + (1|gen) + (1|trial)'; its tables go to "
        f"{FOLDER}/ in --out",
    )  # fmt: skip
    stage.add_argument(
        "--stage-weights", choices=WEIGHTS, default="full",
        help="what it knows of the errors of the means (default: full, their whole covariance)",
    )  # fmt: skip
    stage.add_argument(
        "--stage-values", action="append", default=[], metavar="GROUP",
        help="mean + BLUP of these levels with ranks, over all trials: gen",
    )  # fmt: skip
    stage.add_argument(
        "--stage-select", type=int, metavar="K",
        help="the K best of --stage-values, and the gain from selecting them",
    )  # fmt: skip
    stage.add_argument(
        "--stage-check", metavar="LEVEL",
        help="probability of every genotype of --stage-values to be better than this one, which is no "
        "candidate",
    )  # fmt: skip
    stage.add_argument("--stage-trait", metavar="TRAIT", help="which of several traits")


def check_second_stage(arguments: argparse.Namespace) -> None:
    """Raises OptionError for options that do not go together, before the first trial is fitted."""
    if not arguments.second_stage:
        options = ("stage_values", "stage_select", "stage_check", "stage_trait")
        given = [name for name in options if getattr(arguments, name) not in (None, [])]
        if given:
            raise OptionError(f"--{given[0].replace('_', '-')} belongs to --second-stage FORMULA")
        return
    for name in ("select", "check"):
        if getattr(arguments, f"stage_{name}") is not None and not arguments.stage_values:
            raise OptionError(f"--stage-{name} belongs to --stage-values GROUP")
    from fastlmm_core.cli.fit import check_select

    check_select("--stage-select", arguments.stage_select)
    from fastlmm_core.formula.parsing import parse_formula

    parse_formula(arguments.second_stage)
    if len(arguments.emmeans) != 1:
        raise OptionError("--second-stage needs the means it is about: one --emmeans SPEC")
    check_trait(arguments, "--second-stage", "stage_trait")


def check_trait(arguments: argparse.Namespace, option: str, which: str) -> None:
    """Raises OptionError where an option is about one trait, and which of several is not said, or is none."""
    traits, trait = listed_names([arguments.traits or ""]), getattr(arguments, which)
    if len(traits) > 1 and trait not in traits:
        said = "" if trait is None else f", not '{trait}'"
        raise OptionError(f"{option} is of one trait: --{which.replace('_', '-')} {name_list(traits)}{said}")


def first_stage_structures(
    structures: Mapping[str, Any], formulas: str | list[str] | dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:  # fmt: skip
    """Structures of the trials: relationships that only the second stage names are not for them."""
    if not arguments.second_stage:
        return dict(structures)
    from fastlmm_core.batch.candidates import relationships_in

    given, named = structures["relationships"], relationships_in(formulas, arguments.residual)
    return {**structures, "relationships": {name: own for name, own in given.items() if name in named}}


def print_second_stage(
    result: BatchResult, relationships: Mapping[str, Any], arguments: argparse.Namespace
) -> None:  # fmt: skip
    """Fit, print the summary, write the tables as CSV."""
    from fastlmm_core.batch import second_stage
    from fastlmm_core.cli.fit import decisions, slug
    from fastlmm_core.cli.table_files import write_tables

    fit = second_stage(
        result, arguments.second_stage, relationships=relationships, weights=arguments.stage_weights,
        trait=arguments.stage_trait,
    )  # fmt: skip
    tables = {
        "fixed_effects": fit.fixed_effects(level=arguments.level),
        "variance_components": fit.variance_components,
    }
    if fit.design.random:
        tables["blups"] = fit.blups(level=arguments.level)
    print(f"\nSecond stage:\n{fit.summary()}")
    for term in arguments.stage_values:
        values = fit.genotype_values(term, level=arguments.level, largest=largest(arguments))
        own = decisions(values, term, arguments.stage_check, arguments.stage_select)
        candidates = own[f"genotype_values_{slug(term)}"]
        shown = [table for table in own.values() if table is not candidates]
        if arguments.stage_select is None:
            shown.append(candidates.best(min(BEST, *map(len, candidates.candidates))))
        print("".join(f"\n{table}\n" for table in shown), end="")
        tables |= {name: table.to_frame() for name, table in own.items()}
    write_tables(tables, Path(arguments.out) / FOLDER, "csv", "second_stage")
