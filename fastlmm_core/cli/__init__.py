"""The command `fastlmm`. This file imports nothing heavy, so that `--version` and `--help` answer at once."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

from fastlmm_core._version import __version__
from fastlmm_core.cli.batch import add_batch
from fastlmm_core.cli.gxe import add_gxe, add_gxe_options
from fastlmm_core.cli.interruption import INTERRUPTED, leave_on_interrupt, say_stopped
from fastlmm_core.cli.report import add_report
from fastlmm_core.cli.serve import add_serve
from fastlmm_core.cli.source_options import FILES, add_source_options
from fastlmm_core.cli.strangers import OneLineParser, add_limit, check_room, outlasting, refused, say_note
from fastlmm_core.cli.structure_options import add_structure_options
from fastlmm_core.cli.table_files import FORMATS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; by default those of the process.

    Returns
    -------
    int
        0; 1 from a batch in which trials could not be fitted; 2 after bad input and 130 after Ctrl-C, each
        with one line on standard error.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that does not know a character gets its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    stopped: Callable[[argparse.Namespace], str] = getattr(arguments, "stopped", _stopped)
    try:
        if getattr(arguments, "resident", False):  # it has ways of its own to end, and loads next to nothing
            return command(arguments)
        if argv is None:
            leave_on_interrupt(lambda: stopped(arguments))
            sys.stdout = outlasting(sys.stdout)
        check_room()
        from fastlmm_core.compiling import compilation_notice
        from fastlmm_core.gate import told_by

        with told_by(say_note), compilation_notice(_say):
            status = command(arguments)
            sys.stdout.flush()
            return status
    except Exception as error:
        return refused(error)
    except KeyboardInterrupt:  # called from Python, where Ctrl-C is not ours to handle
        say_stopped(stopped(arguments))
        return INTERRUPTED


def _stopped(arguments: argparse.Namespace) -> str:
    return "stopped"


def _say(words: str) -> None:
    print(f"fastlmm: {words}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="fastlmm",
        description="Linear mixed models: REML fits, BLUPs, marginal means, Kenward-Roger contrasts.",
    )
    parser.add_argument("--version", action="version", version=f"fastlmm {__version__}")
    names = "{fit,batch,gxe,report,run,serve,demo,compile}"
    commands = parser.add_subparsers(title="commands", required=True, metavar=names)
    _add_fit(commands)
    add_batch(commands)
    add_gxe(commands)
    add_report(commands)
    run = commands.add_parser("run", help="answer a JSON request document (docs/request.md)")
    run.add_argument("request", nargs="?", help="JSON file, or - for standard input")
    run.add_argument("-o", "--output", help="file for the answer (standard output by default)")
    run.add_argument("--root", metavar="DIR", help="read only files inside of this folder")
    run.add_argument("--inline-only", action="store_true", help="read no files at all")
    run.add_argument("--tables-root", metavar="DIR", help="the request may write its tables inside of it")
    run.add_argument("--schema", action="store_true", help="print the JSON Schema of requests")
    add_limit(run)
    run.set_defaults(command=_run)
    add_serve(commands)
    demo = commands.add_parser("demo", help="three worked analyses: tables, a figure, a report")
    demo.add_argument("--out", default="demo-output", help="folder for its files (default: demo-output)")
    demo.add_argument("--no-plot", action="store_true", help="tables only")
    demo.set_defaults(command=_demo)
    compiled = commands.add_parser("compile", help="compile the kernels now: images, shared places")
    compiled.add_argument(
        "what", nargs="?", choices=("fits", "large", "batches"),
        help="those of small fits, of large ones or of batches alone, for processes at the same time",
    )  # fmt: skip
    compiled.set_defaults(command=_compile)
    return parser


def _add_fit(commands: argparse._SubParsersAction) -> None:
    fit = commands.add_parser(
        "fit",
        help="fit a model to a table",
        description="Fit a mixed model, or a linear model when the formula has no (..|..) term.",
        epilog="example: fastlmm fit trial.csv 'yield ~ gen + (1|loc)' --emmeans gen --contrasts pairwise",
    )
    fit.add_argument("file", help=FILES)
    fit.add_argument("formula", help="lme4 notation, for example 'yield ~ gen + (1|rep/block)'")
    fit.add_argument(
        "--emmeans",
        action="append",
        default=[],
        metavar="SPEC",
        help="means of these factors: gen, 'V*N', 'V|N'",
    )
    fit.add_argument(
        "--contrasts", metavar="METHOD", help="contrasts of the means: pairwise, trt.vs.ctrl, poly, ..."
    )
    fit.add_argument(
        "--adjust", metavar="METHOD", help="multiplicity: none, tukey, sidak, holm, dunnettx, mvt, ..."
    )
    fit.add_argument("--ref", metavar="LEVEL", help="control of trt.vs.ctrl (default: the first level)")
    fit.add_argument(
        "--ddf",
        metavar="METHOD",
        help="kenward-roger (default for means and tests), satterthwaite (for coefficients), residual, "
        "asymptotic",
    )
    fit.add_argument(
        "--information",
        metavar="KIND",
        help="expected, observed, average (default: expected, with structures that are not linear observed)",
    )
    fit.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    fit.add_argument("--anova", action="store_true", help="also F tests of the terms (type III)")
    fit.add_argument(
        "--heritability", action="append", default=[], metavar="GROUP",
        help="heritability of these levels by all definitions: gen",
    )  # fmt: skip
    fit.add_argument(
        "--values", action="append", default=[], metavar="GROUP",
        help="mean + BLUP of these levels with ranks: gen",
    )  # fmt: skip
    fit.add_argument(
        "--within", action="append", default=[], metavar="FACTOR",
        help="--values within its levels, environments or traits: env",
    )  # fmt: skip
    fit.add_argument(
        "--average", action="append", default=[], metavar="FACTOR",
        help="--values over its levels although each genotype has one of them: env",
    )  # fmt: skip
    fit.add_argument(
        "--select", type=int, metavar="K", help="the K best of --values, and the gain from selecting them"
    )
    fit.add_argument(
        "--check", metavar="LEVEL",
        help="probability of every genotype of --values to be better than this one, which is no candidate",
    )  # fmt: skip
    fit.add_argument(
        "--gxe", metavar="GEN,ENV", help="stability, AMMI and GGE of these genotypes in environments"
    )
    fit.add_argument("--weights", metavar="COLUMN", help="Var(e_i) = sigma^2 / w_i")
    fit.add_argument("--offset", metavar="COLUMN", help="added to the linear predictor with coefficient 1")
    fit.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    fit.add_argument(
        "--factorization", default="auto", metavar="NAME",
        help="who factorizes the equations: simplicial, supernodal, cholmod (default: by size)",
    )  # fmt: skip
    fit.add_argument("--out", metavar="DIR", help="write every table there, unrounded")
    fit.add_argument("--format", choices=FORMATS, help="of the tables in --out (default: csv)")
    fit.add_argument("--plot", action="store_true", help="write figures (PNG) to --out, or here")
    fit.add_argument("--report", metavar="FILE", help="write an HTML page, with --values GROUP of genotypes")
    add_limit(fit)
    add_gxe_options(fit)
    add_structure_options(fit)
    add_source_options(fit)
    fit.set_defaults(command=_fit)


# The commands themselves are imported when they run: they need numba, pandas, matplotlib.
def _fit(arguments: argparse.Namespace) -> int:
    from fastlmm_core.cli.fit import fit_command

    return fit_command(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from fastlmm_core.cli.run import run_command

    return run_command(arguments)


def _compile(arguments: argparse.Namespace) -> int:
    from fastlmm_core.cli.compile import compile_command

    return compile_command(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    from fastlmm_core.cli.demo import demo_command

    return demo_command(arguments)
