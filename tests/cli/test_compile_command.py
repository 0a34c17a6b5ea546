"""`fastlmm compile`: its parts, and where nothing can be kept."""

import pytest

from fastlmm_core.cli import compile as command
from fastlmm_core.cli import main


@pytest.mark.compiled
def test_without_a_folder_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(command.factorize._cache, "kept", False)
    assert main(["compile"]) == 2
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["fits"], ["batches"]])
def test_parts(words, monkeypatch):
    kinds, done = {"fits": "ab", "batches": "c"}, []
    own = {kind: [lambda name=name: done.append(name) for name in names] for kind, names in kinds.items()}
    monkeypatch.setattr(command, "KINDS", own)
    assert main(["compile", *words]) == 0
    assert "".join(done) == (kinds[words[0]] if words else "abc")
