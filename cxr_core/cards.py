"""Model cards and the models/ folder they live in: what is registered, and its record.

    models/NAME/card.json        what it is, what it answers, how films become its input
                model.keras      the network
                model.onnx       the same once more, to answer without TensorFlow (`runtime`),
                graph.json       and of which model.keras that is
                evaluation.json  its record on the test split
                predictions.csv  one row for each test film
                validation.csv   what it said of the films that chose calibration and thresholds
                history.csv      its training, epoch by epoch
                explanations.json  how far its maps can be trusted, once that was measured
                familiarity.npz  what its training films look like to it (`familiarity`), and
                inputs.json      what the gate measures on its validation films (`reference`)
                repeatability.json  how far its answers move though the patient does not

Nothing here imports TensorFlow: listing models and opening the dashboard cost nothing.
"""

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from cxr_core.calibration import Calibration
from cxr_core.errors import ArgumentError, CxrError, DataError, ModelError, UnknownName
from cxr_core.evaluation import EvaluationReport
from cxr_core.explanations import ExplanationReport
from cxr_core.predictions import PredictionTable, read_predictions
from cxr_core.preprocess import Preprocessing

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
INPUTS = "inputs.json"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything about a model but its weights; card.json.

    Attributes:
        name: Its folder in models/.
        labels: What it answers, in the order of its logits.
        activation: "sigmoid", or "softmax" when exactly one label is true.
        preprocessing: How a film becomes its input.
        operating_points: For each label the calibrated probability from which it flags;
            None for softmax, where the largest wins.
        operating_rule: How they were chosen, in words.
        cannot_tell: For each label the band of probabilities in which the model says that
            it cannot tell, or None.
        calibration: What turns logits into probabilities.
        network: Its name in `networks`.
        recipe: The recipe that made it.
        training: Facts of the training (epochs, films, seed, seconds, parameters, ...).
        data_digest: SHA-256 over the digests of all training and validation films.
        data: Source and licence of the films.
        intended_use: One sentence.
        not_for: Uses it was not made for.
        age_range: Ages (lowest, highest) in years it was trained on, or None when unknown.
        views: Views it was trained on.
        limits: What is known to be weak, and what nobody tested.
        version: Changes whenever a probability changes.
        created: Date, ISO 8601.
        kind: "classifier" reads films; the "gate" looks whether a picture is a film at all, for
            every classifier, and is no model that a reader could choose.
    """

    name: str
    labels: tuple[str, ...]
    activation: str
    preprocessing: Preprocessing
    operating_points: tuple[float | None, ...]
    operating_rule: str
    cannot_tell: tuple[tuple[float, float] | None, ...]
    calibration: Calibration
    network: str
    recipe: str
    training: dict[str, Any]
    data_digest: str
    data: str
    intended_use: str
    not_for: tuple[str, ...]
    age_range: tuple[float, float] | None
    views: tuple[str, ...]
    limits: tuple[str, ...]
    version: str
    created: str
    kind: Literal["classifier", "gate"] = "classifier"

    def __post_init__(self) -> None:
        """Refuse a card that contradicts itself.

        Raises:
            ModelError: When per-label fields have another length than the labels.
        """
        for name in ("operating_points", "cannot_tell"):
            if len(getattr(self, name)) != len(self.labels):
                raise ModelError(
                    f"Card '{self.name}' has {len(self.labels)} labels but "
                    f"{len(getattr(self, name))} {name}."
                )

    def position(self, label: str) -> int:
        """Return which logit answers a label.

        Raises:
            UnknownName: When the model does not answer it.
        """
        if label not in self.labels:
            raise UnknownName("label", label, self.labels)
        return self.labels.index(label)

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote.

        Raises:
            ModelError: When a field is missing or unknown.
        """
        names = {item.name for item in fields(cls)}
        values = {"kind": "classifier"} | values  # cards from before there was a gate
        if set(values) != names:
            odd = ", ".join(sorted(set(values) ^ names))
            raise ModelError(f"The model card is of another version: look at {odd}.")
        read = {key: _tuples(value) for key, value in values.items()}
        read["training"] = values["training"]
        read["preprocessing"] = Preprocessing.from_json(values["preprocessing"])
        read["calibration"] = Calibration.from_json(values["calibration"])
        return cls(**read)


