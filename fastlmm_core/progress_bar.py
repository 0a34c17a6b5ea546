"""A bar on a terminal for what takes long; silence elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any


def terminal_bar(
    total: int | None, wanted: bool, logger: logging.Logger, heading: str = "", **options: Any
) -> Any:
    """A bar of tqdm with its `options`; None if not `wanted`, without a terminal, and without tqdm (logged).

    Parameters
    ----------
    heading : str
        A line above the bar.
    """
    if not wanted or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        logger.info("no progress bar: tqdm is not installed")
        return None
    if heading:
        sys.stderr.write(f"{heading}\n")
    return tqdm(total=total, dynamic_ncols=True, **options)
