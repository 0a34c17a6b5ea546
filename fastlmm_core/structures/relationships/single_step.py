"""Markers together with a pedigree: blended G and the inverse of single-step models."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotrf

from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.gate import public
from fastlmm_core.options import NUMBER, SWITCH
from fastlmm_core.structures.relationships.base import Relationship
from fastlmm_core.structures.relationships.dense import Covariance
from fastlmm_core.structures.relationships.pedigree import Pedigree
from fastlmm_core.structures.relationships.sparse import SparseInverse

SHARE = {"type": "number", "minimum": 0}


@public(share=SHARE, tune=SWITCH)
def blend(
    genomic: Relationship, pedigree: Pedigree, share: float = 0.05, *, tune: bool = False
) -> Covariance:
    """(1 - share) G + share A of the levels of `genomic`.

    Parameters
    ----------
    genomic : Markers or Covariance
    pedigree : Pedigree
        Holds all levels of `genomic`. Genetic groups are plain unknown parents here.
    share : float
        Part of the pedigree relationships, from 0 to 1.
    tune : bool
        First bring G onto the base of the pedigree, a + b G with the mean of all elements and the mean
        diagonal of A (Christensen et al. 2012).
    """
    if not isinstance(pedigree, Pedigree) or not isinstance(genomic, Relationship):
        raise OptionError(
            "give a Pedigree and Markers or a Covariance, not "
            f"{type(pedigree).__name__} and {type(genomic).__name__}"
        )
    if share > 1.0:
        raise OptionError(f"share={share!r} must lie between 0 and 1, for example 0.05")
    by_descent = pedigree.without_groups()
    by_descent.locate(genomic.levels, "levels of the genomic relationship")
    A = by_descent.relationship(genomic.levels).to_numpy()
    G = genomic.multiply(np.eye(genomic.size))
    if tune:
        G = _tuned(G, A)
    return Covariance((1.0 - float(share)) * G + float(share) * A, genomic.levels)


def _tuned(G: np.ndarray, A: np.ndarray) -> np.ndarray:
    spread = float(np.diag(G).mean() - G.mean())
    if not spread > 0.0:
        raise DataError("tune=True needs relationships that differ within and between levels")
    b = (np.diag(A).mean() - A.mean()) / spread
    return A.mean() - b * G.mean() + b * G


@public(share=SHARE, tune=SWITCH, tau=NUMBER, omega=NUMBER)
def single_step(
    pedigree: Pedigree,
    genomic: Relationship,
    share: float = 0.05,
    *,
    tune: bool = False,
    tau: float = 1.0,
    omega: float = 1.0,
) -> SparseInverse:
    """H^-1 = A^-1 + (0, 0; 0, tau G^-1 - omega A22^-1) for individuals with and without genotypes.

    Parameters
    ----------
    pedigree : Pedigree
        Of all individuals.
    genomic : Markers or Covariance
        Of those with genotypes, the block 22.
    share, tune
        As in `blend`, which makes G invertible.
    tau, omega : float
        Weights of the two inverses.

    Raises
    ------
    DataError
        For a pedigree or a blended G that has no inverse.
    OptionError
        For `tau` and `omega` with which H^-1 is not positive definite.

    Notes
    -----
    Aguilar et al. (2010); Christensen & Lund (2010). Of those with genotypes H is the inverse of
    tau G^-1 + (1 - omega) A22^-1. With genetic groups u = a + Q g, H is that of a, and the inverse that of
    groups and individuals: A^-1 and the block both are transformed (Misztal et al. 2013, J. Anim. Breed.
    Genet. 130:252), so that genotypes say of the groups what they say of u - Q g.

    Examples
    --------
    >>> from fastlmm_core import Pedigree
    >>> family = Pedigree({"id": list("abcd"), "sire": ["", "", "a", "c"], "dam": ["", "", "b", "b"]})
    >>> from fastlmm_core import Markers, single_step
    >>> snps = Markers({"id": ["c", "d"], "m1": [0, 1], "m2": [2, 1], "m3": [1, 1]})
    >>> single_step(family, snps)
    SparseInverse of 4 levels, 14 entries
    Next: .relationship(names), lmm("y ~ 1 + (1 | vm(animal, A))", data, relationships={"A": A})
    """
    G = blend(genomic, pedigree, share, tune=tune)
    if G.root() is not None:
        raise DataError(f"the blended G is singular (share={share:g}); give the pedigree a larger share")
    by_descent = pedigree.precision()  # where A has an inverse A22 has one
    A = pedigree.without_groups().relationship(genomic.levels).to_numpy()
    A_inverse = cho_solve(cho_factor(A, lower=True), np.eye(G.size))
    G_inverse = G.precision().toarray()
    if dpotrf(tau * G_inverse + (1.0 - omega) * A_inverse, lower=1)[1] != 0:
        raise OptionError(
            f"with tau={tau:g} and omega={omega:g} H^-1 is not positive definite; with tau above 0 and omega "
            "up to 1 it always is"
        )
    block = tau * G_inverse - omega * A_inverse
    places = pedigree.locate(genomic.levels, "single_step")
    if pedigree.groups:
        Q = pedigree.group_contributions().loc[list(genomic.levels)].to_numpy()
        within = np.hstack([-Q, np.eye(G.size)])  # a = u - Q g
        block, places = within.T @ block @ within, np.concatenate([np.arange(Q.shape[1]), places])
    row, col = np.repeat(places, places.size), np.tile(places, places.size)
    full = sp.csc_array((block.ravel(), (row, col)), shape=(pedigree.size, pedigree.size))
    H = SparseInverse(by_descent + full, pedigree.levels)
    H.groups, H._group_shares = pedigree.groups, pedigree.group_shares
    return H
