"""The worklist: its order and words as values, its films and its thread without a page."""

import gc
import hashlib
import os
import time
import weakref
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as hs

from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.errors import ArgumentError, DataError, ModelError
from cxr_core.gate import GateCheck, GateReport
from cxr_core.images import StudyReference
from cxr_core.phantom import png_bytes, thorax
from cxr_core.records import Event as RecordedEvent
from cxr_core.records import Read, Records
from cxr_core.records import journal as records_journal
from cxr_core.ui import journal, readfirst, session
from cxr_core.ui.arrivals import Upload
from cxr_core.ui.worklist import rows, work
from cxr_core.ui.worklist.rows import Listed
from cxr_core.ui.worklist.work import Worklist

ONE = {"label": "Pneumonia", "operating_point": 0.4, "cannot_tell": False}


def a_read(probability: float, **changes: object) -> Read:
    answer = ONE | {"probability": probability, "flag": probability >= 0.4} | changes
    return Read(digest="", model="m", version="1", gate={"checks": []}, predictions=[answer])


def refused(reason: str = "It is a hand.", name: str = "content") -> Read:
    checks = [{"name": name, "verdict": "refuse", "reason": reason}]
    return Read(digest="", model="m", version="1", gate={"checks": checks}, predictions=[])


def a_film(digest: str, **changes: object) -> Listed:
    return Listed(**({"digest": digest, "here": True} | changes))  # type: ignore[arg-type]


EVERY = {
    "yours": a_film("yours", read=a_read(0.9), hidden=True),
    "flag": a_film("flag", read=a_read(0.6)),
    "unsure": a_film("unsure", read=a_read(0.3, cannot_tell=True)),
    "refused": a_film("refused", read=refused()),
    "failed": a_film("failed", problem="It is a PDF document."),
    "away": a_film("away", here=False),
    "waiting": a_film("waiting"),
    "clear": a_film("clear", read=a_read(0.1)),
}


# --- order ---


@pytest.mark.parametrize("state", EVERY)
def test_every_state_is_told_from_the_others(state):
    assert EVERY[state].state == state
    assert sum(state in group for group in rows.GROUPS.values()) == 1


@given(hs.permutations(sorted(EVERY)))
def test_what_matters_comes_first_however_films_came(order):
    found = rows.rows(EVERY[name] for name in order)
    assert [row.film.state for row in found] == list(EVERY)


def test_the_most_suspicious_of_the_flagged_comes_first_then_what_came_first():
    films = [a_film(name, read=a_read(p)) for name, p in (("a", 0.5), ("b", 0.9), ("c", 0.5))]
    assert [row.film.digest for row in rows.rows(films)] == ["b", "a", "c"]


def test_an_answer_that_waits_for_the_reader_has_no_say_in_the_order():
    films = [a_film(name, read=a_read(p), hidden=True) for name, p in (("a", 0.1), ("b", 0.9))]
    assert [row.film.digest for row in rows.rows(films)] == ["a", "b"]
    assert all("0." not in rows.in_words(film) for film in films)
    assert not rows.narrowed(rows.rows(films), "All", "pneumonia")


@given(hs.permutations(["lateral", "pa", "silent"]))
def test_the_frontal_film_speaks_for_its_study(order):
    films = {
        "lateral": a_film("lateral", study="s", view="LL", read=refused()),
        "pa": a_film("pa", study="s", view="PA", read=a_read(0.1)),
        "silent": a_film("silent", study="s", read=a_read(0.2)),
    }
    (row,) = rows.rows(films[name] for name in order)
    assert row.film.digest == "pa"
    assert {film.digest for film in row.others} == {"lateral", "silent"}
    assert row.digests == set(films)
    assert rows.others_in_words(row).startswith("2 more films of this study: ")
    assert "LL (no answer)" in rows.others_in_words(row)


def test_a_flag_on_any_film_of_a_study_is_never_hidden_behind_another():
    films = [
        a_film("pa", study="s", view="PA", read=a_read(0.1)),
        a_film("ap", study="s", view="AP", read=a_read(0.7)),
    ]
    (row,) = rows.rows(films)
    assert (row.film.digest, row.film.state) == ("ap", "flag")
    (row,) = rows.rows(replace(film, hidden=True) for film in films)
    assert row.film.digest == "pa", "while the answers wait, the view alone decides"


