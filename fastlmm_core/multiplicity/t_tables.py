"""t probabilities and quantiles for very many degrees of freedom, from the tables of ``tail_tables``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastlmm_core.multiplicity.distributions import t_quantile, t_two_sided
from fastlmm_core.multiplicity.tail_tables import WORTH, tabulated_quantiles, tabulated_tails

Floats = NDArray[np.floating]

ROOT2 = np.sqrt(2.0)


def direct_t_tails(q: Floats, k: float, df: Floats) -> Floats:
    """P(sqrt(2) |T| > q): the studentized range of two means; `k` is not used."""
    return t_two_sided(q / ROOT2, df)


def direct_t_quantiles(tail: float, k: float, df: Floats) -> Floats:
    """|t| exceeded with probability `tail`; `k` is not used."""
    return t_quantile(tail, df)


def t_tails(t: Floats, df: Floats, worth: int = WORTH) -> Floats:
    """P(|T| > |t|) for each of t, df (c,); within 2e-11 of ``distributions.t_two_sided``, 1e-9 relatively.

    worth : see `tabulated_tails`
    """
    return tabulated_tails(direct_t_tails, ROOT2 * np.abs(t), 2.0, df, worth)


def t_quantiles(tail: float, df: Floats, worth: int = WORTH) -> Floats:
    """|t| exceeded with probability `tail` on both sides together, for each of `df` (c,).

    Agrees with ``distributions.t_quantile`` to 1e-11 (relative).
    """
    return tabulated_quantiles(direct_t_quantiles, float(tail), 2.0, df, worth)
