"""Random terms that lie within the fixed part, of whose variance the data say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastlmm_core.engine.least_squares import WeightedRegression
from fastlmm_core.engine.terms import EngineTerm

# Residual of Z r on X, relative to Z r, up to which Z is in the span of X.
WITHIN = 1e-9


def terms_within_fixed(regression: WeightedRegression, terms: Sequence[EngineTerm]) -> tuple[int, ...]:
    """Random terms whose columns, or with a variance of their own those of a coefficient, are within X.

    One random combination Z r of each is tried: it is in the span of X only where all of Z is, but for a set
    of r without measure.
    """
    n, p = regression.X.shape
    if not p or not terms:
        return ()
    rng = np.random.default_rng(0)
    parts = [(k, M) for k, term in enumerate(terms) for M in term.matrices]
    tried = np.column_stack([M[:n] @ rng.normal(size=M.shape[1]) for _, M in parts])
    _, residual = regression.fit(tried)
    inside = np.linalg.norm(residual, axis=0) <= WITHIN * np.linalg.norm(tried, axis=0)
    term = np.array([k for k, _ in parts])
    judge = [any if t.structure.any_scale else all for t in terms]
    return tuple(k for k, of_terms in enumerate(judge) if of_terms(inside[term == k]))
