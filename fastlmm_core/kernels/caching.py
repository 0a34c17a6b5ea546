"""Where compiled kernels are kept between processes, and which of them are out of date.

Numba keeps the code of a kernel in the folder of NUMBA_CACHE_DIR, else beside its source, else in the user's
cache, whichever can be written, and fails at import where none can.  Here kernels that were compiled beside
their sources are read there too when nobody can write there any more (a shared installation, an image), and
where nothing can be kept every process compiles for itself.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache

HERE = Path(__file__).parent


@functools.cache
def digest_sources(folder: Path) -> str:
    """Digest of the sources below a folder: names and contents, so that a copied file is the same."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def drop_stale_cache(folder: Path) -> bool:
    """Delete the compiled kernels beside the sources below `folder` when any source has changed since.

    `KernelCache` would not load them.  The state of the sources is kept in a stamp beside those of `folder`.

    Returns
    -------
    bool
        Whether something was stale.  A folder that cannot be written is left alone.
    """
    cache = folder / "__pycache__"
    stamp = cache / "kernels.stamp"
    try:
        digest = digest_sources(folder)
        if stamp.exists() and stamp.read_text() == digest:
            return False
        for path in folder.rglob("__pycache__/*.nb[ci]"):
            path.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest)
    except OSError:
        return False
    return True


class BesideSource(FunctionCache._impl_class):  # type: ignore[misc, valid-type]
    """Numba's way to name and pack what it keeps, beside the source, whether that can be written or not."""

    def __init__(self, function: Any) -> None:
        in_tree = FunctionCache._impl_class._locator_classes[1]

        class Unchecked(in_tree):  # type: ignore[misc, valid-type]
            def ensure_cache_path(self) -> None:
                pass

        self._locator_classes = [Unchecked]
        super().__init__(function)


class ReadOnlyCache(FunctionCache):  # type: ignore[misc]
    """What was compiled beside the source."""

    _impl_class = BesideSource

    def save_overload(self, sig: Any, data: Any) -> None:
        pass


class KernelCache:
    """The compiled versions of one kernel, as Numba's dispatchers ask for them.

    Attributes
    ----------
    places : list
        Numba's caches that are read in turn; the first is written, unless it is a `ReadOnlyCache`.
    kept : bool
        Whether what is compiled now is found by the next process.
    """

    def __init__(self, function: Any) -> None:
        try:
            self.places = [FunctionCache(function)]
        except RuntimeError:  # no folder can be written
            self.places = []
        self.kept = bool(self.places)
        beside = Path(function.__code__.co_filename).parent / "__pycache__"
        if not self.kept or Path(self.places[0].cache_path) != beside:
            self.places.append(ReadOnlyCache(function))
        for place in self.places:
            place._cache_file._source_stamp = _stamp(function)

    @property
    def cache_path(self) -> str:
        path: str = self.places[0].cache_path
        return path

    def is_empty(self) -> bool:
        """Whether no compiled version is at hand."""
        return not any(place._cache_file._load_index() for place in self.places)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = (place.load_overload(sig, target_context) for place in self.places)
        return next((compiled for compiled in found if compiled is not None), None)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self.places[0].save_overload(sig, data)
        except OSError:  # a full disk is no reason to stop
            self.kept = False

    def flush(self) -> None:
        if self.kept:
            self.places[0].flush()


def _stamp(function: Any) -> str:
    """State of what is compiled into a kernel: its file, and the kernels that it calls in others."""
    source = Path(function.__code__.co_filename)
    digest = digest_sources(HERE)
    return digest if HERE in source.parents else digest + hashlib.sha256(source.read_bytes()).hexdigest()


# Where the kernels of the modules that are loaded are kept.
_FOLDERS: set[Path] = set()


def keep_compiled(dispatcher: Any) -> Any:
    """Give a kernel its cache."""
    if hasattr(dispatcher, "py_func"):  # with NUMBA_DISABLE_JIT it is a function
        cache = dispatcher._cache = KernelCache(dispatcher.py_func)
        if cache.kept:
            _FOLDERS.add(Path(cache.cache_path))
    return dispatcher


def compiled_kernels() -> list[Path]:
    """Files of compiled kernels in the folders of the modules that are loaded."""
    return sorted(path for folder in _FOLDERS for path in folder.glob("*.nbc"))


def compiled_before(dispatcher: Any) -> bool:
    """Whether a compiled version of a kernel is kept somewhere."""
    cache = getattr(dispatcher, "_cache", None)
    return not isinstance(cache, KernelCache) or not cache.is_empty()
