"""Traits in units far apart: kilograms a hectare beside a share; only the units of figures change."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm, long_table
from fastlmm_core.errors import FastLMMWarning

TRAITS = ("yield", "height", "share")
UNITS = {"yield": 1000.0, "height": 1.0, "share": 0.002}


def plots(rank, seed=5):
    """24 lines in three blocks, some values lost; the lines' effects of three traits have this rank."""
    rng = np.random.default_rng(seed)
    lines = rng.normal(size=(24, rank)) @ np.array([[1.0, 0.7, 0.3], [0.0, 0.7, 0.5], [0.0, 0.0, 0.8]])[:rank]
    gen, block = np.divmod(np.arange(72), 3)
    values = lines[gen] + rng.normal(size=(72, 3)) + 0.5 * rng.normal(size=(72, 1))
    table = pd.DataFrame(values, columns=TRAITS)
    table["gen"], table["block"] = np.char.add("G", gen.astype(str)), np.array(list("abc"))[block]
    for trait, lost in zip(TRAITS, ([5, 40], [11], [3, 17, 60]), strict=True):
        table.loc[lost, trait] = np.nan
    return table


def fitted(table, residual, term="us"):
    long = long_table(table, list(TRAITS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)
        return lmm(f"value ~ 0 + trait + trait:block + {term}(0 + trait | gen)", long,
                   residual=f"{residual}(trait | unit)")  # fmt: skip


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("residual", ["us", "diag", "cs", "hetar1", "toep"])
def test_errors_and_degrees_of_freedom(residual, rank):
    """Kenward and Roger's adjustment of the smallest trait too, whose parameters have variances of 1e-24."""
    table = plots(rank)
    scaled = table.assign(**{trait: unit * table[trait] for trait, unit in UNITS.items()})
    own, other = fitted(table, residual), fitted(scaled, residual)
    terms = own.fixed_effects("asymptotic")["term"]
    units = np.array([next(UNITS[t] for t in TRAITS if f"trait{t}" in term) for term in terms])
    for ddf in ("kenward-roger", "satterthwaite"):
        for information in ("expected", "observed", "average"):
            a, b = (fit.fixed_effects(ddf, information) for fit in (own, other))
            np.testing.assert_allclose(b["se"] / units, a["se"], rtol=1e-6)
            np.testing.assert_allclose(b["df"], a["df"], rtol=1e-4)
    assert own.singular == other.singular


def test_the_adjustment_is_that_of_a_trait_alone():
    """Traits that share nothing: each has the errors and df of its own model, in any units of the other."""
    table = plots(3).drop(columns="height").dropna().assign(**{"yield": lambda t: 5e4 * t["yield"]})
    long = long_table(table, ["yield", "share"])
    formula, by_trait = "value ~ 0 + trait + trait:block + diag(0 + trait | gen)", "diag(trait | unit)"
    both = lmm(formula, long, residual=by_trait).emmeans("block | trait").to_frame()
    for trait in ("yield", "share"):
        alone = lmm(f"{trait} ~ block + (1 | gen)", table).emmeans("block")
        found = both[both["trait"] == trait]
        np.testing.assert_allclose(found[["se", "df"]], alone.to_frame()[["se", "df"]], rtol=1e-5)


@pytest.mark.parametrize("seed", [1, 2, 9])
def test_errors_of_a_lower_rank_are_those_of_the_model_of_that_rank(seed):
    """A pivot that is zero is known; rounding of it, other in each order of the rows, moved the errors."""
    table = plots(2, seed)
    whole, reduced = fitted(table, "us"), fitted(table, "us", "rr")
    assert any("has rank 2 of 3" in str(warning) for warning in whole.warnings)
    assert whole.criterion == pytest.approx(reduced.criterion, abs=1e-8)
    others = [fitted(table.sample(frac=1.0, random_state=order), "us") for order in range(4)]
    for information in ("average", "expected", "observed"):
        own = reduced.correlations(information=information).frame
        for fit in (whole, *others):
            found = fit.correlations(information=information).frame
            np.testing.assert_allclose(found["estimate"], own["estimate"], atol=1e-5)
            np.testing.assert_allclose(found["se"], own["se"], rtol=1e-3)
    for fit in others:
        np.testing.assert_allclose(fit.variance_components["se"], whole.variance_components["se"], rtol=1e-4)


def deviance_beside_units(fit, units):
    """Criterion less what the units of the traits put into it."""
    terms = fit.fixed_effects("asymptotic")["term"]
    of_terms = sum(np.log(next(units[t] for t in TRAITS if f"trait{t}" in term)) for term in terms)
    return fit.criterion - 2.0 * (np.log(fit.design.frame["trait"].map(units).astype(float)).sum() - of_terms)


@pytest.mark.parametrize("term", ["rr", "cs"])
def test_the_deviance_of_traits_of_sizes_far_apart(term):
    """Columns beside the loadings of rr had a size of the largest trait, which the smallest one saw."""
    units = dict(zip(TRAITS, (1e3, 1.0, 1e-3), strict=True))
    table = plots(3)
    scaled = table.assign(**{trait: unit * table[trait] for trait, unit in units.items()})
    own, other = fitted(table, "us", term), fitted(scaled, "us", term)
    assert own.converged and other.converged
    assert deviance_beside_units(other, units) == pytest.approx(own.criterion, abs=1e-8)


def test_sizes_beyond_what_a_search_can_move_are_said():
    """Another start, which had no deviance, ended in an internal error."""
    table = plots(3)
    fit = fitted(table.assign(**{"yield": 1e4 * table["yield"], "share": 1e-4 * table["share"]}), "us", "cs")
    assert not fit.converged
    told = next(str(warning) for warning in fit.warnings if warning.flag == "not-converged")
    assert "times as much for traityield as for traitshare in 'cs(0 + trait | gen)': take units" in told
