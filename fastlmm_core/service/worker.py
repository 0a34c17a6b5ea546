"""A worker: a process that answers one request after the other, with everything loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fastlmm_core.processes.child import answer_parent
from fastlmm_core.service.answers import Answer, as_line, error_answer


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is told when it starts.

    Attributes
    ----------
    root : str or None
        Folder of the files that requests may name.
    tables_root : str or None
        Folder inside of which requests may write their tables; nothing is written without it.
    inline_only : bool
        No files are read.
    limits : dict
        As of `lmm`.
    memory : int or None
        Bytes of data that the process may hold (``ulimit -d``); more is refused before the work begins.
    keep, keep_memory : int
        How many fits are kept for questions, and bytes of all of them.
    named : bool
        Clients choose the names of their fits.
    key : str
        Of this worker among the others.
    """

    root: str | None = None
    tables_root: str | None = None
    inline_only: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    memory: int | None = None
    keep: int = 0
    keep_memory: int = 1_000_000_000
    named: bool = True
    key: str = "0" * 12

    def text(self) -> str:
        return json.dumps(asdict(self))


def serve_channel() -> None:
    """Answer requests until the service closes the socket: the function that a worker runs."""

    def load() -> Callable[[bytes], bytes]:
        options = WorkerOptions(**json.loads(sys.argv[2]))
        if options.memory is not None:
            _limit_memory(options.memory)
        answer = loaded(options)
        return lambda body: answer(body).frame()

    answer_parent(load)


def loaded(options: WorkerOptions) -> Callable[[bytes], Answer]:
    """A function from a request to its answer, both bytes; libraries and kernels are loaded."""
    from fastlmm_core.limits import Limits
    from fastlmm_core.request import parse_request
    from fastlmm_core.request.document import Reach
    from fastlmm_core.request.kept_fits import Keeping, KeptElsewhereError
    from fastlmm_core.request.session import Session

    limits = Limits.of(dict(options.limits))
    if options.memory is not None:
        _take_work_space(options.memory)
    reach = Reach.of(options.root, options.inline_only, options.tables_root)
    keeping = Keeping(options.keep, options.keep_memory, options.key, options.named)
    session = Session(reach, limits, keeping)
    session.answer(WARM_UP)

    def answer(body: bytes) -> Answer:
        identity: Any = None
        try:
            request = parse_request(_text(body), "the request")
            if isinstance(request, dict):
                identity = request.get("id")
            return Answer(True, as_line(session.answer(request)))
        except Exception as error:
            known = isinstance(identity, (str, int)) and not isinstance(identity, bool)
            keeper = error.key if isinstance(error, KeptElsewhereError) else None
            return Answer(False, error_answer(error, identity if known else None), keeper)

    return answer


# Bytes that NumPy's and SciPy's BLAS take as work space on one thread, 32 MB each, with something over.
WORK_SPACE = 80_000_000
# The usual request: what it compiles or loads, no client waits for.
WARM_UP = {
    "data": {"y": [1.0, 2.5, 2.0, 4.5, 3.0, 3.5], "a": list("uvuvuv"), "g": list("ppqqrr")},
    "formula": "y ~ a + (1|g)",
    "emmeans": [{"specs": "~ a"}],
    "contrasts": [{"specs": "~ a"}],
}


def _text(body: bytes) -> str:
    from fastlmm_core.errors import DataError

    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the request is not UTF-8 text (byte {error.start})") from None


def _take_work_space(limit: int) -> None:
    """Let NumPy's and SciPy's BLAS take the work space that they keep, or end where there is no room for it.

    OpenBLAS asks for it again and again, without end, where the system has none left.
    """
    import numpy as np
    from scipy.linalg.blas import dgemm

    try:
        with open("/proc/self/status", encoding="ascii") as file:
            own = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData:"))
    except (OSError, StopIteration):  # not on Linux
        own = 0
    if own + WORK_SPACE > limit:
        needed = (own + WORK_SPACE) / 1e6
        raise SystemExit(f"fastlmm: --memory: a worker needs {needed:.0f} MB before it fits anything")
    square = np.ones((600, 600))
    square @ square
    dgemm(1.0, square, square)


def _limit_memory(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
