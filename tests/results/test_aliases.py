"""Names of other programs: some are there, the others say what to write."""

import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fastlmm_core
from fastlmm_core import datasets, fit_batch, lmm, other_names, plots, prepare
from fastlmm_core.api import Prepared
from fastlmm_core.batch import BatchResult
from fastlmm_core.errors import OptionError
from fastlmm_core.formula.parsing import parse_formula
from fastlmm_core.means.estimate_tables import ContrastTable
from fastlmm_core.means.mean_tables import EmmeansTable
from fastlmm_core.results.aliases import Aliases
from fastlmm_core.results.fit import LMMFit

CLASSES = {"LMMFit": LMMFit, "EstimateTable": EmmeansTable, "ContrastTable": ContrastTable,
           "Prepared": Prepared, "BatchResult": BatchResult}


@pytest.fixture(scope="module")
def fit():
    return lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def linear():
    return lmm("Y ~ V*N + B", datasets.load("oats"))


def test_the_declared_names_are_those_that_work(fit):
    own = {name for name in vars(Aliases) if not name.startswith("_")}
    assert own == set(other_names.ALIASES)
    assert own <= set(dir(fit))


def test_coefficients_as_statsmodels_calls_them(fit, linear):
    for own, df in ((fit, None), (linear, linear.df_residual)):
        np.testing.assert_array_equal(own.params, own.beta)
        np.testing.assert_allclose(own.bse**2, np.diag(own.cov_params()), rtol=1e-10)
        np.testing.assert_allclose(own.tvalues, own.params / own.bse, rtol=1e-12)
        df = own.fixed_effects(ddf="satterthwaite")["df"].to_numpy() if df is None else df
        np.testing.assert_allclose(own.pvalues, 2 * stats.t.sf(np.abs(own.tvalues), df), rtol=1e-8)
        assert list(own.params.index) == list(own.coef_names) == list(own.cov_params().columns)
    assert fit.llf == fit.loglik and fit.df_resid == 178
    np.testing.assert_allclose(fit.resid + fit.fittedvalues, fit.response, rtol=1e-14)
    assert fit.random_effects["Subject"].equals(fit.ranef()["Subject"])


def test_dropped_columns_have_no_figures():
    with pytest.warns(fastlmm_core.errors.RankDeficientWarning):
        own = lmm("Y ~ B + V:B + V", datasets.load("oats").query("not (B == 'I' and V == 'Victory')"))
    lost = list(own.dropped_columns)
    assert lost and own.params[lost].isna().all() and own.cov_params().loc[lost].isna().all().all()
    assert own.pvalues.drop(lost).notna().all()


def test_tidy_as_broom_mixed_prints_sleepstudy(fit):
    """Standard deviations and correlation of lme4's vignette (Bates et al. 2015, page 17) to their digits."""
    own = fit.tidy().set_index("term")["estimate"]
    wanted = {"sd__(Intercept)": 24.740, "sd__Days": 5.922, "cor__(Intercept).Days": 0.07,
              "sd__Observation": 25.592, "(Intercept)": 251.405, "Days": 10.467}  # fmt: skip
    for name, value in wanted.items():
        assert own[name] == pytest.approx(value, abs=6e-3 if name.startswith("cor") else 6e-4)
    limits = fit.tidy("fixed", conf_int=True, conf_level=0.9)
    assert set(limits.columns) >= {"std.error", "statistic", "p.value", "conf.low", "conf.high"}
    ours = fit.fixed_effects(ddf="satterthwaite", level=0.9)
    np.testing.assert_array_equal(limits["conf.low"], ours["lower"])
    modes = fit.tidy("ran_vals", conf_int=True)
    assert len(modes) == 36
    width = modes["conf.high"] - modes["conf.low"]
    np.testing.assert_allclose(width, 2 * stats.norm.ppf(0.975) * np.sqrt(fit.blups()["condvar"]))
    with pytest.raises(OptionError, match="effects='random' is not known; allowed: 'ran_pars'"):
        fit.tidy("random")


def test_glance_by_method(fit, linear):
    assert fit.glance().iloc[0].to_dict() == {
        "nobs": 180, "sigma": fit.sigma, "logLik": fit.loglik, "AIC": fit.aic, "BIC": fit.bic,
        "REMLcrit": fit.criterion, "df.residual": 174,
    }  # fmt: skip
    ml = lmm("Reaction ~ Days + (Days|Subject)", datasets.load("sleepstudy"), reml=False)
    assert ml.glance()["deviance"].iloc[0] == ml.criterion
    assert linear.glance()["df.residual"].iloc[0] == linear.df_residual and "r.squared" in linear.glance()


