"""From films to a trained network: split, augment, fit, resume.

Validation films, plain and perturbed, choose the epoch. Everything here is Keras 3 and
numpy, so that the same training runs under the JAX and torch backends. What becomes of
the trained network is told in `release`.
"""

import csv
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_core.augmentation import ACQUISITION, TRAINING, augment
from cxr_core.calibration import Calibration, probabilities
from cxr_core.datasets import DatasetIndex, Film, Progress, overlap, pixel_cache, split_by_patient
from cxr_core.errors import DataError, TrainingError
from cxr_core.networks import build_network
from cxr_core.preprocess import Preprocessing, finish, normalise
from cxr_core.ranking import auroc
from cxr_core.recipes import Recipe, TrainingConfig


@dataclass(frozen=True)
class Part:
    """One part of a split, ready to read.

    Attributes:
        films: Its films, in order.
        squares: uint8 (N, S, S), as decoded once.
        targets: float32 (N, K) of 0 and 1.
    """

    films: tuple[Film, ...]
    squares: NDArray[np.uint8]
    targets: NDArray[np.float32]


def targets(films: Sequence[Film], recipe: Recipe) -> NDArray[np.float32]:
    """Say for each film (N) and label (K) whether the data call it true: float32 (N, K)."""
    rows = [
        [
            bool(set(meaning) & set(film.findings)) if meaning else not film.findings
            for meaning in recipe.labels.values()
        ]
        for film in films
    ]
    return np.array(rows, np.float32).reshape(len(films), len(recipe.labels))


def prepare_parts(
    dataset: DatasetIndex, recipe: Recipe, seed: int, progress: Progress | None = None
) -> dict[str, Part]:
    """Split a data folder as its own folders say, carve validation by patient, decode once.

    Returns:
        The parts "train", "validation" and "test".

    Raises:
        DataError: When a patient is in two splits, or a part lacks a class.
    """
    shared = overlap(dataset.films)
    if shared:
        raise DataError(
            f"{len(shared)} patients or films are in more than one split of '{dataset.root}' "
            f"({', '.join(shared[:3])}, ...): test figures would be worth nothing. Split by "
            "patient first."
        )
    by_split: dict[str, tuple[Film, ...]] = {
        split: tuple(film for film in dataset.films if film.split == split)
        for split in ("train", "validation", "test")
    }
    if not by_split["train"]:
        if any(by_split.values()):
            there = " and ".join(split for split, films in by_split.items() if films)
            raise DataError(
                f"'{dataset.root}' has films for {there} but none to train on. Name the folder of "
                "the training films 'train'."
            )
        by_split = split_by_patient(
            dataset.films, {"train": 0.7, "validation": 0.15, "test": 0.15}, seed
        )
    if not by_split["validation"]:
        share = recipe.config.validation
        by_split |= split_by_patient(
            by_split["train"], {"train": 1 - share, "validation": share}, seed
        )
    for split, films in by_split.items():
        counts = targets(films, recipe).sum(axis=0)
        for label, positives in zip(recipe.labels, counts, strict=True):
            if not 0 < positives < len(films):
                raise DataError(
                    f"The {split} part has {len(films)} films, {int(positives)} of them "
                    f"'{label}': both kinds are needed. Check the class folders of '{dataset.root}'"
                )
    return {
        split: Part(
            films,
            pixel_cache(dataset.root, films, recipe.preprocessing, progress),
            targets(films, recipe),
        )
        for split, films in by_split.items()
    }


def film_weights(y_true: NDArray[np.float32], config: TrainingConfig) -> NDArray[np.float32]:
    """Weigh each film (N,) so that every class of a one-answer problem counts the same."""
    if config.class_weight == "none":
        return np.ones(len(y_true), np.float32)
    classes = y_true[:, 0].astype(int) if y_true.shape[1] == 1 else y_true.argmax(axis=1)
    counts = np.bincount(classes)
    balanced = len(classes) / (np.count_nonzero(counts) * counts[classes])
    return np.asarray(balanced, np.float32)


