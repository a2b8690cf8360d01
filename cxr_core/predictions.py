"""What a model said of every film of a split: the table behind every dashboard figure.

`predictions.csv` holds one row per film, so that a report can be recomputed without the
films and without the network.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.evaluation import (
    EvaluationReport,
    LabelReport,
    decide,
    evaluate,
    label_report,
    require_different,
    require_labels,
)
from cxr_core.ranking import Flags, auprc, checked

_Rows = list[tuple[str, dict[str, str]]]  # "file, line" and the cells by title
UNKNOWN = "unknown"
GROUPINGS = ("view", "sex", "age")
# Groups with fewer films, or fewer of either kind, say little by their numbers alone.
FEW_FILMS, FEW_OF_A_KIND = 30, 10
AGE_BANDS = ((18.0, "0 to 17"), (40.0, "18 to 39"), (65.0, "40 to 64"), (np.inf, "65 and over"))


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictionTable:
    """What `predictions.csv` holds: one row per film of a split.

    Attributes:
        files: N different file names.
        patients: N patients.
        labels: K different names.
        y_true: (N, K) of 0 and 1, int8, read-only.
        y_score: (N, K) in [0, 1], float64, read-only.
        split: Which films these are ("test").
        view: N views such as "PA", "" where unknown; None when no film has one.
        age: N ages in years, None where unknown; None when no film has one.
        sex: N times "F", "M", "O", or "" where unknown; None when no film has one.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    labels: tuple[str, ...]
    y_true: NDArray[np.int8]
    y_score: NDArray[np.float64]
    split: str
    view: tuple[str, ...] | None = None
    age: tuple[float | None, ...] | None = None
    sex: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check that everything fits together, and lock the arrays.

        Raises:
            ArgumentError: On columns of different length, missing or repeated names, or
                values that are not as described.
        """
        truth, scores = checked(self.y_true, self.y_score, dimensions=2)
        require_labels(self.labels, truth.shape[1])
        for name in ("files", "patients", "view", "age", "sex"):
            column = getattr(self, name)
            if column is not None and len(column) != len(truth):
                raise ArgumentError(
                    f"{name} must have one entry for each of {len(truth)} films, "
                    f"but {len(column)} came."
                )
        if not (self.split and all(self.files) and all(self.patients)):
            raise ArgumentError("Every film needs a file name, a patient and a split.")
        if any(years is not None and not 0 <= years < np.inf for years in self.age or ()):
            raise ArgumentError("age must hold years from 0 up, or None where unknown.")
        require_different("files", self.files)
        for name, values in (("y_true", truth.astype(np.int8)), ("y_score", scores.copy())):
            values.setflags(write=False)
            object.__setattr__(self, name, values)


def evaluate_table(
    table: PredictionTable,
    operating_points: Sequence[float | None],
    *,
    model: str = "",
    exclusive: bool = False,
) -> EvaluationReport:
    """Report on every label of a table of predictions; see `evaluate`."""
    return evaluate(
        table.y_true,
        table.y_score,
        table.labels,
        operating_points=operating_points,
        model=model,
        split=table.split,
        patients=table.patients,
        exclusive=exclusive,
    )


def flagged(
    table: PredictionTable, label: str, operating_point: float | None, *, exclusive: bool = False
) -> Flags | None:
    """Return which films of a table one label flags, (N,); None where nothing decides.

    Args:
        table: The films.
        label: One of its labels.
        operating_point: Threshold of that label; None when exclusive.
        exclusive: The largest score of a film decides, as in `evaluate`.

    Raises:
        UnknownName: When the table lacks the label.
        ArgumentError: On a threshold that is no probability, or one for exclusive labels.
    """
    if label not in table.labels:
        raise UnknownName("label", label, table.labels)
    points = [operating_point if one == label else None for one in table.labels]
    decided = decide(table.y_true == 1, table.y_score, points, exclusive)
    return decided[table.labels.index(label)]


def groupings(table: PredictionTable) -> tuple[str, ...]:
    """Return by which of "view", "sex" and "age" `subgroups` would tell films apart.

    That is where it finds at least two groups; films of which it is not known are one.
    """
    recorded = [by for by in GROUPINGS if getattr(table, by) is not None]
    return tuple(by for by in recorded if len(set(group_names(table, by))) > 1)


def group_names(table: PredictionTable, by: str) -> list[str]:
    """Name the group of each of N films; films of which it is not known are one group.

    Args:
        table: The films.
        by: "view", "sex" or "age" (in four bands).

    Raises:
        UnknownName: On another grouping.
        ArgumentError: When the table does not record what to group by.
    """
    if by not in GROUPINGS:
        raise UnknownName("grouping", by, GROUPINGS)
    values = getattr(table, by)
    if values is None:
        raise ArgumentError(f"These predictions record no {by}, so there are no groups to show.")
    return [_age_band(value) if by == "age" else value or UNKNOWN for value in values]


def subgroups(
    table: PredictionTable,
    label: str,
    operating_point: float | None,
    by: str,
    *,
    exclusive: bool = False,
) -> dict[str, LabelReport]:
    """Report on one label within each group of films that the table tells apart.

    Args:
        table: The films.
        label: One of its labels.
        operating_point: Threshold of that label; None when exclusive.
        by: "view", "sex" or "age" (in four bands).
        exclusive: The largest score of a film decides, as in `evaluate`.

    Returns:
        Reports by group, in order; films of which it is not known come last. The first
        note of a group says so when it has fewer than 30 films, or fewer than 10 with or
        without the finding.

    Raises:
        UnknownName: On a label or grouping that is not there.
        ArgumentError: When the table does not record what to group by, or as `flagged`.
    """
    decided = flagged(table, label, operating_point, exclusive=exclusive)
    column = table.labels.index(label)
    truth, scores = table.y_true[:, column] == 1, table.y_score[:, column]
    names, patients = np.array(group_names(table, by)), np.array(table.patients)
    reports = {}
    for name in sorted(set(names.tolist())):  # "unknown" sorts behind ages and upper-case names
        films = names == name
        report = label_report(
            label,
            truth[films],
            scores[films],
            None if decided is None else decided[films],
            operating_point,
            auprc(truth[films], scores[films], groups=patients[films]),
        )
        reports[name] = replace(report, notes=_too_few(report) + report.notes)
    return reports


def shared_patients(a: PredictionTable, b: PredictionTable) -> tuple[str, ...]:
    """Return the patients that both tables hold, sorted: none, if splits are sound."""
    return tuple(sorted(set(a.patients) & set(b.patients)))


# --- predictions.csv ---


def write_predictions(path: Path, table: PredictionTable) -> None:
    """Write a table so that `read_predictions` restores every digit.

    Columns: file, patient, split, view, age, sex, then `true_<label>` and `score_<label>`
    of each label.
    """
    blank = ("",) * len(table.files)
    columns: dict[str, Sequence[Any]] = {
        "file": table.files,
        "patient": table.patients,
        "split": (table.split,) * len(table.files),
        "view": table.view or blank,
        "age": table.age or blank,  # the csv module writes None as an empty cell
        "sex": table.sex or blank,
    }
    for k, label in enumerate(table.labels):
        columns[f"true_{label}"] = table.y_true[:, k].tolist()
        columns[f"score_{label}"] = table.y_score[:, k].tolist()
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_predictions(path: Path) -> PredictionTable:
    """Read a table as `write_predictions` writes it; view, age and sex may be missing.

    Raises:
        DataError: When the file cannot be read, or a line or column is not as it must be.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            rows = [(f"{path.name}, line {reader.line_num}", row) for row in reader]
            titles = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"The predictions {path} cannot be read: {problem}.") from problem
    for place, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{place}: exactly {len(titles)} cells are needed, as in the header.")
    try:
        return _table(titles, rows)
    except (ArgumentError, DataError) as problem:
        raise DataError(f"{path.name} is not a table of predictions. {problem}") from problem


