"""Two films of one patient on the reading page: who may be compared, and what is said of it."""

import json
import shutil
from collections.abc import Callable
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from dropping import drop
from PIL import Image
from streamlit.testing.v1 import AppTest
from studies import ILL, dicom

from cxr_core.classifier import load_classifier
from cxr_core.phantom import png_bytes, thorax
from cxr_core.repeatability import FILE
from cxr_core.ui import canvas, prior, session
from cxr_core.ui.readfirst import question

ROOT = Path(__file__).parents[1]
CHOOSER = "Compared with the prior film"


@pytest.fixture(autouse=True)
def models(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], None]:
    """The tiny bundle, which flags every film; returns what sets how repeatable it is."""
    st.cache_resource.clear()
    st.cache_data.clear()
    root = tmp_path / "models"
    shutil.copytree(tiny_models / "tiny", root / "tiny")
    card = json.loads((root / "tiny" / "card.json").read_text())
    card |= {"operating_points": [1e-6], "cannot_tell": [None]}
    (root / "tiny" / "card.json").write_text(json.dumps(card))
    monkeypatch.setenv("CXR_MODELS", str(root))
    classifier = load_classifier("tiny", root)
    monkeypatch.setattr(session, "load_classifier", lambda *_: classifier)

    def repeatable(spread: float) -> None:
        values = json.loads((root / "tiny" / FILE).read_text())
        (root / "tiny" / FILE).write_text(json.dumps(values | {"spread": {"Pneumonia": spread}}))

    repeatable(1e-6)
    return repeatable


def png(*, seed: int = 1, ill: bool = False) -> bytes:
    return png_bytes(thorax(256, 224, seed=seed, opacities=ILL if ill else ()))


def read(*files: tuple[str, bytes], show: str = "") -> AppTest:
    """Drop films on the page and show one of them."""
    page = AppTest.from_file(str(ROOT / "pages" / "read.py"), default_timeout=120).run()
    drop(page, *files)
    if show:
        chooser = next(one for one in page.radio if one.key == "film")
        films = page.session_state["session"].films
        digest = next(digest for digest, film in films.items() if film.name == show)
        chooser.set_value(digest).run()
    assert not page.exception
    return page


def html(page: AppTest) -> str:
    return unescape("\n".join(element.proto.body for element in page.get("html")))


def chooser(page: AppTest):
    return next(one for one in page.selectbox if one.label == CHOOSER)


def compare(page: AppTest, name: str) -> AppTest:
    films = page.session_state["session"].films
    chooser(page).set_value(
        next(digest for digest, film in films.items() if film.name == name)
    ).run()
    assert not page.exception
    return page


def test_the_earlier_film_of_the_patient_stands_beside_the_later_by_itself(models) -> None:
    page = read(
        ("new.dcm", dicom("20250610", ill=True)),
        ("old.dcm", dicom("20250503")),
        ("oldest.dcm", dicom("20240101")),
        show="new.dcm",
    )
    films = page.session_state["session"].films
    assert films[chooser(page).value].name == "old.dcm"  # the latest of the earlier ones
    said = html(page)
    assert '<p class="change changed">Pneumonia: ' in said
    assert "than on 3 May 2025" in said
    assert prior.NOBODY not in said
    assert "P-1" not in said
    assert "Doe" not in said


def test_a_difference_that_the_model_makes_by_itself_is_greyed(models) -> None:
    models(50.0)
    page = read(
        ("new.dcm", dicom("20250610", ill=True)), ("old.dcm", dicom("20250503")), show="new.dcm"
    )
    said = html(page)
    assert "No change from the film of 3 May 2025 beyond what the model" in said
    assert '<p class="change same">' in said
    assert 'class="was same"' in said
    assert "within repeatability" in said
    assert "was changed" not in said


def test_the_earlier_film_is_not_compared_with_the_later(models) -> None:
    page = read(("new.dcm", dicom("20250610")), ("old.dcm", dicom("20250503")), show="old.dcm")
    assert chooser(page).value is None
    compare(page, "new.dcm")
    assert prior.LATER in html(page)
    assert 'class="was' not in html(page)


def test_films_of_two_patients_are_never_compared(models) -> None:
    page = read(
        ("one.dcm", dicom("20250610", "P-1", ill=True)),
        ("other.dcm", dicom("20250503", "P-2", seed=2)),
        show="one.dcm",
    )
    assert chooser(page).value is None
    compare(page, "other.dcm")
    said = html(page)
    assert prior.ANOTHER in said
    assert 'class="was' not in said
    assert "change" not in said.partition("cxr-answer")[2].partition("</section>")[0]


def test_without_headers_the_reader_chooses_and_is_told_that_nobody_checked(models) -> None:
    page = read(("a.png", png(ill=True)), ("b.png", png()), show="a.png")
    assert chooser(page).value is None
    compare(page, "b.png")
    said = html(page)
    assert prior.NOBODY in said
    assert "than on the prior film" in said
    chooser(page).set_value(None).run()
    assert prior.NOBODY not in html(page)


def test_one_film_alone_asks_for_no_prior(models) -> None:
    page = read(("a.png", png()))
    assert CHOOSER not in [one.label for one in page.selectbox]


def test_a_refused_prior_gives_no_change_and_says_why(models) -> None:
    hand = np.zeros((256, 224), np.uint8)
    hand[100:150, 90:140] = 255
    stream = BytesIO()
    Image.fromarray(hand).save(stream, "PNG")
    page = read(("a.png", png()), ("b.png", stream.getvalue()), show="a.png")
    compare(page, "b.png")
    assert "No change is told: the prior film was refused." in html(page)


def test_where_nobody_measured_nothing_is_called_a_change(models, tmp_path) -> None:
    (tmp_path / "models" / "tiny" / FILE).unlink()
    page = read(
        ("new.dcm", dicom("20250610", ill=True)), ("old.dcm", dicom("20250503")), show="new.dcm"
    )
    assert prior.UNMEASURED in html(page)
    assert '<p class="change' not in html(page)


def test_reading_first_shows_both_films_and_nothing_of_either_answer(
    models, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(canvas, "show", lambda film, panes, *_: drawn.append((film, panes)))
    monkeypatch.setenv("CXR_READ_FIRST", "1")
    page = read(
        ("new.dcm", dicom("20250610", ill=True)), ("old.dcm", dicom("20250503")), show="new.dcm"
    )
    said = html(page)
    assert "Yours first." in said
    assert '<p class="change' not in said
    assert 'class="was' not in said
    (_, second) = drawn[-1][1]
    assert second.film.name == "old.dcm"
    # The current film is read; of the prior, which is not, nothing may be told yet.
    films = page.session_state["session"].films
    state = page.session_state["read-first"]
    digest = next(digest for digest, film in films.items() if film.name == "new.dcm")
    card = session.cards()[0]
    state.known.add(question(digest, card))
    page.run()
    said = html(page)
    assert prior.HIDDEN in said
    assert '<p class="change' not in said
    assert 'class="was' not in said


def test_the_prior_is_laid_over_the_film_in_a_pane_of_its_own(
    models, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(canvas, "show", lambda film, panes, *_: drawn.append((film, panes)))
    read(("new.dcm", dicom("20250610", ill=True)), ("old.dcm", dicom("20250503")), show="new.dcm")
    film, (_, pane) = drawn[-1]
    assert (film.name, pane.film.name, pane.name) == ("new.dcm", "old.dcm", "Prior, 3 May 2025")
    assert pane.align == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=0.02)
