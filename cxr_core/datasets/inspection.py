"""Every film of a folder, decoded once to see whether it can be read and how large it is."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cxr_core.datasets.cache import Unreadable, each_film
from cxr_core.datasets.films import DatasetIndex, Progress
from cxr_core.images import Radiograph


@dataclass(frozen=True)
class Inspection:
    """What decoding every film has shown.

    Attributes:
        unreadable: The films that cannot be read, each with the reason in a sentence.
        sizes: How many films have each (width, height) in pixels, the most frequent first.
    """

    unreadable: tuple[tuple[str, str], ...]
    sizes: Mapping[tuple[int, int], int]


def inspect(dataset: DatasetIndex, progress: Progress | None = None) -> Inspection:
    """Decode every film of a data folder; those that cannot be read are listed, not raised."""
    unreadable: list[tuple[str, str]] = []
    sizes: Counter[tuple[int, int]] = Counter()
    for done, size in enumerate(each_film(dataset.root, dataset.films, _size), 1):
        if isinstance(size, Unreadable):
            unreadable.append(size)
        else:
            sizes[size] += 1
        if progress:
            progress("Inspecting films", done, len(dataset.films))
    return Inspection(tuple(unreadable), dict(sizes.most_common()))


def _size(film: Radiograph) -> tuple[int, int]:
    height, width = film.pixels.shape
    return width, height