def test_films_of_one_series_stand_together():
    films = [
        a_film(name, study="s", series=series, view="LL", read=refused())
        for name, series in (("a", "2"), ("b", "1"), ("c", "2"))
    ]
    (row,) = rows.rows([*films, a_film("pa", study="s", series="9", view="PA", read=a_read(0.1))])
    assert [film.digest for film in row.others] == ["b", "a", "c"]


# --- words, filter, search ---


def test_groups_are_counted_and_chosen():
    found = rows.rows(EVERY.values())
    assert rows.counts(found) == {
        "All": 8, "Yours first": 1, "Flagged": 1, "Cannot tell": 1, "No answer": 1, "Not read": 3,
        "Not flagged": 1,
    }  # fmt: skip
    assert [r.film.state for r in rows.narrowed(found, "Not read", "")] == [
        "failed", "away", "waiting"
    ]  # fmt: skip
    assert rows.counts([]) == {"All": 0}


def test_films_are_searched_by_name_number_and_finding():
    films = [
        a_film("aa11", name="Ward 3.png", read=a_read(0.6)),
        a_film("bb22", name="b.png", read=refused()),
    ]
    found = rows.rows(films)
    for text, digest in (("ward", "aa11"), ("PNEUM", "aa11"), ("bb2", "bb22"), (" hand ", "bb22")):
        assert [row.film.digest for row in rows.narrowed(found, "All", text)] == [digest]


@pytest.mark.parametrize(
    ("film", "told"),
    [
        (EVERY["flag"], "pneumonia 0.60, operating point 0.40"),
        (a_film("x", read=a_read(0.45, cannot_tell=True)),
         "pneumonia 0.45 (cannot tell), operating point 0.40"),
        (EVERY["unsure"], "pneumonia 0.30, operating point 0.40"),
        (EVERY["refused"], "It is a hand."),
        (EVERY["failed"], "It is a PDF document."),
        (EVERY["away"], "It is not stored here: drop it again to have it read."),
        (EVERY["waiting"], ""),
        (replace(EVERY["clear"], here=False),
         "pneumonia 0.10, operating point 0.40. To look at it, drop it again."),
        (a_film("x", read=refused("", "age")), "The patient's age is not one this model knows."),
    ],
)  # fmt: skip
def test_a_line_says_what_became_of_a_film(film, told):
    assert rows.in_words(film) == told


def test_many_findings_are_named_by_the_worst():
    answers = [
        {"label": name, "probability": p, "operating_point": 0.5, "flag": p >= 0.5,
         "cannot_tell": False}
        for name, p in (("Mass", 0.6), ("Effusion", 0.9), ("Edema", 0.7), ("Nodule", 0.55),
                        ("Hernia", 0.1))
    ]  # fmt: skip
    read = Read(digest="", model="m", version="1", gate={}, predictions=answers)
    assert rows.in_words(a_film("x", read=read)) == (
        "effusion 0.90, edema 0.70, mass 0.60 and 1 more"
    )


def test_of_labels_that_exclude_each_other_the_largest_is_named():
    answers = [
        {"label": name, "probability": p, "operating_point": None, "flag": p == 0.7,
         "cannot_tell": False}
        for name, p in (("Normal", 0.7), ("Viral pneumonia", 0.3))
    ]  # fmt: skip
    read = Read(digest="", model="m", version="1", gate={}, predictions=answers)
    film = a_film("x", read=read)
    assert (film.state, rows.in_words(film)) == ("clear", "normal 0.70")


# --- the list and its thread ---


def answer(probability: float = 0.91) -> session.Reading:
    one = LabelPrediction("Pneumonia", 1.0, probability, 0.4, probability >= 0.4, False)
    checks = GateReport((GateCheck("colour", 0.0, "grey", "ok", "It is grey."),))
    return session.Reading(checks, prediction=Prediction("made", (one,), None))  # type: ignore[arg-type]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every film gets an answer at once; which films were asked about."""
    asked: list[str] = []

    def answered(radiograph, card, age_years=None):
        asked.append(radiograph.digest)
        return answer()

    monkeypatch.setattr(session, "answered", answered)
    return asked


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    monkeypatch.setenv("CXR_RECORDS", url)
    st.cache_resource.clear()
    st.session_state.clear()
    return Records(url)


