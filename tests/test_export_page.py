"""Saving what is on screen: what the page offers, what goes into it, and the command beside it."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import streamlit as st
from bundles import known_table, write_bundle
from PIL import Image
from pydicom import dcmread
from pypdf import PdfReader
from readings import SECRETS, WHO, record
from streamlit.testing.v1 import AppTest

from cxr_core.__main__ import main
from cxr_core.attribution import Attribution
from cxr_core.attribution.checks import MapCheck
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.export import ReadingRecord, secondary_capture
from cxr_core.gate import GateCheck, GateReport
from cxr_core.phantom import png_bytes, sample_film, thorax
from cxr_core.preprocess import prepare
from cxr_core.records import Records
from cxr_core.ui import report as written
from cxr_core.ui import session
from cxr_core.ui.arrivals import Upload
from cxr_core.ui.session import Explained

ASKED = Explained("Pneumonia", "grad-cam")
HOLDS = MapCheck(agreement=0.5, stability=0.9, outside=0.2, thorax=None)
PLAIN = {"PDF, one page", "CSV"}
FOR_ARCHIVES = {"DICOM structured report", "DICOM picture", "FHIR report"}


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bundle without weights, and no cache of another test."""
    st.cache_data.clear()
    write_bundle(tmp_path / "models", "known", known_table(), (0.5,))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))


def the_film(**more: Any) -> session.Film:
    radiograph = thorax(96, 96, seed=1)
    return session.Film("film.png", radiograph, radiograph.pixels, **more)


def the_reading(*, flag: bool = True, refuse: bool = False) -> session.Reading:
    """What a model made of the film; its map lies in one corner."""
    verdict = "refuse" if refuse else "ok"
    checks = GateReport((GateCheck("kind", None, "a film", verdict, "It was looked at."),))
    if refuse:
        return session.Reading(checks)
    (card,) = session.cards()
    one = LabelPrediction("Pneumonia", 1.0, 0.91 if flag else 0.1, 0.5, flag, False)
    values = np.zeros((card.preprocessing.size,) * 2, np.float32)
    values[:8, :8] = 1
    return session.Reading(
        checks,
        model_input=prepare(the_film().radiograph, card.preprocessing),
        prediction=Prediction("known", (one,), np.zeros((1, 1, 1), np.float32)),
        maps={ASKED: Attribution(values, "Pneumonia", "grad-cam", signed=False)},
        checks={ASKED: HOLDS},
    )


def saving_page() -> None:
    import streamlit as st

    from cxr_core.ui import outputs, session

    (card,) = session.cards()
    film, reading = st.session_state["given"]
    label = None if reading.prediction is None else "Pneumonia"
    outputs.save(card, film, reading, label)
    st.session_state["made"] = outputs._maker(card, film, reading, label)()


def run(film: session.Film, reading: session.Reading, **state: Any) -> AppTest:
    page = AppTest.from_function(saving_page, default_timeout=60)
    page.session_state["given"] = (film, reading)
    for name, value in state.items():
        page.session_state[name] = value
    page.run()
    assert not page.exception
    return page


def offered(page: AppTest) -> set[str]:
    return {button.proto.label for button in page.get("download_button")}


def captions(page: AppTest) -> str:
    return " ".join(one.value for one in page.caption)


# --- what is offered ---


def test_an_answer_can_be_saved_in_five_forms():
    page = run(the_film(), the_reading())

    assert offered(page) == PLAIN | FOR_ARCHIVES
    assert "synthetic study" in captions(page)


def test_what_was_dicom_says_so_and_names_nobody_on_screen():
    page = run(the_film(reference=WHO), the_reading())

    assert offered(page) == PLAIN | FOR_ARCHIVES
    assert "name the patient" in captions(page)
    assert not [secret for secret in SECRETS if secret in str(page)]


def test_what_cannot_be_filed_is_not_offered():
    page = run(the_film(reference=replace(WHO, study_uid="")), the_reading())

    assert offered(page) == PLAIN
    assert "StudyInstanceUID" in captions(page)


def test_of_a_refused_film_only_the_page_and_the_row_can_be_saved():
    page = run(the_film(), the_reading(refuse=True))

    assert offered(page) == PLAIN
    assert "refused" in captions(page)
    assert page.session_state["made"].findings == ()


def test_nothing_is_made_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    from cxr_core import export

    asked: list[str] = []
    for name in ("reading_pdf", "reading_csv", "structured_report", "secondary_capture"):
        monkeypatch.setattr(export, name, lambda *_, name=name: asked.append(name))

    run(the_film(), the_reading())

    assert asked == []


