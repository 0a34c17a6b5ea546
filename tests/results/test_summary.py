"""The summary says what lme4's and lm's say; figures come from a hand-made stand-in for a fit."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import datasets, lmm
from fastlmm_core.design import Variable
from fastlmm_core.errors import OptionError
from fastlmm_core.results.summary import random_table, residual_table, summarize


def stand_in(**changes):
    """A slope model's figures, as an object with the attributes of a fit."""
    term = SimpleNamespace(
        group="Subject", columns=("(Intercept)", "Days"), structure="us", levels=np.array(["S1", "S2", "S3"]),
        is_spline=False,
    )
    components = pd.DataFrame(
        [
            ("Subject", "(Intercept)", None, 612.09, 24.7405),
            ("Subject", "Days", None, 35.0717, 5.9221),
            ("Subject", "(Intercept)", "Days", 9.6043, 0.0656),
            ("Residual", None, None, 654.94, 25.5918),
        ],
        columns=["group", "var1", "var2", "estimate", "sd_or_cor"],
    )

    def fixed_effects(ddf="kenward-roger", information=None, level=0.95):
        return pd.DataFrame(
            {
                "term": ["(Intercept)", "Days", "gone"],
                "estimate": [251.4051, 10.46729, np.nan],
                "se": [6.8246, 1.5458, np.nan],
                "df": [17.0, 17.0, np.nan],
                "t": [36.838, 6.771, np.nan],
                "p": [1e-17, 3.26e-6, np.nan],
            }
        )

    values = {
        "method": "REML",
        "structured": False,
        "formula": "Reaction ~ Days + (Days | Subject)",
        "criterion": 1743.6283,
        "aic": 1.0,
        "bic": 2.0,
        "loglik": 3.0,
        "sigma": 25.5918,
        "residuals_pearson": 25.5918 * np.array([-4.0, -1.0, 0.0, 1.0, 5.0]),
        "nobs": 180,
        "weights": None,
        "variance_components": components,
        "design": SimpleNamespace(random=(term,), variables={"Days": Variable("Days", "numeric", None, 4.5)}),
        "fixed_effects": fixed_effects,
        "n_dropped": 0,
        "dropped_columns": (),
        "singular": False,
        "singular_terms": (),
        "converged": True,
        "convergence": SimpleNamespace(message="gradient certified"),
    }
    return SimpleNamespace(**{**values, **changes})


def test_mixed_summary_reads_like_lme4s():
    text = str(summarize(stand_in()))
    lines = text.splitlines()
    assert lines[:2] == ["Linear mixed model fit by REML", "Formula: Reaction ~ Days + (Days | Subject)"]
    assert "REML criterion at convergence: 1743.6" in lines
    assert "Number of obs: 180, groups: Subject, 3, covariate: Days" in lines
    order = [
        "criterion",
        "Scaled residuals",
        "Random effects",
        "Number of obs",
        "Fixed effects (Satterthwaite df)",
    ]
    assert [text.index(word) for word in order] == sorted(text.index(word) for word in order)
    assert "gone" not in text and "None" not in text and "nan" not in text


def test_random_effects_are_placed_as_in_lme4():
    frame = random_table(stand_in()).to_frame()
    assert frame["Groups"].tolist() == ["Subject", "", "Residual"]
    assert frame["Variance"].tolist() == pytest.approx([612.09, 35.0717, 25.5918**2])
    assert frame["Std.Dev."].tolist() == pytest.approx([24.7405, 5.9221, 25.5918])
    assert frame["Corr"].tolist()[1] == 0.0656 and frame["Corr"].isna().tolist() == [True, False, True]


def test_scaled_residuals_are_pearson_over_sigma():
    row = residual_table(stand_in()).to_frame().iloc[0]
    assert row.tolist() == pytest.approx([-4, -1, 0, 1, 5])
    assert residual_table(stand_in(sigma=0.0)).to_frame().notna().all().all()


def test_notes_say_what_a_reader_must_know():
    fit = stand_in(
        n_dropped=2,
        dropped_columns=("VMarvellous:NN0.4cwt",),
        singular=True,
        weights=np.ones(5),
        converged=False,
        singular_terms=("the variance of Subject is zero",),
        convergence=SimpleNamespace(message="50 steps"),
    )
    text = str(summarize(fit))
    for words in (
        "2 rows with missing values dropped.",
        "1 column dropped: VMarvellous:NN0.4cwt.",
        "Var(e_i) = sigma² / w_i",
        "Singular fit: the variance of Subject is zero.",
        "NOT CONVERGED: 50 steps",
    ):
        assert words in text
    assert "missing" not in str(summarize(stand_in()))


def test_linear_summary_reads_like_lms():
    fit = stand_in(
        method="OLS",
        design=SimpleNamespace(random=(), variables={}),
        df_residual=27,
        sigma=4.46475,
        r_squared=0.65407,
        adj_r_squared=0.34657,
        f_statistic=SimpleNamespace(F=2.1278, df1=24, df2=27, p=0.029764),
        residuals_pearson=np.array([-8.0, -1.0, 0.0, 1.0, 7.5]),
    )
    text = str(summarize(fit))
    assert "Residual standard error: 4.465 on 27 degrees of freedom" in text
    assert "R²: 0.6541, adjusted R²: 0.3466" in text
    assert "F-statistic: 2.128 on 24 and 27 df, p-value: 0.02976" in text
    assert summarize(fit).residual_quantiles.iloc[0, 0] == -8.0  # not scaled
    assert summarize(fit).random_effects is None


def test_html_has_every_table_and_no_ids():
    page = summarize(stand_in())._repr_html_()
    assert page.count("<table>") == 3 and " id=" not in page and "Subject, 3" in page


def test_unknown_df_method_is_named():
    with pytest.raises(OptionError, match="ddf='kr' is not known; allowed: 'kenward-roger'"):
        summarize(stand_in(), ddf="kr")


def test_numbers_that_enter_as_covariates_are_named():
    """Replicates by number are one coefficient unless the formula says otherwise."""
    oats = datasets.load("oats")
    oats = oats.assign(rep=oats["B"].astype("category").cat.codes + 1)

    def said(formula):
        lines = str(lmm(formula, oats).summary()).splitlines()
        return next(line for line in lines if line.startswith("Number of obs"))

    assert said("Y ~ N + rep + (1|B:V)").endswith("groups: B:V, 18, covariate: rep")
    assert said("Y ~ N + factor(rep) + (1|B:V)").endswith("groups: B:V, 18")
    assert said("Y ~ N + cut(rep, 3) + (1|B:V)").endswith("groups: B:V, 18")
