"""From the films of a folder to their pixels: read once, by threads, into a uint8 memory map."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets.films import Film, Progress
from cxr_core.datasets.partial import Partial, begin, left_behind, writing
from cxr_core.errors import DataError, ImageError, UnreadableImage
from cxr_core.images import Radiograph, load_radiograph, read_radiograph
from cxr_core.preprocess import PIXELS, Preprocessing, to_square

T = TypeVar("T")


class Unreadable(NamedTuple):
    """A film that cannot be read, and why, in a sentence."""

    file: str
    reason: str


def film_bytes(root: Path, film: Film) -> bytes:
    """Read the bytes of one film, whether it is a file or lies inside a larger one.

    Raises:
        ImageError: When they cannot be read.
    """
    path = root / (film.place.file if film.place else film.file)
    try:
        with path.open("rb") as file:
            if film.place is None:
                return file.read()
            file.seek(film.place.start)
            data = file.read(film.place.length)
    except OSError as error:
        raise UnreadableImage(
            f"'{path}' cannot be opened ({error.strerror}); check that it is there and may be read."
        ) from error
    if len(data) < film.place.length:
        raise UnreadableImage(f"'{path}' ends before {film.file} does; copy the file again.")
    return data


def read_film(root: Path, film: Film) -> Radiograph:
    """Decode one film of a data folder.

    Raises:
        ImageError: In one sentence, why it cannot be read.
    """
    if film.place is None:
        return load_radiograph(root / film.file)
    return read_radiograph(film_bytes(root, film), film.file)


def each_film(
    root: Path, films: Iterable[Film], use: Callable[[Radiograph], T]
) -> Iterator[T | Unreadable]:
    """Read films by threads and yield what `use` makes of each, in order.

    Threads run a few films ahead and no further: memory stays flat however many there are,
    and whoever stops waits for those few only.
    """

    def read(film: Film) -> T | Unreadable:
        try:
            return use(read_film(root, film))
        except ImageError as error:
            reason = str(error).removeprefix(f"{film.file}: ")
            return Unreadable(film.file, reason.removeprefix(f"{Path(film.file).name}: "))

    workers = os.cpu_count() or 1
    ahead: deque[Future[T | Unreadable]] = deque()
    with ThreadPoolExecutor(workers) as pool:  # Pillow decodes outside the lock
        try:
            for film in films:
                ahead.append(pool.submit(read, film))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def unreadable_films(unreadable: Sequence[Unreadable], total: int) -> DataError:
    """Make the error that says how many films cannot be read, names the first three, and why."""
    shown = "; ".join(f"{file}: {reason}" for file, reason in unreadable[:3])
    return DataError(
        f"{len(unreadable)} of {total} films cannot be read; remove or mend them. {shown}"
    )


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
    written aside and renamed, so that a crash leaves no half-written cache behind. What
    was decoded before a crash, or beside films that cannot be read, is kept aside, and
    later calls take it from there, also for another list of films.

    Returns:
        uint8 (N, S, S), a read-only memory map.

    Raises:
        DataError: When films cannot be read (names the first few and why), or the cache
            folder has no room or cannot be written.
    """
    shape = (len(films), preprocessing.size, preprocessing.size)
    rules = [f"pixels {PIXELS}", preprocessing.fit, str(shape)]
    content = "\n".join([*(film.digest for film in films), *rules])
    path = cache_root() / f"{_short(content)}.npy"
    if not path.exists():
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        _build(root, films, preprocessing, path, progress)
    cached: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return cached


def _short(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _build(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    path: Path,
    progress: Progress | None,
) -> None:
    """Take over what stopped runs have decoded by the same rules, decode the rest."""
    rules = _short(f"pixels {PIXELS}\n{preprocessing.fit}\n{preprocessing.size}")[:12]
    own = f"{rules}-{path.stem}-"
    digests = {film.digest for film in films}
    with ExitStack() as opened:
        left = []
        for one in left_behind(path.parent, f"{rules}-"):
            if digests.isdisjoint(one.done.values()):
                one.close()  # of other films
            else:
                left.append(opened.enter_context(one))
        partial = next((one for one in left if one.path.name.startswith(own)), None)
        if partial is None:
            partial = opened.enter_context(begin(path.with_name(own.rstrip("-"))))
            partial.reserve((len(films), preprocessing.size, preprocessing.size))
        others = [one for one in left if one is not partial]
        _take_over(films, partial, others)
        _decode_rest(root, films, preprocessing, partial, progress)
        partial.finish(path)
        # Also what was left of this very cache meanwhile, by another that was killed.
        twins = map(opened.enter_context, left_behind(path.parent, own))
        for one in [*others, *twins]:
            if digests.issuperset(one.done.values()):  # else it still serves other films
                one.remove()


def _take_over(films: Sequence[Film], partial: Partial, others: Sequence[Partial]) -> None:
    """Copy the squares that others have of these films."""
    for other in others:
        places = {digest: place for place, digest in other.done.items()}
        for position, film in enumerate(films):
            if position in partial.done or film.digest not in places:
                continue
            square = other.read(places[film.digest])
            if square is not None:
                partial.keep(position, film.digest, square)
        partial.flush()


def _decode_rest(
    root: Path,
    films: Sequence[Film],
    preprocessing: Preprocessing,
    partial: Partial,
    progress: Progress | None,
) -> None:
    """Decode the films that `partial` lacks; those that fail do not stop the others."""
    rest = [position for position in range(len(films)) if position not in partial.done]
    if progress and len(rest) < len(films):
        progress("Decoding films", len(films) - len(rest), len(films))
    unreadable = []
    squares = each_film(
        root, (films[k] for k in rest), lambda film: to_square(film, preprocessing)[0]
    )
    for done, (position, square) in enumerate(
        zip(rest, squares, strict=True), len(films) - len(rest) + 1
    ):
        if isinstance(square, Unreadable):
            unreadable.append(square)
        else:
            partial.keep(position, films[position].digest, square)
        if progress:
            progress("Decoding films", done, len(films))
    if unreadable:
        raise unreadable_films(unreadable, len(films))
