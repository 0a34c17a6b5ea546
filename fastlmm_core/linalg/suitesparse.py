"""scikit-sparse, which need not be there, loaded when it is first needed, in either of its two forms."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from fastlmm_core.errors import DependencyError, MemoryExhaustedError
from fastlmm_core.linalg.memory import available_memory
from fastlmm_core.linalg.threads import blas_threads

ROOM_TO_LOAD = 200_000_000  # bytes of address space that scikit-sparse and its libraries take
MISSING = (
    "scikit-sparse is not installed or does not load ({error}): pip install 'fastlmm_core[cholmod]', with "
    "SuiteSparse below 7.4 together with 'scikit-sparse<0.5'"
)


@cache
def load_cholmod() -> ModuleType:
    """``sksparse.cholmod`` of scikit-sparse 0.4, or of 0.5 (see `is_class_based`).

    Raises
    ------
    DependencyError
        Where it is not installed or does not load.
    MemoryExhaustedError
        Where the memory left does not hold its libraries.
    """
    try:
        from sksparse import cholmod
    except (ImportError, ValueError) as error:  # a build for another NumPy is a ValueError
        if not isinstance(error, ModuleNotFoundError) and available_memory() < ROOM_TO_LOAD:
            raise MemoryExhaustedError(
                "the memory does not suffice to load the libraries: "
                f"{available_memory() / 1e6:.0f} MB are left; raise the limit (ulimit -v, the container's), "
                "or free memory"
            ) from error
        raise DependencyError(MISSING.format(error=error)) from error
    blas_threads.find_libraries()  # CHOLMOD brings a BLAS of its own
    return cholmod


def is_class_based(module: ModuleType) -> bool:
    """Whether `module` has the interface of 0.5: one class ``CholeskyFactor``, on the new sparse arrays."""
    return hasattr(module, "CholeskyFactor")
