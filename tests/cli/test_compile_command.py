"""`fastlmm compile` where nothing can be kept."""

import pytest

from fastlmm_core.cli import compile as command
from fastlmm_core.cli import main


@pytest.mark.compiled
def test_without_a_folder_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(command.factorize._cache, "kept", False)
    assert main(["compile"]) == 2
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err
