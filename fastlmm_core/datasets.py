"""The classical tables that travel with the library (origin of each: data/README.md)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fastlmm_core.errors import DataError, nearest_names
from fastlmm_core.gate import public
from fastlmm_core.options import NAME
from fastlmm_core.reading import read_table


def folder() -> Path:
    """Folder of the CSV files: inside the installed package, or `data/` beside it in a checkout.

    Raises
    ------
    DataError
        When neither exists, naming the places looked at.

    Examples
    --------
    >>> from fastlmm_core import datasets
    >>> (datasets.folder() / "oats.csv").is_file()
    True
    """
    package = Path(__file__).resolve().parent
    places = (package / "data", package.parent / "data")
    for place in places:
        if (place / "cochran_bib.csv").is_file():
            return place
    raise DataError(f"the data folder is missing; looked at {' and '.join(str(p) for p in places)}")


def names() -> tuple[str, ...]:
    """Names that `load` knows, sorted.

    Examples
    --------
    >>> from fastlmm_core import datasets
    >>> datasets.names()[:3]
    ('besag_field', 'besag_met', 'cochran_bib')
    """
    return tuple(sorted(path.stem for path in folder().glob("*.csv")))


def path(name: str) -> Path:
    """Path of the CSV file of one table.

    Raises
    ------
    DataError
        For an unknown name, with the nearest known ones.

    Examples
    --------
    >>> from fastlmm_core import datasets
    >>> datasets.path("oats").name
    'oats.csv'
    """
    if name not in names():
        raise DataError(f"there is no data set '{name}'{nearest_names(name, names())}")
    return folder() / f"{name}.csv"


@public(name=NAME)
def load(name: str) -> pd.DataFrame:
    """One table, factors as text or as categories in their natural order.

    Parameters
    ----------
    name : str
        One of `names()`, for example ``"cochran_bib"``.

    Returns
    -------
    DataFrame
        One row per observation.

    Raises
    ------
    DataError
        For an unknown name, with the nearest known ones.

    Examples
    --------
    >>> from fastlmm_core import datasets
    >>> datasets.load("oats").shape
    (72, 4)
    """
    frame = read_table(path(name))
    frame.attrs.clear()  # the rows are the user's now, who may number them anew
    return frame
