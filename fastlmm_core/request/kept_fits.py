"""Fits that a process keeps for questions: so many, so large, under names that no two clients share."""

from __future__ import annotations

import pickle
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlmm_core.errors import OptionError, UnknownFitError

if TYPE_CHECKING:
    from fastlmm_core.results.fit import LMMFit

# The key of a process and 128 bits that nobody guesses.
HANDLE = re.compile(r"([0-9a-f]{12})-[\w-]{22}")
WORTH_MEASURING = 1_000_000  # bytes of a fit from which it is measured again after a question


@dataclass(frozen=True)
class Keeping:
    """What a process may keep.

    Attributes
    ----------
    fits : int
        How many at most; 0 for none.
    memory : int
        Bytes of all of them.
    key : str
        Of this process among those of its service: 12 hexadecimal digits.
    named : bool
        Clients choose names themselves: there is one client, and one process.
    """

    fits: int = 0
    memory: int = 1_000_000_000
    key: str = "0" * 12
    named: bool = True


class KeptElsewhereError(UnknownFitError):
    """Another process of the service has made the name that is asked for.

    Attributes
    ----------
    key : str
        Of that process.
    """

    def __init__(self, message: str, key: str) -> None:
        self.key = key
        super().__init__(message)


class KeptFits:
    """Fits by name; where they are too many or too large the one that was asked longest ago goes first."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._fits: OrderedDict[str, tuple[LMMFit, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fits)

    @property
    def bytes(self) -> int:
        """Of all fits that are kept."""
        return sum(size for _, size in self._fits.values())

    def check(self, asked: str | bool) -> None:
        """Refuse what cannot be kept, before work begins.

        Raises
        ------
        OptionError
        """
        if not self._keeping.fits:
            raise OptionError("keep= is for a service that keeps fits (docs/service.md)")
        if asked is not True and not self._keeping.named:
            raise OptionError(
                "keep: true asks for a name that the service makes, and the answer has it as kept; names of "
                "clients are for lines with one worker, as two clients may take the same"
            )

    def keep(self, asked: str | bool, fit: LMMFit, size: int | None = None) -> str | None:
        """The name under which the fit is kept; None for one that is larger than all may be.

        Parameters
        ----------
        asked : str or True
            A name, whose former fit is forgotten in any case; True for a new one.
        fit : LMMFit
        size : int, optional
            Of the fit, where `size_of` has told it already.
        """
        size = size_of(fit) if size is None else size
        name = f"{self._keeping.key}-{secrets.token_urlsafe(16)}" if asked is True else str(asked)
        self.forget(name)
        if size > self._keeping.memory:
            return None
        self._fits[name] = (fit, size)
        self._make_room()
        return name

    def _make_room(self) -> None:
        while len(self._fits) > self._keeping.fits or self.bytes > self._keeping.memory:
            self._fits.popitem(last=False)

    def of(self, name: str) -> LMMFit:
        """The fit of this name, which is the last to go from now on.

        Raises
        ------
        UnknownFitError
        KeptElsewhereError
        """
        if name not in self._fits:
            made = HANDLE.fullmatch(name)
            words = f"no fit is kept as '{name}'; send its data and formula again"
            if made is not None and made[1] != self._keeping.key:
                raise KeptElsewhereError(words, made[1])
            raise UnknownFitError(words)
        self._fits.move_to_end(name)
        return self._fits[name][0]

    def measure(self, name: str) -> None:
        """Count a large fit again after a question: what it has computed stays with it."""
        fit, size = self._fits.get(name, (None, 0))
        if fit is not None and size >= WORTH_MEASURING:
            self._fits[name] = (fit, size_of(fit))
            self._make_room()

    def forget(self, name: str) -> None:
        """Let go of a fit."""
        self._fits.pop(name, None)

    def clear(self) -> None:
        """Let go of all of them."""
        self._fits.clear()


def size_of(fit: LMMFit) -> int:
    """Bytes of a fit with all that it has computed; arrays are counted, not copied."""
    sizes: list[int] = []
    rest = pickle.dumps(fit, protocol=5, buffer_callback=lambda own: sizes.append(own.raw().nbytes))
    return len(rest) + sum(sizes)
