"""Reading first: the reader commits to what a film shows before the model's answer is shown.

Off unless asked for, here or by the site (CXR_READ_FIRST=1). What one reader has seen and
committed to belongs to that reader's session; a film that comes back in another session is
to be read first again, but what is said of it then is not from before the answer, where the
records know that this reader had seen it. When a film was shown, an answer revealed and an
opinion kept is written into the site's records.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import streamlit as st

from cxr_core.cards import ModelCard
from cxr_core.records import Event, Stance
from cxr_core.records.entries import What
from cxr_core.ui import access, journal

ENVIRONMENT = "CXR_READ_FIRST"


class Question(NamedTuple):
    """A film, and the model that is asked about it."""

    digest: str
    model: str
    version: str


@dataclass(frozen=True)
class Committed:
    """What a reader said before the answer: of every finding, and how sure (1 to 5)."""

    stances: Mapping[str, Stance]
    confidence: int


@dataclass
class ReadFirst:
    """How one reader reads.

    Attributes:
        on: Whether answers wait for the reader.
        known: Of which films this reader has seen the answer here.
        told: Of which films it stood on another page before, as in the gallery of test films:
            what is said of them is not from before the answer.
        committed: What the reader said before.
        stamped: What the records were told already.
    """

    on: bool
    known: set[Question] = field(default_factory=set)
    told: set[Question] = field(default_factory=set)
    committed: dict[Question, Committed] = field(default_factory=dict)
    stamped: set[tuple[What, Question]] = field(default_factory=set)

    def hides(self, asked: Question) -> bool:
        """Say whether an answer must not be on screen yet."""
        return self.on and asked not in self.known

    def from_before(self, asked: Question) -> bool:
        """Say whether what is said now is from before the answer, as far as anybody knows.

        The answer may have stood on another page, or before this reader in an earlier session.
        """
        return asked not in self.told and not journal.revealed(
            asked.digest, asked.model, access.visitor().name
        )

    def stamp(self, asked: Question, *happened: What) -> None:
        """Tell the records, once a session, that a film was shown or its answer revealed."""
        news = [what for what in happened if (what, asked) not in self.stamped]
        if news:
            self.stamped |= {(what, asked) for what in news}
            who = access.visitor().name
            journal.keep(*(Event(what=what, reader=who, **asked._asdict()) for what in news))


def current() -> ReadFirst:
    """Return how this reader reads, made on first use as the site says."""
    state = st.session_state
    if "read-first" not in state:
        state["read-first"] = ReadFirst(os.environ.get(ENVIRONMENT, "") == "1")
    found: ReadFirst = state["read-first"]
    return found


def question(digest: str, card: ModelCard) -> Question:
    """Name a film and the model that is asked about it."""
    return Question(digest, card.name, card.version)


def seen(questions: Iterable[Question]) -> None:
    """Note that these answers are on screen, unless they wait for the reader."""
    state = current()
    if not state.on:
        state.known.update(questions)


def switch() -> None:
    """Offer to read first."""
    state = current()
    key = "read-first-switch"

    def follow() -> None:
        state.on = st.session_state[key]

    st.session_state[key] = state.on
    st.toggle(
        "Read first",
        key=key,
        on_change=follow,
        help="You say what you see; then the model's answer is shown. Both are kept.",
    )
