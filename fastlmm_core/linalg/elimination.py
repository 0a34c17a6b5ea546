"""Choice of the elimination order of the nodes of the mixed model equations."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from fastlmm_core.kernels.ordering import order_minimum_degree

# Up to here the graph is kept as a dense matrix of booleans (2 MB) and ordered by a kernel.
SMALL_GRAPH = 1400


def order_nodes(
    below_ptr: np.ndarray, below: np.ndarray, node_size: np.ndarray, last: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """Fill-reducing order of a node graph.

    Parameters
    ----------
    below_ptr, below : int64 arrays
        Strict lower triangle of the graph in compressed columns.
    node_size : (N,) int64
        Scalars per node.
    last : (N,) bool, optional
        Nodes that are eliminated after all others.

    Returns
    -------
    perm : (N,) int64
        perm[k] is eliminated k-th.
    name : str
        Method used.
    """
    n_nodes = node_size.size
    if n_nodes <= SMALL_GRAPH:
        mask = np.zeros(n_nodes, np.bool_) if last is None else np.ascontiguousarray(last)
        return order_minimum_degree(below_ptr, below, node_size, mask), "minimum degree"
    from fastlmm_core.linalg.ordering import order_graph

    graph = sp.csc_array((np.ones(below.size), below, below_ptr), shape=(n_nodes, n_nodes))
    if last is None or not last.any():
        return order_graph(graph)
    first = np.flatnonzero(~last)
    perm, name = order_graph(sp.csc_array(graph[first][:, first]))
    return np.concatenate((first[perm], np.flatnonzero(last))), name
