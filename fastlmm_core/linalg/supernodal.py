"""Large factors: multifrontal Cholesky on supernodes, with BLAS."""

from __future__ import annotations

import numpy as np

from fastlmm_core.kernels.blas import ADDRESSES
from fastlmm_core.kernels.factor.supernodal_factor import eliminate_fronts, place_entries
from fastlmm_core.linalg.panels import PanelFactor
from fastlmm_core.linalg.threads import blas_threads


class SupernodalFactor(PanelFactor):
    """Multifrontal factor; the matrix comes in elimination order.

    Parameters
    ----------
    indptr, indices : scalar lower-triangular pattern of C
    fronts : (k, 2) int64
        First and last columns of fronts that may be sparse.
    """

    def factorize(self, C_data: np.ndarray) -> bool:
        s, L = self.symbolic, self._panels()
        place_entries(C_data, s.position, L)
        assembled = np.zeros(s.nodes.above.size, bool)
        with blas_threads.single(), self._work_arrays() as work:
            # a copy: backwards, one front alone has another layout than several, which is another kernel
            for fronts in self._runs(s.up.order[::-1].copy()):
                if eliminate_fronts(ADDRESSES, s.nodes, s.up.offset, fronts, assembled, L, *work) >= 0:
                    return False
        return True
