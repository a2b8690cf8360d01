"""What a data folder holds, as values: films, who they are of, what is found on them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


# The findings of NIH ChestX-ray14 (Wang et al., CVPR 2017), and what it calls a film without.
NIH_FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema"),
    *("Fibrosis", "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening"),
    *("Pneumonia", "Pneumothorax"),
)
NO_FINDING = "No Finding"


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


def cooccurrence(films: Iterable[Film]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Count how often two findings are on one film.

    Returns:
        The findings, the most frequent first, and int64 (N, N): how many films hold both the
        finding of the row and that of the column; on the diagonal, how many hold the finding.
    """
    films = tuple(films)
    counts = Counter(name for film in films for name in set(film.findings))
    names = tuple(sorted(counts, key=lambda name: (-counts[name], name)))
    holds = np.array([[name in film.findings for name in names] for film in films], np.int64)
    holds = holds.reshape(len(films), len(names))  # also where there are none of either
    return names, holds.T @ holds


class Inspected(Protocol):
    """What decoding every film of a folder told."""

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """The films that cannot be decoded, and why."""

    @property
    def sizes(self) -> Mapping[tuple[int, int], int]:
        """How many films have which width and height."""


MOST_SIZES = 20


def summarise(dataset: DatasetIndex, inspection: Inspected | None = None) -> dict[str, Any]:
    """Count films, patients, classes and duplicates, per split: what `index --json` prints.

    Args:
        dataset: What to count.
        inspection: What decoding its films told; without it, "unreadable" and "sizes" are None.
    """
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
        "sources": _sources(dataset.films),
        "boxes": sum(bool(film.boxes) for film in dataset.films),
        "notes": list(dataset.notes),
        **_decoded(inspection),
    }


def _count(films: Iterable[Film]) -> Counter[str]:
    return Counter(name for film in films for name in (film.findings or ("(none)",)))


def _sources(films: Iterable[Film]) -> dict[str, int]:
    """Count films by collection; empty where the folder does not tell collections apart."""
    counts = Counter(film.source or "(unknown)" for film in films)
    return dict(sorted(counts.items())) if set(counts) - {"(unknown)"} else {}


def _decoded(inspection: Inspected | None) -> dict[str, Any]:
    if inspection is None:
        return {"unreadable": None, "sizes": None}
    sizes = sorted(inspection.sizes.items(), key=lambda item: (-item[1], item[0]))
    return {
        "unreadable": [{"file": file, "reason": why} for file, why in inspection.unreadable],
        "sizes": [[width, height, films] for (width, height), films in sizes[:MOST_SIZES]],
    }
