"""Parquet files need pyarrow, which is an optional extra: one guard for all who read or write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import DependencyError


@contextmanager
def requires_pyarrow() -> Iterator[None]:
    """Around imports of pyarrow, and calls of pandas that import it.

    Raises
    ------
    DependencyError
        When it is missing, or too old for pandas.
    """
    try:
        yield
    except ImportError as err:
        raise DependencyError(
            "Parquet needs pyarrow: pip install 'fastlmm_core[batch]', or pyarrow alone"
        ) from err
