"""`fastlmm report`: HTML pages of the results of a batch."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_report(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser; nothing heavy is imported."""
    command = commands.add_parser(
        "report",
        help="HTML report of the results of a batch",
        description="Write an overview of all trials and a page for each, which open without a network. Maps "
        "and residuals need a batch with --plots, values and heritabilities one with --genotypes.",
        epilog="example: fastlmm batch trials.csv 'yield ~ rep + (1|gen)' --by trial --genotypes gen "
        "--plots row,col --out results && fastlmm report results",
    )
    command.add_argument("results", help="folder that fastlmm batch wrote with --out")
    command.add_argument("--out", metavar="DIR", help="folder for the pages (default: RESULTS/report)")
    command.add_argument("--title", help="of the overview")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from fastlmm_core.reports import report

    folder = Path(arguments.out) if arguments.out else Path(arguments.results) / "report"
    written = report(arguments.results, folder, title=arguments.title, progress=not arguments.quiet)
    print(f"report: {written} and {len(list(written.parent.glob('trials/*.html')))} pages of trials")
    return 0