# --- what goes into it ---


def made(reading: session.Reading, film: session.Film | None = None, **state: Any) -> ReadingRecord:
    found: ReadingRecord = run(film or the_film(), reading, **state).session_state["made"]
    return found


def test_the_file_says_what_the_screen_says():
    reading = the_reading()
    film = the_film(mended=("Mirrored.",), stated_age=3.0)

    said = made(reading, film)

    assert said.headline == "Flag: pneumonia 0.91, operating point 0.50"
    assert said.film is film.radiograph
    assert (said.at, said.mended) == (reading.at, ("Mirrored.",))
    assert "age 3 years" in said.facts.lower()
    assert said.findings[0].record.confusion == ((215, 19), (30, 360))
    assert (said.split, said.scored) == ("test", 624)
    assert said.shown is not None
    assert "agreement with" in said.shown.caption
    assert said.shown.title == "Grad-CAM, for pneumonia"


def test_the_reading_is_of_the_time_when_it_was_given():
    at = the_reading().at

    assert at.tzinfo is not None
    assert at.microsecond == 0


def test_a_withheld_map_does_not_leave_by_a_file():
    reading = the_reading()
    reading.checks[ASKED] = replace(HOLDS, agreement=-0.4)

    said = made(reading)

    assert said.shown is None
    assert said.not_shown.startswith("Map withheld")
    pixels = dcmread(BytesIO(secondary_capture(said))).pixel_array[:640]
    assert (pixels[..., 0] == pixels[..., 2]).all()  # grey: the film alone


def test_a_reader_who_insists_gets_it_with_its_contradiction():
    reading = the_reading()
    reading.checks[ASKED] = replace(HOLDS, agreement=-0.4)
    reading.insisted.add(("Pneumonia", "grad-cam"))

    said = made(reading)

    assert said.shown is not None
    assert "contradicts" in said.shown.caption


def test_what_was_not_flagged_has_no_map_unless_one_insists():
    reading = the_reading(flag=False)
    assert made(reading).shown is None
    assert "was not flagged" in made(reading).not_shown

    reading.insisted.add(("Pneumonia", None))
    assert made(reading).shown is not None
    against = made(reading, against=True)
    assert against.shown is None, "that map was never on screen"


def test_a_map_that_is_not_ready_is_not_waited_for():
    said = made(the_reading(), method="occlusion")

    assert said.shown is None
    assert "not on screen" in said.not_shown


# --- it is sent ---


def sender(page: AppTest) -> Any:
    return next(one for one in page.button if one.label.startswith("Send to"))