def _tuples(value: Any) -> Any:
    """Turn JSON's lists into the tuples of a frozen card."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def models_root() -> Path:
    """Where models live: CXR_MODELS, or models/ beside this package."""
    return Path(os.environ.get("CXR_MODELS") or Path(__file__).parents[1] / "models")


def list_models(root: Path | None = None) -> list[ModelCard]:
    """Read the card of every model that answers films, sorted by name; not the gate's.

    A damaged card takes no other model along: it is left out here, and told by
    `damaged_models`, which whoever lists models shows beside them.
    """
    cards = [found for found in _cards(root) if isinstance(found, ModelCard)]
    return [card for card in cards if card.kind == "classifier"]


def damaged_models(root: Path | None = None) -> list[str]:
    """Say of each model whose card cannot be read why, in a sentence that names it."""
    return [str(found) for found in _cards(root) if isinstance(found, ModelError)]


def _cards(root: Path | None) -> Iterator[ModelCard | ModelError]:
    """Read every card, or why it cannot be read, sorted by name."""
    place = root or models_root()
    names = sorted(path.parent.name for path in place.glob("*/card.json") if path.is_file())
    for name in filter(NAME.fullmatch, names):
        try:
            yield _read_card(name, place)
        except ModelError as error:
            yield error


def model_folder(name: str, root: Path | None = None) -> Path:
    """Return the folder of a registered model.

    Raises:
        UnknownName: When there is no such model.
    """
    place = root or models_root()
    # The pattern also keeps names such as "../x" from leaving the models folder.
    if not NAME.fullmatch(name) or not (place / name / "card.json").is_file():
        known = [path.parent.name for path in place.glob("*/card.json")]
        raise UnknownName("model", name, filter(NAME.fullmatch, known))
    return place / name


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged or missing file of a bundle raises into one sentence."""
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(
            f"'{path.name}' of model '{path.parent.name}' cannot be read ({error}). Train the "
            "model again or restore its folder."
        ) from error


def load_card(
    name: str, root: Path | None = None, *, kind: Literal["classifier", "gate"] = "classifier"
) -> ModelCard:
    """Read a model's card.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the card is damaged.
        ArgumentError: When the model is of another kind.
    """
    card = _read_card(name, root)
    if card.kind != kind:
        raise ArgumentError(
            f"'{name}' is a {card.kind}, where a {kind} is needed. Choose a model that "
            "`python -m cxr_core list` names."
        )
    return card


def _read_card(name: str, root: Path | None) -> ModelCard:
    """Read a card, whatever its kind."""
    path = model_folder(name, root) / "card.json"
    with reading(path):
        try:
            return ModelCard.from_json(json.loads(path.read_text("utf-8")))
        except CxrError as error:  # what it says is not allowed; whose card it is, it does not know
            raise ValueError(str(error).rstrip(".")) from error


def load_evaluation(name: str, root: Path | None = None) -> EvaluationReport:
    """Read a model's record on its test split; raises as `load_card`."""
    path = model_folder(name, root) / "evaluation.json"
    with reading(path):
        return EvaluationReport.from_json(json.loads(path.read_text("utf-8")))


def load_predictions(name: str, root: Path | None = None) -> PredictionTable:
    """Read a model's scores of its test films; raises as `load_card`."""
    path = model_folder(name, root) / "predictions.csv"
    with reading(path):
        return read_predictions(path)


def load_history(name: str, root: Path | None = None) -> dict[str, list[float]]:
    """Read a model's training, one list for each column; raises as `load_card`."""
    path = model_folder(name, root) / "history.csv"
    with reading(path), path.open(newline="") as file:
        rows = list(csv.DictReader(file))
        return {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else {})}


