"""Files that are whole or not there: their bytes are on the disk before their name is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

ATTEMPTS = 5  # to place a file


def is_temporary(name: str) -> bool:
    """Whether a file is one that `place_file` had not finished."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", name) is not None


def place_file(target: Path, data: bytes) -> None:
    """Write a file whole and durably, or not at all: its bytes are on the disk before its name is.

    Another process that tidies the folder may take a file that is being written for what a killed one left:
    it is written again then.
    """
    for left in reversed(range(ATTEMPTS)):
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            break
        except FileNotFoundError:
            if not left:
                raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def signed(content: dict[str, Any]) -> bytes:
    """A JSON object with a checksum of its own."""
    own = checksum(json.dumps(content, sort_keys=True).encode())
    return json.dumps({**content, "checksum": own}, indent=1).encode()


def read_signed(path: Path) -> dict[str, Any] | None:
    """The object that `signed` wrote; None when the file is missing, cut or changed."""
    try:
        content = json.loads(path.read_bytes())
        own = content.pop("checksum")
        return content if own == checksum(json.dumps(content, sort_keys=True).encode()) else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
