"""From a folder of data to models/gate: train, choose limits, measure, register."""

import csv
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_core.calibration import Calibration
from cxr_core.cards import ModelCard, models_root
from cxr_core.classifier import Classifier, round_weights, write_bundle
from cxr_core.datasets import Progress
from cxr_core.errors import ArgumentError
from cxr_core.gate import FRONTAL, LABELS, LOOK
from cxr_core.gate_training import claims, record
from cxr_core.gate_training.films import Collection, digest_of, films_seen
from cxr_core.gate_training.fit import BASE_STEPS, BATCH, NETWORK, STEPS
from cxr_core.gate_training.limits import RULE, ask, choose_limits, squares_of
from cxr_core.gate_training.record import Rate, Seen
from cxr_core.gate_training.trainings import (
    LEFT_OUT,
    PLANS,
    SHIPPED,
    Plan,
    Trained,
    forget,
    train_plan,
)
from cxr_core.publishing import made

NAME = "gate"
STAGES = 4 + len(PLANS)  # of the measuring
# Groups of frontal test films that are large enough to turn, invert, mirror and cut up.
SEVERAL = ("pediatric test", "NIH test", "COVID")


def train_gate(
    data: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    runs: Path = Path("runs/gate"),
    progress: Progress | None = None,
) -> Path:
    """Train the gate's network and all that measure it, and register models/gate.

    Args:
        data: The folder with pediatric_pneumonia, covid_radiography, nih_chestxray14,
            not_chest_xray, pediatric_fullres and dicom.
        seed: Of weights and pictures.
        resume: Take finished trainings from `runs`, where a stopped run left them.
        runs: Where finished trainings are kept.
        progress: Told of every stage.

    Returns:
        The gate's folder.

    Raises:
        ArgumentError: When there is a gate already.
        DataError: When a folder is missing.
        TrainingError: When a training that goes on began with another seed, other films or other
            settings.
    """
    root = models_root()
    if (root / NAME).exists():
        raise ArgumentError(
            f"There is a gate in '{root}' already. Delete its folder to train another."
        )
    if not resume:
        forget(runs)
    trained = {
        plan.name: train_plan(plan, data, runs, seed=seed, progress=progress) for plan in PLANS
    }
    shipped = trained[SHIPPED.name]
    gates = {name: _limited(one, seed, progress) for name, one in trained.items()}
    # From here on test films are looked at, and nothing is chosen any more.
    with made(NAME) as aside:
        gate = write_bundle(gates[SHIPPED.name].card, shipped.network, aside)
        gates[SHIPPED.name] = gate
        told, seen = measure(gates, trained, data, seed, progress)
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (aside / "evaluation.json").write_text(text + "\n", "utf-8")
        _write_predictions(aside / "predictions.csv", seen)
        _write_history(aside / "history.csv", shipped.history)
    return root / NAME


def _limited(trained: Trained, seed: int, progress: Progress | None) -> Classifier:
    """Round a network's weights, choose its limits, and make a gate of it."""
    round_weights(trained.network)
    points = choose_limits(trained.network, trained.frontal, seed, progress)
    return Classifier(_card(trained, points, seed), trained.network)


def _card(trained: Trained, points: tuple[float | None, ...], seed: int) -> ModelCard:
    """Write down what the gate is."""
    weights = hashlib.sha256(b"".join(one.tobytes() for one in trained.network.get_weights()))
    today = datetime.now(UTC).date().isoformat()
    frontal, others = trained.frontal, trained.others
    facts = {
        "command": "python -m cxr_core train gate --data data",
        "films": sum(len(part.train) for part in frontal.values()),
        "validation_films": sum(len(part.validation) for part in frontal.values()),
        "other_pictures": len(others.train),
        "steps": BASE_STEPS + STEPS,
        "batch": BATCH,
        "seed": seed,
        "seconds": round(trained.history["seconds"][-1]),
        "parameters": int(trained.network.count_params()),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": keras.backend.backend(),
    }
    return ModelCard(
        kind="gate",
        name=NAME,
        labels=LABELS,
        activation="softmax",
        preprocessing=LOOK,
        operating_points=points,
        operating_rule=RULE,
        cannot_tell=(None,) * len(LABELS),
        calibration=Calibration(),
        network=NETWORK,
        recipe=NAME,
        training=facts,
        data_digest=digest_of(films_seen((*frontal.values(), others))),
        data="Films of Kermany 2018, the COVID-19 Radiography set and NIH ChestX-ray14, and "
        "pictures of other things for research use only; each source its own terms.",
        intended_use="Looking, before a classifier speaks, whether a picture is one frontal chest "
        "radiograph, upright and not inverted.",
        not_for=("Telling any disease from another.", "Finding the patient's identity."),
        age_range=None,
        views=("PA", "AP"),
        limits=claims.limits(frontal, others),
        version=f"{today}-{weights.hexdigest()[:8]}",
        created=today,
    )


