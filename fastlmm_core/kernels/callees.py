"""Kernels that kernels call: typed and lowered once, optimised only within the kernels called from Python.

Numba makes a library of every function, and a caller's library takes in those of all functions below it
and optimises them again: a kernel at depth d of a tree of calls is optimised and turned into machine code
d times.  Here a callee stays LLVM code as it was lowered until a kernel that Python calls takes it in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import _dynfunc, njit  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering


class CalleeLibrary(JITCodeLibrary):
    """The code of one function alone, which is linked and never run."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalized = True

    def _optimize_functions(self, module: Any) -> None:  # left to the kernel that takes the function in
        module.data_layout = self._codegen._data_layout

    def linked(self) -> list[Any]:
        """This library and all those below it, each once."""
        found: dict[Any, None] = {self: None}
        for library in self._linking_libraries:
            found |= dict.fromkeys(library.linked() if isinstance(library, CalleeLibrary) else [library])
        return list(found)


@register_pass(mutates_CFG=True, analysis_only=False)
class CalleeLowering(NativeLowering):
    """Lowering into a `CalleeLibrary`; callers link what the function calls together with it."""

    _name = "callee_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = CalleeLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        name = lowered.fndesc.qualname.split(".")[-1]
        # a function object without code stands for the function in Numba's tables
        entry = _dynfunc.make_function(
            lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (state.library,)
        )
        state.targetctx.insert_user_function(entry, lowered.fndesc, state.library.linked())
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class CalleeCompiler(CompilerBase):
    """Numba's pipeline with `CalleeLowering`."""

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("callee")
        for step, words in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            manager.add_pass(CalleeLowering if step is NativeLowering else step, words)
        manager.finalize()
        return [manager]


def with_callee(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A cached kernel for callers in Python that other kernels take in as a callee."""
    outer = njit(**options)(function)
    if outer is function:  # with NUMBA_DISABLE_JIT
        return function
    own = {**options, "no_cpython_wrapper": True, "pipeline_class": CalleeCompiler}
    inner = njit(**own)(function)
    outer.get_call_template = inner.get_call_template
    outer.get_overload = inner.get_overload
    return outer