def test_without_a_destination_nothing_can_be_sent(monkeypatch):
    monkeypatch.delenv("CXR_SEND_TO", raising=False)
    page = AppTest.from_function(saving_page, default_timeout=60)
    page.session_state["given"] = (the_film(reference=WHO), the_reading())
    assert not [one for one in page.run().button if one.label.startswith("Send to")]


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that nobody can reach."""
    monkeypatch.setenv("CXR_SEND_TO", "PACS@archive.invalid:104")


def test_sending_is_a_button_with_its_result_in_words(kept: Records, gone):
    page = run(the_film(reference=WHO), the_reading())
    assert sender(page).label == "Send to PACS"
    assert kept.events() == [], "nothing is sent by itself"

    sender(page).click().run()

    (told,) = page.error
    assert told.value.startswith("PACS cannot be reached")
    (event,) = kept.events()
    assert (event.what, event.model) == ("not sent", "known")
    assert not [secret for secret in SECRETS if secret in str(page) + event.note]


def test_a_picture_is_sent_only_when_the_reader_confirms(kept: Records, gone):
    page = run(the_film(), the_reading())
    assert sender(page).disabled

    page.checkbox[0].check().run()
    sender(page).click().run()

    assert "synthetic" in kept.events()[0].note


def test_a_wrong_destination_is_a_sentence(monkeypatch):
    monkeypatch.setenv("CXR_SEND_TO", "nowhere")
    page = run(the_film(reference=WHO), the_reading())
    assert "CXR_SEND_TO must be" in captions(page)


# --- whose film it is stays in one session ---


def test_a_session_keeps_whose_film_it_is_and_prints_it_nowhere():
    mine, other = session.Session(), session.Session()
    data = secondary_capture(record(), WHO)

    mine.take([Upload("a.dcm", data), Upload("b.png", png_bytes(thorax(96, 96, seed=3)))])
    other.take_sample()

    filed, picture = mine.films.values()
    assert filed.reference is not None
    assert filed.reference.patient_id == WHO.patient_id
    assert filed.reference.study_uid == WHO.study_uid
    assert picture.reference is None
    assert [film.reference for film in other.films.values()] == [None]
    assert not [secret for secret in SECRETS if secret in repr(mine) + repr(filed)]
    mine.clear()
    assert not mine.films


# --- the command ---


@pytest.fixture
def report(capsys, tiny_models: Path, monkeypatch, tmp_path: Path):
    """Run `report` on a film with the tiny model; return status, what was said, and the file."""
    monkeypatch.setenv("CXR_MODELS", str(tiny_models))

    def call(output: str, *more: str, film: bytes | None = None) -> tuple[int, str, Path]:
        source, place = tmp_path / "film", tmp_path / output
        source.write_bytes(film or png_bytes(sample_film()))
        status = main(["report", "--model", "tiny", str(source), "-o", str(place), *more])
        told = capsys.readouterr()
        return status, told.out + told.err, place

    return call


@pytest.mark.parametrize(
    ("tested", "current", "told"),
    [(None, True, "Not tested for this model."),
     (SimpleNamespace(verdict=lambda *_: "Good."), False, "this version of the model."),
     (SimpleNamespace(verdict=lambda *_: "Good."), True, "Good.")],
)  # fmt: skip
def test_without_a_page_a_map_says_how_it_was_tested_too(monkeypatch, tested, current, told):
    (card,), asked = session.cards(), the_reading()
    monkeypatch.setattr(written, "explain", lambda *_, **__: asked.maps[ASKED])
    monkeypatch.setattr(written, "examine", lambda *_, **__: HOLDS)
    monkeypatch.setattr(written, "load_explanations", lambda *_: tested)
    monkeypatch.setattr(written, "is_current", lambda *_: current)
    shown, why = written._first_map(
        SimpleNamespace(card=card), the_film().radiograph, asked.model_input, asked.prediction
    )
    assert shown is not None, why
    assert told in shown.caption


@pytest.mark.slow
def test_the_command_writes_each_form(report):
    status, said, page = report("a.pdf")
    assert (status, said.rstrip().endswith(f"Wrote {page}")) == (0, True)
    assert len(PdfReader(page).pages) == 1

    assert dcmread(report("a.dcm")[2]).Modality == "SR"
    assert dcmread(report("b.dcm", "--form", "secondary-capture")[2]).Modality == "OT"
    assert report("a.json")[2].read_text().startswith('{\n  "resourceType": "DiagnosticReport"')
    assert report("a.csv")[2].read_text().startswith("film_sha256,")
    assert report("a.txt", "--form", "csv")[2].read_text().startswith("film_sha256,")


@pytest.mark.slow
def test_the_command_files_dicom_beside_its_source(report):
    film = thorax(256, 224, seed=1)
    capture = dcmread(BytesIO(secondary_capture(record(film=film), WHO)))
    capture.Modality, capture.PhotometricInterpretation = "CR", "MONOCHROME2"
    capture.SamplesPerPixel, (capture.Rows, capture.Columns) = 1, film.pixels.shape
    del capture.PlanarConfiguration
    capture.PixelData = np.asarray(Image.open(BytesIO(png_bytes(film))).convert("L")).tobytes()
    stream = BytesIO()
    capture.save_as(stream)

    status, said, made = report("a.dcm", film=stream.getvalue())

    assert status == 0, said
    assert dcmread(made).PatientID == WHO.patient_id
    assert dcmread(made).StudyInstanceUID == WHO.study_uid
    assert not [secret for secret in SECRETS if secret in said]


@pytest.mark.slow
def test_what_the_command_cannot_do_is_one_sentence(report, tmp_path: Path):
    for output, more, words in (
        ("a.txt", (), ".pdf, .dcm, .json, .csv"),
        ("none/a.csv", (), "a folder that exists"),
    ):
        status, said, made = report(output, *more)
        assert (status, said.count("\n"), made.exists()) == (2, 1, False)
        assert words in said

    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    stream = BytesIO()
    grey.save(stream, "PNG")
    status, said, made = report("a.dcm", film=stream.getvalue())
    assert (status, made.exists()) == (2, False)
    assert "the film was refused" in said
    status, said, made = report("a.pdf", film=stream.getvalue())
    assert (status, made.exists()) == (0, True)
    assert said.startswith("No answer")
