"""A reading as an HL7 FHIR R4 DiagnosticReport, whole in one JSON file.

Each label is a contained Observation, those not flagged too, with its probability as the value,
the decision as the interpretation, and the operating point and whether the model cannot tell as
components; the model is a contained Device. Where it cannot tell, "Equivocal" (a borderline
result) stands as a second interpretation beside the decision, so that who reads interpretations
alone learns both. It is preliminary: nobody has signed it.

Reference: HL7 FHIR R4 (4.0.1), DiagnosticReport and Observation (interpretation is 0..*); HL7 v3
ObservationInterpretation: POS, NEG, IND ("could neither be declared positive / negative"), E
("the results are borderline").
"""

import json
from typing import Any

from cxr_core.export.filing import unfileable
from cxr_core.export.reading_record import Decision, Finding, ReadingRecord
from cxr_core.export.terms import CANNOT_TELL, OPERATING_POINT, SNOMED, term_of
from cxr_core.images import StudyReference
from cxr_core.images.dicom import MANUFACTURER
from cxr_core.wording import NOTICE, printable, spoken

SNOMED_SYSTEM = "http://snomed.info/sct"
UNITS = "http://unitsofmeasure.org"
CODES = "http://terminology.hl7.org/CodeSystem"
MODEL = "model"  # as the observations refer to it
INTERPRETATIONS: dict[Decision, tuple[str, str]] = {
    "flag": ("POS", "Positive"),
    "no flag": ("NEG", "Negative"),
    "undecided": ("IND", "Indeterminate"),
}
EQUIVOCAL = ("E", "Equivocal")
Json = dict[str, Any]


def reading_fhir(record: ReadingRecord, reference: StudyReference | None = None) -> bytes:
    """Write a reading as JSON, the same for the same reading; ASCII.

    A picture is known by the SHA-256 of its file alone. What was uploaded as DICOM also says
    whose it is (the patient's identifier, no name) and of which study.

    Args:
        record: The reading.
        reference: Of the DICOM file that was uploaded; None for any other picture.

    Raises:
        ArgumentError: When the film was refused.
    """
    record.require_answer("a FHIR report")
    subject = _subject(reference)
    findings = [
        _observation(record, one, number, subject) for number, one in enumerate(record.findings, 1)
    ]
    said = (f"{record.headline}.", *record.detail, *record.mended, NOTICE)
    report = {
        "resourceType": "DiagnosticReport",
        "contained": [_model(record), *findings],
        "identifier": [
            {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{record.uuid('FHIR report')}"}
        ],
        "status": "preliminary",
        "category": [_coded(f"{CODES}/v2-0074", "RAD", "Radiology")],
        "code": _coded(SNOMED_SYSTEM, "399208008", "Plain chest X-ray"),
        **subject,
        "issued": record.at.isoformat(),
        "result": [{"reference": f"#{one['id']}"} for one in findings],
        **_study(reference),
        "media": [{"comment": printable(record.facts), "link": _film(record)}],
        "conclusion": printable(" ".join(said)),
    }
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode("ascii")


def _model(record: ReadingRecord) -> Json:
    """Say which model spoke."""
    return {
        "resourceType": "Device",
        "id": MODEL,
        "manufacturer": MANUFACTURER,
        "deviceName": [{"name": record.card.name, "type": "model-name"}],
        "version": [{"value": record.card.version}],
        "note": [{"text": printable(record.card.intended_use)}],
    }


def _observation(record: ReadingRecord, one: Finding, number: int, subject: Json) -> Json:
    """Write what was said of one label."""
    found: Json = {
        "resourceType": "Observation",
        "id": f"finding-{number}",
        "status": "preliminary",
        "category": [_coded(f"{CODES}/observation-category", "imaging", "Imaging")],
        "code": _label(one.answer.label),
        **subject,
        "issued": record.at.isoformat(),
        "valueQuantity": _probability(one.answer.probability),
        "interpretation": [
            _coded(f"{CODES}/v3-ObservationInterpretation", *said)
            for said in (INTERPRETATIONS[one.decision], *[EQUIVOCAL] * one.answer.cannot_tell)
        ],
        "note": [{"text": printable(sentence)} for sentence in one.sentences],
        "device": {"reference": f"#{MODEL}"},
        "component": [
            {"code": {"text": CANNOT_TELL.meaning}, "valueBoolean": one.answer.cannot_tell}
        ],
    }
    if one.answer.operating_point is not None:
        point = _probability(one.answer.operating_point)
        found["component"].append(
            {"code": {"text": OPERATING_POINT.meaning}, "valueQuantity": point}
        )
    return found


def _label(label: str) -> Json:
    """Code a label where a terminology has it; its own words always."""
    term = term_of(label)
    if term.scheme != SNOMED:
        return {"text": term.meaning}
    return _coded(SNOMED_SYSTEM, term.value, term.meaning) | {"text": spoken(label)}


def _coded(system: str, code: str, display: str) -> Json:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _probability(value: float) -> Json:
    return {"value": round(value, 8), "unit": "probability", "system": UNITS, "code": "1"}


def _film(record: ReadingRecord) -> Json:
    """Refer to the film by the digest of its file; it is in no server."""
    words = "SHA-256 of the film's file"
    return {
        "type": "Media",
        "identifier": {"type": {"text": words}, "value": record.film.digest},
        "display": words,
    }


def _subject(reference: StudyReference | None) -> Json:
    """Say whose film it is, by the identifier of its header."""
    if reference is None or not reference.patient_id:
        return {}
    identifier = {"type": _coded(f"{CODES}/v2-0203", "MR", "Medical record number")}
    return {
        "subject": {"type": "Patient", "identifier": identifier | {"value": reference.patient_id}}
    }


def _study(reference: StudyReference | None) -> Json:
    """Say which study was read, where its header says it.

    Reference: FHIR R4, ImagingStudy.identifier ("urn:dicom:uid").
    """
    if reference is None or unfileable(reference):
        return {}
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{reference.study_uid}"}
    return {"imagingStudy": [{"type": "ImagingStudy", "identifier": identifier}]}
