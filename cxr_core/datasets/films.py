"""What a data folder holds, as values: films, who they are of, what is found on them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Box:
    """Where a finding lies: a rectangle in fractions of the film's width and height."""

    finding: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Place:
    """Where the bytes of a film lie inside a larger file."""

    file: str
    start: int
    length: int


@dataclass(frozen=True)
class Film:
    """One film of a data folder.

    Attributes:
        file: Path inside the folder, with forward slashes.
        findings: What the folder says of it; empty means nothing was found.
        patient: Key that all films of one person share.
        split: "train", "validation", "test", or None when the folder has no splits.
        digest: SHA-256 of the file's bytes.
        view: "PA", "AP" or None.
        age_years: Age where known.
        sex: "F", "M" or None.
        source: Which collection the film came from, where the folder tells several apart.
        boxes: Where readers drew its findings.
        place: Where its bytes lie when `file` is not a file of its own but a record of a shard.
    """

    file: str
    findings: tuple[str, ...]
    patient: str
    split: str | None
    digest: str
    view: str | None = None
    age_years: float | None = None
    sex: str | None = None
    source: str | None = None
    boxes: tuple[Box, ...] = ()
    place: Place | None = None


@dataclass(frozen=True)
class DatasetIndex:
    """The films of one folder, in sorted order of their file names.

    Attributes:
        root: The folder.
        layout: Which layout it has.
        classes: The classes that the folder names, sorted.
        films: The films.
        notes: What the reader of the folder should be told, one sentence each (films left out
            for want of a label, say).
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    films: tuple[Film, ...]
    notes: tuple[str, ...] = ()


def duplicates(films: Iterable[Film]) -> list[tuple[Film, ...]]:
    """Group the films that are byte for byte the same file."""
    groups = defaultdict(list)
    for film in films:
        groups[film.digest].append(film)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def overlap(films: Iterable[Film]) -> list[str]:
    """Name the patients, and the byte-identical films, that more than one split holds."""
    films = tuple(films)
    places: dict[str, set[str | None]] = defaultdict(set)
    for film in films:
        places[film.patient].add(film.split)
    patients = sorted(patient for patient, splits in places.items() if len(splits) > 1)
    twins = [
        " = ".join(film.file for film in group)
        for group in duplicates(films)
        if len({film.split for film in group}) > 1
    ]
    return patients + twins


def summarise(dataset: DatasetIndex) -> dict[str, Any]:
    """Count films, patients, classes and duplicates, per split: what `index --json` prints."""
    by_split: dict[str, list[Film]] = defaultdict(list)
    for film in dataset.films:
        by_split[film.split or "all"].append(film)
    return {
        "folder": str(dataset.root),
        "layout": dataset.layout,
        "films": len(dataset.films),
        "patients": len({film.patient for film in dataset.films}),
        "classes": list(dataset.classes),
        "splits": {
            split: {
                "films": len(films),
                "patients": len({film.patient for film in films}),
                "findings": dict(sorted(_count(films).items())),
            }
            for split, films in sorted(by_split.items())
        },
        "overlap": overlap(dataset.films),
        "duplicates": [[film.file for film in group] for group in duplicates(dataset.films)],
    }


def _count(films: Iterable[Film]) -> Counter[str]:
    return Counter(name for film in films for name in (film.findings or ("(none)",)))
