"""Names that other programs have for what is here: the one table of them.

`ALIASES` work on a fit as they are (``fastlmm_core.results.aliases``). The rest are errors that say what to
write: `ATTRIBUTES` of results, `FUNCTIONS` of the package, `OPTIONS` of functions, `TERMS` and `COLUMNS` of
formulas (``fastlmm_core.formula.other_grammars`` writes whole terms with them).
"""

from __future__ import annotations

from collections.abc import Iterable

from fastlmm_core.errors import nearest_names

#: Attribute of a fit to (whose name it is, what it is here).
ALIASES: dict[str, tuple[str, str]] = {
    "params": ("statsmodels", "`beta` by name"),
    "fe_params": ("statsmodels", "`beta` by name"),
    "bse": ("statsmodels", "`se` by name"),
    "bse_fe": ("statsmodels", "`se` by name"),
    "tvalues": ("statsmodels", "t of `summary()`"),
    "pvalues": ("statsmodels", "p of `summary()`"),
    "cov_params": ("statsmodels", "`cov_beta` by name"),
    "resid": ("statsmodels", "`residuals`"),
    "fittedvalues": ("statsmodels", "`fitted`"),
    "llf": ("statsmodels", "`loglik`"),
    "df_resid": ("statsmodels", "`df_residual`"),
    "random_effects": ("statsmodels", "`ranef()`"),
    "tidy": ("broom.mixed", "`fixed_effects()` and `variance_components` under broom's names"),
    "glance": ("broom.mixed", "the figures of the fit in one row"),
    "augment": ("broom.mixed", "the rows of the fit with fitted values and residuals"),
}

_COMPONENTS = "fit.variance_components"
_COEFFICIENTS = "fit.fixed_effects(), or fit.params by name"
_MODES = "fit.ranef(), or fit.blups() with their errors"
_MEANS = 'fit.emmeans("a")'
_CONTRAST = 'fit.emmeans("a").contrast("pairwise")'
_FUNCTION = "fit.linear_functions(K), with .f_test()"
_ROWS = "fit.diagnostics() by row, fit.influence(\"group\") by level"
_FIGURE = "a function of fastlmm_core.plots: plot_residuals(fit), plot_blups(fit), plot_field(fit)"

