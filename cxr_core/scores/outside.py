"""From two CSV files to a table of predictions, and from that to a report."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_core.datasets.layouts import some
from cxr_core.errors import DataError
from cxr_core.evaluation import EvaluationReport
from cxr_core.predictions import PredictionTable, evaluate_table
from cxr_core.scores.films import find_films, people, same_films
from cxr_core.scores.labels import decisions, find_labels, read_values
from cxr_core.scores.sheets import read_sheet

OUTSIDE = "outside"  # the split that such films are of
ASSUMED_POINT = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class OutsideScores:
    """What another system said of films, beside what is true of them.

    Attributes:
        table: One row per film that has all scores and all labels, sorted by file; its split
            is "outside".
        operating_points: Of each label, where the scores came with one.
        points_came: Of each label, whether the scores have a column of operating points. Where
            it is blank, or not one number, nothing decides that label.
        exclusive: Exactly one label holds, and the largest score decides.
        notes: What the reader should be told, a sentence or two each: what was left out, which
            names were taken for one another.
    """

    table: PredictionTable
    operating_points: tuple[float | None, ...]
    points_came: tuple[bool, ...]
    exclusive: bool
    notes: tuple[str, ...]


def read_scores(
    predictions: bytes, labels: bytes, *, names: tuple[str, str] = ("P.csv", "L.csv")
) -> OutsideScores:
    """Bring another system's scores together with what is true of the films.

    Scores are one column per label, such as `Effusion`, `prob_Effusion` or `effusion-score`;
    what `predict --csv` writes is read with its operating points. Labels are one column of 0
    and 1 each, such as `Effusion` or `true_Effusion`, or the CSV of the NIH. Films are matched
    by name; else without the folders that only one of the two has, else without the extension
    too, where only one can be meant.

    Args:
        predictions: The CSV file of the scores: UTF-8, with commas, semicolons or tabs.
        labels: The CSV file of what is true; it may be the same file.
        names: What notes and errors call the two.

    Raises:
        DataError: When a file is no such table, a film comes twice with different values, or
            no label or no film is left.
    """
    ours, theirs = read_sheet(names[0], predictions), read_sheet(names[1], labels)
    found, notes = find_labels(ours, theirs)
    values, of_columns = read_values(ours, theirs, found)
    pairs, of_films = find_films(ours, theirs, values)
    rows = [row for _, row in pairs]
    films = tuple(ours.films[row] for row, _ in pairs)
    who, of_people = people(theirs, rows, films)
    table = PredictionTable(
        files=films,
        labels=tuple(label.name for label in values.labels),
        y_true=values.truths[rows],
        y_score=values.scores[[row for row, _ in pairs]],
        split=OUTSIDE,
        **who,
    )
    decided, of_points = decisions(ours, values.labels, table.y_true)
    return OutsideScores(
        table=table,
        operating_points=decided.points,
        points_came=decided.came,
        exclusive=decided.exclusive,
        notes=(*notes, *of_columns, *of_films, *of_people, *of_points),
    )


def read_score_files(predictions: Path, labels: Path) -> OutsideScores:
    """Read scores and labels from two files; see `read_scores`.

    Raises:
        DataError: Also when a file cannot be read.
    """
    return read_scores(
        _content(predictions), _content(labels), names=(predictions.name, labels.name)
    )


def evaluate_scores(
    scores: OutsideScores, *, model: str = "", threshold: float | None = None, advice: str = ""
) -> EvaluationReport:
    """Report on another system's scores; what was noted in reading them comes first.

    Args:
        scores: As `read_scores` returns them.
        model: Name of the system, for the report.
        threshold: Operating point of every label, in [0, 1], instead of those that came with
            the scores. Without it, 0.5 is assumed of labels that have no column of operating
            points, and a note says so.
        advice: How to give another operating point here, a sentence; that note ends with it.

    Raises:
        ArgumentError: When the threshold lies outside of [0, 1].
    """
    points, notes, exclusive = scores.operating_points, scores.notes, scores.exclusive
    if threshold is not None:
        points, exclusive = (threshold,) * len(points), False
    elif not exclusive and not all(scores.points_came):
        notes += (f"{_assumption(scores)} {advice}".rstrip(),)
        points = tuple(
            point if came else ASSUMED_POINT
            for point, came in zip(points, scores.points_came, strict=True)
        )
    report = evaluate_table(scores.table, points, model=model, exclusive=exclusive)
    return replace(report, notes=(*notes, *report.notes))


def named_as(table: PredictionTable, files: Iterable[str]) -> PredictionTable:
    """Call films as another table calls them, where it can mean no other.

    Args:
        table: Films under any names.
        files: What the other table calls its films.

    Returns:
        The same table; films that `files` does not have keep their name, unless it is taken.
    """
    others = same_films(table.files, files)
    names = tuple(others.get(file, file) for file in table.files)
    return replace(table, files=names) if len(set(names)) == len(names) else table


def _assumption(scores: OutsideScores) -> str:
    labels = zip(scores.table.labels, scores.points_came, strict=True)
    lacking = [label for label, came in labels if not came]
    whose = some(lacking) if any(scores.points_came) else "these scores"
    return (
        f"No operating point came with {whose}: {ASSUMED_POINT} is assumed, which is seldom a "
        "good one."
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DataError(
            f"'{path}' cannot be read ({problem.strerror}); name a CSV file."
        ) from problem
