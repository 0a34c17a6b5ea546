#!/usr/bin/env python3
"""The other programs, in an environment of their own: ``python benchmarks/peers.py`` makes or completes it.

It lies in benchmarks/.peers (ignored by git) or where FASTLMM_PEERS points. A package that does not install
is reported and left out; the benchmarks record it as skipped. lme4, pbkrtest and emmeans come with R:
Debian ``apt install r-cran-lme4 r-cran-pbkrtest r-cran-emmeans r-cran-jsonlite``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

PLACE = Path(os.environ.get("FASTLMM_PEERS", Path(__file__).resolve().parent / ".peers"))
REQUIREMENTS = {
    "glmm": "glmm==0.6.*",
    "mixedlm": "mixedlm==1.3.*",
    "lme-python": "lme-python==0.2.*",
    "statsmodels": "statsmodels",
    "gpboost": "gpboost",
    "pyreml": "pyreml",
}
IN_R = ("lme4", "nlme", "glmmTMB")
MODULES = {"lme-python": "lme_python"}


def interpreter() -> Path:
    return PLACE / "bin" / "python"


@cache
def available(program: str) -> str:
    """Empty when the program can be measured, else why not."""
    if program in IN_R:
        return "" if r_has(program, "jsonlite") else f"R with {program} and jsonlite is not installed"
    if not interpreter().exists():
        return "not installed: python benchmarks/peers.py"
    module = MODULES.get(program, program)
    found = subprocess.run([str(interpreter()), "-c", f"import {module}"], capture_output=True, text=True)
    return "" if found.returncode == 0 else f"does not load: {found.stderr.strip().splitlines()[-1]}"


@cache
def r_has(*packages: str) -> bool:
    """R is there with all of these packages."""
    if shutil.which("Rscript") is None:
        return False
    code = " && ".join(f"requireNamespace('{p}', quietly = TRUE)" for p in packages)
    return subprocess.run(["Rscript", "-e", f"quit(status = !({code}))"], capture_output=True).returncode == 0


def main() -> int:
    about = argparse.ArgumentParser(description="The programs beside which the benchmarks measure: installs "
                                    f"{', '.join(REQUIREMENTS)} (some 6 GB) into {PLACE}.")  # fmt: skip
    about.parse_args()
    if not interpreter().exists():
        venv.create(PLACE, with_pip=True)
    pip = [str(interpreter()), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "pandas", "pyarrow"], check=True)
    missing = []
    for program, requirement in REQUIREMENTS.items():
        if subprocess.run([*pip, requirement]).returncode != 0:
            missing.append(program)
    available.cache_clear()
    for program in REQUIREMENTS:
        print(f"{program:12s} {available(program) or 'ready'}")
    return 1 if len(missing) == len(REQUIREMENTS) else 0


if __name__ == "__main__":
    sys.exit(main())
