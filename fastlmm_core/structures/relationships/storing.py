"""Relationships as texts and arrays, for fits in files; nothing in them is code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from fastlmm_core.errors import OptionError
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.blocks import BlockCovariance
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.relationships.markers import Markers
from fastlmm_core.structures.relationships.pedigree import Pedigree
from fastlmm_core.structures.relationships.sparse import SparseInverse

Arrays = Mapping[str, np.ndarray]
Texts = Mapping[str, Any]


class Stored(NamedTuple):
    """What is written of one kind of relationship, and how it is made again."""

    arrays: Callable[[Any], dict[str, Any]]
    restored: Callable[[Arrays, Texts], Relationship]


def _inverse(arrays: Arrays, texts: Texts) -> SparseInverse:
    size = len(texts["levels"])
    columns = (arrays["data"], arrays["indices"], arrays["indptr"])
    return SparseInverse(sp.csc_array(columns, shape=(size, size)), texts["levels"])


def _inverse_arrays(own: SparseInverse) -> dict[str, Any]:
    return dict(zip(("indptr", "indices", "data"), own.content(), strict=True))


def _blocks(arrays: Arrays, texts: Texts) -> BlockCovariance:
    sizes = arrays["sizes"]
    blocks = np.split(arrays["values"], np.cumsum(sizes**2)[:-1])
    return BlockCovariance([own.reshape(k, k) for own, k in zip(blocks, sizes, strict=True)], texts["levels"])


def _block_arrays(own: BlockCovariance) -> dict[str, Any]:
    values = [block.ravel() for block in own.blocks]
    return {"sizes": np.array([len(block) for block in own.blocks]), "values": np.concatenate(values)}


KINDS: dict[type[Relationship], Stored] = {
    Covariance: Stored(
        lambda own: {"matrix": own.matrix},
        lambda arrays, texts: Covariance(arrays["matrix"], texts["levels"]),
    ),
    SparseInverse: Stored(_inverse_arrays, _inverse),
    BlockCovariance: Stored(_block_arrays, _blocks),
    Pedigree: Stored(
        lambda own: own.codes(),
        lambda arrays, texts: Pedigree.of_codes((*texts.get("fixed_groups", ()), *texts["levels"]), arrays),
    ),
    Markers: Stored(
        lambda own: {"Z": own.Z, "scale": own.scale, "ridge": own.ridge},
        lambda arrays, texts: Markers.of_centred(
            arrays["Z"], texts["levels"], texts["markers"], float(arrays["scale"]), float(arrays["ridge"])
        ),
    ),
}


def described(own: Relationship) -> tuple[dict[str, Any], dict[str, Any]]:
    """Texts and arrays of a relationship.

    Raises
    ------
    OptionError
        For one of a class that is not of this library.
    """
    if type(own) not in KINDS:
        raise OptionError(
            f"relationships of the class {type(own).__name__} cannot be saved; pickle keeps the fit, or give "
            "the matrix itself, (matrix, levels)"
        )
    texts: dict[str, Any] = {"name": own.name, "kind": type(own).__name__, "levels": list(own.levels)}
    if isinstance(own, Markers):
        texts["markers"] = list(own.marker_names)
    if own.groups:
        texts["groups"] = list(own.groups)
    arrays = KINDS[type(own)].arrays(own)
    if own.group_shares is not None:
        texts["fixed_groups"] = list(own.group_shares.columns)
        if not isinstance(own, Pedigree):  # which has them from its parents
            arrays["group_shares"] = own.group_shares.to_numpy()
    return texts, arrays


def restored(texts: Texts, arrays: Arrays) -> Relationship:
    """The relationship that `described` gave; KeyError for a kind that this version does not know."""
    kinds = {kind.__name__: stored for kind, stored in KINDS.items()}
    own = kinds[texts["kind"]].restored(arrays, texts).named(texts["name"])
    own.groups = tuple(texts.get("groups", ()))
    if "group_shares" in arrays:
        own._group_shares = pd.DataFrame(arrays["group_shares"], list(own.levels), texts["fixed_groups"])
    return own
