"""`fastlmm fit`: one model, its summary, means and contrasts in a terminal, and as files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fastlmm_core.cli.gxe import check_gxe_options, largest, print_summaries, write_gxe_figures
from fastlmm_core.cli.source_options import arguments_of_reader, listed_names
from fastlmm_core.cli.strangers import limits_given, say_note
from fastlmm_core.cli.structure_options import check_relationships, structures_given
from fastlmm_core.cli.table_files import check_format, make_folder, write_tables
from fastlmm_core.display.rendering import Table
from fastlmm_core.errors import DataError, InferenceError, OptionError, nearest_names
from fastlmm_core.means.estimates import DDF_WORDS
from fastlmm_core.reading import notes_of, read_options, read_table
from fastlmm_core.results.factor_analytic.factor_analysis import has_factors
from fastlmm_core.results.summary import shown_ddf

if TYPE_CHECKING:
    from fastlmm_core.means.mean_tables import EmmeansTable
    from fastlmm_core.multi_environment.summaries import GxE
    from fastlmm_core.results.factor_analytic.factor_analysis import FactorAnalysis
    from fastlmm_core.results.fit import LMMFit
    from fastlmm_core.results.genotypes.values import GenotypeValues


def fit_command(arguments: argparse.Namespace) -> int:
    """Fit, print, and write what was asked for; always returns 0 (errors are raised)."""
    from fastlmm_core.api import lmm

    _check_arguments(arguments)
    limits = limits_given(arguments.limit)
    options = read_options(**arguments_of_reader(arguments), limits=limits)
    frame = read_table(arguments.file, options=options, factors=listed_names(arguments.factor))
    for note in notes_of(frame):
        say_note(note)
    structures = structures_given(arguments)
    check_relationships(structures, arguments.formula, arguments)
    fit = lmm(
        arguments.formula,
        frame,
        reml=not arguments.ml,
        weights=_known(frame, arguments.weights, "--weights"),
        offset=_known(frame, arguments.offset, "--offset"),
        limits=limits,
        factorization=arguments.factorization,
        **structures,
    )
    shown, tables, means = _answers(fit, arguments)
    print("\n\n".join(str(part) for part in shown))
    summaries = _gxe(fit, arguments)
    if summaries is not None:
        print()
        own = print_summaries(summaries, arguments)
        tables |= {f"gxe_{name}": table for name, table in own.items()}
    if arguments.out:
        write_tables(tables, Path(arguments.out), arguments.format, "fit")
    if arguments.plot:
        _write_figures(fit, means, Path(arguments.out or "."))
    if arguments.plot and summaries is not None:
        write_gxe_figures(summaries, Path(arguments.out or "."), arguments)
    if arguments.report:
        _write_report(fit, arguments, frame)
    return 0


def _gxe(fit: LMMFit, arguments: argparse.Namespace) -> GxE | None:
    """Summaries of the genotypes in environments that ``--gxe gen,env`` names."""
    from fastlmm_core.multi_environment.summaries import gxe

    if arguments.gxe is None:
        return None
    genotype, environment = listed_names([arguments.gxe])
    return gxe(fit, genotype, environment, common=arguments.common)


def _write_report(fit: LMMFit, arguments: argparse.Namespace, frame: pd.DataFrame) -> None:
    from fastlmm_core.reports import report

    genotypes = arguments.values[0] if arguments.values else None
    print(f"\nreport: {report(fit, arguments.report, genotypes=genotypes, data=frame)}")


def _answers(
    fit: LMMFit, arguments: argparse.Namespace
) -> tuple[list[object], dict[str, pd.DataFrame], dict[str, EmmeansTable]]:
    """What is printed, the tables for files, and the means by specification."""
    ddf = arguments.ddf or fit.default_ddf
    options = {"ddf": ddf, "information": arguments.information, "level": arguments.level}
    printed = arguments.ddf or shown_ddf(fit)
    shown: list[object] = [fit.summary(ddf=printed, information=arguments.information)]
    tables = {
        "fixed_effects": fit.fixed_effects(printed, arguments.information, arguments.level),
        "variance_components": fit.variance_components,
    }
    if arguments.anova:
        tables["anova"] = fit.anova(type=3, ddf=ddf, information=arguments.information)
        shown.append(anova_table(tables["anova"], ddf))
    means = {}
    for spec in arguments.emmeans:
        formula = spec if spec.lstrip().startswith("~") else f"~ {spec}"
        means[spec] = fit.emmeans(formula, **options)
        shown.append(means[spec])
        tables[f"emmeans_{slug(spec)}"] = means[spec].to_frame()
        if arguments.contrasts:
            how = {name: value for name in ("adjust", "ref") if (value := getattr(arguments, name))}
            contrasts = means[spec].contrast(arguments.contrasts, **how)
            shown.append(contrasts)
            tables[f"contrasts_{slug(spec)}"] = contrasts.to_frame()
    for term in arguments.heritability:
        found = fit.heritability(term)
        shown.append(found)
        tables[f"heritability_{slug(term)}"] = found.to_frame()
    for term in arguments.values:
        decision, own = _decision(fit, term, arguments)
        shown += decision
        tables |= own
    if fit.design.random:
        tables["blups"] = fit.blups(level=arguments.level)
    for analysis in factor_analyses(fit):
        shown.append(analysis)
        name = slug(analysis.group)
        tables |= {
            f"{part}_{name}": getattr(analysis, part)
            for part in ("factors", "loadings", "explained", "scores", "performance")
        }
    return shown, {**tables, **_field_tables(fit)}, means


def _decision(
    fit: LMMFit, term: str, arguments: argparse.Namespace
) -> tuple[list[object], dict[str, pd.DataFrame]]:
    """Values of the genotypes of a term, beside the check and with the best of them; tables for files."""
    values = fit.genotype_values(
        term, arguments.within or None, level=arguments.level, largest=largest(arguments),
        average=arguments.average or None,
    )  # fmt: skip
    own = decisions(values, term, arguments.check, arguments.select)
    return list(own.values()), {name: table.to_frame() for name, table in own.items()}


def decisions(values: GenotypeValues, term: str, check: str | None, select: int | None) -> dict[str, Any]:
    """By the name of its file what is shown of values: beside the check, all others, the best, their gain."""
    own: dict[str, Any] = {}
    if check is not None:
        own[f"against_{slug(term)}_{slug(check)}"] = values.against(check)
        if check not in values.checks:  # which are no candidates anyway
            values = values.without(check)
    own[f"genotype_values_{slug(term)}"] = values
    if select is not None:
        own[f"best_{slug(term)}"] = values.best(select)
        own[f"selection_{slug(term)}"] = values.select(select)
    return own


def _field_tables(fit: LMMFit) -> dict[str, pd.DataFrame]:
    """Sample variogram and trend of a model that knows the positions of its plots."""
    from fastlmm_core.results.field.layout import own_field
    from fastlmm_core.results.field.trend import has_trend

    tables = {} if own_field(fit) is None else {"variogram": fit.variogram()}
    return {**tables, **({"trend": fit.trend()} if tables and has_trend(fit) else {})}


def factor_analyses(fit: LMMFit) -> list[FactorAnalysis]:
    """The report of every term with factors."""
    labels = [term.label for term in fit.design.random if has_factors(term)]
    return [fit.factor_analysis(label) for label in labels]


def anova_table(tests: pd.DataFrame, ddf: str) -> Table:
    """Type III tests as they are printed."""
    hidden = ("ddf", "scaling", "status") if (tests["status"] == "ok").all() else ("ddf", "scaling")
    return Table(tests, f"Type III tests of the terms ({DDF_WORDS[ddf]} df):", hidden=hidden)


def _check_arguments(arguments: argparse.Namespace) -> None:
    if arguments.contrasts and not arguments.emmeans:
        raise OptionError("--contrasts needs the means it contrasts: add --emmeans SPEC")
    for option in ("adjust", "ref"):
        if getattr(arguments, option) and not arguments.contrasts:
            raise OptionError(f"--{option} belongs to --contrasts METHOD")
    if arguments.gxe is not None and len(listed_names([arguments.gxe])) != 2:
        raise OptionError(f"--gxe {arguments.gxe} names two factors: --gxe gen,env")
    check_gxe_options(arguments, "values")
    check_format(arguments)
    for option in ("check", "select", "within", "average"):
        if getattr(arguments, option) not in (None, []) and not arguments.values:
            raise OptionError(f"--{option} belongs to --values GROUP")
    check_select("--select", arguments.select)
    if arguments.report and Path(arguments.report).suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"--report {arguments.report}: reports are HTML pages; end the name in .html")
    if not 0 < arguments.level < 1:
        raise OptionError(f"--level {arguments.level} must lie between 0 and 1")


def check_select(option: str, count: int | None) -> None:
    """Raises OptionError for a number that cannot be selected."""
    if count is not None and count < 1:
        raise OptionError(f"{option} {count}: how many are selected is a whole number from 1 on")


def _known(frame: pd.DataFrame, name: str | None, option: str) -> Any:
    if name is not None and name not in frame.columns:
        raise DataError(f"{option}: column '{name}' is not in the data{nearest_names(name, frame.columns)}")
    return name


def slug(spec: str) -> str:
    """A file name's part for a specification: "V | N" gives "V_by_N"."""
    return re.sub(r"\W+", "_", spec.lstrip("~ ").replace("|", " by ")).strip("_") or "overall"


