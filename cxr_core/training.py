"""From films to a trained network: augment, fit, resume.

Validation films, plain and perturbed, choose the epoch. Everything here is Keras 3 and
numpy, so that the same training runs under the JAX and torch backends. What becomes of
the trained network is told in `release`.
"""

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_core import codes
from cxr_core.augmentation import ACQUISITION, MILD, TRAINING, augment
from cxr_core.calibration import Calibration, probabilities
from cxr_core.datasets import Progress
from cxr_core.datasets.partial import claim
from cxr_core.errors import TrainingError
from cxr_core.heads import solve_head
from cxr_core.networks import above, build_network, codes_layer, load_pretrained
from cxr_core.parts import Part
from cxr_core.preprocess import Preprocessing, finish, normalise
from cxr_core.ranking import auroc
from cxr_core.recipes import Recipe, TrainingConfig

STRENGTHS = {"strong": TRAINING, "mild": MILD, "none": None}


def film_weights(part: Part, config: TrainingConfig, activation: str) -> NDArray[np.float32]:
    """Weigh each film (N,): so that classes count the same, or films without the finding more.

    Films of several independent labels all count the same, for no one weight fits them, unless
    they are weighed within their sources.
    """
    y_true = part.targets
    if config.class_weight in ("within-source", "half-within-source"):
        cells = [f"{film.source}, {bool(film.findings)}" for film in part.films]
        sources = [film.source or "" for film in part.films]
        even = _counts(sources) / (2 * _counts(cells))
        if config.class_weight == "half-within-source":
            even = np.sqrt(even) / np.sqrt(even).mean()
        return np.asarray(even, np.float32)
    if config.class_weight == "none" or (activation == "sigmoid" and y_true.shape[1] > 1):
        return np.ones(len(y_true), np.float32)
    classes = y_true[:, 0].astype(int) if y_true.shape[1] == 1 else y_true.argmax(axis=1)
    if config.class_weight != "balanced":
        return np.where(classes == 0, config.class_weight, 1).astype(np.float32)
    balanced = len(classes) / (len(set(classes.tolist())) * _counts(classes.tolist()))
    return np.asarray(balanced, np.float32)


def _counts(groups: Sequence[Any]) -> NDArray[np.int64]:
    """Say of each member how many its group has."""
    _, group, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.asarray(counts[group])