def film(seed: int) -> bytes:
    return png_bytes(thorax(96, 96, seed=seed))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_out(worklist: Worklist, card) -> None:
    """Let its own thread read all that waits."""
    worklist.refresh(card)
    end = time.monotonic() + 60
    while worklist.left() and time.monotonic() < end:
        time.sleep(0.01)
        worklist.refresh(card)
    assert not worklist.left()
    if worklist._worker is not None:
        worklist._worker.join(60)


def test_films_are_read_in_the_background_and_bad_ones_say_why(kept, answered, made_card):
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1)), Upload("x", b"notes"), Upload(".DS_Store", b"1")])
    read_out(worklist, made_card)
    first, second = worklist.rows(made_card)
    assert (first.film.state, first.film.title) == ("flag", "a.png")
    assert second.film.problem.startswith("The file is plain text, not a picture")
    assert [one.digest for one in kept.reads()] == [digest(film(1))]
    assert [(one.what, one.name) for one in kept.events()] == [
        ("listed", ""), ("listed", ""), ("failed", "")
    ]  # fmt: skip


def test_the_list_survives_a_restart_and_a_film_is_matched_by_its_digest(kept, answered, made_card):
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1)), Upload("b.png", film(2)), Upload("x", b"notes")])
    read_out(worklist, made_card)
    again = Worklist()
    again.refresh(made_card)
    shown = again.rows(made_card)
    assert [row.film.state for row in shown] == ["flag", "flag", "failed"]
    assert shown[0].film.title == f"Film {digest(film(1))[:8]}", "names were not to be kept"
    assert not shown[0].film.here
    assert "drop it again" in rows.in_words(shown[0].film)
    with pytest.raises(ArgumentError, match="drop it again"):
        again.open(shown[0], shown)

    again.take([Upload("renamed.png", film(1))])
    found = {row.film.digest: row.film for row in again.rows(made_card)}[digest(film(1))]
    assert found.here and found.title == "renamed.png"
    assert not again.waiting(), "its answer is known"
    assert len(answered) == 2
    again.open(again.rows(made_card)[0], again.rows(made_card))
    assert session.current().chosen == digest(film(1))


def test_the_names_come_back_where_the_site_keeps_them(kept, answered, made_card, monkeypatch):
    monkeypatch.setenv("CXR_RECORDS_NAMES", "1")
    worklist = Worklist()
    worklist.take([Upload("ward.png", film(1))])
    again = Worklist()
    again.refresh(made_card)
    (row,) = again.rows(made_card)
    assert (row.film.title, row.film.state) == ("ward.png", "away")


def test_a_site_that_stores_films_opens_them_after_a_restart(
    kept, answered, made_card, monkeypatch, tmp_path
):
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path / "films"))
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1))])
    read_out(worklist, made_card)
    assert worklist.films[digest(film(1))].source is None, "held twice otherwise"
    again = Worklist()
    again.refresh(made_card)
    (row,) = again.rows(made_card)
    assert row.film.here
    again.open(row, [row])
    assert session.current().film().radiograph.digest == digest(film(1))


def test_stored_films_leave_by_their_age_also_without_records(
    answered, made_card, monkeypatch, tmp_path
):
    monkeypatch.setenv("CXR_RECORDS", "off")
    monkeypatch.setenv("CXR_STORE_FILMS", str(tmp_path))
    monkeypatch.setenv("CXR_RECORDS_DAYS", "30")
    st.cache_resource.clear()
    st.session_state.clear()
    old, day = tmp_path / f"{'a' * 64}.png", [date(2026, 1, 1)]
    monkeypatch.setattr(journal, "_today", lambda: day[0])
    for seed, gone in ((1, True), (2, False), (3, True)):
        old.write_bytes(b"")
        os.utime(old, (0, 0))
        day[0] += timedelta(days=gone)  # looked at once a day
        worklist = Worklist()
        worklist.take([Upload(f"{seed}.png", film(seed))])
        read_out(worklist, made_card)
        assert old.exists() is not gone
        assert (tmp_path / f"{digest(film(seed))}.png").exists()
    monkeypatch.setenv("CXR_RECORDS_DAYS", "a month")
    st.cache_resource.clear()
    worklist.take([Upload("4.png", film(4))])
    read_out(worklist, made_card)
    assert "No film is stored" in worklist.unkept
    assert not (tmp_path / f"{digest(film(4))}.png").exists(), "nobody would ever delete it"
    monkeypatch.delenv("CXR_STORE_FILMS")
    worklist.take([Upload("5.png", film(5))])
    read_out(worklist, made_card)
    assert worklist.unkept == ""


