"""A reading as a DICOM Comprehensive SR after TID 1500, for the archive.

Each label is a measurement group (TID 1501), those not flagged too: its code, present or absent
(indeterminate where nothing decides), whether the model cannot tell, the probability and the
operating point in percent, and which algorithm says so. "Presence" and "Cannot tell" are two
qualitative evaluations, of which TID 1501 allows any number: the second warns of the first and
takes nothing from it.
What holds for the whole, that it is for research above all, stands under "Qualitative
Evaluations". A map is told in words, not as a region: it shows evidence, it measures nothing.

Reference: DICOM PS3.16, TID 1500, 1501 and 4019; CID 230 (Yes-No), CID 6048 (Certainty of Finding).
"""

from typing import Any
from uuid import uuid5

from cxr_core.export.filing import (
    REPORT,
    SERIES_DESCRIPTION,
    Filing,
    dicom_uid,
    encoded,
    filing,
)
from cxr_core.export.reading_record import NAMESPACE, Decision, Finding, ReadingRecord
from cxr_core.export.terms import (
    CANNOT_TELL,
    LONGEST_NAME,
    OPERATING_POINT,
    PRIVATE,
    PRIVATE_NAME,
    SNOMED,
    Term,
    one_line,
    term_of,
)
from cxr_core.images import StudyReference
from cxr_core.images.dicom import MANUFACTURER
from cxr_core.wording import NOTICE, printable

SERIES = 9901  # beyond those of a modality
PRESENCE = Term("705057003", SNOMED, "Presence")
PRESENT = Term("52101004", SNOMED, "Present")
ABSENT = Term("2667000", SNOMED, "Absent")
INDETERMINATE = Term("82334004", SNOMED, "Indeterminate")
VALUES: dict[Decision, Term] = {
    "flag": PRESENT,
    "no flag": ABSENT,
    "undecided": INDETERMINATE,
}
YES_NO = {True: Term("373066001", SNOMED, "Yes"), False: Term("373067005", SNOMED, "No")}
CHEST_FILM = Term("399208008", SNOMED, "Plain chest X-ray")
CHEST = Term("51185008", SNOMED, "Chest")
EVALUATIONS = Term("C0034375", "UMLS", "Qualitative Evaluations")


def structured_report(record: ReadingRecord, reference: StudyReference | None = None) -> bytes:
    """Write a reading as a DICOM file, the same for the same reading.

    It is unverified, partial and preliminary: nobody accountable has signed it.

    Args:
        record: The reading.
        reference: Of the DICOM file that was uploaded; None for any other picture, which gets a
            study of its own and is referred to by its secondary capture.

    Raises:
        ArgumentError: When the film was refused, or its header does not say where it belongs.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import ComprehensiveSR

    record.require_answer("a structured report")
    place = filing(record, reference)
    document = ComprehensiveSR(
        evidence=[_evidence(place)],
        content=_content(record, place)[0],
        series_instance_uid=dicom_uid(record, f"series of {REPORT}"),
        series_number=SERIES,
        sop_instance_uid=dicom_uid(record, REPORT),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=one_line(record.card.name, LONGEST_NAME),
        software_versions=one_line(record.card.version, LONGEST_NAME),
        device_serial_number=one_line(record.card.version, LONGEST_NAME),
        series_description=SERIES_DESCRIPTION,
        specific_character_set="ISO_IR 192",
        coding_schemes=[CodingSchemeIdentificationItem(PRIVATE, name=PRIVATE_NAME)],
    )
    place.put_on(document, record)
    return encoded(document)


def _evidence(place: Filing) -> Any:
    """Name the picture that was read; whose it is, is written once, by `Filing.put_on`."""
    from pydicom import Dataset

    source = Dataset()
    for keyword, value in place.source.items():
        setattr(source, keyword, value)
    for keyword in place.elements.keys() - place.source.keys():
        setattr(source, keyword, "")
    return source


def _content(record: ReadingRecord, place: Filing) -> Any:
    """Build the tree of content."""
    from highdicom.sr import LanguageOfContentItemAndDescendants, MeasurementReport

    report = MeasurementReport(
        observation_context=_context(record),
        procedure_reported=_code(CHEST_FILM),
        imaging_measurements=[_group(record, one, place) for one in record.findings],
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            _code(Term("en-GB", "RFC5646", "English (United Kingdom)"))
        ),
    )
    report[0].ContentSequence.append(_evaluations(record))
    return report


def _context(record: ReadingRecord) -> Any:
    """Say that a device observed, and which."""
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    card = record.card
    device = DeviceObserverIdentifyingAttributes(
        uid=f"2.25.{uuid5(NAMESPACE, f'{card.name}, version {card.version}').int}",
        name=card.name,
        manufacturer_name=MANUFACTURER,
        model_name=card.name,
        serial_number=card.version,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _group(record: ReadingRecord, one: Finding, place: Filing) -> Any:
    """Say all that was said of one label."""
    from highdicom.sr import (
        AlgorithmIdentification,
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    term = term_of(one.answer.label)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            dicom_uid(record, f"finding {one.answer.label}"),
            term.meaning,
        ),
        finding_type=_code(term),
        finding_sites=[FindingSite(_code(CHEST))],
        algorithm_id=AlgorithmIdentification(
            record.card.name, record.card.version, [one_line(record.card.operating_rule, 1024)]
        ),
        measurements=_measurements(one),
        qualitative_evaluations=[
            QualitativeEvaluation(_code(PRESENCE), _code(VALUES[one.decision])),
            QualitativeEvaluation(_code(CANNOT_TELL), _code(YES_NO[one.answer.cannot_tell])),
        ],
        source_images=[
            SourceImageForMeasurementGroup(
                place.source["SOPClassUID"], place.source["SOPInstanceUID"]
            )
        ],
    )
    for sentence in one.sentences:
        group[0].ContentSequence.append(_comment(sentence))
    return group


def _measurements(one: Finding) -> list[Any]:
    """Write probability and operating point, in percent."""
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    numbers = [(codes.DCM.CertaintyOfFinding, one.answer.probability)]
    if one.answer.operating_point is not None:
        numbers.append((_code(OPERATING_POINT), one.answer.operating_point))
    # A decimal string has 16 characters (DICOM PS3.5 6.2).
    return [Measurement(name, round(100 * value, 6), codes.UCUM.Percent) for name, value in numbers]


def _evaluations(record: ReadingRecord) -> Any:
    """Say what holds for the whole."""
    from highdicom.sr import ContainerContentItem, ContentSequence, RelationshipTypeValues

    container = ContainerContentItem(
        name=_code(EVALUATIONS), relationship_type=RelationshipTypeValues.CONTAINS
    )
    said = [NOTICE, record.headline, *record.detail, *record.mended]
    said += [f"Film: {record.facts}", f"SHA-256 of the film's file: {record.film.digest}"]
    if record.shown is not None:
        said.append(f"Map shown: {record.shown.title}. {record.shown.caption}")
    said += [f"Known limit: {limit}" for limit in record.card.limits]
    said += [f"Reader's opinion: {opinion}" for opinion in record.opinions]
    container.ContentSequence = ContentSequence([_comment(sentence) for sentence in said])
    return container


def _comment(sentence: str) -> Any:
    from highdicom.sr import RelationshipTypeValues, TextContentItem
    from pydicom.sr.codedict import codes

    return TextContentItem(codes.DCM.Comment, printable(sentence), RelationshipTypeValues.CONTAINS)


def _code(term: Term) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(term.value, term.scheme, term.meaning)
