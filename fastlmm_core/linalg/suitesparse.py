"""scikit-sparse, loaded when a large system first needs it, in either of its two forms."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from fastlmm_core.errors import DependencyError, MemoryExhaustedError
from fastlmm_core.linalg.memory import available_memory
from fastlmm_core.linalg.threads import blas_threads

ROOM_TO_LOAD = 200_000_000  # bytes of address space that scikit-sparse and its libraries take


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
    except ImportError as error:  # pragma: no cover - depends on the installation
        if available_memory() < ROOM_TO_LOAD:
            raise MemoryExhaustedError(
                "the memory does not suffice to load the libraries: "
                f"{available_memory() / 1e6:.0f} MB are left; raise the limit (ulimit -v, the container's), "
                "or free memory"
            ) from error
        raise DependencyError(
            "scikit-sparse (CHOLMOD) is not installed or does not load. It is built against SuiteSparse; "
            "install its headers and a C compiler first: "
            "Debian/Ubuntu 'apt install libsuitesparse-dev libopenblas0-pthread gcc python3-dev', "
            "Fedora 'dnf install suitesparse-devel gcc python3-devel', macOS 'brew install suite-sparse', "
            f"conda 'conda install -c conda-forge scikit-sparse'. ({error})"
        ) from error
    blas_threads.find_libraries()  # CHOLMOD brings a BLAS of its own
    return cholmod


def is_class_based(module: ModuleType) -> bool:
    """Whether `module` has the interface of 0.5: one class ``CholeskyFactor``, on the new sparse arrays."""
    return hasattr(module, "CholeskyFactor")
