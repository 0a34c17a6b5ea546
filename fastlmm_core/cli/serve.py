"""`fastlmm serve`: requests of other programs, as lines or over HTTP; nothing heavy is loaded here."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING

from fastlmm_core.cli.interruption import INTERRUPTED
from fastlmm_core.cli.strangers import add_limit, limits_given
from fastlmm_core.errors import OptionError

if TYPE_CHECKING:
    from fastlmm_core.service.worker import WorkerOptions
    from fastlmm_core.service.workers import Workers

ADDRESS = "127.0.0.1:8155"
MEGABYTE = 1_000_000
LARGEST_LINE = 1_000_000_000  # from a program that runs the service itself
KEPT_FITS = 32
KEPT_MEMORY = 1_000_000_000  # bytes of them, in each process; over HTTP there are many, with many clients
KEPT_MEMORY_OVER_HTTP = 256 * MEGABYTE
SHARE = 0.25  # of --memory, at most


def add_serve(commands: argparse._SubParsersAction) -> None:
    """Describe the command to the parser."""
    serve = commands.add_parser(
        "serve",
        help="answer request documents until the end of input, or over HTTP",
        description="Answer request documents (docs/service.md): a line of JSON each on standard input, its "
        "answer as a line on standard output; with --http on a loopback address, with a token.",
    )
    serve.add_argument(
        "--http", nargs="?", const=ADDRESS, metavar="[HOST:]PORT",
        help=f"serve HTTP on the loopback interface (default: {ADDRESS}; port 0 takes any)",
    )  # fmt: skip
    serve.add_argument("--token", help="that clients show (better: --token-file, or FASTLMM_TOKEN)")
    serve.add_argument("--token-file", metavar="FILE", help="file with the token; made when it is not there")
    serve.add_argument(
        "--workers", type=int, metavar="N", help="processes that answer (default: 1; with --http all cores)"
    )
    serve.add_argument(
        "--seconds", type=float, metavar="S",
        help="time for one request, which is stopped after it (default: none; with --http 60)",
    )  # fmt: skip
    serve.add_argument("--max-body", metavar="SIZE", help="of one request (default: 1GB; with --http 64MB)")
    serve.add_argument("--connections", type=int, default=64, metavar="N", help="open at once (default: 64)")
    serve.add_argument("--memory", metavar="SIZE", help="of each worker, 4GB (default: what the machine has)")
    serve.add_argument(
        "--keep", type=int, default=KEPT_FITS, metavar="N",
        help=f"fits that each process keeps for questions (default: {KEPT_FITS})",
    )  # fmt: skip
    serve.add_argument(
        "--keep-memory", metavar="SIZE", help="of them, in each process (default: 1GB; with --http 256MB)"
    )
    serve.add_argument(
        "--allow-files", metavar="DIR", help="requests may name files in this folder (with --http: no others)"
    )
    serve.add_argument(
        "--allow-tables", metavar="DIR",
        help="requests may write their tables to new folders inside of it (default: nowhere)",
    )  # fmt: skip
    serve.add_argument("--inline-only", action="store_true", help="read no files at all")
    add_limit(serve)
    serve.set_defaults(command=serve_command, resident=True)


def serve_command(arguments: argparse.Namespace) -> int:
    """Serve until the end of input, SIGTERM or SIGINT; answers in flight are finished. Returns 0."""
    from fastlmm_core.service.workers import Workers

    _check(arguments)
    stop = _stop_on_signals()
    options = _worker_options(arguments)
    count = arguments.workers or (_cores() if arguments.http else 1)
    seconds = arguments.seconds if arguments.seconds or not arguments.http else 60.0
    workers = Workers(count, options, seconds)
    try:
        if arguments.http:
            _serve_http(arguments, workers, stop)
        else:
            _serve_lines(arguments, workers, stop)
    finally:
        workers.close()
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("workers", 1), ("connections", 1), ("seconds", 0.01), ("keep", 0)):
        value = getattr(arguments, name)
        if value is not None and not least <= value < 1e6:
            raise OptionError(f"--{name} {value:g} must be at least {least:g}")
    if not arguments.http and (arguments.token or arguments.token_file):
        raise OptionError("--token and --token-file belong to --http")
    if arguments.inline_only and arguments.allow_files:
        raise OptionError("give --allow-files or --inline-only, not both")


def _worker_options(arguments: argparse.Namespace) -> WorkerOptions:
    from fastlmm_core.service.worker import WorkerOptions

    root, tables_root = arguments.allow_files, arguments.allow_tables
    for option, folder in (("--allow-files", root), ("--allow-tables", tables_root)):
        if folder is not None and not os.path.isdir(folder):
            raise OptionError(f"{option} {folder} is not a folder")
    memory = None if arguments.memory is None else _bytes("--memory", arguments.memory)
    return WorkerOptions(
        root=root, tables_root=tables_root,
        inline_only=arguments.inline_only or bool(arguments.http and root is None),
        limits=limits_given(arguments.limit),
        memory=memory, keep=arguments.keep, keep_memory=_keep_memory(arguments, memory),
        named=not arguments.http and (arguments.workers or 1) == 1,
    )  # fmt: skip


def _keep_memory(arguments: argparse.Namespace, memory: int | None) -> int:
    if arguments.keep_memory is not None:
        return _bytes("--keep-memory", arguments.keep_memory)
    usual = KEPT_MEMORY_OVER_HTTP if arguments.http else KEPT_MEMORY
    return usual if memory is None else min(usual, int(SHARE * memory))


def _serve_lines(arguments: argparse.Namespace, workers: Workers, stop: int) -> None:
    from fastlmm_core.service.lines import serve_lines

    limit = _bytes("--max-body", arguments.max_body) if arguments.max_body else LARGEST_LINE
    serve_lines(workers, 0, 1, stop, limit)


def _serve_http(arguments: argparse.Namespace, workers: Workers, stop: int) -> None:
    from fastlmm_core.service.http import HttpLimits, RequestServer
    from fastlmm_core.service.tokens import token_given

    host, _, port = arguments.http.rpartition(":")
    if not port.isdigit():
        raise OptionError(f"--http {arguments.http}: write PORT or HOST:PORT, for example {ADDRESS}")
    token, where = token_given(arguments.token, arguments.token_file)
    body = _bytes("--max-body", arguments.max_body) if arguments.max_body else 64 * MEGABYTE
    limits = HttpLimits(body=body, connections=arguments.connections)
    with RequestServer(host or "127.0.0.1", int(port), token, workers, limits) as server:
        workers.wait_until_ready()
        address = "{}:{}".format(*server.server_address[:2])
        print(f"fastlmm: serving on http://{address}, token: {where}", file=sys.stderr, flush=True)
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        select.select([stop], [], [])
        server.finish()


def _stop_on_signals() -> int:
    """A descriptor that is readable after SIGTERM or SIGINT; a second signal ends the process at once."""
    readable, writable = os.pipe()
    told = False

    def tell(number: int, frame: object) -> None:
        nonlocal told
        if told:
            os._exit(INTERRUPTED)
        told = True
        os.write(writable, b".")

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by who started us, as R does with Ctrl-C
            signal.signal(number, tell)
    return readable


def _bytes(option: str, text: str) -> int:
    from fastlmm_core.limits import in_bytes

    return in_bytes(option, text)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
