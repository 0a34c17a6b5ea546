#!/usr/bin/env python3
"""Run the two commands of the README on a bare Debian: a machine made by debootstrap, entered by chroot.

    sudo tools/bare_debian.py                       both commands on bookworm, trixie and forky
    sudo tools/bare_debian.py --suite trixie --command "make demo"

The machine has Debian's minimal system, Python, make and certificates, and a copy of the working tree;
everything else has to come from the commands themselves. How this machine reaches package indexes (name
servers, certificates, the settings of pip and apt, proxies) is passed on, so that it works behind a mirror.
Needs root and debootstrap; it mounts only in a name space of its own, and removes the machine at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("bookworm", "trixie", "forky")  # Python 3.11, 3.13, 3.14
COMMANDS = ("make demo", "make test")
INCLUDED = ("python3", "make", "ca-certificates")
PROJECT = "srv/fastlmm_core"

# Files that say how indexes are reached, copied where they exist.
NETWORK_FILES = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt",
)  # fmt: skip
MIRROR = "http://deb.debian.org/debian"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
NEWEST_SCRIPT = "sid"  # how a suite is made that is younger than this machine's debootstrap
NETWORK_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")

# Runs inside a mount name space: what is mounted here is gone with its last process.
ENTER = """
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/dev/shm"
exec chroot "$0" /bin/sh -c "cd /{project} && $1"
"""


def say(text: str) -> None:
    print(f"[bare Debian] {text}", flush=True)


def make_machine(suite: str, folder: Path, mirror: str | None) -> None:
    """Debian's minimal system with what the README takes for granted."""
    say(f"making {suite} in {folder}")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", suite, str(folder)]
    place = [mirror or MIRROR] if mirror or not (SCRIPTS / suite).exists() else []
    script = [] if (SCRIPTS / suite).exists() else [str(SCRIPTS / NEWEST_SCRIPT)]
    done = subprocess.run([*command, *place, *script], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\ndebootstrap failed")


def pass_network_on(folder: Path) -> None:
    """Copy how this machine reaches package indexes."""
    proxies = sorted(Path("/etc/apt/apt.conf.d").glob("*proxy*"))
    for source in (*map(Path, NETWORK_FILES), Path.home() / ".config/pip", *proxies):
        target = folder / source.relative_to("/")
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def environment() -> dict[str, str]:
    """What a login shell has, and the settings of pip, certificates and proxies of this one."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower().endswith("_proxy") or name in NETWORK_VARIABLES
    }
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **passed}


def copy_project(folder: Path) -> None:
    """The working tree: what git tracks or would track."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / PROJECT / name
        if source.is_file():  # not one that is deleted and not yet committed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def run_inside(folder: Path, command: str) -> int:
    """Status of a command in the project folder of the machine."""
    began = time.monotonic()
    script = ENTER.format(project=PROJECT)
    entered = ["unshare", "--mount", "--fork", "sh", "-c", script, str(folder), command]
    status = subprocess.run(entered, env=environment(), stdin=subprocess.DEVNULL).returncode
    say(f"{command}: status {status} after {time.monotonic() - began:.0f} s")
    return status


def accept_expired(folder: Path) -> None:
    """Let apt take release files of a mirror that is a snapshot, though their time is over."""
    (folder / "etc/apt/apt.conf.d/99snapshot").write_text('Acquire::Check-Valid-Until "false";\n')


def try_suite(suite: str, commands: list[str], options: argparse.Namespace) -> int:
    """Make a machine, run the commands one after another, remove it; the number that failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"bare-{suite}-", dir=options.folder))
    folder.chmod(0o755)
    try:
        make_machine(suite, folder, options.mirror)
        pass_network_on(folder)
        if options.snapshot:
            accept_expired(folder)
        copy_project(folder)
        return sum(run_inside(folder, command) != 0 for command in commands)
    finally:
        if options.keep:
            say(f"{suite} is kept in {folder}")
        else:
            shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the README's commands on a bare Debian.")
    parser.add_argument("--suite", action="append", choices=SUITES, help="default: all of them")
    parser.add_argument("--command", action="append", help=f"default: {', then '.join(COMMANDS)}")
    parser.add_argument("--mirror", help="of Debian (default: debootstrap's)")
    parser.add_argument("--snapshot", action="store_true", help="the mirror is one: take expired releases")
    parser.add_argument("--folder", help="where the machines are made (default: the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="do not remove the machines")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("bare_debian: needs root and debootstrap (apt-get install debootstrap)", file=sys.stderr)
        return 2
    commands = options.command or list(COMMANDS)
    failed = 0
    for suite in options.suite or SUITES:
        failed += try_suite(suite, commands, options)
    say(f"{failed} commands failed" if failed else "all commands passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
