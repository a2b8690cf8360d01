"""Which test films stand behind a number: what is asked for, and which films that means.

Tables of predictions go in, positions of films and words come out: nothing here reads a film
or draws. What is asked for is a value (`Asked`) that a link can hold, so that the same link
shows the same films. Only `ask` knows the session: it leaves word for the page that shows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cxr_core.cards import ModelCard
from cxr_core.errors import ArgumentError, UnknownName
from cxr_core.predictions import GROUPINGS, PredictionTable, group_names, groupings
from cxr_core.ui.journal import COMMENTED, Remarks
from cxr_core.ui.numerals import probability
from cxr_core.ui.reading import HARMLESS, told_apart
from cxr_core.wording import spoken

Choice = str | tuple[str, str]
"""A cell, or what is true and what was said."""
Group = tuple[str, str]
"""What films are grouped by, and the name of one group."""

CELLS = {
    "fn": "Missed",
    "fp": "Flagged wrongly",
    "tp": "Found",
    "tn": "Rightly not flagged",
    "all": "All films",
}
# For labels that say that all is well, of which a flag is good news.
CALLED_NORMAL = {
    "fn": "Not called normal, though normal",
    "fp": "Called normal, though not",
    "tp": "Rightly called normal",
    "tn": "Rightly not called normal",
}
# For other labels of which the largest score wins.
CALLED = {"fp": "Called wrongly", "tp": "Called rightly", "tn": "Rightly not called"}
ORDERS = ("wrong", "right", "high", "low", "file")
# What a reader may have said of a film, and how that reads behind "of them".
REMARKS = {
    "": "",
    COMMENTED: "drew a reader's comment",
    "agree": "had a reader agree",
    "disagree": "had a reader disagree",
    "changed my mind": "changed a reader's mind",
}
PAGE = 24  # films on one page
NEWS = "asked"  # where word is left for the page


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The films that someone wants to see.

    Attributes:
        model: Name of the model that scored them.
        label: The finding they were scored for.
        cell: "tp", "fp", "fn" or "tn" of that label, or "all".
        truth: What is true of them, for exclusive labels; goes with `said`.
        said: What the model says of them; `cell` is then "all", and the score shown is that
            of `said`.
        threshold: The score from which a film is flagged; None for the model's own rule.
        low: The lowest score wanted, in [0, 1].
        high: The highest score wanted, in [0, 1].
        group: One group of films, as `predictions.subgroups` names it: ("sex", "F").
        text: What the patient or the file name must hold, in any case.
        remark: What a reader must have said of them, one of `REMARKS`; "" for whatever.
        order: "wrong" (most confidently wrong first), "right", "high", "low" or "file".
        page: Which page of them, from 1.
    """

    model: str
    label: str
    cell: str = "all"
    truth: str | None = None
    said: str | None = None
    threshold: float | None = None
    low: float = 0.0
    high: float = 1.0
    group: Group | None = None
    text: str = ""
    remark: str = ""
    order: str = "wrong"
    page: int = 1

    def __post_init__(self) -> None:
        """Refuse what could mean no film, or several sets of them.

        Raises:
            UnknownName: On a cell, order or grouping that does not exist.
            ArgumentError: On numbers out of range, or parts that contradict each other.
        """
        _require_one_of("cell", self.cell, CELLS)
        _require_one_of("order", self.order, ORDERS)
        _require_one_of("remark", self.remark, REMARKS)
        if self.group is not None:
            _require_one_of("grouping", self.group[0], GROUPINGS)
        for name in ("threshold", "low", "high"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(f"{name} must lie in [0, 1], but {value} came.")
        if self.low > self.high:
            raise ArgumentError(
                f"low must not exceed high, but {self.low} and {self.high} came: swap them."
            )
        if self.page < 1:
            raise ArgumentError(f"page must be at least 1, but {self.page} came.")
        if (self.truth is None) != (self.said is None):
            raise ArgumentError("truth and said go together: name both, or neither.")
        if self.said is not None and (self.cell != "all" or self.threshold is not None):
            raise ArgumentError(
                "truth and said already name a cell of the matrix: leave out cell and threshold."
            )

    @property
    def scored(self) -> str:
        """The label whose score is shown."""
        return self.said or self.label

    @property
    def choice(self) -> Choice:
        """The cell that is wanted, or the pair."""
        return self.cell if self.truth is None or self.said is None else (self.truth, self.said)

    def choosing(self, choice: Choice) -> "Asked":
        """Return the same for another cell or pair, from its first page."""
        if isinstance(choice, str):
            return replace(self, cell=choice, truth=None, said=None, label=self.scored, page=1)
        truth, said = choice
        return replace(self, cell="all", truth=truth, said=said, threshold=None, page=1)


def ask(asked: Asked) -> None:
    """Leave word which films the page "pages/films.py" shall show; switch to it then."""
    st.session_state[NEWS] = asked


# --- what fits a model ---


def first(card: ModelCard) -> Asked:
    """Return what is shown when nobody asked: what was missed, where anything decides."""
    return _of_label(card, card.labels[0], "fn")


def turned(asked: Asked, card: ModelCard, label: str | None = None) -> Asked:
    """Ask the same of another model or label; scores and groups may differ, so all are shown.

    Args:
        asked: What was asked before.
        card: The model's.
        label: One of its labels; None for the same as before, if the model answers it.
    """
    if label is None:
        label = asked.scored if asked.scored in card.labels else card.labels[0]
    cell = asked.cell if asked.said is None else "fn"
    return replace(_of_label(card, label, cell), order=asked.order)


def _of_label(card: ModelCard, label: str, cell: str) -> Asked:
    asked = Asked(model=card.name, label=label)
    decides = card.activation == "softmax" or point(asked, card) is not None
    return replace(asked, cell=cell if decides else "all")


def require_fitting(asked: Asked, card: ModelCard) -> None:
    """Refuse what a model cannot answer.

    Raises:
        UnknownName: On a label that it does not answer.
        ArgumentError: When nothing decides into which cell a film falls, or when truth and
            said are asked of labels that do not exclude each other.
    """
    for label in (asked.label, asked.truth, asked.said):
        if label is not None:
            card.position(label)
    if card.activation == "softmax":
        return
    if asked.said is not None:
        raise ArgumentError(
            f"Several labels of {card.name} may hold at once: ask for cell tp, fp, fn or tn of "
            "one label instead of truth and said."
        )
    if asked.cell != "all" and point(asked, card) is None:
        raise ArgumentError(
            f"{asked.label} has no operating point in {card.name}, so no film is flagged: ask for "
            "cell all, or give a threshold."
        )


def point(asked: Asked, card: ModelCard) -> float | None:
    """Return the score from which a film is flagged; None where no threshold decides."""
    if asked.threshold is not None:
        return asked.threshold
    return card.operating_points[card.position(asked.scored)]


# --- links ---


def to_parameters(asked: Asked) -> dict[str, str]:
    """Write what is asked as the parameters of a link; what is left out is the default."""
    found = {"model": asked.model, "label": asked.label}
    if asked.said is None:
        found["cell"] = asked.cell
    for field in fields(asked):
        value = getattr(asked, field.name)
        if field.name not in {*found, "cell", "group"} and value != field.default:
            found[field.name] = str(value)  # of a float, every digit
    if asked.group is not None:
        found["by"], found["group"] = asked.group
    return found


PARAMETERS = {field.name for field in fields(Asked)} | {"by"}


def from_parameters(told: Mapping[str, str], cards: Sequence[ModelCard]) -> Asked:
    """Read the parameters of a link; what is left out is the default.

    Raises:
        UnknownName: On a name that does not exist.
        ArgumentError: On a value outside what is allowed.
    """
    card = named(cards, told.get("model", cards[0].name))
    start = turned(first(card), card, told.get("label"))
    given: dict[str, Any] = {
        name: told[name]
        for name in ("cell", "truth", "said", "text", "remark", "order")
        if name in told
    }
    if "said" in given:
        given.setdefault("cell", "all")
    for name in ("threshold", "low", "high"):
        if name in told:
            given[name] = _number(name, told[name])
    if "page" in told:
        given["page"] = _whole("page", told["page"])
    if ("by" in told) != ("group" in told):
        raise ArgumentError("by and group go together, as in by=sex and group=F.")
    if "by" in told:
        given["group"] = (told["by"], told["group"])
    return replace(start, **given)


def named(cards: Sequence[ModelCard], name: str) -> ModelCard:
    """Return the card of a model.

    Raises:
        UnknownName: When there is no such model.
    """
    by_name = {card.name: card for card in cards}
    _require_one_of("model", name, by_name)
    return by_name[name]


def _require_one_of(kind: str, name: str, allowed: Any) -> None:
    if name not in allowed:
        raise UnknownName(kind, name, allowed)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ArgumentError(f"{name} must be a number from 0 to 1, but '{text}' came.") from error


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ArgumentError(f"{name} must be a whole number from 1, but '{text}' came.") from error


# --- which films ---


@dataclass(frozen=True, eq=False)
class Standing:
    """How N films stand to one label.

    Attributes:
        truth: bool (N,), which have it.
        scores: float64 (N,) in [0, 1].
        bar: float64 (N,), what each score is held against: the threshold, or the largest
            score of another label.
        flagged: bool (N,); None where nothing decides.
    """

    truth: NDArray[np.bool_]
    scores: NDArray[np.float64]
    bar: NDArray[np.float64]
    flagged: NDArray[np.bool_] | None

    def cells(self) -> dict[Choice, NDArray[np.bool_]]:
        """Return the films (N,) of every cell; where nothing decides, of all only."""
        everyone = np.ones(self.truth.size, bool)
        if self.flagged is None:
            return {"all": everyone}
        return {
            "fn": self.truth & ~self.flagged,
            "fp": ~self.truth & self.flagged,
            "tp": self.truth & self.flagged,
            "tn": ~self.truth & ~self.flagged,
            "all": everyone,
        }

    def wrongness(self) -> NDArray[np.float64]:
        """Return how far each score lies on the wrong side of its bar; below 0 when right."""
        return np.where(self.truth, self.bar - self.scores, self.scores - self.bar)


def standing(asked: Asked, card: ModelCard, table: PredictionTable) -> Standing:
    """Hold every film of a table against what decides for the label that is shown."""
    column = table.labels.index(asked.scored)
    truth, scores = table.y_true[:, column] == 1, table.y_score[:, column]
    limit = point(asked, card)
    if limit is not None:
        return Standing(truth, scores, np.full(scores.size, limit), scores >= limit)
    if card.activation != "softmax":
        return Standing(truth, scores, np.full(scores.size, 0.5), None)
    bar = np.delete(table.y_score, column, axis=1).max(axis=1)
    if asked.truth is not None and asked.truth != asked.said:
        bar = table.y_score[:, table.labels.index(asked.truth)]
    return Standing(truth, scores, bar, table.y_score.argmax(axis=1) == column)


def films_by_choice(
    asked: Asked, card: ModelCard, table: PredictionTable
) -> dict[Choice, NDArray[np.bool_]]:
    """Return the films (N,) of every cell and, for exclusive labels, of every pair."""
    found = standing(asked, card, table).cells()
    if card.activation == "softmax":
        true, said = table.y_true.argmax(axis=1), table.y_score.argmax(axis=1)
        for row, truth in enumerate(table.labels):
            for column, label in enumerate(table.labels):
                found[truth, label] = (true == row) & (said == column)
    return found


def groups(table: PredictionTable) -> list[Group]:
    """List the groups that a table tells apart, in order; none where there is but one."""
    return [(by, name) for by in groupings(table) for name in sorted(set(group_names(table, by)))]


def in_group(table: PredictionTable, group: Group | None) -> NDArray[np.bool_]:
    """Return which films (N,) belong to a group; all to None.

    Raises:
        UnknownName: On a group of which there is no film.
        ArgumentError: When the table does not record what to group by.
    """
    if group is None:
        return np.ones(len(table.files), bool)
    by, name = group
    names = group_names(table, by)
    _require_one_of(f"group by {by}", name, set(names))
    return np.array([one == name for one in names])


@dataclass(frozen=True, eq=False)
class Selection:
    """The films that were asked for.

    Attributes:
        asked: What was asked.
        standing: How all N films of the table stand.
        rows: Positions of the films in the table, in the order asked for.
        counts: Films of every cell and pair within the group, before scores and text narrow.
        films: How many films the group has.
        positives: How many of these have the finding; of a pair, how many have what is true.
    """

    asked: Asked
    standing: Standing
    rows: NDArray[np.intp]
    counts: dict[Choice, int]
    films: int
    positives: int

    @property
    def pages(self) -> int:
        """How many pages the films fill, at least 1."""
        return max(1, -(-len(self.rows) // PAGE))

    def shown(self) -> NDArray[np.intp]:
        """Return the films of the page that was asked for.

        Raises:
            ArgumentError: When there are not as many pages.
        """
        if self.asked.page > self.pages:
            raise ArgumentError(
                f"There is no page {self.asked.page} of these films; the last is {self.pages}."
            )
        start = PAGE * (self.asked.page - 1)
        return self.rows[start : start + PAGE]


def select(
    asked: Asked, card: ModelCard, table: PredictionTable, remarks: Remarks | None = None
) -> Selection:
    """Find the films that were asked for.

    Args:
        asked: Which.
        card: The model's.
        table: Its films.
        remarks: What readers said of them, where that is known.

    Raises:
        UnknownName: On a group of which there is no film.
        ArgumentError: When the table does not record what to group by.
    """
    stands, members = standing(asked, card, table), in_group(table, asked.group)
    by_choice = films_by_choice(asked, card, table)
    wanted = by_choice[asked.choice] & members
    wanted &= (stands.scores >= asked.low) & (stands.scores <= asked.high)
    wanted &= _matching(table, asked.text)
    if asked.remark:
        told = remarks or {}
        wanted &= np.array([asked.remark in told.get(file, ()) for file in table.files])
    rows = np.flatnonzero(wanted)
    files = np.array(table.files)[rows]
    keys = {
        "wrong": -stands.wrongness(),
        "right": stands.wrongness(),
        "high": -stands.scores,
        "low": stands.scores,
        "file": np.zeros(stands.scores.size),
    }
    truth = table.y_true[:, table.labels.index(asked.truth or asked.label)] == 1
    return Selection(
        asked,
        stands,
        rows[np.lexsort((files, keys[asked.order][rows]))],
        {choice: int((films & members).sum()) for choice, films in by_choice.items()},
        int(members.sum()),
        int((truth & members).sum()),
    )


def _matching(table: PredictionTable, text: str) -> NDArray[np.bool_]:
    wanted = text.strip().casefold()
    held = zip(table.patients, table.files, strict=True)
    return np.array([any(wanted in name.casefold() for name in names) for names in held])


def similar(
    card: ModelCard, table: PredictionTable, label: str, score: float, k: int = 100
) -> Asked | None:
    """Ask for the films that `evaluation.similar_scores` counts; None when it counts none."""
    scores = table.y_score[:, table.labels.index(label)]
    distance = np.abs(scores - score)
    reach = min(float(np.sort(distance)[min(k, distance.size) - 1]), 0.05)
    near = scores[distance <= reach]
    if not near.size:
        return None
    low, high = float(near.min()), float(near.max())
    return Asked(model=card.name, label=label, low=low, high=high, order="high")


# --- in words ---


def cell_names(label: str) -> dict[str, str]:
    """Name the cells of a label, "fn" to "tn", and "all"."""
    return CELLS | (CALLED_NORMAL if spoken(label) in HARMLESS else {})


def choice_name(choice: Choice, card: ModelCard, label: str) -> str:
    """Name a cell of a label or a pair, for a list to choose from."""
    if isinstance(choice, str):
        largest_wins = card.activation == "softmax" and spoken(label) not in HARMLESS
        return (CELLS | CALLED if largest_wins else cell_names(label))[choice]
    truth, said = map(spoken, choice)
    return _sentence(f"{truth}, called {'that' if said == truth else said}")


def order_name(order: str, choice: Choice) -> str:
    """Name an order of films, as it reads for those of a cell or a pair."""
    right = choice in {"tp", "tn"} or (not isinstance(choice, str) and choice[0] == choice[1])
    names = {
        "wrong": "Nearly wrong first" if right else "Most confidently wrong first",
        "right": "Nearly right first" if not right else "Most confidently right first",
        "high": "Highest score first",
        "low": "Lowest score first",
        "file": "By file name",
    }
    if choice == "all":
        names["right"] = "Most confidently right first"
    return names[order]


def group_name(group: Group) -> str:
    """Name a group: "view PA", "sex F", "age 18 to 39"."""
    return " ".join(group)


def in_words(found: Selection, card: ModelCard, split: str = "test") -> str:
    """Say in one line which films these are, among how many, and in what order."""
    asked = found.asked
    finding = spoken(asked.label)
    order = order_name(asked.order, asked.choice)
    who = f" ({group_name(asked.group)})" if asked.group else ""
    if asked.choice == "all":
        films = _count(found.films, f"{split} film")
        said = f"{films}{who}, {found.positives} {_having(card, finding)}."
    else:
        said = f"{_cell_in_words(found, card, who)}."
    return f"{said}{_narrowed(found, card)} {order}."


def _cell_in_words(found: Selection, card: ModelCard, who: str) -> str:
    """Say how many of which films the matrix counts in this cell."""
    asked, limit = found.asked, point(found.asked, card)
    having = asked.said is not None or asked.cell in {"tp", "fn"}
    among = found.positives if having else found.films - found.positives
    finding = spoken(asked.truth or asked.label)
    counted = found.counts[asked.choice]
    films = f"{counted or 'None'} of {_films(among, card, finding, having)}{who}"
    were = "was" if counted == 1 else "were"
    if asked.said is not None:
        what = "that" if asked.said == asked.truth else spoken(asked.said)
        return f"{films} {were} called {what}"
    flagged = asked.cell in {"tp", "fp"}
    if limit is None:  # the largest score decides
        return f"{films} {were}{'' if flagged else ' not'} called {'that' if having else finding}"
    kind = "operating point" if asked.threshold is None else "threshold"
    side = "at or above" if flagged else "below"
    verdict = cell_names(asked.label)[asked.cell].lower()
    return f"{films} scored {side} the {kind} {probability(limit)}: {verdict}"


def _films(number: int, card: ModelCard, finding: str, having: bool) -> str:
    """Count films of one kind: "3 films with pneumonia", "1 normal film"."""
    kind = _having(card, finding, having)
    if card.activation != "softmax" and finding in HARMLESS:
        return _count(number, f"{kind} film")
    return f"{_count(number, 'film')} {kind}"


def _having(card: ModelCard, finding: str, having: bool = True) -> str:
    if card.activation == "softmax":
        return f"{'' if having else 'not '}labelled {finding}"
    if finding in HARMLESS:
        return "normal" if having else "abnormal"
    return f"{'with' if having else 'without'} {finding}"


def _narrowed(found: Selection, card: ModelCard) -> str:
    """Say how many films remain once scores and text have narrowed them; "" when they do not."""
    asked, number = found.asked, len(found.rows)
    clauses = []
    if (asked.low, asked.high) != (0.0, 1.0):
        clauses.append(f"scored {probability(asked.low)} to {probability(asked.high)}")
    if asked.text.strip():
        clauses.append(f"{'matches' if number == 1 else 'match'} '{asked.text.strip()}'")
    if asked.remark:
        clauses.append(REMARKS[asked.remark])
    if not clauses:
        return ""
    also = ""
    if asked.choice == "all" and number:
        having = int(found.standing.truth[found.rows].sum())
        also = f", {having} {_having(card, spoken(asked.label))}"
    return f" {number or 'None'} of them {' and '.join(clauses)}{also}."


def truth_in_words(found: Selection, card: ModelCard, table: PredictionTable, row: int) -> str:
    """Say what is true of one film and, where the largest score decides, what it was called."""
    if card.activation != "softmax":
        having = bool(found.standing.truth[row])
        return _sentence(_having(card, spoken(found.asked.scored), having))
    both = (table.labels[values[row].argmax()] for values in (table.y_true, table.y_score))
    truth, said = map(spoken, both)
    return _sentence(f"{truth}, called {'that' if said == truth else said}")


def state_in_words(found: Selection, card: ModelCard, table: PredictionTable, row: int) -> str:
    """Name the cell of one film; where the largest score decides, what else scored and how much."""
    flagged = found.standing.flagged
    if flagged is None:
        return ""
    if point(found.asked, card) is None:
        return _rival(found.asked, table, row)
    cells = {(True, True): "tp", (True, False): "fn", (False, True): "fp", (False, False): "tn"}
    names = cell_names(found.asked.scored)
    return names[cells[bool(found.standing.truth[row]), bool(flagged[row])]]


def _rival(asked: Asked, table: PredictionTable, row: int) -> str:
    """Write the score of what is true of a film, or of what it was called; "" when right."""
    truth, said = (int(values[row].argmax()) for values in (table.y_true, table.y_score))
    if truth == said:
        return ""
    other = truth if table.labels[said] == asked.scored else said
    return f"{spoken(table.labels[other])} {told_apart(float(table.y_score[row, other]), None)[0]}"


def raises_alarm(found: Selection, card: ModelCard, row: int) -> bool:
    """Tell a film that a threshold flags from others, unless the flag says that all is well."""
    flagged = found.standing.flagged
    if flagged is None or point(found.asked, card) is None:
        return False
    return bool(flagged[row]) and spoken(found.asked.scored) not in HARMLESS


def score_in_words(found: Selection, card: ModelCard, row: int) -> str:
    """Write the score of one film with two digits, unless they hide on which side it lies."""
    return told_apart(float(found.standing.scores[row]), point(found.asked, card))[0]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"