def test_without_records_the_list_is_this_sessions(answered, made_card):
    st.session_state.clear()
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1))])
    read_out(worklist, made_card)
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]
    worklist.clear()
    assert worklist.rows(made_card) == [] == Worklist().rows(made_card)


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")


def test_films_of_long_ago_are_counted_and_listed_only_when_asked_for(kept, made_card, monkeypatch):
    for days in (300, 200, 20, 10, 5):
        monkeypatch.setattr(records_journal, "_now", lambda *_, days=days: days_ago(days))
        kept.add(RecordedEvent(digest=f"{days:064}", what="listed"))
        kept.add(replace(a_read(0.1), digest=f"{days:064}", model="made", version="0"))
    monkeypatch.undo()
    monkeypatch.setenv("CXR_RECORDS", kept.url)

    def listed() -> tuple[list[int], int | None]:
        worklist.refresh(made_card)
        return sorted(int(digest) for digest in worklist.films), worklist.older

    worklist = Worklist()
    assert listed() == ([5, 10], 3)
    assert {row.film.state for row in worklist.rows(made_card)} == {"clear"}
    monkeypatch.setenv("CXR_WORKLIST_DAYS", "30")
    worklist = Worklist()
    assert listed() == ([5, 10, 20], 2)
    monkeypatch.setattr(work, "MOST_FILMS", 2)
    worklist = Worklist()
    assert listed() == ([5, 10], 3), "the newest, no more than a list holds"
    worklist.take([Upload("1.png", film(1)), Upload("2.png", film(2))])
    assert worklist.left_out == "", "those of the records take no place from what comes now"
    worklist.clear()
    worklist.go_back()
    assert listed() == ([20, 200, 300], 0), "what was cleared does not come back"
    with monkeypatch.context() as patch:
        for told in ("soon", "0", "-1", "nan", "1e9"):
            patch.setenv("CXR_WORKLIST_DAYS", told)
            with pytest.raises(ArgumentError, match="CXR_WORKLIST_DAYS must be"):
                Worklist().refresh(made_card)


def test_what_came_earlier_is_counted_once_and_not_every_second(kept, made_card, monkeypatch):
    asked: list[tuple[int, float | None]] = []
    monkeypatch.setattr(journal, "listed", lambda *of: asked.append(of) or [])
    counted = iter([7, 0])
    monkeypatch.setattr(journal, "standing", lambda: next(counted))
    worklist = Worklist()
    for _ in range(3):
        worklist.refresh(made_card)
    assert worklist.older == 7
    worklist.go_back()
    worklist.refresh(made_card)
    assert worklist.older == 0
    assert asked == [*[(work.MOST_FILMS, 14.0)] * 3, (2 * work.MOST_FILMS, None)]


def test_records_that_fail_are_a_sentence_and_reading_goes_on(
    answered, made_card, monkeypatch, tmp_path
):
    monkeypatch.setenv("CXR_RECORDS", "sqlite:////proc/none/records.sqlite")
    st.cache_resource.clear()
    st.session_state.clear()
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1))])
    read_out(worklist, made_card)
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]
    assert "Give the URL of a database" in worklist.unkept


def test_a_model_that_cannot_be_loaded_says_so_once_and_is_tried_again(
    kept, made_card, monkeypatch
):
    def fail(*_):
        raise ModelError("Its weights are damaged.")

    monkeypatch.setattr(session, "answered", fail)
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1))])
    read_out(worklist, made_card)
    assert worklist.broken == {(made_card.name, made_card.version): "Its weights are damaged."}
    assert [row.film.state for row in worklist.rows(made_card)] == ["waiting"]
    again = Worklist()
    again.refresh(made_card)
    assert again.rows(made_card)[0].film.state == "away", "it is no fault of the film"
    monkeypatch.setattr(session, "answered", lambda *_: answer())
    worklist.take([Upload("a.png", film(1))])
    read_out(worklist, made_card)
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_foresaw_stops_no_other_film(kept, made_card, monkeypatch):
    def stumble(radiograph, *_):
        if radiograph.digest == digest(film(1)):
            raise RuntimeError("a driver")
        return answer()

    monkeypatch.setattr(session, "answered", stumble)
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1)), Upload("b.png", film(2))])
    read_out(worklist, made_card)
    assert [row.film.problem for row in worklist.rows(made_card)] == ["", work.BROKEN]


