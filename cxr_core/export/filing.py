"""Under which patient and study a DICOM file is filed, and of which picture it speaks.

What was uploaded as DICOM is filed beside its source, by the `StudyReference` of its header. A
picture gets a study of its own that says so, one for each file, whatever reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import uuid5

from cxr_core.errors import ArgumentError
from cxr_core.export.reading_record import NAMESPACE, ReadingRecord
from cxr_core.images import StudyReference

SYNTHETIC = "Synthetic study made from a picture"
SERIES_DESCRIPTION = "Second opinion, research use, not a diagnosis"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# The kinds of output that have an identity of their own in an archive.
CAPTURE, REPORT = "secondary capture", "structured report"

# Elements of the patient and of the study, by the field of the reference that holds them. What
# must not be lost is refused when a header has it ill-formed; the others are then left empty.
_NEEDED = {
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "SOPInstanceUID": "sop_uid",
    "SOPClassUID": "sop_class_uid",
}
_WHO = {"PatientID": "patient_id", "PatientName": "patient_name"}
_KNOWN = {
    "IssuerOfPatientID": "issuer",
    "PatientBirthDate": "birth_date",
    "PatientSex": "sex",
    "StudyDate": "study_date",
    "StudyTime": "study_time",
    "StudyID": "study_id",
    "AccessionNumber": "accession_number",
    "ReferringPhysicianName": "referring_physician",
}
_SEXES = ("F", "M", "O")


@dataclass(frozen=True, repr=False)
class Filing:
    """Where a file belongs.

    Attributes:
        elements: Of its patient and its study, by keyword.
        source: SOPClassUID, SOPInstanceUID, SeriesInstanceUID and StudyInstanceUID of the picture
            that was read.
        synthetic: Whether the study was made up for a picture.
    """

    elements: Mapping[str, str]
    source: Mapping[str, str]
    synthetic: bool

    def put_on(self, dataset: Any, record: ReadingRecord) -> None:
        """Write patient, study and the time of the reading into a pydicom data set, in place."""
        for keyword, value in self.elements.items():
            setattr(dataset, keyword, value)
        date, time = f"{record.at:%Y%m%d}", f"{record.at:%H%M%S}"
        for keyword in ("InstanceCreationDate", "ContentDate", "SeriesDate"):
            setattr(dataset, keyword, date)
        for keyword in ("InstanceCreationTime", "ContentTime", "SeriesTime"):
            setattr(dataset, keyword, time)
        for library in dataset.get("ContributingEquipmentSequence", ()):
            library.ContributionDateTime = f"{record.at:%Y%m%d%H%M%S%z}"


def unfileable(reference: StudyReference | None) -> str:
    """Say why nothing can be filed beside a film; empty when it can. Quotes no identifier."""
    if reference is None:
        return ""
    for keyword, name in _NEEDED.items():
        value = getattr(reference, name)
        if not value or not _is_valid(keyword, value):
            return _unusable(keyword, "missing or not a DICOM UID")
    for keyword, name in _WHO.items():
        if not _is_valid(keyword, getattr(reference, name)):
            return _unusable(keyword, "not written as DICOM allows")
    return ""


def filing(record: ReadingRecord, reference: StudyReference | None) -> Filing:
    """Find where what is made of a reading belongs.

    Args:
        record: The reading.
        reference: Of the DICOM file that was uploaded; None for any other picture.

    Raises:
        ArgumentError: When the header of the upload does not say it.
    """
    if reference is None:
        return _synthetic(record)
    problem = unfileable(reference)
    if problem:
        raise ArgumentError(problem)
    known = {keyword: getattr(reference, name) for keyword, name in _KNOWN.items()}
    known = {key: value if _is_valid(key, value) else "" for key, value in known.items()}
    if not known["IssuerOfPatientID"]:  # of all these the one that DICOM lets be absent
        del known["IssuerOfPatientID"]
    who = {keyword: getattr(reference, name) for keyword, name in _WHO.items()}
    source = {keyword: getattr(reference, name) for keyword, name in _NEEDED.items()}
    study = {"StudyInstanceUID": reference.study_uid}
    return Filing({**who, **known, **study}, source, synthetic=False)


def dicom_uid(record: ReadingRecord, kind: str) -> str:
    """Return the UID of one kind of output of a reading.

    Reference: DICOM PS3.5 B.2 (UUID derived UID).
    """
    return f"2.25.{record.uuid(kind).int}"


def encoded(dataset: Any) -> bytes:
    """Write a pydicom data set as a DICOM file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _synthetic(record: ReadingRecord) -> Filing:
    """Make up a study for a picture; whoever sees it sees what it is."""
    digest = record.film.digest
    study = f"2.25.{uuid5(NAMESPACE, f'study of {digest}').int}"
    elements = dict.fromkeys((*_WHO, *_KNOWN), "") | {
        # Two pictures are not of one patient only because neither says whose it is.
        "PatientID": f"NONE-{digest[:16]}",
        "PatientName": "NONE^SYNTHETIC",
        "StudyInstanceUID": study,
        "StudyDescription": SYNTHETIC,
    }
    # The picture itself is in no archive: what can be filed of it is its secondary capture.
    source = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "SOPInstanceUID": dicom_uid(record, CAPTURE),
        "SeriesInstanceUID": dicom_uid(record, f"series of {CAPTURE}"),
        "StudyInstanceUID": study,
    }
    return Filing(elements, source, synthetic=True)


def _is_valid(keyword: str, value: str) -> bool:
    """Say whether a value is written as DICOM allows, for writing is strict."""
    from pydicom import config
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import validate_value

    if keyword == "PatientSex":
        return value in _SEXES
    if "\\" in value or not value.isprintable():
        return not value
    try:
        validate_value(dictionary_VR(keyword), value, config.RAISE)
    except ValueError:
        return False
    return True


def _unusable(keyword: str, fault: str) -> str:
    return (
        f"Nothing can be filed beside this film: the {keyword} in its DICOM header is {fault}. "
        "Export the film from the archive again, or save the PDF."
    )
