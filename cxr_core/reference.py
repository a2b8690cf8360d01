"""What a model's own films look like: to itself (`familiarity`), and to the gate (`Inputs`).

Made when a model is registered, or later from the folder that it was trained on. Training films
make the cloud that new films are held against; validation films set its limit, and are measured
by the gate as a site's films will be, so that `monitoring` can tell the two apart. No test film
is looked at.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_core.answering import NAME
from cxr_core.cards import INPUTS, Inputs, ModelCard
from cxr_core.classifier import Classifier, open_bundle
from cxr_core.datasets import Film, Progress, read_film
from cxr_core.familiarity import FILE, Familiarity, fit, pooled, write_familiarity
from cxr_core.gate.pixels import glance_at, pixel_checks, resolution
from cxr_core.parts import Part
from cxr_core.preprocess import finish
from cxr_core.recipes import Recipe
from cxr_core.training import perturbed

# So many training films, evenly drawn, say what all of them look like.
ENOUGH = 1000
BATCH = 32  # films varied and asked about at a time

Floats = NDArray[np.float32]


def write_reference(
    folder: Path,
    card: ModelCard,
    parts: dict[str, Part],
    recipe: Recipe,
    root: Path,
    progress: Progress | None = None,
) -> tuple[Familiarity, Inputs]:
    """Write what a bundle's own films look like into its folder.

    Args:
        folder: The bundle, which holds its network.
        card: Its card.
        parts: Its "train" and "validation" films.
        recipe: Its recipe.
        root: The data folder.
        progress: Told how many films were looked at.
    """
    for name in (FILE, INPUTS):
        (folder / name).unlink(missing_ok=True)
    seed = card.training.get("seed", 0)
    seen = clouds(open_bundle(card, folder), parts, recipe, seed, progress)
    found = fit(**seen)
    write_familiarity(found, folder)
    held, distances = parts["validation"].films, found.distances(seen["plain"])
    measured = inputs_of(card, held, distances, root, progress)
    text = json.dumps(measured.to_json(), ensure_ascii=False)
    (folder / INPUTS).write_text(text + "\n", "utf-8")
    return found, measured


def clouds(
    classifier: Classifier,
    parts: dict[str, Part],
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Floats]:
    """Return what `familiarity.fit` takes: the points of training and of validation films."""
    rows = np.unique(np.linspace(0, len(parts["train"].films) - 1, ENOUGH).astype(int))
    train, held = _some(parts["train"], rows), parts["validation"]
    as_other_units = recipe, seed
    found = {
        "plain": points(classifier, held, progress),
        "perturbed": points(classifier, held, progress, varied=as_other_units),
    }
    seen = (
        points(classifier, train, progress),
        points(classifier, train, progress, varied=as_other_units),
    )
    return found | {"training": np.concatenate(seen)}


def points(
    classifier: Classifier,
    part: Part,
    progress: Progress | None = None,
    *,
    varied: tuple[Recipe, int] | None = None,
) -> Floats:
    """Return the averaged features (N, C) of a part's films.

    Args:
        classifier: Whose features.
        part: The films.
        progress: Told how many were looked at.
        varied: Take each film as another unit might, by this recipe and seed.
    """
    found, films = [], len(part.films)
    for start in range(0, films, BATCH):
        some = _some(part, np.arange(start, min(start + BATCH, films)))
        if varied is not None:
            recipe, seed = varied
            once = replace(recipe, config=replace(recipe.config, perturbed_copies=1))
            some = perturbed(some, once, seed + start)
        pixels = finish(some.squares, classifier.card.preprocessing)
        found.append(pooled(classifier.forward(pixels)[1]))
        if progress:
            progress("Looking at films", min(start + BATCH, films), films)
    return np.concatenate(found)


def _some(part: Part, rows: NDArray[np.int64]) -> Part:
    films = tuple(part.films[row] for row in rows)
    return Part(films, part.squares[rows], part.targets[rows])


def inputs_of(
    card: ModelCard,
    films: Sequence[Film],
    distances: NDArray[np.float64],
    root: Path,
    progress: Progress | None = None,
) -> Inputs:
    """Measure films as the gate measures those of a site, the first film of each patient.

    What the gate's own network says is left out: it would be outdated with every other gate.

    Args:
        card: The model's.
        films: N films.
        distances: (N,) to what the model learned from.
        root: Their folder.
        progress: Told how many were measured.
    """
    measures: dict[str, list[float]] = defaultdict(list)
    firsts = {film.patient: k for k, film in reversed(list(enumerate(films)))}
    for done, k in enumerate(sorted(firsts.values()), 1):
        radiograph = read_film(root, films[k])
        measures[NAME].append(round(float(distances[k]), 4))
        measured = pixel_checks(radiograph, glance_at(radiograph))
        for check in (resolution(radiograph, card), *measured):
            if isinstance(check.value, int | float):
                measures[check.name].append(float(check.value))
        if progress:
            progress("Measuring films", done, len(firsts))
    return Inputs(len(firsts), {name: tuple(sorted(row)) for name, row in sorted(measures.items())})
