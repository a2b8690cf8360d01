"""From a data folder to the films that train, choose and are scored, ready to read."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.cards import ModelCard, model_folder, reading
from cxr_core.datasets import (
    DatasetIndex,
    Film,
    Progress,
    index,
    overlap,
    pixel_cache,
    split_by_film,
    split_by_patient,
)
from cxr_core.decisions import VALIDATION, read_validation
from cxr_core.errors import DataError
from cxr_core.recipes import ANY, Protocol, Recipe

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """One part of a split, ready to read.

    Attributes:
        films: Its films, in order.
        squares: uint8 (N, S, S), as decoded once.
        targets: float32 (N, K) of 0 and 1.
        codes: float16 (N, h, w, C), the last maps of a frozen backbone, which stand for the
            squares when only the layers above it are fitted.
    """

    films: tuple[Film, ...]
    squares: NDArray[np.uint8]
    targets: NDArray[np.float32]
    codes: NDArray[np.float16] | None = None


def targets(films: Sequence[Film], recipe: Recipe) -> NDArray[np.float32]:
    """Say for each film (N) and label (K) whether the data call it true: float32 (N, K)."""
    rows = [[_means(film, meaning) for meaning in recipe.labels.values()] for film in films]
    return np.array(rows, np.float32).reshape(len(films), len(recipe.labels))


def _means(film: Film, meaning: tuple[str, ...]) -> bool:
    if ANY in meaning:
        return bool(film.findings)
    return bool(set(meaning) & set(film.findings)) if meaning else not film.findings


def fit_labels(recipe: Recipe, dataset: DatasetIndex) -> Recipe:
    """Let a recipe of two classes answer for a folder with any two other classes.

    A recipe whose findings the folder knows stays as it is.

    Raises:
        DataError: When the folder knows none of the recipe's findings, nor is it one of just
            two classes; or when some of its films show what the recipe does not know.
    """
    present = {name for film in dataset.films for name in film.findings}
    wanted = {name for meaning in recipe.labels.values() for name in meaning} - {ANY}
    own_words = wanted & present or (
        not wanted and any(not film.findings for film in dataset.films)
    )
    if own_words:
        _require_meanings(recipe, dataset)
        return recipe
    binary = len(recipe.labels) == (1 if recipe.activation == "sigmoid" else 2)
    if not binary or len(dataset.classes) != 2:
        raise DataError(
            f"'{dataset.root}' has the classes {', '.join(dataset.classes)}, but '{recipe.name}' "
            f"asks for {', '.join(sorted(wanted)) or 'films without findings'}. Name the folder "
            "that this recipe is for."
        )
    first, second = dataset.classes
    if second not in present:  # it is the normal one
        first, second = second, first
    labels: dict[str, tuple[str, ...]] = {second: (second,)}
    if recipe.activation == "softmax":
        labels = {first: (first,) if first in present else (), **labels}
    return replace(
        recipe,
        labels=labels,
        card=_words(first, second),
        data_digest="",
        reported={},
        better=None,
        gate=False,
    )


def _require_meanings(recipe: Recipe, dataset: DatasetIndex) -> None:
    """Refuse films of which the recipe cannot say what they show.

    Raises:
        DataError: When a film's findings mean no label, or, where exactly one is true, several.
    """
    counts = targets(dataset.films, recipe).sum(axis=1)
    exclusive = recipe.activation == "softmax"
    odd = [
        film
        for film, count in zip(dataset.films, counts, strict=True)
        if (exclusive and count != 1) or (film.findings and not count)
    ]
    if odd:
        raise DataError(
            f"'{recipe.name}' cannot say what {len(odd)} films of '{dataset.root}' show, such as "
            f"{odd[0].file} ({', '.join(odd[0].findings) or 'no finding'}). It knows "
            f"{', '.join(recipe.labels)}. Take those films out, or use another recipe."
        )


def _words(first: str, second: str) -> dict[str, object]:
    """Say on the card what a model of any two classes is."""
    return {
        "data": "",
        "intended_use": f"Telling {second} from {first} on pictures like those it was trained on.",
        "not_for": ("Anything but the two classes of its own folder; medical use of any kind.",),
        "limits": (
            "No gate fits: nothing checks whether a picture is of a kind that this model knows.",
        ),
        "age_range": None,
        "views": (),
    }


def prepare_parts(
    dataset: DatasetIndex, recipe: Recipe, seed: int, progress: Progress | None = None
) -> dict[str, Part]:
    """Deal a data folder's films to the parts and decode every film once.

    Returns:
        The parts "train", "validation" and "test".

    Raises:
        DataError: As `deal`; or when a part lacks a class.
    """
    dealt = deal(dataset, recipe, seed)
    for split, films in dealt.items():
        _require_classes(dataset, recipe, split, films)
    return {split: decoded(dataset, films, recipe, progress) for split, films in dealt.items()}


def decoded(
    dataset: DatasetIndex, films: tuple[Film, ...], recipe: Recipe, progress: Progress | None = None
) -> Part:
    """Decode the films of one part, each once.

    Raises:
        DataError: When some cannot be read.
    """
    squares = pixel_cache(dataset.root, films, recipe.preprocessing, progress)
    return Part(films, squares, targets(films, recipe))


def deal(dataset: DatasetIndex, recipe: Recipe, seed: int) -> dict[str, tuple[Film, ...]]:
    """Deal a folder's films to the parts by the recipe's protocol.

    Patients with boxes are kept out of training and validation, so that what a map points at
    can be compared with what it never learned.

    Raises:
        DataError: When a patient is in two of the folder's own splits, or one is missing.
    """
    parts = _split(dataset, recipe, seed)
    boxed = {film.patient for film in dataset.films if film.boxes}
    for split in ("train", "validation"):
        films = tuple(film for film in parts[split] if film.patient not in boxed)
        parts[split] = _subset(films, recipe.protocol, seed)
    return parts


def seen_digest(parts: Mapping[str, Sequence[Film]]) -> str:
    """Digest the films that train or choose: what a card's `data_digest` holds."""
    seen = sorted(film.digest for split in ("train", "validation") for film in parts[split])
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def films_to_score(
    dataset: DatasetIndex, recipe: Recipe, split: str, seed: int, digest: str
) -> tuple[Film, ...]:
    """Return the films of a split that a trained model may be scored on.

    A folder with splits of its own is taken at its word; any other is dealt as in training.

    Args:
        dataset: The folder.
        recipe: The model's, with its labels as they fit the folder.
        split: "train", "validation" or "test".
        seed: The model's.
        digest: Of the films that the model saw (`seen_digest`).

    Raises:
        DataError: When there are none, or when the folder, dealt anew, would give other films
            than in training, so that films which the model saw would be scored.
    """
    if not recipe.protocol.resplit and any(film.split for film in dataset.films):
        films = tuple(
            film for film in dataset.films if film.split == split and _of_age(film, recipe.protocol)
        )
    else:
        parts = deal(dataset, recipe, seed)
        if seen_digest(parts) != digest:
            raise DataError(
                f"'{dataset.root}' has no splits of its own and is not the folder that this model "
                "was trained on: dealt anew, films that it saw would be scored. Put the films to "
                f"be scored in a folder '{split}'."
            )
        films = parts.get(split, ())
    if not films:
        known = ", ".join(sorted({film.split or "none" for film in dataset.films}))
        raise DataError(f"'{dataset.root}' has no films of the split '{split}'; it has: {known}.")
    return films


