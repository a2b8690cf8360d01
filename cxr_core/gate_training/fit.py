"""Train the gate's network: batches of films with faults and of pictures that are no films."""

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
from cxr_core.gate import BONE, FRONTAL, LABELS, LATERAL, LOOK, OTHER, PHOTOGRAPH, QUESTIONS, SLICE
from cxr_core.gate_training.films import KEPT
from cxr_core.gate_training.pictures import PARTS, Picture, Square, bordered, no_film, window
from cxr_core.networks import build_network
from cxr_core.phantom import thorax
from cxr_core.preprocess import PIXELS, normalise, to_square

NETWORK = "residual"
OPTIONS: dict[str, Any] = {"widths": (24, 48, 64, 96), "dropout": 0.2}
BATCH, STEPS = 64, 1000
# How often a batch draws each kind, and frontal films from each collection; phantoms are the
# computer-made films that the app shows as its sample.
KIND_SHARES = {FRONTAL: 0.5, LATERAL: 0.03, BONE: 0.1, SLICE: 0.07, PHOTOGRAPH: 0.12, OTHER: 0.18}
FILM_SHARES = {"pediatric": 0.36, "covid": 0.34, "nih": 0.22, "phantom": 0.08}
# Which shares of the area a window on a picture of each kind may have.
WINDOWS = {
    FRONTAL: (0.72, 1.0),
    LATERAL: (0.7, 1.0),
    BONE: (0.3, 1.0),
    SLICE: (0.6, 1.0),
    PHOTOGRAPH: (0.15, 1.0),
}
# How often a film is given a border of black or white, and the largest share of its side.
BORDER = (0.2, 0.16)
PHANTOMS, FIRST_PHANTOM = 160, 10_000  # seeds that no sample film and no test uses
STRENGTH = replace(TRAINING, erase=0.25, noise=0.02, softness=2.0)


def settings_digest() -> str:
    """Digest the settings that make a training what it is: SHA-256, hexadecimal."""
    settings = {
        "network": (NETWORK, OPTIONS),
        "batch": (BATCH, STEPS),
        "shares": (KIND_SHARES, FILM_SHARES),
        "windows": (WINDOWS, PARTS, BORDER),
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


def phantoms(preprocessing: Any) -> NDArray[np.uint8]:
    """Make computer-made films, with and without a marker and opacities: uint8 (N, S, S)."""
    made = [thorax(192, 168, seed=FIRST_PHANTOM + k, marker=k % 2 == 0) for k in range(PHANTOMS)]
    return np.stack([to_square(film, preprocessing)[0] for film in made])


def batch(
    material: Material, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make one batch: pixels (64, 64, 64, 1), and targets (64, 14).

    Each question's targets hold a 1 at the true answer, or none where nobody knows: a hand
    has no upright and no sides.
    """
    kinds = [FRONTAL, *material.others, OTHER]
    shares = np.array([KIND_SHARES[kind] for kind in kinds])
    drawn = rng.choice(kinds, BATCH, p=shares / shares.sum())
    made = [_one(int(kind), material, rng) for kind in drawn]
    # Tones and places vary first: an inverted film's black border is white.
    films = augment(np.stack([picture for picture, _ in made]), STRENGTH, rng)
    for film, (_, faults) in zip(films, made, strict=True):
        film[:] = faulty(film, *faults)
    targets = np.stack(
        [_target(int(k), *faults) for k, (_, faults) in zip(drawn, made, strict=True)]
    )
    return normalise(films, LOOK)[0], targets


Faults = tuple[int, int, int]  # quarter turns anticlockwise, mirrored, inverted


def _one(kind: int, material: Material, rng: np.random.Generator) -> tuple[Picture, Faults]:
    """Draw a picture of a kind, and the faults that it will have."""
    turns = int(rng.choice(4, p=(0.46, 0.18, 0.18, 0.18)))
    faults = (turns, int(rng.random() < 0.4), int(rng.random() < 0.25))
    if kind == OTHER:
        return no_film(_drawer(material.films, rng), _photographs(material, rng), rng), faults
    if kind == FRONTAL:
        square = _drawer(material.films, rng)()
    else:
        square = rng.choice(material.others[kind])
    picture = window(square, rng, WINDOWS[kind])
    if kind == FRONTAL and rng.random() < BORDER[0]:
        picture = bordered(picture, rng, BORDER[1])
    return picture, faults


def _drawer(
    films: Mapping[str, NDArray[np.uint8]], rng: np.random.Generator
) -> Callable[[], Square]:
    """Draw films at random, from each collection as often as `FILM_SHARES` says."""
    names = list(films)
    shares = np.array([FILM_SHARES[name] for name in names])

    def draw() -> Square:
        squares = films[str(rng.choice(names, p=shares / shares.sum()))]
        return np.asarray(squares[int(rng.integers(len(squares)))])

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


def _target(kind: int, turns: int, mirrored: int, inverted: int) -> NDArray[np.float32]:
    """Write the answers (14,) to all questions; of pictures that are no film, to the first."""
    answers = (kind, turns, mirrored, inverted)
    target = np.zeros(len(LABELS), np.float32)
    start = 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        if start == 0 or kind == FRONTAL:
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
    material: Material, *, seed: int, steps: int = STEPS, progress: Progress | None = None
) -> tuple[Any, dict[str, list[float]]]:
    """Train from random weights, the next batch made while the network works on this one.

    Returns:
        The network with its averaged weights, and its history in tenths of the training.
    """
    keras.utils.set_random_seed(seed)
    network = build_network(NETWORK, size=LOOK.size, channels=1, outputs=len(LABELS), **OPTIONS)
    rate = keras.optimizers.schedules.CosineDecay(
        4e-5, steps - steps // 20, warmup_target=2e-3, warmup_steps=steps // 20, alpha=0.5
    )
    network.compile(
        keras.optimizers.AdamW(
            rate, weight_decay=1e-3, clipnorm=5.0, use_ema=True, ema_momentum=0.99
        ),
        loss,
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    history: dict[str, list[float]] = {"step": [], "loss": [], "seconds": []}
    losses: list[float] = []
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(batch, material, np.random.default_rng((seed, 0)))
        for step in range(1, steps + 1):
            pixels, targets = ahead.result()
            ahead = pool.submit(batch, material, np.random.default_rng((seed, step)))
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
