"""Inference within many subjects: sums over patterns of visits stand for the rows, however many there are."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import lmm

SUBJECTS, VISITS = 1200, 5


@pytest.fixture(scope="module")
def trial():
    """Two arms of 6,000 rows, complete."""
    rng = np.random.default_rng(8)
    root = np.tril(rng.normal(size=(VISITS, VISITS))) + 2.0 * np.eye(VISITS)
    y = rng.normal(size=(SUBJECTS, VISITS)) @ root.T
    arm = np.arange(SUBJECTS) % 2
    return pd.DataFrame({
        "subject": np.repeat([f"s{s}" for s in range(SUBJECTS)], VISITS),
        "visit": np.tile([f"v{v}" for v in range(VISITS)], SUBJECTS),
        "arm": np.repeat(np.array(["a", "b"])[arm], VISITS), "y": y.ravel(),
    })  # fmt: skip


def test_complete_unstructured_data_have_the_df_of_hotelling(trial):
    """The covariance of the visits is a Wishart matrix on subjects less arms df, and so its variances."""
    fit = lmm("y ~ 0 + arm:visit", trial, residual="us(visit | subject)")
    table = fit.fixed_effects("kenward-roger", "expected")
    np.testing.assert_allclose(table["df"], SUBJECTS - 2, rtol=1e-6)
    wide = trial.pivot(index=["subject", "arm"], columns="visit", values="y")
    within = wide - wide.groupby("arm").transform("mean")
    S = within.to_numpy().T @ within.to_numpy() / (SUBJECTS - 2)
    se = np.repeat(np.sqrt(np.diag(S) / (SUBJECTS / 2)), 2)
    order = [f"arm{a}:visitv{v}" for v in range(VISITS) for a in "ab"]
    np.testing.assert_allclose(table.set_index("term").loc[order, "se"], se, rtol=1e-6)


@pytest.mark.parametrize("structure", ["ar1", "hetar1", "toep", "cs"])
def test_expected_information_of_other_structures(trial, structure):
    """Beyond 4,000 rows as below: two halves of the subjects have half the information each.

    Each half has its own fixed effects, so that nothing is shared between the two.
    """
    halves = trial.assign(half=np.where(trial["subject"].str[1:].astype(int) % 4 < 2, "p", "q"))
    options = {"residual": f"{structure}(visit | subject) | half"}
    fit = lmm("y ~ 0 + half:arm:visit", halves, **options)
    joint = fit.fixed_effects("kenward-roger", "expected").set_index("term")
    own = lmm("y ~ 0 + arm:visit", halves[halves["half"] == "p"], residual=f"{structure}(visit | subject)")
    single = own.fixed_effects("kenward-roger", "expected").set_index("term")
    rows = joint.loc[["halfp:" + term for term in single.index]]
    for column in ("estimate", "se", "df"):
        np.testing.assert_allclose(rows[column], single[column], rtol=1e-5)
