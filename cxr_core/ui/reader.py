"""What the reader makes of a film and of its answer: asked for, kept in the site's records.

Afterwards it is asked quietly, and never required; without records (CXR_RECORDS=off, or none
that can be written) nothing is asked. In the mode that reads first (`readfirst`) it is asked
before anything of the answer is on screen. It changes nothing in the answer.
"""

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cxr_core.cards import ModelCard
from cxr_core.classifier import Prediction
from cxr_core.records import (
    CONFIDENCES,
    MOST_CHARACTERS,
    STANCES,
    VERDICTS,
    Opinion,
    Stance,
    Verdict,
)
from cxr_core.ui import access, arrivals, canvas, journal, readfirst, session
from cxr_core.ui.bars import FEW_FINDINGS
from cxr_core.ui.canvas import Pane
from cxr_core.ui.fragments import fragment
from cxr_core.ui.prior import Beside, pane_of
from cxr_core.ui.readfirst import Committed, question
from cxr_core.ui.session import Film, Reading, Session
from cxr_core.ui.widgets import (
    choose_model,
    facts,
    failures,
    intake,
    plain,
    welcome,
)
from cxr_core.wording import means_absence, spoken

UNSURE = "unsure"


def arrive() -> Session:
    """Return this reader's session, with what was dropped since the page last ran."""
    state = session.current()
    if uploads := arrivals.collect("read"):
        state.take(uploads)
    return state


def who_speaks(cards: Sequence[ModelCard]) -> ModelCard:
    """Ask which model speaks, and whether it or the reader speaks first."""
    left, right = st.columns([3, 1.2], vertical_alignment="bottom")
    with right:
        readfirst.switch()
    with left:
        return choose_model(cards)


def invite(state: Session, cards: Sequence[ModelCard]) -> None:
    """Ask for the first film, and say which model will speak of it."""
    left, right = st.columns([3, 2], gap="large")
    with right:
        card = who_speaks(cards)
        welcome(card)
    session.warm_up(card)
    with left:
        intake(state, large=True)
        failures(state)


# --- before the answer ---


def first(
    card: ModelCard,
    film: Film,
    reading: Reading,
    places: Sequence[DeltaGenerator],
    earlier: Beside | None = None,
) -> bool:
    """Let the reader speak first, where the mode asks for it; say whether the answer waits.

    A refusal has nothing to hide.

    Args:
        card: The model whose answer may wait.
        film: On screen.
        reading: What may wait; nothing of it is drawn here.
        places: Above, beside and below it: for the question, the grid and the film.
        earlier: A prior film, which stands beside it without its answer.
    """
    state, asked = readfirst.current(), question(film.radiograph.digest, card)
    if reading.prediction is None:
        state.stamp(asked, "shown")
        return False
    if not state.hides(asked):
        state.known.add(asked)
        state.stamp(asked, "shown", "revealed")
        return False
    _ask(card, film, reading, [place.container() for place in places], earlier)
    state.stamp(asked, "shown")
    return True


def _ask(
    card: ModelCard,
    film: Film,
    reading: Reading,
    places: Sequence[DeltaGenerator],
    earlier: Beside | None,
) -> None:
    """Show the film, and a prior one beside it, and ask what the reader sees."""
    above, beside, stage = places
    told = () if earlier is None else earlier.told
    with above:
        st.html(
            '<section class="cxr-answer" role="status" aria-label="Read first">'
            '<h1><span class="verdict">Yours first.</span>What do you see?</h1>'
            '<div class="detail"><p>The model\'s answer is shown once you have said it.</p>'
            f"{''.join(f'<p>{escape(one)}</p>' for one in told)}</div></section>"
        )
    with beside:
        fragment(_grid)(card, film, reading)
        facts(film)
    with stage:
        prior = [] if earlier is None else [pane_of(earlier)]
        name = "This film" if prior else "Original"
        canvas.show(film, [Pane(name, f"Chest film {film.name}"), *prior], None, None)


