#!/usr/bin/env python3
"""Build the documentation site: pages, reference and gallery into build/site; a warning is an error.

The pages keep their places and links (README.md, docs/...), so that they read the same on a site and in the
repository; pages of navigation come from tools/site, those of the reference are written here.
"""

from __future__ import annotations

import argparse
import inspect
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
SETTINGS = ROOT / "tools" / "site"
sys.path.insert(0, str(ROOT))

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "data/README.md", "clients/r/README.md")

# What stands together on a page of the reference: title, objects.
REFERENCE: dict[str, tuple[str, tuple[str, ...]]] = {
    "models": ("Models", (
        "fastlmm_core.lmm", "fastlmm_core.prepare", "fastlmm_core.Prepared", "fastlmm_core.load",
        "fastlmm_core.compare", "fastlmm_core.compare_factors", "fastlmm_core.long_table",
    )),
    "fit": ("A fit", ("fastlmm_core.LMMFit",)),
    "means": ("Means and contrasts", (
        "fastlmm_core.means.mean_tables.EmmeansTable",
        "fastlmm_core.means.estimate_tables.ContrastTable",
        "fastlmm_core.inference.linear_functions.LinearFunctions",
        "fastlmm_core.inference.f_test.FTest",
        "fastlmm_core.means.comparisons.DifferenceErrors",
        "fastlmm_core.means.comparisons.ComparisonIntervals",
        "fastlmm_core.display.figure_tables.FigureTable",
        "fastlmm_core.results.diagnostics.conditional_aic.ConditionalAIC",
    )),
    "random": ("Random effects and their variances", (
        "fastlmm_core.results.components.correlations.CorrelationTable",
        "fastlmm_core.results.components.vpredict.VarianceFunction",
        "fastlmm_core.results.genotypes.heritability.HeritabilityTable",
        "fastlmm_core.results.genotypes.values.GenotypeValues",
        "fastlmm_core.results.factor_analytic.factor_analysis.FactorAnalysis",
        "fastlmm_core.intervals.profile.Profile",
        "fastlmm_core.intervals.bootstrap.Bootstrap",
    )),
    "relationships": ("Relationships", (
        "fastlmm_core.Pedigree",
        "fastlmm_core.Markers",
        "fastlmm_core.Covariance",
        "fastlmm_core.SparseInverse", "fastlmm_core.single_step",
    )),
    "batches": ("Many trials", (
        "fastlmm_core.fit_batch", "fastlmm_core.fit_group", "fastlmm_core.second_stage",
        "fastlmm_core.BatchResult", "fastlmm_core.run", "fastlmm_core.read_batch", "fastlmm_core.report",
    )),
    "environments": ("Genotypes in environments", (
        "fastlmm_core.gxe", "fastlmm_core.multi_environment.summaries.GxE",
        "fastlmm_core.multi_environment.ammi.AMMI", "fastlmm_core.multi_environment.gge.GGE",
    )),
    "plots": ("Figures", ("fastlmm_core.plots",)),
    "datasets": ("Data sets", ("fastlmm_core.datasets",)),
    "errors": ("Errors and warnings", ("fastlmm_core.errors", "fastlmm_core.limits.Limits")),
}  # fmt: skip

# What the engine asks of relationships, tables and fits; users have no business with it.
CONTRACT = {
    "content", "diagonal", "fingerprint", "locate", "log_determinant", "multiply", "named", "precision",
    "root", "by_columns", "labelled", "term_variances", "coefficient_functions", "again", "plain", "dense",
    "codes", "of_codes", "of_centred",
    "contrast_statistics", "rescaled", "check", "of", "low_rank", "structured", "joint_tails", "family",
}  # fmt: skip
BOUND = {
    "Covariance", "Markers", "Pedigree", "SparseInverse", "EmmeansTable", "ContrastTable", "LMMFit",
    "Prepared", "LinearFunctions", "Limits",
}  # fmt: skip


def is_contract(owner: str, member: str) -> bool:
    """Whether a member of a class is for the engine alone."""
    return owner in BOUND and member in CONTRACT


def gather() -> None:
    """Lay out the sources of the site as they lie in the repository, with the pages of navigation above."""
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for page in PAGES:
        (SOURCE / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, SOURCE / page)
    for navigation in SETTINGS.glob("*.md"):
        shutil.copy(navigation, SOURCE / navigation.name)


def write_reference() -> None:
    """A page for every group of `REFERENCE`, and the page that lists them."""
    folder = SOURCE / "reference"
    folder.mkdir()
    rows = []
    for name, (title, objects) in REFERENCE.items():
        members = [line for path in objects for line in (*directive(path), "")]
        (folder / f"{name}.rst").write_text(
            "\n".join([title, "=" * len(title), "", *members]), encoding="utf-8"
        )
        rows.append(f"   reference/{name}")
    page = SOURCE / "reference.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("REFERENCE_PAGES", "\n".join(row.strip() for row in rows)), encoding="utf-8")


def named(path: str) -> Any:
    """The module, class or function of a dotted name."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def members_of(module: Any) -> list[tuple[str, Any]]:
    """Name and object of the functions and classes of a public module; of errors, the classes."""
    names = getattr(module, "__all__", None) or [
        name for name, own in vars(module).items()
        if not name.startswith("_") and getattr(own, "__module__", "") == module.__name__
        and (inspect.isclass(own) or (inspect.isfunction(own) and not module.__name__.endswith(".errors")))
    ]  # fmt: skip
    return [(name, getattr(module, name)) for name in names]


def directive(path: str) -> list[str]:
    """The autodoc directives of an object: a function, a class, or what a module has of both."""
    own = named(path)
    if inspect.ismodule(own):
        lines = []
        for key, member in members_of(own):
            kind = "class" if inspect.isclass(member) else "function"
            inherited = ["   :no-inherited-members:"] * (kind == "class")
            lines += [f".. auto{kind}:: {path}.{key}", *inherited, ""]
        return lines
    if not inspect.isclass(own):
        return [f".. autofunction:: {path}"]
    hidden = ", ".join(member for member in dir(own) if is_contract(own.__name__, member))
    return [f".. autoclass:: {path}", *[f"   :exclude-members: {hidden}"] * bool(hidden)]


def build(arguments: argparse.Namespace) -> int:
    from sphinx.cmd.build import build_main

    options = [
        "-b",
        "html",
        "-c",
        str(SETTINGS),
        "-d",
        str(ROOT / "build" / "site-doctrees"),
        "-W",
        "--keep-going",
    ]
    if arguments.quiet:
        options.append("-q")
    return build_main([*options, str(SOURCE), str(SITE)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="say what is wrong only")
    arguments = parser.parse_args()
    gather()
    write_reference()
    status = build(arguments)
    if status == 0:
        print(f"The site is in {SITE.relative_to(ROOT)}: open {SITE.relative_to(ROOT)}/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
