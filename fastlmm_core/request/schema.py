"""The schema of a request document: what is checked before work begins, and the reference of its keys.

A JSON Schema (draft 2020-12) made of the kinds in `fastlmm_core.options`; ``fastlmm run --schema`` prints it.
A new key is one line in one of the tables below, and an entry in `sections.SECTIONS` when it asks for a
section of the answer.
"""

from __future__ import annotations

from typing import Any

from fastlmm_core.options import (
    ANY,
    AT,
    FACTORIZATION,
    FLAG,
    LEVEL,
    NAME,
    NAMES,
    NUMBER,
    SCALAR,
    SPECS,
    TEXT,
    Kind,
    either,
    list_of,
    one_of,
    record,
    table_of,
    whole,
)

DDF_METHODS = ("kenward-roger", "satterthwaite", "residual", "asymptotic")
INFORMATION = ("expected", "observed", "average")
METHODS = ("REML", "ML", "OLS")
STAGE_WEIGHTS = ("full", "smith", "diagonal")
CHOICES = ("first", "aic", "bic")


def _said(kind: Kind, description: str, **more: Any) -> Kind:
    return {**kind, "description": description, **more}


CELLS: Kind = {
    "type": "array", "items": {"type": ["number", "string", "boolean", "null"]}, "cells": True,
}  # fmt: skip
TABLE = _said(either(NAME, table_of(CELLS)), "path of a file, or {column: [values]}")
DECLARED = record(
    {"type": one_of(("factor", "numeric")), "levels": list_of(SCALAR), "ordered": FLAG}, ["type"]
)
DDF = one_of(DDF_METHODS)
WEIGHTS = either(one_of(("equal", "proportional", "outer", "cells", "flat")), list_of(NUMBER))
REFERENCE = either(TEXT, NUMBER, list_of(either(TEXT, NUMBER)))

GRID: dict[str, Kind] = {
    "specs": _said(SPECS, "what the means are for: '~ V', '~ V*N', '~ V | N', '~ 1'"),
    "by": _said(NAMES, "variables that make separate families, an alternative to |"),
    "at": _said(AT, "values of covariates and levels of factors; covariates are at their mean otherwise"),
    "weights": _said(WEIGHTS, "how to average; one weight for each combination, or", default="equal"),
    "level": _said(LEVEL, "confidence level of the intervals", default=0.95),
}
REDUCTION = one_of(("mean", "median", "min", "max", "range"))
GRID_OPTIONS: dict[str, Kind] = {
    "cov_keep": _said(either(NAMES, whole(1)), "covariates that keep all their values, or up to how many"),
    "cov_reduce": _said(either(REDUCTION, table_of(REDUCTION)), "value of covariates, or of each by name"),
    "nuisance": _said(NAMES, "additive factors, averaged over without a grid of their combinations"),
    "wt_nuis": _said(one_of(("equal", "proportional")), "weights of their levels", default="equal"),
    "counterfactuals": _said(NAMES, "factors that are set to each level in all rows of the data"),
    "submodel": _said(TEXT, "'minimal', 'type2' or '~ a + b': means of a part of the model"),
}
SLOPE: dict[str, Kind] = {
    "var": _said(NAME, "covariate whose slope is wanted"),
    "delta": _said(either(NUMBER, one_of(("exact",))), "increment of the difference quotient, or 'exact'"),
}
MEANS = record({**GRID, **GRID_OPTIONS, "method": _said(DDF, "df method")}, ["specs"])
TRENDS = record({**GRID, **SLOPE, "method": _said(DDF, "df method")}, ["specs", "var"])
CONTRASTS = record(
    {
        **GRID,
        **GRID_OPTIONS,
        **SLOPE,
        "df_method": _said(DDF, "df method; without it that of the first emmeans with the same specs"),
        "method": _said(TEXT, "family of contrasts, 'custom' or 'interaction'", default="pairwise"),
        "adjust": _said(TEXT, "adjustment for multiplicity; each family has its usual one"),
        "interaction": _said(either(TEXT, list_of(TEXT)), "a family for each factor"),
        "ref": _said(REFERENCE, "control of trt.vs.ctrl, by name or position"),
        "coef": _said(table_of(list_of(NUMBER)), "{label: one weight for each row of the means}"),
        "reverse": _said(FLAG, "turn the differences round", default=False),
        "wts": _said(list_of(NUMBER), "weights of the means in averages: eff, del.eff, wtcon"),
        "cmtype": _said(TEXT, "type of wtcon"),
        "family": _said(TEXT, "family that nrmlz scales"),
    },
    ["specs"],
)
VALUES = record(
    {
        "term": _said(NAME, "grouping factor of the genotypes"),
        "by": _said(either(NAME, list_of(NAME)), "values within the levels of these"),
        "average": _said(either(NAME, list_of(NAME)), "values over these, of which each genotype has one"),
        "level": _said(LEVEL, "of the intervals", default=0.95),
        "largest": _said(FLAG, "large values are good", default=True),
        "without": _said(list_of(SCALAR), "genotypes that are no candidates, such as checks"),
        "index": _said(table_of(NUMBER), "weights of the levels of `by`: values of their weighted sum"),
        "per": _said(one_of(("unit", "sd")), "what a weight counts", default="unit"),
        "best": _said(whole(1), "ask for so many best with their probability of being right"),
        "select": _said(whole(1), "ask for the gain from selecting so many, of an index in every part too"),
        "check": _said(SCALAR, "ask for the probability of every genotype to be better than this one, "
                       "which is no candidate"),
        "margin": _said(NUMBER, "by how much better", default=0),
    },
    ["term"],
)
GXE: dict[str, Kind] = {
    "genotype": _said(NAME, "factor of the genotypes"),
    "axes": _said(whole(1), "of AMMI", default=2),
    "best": _said(one_of(("highest", "lowest")), "value, for the superiority measure", default="highest"),
    "scale": _said(one_of(("none", "sd")), "of environments, for GGE", default="none"),
    "common": _said(FLAG, "leave out genotypes that are not in every environment", default=False),
}
GXE_OF_FIT = record(
    {**GXE, "environment": _said(NAME, "factor of the environments")}, ["genotype", "environment"]
)
GXE_OF_TRIALS = record({**GXE, "trait": _said(NAME, "which of several traits")}, ["genotype"])
FUNCTION = record({"label": NAME, "expr": TEXT}, ["expr"])
ANOVA = record(
    {
        "type": _said(one_of((1, 2, 3)), "of the sums of squares", default=3),
        "ddf": _said(either(DDF, list_of(DDF)), "df methods, a table each", default=["kenward-roger"]),
    }
)