def _grid(card: ModelCard, film: Film, reading: Reading) -> None:
    """Ask for every finding and for the reader's confidence; nothing is chosen beforehand."""
    key = f"first-{film.serial}-{card.name}"
    with st.container(key="first"):
        if card.activation == "softmax":
            stances = _ask_which(card, key)
        else:
            stances = _ask_each(card, key)
        with st.container(horizontal=True, vertical_alignment="center", key="first-sure"):
            st.html("<p>How sure are you?</p>", width=170)
            confidence = st.segmented_control(
                "How sure are you, from 1 (a guess) to 5 (certain)",
                CONFIDENCES,
                key=f"{key}-sure",
                label_visibility="collapsed",
            )
            st.html('<p class="cxr-note">1 a guess, 5 certain</p>', width="content")
        left = len(card.labels) - len(stances)
        ready = not left and confidence is not None
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Show the answer", type="primary", disabled=not ready, key=f"{key}-show"):
                _commit(card, film, reading, Committed(stances, int(confidence or 0)))
            if left and len(card.labels) > FEW_FINDINGS and card.activation != "softmax":
                st.button("The rest is absent", on_click=_rest_absent(card, key), type="tertiary")
            if not ready:
                st.html(f'<p class="cxr-note">{_missing(left, card)}</p>', width="content")


def _ask_each(card: ModelCard, key: str) -> dict[str, Stance]:
    """Ask of each finding whether it is there."""
    stances: dict[str, Stance] = {}
    for label in card.labels:
        with st.container(horizontal=True, vertical_alignment="center", key=f"row-{label}"):
            st.html(f"<p>{escape(label.replace('_', ' '))}</p>", width=170)
            said = st.segmented_control(
                label.replace("_", " "),
                STANCES,
                format_func=str.capitalize,
                key=f"{key}-{label}",
                label_visibility="collapsed",
            )
        if said is not None:
            stances[label] = said
    return stances


def _ask_which(card: ModelCard, key: str) -> dict[str, Stance]:
    """Ask which of labels that exclude each other it is."""
    said = st.segmented_control(
        "Which is it?",
        [*card.labels, UNSURE],
        format_func=lambda one: "Unsure" if one == UNSURE else one.replace("_", " "),
        key=f"{key}-which",
    )
    if said is None:
        return {}
    if said == UNSURE:
        return dict.fromkeys(card.labels, "unsure")
    return {label: "present" if label == said else "absent" for label in card.labels}


def _rest_absent(card: ModelCard, key: str) -> Callable[[], None]:
    """Call every finding absent of which nothing was said yet, when the reader says so."""

    def call() -> None:
        said: list[Stance] = []
        for label in sorted(card.labels, key=means_absence):  # those that say "nothing" come last
            if st.session_state.get(f"{key}-{label}") is None:
                rest: Stance = _nothing_found(said) if means_absence(label) else "absent"
                st.session_state[f"{key}-{label}"] = rest
            said.append(st.session_state[f"{key}-{label}"])

    return call


def _nothing_found(said: Sequence[Stance]) -> Stance:
    """Say whether nothing was found, from what was said of every finding."""
    if "present" in said:
        return "absent"
    return "unsure" if "unsure" in said else "present"


def _missing(left: int, card: ModelCard) -> str:
    if not left:
        return "Say how sure you are."
    if left == len(card.labels):
        return "Nothing is chosen beforehand."
    return f"{left} finding{'s' * (left > 1)} left."


def _commit(card: ModelCard, film: Film, reading: Reading, said: Committed) -> None:
    """Keep what the reader said, then let the answer be shown."""
    if reading.prediction is None:
        return
    who = access.visitor()
    if not who.reader:
        st.rerun()  # the sign-in has ended meanwhile, which a fragment does not see
    state, asked = readfirst.current(), question(film.radiograph.digest, card)
    before = state.from_before(asked)
    opinions = [
        Opinion(
            digest=film.radiograph.digest,
            label=answer.label,
            stance=said.stances[answer.label],
            confidence=said.confidence,
            before=before,
            model=card.name,
            version=card.version,
            probability=answer.probability,
            flag=answer.flag,
            test_film=film.test_film,
            reader=who.name,
        )
        for answer in reading.prediction.labels
    ]
    session.current().unkept = journal.keep(*opinions)
    state.committed[asked] = said
    state.known.add(asked)
    st.rerun()