def open_folder(
    recipe: Recipe,
    data: Path,
    layout: str | None = None,
    progress: Progress | None = None,
    *,
    skip_damaged: bool = False,
) -> tuple[DatasetIndex, Recipe]:
    """Read a data folder in whichever of a recipe's layouts it has.

    Returns:
        Its films, and the recipe with its labels as they fit them.

    Raises:
        DataError: When it is laid out otherwise.
    """
    only = recipe.layouts[0] if len(recipe.layouts) == 1 else None
    dataset = index(data, layout or only, progress, skip_damaged=skip_damaged)
    if dataset.layout not in recipe.layouts:
        raise DataError(
            f"'{data}' is laid out as {dataset.layout}; '{recipe.name}' reads "
            f"{' or '.join(recipe.layouts)}."
        )
    return dataset, fit_labels(recipe, dataset)


def seen_films(
    dataset: DatasetIndex, recipe: Recipe, card: ModelCard, root: Path | None = None
) -> dict[str, tuple[Film, ...]] | None:
    """Return the films that trained a model ("train"), and chose for it ("validation").

    Which chose stands in the bundle: a folder may be dealt otherwise by now, and what is taken
    for films that the model never learned from must not be those that trained it.

    Args:
        dataset: The films of a folder.
        recipe: The model's.
        card: Its card.
        root: Of the models.

    Returns:
        None when this is not the folder it learned from.

    Raises:
        DataError: As `deal`.
        ModelError: When the table of its validation films is damaged.
    """
    parts = deal(dataset, recipe, card.training.get("seed", 0))
    if seen_digest(parts) != card.data_digest:
        return None
    seen = {film.file: film for split in ("train", "validation") for film in parts[split]}
    table = model_folder(card.name, root) / VALIDATION
    if not table.is_file():  # a bundle from before it was kept
        return {split: parts[split] for split in ("train", "validation")}
    with reading(table):
        chose = set(read_validation(table).files)
    if not chose < seen.keys():
        return None
    return {
        "train": tuple(film for file, film in seen.items() if file not in chose),
        "validation": tuple(film for file, film in seen.items() if file in chose),
    }