FUNCTIONS = record(
    {
        "K": _said(list_of(list_of(NUMBER)), "a row a function, a column a coefficient of `coef_names`"),
        "ddf": _said(DDF, "df method"),
        "joint": _said(FLAG, "also the F test that all of them are zero", default=False),
        "vcov": _said(FLAG, "also their covariance", default=False),
    },
    ["K"],
)
PREDICTIONS = record(
    {
        "newdata": _said(TABLE, "rows to predict, inline or a file; those of the fit by default"),
        "random": _said(either(FLAG, list_of(NAME)), "with all random terms, none, or these", default=True),
        "allow_new_levels": _said(FLAG, "levels that did not occur have an effect of zero", default=False),
        "se": _said(FLAG, "also standard errors", default=False),
        "residual": _said(FLAG, "also what correlated residuals tell of those of new rows", default=False),
        "offset": _said(
            either(NAME, list_of(NUMBER)), "of the new rows, numbers or a column, where the formula has none"
        ),
    }
)
INTERVALS = record(
    {
        "method": _said(one_of(("profile", "wald", "bootstrap")), "of the intervals", default="profile"),
        "parameters": _said(NAMES, "by name, 'theta_' for those of the variances, 'beta_' for fixed effects"),
        "level": _said(LEVEL, "of the intervals", default=0.95),
        "n": _said(whole(1), "draws of the bootstrap", default=1000),
        "seed": _said(whole(0), "of the bootstrap"),
    }
)
SIMULATION = record(
    {
        "n": _said(whole(1), "responses", default=1),
        "seed": _said(whole(0), "the same seed gives the same responses"),
        "conditional": _said(FLAG, "keep the random effects, draw the residuals only", default=False),
    }
)

