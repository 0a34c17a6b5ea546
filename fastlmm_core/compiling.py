"""A word when kernels are compiled, so that the first run does not look stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NOTICE = "compiling the numerical kernels once; later runs load them"


@contextmanager
def compilation_notice(say: Callable[[str], object]) -> Iterator[None]:
    """Within the block, `say` once when Numba compiles a kernel of this library (a cache hit is silent)."""
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, occurred: Any) -> None:
            function = getattr(occurred.data.get("dispatcher"), "py_func", None)
            if not self.said and getattr(function, "__module__", "").startswith("fastlmm_core"):
                self.said = True
                say(NOTICE)

        def on_end(self, occurred: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
