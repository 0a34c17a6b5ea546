"""A folder of bootstrap blocks that survives an interruption: whole files with checksums, or none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlmm_core.durable_files import checksum, place_file, read_signed, signed
from fastlmm_core.errors import DataError, OptionError
from fastlmm_core.intervals.refits import Refits

if TYPE_CHECKING:
    from fastlmm_core.results.random_part import RandomPart

MANIFEST = "bootstrap.json"


class BlockStore:
    """Refits by block: ``block-000000.npz`` beside a manifest that says of which fit, kind and seed they are.

    The number of draws is no part of it: a longer bootstrap goes on where a shorter one ended.

    Raises
    ------
    OptionError
        When the folder holds something else.
    DataError
        When it cannot be used.
    """

    def __init__(self, folder: str | Path, fit: RandomPart, kind: str, seed: int, block: int):
        self.folder = Path(folder)
        ours = {
            "formula": fit.formula, "residual": fit.design.residual.text, "method": fit.method, "kind": kind,
            "seed": seed, "block": block, "fit": fingerprint(fit),
        }  # fmt: skip
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            found = read_signed(self.folder / MANIFEST)
            if found is None and any(self.folder.iterdir()):
                raise OptionError(f"out='{folder}' is a folder with other files in it; name a new one")
            if found is not None and found != ours:
                names = [name for name in ours if found.get(name) != ours[name]]
                raise OptionError(
                    f"out='{folder}' holds another bootstrap (it differs in {', '.join(names)}); "
                    "name a new folder"
                )
            if found is None:
                place_file(self.folder / MANIFEST, signed(ours))
        except OSError as error:
            raise DataError(f"out='{folder}' cannot be used: {error.strerror or error}") from error

    def _path(self, number: int) -> Path:
        return self.folder / f"block-{number:06d}.npz"

    def read(self, number: int, size: int) -> Refits | None:
        """A block of `size` draws; None where it is missing, damaged or of another size."""
        try:
            data = self._path(number).read_bytes()
            own, content = data[:64].decode("ascii"), data[64:]
            if own != checksum(content):
                return None
            with np.load(io.BytesIO(content)) as arrays:
                found = Refits(arrays["estimates"], arrays["singular"], arrays["failed"])
        except (OSError, ValueError, KeyError):
            return None
        return found if len(found.failed) == size else None

    def write(self, number: int, refits: Refits) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, estimates=refits.estimates, singular=refits.singular, failed=refits.failed)
        content = buffer.getvalue()
        place_file(self._path(number), checksum(content).encode("ascii") + content)


def fingerprint(fit: RandomPart) -> str:
    """Checksum of what the draws follow from: response, weights and estimates."""
    parts: list[Any] = [fit.response, fit.theta, fit.beta, fit.criterion]
    parts += [x for x in (fit.weights, fit.offset) if x is not None]
    return checksum(b"".join(np.ascontiguousarray(part, float).tobytes() for part in parts))
