"""Numbers that are names of genotypes: what is said when a covariate is asked for as if it were a factor."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core import fit_batch, lmm
from fastlmm_core.cli import main
from fastlmm_core.errors import OptionError


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"gen": np.tile([101, 112, 130, 147], 12), "rep": np.repeat(list("abcdef"), 8)})
    rep = dict(zip("abcdef", rng.normal(size=6), strict=True))
    table["y"] = 5 + (table["gen"] == 112) + table["rep"].map(rep) + rng.normal(0, 0.3, 48)
    table["x"] = rng.normal(size=48)
    return table


NOTE = "'gen' is a covariate of this model; if its 4 values are codes, write factor(gen)"


def test_means_of_a_covariate_say_how_it_becomes_a_factor(codes):
    fit = lmm("y ~ gen + x + (1|rep)", codes)
    assert any(NOTE in note for note in fit.emmeans("gen").remarks)
    assert not any("codes" in note for note in fit.emmeans("x").remarks)
    levels = lmm("y ~ factor(gen) + (1|rep)", codes)
    assert not any("codes" in note for note in levels.emmeans("gen").remarks)
    for method in ("trt.vs.ctrl:112", "pairwise", "eff"):
        with pytest.raises(OptionError, match=r"write factor\(gen\)"):
            fit.emmeans("gen").contrast(method)
    with pytest.raises(OptionError, match=r"'factor\(gen\)': 'gen' is a covariate .* write factor\(gen\)"):
        fit.emmeans("factor(gen)")
    with pytest.raises(OptionError, match=r"in the fixed part, and random as \(1\|gen\)"):
        fit.blups("gen")


@pytest.mark.parametrize(
    "specs", ["factor(gen)", "~ factor(gen)", "as.factor(gen)", ["factor(gen)"], "gen", "factor( `gen` )"]
)
def test_the_factor_is_understood_by_the_name_in_the_formula(codes, specs):
    fit = lmm("y ~ factor(gen) + (1|rep)", codes)
    means = fit.emmeans(specs)
    assert list(means.labels["gen"]) == ["101", "112", "130", "147"]
    control = means.contrast("trt.vs.ctrl:112")
    np.testing.assert_allclose(control.estimate, means.estimate[[0, 2, 3]] - means.estimate[1], rtol=1e-10)
    by = lmm("y ~ factor(gen)*x + (1|rep)", codes).emmeans("~ x | factor(gen)", at={"x": [0, 1]})
    assert by.by == ("gen",)


def test_batches_and_the_command_line_understand_it_too(codes, tmp_path, capsys):
    table = pd.concat([codes.assign(trial="t1"), codes.assign(trial="t2")])
    found = fit_batch(table, "y ~ factor(gen) + (1|rep)", by="trial", emmeans="factor(gen)",
                      contrasts="trt.vs.ctrl:112", progress=False)  # fmt: skip
    assert found.fits["status"].tolist() == ["ok", "ok"]
    assert len(found.emmeans) == 8 and len(found.contrasts) == 6
    numbers = fit_batch(table, "y ~ gen + (1|rep)", by="trial", emmeans="gen", contrasts="trt.vs.ctrl:112",
                        progress=False)  # fmt: skip
    assert numbers.fits["message"].str.contains(NOTE, regex=False).all()
    path = tmp_path / "codes.csv"
    codes.to_csv(path, index=False)
    assert main(["fit", str(path), "y ~ factor(gen) + (1|rep)", "--emmeans", "factor(gen)", "--contrasts",
                 "trt.vs.ctrl:112"]) == 0  # fmt: skip
    assert "101 - 112" in capsys.readouterr().out.replace("gen", "")
    assert main(["fit", str(path), "y ~ gen + (1|rep)", "--emmeans", "gen"]) == 0
    assert "if its 4 values are codes" in " ".join(capsys.readouterr().out.split())
