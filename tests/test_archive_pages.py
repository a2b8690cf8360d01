"""The archive on the pages: films that arrive, are asked for and are answered, under AppTest."""

import time
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from peers import (
    PASSWORD,
    PATIENT,
    STUDY,
    USER,
    Orthanc,
    dicom_film,
    free_port,
    listening,
    needs_dcmtk,
    needs_orthanc,
    running_orthanc,
    scu,
)
from streamlit.testing.v1 import AppTest
from test_archive_exchange import filed, put
from test_pages_worklist import button, check_sound, html, open_page

from cxr_core.phantom import thorax
from cxr_core.records import Records
from cxr_core.ui.worklist import work


@pytest.fixture(autouse=True)
def empty_caches() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture
def by_web(running: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    running.empty()
    for name, value in (("URL", running.web), ("USER", USER), ("PASSWORD", PASSWORD)):
        monkeypatch.setenv(f"CXR_ARCHIVE_{name}", value)
    monkeypatch.setenv("CXR_SEND_TO", f"{running.title}@127.0.0.1:{running.dicom}")
    return running


def phantom(seed: int = 1) -> bytes:
    return dicom_film(thorax(256, 224, seed=seed), number=seed)


def until(page: AppTest, true: Any, what: str) -> AppTest:
    """Look again, as the page does by itself, until something is on it."""
    end = time.monotonic() + 90
    while not true(page):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.2)
        page.run()
        check_sound(page)
    return page


def captions(page: AppTest) -> str:
    return " ".join(one.value for one in page.caption).replace("\\", "")


@needs_orthanc
@needs_dcmtk
@pytest.mark.slow
def test_from_the_x_ray_unit_to_the_worklist_to_the_archive(
    by_web: Orthanc, kept: Records, flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """storescu sends a film; it is read without a click; its answer is filed beside it."""
    monkeypatch.setattr(work, "SETTLED", 0.3)
    film = tmp_path / "film.dcm"
    film.write_bytes(phantom(5))
    put(by_web, phantom(5))
    with listening(tmp_path) as found:
        monkeypatch.setenv("CXR_INBOX", str(found.inbox))
        page = AppTest.from_file("../app.py", default_timeout=120).run()
        page.switch_page("pages/worklist.py").run()
        check_sound(page)
        assert "No films yet" in html(page)
        assert scu("storescu", found.port, str(film)).returncode == 0
        until(page, lambda one: "1 of 1 film flagged" in html(one), "the film is read")
        assert len(kept.reads()) == 1
        opened = next(one for one in page.button if one.key.startswith("open-"))
        assert not [secret for secret in (PATIENT, STUDY, "Lovelace") if secret in html(page)]
        opened.click().run()
        page.switch_page("pages/read.py").run()
        check_sound(page)
        button(page, f"Send to {by_web.title}").click().run()
        check_sound(page)
        (told,) = page.success
        assert "filed under the film's own study" in told.value
    kinds = filed(by_web)
    assert len(kinds) == 3
    assert {(one.PatientID, one.StudyInstanceUID) for one in kinds.values()} == {(PATIENT, STUDY)}
    assert [one.what for one in kept.events() if "sent" in one.what] == ["sent"]


@needs_orthanc
@pytest.mark.slow
def test_a_study_of_the_archive_is_searched_and_taken_in(by_web: Orthanc, kept: Records, flags):
    put(by_web, phantom(1), phantom(2))
    page = open_page("worklist")
    check_sound(page)
    patient = next(one for one in page.text_input if one.label == "Patient ID")
    patient.set_value("NOBODY")
    button(page, "Search").click().run()
    assert "The archive has no such study." in captions(page)
    patient = next(one for one in page.text_input if one.label == "Patient ID")
    patient.set_value(PATIENT)
    button(page, "Search").click().run()
    check_sound(page)
    (shown,) = [one.value for one in page.markdown if "accession" in one.value]
    assert PATIENT in shown and "ACC90125" in shown and "Lovelace" not in shown
    button(page, "Take in").click().run()
    check_sound(page)
    until(page, lambda one: "1 of 1 film flagged" in html(one) and not one.session_state[
        "worklist"].left(), "both films are read, of one study")  # fmt: skip
    assert "2 films taken in." in captions(page)
    assert len(kept.reads()) == 2
    assert "1 more film of this study" in html(page)


def test_an_archive_that_does_not_answer_is_a_sentence_on_the_page(flags, monkeypatch):
    monkeypatch.setenv("CXR_ARCHIVE_URL", f"http://127.0.0.1:{free_port()}/secret-path")
    page = open_page("worklist")
    button(page, "Search").click().run()
    assert captions(page).startswith("Say whom")
    next(one for one in page.text_input if one.label == "Patient ID").set_value("1")
    button(page, "Search").click().run()
    check_sound(page)
    assert "cannot be reached" in captions(page)
    assert "secret-path" not in captions(page)


def test_without_an_archive_nothing_is_asked(flags, monkeypatch):
    monkeypatch.delenv("CXR_ARCHIVE_URL", raising=False)

    assert not [one for one in open_page("worklist").button if one.label == "Search"]


def test_a_wrong_setting_of_the_archive_is_a_sentence(flags, monkeypatch):
    monkeypatch.setenv("CXR_ARCHIVE_URL", "ftp://archive")
    page = open_page("worklist")
    assert any("DICOMweb" in one.value for one in page.error)
    assert not page.exception
