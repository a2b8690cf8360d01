"""Each label's probability as a bar, and what it rests on.

A bar shows the operating point, the band in which the model cannot tell, and, once the film
is on screen, how far the answer moves when the film is varied a little.
"""

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxr_core import wording
from cxr_core.cards import ModelCard
from cxr_core.classifier import LabelPrediction
from cxr_core.prior import Change
from cxr_core.ui import reading as words
from cxr_core.ui import selection, session
from cxr_core.ui.prior import Beside
from cxr_core.ui.session import Film, Reading, Record

# More findings than this, and only the explained one says what similar films had.
FEW_FINDINGS = 3
Drawn = list[tuple[DeltaGenerator, list[LabelPrediction]]]


ARROWS = {"more": "▲", "less": "▼"}


def draw(
    card: ModelCard,
    film: Film,
    reading: Reading,
    answers: Sequence[LabelPrediction],
    label: str,
    earlier: Beside | None = None,
) -> Callable[[], None]:
    """Draw bars in the order of the answers, and what films that scored alike had.

    Args:
        card: The model that spoke.
        film: On screen.
        reading: What the model made of it.
        answers: All of its answers.
        label: Whose evidence is shown.
        earlier: A prior film, whose answers are marked.

    Returns:
        What draws the bars again with the interval of this film, which costs a moment: to be
        called when everything else is on screen.
    """
    record, few = session.record(card), len(answers) <= FEW_FINDINGS
    with st.container(key="bars"):
        drawn: Drawn = [(st.empty(), [])]
        for one in answers:
            drawn[-1][1].append(one)
            if few or one.label == label:
                _similar(card, record, one)
                drawn.append((st.empty(), []))
    _fill(card, reading, drawn, few, earlier)
    if not few:
        ring = " Ring: the prior film." if earlier and earlier.comparison.changes else ""
        told = f"Tick: operating point. Hatched: cannot tell.{ring}"
        st.html(f'<p class="cxr-note">{told}</p>')
    scale(card, reading, label)

    def complete() -> None:
        if not reading.steadiness:
            session.steady(film, reading, card)
            _fill(card, reading, drawn, few, earlier)

    return complete


def _fill(
    card: ModelCard, reading: Reading, drawn: Drawn, few: bool, earlier: Beside | None
) -> None:
    """Draw the bars in their places."""
    for place, answers in drawn:
        rows = "".join(
            _bar(card, one, reading.steadiness.get(one.label), _change(earlier, one.label))
            for one in answers
        )
        if rows:
            place.html(f'<div class="cxr-bars{"" if few else " many"}" role="list">{rows}</div>')


def _similar(card: ModelCard, record: Record, one: LabelPrediction) -> None:
    """Say what films that scored alike had, and lead to them."""
    said = words.similar_in_words(record.similar(one.label, one.probability))
    asked = selection.similar(card, record.table, one.label, one.probability)
    with st.container(horizontal=True, vertical_alignment="center", key=f"similar-{one.label}"):
        st.html(f'<p class="cxr-similar">{escape(said)}</p>', width="content")
        if asked and st.button("Show these films", key=f"alike-{one.label}", type="tertiary"):
            selection.ask(asked)
            st.switch_page("pages/films.py")


def _bar(
    card: ModelCard,
    one: LabelPrediction,
    steady: tuple[float, float] | None,
    change: Change | None,
) -> str:
    point, band = one.operating_point, card.cannot_tell[card.position(one.label)]
    name, state, number = one.label.replace("_", " "), words.state_word(card, one), words.score(one)
    spoken = f"{name} {number}, {state}"
    marks, below = f'<i class="fill" style="{_across(0, one.probability)}"></i>', ""
    if band is not None:
        marks += f'<i class="band" style="{_across(*band)}"></i>'
        spoken += f", cannot tell from {band[0]:.2f} to {band[1]:.2f}"
    if steady is not None:
        marks += f'<i class="steady" style="{_across(*steady)}"></i>'
        spoken += f", {words.steady_in_words(steady)}"
    was = ""
    if change is not None:
        kind = "changed" if change.changed else "same"
        marks += f'<i class="was {kind}" style="left:{100 * change.before.probability:.2f}%"></i>'
        was, said = _was(change)
        was = f'<span class="was {kind}">{was}</span>'
        spoken += f", {said}"
    if point is not None:
        marks += f'<i class="tick" style="left:{100 * point:.2f}%"></i>'
        below = f"operating point {words.told_apart(one.probability, point)[1]}"
        spoken += f", {below}"
        # The words stay inside the bar where the point lies near an end.
        place = f"left:{100 * min(max(point, 0.14), 0.86):.2f}%"
        below = f'<div class="scale"><span style="{place}">{below}</span></div>'
    return f"""<div class="cxr-bar {"flag" if words.raises_alarm(one) else "clear"}"
        role="listitem" title="{escape(spoken)}">
        <div class="head">
            <span class="name">{escape(name)}</span>
            <span class="state">{escape(state)}</span>{was}
            <span class="number">{escape(number)}</span>
        </div>
        <div class="track">{marks}</div>{below}
    </div>"""


def _change(earlier: Beside | None, label: str) -> Change | None:
    return None if earlier is None else earlier.of(label)


def _was(change: Change) -> tuple[str, str]:
    """Write what a finding was on the prior film: as shown, and as spoken."""
    before = escape(words.score(change.before))
    shown = f"{ARROWS.get(change.verdict, '')} was {before}".strip()
    judged = f"<small>, {change.verdict}</small>" if change.verdict.startswith("within") else ""
    return shown + judged, f"was {before} on the prior film: {change.verdict}"


def _across(start: float, end: float) -> str:
    return f"left:{100 * start:.2f}%;width:{100 * (end - start):.2f}%"


def scale(card: ModelCard, reading: Reading, label: str) -> None:
    """Say on which films the probabilities are honest; let a site state its own prevalence."""
    with st.container(horizontal=True, vertical_alignment="center", key="scale"):
        said = words.calibrated_in_words(card, label)
        st.html(f'<p class="cxr-note">{escape(said)}</p>', width="content")
        there = _ask_prevalence(card, label)
    if there is not None and reading.prediction is not None:
        said = words.elsewhere_in_words(card, reading.prediction.label(label), there / 100)
        st.html(f'<p class="cxr-note">{escape(said)}</p>')


def _ask_prevalence(card: ModelCard, label: str) -> float | None:
    """Ask how many in a hundred have a finding where the film was taken; None while unstated."""
    if not words.can_be_elsewhere(card, label):
        return None
    with st.popover("Prevalence here", type="tertiary"):
        return st.number_input(
            f"Of 100 of your films, how many show {wording.spoken(label)}?",
            min_value=0.1,
            max_value=99.9,
            value=None,
            format="%g",
            placeholder="not stated",
            key=f"prevalence-here-{card.name}-{label}",
            persist_state="session",
        )
