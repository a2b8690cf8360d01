"""The frame of every page, and the parts of the reading page.

Each function draws one thing and returns what the reader chose; nothing is computed here
beyond what is shown. Text from files and cards is escaped before it becomes HTML.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from cxr_core import overlays
from cxr_core.attribution import Attribution, list_methods
from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.gate import GateReport
from cxr_core.images import MAX_AGE_YEARS
from cxr_core.ui import reading as words
from cxr_core.ui import session
from cxr_core.ui.session import Film, Reading, Session

STYLE = Path(__file__).with_name("style.css")
ORIGINAL = "original"
STYLES: dict[str, overlays.Style] = {"Heatmap": "heatmap", "Contour": "contour", "Both": "both"}
VERDICTS = {"ok": "passed", "caution": "note", "refuse": "refused"}
# More findings than this, and only the explained one says what similar films had.
FEW_FINDINGS = 3
CHOSEN_COOKIE = "cxr_theme"

# Streamlit follows the computer's theme where it knows two. A reading room is dark whatever
# its computers say, so the first visit chooses dark, once; the menu's choice then stands.
# The keys are Streamlit's own (1.67); should they change, the computer's theme shows.
DARK_FIRST = """<script>
  const base = location.pathname.replace(/(evaluation|models)?$/, "");
  for (const page of ["", "evaluation", "models"])
    localStorage.setItem(`stActiveTheme-${base}${page}-v2`, '"Dark"');
  document.cookie = "%s=chosen; path=/; max-age=31536000; samesite=lax";
  location.reload();
</script>"""


# --- the frame ---


def frame() -> None:
    """Draw what every page has: the look and, once and quietly, the research-use notice."""
    st.html(STYLE)
    if st.context.theme.type == "light" and CHOSEN_COOKIE not in st.context.cookies:
        st.html(DARK_FIRST % CHOSEN_COOKIE, unsafe_allow_javascript=True)
        st.stop()
    st.html(f'<p class="cxr-notice">{words.NOTICE}</p>')


def choose_model(cards: Sequence[ModelCard]) -> ModelCard:
    """Ask which model speaks, when there are several; every page remembers."""
    if len(cards) == 1:
        return cards[0]
    by_name = {card.name: card for card in cards}
    chosen = st.selectbox("Model", list(by_name), key="model", persist_state="session")
    return by_name[chosen]


def plain(text: str) -> str:
    """Escape Markdown, for names that strangers gave to files."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$])", r"\\\1", text)


# --- films come in ---


def intake(state: Session, *, large: bool) -> None:
    """Ask for films; a large target while there is none, a line afterwards."""
    with st.container(key="intake-large" if large else "intake"):
        uploads = st.file_uploader(
            "Drop chest films here: PNG, JPEG, TIFF, BMP or DICOM, one or several",
            accept_multiple_files=True,  # no filter by type: DICOM files often have no extension
            key=state.upload_key,
        )
        if uploads:
            state.take(uploads)
            st.rerun()
        with st.container(horizontal=True, gap="small"):
            st.button(
                "Try the sample film",
                on_click=state.take_sample,
                help="A computer-made chest with one opacity; no patient's film.",
                type="secondary" if large else "tertiary",
            )
            if not large:
                st.button("Remove film", on_click=state.remove, type="tertiary")
            if len(state.films) > 1:
                st.button("Remove all", on_click=state.clear, type="tertiary")


def welcome(card: ModelCard) -> None:
    """Say, before the first film, which model will speak, for what, and how good it was."""
    record = session.record(card)
    rows = {"Made for": card.intended_use, "Not for": " ".join(card.not_for)}
    for one in record.report.labels[:FEW_FINDINGS]:
        name = "Test record" + ("" if len(card.labels) == 1 else f", {words.spoken(one.label)}")
        rows[name] = words.record_in_words(one)
    st.html(f'<h2 class="cxr-title">{escape(card.name)}</h2>{fact_table(rows)}')


def fact_table(rows: Mapping[str, str]) -> str:
    """Write facts as HTML, one line each."""
    lines = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in rows.items()
        if text
    )
    return f'<table class="cxr-table facts">{"".join(lines)}</table>'


def failures(state: Session) -> None:
    """Say of each file that could not be read why, in its own sentence."""
    for sentence in state.failures:
        st.error(plain(sentence))


def preview(state: Session, card: ModelCard) -> None:
    """Show the film while its model is still loading: the reader need not wait to look."""
    film = state.film() or next(iter(state.films.values()))
    if not session.warm_up(card):
        _pictures([(overlays.to_grey(film.shown), f"Chest film {film.name}")], "lightbox-early")


def read_all(state: Session, card: ModelCard) -> list[Film]:
    """Have every film read, those that need a look first; show progress while it lasts."""
    films = list(state.films.values())
    waiting = [film for film in films if (card.name, card.version) not in film.readings]
    ready = session.warm_up(card)
    if waiting:
        text = "Reading the film" if ready else "Loading the model, a few seconds after a start"
        with st.spinner(text):
            for film in waiting:
                session.read(film, card)
    films.sort(key=lambda film: _urgency(session.read(film, card)), reverse=True)
    if state.film() is None:
        state.chosen = films[0].radiograph.digest
    return films


