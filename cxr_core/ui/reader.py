"""What the reader makes of an answer: asked for quietly, kept in the site's records.

It is never required, and it changes nothing in the answer. Without records (CXR_RECORDS=off,
or none that can be written) nothing is asked.
"""

from html import escape

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.records import MOST_CHARACTERS, VERDICTS, Opinion, Verdict
from cxr_core.ui import journal, session
from cxr_core.ui.session import Film, Reading
from cxr_core.ui.widgets import plain
from cxr_core.wording import spoken


def opinion(card: ModelCard, film: Film, reading: Reading, label: str | None) -> None:
    """Ask what the reader makes of one finding, and show what was said of this film before."""
    if session.current().unkept:
        st.html(f'<p class="cxr-note">{escape(session.current().unkept)}</p>')
        return
    if reading.prediction is None or label is None or not journal.wanted():
        return
    earlier = journal.opinions(film.radiograph.digest)
    title = f"Your opinion on {spoken(label)}"
    with st.expander(f"{title} ({len(earlier)} so far)" if earlier else title):
        for one in earlier:
            st.html(f'<p class="cxr-note">{escape(in_words(one))}</p>')
        key = f"{film.serial}-{card.name}-{label}-{len(earlier)}"
        verdict = st.segmented_control(
            "The model's answer",
            VERDICTS,
            format_func=lambda one: f"{one[:1].upper()}{one[1:]}",
            key=f"verdict-{key}",
        )
        comment = st.text_input(
            "Comment",
            max_chars=MOST_CHARACTERS,
            placeholder="what you see; no names",
            key=f"comment-{key}",
        )
        said = bool(verdict or comment.strip())
        if st.button("Keep", disabled=not said, key=f"keep-{key}"):
            _keep(card, film, reading, label, verdict, comment.strip())


def in_words(said: Opinion) -> str:
    """Put an opinion in a line: when, of what, what."""
    parts = [said.verdict or "", f'"{said.comment}"' if said.comment else ""]
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
        )
    )
    if problem:
        st.error(plain(problem))
    else:
        st.rerun()
