"""Train the gate's network: batches of films with faults and of pictures that are no films."""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_core.augmentation import TRAINING, augment
from cxr_core.datasets import Progress
from cxr_core.gate import (
    BONE,
    FRONTAL,
    LABELS,
    LATERAL,
    LOOK,
    OTHER,
    PHOTOGRAPH,
    QUESTIONS,
    SLICE,
    within_borders,
)
from cxr_core.gate_training.chimeras import chimera
from cxr_core.gate_training.films import KEPT
from cxr_core.gate_training.pictures import (
    PARTS,
    Picture,
    Square,
    bordered,
    filling,
    no_film,
    one_sided,
    window,
)
from cxr_core.networks import build_network
from cxr_core.phantom import thorax
from cxr_core.preprocess import PIXELS, normalise, to_square

NETWORK = "residual"
OPTIONS: dict[str, Any] = {"widths": (24, 48, 64, 96), "dropout": 0.2}
# Steps of the training that all others go on from, and of each of those; and how fast.
BATCH, BASE_STEPS, STEPS = 64, 1200, 320
BASE_RATE, RATE, SLOWEST = 2e-3, 1e-3, 0.1
# How often a batch draws each kind, and frontal films from each collection; phantoms are the
# computer-made films that the app shows as its sample.
KIND_SHARES = {
    FRONTAL: 0.42,
    LATERAL: 0.04,
    BONE: 0.12,
    SLICE: 0.08,
    PHOTOGRAPH: 0.15,
    OTHER: 0.19,
}
FILM_SHARES = {"pediatric": 0.33, "covid": 0.32, "nih": 0.21, "children": 0.07, "phantom": 0.07}
# Of the pictures that are no film, how many are chimeras.
CHIMERAS = 0.4
# Which shares of the area a window on a picture of each kind may have.
WINDOWS = {
    LATERAL: (0.7, 1.0),
    BONE: (0.3, 1.0),
    SLICE: (0.6, 1.0),
    PHOTOGRAPH: (0.15, 1.0),
}
# How much of a frontal film is shown, by what is called of its chest: which shares of the area a
# window has, how much of one side is cut away instead (none of a whole chest), and how often.
WHOLE, BETWEEN, CUT = range(3)
FILM_WINDOWS = {WHOLE: (0.85, 1.0), BETWEEN: (0.5, 0.85), CUT: (0.2, 0.5)}
ONE_SIDE = {BETWEEN: (0.1, 0.3), CUT: (0.3, 0.6)}
EXTENT_SHARES = {WHOLE: 0.55, BETWEEN: 0.1, CUT: 0.35}
# How often a film is given a border of any grey, and the largest share of its side. Even ones
# are cut away before anything looks; these teach what is left of borders that are not even.
BORDER = (0.25, 0.16)
PHANTOMS, FIRST_PHANTOM = 160, 10_000  # seeds that no sample film and no test uses
# It may not cut away what counts as there: a film is enlarged by little.
STRENGTH = replace(TRAINING, stretch=0.07, shift=0.03, erase=0.25, noise=0.02, softness=2.0)


