"""The same fits through every factorization: both kinds of equations, REML and ML."""

import os
import warnings

import numpy as np
import pandas as pd
import pytest
from scikit_sparse import is_installed

from fastlmm_core import datasets, lmm, prepare, run
from fastlmm_core.cli import main
from fastlmm_core.errors import OptionError
from fastlmm_core.linalg.cholmod import CholmodFactor
from fastlmm_core.linalg.simplicial import SimplicialFactor
from fastlmm_core.linalg.supernodal import SupernodalFactor

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="BLAS by address needs compiled kernels"
)
FACTORS = {"simplicial": SimplicialFactor, "supernodal": SupernodalFactor}
if is_installed():
    FACTORS["cholmod"] = CholmodFactor


def crossed_frame():
    rng = np.random.default_rng(5)
    n = 600
    a, b = rng.integers(0, 60, n), rng.integers(0, 40, n)
    x = rng.normal(size=n)
    y = rng.normal(size=60)[a] * (1 + 0.3 * x) + rng.normal(size=40)[b] + rng.normal(size=n)
    frame = pd.DataFrame({"a": a, "b": b, "env": rng.integers(0, 3, n)}).astype(str)
    return frame.assign(x=x, y=y)


FRAME = crossed_frame()
LEVELS = [str(i) for i in range(60)]
RELATED = pd.DataFrame(0.8 * np.eye(60) + 0.2, index=LEVELS, columns=LEVELS)
MODELS = {
    "nested": ("Y ~ V*N + (1|B/V)", datasets.load("oats"), {}),
    "crossed slopes": ("y ~ x + (1+x|a) + (1|b)", FRAME, {}),
    "residual by environment": ("y ~ x + (1|a) + (1|b)", FRAME, {"residual": "units | env"}),
    "related levels": ("y ~ x + (1|vm(a,A)) + (1|b)", FRAME, {"relationships": {"A": RELATED}}),
    "reduced rank": ("y ~ x + rr(0+env|a,d=1) + (1|b)", FRAME, {}),
}


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", MODELS)
def test_every_factorization_gives_the_same_fit(name, reml):
    formula, frame, options = MODELS[name]
    fits = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, factor in FACTORS.items():
            fits[kind] = lmm(formula, frame, reml=reml, factorization=kind, **options)
            assert type(fits[kind].prepared.factor) is factor
    reference = fits.pop("supernodal")
    for fit in fits.values():
        for figure in (
            lambda f: [f.criterion], lambda f: f.beta, lambda f: f.se, lambda f: f.cov_beta,
            lambda f: f.variance_components["estimate"], lambda f: f.blups()["estimate"],
            lambda f: f.blups()["pev"],
        ):  # fmt: skip
            expected = np.asarray(figure(reference), dtype=float)
            scale = np.abs(expected).max()
            np.testing.assert_allclose(figure(fit), expected, rtol=1e-10, atol=1e-10 * scale)


def test_auto_goes_by_size(monkeypatch):
    formula, frame, _ = MODELS["nested"]
    assert type(prepare(formula, frame).factor) is SimplicialFactor
    monkeypatch.setattr("fastlmm_core.linalg.factor.SMALL_FLOPS", 0.0)
    assert type(prepare(formula, frame).factor) is SupernodalFactor
    assert type(prepare(formula, frame, factorization="simplicial").factor) is SimplicialFactor


def test_one_that_is_not_known_is_refused():
    formula, frame, _ = MODELS["nested"]
    with pytest.raises(OptionError, match="factorization='mumps' is not known; allowed: 'auto'"):
        lmm(formula, frame, factorization="mumps")


def test_requests_and_the_command_line_take_it(monkeypatch, capsys):
    asked = []
    real = SimplicialFactor.factorize

    def noted(self, C_data):
        asked.append(type(self))
        return real(self, C_data)

    monkeypatch.setattr(SimplicialFactor, "factorize", noted)
    request = {"data": str(datasets.path("oats")), "formula": "Y ~ V*N + (1|B/V)"}
    default = run(request)["fit"]
    by_columns = len(asked)
    theirs = run(request | {"factorization": "supernodal"})["fit"]
    assert len(asked) == by_columns
    np.testing.assert_allclose(theirs["criterion"], default["criterion"], rtol=1e-10)
    assert main(["fit", request["data"], request["formula"], "--factorization", "supernodal"]) == 0
    assert main(["fit", request["data"], request["formula"], "--factorization", "pardiso"]) == 2
    assert "factorization='pardiso' is not known" in capsys.readouterr().err
