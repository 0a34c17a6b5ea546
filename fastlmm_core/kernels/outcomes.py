"""How the fit of one trial ends: what kernels answer, and why a trial is left to the general path."""

from __future__ import annotations

OK, NO_ROWS, ONE_LEVEL, TOO_FEW_ROWS, TOO_LARGE, BAD_VALUES, DEPENDENT, NO_OPTIMUM, NO_INFERENCE = range(9)
