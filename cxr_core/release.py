"""From a recipe to a registered model: train, calibrate, decide, score once, publish.

Validation films choose the temperature, the operating points and the cannot-tell bands;
the test films are scored once, after everything else is fixed.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cxr_core.calibration import (
    Calibration,
    cannot_tell_band,
    fit_temperature,
    operating_point,
    probabilities,
)
from cxr_core.cards import ModelCard, check_name, models_root
from cxr_core.classifier import Classifier, publish, round_weights, write_bundle
from cxr_core.datasets import Progress, index, pixel_cache
from cxr_core.errors import ArgumentError, DataError
from cxr_core.evaluation import threshold_report
from cxr_core.predictions import PredictionTable, evaluate_table, write_predictions
from cxr_core.preprocess import finish
from cxr_core.ranking import auroc
from cxr_core.recipes import Recipe
from cxr_core.training import (
    Part,
    Run,
    best_epoch,
    fit,
    mean_auroc,
    perturbed,
    predict_logits,
    prepare_parts,
    targets,
)


@dataclass(frozen=True)
class Decision:
    """What validation films decided: how probabilities are made, and where they flag."""

    calibration: Calibration
    operating_points: tuple[float | None, ...]
    cannot_tell: tuple[tuple[float, float] | None, ...]
    record: dict[str, Any]


def decide(network: Any, held: Part, recipe: Recipe, seed: int) -> Decision:
    """Choose temperature, operating points and cannot-tell bands on validation films.

    Each film counts as it is and as other units might have taken it: plain validation
    films are easier than the next hospital's, and a threshold taken from them alone
    would call too many normal films abnormal, or miss too many that are not.
    """
    hard = perturbed(held, recipe, seed)
    groups = {"plain": held.squares, "perturbed": hard}
    logits = {
        name: predict_logits(network, squares, recipe.preprocessing)
        for name, squares in groups.items()
    }
    truth = {
        name: np.tile(held.targets, (len(values) // len(held.films), 1))
        for name, values in logits.items()
    }
    all_logits, all_truth = (np.concatenate(list(part.values())) for part in (logits, truth))
    calibration = fit_temperature(all_logits, all_truth, recipe.activation)
    scores = probabilities(all_logits, calibration, recipe.activation)
    columns = range(len(recipe.labels))
    bands = tuple(cannot_tell_band(all_truth[:, k], scores[:, k]) for k in columns)
    if recipe.activation == "softmax":
        return Decision(calibration, (None,) * len(columns), bands, {})
    points = tuple(
        operating_point(all_truth[:, k], scores[:, k], sensitivity=recipe.sensitivity)
        for k in columns
    )
    record = {
        name: _at_points(
            truth[name], probabilities(values, calibration, recipe.activation), points, recipe
        )
        for name, values in logits.items()
    }
    return Decision(calibration, points, bands, record)


def _at_points(
    y_true: NDArray[np.float32],
    scores: NDArray[np.float64],
    points: tuple[float, ...],
    recipe: Recipe,
) -> dict[str, dict[str, float | None]]:
    """Say what the operating points do to one group of validation films."""
    told = {}
    for k, (label, point) in enumerate(zip(recipe.labels, points, strict=True)):
        report = threshold_report(y_true[:, k], scores[:, k], point)
        told[label] = {
            "auroc": auroc(y_true[:, k], scores[:, k]).value,
            "sensitivity": report.sensitivity.value,
            "specificity": report.specificity.value,
        }
    return told


def score(
    classifier: Classifier, part: Part, split: str, progress: Progress | None = None
) -> PredictionTable:
    """Answer every film of a part, as serving would: calibrated probabilities and truth."""
    card, scores = classifier.card, []
    for k in range(0, len(part.films), 64):
        logits, _ = classifier.forward(finish(part.squares[k : k + 64], card.preprocessing))
        scores.append(probabilities(logits, card.calibration, card.activation))
        if progress:
            progress("Scoring films", min(k + 64, len(part.films)), len(part.films))
    films = part.films
    return PredictionTable(
        files=tuple(film.file for film in films),
        patients=tuple(film.patient for film in films),
        labels=card.labels,
        y_true=part.targets.astype(np.int8),
        y_score=np.concatenate(scores),
        split=split,
        view=tuple(film.view or "" for film in films) if any(f.view for f in films) else None,
        age=_known([film.age_years for film in films]),
        sex=tuple(film.sex or "" for film in films) if any(f.sex for f in films) else None,
    )


def _known(values: list[float | None]) -> tuple[float | None, ...] | None:
    return tuple(values) if any(value is not None for value in values) else None


def score_split(
    classifier: Classifier,
    recipe: Recipe,
    data: Path,
    split: str,
    progress: Progress | None = None,
) -> PredictionTable:
    """Score one split of a data folder with a registered model.

    Raises:
        DataError: When the folder has no films of that split.
    """
    dataset = index(data, recipe.layout, progress)
    films = tuple(film for film in dataset.films if film.split == split)
    if not films:
        known = ", ".join(sorted({film.split or "none" for film in dataset.films}))
        raise DataError(f"'{data}' has no films of the split '{split}'; it has: {known}.")
    squares = pixel_cache(data, films, classifier.card.preprocessing, progress)
    return score(classifier, Part(films, squares, targets(films, recipe)), split, progress)


def train(
    recipe: Recipe,
    data: Path,
    *,
    name: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    resume: bool = False,
    weights: str | None = None,
    runs: Path = Path("runs"),
    progress: Progress | None = None,
) -> Path:
    """Run a recipe from a folder of films to a registered model.

    Args:
        recipe: What to train.
        data: The folder, in the recipe's layout.
        name: Of the new model; the recipe's own by default.
        epochs: Instead of the recipe's number.
        seed: Of the split, the weights and the augmentation.
        resume: Continue an interrupted training of that name.
        weights: "imagenet" or a file of weights to start from.
        runs: Where the state of trainings is kept until the model stands.
        progress: Told of every stage.

    Returns:
        The model's folder.

    Raises:
        ArgumentError: When the name is not allowed, or taken.
        DataError: When the folder cannot be used.
        TrainingError: When the training cannot start or go on.
    """
    name = name or recipe.model
    check_name(name)
    if (models_root() / name).exists():
        raise ArgumentError(
            f"A model named '{name}' is registered already. Give the new one another --name, or "
            "delete the old one's folder."
        )
    if epochs is not None:
        recipe = replace(recipe, config=replace(recipe.config, epochs=epochs))
    dataset = index(data, recipe.layout, progress)
    parts = prepare_parts(dataset, recipe, seed, progress)
    run = Run(runs / name)
    network = fit(recipe, parts, run, seed=seed, resume=resume, weights=weights, progress=progress)
    return make_model(recipe, network, parts, run, name=name, seed=seed, progress=progress)


def make_model(
    recipe: Recipe,
    network: Any,
    parts: dict[str, Part],
    run: Run,
    *,
    name: str,
    seed: int,
    progress: Progress | None = None,
) -> Path:
    """Calibrate a trained network, score the test split once, and register it.

    Nothing is visible under models/ until all of it is written.
    """
    test, unrounded = parts["test"], network.get_weights()
    round_weights(network)
    decision = decide(network, parts["validation"], recipe, seed)
    card = _card(recipe, network, parts, run.history(), decision, name, seed)
    # From here on test films are looked at, and nothing is chosen any more.
    rounded = network.get_weights()
    network.set_weights(unrounded)
    exact = predict_logits(network, test.squares, recipe.preprocessing)
    network.set_weights(rounded)
    card.training["test_auroc_float32_weights"] = mean_auroc(test.targets, exact, recipe.activation)
    aside = models_root() / f".{name}.new"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        table = score(write_bundle(card, network, aside), test, "test", progress)
        report = evaluate_table(
            table,
            card.operating_points,
            model=name,
            exclusive=recipe.activation == "softmax",
        )
        write_predictions(aside / "predictions.csv", table)
        text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
        (aside / "evaluation.json").write_text(text + "\n", "utf-8")
        shutil.copyfile(run.table, aside / "history.csv")
        return publish(aside, name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _card(
    recipe: Recipe,
    network: Any,
    parts: dict[str, Part],
    rows: list[dict[str, float]],
    decision: Decision,
    name: str,
    seed: int,
) -> ModelCard:
    """Write down what was trained, on what, and what validation decided."""
    weights = hashlib.sha256(b"".join(value.tobytes() for value in network.get_weights()))
    seen = sorted(film.digest for part in ("train", "validation") for film in parts[part].films)
    digest = hashlib.sha256("\n".join(seen).encode()).hexdigest()
    words = dict(recipe.card)
    if digest != recipe.data_digest:
        words["data"] = f"Films of the user's own folder, not those of the recipe ({words['data']})"
    today = datetime.now(UTC).date().isoformat()
    rule = (
        f"The highest threshold with sensitivity of at least {recipe.sensitivity:g} on validation "
        f"films, each once as it is and {recipe.config.perturbed_copies} times perturbed as other "
        "X-ray units would (tone, contrast, blur, noise, borders); fixed before any test film was "
        "scored."
    )
    return ModelCard(
        name=name,
        labels=tuple(recipe.labels),
        activation=recipe.activation,
        preprocessing=recipe.preprocessing,
        operating_points=decision.operating_points,
        operating_rule=rule if recipe.activation == "sigmoid" else "The largest probability.",
        cannot_tell=decision.cannot_tell,
        calibration=decision.calibration,
        network=recipe.network,
        recipe=recipe.name,
        training={
            "epochs": len(rows),
            "best_epoch": best_epoch(rows),
            "films": len(parts["train"].films),
            "validation_films": len(parts["validation"].films),
            "test_films": len(parts["test"].films),
            "seed": seed,
            "seconds": round(sum(row["seconds"] for row in rows)),
            "films_per_second": rows[-1]["films_per_second"],
            "parameters": int(network.count_params()),
            "validation": decision.record,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
        data_digest=digest,
        version=f"{today}-{weights.hexdigest()[:8]}",
        created=today,
        **words,
    )