def batches(
    part: Part, recipe: Recipe, seed: int, epoch: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (pixels or codes, targets, weights) of one epoch; the same for the same seed and epoch.

    Films are shuffled anew each epoch; what does not fill the last batch waits for the next
    shuffle. The next batch is made ready while the network works on this one.
    """
    config = recipe.config
    order = np.random.default_rng((seed, epoch)).permutation(len(part.films))
    weights = film_weights(part, config, recipe.activation)
    strength = STRENGTHS[config.augmentation]

    def make(k: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        rows = np.sort(order[k * config.batch : (k + 1) * config.batch])
        if part.codes is not None:
            return part.codes[rows].astype(np.float32), part.targets[rows], weights[rows]
        films = part.squares[rows].astype(np.float32) / np.float32(255)
        if strength is not None:
            films = augment(films, strength, np.random.default_rng((seed, epoch, k)))
        return normalise(films, recipe.preprocessing)[0], part.targets[rows], weights[rows]

    with ThreadPoolExecutor(1) as pool:
        steps = len(part.films) // config.batch
        ahead = pool.submit(make, 0)
        for k in range(steps):
            ready = ahead.result()
            if k + 1 < steps:
                ahead = pool.submit(make, k + 1)
            yield ready


def perturbed(part: Part, recipe: Recipe, seed: int) -> Part:
    """Return each film as other units might have taken it, `perturbed_copies` times over."""
    copies, batch = recipe.config.perturbed_copies, recipe.config.batch
    rng = np.random.default_rng((seed, 1))
    varied = [part.squares[:0]]
    for k in [*range(0, len(part.films), batch)] * copies:
        films = part.squares[k : k + batch].astype(np.float32) / np.float32(255)
        films = augment(films, ACQUISITION, rng)  # each batch with its own blur
        varied.append(np.rint(films * 255).astype(np.uint8))
    return Part(part.films * copies, np.concatenate(varied), np.tile(part.targets, (copies, 1)))


def predict_logits(network: Any, part: Part, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Score a part's squares, or its codes where it has them, 64 at a time: float32 (N, K)."""
    scores = [np.empty((0, part.targets.shape[1]), np.float32)]
    for k in range(0, len(part.films), 64):
        some = slice(k, k + 64)
        read = finish(part.squares[some], preprocessing) if part.codes is None else part.codes[some]
        scores.append(network.predict_on_batch(np.asarray(read, np.float32)))
    return np.concatenate(scores).astype(np.float32)


def mean_auroc(y_true: NDArray[np.float32], logits: NDArray[np.float32], activation: str) -> float:
    """Average the areas under the ROC curve over labels."""
    scores = probabilities(logits, Calibration(), activation)
    values = [auroc(y_true[:, k], scores[:, k]).value for k in range(y_true.shape[1])]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def as_sources_count(
    y_true: NDArray[np.float32], logits: NDArray[np.float32], activation: str
) -> dict[str, float]:
    """Count as Keras does, with every film and label in one heap.

    Accuracy, precision and recall are at probability 0.5, or by the largest. On many labels
    that are mostly absent they and the pooled AUC say little, and stand here only beside
    figures that others published. Without films of both kinds there is no "auc".
    """
    scores = probabilities(logits, Calibration(), activation)
    true, chance = y_true == 1, np.clip(scores, 1e-7, 1 - 1e-7)
    if activation == "softmax":
        loss = -np.log(chance[true]).mean()
        said = scores == scores.max(axis=1, keepdims=True)
        right = said[true].mean()
    else:
        loss = -np.log(np.where(true, chance, 1 - chance)).mean()
        said = scores >= 0.5
        right = (said == true).mean()
    pooled = auroc(y_true.ravel(), scores.ravel()).value
    return {
        "loss": float(loss),
        "accuracy": float(right),
        **({} if pooled is None else {"auc": pooled}),
        "precision": float((said & true).sum() / max(said.sum(), 1)),
        "recall": float((said & true).sum() / max(true.sum(), 1)),
    }


def devices() -> list[str]:
    """Name the devices among which batches are shared out: all that the backend shows.

    One under TensorFlow, whatever it shows: Keras (3.15) marks its distribution there as not to
    be used.
    """
    found: list[str] = keras.distribution.list_devices()
    return found[:1] if keras.backend.backend() == "tensorflow" else found


@contextmanager
def shared_out(batch: int) -> Iterator[None]:
    """Have every device work on its share of each batch while the block runs.

    The gradients are those of the whole batch, so that a training means the same on any number
    of devices.

    Raises:
        TrainingError: When the devices cannot share a batch evenly.
    """
    several = devices()
    if len(several) < 2:
        yield
        return
    if batch % len(several):
        raise TrainingError(
            f"Batches of {batch} films cannot be shared out evenly among {len(several)} devices "
            f"({', '.join(several)}). Hide some of them, or take a recipe with another batch."
        )
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=several))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def compile_network(network: Any, recipe: Recipe, steps: int) -> None:
    """Give a network its loss, optimiser and schedule; `steps` is the whole training's."""
    sigmoid = recipe.activation == "sigmoid"
    losses, metrics = keras.losses, keras.metrics
    loss = losses.BinaryCrossentropy if sigmoid else losses.CategoricalCrossentropy
    # Logits: 0 is a probability of 0.5.
    right = metrics.BinaryAccuracy(threshold=0.0) if sigmoid else metrics.CategoricalAccuracy()
    network.compile(
        _optimizer(recipe.config, steps),
        loss(from_logits=True, label_smoothing=recipe.config.label_smoothing),
        metrics=[right],
        # XLA slows convolutions down on processors (measured); elsewhere Keras may choose.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    # Else the first step makes the optimiser's variables, and TensorFlow traces it twice.
    network.optimizer.build(network.trainable_variables)


def _optimizer(config: TrainingConfig, steps: int) -> Any:
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        warmup = max(1, round(config.warmup * steps))
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate * 0.02,
            max(1, steps - warmup),
            warmup_target=config.learning_rate,
            warmup_steps=warmup,
        )
    common: dict[str, Any] = {}
    if config.average:
        common = {"use_ema": True, "ema_momentum": config.average}
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, **common)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate, **common)
    return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=5.0, **common)