def load_explanations(name: str, root: Path | None = None) -> ExplanationReport | None:
    """Read how far a model's maps can be trusted; None when nobody measured it.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the record is damaged.
    """
    path = model_folder(name, root) / "explanations.json"
    if not path.is_file():
        return None
    try:
        return ExplanationReport.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, DataError) as error:
        raise ModelError(
            f"'{path.name}' of model '{name}' cannot be read ({error}). Delete it and make it "
            f"again: python -m cxr_core faithfulness --model {name} --data FOLDER."
        ) from error


def is_current(report: ExplanationReport, card: ModelCard, root: Path | None = None) -> bool:
    """Say whether a record of explanations is of a model's present weights.

    Maps explain logits, which a new calibration and its new version leave as they are. Of a
    model that came without its weights the version is compared.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When its weights cannot be read.
    """
    weights = model_folder(card.name, root) / "model.keras"
    if not weights.is_file():
        return report.version == card.version
    with reading(weights), weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == report.digest


@dataclass(frozen=True)
class Inputs:
    """What the gate measured on a model's validation films, one of each patient.

    Attributes:
        films: How many were measured.
        measures: By the name of a check, its values, sorted: no film can be told from them.
    """

    films: int
    measures: dict[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Restore what `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: When it is not that.
        """
        measures = {name: tuple(map(float, row)) for name, row in values["measures"].items()}
        if not all(math.isfinite(value) for row in measures.values() for value in row):
            raise ValueError("a measure is no number")
        return cls(int(values["films"]), measures)


def load_inputs(name: str, root: Path | None = None) -> Inputs | None:
    """Read what the gate measured on a model's validation films; None when nobody did.

    Raises:
        UnknownName: When there is no such model.
        ModelError: When the record is damaged.
    """
    path = model_folder(name, root) / INPUTS
    if not path.is_file():
        return None
    try:
        return Inputs.from_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"'{INPUTS}' of model '{name}' cannot be read ({error}). Delete it, or make it again: "
            f"python -m cxr_core reference --model {name} --data FOLDER."
        ) from error


@dataclass(frozen=True)
class SplitIntegrity:
    """Whether a test record can be believed.

    Attributes:
        leaks: Films or patients of the test split were also trained on.
        sentences: What is known of it, in words.
    """

    leaks: bool
    sentences: tuple[str, ...]


def split_integrity(card: ModelCard, table: PredictionTable) -> SplitIntegrity:
    """Say whether any patient or film of a model's test split was also trained on.

    It was counted when the model was trained; the films themselves are not needed.
    """
    facts = card.training
    films, patients = len(table.files), len(set(table.patients))
    parts = (
        f"{facts['films']:,} films trained it, {facts['validation_films']:,} chose its weights and "
        f"thresholds, {films:,} films of {patients:,} patients are scored here."
    )
    known = facts.get("patients_known", True)
    unnamed = "The data names no patients, so films of one patient may lie on both sides."
    shared = facts.get("in_two_parts")
    if shared is None:
        told = "Nobody recorded whether patients or identical films lie on both sides of the split."
    elif shared:
        told = (
            f"{shared:,} patients or identical films lie in more than one of training, validation "
            "and test: the model is scored on what it was trained on or chosen by: that flatters."
        )
    else:
        told = "No patient and no identical film lies on both sides of the split."
        told = told if known else "No identical film lies on both sides of the split."
    return SplitIntegrity(bool(shared), (told, *(() if known else (unnamed,)), parts))


def check_name(name: str) -> None:
    """Refuse a model name that could not be a folder or a URL.

    Raises:
        ArgumentError: On anything but lower-case letters, digits and hyphens.
    """
    if not NAME.fullmatch(name):
        raise ArgumentError(
            f"A model name has lower-case letters, digits and hyphens, but '{name}' came."
        )
