"""A copy of a model that decides as the films of a site say; and what does not belong together."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cxr_core.calibration import Calibration, probabilities
from cxr_core.cards import ModelCard, check_name, model_folder, models_root, reading
from cxr_core.decisions import (
    operating_rule,
    read_validation,
    version_of,
    write_record,
    write_validation,
)
from cxr_core.errors import ArgumentError, DataError
from cxr_core.local_check.measured import LocalCheck
from cxr_core.local_check.suggestion import Suggestion, rule
from cxr_core.publishing import made

# What is not the weights' but was decided or measured on films.
DECIDED = ("card.json", "evaluation.json", "predictions.csv", "validation.csv")
# Large files, which a copy shares with the model; small ones may be written anew in place.
SHARED = (".keras", ".onnx")
# Facts of a training that were measured on the test films of the model that was checked.
OF_ITS_TEST = ("test_auroc_float32_weights", "as_sources_count", "control", "cannot_tell_on_test")


def register(found: LocalCheck, name: str, root: Path | None = None) -> ModelCard:
    """Register a copy of a model that decides as the films of a site say; weights stay.

    Args:
        found: What `measure` said.
        name: Of the copy, which no model has yet.
        root: Of the models.

    Returns:
        The copy's card.

    Raises:
        ArgumentError: When the name is not allowed or taken.
        DataError: When the films are too few to decide anything.
        ModelError: When the models' folder is full, or cannot be written.
    """
    check_name(name)
    place = root or models_root()
    if (place / name).exists():
        raise ArgumentError(
            f"A model named '{name}' is registered already: nothing is overwritten. Give the copy "
            "another name."
        )
    if found.suggestion is None:
        raise DataError(" ".join(["These films are too few to decide anything.", *found.notes]))
    source = model_folder(found.card.name, root)
    bare = probabilities(found.films.table.logits, Calibration(), found.card.activation)
    with made(name, root) as aside:
        aside.mkdir()
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name not in DECIDED:
                _take(path, aside / path.name)
        copy = _card(found, found.suggestion, name, _file_digest(source / "model.keras"))
        write_validation(aside / "validation.csv", found.films.table)
        write_record(aside, copy, found.suggestion.table, bare, found.suggestion.held)
    return copy


def _card(found: LocalCheck, anew: Suggestion, name: str, weights: str | None) -> ModelCard:
    """Write the copy's card, which says on which films it was decided."""
    card, decision, table = found.card, anew.decision, found.films.table
    kept = [label for label in card.labels if label not in anew.labels]
    films, patients = len(table.files), len(set(table.patients))
    stayed = f" For {', '.join(kept)} they stayed as shipped: {card.operating_rule}" if kept else ""
    today = datetime.now(UTC).date().isoformat()
    facts = {fact: value for fact, value in card.training.items() if fact not in OF_ITS_TEST}
    facts |= {
        "validation": decision.record,
        "reliability": {"validation": decision.reliability},
        "test_films": films,
        "in_two_parts": None,  # whose films trained the weights cannot be known at a site
        "patients_known": table.files != table.patients,
        "reported": {},
        "recalibrated": {
            "from": card.name,
            "from_version": card.version,
            "weights": weights,
            "source": found.films.source,
            "digest": found.films.digest,
            "films": films,
            "patients": patients,
            "labels": list(anew.labels),
            "date": today,
        },
    }
    limit = (
        f"Its decisions come from {films} films of {patients} patients of one site; its test "
        "record is of the same films, each told by films of other patients."
    )
    return replace(
        card,
        name=name,
        operating_points=decision.operating_points,
        operating_rule=operating_rule(rule(card, table)) + stayed,
        cannot_tell=decision.cannot_tell,
        calibration=decision.calibration,
        training=facts,
        limits=(*card.limits, limit),
        version=version_of(card.version.encode(), decision),
        created=today,
    )


def _take(source: Path, target: Path) -> None:
    """Take a file of the weights over: a large one as a link where the disk allows that."""
    if source.suffix in SHARED:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another disk, or one without links
    shutil.copyfile(source, target)


def _file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def belonging(card: ModelCard, root: Path | None = None) -> tuple[str, ...]:
    """Say where a model's decisions and its weights do not belong together, a sentence each.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When a file of it is damaged.
    """
    folder, facts = model_folder(card.name, root), card.training.get("recalibrated", {})
    told = []
    if facts:
        told.append(
            f"Calibration, operating points and bands of {', '.join(facts['labels'])} come from "
            f"{facts['films']} films of a site ({facts['source']}), the weights from "
            f"'{facts['from']}': the test record is of those same films, cross-validated by "
            "patient, and need not hold anywhere else."
        )
    expected = facts.get("weights") or _exported_from(folder)
    if expected and _file_digest(folder / "model.keras") not in (None, expected):
        told.append(
            f"The weights of '{card.name}' are not those that its operating points were chosen "
            "for: train it again, or restore its folder."
        )
    chose = _films_that_chose(folder)
    if chose is not None and chose != card.calibration.films:
        told.append(
            f"The card of '{card.name}' was decided on {card.calibration.films} films, but its "
            f"validation.csv holds {chose}: thresholds come from other films."
        )
    return tuple(told)


def _exported_from(folder: Path) -> str | None:
    """Return the digest of the weights that a bundle's graph repeats; None without a graph."""
    path = folder / "graph.json"
    if not path.is_file():
        return None
    with reading(path):
        return str(json.loads(path.read_text("utf-8"))["weights"])


def _films_that_chose(folder: Path) -> int | None:
    """Count the films of a bundle's validation table; None without one."""
    path = folder / "validation.csv"
    if not path.is_file():
        return None
    with reading(path):
        return len(set(read_validation(path).files))