def test_the_thread_ends_with_the_session_and_takes_no_film_along(made_card, monkeypatch):
    """The list of a closed tab is forgotten by all, its own thread included."""
    read: list[str] = []
    began, ended = Event(), Event()

    def slow(radiograph, *_):
        read.append(radiograph.digest)
        began.set()
        ended.wait(60)
        return answer()

    monkeypatch.setattr(session, "answered", slow)
    worklist = Worklist()
    worklist.take([Upload(f"{k}.png", film(k)) for k in range(5)])
    worklist.refresh(made_card)
    thread, gone = worklist._worker, weakref.ref(worklist)
    assert began.wait(60)
    del worklist  # the session ends while a film is being read
    ended.set()
    thread.join(60)
    gc.collect()
    assert len(read) == 1
    assert gone() is None


def test_memory_lets_go_of_films_that_need_no_look(kept, made_card, monkeypatch):
    probabilities = {digest(film(1)): 0.1, digest(film(2)): 0.9, digest(film(3)): 0.2}
    monkeypatch.setattr(
        session, "answered", lambda radiograph, *_: answer(probabilities[radiograph.digest])
    )
    monkeypatch.setattr(work, "MOST_BYTES", len(film(2)) + 10)
    worklist = Worklist()
    worklist.take([Upload(f"{k}.png", film(k)) for k in (1, 2, 3)])
    read_out(worklist, made_card)
    assert [row.film.here for row in worklist.rows(made_card)] == [True, False, False]
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag", "clear", "clear"]


def test_more_films_than_the_list_holds_are_left_out_with_a_sentence(monkeypatch):
    monkeypatch.setattr(work, "MOST_FILMS", 2)
    worklist = Worklist()
    worklist.take([Upload(f"{k}.png", film(k)) for k in (1, 2, 3)])
    assert len(worklist.films) == 2
    assert "holds 2 films" in worklist.left_out
    worklist.take([Upload("1.png", film(1))])
    assert "holds 2 films" in worklist.left_out, "it may be of the same drop"
    worklist.take([Upload("2.png", film(2))])
    assert worklist.again == "1.png and 1 more were on the list already."
    worklist.came -= session.LATELY
    worklist.take([Upload("1.png", film(1))])
    assert worklist.left_out == "", "that one is on it"
    assert worklist.again == "1.png was on the list already."


def test_files_beyond_what_memory_may_hold_are_left_out_with_a_sentence(monkeypatch):
    monkeypatch.setattr(work, "MOST_HELD", len(film(1)) + len(film(2)))
    worklist = Worklist()
    worklist.take([Upload(f"{k}.png", film(k)) for k in (1, 2, 3)])
    assert list(worklist.films) == [digest(film(1)), digest(film(2))]
    assert worklist.left_out.startswith("3.png and what came after it were left out")
    worklist.came -= session.LATELY
    worklist.take([Upload("1.png", film(1))])
    assert worklist.left_out == "", "that one is held already"


def test_next_and_previous_lead_through_the_list_as_it_was(kept, made_card, monkeypatch):
    probabilities = {digest(film(k)): p for k, p in ((1, 0.5), (2, 0.9), (3, 0.7))}
    monkeypatch.setattr(
        session, "answered", lambda radiograph, *_: answer(probabilities[radiograph.digest])
    )
    worklist, screen = Worklist(), session.current()
    screen.add("mine.png", thorax(96, 96, seed=9))
    worklist.take([Upload(f"{k}.png", film(k)) for k in (1, 2, 3)])
    worklist.take([Upload("x", b"notes")])
    read_out(worklist, made_card)
    assert worklist.place() is None
    shown = worklist.rows(made_card)
    worklist.open(shown[0], shown)
    assert (screen.film().name, worklist.place()) == ("2.png", 0)
    assert len(worklist.order) == 3, "what cannot be read is passed by"
    worklist.turn(1)
    assert (screen.film().name, worklist.place()) == ("3.png", 1)
    worklist.turn(2)
    assert (screen.film().name, worklist.place()) == ("1.png", 2)
    assert [one.name for one in screen.films.values()] == ["mine.png", "1.png"]
    screen.clear()
    assert worklist.place() is None