#: By name of the class, attribute to what to write.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "LMMFit": {
        # lme4, lmerTest, nlme, glmmTMB
        "fixef": _COEFFICIENTS, "coef": f"{_COEFFICIENTS}; by level fit.ranef()", "VarCorr": _COMPONENTS,
        "vcov": "fit.cov_beta, or fit.cov_params() by name", "logLik": "fit.loglik", "AIC": "fit.aic",
        "BIC": "fit.bic", "REMLcrit": "fit.criterion", "isSingular": "fit.singular, fit.singular_terms",
        "is_singular": "fit.singular, fit.singular_terms", "isREML": "fit.reml",
        "getME": "fit.design (X, random) and fit.theta", "confint": "fit.conf_int()",
        "intervals": "fit.conf_int()", "ngrps": "fit.design.random, each with its levels",
        "rand": "fit.ranova()",
        "step": "compare(fit1, fit2) of the models that make sense", "update": "lmm(...) of the new formula",
        "icc": 'fit.vpredict("V1/(V1+V2)")', "cooks_distance": _ROWS, "hatvalues": _ROWS, "rstudent": _ROWS,
        "getVarCov": _COMPONENTS, "ACF": "fit.variogram()", "Variogram": "fit.variogram()",
        "bootMer": "fit.bootstrap()", "refitML": "lmm(..., reml=False)",
        "lsmeans": _MEANS, "ls_means": _MEANS, "difflsmeans": _CONTRAST, "contest": _FUNCTION,
        "KRmodcomp": f'fit.anova(ddf="kenward-roger"), or {_FUNCTION}', "vcovAdj": f"{_FUNCTION} and .cov",
        "ref_grid": _MEANS, "contrast": _CONTRAST, "pairs": _CONTRAST, "means": _MEANS,
        "glht": _CONTRAST,
        "cld": 'fit.emmeans("a").cld()', "Anova": "fit.anova(type=2)", "dropterm": "fit.drop1()",
        "rePCA": "fit.correlations(), fit.singular_terms", "model_matrix": "fit.design.X",
        "model_frame": "fit.design.frame",
        "family": "responses are Gaussian",
        # statsmodels
        "summary2": "fit.summary()", "summary_table": "fit.summary()", "t_test": _FUNCTION,
        "f_test": _FUNCTION, "wald_test": f"fit.anova(), or {_FUNCTION}", "wald_test_terms": "fit.anova()",
        "cov_re": _COMPONENTS, "vcomp": _COMPONENTS, "scale": "fit.sigma**2", "mse_resid": "fit.sigma**2",
        "random_effects_cov": "fit.blups(), columns pev and condvar", "profile_re": "fit.profile()",
        "get_prediction": "fit.predict(newdata, se=True)", "rsquared": "fit.r_squared",
        "rsquared_adj": "fit.adj_r_squared", "fvalue": "fit.f_statistic.F", "f_pvalue": "fit.f_statistic.p",
        "model": "fit.prepared, fit.formula", "loglike": "fit.loglik", "df_model": "fit.rank",
        # pyfixest
        "tstat": "fit.tvalues", "pvalue": "fit.pvalues", "etable": "fit.summary(), or compare(fit1, fit2)",
        "coefplot": _FIGURE, "iplot": _FIGURE, "plot": _FIGURE,
        # ASReml, SAS, sommer
        "varcomp": _COMPONENTS, "vparameters": f"{_COMPONENTS}, fit.theta", "covparms": _COMPONENTS,
        "coefficients": f"{_COEFFICIENTS}; {_MODES}", "wald": "fit.anova(type=1)", "lrt": "fit.ranova()",
        "nedf": "fit.df_residual", "predictPlus": f"{_MEANS}, or fit.predict(newdata)",
        "tests3": "fit.anova(type=3)", "Tests3": "fit.anova(type=3)", "solutionF": _COEFFICIENTS,
        "solutionR": _MODES, "estimate": f"{_FUNCTION}, or fit.emmeans(\"a\").contrast({{...}})",
        "lsmestimate": 'fit.emmeans("a").contrast({"label": weights})',
        "slice": 'fit.joint_tests(by="b"), or .contrast(simple="a")',
        "Beta": _COEFFICIENTS, "U": _MODES, "PevU": "fit.blups()[\"pev\"]", "VarU": _COMPONENTS,
        "pin": 'fit.vpredict("V1/(V1+V2)")', "h2": 'fit.heritability("gen")',
        # by ear
        "blup": _MODES, "blue": f"{_COEFFICIENTS}; means {_MEANS}", "n": "fit.nobs", "X": "fit.design.X",
        "Z": "fit.design.random", "data": "fit.design.frame", "coef_": "fit.beta",
        "intercept_": "fit.params[\"(Intercept)\"]", "score": "fit.r_squared of a linear model",
        "fit": "fit.refit(y) with another response", "lsd": 'fit.emmeans("a").difference_errors()',
    },
    "EstimateTable": {
        "summary": "print(table), or table.to_frame()", "summary_frame": "table.to_frame()",
        "frame": "table.to_frame()", "to_pandas": "table.to_frame()", "as_data_frame": "table.to_frame()",
        "confint": "table.lower and table.upper; another level: table.with_options(level=0.9)",
        "conf_int": "table.lower and table.upper; another level: table.with_options(level=0.9)",
        "emmean": "table.estimate", "SE": "table.se", "pvalue": "table.p", "p_value": "table.p",
        "tvalue": "table.t", "contrasts": 'table.contrast("pairwise")', "pairwise": "table.pairs()",
        "letters": "table.cld()", "CLD": "table.cld()", "sed": "table.difference_errors()",
        "lsd": "table.difference_errors()", "plot": "fastlmm_core.plots.plot_emmeans(table)",
        "update": "table.with_options(...)", "eff_size": "table.estimate over a standard deviation",
        "rbind": "all groups of a table as one family: table.with_options(by=None)",
    },
    "ContrastTable": {"regrid": "means.regrid(), and contrasts of its rows"},
    "Prepared": {
        "summary": "prepared.fit().summary()", "refit": "prepared.fit(y=response)",
        "predict": "prepared.fit().predict(newdata)",
    },
    "BatchResult": {
        "results": "result.fits, result.table(name)", "errors": "result.failures, result.fits",
        "to_frame": "result.table(name), for example result.fits",
    },
}  # fmt: skip

