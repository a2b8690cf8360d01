"""From a recipe to a registered model: train, calibrate, decide, score once, publish.

Validation films choose the calibration, the operating points and the cannot-tell bands
(`decisions`); the test films are scored once, after everything else is fixed.
"""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_core.calibration import Calibration, probabilities
from cxr_core.cards import (
    Inputs,
    ModelCard,
    check_name,
    load_card,
    load_predictions,
    model_folder,
    models_root,
    reading,
)
from cxr_core.classifier import Classifier, round_weights, write_bundle
from cxr_core.datasets import Progress, overlap, pixel_cache
from cxr_core.decisions import (
    PERTURBED,
    PLAIN,
    Decision,
    ValidationTable,
    decide,
    logits_behind,
    operating_rule,
    read_validation,
    version_of,
    write_record,
    write_validation,
)
from cxr_core.errors import ArgumentError, ModelError, UnknownName
from cxr_core.familiarity import Familiarity
from cxr_core.mistakes import coverage
from cxr_core.networks import BACKBONES
from cxr_core.parts import (
    Part,
    blacked_out,
    decoded,
    films_to_score,
    open_folder,
    own_films,
    prepare_parts,
    seen_digest,
    targets,
)
from cxr_core.predictions import PredictionTable
from cxr_core.preprocess import finish
from cxr_core.publishing import changing, made, renewed
from cxr_core.ranking import auroc
from cxr_core.recipes import Recipe, get_recipe
from cxr_core.reference import write_reference
from cxr_core.repeatability import one_of_each, write_repeatability
from cxr_core.runtime import NETWORK
from cxr_core.training import (
    Run,
    as_sources_count,
    chosen_epoch,
    fit,
    mean_auroc,
    perturbed,
    predict_logits,
)


def validate(network: Any, held: Part, recipe: Recipe, seed: int) -> ValidationTable:
    """Ask a network about validation films, as they are and as other units might take them."""
    kinds = {PLAIN: held, PERTURBED: perturbed(held, recipe, seed)}
    films = [film for part in kinds.values() for film in part.films]
    logits = [predict_logits(network, part, recipe.preprocessing) for part in kinds.values()]
    return ValidationTable(
        files=tuple(film.file for film in films),
        patients=tuple(film.patient for film in films),
        copies=tuple(kind for kind, part in kinds.items() for _ in part.films),
        labels=tuple(recipe.labels),
        y_true=np.concatenate([part.targets for part in kinds.values()]).astype(np.int8),
        logits=np.concatenate(logits),
    )


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
    *,
    layout: str | None = None,
    skip_damaged: bool = False,
) -> PredictionTable:
    """Score one split of a data folder with a registered model.

    A folder without splits of its own is dealt as in the model's training, by its recipe's
    protocol and the seed on its card.

    Raises:
        DataError: When the folder has no films of that split, or films that the model saw
            would be scored.
    """
    dataset, recipe = open_folder(recipe, data, layout, progress, skip_damaged=skip_damaged)
    card = classifier.card
    films = films_to_score(dataset, recipe, split, card.training.get("seed", 0), card.data_digest)
    squares = pixel_cache(data, films, card.preprocessing, progress)
    return score(classifier, Part(films, squares, targets(films, recipe)), split, progress)