class Run:
    """The folder of one training: its state, its history, its best weights.

    After each epoch the history, then the best weights, then the state (weights and
    optimiser) are written aside and renamed, so that a training killed at any moment
    continues from the last complete epoch.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, made when a training begins in it (`alone`)."""
        self.state = folder / "state.keras"
        self.best = folder / "best.weights.h5"
        self.table = folder / "history.csv"
        self.conditions = folder / "run.json"
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other trainings out of the folder; the lock goes with the process that holds it.

        Raises:
            TrainingError: When another training works in it, or it cannot be written to.
        """
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.folder, os.O_RDONLY)
        try:
            taken = (
                f"Another training works in '{self.folder}'. Wait for it or stop it, or give this "
                "one another --name."
            )
            claim(folder, TrainingError(taken))
            yield
        finally:
            os.close(folder)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in a sentence why the disk took nothing.

        Raises:
            TrainingError: Instead of what a full or read-only disk raises, also from within HDF5.
        """
        try:
            yield
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                for aside in self.folder.glob("aside.*"):
                    aside.unlink(missing_ok=True)
            why = getattr(error, "strerror", None) or str(error).partition("\n")[0].rstrip(".")
            raise TrainingError(
                f"The training cannot be kept in '{self.folder}': {why}. Make room, or let it be "
                "written to, then go on with --resume: every epoch kept so far is whole."
            ) from error

    def claim(self, conditions: dict[str, Any]) -> None:
        """Note what this training depends on; a resumed one must agree.

        Raises:
            TrainingError: When the folder holds a training of other films, seed or recipe:
                going on would validate on films it was trained on.
        """
        if not self.state.exists():
            with self._told():
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

    def checkpoint(self, epoch: int) -> Path:
        """Name the file of one epoch's weights, which some recipes keep."""
        return self.folder / f"epoch-{epoch:03d}.weights.h5"

    def require(self, epoch: int, recipe: Recipe) -> None:
        """Refuse an epoch that is not kept.

        Raises:
            TrainingError: Saying which epochs are.
        """
        if self.checkpoint(epoch).exists():
            return
        kept = sorted(int(file.name[6:9]) for file in self.folder.glob("epoch-*.weights.h5"))
        which = f"{kept[0]} to {kept[-1]}" if kept else "none"
        if not recipe.config.checkpoints:
            which += f" ('{recipe.name}' keeps only the one that becomes the model)"
        raise TrainingError(f"Epoch {epoch} is not kept in '{self.folder}'. Kept: {which}.")

    def keep(
        self,
        network: Any,
        rows: list[dict[str, float]],
        averaged: list[Any],
        config: TrainingConfig,
    ) -> None:
        """Keep one finished epoch; `averaged` are the weights that were validated.

        Raises:
            TrainingError: When the disk is full, or cannot be written to for another reason.
        """
        with self._told():
            self.write_history(rows)
            raw = network.get_weights()
            network.set_weights(averaged)
            wanted = [self.best] if chosen_epoch(rows, config) == len(rows) else []
            if config.checkpoints:
                wanted.append(self.checkpoint(len(rows)))
            for path in wanted:
                aside = self.folder / "aside.weights.h5"
                network.save_weights(aside)
                aside.replace(path)
            network.set_weights(raw)
            aside = self.folder / "aside.keras"
            network.save(aside)
            aside.replace(self.state)


def chosen_epoch(rows: list[dict[str, float]], config: TrainingConfig) -> int:
    """Return the epoch (from 1) whose weights become the model.

    That is the last, or the first with the highest AUROC on perturbed validation films, or on
    plain ones when none are perturbed.
    """
    if config.keep == "last":
        return len(rows)
    column = "perturbed_auroc" if config.perturbed_copies else "validation_auroc"
    values = [row[column] for row in rows]
    return 1 + int(np.argmax(np.nan_to_num(values, nan=-1)))


