"""A bar where there is a terminal and tqdm, nothing elsewhere."""

import logging
import sys

import pytest

from fastlmm_core.progress_bar import terminal_bar

logger = logging.getLogger("fastlmm_core.tests")


def test_a_bar_below_its_heading(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = terminal_bar(5, True, logger, heading="five of them", unit="pair")
    bar.update(5)
    bar.close()
    shown = capsys.readouterr().err
    assert shown.startswith("five of them\n")
    assert "5/5" in shown


def test_none_that_is_not_wanted(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert terminal_bar(5, False, logger, heading="five of them") is None
    assert not capsys.readouterr().err


def test_none_without_a_terminal(capsys):
    assert terminal_bar(5, True, logger, heading="five of them") is None
    assert not capsys.readouterr().err


def test_none_without_tqdm(monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.INFO, "fastlmm_core.tests"):
        assert terminal_bar(5, True, logger) is None
    assert "tqdm is not installed" in caplog.text
