"""Ctrl-C: status 130 and one line, in Python code, in imports and in compiled code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from fastlmm_core import cli, datasets
from fastlmm_core.cli import interruption, main

# A command whose work is one call of compiled code, longer than any test waits: Python raises nothing there.
COMPILED = """
import sys
from numba import njit
import fastlmm_core.cli as cli
import fastlmm_core.cli.demo as demo

@njit(nogil=True)
def spin(n):
    total = 0.0
    for i in range(n):
        total += (i * 1e-9) ** 0.5
    return total

def command(arguments):
    spin(10)
    print("compiled", flush=True)
    return int(spin(10**13) < 0.0)

demo.demo_command = command
sys.argv = ["fastlmm", "demo"]
sys.exit(cli.main())
"""


def interrupted(code: str, word: str) -> tuple[int, str, float]:
    """Status, standard error and seconds from Ctrl-C to the end; sent when the process has printed `word`."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().strip() == word
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said, time.monotonic() - began


def test_ctrl_c_ends_compiled_code():
    status, said, seconds = interrupted(COMPILED, "compiled")
    assert (status, said) == (interruption.INTERRUPTED, "fastlmm: stopped\n")
    assert seconds < 2.0


def test_ctrl_c_in_the_imports_of_a_command_is_one_line():
    """Where KeyboardInterrupt would come out as an ImportError of an extension module."""
    code = (
        "import sys\nimport fastlmm_core.cli as cli\nsys.argv = ['fastlmm', 'demo', '--no-plot']\n"
        "print('going', flush=True)\nsys.exit(cli.main())"
    )
    status, said, _ = interrupted(code, "going")
    # a signal before main() took over is Python's own; after that the line is ours
    assert status in (interruption.INTERRUPTED, -signal.SIGINT)
    if status == interruption.INTERRUPTED:
        assert said == "fastlmm: stopped\n"


@pytest.mark.parametrize("argv", [["demo"], ["run", "-"], ["fit", "a.csv", "y~1"]])
def test_main_called_from_python_returns_130(monkeypatch, capfd, argv):
    def stop(arguments):
        raise KeyboardInterrupt

    for name in ("_demo", "_run", "_fit"):
        monkeypatch.setattr(cli, name, stop)
    before = signal.getsignal(signal.SIGINT)
    assert main(argv) == 130
    assert capfd.readouterr().err == "fastlmm: stopped\n"
    assert signal.getsignal(signal.SIGINT) is before  # the caller's handling of Ctrl-C is not ours to change


def test_ignored_ctrl_c_stays_ignored():
    """As under nohup, or in the background of a script."""
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from fastlmm_core.cli.interruption import leave_on_interrupt\n"
        "leave_on_interrupt(lambda: 'stopped')\nassert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "import os\nos.kill(os.getpid(), signal.SIGINT)\nprint('going on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "going on\n", "")


def test_files_are_written_although_the_reader_of_the_output_left(tmp_path):
    """As with ``| head``: the pipe is closed before the first line is printed."""
    command = [sys.executable, "-m", "fastlmm_core.cli", "fit", str(datasets.path("oats")), "Y ~ V + (1|B)",
               "--emmeans", "V", "--out", str(tmp_path / "o")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(timeout=300) == 0, said
    assert "error" not in said
    names = {path.stem for path in (tmp_path / "o").glob("[!.]*")}
    assert names == {"fixed_effects", "variance_components", "emmeans_V", "blups"}


@pytest.mark.parametrize("more", [[], ["-u"]])
def test_output_is_written_as_it_was(more):
    """At once with ``python -u``, and as a whole in any case."""
    code = (
        "import sys\nfrom fastlmm_core.cli.strangers import outlasting\nbefore = sys.stdout.write_through\n"
        "sys.stdout = outlasting(sys.stdout)\nassert sys.stdout.write_through == before == "
        f"{bool(more)}\nprint('\u00fc', 'last')"
    )
    plain = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, *more, "-c", code], capture_output=True, env=plain)
    assert (done.returncode, done.stdout.decode().split()) == (0, ["\u00fc", "last"]), done.stderr