def averaged_weights(network: Any) -> list[Any]:
    """Return the weights with the optimiser's running averages in place of the last step's."""
    if not network.optimizer.use_ema:
        return list(network.get_weights())
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
    epoch_wanted: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Train a network, epoch by epoch, and return it with its chosen epoch's weights.

    Args:
        recipe: What to train.
        parts: At least "train" and "validation".
        run: Where state is kept; with `resume`, continued from.
        seed: Of weights, order and augmentation.
        resume: Continue the training that `run` holds, if it holds one.
        weights: "imagenet" or a file of weights to start from; random when None.
        epoch_wanted: Return this epoch's weights instead, of a recipe that keeps them all.
        progress: Told of steps within an epoch, and of epochs.

    Raises:
        TrainingError: When `run` holds a training and `resume` was not asked for, another
            training works there, nothing can be kept there, or the loss stops being a number.
    """
    with run.alone():
        return _fit(recipe, parts, run, seed, resume, weights, epoch_wanted, progress)


def _fit(
    recipe: Recipe,
    parts: dict[str, Part],
    run: Run,
    seed: int,
    resume: bool,
    weights: str | None,
    epoch_wanted: int | None,
    progress: Progress | None,
) -> Any:
    """Train as `fit` says, alone in the folder of the run."""
    train = parts["train"]
    steps = len(train.films) // recipe.config.batch
    if not steps:
        raise TrainingError(
            f"{len(train.films)} training films do not fill one batch of {recipe.config.batch}."
        )
    with shared_out(recipe.config.batch):
        network = build(recipe, seed, weights)
        run.claim(_conditions(recipe, parts, seed, weights))
        held = parts["validation"]
        hard = perturbed(held, recipe, seed)
        fitted = network
        if recipe.config.frozen:
            fitted = above(network, codes_layer(network))
            train, held, hard = (
                codes.with_codes(part, network, recipe.preprocessing, progress)
                for part in (train, held, hard)
            )
        fitted, rows = _start(fitted, recipe, run, steps, resume)
        for epoch in range(len(rows), recipe.config.epochs):
            if recipe.config.optimizer == "solve":
                row = {"epoch": epoch + 1.0, **_solve(fitted, train, recipe)}
            else:
                row = {
                    "epoch": epoch + 1.0,
                    **_one_epoch(fitted, train, recipe, seed, epoch, progress),
                }
            if not np.isfinite(row["loss"]):
                raise TrainingError(
                    f"The loss became {row['loss']} in epoch {epoch + 1}. Lower the learning rate."
                )
            raw, averaged = fitted.get_weights(), averaged_weights(fitted)
            fitted.set_weights(averaged)
            row |= _validate(fitted, held, hard, recipe)
            fitted.set_weights(raw)
            rows.append(row)
            run.keep(fitted, rows, averaged, recipe.config)
            if progress:
                progress(_told(row), epoch + 1, recipe.config.epochs)
        fitted.load_weights(run.best if epoch_wanted is None else run.checkpoint(epoch_wanted))
        if recipe.config.frozen:
            above(network, codes_layer(network)).set_weights(fitted.get_weights())
            return network
        return fitted


def _told(row: dict[str, float]) -> str:
    """Say in one line how an epoch went."""
    hard = f", perturbed {row['perturbed_auroc']:.4f}" if "perturbed_auroc" in row else ""
    return (
        f"Epoch {row['epoch']:.0f}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f}, "
        f"validation AUROC {row['validation_auroc']:.4f}{hard}, "
        f"{row['films_per_second']:.0f} films/s"
    )


def _conditions(
    recipe: Recipe, parts: dict[str, Part], seed: int, weights: str | None
) -> dict[str, Any]:
    """Say what a training depends on, in plain JSON values."""
    return {
        "seed": seed,
        "recipe": repr(recipe),
        "weights": weights and Path(weights).name,
        **{f"{name} films": _content(parts[name]) for name in ("train", "validation")},
    }


def _content(part: Part) -> str:
    """Digest what a part holds: its films, what they are said to show, their pixels."""
    content = hashlib.sha256(part.targets.tobytes())
    for film in part.films:
        content.update(f"{film.digest} {film.source}".encode())
    for square in part.squares:
        content.update(np.ascontiguousarray(square).tobytes())
    return content.hexdigest()


def build(recipe: Recipe, seed: int, weights: str | None = None) -> Any:
    """Build the recipe's network as it is before the first step."""
    keras.utils.set_random_seed(seed)
    network = build_network(
        recipe.network,
        size=recipe.preprocessing.size,
        channels=recipe.preprocessing.channels,
        outputs=len(recipe.labels),
        **recipe.options,
    )
    if weights is not None:
        load_pretrained(network, weights, backbone=recipe.options.get("backbone"))
    return network


