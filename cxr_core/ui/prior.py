"""An earlier film of the patient beside the one on screen, and what changed since.

Both are films of this session, and stay in it. Headers that name one patient offer the
earlier film by themselves; headers that name two are never compared; where they are silent
the reader chooses, and is told that nobody checked. Nothing of an answer is told here that
waits for the reader (`readfirst`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

import numpy as np
import streamlit as st

from cxr_core.cards import ModelCard, model_folder, models_root
from cxr_core.classifier import LabelPrediction
from cxr_core.prior import Change, Comparison, Relation, changes, related, taken_on
from cxr_core.registration import Registration, register
from cxr_core.repeatability import FILE, load_repeatability
from cxr_core.ui import readfirst, session
from cxr_core.ui import reading as words
from cxr_core.ui.canvas import Pane
from cxr_core.ui.session import Film, Session
from cxr_core.wording import spoken

NOBODY = "Nobody checked that both films are of one patient: their headers do not prove it."
ANOTHER = "Not compared: the headers of these two films name different patients."
LATER = "Not compared: that film is the later one. Show it, and this one becomes its prior."
UNDATED = "The headers name one patient, but not which film came first: that is your word."
UNMEASURED = "No change is told: nobody measured how repeatable this model's answers are."
UNREGISTERED = (
    "The films could not be laid over each other reliably: they stand side by side as they are."
)
HIDDEN = "The prior's answer is hidden until you have read that film first, too."
UNDATED_PRIOR = "the prior film"
# Findings that the answer names; the bars tell all.
MOST_NAMED = 2


@dataclass(frozen=True)
class Beside:
    """A prior film, and what became of it.

    Attributes:
        film: The prior.
        when: What to call it: "3 May 2025", or "the prior film".
        registration: How it lies over the film on screen.
        comparison: What changed.
        told: What the reader must know of it, one sentence each.
    """

    film: Film
    when: str
    registration: Registration
    comparison: Comparison
    told: tuple[str, ...] = ()

    def of(self, label: str) -> Change | None:
        """Return what became of a finding; None where nothing is told."""
        return next((one for one in self.comparison.changes if one.label == label), None)

    def place(self, answer: LabelPrediction) -> int:
        """Say where a finding stands among the bars: those that changed come first."""
        changed = [one.label for one in self.comparison.changes if one.changed]
        return changed.index(answer.label) if answer.label in changed else len(changed)


# --- which film ---


def beside(state: Session, film: Film, card: ModelCard) -> Beside | None:
    """Ask which open film is the prior, and compare with it; None where there is none.

    Args:
        state: The films that are open.
        film: On screen.
        card: The model that speaks.
    """
    others = [one for one in state.films.values() if one is not film]
    if not others:
        return None
    chosen = _ask(state, film, others)
    if chosen is None:
        return None
    relation = related(chosen.reference, film.reference)
    refused = {"another patient": ANOTHER, "later": LATER}.get(relation)
    if refused:
        _note(refused)
        return None
    return _compared(state, film, chosen, card, relation)


def suggested(film: Film, others: Sequence[Film]) -> Film | None:
    """Return the latest of the earlier films that are known to be of the same patient."""
    earlier = [one for one in others if related(one.reference, film.reference) == "earlier"]
    return max(earlier, key=_moment, default=None)


def _moment(film: Film) -> tuple[date, str]:
    day = taken_on(film.reference)
    return day or date.min, film.reference.study_time if film.reference else ""


def _ask(state: Session, film: Film, others: Sequence[Film]) -> Film | None:
    """Let the reader choose the prior film; the one that is known stands there already."""
    by_digest = {one.radiograph.digest: one for one in others}
    first = suggested(film, others)
    digest = film.radiograph.digest
    chosen = state.priors.get(digest, first.radiograph.digest if first else None)
    key = f"prior-{film.serial}"
    st.session_state[key] = chosen if chosen in by_digest else None

    def choose() -> None:
        state.priors[digest] = st.session_state[key]

    said = st.selectbox(
        "Compared with the prior film",
        [None, *by_digest],
        format_func=lambda one: "none" if one is None else _line(by_digest[one]),
        key=key,
        on_change=choose,
        filter_mode=None,
        placeholder="none",
    )
    return by_digest.get(said or "")


def _line(film: Film) -> str:
    day = taken_on(film.reference)
    return film.name if day is None else f"{day_in_words(day)}, {film.name}"


def _note(sentence: str) -> None:
    st.html(f'<p class="cxr-note">{sentence}</p>')


# --- what changed ---


def _compared(
    state: Session, film: Film, prior: Film, card: ModelCard, relation: Relation
) -> Beside:
    """Lay both films over each other and compare their answers, as far as both are shown."""
    found = _registered(state, film, prior)
    day = taken_on(prior.reference)
    when = UNDATED_PRIOR if day is None else day_in_words(day)
    told = [{"unchecked": NOBODY, "undated": UNDATED}.get(relation, "")]
    told += [] if found.believed else [UNREGISTERED]
    questions = [readfirst.question(one.radiograph.digest, card) for one in (film, prior)]
    hides = readfirst.current().hides
    if hides(questions[0]):
        return Beside(prior, when, found, Comparison(), _said(told))
    if hides(questions[1]):
        return Beside(prior, when, found, Comparison(), _said([*told, HIDDEN]))
    answers = [session.read(one, card) for one in (prior, film)]
    if answers[0].prediction is not None:
        readfirst.current().known.add(questions[1])
        readfirst.current().stamp(questions[1], "shown", "revealed")
    comparison = changes(card, answers[0].prediction, answers[1].prediction, _limits(card))
    told += [comparison.reason] if comparison.measured else [UNMEASURED]
    return Beside(prior, when, found, comparison, _said(told))


def _said(sentences: Sequence[str]) -> tuple[str, ...]:
    return tuple(filter(None, sentences))


def _registered(state: Session, film: Film, prior: Film) -> Registration:
    """Register two films, once for as long as they stay as they are."""
    key = tuple((one.radiograph.digest, one.mended) for one in (prior, film))
    if key not in state.registrations:
        state.registrations[key] = register(prior.radiograph, film.radiograph)
    return state.registrations[key]


def _limits(card: ModelCard) -> Mapping[str, float]:
    """Return a model's repeatability by label; nothing where nobody measured it."""
    folder = model_folder(card.name)
    files = [folder / FILE, folder / "model.keras"]
    changed = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in files)
    return _limits_of(card.name, card.version, str(models_root()), changed)


