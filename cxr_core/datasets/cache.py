"""The pixels of many films, decoded once into a uint8 memory map that training reads."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets.films import Film, Progress
from cxr_core.errors import DataError, ImageError
from cxr_core.images import load_radiograph
from cxr_core.preprocess import PIXELS, Preprocessing, to_square


def cache_root() -> Path:
    """Where decoded pixels are kept: CXR_CACHE, or .cache/cxr in the home folder."""
    return Path(os.environ.get("CXR_CACHE") or Path.home() / ".cache" / "cxr")


def pixel_cache(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Decode each film once into the model's square; later calls read the same file.

    The cache is keyed by the digests of the films, in order, and by size and fit. It is
    written aside and renamed, so that a crash leaves no half-written cache behind.

    Returns:
        uint8 (N, S, S), a read-only memory map.

    Raises:
        DataError: When films cannot be read; names the first few and why.
    """
    shape = (len(films), preprocessing.size, preprocessing.size)
    rules = [f"pixels {PIXELS}", preprocessing.fit, str(shape)]
    content = "\n".join([*(film.digest for film in films), *rules])
    path = cache_root() / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            _decode_all(root, films, preprocessing, aside, shape, progress)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    cached: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return cached


def _decode_all(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    path: Path,
    shape: tuple[int, int, int],
    progress: Progress | None,
) -> None:
    squares = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def decode(film: Film) -> NDArray[np.uint8] | str:
        try:
            return to_square(load_radiograph(root / film.file), preprocessing)[0]
        except ImageError as error:
            return f"{film.file}: {error}"

    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the lock
        for k, result in enumerate(pool.map(decode, films)):
            if isinstance(result, str):
                failures.append(result)
            else:
                squares[k] = result
            if progress:
                progress("Decoding films", k + 1, len(films))
    if failures:
        shown = "; ".join(failures[:3])
        raise DataError(
            f"{len(failures)} of {len(films)} films cannot be read; remove or mend them. {shown}"
        )
    squares.flush()
