"""The reader's story: a photograph, a lateral film, an upside-down film, a good film.

Under AppTest, with the shipped models: the page refuses, says why, mends on one click and
says that it did.
"""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from dropping import drop
from PIL import Image
from streamlit.testing.v1 import AppTest

from cxr_core.cards import load_card
from cxr_core.images import read_radiograph
from cxr_core.phantom import png_bytes, thorax
from cxr_core.ui import session

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def shipped_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_MODELS", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()


def dropped(name: str, data: bytes) -> AppTest:
    page = AppTest.from_file(str(ROOT / "pages" / "read.py"), default_timeout=240).run()
    return drop(page, (name, data))


def text(page: AppTest) -> str:
    assert not page.exception
    assert not page.error
    return "\n".join(element.proto.body for element in page.get("html"))


def verdict(page: AppTest) -> str:
    return text(page).partition('<span class="verdict">')[2].partition("<")[0].strip()


def png(pixels: np.ndarray) -> bytes:
    return png_bytes(replace(thorax(64, 64, seed=0), pixels=np.ascontiguousarray(pixels)))


def buttons(page: AppTest) -> set[str]:
    return {button.label for button in page.button}


FILM = thorax(512, 448, seed=3).pixels


def test_a_good_film_is_answered_and_nothing_is_offered():
    page = dropped("film.png", png(FILM))
    assert verdict(page) in ("Flag:", "No flag:")
    assert not {label for label in buttons(page) if label.startswith(("Turn", "Undo", "Mirror"))}


def test_an_upside_down_film_is_refused_turned_on_one_click_and_shown_as_it_came_on_another():
    page = dropped("film.png", png(np.rot90(FILM, 2)))
    assert verdict(page) == "No answer:"
    assert "upside down" in text(page)
    page.button(key="mend").click().run()
    assert verdict(page) in ("Flag:", "No flag:")
    assert "Turned by 180 degrees by the reader" in text(page)
    film = page.session_state["session"].film()
    np.testing.assert_allclose(film.radiograph.pixels, FILM, atol=1 / 255)
    next(one for one in page.button if one.label == "Show the film as it came").click().run()
    assert verdict(page) == "No answer:"
    assert "by the reader" not in text(page)


def test_faults_together_are_mended_together_and_a_mirrored_film_keeps_its_answer():
    page = dropped("film.png", png(1 - np.rot90(FILM)))
    assert verdict(page) == "No answer:"
    assert page.button(key="mend").label == "Turn clockwise by 90 degrees and undo the inversion"
    page.button(key="mend").click().run()
    assert verdict(page) in ("Flag:", "No flag:")

    page = dropped("film.png", png(FILM[:, ::-1]))
    assert verdict(page) in ("Flag:", "No flag:")
    assert "situs inversus" in text(page)
    assert page.button(key="mend").label == "Mirror the film"


def grey(path: Path) -> bytes:
    stream = BytesIO()
    Image.open(path).convert("L").save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("picture", "said"),
    [("photo/photo_0003.jpg", "photograph"), ("lateral/lateral_015.jpg", "chest film")],
)
def test_a_grey_photograph_and_a_lateral_film_are_refused_and_cannot_be_mended(
    data: Path, picture: str, said: str
):
    page = dropped("film.png", grey(data / "not_chest_xray" / picture))
    assert verdict(page) == "No answer:"
    assert said in text(page)
    assert not {label for label in buttons(page) if label.startswith(("Turn", "Undo", "Mirror"))}


def test_mending_forgets_answers_to_the_faulty_film_and_nothing_of_the_reader():
    card = load_card("pediatric-pneumonia")
    upside_down = read_radiograph(png(np.rot90(FILM, 2)), "film.png")
    film = session.Film("film.png", upside_down, upside_down.pixels)
    film.state_age(3)
    reading = session.read(film, card)
    assert reading.prediction is None
    film.mend(session.gate.mend_for(reading.gate))
    assert film.age_years == 3
    assert not film.readings
    assert session.read(film, card).prediction is not None
    assert film.radiograph.digest == upside_down.digest
    film.take_back()
    assert film.radiograph is upside_down
    assert film.mended == ()