def own_films(
    card: ModelCard, dataset: DatasetIndex, recipe: Recipe, root: Path | None = None
) -> dict[str, tuple[Film, ...]]:
    """Return what `seen_films` does.

    Raises:
        DataError: When the folder is not the one that the model learned from.
        ModelError: When the table of its validation films is damaged.
    """
    recalibrated = card.training.get("recalibrated")
    if recalibrated is not None:
        raise DataError(
            f"'{card.name}' is '{recalibrated['from']}' with decisions from a site's films, not "
            "those that trained it. Name that model."
        )
    films = seen_films(dataset, recipe, card, root)
    if films is None:
        raise DataError(
            f"'{dataset.root}' is not the folder that trained '{card.name}' and chose for it. Name "
            "the one that did: what the model knows is asked of its own films."
        )
    return films


def _split(dataset: DatasetIndex, recipe: Recipe, seed: int) -> dict[str, tuple[Film, ...]]:
    protocol = recipe.protocol
    films = tuple(film for film in dataset.films if _of_age(film, protocol))
    by_split = {split: tuple(f for f in films if f.split == split) for split in PARTS}
    if protocol.resplit or not any(by_split.values()):
        chosen, scored = protocol.held_out
        shares = {"train": 1 - chosen - scored, "validation": chosen, "test": scored}
        if protocol.resplit == "film":
            return split_by_film(films, shares, seed)
        return split_by_patient(films, shares, seed)
    shared = overlap(films)
    if shared:
        raise DataError(
            f"{len(shared)} patients or films are in more than one split of '{dataset.root}' "
            f"({', '.join(shared[:3])}, ...): test figures would be worth nothing. Split by "
            "patient first."
        )
    if not by_split["train"]:
        there = " and ".join(split for split, part in by_split.items() if part)
        raise DataError(
            f"'{dataset.root}' has films for {there} but none to train on. Name the folder of "
            "the training films 'train'."
        )
    if not by_split["test"]:
        raise DataError(
            f"'{dataset.root}' has no films to test on. Name a folder 'test', or put all classes "
            "in one folder without splits, and they are split by patient."
        )
    if not by_split["validation"]:
        share = recipe.config.validation
        by_split |= split_by_patient(
            by_split["train"], {"train": 1 - share, "validation": share}, seed
        )
    return by_split


def _of_age(film: Film, protocol: Protocol) -> bool:
    if protocol.ages is None or film.age_years is None:
        return True
    youngest, oldest = protocol.ages
    return youngest <= film.age_years <= oldest


def _subset(films: tuple[Film, ...], protocol: Protocol, seed: int) -> tuple[Film, ...]:
    if protocol.share == 1:
        return films
    shares = {"used": protocol.share, "left": 1 - protocol.share}
    return split_by_film(films, shares, seed)["used"]


def _require_classes(
    dataset: DatasetIndex, recipe: Recipe, split: str, films: tuple[Film, ...]
) -> None:
    """Refuse a part without both kinds of film; a rare one of many labels may be missing."""
    counts = targets(films, recipe).sum(axis=0)
    lacking = [
        (label, int(positives))
        for label, positives in zip(recipe.labels, counts, strict=True)
        if not 0 < positives < len(films)
    ]
    several = recipe.activation == "sigmoid" and len(recipe.labels) > 1
    if not lacking or (several and len(lacking) < len(recipe.labels) and split != "train"):
        return
    label, positives = lacking[0]
    raise DataError(
        f"The {split} part has {len(films)} films, {positives} of them '{label}': both kinds are "
        f"needed. Check the folder '{dataset.root}'."
    )


def blacked_out(part: Part, share: float) -> Part:
    """Black out the middle of every film, this share of each side: what is left is the border."""
    size = part.squares.shape[1]
    edge = round(size * (1 - share) / 2)
    squares = np.array(part.squares)
    squares[:, edge : size - edge, edge : size - edge] = 0
    return replace(part, squares=squares)