def test_the_inbox_is_read_where_it_lies_and_never_outside(
    kept, answered, made_card, monkeypatch, tmp_path
):
    inbox, outside = tmp_path / "inbox", tmp_path / "outside.png"
    (inbox / "deep").mkdir(parents=True)
    (inbox / "deep" / "a.png").write_bytes(film(1))
    (inbox / ".hidden").write_bytes(film(2))
    outside.write_bytes(film(3))
    (inbox / "link.png").symlink_to(outside)
    worklist = Worklist()
    monkeypatch.delenv("CXR_INBOX", raising=False)
    assert worklist.inbox() == []
    monkeypatch.setenv("CXR_INBOX", str(inbox))
    assert [path.name for path, _, _ in worklist.inbox()] == ["a.png"]
    before = sorted(path.name for path in inbox.rglob("*"))
    look(worklist)
    read_out(worklist, made_card)
    assert worklist.inbox() == []
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]
    assert isinstance(worklist.films[digest(film(1))].source, Path)
    assert sorted(path.name for path in inbox.rglob("*")) == before
    (inbox / "new.png").write_bytes(film(4))
    assert len(worklist.inbox()) == 1
    (inbox / "deep" / "a.png").write_bytes(film(5))
    (row,) = worklist.rows(made_card)
    with pytest.raises(ArgumentError, match="was changed since it came"):
        worklist.open(row, [row])
    monkeypatch.setenv("CXR_INBOX", str(outside))
    with pytest.raises(ArgumentError, match="CXR_INBOX"):
        worklist.inbox()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock that the inbox is watched by, to be set by hand."""
    found = SimpleNamespace(now=0.0)
    monkeypatch.setattr(work.time, "monotonic", lambda: found.now)
    return found


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    monkeypatch.setenv("CXR_INBOX", str(folder))
    return folder


def look(worklist: Worklist) -> None:
    """Take in what lies there, as the page does once it has stayed the same for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "SETTLED", 0.0)
        worklist.look()


def test_a_film_that_is_still_being_copied_is_left_to_grow(kept, made_card, box, clock):
    whole, worklist = film(1), Worklist()
    copied = box / "a.png"
    for part in (len(whole) // 3, len(whole) // 2, len(whole)):
        copied.write_bytes(whole[:part])
        worklist.look()
        clock.now += work.SETTLED - 0.1
        worklist.look()
        assert worklist.settling and not worklist.coming
    clock.now += 0.2
    worklist.look()
    assert [name for name, _, _ in worklist.coming] == ["a.png"]
    assert not worklist.settling
    worklist.look()
    assert len(worklist.coming) == 1, "once is enough"


def test_what_the_inbox_brings_is_read_once_by_all_readers(kept, answered, made_card, box):
    for k in range(4):
        (box / f"{k}.png").write_bytes(film(k))
    lists = [Worklist(), Worklist()]
    for one in lists:
        look(one)
        one.refresh(made_card)
    for one in lists:
        read_out(one, made_card)
    assert sorted(answered) == sorted(digest(film(k)) for k in range(4))
    assert len(kept.reads()) == 4
    for one in (*lists, Worklist()):
        one.refresh(made_card)
        assert [row.film.state for row in one.rows(made_card)] == ["flag"] * 4


def test_what_was_cleared_does_not_come_back_by_itself(kept, answered, made_card, box):
    (box / "a.png").write_bytes(film(1))
    worklist = Worklist()
    look(worklist)
    read_out(worklist, made_card)
    worklist.clear()
    for one in (worklist, Worklist()):  # another reader, or the same after a reload
        look(one)
        read_out(one, made_card)
        assert one.rows(made_card) == []
        assert one.aside == [box / "a.png"]
    one.take_back()
    read_out(one, made_card)
    assert [row.film.state for row in one.rows(made_card)] == ["flag"]
    assert one.aside == []
    last = Worklist()
    look(last)
    read_out(last, made_card)
    assert [row.film.here for row in last.rows(made_card)] == [True]
    assert len(answered) == 1, "its answer is known"


def test_a_bad_film_of_the_inbox_fails_once_for_all(kept, answered, made_card, box):
    (box / "a.dcm").write_bytes(b"these are notes")
    for _ in range(2):
        worklist = Worklist()
        worklist.refresh(made_card)
        look(worklist)
        read_out(worklist, made_card)
        assert [row.film.state for row in worklist.rows(made_card)] == ["failed"]
    assert [one.what for one in kept.events()] == ["listed", "failed"]


def test_a_film_that_is_named_by_its_digest_has_no_name(kept, answered, made_card, box):
    (box / f"{digest(film(1))}.dcm").write_bytes(film(1))
    worklist = Worklist()
    look(worklist)
    read_out(worklist, made_card)
    assert [row.film.title for row in worklist.rows(made_card)] == [f"Film {digest(film(1))[:8]}"]


def test_the_mode_that_reads_first_hides_answers_until_they_are_known(kept, answered, made_card):
    worklist = Worklist()
    worklist.take([Upload("a.png", film(1))])
    readfirst.current().on = True
    read_out(worklist, made_card)
    assert [row.film.state for row in worklist.rows(made_card)] == ["yours"]
    readfirst.current().on = False
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]
    readfirst.current().on = True
    assert [row.film.state for row in worklist.rows(made_card)] == ["yours"], "nothing was drawn"
    readfirst.current().known.add(readfirst.question(digest(film(1)), made_card))
    assert [row.film.state for row in worklist.rows(made_card)] == ["flag"]


