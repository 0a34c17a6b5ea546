"""Which factor a system of equations gets."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlmm_core.kernels.factor.ordering import count_columns, list_left
from fastlmm_core.linalg import elimination
from fastlmm_core.linalg.base import CholeskyFactor
from fastlmm_core.linalg.memory import SMALLER_FIT
from fastlmm_core.linalg.operations import operations_of_columns
from fastlmm_core.linalg.simplicial import SimplicialFactor

# Above this many multiply-adds a factorization belongs to supernodes and BLAS: with two crossed factors a fit
# takes 12 ms by columns and 7 by supernodes at 1e6, 36 and 18 at 3e6, 65 and 23 at 1e7, but 2 and 5 at 3e5.
SMALL_FLOPS = 1e6
# Nodes up to which the factor by columns is analysed in less time than its operations are counted.
FEW_NODES = 100
SMALLER_PEDIGREE = (
    "Many parents with common mates fill it: take Pedigree.pruned, fewer generations, or a machine with more "
    "memory"
)


def make_factor(
    equations: Any, max_memory: int | float | str | None = None, factorization: str = "auto"
) -> CholeskyFactor:  # fmt: skip
    """The factor of the equations: the one asked for, or the one that suits their size.

    Parameters
    ----------
    equations : MixedModelEquations or StructuredEquations
        Read for the pattern of C, by nodes and by scalars.
    max_memory : bytes or text such as "8GB", optional
        Limit for the numeric phase; by default what the machine has available.
    factorization : str
        "simplicial" (compiled kernels, column by column), "supernodal" (fronts and BLAS), "cholmod", or
        "auto": the first for small systems, the second above.

    Raises
    ------
    MemoryForecastError
        When the numeric phase is forecast not to fit into `max_memory`, or into what is available.
    DependencyError
        When CHOLMOD is asked for and scikit-sparse does not load.
    """
    advice = SMALLER_PEDIGREE if equations.related else SMALLER_FIT
    small = factorization == "auto" and equations.layout.term.size <= elimination.SMALL_GRAPH
    if small and equations.layout.term.size > FEW_NODES and _operations(equations) > SMALL_FLOPS:
        small = False  # the factor by columns is not even analysed
    if small or factorization == "simplicial":
        by_columns = SimplicialFactor(
            equations.below_ptr, equations.below, equations.layout.start, equations.indptr, equations.indices
        )
        if not small or by_columns.flops <= SMALL_FLOPS:
            return by_columns.admit(max_memory, advice)
    pattern = equations.indptr, equations.indices
    if factorization == "cholmod":
        return _cholmod_class()(*pattern).admit(max_memory, advice)
    # imported here: most fits are small
    from fastlmm_core.linalg.supernodal import SupernodalFactor

    fronts = elimination.columns_of_fronts(equations.order.fronts, equations.layout.start)
    return SupernodalFactor(*pattern, fronts).admit(max_memory, advice)


def _operations(equations: Any) -> float:
    """Multiply-adds of a factorization, counted on the graph of the nodes."""
    size = np.diff(equations.layout.start)
    rows = list_left(equations.below_ptr, equations.below)
    return operations_of_columns(count_columns(*rows, size), size)


def _cholmod_class() -> Any:
    # imported here: few fits ask for it
    from fastlmm_core.linalg.cholmod import CholmodFactor
    from fastlmm_core.linalg.suitesparse import load_cholmod

    load_cholmod()  # where it is missing, nothing is computed before that is said
    return CholmodFactor
