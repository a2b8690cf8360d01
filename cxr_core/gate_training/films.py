"""Which pictures train the gate's network, which choose its limits, which are kept to test it.

Frontal films are dealt as the shipped classifiers deal them, by patient where patients are
known. Pictures of anything else are few: they are dealt by file into thirds, two of which
train, so that three trainings score each of them once by a network that never saw it. So are,
by patient, the films of the NIH part of patients under 18 years, which no classifier takes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets import Film, Progress, index, pixel_cache
from cxr_core.errors import DataError
from cxr_core.gate import (
    BONE,
    LATERAL,
    PHOTOGRAPH,
    SLICE,
)
from cxr_core.parts import deal
from cxr_core.preprocess import Preprocessing
from cxr_core.recipes import get_recipe

# Training pictures are kept at twice the network's side: faults are cut out of them.
KEPT = Preprocessing(size=128, fit="stretch")
FRONTAL = {
    "pediatric": ("pediatric_pneumonia", "pediatric-pneumonia"),
    "covid": ("covid_radiography", "covid-radiography"),
    "nih": ("nih_chestxray14", "adult-abnormality"),
}
OTHERS = {
    "photo": PHOTOGRAPH,
    "bone": BONE,
    "hand": BONE,
    "brainmri": SLICE,
    "ct": SLICE,
    "lateral": LATERAL,
}
CHILDREN, ADULT = "children", 18.0
THIRDS = 3
# Lies among the bones and is a frontal chest radiograph, tinted: neither trained on nor scored.
MISFILED = frozenset({"bone/bone_0017.jpg"})


@dataclass(frozen=True)
class Collection:
    """Films or pictures of one folder, dealt.

    Attributes:
        folder: Where they lie.
        train: What may train.
        validation: What chooses limits; empty for pictures that are no frontal films.
        test: What only the record scores.
    """

    folder: Path
    train: tuple[Film, ...]
    validation: tuple[Film, ...]
    test: tuple[Film, ...]


def frontal_films(data: Path, third: int) -> dict[str, Collection]:
    """Deal the frontal films; those that also lie there at full size are kept to test.

    Args:
        data: The folder of all data.
        third: Which third of the patients under 18 years is kept to test, 0 to 2.

    Raises:
        DataError: When a folder is missing.
    """
    full = data / "pediatric_fullres"
    whole = {path.name for path in full.rglob("*.jp*g")}
    found = {}
    for name, (folder, recipe) in FRONTAL.items():
        if not (data / folder).is_dir():
            raise DataError(
                f"'{data / folder}' is not there; the gate's training needs "
                f"{', '.join(place for place, _ in FRONTAL.values())} and not_chest_xray."
            )
        parts = deal(index(data / folder), get_recipe(recipe), 0)
        kept = {film.patient for part in parts.values() for film in part if _name(film) in whole}
        train, held = (
            tuple(film for film in parts[split] if film.patient not in kept)
            for split in ("train", "validation")
        )
        found[name] = Collection(data / folder, train, held, parts["test"])
    found[CHILDREN] = _children(found["nih"], third)
    return found


def _children(adults: Collection, third: int) -> Collection:
    """Deal by patient the films of patients under 18 years who have no films among the adults'."""
    known = {film.patient for film in (*adults.train, *adults.validation, *adults.test)}
    films = [
        film
        for film in index(adults.folder).films
        if film.age_years is not None and film.age_years < ADULT and film.patient not in known
    ]
    kept = {film.patient for film in films if _third_of(film.patient) == third}
    return Collection(
        adults.folder,
        tuple(film for film in films if film.patient not in kept),
        (),
        tuple(film for film in films if film.patient in kept),
    )


def _third_of(patient: str) -> int:
    return int(hashlib.sha256(patient.encode()).hexdigest()[:8], 16) % THIRDS


def _name(film: Film) -> str:
    return Path(film.file).name


def other_pictures(data: Path, third: int, without: frozenset[str] = frozenset()) -> Collection:
    """Deal the pictures that are no frontal chest films.

    Args:
        data: The folder of all data.
        third: Which third of each kind is kept to test, 0 to 2.
        without: Folders of which nothing trains and everything is kept to test.

    Raises:
        DataError: When the folder is missing.
    """
    root = data / "not_chest_xray"
    if not root.is_dir():
        raise DataError(f"'{root}' is not there; the gate learns from it what no chest film is.")
    train: list[Film] = []
    test: list[Film] = []
    for kind in OTHERS:
        for path in sorted((root / kind).iterdir()):
            film = _picture(root, path)
            if film.file in MISFILED:
                continue
            mine = kind not in without and int(film.digest[:8], 16) % THIRDS != third
            (train if mine else test).append(film)
    return Collection(root, tuple(train), (), tuple(test))


def _picture(root: Path, path: Path) -> Film:
    name = path.relative_to(root).as_posix()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Film(file=name, findings=(), patient=name, split=None, digest=digest)


def kind_of(picture: Film) -> int:
    """Say which of the network's kinds a picture of `other_pictures` is."""
    return OTHERS[picture.file.partition("/")[0]]


def training_squares(
    frontal: Mapping[str, Collection], others: Collection, progress: Progress | None = None
) -> tuple[dict[str, NDArray[np.uint8]], dict[int, NDArray[np.uint8]]]:
    """Decode what trains, once: uint8 (N, 128, 128) by collection and by kind."""
    films = {
        name: np.asarray(pixel_cache(part.folder, part.train, KEPT, progress))
        for name, part in frontal.items()
    }
    pixels = pixel_cache(others.folder, others.train, KEPT, progress)
    kinds = np.array([kind_of(picture) for picture in others.train])
    return films, {int(kind): pixels[kinds == kind] for kind in np.unique(kinds)}


def films_seen(parts: Iterable[Collection]) -> Iterator[Film]:
    """Name all films and pictures that train or choose limits."""
    for part in parts:
        yield from (*part.train, *part.validation)


def digest_of(films: Iterable[Film]) -> str:
    """Digest films, whatever their order: SHA-256, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(film.digest for film in films)).encode()).hexdigest()