def measure(
    gates: dict[str, Classifier],
    trained: dict[str, Trained],
    data: Path,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[tuple[str, Seen]]]:
    """Score what nobody trained on.

    Returns:
        What evaluation.json holds; and what the shipped network said of each picture, by
        group.
    """
    gate, frontal = gates[SHIPPED.name], trained[SHIPPED.name].frontal
    groups = record.frontal_groups(data, frontal)
    _tell(progress, 0)
    rates, seen = record.frontal_rates(gate, groups)
    answers = [(name, one) for name, part in seen.items() for one in part]
    films = [film for name in groups if name.startswith(SEVERAL) for film in groups[name]]
    _tell(progress, 1)
    rates += record.fault_rates(gate, films)
    _tell(progress, 2)
    rates += [
        rate for rate, _ in record.refusals(gate, record.changed_groups(films, seed), SHIPPED.name)
    ]
    _tell(progress, 3)
    rates += record.made_rates(gate, record.made_groups(films, seed))
    areas, deals = [], []
    for done, plan in enumerate(PLANS, 4):
        _tell(progress, done)
        found = list(
            record.refusals(gates[plan.name], _scored(plan, trained[plan.name]), plan.name)
        )
        areas.append(_area(gates[plan.name], plan, trained[plan.name].frontal, found))
        if plan in LEFT_OUT or plan is SHIPPED:
            rates += [rate for rate, _ in found]
        if plan not in LEFT_OUT:
            under_age = {record.UNDER_AGE: record.children(trained[plan.name].frontal)}
            more = list(record.refusals(gates[plan.name], under_age, plan.name))
            deals.append([rate for rate, _ in (*more, *found)])
        if plan is SHIPPED:
            answers += [(rate.group, one) for rate, part in found for one in part]
    rates += [record.pooled(same, "three deals") for same in zip(*deals, strict=True)]
    _tell(progress, STAGES)
    return _told(gate.card, rates, areas, claims.protocol(data, groups)), answers


def _tell(progress: Progress | None, done: int) -> None:
    if progress:
        progress("Measuring the gate", done, STAGES)


def _area(
    gate: Classifier,
    plan: Plan,
    frontal: dict[str, Collection],
    found: list[tuple[Rate, list[Seen]]],
) -> dict[str, Any]:
    """Say how well one network tells all frontal test films from the pictures it left out."""
    others = [seen.frontal for rate, part in found if _counts_for_area(rate) for seen in part]
    return {"network": plan.name} | record.area(_scores(gate, frontal), others)


def _scored(plan: Plan, trained: Trained) -> dict[str, record.Source]:
    """Gather what a training left out: its third, or only the kinds it never saw."""
    groups = record.picture_groups(trained.others)
    if plan not in LEFT_OUT:
        return groups
    wanted = {
        name
        for name, kinds in (dict.fromkeys(record.PHOTOGRAPHS, ("photo",)) | record.PICTURES).items()
        if plan.without & set(kinds)
    }
    return {name: source for name, source in groups.items() if name in wanted}


def _scores(gate: Classifier, frontal: dict[str, Collection]) -> list[float]:
    """Return the probability of a frontal film that each frontal test film gets."""
    squares = [squares_of(part.folder, part.test) for part in frontal.values()]
    return [float(kind[FRONTAL]) for kind in ask(gate.network, np.concatenate(squares))[0]]


def _counts_for_area(rate: Rate) -> bool:
    """Count each picture once: of the photographs, those that were only turned grey."""
    return not rate.group.startswith("photographs") or rate.group == "photographs turned grey"


def _told(
    card: ModelCard, rates: list[Rate], areas: list[dict[str, Any]], protocol: str
) -> dict[str, Any]:
    today = datetime.now(UTC).date().isoformat()
    return {
        "model": card.name,
        "version": card.version,
        "scorings": [{"date": today, "why": "by the rule on the card"}],
        "protocol": protocol,
        "rates": [rate.to_json() for rate in rates],
        "areas": areas,
    }


def _write_predictions(path: Path, answers: list[tuple[str, Seen]]) -> None:
    """Write one row for each picture that the shipped network was scored on."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "group", "score_frontal", "verdict"])
        for group, seen in answers:
            writer.writerow([seen.file, group, f"{seen.frontal:.6g}", seen.report.verdict])


def _write_history(path: Path, history: dict[str, list[float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(history)
        writer.writerows(zip(*history.values(), strict=True))