READING: dict[str, Kind] = {
    "sep": _said(one_of((",", ";", "\t", "|", "tab")), "separator; found by looking otherwise"),
    "decimal": _said(one_of((".", ",")), "decimal sign; found by looking otherwise"),
    "encoding": _said(NAME, "of a text file; found by looking otherwise"),
    "na_values": _said(
        either(TEXT, NUMBER, list_of(either(TEXT, NUMBER)), table_of(list_of(either(TEXT, NUMBER)))),
        "further codes of missing values; {column: codes} names all those of a column",
    ),
    "sheet": _said(either(NAME, whole(1)), "sheet of a spreadsheet, by name or number"),
    "skip": _said(whole(0), "lines above the header"),
}
TABLES = record(
    {
        "folder": _said(NAME, "new folder for them, inside of the one where requests may write"),
        "format": _said(one_of(("parquet", "arrow", "csv")), "of the files", default="parquet"),
        "replace": _said(FLAG, "the folder may be there; files of these names are replaced", default=False),
    },
    ["folder"],
)
IDENTITY = _said(either(TEXT, whole(0)), "comes back with the answer")
REQUEST = record(
    {
        "id": IDENTITY,
        "data": TABLE,
        "formula": _said(NAME, "lme4 notation; without a (..|..) term a linear model"),
        "columns": _said(table_of(DECLARED), "types of columns; otherwise what the file says"),
        "method": _said(one_of(METHODS), "OLS for linear models only", default="REML"),
        "coding": _said(
            table_of(either(TEXT, list_of(list_of(NUMBER)))), "coding by factor, {'gen': 'contr.sum'}"
        ),
        "weights": _said(NAME, "column or expression of prior weights, Var(e_i) = sigma^2 / w_i"),
        "offset": _said(NAME, "column added to the linear predictor"),
        "keep": _said(either(FLAG, NAME), "a service keeps the fit for questions; true asks for a name"),
        "tables": _said(TABLES, "write the tables of the answer to files, which it names (docs/request.md)"),
        "vcov": _said(FLAG, "the covariance of the coefficients in `fit`", default=True),
        "head": _said(whole(0), "how many fitted values and residuals to return", default=0),
        "ranef": _said(FLAG, "ask for the conditional modes", default=False),
        "kr": _said(FLAG, "ask for the Kenward-Roger covariance and df of the coefficients", default=False),
        "satterthwaite": _said(FLAG, "ask for Satterthwaite df of the coefficients", default=False),
        "anova": _said(ANOVA, "ask for F tests of the terms"),
        "emmeans": _said(list_of(MEANS), "ask for marginal means"),
        "contrasts": _said(list_of(CONTRASTS), "ask for contrasts of marginal means, or of slopes (var)"),
        "emtrends": _said(list_of(TRENDS), "ask for marginal slopes"),
        "linear_functions": _said(list_of(FUNCTIONS), "ask for linear functions of the coefficients"),
        "predict": _said(list_of(PREDICTIONS), "ask for predictions"),
        "conf_int": _said(INTERVALS, "ask for intervals of the parameters"),
        "ranova": _said(FLAG, "ask for likelihood-ratio tests of the random terms", default=False),
        "diagnostics": _said(FLAG, "ask for residuals, leverage and influence of every row", default=False),
        "simulate": _said(SIMULATION, "ask for new responses from the fitted model"),
        "information": _said(one_of(INFORMATION), "about the variance parameters; the fit's own by default"),
        "factors": _said(list_of(NAME), "columns that are labels, as they are written"),
        **READING,
        "residual": _said(NAME, "covariance of the residuals, 'us(visit | subject)'", default="units"),
        "field_trend": _said(NAME, "trend of a field: 'ps', 'ar1', 'ps(range, bed)', 'ps | env'"),
        # relationships say their own keys, held parameters are numbers or matrices
        "relationships": _said(table_of(table_of(ANY)), "{name: {'type': 'pedigree', 'file': ..}}"),
        "fixed_parameters": _said(table_of(ANY), "variances held, {'vm(calf, A)': [[20.0]]}"),
        "factorization": _said(FACTORIZATION, "who factorizes the equations", default="auto"),
        "start": _said(table_of(ANY), "variances from which the search starts, as fixed_parameters"),
        "vpredict": _said(list_of(FUNCTION), "ask for functions of the components V1, V2, ..."),
        "heritability": _said(list_of(NAME), "ask for the heritability of the levels of these factors"),
        "genotype_values": _said(list_of(VALUES), "ask for mean + BLUP with ranks"),
        "gxe": _said(GXE_OF_FIT, "ask for stability, AMMI and GGE of genotypes in environments"),
        "marker_effects": _said(FLAG, "ask for the effects of the markers of vm(gen, M)", default=False),
        "correlations": _said(FLAG, "ask for correlations within terms and residual", default=False),
        "factor_analysis": either(_said(FLAG, "ask for the report of fa(), rr(), or that of a group"), NAME),
        "kr_linear": _said(FLAG, "ask for Kenward-Roger by expected information (pbkrtest)", default=False),
        "kr_linear_observed": _said(FLAG, "ask for it by observed information", default=False),
        "kr_full_natural": _said(FLAG, "ask for it with second derivatives (SAS DDFM=KR)", default=False),
    },
    ["data", "formula"],
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Request to fastlmm_core",
    **REQUEST,
}
# Keys of a request that make the fit and say what is in its section; the others ask.
OF_FIT = (
    "data", "formula", "columns", "method", "weights", "offset", "coding", "factors", *READING, "residual",
    "field_trend", "relationships", "fixed_parameters", "factorization", "start", "keep", "head", "vcov",
)  # fmt: skip
QUESTIONS = record(
    {
        "of": _said(NAME, "name of the kept fit that is asked"),
        "forget": _said(FLAG, "keep it no longer", default=False),
        **{key: kind for key, kind in REQUEST["properties"].items() if key not in OF_FIT},
    },
    ["of"],
)
SECOND_STAGE = record(
    {
        "formula": _said(TEXT, "of the means of `emmeans`; left of ~ any new name"),
        "weights": _said(one_of(STAGE_WEIGHTS), "what is known of the errors of the means", default="full"),
        "trait": _said(NAME, "which of several traits"),
        "spec": _said(TEXT, "which of several specifications of means"),
        **{key: kind for key, kind in REQUEST["properties"].items()
           if key in ("fixed_parameters", "head", "vcov") or key not in (*OF_FIT, "id", "tables")},
    },
    ["formula"],
)  # fmt: skip
MODEL = record({"formula": NAME, "residual": NAME, "field_trend": NAME}, ["formula"])
TRIALS = record(
    {
        "id": IDENTITY,
        "by": _said(NAMES, "columns that name a trial: this is a batch"),
        **{
            key: REQUEST["properties"][key]
            for key in (
                "data", "columns", "weights", "factors", *READING, "residual", "field_trend",
                "relationships", "fixed_parameters", "start", "information", "tables",
            )
        },
        "formula": _said(
            either(NAME, list_of(NAME), table_of(either(NAME, MODEL))),
            "lme4 notation; of several, a list or {name: formula, or {'formula': .., 'residual': .., "
            "'field_trend': ..}}, each trial gets one, and `fits` says which and why",
        ),
        "choose": _said(
            one_of(CHOICES), "of several formulas: the first that fits, or the best", default="first"
        ),
        "formula_column": _said(NAME, "column that names the formula of each trial"),
        "method": _said(one_of(("REML", "ML")), "of the fits", default="REML"),
        "traits": _said(NAMES, "responses, fitted one by one"),
        "fixed": _said(FLAG, "the table of fixed effects", default=True),
        "emmeans": _said(SPECS, "marginal means"),
        "contrasts": _said(either(TEXT, table_of(list_of(NUMBER))), "of the means: a family, or weights"),
        "ref": _said(SCALAR, "control of trt.vs.ctrl"),
        "adjust": _said(TEXT, "adjustment of the contrasts"),
        "blups": _said(either(FLAG, NAMES), "BLUPs and heritability of these"),
        "genotypes": _said(NAME, "values with ranks, heritabilities and a row for each trial"),
        "covariances": _said(FLAG, "the covariance of the means", default=False),
        "plots": _said(
            either(FLAG, NAMES), "a row for every plot: true, or columns that name the plots", default=False
        ),
        "trends": _said(FLAG, "the fitted trend at all positions of each field", default=False),
        "gxe": _said(GXE_OF_TRIALS, "stability, AMMI and GGE of the means of `genotypes` or `emmeans`"),
        "second_stage": _said(SECOND_STAGE, "a model of the means of all trials, and what is asked of it"),
        "ddf": _said(DDF, "df method"),
        "level": _said(LEVEL, "of the intervals", default=0.95),
    },
    ["data", "formula", "by"],
)  # fmt: skip