def test_next_still_leads_on_when_another_film_speaks_for_the_study(
    kept, answered, made_card, monkeypatch
):
    same = StudyReference("", "", "1.2.3", "1.2.3.1", "", "")
    monkeypatch.setattr(work, "_study", lambda data: same if data != film(3) else None)
    worklist, screen = Worklist(), session.current()
    worklist.take([Upload(f"{k}.png", film(k)) for k in (1, 2, 3)])
    read_out(worklist, made_card)
    shown = worklist.rows(made_card)
    worklist.open(shown[0], shown)
    spoke, other = shown[0].film.digest, shown[0].others[0].digest
    for one in worklist.films.values():
        model = (made_card.name, made_card.version)
        one.reads[model] = a_read(0.99 if one.digest == other else 0.1)
    monkeypatch.setattr(worklist, "rows", lambda card: rows.rows(
        work._listed(one, card) for one in worklist.films.values()
    ))  # fmt: skip
    place = worklist.order.index(spoke)
    worklist.turn(place)
    assert screen.film().radiograph.digest == other
    assert worklist.place() == place


def test_test_films_are_drawn_unnamed_and_never_twice(
    kept, answered, made_card, monkeypatch, tmp_path
):
    names = [f"test/PNEUMONIA/person{k}.png" for k in range(12)]
    for k, name in enumerate(names):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film(k))
    record = SimpleNamespace(table=SimpleNamespace(files=tuple(names)))
    monkeypatch.setattr(session, "record", lambda card: record)
    monkeypatch.setenv("CXR_DATA", str(tmp_path / "data"))
    worklist = Worklist()
    worklist.draw(made_card)
    read_out(worklist, made_card)
    assert [one.name for one in worklist.films.values()] == [f"Test film {k}" for k in range(1, 11)]
    worklist.draw(made_card)
    assert [name for name, _, _ in worklist.coming] == ["Test film 11", "Test film 12"]
    worklist.draw(made_card)
    assert len(worklist.coming) == 2, "those on their way are not drawn again"
    read_out(worklist, made_card)
    assert {one.test_film for one in worklist.films.values()} == set(names)
    monkeypatch.setenv("CXR_DATA", str(tmp_path))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "test").rename(tmp_path / "elsewhere" / "gone")
    with pytest.raises(DataError, match="CXR_DATA"):
        Worklist().draw(made_card)


def test_a_file_of_the_inbox_that_fails_leaves_no_name_in_the_records(
    kept, answered, made_card, monkeypatch, tmp_path
):
    monkeypatch.setenv("CXR_INBOX", str(tmp_path / "inbox"))
    monkeypatch.setattr(work, "MAX_BYTES", 100)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "Doe^Jane.dcm").write_bytes(b"these are notes")
    (tmp_path / "inbox" / "large.dcm").write_bytes(bytes(101))
    worklist = Worklist()
    look(worklist)
    read_out(worklist, made_card)
    (row,) = worklist.rows(made_card)
    assert (row.film.title, row.film.state) == ("Doe^Jane.dcm", "failed")
    assert worklist.left_out.startswith("large.dcm was left out.")
    assert not any("Doe" in f"{one.name}{one.note}" for one in kept.events())
