"""Factors that are called as columns of the tables keep their labels, under a name of their own."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.errors import OptionError

LABELS = list("ABCDEF")


@pytest.fixture(scope="module")
def plots() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = pd.DataFrame([(g, b, r) for g in LABELS for b in "xyz" for r in "12"], columns=["G", "B", "R"])
    table["Y"] = rng.normal(size=len(table)) + table["G"].map(dict(zip(LABELS, range(6), strict=True)))
    return table.assign(block=table["B"] + table["R"], t="T1")


def test_letters_beside_a_factor_group(plots):
    named = lmm("Y ~ group*B + (1 | block)", plots.rename(columns={"G": "group"}))
    plain = lmm("Y ~ G*B + (1 | block)", plots)
    expected = plain.emmeans("G").cld().rename(columns={"G": "group_level"})
    pd.testing.assert_frame_equal(named.emmeans("group").cld(), expected)
    within = named.emmeans("B | group").cld()
    assert str(within).startswith("Means with compact letters, alpha 0.05, tukey, within group\n")
    assert within["group_level"].unique().tolist() == LABELS
    assert set(within["group"]) <= {"a", "b", "ab"}


@pytest.mark.parametrize("specs", ["1", "B | G"])
def test_a_mean_alone_has_its_letter(plots, specs):
    means = lmm("Y ~ G*B", plots).emmeans(specs, at={"B": "x"})
    assert means.cld()["group"].tolist() == ["a"] * len(means)
    with pytest.raises(OptionError, match="adjust"):
        means.cld(adjust="tuky")


def test_the_best_of_a_factor_rank(plots):
    means = lmm("Y ~ rank + B", plots.rename(columns={"G": "rank"})).emmeans("rank")
    best = means.best(2)
    assert best["rank_level"].tolist() == ["F", "E"]
    assert best["rank"].tolist() == [1, 2]


@pytest.mark.parametrize("path", ["compiled", "general"])
def test_several_specifications_and_a_factor_spec(plots, path):
    """The column `spec` of the tables tells which means they are."""
    factor = "spec" if path == "compiled" else "poly(X, 1)"
    table = plots.rename(columns={"G": "spec"}).assign(X=np.arange(len(plots)) % 7)
    formula = "Y ~ B*spec + (1 | block)" + ("" if factor == "spec" else " + poly(X, 2)")
    batch = fit_batch(table, formula, by="t", emmeans=["spec", "B | spec"], contrasts="pairwise",
                      covariances=path == "general", progress=False)  # fmt: skip
    assert batch.emmeans["spec"].unique().tolist() == ["spec", "B | spec"]
    own = batch.emmeans[batch.emmeans["spec"] == "spec"]
    assert own["spec_level"].tolist() == LABELS
    within = batch.contrasts[batch.contrasts["spec"] == "B | spec"]
    assert within["spec_level"].unique().tolist() == LABELS
    alone = fit_batch(table, formula, by="t", emmeans="spec", progress=False)
    np.testing.assert_allclose(alone.emmeans["estimate"], own["estimate"])
    assert alone.emmeans["spec"].tolist() == LABELS
