"""How large a formula, a model and a file may be before work begins.

A short text can ask for any amount of work: ``(a+b+...+z)^26`` for 67 million terms, a gzip of 97 kB for 50
million rows. The limits are wide for analyses and narrow for accidents and attacks; ``limits=`` of every door
raises them one by one.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fastlmm_core.errors import DependencyError, LimitError, OptionError
from fastlmm_core.options import TEXT, Kind, check, either, record, whole

FREE_EXPANSION = 16_000_000  # bytes that any packed file may unpack to
PIECE = 1 << 20
SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Limits:
    """Largest sizes; what is larger is refused with its figure.

    Attributes
    ----------
    formula_length : int
        Characters of a formula.
    terms : int
        Terms of the fixed part, and of a random term, after ``*``, ``/`` and ``^`` are multiplied out.
    columns : int
        Columns of the fixed part; also of one spline or polynomial.
    coefficients : int
        Coefficients of a random term that vary between its levels.
    levels : int
        Levels of a grouping factor.
    file_size : int
        Bytes of a file, unpacked.
    expansion : int
        How many times its size a packed file may unpack to, beyond 16 MB.

    Examples
    --------
    >>> from fastlmm_core import datasets, lmm
    >>> from fastlmm_core.limits import Limits
    >>> Limits.of({"terms": 20_000}).terms
    20000
    >>> fit = lmm("Yield ~ 1 + (1|Batch)", datasets.load("dyestuff"), limits={"levels": 1_000})
    """

    formula_length: int = 100_000
    terms: int = 5_000
    columns: int = 100_000
    coefficients: int = 1_000
    levels: int = 10_000_000
    file_size: int = 8_000_000_000
    expansion: int = 200

    @classmethod
    def of(cls, given: Limits | Mapping[str, Any] | None) -> Limits:
        """The default limits with those given in their place.

        Raises
        ------
        OptionError
            For an unknown limit, or one that is not a whole number of at least 1.
        """
        if given is None:
            return DEFAULT
        if isinstance(given, Limits):
            return given
        check("limits", given, KIND)
        own = {name: value for name, value in given.items() if value is not None}
        return replace(DEFAULT, **{name: in_bytes(f"limits.{name}", value) for name, value in own.items()})

    def check(self, name: str, value: int, what: str) -> None:
        """Refuse `value` above the limit called `name`.

        Raises
        ------
        LimitError
            "the formula has 120,000 characters; the limit is 100,000 (limits={'formula_length': ...} ...".
        """
        most = getattr(self, name)
        if value > most:
            raise LimitError(f"{what.format(f'{value:,}')}; {raised_by(name, most)}")


def escaped(name: str) -> str:
    """A name inside of what is said of a limit."""
    return name.replace("{", "{{").replace("}", "}}")


def raised_by(name: str, most: int) -> str:
    """What the limit is and which option raises it."""
    return f"the limit is {most:,} and limits={{'{name}': ...}} (--limit {name}=...) raises it"


def in_bytes(option: str, value: int | float | str) -> int:
    """A whole number given as a number or as text with a unit: ``8e9``, ``"8GB"``, ``"500 MB"``.

    Raises
    ------
    OptionError
        When it is neither, or below 1.
    """
    text = str(value).strip().lower().removesuffix("b").removesuffix("i").rstrip()
    unit = text[-1:] if text[-1:] in SIZES else ""
    try:
        size = float(text.removesuffix(unit)) * SIZES[unit]
    except ValueError:
        raise OptionError(f"{option}={value!r:.60} is not a size; give bytes or text such as '8GB'") from None
    if isinstance(value, bool) or not 1 <= size < 2**62:
        raise OptionError(f"{option}={value!r:.60} must be at least 1 byte, and finite; for example '8GB'")
    return int(size)


DEFAULT = Limits()
KIND: Kind = record({field.name: either(whole(1), TEXT) for field in fields(Limits)})


def read_bounded(path: Path, limits: Limits = DEFAULT) -> bytes:
    """The bytes of a file, unpacked when its name ends in ``.gz`` or ``.zst``, up to the limits.

    A packed file is unpacked piece by piece, so that what is refused was never in memory.

    Raises
    ------
    LimitError
        When it is larger, or unpacks to more than `expansion` times its size.
    OSError, EOFError, zlib.error
        When it cannot be read or is damaged.
    DependencyError
        For ``.zst`` without pyarrow.
    """
    packed = path.stat().st_size
    pieces, size = [], 0
    with _opened(path) as stream:
        while piece := stream.read(PIECE):
            pieces.append(piece)
            size += len(piece)
            limits.check("file_size", size, f"'{escaped(path.name)}' has at least {{}} bytes")
            if packed and size > FREE_EXPANSION:
                most = f"'{escaped(path.name)}' ({packed:,} bytes) unpacks to at least {{}} times its size"
                limits.check("expansion", size // packed, most)
    return b"".join(pieces)


def _opened(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix != ".zst":
        return path.open("rb")
    try:
        import pyarrow as pa
    except ImportError as error:
        words = "files that end in .zst need pyarrow: pip install 'fastlmm_core[batch]'"
        raise DependencyError(words) from error
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