def settings_digest() -> str:
    """Digest the settings that make a training what it is: SHA-256, hexadecimal."""
    settings = {
        "network": (NETWORK, OPTIONS),
        "batch": (BATCH, BASE_STEPS, STEPS, BASE_RATE, RATE, SLOWEST),
        "shares": (KIND_SHARES, FILM_SHARES, CHIMERAS),
        "windows": (WINDOWS, PARTS, BORDER),
        "extents": (FILM_WINDOWS, ONE_SIDE, EXTENT_SHARES),
        "phantoms": (PHANTOMS, FIRST_PHANTOM),
        "strength": asdict(STRENGTH),
        "pixels": (PIXELS, LOOK.to_json(), KEPT.to_json()),
        "questions": QUESTIONS,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Material:
    """What trains: uint8 (N, 128, 128) squares.

    Attributes:
        films: Frontal films by collection.
        others: Other pictures by kind, which may lack some.
    """

    films: Mapping[str, NDArray[np.uint8]]
    others: Mapping[int, NDArray[np.uint8]]


@functools.cache
def phantoms(preprocessing: Any) -> NDArray[np.uint8]:
    """Make computer-made films, with and without a marker and opacities: uint8 (N, S, S)."""
    made = [thorax(192, 168, seed=FIRST_PHANTOM + k, marker=k % 2 == 0) for k in range(PHANTOMS)]
    return np.stack([to_square(film, preprocessing)[0] for film in made])


def batch(
    material: Material, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make one batch: pixels (64, 64, 64, 1), and targets (64, 16).

    Each question's targets hold a 1 at the true answer, or none where nobody knows: a hand
    has no upright and no sides, and of a film of which a good part is cut away nobody says
    whether it is still a film.
    """
    kinds = [FRONTAL, *material.others, OTHER]
    shares = np.array([KIND_SHARES[kind] for kind in kinds])
    drawn = rng.choice(kinds, BATCH, p=shares / shares.sum())
    made = [_one(int(kind), material, rng) for kind in drawn]
    # Tones and places vary first: an inverted film's black border is white.
    films = augment(np.stack([picture for picture, _, _ in made]), STRENGTH, rng)
    for film, (_, _, faults) in zip(films, made, strict=True):
        film[:] = faulty(film, *faults)
    targets = np.stack(
        [
            _target(int(k), extent, *faults)
            for k, (_, extent, faults) in zip(drawn, made, strict=True)
        ]
    )
    return normalise(films, LOOK)[0], targets


Faults = tuple[int, int, int]  # quarter turns anticlockwise, mirrored, inverted


def _one(kind: int, material: Material, rng: np.random.Generator) -> tuple[Picture, int, Faults]:
    """Draw a picture of a kind, and say how much of a chest is on it and what faults it gets."""
    turns = int(rng.choice(4, p=(0.46, 0.18, 0.18, 0.18)))
    faults = (turns, int(rng.random() < 0.4), int(rng.random() < 0.25))
    films = _drawer(material.films, rng)
    if kind == FRONTAL:
        return *_film(films(), rng), faults
    if kind != OTHER:
        square = within_borders(rng.choice(material.others[kind]))
        return window(square, rng, WINDOWS[kind]), CUT, faults
    if rng.random() < CHIMERAS:
        return filling(chimera(films, rng)), CUT, faults
    return filling(no_film(films, _photographs(material, rng), rng)), CUT, faults


def _film(square: Square, rng: np.random.Generator) -> tuple[Picture, int]:
    """Show a film, or a part of it, and say how much of the chest is there."""
    extent = int(rng.choice(list(EXTENT_SHARES), p=list(EXTENT_SHARES.values())))
    if extent in ONE_SIDE and rng.random() < 0.6:
        picture = one_sided(square, rng, ONE_SIDE[extent])
    else:
        picture = window(square, rng, FILM_WINDOWS[extent])
    if rng.random() < BORDER[0]:
        picture = bordered(picture, rng, BORDER[1])
    return picture, extent


def _drawer(
    films: Mapping[str, NDArray[np.uint8]], rng: np.random.Generator
) -> Callable[[], Square]:
    """Draw films at random, from each collection as often as `FILM_SHARES` says."""
    names = list(films)
    shares = np.array([FILM_SHARES[name] for name in names])

    def draw() -> Square:
        squares = films[str(rng.choice(names, p=shares / shares.sum()))]
        return within_borders(squares[int(rng.integers(len(squares)))])

    return draw


def _photographs(material: Material, rng: np.random.Generator) -> Callable[[], Square]:
    """Draw photographs, or films where there are none to train on."""
    squares = material.others.get(PHOTOGRAPH)
    if squares is None:
        return _drawer(material.films, rng)
    return lambda: squares[int(rng.integers(len(squares)))]


def faulty(film: Picture, turns: int, mirrored: int, inverted: int) -> Picture:
    """Mirror, turn and invert a square in [0, 1]."""
    picture = film[:, ::-1] if mirrored else film
    picture = np.rot90(picture, turns)
    return np.ascontiguousarray(1 - picture if inverted else picture)


def _target(
    kind: int, extent: int, turns: int, mirrored: int, inverted: int
) -> NDArray[np.float32]:
    """Write the answers (16,) to all questions that have one.

    A picture that is no film has no top, no sides and no tone, and no whole chest on it.
    """
    film = kind == FRONTAL
    answers = (
        None if film and extent == CUT else kind,
        *((turns, mirrored, inverted) if film else (None, None, None)),
        {WHOLE: 0, BETWEEN: None, CUT: 1}[extent],
    )
    target = np.zeros(len(LABELS), np.float32)
    start = 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        if answer is not None:
            target[start + answer] = 1
        start += len(question)
    return target


def loss(y_true: Any, y_pred: Any) -> Any:
    """Add up the cross-entropies of all questions; one without an answer adds nothing."""
    total, start = 0.0, 0
    for question in QUESTIONS:
        part = slice(start, start + len(question))
        log_shares = keras.ops.log_softmax(y_pred[:, part], axis=-1)
        total = total - keras.ops.sum(y_true[:, part] * log_shares, axis=-1)
        start += len(question)
    return total


def fit(
    material: Material,
    *,
    seed: int,
    steps: int,
    network: Any = None,
    progress: Progress | None = None,
) -> tuple[Any, dict[str, list[float]]]:
    """Train, the next batch made while the network works on this one.

    Args:
        material: What trains.
        seed: Of weights and pictures.
        steps: How many batches.
        network: What the training goes on from; random weights where there is none.
        progress: Told of every tenth.

    Returns:
        The network with its averaged weights, and its history in tenths of the training.
    """
    keras.utils.set_random_seed(seed)
    fastest = BASE_RATE if network is None else RATE
    if network is None:
        network = build_network(NETWORK, size=LOOK.size, channels=1, outputs=len(LABELS), **OPTIONS)
    warming = steps // 20
    rate = keras.optimizers.schedules.CosineDecay(
        4e-5, steps - warming, warmup_target=fastest, warmup_steps=warming, alpha=SLOWEST
    )
    network.compile(
        keras.optimizers.AdamW(
            rate, weight_decay=1e-3, clipnorm=5.0, use_ema=True, ema_momentum=0.99
        ),
        loss,
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    # Else the first step makes the optimiser's variables, and TensorFlow traces it twice.
    network.optimizer.build(network.trainable_variables)
    history: dict[str, list[float]] = {"step": [], "loss": [], "seconds": []}
    losses: list[float] = []
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(batch, material, np.random.default_rng((seed, steps, 0)))
        for step in range(1, steps + 1):
            pixels, targets = ahead.result()
            ahead = pool.submit(batch, material, np.random.default_rng((seed, steps, step)))
            losses.append(float(network.train_on_batch(pixels, targets)))
            if step % max(1, steps // 10) == 0:
                recent = losses[-max(1, steps // 10) :]
                for name, value in (
                    ("step", step),
                    ("loss", float(np.mean(recent))),
                    ("seconds", time.monotonic() - began),
                ):
                    history[name].append(float(value))
                if progress:
                    progress(f"Training the gate, loss {np.mean(recent):.3f}", step, steps)
    network.optimizer.finalize_variable_values(network.trainable_variables)
    return network, history
