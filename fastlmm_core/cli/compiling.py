"""One line on standard error when kernels are compiled, so that the first run does not look stuck."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOTICE = "fastlmm: compiling the numerical kernels once; later runs load them"


@contextmanager
def compilation_notice() -> Iterator[None]:
    """Within the block, say once when Numba compiles a kernel of this library (a cache hit is silent)."""
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, occurred: Any) -> None:
            function = getattr(occurred.data.get("dispatcher"), "py_func", None)
            if not self.said and getattr(function, "__module__", "").startswith("fastlmm_core"):
                self.said = True
                print(NOTICE, file=sys.stderr, flush=True)

        def on_end(self, occurred: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
