"""The workers of a Dask cluster as the engine of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastlmm_core.batch.engines.pieces import fit_piece
from fastlmm_core.batch.engines.processes import ENGINES
from fastlmm_core.batch.engines.progress import Progress
from fastlmm_core.batch.folder.store import PartStore
from fastlmm_core.batch.plan import BatchPlan
from fastlmm_core.batch.tables import TableParts
from fastlmm_core.errors import ClusterError, DependencyError, FastLMMError, MemoryExhaustedError, OptionError

ALLOWED = f"allowed: {', '.join(map(repr, ENGINES))}, or a dask.distributed Client"


def run_dask(
    client: Any, pieces: list[tuple[int, Any]], plan: BatchPlan, store: PartStore | None, progress: Progress
) -> dict[int, TableParts]:
    """Run jobs on a dask.distributed client, a few for each worker thread ahead; Dask repeats lost ones.

    Results are written by the workers when there is a folder (which all of them have to see).  `pieces` is
    emptied, so that the workers can forget those that are done.
    """
    from distributed import as_completed

    folder = (store.folder.resolve(), store.source) if store else None
    # relationships may be large: once for each worker then, not once for each part
    sent = client.scatter(plan, broadcast=True, hash=False) if plan.structures.relationships else plan
    rows: dict[int, TableParts] = {}
    numbers: dict[str, int] = {}

    def submit() -> Any:
        if not pieces:
            return None
        number, piece = pieces.pop(0)
        future = client.submit(fit_piece, piece, number, sent, folder, pure=False, retries=2)
        numbers[future.key] = number
        return future

    with cluster_words(store):
        ahead = 3 * max(1, sum(client.nthreads().values()))
        first = [future for future in (submit() for _ in range(ahead)) if future is not None]
        waiting = as_completed(first)
        for future in waiting:
            mark, result = future.result()
            progress.add(mark)
            if result is not None:
                rows[numbers[future.key]] = result
            future.release()
            following = submit()
            if following is not None:
                waiting.add(following)
    return rows


@contextmanager
def cluster_words(store: PartStore | None) -> Iterator[None]:
    """What ends the work of a cluster, as an error of ours that says how to go on."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    how = "run the same call again" + (", which goes on from what is done" if store else "")
    try:
        yield
    except FastLMMError:
        raise
    except KilledWorker as err:
        raise MemoryExhaustedError(
            "a worker of the cluster ended again and again on one part, most often for want of memory; "
            f"give the workers more, then {how}"
        ) from err
    except MemoryError as err:
        raise MemoryExhaustedError(
            f"a worker of the cluster has too little memory for its part; give the workers more, then {how}"
        ) from err
    except (CancelledError, OSError, TimeoutError, asyncio.CancelledError) as err:
        raise ClusterError(
            f"the connection to the Dask scheduler is lost; start the cluster anew, then {how}"
        ) from err


def is_client(engine: Any) -> bool:
    """Whether `engine` is a dask.distributed client.

    Raises
    ------
    OptionError
        For anything else than a client or the name of an engine of this machine.
    """
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise OptionError(f"engine={engine!r} is not known; {ALLOWED}")
        return False
    if hasattr(engine, "submit") and hasattr(engine, "nthreads"):
        return True
    raise OptionError(f"engine of type {type(engine).__name__} is not known; {ALLOWED}")


def connect(address: str) -> Any:
    """A client of the scheduler at an address.

    Raises
    ------
    DependencyError
        Without dask.distributed.
    OptionError
        When nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as err:
        raise DependencyError("a cluster needs dask.distributed: pip install 'fastlmm_core[batch]'") from err
    try:
        return Client(address, timeout=20)
    except (OSError, ValueError) as err:
        raise OptionError(f"no Dask scheduler answers at {address}") from err
