"""The token that a client of the HTTP service shows with every request."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from fastlmm_core.errors import DataError, OptionError

SHORTEST = 16  # characters
VARIABLE = "FASTLMM_TOKEN"


def token_given(text: str | None, file: str | None) -> tuple[str, str]:
    """The token and where it comes from: an option, a file, the environment, or made now.

    A file that does not exist is written with a new token, for its owner only.

    Raises
    ------
    OptionError
        For one that is short, holds spaces, or for two sources.
    DataError
        For a file that others may read.
    """
    if text and file:
        raise OptionError("give --token or --token-file, not both")
    if file:
        return _of_file(Path(file)), f"in {file}"
    given = text or os.environ.get(VARIABLE)
    if given:
        return _checked(given), "as given" if text else f"in {VARIABLE}"
    made = secrets.token_urlsafe(32)
    return made, made


def matches(shown: str | None, token: str) -> bool:
    """Whether the header ``Authorization: Bearer <token>`` shows the token; in a time that tells nothing."""
    expected = f"Bearer {token}".encode()
    return hmac.compare_digest((shown or "").encode("latin-1", "replace"), expected)


def _of_file(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise DataError(f"--token-file '{path}' cannot be written: {error.strerror}") from None
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path) -> str:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise DataError(f"--token-file '{path}' can be read by others: chmod 600 '{path}'")
        return _checked(path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--token-file '{path}' cannot be read: {error}") from None


def _checked(token: str) -> str:
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise OptionError(f"a token has at least {SHORTEST} ASCII characters and no space")
    return token
