"""`fastlmm gxe`: genotype by environment summaries of a table or of the results of a batch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastlmm_core.cli.source_options import FILES, add_source_options, arguments_of_reader, listed_names
from fastlmm_core.cli.strangers import add_limit, limits_given
from fastlmm_core.cli.table_files import FORMATS
from fastlmm_core.errors import OptionError

if TYPE_CHECKING:
    import pandas as pd

    from fastlmm_core.multi_environment.summaries import GxE

FOLDER = "gxe"
AXES = 2


def add_gxe(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser; nothing heavy is imported."""
    command = commands.add_parser(
        "gxe",
        help="genotype by environment summaries: stability, AMMI, GGE",
        description="Analysis of variance, stability (Finlay & Wilkinson, Wricke, Shukla, Lin & Binns), AMMI "
        "and GGE of a two-way table of means (docs/gxe.md).",
        epilog="example: fastlmm gxe means.csv --genotype gen --environment env --value yield --out results",
    )
    command.add_argument("source", help=f"{FILES}; or a folder that fastlmm batch wrote with --out")
    command.add_argument("--genotype", metavar="COLUMN", required=True, help="of the genotypes: gen")
    command.add_argument(
        "--environment", metavar="COLUMN", help="of the environments: env; the trials of a batch by default"
    )
    command.add_argument(
        "--value", metavar="COLUMN", help="means, or plots to be averaged; of a batch one of several traits"
    )
    command.add_argument(
        "--block", metavar="COLUMN", help="complete blocks within environments, of a table of plots"
    )
    command.add_argument("--replications", type=float, metavar="R", help="plots of a mean")
    command.add_argument("--error-ms", type=float, metavar="MS", help="error variance of a plot")
    command.add_argument("--error-df", type=float, metavar="DF", help="its degrees of freedom")
    add_gxe_options(command)
    command.add_argument("--out", metavar="DIR", help="write every table there, unrounded")
    command.add_argument("--format", choices=FORMATS, help="of the tables in --out (default: csv)")
    command.add_argument("--plot", action="store_true", help="write figures (PNG) to --out, or here")
    add_limit(command)
    add_source_options(command)
    command.set_defaults(command=_gxe)


def add_gxe_options(parser: argparse.ArgumentParser) -> None:
    """What is summarized how, for every command that answers with these summaries."""
    own = parser.add_argument_group("genotype by environment summaries (docs/gxe.md)")
    own.add_argument("--axes", type=int, metavar="K", help=f"axes of AMMI (default: {AXES})")
    own.add_argument(
        "--best", choices=("highest", "lowest"),
        help="value, also of genotypes that are ranked or selected (default: highest)",
    )  # fmt: skip
    own.add_argument("--scale", choices=("none", "sd"), help="of GGE (default: none)")
    own.add_argument(
        "--common", action="store_true", help="leave out genotypes that are not in every environment"
    )


def check_gxe_options(arguments: argparse.Namespace, values: str) -> None:
    """Options of these summaries where there are none; ``--best`` is also of genotypes by option `values`.

    Raises
    ------
    OptionError
    """
    if arguments.gxe is not None:
        return
    for option in ("axes", "scale", "common"):
        if getattr(arguments, option) not in (None, False):
            raise OptionError(f"--{option} belongs to --gxe")
    if arguments.best and not getattr(arguments, values):
        raise OptionError(f"--best belongs to --gxe or --{values.replace('_', '-')} GROUP")


def largest(arguments: argparse.Namespace) -> bool:
    """Whether large values are good."""
    return arguments.best != "lowest"


def _gxe(arguments: argparse.Namespace) -> int:
    from fastlmm_core.cli.table_files import check_format, write_tables
    from fastlmm_core.multi_environment.summaries import gxe

    check_format(arguments)

    known = {name: getattr(arguments, name) for name in ("block", "replications", "error_ms", "error_df")}
    found = gxe(
        _source(arguments), arguments.genotype, arguments.environment, arguments.value,
        common=arguments.common, **known,
    )  # fmt: skip
    tables = print_summaries(found, arguments)
    if arguments.out:
        write_tables(tables, Path(arguments.out), arguments.format, "gxe")
    if arguments.plot:
        write_gxe_figures(found, Path(arguments.out or "."), arguments)
    return 0


def _source(arguments: argparse.Namespace) -> Any:
    """The results of a batch where the folder holds such, else a table."""
    from fastlmm_core.batch.folder.stored import MANIFEST, read_batch
    from fastlmm_core.reading import read_options, read_table

    folder = Path(arguments.source)
    if folder.is_dir() and (folder / MANIFEST).is_file():
        return read_batch(folder)
    missing = [name for name in ("environment", "value") if getattr(arguments, name) is None]
    if missing:
        raise OptionError(f"a table needs --{' and --'.join(missing)}: columns of environments and values")
    options = read_options(**arguments_of_reader(arguments), limits=limits_given(arguments.limit))
    labels = [arguments.genotype, arguments.environment, *listed_names(arguments.factor)]
    return read_table(arguments.source, options=options, factors=labels)


def print_summaries(found: GxE, arguments: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Print the summary and the stability of the genotypes; all tables by name."""
    axes, best = AXES if arguments.axes is None else arguments.axes, arguments.best or "highest"
    tables = found.tables(axes, best, arguments.scale or "none")
    print(f"{found.summary(axes)}\n\n{found.stability(best)}")
    for name, words in (("ammi_winners", "AMMI"), ("gge_winners", "GGE")):
        won = tables[name].groupby("genotype", sort=False)["environment"].agg(", ".join)
        print(f"\nBest by {words}: {'; '.join(f'{genotype} in {where}' for genotype, where in won.items())}")
    return tables


def write_gxe_figures(found: GxE, folder: Path, arguments: argparse.Namespace) -> None:
    """Biplots of GGE and AMMI, and the regressions of the genotypes."""
    from fastlmm_core.cli.table_files import make_folder
    from fastlmm_core.plots import plot_biplot, plot_stability, save

    make_folder(folder)
    written = [
        save(plot_biplot(found.gge(arguments.scale or "none"), polygon=True), folder / "gge.png"),
        save(plot_biplot(found.ammi(2)), folder / "ammi.png"),
        save(plot_stability(found), folder / "stability.png"),
    ]
    print(f"\nfigures written to {folder}/: {', '.join(path.name for path in written)}")
