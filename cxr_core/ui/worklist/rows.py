"""The list as a tired reader wants it: one line for each study, what matters first.

Pure functions: films that came and what a model answered go in, lines in their order and in
words come out. An answer that waits for the reader (`readfirst`) tells nothing here: neither
by a word nor by its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

from cxr_core.classifier import LabelPrediction
from cxr_core.records import Read
from cxr_core.ui import reading as words
from cxr_core.wording import spoken

State = Literal["yours", "flag", "unsure", "refused", "failed", "away", "waiting", "clear"]

# What a line begins with, in the order of the list.
STATES: Mapping[State, str] = {
    "yours": "Yours first",
    "flag": "Flag",
    "unsure": "Cannot tell",
    "refused": "No answer",
    "failed": "Not read",
    "away": "Not read",
    "waiting": "Waiting",
    "clear": "No flag",
}
# What the list can be narrowed to.
GROUPS: Mapping[str, tuple[State, ...]] = {
    "Yours first": ("yours",),
    "Flagged": ("flag",),
    "Cannot tell": ("unsure",),
    "No answer": ("refused",),
    "Not read": ("failed", "away", "waiting"),
    "Not flagged": ("clear",),
}
ANSWERED: tuple[State, ...] = ("flag", "unsure", "clear")
ALL = "All"
VIEWS = ("PA", "AP", None)  # the best first; any other is not frontal
NAMED = 3  # findings that a line names


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One film of the list.

    Attributes:
        digest: Of its file.
        name: Of its file; "" when nobody may keep it.
        at: When it came, UTC, ISO 8601.
        problem: Why it cannot be read; "" when it can, or nobody tried.
        study: What it shares with the other films of its study; its digest when unknown.
        series: The same of its series; "" when unknown.
        view: "PA", "AP", "LL", ..., where the header says so.
        here: Whether it can be opened, or must be dropped again.
        read: What the model answered; None while it has not.
        changed: How it was changed on the reading page before that answer, which is shown there;
            "" for the film as it came.
        hidden: Whether that answer waits for the reader.
        seen: When a reader last looked at it, like `at`; "" for never.
    """

    digest: str
    name: str = ""
    at: str = ""
    problem: str = ""
    study: str = ""
    series: str = ""
    view: str | None = None
    here: bool = False
    read: Read | None = None
    changed: str = ""
    hidden: bool = False
    seen: str = ""

    @property
    def title(self) -> str:
        """What the film is called on screen."""
        return title(self.name, self.digest)

    @property
    def opens(self) -> bool:
        """Whether it can be looked at."""
        return self.here and not self.problem

    @property
    def state(self) -> State:
        """What became of it."""
        if self.problem:
            return "failed"
        if self.read is None:
            return "waiting" if self.here else "away"
        answers = answers_of(self.read)
        if not answers:
            return "refused"
        if self.hidden:
            return "yours"
        if any(map(words.raises_alarm, answers)):
            return "flag"
        return "unsure" if any(one.cannot_tell for one in answers) else "clear"

    @property
    def excess(self) -> float:
        """How far its most suspicious finding lies above its operating point."""
        if self.state not in ANSWERED or self.read is None:
            return 0.0
        return max(map(_margin, answers_of(self.read)))


def title(name: str, digest: str) -> str:
    """Name a film by its file, else by the first digits of its digest."""
    return name or f"Film {digest[:8]}"


@dataclass(frozen=True)
class Row:
    """One line of the list: a study.

    Attributes:
        film: The one that speaks for it.
        others: The rest of its films.
    """

    film: Listed
    others: tuple[Listed, ...] = ()

    @property
    def digests(self) -> set[str]:
        """All of its films."""
        return {one.digest for one in (self.film, *self.others)}


def answers_of(read: Read) -> list[LabelPrediction]:
    """Return the answers of a read; what the network itself put out is not recorded."""
    names = ("label", "probability", "operating_point", "flag", "cannot_tell")
    return [
        LabelPrediction(logit=nan, **{name: one[name] for name in names})
        for one in read.predictions
    ]


def rows(films: Iterable[Listed]) -> list[Row]:
    """Gather films by study and put what matters first; among equals what came first."""
    studies: dict[str, list[Listed]] = {}
    for film in films:
        studies.setdefault(film.study or film.digest, []).append(film)
    found = [_row(one) for one in studies.values()]
    return sorted(found, key=lambda row: weight(row.film))


