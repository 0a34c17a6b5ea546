"""Known relationships between the levels of a factor: pedigrees, markers, matrices."""

from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.blocks import BlockCovariance
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.relationships.given import (
    as_relationship,
    check_parts,
    made_of,
    made_together,
    relationship_from_request,
)
from fastlmm_core.structures.relationships.marker_effects import MarkerEffects
from fastlmm_core.structures.relationships.markers import Markers
from fastlmm_core.structures.relationships.pedigree import Pedigree
from fastlmm_core.structures.relationships.single_step import blend, single_step
from fastlmm_core.structures.relationships.sparse import SparseInverse

__all__ = [
    "BlockCovariance",
    "Covariance",
    "MarkerEffects",
    "Markers",
    "Pedigree",
    "Relationship",
    "SparseInverse",
    "as_relationship",
    "blend",
    "check_parts",
    "made_of",
    "made_together",
    "relationship_from_request",
    "single_step",
]