# --- after the answer ---


def compared_in_words(said: Committed, prediction: Prediction) -> str:
    """Say where a reader who read first and the model differ."""
    if len(prediction.labels) == 1:
        (one,) = prediction.labels
        model = "flags it" if one.flag else "does not flag it"
        return (
            f"You said {said.stances[one.label]}, sure {said.confidence} of 5; the model {model}."
        )
    groups: dict[str, list[str]] = {
        "You see, the model does not": [],
        "The model flags, you do not": [],
        "You were not sure": [],
        "The model never flags, for want of an operating point": [],
    }
    here, flagged, unsure, never = groups.values()
    points = any(one.operating_point is not None for one in prediction.labels)
    for one in prediction.labels:
        stance = said.stances[one.label]
        if points and one.operating_point is None:
            never.append(spoken(one.label))
        elif stance == "unsure":
            unsure.append(spoken(one.label))
        elif one.flag != (stance == "present"):
            (flagged if one.flag else here).append(spoken(one.label))
    same = len(prediction.labels) - sum(map(len, groups.values()))
    told = [f"You and the model say the same of {same} of {len(prediction.labels)} findings"]
    told += [f"{name}: {', '.join(labels)}" for name, labels in groups.items() if labels]
    return "; ".join(told) + f". You were sure {said.confidence} of 5."


def opinion(card: ModelCard, film: Film, reading: Reading, label: str | None) -> None:
    """Ask what the reader makes of one finding, and show what was said of this film before."""
    said_first = readfirst.current().committed.get(question(film.radiograph.digest, card))
    if said_first is not None and reading.prediction is not None:
        told = compared_in_words(said_first, reading.prediction)
        st.html(f'<p class="cxr-note"><strong>{escape(told)}</strong></p>')
    if session.current().unkept:
        st.html(f'<p class="cxr-note">{escape(session.current().unkept)}</p>')
        return
    if reading.prediction is None or label is None or not journal.wanted():
        return
    earlier = journal.opinions(film.radiograph.digest)
    title = f"Your opinion on {spoken(label)}"
    with st.expander(
        f"{title} ({len(earlier)} so far)" if earlier else title, expanded=said_first is not None
    ):
        for one in earlier:
            st.html(f'<p class="cxr-note">{escape(in_words(one))}</p>')
        key = f"{film.serial}-{card.name}-{label}-{len(earlier)}"
        verdict = st.segmented_control(
            "The model's answer",
            VERDICTS,
            format_func=lambda one: f"{one[:1].upper()}{one[1:]}",
            key=f"verdict-{key}",
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            comment = st.text_input(
                "Comment",
                max_chars=MOST_CHARACTERS,
                placeholder="what you see; no names",
                key=f"comment-{key}",
            )
            said = bool(verdict or comment.strip())
            kept = st.button("Keep", disabled=not said, key=f"keep-{key}")
        if kept:
            _keep(card, film, reading, label, verdict, comment.strip())


def in_words(said: Opinion) -> str:
    """Put an opinion in a line: when, of what, what."""
    first = f"{said.stance} (before the answer, sure {said.confidence} of 5)" if said.stance else ""
    parts = [first, said.verdict or "", f'"{said.comment}"' if said.comment else ""]
    when = said.at[:16].replace("T", " ")
    return f"{when} UTC, {spoken(said.label)}: {', '.join(part for part in parts if part)}"


def _keep(
    card: ModelCard, film: Film, reading: Reading, label: str, verdict: Verdict | None, comment: str
) -> None:
    """Write it down, and show it among those said; or say why it could not be kept."""
    if reading.prediction is None:
        return
    answer = reading.prediction.label(label)
    problem = journal.keep(
        Opinion(
            digest=film.radiograph.digest,
            label=label,
            model=card.name,
            version=card.version,
            probability=answer.probability,
            flag=answer.flag,
            verdict=verdict,
            comment=comment,
            test_film=film.test_film,
            reader=access.visitor().name,
        )
    )
    if problem:
        st.error(plain(problem))
    else:
        st.rerun()
