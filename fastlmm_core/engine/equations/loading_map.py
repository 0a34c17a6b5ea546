"""F of u = F s: what the equations need of the loadings, C = F' G F, M = F C^-1 F', and sums over levels.

`BlockLoadings` holds where every natural node has a spherical one of its own: the blocks of pairs of nodes
are multiplied as they stand in G and C. `EntryLoadings` is the general form, in which a coefficient may load
on several nodes: on what it shares with others, and on its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from fastlmm_core.engine.equations.layout import Side
from fastlmm_core.engine.equations.nodes import NodeGroup
from fastlmm_core.kernels.equations.loading_entries import assemble_entries, read_inverse_entries
from fastlmm_core.kernels.equations.loadings import apply_loadings, assemble_loadings, read_inverse


class BlockLoadings:
    """F by blocks Lambda of pairs of nodes.

    Parameters
    ----------
    groups : sequence of NodeGroup
        Of the spherical nodes.
    graph : tuple
        (below_ptr, below, group) of the nodes of both sides.
    """

    def __init__(
        self, groups: Sequence[NodeGroup], graph: tuple[np.ndarray, ...], natural: Side, spherical: Side
    ):
        self.graph, self.groups = graph, groups
        self.natural, self.spherical = natural, spherical
        self.whole = [own.term for own in groups] == list(range(len(groups)))

    def _blocks(self, loadings: np.ndarray) -> np.ndarray:
        """Lambda of every group (groups + 2, m, r) from that of every term (K + 2, m, r)."""
        if self.whole:
            return loadings
        m = max((len(own.coefficients) for own in self.groups), default=1)
        r = max((len(own.scalars) for own in self.groups), default=1)
        out = np.zeros((len(self.groups) + 2, m, r))
        out[-2:, 0, 0] = 1.0
        for g, own in enumerate(self.groups):
            a, c = own.coefficients, own.scalars
            out[g, : len(a), : len(c)] = loadings[own.term, a.start : a.stop, c.start : c.stop]
        return out

    def assemble(self, G: np.ndarray, loadings: np.ndarray, C: np.ndarray) -> None:
        """C += F' G F, (nnz(C),)."""
        sides = self.natural.pattern, self.spherical.pair
        assemble_loadings(G, self.graph, *sides, self._blocks(loadings), C)

    def read_inverse(
        self, G: np.ndarray, C_inv: np.ndarray, loadings: np.ndarray, spread: bool,
        blocks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """What a gradient reads of C^-1, which lies on the pattern of C.

        Sums over the levels of the blocks of G F C^-1 (K + 2, m, r), half of d log|C| / d Lambda; and, to
        `spread` it, M = F C^-1 F' on the pattern of G (nnz(G),). The blocks themselves are added to `blocks`
        (q, max r) in the rows of their natural scalars, where these are wanted.
        """
        own_loadings = self._blocks(loadings)
        W = np.zeros((self.natural.size, own_loadings.shape[2])) if blocks is None else blocks
        M = np.empty(G.size if spread else 0)
        read_inverse(G, C_inv, self.graph, self.natural.pattern, self.spherical.pair, own_loadings, W, M)
        out = np.zeros_like(loadings)
        for own in self.groups:
            a, c = own.coefficients, own.scalars
            rows = self.natural.rows[own.term][:, a.start : a.stop]
            out[own.term, a.start : a.stop, c.start : c.stop] = W[rows, : len(c)].sum(axis=0)
        return out, M

    def matrix(self, loadings: np.ndarray) -> sp.csr_array:
        """As of `EntryLoadings`."""
        entries = EntryLoadings(loadings.shape, self.groups, self.natural, self.spherical)
        return entries.matrix(loadings)

    def spread(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F B (q, k) of B (q', k)."""
        out = np.empty((self.natural.size, B.shape[1]))
        starts = self.natural.start, self.spherical.start
        apply_loadings(self.graph[2], *starts, self._blocks(loadings), B, out)
        return out

    def gather(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F' B (q', k) of B (q, k)."""
        out = np.empty((self.spherical.size, B.shape[1]))
        turned = np.ascontiguousarray(np.swapaxes(self._blocks(loadings), 1, 2))
        apply_loadings(self.graph[2], self.spherical.start, self.natural.start, turned, B, out)
        return out


class EntryLoadings:
    """F by its entries, each a number of the loadings (K + 2, m, r)."""

    def __init__(
        self, shape: tuple[int, ...], groups: Sequence[NodeGroup], natural: Side, spherical: Side
    ):
        self.natural, self.spherical = natural, spherical
        K, m, r = shape[0] - 2, *shape[1:]
        rows, columns, places = [], [], []
        for own in groups:
            for a in own.coefficients:
                for c in own.scalars:
                    rows.append(natural.rows[own.term][:, a])
                    columns.append(spherical.rows[own.term][:, c])
                    places.append(np.full(own.n_levels, (own.term * m + a) * r + c))
        for t, (one, other) in enumerate(
            ((natural.missing, spherical.missing), (natural.fixed, spherical.fixed))
        ):
            rows.append(one)
            columns.append(other)
            places.append(np.full(one.size, (K + t) * m * r))
        row, column = np.concatenate(rows), np.concatenate(columns)
        order = np.lexsort((column, row))
        counts = np.bincount(row, minlength=natural.size)
        self.indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        self.indices = column[order].astype(np.int64)
        self.place = np.concatenate(places)[order]

    def _entries(self, loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.indptr, self.indices, loadings.ravel()[self.place]

    def matrix(self, loadings: np.ndarray) -> sp.csr_array:
        """F (q, q'); zeros of the loadings stay entries, for they stand on the pattern of C too."""
        indptr, indices, values = self._entries(loadings)
        return sp.csr_array((values, indices, indptr), shape=(self.natural.size, self.spherical.size))

    def assemble(self, G: np.ndarray, loadings: np.ndarray, C: np.ndarray) -> None:
        """As of `BlockLoadings`."""
        assemble_entries(G, *self._patterns, self._entries(loadings), C)

    def read_inverse(
        self, G: np.ndarray, C_inv: np.ndarray, loadings: np.ndarray, spread: bool,
        blocks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """As of `BlockLoadings` without the blocks; the sums stand at the entries of F, zeros elsewhere."""
        W, M = np.zeros_like(loadings), np.empty(G.size if spread else 0)
        read_inverse_entries(G, C_inv, *self._patterns, self._entries(loadings), self.place, W.ravel(), M)
        return W, M

    def spread(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F B (q, k) of B (q', k)."""
        return np.asarray(self.matrix(loadings) @ B)

    def gather(self, loadings: np.ndarray, B: np.ndarray) -> np.ndarray:
        """F' B (q', k) of B (q, k)."""
        return np.asarray(self.matrix(loadings).T @ B)

    @property
    def _patterns(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Of G and of C."""
        return (
            (self.natural.indptr, self.natural.indices), (self.spherical.indptr, self.spherical.indices),
        )  # fmt: skip
