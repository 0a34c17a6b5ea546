"""`fastlmm batch`: one model for every trial of a file or dataset."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastlmm_core.cli.gxe import FOLDER as GXE
from fastlmm_core.cli.gxe import add_gxe_options, check_gxe_options, print_summaries, write_gxe_figures
from fastlmm_core.cli.second_stage import (
    add_second_stage,
    check_second_stage,
    check_trait,
    first_stage_structures,
    print_second_stage,
)
from fastlmm_core.cli.source_options import FILES, add_source_options, arguments_of_reader, listed_names
from fastlmm_core.cli.strangers import add_limit, limits_given
from fastlmm_core.cli.structure_options import add_structure_options, check_relationships, structures_given
from fastlmm_core.errors import OptionError

if TYPE_CHECKING:
    from fastlmm_core.batch import BatchResult

FAILED = 1


def add_batch(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser; nothing heavy is imported."""
    batch = commands.add_parser(
        "batch",
        help="fit the same model to many trials and traits",
        description="Fit one model to every trial and trait. Exit status 0: all fits are good; 1: some "
        "trials could not be fitted (their reasons stand in the table fits); 2: the request itself is wrong.",
        epilog="example: fastlmm batch trials.parquet 'yield ~ gen + rep + (1|rep:block)' --by trial "
        "--emmeans gen --contrasts trt.vs.ctrl:CHECK --out results",
    )
    batch.add_argument("source", help=f"{FILES} or of Parquet files")
    batch.add_argument(
        "formula", nargs="+",
        help="lme4 notation; the response may be left out with --traits. Of several, or of several "
        "'NAME: FORMULA', each trial gets the first that it supports (see --choose)",
    )  # fmt: skip
    batch.add_argument(
        "--choose", default="first", metavar="HOW", help="of several formulas: first, aic, bic"
    )
    batch.add_argument("--formula-column", metavar="COLUMN", help="column that names the formula of a trial")
    batch.add_argument("--by", required=True, metavar="COLUMNS", help="columns that name a trial: site,trial")
    batch.add_argument("--traits", metavar="COLUMNS", help="responses, fitted one by one: yield,height")
    batch.add_argument("--emmeans", action="append", default=[], metavar="SPEC", help="marginal means: gen")
    batch.add_argument(
        "--contrasts", metavar="FAMILY", help="of the means: pairwise, trt.vs.ctrl:CHECK, consec, eff, ..."
    )
    batch.add_argument("--adjust", metavar="METHOD", help="multiplicity: none, tukey, dunnettx, holm, ...")
    batch.add_argument("--blups", metavar="GROUPS", help="BLUPs and heritability of these: gen (or: all)")
    batch.add_argument(
        "--genotypes", metavar="GROUP",
        help="their values with ranks, heritabilities, and a summary of each trial: gen",
    )  # fmt: skip
    batch.add_argument(
        "--plots", metavar="COLUMNS", nargs="?", const="",
        help="keep every plot with its residual, for maps in a report; columns that name the plots: plot, "
        "row,col or row,col,plot (default: row and column of the model)",
    )  # fmt: skip
    batch.add_argument(
        "--covariances", action="store_true", help="keep the covariance of the means, for a second stage"
    )
    batch.add_argument("--trends", action="store_true", help="keep the fitted trend of each field")
    batch.add_argument("--no-fixed", action="store_true", help="leave out the table of fixed effects")
    batch.add_argument("--ddf", metavar="METHOD", help="kenward-roger, satterthwaite, residual, asymptotic")
    batch.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    batch.add_argument("--weights", metavar="COLUMN", help="Var(e_i) = sigma^2 / w_i")
    batch.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    batch.add_argument("--out", required=True, metavar="DIR", help="folder for the tables (Parquet)")
    batch.add_argument("--resume", action="store_true", help="continue what an earlier run left in --out")
    add_second_stage(batch)
    batch.add_argument(
        "--gxe", metavar="GROUP",
        help="stability, AMMI and GGE of the means of all trials, which need --genotypes or --emmeans: gen; "
        f"the tables go to {GXE}/ in --out",
    )  # fmt: skip
    batch.add_argument("--gxe-trait", metavar="TRAIT", help="which of several traits")
    add_gxe_options(batch)
    engine = batch.add_mutually_exclusive_group()
    engine.add_argument(
        "--workers", type=int, metavar="N", help="threads, or processes for slow fits (default: all cores)"
    )
    engine.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler, tcp://host:port")
    batch.add_argument("--plot", action="store_true", help="also write an overview figure to --out")
    batch.add_argument("--quiet", action="store_true", help="no progress bar")
    add_limit(batch)
    add_structure_options(batch)
    add_source_options(batch)
    batch.set_defaults(command=batch_command, stopped=_stopped)


def _stopped(arguments: argparse.Namespace) -> str:
    return (
        f"stopped; what is done is in {arguments.out}/, and the same command with --resume goes on from there"
    )


