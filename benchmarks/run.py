#!/usr/bin/env python3
"""Benchmarks: `make bench` takes some minutes, `make bench SLOW=1` up to an hour.

Results go to benchmarks/results/*.csv, their tables and plots to docs/ and, with --readme, README.md.
Other programs are measured where they are installed: see peers.py.
"""

from __future__ import annotations

import argparse
import os
import sys

import batch_trials
import engine
import fits
import growth
import kenward_roger
import paths
import report
import serve
import structures

PARTS = ("paths", "fits", "engine", "structures", "kenward_roger", "growth", "batch", "serve", "report")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", default=list(PARTS), metavar="PART", help=f"any of {', '.join(PARTS)}"
    )
    parser.add_argument("--slow", action="store_true", help="all sizes and the slow programs")
    parser.add_argument("--case", action="append", default=[], help="only this case or task; may be repeated")
    parser.add_argument("--program", action="append", help="only this program (fits)")
    parser.add_argument("--limit", type=float, help="seconds after which one measurement is stopped")
    parser.add_argument("--readme", action="store_true", help="also write the table into README.md")
    asked = parser.parse_args()
    unknown = set(asked.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    slow = asked.slow or os.environ.get("SLOW", "") not in ("", "0")
    limit = asked.limit or (3_600.0 if slow else 120.0)
    if "paths" in asked.parts:
        paths.run(1.0)
    if "fits" in asked.parts:
        fits.run(asked.case, slow, limit, asked.program)
    if "engine" in asked.parts:
        engine.run(asked.case, slow, limit)
    if "structures" in asked.parts:
        structures.run(asked.case, slow, limit)
    if "kenward_roger" in asked.parts:
        kenward_roger.run(asked.case, slow, limit)
    if "growth" in asked.parts:
        growth.run(slow, limit)
    if "batch" in asked.parts:
        batch_trials.run(asked.case, limit)
    if "serve" in asked.parts:
        serve.run(5_000)
    if "report" in asked.parts:
        report.write(readme=asked.readme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
