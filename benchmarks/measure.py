"""Measure one program on one case in this process and print one line of JSON.

``python measure.py PROGRAM FORMULA TABLE WARM_TABLE`` runs in the library's environment for fastlmm_core and
in the other programs' own for the rest (peers.py).
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import gauges
import pandas as pd

Answer = dict[str, Any]
# From a formula and a table to a call that fits, and the figures of what it returned.
Adapter = Callable[[str, pd.DataFrame], tuple[Callable[[], Any], Callable[[Any], Answer]]]


def package_version(package: str) -> str:
    """That of the sources for the library, whose installation may be older than they are."""
    if package != "fastlmm_core":
        return version(package)
    import fastlmm_core

    return str(fastlmm_core.__version__)


def read(path: str) -> pd.DataFrame:
    """Columns of text as categories in sorted order."""
    table = pd.read_csv(path)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype(str).astype("category")
    return table


def fastlmm_core(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import fastlmm_core as fl

    return lambda: fl.lmm(formula, table), _figures_of_library


def fastlmm_prepared(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import fastlmm_core as fl

    prepared = fl.prepare(formula, table)
    return prepared.fit, _figures_of_library


def _figures_of_library(fit: Any) -> Answer:
    equations, factor = fit.solved.equations, fit.prepared.factor
    return {
        "criterion": fit.criterion,
        "converged": bool(fit.convergence.certificate),
        "evaluations": fit.convergence.evaluations,
        "equations": equations.q + equations.p,
        "L_mb": factor.nnz * 8 / 2**20,
        "gflop": factor.flops / 1e9,
        "ordering": equations.order.name,
        **{f"{phase}_s": seconds for phase, seconds in fit.timings.items()},
    }


def plain_groups(formula: str, table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """A column of its own for every group ``a:b``, for programs that do not know such groups."""
    table = table.copy()
    for group in sorted(set(re.findall(r"\|([\w:]+)\)", formula)), key=len, reverse=True):
        if ":" in group:
            parts = [table[name].astype(str) for name in group.split(":")]
            table[group.replace(":", "_")] = parts[0].str.cat(parts[1:], sep="_").astype("category")
    return re.sub(r"\|([\w:]+)\)", lambda found: found.group(0).replace(":", "_"), formula), table


def glmm(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import glmm as program  # type: ignore[import-not-found]

    formula, table = plain_groups(formula, table)

    # without the t tests' degrees of freedom, which the others do not compute in a fit either
    def figures(fit: Any) -> Answer:
        return {"criterion": -2.0 * fit.loglik, "converged": bool(fit.converged), "evaluations": fit.n_eval}

    return lambda: program.fit(table, formula, satterthwaite=False), figures


def mixedlm(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import mixedlm as program  # type: ignore[import-not-found]

    def figures(fit: Any) -> Answer:
        return {
            "criterion": float(fit.REMLcrit()),
            "converged": bool(fit.converged),
            "evaluations": fit.function_evals,
        }

    return lambda: program.lmer(formula, table), figures


def lme_python(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import lme_python as program  # type: ignore[import-not-found]
    import polars as pl

    formula, table = plain_groups(formula, table)
    columns = {
        n: c.astype(str).to_list() if c.dtype == "category" else c.to_numpy() for n, c in table.items()
    }
    data = pl.DataFrame(columns)

    def figures(fit: Any) -> Answer:
        return {
            "criterion": fit.reml_criterion,
            "converged": bool(fit.converged),
            "evaluations": fit.iterations,
        }

    return lambda: program.lmer(formula, data=data, reml=True), figures


def statsmodels(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import statsmodels.formula.api as smf  # type: ignore[import-not-found]

    match = re.fullmatch(r"(.+?) \+ \((\w+)\|(\w+)\)", formula)
    if match is None:
        raise NotImplementedError(
            "statsmodels takes one grouping factor; crossed ones only as dense n × n blocks"
        )
    fixed, slope, group = match.groups()

    def call() -> Any:
        model = smf.mixedlm(fixed, table, groups=table[group], re_formula="~" + slope)
        return model.fit(reml=True)

    return call, lambda fit: {"criterion": -2.0 * fit.llf, "converged": bool(fit.converged)}


def gpboost(formula: str, table: pd.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Answer]]:
    import gpboost as program  # type: ignore[import-not-found]

    response, right = formula.split(" ~ ")
    groups = re.findall(r"\(1\|([\w:]+)\)", right)
    fixed = [part for part in right.split(" + ") if "|" not in part and part != "1"]

    def call() -> Any:
        X = pd.get_dummies(table[fixed], drop_first=True, dtype=float)
        X.insert(0, "(Intercept)", 1.0)
        codes = [table.groupby(g.split(":"), observed=True, sort=False).ngroup().to_numpy() for g in groups]
        model = program.GPModel(
            group_data=pd.DataFrame(dict(zip(groups, codes, strict=True))), likelihood="gaussian"
        )
        model.fit(y=table[response].to_numpy(float), X=X.to_numpy(float))
        return model

    # its criterion is the ML one: no REML figure to compare
    return call, lambda model: {
        "criterion": None,
        "variances": [float(v) for v in model.get_cov_pars().to_numpy()[0]],
    }


ADAPTERS: dict[str, tuple[str, Adapter]] = {
    "fastlmm_core": ("fastlmm_core", fastlmm_core),
    "fastlmm_core, prepared": ("fastlmm_core", fastlmm_prepared),
    "glmm": ("glmm", glmm),
    "mixedlm": ("mixedlm", mixedlm),
    "lme-python": ("lme-python", lme_python),
    "statsmodels": ("statsmodels", statsmodels),
    "gpboost": ("gpboost", gpboost),
}


def main(program: str, formula: str, table: str, warm: str) -> None:
    warnings.simplefilter("ignore")
    package, adapter = ADAPTERS[program]
    call, _ = adapter(formula, read(warm))
    call()
    data = read(table)
    call, figures = adapter(formula, data)
    result, answer = gauges.repeated(call)
    answer |= {"version": package_version(package), "rows": len(data), **figures(result)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:5])
