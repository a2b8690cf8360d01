"""The parts of the worklist page: many films, read in the background, what matters first.

The list is drawn anew while films are being read, by itself (a fragment of the page), so that
nothing else on the page waits for it. A click opens a film on the reading page, and from
there a key leads to the next one.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape

import streamlit as st

from cxr_core.archive.inbox import inbox
from cxr_core.cards import ModelCard
from cxr_core.errors import CxrError
from cxr_core.ui import arrivals, readfirst, session
from cxr_core.ui.fragments import fragment, plain
from cxr_core.ui.widgets import belonging, choose_model
from cxr_core.ui.worklist import fetching
from cxr_core.ui.worklist.rows import (
    ALL,
    ANSWERED,
    GROUPS,
    STATES,
    Row,
    counts,
    in_words,
    narrowed,
    others_in_words,
)
from cxr_core.ui.worklist.work import DRAWN, Worklist, current

__all__ = ["Worklist", "arrive", "choose", "current", "intake", "show", "turning"]

PAGE = 16  # lines that a screen of 900 pixels holds
POLL = 1.0  # seconds between two looks at what was read meanwhile
GLANCE = 5.0  # seconds between two looks into the inbox, while nothing is read


def arrive() -> None:
    """Take in what was dropped; leave for the reading page when a film was opened."""
    worklist = current()
    if uploads := arrivals.collect("list"):
        worklist.take(uploads)
    if worklist.leaving:
        worklist.leaving = False
        st.switch_page("pages/read.py")


def choose(cards: Sequence[ModelCard]) -> ModelCard:
    """Ask which model reads the list, and have it read."""
    card = choose_model(cards)
    readfirst.switch()
    session.warm_up(card)
    current().refresh(card)
    return card


# --- films come in ---


def intake(card: ModelCard) -> None:
    """Ask for films: files, a folder, or test films to be read first; the inbox is looked into."""
    worklist = current()
    with st.container(key="intake"):
        arrivals.ask("list", note=worklist.again, folder=True)
    fetching.panel(worklist)
    worklist.look()
    if worklist.aside:
        st.button(
            f"Take in {_films(len(worklist.aside))} of the inbox again",
            on_click=worklist.take_back,
            help="They were cleared from the list, and still lie in the folder that films come to.",
            width="stretch",
        )
    if readfirst.current().on:
        st.button(
            f"Draw {DRAWN} test films",
            on_click=_ask,
            args=(worklist, lambda: worklist.draw(card)),
            help="By lot, from the films that measured this model: what is true of them is known, "
            "and shown nowhere before you have read them.",
            width="stretch",
        )
    if worklist.films:
        with st.popover("Clear the list", width="stretch"):
            _note("Every film leaves the list. What was answered stays in the records.")
            st.button("Clear it", on_click=worklist.clear)


def _ask(worklist: Worklist, take: Callable[[], None]) -> None:
    """Have films come in; say on the list why they cannot."""
    try:
        take()
    except CxrError as error:
        worklist.left_out = str(error)


def _films(number: int) -> str:
    return f"{number:,} film{'s' * (number != 1)}"


# --- the list ---


def show(card: ModelCard) -> None:
    """Draw the list; while films are being read, or may come to the inbox, again and again."""
    worklist = current()
    often = POLL if worklist.left() or worklist.settling else GLANCE if inbox() else None
    fragment(_list, every=often)(card)


def _list(card: ModelCard) -> None:
    worklist = current()
    if worklist.leaving:
        st.rerun()
    before = worklist.left()
    _look(worklist)
    worklist.refresh(card)
    found = worklist.rows(card)
    _summary(worklist, card, found)
    if found:
        _lines(worklist, card, found)
    _older(worklist)
    if bool(before) != bool(worklist.left()):
        st.rerun()  # all is read, or something came: how often one must look is another now


def _look(worklist: Worklist) -> None:
    """Take in what came to the inbox meanwhile; a folder that is gone is told, once."""
    try:
        worklist.look()
    except CxrError as error:
        worklist.left_out = str(error)


def _lines(worklist: Worklist, card: ModelCard, found: Sequence[Row]) -> None:
    """Draw the part of the list that was asked for, a page of it."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="list-choosers"):
        group, text = _narrowing(found)
    chosen = narrowed(found, group, text)
    pages = max(1, -(-len(chosen) // PAGE))
    number = min(st.session_state.get("list-page", 1), pages)
    drawn = chosen[PAGE * (number - 1) : PAGE * number]
    with st.container(key="list"):
        for row in drawn:
            _line(worklist, row, chosen)
    readfirst.seen(
        readfirst.question(film.digest, card)
        for row in drawn
        for film in (row.film, *row.others)
        if film.state in ANSWERED
    )
    if not chosen:
        _note("No film: choose others above.")
    _pages(number, pages, len(chosen))


def _summary(worklist: Worklist, card: ModelCard, found: Sequence[Row]) -> None:
    """Say how the list stands, how far reading is, and what went wrong."""
    belonging(card)
    waiting, number = worklist.left(), counts(found)
    flagged = number.get("Flagged", 0)
    head = "No films yet"
    if readfirst.current().on and found:
        head = f"{_films(len(found))}, {number.get('Yours first', 0)} for you to read first"
    elif found:
        head = f"{flagged} of {_films(len(found))} flagged{' so far' if waiting else ''}"
    st.html(
        '<section class="cxr-summary" role="status" aria-label="Worklist"><p class="cxr-note">'
        f"{escape(card.name)}, version {escape(card.version)}</p><h1>{escape(head)}</h1></section>"
    )
    broken = worklist.broken.get((card.name, card.version), "")
    for sentence in filter(None, (worklist.left_out, worklist.unkept, broken)):
        st.error(plain(sentence))
    if waiting:
        all_films = max(waiting, len(worklist.films) + len(worklist.coming))
        doing = "Reading" if session.warm_up(card) else "Loading the model, then reading"
        st.progress(
            1 - waiting / all_films, f"{doing}: {all_films - waiting:,} of {_films(all_films)}"
        )
    if not found:
        more = " What comes to the inbox is taken in by itself." if inbox() else ""
        _note(
            f"Drop films at the right: they are read one after the other, and sorted by need.{more}"
        )


def _narrowing(found: Sequence[Row]) -> tuple[str, str]:
    """Ask which films to list."""
    number = counts(found)
    if st.session_state.get("list-group") not in number:
        st.session_state["list-group"] = ALL
    group = st.segmented_control(
        "Show",
        [name for name in (ALL, *GROUPS) if name in number],
        required=True,
        format_func=lambda name: f"{name} {number.get(name, 0):,}",
        key="list-group",
        on_change=_first_page,
        persist_state="session",
    )
    text = st.text_input(
        "Search",
        max_chars=200,
        placeholder="name, number or finding",
        key="list-text",
        on_change=_first_page,
        persist_state="session",
        width=260,
    )
    return group or ALL, text or ""


def _first_page() -> None:
    st.session_state["list-page"] = 1


def _line(worklist: Worklist, row: Row, order: Sequence[Row]) -> None:
    """Draw one study: what became of it, its name to open it by, and when it came."""
    film = row.film
    others = others_in_words(row)
    more = f"<small>{escape(others)}</small>" if others else ""
    seen = f"<br><small>seen {_when(film.seen)}</small>" if film.seen else ""
    with st.container(horizontal=True, vertical_alignment="center", key=f"listed-{film.digest}"):
        st.html(f'<p class="state {film.state}">{STATES[film.state]}</p>')
        st.button(
            plain(film.title),
            key=f"open-{film.digest}",
            on_click=_open,
            args=(worklist, row, order),
            disabled=not film.opens,
            type="tertiary",
            width="stretch",
        )
        st.html(f'<p class="told">{escape(in_words(film))}{more}</p>')
        st.html(f'<p class="when">{_when(film.at)}{seen}</p>')


def _when(at: str) -> str:
    """Write a time as the clock on the wall shows it, with its day unless that is today."""
    if not at:
        return ""
    time = datetime.fromisoformat(at).astimezone()
    today = datetime.now().astimezone().date() == time.date()
    return f"{time:%H:%M}" if today else f"{time:%d %b %H:%M}"


def _open(worklist: Worklist, row: Row, order: Sequence[Row]) -> None:
    try:
        worklist.open(row, order)
    except CxrError as error:
        worklist.left_out = str(error)
        return
    worklist.left_out, worklist.leaving = "", True


def _pages(number: int, pages: int, rows: int) -> None:
    """Say which lines are on screen, and turn the page."""
    if pages == 1:
        return
    start = PAGE * (number - 1) + 1
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="turning"):
        _note(f"{start:,}-{min(start + PAGE - 1, rows):,} of {rows:,}")
        for name, to in (("Previous", number - 1), ("Next", number + 1)):
            st.button(
                name,
                on_click=lambda to=to: st.session_state.update({"list-page": to}),
                disabled=not 1 <= to <= pages,
                type="tertiary",
            )


def _older(worklist: Worklist) -> None:
    """Say how many films are not listed for their age, and list more of them when asked."""
    if not worklist.older:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="older"):
        are = "is" if worklist.older == 1 else "are"
        _note(f"{_films(worklist.older)} from earlier {are} not listed")
        st.button("List earlier films", on_click=worklist.go_back, type="tertiary")


# --- on the reading page ---


def turning() -> None:
    """Lead from a film of the list to the one before and after it, and back to the list."""
    worklist = current()
    place = worklist.place()
    if place is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="turning"):
        _note(f"{place + 1:,} of {len(worklist.order):,} on the list")
        for name, key, to in (("Previous", "P", place - 1), ("Next", "N", place + 1)):
            st.button(
                name,
                shortcut=key,
                on_click=_turn,
                args=(worklist, to),
                disabled=not 0 <= to < len(worklist.order),
                type="tertiary",
            )
        if st.button("Worklist", shortcut="L", type="tertiary"):
            st.switch_page("pages/worklist.py")


def _turn(worklist: Worklist, place: int) -> None:
    try:
        worklist.turn(place)
    except CxrError as error:
        session.current().failures = [str(error)]


def _note(sentence: str) -> None:
    st.html(f'<p class="cxr-note">{escape(sentence)}</p>', width="content")
