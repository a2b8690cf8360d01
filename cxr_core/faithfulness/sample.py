"""Which films are measured, and the mean of those that trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.cards import ModelCard
from cxr_core.datasets import Box, DatasetIndex, Film, Progress, pixel_cache
from cxr_core.errors import DataError
from cxr_core.overlays import png
from cxr_core.predictions import PredictionTable, flagged
from cxr_core.recipes import ANY, Recipe

# Multiply-adds that measuring a model may cost, about six minutes of two cores, and how many
# forward passes one film and label take over all methods.
BUDGET, PASSES = 14e12, 600
FEWEST, MOST = 10, 24
# Of models of more labels than this, those are measured that this many test films have or are
# flagged for: maps explain scores, so that a film may serve whether or not the flag is right.
MANY_LABELS, LEAST_SHOWN = 3, 5


def default_films(network: Any, labels: int) -> int:
    """Say how many films of each label can be measured in reasonable time."""
    return int(np.clip(BUDGET / (PASSES * labels * multiply_adds(network)), FEWEST, MOST))


def multiply_adds(network: Any) -> float:
    """Count the multiplications of one forward pass in convolutions and dense layers."""
    total = 0.0
    for layer in network.layers:
        kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
        places = np.prod(layer.output.shape[1:-1]) if kernels else 0
        total += sum(float(np.prod(kernel.shape) * places) for kernel in kernels)
    return total


def measured_labels(table: PredictionTable, card: ModelCard) -> list[str]:
    """List the labels to measure: all of a few; of many, those that enough test films show."""
    if len(table.labels) <= MANY_LABELS:
        return list(table.labels)
    return [label for label in table.labels if shown(table, card, label) >= LEAST_SHOWN]


def shown(table: PredictionTable, card: ModelCard, label: str) -> int:
    """Count the test films that have a label or are flagged for it."""
    truth = table.y_true[:, card.position(label)] == 1
    return int((truth | _flags(table, card, label)).sum())


def _flags(table: PredictionTable, card: ModelCard, label: str) -> NDArray[np.bool_]:
    """Say which test films are flagged for a label, (N,); none where nothing decides."""
    point = card.operating_points[card.position(label)]
    decided = flagged(table, label, point, exclusive=card.activation == "softmax")
    return np.zeros(len(table.files), bool) if decided is None else decided


def choose_films(
    table: PredictionTable, card: ModelCard, label: str, count: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Draw test films for one label: flagged or not, with it or not, as evenly as there are.

    At most one film of a patient is drawn, so that films count as independent. The same seed
    draws from the same order for every label, so that labels share films.

    Returns:
        Rows of the table, the four kinds in turn, and for each whether it is flagged.
    """
    column, flags = card.position(label), _flags(table, card, label)
    kinds: dict[tuple[bool, bool], list[int]] = {}
    seen: set[str] = set()
    for row in np.random.default_rng(seed).permutation(len(table.files)).tolist():
        if table.patients[row] not in seen:
            seen.add(table.patients[row])
            kind = (not flags[row], not table.y_true[row, column])
            kinds.setdefault(kind, []).append(row)
    queues = [kinds[kind] for kind in sorted(kinds)]
    longest = max(map(len, queues))
    turns = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
    rows = np.array(turns[:count], np.intp)
    return rows, flags[rows]


def require_films(dataset: DatasetIndex, files: Sequence[str]) -> dict[str, Film]:
    """Find the films of a record in a data folder.

    Raises:
        DataError: When some are not there.
    """
    films = {film.file: film for film in dataset.films}
    absent = [file for file in files if file not in films]
    if absent:
        raise DataError(
            f"{len(absent)} of the model's {len(files)} test films are not in '{dataset.root}', "
            f"such as {absent[0]}. Name the folder whose films the model was scored on."
        )
    return films


def boxed_films(dataset: DatasetIndex, recipe: Recipe) -> list[Film]:
    """List the films with boxes, of patients of the model's ages; none of them trained it."""
    youngest, oldest = recipe.protocol.ages or (0.0, np.inf)
    return [
        film
        for film in dataset.films
        if film.boxes and (film.age_years is None or youngest <= film.age_years <= oldest)
    ]


def boxes_of(film: Film, meaning: Sequence[str]) -> tuple[Box, ...]:
    """Return a film's boxes of the findings that mean a label; `ANY` takes all."""
    return tuple(box for box in film.boxes if ANY in meaning or box.finding in meaning)


def write_mean_film(
    dataset: DatasetIndex,
    films: Sequence[Film],
    card: ModelCard,
    folder: Path,
    progress: Progress | None = None,
) -> Path:
    """Write the mean of the training films to mean_film.png: S x S, 8-bit grey.

    It is the mean of the squares before normalisation, from which integrated gradients may
    start.
    """
    squares = pixel_cache(dataset.root, films, card.preprocessing, progress)
    total = np.zeros(squares.shape[1:], np.float64)
    for start in range(0, len(squares), 256):
        total += squares[start : start + 256].sum(axis=0, dtype=np.float64)
    path = folder / "mean_film.png"
    path.write_bytes(png(np.rint(total / len(squares)).astype(np.uint8)))
    return path
