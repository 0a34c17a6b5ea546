"""What lies within the fixed part is a space of coefficients, found by one rule for both engines."""

import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as fl
from fastlmm_core.design.matrices import Design
from fastlmm_core.errors import ConfoundedWarning, FastLMMError, InferenceError

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.FastLMMWarning")


def trials(seed):
    """Genotypes in replications of blocks, some plots lost, with covariates of plots and of blocks."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"rep": np.repeat(list("abc"), 12), "block": np.tile(np.repeat(list("ABC"), 4), 3)})
    data["blk"] = data["rep"] + data["block"]
    data["gen"] = [f"g{i}" for i in rng.permutation(36) % 9]
    data["name"] = "n" + data["gen"]
    data["x"], data["z"] = rng.normal(size=(2, 36))
    data["zb"] = data["blk"].map(dict(zip(sorted(set(data["blk"])), rng.normal(size=9), strict=True)))
    data["y"] = rng.normal(size=36) + rng.normal(size=9)[data["gen"].str[1:].astype(int)]
    return data.drop(index=rng.choice(36, 6, replace=False)).reset_index(drop=True)


def confounded_words(fit):
    return sorted(str(w) for w in fit.warnings if w.flag == "confounded")


def errors_and_df(fit, ddf):
    try:
        table = fit.fixed_effects(ddf=ddf)
    except InferenceError as error:
        return str(error)
    return table[["se", "df"]].to_numpy(float)


FIXED = ("1", "rep", "gen", "blk", "rep + gen", "gen:x", "blk + blk:x", "rep * gen")
RANDOM = (
    "(1 | gen)", "(1 | name)", "(1 | blk)", "(1 + x | gen)", "(x | rep)", "(zb | rep)", "(1 + zb | blk)",
    "(0 + z + x | gen)", "(0 + x + z | gen)", "(0 + rep | gen)", "diag(1 + x | blk)",
)  # fmt: skip


@pytest.mark.parametrize("fixed", FIXED)
def test_both_engines_say_the_same(fixed, monkeypatch):
    """The same words and refusals, and where there are figures the same, but for what is at a boundary."""
    told = set()
    for seed, term in enumerate(RANDOM):
        formula = f"y ~ {fixed} + {term} + {RANDOM[(3 * seed + 2) % len(RANDOM)]}"
        fits = []
        for plain in (True, False):
            with monkeypatch.context() as patched:
                if not plain:
                    patched.setattr(Design, "is_plain", False)
                try:
                    fits.append(fl.lmm(formula, trials(seed)))
                except FastLMMError as error:
                    fits.append(str(error))
        if isinstance(fits[0], str) or isinstance(fits[1], str):
            assert fits[0] == fits[1]
            continue
        one, other = fits
        if not (one.converged and other.converged):
            continue
        assert confounded_words(one) == confounded_words(other), formula
        assert one.npar == other.npar
        own, others = (errors_and_df(fit, "satterthwaite") for fit in fits)
        assert isinstance(own, str) == isinstance(others, str)
        if isinstance(own, str):
            assert own == others
        elif not one.singular and one.sigma > 1e-4:  # where it ends beside zero is rounding
            np.testing.assert_allclose(own, others, rtol=2e-3)
        told.add(bool(confounded_words(one)))
    assert True in told


@pytest.mark.parametrize("residual", ["units", "units | half"])
@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
def test_slopes_beside_fixed_levels_are_those_of_slopes_alone(residual, ddf):
    """gen takes the intercepts: the restricted likelihood is that of (0 + x | gen)."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"gen": [f"g{i}" for i in np.repeat(range(8), 8)], "half": list("ab") * 32})
    data["x"] = rng.normal(size=64)
    data["y"] = rng.normal(size=64) + np.repeat(rng.normal(size=8), 8) * data["x"]
    both, alone = (fl.lmm(f"y ~ gen + x + ({c} + x | gen)", data, residual=residual) for c in (1, 0))
    assert any("'(Intercept)' in '(1 + x | gen)' lie" in own for own in confounded_words(both))
    assert both.criterion == pytest.approx(alone.criterion, abs=1e-6) and both.npar == alone.npar
    own, other = (fit.fixed_effects(ddf=ddf).set_index("term") for fit in (both, alone))
    np.testing.assert_allclose(own.loc["x", ["se", "df"]].astype(float),
                               other.loc["x", ["se", "df"]].astype(float), rtol=1e-4)  # fmt: skip
    assert own["se"].drop("x").isna().all()
    known = both.variance_components.dropna(subset="se")
    assert list(known["var1"].fillna("")) == ["x", *known["var1"].fillna("")[1:]]
    assert known["se"].iloc[0] == pytest.approx(alone.variance_components["se"].iloc[0], rel=1e-3)


@pytest.mark.parametrize("ddf", ["kenward-roger", "satterthwaite"])
@pytest.mark.parametrize("structure", ["us", "cs"])
def test_genotypes_fixed_leave_only_the_variance_of_differences(structure, ddf):
    """Two environments: the restricted likelihood is that of one effect, of half their difference."""
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"gen": [f"g{i}" for i in np.repeat(range(10), 6)], "env": list("ab") * 30})
    data["half"] = np.where(data["env"] == "a", -0.5, 0.5)
    data["y"] = rng.normal(size=60) + np.repeat(rng.normal(size=10), 6) * data["half"] * 3.0
    with pytest.warns(ConfoundedWarning, match="a combination of the effects of 'enva', 'envb'"):
        fit = fl.lmm(f"y ~ env + gen + {structure}(0 + env | gen)", data)
    alone = fl.lmm("y ~ env + gen + (0 + half | gen)", data)
    assert fit.criterion == pytest.approx(alone.criterion, abs=1e-6)
    own, other = (f.fixed_effects(ddf=ddf).set_index("term") for f in (fit, alone))
    np.testing.assert_allclose(own.loc["envb", ["se", "df"]].astype(float),
                               other.loc["envb", ["se", "df"]].astype(float), rtol=1e-4)  # fmt: skip
    assert own["se"].drop("envb").isna().all()
    assert fit.variance_components["se"].iloc[:-1].isna().all()


def test_a_flat_direction_that_bends_down_is_looked_at():
    """A rest of the gradient leaves a curvature of -2e-6, which is none."""
    data = pd.DataFrame({"rep": np.repeat(list("ab"), 16), "gen": [f"g{i % 8}" for i in range(32)]})
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data["zb"] = rng.normal(size=8)[np.arange(32) // 4]
        data["y"] = rng.normal(size=32)
        fit = fl.lmm("y ~ rep * gen + (zb | rep)", data)
        assert any("lie" in own and "'(Intercept)' in '(zb | rep)'" in own for own in confounded_words(fit))
        row = fl.fit_batch(data.assign(trial=1), "y ~ rep * gen + (zb | rep)", by="trial").fits.iloc[0]
        assert all(own in row["message"] for own in confounded_words(fit))


@pytest.mark.parametrize("residual", ["units", "units | rep"])
def test_one_factor_by_two_names_is_told(residual):
    data = trials(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfoundedWarning)
        fl.lmm("y ~ rep + (1 | gen)", data, residual=residual)
    with pytest.warns(ConfoundedWarning, match=r"only a combination of .*'\(1 \| gen\)', '\(1 \| name\)'"):
        fl.lmm("y ~ rep + (1 | gen) + (1 | name)", data, residual=residual)
