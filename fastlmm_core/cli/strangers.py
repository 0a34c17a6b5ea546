"""What every command does about input and output that it cannot trust: limits, one line, full disks."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from fastlmm_core.errors import DataError, FastLMMError, OptionError, clipped

ROOM_TO_START = 700_000_000  # bytes of address space; with 500 MB the libraries do not load, with 800 they do


class _StoreOnce(argparse._StoreAction):
    """An option that may be given once: argparse would keep the last value and forget the others."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:  # fmt: skip
        if self.option_strings and getattr(namespace, self.dest, self.default) is not self.default:
            several = "; several stand in one, with commas" if str(self.metavar).endswith("S") else ""
            raise argparse.ArgumentError(self, f"is given twice{several}")
        super().__call__(parser, namespace, values, option_string)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one printable line, and whose options do not replace each other."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {clipped(message)} ({self.prog} --help)\n")


def add_limit(parser: argparse.ArgumentParser) -> None:
    """The option that raises a limit."""
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=SIZE",
        help="raise (or lower) a limit: formula_length, terms, columns, coefficients, levels, expansion, "
        "file_size=20GB (docs/security.md)",
    )  # fmt: skip


def limits_given(texts: list[str]) -> dict[str, str]:
    """{name: size} of the options ``--limit name=size``.

    Raises
    ------
    OptionError
        For one without "=".
    """
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals:
            raise OptionError(f"--limit {name}: write NAME=SIZE, for example --limit terms=20000")
    return {name.strip(): size.strip() for name, _, size in pairs}


@contextmanager
def written(target: Path) -> Iterator[None]:
    """Turn what goes wrong while `target` is written into one line.

    Raises
    ------
    DataError
    """
    if not target.parent.is_dir():
        raise DataError(f"folder '{target.parent}' for '{target.name}' does not exist")
    try:
        yield
    except OSError as err:
        raise DataError(f"'{target}' cannot be written: {err.strerror}") from err


def check_room() -> None:
    """Say so where a limit of the shell leaves too little memory even to load the libraries.

    Raises
    ------
    MemoryExhaustedError
    """
    from fastlmm_core.errors import MemoryExhaustedError

    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):  # not on Linux
        return
    if limit != resource.RLIM_INFINITY and limit - used < ROOM_TO_START:
        raise MemoryExhaustedError(
            f"{max(limit - used, 0) / 1e6:.0f} MB of memory are left by ulimit -v; the libraries alone need "
            f"{ROOM_TO_START / 1e6:.0f} MB"
        )


def say_note(words: str) -> None:
    """One line on standard error."""
    print(f"fastlmm: note: {words}", file=sys.stderr)


class _Outlasting(io.FileIO):
    """A file descriptor that writes into nothing once its reader is gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            _into_nothing(self.fileno())
            return len(data)


def outlasting(stream: Any) -> Any:
    """Standard output that lets a command finish, and write its files, after ``| head`` has seen enough."""
    if not isinstance(stream, io.TextIOWrapper) or os.name != "posix":
        return stream
    stream.flush()
    raw = _Outlasting(stream.fileno(), "w", closefd=False)
    at_once = stream.write_through  # python -u
    buffer: Any = raw if at_once else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=stream.line_buffering,
        write_through=at_once,
    )  # fmt: skip


def refused(error: Exception) -> int:
    """Print the one line of an error and return the status of the command.

    A pipe whose reader went away is no error. Standard output that cannot take what is printed is closed, so
    that the interpreter does not fail a second time when it ends.
    """
    if isinstance(error, BrokenPipeError):
        _leave_stdout()
        return 0
    if not isinstance(error, FastLMMError):
        from fastlmm_core.gate import ours_of

        if isinstance(error, OSError) and error.filename is None:
            _leave_stdout()
            error = DataError(f"standard output cannot be written: {error.strerror or error}")
        error = ours_of(error)
    print(f"fastlmm: error: {error}", file=sys.stderr)
    return 2


def _leave_stdout() -> None:
    try:
        _into_nothing(sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no file
        pass


def _into_nothing(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