def film_list(state: Session, films: Sequence[Film], card: ModelCard) -> None:
    """Let the reader choose among several films, flagged first."""
    if len(films) < 2:
        return
    by_digest = {film.radiograph.digest: film for film in films}

    def choose() -> None:
        state.chosen = st.session_state["film"]

    st.session_state["film"] = state.chosen
    with st.container(height=164 if len(films) > 4 else "content", key="films", border=False):
        st.radio(
            f"{len(films)} films, flagged first",
            list(by_digest),
            format_func=lambda digest: _film_line(by_digest[digest], card),
            key="film",
            on_change=choose,
        )


def _film_line(film: Film, card: ModelCard) -> str:
    prediction = session.read(film, card).prediction
    if prediction is None:
        return f":gray[No answer] {plain(film.name)}"
    top = max(prediction.labels, key=_excess)
    state = words.state_word(card, top) or "No flag"
    colour = "orange" if words.raises_alarm(top) else "gray"
    return f":{colour}[{state} {plain(words.score(top))}] {plain(film.name)}"


def _excess(answer: LabelPrediction) -> tuple[bool, float]:
    return answer.flag, answer.probability - (answer.operating_point or 0.0)


def _urgency(reading: Reading) -> tuple[int, float]:
    """Order films: flagged, then not flagged, then refused; within each by score."""
    if reading.prediction is None:
        return (0, 0.0)
    flag, excess = max(map(_excess, reading.prediction.labels))
    return (2 if flag else 1, excess)


# --- the answer ---


def answer(card: ModelCard, film: Film, reading: Reading) -> None:
    """Write the answer, large, before anything else."""
    said = words.answer_in_words(
        card, reading.gate, reading.prediction, age_stated=film.age_years is not None
    )
    verdict, colon, rest = said.headline.partition(": ")
    lead = f'<p class="lead">{escape(said.lead)}</p>' if said.lead else ""
    detail = "".join(f"<p>{escape(sentence)}</p>" for sentence in said.detail)
    unsure = " unsure" if said.unsure else ""
    st.html(
        f'<section class="cxr-answer {said.tone}{unsure}" role="status" aria-label="Answer">'
        f'{lead}<h1><span class="verdict">{escape(verdict)}{colon}</span>{escape(rest)}</h1>'
        f'<div class="detail">{detail}</div></section>'
    )


def opinion(card: ModelCard, film: Film, reading: Reading) -> str | None:
    """Draw what the answer rests on, and return the label whose evidence is shown."""
    label = choose_finding(card, reading.prediction)
    if reading.prediction is not None:
        bars(card, reading.prediction, label)
    facts(film)
    checks(reading.gate)
    return label


def bars(card: ModelCard, prediction: Prediction, explained: str | None) -> None:
    """Draw each label's probability against its operating point, and what similar films had."""
    record = session.record(card)
    few = len(prediction.labels) <= FEW_FINDINGS
    rows = []
    for one in sorted(prediction.labels, key=_excess, reverse=True):
        similar = ""
        if few or one.label == explained:
            similar = words.similar_in_words(record.similar(one.label, one.probability))
        rows.append(_bar(card, one, similar))
    st.html(f'<div class="cxr-bars{"" if few else " many"}" role="list">{"".join(rows)}</div>')


def _bar(card: ModelCard, one: LabelPrediction, similar: str) -> str:
    point, band = one.operating_point, card.cannot_tell[card.position(one.label)]
    name, state, number = one.label.replace("_", " "), words.state_word(card, one), words.score(one)
    spoken = f"{name} {number}, {state}"
    marks, scale = f'<i class="fill" style="{_across(0, one.probability)}"></i>', ""
    if band is not None:
        marks += f'<i class="band" style="{_across(*band)}"></i>'
        spoken += f", cannot tell from {band[0]:.2f} to {band[1]:.2f}"
    if point is not None:
        marks += f'<i class="tick" style="left:{100 * point:.2f}%"></i>'
        scale = f"operating point {point:.2f}"
        spoken += f", {scale}"
        # The words stay inside the bar where the point lies near an end.
        place = f"left:{100 * min(max(point, 0.14), 0.86):.2f}%"
        scale = f'<div class="scale"><span style="{place}">{scale}</span></div>'
    return f"""<div class="cxr-bar {"flag" if words.raises_alarm(one) else "clear"}"
        role="listitem" title="{escape(spoken)}">
        <div class="head">
            <span class="name">{escape(name)}</span>
            <span class="state">{escape(state)}</span>
            <span class="number">{escape(number)}</span>
        </div>
        <div class="track">{marks}</div>{scale}
        <p class="similar">{escape(similar)}</p>
    </div>"""