def _table(titles: list[str], rows: _Rows) -> PredictionTable:
    require_different("columns", titles)
    if not rows:
        raise DataError("It holds no film.")
    labels = [title.removeprefix("true_") for title in titles if title.startswith("true_")]
    if not labels:
        raise DataError("It must have columns 'true_<label>' and 'score_<label>'.")
    truths = [_column(rows, f"true_{label}", _parse_truth, "0 or 1") for label in labels]
    scores = [_column(rows, f"score_{label}", _parse_share, "0 to 1") for label in labels]
    splits = sorted(set(_column(rows, "split", _parse_name, "a name")))
    if len(splits) > 1:
        raise DataError(f"It mixes the splits {', '.join(splits)}: write one file for each.")
    return PredictionTable(
        files=_column(rows, "file", _parse_name, "a name"),
        patients=_column(rows, "patient", _parse_name, "a name"),
        labels=tuple(labels),
        y_true=np.array(truths, dtype=np.int8).T,
        y_score=np.array(scores, dtype=np.float64).T,
        split=splits[0],
        view=_known(_column(rows, "view", str, "a view")) if "view" in titles else None,
        age=_known(_column(rows, "age", _parse_age, "years")) if "age" in titles else None,
        sex=_known(_column(rows, "sex", str, "F, M or O")) if "sex" in titles else None,
    )


def _column(rows: _Rows, title: str, parse: Callable[[str], Any], needed: str) -> tuple[Any, ...]:
    """Return one column, parsed; `needed` says in words what a cell must hold."""
    if title not in rows[0][1]:
        raise DataError(f"The column '{title}' is missing.")
    values = []
    for place, row in rows:
        try:
            values.append(parse(row[title]))
        except ValueError as problem:
            raise DataError(
                f"{place}, column '{title}': {needed} is needed, but '{row[title]}' came."
            ) from problem
    return tuple(values)


def _known(column: tuple[Any, ...]) -> tuple[Any, ...] | None:
    return column if any(value not in ("", None) for value in column) else None


def _parse_name(cell: str) -> str:
    if not cell:
        raise ValueError
    return cell


def _parse_truth(cell: str) -> int:
    return ("0", "1").index(cell)


def _parse_share(cell: str) -> float:
    if not 0 <= float(cell) <= 1:
        raise ValueError
    return float(cell)


def _parse_age(cell: str) -> float | None:
    if cell and not 0 <= float(cell) < np.inf:
        raise ValueError
    return float(cell) if cell else None


def _too_few(report: LabelReport) -> tuple[str, ...]:
    """Say when a group is so small that its numbers mislead without their intervals."""
    films, found = report.n, report.positives
    if films == 1:
        few = "one film"
    elif films < FEW_FILMS:
        few = f"{films} films, {found} of them with {report.label}"
    elif found < FEW_OF_A_KIND:
        few = f"{found} of {films} films with {report.label}"
    elif films - found < FEW_OF_A_KIND:
        few = f"{films - found} of {films} films without {report.label}"
    else:
        return ()
    return (f"Only {few}: read the interval, not the number.",)


def _age_band(years: float | None) -> str:
    if years is None:
        return UNKNOWN
    return next(name for limit, name in AGE_BANDS if years < limit)
