"""What a model said of every film of a split: the table behind every dashboard figure.

`predictions.csv` holds one row per film, so that a report can be recomputed without the
films and without the network.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_core.errors import ArgumentError, DataError, UnknownName
from cxr_core.evaluation import (
    EvaluationReport,
    LabelReport,
    evaluate,
    require_different,
    require_labels,
)
from cxr_core.ranking import checked

_Rows = list[tuple[str, dict[str, str]]]  # "file, line" and the cells by title
UNKNOWN = "unknown"
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
        Reports by group, in order; films of which it is not known come last.

    Raises:
        UnknownName: On a label or grouping that is not there.
        ArgumentError: When the table does not record what to group by.
    """
    if label not in table.labels:
        raise UnknownName("label", label, table.labels)
    names = _group_names(table, by)
    kept = table.labels if exclusive else (label,)
    columns = [table.labels.index(one) for one in kept]
    reports = {}
    for name in sorted(set(names)):  # "unknown" sorts behind ages and upper-case names
        films = [row for row, group in enumerate(names) if group == name]
        reports[name] = evaluate(
            table.y_true[np.ix_(films, columns)],
            table.y_score[np.ix_(films, columns)],
            kept,
            operating_points=[None] * len(kept) if exclusive else [operating_point],
            patients=[table.patients[row] for row in films],
            exclusive=exclusive,
        ).label(label)
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


def _group_names(table: PredictionTable, by: str) -> list[str]:
    if by not in ("view", "sex", "age"):
        raise UnknownName("grouping", by, ("view", "sex", "age"))
    values = getattr(table, by)
    if values is None:
        raise ArgumentError(f"These predictions record no {by}, so there are no groups to show.")
    return [_age_band(value) if by == "age" else value or UNKNOWN for value in values]


def _age_band(years: float | None) -> str:
    if years is None:
        return UNKNOWN
    return next(name for limit, name in AGE_BANDS if years < limit)
