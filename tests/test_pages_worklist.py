"""The worklist page, the mode that reads first, and the readers' own record, under AppTest."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from bundles import random_table, write_bundle
from dropping import drop
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from cxr_core.cards import load_predictions
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.evaluation import decision_report
from cxr_core.gate import TONES, GateCheck, GateReport, Mend
from cxr_core.phantom import png_bytes, thorax
from cxr_core.records import Event, Opinion, Records
from cxr_core.records import journal as records_journal
from cxr_core.ui import access, journal, reader, session
from cxr_core.ui.dashboard.readers import trial
from cxr_core.ui.readfirst import Committed

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = ("Effusion", "Mass", "Nodule", "Edema", "No Finding")


@pytest.fixture(autouse=True)
def empty_caches() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def film(seed: int) -> bytes:
    return png_bytes(thorax(256, 224, seed=seed))


def open_page(name: str) -> AppTest:
    return AppTest.from_file(str(ROOT / "pages" / f"{name}.py"), default_timeout=120).run()


def html(page: AppTest) -> str:
    return "\n".join(element.proto.body for element in page.get("html"))


def button(page: AppTest, label: str) -> Button:
    return next(one for one in page.button if one.label == label)


def check_sound(page: AppTest) -> None:
    assert not page.exception
    assert not page.error


def read_out(page: AppTest) -> AppTest:
    """Look again until all is read."""
    for _ in range(600):
        if not page.session_state["worklist"].left():
            return page.run()
        time.sleep(0.1)
        page.run()
    pytest.fail("the films were not read")


# --- the worklist page ---


@pytest.mark.slow
def test_many_films_are_read_listed_and_found_again_after_a_restart(
    kept: Records, flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page("worklist")
    check_sound(page)
    assert "No films yet" in html(page)
    drop(page, ("a.png", film(1)), ("notes.txt", b"these are notes"), ("b.png", film(2)))
    check_sound(read_out(page))
    assert "2 of 3 films flagged" in html(page)
    assert html(page).count('class="state flag"') == 2
    page.toggle[0].set_value(True).run()
    assert html(page).count('class="state flag"') == 2, "what was seen cannot be read first"
    assert "0 for you to read first" in html(page)
    page.toggle[0].set_value(False).run()
    assert "The file is plain text" in html(page)
    assert len(kept.reads()) == 2

    group = next(one for one in page.segmented_control if one.label == "Show")
    assert group.options == ["All 3", "Flagged 2", "Not read 1"]
    group.set_value("Not read").run()
    assert 'class="state flag"' not in html(page)
    group = next(one for one in page.segmented_control if one.label == "Show")
    group.set_value("All").run()
    page.text_input[0].set_value("B.PN").run()
    assert [one.label for one in page.button if one.label.endswith("png")] == ["b\\.png"]

    first = AppTest.from_file(str(ROOT / "pages" / "worklist.py"), default_timeout=120)
    monkeypatch.setenv("CXR_READ_FIRST", "1")
    check_sound(first.run())
    assert "3 films, 2 for you to read first" in html(first)
    assert 'class="state flag"' not in html(first)
    assert "operating point" not in html(first)
    monkeypatch.delenv("CXR_READ_FIRST")

    again = open_page("worklist")
    check_sound(again)
    assert html(again).count("To look at it, drop it again.") == 2
    assert "a.png" not in html(again)
    drop(again, ("renamed.png", film(1)))
    assert html(again).count("To look at it, drop it again.") == 1
    assert len(kept.reads()) == 2, "its answer was known"
    button(again, "Clear it").click().run()
    assert "No films yet" in html(again)
    assert "No films yet" in html(open_page("worklist"))
    assert len(kept.reads()) == 2, "what was answered stays"


@pytest.mark.slow
def test_a_film_opens_on_the_reading_page_and_keys_lead_on(kept: Records, flags) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    page.switch_page("pages/worklist.py").run()
    drop(page, ("a.png", film(1)), ("b.png", film(2)))
    read_out(page)
    first, second = (one for one in page.button if one.label.endswith("png"))
    names = [first.label.replace("\\", ""), second.label.replace("\\", "")]
    first.click().run()
    page.switch_page("pages/read.py").run()  # as the page does in a browser
    check_sound(page)
    assert names[0] in html(page)
    assert "1 of 2 on the list" in html(page)
    assert button(page, "Previous").disabled
    button(page, "Next").click().run()
    check_sound(page)
    assert names[1] in html(page)
    assert names[0] not in html(page)
    assert "2 of 2 on the list" in html(page)
    assert button(page, "Next").disabled


def listed_as(page: AppTest) -> list[str]:
    """What the lines of the list say."""
    check_sound(read_out(page))
    return re.findall(r'<p class="told">(.*?)</p>', html(page))


@pytest.mark.slow
def test_an_answer_to_a_film_that_was_changed_is_not_that_to_the_film_as_it_came(
    kept: Records, flags
) -> None:
    """Mended (here: inverted by nobody's need) and for another age, on the reading page."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    page.switch_page("pages/worklist.py").run()
    drop(page, ("a.png", film(1)))
    (as_it_came,) = listed_as(page)
    assert "operating point" in as_it_came
    next(one for one in page.button if one.label == "a\\.png").click().run()
    page.switch_page("pages/read.py").run()

    next(one for one in page.number_input if one.label == "Age, years").set_value(40.0).run()
    page.switch_page("pages/worklist.py").run()
    (line,) = listed_as(page)
    assert line.startswith("The patient&#x27;s age is not one this model knows. Read for the age")
    assert listed_as(drop(open_page("worklist"), ("a.png", film(1)))) == [as_it_came]

    (shown,) = page.session_state["session"].films.values()
    shown.state_age(None)
    shown.mend([Mend(TONES[1], "Invert it", "Inverted by the reader.")])
    page.run()
    assert listed_as(page) == ["Not read yet as mended on the reading page: open it."]
    page.switch_page("pages/read.py").run()
    page.switch_page("pages/worklist.py").run()
    (line,) = listed_as(page)
    assert line == (
        "The film looks inverted: bone is black, air is white. Read as mended on the reading page."
    )
    said = [(one.mended, one.stated) for one in kept.reads()]
    assert said == [("", ""), ("", ""), ("", "age"), ("Inverted by the reader.", "")]
    assert listed_as(drop(open_page("worklist"), ("a.png", film(1)))) == [as_it_came]
    assert len(kept.reads()) == 4, "its answer was known"


# --- reading first, on the reading page ---


def answer_of(names: tuple[str, ...], flagged: tuple[str, ...]) -> session.Reading:
    answers = tuple(
        LabelPrediction(name, 1.0, 0.91 if name in flagged else 0.13, 0.4, name in flagged, False)
        for name in names
    )
    checks = GateReport((GateCheck("colour", 0.0, "grey", "ok", "It is grey."),))
    return session.Reading(checks, prediction=Prediction("made", answers, None))  # type: ignore[arg-type]


@pytest.mark.slow
def test_nothing_of_the_answer_is_on_the_page_before_the_reader_commits(
    kept: Records, flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_READ_FIRST", "1")
    page = drop(open_page("read"), ("a.png", film(1)), ("b.png", film(2)))
    check_sound(page)
    assert "What do you see?" in html(page)
    for told in ("Flag", "operating point", "cxr-bar", "test films scoring like this"):
        assert told not in html(page), told
    assert [one.options for one in page.radio] == [
        [":gray[Yours first] a\\.png", ":gray[Yours first] b\\.png"]
    ], "neither scores nor their order"
    assert "a.png" in html(page), "the first to come, not the most suspicious"
    assert not [box for box in page.selectbox if box.key in ("method", "beside")]
    assert not page.expander
    assert button(page, "Show the answer").disabled
    stance, sure = page.segmented_control[0], page.segmented_control[1]
    assert stance.value is None is sure.value
    stance.set_value("absent").run()
    assert button(page, "Show the answer").disabled
    assert "Say how sure you are." in html(page)
    assert not kept.opinions()
    page.segmented_control[1].set_value(4).run()
    button(page, "Show the answer").click().run()
    check_sound(page)
    assert "Flag:" in html(page) or ">Flag" in html(page)
    assert "You said absent, sure 4 of 5; the model flags it." in html(page)
    (said,) = kept.opinions()
    assert (said.stance, said.confidence, said.before) == ("absent", 4, True)
    assert said.flag is True and said.probability is not None and said.model == "flags"

    page.segmented_control[0].set_value("changed my mind").run()
    button(page, "Keep").click().run()
    assert [(one.before, one.verdict) for one in kept.opinions()] == [
        (True, None), (False, "changed my mind")
    ]  # fmt: skip
    shown, *_ = kept.opinions_csv().splitlines()[1:]
    events = {one.what: one.at for one in kept.events(said.digest)}
    assert events["shown"] <= said.at <= events["revealed"]
    assert shown.endswith(f"{events['shown']},{events['revealed']}")
    assert page.radio[0].options[1] == ":gray[Yours first] b\\.png"


@pytest.mark.slow
def test_what_was_seen_cannot_be_read_first(kept: Records, flags) -> None:
    page = drop(open_page("read"), ("a.png", film(1)))
    assert "Flag" in html(page)
    page.toggle[0].set_value(True).run()
    check_sound(page)
    assert "What do you see?" not in html(page)
    drop(page, ("b.png", film(2)))
    assert "What do you see?" in html(page)
    assert "Flag" not in html(page)
    page.toggle[0].set_value(False).run()
    assert "Flag" in html(page)


@pytest.mark.slow
def test_a_refusal_has_nothing_to_hide(kept: Records, flags, monkeypatch) -> None:
    monkeypatch.setenv("CXR_READ_FIRST", "1")
    page = drop(open_page("read"), ("a.png", film(1)))
    next(one for one in page.number_input if one.label == "Age, years").set_value(40.0).run()
    check_sound(page)
    assert "the patient is 40 years old" in html(page)
    page.number_input[0].set_value(3.0).run()
    assert "What do you see?" in html(page)
    assert "Flag" not in html(page)


def test_many_findings_and_the_rest_is_absent(kept: Records, made_card, monkeypatch) -> None:
    card = replace(made_card, labels=FINDINGS, operating_points=(0.4,) * 5, cannot_tell=(None,) * 5)
    picture = thorax(96, 96, seed=1)
    given = session.Film("film.png", picture, picture.pixels)
    page = AppTest.from_function(grid, default_timeout=30)
    page.session_state["given"] = (card, given, answer_of(FINDINGS, ("Mass", "Nodule")))
    page.run()
    check_sound(page)
    assert [one.value for one in page.segmented_control] == [None] * 6
    page.segmented_control[0].set_value("present").run()
    page.segmented_control[1].set_value("unsure").run()
    assert "3 findings left." in html(page)
    button(page, "The rest is absent").click().run()
    assert [one.value for one in page.segmented_control] == [
        "present", "unsure", "absent", "absent", "absent", None
    ]  # fmt: skip
    page.segmented_control[5].set_value(3).run()
    button(page, "Show the answer").click().run()
    check_sound(page)
    assert {one.label: one.stance for one in kept.opinions()} == {
        "Effusion": "present", "Mass": "unsure", "Nodule": "absent", "Edema": "absent",
        "No Finding": "absent",
    }  # fmt: skip
    assert {one.confidence for one in kept.opinions()} == {3}


def grid() -> None:
    import streamlit as st

    from cxr_core.ui import reader

    reader._grid(*st.session_state["given"])


def test_nothing_found_is_said_by_its_own_label(kept: Records, made_card) -> None:
    card = replace(made_card, labels=FINDINGS, operating_points=(0.4,) * 5, cannot_tell=(None,) * 5)
    picture = thorax(96, 96, seed=1)
    page = AppTest.from_function(grid, default_timeout=30)
    page.session_state["given"] = (
        card, session.Film("film.png", picture, picture.pixels), answer_of(FINDINGS, ())
    )  # fmt: skip
    page.run()
    button(page, "The rest is absent").click().run()
    assert [one.value for one in page.segmented_control][:5] == [*["absent"] * 4, "present"]


@pytest.mark.parametrize(
    ("said", "nothing"),
    [([], "present"), (["absent"], "present"), (["absent", "unsure"], "unsure"),
     (["unsure", "present"], "absent")],
)  # fmt: skip
def test_whether_nothing_was_found_follows_from_the_findings(said, nothing) -> None:
    assert reader._nothing_found(said) == nothing


def test_of_labels_that_exclude_each_other_one_is_chosen(kept: Records, made_card) -> None:
    names = ("Normal", "Bacterial pneumonia", "Viral pneumonia")
    card = replace(
        made_card, labels=names, activation="softmax", operating_points=(None,) * 3,
        cannot_tell=(None,) * 3,
    )  # fmt: skip
    picture = thorax(96, 96, seed=1)
    page = AppTest.from_function(grid, default_timeout=30)
    page.session_state["given"] = (
        card, session.Film("film.png", picture, picture.pixels), answer_of(names, ("Normal",))
    )  # fmt: skip
    page.run()
    page.segmented_control[0].set_value("Viral pneumonia").run()
    page.segmented_control[1].set_value(5).run()
    button(page, "Show the answer").click().run()
    check_sound(page)
    assert [one.stance for one in kept.opinions()] == ["absent", "absent", "present"]


def broken_part() -> None:
    import streamlit as st

    from cxr_core.errors import ModelError
    from cxr_core.ui import fragments

    def part(name: str) -> None:
        st.button("Again")
        raise ModelError(f"The card of *{name}* is damaged.")

    fragments.fragment(part)("one")
    st.write("The rest of the page.")


def test_an_error_in_a_part_that_runs_by_itself_is_a_sentence() -> None:
    page = AppTest.from_function(broken_part, default_timeout=30).run()
    for _ in range(2):
        assert not page.exception
        assert [one.value.replace("\\", "") for one in page.error] == [
            "The card of *one* is damaged."
        ]
        assert page.markdown[0].value == "The rest of the page."
        page.button[0].click().run()


def test_every_part_that_runs_by_itself_shows_errors_as_sentences() -> None:
    """One mechanism: `fragments.fragment`, and nobody goes past it."""
    files = [*(ROOT / "cxr_core").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py"]
    past = [path.name for path in files if "st.fragment" in path.read_text("utf-8")]
    assert past == ["fragments.py"]


def test_the_page_says_how_many_films_came_earlier_and_lists_them(
    flags: None, kept: Records, monkeypatch
) -> None:
    digest = "a" * 64
    with monkeypatch.context() as patch:
        patch.setattr(records_journal, "_now", lambda *_: "2026-01-01T00:00:00.000+00:00")
        kept.add(Event(digest=digest, what="listed"))
    page = open_page("worklist")
    check_sound(page)
    assert "1 film from earlier is not listed" in html(page)
    button(page, "List earlier films").click().run()
    check_sound(page)
    assert "from earlier" not in html(page)
    assert f"Film {digest[:8]}" in [one.label for one in page.button]


def test_where_reader_and_model_differ_is_said_in_words() -> None:
    said = Committed(
        {"Effusion": "present", "Mass": "absent", "Nodule": "unsure", "Edema": "absent",
         "No Finding": "absent"}, 2,
    )  # fmt: skip
    prediction = answer_of(FINDINGS, ("Mass", "Nodule")).prediction
    assert prediction is not None
    assert reader.compared_in_words(said, prediction) == (
        "You and the model say the same of 2 of 5 findings; You see, the model does not: "
        "effusion; The model flags, you do not: mass; You were not sure: nodule. You were sure "
        "2 of 5."
    )


def test_an_answer_that_stood_in_the_gallery_is_no_opinion_from_before(
    kept: Records, made_card
) -> None:
    picture = thorax(96, 96, seed=1)
    given = session.Film("film.png", picture, picture.pixels, test_film="test/film.png")
    page = AppTest.from_function(told_grid, default_timeout=30)
    page.session_state["given"] = (made_card, given, answer_of(("Pneumonia",), ("Pneumonia",)))
    page.run()
    page.segmented_control[0].set_value("present").run()
    page.segmented_control[1].set_value(5).run()
    button(page, "Show the answer").click().run()
    (said,) = kept.opinions()
    assert (said.stance, said.before, said.test_film) == ("present", False, "test/film.png")
    assert journal.first([said]) == []


def test_a_wrong_number_of_days_keeps_nothing_and_stops_no_reading(kept: Records, monkeypatch):
    monkeypatch.setenv("CXR_RECORDS_DAYS", "a year")
    told = journal.keep(Event(digest="a", what="listed"))
    assert "CXR_RECORDS_DAYS is wrong" in told
    assert journal.listed(9, None) == []
    assert journal.known_of(["a"], "m", "1") == ({}, {})
    assert journal.standing() == 0
    assert not kept.events()


def test_an_answer_seen_in_an_earlier_session_is_no_opinion_from_before(
    kept: Records, made_card
) -> None:
    picture = thorax(96, 96, seed=1)
    about = {"digest": picture.digest, "version": made_card.version}
    kept.add(
        Event(what="revealed", model="another", **about),
        Event(what="revealed", model=made_card.name, reader="somebody else", **about),
    )
    for before in (True, False):
        page = AppTest.from_function(grid, default_timeout=30)
        page.session_state["given"] = (
            made_card, session.Film("film.png", picture, picture.pixels),
            answer_of(("Pneumonia",), ("Pneumonia",)),
        )  # fmt: skip
        page.run()
        page.segmented_control[0].set_value("present").run()
        page.segmented_control[1].set_value(5).run()
        button(page, "Show the answer").click().run()
        assert kept.opinions()[-1].before is before
        kept.add(Event(what="revealed", model=made_card.name, **about))


def test_nothing_is_kept_of_a_reader_whose_sign_in_has_ended(
    kept: Records, made_card, monkeypatch
) -> None:
    picture = thorax(96, 96, seed=1)
    page = AppTest.from_function(grid, default_timeout=30)
    page.session_state["given"] = (
        made_card, session.Film("film.png", picture, picture.pixels),
        answer_of(("Pneumonia",), ("Pneumonia",)),
    )  # fmt: skip
    page.run()
    page.segmented_control[0].set_value("present").run()
    page.segmented_control[1].set_value(5).run()
    monkeypatch.setattr(access, "visitor", lambda: access.NOBODY)
    button(page, "Show the answer").click().run()
    assert not kept.opinions()
    assert "read-first" not in page.session_state, "the answer stays hidden"


def test_a_finding_that_the_model_never_flags_is_no_agreement() -> None:
    given = answer_of(FINDINGS, ("Mass",)).prediction
    assert given is not None
    first, *rest = given.labels
    prediction = replace(given, labels=(replace(first, operating_point=None), *rest))
    said = Committed(dict.fromkeys(FINDINGS, "absent") | {"Mass": "present"}, 3)
    assert reader.compared_in_words(said, prediction) == (
        "You and the model say the same of 4 of 5 findings; The model never flags, for want of an "
        "operating point: effusion. You were sure 3 of 5."
    )


def told_grid() -> None:
    import streamlit as st

    from cxr_core.ui import reader, readfirst

    card, film, reading = st.session_state["given"]
    told = readfirst.question(film.radiograph.digest, card)
    readfirst.current().told.add(told)
    reader._grid(card, film, reading)


# --- the readers' record ---


def said_first(number: int, label: str, stance: str, flag: bool, **changes: object) -> Opinion:
    values = {
        "digest": f"{number}", "label": label, "stance": stance, "confidence": 3, "before": True,
        "model": "known", "version": "0", "probability": 0.5, "flag": flag,
    }  # fmt: skip
    return Opinion(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of two findings; its version."""
    table = random_table(("Effusion", "Mass"), 60)
    write_bundle(tmp_path / "models", "known", table, (0.5, 0.5))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    return session.cards()[0].version


def open_readers() -> AppTest:
    page = AppTest.from_file(str(ROOT / "pages" / "evaluation.py"), default_timeout=60).run()
    view = next(one for one in page.segmented_control if one.label == "View")
    return view.set_value("Readers").run()


def test_the_matrix_counts_first_opinions_from_before_the_answer(kept: Records, known) -> None:
    of = {"version": known}
    kept.add(
        *(said_first(k, "Effusion", "present", True, **of) for k in range(6)),
        *(said_first(k, "Effusion", "present", False, **of) for k in range(6, 8)),
        *(said_first(k, "Effusion", "absent", False, **of) for k in range(8, 12)),
        said_first(12, "Effusion", "unsure", True, **of),
        said_first(0, "Effusion", "absent", True, **of),  # again, knowing the answer
        said_first(13, "Effusion", "present", True, version="older"),
        said_first(14, "Effusion", "present", True, before=False, **of),
        said_first(15, "Mass", "present", True, **of),
        said_first(0, "Effusion", None, True, before=False, verdict="agree", **of),
    )
    page = open_readers()
    check_sound(page)
    told = html(page)
    # 12 films; observed 10/12; chance (8 x 6 + 4 x 6) / 144 = 0.5; kappa 2/3.
    assert "On 10 of 12 films reader and model say the same; kappa 0.67" in told
    rows = [("absent", 4, 0), ("present", 2, 6), ("unsure", 0, 1)]
    for name, clear, flag in rows:
        assert (
            f'reader: {name}</th><td class="number">{clear}</td><td class="number">{flag}</td>'
        ) in told
    assert "1 opinions on other versions of the model are left out" in told
    assert "After the answer: agree 1, disagree 0, changed my mind 0." in told
    assert "No test film was read first" in told
    assert '<th scope="row">Mass</th><td class="number">1</td>' in told


def test_who_read_it_with_an_older_version_has_seen_an_answer(kept: Records, known) -> None:
    kept.add(
        said_first(1, "Effusion", "present", True, version="older"),
        said_first(1, "Effusion", "present", True, version=known),
        said_first(2, "Effusion", "absent", True, version=known),
    )
    page = open_readers()
    check_sound(page)
    assert "On 0 of 1 film reader and model say the same." in html(page)
    assert "1 opinions on other versions of the model are left out" in html(page)


def test_films_that_several_readers_read_are_not_counted_as_more_films(
    kept: Records, known
) -> None:
    of = {"version": known}
    kept.add(
        said_first(1, "Effusion", "present", True, reader="ada@x.example", **of),
        said_first(1, "Effusion", "absent", True, reader="bob@x.example", **of),
        said_first(2, "Effusion", "present", True, reader="bob@x.example", **of),
    )
    page = open_readers()
    check_sound(page)
    assert "On 2 of 3 readings reader and model say the same." in html(page)
    assert "3 readings of 2 films" in html(page)


def test_a_finding_without_operating_point_is_said_to_have_none(
    kept: Records, tmp_path: Path, monkeypatch
) -> None:
    table = random_table(("Effusion", "Mass"), 60)
    write_bundle(tmp_path / "models", "known", table, (None, 0.5))
    monkeypatch.setenv("CXR_MODELS", str(tmp_path / "models"))
    version = session.cards()[0].version
    kept.add(said_first(1, "Effusion", "absent", False, version=version))
    page = open_readers()
    check_sound(page)
    assert "The model has no operating point for effusion" in html(page)


def test_readers_and_model_are_held_against_the_truth_on_the_same_films(
    kept: Records, known
) -> None:
    table = load_predictions("known")
    truth = table.y_true[:, 0] == 1
    ill, well = np.flatnonzero(truth)[:4], np.flatnonzero(~truth)[:5]
    # The reader: 3 of 4 ill found, 5 of 5 well; the model 2 of 4, and 4 of 5. One unsure.
    marks = [
        *((row, "present" if k < 3 else "absent", k in (0, 3)) for k, row in enumerate(ill)),
        *((row, "absent", k == 0) for k, row in enumerate(well)),
    ]
    said = [
        said_first(k, "Effusion", stance, flag, version=known, test_film=table.files[row])
        for k, (row, stance, flag) in enumerate(marks)
    ]
    unsure = said_first(
        50, "Effusion", "unsure", True, version=known, test_film=table.files[int(ill[0])]
    )
    elsewhere = said_first(51, "Effusion", "present", True, version=known)
    found = trial(table, "Effusion", [*said, unsure, elsewhere])
    assert found is not None
    assert found.reader.confusion == ((5, 0), (1, 3))
    assert found.model.confusion == ((4, 1), (2, 2))
    assert (found.reader.sensitivity.value, found.model.sensitivity.value) == (0.75, 0.5)
    assert found.unsure == 1
    # Only the reader right on 3 films, only the model on 1: 2 (1 + 4) / 16.
    assert found.p_value == pytest.approx(0.625)
    assert found.reader == decision_report(
        np.array([True] * 4 + [False] * 5), np.array([True] * 3 + [False] * 6), None
    )
    assert trial(table, "Effusion", [elsewhere]) is None
    kept.add(*said, unsure)
    page = open_readers()
    check_sound(page)
    assert "9 films, 4 with effusion" in html(page)
    assert "Unsure, left out: 1." in html(page)
    assert "McNemar p 0.625" in html(page)


def test_a_site_that_reads_nothing_first_is_told_how(kept: Records, known) -> None:
    page = open_readers()
    check_sound(page)
    assert "Nobody has read first with this model yet." in html(page)


def test_without_records_there_is_no_such_view(known) -> None:
    page = AppTest.from_file(str(ROOT / "pages" / "evaluation.py"), default_timeout=60).run()
    view = next(one for one in page.segmented_control if one.label == "View")
    assert "Readers" not in view.options


def test_the_list_says_when_a_film_was_looked_at(kept: Records, known) -> None:
    kept.add(Event(digest="a" * 64, what="listed"), Event(digest="a" * 64, what="shown"))
    page = open_page("worklist")
    check_sound(page)
    assert "seen " in html(page)
    assert "Film aaaaaaaa" in [one.label for one in page.button]