def _write_figures(fit: LMMFit, means: dict[str, Any], folder: Path) -> None:
    from fastlmm_core.plots import (
        plot_biplot,
        plot_blups,
        plot_correlations,
        plot_emmeans,
        plot_field,
        plot_latent_regressions,
        plot_performance,
        plot_residuals,
        plot_variogram,
        save,
    )
    from fastlmm_core.results.field.layout import own_field

    make_folder(folder)
    written = list[Path]()

    def draw(name: str, plot: Callable[..., Any], *args: Any, **options: Any) -> None:
        """One figure; what the data cannot show, as a variogram of few plots, is a note beside the others."""
        try:
            written.append(save(plot(*args, **options), folder / name))
        except (DataError, InferenceError) as error:
            say_note(f"no {name}: {error}")

    for spec, table in means.items():
        draw(f"emmeans_{slug(spec)}.png", plot_emmeans, table)
    draw("residuals.png", plot_residuals, fit)
    for analysis in factor_analyses(fit):
        name = slug(analysis.group)
        draw(f"correlations_{name}.png", plot_correlations, analysis)
        draw(f"latent_regressions_{name}.png", plot_latent_regressions, analysis)
        draw(f"performance_{name}.png", plot_performance, analysis)
        if analysis.k > 1:
            draw(f"biplot_{name}.png", plot_biplot, analysis)
    for term in fit.design.random:
        name = f"blups_{slug(term.group)}.png"
        if folder / name not in written and not term.is_spline:
            draw(name, plot_blups, fit, term.group)
    layout = own_field(fit)
    for label, _ in [] if layout is None else layout.fields:
        name = "" if label is None else f"_{slug(str(label))}"
        draw(f"field{name}.png", plot_field, fit, trial=label)
        draw(f"variogram{name}.png", plot_variogram, fit, trial=label)
    print(f"\nfigures written to {folder}/: {', '.join(path.name for path in written)}")
