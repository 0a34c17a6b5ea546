"""Wald intervals of covariance structures: one model written in two ways, and correlations at their bound.

Of two coefficients `homcs`, `ar1` and `homtoep` are one model, and so are `cs`, `hetar1` and `toep`; `rr`
with as many factors as coefficients is `us`.  The interval of a variance is that of its logarithm with the
standard error of the table of components, by the delta method.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from fastlmm_core import lmm


def table(seed, m=3, slope=0.0, levels=14, copies=3):
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.full((m, m), 0.5) + np.diag(np.linspace(0.3, 1.1, m)))
    g, e, _ = (index.ravel() for index in np.indices((levels, m, copies)))
    y = (rng.normal(size=(levels, m)) @ root.T)[g, e] + rng.normal(size=g.size)
    x = rng.normal(size=g.size)
    y += slope * rng.normal(size=levels)[g] * x
    return pd.DataFrame({"g": g, "e": "e" + pd.Series(e).astype(str), "x": x, "y": y})


def limits(fit, kinds):
    found = fit.conf_int("wald", parameters="theta_")
    return found[found["kind"].isin(kinds)][["lower", "upper"]].to_numpy(float)


@pytest.mark.parametrize("structures", [("homcs", "ar1", "homtoep"), ("cs", "hetar1", "toep")])
def test_structures_that_are_one_of_two_coefficients(structures):
    data = table(1, m=2)
    first, *others = (lmm(f"y ~ e + x + {name}(0 + e | g)", data) for name in structures)
    assert not first.singular
    for other in others:
        kinds = ["variance", "sigma"]
        np.testing.assert_allclose(limits(other, kinds), limits(first, kinds), rtol=1e-5)


@pytest.mark.parametrize("seed", [2, 3])
def test_full_rank_is_unstructured(seed):
    data = table(seed, slope=0.8)
    us, rr = (lmm(f"y ~ e + x + {term}", data) for term in ("us(1 + x | g)", "rr(1 + x | g, d=2)"))
    assert not us.singular
    np.testing.assert_allclose(limits(rr, ["sd", "sigma"]), limits(us, ["sd", "sigma"]), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:singular fit")
@pytest.mark.parametrize("structure", ["cs", "toep", "hetar1"])
@pytest.mark.parametrize("seed", range(4))
def test_intervals_of_variances_go_with_their_standard_errors(structure, seed):
    fit = lmm(f"y ~ e + x + {structure}(0 + e | g)", table(seed))
    components = fit.variance_components
    own = components[(components["group"] == "g") & components["var2"].isna()]
    reach = norm.ppf(0.975) * own["se"] / own["estimate"]
    expected = own["estimate"].to_numpy()[:, None] * np.exp(np.outer(reach, [-1.0, 1.0]))
    np.testing.assert_allclose(limits(fit, ["variance"]), expected, rtol=1e-5)


def alternating(seed):
    """Rows of a field, neighbours of opposite signs, with noise on every plot."""
    rng = np.random.default_rng(seed)
    row, col = (index.ravel() for index in np.indices((12, 8)))
    y = rng.normal(size=12)[row] * (-1.0) ** col + 0.7 * rng.normal(size=row.size)
    names = "r" + pd.Series(row).astype(str)
    return pd.DataFrame({"row": names, "col": col, "x": rng.normal(size=row.size), "y": y})


@pytest.mark.parametrize("seed", [0, 6, 11])
@pytest.mark.filterwarnings("ignore:singular fit")
def test_an_autocorrelation_of_levels_at_its_bound_is_known(seed):
    """The figures of the others are those by dense formulas with rho = -1; no order of rows changes them."""
    data = alternating(seed)
    fits = [lmm("y ~ x + (1 | row:ar1(col))", data.sample(frac=1, random_state=k)) for k in range(4)]
    assert all(fit.singular for fit in fits)
    variance, units = fits[0].variance_components["estimate"]
    row, col, y = (data[name].to_numpy() for name in ("row", "col", "y"))
    X = np.column_stack([np.ones(y.size), data["x"]])
    slopes = [np.equal.outer(row, row) * (-1.0) ** np.abs(np.subtract.outer(col, col)), np.eye(y.size)]
    inverse = np.linalg.inv(variance * slopes[0] + units * slopes[1])
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    average = [[0.5 * y @ P @ a @ P @ b @ P @ y for b in slopes] for a in slopes]
    expected = [[0.5 * np.trace(P @ a @ P @ b) for b in slopes] for a in slopes]
    for fit in fits:
        np.testing.assert_allclose(
            fit.variance_components["se"], np.sqrt(np.diag(np.linalg.inv(average))), rtol=1e-4
        )
        for kind, information in [("average", average), ("expected", expected)]:
            se = fit.vpredict("V1", information=kind).se
            np.testing.assert_allclose(se, np.sqrt(np.linalg.inv(information)[0, 0]), rtol=1e-4)
            df = fit.fixed_effects(information=kind)["df"]
            np.testing.assert_allclose(df, fits[0].fixed_effects(information=kind)["df"], rtol=1e-5)
        assert np.isnan(limits(fit, ["correlation"])).all()
        np.testing.assert_allclose(limits(fit, ["sd", "sigma"]), limits(fits[0], ["sd", "sigma"]), rtol=1e-4)
