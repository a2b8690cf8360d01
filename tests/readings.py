"""Readings made by hand: a film by code, scores and a test record whose numbers are known."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cxr_core.attribution import Attribution
from cxr_core.calibration import Calibration, Curve
from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction
from cxr_core.evaluation import evaluate
from cxr_core.export import Finding, ReadingRecord, ShownMap
from cxr_core.gate import GateCheck, GateReport
from cxr_core.images import StudyReference
from cxr_core.phantom import thorax
from cxr_core.preprocess import Preprocessing, place

AT = datetime(2026, 11, 21, 22, 0, 5, tzinfo=UTC)
# Ten films without the finding and ten with it: at 0.5 there are 2 false alarms and 1 miss.
ABSENT = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.6, 0.7)
PRESENT = (0.3, 0.55, 0.65, 0.8, 0.85, 0.9, 0.92, 0.95, 0.97, 0.99)
TRUTH, SCORES = np.repeat([0, 1], 10), np.array([*ABSENT, *PRESENT])
WHO = StudyReference(
    patient_id="MRN-7741-XQ",
    patient_name="ZEBEDEE^QUILLON",
    study_uid="1.2.826.0.1.1.77",
    series_uid="1.2.826.0.1.2.77",
    sop_uid="1.2.826.0.1.3.77",
    study_date="20251120",
    study_time="101112",
    study_id="S1",
    accession_number="ACC-9",
    referring_physician="WHO^DOCTOR",
    birth_date="19510607",
    sex="F",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
)
SECRETS = ("MRN-7741-XQ", "ZEBEDEE", "19510607", "ACC-9", "WHO^DOCTOR")


def made_card(
    labels: Sequence[str], points: Sequence[float | None], *, exclusive: bool = False
) -> ModelCard:
    """A card that answers some labels."""
    return ModelCard(
        name="made",
        labels=tuple(labels),
        activation="softmax" if exclusive else "sigmoid",
        preprocessing=Preprocessing(size=64),
        operating_points=tuple(points),
        operating_rule="By hand; never mind how.",
        cannot_tell=(None,) * len(labels),
        calibration=Calibration((Curve("temperature", (1.5,)),), 200, (0.4,)),
        network="residual",
        recipe="made",
        training={},
        data_digest="0" * 64,
        data="None.",
        intended_use="Tests of what is written.",
        not_for=("Anything else.",),
        age_range=(1.0, 5.0),
        views=("AP", "PA"),
        limits=("It was made by hand.",),
        version="2026-01-01-made",
        created="2026-01-01",
    )


def finding(
    label: str,
    probability: float,
    point: float | None,
    *,
    flag: bool | None = None,
    band: tuple[float, float] | None = None,
    exclusive: bool = False,
) -> Finding:
    """What was said of one label, with the test record of `SCORES`."""
    decided = point is not None and probability >= point if flag is None else flag
    unsure = band is not None and band[0] <= probability < band[1]
    truth, scores = TRUTH[:, None], SCORES[:, None]
    if exclusive:
        truth, scores = np.hstack([truth, 1 - truth]), np.hstack([scores, 1 - scores])
    labels = (label, "other")[: truth.shape[1]]
    points = (None, None) if exclusive else (point and 0.5,)
    report = evaluate(
        truth, scores, labels, operating_points=points, exclusive=exclusive, rounds=20
    )
    written = f"{probability:.2f}", None if point is None else f"{point:.2f}"
    answer = LabelPrediction(label, 0.0, probability, point, decided, unsure)
    return Finding(answer=answer, band=band, record=report.labels[0], written=written)


def shown(label: str = "Pneumonia", *, signed: bool = False) -> ShownMap:
    """A map that is 1 in the upper left quarter of the model's square and 0 elsewhere."""
    values = np.zeros((8, 8), np.float32)
    values[:4, :4] = 1
    placement = place(256, 224, Preprocessing(size=64))
    found = Attribution(values, label, "grad-cam", signed)
    return ShownMap(
        found=found, placement=placement, title="Grad-CAM, for it", caption="Where it lies."
    )


def record(*findings: Finding, exclusive: bool = False, **more: Any) -> ReadingRecord:
    """A reading of a computer-made film; of pneumonia, flagged, unless told otherwise."""
    said = findings or (finding("Pneumonia", 0.9, 0.4),)
    labels = [one.answer.label for one in said]
    points = [one.answer.operating_point for one in said]
    caution = GateCheck("view", None, "AP, PA", "caution", "The view is not stated.")
    known: dict[str, Any] = {
        "film": thorax(256, 224, seed=1),
        "card": made_card(labels, points, exclusive=exclusive),
        "gate": GateReport((caution,)),
        "findings": said,
        "split": "test",
        "scored": 20,
        "headline": "Flag: pneumonia 0.90, operating point 0.40",
        "detail": ("Age not stated; this model knows children of 1-5 years.",),
        "facts": "224 × 256 pixels · PNG, 8 bit",
        "at": AT,
    }
    return ReadingRecord(**known | more)


def refused() -> ReadingRecord:
    """A reading that the gate refused."""
    why = GateCheck("kind", "hand", "a frontal chest film", "refuse", "It is a film of a hand.")
    made = record()
    return replace(
        made, gate=GateReport((why,)), findings=(), headline="No answer: it is a film of a hand."
    )
