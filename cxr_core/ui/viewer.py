"""What lies over the film on screen: which explanations, or why there is none.

The film itself is never altered: a map lies over it, and one key takes it off. A map is
withheld, with the reason, where it would mislead: of a refused film, of a finding that was
not flagged, and where two methods point at different places; the reader may insist. Maps are
checked on this film once they are on screen, never before.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxr_core import overlays, wording
from cxr_core.attribution import Attribution, Progress, get_method, list_methods
from cxr_core.cards import ModelCard
from cxr_core.ui import canvas, session
from cxr_core.ui import reading as words
from cxr_core.ui.canvas import Layer, Pane
from cxr_core.ui.prior import Beside, pane_of
from cxr_core.ui.session import Explained, Film, Reading, Session
from cxr_core.ui.widgets import place

NOTHING, ORIGINAL = "nothing", "original"
# Forward passes; the film does not wait for a method that costs more.
QUICK = 1.0


@dataclass(frozen=True)
class Shown:
    """One map that the reader asked for.

    Attributes:
        asked: What it explains.
        found: The map.
        withheld: Why it is not drawn; empty when it is.
    """

    asked: Explained
    found: Attribution
    withheld: str


def preview(state: Session, card: ModelCard) -> DeltaGenerator:
    """Show the film while its model is still loading: nobody need wait to look at it.

    Returns:
        The place that holds it, for `show`.
    """
    stage = place(state, card)
    if state.waiting(card) and not session.warm_up(card):
        film = state.film() or next(iter(state.films.values()))
        with stage, st.container(key="lightbox-early"):
            # As PNG: left to choose, Streamlit would make it a JPEG.
            picture = overlays.png(overlays.to_grey(film.shown))
            st.image(picture, alt=_title(film), width="stretch", output_format="PNG")
    return stage


def show(
    card: ModelCard,
    film: Film,
    reading: Reading,
    label: str | None,
    earlier: Beside | None = None,
) -> Callable[[], None]:
    """Show the film and, where the answer carries one, its explanation.

    Args:
        card: The model that spoke.
        film: On screen.
        reading: What the model made of it.
        label: Whose evidence is shown; None when there is no answer.
        earlier: A prior film, which then stands beside it.

    Returns:
        What makes slow maps and checks all of them, for when the rest is on screen.
    """
    methods, beside, download = _toolbar(alone=earlier is None)
    prior = [] if earlier is None else [pane_of(earlier)]
    stage, below = st.container(), st.container()
    if label is None or not _may_explain(reading, label):
        with stage:
            name = "Original" if earlier is None else "This film"
            _draw(card, film, reading, [Pane(name, _title(film)), *prior])
        with below:
            _region(reading, label)
            _not_explained(reading, label)
        _offer(download, film.name, lambda: overlays.png(overlays.to_grey(film.radiograph.pixels)))
        return lambda: None
    with below:
        _region(reading, label)
        absence = _for_or_against(reading, label)
    asked = [Explained(label, method, absence) for method in methods]
    maps = [_at_hand(card, reading, one) for one in asked]
    with stage:
        panes = [_pane(film, reading, *one) for one in zip(asked, maps, strict=True)]
        if earlier is not None:
            panes = [replace(one, name=f"This film, {one.name}") for one in panes]
        original = [Pane("Original", _title(film))] if beside else []
        _draw(card, film, reading, [*panes, *original, *prior])
    with below:
        slots = _notes(card, reading, maps)
    _offer(download, film.name, lambda: _picture(film, reading, maps[0]))
    return partial(_work, card, film, reading, dict(zip(asked, slots, strict=True)))


def _toolbar(*, alone: bool) -> tuple[list[str], bool, DeltaGenerator]:
    """Ask what lies over the film, and unless a prior film stands there, what stands beside it.

    Returns:
        One or two methods, whether the film alone stands beside them, and a place for more.
    """
    methods = list_methods()
    told = "\n\n".join(f"**{get_method(one).title}**: {get_method(one).shows}." for one in methods)
    with st.container(horizontal=True, vertical_alignment="center", key="toolbar"):
        # Choosers that take no typing leave the keys to the viewer.
        method = st.selectbox(
            "Explained by",
            methods,
            format_func=words.method_name,
            key="method",
            help=told,
            filter_mode=None,
            persist_state="session",
            width=250,
        )
        beside = _ask_beside(methods) if alone else NOTHING
        st.space("stretch")
        download = st.container(width="content")
    chosen = [method, *([beside] if beside not in (NOTHING, ORIGINAL, method) else [])]
    return chosen, beside == ORIGINAL, download


def _ask_beside(methods: Sequence[str]) -> str:
    said: str = st.selectbox(
        "Beside it",
        [NOTHING, ORIGINAL, *methods],
        format_func=lambda one: (
            one.capitalize() if one in (NOTHING, ORIGINAL) else words.method_name(one)
        ),
        key="beside",
        filter_mode=None,
        persist_state="session",
        width=250,
    )
    return said


def _may_explain(reading: Reading, label: str) -> bool:
    if reading.prediction is None:
        return False
    return reading.prediction.label(label).flag or (label, None) in reading.insisted


def _not_explained(reading: Reading, label: str | None) -> None:
    """Say why there is no map; offer that of a finding which was not flagged."""
    with st.container(horizontal=True, vertical_alignment="center", key="withheld"):
        _note(words.unexplained_in_words(reading.prediction, label))
        if reading.prediction is not None and label is not None:
            _insist(reading, (label, None))


def _insist(reading: Reading, what: tuple[str, str | None]) -> None:
    st.button(
        "Show it all the same",
        key=f"insist-{what[1]}",
        on_click=lambda: reading.insisted.add(what),
        type="tertiary",
    )


def _for_or_against(reading: Reading, label: str) -> bool:
    """Say that a finding was not flagged, and ask whether to show what speaks against it."""
    if reading.prediction is None or reading.prediction.label(label).flag:
        return False
    with st.container(horizontal=True, vertical_alignment="center", key="unflagged"):
        _note(f"This explains {wording.spoken(label)}, which was not flagged.")
        return st.toggle("What speaks against it", key="against", persist_state="session")


def _at_hand(card: ModelCard, reading: Reading, asked: Explained) -> Shown | None:
    """Explain at once what takes a moment; return None for what is slow and not known yet."""
    quick = get_method(asked.method).cost <= QUICK and session.explains(card)
    if asked not in reading.maps and not quick:
        return None
    found = session.attribution(reading, card, asked)
    check = reading.checks.get(asked)
    insisted = (asked.label, asked.method) in reading.insisted
    reason = "" if check is None or insisted else words.contradiction(asked.method, check)
    return Shown(asked, found, reason)


def _notes(card: ModelCard, reading: Reading, maps: Sequence[Shown | None]) -> list[DeltaGenerator]:
    """Write under each map what it says and how far it holds; return the places of these."""
    slots = []
    for number, (column, one) in enumerate(zip(st.columns(len(maps)), maps, strict=True)):
        with column.container(key=f"note-{number}"):
            slots.append(st.empty())
            if one is not None:
                slots[-1].html(_line(_caption(card, reading, one)))
            if one is not None and one.withheld:
                _insist(reading, (one.asked.label, one.asked.method))
    return slots


def _caption(card: ModelCard, reading: Reading, one: Shown) -> str:
    tested = session.verdict(card, one.asked.label, one.asked.method)
    return one.withheld or words.map_in_words(one.found, tested, reading.checks.get(one.asked))


def _work(
    card: ModelCard, film: Film, reading: Reading, slots: Mapping[Explained, DeltaGenerator]
) -> None:
    """Do what takes longer, now that the film is on screen: slow maps first, then the checks.

    Each says how far it is. Streamlit stops it there when the reader moves on; what was
    finished is kept.
    """
    session.prepare_to_explain(card)  # not before: it would keep the first answer waiting
    waiting = [one for one in slots if one not in reading.maps]
    for one in waiting:
        doing = f"{words.method_name(one.method)}, looking for {wording.spoken(one.label)}"
        telling = _telling(slots[one], doing)
        with session.in_turn(partial(telling, 0, 1)):
            session.attribution(reading, card, one, telling)
    if waiting:
        st.rerun()
    for one, slot in slots.items():
        shown = _at_hand(card, reading, one)
        if shown is None or one in reading.checks or not shown.found.values.any():
            continue
        telling = _telling(slot, "Checking the map on this film", _caption(card, reading, shown))
        with session.in_turn(partial(telling, 0, 1)):
            check = session.examined(film, reading, card, one, telling)
        if words.contradiction(one.method, check):
            st.rerun()
        slot.html(_line(_caption(card, reading, shown)))


def _telling(slot: DeltaGenerator, doing: str, before: str = "") -> Progress:
    """Say in a line how far some work is."""

    def tell(done: int, total: int) -> None:
        slot.html(_line(f"{before} {doing}, {100 * min(done / max(total, 1), 1):.0f} %."))

    tell(0, 1)
    return tell


def _draw(card: ModelCard, film: Film, reading: Reading, panes: list[Pane]) -> None:
    """Draw the film; a click on it asks about a region, unless the film was refused."""

    def ask(point: tuple[float, float] | None) -> None:
        session.ask_about(reading, card, point)

    region = reading.region[0] if reading.region is not None else None
    canvas.show(film, panes, region, ask if reading.prediction is not None else None)


def _pane(film: Film, reading: Reading, asked: Explained, one: Shown | None) -> Pane:
    """Put a map into the form that the browser draws; what is not shown draws nothing."""
    name, label = words.method_name(asked.method), wording.spoken(asked.label)
    if one is None or one.withheld or reading.model_input is None:
        return Pane(name, _title(film))
    laid = session.laid_over(one.found.values, reading, film.shown)
    end = overlays.full_colour(laid, signed=one.found.signed)
    if end is None:
        return Pane(name, _title(film))
    what, opposite = f"for {label}", f"against {label}"
    if asked.absence:
        what, opposite = opposite, what
    ends = (opposite if one.found.signed else "no evidence", what)
    square = canvas.square_of(reading.model_input.placement)
    values = np.asarray(one.found.values / np.float32(end), np.float32)
    title = f"{_title(film)} with {name}, {what}"
    lined = overlays.has_outlines(one.found.values, end)
    return Pane(name, title, Layer(values, square, one.found.signed, ends, lined))


def _picture(film: Film, reading: Reading, one: Shown | None) -> bytes:
    """Draw a map over its film at full size, as PNG; the film alone where none is shown."""
    pixels = film.radiograph.pixels
    if one is None or one.withheld:
        return overlays.png(overlays.to_grey(pixels))
    signed, values = one.found.signed, session.laid_over(one.found.values, reading, pixels)
    end = overlays.full_colour(values, signed=signed)
    lined = end is not None and overlays.has_outlines(one.found.values, end)
    style: overlays.Style = "both" if lined else "heatmap"
    return overlays.png(overlays.overlay(pixels, values, signed=signed, style=style))


def _region(reading: Reading, label: str | None) -> None:
    """Say how the answer moves without the region that the reader clicked."""
    if reading.region is None or reading.prediction is None or label is None:
        return
    before, after = reading.prediction.label(label), reading.region[1].label(label)
    with st.container(horizontal=True, vertical_alignment="center", key="region"):
        _note(words.region_in_words(before, after))
        st.button("Clear the region", on_click=lambda: _clear(reading), type="tertiary")


def _clear(reading: Reading) -> None:
    reading.region = None


def _title(film: Film) -> str:
    return f"Chest film {film.name}"


def _line(sentence: str) -> str:
    return f'<p class="cxr-note">{escape(sentence.strip())}</p>'


def _note(sentence: str) -> None:
    st.html(_line(sentence), width="content")


def _offer(place: DeltaGenerator, name: str, make: Callable[[], bytes]) -> None:
    """Offer what is on screen at the film's full size; drawn only when asked for."""
    stem = re.sub(r"\W+", "-", Path(name).stem).strip("-") or "film"
    place.download_button(
        "Download PNG", make, f"{stem}.png", "image/png", on_click="ignore", type="tertiary"
    )
