"""The film on screen: its overlay, the controls of it, and why there is none.

The film itself is never altered: a map lies over it, and one key takes it off. What is not
flagged is not explained, for a map of what was not found would point at nothing.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from cxr_core import overlays
from cxr_core.attribution import Attribution, list_methods
from cxr_core.cards import ModelCard
from cxr_core.ui import reading as words
from cxr_core.ui import session
from cxr_core.ui.session import Film, Reading, Session

Picture = tuple[overlays.Bytes, str]
"""Pixels, and what they are for those who cannot see them."""

ORIGINAL = "original"
STYLES: dict[str, overlays.Style] = {"Heatmap": "heatmap", "Contour": "contour", "Both": "both"}


def preview(state: Session, card: ModelCard) -> None:
    """Show the film while its model is still loading: nobody need wait to look at it."""
    if state.waiting(card) and not session.warm_up(card):
        film = state.film() or next(iter(state.films.values()))
        _pictures([_plain(film)], "lightbox-early")


def show(card: ModelCard, film: Film, reading: Reading, label: str | None) -> None:
    """Show the film and, where the answer carries one, its explanation.

    Args:
        card: The model that spoke.
        film: On screen.
        reading: What the model made of it.
        label: Whose evidence is shown; None when there is no answer.
    """
    method, beside, download = _toolbar()
    withheld = _withheld(reading, label)
    if method == ORIGINAL or withheld or label is None:
        _pictures([_plain(film)])
        _offer(download, film.name, lambda: overlays.png(overlays.to_grey(film.radiograph.pixels)))
        if method != ORIGINAL:
            _note(withheld)
        return
    with st.spinner(f"{words.method_name(method)}, looking for {words.spoken(label)}"):
        found = session.attribution(reading, card, label, method)
    stage = st.container()
    opacity, style = _legend(found)
    line = " The line runs at half of the peak." if style != "heatmap" else ""
    _note(words.explanation_in_words(found) + line)

    def draw(pixels: NDArray[np.float32]) -> overlays.Bytes:
        values = session.laid_over(found.values, reading, pixels)
        return overlays.overlay(pixels, values, opacity=opacity, signed=found.signed, style=style)

    title = f"Chest film with {words.method_name(method)} for {words.spoken(label)}"
    with stage:
        _pictures([*([_plain(film)] if beside else []), (draw(film.shown), title)])
    _offer(download, film.name, lambda: overlays.png(draw(film.radiograph.pixels)))


def _toolbar() -> tuple[str, bool, DeltaGenerator]:
    """Ask what lies over the film; return it, whether side by side, and a place for more."""
    with st.container(horizontal=True, vertical_alignment="center", key="toolbar"):
        st.session_state.setdefault("method", session.current().overlay)
        method = st.segmented_control(
            "Overlay",
            [ORIGINAL, *list_methods()],
            required=True,
            format_func=lambda name: "Original" if name == ORIGINAL else words.method_name(name),
            key="method",
            label_visibility="collapsed",
            persist_state="session",
        )
        st.button("Original, and back", on_click=_swap, shortcut="O", type="tertiary")
        st.space("stretch")
        beside = st.toggle("Side by side", key="beside", persist_state="session")
        download = st.container(width="content")
    return method or ORIGINAL, beside, download


def _swap() -> None:
    """Take the overlay off the film, or lay the last one on again."""
    state, shown = session.current(), st.session_state["method"]
    st.session_state["method"] = state.overlay if shown == ORIGINAL else ORIGINAL
    state.overlay = shown if shown != ORIGINAL else state.overlay


def _legend(found: Attribution) -> tuple[float, overlays.Style]:
    """Say what the colours mean; ask how strong they are and whether to draw lines."""
    with st.container(horizontal=True, vertical_alignment="center", key="legend"):
        st.html(_colour_bar(found.signed, words.spoken(found.label)), width="content")
        st.space("stretch")
        opacity: int = st.slider(
            "Opacity of the overlay, per cent",
            0, 100, 50, 5,
            format="opacity %d %%",
            key="opacity",
            label_visibility="collapsed",
            persist_state="session",
            width=150,
        )  # fmt: skip
        style = st.segmented_control(
            "Draw the overlay as",
            list(STYLES),
            default="Heatmap",
            required=True,
            key="style",
            label_visibility="collapsed",
            persist_state="session",
        )
    return opacity / 100, STYLES[style]


def _colour_bar(signed: bool, label: str) -> str:
    """Say what the colours of an overlay mean."""
    table = overlays.colour_table(signed)
    stops = ", ".join(
        f"rgba({red}, {green}, {blue}, {alpha / 255:.2f})"
        for red, green, blue, alpha in table[int(signed) :: 15].tolist()
    )
    ends = (f"against {label}", f"for {label}") if signed else ("no evidence", f"for {label}")
    return (
        f'<div class="cxr-scale" role="img" aria-label="Colours: {escape(" to ".join(ends))}">'
        f'<span>{escape(ends[0])}</span><i style="background:linear-gradient(90deg, {stops})"></i>'
        f"<span>{escape(ends[1])}</span></div>"
    )


def _withheld(reading: Reading, label: str | None) -> str:
    """Say why no explanation is shown; empty when one is."""
    if reading.prediction is None or label is None:
        return "No explanation: the model gave no answer for this film."
    if not reading.prediction.label(label).flag:
        return (
            f"No explanation: {words.spoken(label)} was not flagged, and a map of what was not "
            "found would point at nothing."
        )
    return ""


def _plain(film: Film) -> Picture:
    return overlays.to_grey(film.shown), f"Chest film {film.name}"


def _pictures(pictures: Sequence[Picture], key: str = "lightbox") -> None:
    with st.container(key=key):
        for column, (pixels, title) in zip(st.columns(len(pictures)), pictures, strict=True):
            # As PNG: left to choose, Streamlit would make it a JPEG.
            column.image(overlays.png(pixels), alt=title, width="stretch", output_format="PNG")


def _note(sentence: str) -> None:
    st.html(f'<p class="cxr-note">{escape(sentence)}</p>')


def _offer(place: DeltaGenerator, name: str, make: Callable[[], bytes]) -> None:
    """Offer what is on screen at the film's full size; drawn only when asked for."""
    stem = re.sub(r"\W+", "-", Path(name).stem).strip("-") or "film"
    place.download_button(
        "Download PNG", make, f"{stem}.png", "image/png", on_click="ignore", type="tertiary"
    )