_LMM = 'lmm("y ~ x + (1|group)", data)'
#: Function of the package to what to write.
FUNCTIONS: dict[str, str] = {
    "lmer": _LMM, "lme": _LMM, "glmmTMB": _LMM, "mixedlm": _LMM, "MixedLM": _LMM, "Lmer": _LMM,
    "LinearMixedModel": _LMM, "fit": _LMM, "fit_model": _LMM, "mmer": _LMM, "mmes": _LMM, "asreml": _LMM,
    "glmer": f"{_LMM}: responses are Gaussian", "lm": 'lmm("y ~ x", data)', "ols": 'lmm("y ~ x", data)',
    "OLS": 'lmm("y ~ x", data)', "aov": 'lmm("y ~ x", data).anova()', "feols": 'lmm("y ~ x + f", data)',
    "gls": 'lmm("y ~ x", data, residual="ar1(t | id)")', "mmrm": 'lmm(..., residual="us(visit | subject)")',
    "emmeans": _MEANS, "lsmeans": _MEANS, "emtrends": 'fit.emtrends("a", "x")', "contrast": _CONTRAST,
    "pairs": _CONTRAST, "ranef": _MODES, "fixef": _COEFFICIENTS, "VarCorr": _COMPONENTS,
    "summary": "fit.summary()", "predict": "fit.predict(newdata)", "confint": "fit.conf_int()",
    "anova": "fit.anova(), or compare(fit1, fit2) of two fits", "ranova": "fit.ranova()",
    "bootMer": "fit.bootstrap()", "simulate": "fit.simulate(n)", "heritability": 'fit.heritability("gen")',
    "ggroups": "Pedigree(table, groups=[...])", "ggcontrib": "pedigree.group_contributions()",
    "ainverse": "Pedigree(table)", "ped": "Pedigree(table)", "GRM": "Markers(table)",
    "read_csv": "pandas.read_csv; fit_batch and `fastlmm fit` read files themselves",
    "save": "fit.save(path)", "plot": "fastlmm_core.plots", "load_dataset": "datasets.load(name)",
}  # fmt: skip

