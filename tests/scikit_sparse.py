"""scikit-sparse is an extra: what compares with CHOLMOD is left out where it is not installed."""

import pytest

from fastlmm_core.errors import DependencyError
from fastlmm_core.linalg.suitesparse import load_cholmod


def is_installed():
    try:
        load_cholmod()
    except DependencyError:
        return False
    return True


needs_scikit_sparse = pytest.mark.skipif(not is_installed(), reason="scikit-sparse is not installed")