def train(
    recipe: Recipe,
    data: Path,
    *,
    name: str | None = None,
    layout: str | None = None,
    epochs: int | None = None,
    epoch: int | None = None,
    trained_as: str | None = None,
    backbone: str | None = None,
    seed: int = 0,
    resume: bool = False,
    weights: str | None = None,
    skip_damaged: bool = False,
    runs: Path = Path("runs"),
    progress: Progress | None = None,
) -> Path:
    """Run a recipe from a folder of films to a registered model.

    Args:
        recipe: What to train.
        data: The folder, in one of the recipe's layouts.
        name: Of the new model; the recipe's own by default.
        layout: Which of them; found out by default.
        epochs: Instead of the recipe's number.
        epoch: Train nothing; register this epoch's weights of a training that is done, of a
            recipe that keeps them all.
        trained_as: The name under which that training was run; the recipe's own by default.
        backbone: Instead of the recipe's.
        seed: Of the split, the weights and the augmentation.
        resume: Continue an interrupted training of that name.
        weights: "imagenet" or a file of weights to start from.
        skip_damaged: Leave damaged TFRecord shards out instead of refusing the folder.
        runs: Where the state of trainings is kept.
        progress: Told of every stage.

    Returns:
        The model's folder.

    Raises:
        ArgumentError: When the name is not allowed or taken, or an option does not fit.
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
    options = {
        "name": name if name != recipe.model else None,
        "layout": layout,
        "weights": Path(weights).name if weights else None,
        "backbone": backbone,
        "epochs": epochs,
        "epoch": epoch,
        "trained-as": trained_as,
        "seed": seed or None,
    }
    recipe = _changed(recipe, epochs, backbone)
    run = Run(runs / name)
    if epoch is not None:
        run = Run(runs / (trained_as or recipe.model))
        run.require(epoch, recipe)
    dataset, recipe = open_folder(recipe, data, layout, progress, skip_damaged=skip_damaged)
    parts = prepare_parts(dataset, recipe, seed, progress)
    network = fit(
        recipe,
        parts,
        run,
        seed=seed,
        resume=resume or epoch is not None,
        weights=weights,
        epoch_wanted=epoch,
        progress=progress,
    )
    control = None
    if recipe.control:
        dark = {split: blacked_out(part, recipe.control) for split, part in parts.items()}
        beside = Run(runs / f"{name}-control")
        other = fit(
            recipe, dark, beside, seed=seed, resume=resume, weights=weights, progress=progress
        )
        control = (other, dark["test"])
    given = [f"--{option} {value}" for option, value in options.items() if value is not None]
    given += ["--skip-damaged"] if skip_damaged else []
    command = ["python -m cxr_core train", recipe.name, "--data", data.resolve().name, *given]
    trained = Trained(
        recipe,
        network,
        parts,
        run,
        name,
        seed,
        " ".join(command),
        dataset.root,
        dataset.notes,
        epoch,
        control,
    )
    return make_model(trained, progress)


def _changed(recipe: Recipe, epochs: int | None, backbone: str | None) -> Recipe:
    """Apply what the command line asks for instead of the recipe's own.

    Raises:
        ArgumentError: When the recipe has no backbone to exchange, or on no epochs.
    """
    if epochs is not None:
        if epochs < 1:
            raise ArgumentError(f"epochs must be at least 1, but {epochs} came.")
        recipe = replace(recipe, config=replace(recipe.config, epochs=epochs))
    if backbone is None:
        return recipe
    if "backbone" not in recipe.options:
        raise ArgumentError(f"'{recipe.name}' has no pretrained backbone to exchange.")
    if backbone not in BACKBONES:
        raise UnknownName("backbone", backbone, BACKBONES)
    return replace(recipe, options={**recipe.options, "backbone": backbone})


@dataclass(frozen=True)
class Trained:
    """What a training leaves: all that a model is made of.

    Attributes:
        recipe: With its labels as they fit the folder.
        network: With the chosen weights.
        parts: The films.
        run: Its history.
        name: Of the model to be.
        seed: It was trained with.
        command: That trains it again; of paths only their last part.
        root: The data folder.
        notes: What the folder's reader should be told.
        epoch: Whose weights these are, when asked for.
        control: The network trained with the middle of every film blacked out, and the test
            films so blacked out.
    """

    recipe: Recipe
    network: Any
    parts: dict[str, Part]
    run: Run
    name: str
    seed: int
    command: str
    root: Path
    notes: tuple[str, ...] = ()
    epoch: int | None = None
    control: tuple[Any, Part] | None = None


def make_model(trained: Trained, progress: Progress | None = None) -> Path:
    """Calibrate a trained network, score the test split once, and register it.

    Nothing is visible under models/ until all of it is written.
    """
    recipe, network, name = trained.recipe, trained.network, trained.name
    test, unrounded = trained.parts["test"], network.get_weights()
    round_weights(network)
    held = validate(network, trained.parts["validation"], recipe, trained.seed)
    decision = decide(held, recipe)
    card = _card(trained, decision)
    facts = card.training
    # From here on test films are looked at, and nothing is chosen any more.
    rounded = network.get_weights()
    network.set_weights(unrounded)
    exact = predict_logits(network, test, recipe.preprocessing)
    network.set_weights(rounded)
    facts["test_auroc_float32_weights"] = mean_auroc(test.targets, exact, recipe.activation)
    row = trained.run.history()[facts["best_epoch"] - 1]
    facts["as_sources_count"] = as_sources_count(test.targets, exact, recipe.activation) | {
        "train accuracy": row["accuracy"],
        "train loss": row["loss"],
    }
    if trained.control:
        facts["control"] = _control(*trained.control, recipe)
    with made(name) as aside:
        classifier = write_bundle(card, network, aside)
        chose = trained.parts["validation"]
        write_repeatability(aside, classifier, chose.squares[one_of_each(chose.films)], progress)
        table = score(classifier, test, "test", progress)
        _write_record(aside, card, table)
        write_validation(aside / "validation.csv", held)
        shutil.copyfile(trained.run.table, aside / "history.csv")
        write_reference(aside, card, trained.parts, recipe, trained.root, progress)
    return models_root() / name


def _write_record(folder: Path, card: ModelCard, table: PredictionTable) -> None:
    """Write what a model scored on its test films, and its card with what follows from that."""
    bare = probabilities(logits_behind(card, table), Calibration(), card.activation)
    exclusive = card.activation == "softmax"
    held = coverage(table, card.operating_points, card.cannot_tell, exclusive=exclusive)
    write_record(folder, card, table, bare, held)


def recalibrate(name: str, root: Path | None = None) -> ModelCard:
    """Decide again by the present rules what a registered model's validation films decide.

    From its own tables: neither films nor network are needed, weights do not change, and the
    test films are not scored again, for their logits follow from `predictions.csv`. Nothing
    is written when nothing changes.

    Args:
        name: The model.
        root: Of the models.

    Returns:
        The card as it is now.

    Raises:
        UnknownName: When there is no such model, or no such recipe.
        ArgumentError: When a site's films decided it (`local_check`).
        ModelError: When a file of it is missing or damaged.
    """
    with changing(name, root):
        card, folder = load_card(name, root), model_folder(name, root)
        if "recalibrated" in card.training:
            raise ArgumentError(
                f"'{name}' was decided on the films of a site: check the model it was made of on "
                "them again, and register another copy."
            )
        with reading(folder / "validation.csv"):
            held = read_validation(folder / "validation.csv")
            if held.labels != card.labels:  # thresholds would go to others, and nobody knew
                raise ValueError(f"it is of {', '.join(held.labels)}, not {', '.join(card.labels)}")
        table, decision = load_predictions(name, root), decide(held, get_recipe(card.recipe))
        anew = _decided(card, decision)
        if anew == card:
            return card
        scores = probabilities(logits_behind(card, table), anew.calibration, card.activation)
        # Card and scores change together, or a second try would undo the wrong curves.
        with renewed(name, root) as aside:
            _write_record(aside, anew, replace(table, y_score=scores))
    return anew


def renew_reference(
    name: str,
    data: Path,
    *,
    layout: str | None = None,
    skip_damaged: bool = False,
    progress: Progress | None = None,
    root: Path | None = None,
) -> tuple[Familiarity, Inputs]:
    """Look anew at the films that a registered model learned from; nothing else changes.

    Args:
        name: The model.
        data: The folder that it was trained on.
        layout: Of that folder; found out by default.
        skip_damaged: Leave damaged TFRecord shards out, as the training did.
        progress: Told of every stage.
        root: Of the models.

    Raises:
        UnknownName: When there is no such model, or no such recipe.
        ModelError: When it is shipped without its weights, or damaged.
        DataError: When these are not the films that trained it.
    """
    with changing(name, root):
        card, folder = load_card(name, root), model_folder(name, root)
        if not (folder / NETWORK).is_file():
            raise ModelError(f"'{name}' is shipped without its weights: it sees no films.")
        dataset, recipe = open_folder(
            get_recipe(card.recipe), data, layout, progress, skip_damaged=skip_damaged
        )
        own = own_films(card, dataset, recipe, root)
        parts = {split: decoded(dataset, films, recipe, progress) for split, films in own.items()}
        with renewed(name, root) as aside:
            return write_reference(aside, card, parts, recipe, dataset.root, progress)


def _decided(card: ModelCard, decision: Decision) -> ModelCard:
    """Return a card with what validation decides; its version changes where that does."""
    decided: dict[str, Any] = {
        "operating_points": decision.operating_points,
        "operating_rule": operating_rule(get_recipe(card.recipe)),
        "cannot_tell": decision.cannot_tell,
        "calibration": decision.calibration,
    }
    if all(getattr(card, field) == value for field, value in decided.items()):
        return card
    facts = {"validation": decision.record, "reliability": {"validation": decision.reliability}}
    return replace(
        card,
        version=version_of(card.version.encode(), decision),
        training=card.training | facts,
        **decided,
    )


def _control(network: Any, test: Part, recipe: Recipe) -> dict[str, Any]:
    """Say what the same network scores on films whose middle it never saw."""
    logits = predict_logits(network, test, recipe.preprocessing)
    scores = probabilities(logits, Calibration(), recipe.activation)
    areas = {
        label: auroc(test.targets[:, k], scores[:, k]) for k, label in enumerate(recipe.labels)
    }
    return {
        "blacked_out": recipe.control,
        "auroc": {label: [area.value, area.low, area.high] for label, area in areas.items()},
    }


def _card(trained: Trained, decision: Decision) -> ModelCard:
    """Write down what was trained, on what, and what validation decided."""
    recipe, network, parts = trained.recipe, trained.network, trained.parts
    weights = b"".join(value.tobytes() for value in network.get_weights())
    digest = seen_digest({split: part.films for split, part in parts.items()})
    words = dict(recipe.card)
    if digest != recipe.data_digest:
        instead = f", not those of the recipe ({words['data']})" if words["data"] else "."
        words["data"] = f"Films of the user's own folder{instead}"
    today = datetime.now(UTC).date().isoformat()
    return ModelCard(
        name=trained.name,
        labels=tuple(recipe.labels),
        activation=recipe.activation,
        preprocessing=recipe.preprocessing,
        operating_points=decision.operating_points,
        operating_rule=operating_rule(recipe),
        cannot_tell=decision.cannot_tell,
        calibration=decision.calibration,
        network=recipe.network,
        recipe=recipe.name,
        training=_training_facts(trained)
        | {"validation": decision.record, "reliability": {"validation": decision.reliability}},
        data_digest=digest,
        version=version_of(weights, decision),
        created=today,
        **words,
    )


def _training_facts(trained: Trained) -> dict[str, Any]:
    parts, rows = trained.parts, trained.run.history()
    return {
        "command": trained.command,
        "epochs": len(rows),
        "best_epoch": trained.epoch or chosen_epoch(rows, trained.recipe.config),
        "films": len(parts["train"].films),
        "validation_films": len(parts["validation"].films),
        "test_films": len(parts["test"].films),
        "in_two_parts": len(_shared(parts)),
        "patients_known": any(
            film.patient != film.file for part in parts.values() for film in part.films
        ),
        "notes": list(trained.notes),
        "gate": trained.recipe.gate,
        "replica": trained.recipe.replica,
        "reported": dict(trained.recipe.reported),
        "better": trained.recipe.better,
        "seed": trained.seed,
        "seconds": round(sum(row["seconds"] for row in rows)),
        "films_per_second": rows[-1]["films_per_second"],
        "parameters": int(trained.network.count_params()),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": keras.backend.backend(),
    }


def _shared(parts: dict[str, Part]) -> list[str]:
    """Name the patients, and the byte-identical films, that more than one part holds."""
    return overlap(
        replace(film, split=split) for split, part in parts.items() for film in part.films
    )