def batch_command(arguments: argparse.Namespace) -> int:
    """Run the batch, print the closing summary; 0 when every fit is good, else 1."""
    from fastlmm_core.batch import fit_batch
    from fastlmm_core.batch.engines.cluster import connect

    logging.getLogger("fastlmm_core.batch").setLevel(logging.ERROR)  # the command says what there is to say
    logging.getLogger("fastlmm_core.batch.folder.store").setLevel(logging.WARNING)  # files made again
    check_second_stage(arguments)
    _check_gxe(arguments)
    blups: bool | list[str] = _names(arguments.blups)
    structures, formulas = structures_given(arguments), _formulas(arguments.formula)
    check_relationships(structures, formulas, arguments, arguments.second_stage)
    options = {
        "by": _names(arguments.by), "traits": _names(arguments.traits), "reml": not arguments.ml,
        "weights": arguments.weights, "fixed": not arguments.no_fixed, "emmeans": arguments.emmeans,
        "contrasts": arguments.contrasts, "adjust": arguments.adjust, "ddf": arguments.ddf,
        "blups": True if blups == ["all"] else blups, "level": arguments.level, "out": arguments.out,
        "genotypes": arguments.genotypes,
        "covariances": arguments.covariances or bool(arguments.second_stage),
        "plots": _plots(arguments.plots),
        "trends": arguments.trends,
        "resume": arguments.resume, "progress": not arguments.quiet,
        "limits": limits_given(arguments.limit), "choose": arguments.choose,
        "formula_column": arguments.formula_column,
        "factors": listed_names(arguments.factor), **arguments_of_reader(arguments),
        **first_stage_structures(structures, formulas, arguments),
    }  # fmt: skip
    if not Path(arguments.source).exists():
        raise OptionError(f"'{arguments.source}' does not exist; name a CSV or Parquet file, or a folder")
    if arguments.scheduler:
        with connect(arguments.scheduler) as client:
            silence_dask()
            result = fit_batch(arguments.source, formulas, engine=client, **options)
    else:
        result = fit_batch(arguments.source, formulas, workers=arguments.workers, **options)
    print(result.summary())
    print(f"tables in {arguments.out}/: {', '.join(result.plan.tables)}")
    if arguments.plot:
        _write_figure(result, Path(arguments.out))
    if arguments.second_stage:
        print_second_stage(result, structures["relationships"], arguments)
    if arguments.gxe:
        _print_gxe(result, arguments)
    return FAILED if len(result.failures) else 0


def _check_gxe(arguments: argparse.Namespace) -> None:
    """Raises OptionError before the first trial is fitted."""
    check_gxe_options(arguments, "stage_values")
    if arguments.gxe is None:
        if arguments.gxe_trait:
            raise OptionError("--gxe-trait belongs to --gxe GROUP")
        return
    if arguments.gxe not in (arguments.genotypes, *arguments.emmeans):
        name = arguments.gxe
        raise OptionError(f"--gxe {name} needs its means: --genotypes {name}, or --emmeans {name} if fixed")
    check_trait(arguments, "--gxe", "gxe_trait")


def _print_gxe(result: BatchResult, arguments: argparse.Namespace) -> None:
    """Summaries over the trials, printed and as CSV; figures with --plot."""
    from fastlmm_core.cli.table_files import write_tables
    from fastlmm_core.multi_environment.summaries import gxe

    found = gxe(result, arguments.gxe, value=arguments.gxe_trait, common=arguments.common)
    print()
    tables = print_summaries(found, arguments)
    write_tables(tables, Path(arguments.out) / GXE, "csv", "gxe")
    if arguments.plot:
        write_gxe_figures(found, Path(arguments.out) / GXE, arguments)


def silence_dask() -> None:
    """A lost scheduler or worker is said in one line of ours; Dask's own, set up as it is imported, end."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _formulas(texts: list[str]) -> str | list[str] | dict[str, str]:
    """One formula, several, or several with names: ``"alpha: yield ~ gen + (1|rep:block)"``.

    Raises
    ------
    OptionError
        When only some have names.
    """
    named = [text.partition(":") for text in texts if ":" in text.partition("~")[0]]
    if not named:
        return texts[0] if len(texts) == 1 else texts
    if len(named) < len(texts):
        raise OptionError("give all formulas a name, 'NAME: FORMULA', or none of them")
    return {name.strip(): formula.strip() for name, _, formula in named}


def _plots(text: str | None) -> bool | list[str]:
    """Columns of ``--plots``; True where it stands alone."""
    return False if text is None else _names(text) or True


def _names(text: str | None) -> list[str]:
    return listed_names([text or ""])


def _write_figure(result: BatchResult, folder: Path) -> None:
    from fastlmm_core.errors import DependencyError
    from fastlmm_core.plots.trials import plot_trials

    try:
        from fastlmm_core.plots import save

        print(f"figure: {save(plot_trials(result), folder / 'trials.png')}")
    except DependencyError as err:
        print(f"fastlmm: no figure: {err}", file=sys.stderr)