_IN_FORMULA = 'groups stand in the formula, "y ~ x + (1|group)", slopes as (x|group)'
_MODEL = {
    "groups": _IN_FORMULA, "re_formula": _IN_FORMULA, "random": _IN_FORMULA, "random_effects": _IN_FORMULA,
    "vc_formula": 'variance components are terms of the formula, "(1|a) + (1|b)"',
    "fixed": 'fixed and random part are one formula, "y ~ x + (1|group)"',
    "REML": "reml=True or reml=False", "method": "reml=True or reml=False",
    "family": "responses are Gaussian; transform in the formula, log(y) ~ x",
    "rcov": "residual=", "R": "residual=", "repeated": 'residual="us(visit | subject)"',
    "correlation": 'residual="ar1(time | subject)"', "G": "relationships={\"G\": ...} with (1 | vm(gen, G))",
    "Gu": "relationships={\"A\": ...} with (1 | vm(gen, A))",
    "relmat": "relationships={\"A\": ...} with (1 | vm(gen, A))",
    "pedigree": "relationships={\"A\": Pedigree(table)} with (1 | vm(animal, A))",
    "dispformula": 'residual="units | env"',
    "K": "relationships={\"K\": ...} with (1 | vm(gen, K))",
    "ginverse": "relationships={\"A\": ...} with (1 | vm(animal, A))",
    "dataset": "data=", "df": "data=, a table", "frame": "data=",
    "control": "lmm(..., start={...}, verbose=True)",
    "optimizer": "one search, certified by its gradient", "subset": "data.query(...)",
    "na_action": "rows with missing values are left out and counted", "vcov": "fit.anova(ddf=...)",
    "missing": "rows with missing values are left out and counted", "ddf": "fit.anova(ddf=...)",
    "by": 'fit_batch(data, formula, by="trial")', "sigma": 'fixed_parameters={"Residual": variance}',
}  # fmt: skip
_LEVEL = {"alpha": "level=0.95 (one minus alpha)", "conf_level": "level=0.95", "cl": "level=0.95"}
_DDF = {"method": "ddf=", "df": "ddf=", "lmer_df": "ddf=", "mode": "ddf=", "vcov": "ddf="}
_MEAN_OPTIONS = _LEVEL | _DDF | {
    "adjust": '.contrast("pairwise", adjust="holm")', "type": ".back_transform() of the means",
    "transform": ".back_transform() or .regrid() of the means", "infer": ".to_frame() has tests and limits",
    "factors": "specs, the first argument", "variables": "specs, the first argument",
    "contr": '.contrast("pairwise")', "pairwise": '.contrast("pairwise")',
    "contrast": '.contrast("pairwise")', "max_degree": "poly(x, 2) in the model; its coefficients are tested",
    "offset": 'at={"w": 0} of an offset(w) in the formula',
}  # fmt: skip

#: By function, option to what to write.
OPTIONS: dict[str, dict[str, str]] = {
    "lmm": _MODEL, "prepare": _MODEL,
    "fit_batch": {
        name: words for name, words in _MODEL.items() if name not in ("fixed", "by", "ddf", "dataset", "df")
    } | {
        "groupby": "by=", "group_by": "by=", "responses": "traits=", "response": "traits=",
        "data": "the first argument", "frame": "the first argument",
        "n_jobs": "workers=", "n_workers": "workers=", "client": "engine=client",
    },
    "fit": {"reml": "prepare(..., reml=False)", "REML": "prepare(..., reml=False)",
                     "response": "y=", "maxiter": "the search ends with a certificate"},
    "predict": {
        "re_form": "random=False, or random=[\"group\"]", "re_formula": "random=False, or random=[\"group\"]",
        "exog": "newdata=", "data": "newdata=", "new_data": "newdata=", "X": "newdata=",
        "allow_new": "allow_new_levels=True", "se_fit": "se=True", "se_type": "se=True",
        "interval": "se=True; estimate -+ quantile * se", "type": "predictions are of the response",
        "terms": "random=[\"group\"]; means fit.emmeans(...)",
        "classify": 'fit.emmeans("gen"), of random genotypes fit.genotype_values("gen")',
        "sed": 'fit.emmeans("gen").difference_errors() or .sed_matrix()',
    },
    "anova": _DDF | {"typ": "type=3", "ss": "type=3", "test": "ddf=", "test_statistic": "F tests"},
    "fixed_effects": _LEVEL | _DDF, "summary": _DDF | {"alpha": "fit.fixed_effects(level=0.9)"},
    "blups": _LEVEL | {"condVar": "column condvar is there", "group": "term=", "groups": "term="},
    "ranef": {"condVar": "fit.blups(), column condvar", "drop": "a frame by group"},
    "conf_int": _LEVEL | {"parm": "parameters=", "nsim": "n=", "boot_type": "type=", "cols": "parameters="},
    "influence": {"obs": "fit.diagnostics() has the rows", "groups": "group="},
    "profile": {"which": "parameters=", "alpha": "level=0.99"},
    "bootstrap": {"nsim": "n=", "FUN": "statistic=", "use_u": "fit.simulate(n, conditional=True)",
                  "parallel": "threads=", "ncpus": "threads=", "B": "n="},
    "simulate": {"nsim": "n=", "use_u": "conditional=True", "re_form": "conditional=True"},
    "emmeans": _MEAN_OPTIONS, "emtrends": _MEAN_OPTIONS, "joint_tests": _DDF,
    "contrast": _LEVEL | {"type": ".back_transform() of the contrasts",
                          "exclude": 'emmeans(..., at={"a": levels to compare})', "offset": ".test(null=...)",
                          "adjustment": "adjust=", "infer": ".to_frame() has tests and limits"},
    "test": {"joint": "table.joint_test()"},
    "cld": {"level": "alpha=0.05", "Letters": "a, b, c", "decreasing": "reverse=True"},
}  # fmt: skip