def batches(
    part: Part, preprocessing: Preprocessing, config: TrainingConfig, seed: int, epoch: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (pixels, targets, weights) of one epoch; the same for the same seed and epoch.

    Films are shuffled anew each epoch; what does not fill the last batch waits for the next
    shuffle. The next batch is made ready while the network works on this one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(part.films))
    weights = film_weights(part.targets, config)

    def make(k: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        rows = np.sort(order[k * config.batch : (k + 1) * config.batch])
        films = part.squares[rows].astype(np.float32) / np.float32(255)
        varied = augment(films, TRAINING, np.random.default_rng((seed, epoch, k)))
        return normalise(varied, preprocessing)[0], part.targets[rows], weights[rows]

    with ThreadPoolExecutor(1) as pool:
        steps = len(part.films) // config.batch
        ahead = pool.submit(make, 0)
        for k in range(steps):
            ready = ahead.result()
            if k + 1 < steps:
                ahead = pool.submit(make, k + 1)
            yield ready


def perturbed(part: Part, recipe: Recipe, seed: int) -> NDArray[np.uint8]:
    """Return each film as other units might have taken it: uint8 (copies x N, S, S)."""
    rng = np.random.default_rng((seed, 1))
    films = part.squares.astype(np.float32) / np.float32(255)
    copies = [
        augment(films[k : k + recipe.config.batch], ACQUISITION, rng)  # each with its own blur
        for _ in range(recipe.config.perturbed_copies)
        for k in range(0, len(films), recipe.config.batch)
    ]
    return np.rint(np.concatenate(copies) * 255).astype(np.uint8)


def predict_logits(
    network: Any, squares: NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Score squares uint8 (N, S, S), 64 at a time: float32 (N, K)."""
    parts = [
        network.predict_on_batch(finish(squares[k : k + 64], preprocessing))
        for k in range(0, len(squares), 64)
    ]
    return np.concatenate(parts).astype(np.float32)


def mean_auroc(y_true: NDArray[np.float32], logits: NDArray[np.float32], activation: str) -> float:
    """Average the areas under the ROC curve over labels."""
    scores = probabilities(logits, Calibration("none", ()), activation)
    values = [auroc(y_true[:, k], scores[:, k]).value for k in range(y_true.shape[1])]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def compile_network(network: Any, recipe: Recipe, steps: int) -> None:
    """Give a network its loss, optimiser and schedule; `steps` is the whole training's."""
    config = recipe.config
    warmup = max(1, round(config.warmup * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate * 0.02,
        max(1, steps - warmup),
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        use_ema=True,
        ema_momentum=config.average,
        clipnorm=5.0,
    )
    losses = keras.losses
    kind = losses.BinaryCrossentropy if recipe.activation == "sigmoid" else None
    loss = (kind or losses.CategoricalCrossentropy)(
        from_logits=True, label_smoothing=config.label_smoothing
    )
    # XLA slows convolutions down on processors (measured); elsewhere Keras may choose.
    jit = False if keras.backend.backend() == "tensorflow" else "auto"
    network.compile(optimizer, loss, jit_compile=jit)


class Run:
    """The folder of one training: its state, its history, its best weights.

    After each epoch the history, then the best weights, then the state (weights and
    optimiser) are written aside and renamed, so that a training killed at any moment
    continues from the last complete epoch.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made when the first epoch ends."""
        self.state = folder / "state.keras"
        self.best = folder / "best.weights.h5"
        self.table = folder / "history.csv"
        self.conditions = folder / "run.json"
        self.folder = folder

    def claim(self, conditions: dict[str, Any]) -> None:
        """Note what this training depends on; a resumed one must agree.

        Raises:
            TrainingError: When the folder holds a training of other films, seed or recipe:
                going on would validate on films it was trained on.
        """
        if not self.state.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.conditions.write_text(json.dumps(conditions, indent=2) + "\n", "utf-8")
            return
        known = json.loads(self.conditions.read_text("utf-8"))
        odd = [name for name in conditions if conditions[name] != known.get(name)]
        if odd:
            raise TrainingError(
                f"The training in '{self.folder}' began with other {' and '.join(odd)}. Give the "
                "same again, or delete that folder to start anew."
            )

    def history(self) -> list[dict[str, float]]:
        """Read the epochs done so far."""
        if not self.table.exists():
            return []
        with self.table.open(newline="") as file:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all rows anew, aside, then rename."""
        aside = self.table.with_suffix(".tmp")
        with aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        aside.replace(self.table)

    def keep(self, network: Any, rows: list[dict[str, float]], averaged: list[Any]) -> None:
        """Keep one finished epoch; `averaged` are the weights that were validated."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_history(rows)
        if best_epoch(rows) == len(rows):
            raw = network.get_weights()
            network.set_weights(averaged)
            aside = self.folder / "aside.weights.h5"
            network.save_weights(aside)
            aside.replace(self.best)
            network.set_weights(raw)
        aside = self.folder / "aside.keras"
        network.save(aside)
        aside.replace(self.state)


def best_epoch(rows: list[dict[str, float]]) -> int:
    """Return the epoch (from 1) with the highest AUROC on perturbed validation films."""
    return 1 + int(np.argmax([row["perturbed_auroc"] for row in rows]))


def averaged_weights(network: Any) -> list[Any]:
    """Return the weights with the optimiser's running averages in place of the last step's."""
    raw = network.get_weights()
    network.optimizer.finalize_variable_values(network.trainable_variables)
    averaged = network.get_weights()
    network.set_weights(raw)
    return list(averaged)


def fit(
    recipe: Recipe,
    parts: dict[str, Part],
    run: Run,
    *,
    seed: int,
    resume: bool = False,
    weights: str | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train a network, epoch by epoch, and return it with its best epoch's weights.

    Args:
        recipe: What to train.
        parts: At least "train" and "validation".
        run: Where state is kept; with `resume`, continued from.
        seed: Of weights, order and augmentation.
        resume: Continue the training that `run` holds, if it holds one.
        weights: "imagenet" or a file of weights to start from; random when None.
        progress: Told of steps within an epoch, and of epochs.

    Raises:
        TrainingError: When `run` holds a training and `resume` was not asked for, or when
            the loss stops being a number.
    """
    train = parts["train"]
    steps = len(train.films) // recipe.config.batch
    if not steps:
        raise TrainingError(
            f"{len(train.films)} training films do not fill one batch of {recipe.config.batch}."
        )
    run.claim(_conditions(recipe, parts, seed))
    network, rows = _start(recipe, run, steps, seed, resume, weights)
    held = parts["validation"]
    hard = perturbed(held, recipe, seed)
    for epoch in range(len(rows), recipe.config.epochs):
        row = {"epoch": epoch + 1.0, **_one_epoch(network, train, recipe, seed, epoch, progress)}
        if not np.isfinite(row["loss"]):
            raise TrainingError(
                f"The loss became {row['loss']} in epoch {epoch + 1}. Lower the learning rate."
            )
        raw, averaged = network.get_weights(), averaged_weights(network)
        network.set_weights(averaged)
        row |= _validate(network, held, hard, recipe)
        network.set_weights(raw)
        rows.append(row)
        run.keep(network, rows, averaged)
        if progress:
            progress(
                f"Epoch {epoch + 1}: loss {row['loss']:.3f}, validation AUROC "
                f"{row['validation_auroc']:.4f}, perturbed {row['perturbed_auroc']:.4f}, "
                f"{row['films_per_second']:.0f} films/s",
                epoch + 1,
                recipe.config.epochs,
            )
    network.load_weights(run.best)
    return network


def _conditions(recipe: Recipe, parts: dict[str, Part], seed: int) -> dict[str, Any]:
    """Say what a training depends on, in plain JSON values."""
    return {
        "seed": seed,
        "recipe": repr(recipe),
        **{
            f"{name} films": hashlib.sha256(
                "".join(film.digest for film in parts[name].films).encode()
            ).hexdigest()
            for name in ("train", "validation")
        },
    }


def _start(
    recipe: Recipe, run: Run, steps: int, seed: int, resume: bool, weights: str | None
) -> tuple[Any, list[dict[str, float]]]:
    """Build a network, or load the one that an interrupted training left."""
    if run.state.exists():
        if not resume:
            raise TrainingError(
                f"A training of {len(run.history())} epochs lies in '{run.folder}'. Add --resume "
                "to continue it, or delete that folder to start anew."
            )
        network = keras.models.load_model(run.state)
        # The optimiser's own count says which epoch this state belongs to.
        return network, run.history()[: int(network.optimizer.iterations) // steps]
    keras.utils.set_random_seed(seed)
    network = build_network(
        recipe.network,
        size=recipe.preprocessing.size,
        channels=recipe.preprocessing.channels,
        outputs=len(recipe.labels),
        **recipe.options,
    )
    if weights is not None:
        _load_weights(network, recipe, weights)
    compile_network(network, recipe, steps * recipe.config.epochs)
    return network, []


def _load_weights(network: Any, recipe: Recipe, weights: str) -> None:
    """Start from weights that another training left in a file."""
    if weights == "imagenet":
        raise TrainingError(
            f"There are no ImageNet weights for the network '{recipe.network}'. Leave --weights "
            "out to start from random weights, or name a file that this network was saved to."
        )
    if not Path(weights).is_file():
        raise TrainingError(f"There is no weights file '{weights}'; check the path.")
    try:
        network.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise TrainingError(
            f"The weights in '{weights}' do not fit the network '{recipe.network}' ({error})."
        ) from error


def _one_epoch(
    network: Any, part: Part, recipe: Recipe, seed: int, epoch: int, progress: Progress | None
) -> dict[str, float]:
    """Run every step of one epoch; say the mean loss and where the time went."""
    steps = len(part.films) // recipe.config.batch
    _reseed(network, seed, epoch)
    began, waited, losses = time.perf_counter(), 0.0, []
    source = batches(part, recipe.preprocessing, recipe.config, seed, epoch)
    for step in range(steps):
        asked = time.perf_counter()
        pixels, wanted, weights = next(source)
        waited += time.perf_counter() - asked
        losses.append(float(network.train_on_batch(pixels, wanted, weights)))
        if progress:
            progress(f"Epoch {epoch + 1}", step + 1, steps)
    seconds = time.perf_counter() - began
    return {
        "loss": float(np.mean(losses)),
        "learning_rate": float(network.optimizer.learning_rate),
        "seconds": round(seconds, 2),
        "films_per_second": round(steps * recipe.config.batch / seconds, 2),
        "waiting_share": round(waited / seconds, 4),
    }


def _reseed(network: Any, seed: int, epoch: int) -> None:
    """Give dropout the same numbers in this epoch whether or not the training was resumed."""
    for k, layer in enumerate(network.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            numbers = np.random.default_rng((seed, epoch, k)).integers(0, 2**31, 2)
            generator.state.assign(numbers.astype(generator.state.dtype))


def _validate(
    network: Any, held: Part, hard: NDArray[np.uint8], recipe: Recipe
) -> dict[str, float]:
    """Score validation films, plain and perturbed."""
    copies = len(hard) // len(held.films)
    plain = predict_logits(network, held.squares, recipe.preprocessing)
    other = predict_logits(network, hard, recipe.preprocessing)
    truth = np.tile(held.targets, (copies, 1))
    return {
        "validation_auroc": mean_auroc(held.targets, plain, recipe.activation),
        "perturbed_auroc": mean_auroc(truth, other, recipe.activation),
    }
