"""The reader's opinion: asked for quietly, kept, shown again, and found by on the films page."""

from pathlib import Path
from threading import BoundedSemaphore

import pytest
import streamlit as st
from bundles import known_table, write_bundle
from streamlit.testing.v1 import AppTest

from cxr_core.cards import load_predictions
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.gate import GateCheck, GateReport
from cxr_core.phantom import thorax
from cxr_core.records import Opinion, Records
from cxr_core.ui import journal, reader, selection, session
from cxr_core.ui.selection import Asked

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """Records of this test's own."""
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_RECORDS", url)
    st.cache_resource.clear()
    return Records(url)


def an_answer(flag: bool = True) -> session.Reading:
    one = LabelPrediction("Pneumonia", 1.0, 0.91, 0.4, flag, False)
    checks = GateReport((GateCheck("colour", 0.0, "grey", "ok", "It is grey."),))
    return session.Reading(checks, prediction=Prediction("made", (one,), None))  # type: ignore[arg-type]


def asked_page() -> None:
    import streamlit as st

    from cxr_core.ui import reader

    film, card, reading = st.session_state["given"]
    reader.opinion(card, film, reading, "Pneumonia")


@pytest.fixture
def page(made_card) -> AppTest:
    film = session.Film("film.png", thorax(96, 96, seed=1), thorax(96, 96, seed=1).pixels)
    film.test_film = "test/film.png"
    page = AppTest.from_function(asked_page, default_timeout=30)
    page.session_state["given"] = (film, made_card, an_answer())
    return page


def test_an_opinion_is_kept_and_shown_again(kept: Records, page: AppTest) -> None:
    page.run()
    assert page.button[0].disabled, "nothing was said yet"
    page.segmented_control[0].set_value("disagree").run()
    page.text_input[0].set_value("  a rib, not an opacity ").run()
    page.button[0].click().run()
    assert not page.exception and not page.error
    (said,) = kept.opinions()
    film = page.session_state["given"][0]
    assert (said.digest, said.label) == (film.radiograph.digest, "Pneumonia")
    assert (said.verdict, said.comment) == ("disagree", "a rib, not an opacity")
    assert (said.probability, said.flag, said.model) == (0.91, True, "made")
    assert said.test_film == "test/film.png" and not said.before
    assert page.expander[0].label == "Your opinion on pneumonia (1 so far)"
    assert any(
        reader.in_words(said) in part.body.replace("&quot;", '"') for part in page.get("html")
    )
    assert page.button[0].disabled, "a second one begins empty"


def test_nothing_is_asked_where_nothing_is_kept(page: AppTest) -> None:
    page.run()
    assert not page.expander and not page.exception


def test_records_that_fail_stop_no_reading(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXR_RECORDS", "sqlite:////proc/none/records.sqlite")
    st.cache_resource.clear()
    page.run()
    page.segmented_control[0].set_value("agree").run()
    page.button[0].click().run()
    assert not page.exception
    assert "Give the URL of a database" in page.error[0].value


def test_an_answer_is_recorded_without_pixels_or_names(kept: Records, tmp_path, made_card) -> None:
    film = session.Film("Doe^Jane.dcm", thorax(96, 96, seed=2), thorax(96, 96, seed=2).pixels)
    assert journal.keep(session.entry(film.radiograph.digest, made_card, an_answer())) == ""
    (read,) = kept.reads()
    assert read.digest == film.radiograph.digest and read.model == made_card.name
    assert read.predictions[0]["probability"] == 0.91 and read.gate["verdict"] == "ok"
    assert b"Doe" not in b"".join(path.read_bytes() for path in tmp_path.glob("records*"))


def test_films_are_found_by_what_readers_said(kept: Records, tmp_path, monkeypatch) -> None:
    models = tmp_path / "models"
    write_bundle(models, "known", known_table(), (0.5,))
    monkeypatch.setenv("CXR_MODELS", str(models))
    table = load_predictions("known")
    card = next(card for card in session.cards() if card.name == "known")
    label, (first, second, third, *_) = card.labels[0], table.files
    kept.add(
        Opinion(digest="1", label=label, model="known", comment="x", test_film=first),
        Opinion(digest="2", label=label, model="known", verdict="disagree", test_film=second),
        Opinion(digest="3", label=label, model="other", verdict="disagree", test_film=third),
        Opinion(digest="4", label=label, model="known", verdict="agree"),
    )
    remarks = journal.remarks("known")
    assert remarks == {first: frozenset({"comment"}), second: frozenset({"disagree"})}

    def found(remark: str) -> list[str]:
        asked = Asked(model="known", label=label, remark=remark)
        chosen = selection.select(asked, card, table, remarks)
        if remark:
            assert selection.REMARKS[remark] in selection.in_words(chosen, card)
        return [table.files[row] for row in chosen.rows]

    assert found("comment") == [first]
    assert found("disagree") == [second]
    assert found("agree") == []
    assert len(found("")) == len(table.files)
    link = selection.to_parameters(Asked(model="known", label=label, remark="disagree"))
    assert selection.from_parameters(link, [card]).remark == "disagree"


def test_the_films_page_offers_it_only_where_somebody_said_something(
    kept: Records, tmp_path, monkeypatch
) -> None:
    write_bundle(tmp_path / "models", "known", known_table(), (0.5,))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("CXR_DATA", raising=False)

    def open_films() -> AppTest:
        return AppTest.from_file(str(ROOT / "pages" / "films.py"), default_timeout=60).run()

    assert "Readers said" not in [box.label for box in open_films().selectbox]
    file = load_predictions("known").files[3]
    label = load_predictions("known").labels[0]
    kept.add(Opinion(digest="1", label=label, model="known", comment="x", test_film=file))
    page = open_films()
    page.selectbox(key="films-choice").set_value("all").run()
    (box,) = [box for box in page.selectbox if box.label == "Readers said"]
    box.set_value("comment").run()
    assert not page.exception
    assert len([part for part in page.get("html") if "cxr-film" in part.body]) == 1


def test_slow_work_waits_for_its_turn_and_gives_it_on_also_when_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_working", BoundedSemaphore(1))
    waited: list[int] = []

    def moves_on() -> None:
        waited.append(1)
        if len(waited) == 2:
            raise InterruptedError

    with session.in_turn(lambda: pytest.fail("nobody else works")):
        with pytest.raises(InterruptedError), session.in_turn(moves_on):
            pytest.fail("two work at once")
    with pytest.raises(ZeroDivisionError), session.in_turn(lambda: None):
        raise ZeroDivisionError
    with session.in_turn(lambda: pytest.fail("the turn was not given on")):
        pass
    assert waited == [1, 1]