_OWN_KERNEL = "ar1, hetar1, toep or us, or a covariance K of your own, vm(x, K)"

#: Function in a formula to (place, what it is here). Places: "columns", a structure left of the bar;
#: "levels", a factor right of it; "variable", a variable of the fixed part or a slope; "smooth", a spline;
#: "product", its arguments joined by ``:``; "known", a covariance known up to a factor; "other", words.
#: ``{0}`` and ``{1}`` are the first two arguments.
TERMS: dict[str, tuple[str, str]] = {
    # ASReml; sommer and lme4breeding
    **dict.fromkeys(("corgh", "corg", "chol", "usm", "usr"), ("columns", "us")),
    **dict.fromkeys(("idh", "dsm", "dsr"), ("columns", "diag")),
    **dict.fromkeys(("corh", "coruh"), ("columns", "cs")),
    **dict.fromkeys(("cor", "corv", "coruv", "csm", "csr"), ("columns", "homcs")),
    **dict.fromkeys(("facv", "xfa"), ("columns", "fa")), "rrm": ("columns", "rr"),
    **dict.fromkeys(("id", "idv", "ide", "ism", "isc", "dev"), ("levels", "{0}")),
    **dict.fromkeys(("ped", "giv", "vm"), ("levels", "vm({0}, {1})")),
    **dict.fromkeys(("ar1", "ar1v"), ("levels", "ar1({0})")), "at": ("levels", "at({0})"),
    **dict.fromkeys(("vsm", "vsr", "vs", "vsc", "covm", "covc"), ("product", "")),
    "lin": ("variable", "{0}"), "fac": ("variable", "factor({0})"), "con": ("variable", "C({0}, contr.sum)"),
    **dict.fromkeys(("pol", "leg"), ("variable", "poly({0}, {1})")), "pow": ("variable", "I({0}^{1})"),
    **dict.fromkeys(("spl2Da", "spl2Dc", "tpsmmb", "PSANOVA", "SAP"), ("smooth", "{0}*{1} + ps({0}, {1})")),
    "spl": ("smooth", "{0} + spl({0})"), "ps": ("smooth", "{0} + ps({0})"),
    "str": ("other", "correlated terms stand left of one bar, us(1 + x | gen)"),
    **dict.fromkeys(("grp", "mbf"), ("other", "columns of a matrix are a relationship, (1 | vm(gen, M)) with "
                                              "relationships={\"M\": Markers(table)}")),
    **dict.fromkeys(("and", "overlay", "mm"), ("other", "columns overlaid stand left of a "
                                              "relationship, us(a + b | vm(A))")),
    **dict.fromkeys(("ar2", "ar3", "sar", "sar2", "ma1", "ma2", "arma", "ante", "ante1", "corb", "corgv"),
                    ("other", _OWN_KERNEL)),
    **dict.fromkeys("exp iexp aexp gau igau agau mat mtrn ieuc sph cir ou own lvr gp car sp spde".split(),
                    ("other", _OWN_KERNEL)),
    "dsum": ("other", 'residual="units | env"'),
    # glmmTMB, brms, mgcv, nlme
    "propto": ("known", "(1 | {1})"),
    "equalto": ("known", "(1 | {1}), held by fixed_parameters={{...: [[1]]}}"),
    "gr": ("levels", "vm({0}, {1})"), "s": ("smooth", "{0} + ps({0})"),
    **dict.fromkeys(("te", "ti", "t2"), ("smooth", "{0}*{1} + ps({0}, {1})")),
    **dict.fromkeys(("cbind", "mvbind"), ("other", "a row for every trait, long_table(data, traits), "
                                                  "with us(0 + trait | gen) and "
                                                  "residual=\"us(trait | unit)\"")),
    "random": ("levels", "{0}"), "ranef": ("levels", "{0}"),
    "Error": ("levels", "{0}"), "varIdent": ("other", "residual=\"units | env\" of lmm"),
    "varFixed": ("other", "weights=, one over the variance"),
}  # fmt: skip

