#!/usr/bin/env python3
"""Install a wheel in an empty environment without compiler and run the first example of the README.

    python tools/try_wheel.py dist/fastlmm_core-*.whl

What pip installs has to come as wheels; scikit-sparse, which has none, must not be among it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def first_example() -> tuple[str, str]:
    """The first block of Python of the README and what it prints."""
    blocks = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    code, printed = blocks[0]
    return code, printed


def main(wheel: str) -> int:
    began = time.monotonic()
    path = Path(wheel).resolve()
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        bin_folder = folder / "venv" / "bin"
        # nothing but the environment's own commands: no cc, no gcc
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CC", "CXX"))}
        environ |= {"PATH": str(bin_folder), "HOME": name}
        pip = [str(bin_folder / "python"), "-m", "pip"]
        install = [*pip, "install", "--quiet", "--only-binary", ":all:", str(path)]
        subprocess.run(install, check=True, env=environ, cwd=name)
        listed = subprocess.check_output([*pip, "list"], env=environ, cwd=name)
        if b"scikit-sparse" in listed:
            print("scikit-sparse was installed with the wheel", file=sys.stderr)
            return 1
        installed = time.monotonic() - began
        code, expected = first_example()
        command = [str(bin_folder / "python"), "-c", code]
        done = subprocess.run(command, env=environ, cwd=name, capture_output=True, text=True)
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        size = sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
        total = time.monotonic() - began
    print(f"[wheel] installed in {installed:.0f} s, first figures after {total:.0f} s, {size / 1e6:.0f} MB")
    if done.returncode or done.stdout.strip() != expected.strip():
        print("the example of the README did not print what stands there", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
