"""A reading in an archive: DICOM re-read by three readers, FHIR by its published model."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from readings import SECRETS, WHO, finding, record, refused, shown

from cxr_core import overlays
from cxr_core.errors import ArgumentError
from cxr_core.export import (
    reading_csv,
    reading_fhir,
    reading_pdf,
    secondary_capture,
    structured_report,
    unfileable,
)
from cxr_core.export.filing import SYNTHETIC
from cxr_core.export.secondary import NARROWEST, SIDE, picture
from cxr_core.images import read_radiograph, read_study_reference
from cxr_core.wording import NOTICE

MANY = (
    finding("Pneumonia", 0.9, 0.4, band=(0.2, 0.45)),
    finding("Hernia", 0.1, 0.3),
    finding("Mass", 0.5, 0.4, band=(0.3, 0.6)),
    finding("Nodule", 0.2, None),
)
WRITERS = [structured_report, secondary_capture]


def read_back(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def items(dataset: Dataset) -> Iterator[Dataset]:
    """Walk the tree of content, every item before those below it."""
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items(item)


def said(dataset: Dataset) -> list[str]:
    return [item.TextValue for item in items(dataset) if item.ValueType == "TEXT"]


def concept(item: Dataset) -> str:
    (name,) = item.ConceptNameCodeSequence
    return str(name.CodeMeaning)


def groups(dataset: Dataset) -> list[dict[str, Any]]:
    """What each measurement group says: codes by the name of their concept, numbers in percent."""
    found = []
    for group in items(dataset):
        if group.ValueType != "CONTAINER" or concept(group) != "Measurement Group":
            continue
        told: dict[str, Any] = {}
        for item in group.ContentSequence:
            if item.ValueType == "CODE":
                (code,) = item.ConceptCodeSequence
                value = code.get("CodeValue") or code.LongCodeValue
                told[concept(item)] = (value, code.CodingSchemeDesignator)
            elif item.ValueType == "NUM":
                (number,) = item.MeasuredValueSequence
                (unit,) = number.MeasurementUnitsCodeSequence
                told[concept(item)] = (float(number.NumericValue), unit.CodeValue)
            elif item.ValueType == "TEXT":
                told.setdefault(concept(item), []).append(item.TextValue)
            elif item.ValueType == "IMAGE":
                (image,) = item.ReferencedSOPSequence
                told["image"] = (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID)
        found.append(told)
    return found


# --- the structured report ---


def test_every_finding_is_in_the_report_also_those_not_flagged():
    document = read_back(structured_report(record(*MANY)))

    told = groups(document)

    assert [one["Finding"] for one in told] == [
        ("233604007", "SCT"),
        ("Hernia", "99CXR"),
        ("309529002", "SCT"),
        ("786838002", "SCT"),
    ]
    present, absent, unsure = ("52101004", "SCT"), ("2667000", "SCT"), ("82334004", "SCT")
    assert [one["Presence"] for one in told] == [present, absent, present, unsure]
    yes, no = ("373066001", "SCT"), ("373067005", "SCT")
    assert [one["Cannot tell"] for one in told] == [no, no, yes, no], "beside the flag, not for it"
    assert [one["Certainty of Finding"] for one in told] == [
        (90.0, "%"),
        (10.0, "%"),
        (50.0, "%"),
        (20.0, "%"),
    ]
    assert [one.get("Operating point") for one in told] == [
        (40.0, "%"),
        (30.0, "%"),
        (40.0, "%"),
        None,
    ]
    for one in told:
        assert one["Algorithm Name"] == ["made"]
        assert one["Algorithm Version"] == ["2026-01-01-made"]
    assert "Cannot tell between probabilities of 0.200 and 0.450." in told[0]["Comment"]
    # Of ten with it nine were flagged, of ten without eight were not.
    assert any("10 films with pneumonia, 9 were flagged" in one for one in told[0]["Comment"])


def test_the_report_says_what_it_is_and_is_not():
    made = record(shown=shown(), mended=("Mirrored.",), opinions=("pneumonia: agree",))
    document = read_back(structured_report(made))

    assert document.SOPClassUID.name == "Comprehensive SR Storage"
    (template,) = document.ContentTemplateSequence
    assert template.TemplateIdentifier == "1500"
    assert document.VerificationFlag == "UNVERIFIED"
    assert document.CompletionFlag == "PARTIAL"
    assert document.PreliminaryFlag == "PRELIMINARY"
    assert "research" in document.SeriesDescription
    words = said(document)
    assert {NOTICE, made.headline, "Mirrored.", "Reader's opinion: pneumonia: agree"} <= set(words)
    assert "Map shown: Grad-CAM, for it. Where it lies." in words
    assert f"SHA-256 of the film's file: {made.film.digest}" in words
    assert "Known limit: It was made by hand." in words


def test_highdicom_reads_the_report():
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    document = ComprehensiveSR.from_dataset(read_back(structured_report(record(*MANY))))

    assert isinstance(document.content, MeasurementReport)
    read = document.content.get_image_measurement_groups()
    assert [group.finding_type.value for group in read] == [
        one["Finding"][0] for one in groups(document)
    ]
    assert read[0].tracking_identifier == "Pneumonia"
    assert [one.value for one in read[1].get_measurements()] == [10.0, 30.0]


# --- the picture ---


def test_the_picture_shows_film_map_and_words():
    made = record(shown=shown())
    image = read_back(secondary_capture(made))

    pixels = image.pixel_array
    np.testing.assert_array_equal(pixels, picture(made))
    # The phantom is narrower than its words need: it is shown larger, the words below it.
    assert pixels.shape[1] == NARROWEST
    assert pixels.shape[0] > round(NARROWEST * 256 / 224) + 100
    assert image.PhotometricInterpretation == "RGB"
    assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert NOTICE in image.DerivationDescription
    assert "PixelSpacing" not in image


def test_a_map_that_was_not_shown_is_not_in_the_picture():
    plain, drawn = picture(record(not_shown="Map withheld.")), picture(record(shown=shown()))
    height = round(NARROWEST * 256 / 224)

    film = plain[:height]
    assert (film[..., 0] == film[..., 1]).all() and (film[..., 1] == film[..., 2]).all()
    lower_right = np.s_[height // 2 + 40 : height, NARROWEST // 2 + 40 :]
    np.testing.assert_array_equal(plain[lower_right], drawn[lower_right])
    assert (plain[: height // 2 - 40] != drawn[: height // 2 - 40]).any()


def test_a_large_film_is_shown_at_the_size_of_a_screen():
    made = record()
    film = replace(made.film, pixels=np.tile(made.film.pixels, (12, 12)))

    large = picture(replace(made, film=film))

    assert large.shape[1] <= SIDE
    grey = overlays.thumbnail(film.pixels, SIDE)
    np.testing.assert_array_equal(large[: grey.shape[0], :, 0], grey)


def test_the_picture_can_be_read_again():
    data = secondary_capture(record(shown=shown()))

    assert read_radiograph(data).facts.format == "DICOM"
    assert read_study_reference(data) is not None


# --- whose it is ---


@pytest.mark.parametrize("write", WRITERS)
def test_what_was_dicom_is_filed_beside_its_source(write):
    dataset = read_back(write(record(*MANY), WHO))

    assert dataset.PatientID == "MRN-7741-XQ"
    assert dataset.PatientName == "ZEBEDEE^QUILLON"
    assert (dataset.PatientBirthDate, dataset.PatientSex) == ("19510607", "F")
    assert dataset.StudyInstanceUID == "1.2.826.0.1.1.77"
    assert (dataset.StudyDate, dataset.StudyTime, dataset.StudyID) == ("20251120", "101112", "S1")
    assert (dataset.AccessionNumber, dataset.ReferringPhysicianName) == ("ACC-9", "WHO^DOCTOR")
    assert dataset.SeriesInstanceUID != "1.2.826.0.1.2.77"
    assert "StudyDescription" not in dataset


def test_what_was_dicom_is_referred_to():
    source = ("1.2.840.10008.5.1.4.1.1.1", "1.2.826.0.1.3.77")
    document = read_back(structured_report(record(*MANY), WHO))
    image = read_back(secondary_capture(record(*MANY), WHO))

    assert {one["image"] for one in groups(document)} == {source}
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (listed,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == "1.2.826.0.1.1.77"
    assert series.SeriesInstanceUID == "1.2.826.0.1.2.77"
    assert (listed.ReferencedSOPClassUID, listed.ReferencedSOPInstanceUID) == source
    (shot,) = image.SourceImageSequence
    assert (shot.ReferencedSOPClassUID, shot.ReferencedSOPInstanceUID) == source


def test_a_picture_gets_a_study_that_says_what_it_is():
    made = record(*MANY, shown=shown())
    document, image = (read_back(write(made)) for write in WRITERS)

    for dataset in (document, image):
        assert dataset.StudyDescription == SYNTHETIC
        assert dataset.PatientID == f"NONE-{made.film.digest[:16]}"
        assert dataset.PatientName == "NONE^SYNTHETIC"
        assert dataset.StudyDate == dataset.PatientBirthDate == dataset.PatientSex == ""
    assert document.StudyInstanceUID == image.StudyInstanceUID
    assert document.SeriesInstanceUID != image.SeriesInstanceUID
    # The report speaks of the picture that is filed with it.
    assert {one["image"] for one in groups(document)} == {(image.SOPClassUID, image.SOPInstanceUID)}


def test_two_pictures_are_two_patients_and_one_is_one():
    made = record()
    other = replace(made, film=replace(made.film, digest="f" * 64))
    later = replace(made, at=made.at.replace(year=2027))
    sets = [read_back(structured_report(one)) for one in (made, other, later)]

    assert sets[0].PatientID != sets[1].PatientID
    assert sets[0].StudyInstanceUID != sets[1].StudyInstanceUID
    assert sets[0].StudyInstanceUID == sets[2].StudyInstanceUID
    assert sets[0].SOPInstanceUID != sets[2].SOPInstanceUID


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("reference", [None, WHO], ids=["picture", "DICOM"])
def test_the_same_reading_makes_the_same_file(write, reference):
    made = record(*MANY, shown=shown())

    assert write(made, reference) == write(record(*MANY, shown=shown()), reference)
    dataset = read_back(write(made, reference))
    assert (dataset.ContentDate, dataset.ContentTime) == ("20261121", "220005")
    assert dataset.SOPInstanceUID.startswith("2.25.")


@pytest.mark.parametrize(
    ("fault", "keyword"),
    [
        ({"study_uid": ""}, "StudyInstanceUID"),
        ({"sop_uid": "1.2.x"}, "SOPInstanceUID"),
        ({"sop_class_uid": ""}, "SOPClassUID"),
        ({"series_uid": "1" * 65}, "SeriesInstanceUID"),
        ({"patient_id": "MRN-7741-XQ" * 9}, "PatientID"),
        ({"patient_id": "MRN-7741-XQ\\B"}, "PatientID"),
        ({"patient_name": "ZEBEDEE=A=B=C=D"}, "PatientName"),
    ],
)
@pytest.mark.parametrize("write", WRITERS)
def test_what_cannot_be_filed_says_why_without_naming_anybody(write, fault, keyword):
    reference = replace(WHO, **fault)

    with pytest.raises(ArgumentError, match=keyword) as caught:
        write(record(), reference)

    assert str(caught.value) == unfileable(reference)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_what_is_ill_formed_but_not_needed_is_left_empty():
    odd = replace(
        WHO,
        birth_date="June",
        sex="female",
        study_date="2025-11-20",
        study_time="noon",
        study_id="S" * 17,
        accession_number="A\\B",
        referring_physician="x" * 65,
    )

    for write in WRITERS:
        dataset = read_back(write(record(), odd))
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
            assert dataset.get(keyword) in ("", None), keyword
        assert (dataset.AccessionNumber, dataset.ReferringPhysicianName) == ("", "")


@pytest.mark.parametrize("write", WRITERS)
def test_an_answer_is_filed_under_the_patient_of_the_same_issuer(write):
    filed = [
        read_back(write(record(), replace(WHO, issuer=issuer)))
        for issuer in ("SITE-A", "", "SITE\\A")
    ]
    assert [one.get("IssuerOfPatientID") for one in filed] == ["SITE-A", None, None]


NAMES = [one.name for one in fields(WHO) if not one.name.endswith("_uid")]


@given(
    st.fixed_dictionaries({name: st.text(max_size=70) for name in NAMES}).map(
        lambda texts: replace(WHO, **texts)
    )
)
@settings(deadline=None, max_examples=60)
def test_no_header_makes_a_file_that_is_not_dicom(reference):
    """Whatever the header of a stranger holds: a file that reads back, or a sentence."""
    problem = unfileable(reference)
    if problem:
        assert "DICOM header" in problem
        return
    dataset = read_back(structured_report(record(), reference))
    assert (dataset.PatientID or "").strip() == reference.patient_id.strip()


def test_no_name_is_on_paper_in_rows_or_in_a_picture_of_nobody():
    made = record(*MANY, shown=shown())
    for data in (reading_pdf(made), reading_csv(made), structured_report(made), reading_fhir(made)):
        assert not [secret for secret in SECRETS if secret.encode() in data]
    assert not [secret for secret in SECRETS if secret in repr(WHO) + str([WHO])]


@pytest.mark.parametrize("write", [*WRITERS, reading_fhir])
@pytest.mark.parametrize("words", ["\x00\ud800 <b> \\ \x1b", "Größe 肺炎 " * 90, "\n"])
def test_any_words_can_be_filed(write, words):
    """Whatever is written on a card or by a reader, the file is whole."""
    made = record(finding(words, 0.9, 0.4), headline=words, opinions=(words,), facts=words)
    made = replace(made, card=replace(made.card, limits=(words,), operating_rule=words))

    data = write(made)

    if write is reading_fhir:
        DiagnosticReport.model_validate_json(data)
    else:
        assert read_back(data).PatientName == "NONE^SYNTHETIC"


@pytest.mark.parametrize("write", [*WRITERS, reading_fhir])
def test_a_refused_film_has_nothing_to_file(write):
    with pytest.raises(ArgumentError, match="the film was refused"):
        write(refused())


# --- validators ---


def errors_in(path: Path) -> list[str]:
    """What dciodvfy has against a file that it knows as one of ours."""
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, timeout=60)
    lines = (told.stdout + told.stderr).splitlines()
    assert {"ComprehensiveSR", "SCImage"} & {line.strip() for line in lines}
    return [line for line in lines if "Error" in line]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("reference", [None, WHO], ids=["picture", "DICOM"])
def test_the_validator_finds_no_error(write, reference, tmp_path: Path):
    path = tmp_path / "made.dcm"
    path.write_bytes(write(record(*MANY, shown=shown(), opinions=("agree",)), reference))

    assert not errors_in(path)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_outputs_of_real_headers_have_no_error(data: Path, tmp_path: Path):
    """Ten files of several vendors; only their headers matter here."""
    filed = 0
    for source in sorted((data / "dicom").glob("*.dcm")):
        reference = read_study_reference(source.read_bytes())
        if reference is None or unfileable(reference):
            continue
        for write in WRITERS:
            (tmp_path / "made.dcm").write_bytes(write(record(*MANY), reference))
            assert not errors_in(tmp_path / "made.dcm"), source.name
        filed += 1
    assert filed >= 8


# --- FHIR ---


def fhir(*findings, reference=None, **more) -> dict[str, Any]:
    data = reading_fhir(record(*(findings or MANY), **more), reference)
    DiagnosticReport.model_validate_json(data)
    found: dict[str, Any] = json.loads(data)
    return found


def test_the_fhir_report_follows_its_model():
    report = fhir(shown=shown(), mended=("Mirrored.",))

    assert report["status"] == "preliminary"
    assert NOTICE in report["conclusion"]
    assert "Mirrored." in report["conclusion"]
    assert report["issued"] == "2026-11-21T22:00:05+00:00"
    device, *found = report["contained"]
    assert device["version"] == [{"value": "2026-01-01-made"}]
    assert [one["reference"] for one in report["result"]] == [f"#{one['id']}" for one in found]
    assert {one["device"]["reference"] for one in found} == {f"#{device['id']}"}


def test_each_finding_is_an_observation():
    found = fhir()["contained"][1:]

    assert [one["code"]["text"] for one in found] == ["pneumonia", "hernia", "mass", "nodule"]
    assert found[0]["code"]["coding"] == [
        {"system": "http://snomed.info/sct", "code": "233604007", "display": "Pneumonia"}
    ]
    assert "coding" not in found[1]["code"]
    assert [one["valueQuantity"]["value"] for one in found] == [0.9, 0.1, 0.5, 0.2]
    meant = [[said["coding"][0]["code"] for said in one["interpretation"]] for one in found]
    assert meant == [["POS"], ["NEG"], ["POS", "E"], ["IND"]], "the flag, and beside it the doubt"
    parts = [{one["code"]["text"]: one for one in each["component"]} for each in found]
    assert [one["Cannot tell"]["valueBoolean"] for one in parts] == [False, False, True, False]
    assert [
        one["Operating point"]["valueQuantity"]["value"] if "Operating point" in one else None
        for one in parts
    ] == [0.4, 0.3, 0.4, None]
    assert {one["status"] for one in found} == {"preliminary"}


def test_a_picture_is_known_by_its_digest_alone():
    report = fhir()

    assert "subject" not in report
    assert "imagingStudy" not in report
    (media,) = report["media"]
    assert media["link"]["identifier"]["value"] == record().film.digest


def test_what_was_dicom_says_whose_and_which_study_but_no_name():
    report = fhir(reference=WHO)

    assert report["subject"]["identifier"]["value"] == "MRN-7741-XQ"
    assert {one["subject"]["identifier"]["value"] for one in report["contained"][1:]} == {
        "MRN-7741-XQ"
    }
    (study,) = report["imagingStudy"]
    assert study["identifier"] == {
        "system": "urn:dicom:uid",
        "value": "urn:oid:1.2.826.0.1.1.77",
    }
    assert "ZEBEDEE" not in json.dumps(report)


def test_the_same_reading_makes_the_same_json():
    assert reading_fhir(record(*MANY), WHO) == reading_fhir(record(*MANY), WHO)
