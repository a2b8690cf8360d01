"""The numbers of an evaluation, as rows: for spreadsheets, for scripts and for print.

Rows are read from what `EvaluationReport.to_json` holds, whichever numbers that are, so that
a number that is added there is exported everywhere.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from cxr_core.evaluation import EvaluationReport

ALL = "all labels"
COLUMNS = ("label", "number", "value", "low", "high")
# A confusion matrix ((tn, fp), (fn, tp)), cell by cell.
CELLS = ("true_negatives", "false_positives", "false_negatives", "true_positives")


@dataclass(frozen=True)
class Number:
    """One number and its 95 % interval; None where the films cannot say.

    Attributes:
        name: As in `to_json` ("sensitivity"), or one of `CELLS`.
        value: A count where it is an int.
        low: Lower end of the interval; None when there is none.
        high: Upper end.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def numbers_in(values: Mapping[str, Any]) -> list[Number]:
    """Return every number of a JSON object in its order; lists and texts are passed over."""
    found: list[Number] = []
    for name, value in values.items():
        if name == "confusion":
            found += _cells(value)
        elif not name.endswith("_ci") and (value is None or _is_number(value)):
            found.append(Number(name, value, *(values.get(f"{name}_ci") or (None, None))))
    return found


def averages(report: EvaluationReport) -> dict[str, list[Number]]:
    """Return the numbers over all labels together, by the kind of average ("macro")."""
    whole = report.to_json()
    kinds = {kind: values for kind, values in whole.items() if isinstance(values, dict)}
    return {kind: numbers_in(values) for kind, values in kinds.items() if kind != "labels"}


def evaluation_csv(report: EvaluationReport) -> bytes:
    """Write every number of an evaluation, one row each, with all its digits; UTF-8.

    Columns: label, number, value, low, high; a cell is empty where the films cannot say.
    What holds for the model as a whole stands under "all labels", then "macro average" and
    whichever other averages the report has.
    """
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for label, number in _rows(report):
        writer.writerow((label, number.name, number.value, number.low, number.high))
    return lines.getvalue().encode()


def evaluation_json(report: EvaluationReport) -> bytes:
    """Write what `evaluate --json` prints, indented; ASCII, in the order of the report."""
    return (json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n").encode("ascii")


def _rows(report: EvaluationReport) -> Iterator[tuple[str, Number]]:
    whole = report.to_json()
    groups = {label: numbers_in(values) for label, values in whole["labels"].items()}
    groups[ALL] = numbers_in(whole)
    groups |= {f"{kind} average": numbers for kind, numbers in averages(report).items()}
    for name, numbers in groups.items():
        yield from ((name, number) for number in numbers)


def _cells(confusion: Any) -> list[Number]:
    if confusion is None:
        return []
    (tn, fp), (fn, tp) = confusion
    return [Number(name, count) for name, count in zip(CELLS, (tn, fp, fn, tp), strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