def _across(start: float, end: float) -> str:
    return f"left:{100 * start:.2f}%;width:{100 * (end - start):.2f}%"


# --- the film ---


def viewer(card: ModelCard, film: Film, reading: Reading, label: str | None) -> None:
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
        grey = overlays.to_grey(film.shown)
        _pictures([(grey, f"Chest film {film.name}")])
        if method != ORIGINAL:
            _note(withheld)
        _offer(download, film.name, lambda: overlays.png(overlays.to_grey(film.radiograph.pixels)))
        return
    with st.spinner(f"{words.method_name(method)}, looking for {words.spoken(label)}"):
        found = session.attribution(reading, card, label, method)
    place = st.container()
    opacity, style = _legend(found, label)
    line = " The line runs at half of the peak." if style != "Heatmap" else ""
    _note(words.explanation_in_words(found) + line)

    def draw(pixels: NDArray[np.float32]) -> overlays.Bytes:
        values = session.laid_over(found.values, reading, pixels)
        return overlays.overlay(
            pixels, values, opacity=opacity, signed=found.signed, style=STYLES[style]
        )

    title = f"Chest film with {words.method_name(method)} for {words.spoken(label)}"
    both = [(overlays.to_grey(film.shown), f"Chest film {film.name}")] if beside else []
    with place:
        _pictures([*both, (draw(film.shown), title)])
    _offer(download, film.name, lambda: overlays.png(draw(film.radiograph.pixels)))


def choose_finding(card: ModelCard, prediction: Prediction | None) -> str | None:
    """Ask which label is explained, when there are several; the most suspicious unless told."""
    if prediction is None:
        return None
    names = [one.label for one in sorted(prediction.labels, key=_excess, reverse=True)]
    if len(names) == 1:
        return names[0]
    chosen: str = st.selectbox(
        "Finding explained",
        names,
        format_func=lambda name: name.replace("_", " "),
        key=f"finding-{card.name}-{st.session_state['session'].chosen}",
    )
    return chosen


def _toolbar() -> tuple[str, bool, DeltaGenerator]:
    """Ask what lies over the film; return it, whether side by side, and a place for more."""
    with st.container(horizontal=True, vertical_alignment="center", key="toolbar"):
        st.session_state.setdefault("method", list_methods()[0])
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
    state = st.session_state
    if state["method"] == ORIGINAL:
        state["method"] = state.get("overlay", list_methods()[0])
    else:
        state["overlay"], state["method"] = state["method"], ORIGINAL


def _legend(found: Attribution, label: str) -> tuple[float, str]:
    """Say what the colours mean; ask how strong they are and whether to draw lines."""
    with st.container(horizontal=True, vertical_alignment="center", key="legend"):
        st.html(_colour_bar(found.signed, words.spoken(label)), width="content")
        st.space("stretch")
        opacity: int = st.slider(
            "Opacity of the overlay, per cent",
            0, 100, 50, 5,
            format="opacity %d %%",
            key="opacity",
            label_visibility="collapsed",
            persist_state="session",
            width=170,
        )  # fmt: skip
        style: str = st.segmented_control(
            "Draw the overlay as",
            list(STYLES),
            default="Heatmap",
            required=True,
            key="style",
            label_visibility="collapsed",
            persist_state="session",
        )
    return opacity / 100, style


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


def _pictures(pictures: Sequence[tuple[overlays.Bytes, str]], key: str = "lightbox") -> None:
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


# --- what is known of the film ---


def facts(film: Film) -> None:
    """Show what the file says; ask for the age where it is silent."""
    silent = film.radiograph.facts.age_years is None
    left, right = st.columns([5, 2], vertical_alignment="center") if silent else (st, st)
    text = words.facts_in_words(film.radiograph, film.age_years)
    left.html(f'<p class="cxr-note"><strong>{escape(film.name)}</strong><br>{escape(text)}</p>')
    if silent:
        key = f"age-{film.radiograph.digest}"
        right.number_input(
            "Age, years",
            min_value=0.0,
            max_value=MAX_AGE_YEARS,
            value=None,
            step=1.0,
            format="%g",
            placeholder="not stated",
            key=key,
            on_change=lambda: film.state_age(st.session_state[key]),
            persist_state="session",
        )


def checks(gate: GateReport) -> None:
    """Keep the checks at hand, not in sight; those that failed are in the answer."""
    passed, noted = len(gate.by_verdict("ok")), len(gate.checks) - len(gate.by_verdict("ok"))
    rows = "".join(
        f'<tr class="{check.verdict}"><th scope="row">{escape(check.name.capitalize())}</th>'
        f"<td>{escape(check.reason)} {escape(check.mend)}</td>"
        f"<td>{VERDICTS[check.verdict]}</td></tr>"
        for check in gate.checks
    )
    title = f"Film checks: {passed} passed" + (f", {noted} to note" if noted else "")
    with st.expander(title):
        st.html(f'<table class="cxr-table">{rows}</table>')
