"""`fastlmm compile`: small fits of every kind, so that later processes find all kernels compiled."""

from __future__ import annotations

import argparse
import os
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from fastlmm_core import datasets
from fastlmm_core.api import lmm
from fastlmm_core.batch import fit_batch
from fastlmm_core.errors import DataError, FastLMMWarning
from fastlmm_core.kernels.caching import compiled_kernels
from fastlmm_core.kernels.factor.simplicial import factorize
from fastlmm_core.structures.relationships import Pedigree

# Structured equations: each a kind of coefficients, levels or residuals with kernels of its own.
STRUCTURED = (
    ("Reaction ~ Days + (1 + Days | Subject)", "units"),
    ("Reaction ~ Days + cs(1 + Days | Subject)", "units"),
    ("Reaction ~ Days", "ar1(Days | Subject)"),
    ("Reaction ~ Days", "us(Days | Subject)"),
    ("Reaction ~ Days + (1 | Subject)", "units | Days"),
)


def compile_command(arguments: argparse.Namespace) -> int:
    """Compile the kernels and print where they are kept; always returns 0 (errors are raised)."""
    cache = factorize._cache
    if not getattr(cache, "kept", True):
        raise DataError("no folder to keep compiled kernels can be written; name one in NUMBA_CACHE_DIR")
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastLMMWarning)  # the fits are not looked at
        for kind in (arguments.what,) if arguments.what else KINDS:
            for step in KINDS[kind]:
                step()
    kept = compiled_kernels()
    folder = os.path.commonpath([path.parent for path in kept] or [cache.cache_path])
    print(f"{len(kept)} kernels are compiled in {folder} ({time.perf_counter() - began:.0f} s)")
    return 0


def fit_plain() -> None:
    """One trial with all tables, by REML and ML, with means, contrasts, BLUPs and a bootstrap."""
    alpha = datasets.load("john_alpha")
    for reml in (True, False):
        fit = lmm("yield ~ gen + (1|rep) + (1|rep:block)", alpha, reml=reml)
        fit.summary()
        fit.anova()
        fit.blups()
    means = lmm("yield ~ rep + gen + (1|rep:block)", alpha).emmeans("gen")
    for contrasts, adjust in (("pairwise", "tukey"), ("trt.vs.ctrl", "dunnettx"), ("trt.vs.ctrl", "mvt")):
        means.contrast(contrasts, adjust=adjust).to_frame()
    fit = lmm("yield ~ (1|gen) + (1|rep/block)", alpha)
    fit.heritability("gen")
    fit.conf_int("bootstrap", n=20, seed=1)


def fit_structured() -> None:
    """Covariance structures, a pedigree and a field."""
    sleep = datasets.load("sleepstudy")
    for formula, residual in STRUCTURED:
        fit = lmm(formula, sleep, residual=residual)
        fit.fixed_effects()
        fit.blups()
    animals = [f"a{k}" for k in range(12)]
    parents = [None] * 4 + animals[:8], [None] * 4 + animals[1:9]
    table = pd.DataFrame({"id": animals, "sire": parents[0], "dam": parents[1]})
    pedigree = Pedigree(table, check_sex=False)
    r = np.random.default_rng(1)
    table = pd.DataFrame({"id": r.choice(animals, 60), "y": r.normal(size=60)})
    lmm("y ~ 1 + (1|vm(id, A))", table, relationships={"A": pedigree}).blups()


def fit_large() -> None:
    """Crossed factors with more levels than small systems have: order, supernodes and their inverse."""
    r = np.random.default_rng(1)
    codes = {name: r.integers(0, count, 4000).astype(str) for name, count in (("a", 900), ("b", 700))}
    y = r.normal(size=900)[codes["a"].astype(int)] + r.normal(size=4000)
    fit = lmm("y ~ 1 + (1|a) + (1|b)", pd.DataFrame({**codes, "y": y}))
    fit.summary(ddf="satterthwaite")
    fit.blups()


def fit_trials() -> None:
    """Batches by their own path, with means and contrasts, with BLUPs, and by whole fits."""
    trials, random = datasets.path("trials"), "~ rep + (1|gen) + (1|rep:block)"
    common: dict[str, Any] = {"by": "trial", "traits": "yield", "progress": False}
    fit_batch(trials, "~ gen + rep + (1|rep:block)", emmeans="gen", contrasts="pairwise", **common)
    fit_batch(trials, random, blups="gen", **common)
    fit_batch(trials, random, blups="gen", genotypes="gen", **common)


KINDS = {"fits": (fit_plain, fit_structured), "large": (fit_large,), "batches": (fit_trials,)}