def test_augment_has_the_rows_that_were_used(fit):
    table = datasets.load("sleepstudy")
    own = fit.augment()
    np.testing.assert_allclose(own[".fitted"] + own[".resid"], table["Reaction"], rtol=1e-12)
    np.testing.assert_allclose(own[".fixed"], fit.predict(random=False), rtol=1e-12)
    holes = table.copy()
    holes.loc[3, "Reaction"] = np.nan
    part = lmm("Reaction ~ Days + offset(Days) + (Days|Subject)", holes)
    assert len(part.augment()) == 179 and 3 not in part.augment().index
    np.testing.assert_allclose(part.augment()[".fixed"], part.predict(random=False), rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(other_names.ATTRIBUTES))
def test_names_that_are_not_there_say_what_to_write(kind):
    for name, words in other_names.ATTRIBUTES[kind].items():
        assert not hasattr(CLASSES[kind], name), f"{kind} has {name}"
        for own in re.findall(r"\bfit\.(\w+)", words):
            assert own in dir(LMMFit) or own in ("design", "prepared", "reml"), f"{name}: fit.{own}"
        for own in re.findall(r"\btable\.(\w+)", words) if kind == "EstimateTable" else ():
            assert own in dir(EmmeansTable) or own in EmmeansTable.__dataclass_fields__, f"{name}: {own}"
        for own in re.findall(r"plots\.(\w+)", words):
            assert own in plots.__all__


def test_options_that_are_not_there_say_what_to_write():
    doors = {"lmm": lmm, "prepare": prepare, "fit_batch": fit_batch, "fit": Prepared.fit}
    for function, options in other_names.OPTIONS.items():
        door = doors.get(function) or getattr(LMMFit, function, None) or getattr(EmmeansTable, function)
        known = inspect.signature(door).parameters
        for option, words in options.items():
            assert option not in known, f"{function}({option}=)"
            named = re.match(r"(\w+)=(?!=)", words)
            takes = set(known) | ({"n", "type"} if function == "conf_int" else set())
            assert named is None or named[1] in takes, f"{function}({option}=): {words}"


def test_functions_of_other_packages_say_what_to_write():
    assert not set(other_names.FUNCTIONS) & set(fastlmm_core.__all__)
    with pytest.raises(AttributeError, match=r"no 'lmer'; here: lmm\(\"y ~ x \+ \(1\|group\)\", data\)"):
        fastlmm_core.lmer  # noqa: B018
    with pytest.raises(AttributeError, match="no 'prepair'; nearest: 'prepare'"):
        fastlmm_core.prepair  # noqa: B018


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda fit: fit.VarCorr, AttributeError, r"LMMFit has no 'VarCorr'; here: fit\.variance_components"),
        (lambda fit: fit.emmean, AttributeError, "LMMFit has no 'emmean'; nearest: 'emmeans'"),
        (lambda fit: fit.emmeans("Days").SE, AttributeError, r"EmmeansTable has no 'SE'; here: table\.se"),
        (lambda fit: fit.prepared.summary, AttributeError, "Prepared has no 'summary'; here: prepared.fit"),
        (
            lambda fit: lmm("y ~ x", {"y": [1.0]}, groups="g"),
            OptionError,
            "'groups'; here: groups st",
        ),
        (lambda fit: lmm("y ~ x", {"y": [1.0]}, REML=True), OptionError, "no option 'REML'; here: reml=True"),
        (lambda fit: fit.conf_int(alpha=0.1), OptionError, "no option 'alpha'; here: level=0.95"),
        (lambda fit: fit.predict(re_form=None), OptionError, "no option 're_form'; here: random=False"),
        (lambda fit: fit.predict(classify="gen"), OptionError, "no option 'classify'; here: fit.emmeans"),
        (lambda fit: fit.anova(typ=2), OptionError, "no option 'typ'; here: type=3"),
        (lambda fit: fit.emmeans("Days", adjust="holm"), OptionError, r"here: \.contrast\(\"pairwise\", adj"),
    ],
)
def test_messages(fit, call, error, message):
    with pytest.raises(error, match=message):
        call(fit)


def test_probes_of_python_and_of_notebooks_get_a_plain_answer(fit):
    assert not hasattr(fit, "__array__") and not hasattr(fit, "_ipython_display_")
    assert not hasattr(pd.Series([fit]).iloc[0], "values_")


def test_a_property_that_fails_says_its_own_error(fit, monkeypatch):
    def broken(self):
        raise AttributeError("the cause")

    monkeypatch.setattr(Aliases, "llf", property(broken))
    with pytest.raises(AttributeError, match="the cause"):
        fit.llf  # noqa: B018


def test_the_page_for_those_who_come_from_elsewhere_names_what_is_there():
    path = Path(__file__).parents[2] / "docs" / "coming_from.md"
    page = path.read_text(encoding="utf-8").replace("\\|", "|")
    for formula in re.findall(r'lmm\("([^".]+)"', page):
        parse_formula(formula)
    for own in set(re.findall(r"\bfit\.(\w+)", page)) - {"coef"}:  # pyfixest's
        assert own in dir(LMMFit) or own == "design", own


def test_the_error_travels_between_processes(fit):
    with pytest.raises(AttributeError) as caught:
        fit.VarCorr  # noqa: B018
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is AttributeError and str(again) == str(caught.value)