def _row(films: Sequence[Listed]) -> Row:
    """Let the frontal film speak for a study; of several, the one that matters most."""
    ordered = sorted(films, key=lambda film: film.series)
    best = min(ordered, key=_voice)
    return Row(best, tuple(film for film in ordered if film is not best))


def _voice(film: Listed) -> tuple[int, int, float]:
    """Order the films of a study: what needs a look comes before any view, then the frontal."""
    need = {"flag": 0, "unsure": 1, "refused": 3, "failed": 4}.get(film.state, 2)
    view = VIEWS.index(film.view) if film.view in VIEWS else len(VIEWS)
    return need, view, -film.excess


def weight(film: Listed) -> tuple[int, float]:
    """Order films: the first needs a look first."""
    return list(STATES).index(film.state), -film.excess


def narrowed(found: Sequence[Row], group: str, text: str) -> list[Row]:
    """Return the rows of a group of which a film's name, number or finding holds a text."""
    sought = text.strip().lower()
    states = GROUPS.get(group, tuple(STATES))
    return [
        row
        for row in found
        if row.film.state in states
        and any(sought in _sought(film) for film in (row.film, *row.others))
    ]


def _sought(film: Listed) -> str:
    return f"{film.title} {film.digest} {in_words(film)}".lower()


def counts(found: Sequence[Row]) -> dict[str, int]:
    """Count the rows of each group that has any, and of all."""
    states = [row.film.state for row in found]
    each = {name: sum(map(states.count, group)) for name, group in GROUPS.items()}
    return {ALL: len(states)} | {name: count for name, count in each.items() if count}


# --- in words ---


def in_words(film: Listed) -> str:
    """Say in a line what became of a film."""
    if film.state == "failed":
        return film.problem
    if film.state == "away":
        return "It is not stored here: drop it again to have it read."
    if film.read is None:
        return f"Not read yet {film.changed}: open it." if film.changed else ""
    if film.state == "yours":
        return "Say what you see before the answer is shown."
    if film.state == "refused":
        return _refusal(film.read) + (f" Read {film.changed}." if film.changed else "")
    words_of = _answer(answers_of(film.read)) + (f", read {film.changed}" if film.changed else "")
    return words_of if film.here else f"{words_of}. To look at it, drop it again."


def others_in_words(row: Row) -> str:
    """Name the other films of a study, and what became of them; "" when there are none."""
    if not row.others:
        return ""
    told = [
        f"{film.view or 'view not stated'} ({STATES[film.state].lower()})" for film in row.others
    ]
    films = "film" if len(told) == 1 else "films"
    return f"{len(told)} more {films} of this study: {', '.join(told)}"


def _refusal(read: Read) -> str:
    """Say why a film got no answer; of an age, which the records do not keep, only that."""
    for check in read.gate.get("checks", ()):
        if check["verdict"] == "refuse":
            return check["reason"] or f"The patient's {check['name']} is not one this model knows."
    return "The film was refused."


def _answer(answers: Sequence[LabelPrediction]) -> str:
    """Name what is flagged, else what the model cannot tell, else what is nearest."""
    ordered = sorted(answers, key=_margin, reverse=True)
    alarms = [one for one in ordered if words.raises_alarm(one)]
    named = alarms or [one for one in ordered if one.cannot_tell] or ordered[:1]
    if all(one.operating_point is None for one in answers):  # the largest wins
        named = [max(answers, key=lambda one: one.probability)]
    told = ", ".join(_scored(one, flagged=bool(alarms)) for one in named[:NAMED])
    point = words.told_apart(named[0].probability, named[0].operating_point)[1]
    if len(named) == 1 and point is not None:
        told += f", operating point {point}"
    return told + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")


def _scored(answer: LabelPrediction, *, flagged: bool) -> str:
    """Name a finding and its score; of a flag also that the model cannot tell."""
    doubt = " (cannot tell)" if flagged and answer.cannot_tell else ""
    return f"{spoken(answer.label)} {words.score(answer)}{doubt}"


def _margin(answer: LabelPrediction) -> float:
    return answer.probability - (answer.operating_point or 0.0)