@st.cache_data(max_entries=16, show_spinner=False)
def _limits_of(name: str, version: str, root: str, changed: tuple[int, ...]) -> dict[str, float]:
    """Read a public record; `version` and when its files were written part old from new."""
    found = load_repeatability(name, Path(root))
    return {} if found is None else found.limits


def pane_of(found: Beside) -> Pane:
    """Return the view of a prior film: laid over the other where that can be believed."""
    align = np.array(found.registration.matrix) if found.registration.believed else None
    name = f"Prior, {found.when}" if _dated(found) else "Prior"
    return Pane(name, f"Prior chest film {found.film.name}", film=found.film, align=align)


# --- in words ---


def day_in_words(day: date) -> str:
    """Write a day: "3 May 2025"."""
    return f"{day.day} {day:%B} {day.year}"


def in_words(found: Beside) -> str:
    """Say what changed, in a sentence; empty where nothing may be told."""
    told = found.comparison.changes
    if not told or not found.comparison.measured:
        return ""
    changed = [one for one in told if one.changed]
    if not changed:
        that = f"the film of {found.when}" if _dated(found) else found.when
        return f"No change from {that} beyond what the model's own repeatability explains."
    named = "; ".join(_named(one, f"on {found.when}") for one in changed[:MOST_NAMED])
    rest = len(changed) - MOST_NAMED
    return f"{named}{f'; {rest} more changed' if rest > 0 else ''}."


def sentences(found: Beside) -> tuple[str, ...]:
    """Say what changed, and what must be known of it, as it goes into a file."""
    said = in_words(found)
    return (said, *found.told) if said else found.told


def sentence(found: Beside) -> str:
    """Write what changed as HTML below the answer; grey when nothing did."""
    said = in_words(found)
    kind = "changed" if any(one.changed for one in found.comparison.changes) else "same"
    return f'<p class="change {kind}">{escape(said)}</p>' if said else ""


def _dated(found: Beside) -> bool:
    return found.when != UNDATED_PRIOR


def _named(one: Change, when: str) -> str:
    name = spoken(one.label)
    crossed = ""
    if one.crossed:
        crossed = ", now flagged" if one.after.flag else ", no longer flagged"
    return (
        f"{name[:1].upper()}{name[1:]}: {one.verdict} than {when} "
        f"({words.score(one.before)} to {words.score(one.after)}{crossed})"
    )
