"""Genotypes with slopes over a covariate of the environments: means at its values, and their variances."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import gxe, lmm


@pytest.fixture(scope="module")
def trials():
    r = np.random.default_rng(4)
    cells = [(f"g{g}", year, plot) for g in range(12) for year in (2019, 2020, 2022) for plot in range(2)]
    table = pd.DataFrame(cells, columns=["gen", "year", "plot"])
    g, x = table["gen"].str[1:].astype(int).to_numpy(), table["year"].to_numpy() - 2020.0
    u, s = r.normal(size=(2, 12))
    return table.assign(x=x, y=5 + 0.3 * x + u[g] + 0.8 * s[g] * x + 0.5 * r.normal(size=len(table)))


def test_slopes_over_a_covariate(trials):
    fit = lmm("y ~ x + (x | gen)", trials)
    found = gxe(fit, "gen", "x")
    means = found.to_frame()
    x = np.array([-1.0, 0.0, 2.0])
    for gen, row in means.iterrows():
        np.testing.assert_allclose(row, fit.predict({"gen": [gen] * 3, "x": x}), rtol=1e-10)

    component = fit.variance_components
    own = component[component["group"] == "gen"]
    T = np.zeros((2, 2))
    place = {"(Intercept)": 0, "x": 1}
    for _, row in own.iterrows():
        a, b = place[row["var1"]], place[row["var1"] if pd.isna(row["var2"]) else row["var2"]]
        T[a, b] = T[b, a] = row["estimate"]
    W = np.column_stack([np.ones(3), x])
    between = W @ T @ W.T
    main = (between.sum() - np.trace(between)) / 6.0
    shares = found.variance_shares().to_frame().set_index("component")["variance"]
    assert shares["genotype"] == pytest.approx(main)
    assert shares["interaction"] == pytest.approx(np.trace(between) / 3.0 - main)


def test_a_trend_over_years_that_are_environments_too(trials):
    fit = lmm("y ~ year + (1 | gen) + (1 | gen:year)", trials)
    means = gxe(fit, "gen", "year").to_frame()
    cells = {"gen": ["g3"] * 3, "year": [2019, 2020, 2022]}
    np.testing.assert_allclose(means.loc["g3"], fit.predict(cells), rtol=1e-10)