#: Column that a formula names and the table does not have, to what it means in other programs and here.
COLUMNS: dict[str, str] = {
    "mv": "missing values need no term: rows without a response are left out, and a field is made complete",
    "mu": "the mean is there by itself; 1 is written where nothing else is fixed",
    **dict.fromkeys(("trait", "Trait"), "long_table(data, traits) makes it, one row for every trait"),
    "units": "rows stand right of a bar, (1 | units), or in residual=\"units | env\"",
}  # fmt: skip

#: Residual structures of nlme to what they are here; ``{0}`` is left of their bar and ``{1}`` right of it.
CORRELATIONS: dict[str, str] = {
    "varIdent": "units | {1}", "corAR1": "ar1({0} | {1})", "corCAR1": "ar1({0} | {1})",
    "corCompSymm": "homcs({0} | {1})", "corSymm": "us({0} | {1})",
}  # fmt: skip


def option_words(function: str, option: str) -> str:
    """What to write in place of an option that `function` does not have; empty where nothing is known."""
    return OPTIONS.get(function, {}).get(option, "")


def structure_words(name: str) -> str:
    """What a structure left of a bar is called here, as the end of a message; empty if nothing is known."""
    place, text = TERMS.get(name, ("", ""))
    if place == "columns":
        return f"; here it is '{text}'"
    return f"; here {text}" if place == "other" else ""


def call_words(name: str) -> str:
    """What to write in place of a function that formulas do not have; empty where nothing is known."""
    place, text = TERMS.get(name, ("", ""))
    return text if place == "other" else ""


def missing_function(name: str, known: Iterable[str]) -> str:
    """The message on a name that the package does not have."""
    if name in FUNCTIONS:
        return f"fastlmm_core has no '{name}'; here: {FUNCTIONS[name]}"
    return f"fastlmm_core has no '{name}'{nearest_names(name, known)}"


class UnknownNameError(AttributeError):
    """An attribute that an object does not have; what would be right is looked up when it is printed only.

    ``hasattr`` and ``getattr`` with a default ask often, and throw the answer away.
    """

    def __init__(self, owner: object, name: str):
        super().__init__(name)
        self._kind, self._name, self._known = type(owner), name, [n for n in dir(owner) if n[0] != "_"]

    def __str__(self) -> str:
        return missing_attribute(self._kind, self._name, self._known)

    def __reduce__(self) -> tuple[type[AttributeError], tuple[str]]:
        return AttributeError, (str(self),)


def missing_attribute(kind: type, name: str, known: Iterable[str]) -> str:
    """The message on an attribute that an object does not have."""
    for own in kind.__mro__:
        words = ATTRIBUTES.get(own.__name__, {}).get(name)
        if words is not None:
            return f"{kind.__name__} has no '{name}'; here: {words}"
    return f"{kind.__name__} has no '{name}'{nearest_names(name, known)}"
