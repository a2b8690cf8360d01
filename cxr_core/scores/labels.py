"""The labels of two CSV files: which columns are of the same label, and what they hold."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_core.datasets import NIH_FINDINGS, NO_FINDING
from cxr_core.datasets.layouts import some
from cxr_core.errors import DataError
from cxr_core.scores.sheets import IS_TRUE, Notes, Sheet, example, is_number, key_of, read_number

Truths = NDArray[np.int8]  # 0, 1, and -1 where a cell cannot be read
Scores = NDArray[np.float64]  # NaN where there is none

_SCORE = re.compile(
    r"(?:(probability|prob|score|pred|p)[\s_-]+)?(.+?)(?:[\s_-]+(prob|score))?", re.I | re.S
)
_TRUTH = re.compile(r"(?:(true|label|gt)[\s_-]+)?(.+)", re.I | re.S)
_POINT = re.compile(r"operating[\s_-]+point[\s_-]+(.+)", re.I | re.S)
# Titles that say score or label, but not of what.
_ANY = {"score", "prob", "probability", "pred", "prediction", "p", "yscore", "yprob", "ypred"}
_ANY |= {"label", "target", "truth", "groundtruth", "gt", "ytrue"}


class Label(NamedTuple):
    """One label and where it stands: its name in the labels, its key, the two columns."""

    name: str
    key: str
    score: str
    truth: str


class _Title(NamedTuple):
    """A column that may be of a label: its name for it, its title, and how it was known.

    `rank` is 0 where the title says what the column holds (`prob_`, `true_`), 1 where it may be
    a decision as well (`pred_`), 2 where it is the label alone.
    """

    name: str
    title: str
    rank: int


class Values(NamedTuple):
    """The labels that can be evaluated, and what the two files hold of them: (N, K), (M, K)."""

    labels: list[Label]
    scores: Scores
    truths: Truths


class Decisions(NamedTuple):
    """What decides: K operating points, whether each has a column, whether the largest wins."""

    points: tuple[float | None, ...]
    came: tuple[bool, ...]
    exclusive: bool


# --- which columns ---


def find_labels(ours: Sheet, theirs: Sheet) -> tuple[list[Label], Notes]:
    """Find the labels that both files have, in the order of the scores."""
    scored, told = _score_titles(ours), _truth_titles(theirs)
    if ours.columns == theirs.columns:
        scored, told = _apart(theirs, scored, told)
    labels = [
        Label(told[key].name, key, one.title, told[key].title)
        for key, one in scored.items()
        if key in told
    ]
    both = {label.key for label in labels}
    alone = [one for key, one in scored.items() if key not in both and _is_score(ours, one)]
    unscored = [one for key, one in told.items() if key not in both and _is_truth(theirs, one)]
    if labels:
        return labels, _without(ours, alone, unscored) + _without(theirs, unscored, alone)
    nameless = any(key_of(one.name) in _ANY for one in (*alone, *unscored))
    if nameless and len(alone) == len(unscored) == 1:
        return _only_label(ours, theirs, alone[0], unscored[0])
    raise DataError(
        f"No label of '{ours.name}' is in '{theirs.name}': there are scores of "
        f"{_names(alone)}, and labels {_names(unscored)}. Give the columns of a label the same "
        "name in both."
    )


def _apart(
    sheet: Sheet, scored: dict[str, _Title], told: dict[str, _Title]
) -> tuple[dict[str, _Title], dict[str, _Title]]:
    """Let each column of a file that is both say one thing: what is true is not a score of it."""
    truths = {one.title for one in told.values() if _is_truth(sheet, one)}
    scores = {key: one for key, one in scored.items() if one.title not in truths}
    taken = {one.title for one in scores.values()}
    return scores, {key: one for key, one in told.items() if one.title not in taken}


def _score_titles(sheet: Sheet) -> dict[str, _Title]:
    found = defaultdict(list)
    for title in sheet.label_titles():
        prefix, name, suffix = _parts(_SCORE, title)
        rank = 2 if not (prefix or suffix) else 1 if prefix.lower() == "pred" else 0
        if not _parts(_TRUTH, title)[0]:
            found[key_of(name)].append(_Title(name, title, rank))
    return _one_each(sheet, found)


def _truth_titles(sheet: Sheet) -> dict[str, _Title]:
    if sheet.findings is not None:
        cells = set(sheet.columns[sheet.findings])
        seen = {name.strip() for cell in cells for name in cell.split("|")} - {""}
        # The names of the NIH come last, so that they win over how a cell writes them.
        names = [*sorted(seen), *NIH_FINDINGS, NO_FINDING]
        return {key_of(name): _Title(name, sheet.findings, 0) for name in names}
    found = defaultdict(list)
    for title in sheet.label_titles():
        prefix, name = _parts(_TRUTH, title)
        before, _, after = _parts(_SCORE, title)
        if prefix or not (before or after):
            found[key_of(name)].append(_Title(name, title, 0 if prefix else 2))
    return _one_each(sheet, found)


def _parts(pattern: re.Pattern[str], title: str) -> tuple[str, ...]:
    """Take a title apart; what is not there is blank."""
    match = pattern.fullmatch(title)
    return match.groups("") if match else ("",) * pattern.groups


def _one_each(sheet: Sheet, found: Mapping[str, list[_Title]]) -> dict[str, _Title]:
    """Take the column of each label that says best what it is."""
    for same in found.values():
        same.sort(key=lambda one: one.rank)
        if len(same) > 1 and same[0].rank == same[1].rank:
            raise DataError(
                f"'{sheet.name}' has the columns '{same[0].title}' and '{same[1].title}', and "
                f"either may be of {same[0].name}. Rename or remove one of them."
            )
    return {key: same[0] for key, same in found.items()}


def _is_score(sheet: Sheet, one: _Title) -> bool:
    """Tell scores from columns that say something else of a film."""
    cells = sheet.columns[one.title]
    return one.rank < 2 or (any(cells) and all(is_number(cell, sheet.commas) for cell in cells))


def _is_truth(sheet: Sheet, one: _Title) -> bool:
    cells = set(sheet.columns[one.title]) - {""}
    told = cells and all(cell.lower() in IS_TRUE for cell in cells)
    return one.name != NO_FINDING and (one.rank == 0 or bool(told))


def _only_label(
    ours: Sheet, theirs: Sheet, score: _Title, truth: _Title
) -> tuple[list[Label], Notes]:
    """Take the only scores to be of the only label, where one of the two has no name for it."""
    named = [one.name for one in (truth, score) if key_of(one.name) not in _ANY]
    name = (named or [truth.name])[0]
    told = (
        f"'{score.title}' of '{ours.name}' was taken for the score of '{truth.title}' in "
        f"'{theirs.name}': there is no other."
    )
    return [Label(name, key_of(name), score.title, truth.title)], [told]


def _without(sheet: Sheet, alone: Sequence[_Title], others: Sequence[_Title]) -> Notes:
    """Say which labels only this file has, and which of the other file may be meant."""
    if not alone:
        return []
    known = {key_of(one.name): one.name for one in others}
    told = []
    for one in alone:
        near = get_close_matches(key_of(one.name), known, n=1)
        told.append(one.name + (f" (is that {known[near[0]]}?)" if near else ""))
    return [f"Left out: what only '{sheet.name}' has, {some(told)}."]


def _names(titles: Sequence[_Title]) -> str:
    return some(one.name for one in titles) or "nothing"


# --- values ---


def read_values(ours: Sheet, theirs: Sheet, labels: Sequence[Label]) -> tuple[Values, Notes]:
    """Read the columns of every label, and leave those out that cannot be used."""
    scores: dict[str, Scores] = {}
    notes = []
    for label in labels:
        column, told = _score_column(ours, label)
        notes += told
        if column is not None:
            scores[label.key] = column
    truths = _truth_columns(theirs, labels)
    blank = [label for label in labels if (truths[label.key] < 0).all()]
    if blank:
        such = example(theirs, blank[0].truth, range(len(theirs.films)))
        notes.append(
            f"Left out: {some(label.name for label in blank)}, of which '{theirs.name}' tells "
            f"nothing that can be read: it has {such}. Allowed are {allowed_truths(theirs)}."
        )
    kept = [label for label in labels if label.key in scores and label not in blank]
    if not kept:
        raise DataError(f"No label is left to evaluate. {' '.join(notes)}")
    y_score = np.column_stack([scores[label.key] for label in kept])
    return Values(kept, y_score, np.column_stack([truths[label.key] for label in kept])), notes


def _score_column(sheet: Sheet, label: Label) -> tuple[Scores | None, Notes]:
    """Read the scores of a label; None where they are no probabilities."""
    cells = sheet.columns[label.score]
    column, odd = np.full(len(cells), nan), []
    for row, cell in enumerate(cells):
        try:
            column[row] = read_number(cell, sheet.commas)
        except ValueError:
            odd.append(row)
    outside = np.flatnonzero((column < 0) | (column > 1))
    if np.isnan(column).all():
        return None, [f"Left out: {label.name}, of which '{sheet.name}' holds no number."]
    if outside.size:
        return None, [
            f"Left out: {label.name}, for its scores in '{sheet.name}' outside of 0 to 1: "
            f"{outside.size:,}, such as {example(sheet, label.score, outside.tolist())}. Logits "
            "must go through a sigmoid first, and per cent be divided by 100."
        ]
    if not odd:
        return column, []
    return column, [
        f"Scores of {label.name} in '{sheet.name}' that are no numbers: {len(odd):,}, such as "
        f"{example(sheet, label.score, odd)}."
    ]


def _truth_columns(sheet: Sheet, labels: Sequence[Label]) -> dict[str, Truths]:
    """Read what is true of each label: 0, 1, or -1 where a cell cannot be read."""
    if sheet.findings is None:
        return {
            label.key: np.array(
                [IS_TRUE.get(cell.lower(), -1) for cell in sheet.columns[label.truth]], np.int8
            )
            for label in labels
        }
    keys = [label.key for label in labels]
    cells = sheet.columns[sheet.findings]
    read = {cell: _truths_of(cell, keys) for cell in set(cells)}
    matrix = np.array([read[cell] for cell in cells], np.int8)
    return {key: matrix[:, k] for k, key in enumerate(keys)}


def _truths_of(cell: str, keys: Sequence[str]) -> list[int]:
    """Read findings with | between them; all -1 where one is unknown, or contradicts another."""
    named, none = {key_of(name) for name in cell.split("|")}, key_of(NO_FINDING)
    unknown = named - {key_of(name) for name in NIH_FINDINGS} - set(keys) - {none}
    if unknown or (none in named and len(named) > 1):
        return [-1] * len(keys)
    return [int(key in named) for key in keys]


def allowed_truths(sheet: Sheet) -> str:
    """Say what may tell what is true of a film."""
    if sheet.findings is None:
        return "0 and 1, false and true, no and yes"
    return f"'{NO_FINDING}' alone, or findings of the NIH with | between them"


# --- operating points ---


def decisions(sheet: Sheet, labels: Sequence[Label], y_true: Truths) -> tuple[Decisions, Notes]:
    """Find out what decides; `predict --csv` leaves operating points blank that a model lacks."""
    came = {
        key_of(_parts(_POINT, title)[0]): set(cells) - {""}
        for title, cells in sheet.columns.items()
        if _POINT.fullmatch(title)
    }
    points = tuple(_point(came.get(label.key, ()), sheet.commas) for label in labels)
    found = Decisions(points, tuple(label.key in came for label in labels), exclusive=False)
    notes = [
        f"The operating points of {label.name} in '{sheet.name}' are not one number from 0 to 1 "
        "for all films: they are not used."
        for label, point in zip(labels, points, strict=True)
        if point is None and came.get(label.key)
    ]
    blank = len(labels) > 1 and came == {label.key: set() for label in labels}
    if not (blank and (y_true.sum(axis=1) == 1).all()):
        return found, notes
    notes.append(
        f"The operating points of '{sheet.name}' are blank, and each film has exactly one label: "
        "the label with the largest score is taken as the answer."
    )
    return found._replace(exclusive=True), notes


def _point(cells: Iterable[str], commas: bool) -> float | None:
    """Return the one number that all of these are, None unless it is one from 0 to 1."""
    try:
        (point,) = {read_number(cell, commas) for cell in cells}
    except ValueError:  # text, or not exactly one number
        return None
    return point if 0 <= point <= 1 else None
