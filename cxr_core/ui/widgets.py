"""The frame of every page, and the parts of the reading page.

Each function draws one thing and returns what the reader chose; nothing is computed here
beyond what is shown. Text from files and cards is escaped before it becomes HTML.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxr_core import wording
from cxr_core.cards import ModelCard, damaged_models
from cxr_core.classifier import LabelPrediction, Prediction
from cxr_core.gate import GateReport, mend_for
from cxr_core.images import MAX_AGE_YEARS
from cxr_core.ui import arrivals, bars, readfirst, session
from cxr_core.ui import prior as prior_words
from cxr_core.ui import reading as words
from cxr_core.ui.bars import FEW_FINDINGS
from cxr_core.ui.fragments import plain as plain  # told by every page as `widgets.plain`
from cxr_core.ui.prior import Beside
from cxr_core.ui.session import Film, Reading, Session

STYLE = Path(__file__).with_name("style.css")
VERDICTS = {"ok": "passed", "caution": "note", "refuse": "refused"}


# --- the frame ---


def frame() -> None:
    """Draw what every page has: the look and, once and quietly, the research-use notice."""
    st.html(STYLE)
    st.html(f'<p class="cxr-notice">{wording.NOTICE}</p>')


def missing_models() -> None:
    """Say which models are not offered because their card is damaged; the others are."""
    for sentence in damaged_models():
        st.warning(plain(sentence))


def choose_model(cards: Sequence[ModelCard]) -> ModelCard:
    """Ask which model speaks, when there are several; every page remembers."""
    if len(cards) == 1:
        return cards[0]
    by_name = {card.name: card for card in cards}
    chosen = st.selectbox("Model", list(by_name), key="model", persist_state="session")
    return by_name[chosen]


def belonging(card: ModelCard) -> None:
    """Warn, wherever a model speaks, when its decisions and its weights do not belong together."""
    for sentence in session.belonging(card):
        st.html(f'<p class="cxr-banner" role="alert">{escape(sentence)}</p>')


# --- films come in ---


def intake(state: Session, *, large: bool) -> None:
    """Ask for films; a large target while there is none, a line afterwards."""
    with st.container(key="intake"):
        arrivals.ask(
            "read",
            "Chest films: PNG, JPEG, TIFF, BMP or DICOM" if large else "",
            note=" ".join(state.again),
            large=large,
        )
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
    belonging(card)
    record = session.record(card)
    rows = {"Made for": card.intended_use, "Not for": " ".join(card.not_for)}
    for one in record.report.labels[:FEW_FINDINGS]:
        name = "Test record" + ("" if len(card.labels) == 1 else f", {wording.spoken(one.label)}")
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


def place(state: Session, card: ModelCard) -> DeltaGenerator:
    """Hold a place in the page; while films wait to be read, one that shows nothing old.

    Either way what is drawn in its `container()` has the same path in the page, so that the
    browser changes it in place.
    """
    holder = st.container()
    return holder.empty() if state.waiting(card) else holder


def read_all(state: Session, card: ModelCard, top: DeltaGenerator) -> list[Film]:
    """Have every film read, those that need a look first; say so at the top while it lasts."""
    waiting = state.waiting(card)
    if waiting:
        ready = session.warm_up(card)
        text = "Reading" if ready else "Loading the model; this takes some seconds after a start"
        with top, st.spinner(text):
            for film in waiting:
                session.read(film, card)
    films = list(state.films.values())
    if not readfirst.current().on:  # the order would tell what the model thinks of them
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

    readfirst.seen(
        readfirst.question(digest, card)
        for digest, film in by_digest.items()
        if session.read(film, card).prediction is not None
    )
    order = "in order of arrival" if readfirst.current().on else "flagged first"
    lines = {digest: _film_line(film, card) for digest, film in by_digest.items()}
    st.session_state["film"] = state.chosen
    with st.container(height=190 if len(films) > 6 else "content", key="films", border=False):
        st.radio(
            f"{len(films)} films, {order}",
            list(lines),
            format_func=lines.__getitem__,
            key="film",
            on_change=choose,
        )


def _film_line(film: Film, card: ModelCard) -> str:
    prediction = session.read(film, card).prediction
    if prediction is None:
        return f":gray[No answer] {plain(film.name)}"
    if readfirst.current().hides(readfirst.question(film.radiograph.digest, card)):
        return f":gray[Yours first] {plain(film.name)}"
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
    answers = reading.prediction.labels
    alarm = any(map(words.raises_alarm, answers))
    return (2 if alarm else 1, max(map(_excess, answers))[1])


# --- the answer ---


def answer(card: ModelCard, film: Film, reading: Reading, earlier: Beside | None = None) -> None:
    """Write the answer, large, before anything else but what makes it doubtful altogether.

    Below it stands what changed since a prior film.
    """
    belonging(card)
    said = words.answer_in_words(
        card, reading.gate, reading.prediction, age_stated=film.age_years is not None
    )
    verdict, colon, rest = said.headline.partition(": ")
    lead = f'<p class="lead">{escape(said.lead)}</p>' if said.lead else ""
    report = session.record(card).report
    shortcut = words.shortcut_in_words(card, report) if reading.prediction else []
    told = earlier.told if earlier is not None else ()
    detail = "".join(f"<p>{escape(one)}</p>" for one in (*told, *said.detail, *shortcut))
    change = prior_words.sentence(earlier) if earlier is not None else ""
    unsure = " unsure" if said.unsure else ""
    st.html(
        f'<section class="cxr-answer {said.tone}{unsure}" role="status" aria-label="Answer">'
        f'{lead}<h1><span class="verdict">{escape(verdict)}{colon}</span>{escape(rest)}</h1>'
        f'{change}<div class="detail">{detail}</div></section>'
    )
    mends(film, reading)


def mends(film: Film, reading: Reading) -> None:
    """Offer to undo what the gate found, and to take back what was undone."""
    offered = mend_for(reading.gate)
    if not offered and not film.mended:
        return
    with st.container(horizontal=True, gap="small", key="mends"):
        if offered:
            first, *rest = (one.offer for one in offered)
            title = " and ".join([first, *(offer[0].lower() + offer[1:] for offer in rest)])
            st.button(title, on_click=film.mend, args=(offered,), key="mend")
        if film.mended:
            st.button("Show the film as it came", on_click=film.take_back, type="tertiary")


def basis(
    card: ModelCard, film: Film, reading: Reading, earlier: Beside | None = None
) -> tuple[str | None, Callable[[], None]]:
    """Draw what the answer rests on: findings that changed first, then the most suspicious.

    Returns:
        The label whose evidence is shown, and what completes its bars when all is on screen.
    """
    label = choose_finding(card, reading.prediction)
    complete: Callable[[], None] = lambda: None  # noqa: E731
    if reading.prediction is not None and label is not None:
        answers = sorted(reading.prediction.labels, key=_excess, reverse=True)
        if earlier is not None:
            answers.sort(key=earlier.place)
        complete = bars.draw(card, film, reading, answers, label, earlier)
    facts(film)
    checks(reading.gate)
    return label, complete


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
        key=f"finding-{card.name}-{session.current().chosen}",
    )
    return chosen


# --- what is known of the film ---


def facts(film: Film) -> None:
    """Show what the file says; ask for the age where it is silent."""
    silent = film.radiograph.facts.age_years is None
    left, right = st.columns([5, 2], vertical_alignment="center") if silent else (st, st)
    text = " · ".join([words.facts_in_words(film.radiograph, film.age_years), *film.mended])
    left.html(f'<p class="cxr-note"><strong>{escape(film.name)}</strong><br>{escape(text)}</p>')
    if silent:
        key = f"age-{film.serial}"  # a film that comes back is asked about anew
        right.number_input(
            "Age, years",
            min_value=0.0,
            max_value=MAX_AGE_YEARS,
            value=None,
            step=1.0,
            format="%g",
            placeholder="not stated",
            key=key,
            on_change=_state_age,
            args=(key, film.radiograph.digest),
            persist_state="session",
        )


def _state_age(key: str, digest: str) -> None:
    """Take what the reader says of a film's age.

    Not as a function that knows the film: Streamlit keeps it for as long as the answer, which is
    as long as the tab, and with it the film.
    """
    film = session.current().films.get(digest)
    if film is not None:
        film.state_age(st.session_state[key])


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
