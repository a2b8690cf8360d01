"""What a frozen backbone sees on each film, computed once and kept.

A network whose backbone stays as it came needs each film's last map only once: the layers
above are then fitted in seconds, epoch after epoch ("CNN codes", Razavian et al., CVPR
Workshops 2014, arXiv:1403.6382).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets import Progress, cache_root
from cxr_core.datasets.partial import lock, reserve, writing
from cxr_core.errors import DataError
from cxr_core.networks import below, codes_layer
from cxr_core.parts import Part
from cxr_core.preprocess import Preprocessing, finish

CHUNK = 64


def with_codes(
    part: Part, network: Any, preprocessing: Preprocessing, progress: Progress | None = None
) -> Part:
    """Add the codes of every film, from the cache where they are known.

    Raises:
        DataError: When the disk has no room for them.
    """
    backbone = below(network, codes_layer(network))
    return replace(part, codes=_cached(part.squares, backbone, preprocessing, progress))


def digest(network: Any) -> str:
    """Return the SHA-256 of all weights of a network."""
    weights = hashlib.sha256()
    for value in network.get_weights():
        weights.update(np.ascontiguousarray(value).tobytes())
    return weights.hexdigest()


def _cached(
    squares: NDArray[np.uint8],
    backbone: Any,
    preprocessing: Preprocessing,
    progress: Progress | None,
) -> NDArray[np.float16]:
    """Read codes from a file named after weights and pixels, or compute them into it.

    The number of films done stands beside the unfinished file, so that a killed run goes on
    where it was.
    """
    if not len(squares):
        return np.empty((0, *backbone.output_shape[1:]), np.float16)
    rules = (digest(backbone), backbone.output_shape, preprocessing, squares.shape)
    key = hashlib.sha256(repr(rules).encode())
    for square in squares:
        key.update(np.ascontiguousarray(square).tobytes())
    path = cache_root() / f"codes-{key.hexdigest()[:32]}.npy"
    with writing(path.parent), _alone(path.with_suffix(".lock")):
        if not path.exists():
            aside, done = path.with_suffix(".part"), path.with_suffix(".done")
            _compute(aside, done, squares, backbone, preprocessing, progress)
            aside.replace(path)
            done.unlink()
    codes: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return codes


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the same codes.

    Raises:
        DataError: When one is at work on them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not lock(file.fileno()):
            raise DataError(
                f"Another process computes the codes that '{path}' stands for. Wait for it, then "
                "run this again."
            )
        yield


def _compute(
    path: Path,
    done: Path,
    squares: NDArray[np.uint8],
    backbone: Any,
    preprocessing: Preprocessing,
    progress: Progress | None,
) -> None:
    shape = (len(squares), *backbone.output_shape[1:])
    start = int(done.read_text()) if done.exists() and path.exists() else 0
    codes = _room(path, shape, fresh=not start)
    for k in range(start, len(squares), CHUNK):
        pixels = finish(squares[k : k + CHUNK], preprocessing)
        codes[k : k + CHUNK] = backbone.predict_on_batch(pixels)
        codes.flush()
        _note(done, min(k + CHUNK, len(squares)))
        if progress:
            progress("Computing codes", min(k + CHUNK, len(squares)), len(squares))


def _room(path: Path, shape: tuple[int, ...], *, fresh: bool) -> Any:
    """Open the memory map of codes; its room is taken before the first of them is written."""
    mode: Any = "w+" if fresh else "r+"
    with writing(path.parent, 2 * int(np.prod(shape))):
        codes = np.lib.format.open_memmap(path, mode=mode, dtype=np.float16, shape=shape)
        with path.open("r+b") as file:
            reserve(file, path.stat().st_size)
    return codes


def _note(done: Path, count: int) -> None:
    aside = done.with_suffix(f".{os.getpid()}")
    aside.write_text(str(count))
    aside.replace(done)
