"""How the levels of a random term are related: what the design hands to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LevelFactor:
    """One factor of a Kronecker product over the levels.

    Attributes
    ----------
    kind : str
        ``"id"`` independent levels, ``"ar1"`` positions in a line one apart, ``"vm"`` a known relationship.
    name : str
        The factor, ``"row"``; ``"rep:block"`` where adjacent independent factors are joined.
    levels : tuple of str
        Of a relationship all of them, of positions the used range without gaps.
    relationship : Relationship or None
    """

    kind: str
    name: str
    levels: tuple[str, ...]
    relationship: Any = None

    @property
    def size(self) -> int:
        return len(self.levels)


@dataclass(frozen=True)
class LevelRelation:
    """The relation of all levels of a term: the product of its factors, the first varying slowest."""

    factors: tuple[LevelFactor, ...]

    @property
    def size(self) -> int:
        """Number of levels of the product."""
        size = 1
        for factor in self.factors:
            size *= factor.size
        return size