def _start(
    network: Any, recipe: Recipe, run: Run, steps: int, resume: bool
) -> tuple[Any, list[dict[str, float]]]:
    """Compile a fresh network, or load the one that an interrupted training left."""
    if not run.state.exists():
        compile_network(network, recipe, steps * recipe.config.epochs)
        return network, []
    if not resume:
        raise TrainingError(
            f"A training of {len(run.history())} epochs lies in '{run.folder}'. Add --resume "
            "to continue it, or delete that folder to start anew."
        )
    network = keras.models.load_model(run.state)
    # The optimiser's own count says which epoch this state belongs to.
    return network, run.history()[: int(network.optimizer.iterations) // steps]


def _one_epoch(
    network: Any, part: Part, recipe: Recipe, seed: int, epoch: int, progress: Progress | None
) -> dict[str, float]:
    """Run every step of one epoch; say the mean loss and where the time went."""
    steps = len(part.films) // recipe.config.batch
    _reseed(network, seed, epoch)
    began, waited, told = time.perf_counter(), 0.0, []
    source = batches(part, recipe, seed, epoch)
    for step in range(steps):
        asked = time.perf_counter()
        pixels, wanted, weights = next(source)
        waited += time.perf_counter() - asked
        told.append(network.train_on_batch(pixels, wanted, weights))
        if progress:
            progress(f"Epoch {epoch + 1}", step + 1, steps)
    seconds = time.perf_counter() - began
    loss, accuracy = np.mean(np.asarray(told, np.float64), axis=0)
    return {
        "loss": float(loss),
        "accuracy": float(accuracy),
        "learning_rate": float(network.optimizer.learning_rate),
        "seconds": round(seconds, 2),
        "films_per_second": round(steps * recipe.config.batch / seconds, 2),
        "waiting_share": round(waited / seconds, 4),
    }


def _solve(network: Any, part: Part, recipe: Recipe) -> dict[str, float]:
    """Give a frozen backbone's only dense layer its best weights at once; told as an epoch.

    Raises:
        TrainingError: When there is more than one layer to fit, or the backbone is not frozen.
    """
    learning = [layer.name for layer in network.layers if layer.weights]
    if part.codes is None or learning != ["logits"]:
        raise TrainingError(
            f"'{recipe.name}' cannot be solved at once: that takes a frozen backbone and one dense "
            f"layer, but {', '.join(learning)} learn. Choose another optimizer."
        )
    began = time.perf_counter()
    read = np.asarray(part.codes, np.float32)
    weights = film_weights(part, recipe.config, recipe.activation)
    kernel, bias = solve_head(read, part.targets, weights, recipe.config.inverse_penalty)
    network.get_layer("logits").set_weights([kernel, bias])
    counted = as_sources_count(part.targets, read @ kernel + bias, recipe.activation)
    seconds = time.perf_counter() - began
    return {
        "loss": counted["loss"],
        "accuracy": counted["accuracy"],
        "learning_rate": 0.0,
        "seconds": round(seconds, 2),
        "films_per_second": round(len(part.films) / seconds, 2),
        "waiting_share": 0.0,
    }


def _reseed(network: Any, seed: int, epoch: int) -> None:
    """Give dropout the same numbers in this epoch whether or not the training was resumed."""
    for k, layer in enumerate(network.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            numbers = np.random.default_rng((seed, epoch, k)).integers(0, 2**31, 2)
            generator.state.assign(numbers.astype(generator.state.dtype))


def _validate(network: Any, held: Part, hard: Part, recipe: Recipe) -> dict[str, float]:
    """Score validation films, plain and perturbed."""
    plain = predict_logits(network, held, recipe.preprocessing)
    counted = as_sources_count(held.targets, plain, recipe.activation)
    told = {
        "validation_loss": counted["loss"],
        "validation_accuracy": counted["accuracy"],
        "validation_auroc": mean_auroc(held.targets, plain, recipe.activation),
    }
    if hard.films:
        other = predict_logits(network, hard, recipe.preprocessing)
        told["perturbed_auroc"] = mean_auroc(hard.targets, other, recipe.activation)
    return told
